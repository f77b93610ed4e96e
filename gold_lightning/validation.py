"""The samples on which the students of different rounds are compared."""

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
    """The samples behind ``val/metric`` and the other validation metrics of a round.

    A probe set is small and differs from round to round, so metrics on single probe sets cannot rank the rounds'
    students. Each student is therefore scored on the probe sets of all rounds so far, which are never trained on, or on
    labelled rows if the task names some (``validation``).

    Args:
        samples: The samples.
        rounds: Number of rounds whose probe sets they are; 0 for labelled rows.

    Example:
        >>> rows = WatchedRows([Sample({"text": "Rain stops play"}, "Sports")], rounds=1)
        >>> str(rows)
        '1 probes'
    """

    samples: Sequence[Sample]
    rounds: int

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the samples, in their order."""
        return digest([(dict(s.fields), s.targets) for s in self.samples])

    def as_row(self) -> dict[str, Any]:
        """Returns plain values for ``rounds.jsonl``."""
        return {"rows": len(self.samples), "probe_sets": self.rounds}

    def __str__(self) -> str:
        return described(self.as_row())


def described(row: dict[str, Any]) -> str:
    """Describes a row of :meth:`WatchedRows.as_row` in words.

    Example:
        >>> described({"rows": 60, "probe_sets": 3}), described({"rows": 200, "probe_sets": 0})
        ('60 probes of 3 rounds', '200 labelled rows')
    """
    if not row["probe_sets"]:
        return f"{row['rows']:,} labelled rows"
    return f"{row['rows']:,} probes" + (f" of {row['probe_sets']} rounds" if row["probe_sets"] > 1 else "")
