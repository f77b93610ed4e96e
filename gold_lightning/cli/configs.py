"""Finds configs: by path, by the name of a shipped one, from a pipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gold_lightning.cli.renamed_keys import RENAMED, rename_argument, rename_settings
from gold_lightning.errors import ConfigError
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.pipes import local_copy, replacement, written
from gold_lightning.inputs.task_files import local_task
from gold_lightning.inputs.yaml_files import load_yaml

__all__ = ["CONFIGS", "SECTIONS", "configs_in", "find_config", "resolve_configs", "resolve_tasks"]

_HERE = Path(__file__).parent.parent
SECTIONS = ("run", "data", "model", "trainer", "feedback", "early_stopping", "checkpoint", "preview", "baselines")
"""Top-level keys of a config."""
CONFIGS = next((p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir()), _HERE / "configs")
"""Folder of the shipped configs."""


def find_config(name: str) -> str:
    """A config by path, or by its name among the shipped ones.

    Raises:
        ConfigError: There is neither.
    """
    if copy := local_copy("--config", name):
        return _of_today(Path(copy), written(copy))
    if (path := Path(expand("--config", name))).is_file():
        return _of_today(path, name)
    if not Path(name).is_absolute() and (CONFIGS / name).is_file():
        return str(CONFIGS / name)
    shipped = sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml"))
    kind = "the path of a file, not of a folder" if path.is_dir() else "the path of a file"
    raise ConfigError("--config", name, f"{kind}, or a shipped config ({', '.join(shipped)})")


def _of_today(path: Path, shown: str) -> str:
    """A config with today's names of settings, and without top-level keys like ``x-...``, which only hold anchors."""
    earlier = "|".join(name.rsplit(".", 1)[1] for name in RENAMED)
    if re.search(rf"""^["']?x-|^ *\{{.*\bx-|\b({earlier})\b""".encode(), path.read_bytes(), re.MULTILINE) is None:
        return str(path)
    config = load_yaml(path, shown)
    if not isinstance(config, dict):
        return str(path)
    renamed = rename_settings(config)
    rest = {key: value for key, value in config.items() if not (isinstance(key, str) and key.startswith("x-"))}
    if not renamed and len(rest) == len(config):
        return str(path)
    return replacement(shown, yaml.dump(rest, Dumper=_NoAliases, sort_keys=False, allow_unicode=True).encode())


class _NoAliases(yaml.SafeDumper):
    """Writes what an alias stands for."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def configs_in(args: Sequence[str]) -> list[str]:
    """Paths of the configs among the arguments."""
    both = [a for i, a in enumerate(args) if (i and args[i - 1] in ("--config", "-c")) or a.startswith("--config=")]
    return [arg.removeprefix("--config=") for arg in both]


def resolve_configs(args: Sequence[str]) -> list[str]:
    """Returns the arguments with each config by the path of its file."""
    done: list[str] = []
    for i, arg in enumerate(args):
        if i and args[i - 1] in ("--config", "-c"):
            done.append(find_config(arg))
        elif arg.startswith("--config="):
            done.append("--config=" + find_config(arg.removeprefix("--config=")))
        else:
            done.append(rename_argument(arg))
    return done


def resolve_tasks(args: Sequence[str]) -> list[str]:
    """Has a copy take the place of a task that is read from a pipe."""
    done: list[str] = []
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if i and args[i - 1] == "--data.task":
            done.append(local_task("data.task", arg) or arg)
        elif flag == "--data.task" and equals:
            done.append(f"{flag}={local_task('data.task', value) or value}")
        else:
            done.append(arg)
    return done
