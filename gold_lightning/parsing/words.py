"""Words of a text in any script: what checks, metrics and measures of variety count and compare.

If a script puts no spaces between words, each character is one, with its marks: no segmenter would be right for
Chinese, Japanese, Thai, Lao, Khmer and Burmese alike, and ROUGE, BLEU and SQuAD's measures are taken over characters in
several of these languages (the "mixed segmentation" of CMRC 2018: Cui et al., EMNLP 2019).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import regex

__all__ = ["count_words", "has_characters", "runs", "segments", "within_word", "words"]

# scx: the long vowel mark of kana and the like belong to several scripts.
_SCRIPTS = "".join(
    f"\\p{{scx={name}}}"
    for name in (
        *("Han", "Hiragana", "Katakana", "Bopomofo", "Yi", "Nushu", "Tangut", "Thai", "Lao", "Khmer", "Myanmar"),
        *("Javanese", "Balinese", "Tai_Le", "New_Tai_Lue", "Tai_Tham", "Tai_Viet"),
    )
)
_LETTER = r"(?!\p{M})[\w\p{N}]"  # or a digit, or _; \p{N}: numerals that are no decimal digits
_CHARACTER = regex.compile(rf"{_LETTER}(?<=[{_SCRIPTS}])\p{{M}}*")
_MIXED = regex.compile(rf"{_CHARACTER.pattern}|(?:{_LETTER}(?<![{_SCRIPTS}])\p{{M}}*)+")
_SPACED = regex.compile(r"(?!\p{M})[\w\p{N}]+")  # the same, and faster, where no character stands alone
_ASCII = re.compile(r"\w+")  # the same for ASCII, and faster still
# What a writer may leave out without writing another word: soft hyphens and joiners, the choice of a glyph, Arabic
# vowel signs and the stroke that only stretches a word, Hebrew points.
_OPTIONAL = regex.compile(
    r"[\p{Default_Ignorable_Code_Point}--\u200b]|\u0640|[\u064b-\u065f\u0670]"
    r"|[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]",
    regex.V1,
)


def words(text: str) -> list[str]:
    """Words of a text without case and punctuation; characters in scripts without spaces.

    Texts that Unicode calls compatible (NFKC) have the same words: composed and decomposed letters, full and half
    width.

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
    """Words of a text as they are, and all else away; characters in scripts without spaces."""
    return [match.group() for match in _matches(text)]


def within_word(text: str, at: int) -> bool:
    """Whether a position lies within a word: between two letters of it, or between a letter and its mark.

    Args:
        text: The text.
        at: Position of the character that follows.
    """
    return any(match.start() < at < match.end() for match in _matches(text))


def _matches(text: str) -> Iterator[regex.Match[str]]:
    matches: Iterator[regex.Match[str]] = (_MIXED if has_characters(text) else _SPACED).finditer(text)
    return matches


def has_characters(text: str) -> bool:
    """Whether a text has letters of a script without spaces."""
    return not text.isascii() and _CHARACTER.search(text) is not None


def count_words(found: Sequence[str]) -> int:
    """How many words a text's :func:`words` come to: two characters of a script without spaces count as one."""
    return (sum(map(_halves, found)) + 1) // 2


def runs(found: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """All runs of so many words in a row; two characters of a script without spaces count as one word.

    A Chinese word has one or two characters in running text, so a run says about as much in any script. From each word
    on there is one run, the shortest that is long enough.

    Args:
        found: Words of a text.
        size: How many words in a row.

    >>> runs(["a", "red", "kite"], 2)
    [('a', 'red'), ('red', 'kite')]
    >>> runs(["红", "色", "风", "筝"], 1)
    [('红', '色'), ('色', '风'), ('风', '筝')]
    """
    halves = [_halves(word) for word in found]
    made: list[tuple[str, ...]] = []
    length = end = 0
    for start, first in enumerate(halves):
        while length < 2 * size and end < len(halves):
            length, end = length + halves[end], end + 1
        if length < 2 * size:
            break
        made.append(tuple(found[start:end]))
        length -= first
    return made


def _halves(word: str) -> int:
    return 1 if has_characters(word) else 2
