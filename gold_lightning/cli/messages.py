"""Says in one line of ours what is wrong with a setting, whoever found it: this program, jsonargparse or Lightning.

A line names the key, the value received, what is allowed, and what to do where that is not plain.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.pipes import written
from gold_lightning.inputs.yaml_files import load_yaml

__all__ = ["Given", "check_contradictions", "of_lightning", "of_parser", "read_config"]


class _Nothing:
    """Stands where nothing was given."""

    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()
_LONGEST = 400  # characters of what somebody else says
_CLASSES = {
    "data.generator": "EmbeddedGenerator, TransformersGenerator, VLLMGenerator, OpenAIGenerator",
    "model.loss": "SymmetricCrossEntropy, CrossEntropy, GeneralizedCrossEntropy, LabelSmoothing",
    "feedback.score": "EnergyScore, MaxSoftmaxScore, EntropyScore",
    "trainer.logger": "true, false, CSVLogger, TensorBoardLogger, WandbLogger, another of lightning.pytorch.loggers",
    "trainer.callbacks": "a list of classes of lightning.pytorch.callbacks",
    "trainer.plugins": "a class of lightning.pytorch.plugins",
    "trainer.profiler": "simple, advanced, pytorch, a class of lightning.pytorch.profilers",
    "trainer.strategy": "the name of a strategy, a class of lightning.pytorch.strategies",
}
# The end of what is said about a class that may be left out: that the value is not null either.
_NO_NULL = re.compile(r"\n\s*- Expected a <class 'NoneType'>\n\s*Given value type: [^\n]*\n\s*Given value: [^\n]*\Z")
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
_KINDS |= {"NoneType": "null", "list": "a list", "dict": "a mapping"}


def one_line(text: object) -> str:
    """A text of any form as one line of bounded length."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


# What was given


def read_config(path: Path, sections: Iterable[str]) -> dict[str, Any]:
    """Reads a config as far as it can be judged without knowing what its settings mean.

    Args:
        path: The file.
        sections: Keys at its top that hold further keys.

    Raises:
        GoldError: It is no mapping of YAML, a key stands twice or is no text, or a section is none.
    """
    name = written(str(path))
    config = load_yaml(path, name)
    if isinstance(config, dict) and {"fields", "target", "demos"} <= config.keys():
        raise ConfigError("--config", name, "a config, and this is a task file", f"--data.task {name}")
    if not isinstance(config, dict) or not config:
        raise ConfigError(f"--config {name}", config or _NOTHING, "a mapping of settings, as data: {batch_size: 8}")
    try:
        _check_keys(config, "")
        for key in sections:
            value = config.get(key, "")
            if not isinstance(value, dict | str):
                hint = "leave the section out for the defaults" if value is None else ""
                raise ConfigError(key, value, "a mapping of keys to values", hint)
    except ConfigError as e:
        raise GoldError(f"{name}: {e}") from None
    return config


def _check_keys(value: object, at: str) -> None:
    if isinstance(value, list):
        for i, part in enumerate(value):
            _check_keys(part, f"{at}[{i}]")
    elif isinstance(value, dict):
        for key, part in value.items():
            name = f"{at}.{key}" if at else str(key)
            if not isinstance(key, str):
                hint = "put it in quotes: YAML reads yes, no, on and off as true and false"
                raise ConfigError(name, key, "text as the key", hint if isinstance(key, bool) else "put it in quotes")
            _check_keys(part, name)


@dataclass(frozen=True)
class Given:
    """What the user wrote.

    Args:
        args: The arguments.
        configs: The content of the config files, in their order.
        defaults: All settings with their defaults, by dotted key.
    """

    args: Sequence[str] = ()
    configs: Sequence[Mapping[str, Any]] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def value(self, key: str) -> Any:
        """What was given for a key, or ``_NOTHING``; an argument comes before configs, the last one first."""
        flags = {f"--{key}", f"--{key.replace('.init_args.', '.')}"}
        for i in range(len(self.args) - 1, -1, -1):
            flag, equals, value = self.args[i].partition("=")
            if flag in flags and (equals or i + 1 < len(self.args)):
                return _read(value if equals else self.args[i + 1])
        for config in reversed(self.configs):
            if (found := _look(config, key.split("."))) is not _NOTHING:
                return found
        return _NOTHING

    def keys_beside(self, key: str) -> tuple[str, list[str]]:
        """The longest section around a key that there is, and the keys in it."""
        parts = key.split(".")
        for n in range(len(parts) - 1, -1, -1):
            section = "".join(f"{part}." for part in parts[:n])
            beside = [k.removeprefix(section).split(".")[0] for k in self.defaults if k.startswith(section)]
            if beside and beside != ["class_path"]:
                return section.rstrip("."), list(dict.fromkeys(beside))
        return "", []


def _read(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, bool | int | float | list | dict) else text


def _look(value: Any, parts: Sequence[str]) -> Any:
    for n in range(len(parts), 0, -1):  # data.plan: {...} is data: {plan: {...}} too
        name = ".".join(parts[:n])
        if isinstance(value, Mapping) and name in value:
            return value[name] if n == len(parts) else _look(value[name], parts[n:])
    return _NOTHING


def _refuse(given: Given, key: str, allowed: str, hint: str = "", told: Any = _NOTHING) -> ConfigError:
    """An error with the value that was given, or that somebody else told."""
    found = given.value(key)
    return ConfigError(key, told if found is _NOTHING else found, allowed, hint)


# jsonargparse


def of_parser(error: Exception, given: Given) -> GoldError:
    """What jsonargparse says, in one line of ours.

    Its messages are its own affair: one that is not understood stays as it is, in one line.

    Args:
        error: Its error.
        given: What the user wrote.
    """
    key, class_path, rest = "", "", str(error)
    while True:
        if match := re.match(r'[\s-]*Parser key "([^"]*)"[^:\n]*:\s*', rest):
            key = f"{key}.{match[1]}" if key else match[1]
        elif match := re.match(r"[\s-]*Problem with given class_path '([^']*)':\s*", rest):
            key, class_path = f"{key}.init_args", match[1]
        elif match := re.match(r"[\s-]*Expected a path but .*? either not accessible or invalid\s*", rest, re.DOTALL):
            pass
        elif match := re.match(r"\s*Does not validate against.*?(?=Problem with given class_path)", rest, re.DOTALL):
            rest = _NO_NULL.sub("", rest)
        else:
            break
        rest = rest[match.end() :]
    key = key.removesuffix(".init_args") if "is not accepted" not in rest and "are required" not in rest else key
    return (
        _unknown(rest, key, class_path, given)
        or _missing(rest, key, class_path)
        or _linked(rest, given)
        or _wrong_type(rest, key, given)
        or GoldError(one_line(f"{key}: {rest}" if key else rest))
    )


def _unknown(text: str, key: str, class_path: str, given: Given) -> GoldError | None:
    """A key that there is not."""
    if (match := re.search(r"Option '([^']*)' is not accepted", text)) and key:
        own = match[1]
        if own in ("class", "class_path", "init_args") or not class_path:
            whole = key.removesuffix(".init_args")
            return _refuse(given, whole, "{class_path: NAME, init_args: {...}} and nothing beside")
        allowed = f"one of the settings of {class_path.rsplit('.', 1)[-1]}: {', '.join(_settings_of(class_path))}"
        whole = key.removesuffix(".init_args")
        return _refuse(given, f"{key}.{own}", allowed, f"another class is named by {whole}.class_path")
    told: Any = _NOTHING
    if match:  # so it is told of a key at the top, with --print_config
        key = match[1]
    elif match := re.match(r"unrecognized arguments: (.*)", text, re.DOTALL):
        key, _, value = match[1].split()[0].partition("=")
        if not key.startswith("-"):
            return ConfigError("argument", key, "--KEY VALUE", "a config is given as --config FILE")
        told = value or " ".join(match[1].split()[1:2]) or _NOTHING
    elif match := re.match(r"(?:Subcommand '[^']*'|Group '([^']*)') does not accept option '([^']*)'", text):
        key, told = f"{match[1]}.{match[2]}" if match[1] else match[2], _NOTHING
    else:
        return None
    key = key.lstrip("-")
    section, beside = given.keys_beside(key)
    near = difflib.get_close_matches(key, given.defaults, 1, 0.8)
    near = near or difflib.get_close_matches(key.rsplit(".", 1)[-1], [k.rsplit(".", 1)[-1] for k in given.defaults], 1)
    if near and "." not in near[0]:
        near = [k for k in given.defaults if k.rsplit(".", 1)[-1] == near[0]][:1]
    where = f"one of the keys of {section}: " if section else "one of the keys "
    return _refuse(given, key, where + ", ".join(beside), f"did you mean {near[0]}?" if near else "", told)


def _settings_of(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    try:
        return [p for p in inspect.signature(getattr(import_module(module), name)).parameters if p != "self"]
    except (AttributeError, ImportError, TypeError, ValueError):
        return []


def _missing(text: str, key: str, class_path: str) -> GoldError | None:
    """A setting that must be given, or a value that is not there."""
    if match := re.match(r"the following arguments are required: ([^\n]*)", text):
        names = [f"{key}.{name.strip()}" if class_path else name.strip() for name in match[1].split(",")]
        what = class_path.rsplit(".", 1)[-1]
        return ConfigError(names[0], _NOTHING, f"a value, which {what} needs" if what else "a value")
    if match := re.match(r"argument (?:-\w/)?--(\S+): expected one argument", text):
        return ConfigError(match[1], _NOTHING, "a value after it")
    if match := re.match(r'expected "subcommand" to be one of \{(.*)\}', text):
        return ConfigError("subcommand", _NOTHING, f"one of {', '.join([*match[1].split(','), 'tasks'])}")
    if match := re.match(r"argument subcommand: invalid choice: '([^']*)' \(choose from (.*)\)", text):
        names = [*re.findall(r"[\w-]+", match[2]), "tasks", "experiment", "report"]
        return ConfigError("subcommand", match[1], f"one of {', '.join(names)}")
    return None


def _linked(text: str, given: Given) -> GoldError | None:
    """A setting that follows from others."""
    if match := re.match(r'Linked "([^"]*)" must be given via "([^"]*)"', text):
        return _refuse(given, match[1], "no value of its own", f"it follows from {match[2]}")
    if match := re.match(r"argument \w+\(([^)]*)\) --> (\S+): invalid", text):
        return _refuse(given, match[2], "no value of its own", f"it follows from {match[1]}")
    return None


def _wrong_type(text: str, key: str, given: Given) -> GoldError | None:
    """A value that is none of its setting's."""
    if not key:
        return None
    told: Any = _NOTHING
    if match := re.search(r"(?:Got value|Given value): (.*?)\s*(?:Subclass types expect|$)", text, re.DOTALL):
        told = _read(match[1])
    section = key.removesuffix(".init_args")
    if section in _CLASSES and not re.match(r"Expected an? (?:<|typing)", text):
        allowed = f"{_CLASSES[section]}, or the import path of a class of yours"
        reason = re.search(r"No module named .*|module .* has no attribute .*|.*is abstract|.*not correspond.*", text)
        return _refuse(given, section, allowed, one_line(reason[0].strip(" -")) if reason else "", told)
    if match := re.match(r"Unable to load config '?([^'\n]*)", text):
        return _refuse(given, key, "a mapping of keys to values, or the path of a YAML file that holds one")
    choices = [c for found in re.findall(r"Literal\[([^\]]*)\]", text) for c in re.split(r",\s*", found)]
    kinds = re.findall(r"Expected an? <class '([\w.]+)'>", text)
    names = [_KINDS.get(kind, kind.rsplit(".", 1)[-1]) for kind in kinds]
    shown = list(dict.fromkeys([c.strip("'\"") for c in choices] + names))
    if "off" in shown:  # false stands for it, as YAML reads it
        shown = [name for name in shown if name != "true or false"]
    if not shown:
        if not (match := re.search(r"Import path (\S+)|Expected a dot import path string: (\S+)|module named", text)):
            return None
        return _refuse(given, key, "a class that there is", one_line(text), told)
    allowed = shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " or " + shown[-1]
    value = given.value(key)
    wanted = told if value is _NOTHING else value
    hint = ""
    if isinstance(wanted, bool) and (names == ["text"] or choices):
        hint = "put it in quotes: YAML reads yes, no, on and off as true and false"
    elif names == ["text"] and isinstance(wanted, int | float):
        hint = "put it in quotes"
    elif isinstance(wanted, str) and wanted.lower() in ("nan", "inf", "-inf") and "a number" in names:
        hint = "it must be finite"
    return _refuse(given, key, allowed, hint, told)


# Lightning


_PLACES = {"early_stopping": "early_stopping", "model_checkpoint": "checkpoint"}
_BLAMED = {
    "accelerator": "accelerator",
    "accelerators": "accelerator",
    "accelerator_connector": "accelerator",
    "strategies": "strategy",
    "timer": "max_time",
    "loggers": "logger",
    "profilers": "profiler",
    "plugins": "plugins",
}


def of_lightning(error: Exception, config: Mapping[str, Any]) -> GoldError | None:
    """What Lightning says of its own settings, in one line; ``None`` where the error is somebody else's.

    Args:
        error: The error, as it was raised.
        config: The settings, as sections ``trainer``, ``early_stopping`` and ``checkpoint``.
    """
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    parts = str(at.tb_frame.f_globals.get("__name__")).split(".") if at is not None else []
    if parts[:1] not in (["lightning"], ["jsonargparse"], ["lightning_utilities"]):
        return None
    text = one_line(error)
    section = next((_PLACES[part] for part in parts if part in _PLACES), "trainer")
    settings = config.get(section) or {}
    key = next((word for word in re.findall(r"\w+", text) if word in settings), None)
    if key is None:
        key = next((_BLAMED[part] for part in parts if part in _BLAMED), None)
    if key is None and "Logger" in text:
        key = "logger"
    if key is None:
        return GoldError(f"{section}: {text}")
    text = re.sub(r"^Does not validate against.*?(?=Problem with given class_path)", "", text)
    return GoldError(f"{section}.{key}: got {_plain(settings.get(key))!r}, and Lightning says: {text}")


def _plain(value: Any) -> Any:
    """A value as a user wrote it: the name of a class, in place of all that belongs to it."""
    return value["class_path"] if isinstance(value, Mapping) and "class_path" in value else value


# Contradictions


def _is(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: any(value == a and isinstance(value, bool) == isinstance(a, bool) for a in allowed)


def _is_not(*refused: Any) -> Callable[[Any], bool]:
    return lambda value: value is None or not _is(*refused)(value)


def _least(low: float) -> Callable[[Any], bool]:
    return lambda value: value is None or value >= low


def _is_whole(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value == 1.0)  # 1 would be a single batch


# Settings of Lightning's that would break a round, or leave a run without what it is to leave.
_RULES: Sequence[tuple[str, Callable[[Any], bool], str, str]] = (
    ("trainer.reload_dataloaders_every_n_epochs", _is(1), "1", "each round has samples of its own"),
    ("trainer.num_sanity_val_steps", _is(0), "0", "there is no probe set before the first round"),
    ("trainer.check_val_every_n_epoch", _is(1), "1", "each round ends with its probe set"),
    ("trainer.val_check_interval", _is(None, 1.0), "1.0 or null", "each round ends with its probe set"),
    ("trainer.limit_val_batches", _is_whole, "1.0 or null", "each round scores all of its probe set"),
    ("trainer.limit_train_batches", _is_not(0, 0.0), "more than 0", "each round trains"),
    ("trainer.overfit_batches", _is(0, 0.0), "0", "a probe set is never trained on"),
    ("trainer.fast_dev_run", _is(False, 0), "false", "for one tiny round: --config overlays/debug.yaml"),
    ("trainer.barebones", _is(False), "false", "a run goes on from its checkpoints"),
    ("trainer.enable_checkpointing", _is(None, True), "true or null", "a run goes on from its checkpoints"),
    ("trainer.max_steps", _is(-1), "-1", "it would end within a round; trainer.max_epochs counts rounds"),
    ("trainer.max_time", _is(None), "null", "it would end within a round; use data.budget.max_seconds"),
    ("trainer.gradient_clip_val", _least(0), "0 or more, or null", ""),
    ("trainer.accumulate_grad_batches", _least(1), "1 or more", ""),
    ("early_stopping.patience", _least(1), "1 or more", "it counts rounds without a better one"),
    ("checkpoint.filename", _is("best"), "best", "it is where the best student is looked for"),
    ("checkpoint.save_top_k", _is(1), "1", "the best round is kept, and the last one beside it"),
    ("checkpoint.save_last", _is(None, False), "null", "the last round is always kept"),
    ("checkpoint.enable_version_counter", _is(False), "false", "best.ckpt is where the best student is looked for"),
    ("checkpoint.every_n_train_steps", _is(None, 0), "null", "checkpoints are made when a round ends"),
    ("checkpoint.train_time_interval", _is(None), "null", "checkpoints are made when a round ends"),
)


def check_contradictions(config: Mapping[str, Any], logged: Sequence[str]) -> None:
    """Refuses settings of Lightning's that contradict what a round is.

    Args:
        config: The settings.
        logged: Names of what a round logs, which ``monitor`` may watch. Callbacks of the user's may log more.

    Raises:
        ConfigError: There is one.
    """
    for key, fits, allowed, hint in _RULES:
        value = _look(config, key.split("."))
        if value is not _NOTHING and not fits(value):
            raise ConfigError(key, value, allowed, hint)
    for section in ("early_stopping", "checkpoint"):
        name = config[section]["monitor"]
        if name is not None and name not in logged and not config["trainer"].get("callbacks"):
            raise ConfigError(f"{section}.monitor", name, f"one of {', '.join(logged)}")
