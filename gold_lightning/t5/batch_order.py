"""The order of training rows: random, seeded, and with texts of about one length in each batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["WINDOW", "Integers", "training_order"]

Integers = np.ndarray[Any, np.dtype[np.int64]]

WINDOW = 64
"""Most batches that are made of one random draw of rows; a small set is drawn from in two halves."""


def training_order(sizes: Integers, batch_rows: int, total: int, seed: str, window: int | None = None) -> Integers:
    """Orders rows for training: pass after pass, each row once in every pass.

    A pass is a random order of all rows. Within windows of it rows are sorted by size and cut into batches, and the
    batches of a window follow each other in a random order. The larger the window, the less padding, and the more often
    the same rows meet in a batch.

    If the rows do not divide into batches, one batch holds the last rows of a pass and the first of the next. Both are
    taken at the same random quantile of the sizes.

    Args:
        sizes: (rows,), a number for each row to sort by, such as its number of tokens.
        batch_rows: Rows of a training step of all processes. The order depends on it, and not on the number of
            processes.
        total: Number of rows to order; rows come again after all others have had their turn.
        seed: Any text. The same text gives the same order.
        window: Batches in a window; by default half of a pass, at most :data:`WINDOW`. 1 gives an order that does not
            depend on sizes.

    Returns:
        (total,) positions of rows.

    Example:
        >>> training_order(np.array([5, 90, 6, 91]), batch_rows=2, total=4, seed="1", window=2).reshape(2, 2) % 2
        array([[1, 1],
               [0, 0]])
    """
    rng = np.random.default_rng([*seed.encode()])
    if window is None:
        window = min(WINDOW, math.ceil(len(sizes) / batch_rows / 2))
    passes: list[Integers] = []
    ordered, quantile = 0, 0.0
    while ordered < total and len(sizes):
        rows = rng.permutation(len(sizes))
        # What the last batch of the pass before lacks, and what is left over for the first batch of the next.
        first, rows = _split_off(rows, sizes, min(-ordered % batch_rows, len(rows)), quantile)
        quantile = rng.random()
        last, rows = _split_off(rows, sizes, len(rows) % batch_rows, quantile)
        passes += [first, *_batches(rows, sizes, batch_rows, window, rng), last]
        ordered += len(sizes)
    return np.concatenate([np.empty(0, np.int64), *passes])[:total]


def _split_off(rows: Integers, sizes: Integers, count: int, quantile: float) -> tuple[Integers, Integers]:
    """Returns ``count`` rows of similar size, at a quantile of all sizes, and the others."""
    if not count:
        return rows[:0], rows
    start = int(quantile * (len(rows) - count))
    places = np.argsort(sizes[rows], kind="stable")[start : start + count]
    return rows[places], np.delete(rows, places)


def _batches(rows: Integers, sizes: Integers, batch_rows: int, window: int, rng: np.random.Generator) -> list[Integers]:
    batches: list[Integers] = []
    count = len(rows) // batch_rows
    for of_window in np.array_split(rows.reshape(count, batch_rows), max(1, math.ceil(count / max(1, window)))):
        drawn = of_window.ravel()
        by_size = drawn[np.argsort(sizes[drawn], kind="stable")].reshape(of_window.shape)
        batches += list(rng.permutation(by_size))
    return batches
