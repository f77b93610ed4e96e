"""Temperature scaling (Guo et al., ICML 2017), and how far probabilities are from the share of right answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

__all__ = ["expected_calibration_error", "fit_temperature", "log_loss"]

Array = np.ndarray[Any, Any]

_COLDEST, _HOTTEST = 0.05, 20.0
_LEAST = -1e4  # least log-probability: a label that the student rules out must not cost infinitely much
_BINS = 15  # as in the paper


def fit_temperature(log_probs: Array, targets: Array) -> float:
    """Fits the temperature under which the right labels are likeliest.

    The loss has one minimum, since it is convex in the temperature's inverse. Targets are smoothed as if there were one
    more row, whose label is unknown (Platt, 1999, does the same for two classes): a few rows that are all right would
    otherwise ask for a temperature of 0.

    Args:
        log_probs: (rows, labels), natural logarithm of the probability of each label; one row at least.
        targets: (rows,) int, position of the right label.

    Returns:
        The temperature, from 0.05 to 20; above 1 if the student is too sure.

    Example:
        >>> log_probs = np.log([[0.99, 0.01]] * 10)
        >>> round(fit_temperature(log_probs, np.array([0] * 8 + [1] * 2)), 1)  # sure of 99 %, right in 80 %
        3.8
    """
    log_probs = np.maximum(np.asarray(log_probs, float), _LEAST)
    rows, labels = log_probs.shape
    unknown = 1 / (rows + 1)
    weights = np.full((rows, labels), unknown / labels)
    weights[np.arange(rows), targets] += 1 - unknown

    def loss(log_temperature: float) -> float:
        return float(-(weights * log_softmax(log_probs / math.exp(log_temperature), axis=-1)).sum() / rows)

    bounds = (math.log(_COLDEST), math.log(_HOTTEST))
    return float(math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x))


def expected_calibration_error(probabilities: Array, right: Array) -> float:
    """Returns the mean distance of probability and share of right answers over 15 bins of equal width.

    With few rows it is too large even if the probabilities are perfect: each bin's share is then a matter of chance.

    Args:
        probabilities: (rows,), probability of each prediction; one row at least.
        right: (rows,) bool, whether it is right.

    Returns:
        The error, from 0 to 1.

    Example:
        >>> round(expected_calibration_error(np.array([0.9, 0.9, 0.6, 0.6]), np.array([1, 1, 1, 0])), 2)
        0.1
    """
    bins = np.minimum((np.asarray(probabilities, float) * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, probabilities - np.asarray(right, float), _BINS)
    return float(np.abs(gaps).sum() / len(bins))


def log_loss(log_probs: Array, targets: Array, temperatures: Array | float = 1.0) -> float:
    """Returns the mean negative log-probability of the right labels, in nats.

    Args:
        log_probs: (rows, labels), as for :func:`fit_temperature`.
        targets: (rows,) int, position of the right label.
        temperatures: The temperature, or one for each row.
    """
    scaled = np.maximum(np.asarray(log_probs, float), _LEAST) / np.reshape(temperatures, (-1, 1))
    return float(-log_softmax(scaled, axis=-1)[np.arange(len(targets)), targets].mean())
