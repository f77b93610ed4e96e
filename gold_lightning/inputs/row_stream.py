"""Reads rows one by one, from files of any size and from standard input. A row that cannot be read keeps its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, cast

from gold_lightning.errors import ConfigError
from gold_lightning.inputs.columns import READABLE, half_surrogate, is_json_row, load_table
from gold_lightning.inputs.tables import ENDINGS, ending_of, one_of

__all__ = ["InputRow", "RowStream"]

_PLAIN = (".txt", ".txt.gz")
_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class InputRow:
    """A row of an input.

    Args:
        values: Its columns; as many as could be read.
        problem: Reason why it could not be read; "" for a whole row.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


class RowStream:
    """The rows of a file or of standard input.

    Files are JSON, JSON Lines, CSV, TSV, Parquet, or plain text with a row on each line, by their ending; standard
    input is JSON Lines if its first line begins with a brace, otherwise plain text. Empty lines of JSON Lines and CSV
    are no rows.

    Args:
        key: The setting that names the input, for messages.
        path: The file; ``-`` for standard input.
        text_column: Column of the lines of plain text; "" if plain text cannot be read.

    Raises:
        ConfigError: There is no such file, or its ending names no format.

    Attributes:
        kind: Ending of the format: ``.jsonl``, ``.csv``, ``.tsv``, ``.json``, ``.parquet`` or ``.txt``.
        columns: Names of the columns, of CSV and TSV; known from the first row on.
        delimiter: Character between the cells of CSV and TSV.
        schema: The schema of a Parquet file; known from the first row on.
    """

    def __init__(self, key: str, path: str, text_column: str) -> None:
        self.key, self.path, self.text_column = key, path, text_column
        self.columns: list[str] = []
        self.delimiter = ","
        self.schema: Any = None
        self._raw: IO[bytes] | None = None
        self._size = 0
        if path == "-":
            self.kind = ""
            return
        allowed = f"a {one_of((*ENDINGS, '.txt'))} file, or - for standard input"
        if not Path(path).is_file():
            raise ConfigError(key, path, allowed)
        ending = ending_of(Path(path))
        if ending not in (*READABLE, *_PLAIN):
            raise ConfigError(key, path, allowed, "the ending names the format, and .gz may follow")
        self.kind = ".jsonl" if ending.removesuffix(".gz") in _JSON_LINES else ending.removesuffix(".gz")
        self._size = Path(path).stat().st_size
        if self.kind == ".txt":
            self._need_text_column()

    def __iter__(self) -> Iterator[InputRow]:
        if self.kind == ".parquet":
            yield from self._parquet()
        elif self.kind == ".json":
            yield from (InputRow(row) for row in load_table(self.key, self.path).rows)
        else:
            with self._open() as file:
                if self.kind in (".csv", ".tsv"):
                    yield from self._cells(file)
                else:
                    yield from self._lines(file)

    def share(self) -> float | None:
        """Returns the share of the input that was read, in [0, 1]; ``None`` if it is not known."""
        if self._raw is None or self._raw.closed or not self._size:
            return None
        return min(1.0, self._raw.tell() / self._size)

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        if self.path == "-":
            if sys.stdin is None:
                raise ConfigError(self.key, self.path, "an open standard input")
            yield sys.stdin.buffer
            return
        with Path(self.path).open("rb") as self._raw:
            if ending_of(Path(self.path)).endswith(".gz"):
                yield cast(IO[bytes], gzip.GzipFile(fileobj=self._raw))
            else:
                yield self._raw

    def _need_text_column(self) -> None:
        if not self.text_column:
            raise ConfigError(self.key, self.path, "rows with columns", "plain text has one field alone")

    def _lines(self, file: IO[bytes]) -> Iterator[InputRow]:
        for number, raw in enumerate(file):
            line = raw.removeprefix(b"\xef\xbb\xbf") if not number else raw
            if not self.kind:
                self.kind = ".jsonl" if line.lstrip().startswith(b"{") else ".txt"
                if self.kind == ".txt":
                    self._need_text_column()
            try:
                text = line.decode().rstrip("\r\n")
            except UnicodeDecodeError as e:
                yield InputRow(problem=f"byte {line[e.start]:#04x} is not UTF-8")
                continue
            if self.kind == ".txt":
                if not number and self.path != "-" and is_json_row(text, self.text_column):
                    hint = f"its lines are JSON objects with {self.text_column!r}: name it .jsonl"
                    raise ConfigError(self.key, self.path, "a text on each line", hint)
                yield InputRow({self.text_column: text})
            elif text.strip():
                yield _json_row(text)

    def _cells(self, file: IO[bytes]) -> Iterator[InputRow]:
        csv.field_size_limit(sys.maxsize)
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        try:
            for cells in self._records(text, csv.QUOTE_MINIMAL if self._is_quoted() else csv.QUOTE_NONE):
                values = dict(zip(self.columns, cells, strict=False))
                if len(cells) != len(self.columns):
                    yield InputRow(values, f"{len(cells)} cells, the first line has {len(self.columns)}")
                elif any(half_surrogate(cell) for cell in cells):
                    readable = {name: cell.encode("utf-8", "replace").decode() for name, cell in values.items()}
                    yield InputRow(readable, "bytes that are not UTF-8")
                else:
                    yield InputRow(values)
        finally:
            with suppress(ValueError):  # closed already, by a reader that wants no more
                text.detach()

    def _is_quoted(self) -> bool:
        """Returns whether quotes in the file enclose cells: in many TSV files a quote is an ordinary character."""
        if self.kind != ".tsv":
            return True
        with self._open() as file, io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text:
            try:
                deque(self._records(text, csv.QUOTE_MINIMAL, strict=True), maxlen=0)
                return True
            except csv.Error:
                return False

    def _records(self, text: io.TextIOWrapper, quoting: Literal[0, 3], strict: bool = False) -> Iterator[list[str]]:
        """Yields the cells of each row after the first, which names the columns."""
        head = text.readline()
        self.delimiter = "\t" if self.kind == ".tsv" else ","
        if self.delimiter not in head:  # in much of Europe, Excel writes ";"
            self.delimiter = next((d for d in ";\t,|" if d in head), self.delimiter)
        reader = csv.reader(_after(head, text), delimiter=self.delimiter, quoting=quoting, strict=strict)
        self.columns = [name.strip() for name in next(reader, [])]
        if len(set(self.columns)) < len(self.columns):
            twice = next(name for name in self.columns if self.columns.count(name) > 1)
            raise ConfigError(self.key, self.path, "columns with different names", f"{twice!r} is there twice")
        yield from (cells for cells in reader if cells)

    def _parquet(self) -> Iterator[InputRow]:
        import pyarrow.parquet

        try:
            file = pyarrow.parquet.ParquetFile(self.path)
        except (OSError, ValueError) as e:
            raise ConfigError(self.key, self.path, "a Parquet file", " ".join(str(e).split())[:200]) from None
        self.schema, self.columns = file.schema_arrow, list(file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=1024):
            yield from (InputRow(row) for row in batch.to_pylist())


def _after(head: str, rest: Iterator[str]) -> Iterator[str]:
    yield head
    yield from rest


def _json_row(text: str) -> InputRow:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        return InputRow(problem=f"no JSON ({e})")
    return InputRow(value) if isinstance(value, dict) else InputRow(problem="no JSON object")
