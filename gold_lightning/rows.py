"""Labelled rows, for evaluation and for the supervised baseline: from a file, or a data set of the hub.

Labels are compared by name. A number is a label only by the task's ``test.label_names``; where the data set
carries names of its own for its numbers, the two must say the same.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.paths import expand
from gold_lightning.task import Task, TestRow, blaming

__all__ = ["beside", "check_rows_file", "labels_as_read", "load_rows", "load_test_rows"]


@dataclass(frozen=True)
class _Table:
    """Rows as they were found, and the names that the data set itself gives to the numbers of a column."""

    rows: Sequence[Mapping[str, Any]]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


def check_rows_file(key: str, path: str) -> None:
    """Refuses a path before anything is loaded for it.

    Raises:
        ConfigError: There is no such file, or its ending is none that can be read.
    """
    allowed = f"the path of a {_one_of(_READERS)} file"
    if not Path(expand(key, path)).is_file():
        raise ConfigError(key, path, allowed)
    if Path(path).suffix.lower() not in _READERS:
        raise ConfigError(key, path, allowed, "the ending tells how it is read")


def load_test_rows(task: Task, test_file: str | None = None) -> list[TestRow]:
    """Test rows: of a file, the task's own file, or its data set on the hub. Raises as :func:`load_rows`."""
    spec = task.test
    if test_file or spec.file:
        return load_rows(task, test_file or beside(task, "test.file", spec.file))
    if not spec.hub:
        raise GoldError(f"task {task.name} names no test data; give --data.test_file FILE")
    where = f"test data {spec.hub} ({f'{spec.config}, ' if spec.config else ''}{spec.split})"
    return _test_rows(task, _from_hub(task, where), where)


def beside(task: Task, key: str, path: str) -> str:
    """A path that a task names: relative to its file, and ``~`` for the home folder.

    Args:
        task: The task.
        key: The task's key, for the message.
        path: What the task says.

    Raises:
        GoldError: There is no such home folder.
    """
    with blaming(task):
        return path if expand(key, path) != path else str(Path(task.source).parent / path)


def load_rows(task: Task, path: Path | str, what: str = "test data") -> list[TestRow]:
    """Labelled rows of a JSON Lines, CSV or Parquet file, whichever its ending names.

    Columns are named as the task's fields and target, or as its ``test.columns`` says. Values of the target
    are looked up in ``test.label_names`` where that is given, and must then be, or already be, a label's name:
    names are compared, never positions. A list of targets is all that counts as right. An empty cell is an
    empty text; as a target it is refused.

    Args:
        task: The task.
        path: The file, as it was written.
        what: What the rows are, for messages.

    Raises:
        GoldError: The file cannot be read, has no rows, a column is missing, a row has no target, or a label
            is none of the task's.
    """
    where = f"{what} {path}"
    path = Path(expand(what, str(path)))
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise GoldError(f"{where}: the ending {path.suffix!r} is none of {_one_of(_READERS, 'and')}")
    try:
        table = read(path)
    except OSError as e:
        raise GoldError(f"{where}: {e.strerror or ' '.join(str(e).split())}") from None
    except ValueError as e:
        raise GoldError(f"{where}: not {_KINDS[path.suffix.lower()]} ({' '.join(str(e).split())[:160]})") from None
    return _test_rows(task, table, where)


def labels_as_read(rows: Iterable[TestRow]) -> str:
    """How the values of the data were understood, with their counts; empty where they are the labels' names.

    It stands under each results table, so that numbers in another order than the task's do not pass unseen.
    """
    found = Counter((row.value, row.target) for row in rows)
    if all(value == target for value, target in found):
        return ""
    return ", ".join(f"{value} = {target} ({count} rows)" for (value, target), count in sorted(found.items()))


# Files


def _json_lines(path: Path) -> _Table:
    rows = []
    # Only "\n" ends a row: str.splitlines would also break at characters that may stand in a text.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no object of columns and values")
            rows.append(row)
    return _Table(rows)


def _csv(path: Path) -> _Table:
    # Not pandas' or Arrow's reader: those take 007 for a number, and NA for nothing.
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            head, *rows = [cells for cells in csv.reader(file, strict=True) if cells] or [[]]
        except csv.Error as e:
            raise ValueError(str(e)) from None
    for name in head:
        if head.count(name) > 1:
            raise ValueError(f"two columns have the name {name!r}")
    for i, cells in enumerate(rows):
        if len(cells) != len(head):
            raise ValueError(f"row {i} has {len(cells)} cells, the first line {len(head)}")
    return _Table([dict(zip(head, cells, strict=True)) for cells in rows])


def _parquet(path: Path) -> _Table:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)  # ArrowInvalid is a ValueError
    try:  # the hub's own files say there what the numbers of a label column mean
        info = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = {column: kind["names"] for column, kind in info.items() if "names" in kind}
    except (KeyError, TypeError, ValueError):
        names = {}
    return _Table(table.to_pylist(), names)


_READERS: dict[str, Callable[[Path], _Table]] = {
    ".jsonl": _json_lines,
    ".json": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}
_KINDS = {".jsonl": "JSON Lines", ".json": "JSON Lines", ".csv": "CSV", ".parquet": "Parquet"}


def _one_of(names: Iterable[str], word: str = "or") -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}"


def _from_hub(task: Task, where: str) -> _Table:
    from datasets import load_dataset

    spec = task.test
    try:
        found = load_dataset(spec.hub, spec.config or None, split=spec.split)
        rows = list(found)
    except Exception as e:  # the hub's client raises errors of many libraries
        # A ValueError says that the data set is there, without that configuration or that split.
        other = "a test.config and test.split that it has" if isinstance(e, ValueError) else ""
        raise GoldError(
            f"{where}: not in the local cache, and the hub did not give it "
            f"({' '.join(str(e).split())[:120]}); two ways out: --data.test_file FILE, "
            f"or {other or 'a machine that reaches the hub'}"
        ) from None
    features = getattr(found, "features", None) or {}
    return _Table(rows, {name: kind.names for name, kind in features.items() if hasattr(kind, "names")})


# Rows


def _test_rows(task: Task, table: _Table, where: str) -> list[TestRow]:
    if not table.rows:
        raise GoldError(f"{where}: no rows")
    columns = {name: task.test.columns.get(name, name) for name in (*(f.name for f in task.fields), task.target.name)}
    names = table.names.get(columns[task.target.name], ())
    made = []
    for i, row in enumerate(table.rows):
        at = f"{where}: row {i}"
        try:
            values = {name: _value(row, column) for name, column in columns.items()}
        except KeyError as e:
            raise GoldError(f"{at} has no column {e}; it has {_shown(row)}") from None
        value = values.pop(task.target.name)
        target, *others = _targets(value, names, at, task)
        for name, found in values.items():
            if isinstance(found, Mapping | list):
                raise GoldError(f"{at} has {_shown(found)} in the column {columns[name]!r}; expected text")
        fields = {name: "" if found is None else str(found) for name, found in values.items()}
        raw = value[0] if isinstance(value, list) else value
        made.append(TestRow(fields, target, tuple(others), value=str(raw)))
    return made


def _shown(value: Iterable[str]) -> str:
    text = str(sorted(value) if isinstance(value, Mapping) else value)
    return text if len(text) <= 160 else text[:157] + "..."


def _value(row: Mapping[str, Any], column: str) -> Any:
    """What stands in a column; ``answers.text`` is the key ``text`` of what stands in ``answers``.

    Raises:
        KeyError: There is no such column or key.
    """
    if column in row:
        return row[column]
    name, dot, rest = column.partition(".")
    try:
        return _value(row[name], rest) if dot else row[column]
    except (KeyError, TypeError):
        raise KeyError(column) from None


def _targets(value: Any, names: Sequence[str], at: str, task: Task) -> list[str]:
    """All texts that count as right, each once; labels by their own name."""
    if isinstance(value, Mapping):
        raise GoldError(
            f"{at} has in place of a target the keys {sorted(value)}; name one in the task's test.columns, "
            f"with a dot: COLUMN.{min(value, default='KEY')}"
        )
    values = [v for v in (value if isinstance(value, list | tuple) else [value]) if v is not None and str(v).strip()]
    found = list(dict.fromkeys(_named(v, names, at, task) for v in values))
    if not found or (task.labels and len(found) > 1):
        raise GoldError(f"{at} has {len(found)} different targets; expected one{'' if task.labels else ' or more'}")
    if task.labels and found[0] not in task.label_names:
        raise GoldError(
            f"{at} has the label {found[0]!r}, none of {list(task.label_names)}; name it in the task's test.label_names"
        )
    return found


def _named(value: Any, names: Sequence[str], at: str, task: Task) -> str:
    """A target as the task names it.

    Raises:
        GoldError: The data set's own name of a number is another label than the task's ``label_names`` say.
    """
    text = str(value)
    told = task.test.label_names.get(text)
    if task.labels and isinstance(value, int) and 0 <= value < len(names):
        own = task.test.label_names.get(names[value], names[value])
        same = next((name for name in task.label_names if _plain(name) == _plain(own)), None)
        if same is not None and told not in (None, same):
            raise GoldError(
                f"{at} has the label {text}, which the data set calls {names[value]!r} and the task's "
                f"test.label_names {told!r}; make test.label_names.{text} {same!r}"
            )
        told = same or told
    return text if told is None else told


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
