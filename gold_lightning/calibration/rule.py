"""Turns log-probabilities and energies into probabilities, known or not, and sets of labels. Needs numpy alone.

A calibration is a mapping of plain values, the ``calibration`` of a student folder's ``gold_task.json``:

- ``temperature``: number above 0 by which log-probabilities of labels are divided; 1 for tasks without labels.
- ``score``: ``energy`` or ``probability``, by which inputs are ranked from known to unknown.
- ``threshold``: with the promise ``selective``, the highest energy or the lowest probability that is known; with
  ``conformal``, the lowest probability of a label in the set. ``null`` if the promise could not be kept.
- ``promise``: ``selective`` or ``conformal``.
- ``level``: promised share of right answers among those given, or of sets that hold the right label.
- ``confidence``: probability with which the rows keep a selective promise; ``null`` for a conformal one, which holds on
  average.
- ``source``: ``probe`` (labels of the generator) or ``rows`` (labelled rows of the user); ``rows``: their number.

This file imports nothing of the package, so that a folder without torch can contain a copy of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Judgement", "check_calibration", "judge"]

_CHOICES = {
    "score": ("energy", "probability"),
    "promise": ("selective", "conformal"),
    "source": ("probe", "rows"),
}


@dataclass(frozen=True)
class Judgement:
    """The rule's result for a batch.

    Args:
        probabilities: (rows, labels), probability of each label after temperature; for texts (rows, 1).
        known: (rows,) bool; ``None`` if there is no threshold.
        label_sets: (rows, labels) bool, labels in the set of each row; ``None`` unless the promise is conformal.
    """

    probabilities: np.ndarray[Any, Any]
    known: np.ndarray[Any, Any] | None = None
    label_sets: np.ndarray[Any, Any] | None = None


def judge(
    calibration: Mapping[str, Any] | None,
    log_probs: np.ndarray[Any, Any],
    energies: np.ndarray[Any, Any],
    best: np.ndarray[Any, Any] | None = None,
) -> Judgement:
    """Applies a calibration to the scores of a batch. The likeliest label stays the likeliest.

    Args:
        calibration: The calibration; ``None`` for temperature 1 without a threshold.
        log_probs: (rows, labels), natural logarithm of the probability of each label; for texts (rows, 1), of the
            text.
        energies: (rows,), energy of each prediction.
        best: (rows,), position of the predicted label; the likeliest one by default.

    Returns:
        Probabilities, and known or not.

    Example:
        >>> calibration = {"temperature": 2.0, "score": "energy", "threshold": -12.0, "promise": "selective"}
        >>> result = judge(calibration, np.log([[0.9, 0.1], [0.6, 0.4]]), np.array([-13.0, -11.5]))
        >>> result.probabilities.round(2).tolist(), result.known.tolist()
        ([[0.75, 0.25], [0.55, 0.45]], [True, False])
    """
    calibration = calibration or {}
    temperature = float(calibration.get("temperature", 1.0))
    log_probs = np.asarray(log_probs)
    if log_probs.shape[-1] == 1:
        probabilities = np.exp(log_probs)
    else:
        scaled = log_probs / temperature
        shares = np.exp(scaled - scaled.max(-1, keepdims=True))
        probabilities = shares / shares.sum(-1, keepdims=True)
    threshold = calibration.get("threshold")
    if threshold is None:
        return Judgement(probabilities)
    rows = np.arange(len(probabilities))
    best = probabilities.argmax(-1) if best is None else np.asarray(best)
    if calibration["promise"] == "conformal":
        label_sets = probabilities >= threshold
        label_sets[rows, best] = True  # an empty set would say nothing, and a larger one covers no less
        return Judgement(probabilities, label_sets.sum(-1) == 1, label_sets)
    if calibration["score"] == "energy":
        return Judgement(probabilities, np.asarray(energies) <= threshold)
    return Judgement(probabilities, probabilities[rows, best] >= threshold)


def check_calibration(calibration: object) -> dict[str, Any]:
    """Returns a calibration as read from a file, after a look at its values.

    Raises:
        ValueError: A value is missing or not one of those allowed.
    """
    if not isinstance(calibration, Mapping):
        raise ValueError(f"calibration is {calibration!r:.60}, no mapping")
    for key, choices in _CHOICES.items():
        if calibration.get(key) not in choices:
            raise ValueError(f"calibration.{key} is {calibration.get(key)!r:.60}, none of {', '.join(choices)}")
    numbers = {"temperature": False, "threshold": True, "level": False, "confidence": True}
    for key, may_be_none in numbers.items():
        value = calibration.get(key)
        if value is None and may_be_none:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise ValueError(f"calibration.{key} is {value!r:.60}, no finite number")
    if calibration["temperature"] <= 0:
        raise ValueError(f"calibration.temperature is {calibration['temperature']}, expected a number above 0")
    return dict(calibration)
