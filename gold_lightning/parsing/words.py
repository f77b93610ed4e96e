"""Splits text in any script into words, which checks, metrics and diversity measures count and compare.

In scripts without spaces between words, each character and its combining marks is one word: no single segmenter suits
Chinese, Japanese, Thai, Lao, Khmer and Burmese, and ROUGE, BLEU and SQuAD's metrics are computed over characters in
several of these languages (the "mixed segmentation" of CMRC 2018: Cui et al., EMNLP 2019).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import regex

__all__ = ["count_words", "has_characters", "runs", "segments", "within_word", "words"]

# scx (script extensions), because characters such as the kana long vowel mark belong to several scripts.
_SCRIPTS = "".join(
    f"\\p{{scx={name}}}"
    for name in (
        *("Han", "Hiragana", "Katakana", "Bopomofo", "Yi", "Nushu", "Tangut", "Thai", "Lao", "Khmer", "Myanmar"),
        *("Javanese", "Balinese", "Tai_Le", "New_Tai_Lue", "Tai_Tham", "Tai_Viet"),
    )
)
_LETTER = r"(?!\p{M})[\w\p{N}]"  # also digits and _; \p{N} adds numerals that are not decimal digits
_CHARACTER = regex.compile(rf"{_LETTER}(?<=[{_SCRIPTS}])\p{{M}}*")
_MIXED = regex.compile(rf"{_CHARACTER.pattern}|(?:{_LETTER}(?<![{_SCRIPTS}])\p{{M}}*)+")
_SPACED = regex.compile(r"(?!\p{M})[\w\p{N}]+")  # same result but faster if the text has no character words
_ASCII = re.compile(r"\w+")  # same result for ASCII, faster still
# Characters that can be left out without changing the word: soft hyphens and joiners, variation selectors, Arabic vowel
# signs and the stroke that only stretches a word, Hebrew points.
_OPTIONAL = regex.compile(
    r"[\p{Default_Ignorable_Code_Point}--\u200b]|\u0640|[\u064b-\u065f\u0670]"
    r"|[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]",
    regex.V1,
)


def words(text: str) -> list[str]:
    """Returns the words of a text without case and punctuation, or its characters in scripts without spaces.

    Texts that are equivalent under NFKC have the same words: composed and decomposed letters, full and half width.

    >>> words("It's 2 STRASSE-n!")
    ['it', 's', '2', 'strasse', 'n']
    >>> words("GPT 写的句子。")
    ['gpt', '写', '的', '句', '子']
    """
    if text.isascii():
        return _ASCII.findall(text.lower())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return segments(_OPTIONAL.sub("", folded))


def segments(text: str) -> list[str]:
    """Returns the words of a text unchanged, or its characters in scripts without spaces. Drops everything else."""
    return [match.group() for match in _matches(text)]


def within_word(text: str, at: int) -> bool:
    """Returns whether a position lies inside a word: between two of its letters, or between a letter and its mark.

    Args:
        text: The text.
        at: Position of the character after the boundary.
    """
    return any(match.start() < at < match.end() for match in _matches(text))


def _matches(text: str) -> Iterator[regex.Match[str]]:
    matches: Iterator[regex.Match[str]] = (_MIXED if has_characters(text) else _SPACED).finditer(text)
    return matches


def has_characters(text: str) -> bool:
    """Returns whether a text contains letters of a script without spaces."""
    return not text.isascii() and _CHARACTER.search(text) is not None


def count_words(text_words: Sequence[str]) -> int:
    """Counts words from :func:`words`. Two characters of a script without spaces count as one word."""
    return (sum(map(_halves, text_words)) + 1) // 2


def runs(text_words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Returns all runs (n-grams) of words. Two characters of a script without spaces count as one word.

    A Chinese word has one or two characters in running text, so runs of one size carry about as much information in any
    script. One run starts at each word: the shortest that is long enough.

    Args:
        text_words: Words of a text.
        size: Number of words in a run.

    >>> runs(["a", "red", "kite"], 2)
    [('a', 'red'), ('red', 'kite')]
    >>> runs(["红", "色", "风", "筝"], 1)
    [('红', '色'), ('色', '风'), ('风', '筝')]
    """
    if "".join(text_words).isascii():  # the common case, several times as fast
        return [tuple(text_words[start : start + size]) for start in range(len(text_words) - size + 1)]
    halves = [_halves(word) for word in text_words]
    word_runs: list[tuple[str, ...]] = []
    length = end = 0
    for start, first in enumerate(halves):
        while length < 2 * size and end < len(halves):
            length, end = length + halves[end], end + 1
        if length < 2 * size:
            break
        word_runs.append(tuple(text_words[start:end]))
        length -= first
    return word_runs


def _halves(word: str) -> int:
    return 1 if has_characters(word) else 2
