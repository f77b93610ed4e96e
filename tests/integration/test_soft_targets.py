"""Training on the generator's probabilities of labels: resumed, replayed, on several processes, and refused."""

from __future__ import annotations

import json
import shutil

import gold_lightning as gl
import pytest
import torch
from gold_lightning.cli.main import main
from gold_lightning.storage.json_lines import read_lines, write_lines
from gold_lightning.storage.round_store import RoundStore

from tests.fakes import NewsWriter, SteadyReader
from tests.integration.test_loop import SMALL, run_in_two, weights

LOSS = ["--model.loss", "SoftTargets", "--model.loss.weight", "0.7", "--model.loss.temperature", "1.5"]


class Silent(NewsWriter):
    """Has no likelihoods."""

    def __init__(self) -> None:
        super().__init__()
        self.log_probs = lambda request: ()


def arguments(root, student, *more, name="t"):
    base = ["fit", "--config", "quickstart.yaml", "--run.root", str(root), "--run.name", name, "--run.live=false"]
    base += ["--model.student", str(student), "--model.restart=false", "--model.embedding_lr=0"]
    base += ["--data.generator", "tests.fakes.SteadyReader", *SMALL, "--data.plan.label_agreement=measure"]
    return [*base, "--data.passes_per_round", "1", *LOSS, *more]


def fit(root, student, *more, **how):
    return main(arguments(root, student, *more, **how))


def last_error(capsys):
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def student(tmp_path_factory, tiny_student):
    """Without dropout, whose masks are each process's own."""
    folder = shutil.copytree(tiny_student, tmp_path_factory.mktemp("student") / "student")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dropout_rate": 0.0}))
    return folder


ODD = ["--data.plan.samples_per_round=19", "--trainer.max_epochs=2"]  # no number of samples can be divided by two
ONE = [*ODD, "--data.batch_size=16", "--data.generator.init_args.batch_size=32"]
TWO = [*ODD, "--data.batch_size=8", "--data.generator.init_args.batch_size=16", "--trainer.devices=2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, student):
    root = tmp_path_factory.mktemp("whole")
    assert fit(root, student, *ONE) == 0
    return root


def assert_same_weights(one, two, **tolerance):
    states = [weights(root)["state_dict"] for root in (one, two)]
    torch.testing.assert_close(*states, **tolerance)


def test_samples_carry_the_distribution_and_the_student_learns_it(whole, tmp_path, student):
    stored = RoundStore(whole / "news_topics" / "t", 0, read_only=True).accepted("train")
    assert all(sum(s.probabilities.values()) == pytest.approx(1, abs=1e-5) for s in stored)
    assert len({max(s.probabilities.values()) for s in stored}) > 4
    assert fit(tmp_path, student, *ONE, "--model.loss.weight=0") == 0  # the same samples, and another loss
    states = [weights(root)["state_dict"] for root in (whole, tmp_path)]
    assert any(not torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


def test_a_resumed_run_is_that_of_one_sitting(whole, tmp_path, student):
    for rounds in (1, 2):
        assert fit(tmp_path, student, *ONE, f"--trainer.max_epochs={rounds}") == 0
    assert_same_weights(whole, tmp_path, atol=0, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_learn_what_one_learns(whole, tmp_path, student, strategy, forks):
    run_in_two(forks, *arguments(tmp_path, student, *TWO, "--trainer.strategy", strategy))
    assert_same_weights(whole, tmp_path, atol=1e-5, rtol=0)


def test_samples_without_a_distribution_are_counted_and_a_run_without_any_is_refused(
    whole, tmp_path, student, caplog, capsys
):
    folder = shutil.copytree(whole / "news_topics" / "t", tmp_path / "earlier")
    path = RoundStore(folder, 0, read_only=True).folder / "train.jsonl"
    rows = read_lines(path)
    replay = [*ONE, "--trainer.max_epochs=1", "--data.replay_from", str(folder)]
    for without in (3, 19):
        earlier = [{k: v for k, v in row.items() if k != "probabilities"} for row in rows[:without]]
        write_lines(path, earlier + rows[without:])
        status = fit(tmp_path, student, *replay, name=f"without{without}")
        assert status == (2 if without == 19 else 0)
    assert "3 of 19 training samples have no probabilities of labels" in caplog.text
    assert "none of 19 samples has any" in last_error(capsys)


def test_a_generator_without_likelihoods_is_refused_before_the_student_is_trained(tmp_path, student, capsys):
    silent = "tests.integration.test_soft_targets.Silent"
    assert fit(tmp_path, student, "--data.generator", silent) == 2
    line = last_error(capsys)
    assert line.startswith("error: model.loss: SoftTargets") and "a data.generator that reports likelihoods" in line
    assert not (tmp_path / "news_topics" / "t" / "rounds.jsonl").exists()


def test_soft_targets_need_the_label_check_and_labels(tmp_path, student, capsys):
    assert fit(tmp_path, student, "--data.plan.label_agreement=off") == 2
    assert "data.plan.label_agreement: got 'off'" in last_error(capsys)
    assert not (tmp_path / "news_topics" / "t" / "data").exists()
    assert fit(tmp_path, student, "--data.task=squad", "--data.plan.label_agreement=off") == 2
    assert "model.loss: got 'SoftTargets'" in last_error(capsys)


def test_rounds_name_the_doubtful_samples_that_they_leave_out(tmp_path, student):
    drop = [*ONE, "--data.doubtful_labels=drop", "--data.label_noise=0.3", "--data.plan.samples_per_round=40"]
    assert fit(tmp_path, student, *drop, "--model.loss.weight=0") == 0
    folder = tmp_path / "news_topics" / "t"
    stored = [s.id for round_ in (0, 1) for s in RoundStore(folder, round_, read_only=True).accepted("train")]
    rows = read_lines(folder / "rounds.jsonl")
    for row, so_far in zip(rows, (40, 80), strict=True):
        assert set(row["left_out"]) <= set(stored[:so_far]) and row["trained_on"] == so_far - len(row["left_out"])
    assert rows[1]["left_out"]


def test_python_and_the_command_line_go_on_with_one_another(tmp_path, student):
    loss = gl.SoftTargets(0.7, 1.5, hard=gl.CrossEntropy())
    plan = gl.SynthesisPlan(samples_per_round=8, probe_per_round=4, group_size=2, label_agreement="measure")
    run = gl.distill(
        "news_topics", generator=SteadyReader(), student=str(student), rounds=1, plan=plan, loss=loss, verbose=False,
        output=tmp_path / "news_topics" / "a", data={"passes_per_round": 1}, trainer={"accelerator": "cpu"},
    )  # fmt: skip
    samples = run.samples()
    assert all(sum(row.values()) == pytest.approx(1, abs=1e-5) for row in samples["probabilities"])
    config = str(run.folder / "config.yaml")
    assert main(["fit", "--config", config, "--trainer.max_epochs=2", "--run.live=false"]) == 0
    assert len(run.rounds) == 2 and "hard:" in (run.folder / "config.yaml").read_text()
