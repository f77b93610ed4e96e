"""Configs and wrong settings, as a user meets them."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest
import yaml
from gold_lightning.__main__ import _find_classes_here
from gold_lightning.cli.configs import CONFIGS
from gold_lightning.cli.main import main
from gold_lightning.task import Task

SHIPPED = sorted(CONFIGS.rglob("*.yaml"))


def fails(capsys, *args):
    """The one line that a wrong setting gives."""
    status = main(list(args))
    error = capsys.readouterr().err.strip()
    assert status == 2
    line = error.splitlines()[-1]
    assert line.startswith("error: ") and "Traceback" not in error
    return line


PAPER = "anli mnli qnli rte wnli mrpc squad adversarial_qa svamp nl4opt".split()
HUB = [f"{folder}{task}.yaml" for folder in ("", "paper/") for task in PAPER]


def test_no_config_is_left_untested():
    # quickstart.yaml is what test_loop runs; overlays and hub configs have tests of their own below, experiments in
    # test_experiment.
    apart = ("overlays", "experiments")
    assert {p.relative_to(CONFIGS).as_posix() for p in SHIPPED if p.parent.name not in apart} == {
        "quickstart.yaml",
        *HUB,
    }


@pytest.mark.parametrize("name", HUB)
def test_a_hub_config_is_made_whole_and_then_says_what_it_misses(name, tmp_path, tiny_student, capsys):
    # These stop at the first request: no hub is in reach here.
    model = yaml.safe_load((CONFIGS / name).read_text())["data"]["generator"]["init_args"]["model"]
    args = ["--config", name, "--model.student", tiny_student, "--run.root", str(tmp_path)]
    line = fails(capsys, "fit", *args, "--trainer.accelerator", "cpu", "--trainer.precision", "32-true")
    assert model in line and "the hub did not give it" in line and "EmbeddedGenerator" in line


@pytest.mark.parametrize("task", PAPER)
def test_a_paper_config_has_the_papers_settings(task):
    written = yaml.safe_load((CONFIGS / "paper" / f"{task}.yaml").read_text())
    data, model, feedback = written["data"], written["model"], written["feedback"]
    assert data["task"] == yaml.safe_load((CONFIGS / f"{task}.yaml").read_text())["data"]["task"] == task
    assert data["generator"]["init_args"]["model"] == "meta-llama/Llama-2-7b-chat-hf"
    assert data["plan"]["samples_per_round"] * written["trainer"]["max_epochs"] == (17000 if task == "anli" else 3000)
    assert written["early_stopping"]["patience"] >= written["trainer"]["max_epochs"]  # all samples are made
    assert data["batch_size"] == 8
    assert (model["student"], model["num_beams"]) == ("google-t5/t5-base", 4)
    assert (model["optimizer"], model["lr"]) == ("adamw", 1e-5 if task == "qnli" else 5e-5)
    assert model["loss"]["init_args"] == {"sigma": 0.1, "lambda_": 1.0}
    assert (feedback["rate"], feedback["alpha"], feedback["beta"]) == (0.5, 0.5, 0.8)


def differences(written, resolved, at=""):
    """Keys whose resolved value is not the written one; a class is the same by a shorter path."""
    if isinstance(written, list) and isinstance(resolved, list) and len(written) == len(resolved):
        written, resolved = dict(enumerate(written)), dict(enumerate(resolved))
    if isinstance(written, dict) and isinstance(resolved, dict):
        return [line for k, v in written.items() for line in differences(v, resolved.get(k), f"{at}.{k}")]
    if at.endswith(".class_path") and str(written).rsplit(".", 1)[-1] == str(resolved).rsplit(".", 1)[-1]:
        return []
    return [] if written == resolved else [f"{at}: {written!r} is {resolved!r}"]


@pytest.mark.parametrize("overlay", ["debug", "embedded", "vllm", "wandb", "ddp", "fsdp"])
def test_overlays_go_with_a_config(overlay, capsys):
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", "anli.yaml", "--config", f"overlays/{overlay}.yaml", "--print_config"])
    assert done.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load((CONFIGS / "overlays" / f"{overlay}.yaml").read_text())
    assert differences(written, resolved) == []


@pytest.mark.parametrize("task", PAPER)
def test_embedded_settings_go_with_every_task(task, tmp_path, monkeypatch):
    """The whole program is made, up to the first request."""

    class Asked(Exception):
        pass

    def generate(self, requests):
        raise Asked(self, len(requests))

    monkeypatch.setattr("gold_lightning.generators.EmbeddedGenerator.generate", generate)
    args = ["--config", f"{task}.yaml", "--config", "overlays/embedded.yaml", "--run.root", str(tmp_path)]
    with pytest.raises(Asked) as asked:
        main(["fit", *args])
    generator, requests = asked.value.args
    written = yaml.safe_load((CONFIGS / "overlays/embedded.yaml").read_text())
    sampling = written["data"]["generator"]["init_args"]
    assert {key: getattr(generator, key) for key in sampling} == sampling
    assert 0 < requests <= sampling["batch_size"]
    (config,) = tmp_path.rglob("config.yaml")
    stored = yaml.safe_load(config.read_text())
    assert stored["data"]["task"] == task
    assert stored["data"]["plan"].items() >= written["data"]["plan"].items()
    assert stored["model"]["student"] == "embedded"
    assert (stored["trainer"]["accelerator"], stored["trainer"]["precision"]) == ("cpu", "32-true")


def test_vllm_takes_the_model_of_the_config_before(tmp_path, tiny_student, monkeypatch, capsys):
    """The whole program is made, up to the first request, which the package that stands in cannot answer."""
    monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    args = ["--config", "anli.yaml", "--config", "overlays/vllm.yaml", "--model.student", tiny_student]
    args += ["--run.root", str(tmp_path), "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
    assert "vLLM is installed but cannot be imported" in fails(capsys, "fit", *args)
    (config,) = tmp_path.rglob("config.yaml")
    stored = yaml.safe_load(config.read_text())["data"]["generator"]["init_args"]
    written = yaml.safe_load((CONFIGS / "overlays/vllm.yaml").read_text())["data"]["generator"]["init_args"]
    model = yaml.safe_load((CONFIGS / "anli.yaml").read_text())["data"]["generator"]["init_args"]["model"]
    assert stored.items() >= {"model": model, **written}.items()


@pytest.mark.parametrize(
    ("module", "args", "extra"),
    [
        ("vllm", ["VLLMGenerator", "--data.generator.model", "m"], "vllm"),
        (
            "httpx",
            ["OpenAIGenerator", "--data.generator.model", "m", "--data.generator.base_url", "http://h"],
            "openai",
        ),
        ("accelerate", ["EmbeddedGenerator"], "embedded"),
        ("gguf", ["EmbeddedGenerator"], "embedded"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "preview"])
def test_a_generator_that_is_not_installed_is_told_before_anything_is_left(
    command, module, args, extra, tmp_path, tiny_student, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("GOLD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    more = ["--data.task", "rte", "--model.student", tiny_student, "--run.root", str(tmp_path / "runs")]
    line = fails(capsys, command, "--data.generator", *args, *more, "--trainer.accelerator", "cpu")
    assert line.endswith(f"pip install 'gold-lightning[{extra}]'")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (["--config", "nothing.yaml"], "--config"),
        (["--data.task", "no_such_task"], "data.task"),
        (["--data.plan.samples_per_round", "0"], "data.plan.samples_per_round"),
        (["--data.plan.samples_per_round", "many"], "samples_per_round"),
        (["--data.plan.label_agreement", "perhaps"], "label_agreement"),
        (["--feedback.rate", "1.5"], "feedback.rate"),
        (["--feedback.alpha", "0.9"], "feedback.alpha"),
        (["--feedback.strategy", "bands"], "feedback.strategy"),
        (["--feedback.label_check", "require"], "feedback.label_check"),
        (["--data.label_noise", "1.5"], "data.label_noise"),
        (["--model.lr", "-1"], "model.lr"),
        (["--model.loss", "NoSuchLoss"], "model.loss"),
        (["--model.no_such_key", "1"], "no_such_key"),
        (["--model.student", "no-such/model"], "no-such/model"),
        (["--data.test_file", "nowhere.jsonl"], "data.test_file"),
        (["--data.batch_size", "0"], "data.batch_size"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(args, key, tmp_path, tiny_student, capsys):
    base = ["fit", "--run.root", str(tmp_path), "--data.generator", "tests.fakes.NewsWriter"]
    base += [] if "--model.student" in args else ["--model.student", tiny_student]
    assert key in fails(capsys, *base, *args)
    assert not list(tmp_path.iterdir())


def test_a_task_without_test_data_in_reach_says_so(tmp_path, tiny_student, capsys):
    task = tmp_path / "t.yaml"
    shipped = Path(Task.load("news_topics").source).read_text()
    task.write_text(shipped.replace("file: news_topics.test.jsonl", "file: gone.jsonl"))
    args = ["fit", "--data.task", str(task), "--run.root", str(tmp_path / "runs"), "--model.student", tiny_student]
    args += ["--data.generator", "tests.fakes.NewsWriter", "--data.plan.samples_per_round", "8"]
    args += ["--data.plan.probe_per_round", "8", "--trainer.max_epochs", "1", "--data.passes_per_round", "1"]
    assert main(args) == 0  # training needs no test data
    line = fails(capsys, "test", *args[1:])
    assert "gone.jsonl" in line


def test_what_yaml_anchors_refer_to_may_stand_at_the_top(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = "x-sizes: &sizes {batch_size: 7}\nx-rate: &rate 1e-3\ndata:\n  <<: *sizes\n  task: rte\nmodel: {lr: *rate}\n"
    Path("c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", "c.yaml", "--print_config"])
    assert done.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    assert (resolved["data"]["batch_size"], resolved["data"]["task"], resolved["model"]["lr"]) == (7, "rte", 0.001)
    assert [p.name for p in tmp_path.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize("safe", [False, True])
def test_the_console_script_finds_classes_of_the_working_folder(safe, tmp_path, monkeypatch):
    # Its own folder stands where python -m has the working folder.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/usr/local/bin", *(p for p in sys.path if p not in ("", os.getcwd()))])
    monkeypatch.setattr(sys, "flags", types.SimpleNamespace(safe_path=safe))
    _find_classes_here()
    assert (str(tmp_path) in sys.path) is not safe
