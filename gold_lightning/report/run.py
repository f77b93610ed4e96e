"""Reads a run folder for its report. Nothing is written, and parts that do not exist yet are empty."""

from __future__ import annotations

import math
import sys
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from gold_lightning.budget import Budget, Usage
from gold_lightning.errors import GoldError
from gold_lightning.inputs.yaml_files import parse_own_yaml
from gold_lightning.storage.completions import usage_in
from gold_lightning.storage.json_lines import read_lines, rows_at, whole_rows
from gold_lightning.storage.lazy import Chained, Mapped
from gold_lightning.storage.round_store import BatchRecord, Kind, RoundStore, StoredSample
from gold_lightning.storage.run_folder import RunFolder, rounds_in
from gold_lightning.t5.folder import load_calibration
from gold_lightning.validation import described

__all__ = ["KINDS", "PHASES", "Round", "Run", "read_run"]

KINDS: tuple[Kind, ...] = ("train", "probe")
"""Kinds of samples, in the order in which a round generates them."""

PHASES = ("generation", "training", "scoring")
"""Phases of a round whose seconds are measured."""


@dataclass(frozen=True)
class Round:
    """A round of a run, finished or not.

    Args:
        number: Number of the round, from 0.
        row: Line of the round in ``rounds.jsonl``; empty for an unfinished round.
        samples: Accepted samples by kind.
        batches: Committed batches by kind.
        rejects: Rows of ``rejects.jsonl``.
        energies: Energy of each scored sample by kind and id; empty if the run did not store them.
        fed_back: Ids of the probe samples that the round fed back.
    """

    number: int
    row: Mapping[str, Any]
    samples: Mapping[Kind, Sequence[StoredSample]]
    batches: Mapping[Kind, Sequence[BatchRecord]]
    rejects: Sequence[Mapping[str, Any]]
    energies: Mapping[Kind, Mapping[str, float]]
    fed_back: frozenset[str]

    @property
    def whole(self) -> bool:
        """Whether the round is finished: the student was trained on it and its probe set was scored."""
        return bool(self.row)

    @property
    def validated_on(self) -> str:
        """Description of the rows behind the validation metrics, such as ``32 labelled rows``."""
        counts = self.row.get("validated_on")
        if isinstance(counts, dict) and all(isinstance(counts.get(key), int) for key in ("rows", "probe_sets")):
            return described(counts)
        # Older runs did not write it down: each round was scored on its own probe set.
        return described({"rows": len(self.samples["probe"]), "probe_sets": 1})

    @property
    def phases(self) -> dict[str, float]:
        """Seconds by phase; 0 for an unfinished round."""
        seconds = self.row.get("seconds", {})
        return {name: float(seconds.get(name, 0.0)) for name in PHASES}

    def requested(self, *kinds: Kind) -> int:
        """Returns the number of requests for samples of these kinds."""
        return sum(b.requested for kind in kinds for b in self.batches[kind])

    def reasons(self, *kinds: Kind) -> Counter[str]:
        """Returns the number of rejects of these kinds by reason."""
        return sum((Counter(b.rejects) for kind in kinds for b in self.batches[kind]), Counter())

    def cut(self, *kinds: Kind) -> int:
        """Returns the number of accepted samples of these kinds whose text is cut at the end of a sentence."""
        return sum(b.cut for kind in kinds for b in self.batches[kind])

    def thinking(self, *kinds: Kind) -> tuple[int, int]:
        """Returns the number of completions of these kinds after thinking, and the tokens of it that are counted."""
        batches = [b for kind in kinds for b in self.batches[kind]]
        return sum(b.thought for b in batches), sum(b.thinking_tokens for b in batches)

    def metrics(self) -> dict[str, float]:
        """Returns the validation metrics by name, without the loss and the copy of the watched metric."""
        logged = self.row.get("metrics", {})
        named = {k.removeprefix("val/"): v for k, v in logged.items() if k.startswith("val/")}
        return {k: v for k, v in named.items() if k not in ("loss", "metric") and _is_number(v)}


@dataclass(frozen=True)
class Run:
    """The content of a run folder.

    Args:
        folder: The run folder.
        rounds: Rounds in order; the last one may be unfinished.
        config: Resolved config; empty if the folder has none.
        results: Summary written by ``test``; empty before it.
        baselines: Summary written by ``baselines``; empty before it.
        overlap: Overlap with the test set as counted by ``test``; empty before it.
        spent: Calls and tokens of all rounds.
        versions: Versions of the packages that the run used, by name.
        calibration: The student's calibration; empty if it has none.
    """

    folder: Path
    rounds: Sequence[Round]
    config: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, Any] = field(default_factory=dict)
    overlap: Mapping[str, Any] = field(default_factory=dict)
    spent: Usage = field(default_factory=Usage)
    versions: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)

    def samples(self, kind: Kind) -> Sequence[StoredSample]:
        """Returns the accepted samples of all rounds, which are read when they are needed."""
        return Chained([r.samples[kind] for r in self.rounds])

    @property
    def task(self) -> str:
        """Name of the task, which names the folder above the run folder."""
        return self.folder.absolute().parent.name

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.folder.absolute().name

    @property
    def whole(self) -> list[Round]:
        """The finished rounds."""
        return [r for r in self.rounds if r.whole]

    @property
    def best(self) -> Round | None:
        """The best finished round by the run's own comparison; in older runs the last one with the highest metric."""
        if not self.whole:
            return None
        selection = self.whole[-1].row.get("selection")
        number = selection.get("best") if isinstance(selection, dict) else None
        if selected := next((r for r in self.whole if r.number == number), None):
            return selected
        scored = [(next(iter(r.metrics().values())), r.number, r) for r in self.whole if r.metrics()]
        return max(scored, key=lambda s: s[:2])[2] if scored else None

    @property
    def unfinished(self) -> Round | None:
        """The round that was begun and is not finished; ``None`` if there is none."""
        return next((r for r in self.rounds if not r.whole), None)

    @property
    def seconds(self) -> float:
        """Seconds of all phases of finished rounds, and of the generation of an unfinished one."""
        finished = sum(sum(r.phases.values()) for r in self.whole)
        batches = [b for kind in self.unfinished.batches.values() for b in kind] if self.unfinished else []
        measured = finished + sum(b.seconds for b in batches)
        stored = _first_row(RunFolder(self.folder).seconds).get("seconds", 0.0)  # includes killed sittings
        return max(measured, stored) if _is_number(stored) else measured

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of a classification in the order in which they were requested; none for other tasks."""
        targets = dict.fromkeys(g["label"] for g in self._groups if isinstance(g.get("label"), str))
        return tuple(dict.fromkeys(label for target in targets for label in self.labels_of(target)))

    @property
    def many(self) -> bool:
        """Whether samples have several labels or none."""
        return bool(self.sets)

    @cached_property
    def sets(self) -> dict[str, tuple[str, ...]]:
        """The labels of each requested set by its text; empty if samples have one label."""
        return {str(g["label"]): tuple(g["labels"]) for g in self._groups if isinstance(g.get("labels"), list)}

    def labels_of(self, target: str) -> tuple[str, ...]:
        """Returns the labels of a sample's target; for a set without labels its text, as if it were one."""
        return self.sets.get(target) or (target,)

    @property
    def _groups(self) -> list[Mapping[str, Any]]:
        return [g for r in self.rounds for kind in r.batches.values() for b in kind for g in b.groups]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of a sample's fields."""
        first = next((s for r in self.rounds for kind in r.samples.values() for s in kind), None)
        return () if first is None else tuple(first.sample.fields)

    @property
    def budget(self) -> Budget:
        """The run's budget; one without limits if the config has none that can be read."""
        settings = self.setting("data.budget")
        try:
            return Budget(**settings) if isinstance(settings, dict) else Budget()
        except (TypeError, GoldError):
            return Budget()

    def setting(self, key: str, default: Any = None) -> Any:
        """Returns a value of the config by its dotted key, as written on the command line."""
        value: Any = self.config
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return default
            value = value[part]
        return value


def read_run(folder: Path) -> Run:
    """Reads a run folder, which may be that of a run in progress.

    Args:
        folder: The run folder.

    Returns:
        The run.

    Raises:
        GoldError: The folder holds no run.
    """
    folder = Path(folder)
    paths = RunFolder(folder)
    lines = {row["round"]: row for row in read_lines(paths.rounds) if isinstance(row.get("round"), int)}
    numbers = sorted({*rounds_in(folder), *lines})
    files = ("config.yaml", "results.json", "baselines/results.json")
    if not numbers and not any((folder / name).is_file() for name in files):
        problem = "no run in it" if folder.is_dir() else "no such folder"
        raise GoldError(f"{folder}: {problem}; give the folder of a run, runs/<task>/<name>")
    return Run(
        folder=folder,
        rounds=[_read_round(folder, number, lines.get(number, {})) for number in numbers],
        config=_read_config(paths.config),
        results=_first_row(paths.results),
        baselines=_first_row(folder / "baselines" / "results.json"),
        overlap=_first_row(paths.overlap),
        spent=_spent(paths.completions, lines[max(lines)] if lines else {}),
        versions=_first_row(paths.versions),
        calibration=_calibration(paths.student),
    )


def _calibration(student: Path) -> Mapping[str, Any]:
    try:
        return load_calibration(student) or {}
    except GoldError:  # a student of an earlier version, or none
        return {}


def _read_round(folder: Path, number: int, row: Mapping[str, Any]) -> Round:
    store = RoundStore(folder, number, read_only=True)
    path = store.folder / "rejects.jsonl"
    positions = array("Q", (at for at, r in whole_rows(path) if {"kind", "reason", "raw"} <= r.keys()))
    rejects = Mapped(positions, lambda at: next(rows_at(path, [at])))
    energies: dict[Kind, dict[str, float]] = {kind: {} for kind in KINDS}
    fed = {i for i in row.get("fed_back", ()) if isinstance(i, str)}
    # A round that is generated again holds its earlier energies until it is scored.
    for scored in read_lines(store.folder / "energies.jsonl") if row else ():
        kind, id_, energy = scored.get("kind"), scored.get("id"), scored.get("energy")
        if kind in energies and isinstance(id_, str) and isinstance(energy, int | float) and _is_number(energy):
            if abs(energy) < sys.float_info.max:  # the file holds this for an infinite energy
                energies[kind][id_] = float(energy)
    return Round(
        number=number,
        row=row,
        samples={kind: store.accepted(kind) for kind in KINDS},
        batches={kind: store.batches(kind) for kind in KINDS},
        rejects=rejects,
        energies=energies,
        fed_back=frozenset(fed),
    )


def _spent(path: Path, last: Mapping[str, Any]) -> Usage:
    """Counts calls and tokens of the stored completions, without repairing a torn end: the run may be in progress.

    Folders are copied without this file, their largest, so the counts of the last finished round replace it.
    """
    if not path.is_file():
        counts = last.get("tokens_so_far", {})
        return Usage(*(counts.get(name, 0) for name in ("calls", "prompt", "completion", "reused_calls")))
    return usage_in(path)


def _first_row(path: Path) -> dict[str, Any]:
    return next(iter(read_lines(path)), {})


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = parse_own_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
