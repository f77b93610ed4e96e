"""Reads files of rows and columns: JSON, JSON Lines, CSV, TSV and Parquet, by their ending."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["ENDINGS", "Table", "ending_of", "kind_of", "one_of", "read_table", "read_texts"]


@dataclass(frozen=True)
class Table:
    """Rows of a file or of a data set.

    Args:
        rows: The rows, a value for each column.
        names: The data set's own names for the numbers of a column, by column.
    """

    rows: Sequence[Mapping[str, Any]]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


def ending_of(path: Path) -> str:
    """Returns the ending that determines the format of a file, in lower case; ``.csv.gz`` for a compressed file."""
    ends = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(ends) if ends[-1:] == [".gz"] else "".join(ends[-1:])


def kind_of(ending: str) -> str:
    """Returns the name of the format of an ending."""
    return _KINDS[ending.removesuffix(".gz")]


def one_of(names: Iterable[str], word: str = "or") -> str:
    """Joins names to a phrase.

    >>> one_of(["a", "b", "c"])
    'a, b or c'
    """
    *first, last = names
    return f"{', '.join(first)} {word} {last}"


def read_table(path: Path) -> Table:
    """Reads a file whose ending is one of :data:`ENDINGS`, or one of them and ``.gz``.

    Raises:
        OSError: The file cannot be read.
        ValueError: Its content does not have the format of its ending; the message gives the reason.
    """
    ending = ending_of(path)
    if ending == ".parquet":
        return _parquet(path)
    return _READERS[ending.removesuffix(".gz")](_decoded(path))


def read_texts(path: Path) -> list[str]:
    """Reads a file with one text on each line, plain or compressed; empty lines are left out.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no UTF-8 text; the message gives the reason.
    """
    text = _decoded(path)
    # Only line ends of files: str.splitlines would also break at characters that may stand in a text.
    return [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]


# Text


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    if ending_of(path).endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as e:
            raise ValueError(f"gzip: {e}") from None
    return _text(data)


_MAGIC = {
    b"\x1f\x8b": "it is compressed with gzip; add .gz to its name",
    b"PK\x03\x04": "it is a zip file or a spreadsheet; unpack it, or save it as CSV",
    b"PAR1": "it is a Parquet file; name it .parquet",
    b"ARROW1": "it is an Arrow file; save it as Parquet",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd; unpack it",
    b"\xd0\xcf\x11\xe0": "it is a spreadsheet; save it as CSV",
    codecs.BOM_UTF32_LE: "it is UTF-32; save it as UTF-8",
    codecs.BOM_UTF32_BE: "it is UTF-32; save it as UTF-8",
    codecs.BOM_UTF16_LE: "it is UTF-16; save it as UTF-8",
    codecs.BOM_UTF16_BE: "it is UTF-16; save it as UTF-8",
}


def _text(data: bytes) -> str:
    for magic, reason in _MAGIC.items():
        if data.startswith(magic):
            raise ValueError(reason)
    if data.startswith(b"version https://git-lfs"):
        raise ValueError("it is a Git LFS pointer, not the file itself; run git lfs pull")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise ValueError(
            f"byte {data[e.start]:#04x} in line {line} is not UTF-8; if the file is Latin-1 or Windows-1252, "
            "save it as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"line {line} contains a NUL byte; if the file is UTF-16, save it as UTF-8")
    return text


# JSON

_CONTAINERS = {"data", "rows", "examples", "records", "instances", "items", "train", "validation", "test"}
_RECORDS = "write rows: in pandas to_json(..., orient='records', lines=True)"


def _json(text: str) -> Table:
    """Reads rows from a list, or from one object on each line."""
    if text.lstrip().startswith("["):
        try:
            value = _loads(text)
        except json.JSONDecodeError as e:
            if not e.msg.startswith("Extra data"):  # extra data: each line is a list
                raise
        else:
            return Table([_row(row, f"row {i}") for i, row in enumerate(value)])
    # Only "\n" ends a line: str.splitlines would also break at characters that may stand in a text.
    lines = text.split("\n" if "\n" in text else "\r")
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = _loads(line)
        except json.JSONDecodeError as e:
            if not rows and (whole := _whole(text)) is not None:
                return Table([_row(row, f"row {i}") for i, row in enumerate(whole)])
            raise ValueError(f"line {number}: {e.msg}, at character {e.colno}") from None
        rows.append(_row(value, f"line {number}"))
    return Table([_one_row(rows[0])] if len(rows) == 1 else rows)


def _loads(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members := dict(pairs)) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} appears twice in an object")
    return members


def _whole(text: str) -> list[Any] | None:
    """Reads consecutive objects that span several lines; ``None`` if the text is anything else."""
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    values: list[Any] = []
    at = 0
    while (at := len(text) - len(text[at:].lstrip())) < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            return None
        values.append(value)
    return [_one_row(values[0])] if len(values) == 1 else values


def _row(value: Any, at: str) -> Mapping[str, Any]:
    if isinstance(value, list):
        raise ValueError(f"{at} is a list, not an object of columns and values; {_RECORDS}")
    if not isinstance(value, dict):
        raise ValueError(f"{at} is not an object of columns and values")
    return value


def _one_row(value: Any) -> Any:
    """Returns the only object of a file if it is a row.

    Raises:
        ValueError: The object contains all rows.
    """
    if not isinstance(value, dict) or not value:
        return value
    of_columns = all(isinstance(v, dict) and v and all(k.isdigit() for k in v) for v in value.values())
    of_rows = all(k.isdigit() and isinstance(v, dict) for k, v in value.items())
    of_lists = len(value) > 1 and all(isinstance(v, list) for v in value.values())
    split = all(isinstance(value.get(k), list) for k in ("columns", "data"))
    if of_columns or of_rows or of_lists or split:
        raise ValueError(f"it is one object with all rows; {_RECORDS}")
    for key in sorted(_CONTAINERS & value.keys()):
        if isinstance(value[key], list) and all(isinstance(v, dict) for v in value[key]):
            raise ValueError(f"it is one object with the rows under {key!r} or deeper; write a list of rows")
    return value


# CSV

_LIMIT = threading.Lock()


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lifts csv's limit of 131,072 characters for each field. The limit is global to the process, hence the lock."""
    with _LIMIT:
        limit = csv.field_size_limit(sys.maxsize)
        try:
            yield
        finally:
            csv.field_size_limit(limit)


def _csv(text: str, delimiter: str = ",") -> Table:
    # The readers of pandas and Arrow would turn 007 into a number, and NA into a missing value.
    if match := re.match(r"sep=(.)\r?\n", text):  # Excel's
        text, delimiter = text[match.end() :], match[1]
    with _long_fields():
        first = next(_records(text, delimiter), [])
        if len(first) == 1:  # a row has a field and a target, so one column means another delimiter
            line = text.lstrip("\r\n").splitlines()[0]
            delimiter = next((d for d in ";\t,|" if d in line), delimiter)  # in much of Europe, Excel writes ";"
        records = list(_records(text, delimiter))
    head, *rows = records or [[]]
    head = [name.strip() for name in head]
    for name in head:
        if name and head.count(name) > 1:
            raise ValueError(f"two columns have the name {name!r}")
    for i, cells in enumerate(rows):
        if len(cells) != len(head):
            raise ValueError(f"row {i} has {len(cells)} cells, the first line {len(head)}")
    return Table([dict(zip(head, cells, strict=True)) for cells in rows])


def _records(text: str, delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    try:
        yield from (cells for cells in reader if cells)
    except csv.Error as e:
        raise ValueError(f"line {reader.line_num}: {e}") from None


def _tsv(text: str) -> Table:
    try:
        return _csv(text, "\t")
    except ValueError:
        # Many TSV files use no quoting, so a quote is an ordinary character.
        with _long_fields():
            head, *rows = list(_records(text, "\t", csv.QUOTE_NONE)) or [[]]
        if len(head) < 2 or len(set(head)) < len(head) or any(len(cells) != len(head) for cells in rows):
            raise
        return Table([dict(zip(head, cells, strict=True)) for cells in rows])


# Parquet


def _parquet(path: Path) -> Table:
    import pyarrow.parquet

    columns = pyarrow.parquet.read_schema(path).names  # ArrowInvalid is a ValueError
    if len(set(columns)) < len(columns):
        raise ValueError(f"two columns have the name {next(n for n in columns if columns.count(n) > 1)!r}")
    table = pyarrow.parquet.read_table(path)
    try:  # in the hub's own files, the metadata names the numbers of a label column
        info = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = {column: kind["names"] for column, kind in info.items() if "names" in kind}
    except (KeyError, TypeError, ValueError):
        names = {}
    return Table(table.to_pylist(), names)


_READERS: dict[str, Callable[[str], Table]] = {
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
}
ENDINGS = (*_READERS, ".parquet")
_KINDS = {".jsonl": "JSON Lines", ".ndjson": "JSON Lines", ".json": "JSON", ".csv": "CSV", ".tsv": "TSV"}
_KINDS[".parquet"] = "Parquet"
