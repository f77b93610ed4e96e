"""Says in sentences what a calibration promises and how it was measured: for the terminal, the report and the card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["describe", "promise_sentence"]


def describe(calibration: Mapping[str, Any]) -> list[str]:
    """Returns sentences about a calibration: temperature, promise, origin of the labels, and measures.

    Args:
        calibration: The calibration as :func:`gold_lightning.calibration.fitting.fit_calibration` returns it. Measures
            that it lacks are left out.
    """
    lines = [promise_sentence(calibration)]
    if calibration["source"] == "probe":
        lines.append(
            "The rows are the run's probe set with the generator's labels, so this is about texts as the generator "
            "writes them; gold-lightning calibrate STUDENT FILE fits it to labelled rows."
        )
    if "tested" in calibration:
        lines.append(_measured(calibration))
    before, after = calibration.get("ece", (None, None))
    if after is not None:
        lines.append(
            f"Temperature {calibration['temperature']:.2f}: expected calibration error {_percent(before)} before, "
            f"{_percent(after)} after."
        )
    elif before is not None:
        lines.append(f"Texts have no temperature; the expected calibration error is {_percent(before)}.")
    if "aurc_oracle" in calibration:
        by = {name: calibration[f"aurc_{name}"] for name in ("energy", "probability")}
        excess = by[calibration["score"]] - calibration["aurc_oracle"]
        lines.append(
            f"Area under the risk-coverage curve: {by['energy']:.4f} by energy, {by['probability']:.4f} by "
            f"probability, {calibration['aurc_oracle']:.4f} at best (excess by {calibration['score']}: {excess:.4f})."
        )
    return lines


def promise_sentence(calibration: Mapping[str, Any]) -> str:
    """Returns the promise, or the number of rows that it would take."""
    level, threshold = _percent(calibration["level"]), calibration["threshold"]
    if calibration["promise"] == "conformal":
        promise = f"the set of labels holds the right one in {level} of the cases"
        rule = "a label is in the set from a probability of {} on; known if it is alone"
    else:
        confidence = _percent(calibration["confidence"])
        promise = f"of the answers given, at least {level} are right, with {confidence} confidence"
        energy = calibration["score"] == "energy"
        rule = "known if the energy is at most {}" if energy else "known if the probability is at least {}"
    if threshold is not None:
        return f"Promised: {promise} ({rule.format(f'{threshold:.4g}')})."
    rows = f"{calibration['rows']:,} rows do not allow it"
    if needed := calibration.get("rows_needed"):
        likely = "" if calibration["promise"] == "conformal" else "about "
        condition = "" if calibration["promise"] == "conformal" else ", if answers stay as right as on these"
        return (
            f"Not promised: {promise}; {rows}, {likely}{needed:,} would{condition}. So no answer is known or unknown."
        )
    return (
        f"Not promised: {promise}; {rows}, nor would more: even the surest answers are not right that often. "
        "So no answer is known or unknown."
    )


def _measured(calibration: Mapping[str, Any]) -> str:
    every = f"{_percent(calibration['accuracy'])} of all answers are right"
    where = f"On the {calibration['tested']:,} of {calibration['rows']:,} rows that test the threshold, {every}"
    if "coverage" not in calibration:
        return f"{where}."
    right = calibration["selective_accuracy"]
    known = f"{_percent(calibration['coverage'])} are known" + (
        "" if right is None else f", and {_percent(right)} of these answers are right"
    )
    if "set_size" not in calibration:
        return f"{where}; {known}."
    sets = f"{_percent(calibration['set_coverage'])} of the sets hold the right label"
    return f"{where}; {sets}, with {calibration['set_size']:.2f} labels on average; {known}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + " %"
