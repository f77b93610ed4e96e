"""Finds duplicates, near duplicates and copies of the prompt, by runs of consecutive words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np
from datasketch import MinHash, MinHashLSH

from gold_lightning.parsing.words import runs, words
from gold_lightning.task import Sample

__all__ = ["COPIED_SHARE", "NEAR_DUPLICATE", "DuplicateIndex", "copies"]

NEAR_DUPLICATE = 0.7
"""Jaccard similarity of word 3-grams from which two texts are near duplicates."""

COPIED_SHARE = 0.3
"""Share of a text's word 6-grams from which it is a copy of another text with the same 6-grams."""

_Hashes = np.ndarray[Any, np.dtype[np.uint32]]  # (permutations,)
_PERMUTATIONS = 128
_BLOCK = 4096  # rows of hashes that are allocated together


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

    Locality-sensitive hashing with the bands of datasketch's ``MinHashLSH``, held in one dictionary of numbers: two
    fifths of the memory of its dictionaries of sets.

    Args:
        near_duplicate: Jaccard similarity of word 3-grams from which two texts are near duplicates, in (0, 1].
    """

    def __init__(self, near_duplicate: float = NEAR_DUPLICATE) -> None:
        self._threshold = near_duplicate
        # The bands only propose candidates (the exact estimate decides); above 0.9 there would be none.
        self._bands, self._band_size = _banding(min(near_duplicate, 0.9))
        self._rows: dict[bytes, int] = {}  # row of each text
        self._hashes: list[_Hashes] = []  # blocks of rows
        self._used = 0
        self._in_band: dict[int, int | list[int]] = {}  # rows by the hash of one of their bands; mostly a single one

    def add(self, sample: Sample) -> None:
        """Remembers a sample. A sample with the same words is remembered once."""
        key, hashes = _hashed(sample.text)
        if key in self._rows:
            return
        row = self._rows[key] = self._used
        self._used += 1
        if row % _BLOCK == 0:
            self._hashes.append(np.empty((_BLOCK, _PERMUTATIONS), np.uint32))
        self._hashes[-1][row % _BLOCK] = hashes
        for band in self._bands_of(hashes):
            others = self._in_band.setdefault(band, row)
            if isinstance(others, list):
                others.append(row)
            elif others != row:
                self._in_band[band] = [others, row]

    def remove(self, sample: Sample) -> None:
        """Forgets a sample, if it was remembered."""
        key, hashes = _hashed(sample.text)
        row = self._rows.pop(key, None)
        if row is None:
            return
        for band in self._bands_of(hashes):
            if others := [other for other in _rows(self._in_band[band]) if other != row]:
                self._in_band[band] = others
            else:
                del self._in_band[band]

    def reason(self, sample: Sample) -> str:
        """Returns ``duplicate``, ``near_duplicate``, or "" for a sample that resembles no remembered one."""
        key, hashes = _hashed(sample.text)
        if key in self._rows:
            return "duplicate"
        bands = (self._in_band.get(band) for band in self._bands_of(hashes))
        candidates = {row for others in bands if others is not None for row in _rows(others)}
        stored = (self._hashes[row // _BLOCK][row % _BLOCK] for row in candidates)
        near = any(np.count_nonzero(row == hashes) / _PERMUTATIONS >= self._threshold for row in stored)
        return "near_duplicate" if near else ""

    def _bands_of(self, hashes: _Hashes) -> Iterator[int]:
        content, size = hashes.tobytes(), self._band_size * hashes.itemsize
        for band in range(self._bands):
            # Two bands with one hash make one candidate more, which the exact estimate sorts out.
            yield hash((band, content[band * size : (band + 1) * size]))


def _rows(rows: int | list[int]) -> list[int]:
    return rows if isinstance(rows, list) else [rows]


@cache  # drawing its permutations takes as long as hashing a text
def _empty() -> MinHash:
    return MinHash(num_perm=_PERMUTATIONS, seed=1)


@lru_cache(maxsize=1024)  # a sample is checked on its own, then with its batch, and then remembered
def _hashed(text: str) -> tuple[bytes, _Hashes]:
    """Returns a key of a text's words, and the MinHash of their 3-grams."""
    # A text of symbols alone has no words, so it is compared unchanged.
    compared = " ".join(_words(text)) or text
    minhash = _empty().copy()
    shingles = _shingles(text, 3) or {(text,)}
    minhash.update_batch([" ".join(s).encode("utf-8", "surrogatepass") for s in shingles])
    key = hashlib.sha256(compared.encode("utf-8", "surrogatepass")).digest()
    return key, minhash.hashvalues.astype(np.uint32)
