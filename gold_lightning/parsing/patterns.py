"""How the long patterns of this package are written."""

from __future__ import annotations

import re

__all__ = ["spaced"]


def spaced(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """A pattern over several lines, in which a space stands for itself and line breaks for nothing."""
    return re.compile("".join(line.strip("\n\t") for line in re.sub(r"\n +", "\n", pattern).split("\n")), flags)
