"""Numbers as a page shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["NONE", "abbreviated", "counted", "decimal", "percent", "quantile", "ratio", "to_float"]

NONE = "\u2013"
"""What stands where there is no number."""


def to_float(value: Any) -> float:
    """What a file held, as a number; NaN where it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def ratio(part: float, of: float) -> float:
    """A part of a whole; NaN of nothing."""
    return part / of if of else math.nan


def quantile(values: Sequence[float], part: float) -> float:
    """The value nearest to a quantile in [0, 1], of one value at least."""
    ordered = sorted(values)
    return float(ordered[round(part * (len(ordered) - 1))])


def percent(value: float) -> str:
    """A share in [0, 1] in percent."""
    return f"{100 * value:.1f}\u00a0%" if math.isfinite(value) else NONE


def decimal(value: float) -> str:
    """Two decimals, with a true minus sign."""
    return f"{value:.2f}".replace("-", "\u2212") if math.isfinite(value) else NONE


def counted(number: int, noun: str) -> str:
    """``1 round``, ``2 rounds``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def abbreviated(number: float) -> str:
    """Three digits and a unit of thousands."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"
