"""JSON Lines files: readers skip damage, writers leave whole rows."""

import doctest
import hashlib
import json
import math
import sys

from gold_lightning.storage import json_lines
from gold_lightning.storage.json_lines import (
    append_line,
    count_lines,
    digest,
    read_json,
    read_lines,
    replace_text,
    whole_rows,
    write_lines,
)


def test_the_examples_run():
    results = doctest.testmod(json_lines)
    assert results.attempted and not results.failed


def test_plain_text_stays_readable(tmp_path):
    append_line(tmp_path / "x.jsonl", {"text": "Zürich 日本"})
    assert "Zürich 日本".encode() in (tmp_path / "x.jsonl").read_bytes()


def test_digest_is_about_values():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest("\ud800")) == 16
    assert digest("x") == hashlib.sha256(b'"x"').hexdigest()[:16]  # the same in every process


def test_read_lines_leaves_out_what_is_no_whole_row(tmp_path):
    path = tmp_path / "x.jsonl"
    assert read_lines(path) == []
    path.write_bytes(b'{"a": 1}\n{"b"\n[2]\n\xff\n{"a": 3}\n{"a": 4}')
    assert read_lines(path) == [{"a": 1}, {"a": 3}]
    places = list(whole_rows(path))
    assert [row for _, row in places] == [{"a": 1}, {"a": 3}]
    assert next(whole_rows(path, places[1][0])) == places[1]


def test_write_lines_replaces_as_a_whole(tmp_path):
    path = tmp_path / "deep" / "x.jsonl"
    write_lines(path, [{"a": 1}])
    write_lines(path, [{"a": 2}, {"a": float(3)}])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 2}, {"a": 3.0}]
    assert [p.name for p in path.parent.iterdir()] == ["x.jsonl"]


def test_what_is_not_finite_is_written_as_json_has_it(tmp_path):
    row = {"a": float("nan"), "b": [float("inf"), {"c": (-float("inf"), 1.5)}], "d": "NaN", "e": 0.1}
    write_lines(tmp_path / "x.jsonl", [row, {"e": 0.1}])

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    found = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    largest = sys.float_info.max
    assert found == [{"a": None, "b": [largest, {"c": [-largest, 1.5]}], "d": "NaN", "e": 0.1}, {"e": 0.1}]
    (tmp_path / "old.jsonl").write_text('{"energy": NaN}\n{"energy": -Infinity}\n')
    assert [math.isfinite(old["energy"]) for old in read_lines(tmp_path / "old.jsonl")] == [False, False]


def test_a_torn_last_line_counts_as_a_line(tmp_path):
    for content, count in ((b"", 0), (b"a\n", 1), (b"a\nb", 2), (b"a\nb\n", 2)):
        (tmp_path / "x").write_bytes(content)
        assert count_lines(tmp_path / "x") == count


def test_a_small_file_is_replaced_as_a_whole_and_read_back(tmp_path):
    path = tmp_path / "deep" / "x.json"
    assert read_json(path) == {}
    for value in (1, 2):
        replace_text(path, json.dumps({"a": value}))
        assert read_json(path) == {"a": value}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]
    for damaged in ("", "{torn", "[1]"):
        path.write_text(damaged)
        assert read_json(path) == {}
