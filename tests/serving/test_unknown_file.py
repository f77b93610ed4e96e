"""The file of inputs that the student does not know: private, whole, bounded, and what fit takes."""

import json
import os
import stat

import pytest
from gold_lightning.errors import ConfigError
from gold_lightning.serving.unknown_file import UnknownFile, earlier_file
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.task import Task
from gold_lightning.unlabelled import load_texts

STUDENT = {"student": {"label": "World", "probability": 0.4, "energy": 1.0}}


def rows(start, stop):
    return [({"text": f"text {i}"}, STUDENT) for i in range(start, stop)]


@pytest.fixture
def file(tmp_path):
    opened = []

    def open_file(max_bytes=2**20, name="unknown.jsonl"):
        opened.append(UnknownFile(tmp_path / name, max_bytes))
        return opened[-1]

    yield open_file
    for unknown in opened:
        try:
            unknown.close()
        except OSError:  # closed by the test
            pass


def test_rows_are_private_and_what_fit_takes(file):
    unknown = file()
    assert unknown.append(rows(0, 3)) == ["stored"] * 3
    assert stat.S_IMODE(os.stat(unknown.path).st_mode) == 0o600
    assert load_texts(Task.load("news_topics"), str(unknown.path)) == [{"text": f"text {i}"} for i in range(3)]
    assert read_lines(unknown.path)[0]["student"] == STUDENT["student"]


def test_a_file_that_others_could_read_no_longer_is(file, tmp_path):
    (tmp_path / "unknown.jsonl").write_text("{}\n")
    (tmp_path / "unknown.jsonl").chmod(0o644)
    assert stat.S_IMODE(os.stat(file().path).st_mode) == 0o600


def test_repeats_are_stored_once_also_after_a_restart(file):
    unknown = file()
    assert unknown.append([*rows(0, 2), *rows(0, 1)]) == ["stored", "stored", "repeated"]
    unknown.close()
    again = file()
    assert again.append(rows(0, 3)) == ["repeated", "repeated", "stored"]
    assert len(read_lines(again.path)) == 3


def test_both_files_together_stay_bounded_and_hold_the_latest(file):
    unknown = file(max_bytes=2000)
    for i in range(100):
        unknown.append(rows(i, i + 1))
    earlier = earlier_file(unknown.path)
    assert os.path.getsize(unknown.path) <= 2000 and os.path.getsize(earlier) <= 2000
    kept = [row["text"] for row in read_lines(earlier) + read_lines(unknown.path)]
    assert kept == [f"text {i}" for i in range(100 - len(kept), 100)] and len(kept) > 10
    assert stat.S_IMODE(os.stat(earlier).st_mode) == stat.S_IMODE(os.stat(unknown.path).st_mode) == 0o600


@pytest.mark.parametrize("torn", ['{"text": "a', "x" * 100_000])
def test_a_torn_last_line_goes(file, tmp_path, torn):
    (tmp_path / "unknown.jsonl").write_text('{"text": "whole"}\n' + torn)
    unknown = file()
    unknown.append(rows(0, 1))
    texts = [json.loads(line)["text"] for line in unknown.path.read_text().splitlines()]
    assert texts == ["whole", "text 0"]


def test_a_full_disk_leaves_whole_lines(file, monkeypatch):
    unknown = file()
    unknown.append(rows(0, 1))
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
    with pytest.raises(OSError):
        unknown.append(rows(1, 2))
    monkeypatch.undo()
    assert unknown.append(rows(1, 2)) == ["stored"]
    assert [row["text"] for row in read_lines(unknown.path)] == ["text 0", "text 1"]


def test_a_field_keeps_its_name(file):
    unknown = file()
    unknown.append([({"time": "noon", "student": "me"}, STUDENT)])
    assert read_lines(unknown.path)[0].items() >= {"time": "noon", "student": "me"}.items()


def test_files_that_cannot_be_written_are_refused(file, tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    file()
    for name in ("unknown.txt", "folder.jsonl", "none/unknown.jsonl", "unknown.jsonl"):  # the last is in use
        with pytest.raises(ConfigError) as error:
            file(name=name)
        assert error.value.key == "--unknown"
