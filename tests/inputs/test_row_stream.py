"""Rows of files and of standard input, one by one; what cannot be read keeps its place."""

import gzip
import io
import sys

import pytest
from gold_lightning.errors import ConfigError
from gold_lightning.inputs.row_stream import RowStream


def rows(path, column="text"):
    return [(dict(row.values), bool(row.problem)) for row in RowStream("INPUT", str(path), column)]


def test_json_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    content = b'\xef\xbb\xbf{"text": "a", "more": [1]}\n\n{"text": \n[1]\n{"text": "\xff"}\n{"text": "last"}'
    path.write_bytes(content)
    expected = [({"text": "a", "more": [1]}, False), ({}, True), ({}, True), ({}, True), ({"text": "last"}, False)]
    assert rows(path) == expected
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(content)
    assert rows(f"{path}.gz") == expected


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv(delimiter, tmp_path):
    path = tmp_path / "rows.csv"
    lines = ["text,no", '"a, ""b""\nc",007', "one", "a,b,c", "", "é,2"]
    path.write_bytes("\n".join(lines).replace(",", delimiter).encode() + b"\n\xff" + delimiter.encode() + b"3\n")
    assert rows(path) == [
        ({"text": f'a{delimiter} "b"\nc', "no": "007"}, False),
        ({"text": "one"}, True),
        ({"text": "a", "no": "b"}, True),
        ({"text": "é", "no": "2"}, False),
        ({"text": "?", "no": "3"}, True),
    ]
    stream = RowStream("INPUT", str(path), "text")
    next(iter(stream))
    assert stream.columns == ["text", "no"] and stream.delimiter == delimiter


def test_tsv_json_parquet_and_text(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.tsv").write_text('text\tno\nsaid "so\t1\nb\t2\n')
    (tmp_path / "a.json").write_text('[{"text": "a"}, {"text": "b"}]')
    (tmp_path / "a.txt").write_bytes(b"a\r\n\nb")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None], "no": [1, 2]}), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.tsv") == [({"text": 'said "so', "no": "1"}, False), ({"text": "b", "no": "2"}, False)]
    (tmp_path / "b.tsv").write_text('text\tno\n"so\t1\nb\t2\n')
    (tmp_path / "c.tsv").write_text('text\tno\n"a\tb"\t1\n')
    assert rows(tmp_path / "b.tsv") == [({"text": '"so', "no": "1"}, False), ({"text": "b", "no": "2"}, False)]
    assert rows(tmp_path / "c.tsv") == [({"text": "a\tb", "no": "1"}, False)]
    assert rows(tmp_path / "a.json") == [({"text": "a"}, False), ({"text": "b"}, False)]
    assert rows(tmp_path / "a.txt") == [({"text": "a"}, False), ({"text": ""}, False), ({"text": "b"}, False)]
    assert rows(tmp_path / "a.parquet") == [({"text": "a", "no": 1}, False), ({"text": None, "no": 2}, False)]


@pytest.mark.parametrize("content", [b'\n{"text": "a"}\n', b"a\n"])
def test_standard_input_is_json_lines_or_plain_text(content, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.lstrip())))
    assert rows("-") == [({"text": "a"}, False)]


def test_wrong_inputs_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.docx").write_text("")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "a.csv").write_text("text,text\na,b\n")
    (tmp_path / "a.parquet").write_text("PAR1")
    (tmp_path / "rows.txt").write_text('{"text": "a"}\n')
    names = {"none.csv": "text", "a.docx": "text", "a.txt": "", "a.csv": "", "a.parquet": "", "rows.txt": "text"}
    for name, column in names.items():
        with pytest.raises(ConfigError) as e:
            rows(tmp_path / name, column)
        assert e.value.key == "INPUT" and len(str(e.value).splitlines()) == 1
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n")))
    with pytest.raises(ConfigError):
        rows("-", "")


def test_the_share_that_was_read_grows_to_all(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' * 20_000)
    stream = RowStream("INPUT", str(tmp_path / "a.jsonl"), "text")
    shares = [stream.share() for _ in stream]
    assert 0 < shares[0] < 0.9 and shares == sorted(shares) and shares[-1] == 1
