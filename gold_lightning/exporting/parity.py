"""Compares an export with its student: answers, accuracy, size, speed and memory, in one table."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gold_lightning.console import table
from gold_lightning.errors import GoldError
from gold_lightning.evaluation.intervals import evaluate, prediction_row
from gold_lightning.exporting.measure import BATCH_SIZE
from gold_lightning.student import metric_names
from gold_lightning.task import Sample, Task

__all__ = ["Parity", "ParityError", "Side", "compare"]


@dataclass(frozen=True)
class Side:
    """One column of the table: the student or its export.

    Args:
        megabytes: Size of the files that prediction needs.
        ms_single: Milliseconds for a text at batch size 1, the median.
        rows_per_second: Rows a second at batch size 32.
        peak_mb: Peak memory of the process; ``None`` if the system does not tell.
        score: Value of the task's first metric; ``None`` if the rows have no targets.
        interval: Its 95 % bootstrap interval.
    """

    megabytes: float
    ms_single: float
    rows_per_second: float
    peak_mb: float | None = None
    score: float | None = None
    interval: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Parity:
    """A comparison of a student with its export on the same rows, on the same machine, one after the other.

    Args:
        rows: Number of rows.
        source: The rows, in words.
        equal: Rows with equal answers.
        log_prob_difference: Largest difference of the log-probability of the student's answer: for labels over all
            rows, for texts over those with equal answers.
        energy_difference: Largest difference of energy, over the rows with equal answers.
        student: The student in torch.
        export: The export.
        metric: Name of the metric of both.
        threads: Threads of both.
        equal_known: Rows in which both are known or both are not; ``None`` without calibration.
    """

    rows: int
    source: str
    equal: int
    log_prob_difference: float
    energy_difference: float
    student: Side
    export: Side
    metric: str
    threads: int
    equal_known: int | None = None
    title: str = field(default="export", compare=False)

    def check(self, tolerance: float) -> None:
        """Raises if answers differ in too many rows.

        Args:
            tolerance: Largest share of rows that may differ.

        Raises:
            ParityError: Answers differ in a larger share.
        """
        if self.rows - self.equal > tolerance * self.rows:
            raise ParityError(self, tolerance)

    def lines(self) -> list[str]:
        """Returns the table as lines of text."""
        known = [] if self.equal_known is None else [f"{self.equal_known} equal in known or not"]
        head = [
            f"{self.rows} rows ({self.source}), {self.threads} {'threads' if self.threads > 1 else 'thread'}",
            f"equal answers {self.equal} ({self.equal / self.rows:.2%})" + "".join(f", {part}" for part in known),
            f"largest difference of log-probability {self.log_prob_difference:.2g}, of energy "
            f"{self.energy_difference:.2g}",
        ]
        rows = [["", "student", self.title]]
        sides = (self.student, self.export)
        if self.student.score is not None:
            rows.append([self.metric, *(f"{s.score:.3f} ({s.interval[0]:.3f}-{s.interval[1]:.3f})" for s in sides)])
        rows += [
            ["MB", *(f"{s.megabytes:.1f}" for s in sides)],
            ["ms a text, batch 1", *(f"{s.ms_single:.1f}" for s in sides)],
            [f"ms a text, batch {BATCH_SIZE}", *(f"{1000 / s.rows_per_second:.1f}" for s in sides)],
            ["rows a second", *(f"{s.rows_per_second:.0f}" for s in sides)],
        ]
        if self.student.peak_mb and self.export.peak_mb:
            rows.append(["peak memory, MB", *(f"{s.peak_mb:.0f}" for s in sides)])
        return [*head, *table(rows, right=[1, 2])]

    def __str__(self) -> str:
        return "\n".join(self.lines())


class ParityError(GoldError):
    """The answers of an export differ from its student's in too many rows.

    Args:
        parity: The comparison.
        tolerance: The share of rows that may differ.
    """

    def __init__(self, parity: Parity, tolerance: float) -> None:
        different = parity.rows - parity.equal
        super().__init__(
            f"export: {different} of {parity.rows} answers differ from the student's, expected at most {tolerance:.3g} "
            "of them; nothing was written; --tolerance allows more, and float32 differs less than int8"
        )
        self.parity = parity


def compare(
    task: Task,
    student: Path,
    export: Path,
    samples: Sequence[Sample],
    *,
    source: str,
    labelled: bool,
    threads: int,
    title: str = "export",
) -> Parity:
    """Predicts rows with a student and with its export, each in a process of its own.

    Args:
        task: The task.
        student: The student's folder.
        export: The export's folder.
        samples: The rows, one at least.
        source: The rows, in words.
        labelled: Whether the targets of the rows are the right ones.
        threads: Threads of each process.
        title: Name of the export in the table.

    Raises:
        GoldError: One of the processes failed.
    """
    names = [f.name for f in task.fields]
    texts = [s.fields[names[0]] if len(names) == 1 else dict(s.fields) for s in samples]
    ours = _measured("torch", student, texts, threads, export / "gold_task.json")
    theirs = _measured("exported", export, texts, threads)
    pairs = list(zip(ours["predictions"], theirs["predictions"], strict=True))
    key = "label" if "label" in pairs[0][0] else "text"
    same = [(a, b) for a, b in pairs if a[key] == b[key]]
    metric = metric_names(task)[0]

    def side(folder: Path, measured: Mapping[str, Any]) -> Side:
        numbers = {name: measured[name] for name in ("ms_single", "rows_per_second", "peak_mb")}
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        if not labelled:
            return Side(megabytes=size, **numbers)
        scored = [
            prediction_row(i, prediction[key], sample.targets)
            for i, (sample, prediction) in enumerate(zip(samples, measured["predictions"], strict=True))
        ]
        value = evaluate([metric], task.label_names, scored)[metric]
        return Side(megabytes=size, score=value["value"], interval=tuple(value["interval"]), **numbers)

    return Parity(
        rows=len(samples),
        source=source,
        equal=len(same),
        log_prob_difference=max(
            (_log_prob_difference(a, b) for a, b in (pairs if key == "label" else same)), default=0.0
        ),
        energy_difference=max((abs(a["energy"] - b["energy"]) for a, b in same), default=0.0),
        student=side(student, ours),
        export=side(export, theirs),
        metric=metric,
        threads=threads,
        equal_known=None if pairs[0][0]["known"] is None else sum(a["known"] == b["known"] for a, b in pairs),
        title=title,
    )


def _log_prob_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """Returns the difference of the log-probability of the student's answer."""
    label = ours.get("label")
    values = [p["probability"] if label is None else p["probabilities"][label] for p in (ours, theirs)]
    low, high = sorted(max(value, 1e-38) for value in values)
    return math.log(high) - math.log(low)


def _measured(kind: str, folder: Path, texts: Sequence[Any], threads: int, task: Path | None = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        rows, out = Path(temporary) / "texts.json", Path(temporary) / "measured.json"
        rows.write_text(json.dumps(texts), encoding="utf-8")
        command = [sys.executable, "-m", "gold_lightning.exporting.measure", kind, folder, rows, out, threads]
        process = subprocess.run(
            [str(part) for part in (*command, *([task] if task else []))],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if process.returncode:
            last = (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
            raise GoldError(f"export: the {'student' if kind == 'torch' else 'export'} cannot predict: {last[:200]}")
        measured: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return measured
