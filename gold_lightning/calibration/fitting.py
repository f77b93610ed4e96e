"""Fits a calibration to scored rows: temperature, threshold and the measures that are reported with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
)
from gold_lightning.errors import ConfigError, GoldError

__all__ = ["CalibrationSettings", "ScoredRows", "fit_calibration", "fitted_with"]

Array = np.ndarray[Any, Any]

_FEWEST = 10  # rows
_FOLDS = 5
_POINTS = 50  # of the curve that is stored
_GRID = 20  # levels to fall back to are multiples of 1 / 20


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
        lowest_level: If the rows do not allow a selective promise of ``level``, it falls back to the strictest that
            they allow of 0.95, 0.9, 0.85, ... and this one, above 0 and below 1. If it is ``null`` or not below
            ``level``, there is no lower promise.

    Raises:
        ConfigError: A value is out of its range, or score and promise do not go together.

    Example:
        >>> CalibrationSettings().order, CalibrationSettings("conformal", level=0.9).order
        ('energy', 'probability')
    """

    promise: Literal["selective", "conformal"] = "selective"
    level: float = 0.95
    confidence: float = 0.9
    score: Literal["energy", "probability"] | None = None
    lowest_level: float | None = None

    def __post_init__(self) -> None:
        if self.promise not in ("selective", "conformal"):
            raise ConfigError("promise", self.promise, "selective or conformal")
        if self.score not in (None, "energy", "probability"):
            raise ConfigError("score", self.score, "energy or probability")
        for key in ("level", "confidence"):
            if not 0 < getattr(self, key) < 1:
                raise ConfigError(key, getattr(self, key), "a number above 0 and below 1", "0.95 is 95 %")
        if self.lowest_level is not None and not 0 < self.lowest_level < 1:
            raise ConfigError("lowest_level", self.lowest_level, "a number above 0 and below 1", "null: none")
        if self.promise == "conformal" and self.score == "energy":
            raise ConfigError("score", self.score, "probability with the promise conformal", "labels have no energies")

    @property
    def order(self) -> Literal["energy", "probability"]:
        """The score that orders inputs: the given one, or the promise's own."""
        return self.score or ("energy" if self.promise == "selective" else "probability")

    @property
    def levels(self) -> list[float]:
        """The wanted level, then those that a selective promise may fall back to, strictest first.

        Example:
            >>> CalibrationSettings(level=0.93, lowest_level=0.8).levels
            [0.93, 0.9, 0.85, 0.8]
        """
        if self.promise == "conformal" or self.lowest_level is None or self.lowest_level >= self.level:
            return [self.level]
        grid = [step / _GRID for step in range(_GRID - 1, 0, -1)]
        between = [level for level in grid if self.lowest_level < level < self.level]
        return list(dict.fromkeys([self.level, *between, self.lowest_level]))


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

    Measures on the rows that chose temperature and threshold are too good. So the same fit is repeated five times on
    four fifths of the rows, and ``cross_fitted``, ``ece`` and ``log_loss`` are counted on the fifth that each left out.

    Args:
        rows: Scored rows, ten at least.
        settings: The promise.
        source: Origin of the labels: ``probe`` for the generator's, ``rows`` for those of labelled rows.
        seed: Seed of the division.

    Returns:
        The calibration, as :mod:`gold_lightning.calibration.rule` describes it, and:

        - ``rows_needed`` if the promise, or the one asked for, could not be kept; 0 if no number of rows would do.
        - ``level_asked`` and ``lowest_level`` if the promise could fall back; ``level`` is then the level promised, or
          the lowest one if none is.
        - ``tested``, the number of rows that tested the threshold, and over these ``accuracy`` of all answers,
          ``coverage`` (share of the known ones), ``selective_accuracy`` of the known ones, ``set_coverage`` and
          ``set_size`` for conformal sets, ``aurc_energy``, ``aurc_probability`` and ``aurc_oracle``, and ``curve``
          (coverage and accuracy by the chosen score).
        - ``cross_fitted``: the four measures of known answers and sets on rows that the fit has not seen, ``folds``,
          and ``promised``, the number of folds whose fit allowed a promise; only their rows count.
        - ``ece`` and ``log_loss`` before and after temperature.

    Raises:
        GoldError: There are too few rows, or a conformal promise is wanted for texts.
    """
    if len(rows) < _FEWEST:
        raise GoldError(f"calibration: got {len(rows)} rows, expected {_FEWEST} or more")
    if settings.promise == "conformal" and rows.targets is None:
        raise ConfigError("promise", settings.promise, "selective for a task without labels", "texts are no finite set")
    order = np.random.default_rng(seed).permutation(len(rows))
    calibration, tested = _fit(rows[order], settings)
    calibration |= {"source": source, "rows": len(rows)} | _rows_needed(calibration, settings.levels, rows)
    return calibration | _measures(calibration, tested) | _cross_fitted(rows[order], settings, calibration)


def fitted_with(calibration: Mapping[str, Any], settings: CalibrationSettings) -> bool:
    """Returns whether a calibration was fitted with these settings.

    Args:
        calibration: A calibration, also of an earlier version.
        settings: The settings.
    """
    conformal, fallback = settings.promise == "conformal", len(settings.levels) > 1
    wanted = {
        "promise": settings.promise,
        "level": settings.level,
        "confidence": None if conformal else settings.confidence,
        "score": settings.order,
        "lowest_level": settings.lowest_level if fallback else None,
    }
    fitted = dict(calibration) | {"level": calibration.get("level_asked", calibration["level"])}
    return all(fitted.get(key) == value for key, value in wanted.items())


def _fit(rows: ScoredRows, settings: CalibrationSettings) -> tuple[dict[str, Any], ScoredRows]:
    """Returns a calibration without its measures, and the rows that have tested its threshold."""
    tuning, tested = (rows[part] for part in np.split(np.arange(len(rows)), [_tuning_rows(len(rows), settings)]))
    temperature = 1.0
    if _has_temperature(rows):
        fitted = tuning if settings.order == "probability" else rows
        assert fitted.targets is not None
        temperature = fit_temperature(fitted.log_probs, fitted.targets)
    calibration: dict[str, Any] = {
        "temperature": temperature,
        "score": settings.order,
        "threshold": None,
        "promise": settings.promise,
        "level": settings.levels[-1],
        "confidence": settings.confidence if settings.promise == "selective" else None,
    }
    if len(settings.levels) > 1:
        calibration |= {"level_asked": settings.level, "lowest_level": settings.lowest_level}
    return calibration | _threshold(calibration, settings.levels, tuning, tested), tested


def _has_temperature(rows: ScoredRows) -> bool:
    return rows.targets is not None and rows.log_probs.shape[1] > 1


def _tuning_rows(rows: int, settings: CalibrationSettings) -> int:
    fifth = rows // 5
    return max(fifth, min(50, rows // 2)) if settings.order == "probability" else max(1, fifth)


def _total(tested: int, settings_of: Mapping[str, Any]) -> int:
    """Returns the least number of rows of which this many test the threshold."""
    settings = CalibrationSettings(score=settings_of["score"])
    total = tested
    while total - _tuning_rows(total, settings) < tested:
        total += max(1, tested - (total - _tuning_rows(total, settings)))
    return total


def _threshold(
    calibration: Mapping[str, Any], levels: Sequence[float], tuning: ScoredRows, tested: ScoredRows
) -> dict[str, Any]:
    """Returns ``threshold``, and the ``level`` that it promises; {} if no promise can be kept."""
    kind, temperature = calibration["score"], calibration["temperature"]
    if calibration["promise"] == "conformal":
        probabilities = judge(calibration, tested.log_probs, tested.energies).probabilities
        threshold = conformal_threshold(probabilities[np.arange(len(tested)), tested.targets], levels[0])
        return {} if threshold is None else {"threshold": threshold}
    thresholds, scores = thresholds_to_test(tuning.scores(kind, temperature)), tested.scores(kind, temperature)
    chosen = selective_threshold(thresholds, scores, tested.right, levels, calibration["confidence"])
    if chosen is None:
        return {}
    return {"threshold": -chosen[0] if kind == "energy" else chosen[0], "level": chosen[1]}


def _rows_needed(calibration: Mapping[str, Any], levels: Sequence[float], rows: ScoredRows) -> dict[str, Any]:
    """Returns ``rows_needed`` for the level asked for, or for the lowest one if none could be promised."""
    if calibration["threshold"] is not None and calibration["level"] == levels[0]:
        return {}
    if calibration["promise"] == "conformal":
        return {"rows_needed": _total(conformal_rows(levels[0]), calibration)}
    level, fallback = levels[-1 if calibration["threshold"] is None else 0], len(levels) > 1
    scores, confidence = rows.scores(calibration["score"], calibration["temperature"]), calibration["confidence"]
    let_through = scores[:, None] >= thresholds_to_test(scores)
    counts, correct = let_through.sum(0), (let_through & rows.right[:, None]).sum(0)
    accuracies = (correct + 0.5) / (counts + 1)  # a few answers that are all right prove little
    needed = selective_rows((counts / len(rows)).tolist(), accuracies.tolist(), level, confidence, fallback)
    return {"rows_needed": needed and _total(max(needed, rows_at_least(level, confidence, fallback)), calibration)}


def _measures(calibration: Mapping[str, Any], tested: ScoredRows) -> dict[str, Any]:
    by_score = {k: tested.scores(k, calibration["temperature"]) for k in ("energy", "probability")}
    measures: dict[str, Any] = {"tested": len(tested), "accuracy": float(tested.right.mean())}
    measures |= _known_measures([(calibration, tested)])
    measures |= {f"aurc_{kind}": aurc(scores, tested.right) for kind, scores in by_score.items()}
    measures["aurc_oracle"] = oracle_aurc(tested.right)
    accuracies = 1 - risk_curve(by_score[calibration["score"]], tested.right)
    places = sorted({math.ceil(len(tested) * i / _POINTS) - 1 for i in range(1, _POINTS + 1)})
    measures["curve"] = [[round((i + 1) / len(tested), 4), round(float(accuracies[i]), 4)] for i in places]
    return measures


def _known_measures(parts: Sequence[tuple[Mapping[str, Any], ScoredRows]]) -> dict[str, Any]:
    """Returns measures of known answers and of sets over several parts, each with its calibration; {} if none has."""
    known, right, covered, sizes = [], [], [], []
    for calibration, rows in parts:
        result = judge(calibration, rows.log_probs, rows.energies, rows.best)
        if result.known is None:
            continue
        known.append(result.known)
        right.append(rows.right)
        if result.label_sets is not None:
            assert rows.targets is not None
            covered.append(result.label_sets[np.arange(len(rows)), rows.targets])
            sizes.append(result.label_sets.sum(-1))
    if not known:
        return {}
    answered = np.concatenate(right)[np.concatenate(known)]
    measures: dict[str, Any] = {
        "coverage": float(np.concatenate(known).mean()),
        "selective_accuracy": float(answered.mean()) if len(answered) else None,
    }
    if covered:
        measures["set_coverage"] = float(np.concatenate(covered).mean())
        measures["set_size"] = float(np.concatenate(sizes).mean())
    return measures


def _cross_fitted(rows: ScoredRows, settings: CalibrationSettings, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Returns measures for which each row is judged by a calibration that was fitted to the other four fifths."""
    folds = np.array_split(np.arange(len(rows)), _FOLDS)
    parts = []
    temperatures = np.ones(len(rows))
    for fold in folds:
        fitted, _ = _fit(rows[np.setdiff1d(np.arange(len(rows)), fold)], settings)
        temperatures[fold] = fitted["temperature"]
        parts.append((fitted, rows[fold]))
    measures: dict[str, Any] = {}
    if calibration["threshold"] is not None:
        promised = sum(fitted["threshold"] is not None for fitted, _ in parts)
        measures["cross_fitted"] = {"folds": _FOLDS, "promised": promised} | _known_measures(parts)
    before = rows.scores("probability")
    if not _has_temperature(rows):
        return measures | {"ece": [expected_calibration_error(before, rows.right), None]}
    scaled = np.asarray(rows.log_probs, float) / temperatures[:, None]
    after = judge(None, scaled, rows.energies).probabilities[np.arange(len(rows)), rows.best]
    assert rows.targets is not None
    return measures | {
        "ece": [expected_calibration_error(p, rows.right) for p in (before, after)],
        "log_loss": [log_loss(rows.log_probs, rows.targets, t) for t in (1.0, temperatures)],
    }
