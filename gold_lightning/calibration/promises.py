"""Two promises that hold for any student and any finite number of rows.

They assume one thing: inputs are drawn as the rows were, independently of each other. Neither says anything about
inputs of another kind.

*Selective*: of the answers given, at least ``level`` are right, with ``confidence``. Thresholds are tested from the
strictest to the loosest, as long as each passes (fixed-sequence testing of Learn then Test, Angelopoulos et al., 2021).
The right answers above a threshold are binomial, so each test is exact. There are two places where the sequence begins,
each with half of the error that is allowed, and what a test has not used up goes to the next one (the fallback
procedure, Wiens and Dmitrienko, 2005): the strictest thresholds leave few rows to test, and one of them that fails must
not end it all. The chance that any threshold passes which should not is at most ``1 - confidence``, whatever the
accuracies are.

If the rows do not allow the wanted level, a selective promise can *fall back* to the strictest of some lower levels,
which were fixed before. Each start then tests its threshold at the lower levels first, and goes on to the wanted one,
from there to looser thresholds. At one threshold the hypotheses are nested (an accuracy below 0.8 is below 0.9 too), so
the lower levels come before the wanted one in the same sequence and take nothing from it. The sequence has one more
start, so the error is divided by three in place of two; a threshold to fall back to lets through half of the inputs.

*Conformal*: the set of labels holds the right one with probability ``level`` (split conformal prediction, Vovk et al.,
2005; the set of all labels above a probability, Sadinle et al., 2019). It is the mean over calibrations: with a given
one, coverage varies about ``level`` as a beta distribution.

Thresholds to be tested, and the temperature that probabilities depend on, come from other rows than those of the test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binom

__all__ = [
    "conformal_rows",
    "conformal_threshold",
    "rows_at_least",
    "selective_rows",
    "selective_threshold",
    "thresholds_to_test",
]

Array = np.ndarray[Any, Any]

_STEPS = 40
_LEAST_COVERAGE = 0.5  # of a promise that is fallen back to: one about a few inputs is of little use
_POWER = 0.8  # chance of success with as many rows as are named
_MOST_ROWS = 10_000_000


def thresholds_to_test(scores: Array) -> Array:
    """Returns 40 thresholds, strictest first, that each let through one fortieth more of some rows than the last one.

    The last lets through all of them, but not every input: one that is less sure than any row stays unknown.

    Args:
        scores: (rows,), higher for surer answers, of rows that are not tested.
    """
    return np.asarray(np.quantile(scores, 1 - np.arange(1, _STEPS + 1) / _STEPS))


def selective_threshold(
    thresholds: Array, scores: Array, right: Array, levels: Sequence[float], confidence: float
) -> tuple[float, float] | None:
    """Returns the loosest threshold for which the strictest possible of several selective promises holds.

    Args:
        thresholds: Thresholds as :func:`thresholds_to_test` gives them, of other rows.
        scores: (rows,), higher for surer answers.
        right: (rows,) bool, whether each answer is right.
        levels: Shares of right answers among those with at least the threshold's score: the wanted one, then those to
            fall back to, strictest first. They must not depend on the rows.
        confidence: Probability with which the returned promise is kept.

    Returns:
        The threshold and its level; ``None`` if no promise can be kept with these rows.

    Example:
        >>> scores = np.arange(200.0)
        >>> selective_threshold(thresholds_to_test(scores), scores, scores >= 60, levels=[0.9], confidence=0.9)
        (54.725..., 0.9)
        >>> selective_threshold(thresholds_to_test(scores), scores, scores >= 60, levels=[0.999, 0.9], confidence=0.9)
        (99.5, 0.9)
    """
    ranked = np.argsort(-np.asarray(scores, float), kind="stable")
    counts = np.searchsorted(-np.asarray(scores, float)[ranked], -thresholds, side="right")
    correct = np.r_[0, np.cumsum(np.asarray(right, bool)[ranked])][counts]
    shares = _starts(len(scores), levels, confidence)
    passed, carried = None, 0.0
    chances = _chance_of_more(correct, counts, levels[0])
    for threshold, chance, share in zip(thresholds, chances, shares, strict=True):
        allowed = carried + share
        carried = allowed if allowed > 0 and chance <= allowed else 0.0
        passed = float(threshold) if carried else passed
    if passed is not None:
        return passed, levels[0]
    useful = (shares > 0) & (np.arange(1, _STEPS + 1) >= _LEAST_COVERAGE * _STEPS)
    for level in levels[1:]:
        holds = useful & (_chance_of_more(correct, counts, level) <= shares)
        if holds.any():
            return float(thresholds[holds][-1]), level
    return None


def _chance_of_more(correct: Array, counts: Array, level: float) -> Array:
    """Returns the probability of as many right answers or more if each is right with probability ``level``."""
    return np.asarray(binom.sf(np.asarray(correct) - 1, counts, level))


def _starts(rows: int, levels: Sequence[float], confidence: float) -> Array:
    """Returns the error that is allowed anew at each threshold, (thresholds,); it sums to ``1 - confidence`` or less.

    The first start is the strictest threshold that can pass at all at the wanted level, if all answers are right. With
    one level the second lies half way to the loosest, in terms of logarithms; with several, further ones let through
    half of the inputs and all of them.
    """
    first = rows_at_least(levels[0], confidence, fallback=len(levels) > 1) / max(1, rows)
    wanted = (first, _LEAST_COVERAGE, 1.0) if len(levels) > 1 else (first, math.sqrt(first))
    coverages = [coverage for coverage in wanted if coverage <= 1]
    shares = np.zeros(_STEPS)
    for coverage in coverages:
        shares[math.ceil(coverage * _STEPS) - 1] += (1 - confidence) / len(coverages)
    return shares


def _starting_error(confidence: float, fallback: bool) -> float:
    """Returns the error that each start is allowed if no start is left out."""
    return (1 - confidence) / (3 if fallback else 2)


def rows_at_least(level: float, confidence: float, fallback: bool = False) -> int:
    """Returns the least number of answers, all of them right, that the selective test can pass with.

    Args:
        level: Promised share of right answers.
        confidence: Probability with which the promise is kept.
        fallback: Whether there are further levels to fall back to, for which a share of the error is put aside.

    Example:
        >>> rows_at_least(0.95, 0.9), rows_at_least(0.95, 0.9, fallback=True)
        (59, 67)
    """
    return math.ceil(round(math.log(_starting_error(confidence, fallback)) / math.log(level), 9))


def selective_rows(
    coverages: Sequence[float],
    accuracies: Sequence[float],
    level: float,
    confidence: float,
    fallback: bool = False,
) -> int:
    """Returns the number of tested rows with which the selective promise is kept four times out of five.

    Args:
        coverages: Share of rows that each of several thresholds lets through, above 0.
        accuracies: Share of right answers among those.
        level: Promised share of right answers.
        confidence: Probability with which the promise is kept.
        fallback: Whether there are further levels to fall back to.

    Returns:
        The number of rows; 0 if no number would do, because no threshold is above the level.

    Example:
        >>> selective_rows([0.5, 1.0], [0.98, 0.9], level=0.95, confidence=0.9)
        468
        >>> selective_rows([0.5, 1.0], [0.94, 0.9], level=0.95, confidence=0.9)
        0
    """
    allowed = _starting_error(confidence, fallback)
    fewest = 0
    above = [(c, a) for c, a in zip(coverages, accuracies, strict=True) if a > level]
    for coverage, accuracy in sorted(above, key=lambda pair: -pair[0] * (pair[1] - level) ** 2):  # the likely one first
        low = high = rows_at_least(level, confidence, fallback)
        most = (fewest or _MOST_ROWS) * coverage
        if not _passes(int(most), accuracy, level, allowed):
            continue
        while high < most and not _passes(high, accuracy, level, allowed):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _passes(middle, accuracy, level, allowed) else (middle, high)
        rows = math.ceil(high / coverage)
        fewest = rows if not fewest else min(fewest, rows)
    return fewest if fewest <= _MOST_ROWS else 0


def _passes(count: int, accuracy: float, level: float, allowed: float) -> bool:
    """Returns whether a test of this many answers of this accuracy passes with the usual power."""
    enough = binom.isf(allowed, count, level) + 1  # least number of right answers that passes
    return bool(binom.sf(enough - 1, count, accuracy) >= _POWER)


def conformal_threshold(scores: Array, level: float) -> float | None:
    """Returns the probability that labels of the conformal set have at least.

    Args:
        scores: (rows,), probability of the right label of each row.
        level: Promised coverage.

    Returns:
        The threshold, the k-th smallest score with k = floor((1 - level) (rows + 1)); ``None`` if k is 0, so that only
        the set of all labels would keep the promise.

    Example:
        >>> conformal_threshold(np.arange(1, 20) / 20, level=0.9)
        0.1
    """
    rank = math.floor(round((1 - level) * (len(scores) + 1), 9))
    return float(np.sort(scores)[rank - 1]) if rank else None


def conformal_rows(level: float) -> int:
    """Returns the least number of rows with which the conformal promise can be kept.

    Example:
        >>> conformal_rows(0.95), conformal_rows(0.9)
        (19, 9)
    """
    return math.ceil(round(1 / (1 - level), 9)) - 1
