"""Configs and tasks that can be read once: standard input, pipes, ``<(...)``."""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading

import pytest
import yaml
from gold_lightning.cli.configs import CONFIGS
from gold_lightning.cli.main import main
from gold_lightning.inputs import pipes as piped
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.task import Task

pytestmark = pytest.mark.integration

TASK = (CONFIGS.parent / "gold_lightning" / "tasks" / "news_topics.yaml").read_text(encoding="utf-8")
ROWS = CONFIGS.parent / "gold_lightning" / "tasks" / "news_topics.test.jsonl"


@pytest.fixture
def standard_input(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # Other processes' tests make such folders at the same time.
    monkeypatch.setattr(piped.tempfile, "tempdir", str(temporary := tmp_path / "temporary"))
    temporary.mkdir()

    def give(content):
        data = content if isinstance(content, bytes) else content.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))

    return give


def fed(path, content):
    """A named pipe that somebody writes to, once."""
    os.mkfifo(path)
    thread = threading.Thread(target=lambda: path.write_text(content, encoding="utf-8"), daemon=True)
    thread.start()
    return thread


def shown(capsys, *args):
    with pytest.raises(SystemExit) as done:
        main(["fit", *args, "--print_config"])
    assert done.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def refusal(capsys, *args):
    assert main(list(args)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


def left_behind(tmp_path):
    return list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("how", ["-", "--config=-", "/dev/stdin", "fifo", "descriptor"])
def test_a_config_that_can_be_read_once(how, standard_input, tmp_path, capsys):
    config = "run: {name: thé}\ndata: {batch_size: 7}\n"
    standard_input(config)
    args = ["--config", how] if how[:2] != "--" else [how]
    if how == "fifo":
        fed(tmp_path / "fifo", config)
    if how == "descriptor":  # as bash makes of <(...), and of a redirection
        reader, writer = os.pipe()
        os.write(writer, config.encode())
        os.close(writer)
        args = ["--config", f"/dev/fd/{reader}"]
    made = shown(capsys, *args)
    assert (made["run"]["name"], made["data"]["batch_size"]) == ("thé", 7)
    assert not left_behind(tmp_path)


def test_a_task_that_can_be_read_once_is_checked(standard_input, tmp_path, capsys):
    shutil.copy(ROWS, tmp_path)
    standard_input(TASK)
    assert main(["tasks", "check", "-"]) == 0
    assert capsys.readouterr().out.startswith("ok: news_topics") and not list(tmp_path.glob("*.yaml"))
    fed(tmp_path / "pipe", TASK)
    assert main(["tasks", "check", str(tmp_path / "pipe")]) == 0
    assert "no such" not in capsys.readouterr().out.lower()


def test_what_is_wrong_is_told_of_standard_input(standard_input, tmp_path, capsys):
    standard_input("name: [\n")
    assert refusal(capsys, "tasks", "check", "-").startswith("standard input: not valid YAML")
    standard_input("")
    assert refusal(capsys, "fit", "--config", "-").startswith(
        "--config standard input: got nothing, expected a mapping"
    )
    standard_input(b"\xff")
    assert refusal(capsys, "fit", "--data.task", "-").startswith("standard input: not valid YAML: byte 0")
    standard_input("a: 1")
    told = refusal(capsys, "fit", "--config", "-", "--data.task=/dev/stdin")
    assert told == "data.task: got '/dev/stdin', expected a file, since --config reads - already"
    standard_input("data: {task: '-'}")
    assert "since --config reads - already" in refusal(capsys, "fit", "--config", "-")
    assert refusal(capsys, "fit", "--config", "/dev/null").startswith("--config /dev/null: got nothing")
    assert "at most 64 MiB" in refusal(capsys, "tasks", "check", "/dev/zero")
    (tmp_path / "x").write_text("", encoding="utf-8")
    assert "--config x: got nothing" in refusal(capsys, "fit", "--config", "x")


def test_a_closed_standard_input(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert refusal(capsys, "tasks", "check", "-") == "tasks check: got '-', expected an open standard input"


@pytest.mark.usefixtures("undrawn_plots", "kept_parsers")
@pytest.mark.parametrize("place", ["argument", "config"])
def test_a_run_of_a_task_from_standard_input_goes_on(place, standard_input, tmp_path, tiny_student, capsys):
    shutil.copy(ROWS, tmp_path / "rows.jsonl")
    task = TASK.replace("news_topics.test.jsonl", "rows.jsonl")
    (tmp_path / "c.yaml").write_text("data: {task: '-'}", encoding="utf-8")
    common = ["--run.root=runs", f"--model.student={tiny_student}", "--data.generator=tests.fakes.NewsWriter"]
    common += ["--data.plan.samples_per_round=8", "--data.plan.probe_per_round=8", "--data.passes_per_round=1"]
    common += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    named = ["--data.task", "-"] if place == "argument" else ["--config", "c.yaml"]
    standard_input(task)
    assert main(["fit", *common, *named, "--trainer.max_epochs=1"]) == 0
    run = tmp_path / "runs" / "news_topics" / "default"
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert config["data"]["task"] == "runs/news_topics/default/task.yaml"
    kept = Task.load(config["data"]["task"])
    assert kept.demos == Task.load("news_topics").demos and kept.test.file == str(tmp_path / "rows.jsonl")
    standard_input(task)  # the same command, for one round more
    assert main(["fit", *common, *named, "--trainer.max_epochs=2"]) == 0
    assert main(["fit", "--config", str(run / "config.yaml"), "--trainer.max_epochs=3"]) == 0
    assert [row["round"] for row in read_lines(run / "rounds.jsonl")] == [0, 1, 2]
    standard_input(task)
    assert main(["test", *common, *named]) == 0
