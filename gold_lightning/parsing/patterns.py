"""Compiles long patterns that are written over several lines."""

from __future__ import annotations

import re

__all__ = ["spaced"]


def spaced(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Compiles a pattern written over several lines: spaces match themselves, line breaks nothing."""
    return re.compile("".join(line.strip("\n\t") for line in re.sub(r"\n +", "\n", pattern).split("\n")), flags)
