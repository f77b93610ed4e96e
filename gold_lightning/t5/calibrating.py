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

__all__ = ["calibrate", "score_rows"]


def calibrate(
    student: Inference,
    rows: Sequence[Sample],
    settings: CalibrationSettings,
    source: Literal["probe", "rows"],
    batch_size: int = 32,
) -> dict[str, Any]:
    """Fits a calibration, which the student predicts with from now on. See :meth:`Inference.calibrate`."""
    student.calibration = fit_calibration(score_rows(student, rows, batch_size), settings, source)
    return student.calibration


def score_rows(student: Inference, rows: Sequence[Sample], batch_size: int = 32) -> ScoredRows:
    """Scores labelled rows, without the student's calibration.

    A label is right if it is the row's. A text is right if the task's first metric gives it full marks.

    Args:
        student: The student.
        rows: The rows.
        batch_size: Rows in a batch.

    Raises:
        ConfigError: Rows of the task have sets of labels.
    """
    if student.task.many:
        raise ConfigError("labels", "several to a row", "one label to a row, or text, for a calibration")
    task, texts = student.task, [dict(row.fields) for row in rows]
    labels = task.label_names if student.scores_labels else ("",)
    scores = list(student.scores(texts, batch_size))
    return ScoredRows(
        log_probs=np.array([s.log_probs for s in scores], dtype=np.float32).reshape(len(rows), len(labels)),
        energies=np.array([s.energy for s in scores], dtype=np.float32),
        best=np.array([s.best for s in scores], dtype=int),
        right=_right(task, [s.text for s in scores], rows),
        targets=np.array([labels.index(r.target) for r in rows], dtype=int) if student.scores_labels else None,
    )


def _right(task: Task, texts: Sequence[str], rows: Sequence[Sample]) -> np.ndarray[Any, Any]:
    pairs = list(zip(texts, rows, strict=True))
    if task.labels:
        return np.array([text == row.target for text, row in pairs], dtype=bool)
    metric = make_metric((task.metrics or ("exact_match",))[0], ())
    return np.array([metric.row(text, row.targets)[0] >= 1 for text, row in pairs], dtype=bool)
