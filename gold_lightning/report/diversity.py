"""How varied texts are: distinct-n and self-BLEU, over words as the checks count them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from gold_lightning.checks import words

__all__ = ["distinct", "self_bleu"]

_LONGEST = 4  # n-grams of BLEU


def distinct(texts: Iterable[str], n: int) -> float:
    """Distinct-n: different n-grams over all n-grams (Li et al., NAACL 2016, section 5.3).

    It falls with the number of words, so compare it between as many texts alone.

    Args:
        texts: The texts.
        n: Words of an n-gram.

    Returns:
        In [0, 1], higher = more varied; nan where no text has n words.

    >>> distinct(["a cat sat", "a cat ran"], 2)
    0.75
    """
    found = Counter(gram for text in texts for gram in _grams(words(text), n))
    return len(found) / found.total() if found else math.nan


def self_bleu(texts: Iterable[str]) -> float:
    """Self-BLEU: mean BLEU-4 of each text with all others as its references (Zhu et al., SIGIR 2018).

    BLEU of one sentence (Papineni et al., ACL 2002) has equal weights for 1- to 4-grams, the reference of the
    closest length for the brevity penalty (of two as close, the shorter), and 0.1 for a count of no n-gram in common
    (Chen and Cherry, WMT 2014, smoothing 1). It rises with the number of texts.

    Args:
        texts: The texts. Those without a word are left out.

    Returns:
        In [0, 1], higher = less varied; nan for fewer than two texts.
    """
    parts = [found for text in texts if (found := words(text))]
    if len(parts) < 2:
        return math.nan
    logs = [0.0] * len(parts)
    for n in range(1, _LONGEST + 1):
        counts = [Counter(_grams(part, n)) for part in parts]
        # How often the text with the most of an n-gram has it, and the next one: the best of all others is one of them.
        most: dict[tuple[str, ...], tuple[int, int]] = {}
        for own in counts:
            for gram, count in own.items():
                first, second = most.get(gram, (0, 0))
                most[gram] = (count, first) if count > first else (first, max(second, count))
        for i, own in enumerate(counts):
            common = 0
            for gram, count in own.items():
                first, second = most[gram]
                # Where this text has the most itself, the others have at most the second.
                common += min(count, second if count == first else first)
            logs[i] += math.log((common or 0.1) / max(1, own.total())) / _LONGEST
    lengths = sorted(map(len, parts))
    scores = (_brevity(len(part), lengths) * math.exp(log) for part, log in zip(parts, logs, strict=True))
    return math.fsum(scores) / len(parts)


def _grams(found: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(found[i:] for i in range(n)), strict=False)


def _brevity(length: int, lengths: Sequence[int]) -> float:
    """Brevity penalty of a text among ``lengths``, ascending, of which one is its own."""
    at = bisect_left(lengths, length)
    beside = [lengths[i] for i in (at - 1, at + 1) if 0 <= i < len(lengths)]
    closest = min(beside, key=lambda other: (abs(other - length), other))
    return 1.0 if length >= closest else math.exp(1 - closest / length)
