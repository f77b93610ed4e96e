"""The report's panel of the student's calibration: its promise, and accuracy by share of inputs that are answered."""

from __future__ import annotations

from markupsafe import Markup

from gold_lightning.calibration.describe import describe
from gold_lightning.report.numbers import percent
from gold_lightning.report.parts import Panel, Table
from gold_lightning.report.plots import coverage
from gold_lightning.report.run import Run

__all__ = ["known_panels"]

_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25)


def known_panels(run: Run) -> list[Panel]:
    """Returns a panel of the student's calibration; none if it has none with a curve.

    Args:
        run: The run.
    """
    calibration = run.calibration
    points = [(float(share), float(right)) for share, right in calibration.get("curve", ())]
    if not points:
        return []
    answered = calibration.get("coverage") if calibration["threshold"] is not None else None
    plot = coverage(points, level=calibration["level"], answered=answered)
    rows = []
    for wanted in _SHARES:
        share, right = min(points, key=lambda point: abs(point[0] - wanted))
        if abs(share - wanted) < 0.05:
            rows.append([percent(share), percent(right)])
    notes = [
        *describe(calibration),
        f"The curve: accuracy if the student answers only the share of inputs of which it is surest, by "
        f"{calibration['score']}.",
    ]
    return [Panel("Known or not", notes, [Markup(plot)], [Table("Accuracy by share answered", _HEAD, rows)])]


_HEAD = ["answered", "right among these"]
