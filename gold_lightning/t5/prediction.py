"""A prediction of the student: a text that knows how sure the student is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Prediction"]


class Prediction(str):
    """The label or text that the student predicts for an input, with its probability and energy.

    It is a string, so it can be compared, counted and written like one.

    Args:
        text: The label or text.
        labels: Names of the labels that the student chose among; none if it generated text.
        probabilities: Probability of each of these labels; they sum to 1.
        probability: Probability of the prediction: among the labels if there are any, otherwise of this text among
            all texts.
        energy: Free energy, averaged over the tokens of the prediction; higher for inputs that the student knows less.
        known: Whether the promise of the student's calibration holds for this prediction; ``None`` if the student is
            not calibrated, or its calibration could promise nothing.
        label_set: Labels one of which is the right one with the promised probability, in the task's order; ``None``
            unless the promise is conformal.

    Example:
        >>> prediction = Prediction("Sports", ["World", "Sports"], [0.1, 0.9], probability=0.9, energy=-12.5)
        >>> prediction == "Sports", prediction.probability, prediction.probabilities
        (True, 0.9, {'World': 0.1, 'Sports': 0.9})
    """

    probability: float
    energy: float
    known: bool | None
    label_set: list[str] | None

    def __new__(
        cls,
        text: str,
        labels: Sequence[str] = (),
        probabilities: Sequence[float] = (),
        *,
        probability: float,
        energy: float,
        known: bool | None = None,
        label_set: Sequence[str] | None = None,
    ) -> Prediction:
        prediction = super().__new__(cls, text)
        prediction.probability, prediction.energy = float(probability), float(energy)
        prediction.known = None if known is None else bool(known)
        prediction.label_set = None if label_set is None else list(label_set)
        # As they are: a mapping for each of many predictions would take most of their memory.
        prediction._labels, prediction._probabilities = labels, probabilities
        return prediction

    _labels: Sequence[str]
    _probabilities: Sequence[float]

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        names = ("probability", "energy", "known", "label_set")
        return (str(self), self._labels, self._probabilities), {name: getattr(self, name) for name in names}

    @property
    def text(self) -> str:
        """The predicted text as an ordinary string."""
        return str(self)

    @property
    def label(self) -> str | None:
        """The predicted label; ``None`` if the student generated text."""
        return str(self) if len(self._labels) else None

    @property
    def probabilities(self) -> Mapping[str, float]:
        """Probability of each label, in the task's order; empty if the student generated text."""
        return dict(zip(self._labels, map(float, self._probabilities), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values by name.

        Returns:
            ``label`` or ``text``, ``probability``, ``energy`` and ``known``; for labels ``probabilities``, and
            ``label_set`` if the promise is conformal.
        """
        values: dict[str, Any] = {"text" if self.label is None else "label": str(self)}
        values |= {"probability": self.probability, "energy": self.energy, "known": self.known}
        values |= {} if self.label_set is None else {"label_set": self.label_set}
        return values | ({} if self.label is None else {"probabilities": self.probabilities})
