"""What a student is compared with, on the same rows: a constant answer, and the generator itself.

The generator answers each row as a person would ask it: an instruction with the meanings of the labels, demos
for few-shot, the row's fields, and the beginning of the answer. A task with labels takes the label whose name
is the likeliest continuation. These likelihoods are *uncalibrated*: a small model likes some names better
whatever it reads, and nothing is done about it here. Other tasks are decoded greedily.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console
from rich.progress import track

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators.base import Generator, Request, request_dict
from gold_lightning.labelled import check_rows_file
from gold_lightning.metrics import evaluate, prediction_row
from gold_lightning.prompts import answer_request, read_answer
from gold_lightning.storage.round_store import append_line, digest, read_lines, write_lines
from gold_lightning.task import Sample, Task, TestRow

__all__ = [
    "Baseline",
    "BaselineName",
    "BaselineSettings",
    "GeneratorAnswers",
    "compare",
    "digest_of_rows",
    "majority",
    "most_frequent",
    "seed_demos",
]

_log = logging.getLogger(__name__)

BaselineName = Literal["majority", "untrained", "zero_shot", "few_shot", "supervised", "student"]
"""The lines of a comparison; ``student`` is the trained one."""


@dataclass(frozen=True)
class BaselineSettings:
    """What to compare, and on which rows.

    Args:
        only: Which baselines to run: majority (the most frequent answer of the tested rows), untrained (the
            student before training), zero_shot and few_shot (the generator, without and with the task's demos),
            supervised (the student trained on ``train_file``), student (the trained one). All that can be by default.
        rows: Test on a seeded sample of this many rows, the same for each baseline; all by default.
        train_file: JSON, JSON Lines, CSV, TSV or Parquet file with labelled rows, for the supervised baseline. It takes
            as many training steps as all rounds of the run would, with the same settings.
    """

    only: list[BaselineName] | None = None
    rows: int | None = None
    train_file: str | None = None

    def __post_init__(self) -> None:
        if self.only is not None and not self.only:
            raise ConfigError("baselines.only", [], f"one of {', '.join(get_args(BaselineName))}, or more")
        if self.rows is not None and self.rows < 1:
            raise ConfigError("baselines.rows", self.rows, "1 or more")
        if self.train_file is not None:
            check_rows_file("baselines.train_file", self.train_file)
        elif "supervised" in (self.only or ()):
            raise ConfigError("baselines.train_file", None, "a file of labelled rows, which supervised trains on")

    def names(self, trained: bool) -> list[BaselineName]:
        """What to run, in the order in which it is best run: the cheap first.

        Args:
            trained: Whether there is a trained student.
        """
        every: list[BaselineName] = list(get_args(BaselineName))
        if self.only is not None:
            return [name for name in every if name in self.only]
        cannot = {"supervised": self.train_file is None, "student": not trained}
        return [name for name in every if not cannot.get(name)]


@dataclass(frozen=True)
class Baseline:
    """One line of a comparison.

    Args:
        depends: Plain values on which the predictions depend, beside the rows.
        predict: Gives the predictions in the order of the rows, as :func:`gold_lightning.metrics.prediction_row`
            makes them. It may keep what it has so far in the file that it is given.
    """

    depends: Mapping[str, Any]
    predict: Callable[[Path], list[dict[str, Any]]]


def compare(
    task: Task,
    metrics: Sequence[str],
    rows: Mapping[int, TestRow],
    folder: Path,
    baselines: Mapping[BaselineName, Baseline],
) -> dict[str, dict[str, Any]]:
    """Runs baselines, or finds what they predicted for the same rows and settings before.

    ``<name>.jsonl`` in the folder holds the predictions of each, ``results.json`` the numbers of all that
    were run on these rows.

    Args:
        task: The task.
        metrics: Names of its metrics.
        rows: Test rows by their position in the test set.
        folder: Where predictions and numbers are kept.
        baselines: What to run, by name and in order.

    Returns:
        By name, what :func:`gold_lightning.metrics.evaluate` gives, with ``seconds``, ``fingerprint`` and ``notes``.
    """
    ids = sorted(rows)
    of_rows = digest_of_rows(task, rows)
    path = folder / "results.json"
    held = _read_results(path)
    kept: dict[str, Any] = held["results"] if held.get("of_rows") == of_rows else {}
    asked: dict[str, dict[str, Any]] = {}
    for name, baseline in baselines.items():
        fingerprint = digest([of_rows, baseline.depends])
        file, part = folder / f"{name}.jsonl", folder / f"{name}.{fingerprint}.part"
        found = read_lines(file) if kept.get(name, {}).get("fingerprint") == fingerprint else []
        seconds = kept.get(name, {}).get("seconds")
        if [row["row"] for row in found] != ids or any("unanswered" in row for row in found):
            if found:  # what has an answer is not asked again
                write_lines(part, [row for row in found if "unanswered" not in row])
            before = seconds if found else 0.0
            started = time.perf_counter()
            found = baseline.predict(part)
            seconds = round(before + time.perf_counter() - started, 1)
            write_lines(file, found)
        numbers = evaluate(metrics, task.label_names, found)
        asked[name] = {**numbers, "seconds": seconds, "fingerprint": fingerprint, "notes": _notes(found)}
        kept[name] = asked[name]
        # After each: what is done need not be done again, whatever ends the next one.
        write_lines(path, [{"task": task.name, "rows": len(ids), "of_rows": of_rows, "results": kept}])
        for stale in folder.glob(f"{name}.*.part"):
            stale.unlink()
        _log.info("%s: %d rows, %.1f s", name, len(ids), seconds)
    return asked


def digest_of_rows(task: Task, rows: Mapping[int, TestRow]) -> str:
    """Hash of test rows: results with the same one are comparable.

    Args:
        task: The task.
        rows: Test rows by their position in the test set.
    """
    return digest([task.label_names, [(i, dict(rows[i].fields), rows[i].targets) for i in sorted(rows)]])


def _read_results(path: Path) -> dict[str, Any]:
    held, *_ = [*read_lines(path), {}]
    return held


def _notes(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was cut, so that it does not pass unseen."""
    cut = sum("cut" in row for row in found)
    ended = sum(row.get("finish") == "length" for row in found)
    silent = sum("unanswered" in row for row in found)
    notes = [f"{cut} rows were too long for the model; the end of their longest field was cut off"] if cut else []
    if silent:
        notes.append(f"{silent} rows have no answer, and count as an empty one; the same command asks for them again")
    return notes + ([f"{ended} answers were cut off at the most tokens of a target"] if ended else [])


def most_frequent(rows: Mapping[int, TestRow]) -> str:
    """The most frequent target; of equally frequent ones, the first."""
    return Counter(rows[i].target for i in sorted(rows)).most_common(1)[0][0]


def majority(rows: Mapping[int, TestRow]) -> list[dict[str, Any]]:
    """Predicts the most frequent target for each row. It has seen the answers: no model without skill does better."""
    common = most_frequent(rows)
    return [prediction_row(i, common, rows[i].targets) for i in sorted(rows)]


def seed_demos(task: Task) -> list[Sample]:
    """All demos of the task, labels in turn: a model leans towards a label that stands last several times."""
    if not task.labels:
        return list(task.demos)
    by_label = [[d for d in task.demos if d.target == name] for name in task.label_names]
    return [d for turn in itertools.zip_longest(*by_label) for d in turn if d is not None]


class GeneratorAnswers:
    """The generator answers test rows.

    Args:
        task: The task.
        generator: Who answers.
        rows: Test rows by their position in the test set.
        demos: What it is shown before; nothing for zero-shot.
        name: For the progress bar.
    """

    def __init__(
        self, task: Task, generator: Generator, rows: Mapping[int, TestRow], demos: Sequence[Sample], name: str
    ) -> None:
        self.task, self.generator, self.rows, self.demos, self.name = task, generator, rows, demos, name

    def depends(self) -> dict[str, Any]:
        """Plain values on which the answers depend."""
        asked = (answer_request(self.task, self.rows[i].fields, self.demos) for i in sorted(self.rows))
        return {"generator": self.generator.fingerprint(), "requests": digest([request_dict(r) for r in asked])}

    def predict(self, part: Path) -> list[dict[str, Any]]:
        """Predictions in the order of the rows; what was paid for before a kill is found again in ``part``.

        Raises:
            GoldError: The prompt does not fit into the model, whatever is cut off from the row.
        """
        # Rows of like length together: a batch is as wide as its longest row.
        order = sorted(self.rows, key=lambda i: (len(self.rows[i].text), i))
        size = self.generator.batch_size
        found = {row["row"]: row for row in read_lines(part) if "unanswered" not in row}
        console = Console(stderr=True)
        hidden = not console.is_terminal
        starts = range(0, len(order), size)
        for at in track(starts, self.name, console=console, transient=True, disable=hidden):
            batch = order[at : at + size]
            if batch := [i for i in batch if i not in found]:
                made = self._batch(batch)
                append_line(part, *made)
                found |= {row["row"]: row for row in made}
        return [found[i] for i in sorted(found)]

    def _batch(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        asked = [answer_request(self.task, self.rows[i].fields, self.demos) for i in ids]
        more: list[dict[str, Any]] = [{} for _ in ids]
        for at, over in enumerate(self.generator.tokens_over_limit(asked)):
            if over:
                asked[at], more[at]["cut"] = self._cut(self.rows[ids[at]], over)
        made = []
        for i, completion, extra in zip(ids, self.generator.generate(asked), more, strict=True):
            if not completion.is_answer:
                text, extra["unanswered"] = "", completion.finish
            elif self.task.labels:
                scores = dict(zip(self.task.label_names, completion.choice_log_probs, strict=True))
                text = max(scores, key=lambda name: scores[name])  # ties: the task's order
                # JSON has no infinity: a label without any mass has no number.
                told = {name: round(p, 4) if math.isfinite(p) else None for name, p in scores.items()}
                extra["log_probs"] = told
            else:
                text, extra["finish"] = read_answer("" if completion.reason else completion.text), completion.finish
            made.append(prediction_row(i, text, self.rows[i].targets, **extra))
        return made

    def _cut(self, row: TestRow, over: int) -> tuple[Request, dict[str, int]]:
        """The request with the longest field cut at its end until it fits, and the characters cut off by field."""
        fields = dict(row.fields)
        while over:
            longest = max(fields, key=lambda name: len(fields[name]))
            if not fields[longest]:
                raise GoldError(
                    f"{self.name}: the instruction and {len(self.demos)} demos are {over} tokens longer than the model "
                    "takes, without any row; use fewer or shorter demos, or a model that takes more"
                )
            # A token is one character or more: this many characters are never more than is needed by much.
            fields[longest] = fields[longest][:-over]
            request = answer_request(self.task, fields, self.demos)
            over = self.generator.tokens_over_limit([request])[0]
        return request, {n: len(t) - len(fields[n]) for n, t in row.fields.items() if t != fields[n]}
