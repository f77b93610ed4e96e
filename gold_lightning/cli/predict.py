"""``predict``: asks a student about texts, a file of rows, or standard input. Needs no Lightning."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gold_lightning.cli.commands import program
from gold_lightning.cli.prediction_output import Output, open_output
from gold_lightning.cli.student_folder import load_student
from gold_lightning.errors import ConfigError
from gold_lightning.inputs.columns import READABLE, column_value, half_surrogate, plain_value
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.row_stream import InputRow, RowStream
from gold_lightning.inputs.tables import ending_of

if TYPE_CHECKING:
    from gold_lightning.t5.inference import SavedStudent
    from gold_lightning.task import Task

__all__ = ["predict_command"]

BAD_ROWS = 3
"""Exit status if some rows could not be read."""

_SHOWN = 10  # bad rows that are reported one by one
_WINDOW = 8  # batches that are read, sorted by length and written together

_DESCRIPTION = f"""Predicts texts with a student. INPUT is a JSON Lines, CSV, TSV, JSON, Parquet or text file; - for
standard input, as JSON Lines or a text a line; or one or more texts. Each row comes back with prediction, probability,
energy and, if the student is calibrated, known. A row that cannot be read keeps its place, with the reason as error.
Exit status: 0 if all rows were predicted, {BAD_ROWS} if some could not be read, 2 for a wrong setting, 1 if it was
stopped."""


def predict_command(args: Sequence[str]) -> int:
    """Runs ``predict STUDENT INPUT...``.

    Args:
        args: Arguments after ``predict``.

    Returns:
        The exit status.

    Raises:
        GoldError: A setting is wrong.
        ArgumentError: An argument is wrong.
    """
    parser = ArgumentParser(prog=f"{program()} predict", description=_DESCRIPTION, exit_on_error=False)
    parser.add_argument("student", type=str, help="Folder of the student, or of the run that trained it.")
    parser.add_argument("input", type=str, nargs="+", help="A file, - for standard input, or texts.")
    parser.add_argument("--out", type=str, default=None, help="File to write, JSON Lines or in the input's format.")
    parser.add_argument("--resume", action="store_true", help="Go on with the rows that --out lacks.")
    parser.add_argument("--probabilities", action="store_true", help="Write the probability of each label too.")
    parser.add_argument("--task", type=str, default=None, help="The task, for a folder that carries none.")
    parser.add_argument("--batch_size", type=int, default=32, help="Rows in a batch.")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, or auto: a GPU if there is one.")
    options = parser.parse_args(list(args))
    if options.batch_size < 1:
        raise ConfigError("--batch_size", options.batch_size, "1 or more")
    if options.resume and options.out is None:
        raise ConfigError("--resume", True, "a file to go on with", "name it by --out FILE")
    file = _file_of(options.input)
    if file is not None and file != "-":
        RowStream("INPUT", file, "text")  # a wrong path is reported before anything is loaded
    student = load_student(options.student, options.task, options.device)
    return _Run(student, options, file).run()


def _file_of(inputs: Sequence[str]) -> str | None:
    """Returns the file that the inputs name, ``-`` for standard input; ``None`` if they are texts."""
    if len(inputs) > 1:
        return None
    path = inputs[0] if inputs[0] == "-" else expand("INPUT", inputs[0])
    looks_like_file = ending_of(Path(path)) in READABLE and " " not in path
    try:
        return path if path == "-" or looks_like_file or Path(path).is_file() else None
    except OSError:  # a long text
        return None


class _Run:
    def __init__(self, student: SavedStudent, options: Any, file: str | None) -> None:
        self.student, self.options, self.task = student, options, student.task
        names = [f.name for f in self.task.fields]
        only = names[0] if len(names) == 1 else ""
        self.stream = RowStream("INPUT", file, only) if file is not None else None
        if self.stream is None and not only:
            raise ConfigError("INPUT", options.input[0], f"a file of rows with {', '.join(names)}, or -")
        texts = [InputRow({only: text}) for text in options.input]
        self.rows: Iterable[InputRow] = texts if self.stream is None else self.stream
        self.bad = self.done = self.unknown = 0

    def run(self) -> int:
        started = time.monotonic()
        rows = iter(self.rows)
        first = list(islice(rows, 1))  # names the columns
        output = open_output(self.options.out, self.options.resume, self.stream, self.options.probabilities)
        whole = False
        try:
            self._write_all(self._remaining(first, rows, output), output)
            whole = True
        except KeyboardInterrupt:
            resumable = self.options.out is not None and output.appends
            hint = "; with --resume the same command goes on from here" if resumable else ""
            print(f"stopped after {self.done:,} rows{hint}", file=sys.stderr)
            return 1
        finally:
            output.close(whole)
        if self.stream is not None:
            seconds = time.monotonic() - started
            unknown = (
                "" if (self.student.calibration or {}).get("threshold") is None else f"; {self.unknown:,} are not known"
            )
            print(f"{self.done:,} rows in {seconds:.1f} s; {self.bad:,} could not be read{unknown}", file=sys.stderr)
        return BAD_ROWS if self.bad else 0

    def _remaining(self, first: list[InputRow], rest: Iterator[InputRow], output: Output) -> Iterator[InputRow]:
        """Leaves out the rows that an earlier call has written."""
        every = (row for part in (first, rest) for row in part)
        last = deque(islice(enumerate(every, 1), output.written), maxlen=1)
        self.done = last[0][0] if last else 0
        if self.done < output.written or (last and not output.ends_with(last[0][1])):
            raise ConfigError("--out", self.options.out, "rows of the same input", "write to another file")
        return every

    def _write_all(self, rows: Iterator[InputRow], output: Output) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.completed:.0%}"), BarColumn(), TextColumn("{task.description}"))
        size = self.options.batch_size * (1 if self.stream is not None and self.stream.path == "-" else _WINDOW)
        with Progress(
            *columns, TaskProgressColumn(show_speed=False), TimeRemainingColumn(), console=console, transient=True,
            disable=not console.is_terminal or self.stream is None,
        ) as progress:  # fmt: skip
            bar = progress.add_task("rows", total=1.0)
            while window := list(islice(rows, size)):
                checked = [self._checked(row, self.done + i + 1) for i, row in enumerate(window)]
                fields = [values for values, problem in checked if not problem]
                predicted = self.student.predict(fields, self.options.batch_size)
                self.unknown += sum(p.known is False for p in predicted)
                predictions = iter(predicted)
                output.write(
                    (row, problem, None if problem else next(predictions))
                    for row, (_, problem) in zip(window, checked, strict=True)
                )
                self.done += len(window)
                share = self.stream.share() if self.stream is not None else None
                progress.update(bar, completed=share or 0.0, description=f"{self.done:,} rows")

    def _checked(self, row: InputRow, number: int) -> tuple[dict[str, str], str]:
        """Returns the fields of a row, or the reason why it has none, which is reported."""
        fields, problem = ({}, row.problem) if row.problem else _fields(self.task, row.values)
        if problem:
            self.bad += 1
            if self.bad <= _SHOWN:
                more = "; further ones are counted alone" if self.bad == _SHOWN else ""
                print(f"row {number}: {problem}{more}", file=sys.stderr)
        return fields, problem


def _fields(task: Task, row: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    fields: dict[str, str] = {}
    for field in task.fields:
        # The column of the field's own name, or that of the task's labelled rows.
        column = field.name if field.name in row else task.test.columns.get(field.name, field.name)
        try:
            value = plain_value(column_value(row, column))
        except KeyError:
            return {}, f"has no {field.name!r}"
        except ValueError as e:
            return {}, f"{field.name!r} {e}"
        if isinstance(value, Mapping | list) or (isinstance(value, float) and not math.isfinite(value)):
            return {}, f"{field.name!r} is no text"
        text = "" if value is None else str(value)
        if half_surrogate(text):
            return {}, f"{field.name!r} has half a surrogate pair"
        fields[field.name] = text
    return fields, "" if any(text.strip() for text in fields.values()) else "is empty"
