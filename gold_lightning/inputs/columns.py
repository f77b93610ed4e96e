"""Reads values of columns in rows of any origin: nested keys, JSON's types, and text that is whole."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gold_lightning.errors import GoldError
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.tables import ENDINGS, Table, ending_of, kind_of, one_of, read_table

__all__ = [
    "READABLE",
    "abridged",
    "column_value",
    "composed",
    "half_surrogate",
    "is_json_row",
    "load_table",
    "plain_value",
]

READABLE = (*ENDINGS, *(f"{ending}.gz" for ending in ENDINGS if ending != ".parquet"))
"""Endings of files that :func:`load_table` reads."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def load_table(description: str, path: Path | str) -> Table:
    """Reads a file of rows whose ending is one of :data:`READABLE`.

    Args:
        description: Name of the rows in messages, such as ``test data``.
        path: The file, as the user wrote it; ``~`` is the home folder.

    Raises:
        GoldError: The file cannot be read, or its content does not have the format of its ending.
    """
    where = f"{description} {path}"
    path = Path(expand(description, str(path)))
    ending = ending_of(path)
    if ending not in READABLE:
        raise GoldError(f"{where}: the ending {path.suffix!r} is none of {one_of(ENDINGS, 'and')}")
    try:
        return read_table(path)
    except OSError as e:
        raise GoldError(f"{where}: {e.strerror or ' '.join(str(e).split())}") from None
    except ValueError as e:
        raise GoldError(f"{where}: not {kind_of(ending)} ({' '.join(str(e).split())[:200]})") from None


def is_json_row(line: str, column: str) -> bool:
    """Returns whether a line of plain text is an object of JSON Lines with a column: a file with the wrong ending."""
    if not line.lstrip().startswith("{"):
        return False
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and column in value


def half_surrogate(text: str) -> str:
    """Returns the first half of a surrogate pair that stands alone in a text, which no file can hold; "" if none."""
    match = _SURROGATE.search(text)
    return match[0] if match else ""


def abridged(value: Iterable[str]) -> str:
    """Returns a value as text for a message, at most 160 characters."""
    text = str(sorted(value, key=str) if isinstance(value, Mapping) else value)
    return text if len(text) <= 160 else text[:157] + "..."


def column_value(row: Any, column: str) -> Any:
    """Returns the value of a column; ``answers.text`` is the key ``text`` of the value of ``answers``.

    For a list of objects, as in ``[{"text": ...}]``, the value is the list of theirs.

    Raises:
        KeyError: The row has no such column or key.
    """
    if isinstance(row, list) and all(isinstance(part, Mapping) for part in row):
        return [column_value(part, column) for part in row]
    if not isinstance(row, Mapping):
        raise KeyError(column)
    if column in row:
        return row[column]
    if not column.isascii():
        for name in row:
            if isinstance(name, str) and composed(name) == composed(column):
                return row[name]
    name, dot, rest = column.partition(".")
    try:
        if dot:
            return column_value(row[name], rest)
    except KeyError:
        pass
    raise KeyError(column)


def plain_value(value: Any) -> Any:
    """Converts a value to JSON's types: bytes to text, NaN to ``None``.

    Raises:
        ValueError: Bytes are not UTF-8.
    """
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise ValueError(f"has bytes that are not UTF-8: {abridged(repr(bytes(value)[:40]))}") from None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list | tuple):
        return [plain_value(part) for part in value]
    return value


def composed(text: str) -> str:
    """Returns a text in Unicode's composed form (NFC), in which equal names are equal."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)
