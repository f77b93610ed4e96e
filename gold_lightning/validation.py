"""The rows by which rounds are compared: labelled ones, or the probe sets of all rounds so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gold_lightning.storage.json_lines import digest
from gold_lightning.task import Sample

__all__ = ["WatchedRows", "described"]


@dataclass(frozen=True)
class WatchedRows:
    """What ``val/metric`` and the other validation metrics of a round are over.

    A probe set is small, and each round has another one: metrics of different rounds say little about which of their
    students is better. So each round's student is scored on the probe sets of all rounds so far, none of which was ever
    trained on, or on labelled rows, if the task names some (``validation``).

    Args:
        samples: The rows.
        rounds: Of how many rounds they are the probe sets; 0: they are labelled rows.
    """

    samples: Sequence[Sample]
    rounds: int

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the rows, in their order."""
        return digest([(dict(s.fields), s.targets) for s in self.samples])

    def as_row(self) -> dict[str, Any]:
        """Plain values for ``rounds.jsonl``."""
        return {"rows": len(self.samples), "probe_sets": self.rounds}

    def __str__(self) -> str:
        return described(self.as_row())


def described(row: dict[str, Any]) -> str:
    """What :meth:`WatchedRows.as_row` gave, in words.

    >>> described({"rows": 60, "probe_sets": 3}), described({"rows": 200, "probe_sets": 0})
    ('60 probes of 3 rounds', '200 labelled rows')
    """
    if not row["probe_sets"]:
        return f"{row['rows']:,} labelled rows"
    return f"{row['rows']:,} probes" + (f" of {row['probe_sets']} rounds" if row["probe_sets"] > 1 else "")
