"""JSON Lines files that survive a kill: appended rows are on disk when a call returns, replaced files are whole.

Readers pass over a torn last line and over damaged ones; a missing file has no rows.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "append_line",
    "count_lines",
    "digest",
    "read_json",
    "read_lines",
    "replace_text",
    "rows_at",
    "whole_rows",
    "write_lines",
]


def digest(value: object, length: int = 16) -> str:
    """Hashes plain values; the same in every process and version of Python.

    Args:
        value: A value that JSON can hold. Keys of mappings are sorted; any other object counts by its ``str``.
        length: Number of hexadecimal digits, at most 64.

    Example:
        >>> digest({"a": 1, "b": [2.5, None]}) == digest({"b": [2.5, None], "a": 1})
        True
        >>> len(digest("text", 32))
        32
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a JSON Lines file, without torn and damaged lines; empty if there is no file."""
    return [row for _, row in whole_rows(path)]


def whole_rows(path: Path, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the rows of a JSON Lines file one by one, each with its position in bytes.

    Args:
        path: The file; it may be missing.
        start: Position in bytes of the row to begin with.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for line in file:
            begin, end = end, end + len(line)
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield begin, row


def rows_at(path: Path, positions: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Yields the rows of a JSON Lines file that begin at these positions in bytes.

    Raises:
        OSError: The file is missing.
        ValueError: No row begins at one of the positions.
    """
    with path.open("rb") as file:
        for position in positions:
            file.seek(position)
            row = json.loads(file.readline())
            if not isinstance(row, dict):
                raise ValueError(f"{path}: no row at {position}")
            yield row


def count_lines(path: Path) -> int:
    """Counts the lines of a file, including a torn last one."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def append_line(path: Path, *rows: Mapping[str, Any]) -> list[int]:
    """Appends rows to a JSON Lines file and returns once they are on disk.

    Returns:
        The position of each row in bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [_encode(row) for row in rows]
    with path.open("ab") as file:
        ends = list(itertools.accumulate(map(len, lines), initial=file.seek(0, os.SEEK_END)))
        file.write(b"".join(lines))
        file.flush()
        os.fsync(file.fileno())
    return ends[:-1]


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a JSON Lines file as a whole: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.writelines(map(_encode, rows))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a small file that holds one JSON object; empty if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def replace_text(path: Path, text: str) -> None:
    """Replaces a small text file as a whole, without waiting for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _encode(row: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except ValueError:
        row = _finite(row)
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    # Generated text may contain lone surrogates. Escaping them keeps the file valid UTF-8.
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    """Replaces floats that JSON lacks: nan by null, an infinite number by the largest finite one."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else math.copysign(sys.float_info.max, value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
