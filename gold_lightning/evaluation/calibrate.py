"""Calibrates a student in its folder with labelled rows. The command line and Python call the same function."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from gold_lightning.calibration.describe import promise_sentence
from gold_lightning.calibration.fitting import CalibrationSettings, fitted_with
from gold_lightning.errors import GoldError
from gold_lightning.inputs.paths import expand
from gold_lightning.labelled import load_rows
from gold_lightning.notices import without_progress_bars
from gold_lightning.publishing.cards import update_calibration
from gold_lightning.t5.calibrating import calibrate as fit_to_rows
from gold_lightning.t5.folder import load_calibration, load_folder_task, write_calibration
from gold_lightning.t5.inference import SavedStudent
from gold_lightning.task import Sample
from gold_lightning.validation import WatchedRows

__all__ = ["FIT_CALIBRATION", "calibrate", "calibrate_after_fit"]

_log = logging.getLogger("gold_lightning")

FIT_CALIBRATION = CalibrationSettings(lowest_level=0.7)
"""The promise that ``fit`` makes by default: a small run has too few probes for the 95 % of :func:`calibrate`."""


def calibrate(
    folder: str | Path,
    rows: str | Path | Sequence[Sample],
    promise: Literal["selective", "conformal"] = "selective",
    level: float = 0.95,
    confidence: float = 0.9,
    score: Literal["energy", "probability"] | None = None,
    lowest_level: float | None = None,
    *,
    batch_size: int = 32,
    device: str = "cpu",
) -> dict[str, Any]:
    """Fits a student's temperature and threshold to labelled rows, and writes them into its folder.

    Args:
        folder: Folder of the student.
        rows: A JSON, JSON Lines, CSV, TSV or Parquet file with the task's columns, or the rows themselves: as the
            student will meet them, that it was not trained on.
        promise: ``selective``: of the answers given, at least ``level`` are right, with ``confidence``. ``conformal``:
            a set of labels holds the right one with probability ``level``.
        level: The promised share.
        confidence: Probability with which a selective promise is kept.
        score: Order of inputs from known to unknown, ``energy`` or ``probability``; ``energy`` by default if the
            promise is selective.
        lowest_level: If the rows do not allow a selective promise of ``level``, it falls back to the strictest that
            they allow of 0.95, 0.9, 0.85, ... and this one; no lower promise by default.
        batch_size: Rows in a batch.
        device: Device that the rows are scored on.

    Returns:
        The calibration with its measures, as :func:`gold_lightning.calibration.fitting.fit_calibration` returns it.

    Raises:
        GoldError: The folder carries no student, the rows cannot be read or are too few, or the promise does not suit
            the task.

    Example:
        >>> import gold_lightning as gl
        >>> gl.calibrate("runs/news_topics/a/student", "labelled.jsonl", level=0.9)["threshold"]  # doctest: +SKIP
        -13.77
    """
    settings = CalibrationSettings(promise, level, confidence, score, lowest_level)
    path = Path(expand("folder", str(folder)))
    task, _ = load_folder_task(path)
    samples = load_rows(task, rows, "rows") if isinstance(rows, str | Path) else list(rows)
    with without_progress_bars():
        student = SavedStudent(path, device=device)
    calibration = fit_to_rows(student, samples, settings, "rows", batch_size)
    write_calibration(path, calibration)
    update_calibration(path)
    return calibration


def calibrate_after_fit(folder: Path, watched: WatchedRows, settings: CalibrationSettings, device: str) -> None:
    """Calibrates a run's student, if the rows allow any calibration and it has none that is to be kept.

    A calibration on labelled rows is kept, and so is one on probe sets with the same settings.

    Args:
        folder: Folder of the student.
        watched: The rows by which rounds were compared, which no round has trained on.
        settings: The promise.
        device: Device that the rows are scored on.
    """
    calibration = load_calibration(folder)
    if calibration is not None and (calibration["source"] == "rows" or fitted_with(calibration, settings)):
        return
    try:
        student = SavedStudent(folder, device=device)
        source: Literal["probe", "rows"] = "probe" if watched.rounds else "rows"
        calibration = fit_to_rows(student, watched.samples, settings, source)
    except GoldError as e:  # too few rows, or several labels to a row: the student is as good without
        _log.info("not calibrated: %s", e)
        return
    write_calibration(folder, calibration)
    _log.info("calibration on %s: %s", watched, promise_sentence(calibration))
