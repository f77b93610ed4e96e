"""Summarises tests and comparisons as plain values for ``results.json``, and prints them as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gold_lightning.checks.contamination import OVERLAP_WORDS
from gold_lightning.console import printable, table
from gold_lightning.evaluation.baselines import GENERATOR_BASELINES, digest_of_rows, majority, most_frequent
from gold_lightning.evaluation.intervals import evaluate
from gold_lightning.labelled import labels_as_read
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import rounds_in
from gold_lightning.t5.checks import Cut, count_cut
from gold_lightning.task import Task

if TYPE_CHECKING:
    from gold_lightning.data import GoldDataModule
    from gold_lightning.student import T5Student

__all__ = [
    "BASELINE_TITLES",
    "GENERATOR_ANSWER",
    "overlaps_of_run",
    "results_summary",
    "results_table",
    "validation_table",
]

BASELINE_TITLES = {
    "student": "student",
    "untrained": "student before training",
    "supervised": "student trained on labelled rows",
    "few_shot_calibrated": "generator, few-shot, calibrated",
    "few_shot": "generator, few-shot",
    "one_shot_calibrated": "generator, one demo a label, calibrated",
    "one_shot": "generator, one demo a label",
    "zero_shot_calibrated": "generator, zero-shot, calibrated",
    "zero_shot": "generator, zero-shot",
}
"""Titles of the lines of a comparison, in the order of the table."""


GENERATOR_ANSWER = (
    "the label whose name it finds likeliest; calibrated, after division by each name's mean over the tested rows"
)
"""How the generator answers in a task with labels."""

_STUDENTS = {"student", "untrained", "supervised"}


def overlaps_of_run(data: GoldDataModule) -> tuple[dict[str, dict[str, int]], list[dict[str, Any]]]:
    """Counts what the run's training samples and the demos share with the test set.

    Returns:
        As :meth:`gold_lightning.labelled.TestSet.overlaps`, for ``train`` and ``demos``.
    """
    stores = (RoundStore(data.run_dir, r, read_only=True) for r in rounds_in(data.run_dir))
    train = {s.id: s.sample for store in stores for s in store.accepted("train")}
    demos = {f"demo-{i}": demo for i, demo in enumerate(data.task.demos)}
    return data.test_set.overlaps({"train": train, "demos": demos})


def results_summary(
    results: Mapping[str, Mapping[str, Any]],
    data: GoldDataModule,
    student: T5Student,
    overlap: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, Any]:
    """Summarises a test as plain values. The most frequent answer, ``majority``, is added as a line to compare with.

    Args:
        results: Metrics by name of the line, as :func:`~gold_lightning.evaluation.intervals.evaluate` returns them.
        data: Data module with the test rows.
        student: Student with the names of the metrics and the task.
        overlap: Counts of training samples (``train``) and ``demos`` that share text with the test set, as
            :func:`~gold_lightning.checks.contamination.count_overlaps` returns them; ``None`` if not measured.

    Returns:
        ``task``, ``metrics``, ``test_file`` (name of ``data.test_file``; "" for the task's own), ``rows`` (number of
        tested rows), ``of`` (number of rows of the test set), ``of_rows`` (digest of the tested rows), ``results``,
        ``most_frequent``, ``labels_as_read``, ``overlap`` and ``cut`` (numbers of tested rows that are too long for
        the student: :class:`gold_lightning.t5.checks.Cut`).
    """
    every, ids = data.test_set.rows, data.test_set.ids
    tested = {i: every[i] for i in ids}
    task, metrics = student.task, student.metric_names
    return {
        "task": task.name,
        "metrics": list(metrics),
        "test_file": Path(data.test_set.file or "").name,
        "rows": len(ids),
        "of": len(every),
        "of_rows": digest_of_rows(task, tested),
        "results": {**results, "majority": evaluate(metrics, task.label_names, majority(tested), task.many)},
        "most_frequent": most_frequent(tested),
        "labels_as_read": labels_as_read(tested.values()) if task.labels else "",
        "overlap": overlap or None,
        "cut": vars(count_cut(data.task, data.tokenizer, list(tested.values()))),
    }


def results_table(summary: Mapping[str, Any], run_dir: Path, task: Task) -> str:
    """Returns the test metrics beside the baselines as a printable table, with the ``notes`` of the lines below it.

    Args:
        summary: Summary as :func:`results_summary` returns it.
        run_dir: Run folder.
        task: Task of the run.
    """
    results, metrics = summary["results"], summary["metrics"]
    titles = {name: BASELINE_TITLES[name] for name in BASELINE_TITLES if name in results}
    titles["majority"] = printable(f"always {summary['most_frequent']!r}")[:40]
    drawn = f" (drawn from {summary['of']})" if summary["rows"] != summary["of"] else ""
    rows = [[f"{summary['task']}, {summary['rows']}{drawn} test rows", *metrics]]
    rows += [[title, *(_share(results[name][metric]) for metric in metrics)] for name, title in titles.items()]
    lines = table(rows)
    if summary["labels_as_read"]:
        lines.append(f"labels as read: {summary['labels_as_read']}")
    if _STUDENTS & results.keys():
        lines += Cut(**summary["cut"]).sentences(task, "test rows")
    if task.one_label and results.keys() & GENERATOR_BASELINES:
        lines.append(f"generator: {GENERATOR_ANSWER}")
    lines += [f"{titles[name]}: {note}" for name in titles for note in results[name].get("notes", ())]
    if overlap := summary["overlap"]:
        lines.append(_overlap_line(overlap["train"], overlap["demos"], summary["rows"]))
    lines.append(f"run folder: {run_dir}")
    return "\n".join(lines)


def validation_table(data: GoldDataModule, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines that ``validate`` prints, one for each metric.

    Args:
        data: Data module with the validation rows; its round is the one after the student's.
        metrics: Metrics by name, as the trainer's callbacks see them.
    """
    rows = data.watched(data.round - 1)
    student = f"the student of round {data.round - 1}" if data.round else "the student before training"
    yield f"{data.task.name}, {student} on {rows}"
    values = {name: float(value) for name, value in metrics.items() if name.startswith("val/") and name != "val/metric"}
    yield from (f"  {line}" for line in table([(name, f"{value:.3f}") for name, value in values.items()], right=[1]))
    if rows.rounds:
        yield "The labels of probes are the generator's, and may be wrong."


def _share(result: Mapping[str, Any]) -> str:
    low, high = result["interval"]
    return f"{100 * result['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _overlap_line(train: Mapping[str, int], demos: Mapping[str, int], rows: int) -> str:
    by = f"{train['words']} by {OVERLAP_WORDS} words in a row, {train['full_row']} by the full row"
    return (
        f"in the test set: {train['any']} of {train['samples']} training samples ({by}; "
        f"{train['test_rows']} of {rows} test rows), {demos['any']} of {demos['samples']} demos"
    )
