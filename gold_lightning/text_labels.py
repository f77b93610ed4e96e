"""Labels of real texts: the generator's probabilities of labels and the student's, taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from gold_lightning.storage.round_store import StoredSample
from gold_lightning.task import Sample

__all__ = ["LabelledBy", "joint_probabilities", "with_joint_label"]

LabelledBy = Literal["both", "generator"]
"""Whose probabilities give a real text its label when it is fed back."""

_Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

_STUDENT_SPREAD = 2.0  # of the student's log-probabilities, over that of the generator's
_LEAST = 1e-9  # a probability of 0 would decide alone


def joint_probabilities(
    generator: Sequence[Mapping[str, float]], student: Sequence[Sequence[float]], names: Sequence[str]
) -> list[dict[str, float]]:
    """Returns the labels' probabilities by generator and student together.

    The student has learnt the task and the generator has read more: their mistakes differ. A student that was trained
    for many passes is far surer than it is right, so its log-probabilities are scaled to twice the spread (standard
    deviation) of the generator's calibrated ones. The sum of both is the joint log-probability. The student's are not
    calibrated: it was trained on as many samples of each label, and real texts need not be as balanced.

    Args:
        generator: The generator's calibrated probability of each label, by name, for each text.
        student: The student's log-probability of each label, (texts, labels).
        names: Names of the labels, in the order of the student's columns.

    Returns:
        The probability of each label, by name, for each text; they sum to 1.

    Example:
        >>> from gold_lightning.text_labels import joint_probabilities
        >>> generator = [{"yes": 0.6, "no": 0.4}, {"yes": 0.9, "no": 0.1}]
        >>> student = [[-2.0, -0.1], [-0.1, -2.0]]
        >>> [max(row, key=row.get) for row in joint_probabilities(generator, student, ["yes", "no"])]
        ['no', 'yes']
    """
    if not generator:
        return []
    of_generator = _even(np.log(np.maximum([[row[name] for name in names] for row in generator], _LEAST)))
    of_student = _even(np.maximum(np.array(student, dtype=float), np.log(_LEAST)))
    spread = of_generator.std()
    scale = _STUDENT_SPREAD * spread / max(of_student.std(), _LEAST) if spread > _LEAST else 1.0
    joint = of_generator + scale * of_student
    shares = np.exp(joint - joint.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return [{name: float(f"{p:.6g}") for name, p in zip(names, row, strict=True)} for row in shares.tolist()]


def _even(log_probs: _Floats) -> _Floats:
    """Subtracts each text's mean over the labels."""
    differences: _Floats = log_probs - log_probs.mean(1, keepdims=True)
    return differences


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
