"""Turns configuration errors from jsonargparse and Lightning into one-line messages."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import yaml

from gold_lightning.errors import ConfigError, GoldError

__all__ = [
    "NOTHING",
    "UserInput",
    "explain_lightning_error",
    "explain_parser_error",
    "gold_cause",
    "look_up",
    "one_line",
]


class _Nothing:
    """Stands for a value that the user did not give."""

    def __repr__(self) -> str:
        return "nothing"


NOTHING = _Nothing()
"""The value of a key that the user did not give."""

_MAX_CHARS = 400  # of another project's message
_QUOTES = "put it in quotes"
_CLASSES = {
    "data.generator": "EmbeddedGenerator, TransformersGenerator, OpenVINOGenerator, VLLMGenerator, OpenAIGenerator",
    "model.loss": "SymmetricCrossEntropy, CrossEntropy, GeneralizedCrossEntropy, LabelSmoothing",
    "feedback.score": "EnergyScore, MaxSoftmaxScore, EntropyScore",
    "feedback.strategy": "energy_band, none, random, energy_top, energy_bottom, loss_top",
    "trainer.logger": "true, false, CSVLogger, TensorBoardLogger, WandbLogger",
}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null"}


def one_line(text: object) -> str:
    """Joins the lines of a text into one of bounded length."""
    line = " ".join(str(text).split())
    return line if len(line) <= _MAX_CHARS else line[: _MAX_CHARS - 3] + "..."


def look_up(value: Any, key: str) -> Any:
    """Returns the value of a dotted key in nested mappings, or ``NOTHING``; ``data.plan: {}`` is a key of two too."""
    parts = key.split(".")
    for n in range(len(parts), 0, -1):
        name, rest = ".".join(parts[:n]), ".".join(parts[n:])
        if isinstance(value, Mapping) and name in value:
            return look_up(value[name], rest) if rest else value[name]
    return NOTHING


@dataclass(frozen=True)
class UserInput:
    """The settings as the user wrote them.

    Args:
        args: The arguments.
        configs: The content of the config files, in their order.
        defaults: Every setting with its default, by dotted key.
    """

    args: Sequence[str] = ()
    configs: Sequence[Mapping[str, Any]] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def value(self, key: str) -> Any:
        """Returns the last value of a key, or ``NOTHING``; arguments override configs."""
        flags = {f"--{key}", f"--{key.replace('.init_args.', '.')}"}
        for i in range(len(self.args) - 1, -1, -1):
            flag, equals, value = self.args[i].partition("=")
            if flag in flags and (equals or i + 1 < len(self.args)):
                return _parse_value(value if equals else self.args[i + 1])
        values = (look_up(config, key) for config in reversed(self.configs))
        return next((value for value in values if value is not NOTHING), NOTHING)

    def siblings(self, key: str) -> tuple[str, list[str]]:
        """Returns the longest existing section of a key, and the keys in that section."""
        parts = key.split(".")
        for n in range(len(parts) - 1, -1, -1):
            section = "".join(f"{part}." for part in parts[:n])
            names = [k.removeprefix(section).split(".")[0] for k in self.defaults if k.startswith(section)]
            if names and names != ["class_path"]:
                return section.rstrip("."), list(dict.fromkeys(names))
        return "", []


def _parse_value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, bool | int | float | list | dict) else text


# jsonargparse. Its messages nest by indentation; what is read from them is the key, the class and the types.

_STEP = re.compile(
    r"""^([ -]*)(?:Parser key "([^"]*)"|Problem with given class_path '([^']*)')[^:\n]*:""", re.MULTILINE
)


def explain_parser_error(error: Exception, user_input: UserInput) -> GoldError:
    """Rewrites a jsonargparse error as one line: the key, the value received, what is allowed.

    Messages that are not recognised are passed on unchanged, joined into one line.

    Args:
        error: The error.
        user_input: The settings as the user wrote them.
    """
    key, class_path, text = _innermost(str(error))
    if names := re.search(r"arguments are required: ([^\s,]+)", text):
        owner = f"{class_path.rsplit('.', 1)[-1]} needs it" if class_path else ""
        return ConfigError(f"{key}.init_args.{names[1]}" if class_path else names[1], NOTHING, "a value", owner)
    if flag := re.search(r"argument (?:-\w/)?--(\S+): expected one argument", text):
        return ConfigError(flag[1], NOTHING, "a value after it")
    if link := re.search(r'Linked "(?P<key>[^"]*)" .* "(?P<by>[^"]*)"|\((?P<by_>[^)]*)\) --> (?P<key_>\S+):', text):
        key = link["key"] or link["key_"]
        return ConfigError(
            key, user_input.value(key), "no value of its own", f"it follows from {link['by'] or link['by_']}"
        )
    if unknown := re.search(r"unrecognized arguments: ([^\s=]+)|(?:Group '([^']*)'.*)?[Oo]ption '([^']*)'", text):
        name = unknown[1] or f"{unknown[2]}.{unknown[3]}".removeprefix("None.")
        return _unknown_key(name, key, class_path, user_input)
    return _wrong_value(key, class_path, text, user_input) if key else GoldError(one_line(text))


def _innermost(text: str) -> tuple[str, str, str]:
    """Returns the innermost key, the class it is about, if any, and what the message says of it."""
    key, class_path, depth = "", "", -1
    for step in _STEP.finditer(text):
        if len(step[1]) <= depth:
            break
        depth = len(step[1])
        if step[3]:
            class_path = step[3]
        elif class_path:
            key, class_path = f"{key}.init_args.{step[2]}", ""
        else:
            key = step[2]
        detail = text[step.end() :]
    if depth < 0:
        return "", "", text
    lines = detail.split("\n")
    end = next((i for i, line in enumerate(lines) if i and line and _is_outside(line, depth)), len(lines))
    return key, class_path, "\n".join(lines[:end])


def _is_outside(line: str, depth: int) -> bool:
    """Returns whether a line belongs to another item than the one whose text begins at column ``depth``."""
    indent = len(line) - len(line.lstrip(" -"))
    return indent < depth or (indent == depth and line.lstrip().startswith("-"))


def _unknown_key(name: str, section: str, class_path: str, user_input: UserInput) -> ConfigError:
    if class_path and name in ("class", "class_path", "init_args"):
        value = user_input.value(section)
        return ConfigError(section, value, "{class_path: NAME, init_args: {...}} and nothing beside")
    if class_path:
        names = _parameters(class_path)
        hint = _nearest(name, names) or f"another class is named by {section}.class_path"
        allowed = f"one of the settings of {class_path.rsplit('.', 1)[-1]}: {', '.join(names)}"
        key = f"{section}.init_args.{name}"
        return ConfigError(key, user_input.value(key), allowed, hint)
    key = name.lstrip("-")
    if key == name and f"--{key}" not in user_input.args and key in user_input.args:
        return ConfigError("argument", key, "--KEY VALUE", "a config is given as --config FILE")
    section, names = user_input.siblings(key)
    allowed = f"one of the keys of {section}: " if section else "one of the keys "
    return ConfigError(key, user_input.value(key), allowed + ", ".join(names), _nearest(key, list(user_input.defaults)))


def _nearest(key: str, keys: Sequence[str]) -> str:
    """Returns a hint that names the most similar key, by its whole name or else by its last part."""
    last_parts = {k.rsplit(".", 1)[-1]: k for k in reversed(keys)}
    if near := difflib.get_close_matches(key, keys, 1, 0.8):
        return f"did you mean {near[0]}?"
    near = difflib.get_close_matches(key.rsplit(".", 1)[-1], last_parts, 1)
    return f"did you mean {last_parts[near[0]]}?" if near else ""


def _parameters(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    try:
        return list(inspect.signature(getattr(import_module(module), name)).parameters)
    except (AttributeError, ImportError, TypeError, ValueError):
        return []


def _wrong_value(key: str, class_path: str, text: str, user_input: UserInput) -> GoldError:
    value = user_input.value(key)
    if value is NOTHING and (quoted := re.search(r"(?:Got|Given) value: ([^\n]*)", text)):
        value = _parse_value(quoted[1])
    if class_path or re.search(r"Import path|import path|subclass|instantiatable class", text):
        reason = re.search(r"No module named .*|module .* has no attribute .*|.*abstract|.* to a subclass of .*", text)
        names = f"{_CLASSES[key]}, or " if key in _CLASSES else ""
        return ConfigError(
            key, value, f"{names}the import path of a class", one_line(reason[0].strip(" -")) if reason else ""
        )
    if "Unable to load config" in text:
        return ConfigError(key, value, "a mapping of keys to values, or the path of a YAML file that holds one")
    choices = [c.strip(" '\"") for group in re.findall(r"Literal\[([^\]]*)\]", text) for c in group.split(",")]
    kinds = [kind.rsplit(".", 1)[-1] for kind in re.findall(r"Expected an? <class '([\w.]+)'>", text)]
    kinds = [_KINDS.get(kind, kind) for kind in kinds if kind != "bool" or "off" not in choices]  # off: YAML's false
    allowed = list(dict.fromkeys(choices + kinds))
    if not allowed:
        return GoldError(one_line(f"{key}: {text}"))
    hint = ""
    if isinstance(value, bool) and (choices or "text" in kinds):
        hint = f"{_QUOTES}: YAML reads yes, no, on and off as true and false"
    elif isinstance(value, int | float) and kinds == ["text"]:
        hint = _QUOTES
    return ConfigError(key, value, " or ".join(filter(None, [", ".join(allowed[:-1]), allowed[-1]])), hint)


# Lightning

_SECTIONS = {"early_stopping": "early_stopping", "model_checkpoint": "checkpoint"}  # by Lightning's module
_KEYS = {
    "accelerator": "accelerator",
    "accelerators": "accelerator",
    "accelerator_connector": "accelerator",
    "strategies": "strategy",
    "timer": "max_time",
    "loggers": "logger",
    "profilers": "profiler",
    "plugins": "plugins",
}


def explain_lightning_error(error: Exception, config: Mapping[str, Any]) -> GoldError | None:
    """Rewrites an error that Lightning raised about one of its settings as one line.

    The key is a setting that the message names, or follows from the module that raised the error.

    Args:
        error: The error, as it was raised.
        config: The settings, as sections ``trainer``, ``early_stopping`` and ``checkpoint``.

    Returns:
        The error, or ``None`` if another package raised it.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = str(traceback.tb_frame.f_globals.get("__name__")).split(".") if traceback is not None else []
    if module[:1] not in (["lightning"], ["jsonargparse"], ["lightning_utilities"]):
        return None
    text = one_line(error)
    section = next((_SECTIONS[part] for part in module if part in _SECTIONS), "trainer")
    settings = config.get(section) or {}
    key = next((word for word in re.findall(r"\w+", text) if word in settings), None)
    if key is None:
        key = next((_KEYS[part] for part in module if part in _KEYS), None)
    if key is None and "Logger" in text:
        key = "logger"
    if key is None:
        return GoldError(f"{section}: {text}")
    value = settings.get(key)
    if isinstance(value, Mapping) and "class_path" in value:  # the name of the class without its settings
        value = value["class_path"]
    return GoldError(f"{section}.{key}: got {value!r}, and Lightning says: {text}")


def gold_cause(error: BaseException | None) -> GoldError | None:
    """Returns the ``GoldError`` that an error of the argument parser wraps, if any."""
    depth = 0
    while error is not None and depth < 20:
        if isinstance(error, GoldError):
            return error
        error, depth = error.__cause__ or error.__context__, depth + 1
    return None
