"""Reads experiment files: arms that differ in a setting, and the seeds and configs that they share."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.paths import folder_for
from gold_lightning.inputs.yaml_files import load_yaml

__all__ = ["Experiment", "folder_name", "load_experiment"]


@dataclass(frozen=True)
class Experiment:
    """A comparison of arms over seeds.

    Args:
        name: Name of the experiment, also of its folder.
        base: Configs of all runs, as ``--config`` takes them.
        arms: Settings of each arm by its name, with keys as on the command line. The others are compared with the
            first arm.
        seeds: Seeds, 0 or more; each arm has one run for each seed.
        set: Settings of all arms.
        question: Question that the experiment answers, in a sentence; "" for none.
        metric: Name of one of the task's metrics; "" for the first.
        checkpoint: Checkpoint of the student that is tested. ``last`` is trained on the samples of all rounds, the
            same number in each arm; ``best`` is chosen by the probe set, which differs between arms.
        root: Folder of all experiments.

    Raises:
        ConfigError: A value is not allowed.
    """

    name: str
    base: tuple[str, ...]
    arms: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    set: Mapping[str, Any] = field(default_factory=dict)
    question: str = ""
    metric: str = ""
    checkpoint: Literal["last", "best"] = "last"
    root: str = "runs/experiments"

    def __post_init__(self) -> None:
        if folder_name(self.name) != self.name:
            raise ConfigError("name", self.name, "a folder's name of letters, digits, _, - and .")
        if not self.base:
            raise ConfigError("base", [], "one config or more")
        if len(self.arms) < 2:
            raise ConfigError("arms", list(self.arms), "two arms or more, in arms or in grid")
        slugs = [folder_name(name) for name in self.arms]
        for i, (name, slug) in enumerate(zip(self.arms, slugs, strict=True)):
            if slug in slugs[:i] or not slug:
                raise ConfigError("arms", name, "names that differ in letters and digits")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError("seeds", list(self.seeds), "one seed or more, each once")
        if self.checkpoint not in get_args(Literal["last", "best"]):
            raise ConfigError("checkpoint", self.checkpoint, "last or best")
        for at, settings in [("set", self.set), *((f"arms.{name}", arm) for name, arm in self.arms.items())]:
            for key in settings:
                if key in ("seed_everything", "config", "ckpt_path") or key.startswith("run."):
                    raise ConfigError(f"{at}.{key}", settings[key], "a setting that the experiment does not set itself")

    @property
    def folder(self) -> Path:
        """Folder of the experiment's runs, results and figures."""
        return folder_for("root", self.root) / self.name


def load_experiment(path: Path) -> Experiment:
    """Reads an experiment file.

    Args:
        path: YAML file.

    Raises:
        GoldError: A key or value in the file is wrong; the message names file and key.
    """
    raw = load_yaml(path)
    try:
        return _read(raw)
    except ConfigError as e:
        raise GoldError(f"{path}: {e}") from None


def _read(raw: object) -> Experiment:
    known = ("name", "question", "base", "set", "arms", "grid", "seeds", "metric", "checkpoint", "root")
    settings = _mapping(raw, "the experiment")
    for key in settings:
        if key not in known:
            raise ConfigError(key, settings[key], f"one of the keys {', '.join(known)}")
    if "name" not in settings or "base" not in settings:
        missing = "name" if "name" not in settings else "base"
        raise ConfigError(
            missing, None, "text" if missing == "name" else "a config or a list of them; the key is missing"
        )
    base = settings["base"] if isinstance(settings["base"], list) else [settings["base"]]
    seeds = settings.get("seeds", [1, 2, 3, 4, 5])
    text_keys = ("name", "question", "metric", "checkpoint", "root")
    texts: dict[str, Any] = {key: settings[key] for key in text_keys if key in settings}
    for key, value in [*texts.items(), *((f"base[{i}]", b) for i, b in enumerate(base))]:
        if not isinstance(value, str):
            raise ConfigError(key, value, "text", "put it in quotes")
    if not isinstance(seeds, list) or not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds):
        raise ConfigError("seeds", seeds, "a list of whole numbers, 0 or more")
    arms = {
        name: _mapping({} if arm is None else arm, f"arms.{name}")
        for name, arm in _mapping(settings.get("arms", {}), "arms").items()
    }
    grid = _mapping(settings.get("grid", {}), "grid")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"grid.{key}", values, "a list of values")
    if grid:
        arms = _combine(arms, grid)
    return Experiment(
        base=tuple(base), arms=arms, seeds=tuple(seeds), set=_mapping(settings.get("set", {}), "set"), **texts
    )


def _mapping(value: object, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(key, value, "a mapping of keys to values")
    for name in value:
        if not isinstance(name, str):
            raise ConfigError(key, name, "names that are text", "put it in quotes")
    return value


def _combine(arms: Mapping[str, Mapping[str, Any]], grid: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Combines each arm with each point of the grid; without arms, returns the points."""
    combined: dict[str, dict[str, Any]] = {}
    for name, arm in (arms or {"": {}}).items():
        for point in itertools.product(*grid.values()):
            values = dict(zip(grid, point, strict=True))
            title = ", ".join(f"{key.rsplit('.', 1)[-1]} {_describe(value)}" for key, value in values.items())
            combined[f"{name}, {title}" if name else title] = {**arm, **values}
    return combined


def _describe(value: Any) -> str:
    """Returns a setting as text; a class as its name and arguments."""
    if isinstance(value, dict) and "class_path" in value:
        arguments = "".join(f" {k} {v}" for k, v in value.get("init_args", {}).items())
        return str(value["class_path"]).rsplit(".", 1)[-1] + arguments
    return str(value)


def folder_name(text: str) -> str:
    """Replaces all characters of a text that are not letters, digits, ``_``, ``.`` or ``-``, for a folder's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.")
