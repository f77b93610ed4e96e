"""Finds duplicates, near duplicates and copies of the prompt, by runs of consecutive words."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import IO, Any

import numpy as np
from datasketch import MinHash, MinHashLSH

from gold_lightning.parsing.words import runs, words
from gold_lightning.storage.number_index import NumberIndex, number_of
from gold_lightning.task import Sample

__all__ = ["COPIED_SHARE", "NEAR_DUPLICATE", "DuplicateIndex", "copies"]

NEAR_DUPLICATE = 0.7
"""Jaccard similarity of word 3-grams from which two texts are near duplicates."""

COPIED_SHARE = 0.3
"""Share of a text's word 6-grams from which it is a copy of another text with the same 6-grams."""

_Hashes = np.ndarray[Any, np.dtype[np.uint32]]  # (permutations,)
_PERMUTATIONS = 128
_BLOCK, _BLOCKS = 4096, 16  # rows of hashes that are kept together, and blocks in memory


@lru_cache(maxsize=1024)
def _words(text: str) -> tuple[str, ...]:
    return tuple(words(text))


@lru_cache(maxsize=512)  # demos and instructions are the same for many samples
def _shingles(text: str, size: int) -> frozenset[tuple[str, ...]]:
    text_words = _words(text)
    return frozenset(runs(text_words, size)) or frozenset({text_words} if text_words else ())


def copies(text: str, sources: Iterable[str]) -> bool:
    """Whether a text takes at least :data:`COPIED_SHARE` of its word 6-grams from one of the sources.

    A text of fewer than six words counts as one 6-gram, so it is a copy only of a source with the same words.
    """
    shingles = _shingles(text, 6)
    return any(len(shingles & _shingles(source, 6)) >= COPIED_SHARE * len(shingles) > 0 for source in sources)


@cache  # a search over integrals
def _banding(threshold: float) -> tuple[int, int]:
    index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS)
    return index.b, index.r


class DuplicateIndex:
    """Remembers samples and finds those that resemble them. Targets are not compared.

    Locality-sensitive hashing with the bands of datasketch's ``MinHashLSH``. A sample takes a quarter of a kilobyte of
    memory: its bands are in a :class:`~gold_lightning.storage.number_index.NumberIndex`, and beyond 65,536 samples the
    hashes, which only decide about a candidate, are in a temporary file.

    Args:
        near_duplicate: Jaccard similarity of word 3-grams from which two texts are near duplicates, in (0, 1].
    """

    def __init__(self, near_duplicate: float = NEAR_DUPLICATE) -> None:
        self._threshold = near_duplicate
        # The bands only propose candidates (the exact estimate decides); above 0.9 there would be none.
        self._bands, self._band_size = _banding(min(near_duplicate, 0.9))
        self._hashes = _HashRows()
        self._texts, self._in_band = NumberIndex(), NumberIndex()  # rows by hash of the text, and of one of its bands
        self._removed: set[int] = set()  # rows that the indices still have

    def add(self, sample: Sample) -> None:
        """Remembers a sample. A sample with the same words is remembered once."""
        text, hashes = _hashed(sample.text)
        if self._row(text, hashes) is not None:
            return
        row = self._hashes.append(hashes)
        self._texts.add(text, row)
        for band in self._bands_of(hashes):
            self._in_band.add(band, row)

    def remove(self, sample: Sample) -> None:
        """Forgets a sample, if it was remembered."""
        text, hashes = _hashed(sample.text)
        row = self._row(text, hashes)
        if row is None:
            return
        discarded = [self._in_band.discard(band, row) for band in self._bands_of(hashes)]
        if not (self._texts.discard(text, row) and all(discarded)):
            self._removed.add(row)

    def reason(self, sample: Sample) -> str:
        """Returns ``duplicate``, ``near_duplicate``, or "" for a sample that resembles no remembered one."""
        text, hashes = _hashed(sample.text)
        if self._row(text, hashes) is not None:
            return "duplicate"
        candidates = set[int]().union(*self._in_band.values_of(self._bands_of(hashes))) - self._removed
        stored = (self._hashes[row] for row in candidates)
        near = any(np.count_nonzero(row == hashes) / _PERMUTATIONS >= self._threshold for row in stored)
        return "near_duplicate" if near else ""

    def _row(self, text: int, hashes: _Hashes) -> int | None:
        """Returns the row of the text with that hash; texts of one hash are told apart by their other hashes."""
        rows = (row for row in self._texts.values(text) if row not in self._removed)
        return next((row for row in rows if np.array_equal(self._hashes[row], hashes)), None)

    def _bands_of(self, hashes: _Hashes) -> Iterator[int]:
        content, size = hashes.tobytes(), self._band_size * hashes.itemsize
        for band in range(self._bands):
            # Two bands with one hash make one candidate more, which the exact estimate sorts out.
            yield number_of((band, content[band * size : (band + 1) * size]))


class _HashRows:
    """The hashes of texts by number of the row: the first ones in memory, later blocks in a temporary file."""

    def __init__(self) -> None:
        self._in_memory: list[_Hashes] = []  # blocks of rows
        self._last = np.empty((_BLOCK, _PERMUTATIONS), np.uint32)
        self._used = 0
        self._file: IO[bytes] | None = None

    def append(self, hashes: _Hashes) -> int:
        row = self._used
        if row and row % _BLOCK == 0:
            self._put_away(self._last)
            self._last = np.empty_like(self._last)
        self._last[row % _BLOCK] = hashes
        self._used += 1
        return row

    def _put_away(self, block: _Hashes) -> None:
        if len(self._in_memory) < _BLOCKS:
            self._in_memory.append(block)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile("w+b", prefix="gold-lightning-")
        self._file.seek(0, os.SEEK_END)
        self._file.write(block.tobytes())

    def __getitem__(self, row: int) -> _Hashes:
        block, at = divmod(row, _BLOCK)
        if block == (self._used - 1) // _BLOCK:
            hashes: _Hashes = self._last[at]
            return hashes
        if block < _BLOCKS:
            hashes = self._in_memory[block][at]
            return hashes
        assert self._file is not None
        self._file.seek((row - _BLOCKS * _BLOCK) * self._last[0].nbytes)
        return np.frombuffer(self._file.read(self._last[0].nbytes), np.uint32)


@cache  # drawing its permutations takes as long as hashing a text
def _empty() -> MinHash:
    return MinHash(num_perm=_PERMUTATIONS, seed=1)


@lru_cache(maxsize=1024)  # a sample is checked on its own, then with its batch, and then remembered
def _hashed(text: str) -> tuple[int, _Hashes]:
    """Returns a hash of a text's words, and the MinHash of their 3-grams."""
    # A text of symbols alone has no words, so it is compared unchanged.
    compared = " ".join(_words(text)) or text
    minhash = copy.copy(_empty())
    minhash.clear()
    shingles = _shingles(text, 3) or {(text,)}
    minhash.update_batch([" ".join(s).encode("utf-8", "surrogatepass") for s in shingles])
    return number_of(compared), minhash.hashvalues.astype(np.uint32)
