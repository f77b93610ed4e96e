"""A run folder, read for its report: nothing is written, and what is not there yet is empty."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gold_lightning.budget import Budget, Spent
from gold_lightning.errors import GoldError
from gold_lightning.storage.completions import spent_in
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import BatchRecord, Kind, RoundStore, StoredSample
from gold_lightning.storage.run_folder import rounds_in
from gold_lightning.validation import described

__all__ = ["KINDS", "PHASES", "Round", "Run", "read_run"]

KINDS: tuple[Kind, ...] = ("train", "probe")
"""Kinds of samples, in the order in which a round makes them."""

PHASES = ("generation", "training", "scoring")
"""What a round's seconds are measured of."""


@dataclass(frozen=True)
class Round:
    """A round of a run, whole or not.

    Args:
        number: Its number.
        row: Its line of ``rounds.jsonl``; empty for a round that is not whole yet.
        samples: Accepted samples by kind.
        batches: Committed batches by kind.
        rejects: Rows of what was not accepted.
        energies: Energy of each scored sample by kind and id; empty where the run did not store them.
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
        """Whether the student was trained on it and its probe set was scored."""
        return bool(self.row)

    @property
    def validated_on(self) -> str:
        """What its validation metrics are over, in words."""
        held = self.row.get("validated_on")
        if isinstance(held, dict) and all(isinstance(held.get(key), int) for key in ("rows", "probe_sets")):
            return described(held)
        return described({"rows": len(self.samples["probe"]), "probe_sets": 1})  # as it was before there was a choice

    @property
    def phases(self) -> dict[str, float]:
        """Its seconds by phase; 0 for a round that is not whole."""
        found = self.row.get("seconds", {})
        return {name: float(found.get(name, 0.0)) for name in PHASES}

    def requested(self, *kinds: Kind) -> int:
        """Requests for samples of these kinds."""
        return sum(b.requested for kind in kinds for b in self.batches[kind])

    def reasons(self, *kinds: Kind) -> Counter[str]:
        """Rejects of these kinds by reason."""
        return sum((Counter(b.rejects) for kind in kinds for b in self.batches[kind]), Counter())

    def metrics(self) -> dict[str, float]:
        """Its validation metrics by name, loss and the copy of the watched one aside."""
        found = self.row.get("metrics", {})
        named = {k.removeprefix("val/"): v for k, v in found.items() if k.startswith("val/")}
        return {k: v for k, v in named.items() if k not in ("loss", "metric") and _is_number(v)}


@dataclass(frozen=True)
class Run:
    """A run.

    Args:
        folder: The run folder.
        rounds: Its rounds, in order. The last one may not be whole.
        config: The resolved config; empty where there is none.
        results: What ``test`` left; empty before.
        baselines: What ``baselines`` left; empty before.
        overlap: What ``test`` counted of the overlap with the test set; empty before.
        spent: Calls and tokens of all rounds.
        versions: Of what the run was made with, by name.
    """

    folder: Path
    rounds: Sequence[Round]
    config: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, Any] = field(default_factory=dict)
    overlap: Mapping[str, Any] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)
    versions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Name of the task: the folder above the run's is named so."""
        return self.folder.absolute().parent.name

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.folder.absolute().name

    @property
    def whole(self) -> list[Round]:
        """The rounds that are whole."""
        return [r for r in self.rounds if r.whole]

    @property
    def best(self) -> Round | None:
        """The best whole round as the run compared them; in older runs the last of those with the highest metric."""
        if not self.whole:
            return None
        selection = self.whole[-1].row.get("selection")
        number = selection.get("best") if isinstance(selection, dict) else None
        if found := next((r for r in self.whole if r.number == number), None):
            return found
        scored = [(next(iter(r.metrics().values())), r.number, r) for r in self.whole if r.metrics()]
        return max(scored, key=lambda s: s[:2])[2] if scored else None

    @property
    def unfinished(self) -> Round | None:
        """The round that was begun and is not whole."""
        return next((r for r in self.rounds if not r.whole), None)

    @property
    def seconds(self) -> float:
        """Seconds of all phases, and of the generation of a round that is not whole."""
        whole = sum(sum(r.phases.values()) for r in self.whole)
        now = self.unfinished
        noted = _first(self.folder / "data" / "seconds.json").get("seconds", 0.0)  # with sittings that broke off
        known = whole + (sum(b.seconds for kind in now.batches.values() for b in kind) if now else 0.0)
        return max(known, noted) if _is_number(noted) else known

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of a classification, in the order in which they were asked for; none for other tasks."""
        asked = (g.get("label") for r in self.rounds for kind in r.batches.values() for b in kind for g in b.groups)
        return tuple(dict.fromkeys(label for label in asked if isinstance(label, str)))

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of a sample's fields."""
        first = next((s for r in self.rounds for kind in r.samples.values() for s in kind), None)
        return () if first is None else tuple(first.sample.fields)

    @property
    def budget(self) -> Budget:
        """What the run may spend; nothing is limited where that cannot be read."""
        given = self.setting("data.budget")
        try:
            return Budget(**given) if isinstance(given, dict) else Budget()
        except (TypeError, GoldError):
            return Budget()

    def setting(self, key: str, default: Any = None) -> Any:
        """A value of the config by its key, as it is written on the command line."""
        found: Any = self.config
        for part in key.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return default
            found = found[part]
        return found


def read_run(folder: Path) -> Run:
    """Reads a run folder, also that of a run at work.

    Args:
        folder: The run folder.

    Raises:
        GoldError: It is no run folder.
    """
    folder = Path(folder)
    lines = {row["round"]: row for row in read_lines(folder / "rounds.jsonl") if isinstance(row.get("round"), int)}
    numbers = sorted({*rounds_in(folder), *lines})
    files = ("config.yaml", "results.json", "baselines/results.json")
    if not numbers and not any((folder / name).is_file() for name in files):
        what = "no run in it" if folder.is_dir() else "no such folder"
        raise GoldError(f"{folder}: {what}; give the folder of a run, runs/<task>/<name>")
    return Run(
        folder=folder,
        rounds=[_read_round(folder, number, lines.get(number, {})) for number in numbers],
        config=_read_config(folder / "config.yaml"),
        results=_first(folder / "results.json"),
        baselines=_first(folder / "baselines" / "results.json"),
        overlap=_first(folder / "overlap.json"),
        spent=_spent(folder / "data" / "completions.jsonl", lines[max(lines)] if lines else {}),
        versions=_first(folder / "versions.json"),
    )


def _read_round(folder: Path, number: int, row: Mapping[str, Any]) -> Round:
    store = RoundStore(folder, number, read_only=True)
    rejects = [r for r in read_lines(store.folder / "rejects.jsonl") if {"kind", "reason", "raw"} <= r.keys()]
    energies: dict[Kind, dict[str, float]] = {kind: {} for kind in KINDS}
    fed = {i for i in row.get("fed_back", ()) if isinstance(i, str)}
    # A round that is made again has the energies of the time before until it is scored.
    for scored in read_lines(store.folder / "energies.jsonl") if row else ():
        kind, id_, energy = scored.get("kind"), scored.get("id"), scored.get("energy")
        if kind in energies and isinstance(id_, str) and isinstance(energy, int | float) and _is_number(energy):
            if abs(energy) < sys.float_info.max:  # what stands there for an infinite one
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


def _spent(path: Path, last: Mapping[str, Any]) -> Spent:
    """What the stored completions took, as :class:`gold_lightning.storage.completions.CompletionLog` counts it.

    That one mends a torn end of the file, which here may be that of a run at work. A folder that was copied without the
    file, its largest, has what the last round wrote down.
    """
    if not path.is_file():
        told = last.get("tokens_so_far", {})
        return Spent(*(told.get(name, 0) for name in ("calls", "prompt", "completion", "reused_calls")))
    return spent_in(path)


def _first(path: Path) -> dict[str, Any]:
    return next(iter(read_lines(path)), {})


def _read_config(path: Path) -> dict[str, Any]:
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return held if isinstance(held, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
