"""Parses JSON written by a generator or a student strictly, and compares it as data."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["read_json", "same_json"]


def read_json(text: str) -> Any:
    """Parses a JSON text.

    Stricter than :func:`json.loads`: rejects duplicate keys, NaN and infinity. Whole numbers become ``int``, even if
    written with a decimal point.

    Raises:
        ValueError: The text is not valid JSON in this sense, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_members, parse_float=_number, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def same_json(first: str, second: str) -> bool:
    """Returns whether two JSON texts hold the same data, ignoring key order, whitespace and number format.

    Texts that do not parse equal nothing.
    """
    try:
        first_data, second_data = (json.dumps(read_json(text), sort_keys=True) for text in (first, second))
    except (ValueError, RecursionError):
        return False
    return first_data == second_data


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members := dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return members


def _number(text: str) -> int | float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return int(value) if value.is_integer() else value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
