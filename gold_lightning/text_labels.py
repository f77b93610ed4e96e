"""Labels of real texts: the generator's probabilities of labels and the student's, taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from gold_lightning.calibration.temperature import fit_temperature
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.task import Sample

__all__ = ["LabelledBy", "joint_probabilities", "with_joint_label"]

LabelledBy = Literal["both", "generator"]
"""Whose probabilities give a real text its label when it is fed back."""

_Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

_LEAST = 1e-9  # a probability of 0 would decide alone


def joint_probabilities(
    generator: Sequence[Mapping[str, float]], student: Sequence[Sequence[float]], names: Sequence[str]
) -> list[dict[str, float]]:
    """Returns the labels' probabilities by generator and student together.

    The student has learnt the task and the generator has read more: their mistakes differ. A trained student is far
    surer than it is right, so its log-probabilities are divided by the temperature at which it is as sure as it agrees
    with the generator's labels (:func:`gold_lightning.calibration.temperature.fit_temperature`). The sum of both is the
    joint log-probability. A student that often differs from a generator that is sure hardly counts, and one that
    agrees with a generator that is seldom sure decides. The student's log-probabilities are not balanced over labels:
    it was trained on as many samples of each, and real texts need not be as many.

    Args:
        generator: The generator's calibrated probability of each label, by name, for each text.
        student: The student's log-probability of each label, (texts, labels).
        names: Names of the labels, in the order of the student's columns.

    Returns:
        The probability of each label, by name, for each text; they sum to 1.

    Example:
        >>> from gold_lightning.text_labels import joint_probabilities
        >>> generator = [{"yes": p, "no": 1 - p} for p in (0.55, 0.9, 0.1, 0.8)]
        >>> student = [[-3.0, -0.1], [-0.1, -3.0], [-3.0, -0.1], [-0.1, -3.0]]  # they differ on the first text
        >>> [max(row, key=row.get) for row in joint_probabilities(generator, student, ["yes", "no"])]
        ['no', 'yes', 'no', 'yes']
    """
    if not generator:
        return []
    of_generator: _Floats = np.log(np.maximum([[row[name] for name in names] for row in generator], _LEAST))
    of_student: _Floats = np.maximum(np.array(student, dtype=float), np.log(_LEAST))
    of_student -= of_student.mean(1, keepdims=True)
    of_student /= max(of_student.std(), _LEAST)  # the temperature has bounds
    joint = of_generator + of_student / fit_temperature(of_student, of_generator.argmax(1))
    shares = np.exp(joint - joint.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return [{name: float(f"{p:.6g}") for name, p in zip(names, row, strict=True)} for row in shares.tolist()]


def with_joint_label(stored: StoredSample, probabilities: Mapping[str, Any] | None) -> StoredSample:
    """Returns a real text under the likeliest label.

    Args:
        stored: The text under the generator's label.
        probabilities: The joint probabilities; the sample stays as it is without them.
    """
    if not probabilities:
        return stored
    label = max(probabilities, key=lambda name: probabilities[name])
    return replace(stored, sample=Sample(stored.sample.fields, label), probabilities=dict(probabilities))
