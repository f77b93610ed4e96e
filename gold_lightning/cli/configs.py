"""Finds and reads configs: by path, by the name of a shipped one, from a pipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from gold_lightning.cli.messages import NOTHING
from gold_lightning.cli.renamed_keys import RENAMED, rename_argument, rename_settings
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.pipes import as_written, local_copy, replacement
from gold_lightning.inputs.task_files import local_task
from gold_lightning.inputs.yaml_files import load_yaml

__all__ = ["CONFIGS", "SECTIONS", "configs_in", "find_config", "read_config", "resolve_configs", "resolve_tasks"]

_HERE = Path(__file__).parent.parent
SECTIONS = (
    *("run", "data", "model", "trainer", "feedback", "calibration", "early_stopping", "checkpoint", "preview"),
    "baselines",
)
"""Top-level keys of a config."""
CONFIGS = next((p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir()), _HERE / "configs")
"""Folder of the shipped configs."""


def find_config(name: str) -> str:
    """Returns the path of a config's file, given that path or the name of a shipped config.

    Raises:
        ConfigError: No such file or shipped config exists.
    """
    if copy := local_copy("--config", name):
        return _current_names(Path(copy), as_written(copy))
    if (path := Path(expand("--config", name))).is_file():
        return _current_names(path, name)
    if not Path(name).is_absolute() and (CONFIGS / name).is_file():
        return str(CONFIGS / name)
    shipped = sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml"))
    kind = "the path of a file, not of a folder" if path.is_dir() else "the path of a file"
    raise ConfigError("--config", name, f"{kind}, or a shipped config ({', '.join(shipped)})")


def _current_names(path: Path, name: str) -> str:
    """Rewrites a config with the current names of settings and without ``x-...`` keys, which only hold anchors."""
    earlier = "|".join(key.rsplit(".", 1)[1] for key in RENAMED)
    if re.search(rf"""^["']?x-|^ *\{{.*\bx-|\b({earlier})\b""".encode(), path.read_bytes(), re.MULTILINE) is None:
        return str(path)
    config = load_yaml(path, name)
    if not isinstance(config, dict):
        return str(path)
    renamed = rename_settings(config)
    rest = {key: value for key, value in config.items() if not (isinstance(key, str) and key.startswith("x-"))}
    if not renamed and len(rest) == len(config):
        return str(path)
    return replacement(name, yaml.dump(rest, Dumper=_NoAliases, sort_keys=False, allow_unicode=True).encode())


class _NoAliases(yaml.SafeDumper):
    """Writes the values of aliases in their place."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def read_config(path: Path, sections: Iterable[str]) -> dict[str, Any]:
    """Reads a config and checks its form, before the parser checks its settings.

    Args:
        path: The file.
        sections: Top-level keys that hold further keys.

    Raises:
        GoldError: The file is not a YAML mapping, a key is duplicate or not text, or a section is not a mapping.
    """
    name = as_written(str(path))
    config = load_yaml(path, name)
    if isinstance(config, dict) and {"fields", "target", "demos"} <= config.keys():
        raise ConfigError("--config", name, "a config, and this is a task file", f"--data.task {name}")
    if not isinstance(config, dict) or not config:
        raise ConfigError(f"--config {name}", config or NOTHING, "a mapping of settings, as data: {batch_size: 8}")
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


def _check_keys(value: object, section: str) -> None:
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_keys(item, f"{section}[{i}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            name = f"{section}.{key}" if section else str(key)
            if not isinstance(key, str):
                why = ": YAML reads yes, no, on and off as true and false" if isinstance(key, bool) else ""
                raise ConfigError(name, key, "text as the key", f"put it in quotes{why}")
            _check_keys(item, name)


def configs_in(args: Sequence[str]) -> list[str]:
    """Returns the paths of the configs among the arguments."""
    paths = [a for i, a in enumerate(args) if (i and args[i - 1] in ("--config", "-c")) or a.startswith("--config=")]
    return [arg.removeprefix("--config=") for arg in paths]


def resolve_configs(args: Sequence[str]) -> list[str]:
    """Replaces each config among the arguments by the path of its file."""
    resolved: list[str] = []
    for i, arg in enumerate(args):
        if i and args[i - 1] in ("--config", "-c"):
            resolved.append(find_config(arg))
        elif arg.startswith("--config="):
            resolved.append("--config=" + find_config(arg.removeprefix("--config=")))
        else:
            resolved.append(rename_argument(arg))
    return resolved


def resolve_tasks(args: Sequence[str]) -> list[str]:
    """Replaces a task that is read from a pipe by the path of a copy."""
    resolved: list[str] = []
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if i and args[i - 1] == "--data.task":
            resolved.append(local_task("data.task", arg) or arg)
        elif flag == "--data.task" and equals:
            resolved.append(f"{flag}={local_task('data.task', value) or value}")
        else:
            resolved.append(arg)
    return resolved
