"""The parts of a report's page: panels and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

__all__ = ["Panel", "Table"]


@dataclass(frozen=True)
class Table:
    """A small table; the first column names the rows.

    Args:
        caption: Caption above the table.
        head: Names of the columns.
        rows: Cells of each row, as text.
        foot: Cells of a last row with totals; empty for no such row.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    foot: Sequence[str] = ()


@dataclass(frozen=True)
class Panel:
    """A plot with its numbers and an explanation.

    Args:
        title: Heading.
        notes: Paragraphs of the explanation.
        plots: SVG elements.
        tables: Tables with the plotted numbers.
    """

    title: str
    notes: Sequence[str] = ()
    plots: Sequence[Markup] = ()
    tables: Sequence[Table] = ()
