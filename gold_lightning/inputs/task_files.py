"""Finds task files: by path, by the name of a shipped task, or from a pipe."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml

from gold_lightning.errors import ConfigError
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.pipes import as_written, is_copy, local_copy
from gold_lightning.inputs.yaml_files import StrictLoader

__all__ = ["find_task_file", "local_task", "name_of", "shipped_tasks"]


def shipped_tasks() -> dict[str, Path]:
    """Returns the files of the tasks in the package by name, in alphabetical order."""
    folder = Path(str(resources.files("gold_lightning"))) / "tasks"
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def find_task_file(name_or_path: str, key: str = "data.task") -> Path:
    """Finds a task file by path, or by the name of a shipped task.

    Args:
        name_or_path: The path or name, as the user wrote it; ``-`` is standard input.
        key: The setting, for messages.

    Raises:
        ConfigError: Neither a file nor a shipped task has that name.
    """
    if copy := local_task(key, name_or_path):
        return Path(copy)
    path, known = Path(expand(key, name_or_path)), shipped_tasks()
    if path.is_file():
        return path
    if name_or_path not in known:
        raise ConfigError(key, name_or_path, f"the path of a task file, or a shipped task ({', '.join(known)})")
    return known[name_or_path]


def name_of(path: Path, name_or_path: str) -> str:
    """Returns the name of a task file for messages: the path as the user wrote it, if the user gave one.

    Args:
        path: The file, as :func:`find_task_file` returned it.
        name_or_path: The argument of :func:`find_task_file`.
    """
    if is_copy(str(path)):
        return as_written(str(path))
    return name_or_path if path == Path(expand("data.task", name_or_path)) else str(path)


def local_task(key: str, path: str) -> str | None:
    """Copies a task from a pipe, and returns the path of the copy; ``None`` if the path is not a pipe.

    Raises:
        ConfigError: The pipe cannot be read, or another setting has read it.
    """
    return local_copy(key, path, _with_absolute_paths)


def _with_absolute_paths(content: bytes) -> bytes:
    """Makes a task's paths, which are relative to the working folder, absolute, since the copy is in another folder."""
    try:
        raw = yaml.load(content.decode("utf-8"), StrictLoader)
    except (ValueError, RecursionError, yaml.YAMLError):  # reported when the copy is read as a task
        return content
    changed = False
    for section in ("test", "validation"):
        values = raw.get(section) if isinstance(raw, dict) else None
        if not isinstance(values, dict):
            continue
        name = values.get("file")
        if isinstance(name, str) and name and not name.startswith("~") and not Path(name).is_absolute():
            values["file"] = str(Path(name).absolute())
            changed = True
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True).encode() if changed else content
