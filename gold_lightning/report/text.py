"""Makes text of a run safe to show: invisible characters are escaped, and no mark leaves its line."""

from __future__ import annotations

import unicodedata

from gold_lightning.console import printable

__all__ = ["LABEL_CHARS", "cut", "visible"]

LABEL_CHARS = 80
"""Most characters of a label on a page."""

_STACK = 4  # marks on a letter; Hebrew and Vietnamese have up to three
_FIVE_MARKS = "^" * (_STACK + 1)


class _Marks(dict[int, str]):
    """Writes ``^`` for a combining mark and a space for any other code point, decided when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = "^" if unicodedata.category(chr(code)) in ("Mn", "Me") else " "
        return self[code]


_MARKS = _Marks()


def visible(text: str) -> str:
    r"""Escapes every invisible character of a text. Line breaks stay.

    Invisible are the characters that :func:`gold_lightning.console.printable` escapes: controls, marks that change the
    direction of a line, and lone surrogates, which no file can hold. Each combining mark beyond the fourth on one
    letter is escaped too, since many of them cover other lines.

    >>> visible("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    if text.isascii() and text.isprintable():
        return text
    if _FIVE_MARKS not in text.translate(_MARKS):  # nearly always
        return "\n".join(map(printable, text.split("\n")))
    characters, marks = [], 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        characters.append(char.encode("unicode_escape").decode() if marks > _STACK else char)
    return "\n".join(map(printable, "".join(characters).split("\n")))


def cut(text: str, most: int) -> str:
    """Returns a text as one line of at most ``most`` characters."""
    text = visible(text).replace("\n", r"\n")
    return text if len(text) <= most else text[: most - 1] + "…"
