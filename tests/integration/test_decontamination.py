"""Overlap with the test set, from fit to the results of test."""

from __future__ import annotations

import json
import re

import pytest
from gold_lightning.cli.main import main
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.task import Task

from tests.integration.test_loop import rounds, run


def words_line(out):
    return next(line for line in out.splitlines() if line.startswith("in the test set: "))


@pytest.fixture(scope="module")
def known(tmp_path_factory, tiny_student):
    """A run of one round, and a test set with six of its training samples, two demos, and 12 words of a seventh."""
    root = tmp_path_factory.mktemp("known")
    assert run("fit", root, tiny_student, "--trainer.max_epochs", "1") == 0
    made = RoundStore(root / "news_topics" / "t", 0, read_only=True).accepted("train")
    rows = [{"text": s.sample.fields["text"].upper(), "topic": s.sample.target} for s in made[:6]]
    rows += [{"text": d.fields["text"], "topic": d.target} for d in Task.load("news_topics").demos[:2]]
    near = made[6].sample.fields["text"].split()
    assert len(near) == 12
    rows += [{"text": " ".join(["first", *near]), "topic": made[6].sample.target}]
    path = root / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root, str(path), made


def test_the_overlap_is_in_the_results(known, tiny_student, capsys):
    root, path, made = known
    assert run("test", root, tiny_student, "--data.test_file", path) == 0
    assert words_line(capsys.readouterr().out) == (
        "in the test set: 6 of 16 training samples (0 by 13 words in a row, 6 by the full row; 6 of 9 test rows), "
        "2 of 12 demos"
    )
    (found,) = read_lines(root / "news_topics" / "t" / "overlap.json")
    assert found["train"]["any"] == 6 and found["demos"] == {
        "samples": 12, "words": 2, "full_field": 2, "full_row": 2, "any": 2, "test_rows": 2,
    }  # fmt: skip
    assert [row["id"] for row in found["found"]] == [s.id for s in made[:6]] + ["demo-0", "demo-1"]
    assert [row["full_row"] for row in found["found"]] == [[i] for i in range(8)]


def test_the_shipped_test_set_is_measured_in_each_round(known, tiny_student, capsys):
    root, _, _ = known
    (row,) = rounds(root)
    assert {kind: (found["samples"], found["any"]) for kind, found in row["overlap"].items()} == {
        "train": (16, 0),
        "probe": (12, 0),
    }
    assert run("test", root, tiny_student) == 0
    assert "0 of 16 training samples" in words_line(capsys.readouterr().out)


def test_nothing_is_said_where_it_is_off(known, tiny_student, capsys):
    root, path, _ = known
    assert run("test", root, tiny_student, "--data.test_file", path, "--data.plan.decontaminate", "off") == 0
    assert "in the test set" not in capsys.readouterr().out


def test_a_round_that_measures_says_what_it_found(known, tmp_path, tiny_student, caplog):
    _, path, made = known
    with caplog.at_level("INFO", logger="gold_lightning"):
        assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1", "--data.test_file", path) == 0
    assert "| 6 have text in common with the test set |" in caplog.text
    assert rounds(tmp_path)[0]["overlap"]["train"]["full_row"] == 6
    again = RoundStore(tmp_path / "news_topics" / "t", 0, read_only=True).accepted("train")
    assert list(again) == list(made)  # measuring changes nothing


def test_dropping_leaves_nothing_of_the_test_set(known, tmp_path, tiny_student, capsys):
    _, path, _ = known
    drop = ["--data.plan.decontaminate", "drop", "--data.test_file", path]
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1", *drop) == 0
    (row,) = rounds(tmp_path)
    assert row["train"]["accepted"] == 16 and row["train"]["rejects"]["in_test_set"] >= 6
    assert row["train"]["requested"] == 16 + sum(row["train"]["rejects"].values())
    assert row["overlap"]["train"]["any"] == row["overlap"]["probe"]["any"] == 0
    capsys.readouterr()
    assert run("test", tmp_path, tiny_student, *drop) == 0
    assert re.match(r"in the test set: 0 of 16 .* 2 of 12 demos", words_line(capsys.readouterr().out))


def test_dropping_without_a_test_set_in_reach_is_one_line(tmp_path, tiny_student, capsys):
    args = ["fit", "--data.task", "anli", "--data.plan.decontaminate", "drop", "--data.generator"]
    args += ["tests.fakes.NewsWriter", "--model.student", tiny_student, "--run.root", str(tmp_path)]
    assert main(args) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: data.plan.decontaminate: drop needs the test set; test data facebook/anli")
