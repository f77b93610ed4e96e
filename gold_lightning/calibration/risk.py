"""Risk and coverage: how many answers are wrong if only the surest are given (El-Yaniv and Wiener, JMLR 2010)."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["aurc", "oracle_aurc", "risk_curve"]

Array = np.ndarray[Any, Any]


def risk_curve(scores: Array, right: Array) -> Array:
    """Returns the share of wrong answers among the surest 1, 2, ... rows, (rows,).

    Rows with equal scores have no order: each counts as the mean of them.

    Args:
        scores: (rows,), higher for surer answers.
        right: (rows,) bool, whether each answer is right.

    Example:
        >>> risk_curve(np.array([3.0, 2.0, 1.0]), np.array([True, False, True])).round(2).tolist()
        [0.0, 0.5, 0.33]
    """
    _, group, sizes = np.unique(-np.asarray(scores, float), return_inverse=True, return_counts=True)
    wrong = np.bincount(group, ~np.asarray(right, bool)) / sizes
    return np.asarray(np.repeat(wrong, sizes).cumsum() / np.arange(1, len(group) + 1))


def aurc(scores: Array, right: Array) -> float:
    """Returns the area under the risk-coverage curve: the mean of :func:`risk_curve`; lower is better.

    Args:
        scores: (rows,), higher for surer answers; one row at least.
        right: (rows,) bool, whether each answer is right.
    """
    return float(risk_curve(scores, right).mean())


def oracle_aurc(right: Array) -> float:
    """Returns the least area that these answers allow, of scores that put every wrong one last.

    The difference to :func:`aurc` is the excess, E-AURC (Geifman et al., ICLR 2019).

    Args:
        right: (rows,) bool, whether each answer is right; one row at least.
    """
    return aurc(np.asarray(right, float), right)
