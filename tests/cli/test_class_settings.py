"""Settings that were written for one class are not those of another."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml
from gold_lightning.cli.main import main
from gold_lightning.data import GoldDataModule
from gold_lightning.generators import (
    EmbeddedGenerator,
    Generator,
    OpenAIGenerator,
    TransformersGenerator,
    VLLMGenerator,
)
from gold_lightning.losses import RobustLoss, SymmetricCrossEntropy

pytestmark = pytest.mark.integration

OPENAI = ["--data.generator.init_args.model", "m", "--data.generator.init_args.base_url", "http://localhost:1/v1"]


class Inner(SymmetricCrossEntropy):
    """Has other defaults than its base, and passes the rest on."""

    def __init__(self, sigma: float = 7.0, **kwargs):
        super().__init__(sigma, **kwargs)


class Wrapped(Generator):
    """Needs a loss and a name; has a batch size of its own."""

    def __init__(self, model: str, loss: RobustLoss, batch_size: int = 5):
        self.model, self.loss, self._batch_size = model, loss, batch_size

    def generate(self, requests):
        raise AssertionError


def defaults(cls):
    return {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.default is not p.empty}


def resolved(capsys, *args):
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main(["fit", *args, "--print_config"])
    assert done.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def generator(capsys, *args):
    config = resolved(capsys, *args)["data"]["generator"]
    return config["class_path"].rsplit(".", 1)[-1], config["init_args"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Config files in the working folder, by name."""
    monkeypatch.chdir(tmp_path)

    def write(**configs):
        args = []
        for name, config in configs.items():
            Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
            args += ["--config", f"{name}.yaml"]
        return args

    return write


@pytest.mark.parametrize("before", [[], ["--config", "quickstart.yaml"], ["--config", "paper/anli.yaml"]])
@pytest.mark.parametrize(
    "named",
    [
        ["--data.generator", "OpenAIGenerator"],
        ["--data.generator=gold_lightning.generators.OpenAIGenerator"],
        ["--data.generator.class_path", "OpenAIGenerator"],
        ["--data.generator", '{"class_path": "OpenAIGenerator"}'],
        ["--data", "{generator: {class_path: OpenAIGenerator}}"],
    ],
    ids=lambda args: args[0] + args[-1][:2],
)
def test_another_class_has_its_own_defaults(before, named, capsys):
    name, settings = generator(capsys, *before, *named, *OPENAI)
    assert name == "OpenAIGenerator"
    assert settings == defaults(OpenAIGenerator) | {"model": "m", "base_url": "http://localhost:1/v1"}


def test_another_class_in_a_config_has_its_own_defaults(files, capsys):
    first = {"class_path": "EmbeddedGenerator", "init_args": {"batch_size": 3, "temperature": 0.1, "form": "chat"}}
    second = {"class_path": "TransformersGenerator", "init_args": {"model": "m", "top_k": 7}}
    args = files(a={"data": {"generator": first}}, b={"data": {"generator": second}})
    assert generator(capsys, *args) == ("TransformersGenerator", defaults(TransformersGenerator) | second["init_args"])
    assert generator(capsys, *args, "--config", "a.yaml")[1] == defaults(EmbeddedGenerator) | first["init_args"]
    name, settings = generator(capsys, *args, "--data.generator", "EmbeddedGenerator", "--data.generator.top_k", "9")
    assert (name, settings) == ("EmbeddedGenerator", defaults(EmbeddedGenerator) | {"top_k": 9})


@pytest.mark.parametrize("path", ["", "gold_lightning.generators.", "gold_lightning.generators.embedded."])
def test_the_same_class_keeps_its_settings_by_whatever_path_it_is_named(path, capsys):
    args = [
        "--config",
        "quickstart.yaml",
        "--data.generator.top_k",
        "9",
        "--data.generator",
        f"{path}EmbeddedGenerator",
    ]
    assert generator(capsys, *args)[1] == defaults(EmbeddedGenerator) | {"batch_size": 128, "top_k": 9}


def test_what_the_new_class_has_no_default_for_is_taken_over(capsys):
    args = ["--config", "paper/anli.yaml", "--config", "overlays/vllm.yaml"]
    settings = generator(capsys, *args)[1]
    written = {"batch_size": 256, "gpu_memory_utilization": 0.8, "max_model_len": 4096, "sleep": True}
    assert settings == defaults(VLLMGenerator) | written | {"model": "meta-llama/Llama-2-7b-chat-hf"}


def test_the_other_classes_of_a_config_have_their_own_defaults_too(files, capsys):
    loss = {"class_path": "SymmetricCrossEntropy", "init_args": {"sigma": 1.0, "lambda_": 0.2}}
    strategy = {"class_path": "tests.fakes.Shortest", "init_args": {"count": 2}}
    score = {"class_path": "EnergyScore", "init_args": {"temperature": 2.0}}
    args = files(a={"model": {"loss": loss}, "feedback": {"strategy": strategy, "score": score}})
    assert resolved(capsys, *args)["model"]["loss"]["init_args"] == {"sigma": 1.0, "lambda_": 0.2, "clip": 1e-4}
    args += ["--model.loss", "tests.cli.test_class_settings.Inner", "--feedback.score", "EntropyScore"]
    config = resolved(capsys, *args, "--feedback.strategy", "random")
    assert config["model"]["loss"]["init_args"] == {"sigma": 7.0, "lambda_": 1.0, "clip": 1e-4}
    assert config["feedback"]["strategy"] == "random"
    assert config["feedback"]["score"] == {"class_path": "gold_lightning.scores.EntropyScore", "init_args": {}}


@pytest.mark.parametrize("as_list", [False, True])
def test_loggers_have_their_own_defaults(as_list, files, capsys):
    first = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": "x", "name": "n", "version": 3},
    }
    second = {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": {"save_dir": "y"}}
    args = files(**{k: {"trainer": {"logger": [v] if as_list else v}} for k, v in (("a", first), ("b", second))})
    config = resolved(capsys, *args)["trainer"]["logger"]
    settings = (config[0] if as_list else config)["init_args"]
    assert (settings["save_dir"], settings["name"], settings["version"]) == ("y", "lightning_logs", None)


def test_classes_within_classes_have_their_own_defaults(files, capsys):
    def config(loss, **settings):
        inner = {"class_path": loss, "init_args": settings}
        return {
            "data": {"generator": {"class_path": "tests.cli.test_class_settings.Wrapped", "init_args": {"loss": inner}}}
        }

    one = config("SymmetricCrossEntropy", sigma=1.0, lambda_=0.2)
    one["data"]["generator"]["init_args"] |= {"model": "m", "batch_size": 9}
    args = files(a=one, b=config("tests.cli.test_class_settings.Inner"))
    settings = generator(capsys, *args)[1]
    assert (settings["model"], settings["batch_size"]) == ("m", 9)
    assert settings["loss"]["init_args"] == {"sigma": 7.0, "lambda_": 1.0, "clip": 1e-4}


def test_each_data_module_has_a_generator_of_its_own(tmp_path):
    first, second = GoldDataModule(run_dir=str(tmp_path / "a")), GoldDataModule(run_dir=str(tmp_path / "b"))
    assert type(first.generator) is type(second.generator) is EmbeddedGenerator
    assert first.generator is not second.generator
    assert first.synthesizer.generator is first.generator


def test_nothing_is_no_generator(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--data.generator", "null"]) == 2
    assert "data.generator: got None, expected a value" in capsys.readouterr().err
