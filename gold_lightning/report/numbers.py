"""Formats numbers for a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["NONE", "abbreviated", "counted", "decimal", "evenly_spaced", "percent", "quantile", "ratio", "to_float"]

NONE = "\u2013"
"""Stands in for a missing number."""


def to_float(value: Any) -> float:
    """Returns a value read from a file as a number; NaN if it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def ratio(part: float, of: float) -> float:
    """Returns part / of; NaN if ``of`` is 0."""
    return part / of if of else math.nan


def quantile(values: Sequence[float], part: float) -> float:
    """Returns the value nearest to the quantile ``part`` in [0, 1]; ``values`` must not be empty."""
    ordered = sorted(values)
    return float(ordered[round(part * (len(ordered) - 1))])


def percent(value: float) -> str:
    """Formats a share in [0, 1] in percent."""
    return f"{100 * value:.1f}\u00a0%" if math.isfinite(value) else NONE


def decimal(value: float) -> str:
    """Formats a number with two decimals and a true minus sign."""
    return f"{value:.2f}".replace("-", "\u2212") if math.isfinite(value) else NONE


def counted(number: int, noun: str) -> str:
    """Formats a count: ``1 round``, ``2 rounds``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def abbreviated(number: float) -> str:
    """Formats a number with three digits and a unit of thousands."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def evenly_spaced(numbers: Sequence[int], most: int) -> list[int]:
    """Returns at most ``most`` of the numbers, evenly spaced, with the first and the last.

    >>> evenly_spaced(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[round(i * (len(numbers) - 1) / (most - 1))] for i in range(most)]
