"""Lightning's own Trainer with our parts, as a program uses them without the command line."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch
from gold_lightning import data as data_module
from gold_lightning import rounds
from gold_lightning.callbacks import OODFeedback
from gold_lightning.data import GoldDataModule
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.rounds import RoundEnd
from gold_lightning.storage import clock
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.student import T5Student
from lightning.pytorch import Callback, Trainer

from tests.fakes import NewsWriter

PLAN = SynthesisPlan(samples_per_round=16, probe_per_round=12, group_size=2, decontaminate="off")


def parts(folder, student, **how):
    data = GoldDataModule("news_topics", NewsWriter(), PLAN, str(folder), student, passes_per_round=1, **how)
    return T5Student("news_topics", student), data


def fit(student, data, callbacks, rounds=2, **how):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=rounds, callbacks=callbacks, default_root_dir=data.run_dir, **quiet)
    trainer.fit(student, datamodule=data, **how)
    return trainer


def test_a_trainer_with_the_feedback_callback_runs_the_loop(tmp_path, tiny_student, caplog):
    student, data = parts(tmp_path, tiny_student)
    fit(student, data, [OODFeedback(rate=1.0, capacity=3)], rounds=3)
    rows = read_lines(tmp_path / "rounds.jsonl")
    assert [(r["round"], r["trained_on"], len(r["fed_back"])) for r in rows] == [(0, 16, 4), (1, 32, 4), (2, 48, 4)]
    # By the callback's rate, not the data module's: all but what round 0 had to spare.
    asked = [r["train"]["accepted"] - r["train"]["from_surplus"] for r in rows]
    assert [r["feedback_prompts"] for r in rows] == [0, asked[1], 16] and asked[1] > 8
    assert data.round == 3 and data.pool.capacity == 3 and "warning" not in caplog.text
    assert all(RoundStore(tmp_path, r, read_only=True).energies() for r in range(3))
    # From its checkpoint on, as any Lightning run.
    (path,) = tmp_path.rglob("*.ckpt")
    student, data = parts(tmp_path, tiny_student)
    fit(student, data, [OODFeedback(rate=1.0, capacity=3)], rounds=4, ckpt_path=path)
    assert [r["round"] for r in read_lines(tmp_path / "rounds.jsonl")] == [0, 1, 2, 3] and data.round == 4


class Own(Callback):
    """Stands in the place of the feedback callback, and notes something."""

    def on_validation_end(self, trainer, pl_module):
        trainer.datamodule.notes["mine"] = trainer.datamodule.round * 10


@pytest.mark.parametrize("own", [[], [Own()], [Own(), RoundEnd()]])
def test_without_the_feedback_callback_rounds_go_on_and_it_is_told(own, tmp_path, tiny_student, caplog):
    student, data = parts(tmp_path, tiny_student)
    fit(student, data, own)
    rows = read_lines(tmp_path / "rounds.jsonl")
    assert [(r["round"], r["trained_on"], r["fed_back"], r["energy"]) for r in rows] == [
        (0, 16, [], {}),
        (1, 32, [], {}),
    ]
    assert [r.get("mine") for r in rows] == ([0, 10] if own else [None, None])
    assert caplog.text.count("nothing has scored the probe set, so nothing is fed back") == 1
    assert data.round == 2 and all("val/accuracy" in r["metrics"] for r in rows)


def test_a_plan_that_feeds_nothing_back_is_told_without_the_command_line(tmp_path, tiny_student, caplog):
    student, data = parts(tmp_path, tiny_student)
    fit(student, data, [OODFeedback(alpha=0.0, beta=0.1)], rounds=1)
    assert "[0, 0.1) selects none: nothing is ever fed back" in caplog.text


def test_training_time_is_that_of_training(tmp_path, tiny_student, monkeypatch):
    now = [0.0]  # a clock that stands still but for what is timed here

    def takes(seconds, work):
        def slow(*args):
            now[0] += seconds
            return work(*args)

        return slow

    for module in (rounds, data_module, clock):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    student, data = parts(tmp_path, tiny_student)
    monkeypatch.setattr(data.synthesizer, "probe", takes(100.0, data.synthesizer.probe))
    monkeypatch.setattr(T5Student, "training_step", takes(1.0, T5Student.training_step))
    monkeypatch.setattr(T5Student, "validation_step", takes(10.0, T5Student.validation_step))
    trainer = fit(student, data, [OODFeedback()])
    seconds = [row["seconds"] for row in read_lines(tmp_path / "rounds.jsonl")]
    assert data.generation_seconds == 200
    assert [s["training"] for s in seconds] == [1.0, 2.0] and trainer.global_step == 3
    assert [s["scoring"] for s in seconds] == [10.0, 10.0]
    assert data.clock.seconds(data.round) == 223


def test_the_seconds_of_a_sitting_that_broke_off_are_in_the_rounds_line(tmp_path, tiny_student, monkeypatch):
    student, data = parts(tmp_path, tiny_student)
    step = T5Student.training_step

    def breaks(*args):
        time.sleep(0.7)
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(T5Student, "training_step", breaks)
        fit(student, data, [OODFeedback()], rounds=1)
    assert T5Student.training_step is step
    student, data = parts(tmp_path, tiny_student)
    assert data.clock.seconds(data.round) >= 0.7
    fit(student, data, [OODFeedback()], rounds=1)
    (row,) = read_lines(tmp_path / "rounds.jsonl")
    assert 0.7 <= row["seconds"]["interrupted"] < 30
    assert torch.isfinite(torch.tensor(row["auroc"]))
