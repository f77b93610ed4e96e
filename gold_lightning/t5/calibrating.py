"""Scores labelled rows with a student and fits its calibration to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gold_lightning.calibration.fitting import CalibrationSettings, ScoredRows, fit_calibration
from gold_lightning.errors import ConfigError
from gold_lightning.metrics import make_metric
from gold_lightning.task import Sample, Task

if TYPE_CHECKING:
    from gold_lightning.t5.inference import Inference

__all__ = ["calibrate", "check_promise", "score_rows"]


def calibrate(
    student: Inference,
    rows: Sequence[Sample],
    settings: CalibrationSettings,
    source: Literal["probe", "rows"],
    batch_size: int = 32,
) -> dict[str, Any]:
    """Fits a calibration, which the student predicts with from now on. See :meth:`Inference.calibrate`."""
    check_promise(settings, student.task)
    student.calibration = fit_calibration(score_rows(student, rows, batch_size), settings, source)
    return student.calibration


def check_promise(settings: CalibrationSettings, task: Task, key: str = "promise") -> None:
    """Checks whether a student of a task can have a promise.

    Args:
        settings: The promise.
        task: The task.
        key: Key of the setting, for the error.

    Raises:
        ConfigError: The promise is conformal, and the task's answers are not one label each.
    """
    if settings.promise == "conformal" and not task.one_label:
        kind = "whose rows have several labels" if task.many else "without labels"
        raise ConfigError(key, settings.promise, f"selective for a task {kind}")


def score_rows(student: Inference, rows: Sequence[Sample], batch_size: int = 32) -> ScoredRows:
    """Scores labelled rows, without the student's calibration.

    A label is right if it is the row's, and several are if they are all of the row's and no more. A text is right if
    the task's first metric gives it full marks. Sets of labels are scored as texts are: by one probability.

    Args:
        student: The student.
        rows: The rows.
        batch_size: Rows in a batch.
    """
    task, texts = student.task, [dict(row.fields) for row in rows]
    one_label = student.scores_labels and task.many is None
    labels = task.label_names if one_label else ("",)
    scores = list(student.scores(texts, batch_size))
    return ScoredRows(
        log_probs=np.array([s.log_probs for s in scores], dtype=np.float32).reshape(len(rows), len(labels)),
        energies=np.array([s.energy for s in scores], dtype=np.float32),
        best=np.array([s.best for s in scores], dtype=int),
        right=_right(task, [s.text for s in scores], rows),
        targets=np.array([labels.index(r.target) for r in rows], dtype=int) if one_label else None,
    )


def _right(task: Task, texts: Sequence[str], rows: Sequence[Sample]) -> np.ndarray[Any, Any]:
    pairs = list(zip(texts, rows, strict=True))
    if task.labels:
        return np.array([text == row.target for text, row in pairs], dtype=bool)
    metric = make_metric((task.metrics or ("exact_match",))[0], ())
    return np.array([metric.row(text, row.targets)[0] >= 1 for text, row in pairs], dtype=bool)
