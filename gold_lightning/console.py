"""Text for a terminal: escaped, wrapped and aligned by what it takes there, whoever wrote it."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence

__all__ = ["cells", "duration", "printable", "rule", "say", "table", "width", "wrap"]

_WIDEST = 120  # lines longer than this are hard to read


def width() -> int:
    """Cells of a line: the terminal's (100 where there is none), from 40 to 120."""
    return max(40, min(_WIDEST, shutil.get_terminal_size((100, 24)).columns))


def printable(text: str) -> str:
    r"""The text with every character escaped that a terminal may act on and nobody can see.

    These are controls (``\x1b``, line breaks), marks that turn the direction of a line, lone surrogates, and
    what Unicode leaves unassigned.

    >>> print(printable("red: \x1b[31m"))
    red: \x1b[31m
    """
    hidden = (unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") for c in text)
    return "".join(c.encode("unicode_escape").decode() if h else c for c, h in zip(text, hidden, strict=True))


def cells(text: str) -> int:
    """Cells that a printable text takes: wide characters two, combining marks none.

    >>> cells("ab"), cells("日本")
    (2, 4)
    """
    return sum(_cells(c) for c in text)


def _cells(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def wrap(text: str, size: int) -> list[str]:
    """A printable text of one line as lines of at most ``size`` cells (2 or more), broken at spaces if there are any.

    >>> wrap("one two three", 7)
    ['one two', 'three']
    """
    lines, line, used = [], "", 0
    for token in re.findall(r" +|[^ ]+", text):
        if used + cells(token) > size and used:
            lines.append(line.rstrip(" "))
            line, used = "", 0
            if token[0] == " ":
                continue
        for char in token:
            if used + _cells(char) > size:
                lines.append(line.rstrip(" "))
                line, used = "", 0
            line += char
            used += _cells(char)
    return [*lines, line.rstrip(" ")]


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> Iterator[str]:
    """Lines of aligned columns, two spaces apart.

    Args:
        rows: Printable cells, as many in each row.
        right: Columns that are aligned to the right.
    """
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        pads = [" " * (w - cells(c)) for w, c in zip(widths, row, strict=True)]
        yield "  ".join(p + c if i in right else c + p for i, (c, p) in enumerate(zip(row, pads, strict=True))).rstrip()


def rule(title: str) -> str:
    """A line across, with a printable title in it."""
    return f"-- {title} ".ljust(width(), "-")


def duration(seconds: float) -> str:
    """A time that is over or estimated, to three digits or so.

    >>> duration(7.14), duration(427), duration(15_960)
    ('7.1 s', '7 min', '4 h 26 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"


def say(line: str = "") -> None:
    """Prints a line at once; what the output's encoding does not have is escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
