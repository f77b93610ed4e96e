"""Finds samples with nearly the same meaning as an accepted one: semantic deduplication by sentence vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from gold_lightning.task import Sample

__all__ = ["SemanticIndex"]


class SemanticIndex:
    """Remembers samples, and finds those whose text is close in meaning to one with the same label.

    Samples of different labels are not compared: a pair such as "I loved it." and "I hated it." teaches a contrast.

    Args:
        embed: Returns the vectors of texts, of length 1, shape (texts, width).
        threshold: Cosine similarity from which two texts are near duplicates, in (0, 1].
        labelled: Whether targets are labels; the samples of a task without labels are all compared.

    Example:
        >>> from gold_lightning import Sample
        >>> from gold_lightning.t5.sentence_vectors import SentenceVectors
        >>> index = SemanticIndex(SentenceVectors("embedded"), threshold=0.7)
        >>> index.add(Sample({"text": "The home team scored three goals in the final match."}, "Sports"))
        >>> index.reason(Sample({"text": "In the last game the hosts got three goals."}, "Sports"))
        'semantic_duplicate'
    """

    def __init__(self, embed: Callable[[Sequence[str]], np.ndarray], threshold: float, labelled: bool = True) -> None:
        self._embed, self._threshold, self._labelled = embed, threshold, labelled
        self._pending: list[Sample] = []
        self._rows: dict[str, _Rows] = defaultdict(_Rows)
        self._judged: tuple[str, np.ndarray] | None = None  # most samples are judged, and then remembered

    def add(self, sample: Sample) -> None:
        """Remembers a sample."""
        if self._judged is not None and self._judged[0] == sample.text:
            self._rows[self._group(sample)].add(sample.text, self._judged[1])
        else:
            self._pending.append(sample)

    def remove(self, sample: Sample) -> None:
        """Forgets a sample, if it was remembered."""
        self._embed_pending()
        self._rows[self._group(sample)].remove(sample.text)

    def reason(self, sample: Sample) -> str:
        """Returns ``semantic_duplicate`` for a sample that is close to a remembered one, otherwise ""."""
        self._embed_pending()
        vector = self._embed([sample.text])[0]
        self._judged = (sample.text, vector)
        return "semantic_duplicate" if self._rows[self._group(sample)].closest(vector) >= self._threshold else ""

    def _group(self, sample: Sample) -> str:
        return sample.target if self._labelled else ""

    def _embed_pending(self) -> None:
        if self._pending:
            vectors = self._embed([sample.text for sample in self._pending])
            for sample, vector in zip(self._pending, vectors, strict=True):
                self._rows[self._group(sample)].add(sample.text, vector)
            self._pending = []


class _Rows:
    """Vectors by text, in one matrix that doubles when it is full."""

    def __init__(self) -> None:
        self._matrix = np.empty((0, 0), np.float32)
        self._texts: list[str] = []
        self._row_of: dict[str, int] = {}

    def add(self, text: str, vector: np.ndarray) -> None:
        if text in self._row_of:
            return
        row = len(self._texts)
        if row == len(self._matrix):
            larger = np.empty((max(16, 2 * row), len(vector)), np.float32)
            larger[:row] = self._matrix[:row] if row else 0
            self._matrix = larger
        self._matrix[row] = vector
        self._texts.append(text)
        self._row_of[text] = row

    def remove(self, text: str) -> None:
        row = self._row_of.pop(text, None)
        if row is not None:  # the last row takes its place
            last = self._texts.pop()
            if last != text:
                self._texts[row], self._row_of[last] = last, row
                self._matrix[row] = self._matrix[len(self._texts)]

    def closest(self, vector: np.ndarray) -> float:
        """Returns the highest cosine similarity to any row, -1 without rows."""
        return float((self._matrix[: len(self._texts)] @ vector).max()) if self._texts else -1.0
