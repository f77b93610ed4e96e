"""Finds samples whose label is doubtful: a classifier that was not fitted to them is confident about another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gold_lightning.errors import ConfigError
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.task import Task

__all__ = ["DoubtfulLabels", "is_doubtful", "logistic_regression", "out_of_fold_probabilities"]

_FOLDS = 5
_C = 3.0  # inverse strength of the penalty on weights, as scikit-learn counts it

_Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
_Integers = np.ndarray[Any, np.dtype[np.int64]]
_Booleans = np.ndarray[Any, np.dtype[np.bool_]]


class DoubtfulLabels:
    """Finds the samples of a task whose label is doubtful (confident learning, Northcutt et al., JAIR 2021).

    The classifiers are logistic regressions on sentence vectors of the student's encoder before training, each fitted
    to four fifths of the samples: cross-fitting students themselves would take as long as training does.

    Args:
        task: The task, with one label a row.
        vectors: Embeds texts, (texts, width).
        seed: Seed of the folds.

    Raises:
        ConfigError: The task is not one of one label a row.
    """

    def __init__(self, task: Task, vectors: Callable[[Sequence[str]], _Floats], seed: int) -> None:
        if not task.one_label:
            raise ConfigError("data.doubtful_labels", "drop", f"keep for {task.name}, whose rows have not one label")
        self.task, self.seed = task, seed
        self._vectors, self._known = vectors, dict[str, _Floats]()

    def __call__(self, samples: Sequence[StoredSample]) -> list[str]:
        """Returns the ids of samples with a doubtful label, in order.

        Samples of a label that fewer than five samples have are never among them.

        Args:
            samples: All samples that the student is to be trained on.
        """
        new = [s for s in samples if s.id not in self._known]
        vectors = self._vectors([self.task.student_input(s.sample) for s in new])
        self._known |= zip((s.id for s in new), vectors, strict=True)
        counts = Counter(s.sample.target for s in samples)
        judged = [s for s in samples if counts[s.sample.target] >= _FOLDS]
        names = sorted({s.sample.target for s in judged})
        if len(names) < 2:
            return []
        labels = np.array([names.index(s.sample.target) for s in judged])
        probabilities = out_of_fold_probabilities(np.stack([self._known[s.id] for s in judged]), labels, self.seed)
        doubtful = is_doubtful(probabilities, labels)
        return [s.id for s, flag in zip(judged, doubtful.tolist(), strict=True) if flag]


def out_of_fold_probabilities(vectors: _Floats, labels: _Integers, seed: int, folds: int = _FOLDS) -> _Floats:
    """Returns each row's probability of each label, (rows, labels), by a classifier that was not fitted to it.

    Args:
        vectors: (rows, width).
        labels: (rows,), labels from 0 on; at least ``folds`` rows have each.
        seed: Seed of the folds, each of which has an equal share of every label.
        folds: Number of folds.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % folds
    probabilities = np.empty((len(labels), int(labels.max()) + 1))
    for held_out in (fold == number for number in range(folds)):
        middle = vectors[~held_out].mean(0)
        scaled = vectors - middle
        scaled /= np.linalg.norm(scaled, axis=1, keepdims=True).clip(min=1e-12)
        classify = logistic_regression(scaled[~held_out].astype(np.float64), labels[~held_out], probabilities.shape[1])
        probabilities[held_out] = classify(scaled[held_out])
    return probabilities


def is_doubtful(probabilities: _Floats, labels: _Integers) -> _Booleans:
    """Returns whether each row's label is doubtful, (rows,).

    A label is a candidate for a row if its probability is at least as high as it is on average in the rows that have
    this label. A row is doubtful if the likeliest candidate is not its own label.

    Args:
        probabilities: (rows, labels), of classifiers that were not fitted to the row.
        labels: (rows,), labels from 0 on.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
        >>> is_doubtful(p, np.array([0, 0, 1, 1, 1])).tolist()
        [False, False, True, False, False]
    """
    usual = np.array([probabilities[labels == label, label].mean() for label in range(probabilities.shape[1])])
    candidates = np.where(probabilities >= usual - 1e-12, probabilities, -1.0)
    likeliest = candidates.argmax(1)
    doubtful: _Booleans = (candidates.max(1) >= 0) & (likeliest != labels)
    return doubtful


def logistic_regression(
    vectors: _Floats, labels: _Integers, count: int, strength: float = _C
) -> Callable[[_Floats], _Floats]:
    """Fits a logistic regression with a penalty on its weights.

    Args:
        vectors: (rows, width), float64.
        labels: (rows,), labels from 0 on.
        count: Number of labels.
        strength: Inverse strength of the penalty, as scikit-learn's ``C``.

    Returns:
        A function from vectors to probabilities of labels, (rows, count).
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax, softmax

    width = vectors.shape[1]
    one_hot = np.eye(count)[labels]

    def loss(flat: _Floats) -> tuple[float, _Floats]:
        weights = flat.reshape(width + 1, count)
        log_p = log_softmax(vectors @ weights[:-1] + weights[-1], axis=1)
        wrong = (np.exp(log_p) - one_hot) * strength
        gradient = np.vstack([vectors.T @ wrong + weights[:-1], wrong.sum(0)])
        return float(-strength * (log_p * one_hot).sum() + (weights[:-1] ** 2).sum() / 2), gradient.ravel()

    fitted = minimize(loss, np.zeros((width + 1) * count), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    weights = fitted.x.reshape(width + 1, count)
    return lambda new: np.asarray(softmax(new @ weights[:-1] + weights[-1], axis=1))
