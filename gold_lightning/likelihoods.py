"""Likelihoods of labels, and their calibration: a language model prefers some labels whatever text it reads."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gold_lightning.generators.base import has_preference
from gold_lightning.label_sets import LabelSets

__all__ = [
    "Calibration",
    "LabelCalibrator",
    "LabelLikelihoods",
    "SetCalibrator",
    "SetLikelihoods",
    "read_log_probs",
    "stored_log_probs",
    "stored_probabilities",
]

Calibration = Literal["batch", "contextual", "none"]
"""How likelihoods of labels are calibrated; :class:`LabelCalibrator` documents the values."""

_NO_MASS = -9000.0  # servers and files write minus infinity as various numbers, all below this one
_DIGITS = 6  # of stored log-likelihoods
_POWER = 0.5  # exponent of the mean probability of a label
_UNIT = 10**18  # sums are whole numbers of this fraction, so that they do not depend on the order of the rows


@dataclass(frozen=True)
class LabelLikelihoods:
    """Likelihoods of all labels of one row, as the model returned them and calibrated.

    Args:
        names: Names of the labels, in the order of the task.
        log_probs: Natural-log likelihood of each label; minus infinity for a label without mass.
        calibrated: The same, minus the calibrator's mean of each label.

    Example:
        >>> from gold_lightning.likelihoods import LabelLikelihoods
        >>> row = LabelLikelihoods(("World", "Sports"), log_probs=(-1.0, -2.0), calibrated=(0.5, 1.5))
        >>> row.label, round(row.probabilities["Sports"], 2)
        ('Sports', 0.73)
    """

    names: tuple[str, ...]
    log_probs: tuple[float, ...]
    calibrated: tuple[float, ...]

    @property
    def label(self) -> str:
        """The most likely label after calibration; the first of equals."""
        return self.names[max(range(len(self.names)), key=lambda at: self.calibrated[at])]

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each label after calibration (softmax)."""
        highest = max(self.calibrated)
        weights = [math.exp(value - highest) for value in self.calibrated]
        return {name: weight / sum(weights) for name, weight in zip(self.names, weights, strict=True)}


@dataclass(frozen=True)
class SetLikelihoods(LabelLikelihoods):
    """How likely each label of a row is by itself, for rows with several labels.

    ``log_probs`` and ``calibrated`` are natural logarithms of the odds that the label fits.

    Args:
        sets: How texts name sets of labels.

    Example:
        >>> from gold_lightning.label_sets import LabelSets
        >>> row = SetLikelihoods(("food", "staff"), log_probs=(2.0, 1.0), calibrated=(1.5, -0.5), sets=LabelSets())
        >>> row.label, round(row.probabilities["staff"], 2)
        ('food', 0.38)
    """

    sets: LabelSets

    @property
    def label(self) -> str:
        """The set of all labels that are more likely than not after calibration, as text."""
        return self.sets.text([n for n, odds in zip(self.names, self.calibrated, strict=True) if odds > 0], self.names)

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each label after calibration; they do not sum to 1."""
        pairs = zip(self.names, self.calibrated, strict=True)
        return {name: 1 / (1 + math.exp(-max(odds, -700.0))) for name, odds in pairs}


class LabelCalibrator:
    """Divides each label's likelihood by its mean probability over rows, in which the labels are equally frequent.

    The mean is a power mean with exponent 1/2. With exponent 0, the geometric mean, rows in which a sure model rules a
    label out would decide, and with 1 the few rows in which it is sure of the label; ``docs/earlier-results.md``
    compares them.

    Rows of a known label are averaged by label first, so that each label counts alike. Rows of unknown label are
    averaged as they come, on the assumption that they are balanced. All means depend on the set of the rows alone, not
    on their order, so that a resumed run calibrates as an uninterrupted one does.

    Args:
        names: Names of the labels.
        kind: ``batch``: the mean over the demos and all rows seen so far (batch calibration, Zhou et al., ICLR 2024);
            the demos count as one row of each label. ``contextual``: the mean over the demos alone (Zhao et al., ICML
            2021), for few rows. ``none``: likelihoods stay as they are.
        by_label: Whether rows have a known label.

    Example:
        >>> from gold_lightning.likelihoods import LabelCalibrator
        >>> calibrator = LabelCalibrator(["World", "Sports"], kind="batch", by_label=False)
        >>> for log_probs in [(-0.1, -2.4), (-0.2, -1.7), (-0.7, -0.7)]:
        ...     calibrator.observe(log_probs)
        >>> calibrator.likelihoods((-0.7, -0.7)).label, [round(mean, 2) for mean in calibrator.means]
        ('Sports', [-0.31, -1.47])
    """

    def __init__(self, names: Sequence[str], kind: Calibration, by_label: bool = True) -> None:
        self.names, self.kind, self.by_label = tuple(names), kind, by_label
        self._sums: dict[str, Counter[int]] = defaultdict(Counter)
        self._counts: dict[str, Counter[int]] = defaultdict(Counter)
        self._means: tuple[float, ...] | None = None

    def start(self, demos: Iterable[tuple[str, Sequence[float]]]) -> None:
        """Begins with the demos.

        Args:
            demos: Label and log-likelihoods of each demo; likelihoods without a preference are left out.
        """
        rows: dict[str, list[Sequence[float]]] = {}
        for label, log_probs in demos:
            if has_preference(log_probs):
                rows.setdefault(label, []).append(log_probs)
        for label, of_label in rows.items():
            columns = zip(*map(self._counted, of_label), strict=True)
            self._add([sum(column) / len(column) for column in columns], label)

    def observe(self, log_probs: Sequence[float], label: str = "") -> None:
        """Counts a row for the means of ``batch``; other kinds ignore it.

        Args:
            log_probs: Log-likelihood of each label; a row without a preference is left out.
            label: Label of the row, if rows have one.
        """
        if self.kind == "batch" and has_preference(log_probs):
            self._add(self._counted(log_probs), label)

    def _counted(self, log_probs: Sequence[float]) -> list[float]:
        """Returns what is averaged of a row: a power of each label's probability; 0 for a label without mass.

        Servers report no likelihood for labels that are not among their few likeliest tokens.
        """
        rounded = [round(value, _DIGITS) if _has_mass(value) else None for value in log_probs]  # as files store them
        highest = max(value for value in rounded if value is not None)
        weights = [0.0 if value is None else math.exp(value - highest) for value in rounded]
        return [(weight / math.fsum(weights)) ** _POWER for weight in weights]

    def _add(self, values: Sequence[float], label: str) -> None:
        for at, value in enumerate(values):
            group = self._group(label, at)
            self._sums[group][at] += round(value * _UNIT)
            self._counts[group][at] += 1
        self._means = None

    def _group(self, label: str, at: int) -> str:
        """Returns the group of rows to whose mean a label's likelihood counts."""
        return label if self.by_label else ""

    @property
    def means(self) -> tuple[float, ...]:
        """What is subtracted of each label: the logarithm of its mean probability; the lowest if it never had mass."""
        if self.kind == "none":
            return (0.0,) * len(self.names)
        if self._means is None:
            self._means = self._log_means()
        return self._means

    def _log_means(self) -> tuple[float, ...]:
        means = [self._log_mean(at) for at in range(len(self.names))]
        lowest = min((mean for mean in means if mean is not None), default=0.0)
        return tuple(lowest if mean is None else mean for mean in means)

    def _log_mean(self, at: int) -> float | None:
        """Returns the logarithm of the power mean at a position; ``None`` if it never had mass."""
        of_groups = [self._sums[g][at] / (n[at] * _UNIT) for g, n in self._counts.items() if n[at]]
        return math.log(math.fsum(of_groups) / len(of_groups)) / _POWER if any(of_groups) else None

    def likelihoods(self, log_probs: Sequence[float]) -> LabelLikelihoods | None:
        """Calibrates the likelihoods of a row; ``None`` if they prefer no label.

        Args:
            log_probs: Log-likelihood of each label.
        """
        if not has_preference(log_probs) or not any(map(_has_mass, log_probs)):
            return None
        raw = tuple(value if _has_mass(value) else -math.inf for value in log_probs)
        calibrated = tuple(value - mean for value, mean in zip(raw, self.means, strict=True))
        return LabelLikelihoods(self.names, raw, calibrated)


class SetCalibrator(LabelCalibrator):
    """Calibrates whether each label of a row fits, as :class:`LabelCalibrator` does, with the labels yes and no.

    A model says yes, or no, too often whatever it reads. If the labels of rows are known, its mean answers to rows with
    and without a label count alike, however frequent the label is.

    Args:
        names: Names of the labels.
        kind: As for :class:`LabelCalibrator`.
        sets: How texts name sets of labels.

    Example:
        >>> from gold_lightning.label_sets import LabelSets
        >>> calibrator = SetCalibrator(["food", "staff"], "batch", LabelSets())
        >>> for odds, labels in [((3.0, 1.0), "food"), ((1.0, 2.0), "staff"), ((1.0, 1.0), "none")]:
        ...     calibrator.observe(odds, labels)
        >>> tuple(round(mean, 2) for mean in calibrator.means), calibrator.likelihoods((2.5, 1.0)).label
        ((1.82, 1.46), 'food')
    """

    def __init__(self, names: Sequence[str], kind: Calibration, sets: LabelSets) -> None:
        super().__init__(names, kind)
        self.sets = sets

    def _group(self, label: str, at: int) -> str:
        return "with" if self.names[at // 2] in (self.sets.read(label, self.names) or ()) else "without"

    def _counted(self, log_probs: Sequence[float]) -> list[float]:
        """Returns what is averaged of yes and no for each label, one after the other."""
        return [value for odds in log_probs for value in super(SetCalibrator, self)._counted((odds, 0.0))]

    def _log_means(self) -> tuple[float, ...]:
        means = [self._log_mean(at) or 0.0 for at in range(2 * len(self.names))]
        return tuple(yes - no for yes, no in zip(means[::2], means[1::2], strict=True))

    def likelihoods(self, log_probs: Sequence[float]) -> SetLikelihoods | None:
        """Calibrates the log odds of a row; ``None`` if there are none."""
        row = super().likelihoods(log_probs)
        return None if row is None else SetLikelihoods(row.names, row.log_probs, row.calibrated, self.sets)


def stored_log_probs(names: Sequence[str], log_probs: Sequence[float]) -> dict[str, float | None]:
    """Returns likelihoods as files store them: by label, rounded, and ``None`` for a label without mass.

    Args:
        names: Names of the labels.
        log_probs: Log-likelihood of each label.
    """
    # JSON has no infinity.
    return {n: round(p, _DIGITS) if _has_mass(p) else None for n, p in zip(names, log_probs, strict=True)}


def read_log_probs(names: Sequence[str], stored: Mapping[str, float | None]) -> tuple[float, ...]:
    """Reads what :func:`stored_log_probs` returned; empty if a label is missing.

    Args:
        names: Names of the labels.
        stored: Likelihoods by label.
    """
    if not all(name in stored for name in names):
        return ()
    return tuple(-math.inf if (value := stored[name]) is None else value for name in names)


def stored_probabilities(likelihoods: LabelLikelihoods | None) -> dict[str, float]:
    """Returns calibrated probabilities as files store them: by label, with six significant digits; empty for ``None``.

    Args:
        likelihoods: The likelihoods of a row.

    Example:
        >>> from gold_lightning.likelihoods import LabelLikelihoods, stored_probabilities
        >>> stored_probabilities(LabelLikelihoods(("yes", "no"), log_probs=(-0.5, -1.5), calibrated=(8.0, -8.0)))
        {'yes': 1.0, 'no': 1.12535e-07}
    """
    return {} if likelihoods is None else {n: float(f"{p:.6g}") for n, p in likelihoods.probabilities.items()}


def _has_mass(value: float) -> bool:
    return math.isfinite(value) and value > _NO_MASS
