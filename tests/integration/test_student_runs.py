"""What a run says and does about its student: numbers that are no numbers, settings that change, other classes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError
from gold_lightning.inputs.task_files import shipped_tasks
from gold_lightning.losses import RobustLoss
from gold_lightning.runner import GoldTrainer
from gold_lightning.scores import OODScore
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.t5 import inference

from tests.integration.test_loop import rounds, run

ON = ("--model.restart", "false")  # so that the optimizer's state goes on with the run
HERE = "tests.integration.test_student_runs."


class BrokenLoss(RobustLoss):
    """Gives nan."""

    def per_token(self, logits, targets):
        return logits.sum(-1) * float("nan")


class BrokenScore(OODScore):
    """Gives nan for some."""

    def per_token(self, logits):
        found = logits.logsumexp(-1)
        found[0] = float("nan")
        return found


def folder_of(root):
    return Path(root) / "news_topics" / "t"


def last_error(capsys):
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def first_round(tmp_path_factory, tiny_student):
    root = tmp_path_factory.mktemp("first_round")
    settings = ("--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1", "--data.batch_size", "8")
    assert run("fit", root, tiny_student, *settings) == 0
    return root


@pytest.fixture
def one_round(tmp_path, first_round):
    return shutil.copytree(first_round, tmp_path, dirs_exist_ok=True)


def test_the_loss_of_a_round_is_in_its_line_and_in_every_logger_once(one_round):
    (row,) = rounds(one_round)
    with (folder_of(one_round) / "metrics.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["train/loss"]) for line in lines if line["train/loss"]] == [
        pytest.approx(row["metrics"]["train/loss"])
    ]
    steps = [float(line["train/loss_step"]) for line in lines if line["train/loss_step"]]
    assert len(steps) == row["step"] > 1
    assert min(steps) < row["metrics"]["train/loss"] < max(steps)
    assert row["metrics"]["train/loss"] != pytest.approx(steps[-1], rel=1e-9)  # the mean, not the last step's


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (("--model.loss", HERE + "BrokenLoss"), "training loss of step 0 is not finite"),
        (("--feedback.score", HERE + "BrokenScore"), "energies of samples are not finite"),
        (("--model.lr", "1e9"), "is not finite"),
    ],
)
def test_what_is_not_finite_ends_the_run_in_one_line_and_keeps_the_rounds_before(
    one_round, tiny_student, capsys, setting, said
):
    folder = folder_of(one_round)
    (student,) = folder.glob("student/model.safetensors")
    before = student.read_bytes()
    assert run("fit", one_round, tiny_student, "--trainer.max_epochs", "3", *setting) == 2
    line = last_error(capsys)
    assert said in line and "lower model.lr" in line and "round 1: " in line
    if setting[1].startswith(HERE):
        assert setting[1] in line
    assert [row["round"] for row in rounds(one_round)] == [0]
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["GoldDataModule"]["round"] == 1
    assert student.read_bytes() == before
    for path in [*folder.rglob("*.json*")]:
        for text in path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(text, parse_constant=lambda name, path=path: pytest.fail(f"{name} in {path}"))
    assert run("fit", one_round, tiny_student, "--trainer.max_epochs", "2") == 0  # with the old settings
    assert [row["round"] for row in rounds(one_round)] == [0, 1]


def test_half_precision_is_warned_of_at_the_start(tmp_path, tiny_student, caplog, capsys):
    assert run("fit", tmp_path, tiny_student, "--trainer.precision", "16-true", "--model.lr", "1e5") == 2
    assert "trainer.precision 16-true: T5" in caplog.text
    assert "bf16-mixed" in last_error(capsys)


class OwnData(GoldDataModule):
    """Another class."""


def test_the_end_of_a_run_is_recognised_with_a_data_module_of_ones_own(tmp_path, tiny_student):
    trainer = GoldTrainer(max_epochs=2, logger=False, enable_progress_bar=False, accelerator="cpu")
    own, other = (kind(student=tiny_student, run_dir=str(tmp_path)) for kind in (OwnData, GoldDataModule))
    path = tmp_path / "last.ckpt"
    for round_, over in ((1, False), (2, True)):
        torch.save({"OwnData": {"round": round_, "pool": {}}}, path)
        assert trainer._is_over(own, path) is over
    with pytest.raises(ConfigError, match=r"^ckpt_path: got .* with the data module GoldDataModule$"):
        trainer._is_over(other, path)


def test_baselines_do_not_score_and_the_test_does(one_round, tiny_student, monkeypatch):
    scores = []
    score_labels = inference.score_labels

    def record(model, tree, batch, score=None, **settings):
        scores.append(score)
        return score_labels(model, tree, batch, score, **settings)

    monkeypatch.setattr(inference, "score_labels", record)
    test = one_round / "rows.jsonl"
    test.write_text("".join(json.dumps({"text": f"Team {i} won.", "topic": "Sports"}) + "\n" for i in range(5)))
    file = ("--data.test_file", str(test))
    assert run("baselines", one_round, tiny_student, *file, "--baselines.only", "[untrained, student]") == 0
    assert scores and not any(scores)
    scores.clear()
    assert run("test", one_round, tiny_student, *file) == 0
    assert any(scores)
    energies = [row["energy"] for row in read_lines(folder_of(one_round) / "predictions.jsonl")]
    assert len(energies) == 5 and all(isinstance(energy, float) for energy in energies)


@pytest.mark.parametrize(
    ("setting", "afresh"),
    [
        (("--model.encoder_lr", "0"), True),
        (("--model.embedding_lr", "0.5"), True),
        (("--model.optimizer", "adafactor"), True),
        (("--model.weight_decay", "0.3"), False),
        (("--model.lr", "0.01"), False),
    ],
    ids=lambda x: x[0] if isinstance(x, tuple) else "",
)
def test_a_run_goes_on_with_other_settings_of_its_optimizer(one_round, tiny_student, setting, afresh, caplog):
    caplog.clear()
    assert run("fit", one_round, tiny_student, "--trainer.max_epochs", "2", *setting, *ON) == 0
    assert ("the optimizer begins afresh" in caplog.text) is afresh
    assert [row["round"] for row in rounds(one_round)] == [0, 1]
    held = torch.load(folder_of(one_round) / "checkpoints" / "last.ckpt", weights_only=True)
    groups = held["optimizer_states"][0]["param_groups"]
    if setting[0] == "--model.weight_decay":
        assert {group["weight_decay"] for group in groups} == {0.0, 0.3}  # it was taken over from the checkpoint
    steps = {float(state["step"]) for state in held["optimizer_states"][0]["state"].values()}
    first, second = (row["step"] for row in rounds(one_round))
    assert steps == {second - first if afresh else second}
    # And back: nothing of it is refused either.
    assert run("fit", one_round, tiny_student, "--trainer.max_epochs", "3", *ON) == 0


def test_a_checkpoint_of_an_older_version_goes_on(one_round, tiny_student, caplog):
    path = folder_of(one_round) / "checkpoints" / "last.ckpt"
    held = torch.load(path, weights_only=True)
    (state,) = held["optimizer_states"]
    params = [i for group in state["param_groups"] for i in group["params"]]
    state["param_groups"] = [{k: v for k, v in state["param_groups"][0].items() if k != "share"} | {"params": params}]
    del held["optimizer_names"]
    torch.save(held, path)
    assert run("fit", one_round, tiny_student, "--trainer.max_epochs", "2", *ON) == 0
    assert "the optimizer begins afresh" in caplog.text and len(rounds(one_round)) == 2


def test_what_is_cut_is_told_in_the_rounds_line_and_in_every_table(tmp_path, tiny_student, capsys, caplog):
    task = shipped_tasks()["news_topics"].read_text(encoding="utf-8")
    task = task.replace("max_input_tokens: 96", "max_input_tokens: 40")
    task = task.replace("file: news_topics.test.jsonl", f"file: {tmp_path / 'rows.jsonl'}")
    (tmp_path / "news.yaml").write_text(task, encoding="utf-8")
    rows = [{"text": "word " * n + "won.", "topic": "Sports"} for n in (2, 3, 60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "max_input_tokens: 40" in task and str(tmp_path) in task
    own = ("--data.task", str(tmp_path / "news.yaml"), "--trainer.max_epochs", "1")
    assert run("fit", tmp_path, tiny_student, *own) == 0
    (row,) = rounds(tmp_path)
    assert row["cut"]["train"] == {"inputs": 16, "targets": 0, "of": 16}
    assert "28 of 28 inputs cut (student.max_input_tokens 40)" in caplog.text and "targets cut" not in caplog.text
    capsys.readouterr()
    said = "1 of 3 test rows are longer than student.max_input_tokens of the task (40): "
    assert run("test", tmp_path, tiny_student, *own) == 0
    assert said in capsys.readouterr().out
    (results,) = read_lines(folder_of(tmp_path) / "results.json")
    assert results["cut"] == {"inputs": 1, "targets": 0, "of": 3}
    train = ("--baselines.train_file", str(tmp_path / "rows.jsonl"))
    assert run("baselines", tmp_path, tiny_student, *own, *train, "--baselines.only", "[supervised]") == 0
    assert said in capsys.readouterr().out and "1 of 3 labelled rows are longer" in caplog.text
    assert run("baselines", tmp_path, tiny_student, *own, "--baselines.only", "[majority]") == 0
    assert said not in capsys.readouterr().out
