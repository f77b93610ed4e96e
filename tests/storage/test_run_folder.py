"""Paths of a run folder, its rounds, and its lock."""

import doctest
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gold_lightning.errors import BusyError, GoldError
from gold_lightning.storage import run_folder
from gold_lightning.storage.run_folder import RunFolder, copy_round, only_writer, rounds_in


def test_the_examples_run():
    results = doctest.testmod(run_folder)
    assert results.attempted and not results.failed


def test_a_folder_that_cannot_be_made_is_one_line():
    with pytest.raises(GoldError, match=r"^/proc/no/run: no run folder can be made there \("):
        with only_writer(Path("/proc/no/run")):
            raise AssertionError("entered")


def test_rounds_in_a_folder_are_told_from_what_was_set_aside(tmp_path):
    for name in ("round_000", "round_002", "replaced_round_001_1", "round_003.part"):
        (tmp_path / "data" / name).mkdir(parents=True)
    assert rounds_in(tmp_path) == [0, 2]


def test_one_process_at_a_time(tmp_path):
    code = (
        "import sys\nfrom gold_lightning.storage.run_folder import only_writer\nwith only_writer(sys.argv[1]): input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / "run" / ".lock").exists():
            assert other.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        with pytest.raises(BusyError, match=r"another process is at work on this run; .*--run\.name"):
            with only_writer(tmp_path / "run"):
                pass
    finally:
        other.kill()
        other.wait()
    with only_writer(tmp_path / "run"):  # the kill has ended it
        pass


def test_all_paths_are_inside_the_folder_and_differ(tmp_path):
    folder = RunFolder(tmp_path)
    paths = [getattr(folder, name) for name, value in vars(RunFolder).items() if isinstance(value, property)]
    paths += [folder.round(0), folder.round(12)]
    assert len(set(paths)) == len(paths) > 10 and all(path.is_relative_to(tmp_path) for path in paths)
    assert list(tmp_path.iterdir()) == []


def test_a_round_is_copied_once_and_without_its_energies(tmp_path):
    source, target = RunFolder(tmp_path / "a").round(0), RunFolder(tmp_path / "b").round(0)
    source.mkdir(parents=True)
    for name in ("train.jsonl", "energies.jsonl"):
        (source / name).write_text(name)
    copy_round(tmp_path / "a", tmp_path / "b", 0)
    assert [p.name for p in target.iterdir()] == ["train.jsonl"]
    (source / "train.jsonl").write_text("changed")
    copy_round(tmp_path / "a", tmp_path / "b", 0)
    assert (target / "train.jsonl").read_text() == "train.jsonl"
    assert [p.name for p in target.parent.iterdir()] == ["round_000"]
