"""Text of a run as a page can show it: nothing that cannot be seen, and nothing that leaves its line."""

from __future__ import annotations

import unicodedata

from gold_lightning.console import printable

__all__ = ["LABEL_CHARS", "cut", "visible"]

LABEL_CHARS = 80
"""Characters that a label is cut to."""

_STACK = 4  # marks on a letter; Hebrew and Vietnamese have up to three


def visible(text: str) -> str:
    r"""A text with every character escaped that could not be seen. Line breaks stay.

    :func:`gold_lightning.console.printable` says which these are: controls, marks that turn the direction of a line,
    lone surrogates, which no file can hold. So is each mark beyond the fourth on one letter: they pile up over other
    lines.

    >>> visible("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    if text.isascii() and text.isprintable():
        return text
    found, marks = [], 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        found.append(char.encode("unicode_escape").decode() if marks > _STACK else char)
    return "\n".join(map(printable, "".join(found).split("\n")))


def cut(text: str, most: int) -> str:
    """One line of a text, of at most so many characters."""
    text = visible(text).replace("\n", r"\n")
    return text if len(text) <= most else text[: most - 1] + "…"
