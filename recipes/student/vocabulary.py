"""Which words the student's tokenizer knows whole.

A word that comes in pieces has to be learnt from texts, one by one: names and terms are rare in them. One that is a
token begins with what the teacher knows of it. The teacher's vocabulary is sorted by how often words occur in an
encyclopaedia, but has no capitals; which of its words are written with them is counted in the texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["word_forms"]

_INSIDE = re.compile(r"(?<=[a-z,;] )[A-Za-z]+")  # not at the begin of a sentence, where any word has a capital
_UNSEEN = 2.0  # occurrences that a word is given before any is counted, of which so many are names:
_NAMES = 0.7  # words that a text at hand does not have mostly are
_TITLES = 0.05  # of all words' occurrences stand in titles or begin a sentence


def word_forms(vocabulary: Mapping[str, int], texts: Iterable[str]) -> list[str]:
    """Words of an uncased vocabulary as they are written (``bank``, ``Bank``, ``NATO``), the most frequent first.

    Args:
        vocabulary: Words and their ids, which are in the order of their frequency (a WordPiece vocabulary).
        texts: Texts to count capitals in.
    """
    seen = Counter(word for text in texts for word in _INSIDE.findall(text))
    words = sorted((w for w in vocabulary if w.isascii() and w.isalpha() and w.islower()), key=vocabulary.__getitem__)
    often: dict[str, float] = {}
    for rank, word in enumerate(words):
        name, shout = word.capitalize(), word.upper()
        counts = {word: seen[word], name: seen[name], shout: seen[shout]}  # name is shout for one letter
        share = 1 / (rank + 20) / (sum(counts.values()) + _UNSEEN)
        often[word] = share * (counts[word] + _UNSEEN * (1 - _NAMES))
        often[name] = share * (counts[name] + _UNSEEN * _NAMES) + _TITLES / (rank + 20)
        if counts[shout] > 1 and len(word) > 1:
            often[shout] = share * counts[shout]
    return sorted(often, key=lambda form: -often[form])
