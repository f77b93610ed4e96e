"""The samples on which the students of different rounds are compared: probe sets, or labelled rows of the task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gold_lightning.checks.contamination import Decontaminator, count_overlaps
from gold_lightning.errors import GoldError
from gold_lightning.labelled import load_validation_rows
from gold_lightning.noise import LabelNoise
from gold_lightning.storage.json_lines import digest
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.task import Sample, Task, TestRow
from gold_lightning.unlabelled import real_texts

__all__ = ["ValidationSet", "WatchedRows", "described"]


@dataclass(frozen=True)
class WatchedRows:
    """The samples behind ``val/metric`` and the other validation metrics of a round.

    A probe set is small and differs from round to round, so metrics on single probe sets cannot rank the rounds'
    students. Each student is therefore scored on the probe sets of all rounds so far, which are never trained on, or on
    labelled rows if the task names some (``validation``).

    Args:
        samples: The samples.
        rounds: Number of rounds whose probe sets they are; 0 for labelled rows.
        unlabelled: Number of real texts among them, which the generator has labelled.

    Example:
        >>> rows = WatchedRows([Sample({"text": "Rain stops play"}, "Sports")], rounds=1)
        >>> str(rows)
        '1 probes'
    """

    samples: Sequence[Sample]
    rounds: int
    unlabelled: int = 0

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the samples, in their order."""
        return digest([(dict(s.fields), s.targets) for s in self.samples])

    def as_row(self) -> dict[str, Any]:
        """Returns plain values for ``rounds.jsonl``."""
        row = {"rows": len(self.samples), "probe_sets": self.rounds}
        return row | ({"unlabelled": self.unlabelled} if self.unlabelled else {})

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
    name = "probes" if row.get("unlabelled", 0) < row["rows"] else "real texts"
    return f"{row['rows']:,} {name}" + (f" of {row['probe_sets']} rounds" if row["probe_sets"] > 1 else "")


def _watched_probes(stores: Sequence[RoundStore], noise: LabelNoise) -> WatchedRows:
    """Returns the probe sets of several rounds as the rows to compare their students by.

    Real texts that were fed back as training samples are left out.

    Args:
        stores: The rounds' stores, the current one first. Earlier ones may lack a probe set.
        noise: The label noise that the run trains with.

    Raises:
        GoldError: The current round has no probe set.
    """
    trained_on = real_texts(s for store in stores for s in store.accepted("train"))
    probe_sets = [[s for s in store.accepted("probe") if not real_texts([s]) & trained_on] for store in stores]
    if not probe_sets[0]:
        current = stores[0]
        raise GoldError(
            f"{current.folder}: there is no probe set of round {current.round} to validate on; run fit first"
        )
    probes = [s for samples in probe_sets for s in samples]
    return WatchedRows([noise.apply(s).sample for s in probes], sum(map(bool, probe_sets)), len(real_texts(probes)))


class ValidationSet:
    """Labelled rows that a task names for comparing rounds (``validation``).

    Args:
        task: The task.
        measured: Whether the overlap of samples with the rows is measured.
    """

    def __init__(self, task: Task, *, measured: bool) -> None:
        self.task, self._measured = task, measured

    @cached_property
    def rows(self) -> list[TestRow]:
        """The rows; empty if the task names none. Raises as :func:`gold_lightning.labelled.load_validation_rows`."""
        return load_validation_rows(self.task) if self.task.validation else []

    @cached_property
    def index(self) -> Decontaminator:
        """The words of all rows."""
        return Decontaminator(self.rows)

    def watched(self, round_: int, store: Callable[[int], RoundStore], noise: LabelNoise) -> WatchedRows:
        """Returns the rows by which a round's student is compared with others: these, or the probe sets so far.

        Args:
            round_: Number of the round.
            store: Returns the store of a round.
            noise: The label noise that the run trains with.

        Raises:
            GoldError: No round is finished, or a probe set is missing.
        """
        if self.task.validation:
            return WatchedRows(self.rows, 0)
        if round_ < 0:
            raise GoldError("no round of this run is over yet, so there is nothing to validate on; run fit first")
        return _watched_probes([store(r) for r in (round_, *range(round_))], noise)  # its own first

    def overlaps(self, samples: Mapping[str, Iterable[Sample]]) -> dict[str, dict[str, int]]:
        """Counts the overlap of several kinds of samples, such as ``train`` and ``demos``, with the rows.

        Returns:
            Counts by kind; empty if the task names no rows, or if overlap is not measured.
        """
        if not self.task.validation or not self._measured:
            return {}
        return {kind: count_overlaps(map(self.index.overlap, of_kind)) for kind, of_kind in samples.items()}
