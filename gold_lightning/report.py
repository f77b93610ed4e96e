"""What a person looks at after a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gold_lightning.baselines import majority, most_frequent
from gold_lightning.checks import OVERLAP_WORDS
from gold_lightning.metrics import evaluate
from gold_lightning.rows import labels_as_read

if TYPE_CHECKING:
    from gold_lightning.data import GoldDataModule
    from gold_lightning.student import T5Student

__all__ = ["results_table"]

_NAMES = {
    "student": "student",
    "untrained": "student before training",
    "supervised": "student trained on labelled rows",
    "few_shot": "generator, few-shot",
    "zero_shot": "generator, zero-shot",
}


def results_table(
    results: Mapping[str, Mapping[str, Any]],
    data: GoldDataModule,
    student: T5Student,
    overlap: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """The test metrics beside the baselines without which they say little.

    Args:
        results: Metrics by name of the row, as :func:`gold_lightning.metrics.evaluate` gives them. What stands
            in ``notes`` is said below.
        data: Whose test rows they are.
        student: Whose metrics they are.
        overlap: How many training samples (``train``) and ``demos`` have text in common with the test set, as
            :func:`gold_lightning.checks.count_overlaps` gives it; nothing is said where it was not measured.
    """
    every, ids = data.test_rows(), data.test_ids()
    tested = {i: every[i] for i in ids}
    rows = {title: results[name] for name, title in _NAMES.items() if name in results}
    # It costs nothing, so it stands in every table.
    always = evaluate(student.metric_names, student.task.label_names, majority(tested))
    rows[f"always {most_frequent(tested)!r}"[:40]] = always
    count = f"{len(ids)}" if len(ids) == len(every) else f"{len(ids)} (drawn from {len(every)})"
    title = f"{student.task.name}, {count} test rows"
    head = title.ljust(max(map(len, [title, *rows])) + 2)
    lines = [head + "".join(f"{name:<24}" for name in student.metric_names)]
    for name, found in rows.items():
        cells = "".join(f"{_cell(found[metric]):<24}" for metric in student.metric_names)
        lines.append(f"{name:<{len(head)}}{cells}")
    if student.task.labels and (read := labels_as_read(tested.values())):
        lines.append(f"labels as read: {read}")
    if student.task.labels and {"zero_shot", "few_shot"} & results.keys():
        lines.append("generator: the label whose name it finds likeliest, uncalibrated")
    lines += [f"{_NAMES[name]}: {note}" for name in results for note in results[name].get("notes", ())]
    if overlap:
        lines.append(_overlap_line(overlap["train"], overlap["demos"], len(ids)))
    lines.append(f"run folder: {data.run_dir}")
    return "\n".join(line.rstrip() for line in lines)


def _cell(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{100 * found['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _overlap_line(train: Mapping[str, int], demos: Mapping[str, int], rows: int) -> str:
    by = f"{train['words']} by {OVERLAP_WORDS} words in a row, {train['full_row']} by the full row"
    return (
        f"in the test set: {train['any']} of {train['samples']} training samples ({by}; "
        f"{train['test_rows']} of {rows} test rows), {demos['any']} of {demos['samples']} demos"
    )
