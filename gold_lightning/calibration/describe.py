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
            "Labels are the generator's: the rows are the run's probe set, so this is about texts as the generator "
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
    """Returns the promise, and the number of rows that one asked for and not made would take."""
    threshold, wanted_level = calibration["threshold"], calibration.get("level_asked", calibration["level"])
    if calibration["promise"] == "conformal":
        rule = "a label is in the set from a probability of {} on; known if it is alone"
    elif calibration["score"] == "energy":
        rule = "known if the energy is at most {}"
    else:
        rule = "known if the probability is at least {}"
    if threshold is None:
        rows = f"{calibration['rows']:,} rows do not allow it"
        why = f"{rows}, {_more_rows(calibration)}"
        return f"Not promised: {_promise(calibration)}; {why}. So no answer is known or unknown."
    sentence = f"Promised: {_promise(calibration)} ({rule.format(f'{threshold:.4g}')})."
    if calibration["level"] < wanted_level:
        rows = f"{calibration['rows']:,} rows do not allow the {_percent(wanted_level)} asked for"
        sentence += f" {rows}, {_more_rows(calibration)}."
    return sentence


def _promise(calibration: Mapping[str, Any]) -> str:
    level = _percent(calibration["level"])
    by_generator = " by the generator's labels" if calibration["source"] == "probe" else ""
    if calibration["promise"] == "conformal":
        one = "the generator's" if by_generator else "the right one"
        return f"the set of labels holds {one} in {level} of the cases"
    confidence = _percent(calibration["confidence"])
    return f"of the answers given, at least {level} are right{by_generator}, with {confidence} confidence"


def _more_rows(calibration: Mapping[str, Any]) -> str:
    needed = calibration.get("rows_needed")
    if not needed:
        return "nor would more: even the surest answers are not right that often"
    if calibration["promise"] == "conformal":
        return f"{needed:,} would"
    return f"about {needed:,} would, if answers stay as right as on these"


def _measured(calibration: Mapping[str, Any]) -> str:
    sentence = (
        f"On the {calibration['tested']:,} of {calibration['rows']:,} rows that test the threshold, "
        f"{_percent(calibration['accuracy'])} of all answers are right"
    )
    if "coverage" not in calibration:
        return f"{sentence}."
    known = f"{_percent(calibration['coverage'])} are known"
    fitted = calibration.get("cross_fitted")
    if fitted is None:  # of an earlier version, which counted on the rows that chose the threshold
        return f"{sentence}; {'; '.join([*_sets(calibration), known, *_right(calibration)])}."
    how = "five times fitted to four fifths of the rows and counted on the rest"
    if fitted["promised"] < fitted["folds"]:
        how += f"; {fitted['promised']} of the fits allow a promise"
    measures = [*_sets(fitted), *_right(fitted)]
    if "coverage" in fitted:
        measures.append(f"{_percent(fitted['coverage'])} are known to these fits, which have fewer rows")
    return f"{sentence}; {known}. Cross-fitted ({how}){': ' if measures else ''}{'; '.join(measures)}."


def _sets(measures: Mapping[str, Any]) -> list[str]:
    if "set_size" not in measures:
        return []
    covered = f"{_percent(measures['set_coverage'])} of the sets hold the right label"
    return [f"{covered}, with {measures['set_size']:.2f} labels on average"]


def _right(measures: Mapping[str, Any]) -> list[str]:
    right = measures.get("selective_accuracy")
    return [] if right is None else [f"{_percent(right)} of the known answers are right"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + " %"
