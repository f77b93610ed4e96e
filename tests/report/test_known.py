"""The report's panel of a calibration: numbers beside the plot, and none without a calibration."""

import json

import numpy as np
import pytest
from gold_lightning.calibration.fitting import CalibrationSettings, ScoredRows, fit_calibration
from gold_lightning.report import render
from gold_lightning.report.known import known_panels
from gold_lightning.report.numbers import percent
from gold_lightning.report.plots import drawing
from gold_lightning.report.run import read_run
from gold_lightning.t5.folder import write_calibration, write_task
from gold_lightning.task import Task

from tests.runs import make_run

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path):
    run = make_run(tmp_path / "news_topics" / "small")
    (run / "student").mkdir()
    write_task(run / "student", Task.load("news_topics"), {"num_beams": 1, "constrained_decoding": True})
    return run


def calibration(rows=600, accuracy=0.8):
    rng = np.random.default_rng(1)
    right = rng.random(rows) < accuracy
    log_probs = np.log(np.where(right[:, None], [[0.9, 0.1]], [[0.6, 0.4]]))
    energies = np.where(right, -2.0, 0.0) + rng.normal(0, 0.7, rows)
    scored = ScoredRows(log_probs, energies, np.zeros(rows, int), right, np.where(right, 0, 1))
    return fit_calibration(scored, CalibrationSettings(level=0.9), "rows")


def test_a_run_without_a_calibrated_student_has_no_panel(folder, tmp_path):
    assert known_panels(read_run(folder)) == []
    assert known_panels(read_run(make_run(tmp_path / "news_topics" / "other"))) == []
    assert "Known or not" not in render(read_run(folder))


def test_the_panel_has_the_promise_the_curve_and_its_numbers(folder):
    fitted = calibration()
    assert fitted["threshold"] is not None
    write_calibration(folder / "student", fitted)
    with drawing():
        (panel,) = known_panels(read_run(folder))
    assert panel.notes[0].startswith("Promised: of the answers given, at least 90 % are right")
    (table,) = panel.tables
    assert list(table.rows[0]) == [percent(1.0), percent(fitted["accuracy"])]
    right = [float(row[1].split("\u00a0")[0]) for row in table.rows]
    assert right == sorted(right) and len(right) > 4  # surer answers are right more often
    assert panel.plots[0].count("<path") > 5
    assert "Known or not" in render(read_run(folder))


def test_a_promise_that_cannot_be_kept_has_no_mark(folder):
    fitted = calibration(rows=40)
    assert fitted["threshold"] is None
    write_calibration(folder / "student", json.loads(json.dumps(fitted)))
    with drawing():
        (panel,) = known_panels(read_run(folder))
    assert panel.notes[0].startswith("Not promised") and len(panel.plots) == 1
