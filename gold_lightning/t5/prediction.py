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
        chosen: The predicted labels, for a task whose rows have several; ``None`` for others.
        energies: Free energy of each predicted label, averaged over its tokens.

    Example:
        >>> prediction = Prediction("Sports", ["World", "Sports"], [0.1, 0.9], probability=0.9, energy=-12.5)
        >>> prediction == "Sports", prediction.probability, prediction.probabilities
        (True, 0.9, {'World': 0.1, 'Sports': 0.9})

        If rows have several labels, ``probability`` is that of all of them together, and ``probabilities`` has for each
        label that of being among them:

        >>> prediction = Prediction("billing, delivery", ["billing", "delivery", "returns"], [0.9, 0.8, 0.1],
        ...                         probability=0.7, energy=-12.5, chosen=["billing", "delivery"], energies=[-12, -13])
        >>> prediction.labels, prediction.probabilities["returns"], prediction.energies
        (('billing', 'delivery'), 0.1, {'billing': -12, 'delivery': -13})
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
        chosen: Sequence[str] | None = None,
        energies: Sequence[float] = (),
    ) -> Prediction:
        prediction = super().__new__(cls, text)
        prediction.probability, prediction.energy = float(probability), float(energy)
        prediction.known = None if known is None else bool(known)
        prediction.label_set = None if label_set is None else list(label_set)
        # As they are: a mapping for each of many predictions would take most of their memory.
        prediction._labels, prediction._probabilities = labels, probabilities
        prediction._chosen, prediction._energies = chosen, energies
        return prediction

    _labels: Sequence[str]
    _probabilities: Sequence[float]
    _chosen: Sequence[str] | None
    _energies: Sequence[float]

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        names = ("probability", "energy", "known", "label_set")
        values = {name: getattr(self, name) for name in names} | {"chosen": self._chosen, "energies": self._energies}
        return (str(self), self._labels, self._probabilities), values

    @property
    def text(self) -> str:
        """The predicted text as an ordinary string."""
        return str(self)

    @property
    def label(self) -> str | None:
        """The predicted label; ``None`` if the student generated text, or if rows have several labels."""
        return str(self) if len(self._labels) and self._chosen is None else None

    @property
    def is_set(self) -> bool:
        """Whether the prediction is a set of labels, since rows have several."""
        return self._chosen is not None

    @property
    def labels(self) -> tuple[str, ...]:
        """The predicted labels: one, or any number if rows have several; none if the student generated text."""
        if self._chosen is not None:
            return tuple(self._chosen)
        return (str(self),) if len(self._labels) else ()

    @property
    def energies(self) -> Mapping[str, float]:
        """Free energy of each predicted label by its name, if rows have several labels."""
        return dict(zip(self._chosen or (), self._energies, strict=False))

    @property
    def probabilities(self) -> Mapping[str, float]:
        """Probability of each label, in the task's order; empty if the student generated text.

        If rows have several labels, it is the sum of the probabilities of all sets with the label, so the values do not
        sum to 1. Sets with a probability of less than 0.001 together may be left out.
        """
        return dict(zip(self._labels, map(float, self._probabilities), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values by name.

        Returns:
            ``label``, ``labels`` or ``text``, ``probability``, ``energy`` and ``known``; for labels ``probabilities``,
            and ``label_set`` if the promise is conformal; ``energies`` of the predicted labels if there may be several.
        """
        values: dict[str, Any] = {"text" if self.label is None else "label": str(self)}
        if self._chosen is not None:
            values = {"labels": list(self.labels)}
        values |= {"probability": self.probability, "energy": self.energy, "known": self.known}
        values |= {} if self.label_set is None else {"label_set": self.label_set}
        values |= {"probabilities": self.probabilities} if len(self._labels) else {}
        return values | ({} if self._chosen is None else {"energies": self.energies})
