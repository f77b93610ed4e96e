"""JSON that a generator or a student wrote: read strictly, compared as data."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["read_json", "same_json"]


def read_json(text: str) -> Any:
    """The value of a JSON text.

    Stricter than :func:`json.loads`: no key twice, no NaN and no infinity. A whole number is an ``int``, also
    where it is written with a point.

    Raises:
        ValueError: The text is no such JSON, or nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_float=_number, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def same_json(first: str, second: str) -> bool:
    """Whether two texts hold the same data: order of keys, spaces and form of numbers aside. Others are not equal."""
    try:
        one, two = (json.dumps(read_json(text), sort_keys=True) for text in (first, second))
    except (ValueError, RecursionError):
        return False
    return one == two


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _number(text: str) -> int | float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return int(value) if value.is_integer() else value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
