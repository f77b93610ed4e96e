"""The method is never off in silence: what is not fed back is said at the start, in the preview and in each round."""

from __future__ import annotations

import random

import pytest
import yaml
from gold_lightning.cli.main import main
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore

from tests.fakes import Shortest

WORDS = [f"{a}{b}" for a in "bcdfglmnprst" for b in ("alo", "erin", "ostu", "ivad", "umek", "ary")]


class Writer(ScriptedGenerator):
    """Writes texts of random words, all of which pass."""

    def __init__(self) -> None:
        super().__init__(lambda r: " " + " ".join(random.Random(r.seed).choices(WORDS, k=14)) + ".", batch_size=64)


class Nothing(Shortest):
    """Chooses nothing."""

    def choose(self, probe):
        return ()


class Unasked(Writer):
    """Must not be asked."""

    def generate(self, requests):
        raise AssertionError("asked")


@pytest.fixture
def go(tmp_path, tiny_student, capsys, caplog):
    """Runs a command on a task of so many labels; gives its lines, and the rows of its rounds."""

    def run(command, labels, *more, generator="Writer", rounds=3, hints=None):
        names = [f"kind {i}" for i in range(labels)]
        task = {
            "name": "kinds",
            "description": "Each sample is a text.",
            "fields": [{"name": "text", "description": "a text", "max_chars": 200}],
            "target": {"name": "kind", "description": "its kind"},
            "labels": [{"name": name, "meaning": f"it is of {name}"} for name in names],
            "demos": [{"text": f"A text of the sort {name}, by hand.", "kind": name} for name in names],
            "student": {"input": "kind of: {text}"},
            **({} if hints is None else {"hints": hints}),
        }
        (tmp_path / "kinds.yaml").write_text(yaml.safe_dump(task))
        args = [command, "--data.task", str(tmp_path / "kinds.yaml"), "--run.root", str(tmp_path / "runs")]
        args += ["--data.generator", f"tests.integration.test_feedback.{generator}", "--model.student", tiny_student]
        args += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", str(rounds), "--data.passes_per_round", "1"]
        args += ["--trainer.enable_progress_bar", "false", "--data.plan.decontaminate", "off"]
        caplog.clear()
        assert main([*args, *more]) == 0
        told = capsys.readouterr().out + caplog.text
        return " ".join(told.split()), read_lines(tmp_path / "runs" / "kinds" / "default" / "rounds.jsonl")

    return run


def size(train, probe):
    return ["--data.plan.samples_per_round", str(train), "--data.plan.probe_per_round", str(probe)]


def test_two_probe_samples_of_each_label_feed_one_back(go, tmp_path):
    told, rows = go("fit", 10, *size(40, 20))
    assert "warning" not in told
    assert [len(row["fed_back"]) for row in rows] == [10, 10, 10]
    # Half of the prompts; what earlier rounds had written beyond their need was asked for without feedback.
    asked = [row["train"]["accepted"] - row["train"]["from_surplus"] for row in rows]
    assert [row["feedback_prompts"] for row in rows] == [0, asked[1] // 2, 20] and asked[1] >= 20
    probes = RoundStore(tmp_path / "runs" / "kinds" / "default", 0, read_only=True).accepted("probe")
    assert len({s.sample.target for s in probes if s.id in rows[0]["fed_back"]}) == 10
    assert all(row["not_fed_back"] == {} for row in rows)


def test_an_empty_band_is_told_at_the_start_in_the_preview_and_in_each_round(go, tmp_path):
    line = "warning: with 10 labels and data.plan.probe_per_round 10, each label has 1 probe sample, and the "
    line += "band [0.5, 0.8) selects none: nothing is ever fed back; raise data.plan.probe_per_round to 20 or more"
    told, _ = go("preview", 10, *size(40, 10))
    assert told.count(line) == 1
    told, rows = go("fit", 10, *size(40, 10), rounds=2)
    assert told.count(line) == 1 and told.count("fed back 0 (the band of 10 of 10 labels is empty)") == 2
    assert all(row["fed_back"] == [] and len(row["not_fed_back"]["empty_bands"]) == 10 for row in rows)
    page = (tmp_path / "runs" / "kinds" / "default" / "report.html").read_text()
    assert "in 2 rounds, first in round 0: the band of 10 of 10 labels is empty." in page


def test_bands_that_are_empty_for_some_labels_are_told_with_which(go):
    told, rows = go("fit", 4, *size(16, 6), rounds=2)
    assert "each round has 2 labels (not always the same) with 1 probe sample" in told
    assert told.count("fed back 2 (the band of 2 of 4 labels is empty)") == 2
    empty = [row["not_fed_back"]["empty_bands"] for row in rows]
    assert empty[0] != empty[1] and all(len(labels) == 2 for labels in empty)


@pytest.mark.parametrize("command", ["fit", "preview"])
def test_fewer_samples_than_labels_are_told(command, go):
    told, _ = go(command, 6, *size(4, 12), rounds=2)
    line = "warning: data.plan.samples_per_round is 4 and the task has 6 labels: 2 of them get no sample in a round, "
    assert told.count(line + "and 1 get none in all 2 rounds; raise it to 6 or more") == 1


@pytest.mark.parametrize(
    ("more", "hints"),
    [
        (["--data.plan.feedback_as", "hint", "--data.plan.hints", "false"], None),
        (["--data.plan.feedback_as", "hint"], {"perspectives": [], "styles": []}),
        (["--data.plan.feedback_demos", "0"], None),
    ],
)
def test_feedback_that_changes_no_prompt_is_told_and_not_counted(more, hints, go):
    told, rows = go("fit", 4, *size(16, 12), *more, hints=hints, rounds=2)
    assert told.count("warning: ") == 1 and ("feedback changes no prompt" in told or "no prompt shows" in told)
    assert [row["feedback_prompts"] for row in rows] == [0, 0] and len(rows[0]["fed_back"]) == 4
    assert "no prompt with feedback gave a new sample (samples in the pool: 4)" in told
    told, _ = go("preview", 4, *size(16, 12), *more, hints=hints, rounds=2)
    assert told.count("warning: ") == 1 and "none: no round shows feedback (" in told


def test_what_a_label_check_refuses_is_told(go):
    check = ["--feedback.label_check", "require", "--data.plan.label_agreement", "measure"]
    told, rows = go("fit", 4, *size(16, 12), *check, rounds=1)  # the scripted likelihoods favour the first label
    assert "fed back 1 (feedback.label_check rejected 3)" in told and rows[0]["not_fed_back"] == {"label_check": 3}


def test_a_strategy_that_chooses_nothing_is_told(go):
    own = ["--feedback.strategy", "tests.integration.test_feedback.Nothing"]
    told, _ = go("fit", 4, *size(16, 12), *own, rounds=1)
    assert "fed back 0 (tests.integration.test_feedback.Nothing chose none)" in told


@pytest.mark.parametrize("off", [["--feedback.rate", "0"], ["--feedback.strategy", "none"]])
def test_feedback_that_is_turned_off_is_no_news(off, go):
    told, rows = go("fit", 10, *size(20, 10), *off, rounds=2)
    assert "warning" not in told and "fed back 0 |" in told
    assert all(row["not_fed_back"] == {} for row in rows)


def test_a_run_of_no_rounds_asks_for_nothing_and_says_so(go, tmp_path):
    told, rows = go("fit", 4, *size(16, 12), generator="Unasked", rounds=0)
    assert told.endswith("trainer.max_epochs is 0: there is no round, so nothing is asked for and nothing is trained")
    assert rows == [] and not (tmp_path / "runs").exists()
    told, _ = go("preview", 4, *size(16, 12), rounds=0)
    assert "For 0 rounds (trainer.max_epochs): a run asks for nothing and trains nothing." in told
    assert "sets no end" in go("preview", 4, *size(16, 12), rounds=-1)[0]
