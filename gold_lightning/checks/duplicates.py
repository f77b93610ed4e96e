"""Finds duplicates, near duplicates and copies of the prompt, by runs of consecutive words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from datasketch import MinHash, MinHashLSH

from gold_lightning.parsing.words import runs, words
from gold_lightning.task import Sample

__all__ = ["COPIED_SHARE", "NEAR_DUPLICATE", "DuplicateIndex", "copies"]

NEAR_DUPLICATE = 0.7
"""Jaccard similarity of word 3-grams from which two texts are near duplicates."""

COPIED_SHARE = 0.3
"""Share of a text's word 6-grams from which it is a copy of another text with the same 6-grams."""


def _shingles(text: str, size: int) -> set[tuple[str, ...]]:
    text_words = words(text)
    return set(runs(text_words, size)) or ({tuple(text_words)} if text_words else set())


def copies(text: str, sources: Iterable[str]) -> bool:
    """Whether a text takes at least :data:`COPIED_SHARE` of its word 6-grams from one of the sources.

    A text of fewer than six words counts as one 6-gram, so it is a copy only of a source with the same words.
    """
    shingles = _shingles(text, 6)
    return any(len(shingles & _shingles(source, 6)) >= COPIED_SHARE * len(shingles) > 0 for source in sources)


class DuplicateIndex:
    """Remembers samples and finds those that resemble them. Targets are not compared.

    Args:
        near_duplicate: Jaccard similarity of word 3-grams from which two texts are near duplicates, in (0, 1].
    """

    def __init__(self, near_duplicate: float = NEAR_DUPLICATE) -> None:
        self._threshold = near_duplicate
        # The index only proposes candidates (the exact estimate decides); above 0.9 it finds no bands.
        self._candidates = MinHashLSH(threshold=min(near_duplicate, 0.9), num_perm=128)
        self._hashes: dict[str, MinHash] = {}

    def add(self, sample: Sample) -> None:
        """Remembers a sample. A sample with the same words is remembered once."""
        key = _key(sample)
        if key not in self._hashes:
            self._hashes[key] = _minhash(sample)
            self._candidates.insert(key, self._hashes[key])

    def remove(self, sample: Sample) -> None:
        """Forgets a sample, if it was remembered."""
        key = _key(sample)
        if key in self._hashes:
            self._candidates.remove(key)
            del self._hashes[key]

    def reason(self, sample: Sample) -> str:
        """Returns ``duplicate``, ``near_duplicate``, or "" for a sample that resembles no remembered one."""
        if _key(sample) in self._hashes:
            return "duplicate"
        minhash = _minhash(sample)
        candidates = self._candidates.query(minhash)
        near = any(minhash.jaccard(self._hashes[key]) >= self._threshold for key in candidates)
        return "near_duplicate" if near else ""


def _key(sample: Sample) -> str:
    # A text of symbols alone has no words, so it is compared unchanged.
    compared = " ".join(words(sample.text)) or sample.text
    return hashlib.sha256(compared.encode("utf-8", "surrogatepass")).hexdigest()


def _minhash(sample: Sample) -> MinHash:
    minhash = MinHash(num_perm=128, seed=1)
    shingles = _shingles(sample.text, 3) or {(sample.text,)}
    minhash.update_batch([" ".join(s).encode("utf-8", "surrogatepass") for s in sorted(shingles)])
    return minhash
