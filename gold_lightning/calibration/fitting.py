"""Fits a calibration to scored rows: temperature, threshold and the measures that are reported with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gold_lightning.calibration.promises import (
    conformal_rows,
    conformal_threshold,
    rows_at_least,
    selective_rows,
    selective_threshold,
    thresholds_to_test,
)
from gold_lightning.calibration.risk import aurc, oracle_aurc, risk_curve
from gold_lightning.calibration.rule import judge
from gold_lightning.calibration.temperature import (
    expected_calibration_error,
    fit_temperature,
    log_loss,
    out_of_fold_temperatures,
)
from gold_lightning.errors import ConfigError, GoldError

__all__ = ["CalibrationSettings", "ScoredRows", "fit_calibration"]

Array = np.ndarray[Any, Any]

_FEWEST = 10  # rows
_POINTS = 50  # of the curve that is stored


@dataclass(frozen=True)
class CalibrationSettings:
    """The promise that a calibration makes.

    Args:
        promise: ``selective``: of the answers given, at least ``level`` are right, with ``confidence``. ``conformal``:
            a set of labels holds the right one with probability ``level``.
        level: The promised share, above 0 and below 1.
        confidence: Probability with which a selective promise is kept, above 0 and below 1.
        score: Order of inputs from known to unknown: by ``energy``, or by ``probability`` of the prediction. By default
            ``energy`` for a selective promise; a conformal one needs ``probability``.

    Raises:
        ConfigError: A value is out of its range, or score and promise do not go together.

    Example:
        >>> CalibrationSettings().score, CalibrationSettings("conformal", level=0.9).score
        ('energy', 'probability')
    """

    promise: Literal["selective", "conformal"] = "selective"
    level: float = 0.95
    confidence: float = 0.9
    score: Literal["energy", "probability"] | None = None

    def __post_init__(self) -> None:
        if self.promise not in ("selective", "conformal"):
            raise ConfigError("promise", self.promise, "selective or conformal")
        if self.score not in (None, "energy", "probability"):
            raise ConfigError("score", self.score, "energy or probability")
        for key in ("level", "confidence"):
            if not 0 < getattr(self, key) < 1:
                raise ConfigError(key, getattr(self, key), "a number above 0 and below 1", "0.95 is 95 %")
        if self.promise == "conformal" and self.score == "energy":
            raise ConfigError("score", self.score, "probability with the promise conformal", "labels have no energies")
        if self.score is None:
            object.__setattr__(self, "score", "energy" if self.promise == "selective" else "probability")


@dataclass(frozen=True)
class ScoredRows:
    """Labelled rows with a student's scores, before any calibration.

    Args:
        log_probs: (rows, labels), natural logarithm of the probability of each label; (rows, 1) for texts.
        energies: (rows,), energy of each prediction.
        best: (rows,) int, position of the predicted label; 0 for texts.
        right: (rows,) bool, whether the prediction is right.
        targets: (rows,) int, position of the right label; ``None`` for texts.
    """

    log_probs: Array
    energies: Array
    best: Array
    right: Array
    targets: Array | None = None

    def __getitem__(self, places: Array) -> ScoredRows:
        log_probs, energies, best, right = (c[places] for c in (self.log_probs, self.energies, self.best, self.right))
        return ScoredRows(log_probs, energies, best, right, None if self.targets is None else self.targets[places])

    def __len__(self) -> int:
        return len(self.right)

    def scores(self, kind: str, temperature: float = 1.0) -> Array:
        """Returns the score of each row, (rows,), higher for surer predictions."""
        if kind == "energy":
            return -np.asarray(self.energies, float)
        probabilities = judge({"temperature": temperature}, self.log_probs, self.energies).probabilities
        return np.asarray(probabilities[np.arange(len(self)), self.best], float)


def fit_calibration(
    rows: ScoredRows, settings: CalibrationSettings, source: Literal["probe", "rows"], seed: int = 0
) -> dict[str, Any]:
    """Fits temperature and threshold.

    The rows are divided by chance: a fifth gives the thresholds to test, the others test them. If probabilities decide,
    the temperature comes from the first part too, which then has 50 rows at least, or half of the rows; otherwise from
    all rows, since the threshold does not depend on it.

    Args:
        rows: Scored rows, ten at least.
        settings: The promise.
        source: Origin of the labels: ``probe`` for the generator's, ``rows`` for those of labelled rows.
        seed: Seed of the division.

    Returns:
        The calibration, as :mod:`gold_lightning.calibration.rule` describes it, and measures of it: ``tested``, the
        number of rows that tested the threshold, and over these ``accuracy`` of all answers, ``coverage`` (share of the
        known ones) and ``selective_accuracy`` of the known ones, ``set_coverage`` and ``set_size`` for conformal sets,
        ``aurc_energy``, ``aurc_probability`` and ``aurc_oracle``, and ``curve`` (coverage and accuracy by the chosen
        score); ``ece`` and ``log_loss`` before and after temperature, each row after a temperature that was fitted
        without it; ``rows_needed`` if the promise could not be kept, 0 if no number of rows would do.

    Raises:
        GoldError: There are too few rows, or a conformal promise is wanted for texts.
    """
    if len(rows) < _FEWEST:
        raise GoldError(f"calibration: got {len(rows)} rows, expected {_FEWEST} or more")
    if settings.promise == "conformal" and rows.targets is None:
        raise ConfigError("promise", settings.promise, "selective for a task without labels", "texts are no finite set")
    order = np.random.default_rng(seed).permutation(len(rows))
    tuning, testing = np.split(order, [_tuning_rows(len(rows), settings)])
    temperature, by_probability = 1.0, settings.score == "probability"
    if rows.targets is not None and rows.log_probs.shape[1] > 1:
        fitted = rows[tuning] if by_probability else rows
        assert fitted.targets is not None
        temperature = fit_temperature(fitted.log_probs, fitted.targets)
    calibration: dict[str, Any] = {
        "temperature": temperature,
        "score": settings.score,
        "threshold": None,
        "promise": settings.promise,
        "level": settings.level,
        "confidence": settings.confidence if settings.promise == "selective" else None,
        "source": source,
        "rows": len(rows),
    }
    tested = rows[testing]
    calibration |= _threshold(calibration, rows[tuning], tested, rows)
    return calibration | _measures(calibration, tested) | _errors(rows, order)


def _tuning_rows(rows: int, settings: CalibrationSettings) -> int:
    fifth = rows // 5
    return max(fifth, min(50, rows // 2)) if settings.score == "probability" else max(1, fifth)


def _total(tested: int, settings_of: Mapping[str, Any]) -> int:
    """Returns the least number of rows of which this many test the threshold."""
    settings = CalibrationSettings(score=settings_of["score"])
    total = tested
    while total - _tuning_rows(total, settings) < tested:
        total += max(1, tested - (total - _tuning_rows(total, settings)))
    return total


def _threshold(
    calibration: Mapping[str, Any], tuning: ScoredRows, tested: ScoredRows, every: ScoredRows
) -> dict[str, Any]:
    """Returns ``threshold``, or ``rows_needed`` if the promise cannot be kept."""
    level, kind, temperature = calibration["level"], calibration["score"], calibration["temperature"]
    if calibration["promise"] == "conformal":
        probabilities = judge(calibration, tested.log_probs, tested.energies).probabilities
        threshold = conformal_threshold(probabilities[np.arange(len(tested)), tested.targets], level)
        if threshold is None:
            return {"rows_needed": _total(conformal_rows(level), calibration)}
        return {"threshold": threshold}
    thresholds = thresholds_to_test(tuning.scores(kind, temperature))
    confidence = calibration["confidence"]
    threshold = selective_threshold(thresholds, tested.scores(kind, temperature), tested.right, level, confidence)
    if threshold is not None:
        return {"threshold": -threshold if kind == "energy" else threshold}
    let_through = every.scores(kind, temperature)[:, None] >= thresholds
    counts, correct = let_through.sum(0), (let_through & every.right[:, None]).sum(0)
    used = counts > 0
    accuracies = (correct[used] + 0.5) / (counts[used] + 1)  # a few answers that are all right prove little
    needed = selective_rows((counts[used] / len(every)).tolist(), accuracies.tolist(), level, confidence)
    return {"rows_needed": needed and _total(max(needed, rows_at_least(level, confidence)), calibration)}


def _measures(calibration: Mapping[str, Any], tested: ScoredRows) -> dict[str, Any]:
    result = judge(calibration, tested.log_probs, tested.energies, tested.best)
    by_score = {k: tested.scores(k, calibration["temperature"]) for k in ("energy", "probability")}
    measures: dict[str, Any] = {"tested": len(tested), "accuracy": float(tested.right.mean())}
    if result.known is not None:
        measures["coverage"] = float(result.known.mean())
        right = tested.right[result.known]
        measures["selective_accuracy"] = float(right.mean()) if len(right) else None
    if result.label_sets is not None:
        assert tested.targets is not None
        measures["set_coverage"] = float(result.label_sets[np.arange(len(tested)), tested.targets].mean())
        measures["set_size"] = float(result.label_sets.sum(-1).mean())
    measures |= {f"aurc_{kind}": aurc(scores, tested.right) for kind, scores in by_score.items()}
    measures["aurc_oracle"] = oracle_aurc(tested.right)
    accuracies = 1 - risk_curve(by_score[calibration["score"]], tested.right)
    places = sorted({math.ceil(len(tested) * i / _POINTS) - 1 for i in range(1, _POINTS + 1)})
    measures["curve"] = [[round((i + 1) / len(tested), 4), round(float(accuracies[i]), 4)] for i in places]
    return measures


def _errors(rows: ScoredRows, order: Array) -> dict[str, Any]:
    before = rows.scores("probability")
    if rows.targets is None or rows.log_probs.shape[1] == 1:
        return {"ece": [expected_calibration_error(before, rows.right), None]}
    temperatures = out_of_fold_temperatures(rows.log_probs, rows.targets, order)
    scaled = np.asarray(rows.log_probs, float) / temperatures[:, None]
    after = judge(None, scaled, rows.energies).probabilities[np.arange(len(rows)), rows.best]
    return {
        "ece": [expected_calibration_error(p, rows.right) for p in (before, after)],
        "log_loss": [log_loss(rows.log_probs, rows.targets, t) for t in (1.0, temperatures)],
    }
