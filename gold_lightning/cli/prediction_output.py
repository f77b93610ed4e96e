"""Writes predictions beside the columns of their rows: JSON Lines, CSV, TSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gold_lightning.errors import ConfigError
from gold_lightning.inputs.columns import plain_value
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.row_stream import InputRow, RowStream

if TYPE_CHECKING:
    from gold_lightning.t5.prediction import Prediction

__all__ = ["COLUMNS", "Output", "open_output"]

COLUMNS = ("prediction", "probability", "energy", "known", "error")
"""Columns that are added to each row. A column of the input with such a name is written as ``input_NAME``."""

Answer = tuple[InputRow, str, "Prediction | None"]
"""A row, the reason why it could not be read, and its prediction."""


class Output(ABC):
    """Base of outputs.

    Attributes:
        written: Number of rows that an earlier call has written.
        appends: Whether rows are in the file once :meth:`write` returns.
    """

    written = 0
    appends = True

    @abstractmethod
    def write(self, answers: Iterable[Answer]) -> None:
        """Writes rows."""

    @abstractmethod
    def close(self, whole: bool) -> None:
        """Closes the file.

        Args:
            whole: Whether all rows are written.
        """

    def ends_with(self, row: InputRow) -> bool:
        """Returns whether the last row that was written is this one."""
        return True


def open_output(out: str | None, resume: bool, stream: RowStream | None, probabilities: bool) -> Output:
    """Opens the output.

    Args:
        out: The file; ``None`` for JSON Lines on standard output.
        resume: Go on with the file, if there is one.
        stream: The input, whose first row was read; ``None`` for texts.
        probabilities: Write the probability of each label, in JSON Lines.

    Raises:
        ConfigError: The file is there already, or its ending names a format that is not the input's.
    """
    if out is None:
        return _JsonLines(None, probabilities)
    path, kind = Path(expand("--out", out)), "" if stream is None else stream.kind
    ending = path.suffix.lower()
    input_kinds = (kind,) if kind in (".csv", ".tsv", ".parquet") else ()
    if ending not in (".jsonl", ".ndjson", *input_kinds):
        raise ConfigError(
            "--out", out, " or ".join(("a .jsonl", *input_kinds)) + " file", "the ending names the format"
        )
    if path.exists() and not resume:
        raise ConfigError("--out", out, "a new file", "--resume goes on with this one")
    if not path.parent.is_dir():
        raise ConfigError("--out", out, "a file in a folder that exists")
    if ending == ".parquet":
        if resume:
            raise ConfigError("--resume", True, "--out with a .jsonl or .csv file", "Parquet is written as a whole")
        return _Parquet(path, None if stream is None else stream.schema)
    if stream is not None and ending in (".csv", ".tsv"):
        return _Cells(path, stream.columns, stream.delimiter)
    return _JsonLines(path, probabilities)


_RESERVED = (*COLUMNS, "probabilities", "label_set")


def _name(name: str, added: Sequence[str] = _RESERVED) -> str:
    return f"input_{name}" if name in added else name


def _carried(values: Mapping[str, Any], added: Sequence[str] = _RESERVED) -> dict[str, Any]:
    return {_name(name, added): value for name, value in values.items()}


def _added(problem: str, prediction: Prediction | None) -> dict[str, Any]:
    if prediction is None:
        return dict.fromkeys(COLUMNS) | {"error": problem}
    rounded = {"probability": round(prediction.probability, 6), "energy": round(prediction.energy, 4)}
    return {"prediction": prediction.text, **rounded, "known": prediction.known, "error": None}


class _Appended(Output):
    """Text that is appended to a file, window by window. A torn last record of an earlier call is taken off."""

    def __init__(self, path: Path | None, *, quoted: bool) -> None:
        self._file: IO[bytes] | None = None
        self._first = self._last = b""
        self._records = 0
        if path is not None:
            end = self._whole(path, quoted) if path.exists() else 0
            self._file = path.open("ab")
            self._file.truncate(end)

    def _whole(self, path: Path, quoted: bool) -> int:
        """Counts whole records, and returns their length in bytes."""
        end, record, inside = 0, b"", False
        with path.open("rb") as file:
            for line in file:
                record += line
                inside ^= quoted and line.count(b'"') % 2 == 1
                if line.endswith(b"\n") and not inside:
                    end += len(record)
                    self._first = self._first or record
                    self._records, self._last, record = self._records + 1, record, b""
        return end

    def _append(self, text: str) -> None:
        if self._file is None:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        self._file.write(text.encode("utf-8", "backslashreplace"))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self, whole: bool) -> None:
        if self._file is not None:
            self._file.close()


class _JsonLines(_Appended):
    def __init__(self, path: Path | None, probabilities: bool) -> None:
        super().__init__(path, quoted=False)
        self.probabilities, self.written = probabilities, self._records

    def write(self, answers: Iterable[Answer]) -> None:
        self._append("".join(self._line(*answer) for answer in answers))

    def _line(self, row: InputRow, problem: str, prediction: Prediction | None) -> str:
        values = _plain(_carried(row.values)) | _added(problem, prediction)
        if prediction is None:
            values = {name: value for name, value in values.items() if name not in ("probability", "energy", "known")}
        else:
            del values["error"]
            if prediction.known is None:
                del values["known"]
            if prediction.label_set is not None:
                values["label_set"] = prediction.label_set
            if prediction.is_set:
                values["prediction"] = list(prediction.labels)
            if self.probabilities and (prediction.label is not None or prediction.is_set):
                values["probabilities"] = {name: round(p, 6) for name, p in prediction.probabilities.items()}
        text = json.dumps(values, ensure_ascii=False, default=str)
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair
            text = json.dumps(values, default=str)
        return f"{text}\n"

    def ends_with(self, row: InputRow) -> bool:
        try:
            last = json.loads(self._last)
        except ValueError:
            return False
        expected = json.loads(json.dumps(_plain(_carried(row.values)), default=str))
        return isinstance(last, dict) and all(last.get(name) == value for name, value in expected.items())


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in values.items():
        try:
            plain[name] = plain_value(value)
        except ValueError:
            plain[name] = repr(value)
    return plain


class _Cells(_Appended):
    def __init__(self, path: Path, columns: Sequence[str], delimiter: str) -> None:
        super().__init__(path, quoted=True)
        self.columns, self.delimiter = list(columns), delimiter
        self.written = max(0, self._records - 1)  # without the first line
        head = self._line([*(_name(name, COLUMNS) for name in columns), *COLUMNS])
        if not self._records:
            self._append(head)
        elif self._first.decode("utf-8", "replace") != head:  # as an earlier version wrote it
            raise ConfigError("--out", str(path), f"a file with the columns {head.strip()}", "write to another file")

    def write(self, answers: Iterable[Answer]) -> None:
        lines = []
        for row, problem, prediction in answers:
            added = _added(problem, prediction)
            lines.append(self._line([*self._carried_cells(row), *(_cell(added[name]) for name in COLUMNS)]))
        self._append("".join(lines))

    def _carried_cells(self, row: InputRow) -> list[str]:
        return [row.values.get(name, "") for name in self.columns]

    def _line(self, cells: Sequence[Any]) -> str:
        line = io.StringIO()
        csv.writer(line, delimiter=self.delimiter, lineterminator="\n").writerow(cells)
        return line.getvalue()

    def ends_with(self, row: InputRow) -> bool:
        records = list(
            csv.reader(io.StringIO(self._last.decode("utf-8", "replace"), newline=""), delimiter=self.delimiter)
        )
        cells = self._carried_cells(row)
        return len(records) == 1 and records[0][: len(cells)] == cells


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


class _Parquet(Output):
    """A Parquet file with the columns of a Parquet input as they are; there once it is whole."""

    appends = False

    def __init__(self, path: Path, schema: Any) -> None:
        import pyarrow
        import pyarrow.parquet

        self.path, self.part = path, path.with_name(path.name + ".part")
        kinds = {"probability": pyarrow.float64(), "energy": pyarrow.float64(), "known": pyarrow.bool_()}
        added = [(name, kinds.get(name, pyarrow.string())) for name in COLUMNS]
        carried = [column.with_name(_name(column.name, COLUMNS)) for column in schema]
        self._schema = pyarrow.schema([*carried, *(pyarrow.field(*pair) for pair in added)])
        self._writer = pyarrow.parquet.ParquetWriter(self.part, self._schema)

    def write(self, answers: Iterable[Answer]) -> None:
        import pyarrow

        rows = [_carried(row.values, COLUMNS) | _added(problem, p) for row, problem, p in answers]
        self._writer.write_table(pyarrow.Table.from_pylist(rows, self._schema))

    def close(self, whole: bool) -> None:
        self._writer.close()
        if whole:
            self.part.replace(self.path)
        else:
            self.part.unlink(missing_ok=True)
