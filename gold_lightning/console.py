"""Plain text for a terminal or a pipe: untrusted text escaped, lines wrapped and columns aligned by display width."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["duration", "printable", "prose", "rule", "say", "table", "width", "wrap"]

_MAX_WIDTH = 120  # longer lines are hard to read


def width() -> int:
    """Cells of a line: the width of the terminal (100 without one), between 40 and 120."""
    return max(40, min(_MAX_WIDTH, shutil.get_terminal_size((100, 24)).columns))


def printable(text: str) -> str:
    r"""Escapes every character that a terminal may act on or that nobody can see.

    These are controls (``\x1b``, line breaks), marks that change the direction of a line, lone surrogates, and
    characters that Unicode leaves unassigned.

    >>> print(printable("red: \x1b[31m"))
    red: \x1b[31m
    """
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


class _Escapes(dict[int, str]):
    """What :func:`printable` writes for each code point, decided when it is first met."""

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        hidden = category[0] == "C" or category in ("Zl", "Zp")
        self[code] = chr(code).encode("unicode_escape").decode() if hidden else chr(code)
        return self[code]


_ESCAPES = _Escapes()


def wrap(text: str, size: int) -> list[str]:
    """Splits one line of printable text into lines of at most ``size`` cells (2 or more), at spaces if there are any.

    >>> wrap("one two three", 7)
    ['one two', 'three']
    """
    return [line.plain.rstrip(" ") for line in Text(text, end="").wrap(_PLAIN, size)]


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Aligns columns two spaces apart; the lines have neither colours nor frames, so a pipe can take them.

    Args:
        rows: Printable cells, as many in each row.
        right: Indices of the columns that are aligned to the right.

    >>> table([["", "rows"], ["train", "1,000"], ["test", "240"]], right=[1])
    ['        rows', 'train  1,000', 'test     240']
    """
    if not rows:
        return []
    grid = Table.grid(padding=(0, 2))
    for i in range(len(rows[0])):
        grid.add_column(no_wrap=True, justify="right" if i in right else "left")
    for row in rows:
        grid.add_row(*map(Text, row))
    return ["".join(part.text for part in line).rstrip() for line in _PLAIN.render_lines(grid)]


_PLAIN = Console(width=100_000, color_system=None, legacy_windows=False)  # wide: a line of a table stays one line


def prose(text: str) -> list[str]:
    """Returns printable lines of a paragraph, as wide as the page."""
    return wrap(printable(text), width())


def rule(title: str) -> str:
    """A line across the page with a printable title in it."""
    return f"-- {title} ".ljust(width(), "-")


def duration(seconds: float) -> str:
    """Formats a measured or estimated time, to about three digits.

    >>> duration(7.14), duration(427), duration(15_960)
    ('7.1 s', '7 min', '4 h 26 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"


def say(line: str = "") -> None:
    """Prints and flushes a line; characters that the output's encoding lacks are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
