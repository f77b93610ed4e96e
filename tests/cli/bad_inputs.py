"""Wrong settings, configs and task files, with what the one line about each must tell.

``python -m tests.cli.bad_inputs`` prints the table with the lines that they give, as Markdown.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from gold_lightning.cli.main import main
from gold_lightning.generators import Generator

from tests.fakes import make_tiny_student

GENERATOR = ("--data.generator", "tests.cli.bad_inputs.NeverAsked")


class NeverAsked(Generator):
    """Fails when it is asked for anything: a wrong setting is found before that."""

    def generate(self, requests):
        raise AssertionError("the generator was asked")


@dataclass(frozen=True)
class Bad:
    """A wrong input.

    Args:
        what: In words.
        args: Arguments after the subcommand and those that all have.
        tells: What the line must hold: mostly the key, the value received and what is allowed.
        files: What is there beforehand, by path; ``None`` is a folder.
        command: The subcommand; "" for none.
        generator: What names the generator; () where the case itself does.
    """

    what: str
    args: Sequence[str]
    tells: Sequence[str]
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    command: str = "fit"
    generator: Sequence[str] = GENERATOR

    def place(self, folder: Path) -> None:
        """Puts the files into a folder."""
        for name, content in self.files.items():
            path = folder / name
            if content is None:
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def argv(self, student: str) -> list[str]:
        """The whole command line."""
        if self.command not in ("fit", "test", "validate", "preview", "baselines"):
            return [*([self.command] if self.command else []), *self.args]
        common = ["--run.root", "runs", "--model.student", student, "--trainer.accelerator", "cpu"]
        return [self.command, *common, *self.generator, *self.args]


def _setting(key, value, *tells, **more):
    return Bad(f"`--{key} {value}`", [f"--{key}={value}"], [f"{key}: got ", *tells], **more)


def _config(what, content, *tells, **more):
    return Bad(what, ["--config", "c.yaml"], tells, {"c.yaml": content}, **more)


def _overlay(what, first, second, *tells):
    files = {"c.yaml": first, "o.yaml": second}
    return Bad(what, ["--config", "c.yaml", "--config", "o.yaml"], tells, files, generator=())


GOOD = {
    "name": "entailment",
    "description": "Each sample is a pair of sentences.",
    "fields": [
        {"name": "premise", "description": "a sentence", "max_chars": 60},
        {"name": "claim", "description": "another sentence"},
    ],
    "target": {"name": "verdict", "description": "whether the claim follows"},
    "labels": [{"name": "yes", "meaning": "it follows"}, {"name": "no", "meaning": "it does not"}],
    "demos": [
        {"premise": "It rains.", "claim": "It is wet.", "verdict": "yes"},
        {"premise": "It rains.", "claim": "It is dry.", "verdict": "no"},
    ],
    "student": {"input": "{premise} / {claim}"},
}


def _task(what, change, *tells, **more):
    """A task file: a text, or what makes GOOD wrong."""
    content = change
    if callable(change):
        task = copy.deepcopy(GOOD)
        change(task)
        content = yaml.safe_dump(task, sort_keys=False)
    return Bad(what, ["--data.task", "task.yaml"], ["task.yaml", *tells], {"task.yaml": content}, **more)


def _unquoted(text):
    return yaml.safe_dump(GOOD, sort_keys=False).replace("name: 'yes'", f"name: {text}")


EMBEDDED = "data: {generator: {class_path: EmbeddedGenerator, init_args: {batch_size: 8}}}\n"
QUOTES = "put it in quotes"
ENGINE = "data.generator.init_args."


def _engine(name, key, value, *tells, **more):
    required = {"OpenAIGenerator": {"model": "m", "base_url": "http://localhost:1/v1"}, "VLLMGenerator": {"model": "m"}}
    settings = required.get(name, {}) | {key: value}
    config = yaml.safe_dump({"data": {"generator": {"class_path": name, "init_args": settings}}})
    return _config(f"`{key}: {value}` of {name}", config, f"{ENGINE}{key}: got ", *tells, generator=(), **more)


COMMAND_LINE = [
    Bad(
        "no command",
        ["--run.name", "x"],
        ["command: got '--run.name'", "fit", "baselines", "tasks", "comes before"],
        command="",
    ),
    Bad(
        "a command that there is not", [], ["command: got 'train'", "one of fit", "did you mean fit?"], command="train"
    ),
    Bad("a key that there is not", ["--data.no_such", "1"], ["data.no_such: got 1", "one of the keys of data", "plan"]),
    Bad(
        "a misspelt key",
        ["--data.plan.sample_per_round", "8"],
        ["data.plan.sample_per_round: got 8", "did you mean data.plan.samples_per_round?"],
    ),
    Bad("a section that there is not", ["--optimizer.lr", "1"], ["optimizer.lr: got 1", "did you mean model.lr?"]),
    Bad("a key without a value", ["--data.batch_size"], ["data.batch_size: got nothing", "a value after it"]),
    Bad("a config without its flag", ["anli.yaml"], ["got 'anli.yaml'", "--config FILE"]),
    Bad("a config that is not there", ["--config", "no.yaml"], ["--config: got 'no.yaml'", "the path of a file"]),
    Bad("a folder as a config", ["--config", "d"], ["--config: got 'd'", "not of a folder"], {"d": None}),
    Bad("a task that is not there", ["show", "no"], ["tasks show: got 'no'", "news_topics"], command="tasks"),
    Bad("a task file that is not there", ["check", "no.yaml"], ["tasks check: got 'no.yaml'"], command="tasks"),
]

CONFIGS = [
    _config("an empty config", "", "--config c.yaml: got nothing", "a mapping of settings"),
    _config("a config of a comment alone", "# later\n", "--config c.yaml: got nothing", "a mapping of settings"),
    _config("a config that is a list", "- data\n", "--config c.yaml: got ['data']", "a mapping of settings"),
    _config("a bracket left open", "data: {batch_size: 8\n", "c.yaml: not valid YAML", "line 1"),
    _config("a tab", "data:\n\tbatch_size: 8\n", "c.yaml: not valid YAML", "line 2"),
    _config("Latin-1", "# caf\xe9\ndata: {batch_size: 8}".encode("latin-1"), "c.yaml", "byte 5", "save it as UTF-8"),
    _config("UTF-16", "data: {batch_size: 8}".encode("utf-16"), "c.yaml", "byte 0", "save it as UTF-8"),
    _config("bytes of another kind", b"PK\x03\x04\x00", "c.yaml: not valid YAML"),
    _config("a key with an unseen space", "data\u200b: {batch_size: 8}\n", "the key 'data\\u200b'", "line 1"),
    _config("an unknown tag", "data: !mine {batch_size: 8}\n", "c.yaml: not valid YAML", "'!mine'"),
    _config("nothing at all as the document", "null\n", "--config c.yaml: got nothing"),
    _config("two documents", "data: {batch_size: 8}\n---\nmodel: {}\n", "c.yaml: not valid YAML", "single document"),
    _config("a tag that runs code", "data: {task: !!python/name:os.system ''}\n", "c.yaml: not valid YAML", "tag"),
    _config("a section twice", "data: {batch_size: 8}\ndata: {batch_size: 9}\n", "line 2", "'data'", "line 1"),
    _config("a key twice", "data:\n  plan:\n    group_size: 8\n    group_size: 9\n", "line 4", "'group_size'"),
    _config("nested without end", "data: " + "[" * 2000, "c.yaml: not valid YAML", "too deeply"),
    _config("a key that YAML reads as true", "data: {yes: 1}\n", "data.True: got True", QUOTES),
    _config("a number as a key", "3: 4\n", "c.yaml: 3: got 3", QUOTES),
    _config("a section that is a list", "data: [1]\n", "c.yaml: data: got [1]", "a mapping"),
    _config("a section that is a word", "data: small\n", "data: got 'small'", "a mapping"),
    _config("a section left empty", "data:\n", "c.yaml: data: got None", "leave the section out"),
    _config("a plan that is a word", "data: {plan: big}\n", "data.plan: got 'big'", "a mapping"),
    _config("no plan", "data: {plan: null}\n", "data.plan", "got None"),
    _config("no loss", "model: {loss: null}\n", "model.loss: got None", "leave it out"),
    _config("no generator", "data: {generator: null}\n", "data.generator: got None", "leave it out", generator=()),
    _config("a config's section that there is not", "dataset: {batch_size: 8}\n", "dataset.batch_size: got 8", "data"),
    _config("a subcommand's name around it", "fit: {data: {batch_size: 8}}\n", "fit.data.batch_size", "did you mean"),
    _config("a task file as a config", yaml.safe_dump(GOOD), "--config: got 'c.yaml'", "--data.task c.yaml"),
    Bad(
        "a key at the top, to be printed",
        ["--config", "c.yaml", "--print_config"],
        ["lr: got 0.1", "did you mean model.lr?"],
        {"c.yaml": "lr: 0.1\n"},
    ),
    Bad(
        "a section that there is not, to be printed",
        ["--config", "c.yaml", "--print_config"],
        ["y-common.batch_size: got 8", "one of the keys config"],
        {"c.yaml": "y-common: {batch_size: 8}\n"},
    ),
    _config("nothing beside what anchors are for", "x-a: &a {lr: 1}\n", "--config c.yaml: got nothing"),
    _config("a wrong key beside anchors", "x-a: &a {lrr: 1}\nmodel: *a\n", "model.lrr: got 1", "model.lr?"),
    Bad("a plan that is not there", ["--data.plan", "p.yaml"], ["data.plan: got 'p.yaml'", "a YAML file"]),
]

SETTINGS = [
    _setting("data.batch_size", "eight", "'eight'", "a whole number"),
    _setting("data.batch_size", "1.5", "1.5", "a whole number"),
    _setting("data.batch_size", "0", "got 0", "1 or more"),
    _setting("data.plan.samples_per_round", "-1", "-1", "1 or more"),
    _setting("data.plan.max_attempts", ".inf", "inf", "finite"),
    _setting("data.plan.label_agreement", "perhaps", "'perhaps'", "off, measure or require"),
    _setting("data.plan.decontaminate", "true", "True", "off, measure, drop"),
    _setting("data.replay", "some", "'some'", "all or last"),
    _setting("data.task", "no_such", "'no_such'", "the path of a task file", "news_topics"),
    _setting("data.test_file", "gone.csv", "'gone.csv'", ".jsonl, .ndjson, .json, .csv, .tsv or .parquet"),
    _setting("data.test_file", "d", "'d'", "the path of a", files={"d": None}),
    _setting("data.test_file", "rows.txt", "'rows.txt'", "the ending", files={"rows.txt": "x"}),
    _setting("data.replay_from", "gone", "'gone'", "the folder of a run"),
    _setting("data.feedback_rate", "0.5", "0.5", "it follows from feedback.rate"),
    _setting("data.budget.max_tokens", "-1", "-1", "above 0"),
    _setting("data.budget.max_cost", "5", "5", "set data.budget.price_prompt"),
    _setting("data.budget.max_seconds", "1h", "'1h'", "a number or null"),
    _setting("data.budget.price_prompt", "-0.1", "-0.1", "0 or more"),
    _setting("model.lr", ".nan", "nan", "a finite number above 0"),
    _setting("model.lr", "0,001", "'0,001'", "a number"),
    _setting("model.lr", "-1", "-1", "above 0"),
    _setting("model.restart", "maybe", "'maybe'", "true or false"),
    _setting("model.optimizer", "sgd", "'sgd'", "adamw or adafactor"),
    _setting("model.loss", "NoSuchLoss", "'NoSuchLoss'", "SymmetricCrossEntropy", "import path of a class"),
    _setting("model.loss", "torch.nn.Linear", "'torch.nn.Linear'", "not correspond to a subclass of RobustLoss"),
    _setting("model.loss.init_args.sigma", "x", "'x'", "a number"),
    _setting("feedback.rate", "1.5", "1.5", "from 0 to 1"),
    _setting("feedback.alpha", "0.9", "[0.9, 0.8]", "alpha < beta"),
    _setting("feedback.reference_samples", "0", "got 0", "1 or more"),
    _setting("seed_everything", "-1", "-1", "from 0 to 4294967295"),
    _setting("seed_everything", "false", "False", "a whole number"),
    _setting("run.name", "../x", "'../x'", "the name of a folder"),
    _setting("run.root", "", "''", "the path of a folder"),
    _setting("run.root", "s3://bucket/runs", "'s3://bucket/runs'", "a folder of this machine, not a URL"),
    _setting("run.root", "file:///data/runs", "'file:///data/runs'", "write /data/runs"),
    _setting("run.root", "$SCRATCH/runs", "'$SCRATCH/runs'", "variables are not expanded"),
    _setting("run.root", "~no-such-user/runs", "'~no-such-user/runs'", "a home folder for ~no-such-user"),
    Bad("a root that is too long", ["--run.root", "a" * 300], ["run.root", "File name too long"]),
    Bad("a root that is a device", ["--run.root", "/dev/null"], ["run.root", "/dev/null is a file"]),
    _setting("data.task", "~no-such-user/t.yaml", "'~no-such-user/t.yaml'", "a home folder"),
    _setting("data.test_file", "~/no-such-rows.csv", "'~/no-such-rows.csv'", "the path of a"),
    _setting("model.student", "~no-such-user/t5", "'~no-such-user/t5'", "a home folder"),
    _setting("ckpt_path", "~/no-such.ckpt", "'~/no-such.ckpt'", "the path of a checkpoint"),
    _setting("data.replay_from", "~/no-such-run", "'~/no-such-run'", "the folder of a run"),
    Bad("a file as the run's root", ["--run.root", "f"], ["run.root", "f/news_topics/default", "a file"], {"f": ""}),
    _config("a word that YAML reads as false", "run: {name: no}\n", "run.name: got False", "text", QUOTES),
    _config("a number where text belongs", "run: {name: 1}\n", "run.name: got 1", "text", QUOTES),
    _config("off for a decay", "model: {decay: off}\n", "model.decay: got False", "none, linear or cosine", QUOTES),
    Bad("a student that is a folder of nothing", ["--model.student", "d"], ["model.student 'd'"], {"d": None}),
    Bad(
        "labels checked in a task without labels",
        ["--data.task", "svamp", "--data.plan.label_agreement", "require"],
        ["data.plan.label_agreement: got 'require'", "off for a task without labels"],
    ),
    _setting("calibration.level", "1.5", "got 1.5", "above 0 and below 1"),
    _setting("calibration.lowest_level", "1.5", "got 1.5", "above 0 and below 1"),
    _setting("calibration.promise", "always", "always", "conformal"),
    Bad(
        "sets of labels by energy",
        ["--calibration.promise", "conformal", "--calibration.score", "energy"],
        ["calibration.score: got 'energy'", "probability with the promise conformal"],
    ),
    Bad(
        "sets of labels in a task without labels",
        ["--data.task", "svamp", "--calibration.promise", "conformal"],
        ["calibration.promise: got 'conformal'", "selective for a task without labels"],
    ),
    _setting("preview.count", "0", "got 0", "1 or more", command="preview"),
    _setting("baselines.only", "[zero_shots]", "zero_shots", "zero_shot", command="baselines"),
    _setting("baselines.only", "[]", "[]", "majority", command="baselines"),
    _setting("baselines.train_file", "x.csv", "'x.csv'", "the path of a", command="baselines"),
    _setting("trainer.devices", "2", "got 2", "1 for this subcommand", command="baselines"),
    Bad("a test before any training", [], ["best.ckpt: no such checkpoint", "run fit first"], command="test"),
]

LIGHTNING = [
    _setting("trainer.reload_dataloaders_every_n_epochs", "0", "got 0", "expected 1", "samples of its own"),
    _setting("trainer.num_sanity_val_steps", "2", "got 2", "expected 0", "no probe set before"),
    _setting("trainer.check_val_every_n_epoch", "2", "got 2", "expected 1"),
    _setting("trainer.val_check_interval", "0.5", "0.5", "1.0 or null"),
    _setting("trainer.limit_val_batches", "0", "got 0", "1.0 or null"),
    _setting("trainer.limit_val_batches", "2", "got 2", "1.0 or null"),
    _setting("trainer.limit_val_batches", "0.5", "got 0.5", "1.0 or null"),
    _setting("trainer.limit_train_batches", "0", "got 0", "more than 0"),
    _setting("trainer.limit_train_batches", "0.001", "got 0.001", "nothing is learnt"),
    _setting("trainer.overfit_batches", "2", "got 2", "expected 0"),
    _setting("trainer.fast_dev_run", "true", "True", "overlays/debug.yaml"),
    _setting("trainer.barebones", "true", "True", "expected false"),
    _setting("trainer.enable_checkpointing", "false", "False", "true or null"),
    _setting("trainer.max_epochs", "-2", "-2", "Lightning says", "non-negative"),
    _setting("trainer.max_epochs", "ten", "'ten'", "a whole number or null"),
    _setting("trainer.max_steps", "5", "got 5", "trainer.max_epochs counts rounds"),
    _setting("trainer.max_time", "00:01:00:00", "'00:01:00:00'", "data.budget.max_seconds"),
    _setting("trainer.gradient_clip_val", "-1", "-1", "0 or more"),
    _setting("trainer.accumulate_grad_batches", "0", "got 0", "1 or more"),
    _setting("trainer.accelerator", "abacus", "'abacus'", "Available names"),
    _setting("trainer.devices", "0", "'0'", "Lightning says"),
    _setting("trainer.precision", "12", "12", "bf16-mixed"),
    _setting("trainer.strategy", "dpp", "'dpp'", "Lightning says", "ddp"),
    _setting("trainer.strategy", "fsdp", "'fsdp'", "fsdp2"),
    _setting("trainer.strategy", "deepspeed_stage_2", "'deepspeed_stage_2'", "fsdp2"),
    _setting("trainer.strategy", "ModelParallelStrategy", "ModelParallelStrategy'", "fsdp2"),
    Bad(
        "`--trainer.strategy fsdp2 --model.optimizer adafactor`",
        ["--trainer.strategy=fsdp2", "--model.optimizer=adafactor"],
        ["model.optimizer: got 'adafactor'", "adamw"],
    ),
    _setting("trainer.logger", "NoSuchLogger", "'NoSuchLogger'", "CSVLogger"),
    _setting("trainer.profiler", "fast", "'fast'", "simple"),
    _setting("trainer.callbacks", "[5]", "[5]", "import path of a class"),
    _setting("early_stopping.monitor", "val/acuracy", "'val/acuracy'", "val/accuracy"),
    _setting("early_stopping.mode", "best", "'best'", "min, max"),
    _setting("early_stopping.patience", "0", "got 0", "1 or more"),
    _setting("checkpoint.monitor", "val/nothing", "'val/nothing'", "val/metric"),
    _setting("checkpoint.filename", "other", "'other'", "best"),
    _setting("checkpoint.save_top_k", "0", "got 0", "expected 1"),
    _setting("checkpoint.dirpath", "x", "'x'", "it follows from run.root"),
    _setting("ckpt_path", "gone.ckpt", "'gone.ckpt'", "the path of a checkpoint"),
    _setting("ckpt_path", "hpc", "'hpc'", "last, best"),
    _setting("ckpt_path", "d", "'d'", "the path of a checkpoint", files={"d": None}),
    _setting("ckpt_path", "x.ckpt", "'x.ckpt'", "this file is none", files={"x.ckpt": "weights"}),
]

ENGINES = [
    _setting("data.generator", "Nope", "'Nope'", "EmbeddedGenerator", generator=()),
    _setting("data.generator", "my.module.Writer", "'my.module.Writer'", "No module named 'my'", generator=()),
    _setting("data.generator", "5", "got 5", "EmbeddedGenerator", generator=()),
    _config(
        "settings beside class_path",
        "data: {generator: {class_path: EmbeddedGenerator, batch_size: 3}}\n",
        "data.generator: got",
        "init_args",
        generator=(),
    ),
    _overlay(
        "an overlay for another class",
        EMBEDDED,
        "data: {generator: {init_args: {gpu_memory_utilization: 0.5}}}\n",
        f"{ENGINE}gpu_memory_utilization: got 0.5",
        "one of the settings of EmbeddedGenerator: batch_size",
        "data.generator.class_path",
    ),
    _overlay(
        "an overlay whose class misses a setting",
        EMBEDDED,
        "data: {generator: {class_path: OpenAIGenerator, init_args: {model: m}}}\n",
        f"{ENGINE}base_url: got nothing",
        "OpenAIGenerator needs",
    ),
    _engine("EmbeddedGenerator", "form", "poem", "'poem'", "chat or completion"),
    _engine("EmbeddedGenerator", "temperature", -1, "-1", "0 or more"),
    _engine("EmbeddedGenerator", "top_p", 0, "got 0", "above 0, at most 1"),
    _engine("EmbeddedGenerator", "device", "warp", "'warp'", "auto, cpu, cuda"),
    _engine("TransformersGenerator", "model", "", "''", "a hub id or a folder"),
    _engine("OpenAIGenerator", "base_url", "localhost:8000", "'localhost:8000'", "http://localhost:8000/v1"),
    _engine("OpenAIGenerator", "schema", "xml", "'xml'", "off or json_schema"),
    _engine("OpenAIGenerator", "concurrency", 0, "got 0", "1 or more"),
    _engine("OpenAIGenerator", "timeout", float("nan"), "nan", "finite"),
    _engine("OpenAIGenerator", "api_key_env", "sk-Secret", "(not shown)", "never write a key into a config"),
    _engine("VLLMGenerator", "schema", "xml", "'xml'", "off or json"),
    _engine("VLLMGenerator", "lora", "gone", "'gone'", "adapter_config.json"),
    _engine("VLLMGenerator", "gpu_memory_utilization", 90, "90", "at most 1"),
]

TASKS = [
    _task(
        "half a surrogate pair in a demo", lambda t: t["demos"][0].update(premise="a \ud83d"), "line ", "half a surr"
    ),
    _task(
        "a label with a control", lambda t: t["labels"][0].update(name="a\0b"), "labels[0].name", "without invisible"
    ),
    _task("a label of two lines in disguise", lambda t: t["labels"][0].update(name="a\u2028b"), "without invisible"),
    _task("a label after a space of no width", lambda t: t["labels"][0].update(name="\u200ba"), "without invisible"),
    _task("a time as a label", _unquoted("1:30"), "labels[0].name: got 90", QUOTES),
    _task("a date as a label", _unquoted("2024-01-01"), "labels[0].name: got datetime.date(2024, 1, 1)", QUOTES),
    _task("nothing as a label", _unquoted("null"), "labels[0].name: got None", QUOTES),
    _task(
        "a key with a space that cannot be seen",
        _unquoted("'yes'").replace("description: Each", "description\u00a0: Each"),
        "line 2: the key 'description\\xa0' has an invisible space",
    ),
    _task("an alias of nothing", "name: *x\n", "not valid YAML", "undefined alias 'x'"),
    _task("a merge of no mapping", "fields: []\ntarget: {<<: 5}\n", "not valid YAML", "for merging"),
    _task("a list as a key", "? [a]\n: 1\n", "not valid YAML", "unhashable key"),
    _task("an empty task file", "", "task: got None", "a mapping"),
    Bad(
        "a folder as a task file", ["--data.task", "d"], ["data.task: got 'd'", "the path of a task file"], {"d": None}
    ),
    _task("a task file of broken YAML", "fields: [", "not valid YAML", "line 1"),
    _task("a task file in Latin-1", "name: caf\xe9".encode("latin-1"), "byte 9", "save it as UTF-8"),
    _task("a task file nested without end", "name: " + "[" * 2000, "too deeply"),
    _task("an unquoted yes as a label", _unquoted("yes"), "labels[0].name: got True", QUOTES),
    _task("an unquoted 1 as a label", _unquoted("1"), "labels[0].name: got 1", QUOTES),
    _task("a key of a task twice", "name: a\nfields: []\nname: b\n", "line 3", "'name'", "line 1"),
    _task("a key of a task that there is not", lambda t: t.update(label=[]), "label: got []", "one of the keys name"),
    _task("no description", lambda t: t.pop("description"), "description: got None", "the key is missing"),
    _task("no demo of a label", lambda t: t["demos"].pop(), "no demo of 'no'", "at least one demo of each label"),
    _task("one label alone", lambda t: t["labels"].pop(), "labels: got ['yes']", "two or more"),
    _task("a label twice", lambda t: t["labels"][1].update(name="Yes"), "labels[1].name: got 'Yes'", "no other label"),
    _task(
        "a demo with another label",
        lambda t: t["demos"][1].update(verdict="maybe"),
        "demos[1].verdict: got 'maybe'",
        "one of ['yes', 'no']",
    ),
    _task("a demo that is too long", lambda t: t["demos"][0].update(premise="a" * 61), "demos[0].premise", "1 to 60"),
    _task(
        "a template with a field that there is not",
        lambda t: t["student"].update(input="{premise} {clam}"),
        "student.input: got '{premise} {clam}'",
        "each of {claim}, {premise}",
    ),
    _task("a template with code", lambda t: t["student"].update(input="{premise.__class__}"), "student.input: got"),
    _task("NaN as a number", lambda t: t.update(max_sample_tokens=float("nan")), "max_sample_tokens: got nan", "whole"),
    _task("limits that cross", lambda t: t["fields"][0].update(min_chars=70), "fields[0].max_chars: got 60", "70"),
    _task("a check that there is not", lambda t: t.update(checks=["no"]), "checks[0]: got 'no'", "fields_differ"),
    _task(
        "a check of a field that there is not",
        lambda t: t.update(checks=[{"fields_differ": {"first": "premise", "second": "no"}}]),
        "checks[0].fields_differ",
        "no field 'no'",
    ),
    _task("a metric that there is not", lambda t: t.update(metrics=["acuracy"]), "metrics: got 'acuracy'", "accuracy"),
    _task("a metric twice", lambda t: t.update(metrics=["accuracy"] * 2), "metrics[1]: got 'accuracy'", "once"),
    _task("a name that leaves the folder", lambda t: t.update(name="../x"), "name: got '../x'", "letters, digits"),
]

BAD = [*COMMAND_LINE, *CONFIGS, *SETTINGS, *LIGHTNING, *ENGINES, *TASKS]


def lines_of(case: Bad, student: str) -> tuple[int, list[str]]:
    """Exit status and lines on stderr of a case, run in the current folder."""
    case.place(Path.cwd())
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        status = main(case.argv(student))
    return status, stderr.getvalue().splitlines()


def table() -> str:
    """The cases with their lines, as Markdown."""
    rows = ["| input | what stderr gets |", "|---|---|"]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        student = make_tiny_student(Path(folder) / "student")
        for i, case in enumerate(BAD):
            os.chdir(Path(folder))
            Path(str(i)).mkdir()
            os.chdir(str(i))
            _, lines = lines_of(case, student)
            cells = [case.what, "`" + " ".join(lines).replace("`", "'") + "`"]
            rows.append("| " + " | ".join(c.replace("|", "\\|").replace(folder, "") for c in cells) + " |")
        os.chdir(before)
    return "\n".join(rows)


if __name__ == "__main__":
    sys.argv[1:] = []
    print(table())
