"""The feedback pool: where the demos that the band chose wait to be shown to the generator."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gold_lightning.errors import ConfigError
from gold_lightning.task import Sample

__all__ = ["FeedbackPool", "PoolEntry"]


@dataclass(frozen=True)
class PoolEntry:
    """One feedback demo.

    Args:
        id: Id of the probe sample.
        sample: The sample.
        energy: Its energy when it was chosen.
        round: The round in whose probe set it stood.
        hint: What its own prompt asked for beyond the label.
    """

    id: str
    sample: Sample
    energy: float
    round: int
    hint: Mapping[str, str] = field(default_factory=dict)


class FeedbackPool:
    """Bounded, deterministic store of feedback demos.

    What it holds depends only on what was pushed, never on the order within a round: when it is full, the
    oldest rounds leave first, and within a round the lowest energies, each target's share apart so that
    no label starves.

    Args:
        capacity: Most demos held for one label (for a sequence-to-sequence task: in all).
    """

    def __init__(self, capacity: int = 64) -> None:
        if capacity < 1:
            raise ConfigError("feedback.capacity", capacity, "1 or more")
        self.capacity = capacity
        self._entries: dict[str, list[PoolEntry]] = {}

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    def push(self, entries: Iterable[PoolEntry], *, by_label: bool) -> None:
        """Adds demos; one whose id is already held replaces it.

        Args:
            entries: What the band chose.
            by_label: Keep the shares of the labels apart (classification).
        """
        touched = set()
        for entry in entries:
            key = entry.sample.target if by_label else ""
            held = self._entries.setdefault(key, [])
            held[:] = [e for e in held if e.id != entry.id] + [entry]
            touched.add(key)
        for key in touched:
            newest_first = sorted(self._entries[key], key=lambda e: (-e.round, -e.energy, e.id))
            self._entries[key] = newest_first[: self.capacity]

    def entries(self, label: str = "", *, hinted: bool = False) -> tuple[PoolEntry, ...]:
        """Demos of a label (``""`` for a sequence-to-sequence task), newest round first.

        Args:
            label: The label.
            hinted: Only those whose own prompt asked for something beyond the label.
        """
        return tuple(e for e in self._entries.get(label, ()) if e.hint or not hinted)

    def draw(self, count: int, rng: random.Random, label: str = "", *, hinted: bool = False) -> list[PoolEntry]:
        """Up to ``count`` different demos of a label, at random from ``rng``; see :meth:`entries`."""
        held = self.entries(label, hinted=hinted)
        return rng.sample(held, min(count, len(held)))

    def state_dict(self) -> dict[str, Any]:
        """Plain values, loadable with ``weights_only=True``."""
        return {"entries": {k: [_plain(e) for e in v] for k, v in sorted(self._entries.items())}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        self._entries = {key: [_entry(e) for e in entries] for key, entries in state["entries"].items()}


def _plain(entry: PoolEntry) -> dict[str, Any]:
    return asdict(entry) | {"hint": dict(entry.hint)}


def _entry(plain: Mapping[str, Any]) -> PoolEntry:
    sample = Sample(dict(plain["sample"]["fields"]), plain["sample"]["target"])
    return PoolEntry(plain["id"], sample, plain["energy"], plain["round"], dict(plain.get("hint", {})))
