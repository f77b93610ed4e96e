"""Measures how varied texts are: distinct n-grams, self-BLEU and lengths.

Words are those of :func:`gold_lightning.parsing.words.words`.

Distinct-n falls and self-BLEU rises with the number of texts, so values are comparable only for equal numbers of texts;
:func:`diversity` therefore limits that number. In scripts without spaces each character is a word, so values of Chinese
and of English texts are not comparable.
"""

from __future__ import annotations

import bisect
import math
import random
from collections import Counter
from collections.abc import Sequence
from statistics import quantiles

from gold_lightning.parsing.words import words

__all__ = ["distinct_n", "diversity", "length_quantiles", "self_bleu"]

_ORDERS = 4  # BLEU's


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Returns the share of distinct n-grams among all n-grams of the texts (Li et al., NAACL 2016).

    Args:
        texts: Texts; no n-gram reaches from one into the next.
        n: Number of words of an n-gram.

    Returns:
        A value in [0, 1], higher for more varied texts; 0 if no text has n words.

    >>> distinct_n(["a red fox", "a red hen"], 2)
    0.75
    """
    return _distinct_n([words(text) for text in texts], n)


def _distinct_n(split: Sequence[Sequence[str]], n: int) -> float:
    counts = Counter(gram for text_words in split for gram in _grams(text_words, n))
    return len(counts) / max(1, counts.total())


def self_bleu(texts: Sequence[str]) -> float:
    """Returns the corpus BLEU-4 of the texts, each with all others as references (Zhu et al., SIGIR 2018).

    The clipped matches of all texts are summed before the precisions are taken (Papineni et al., ACL 2002). The
    original averages the BLEU of each text instead, but short texts seldom share four words in a row, so that the
    smoothing would decide the value. torchmetrics' ``bleu_score`` gives the same number, but merges the counts of all
    other texts for each text: 20 s for 200 texts of 40 words. Here the two highest counts of each n-gram suffice, in
    linear time.

    Args:
        texts: Texts.

    Returns:
        A value in [0, 1], lower for more varied texts; 0 if no two texts share four words in a row.

    >>> self_bleu(["one two three four five"] * 2)
    1.0
    """
    return _self_bleu([words(text) for text in texts])


def _self_bleu(split: Sequence[Sequence[str]]) -> float:
    if len(split) < 2:
        return 0.0
    counts = [[Counter(_grams(of_text, n)) for n in range(1, _ORDERS + 1)] for of_text in split]
    # The highest count of each n-gram, the text that has it, and the highest count in any other text.
    most: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for i, orders in enumerate(counts):
        for gram, count in (item for order in orders for item in order.items()):
            first, holder, second = most.get(gram, (0, -1, 0))
            most[gram] = (count, i, first) if count > first else (first, holder, max(second, count))
    matched, total = [0] * _ORDERS, [0] * _ORDERS
    for i, orders in enumerate(counts):
        for n, order in enumerate(orders):
            for gram, count in order.items():
                first, holder, second = most[gram]
                matched[n] += min(count, second if holder == i else first)
                total[n] += count
    if not all(matched):
        return 0.0
    length, closest = sum(map(len, split)), _closest_lengths([*map(len, split)])
    brevity = 1.0 if length >= closest else math.exp(1 - closest / length)
    return brevity * math.exp(sum(math.log(m / t) for m, t in zip(matched, total, strict=True)) / _ORDERS)


def length_quantiles(texts: Sequence[str]) -> dict[str, float]:
    """Returns interpolated quantiles of the number of words of a text.

    Args:
        texts: Texts.

    Returns:
        ``q05``, ``q25``, ``q50``, ``q75`` and ``q95``, in words; 0 without texts.
    >>> length_quantiles(["a b", "a b c", "a b c d"])["q50"]
    3.0
    """
    return _length_quantiles([words(text) for text in texts])


def _length_quantiles(split: Sequence[Sequence[str]]) -> dict[str, float]:
    lengths = [*map(len, split)] or [0]
    cuts = quantiles(lengths * 2 if len(lengths) == 1 else lengths, n=20, method="inclusive")
    return {f"q{5 * at:02d}": float(cuts[at - 1]) for at in (1, 5, 10, 15, 19)}


def diversity(texts: Sequence[str], *, at_most: int = 256, seed: int = 0) -> dict[str, float]:
    """Returns all measures of some texts.

    Args:
        texts: Texts.
        at_most: Largest number of texts to measure; of more texts, so many are drawn.
        seed: Seed of the draw.

    Returns:
        ``texts`` (the number of measured texts), ``distinct_1`` to ``distinct_3``, ``self_bleu`` and ``words_q05`` to
        ``words_q95``.

    Raises:
        ValueError: ``at_most`` is below 1.
    """
    if at_most < 1:
        raise ValueError(f"at_most: got {at_most}, expected 1 or more")
    if len(texts) > at_most:
        texts = random.Random(seed).sample(texts, at_most)
    split = [words(text) for text in texts]
    return {
        "texts": float(len(texts)),
        **{f"distinct_{n}": _distinct_n(split, n) for n in (1, 2, 3)},
        "self_bleu": _self_bleu(split),
        **{f"words_{name}": value for name, value in _length_quantiles(split).items()},
    }


def _grams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def _closest_lengths(lengths: Sequence[int]) -> int:
    """Sums the length closest to each length among the others; of two equally close the shorter, as in BLEU."""
    every = sorted(lengths)
    total = 0
    for length in lengths:
        at = bisect.bisect_left(every, length)
        others = every[max(0, at - 1) : at] + every[at + 1 : at + 2]  # without itself
        total += min(others, key=lambda other: (abs(other - length), other))
    return total
