"""The clock of a run continues after every session, even one that was killed."""

import time

import pytest
from gold_lightning.storage import clock as clock_module
from gold_lightning.storage.clock import RunClock
from gold_lightning.storage.json_lines import write_lines
from gold_lightning.storage.round_store import BatchRecord, RoundStore


@pytest.fixture
def now(monkeypatch):
    """A list with the current time in seconds; tests set it."""
    seconds = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: seconds[0])
    return seconds


def line(folder, round_, **seconds):
    write_lines(folder / "rounds.jsonl", [{"round": round_, "seconds": seconds}])


def test_a_session_continues_from_lines_and_stored_batches(tmp_path, now):
    line(tmp_path, 0, generation=30.0, training=10.0, scoring=2.0)
    RoundStore(tmp_path, 1).commit(BatchRecord("train", 0, 1, 0, {}, 0, 0, 5.5), [], [], {}, {})
    clock = RunClock(tmp_path)
    assert clock.seconds(1) == 47.5 and clock.lost == 0
    now[0] += 3
    assert clock.seconds(1) == clock.seconds(2) == 50.5


def test_a_killed_session_counts(tmp_path, now):
    line(tmp_path, 0, generation=30.0, training=10.0, scoring=2.0)
    killed = RunClock(tmp_path)
    killed.seconds(1)
    for _ in range(16):  # of training, in which nothing else is written
        now[0] += 5
        killed.note()
    now[0] += 4  # not noted: the price of a kill
    after = RunClock(tmp_path)
    assert after.seconds(1) == pytest.approx(42 + 80) and after.lost == pytest.approx(80)
    # The round's line takes it, and nothing is counted twice.
    line(tmp_path, 1, generation=42.0, training=10.0, scoring=2.0, interrupted=80.0)
    assert RunClock(tmp_path).seconds(2) == 134 and RunClock(tmp_path).lost == 0


def test_notes_are_made_now_and_then(tmp_path, now):
    clock = RunClock(tmp_path)
    clock.note(immediately=True)  # no session has started
    assert list(tmp_path.iterdir()) == []
    clock.seconds(0)
    clock.note()
    path = tmp_path / "data" / "seconds.json"
    first = path.read_text()
    now[0] += clock_module._INTERVAL / 2
    clock.note()
    assert path.read_text() == first
    clock.note(immediately=True)
    assert path.read_text() == '{"seconds": 2.5}\n'


@pytest.mark.parametrize("content", ["", "torn{", "[]", '{"seconds": null}', '{"seconds": -3}', "{}"])
def test_a_damaged_file_is_ignored(content, tmp_path, now):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "seconds.json").write_text(content)
    assert RunClock(tmp_path).seconds(0) == 0
