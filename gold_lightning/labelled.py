"""Labelled rows, for evaluation and for the supervised baseline: from a file, or a data set of the hub.

Labels are compared by name. A number is a label only by the task's ``test.label_names``; where the data set
carries names of its own for its numbers, the two must say the same.
"""

from __future__ import annotations

import difflib
import logging
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.tables import ENDINGS, Table, ending_of, kind_of, one_of, read_table
from gold_lightning.task import Task, TestData, TestRow, prefix_errors_with

__all__ = ["beside", "check_rows_file", "labels_as_read", "load_rows", "load_test_rows", "load_validation_rows"]

RowsKey = Literal["test", "validation"]
"""A task's key that names labelled rows."""


_log = logging.getLogger("gold_lightning")
_READ = (*ENDINGS, *(f"{ending}.gz" for ending in ENDINGS if ending != ".parquet"))
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_rows_file(key: str, path: str) -> None:
    """Refuses a path before anything is loaded for it.

    Raises:
        ConfigError: There is no such file, or its ending is none that can be read.
    """
    allowed = f"the path of a {one_of(ENDINGS)} file"
    if not Path(expand(key, path)).is_file():
        raise ConfigError(key, path, allowed)
    if ending_of(Path(path)) not in _READ:
        raise ConfigError(key, path, allowed, "the ending tells how it is read, and .gz may follow")


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
    with prefix_errors_with(task.source):
        return path if expand(key, path) != path else str(Path(task.source).parent / path)


def load_validation_rows(task: Task) -> list[TestRow]:
    """Validation rows: of the task's own file, or its data set on the hub. Raises as :func:`load_rows`."""
    spec = task.validation
    key: RowsKey = "validation"
    if spec.file:
        return load_rows(task, beside(task, "validation.file", spec.file), "validation data", key)
    where = f"validation data {spec.hub} ({f'{spec.config}, ' if spec.config else ''}{spec.split})"
    return _test_rows(task, _from_hub(task, where, key), where, key)


def load_rows(task: Task, path: Path | str, what: str = "test data", key: RowsKey = "test") -> list[TestRow]:
    """Labelled rows of a file, which its ending says how to read: one of :data:`gold_lightning.inputs.tables.ENDINGS`.

    Columns are named as the task's fields and target, or as its ``test.columns`` says. Values of the target
    are looked up in ``test.label_names`` where that is given, and must then be, or already be, a label's name:
    names are compared, never positions, and in Unicode's composed form (NFC). Texts of fields stay as they are.
    A list of targets is all that counts as right. An empty cell, a null or a NaN is an empty text; as a target it
    is refused. A row with an empty list of answers has no answer: it is left out, and a line says how many there
    are; a task whose target has ``min_chars: 0`` keeps it with an empty target.

    Args:
        task: The task.
        path: The file, as it was written.
        what: What the rows are, for messages.
        key: The task's key whose ``columns`` and ``label_names`` say how they are read.

    Raises:
        GoldError: The file cannot be read, has no rows, a column is missing, a row has no target, a text holds half
            a surrogate pair, or a label is none of the task's.
    """
    where = f"{what} {path}"
    path = Path(expand(what, str(path)))
    ending = ending_of(path)
    if ending not in _READ:
        raise GoldError(f"{where}: the ending {path.suffix!r} is none of {one_of(ENDINGS, 'and')}")
    try:
        table = read_table(path)
    except OSError as e:
        raise GoldError(f"{where}: {e.strerror or ' '.join(str(e).split())}") from None
    except ValueError as e:
        raise GoldError(f"{where}: not {kind_of(ending)} ({' '.join(str(e).split())[:200]})") from None
    return _test_rows(task, table, where, key)


def labels_as_read(rows: Iterable[TestRow]) -> str:
    """How the values of the data were understood, with their counts; empty where they are the labels' names.

    It stands under each results table, so that numbers in another order than the task's do not pass unseen.
    """
    found = Counter((row.value, row.target) for row in rows)
    if all(value == target for value, target in found):
        return ""
    return ", ".join(f"{value} = {target} ({count} rows)" for (value, target), count in sorted(found.items()))


def _from_hub(task: Task, where: str, key: RowsKey = "test") -> Table:
    from datasets import load_dataset

    spec = _spec(task, key)
    try:
        found = load_dataset(spec.hub, spec.config or None, split=spec.split)
        rows = list(found)
    except Exception as e:  # the hub's client raises errors of many libraries
        # A ValueError says that the data set is there, without that configuration or that split.
        other = f"a {key}.config and {key}.split that it has" if isinstance(e, ValueError) else ""
        file = "--data.test_file FILE" if key == "test" else "a validation.file"
        raise GoldError(
            f"{where}: not in the local cache, and the hub did not give it "
            f"({' '.join(str(e).split())[:120]}); two ways out: {file}, "
            f"or {other or 'a machine that reaches the hub'}"
        ) from None
    features = getattr(found, "features", None) or {}
    return Table(rows, {name: kind.names for name, kind in features.items() if hasattr(kind, "names")})


# Rows


def _spec(task: Task, key: RowsKey) -> TestData:
    return task.test if key == "test" else task.validation


def _test_rows(task: Task, table: Table, where: str, key: RowsKey = "test") -> list[TestRow]:
    if not table.rows:
        raise GoldError(f"{where}: no rows")
    spec = _spec(task, key)
    columns = {name: spec.columns.get(name, name) for name in (*(f.name for f in task.fields), task.target.name)}
    names = table.names.get(columns[task.target.name], ())
    made = []
    unanswered = 0
    for i, row in enumerate(table.rows):
        at = f"{where}: row {i}"
        try:
            values = {name: _plain_value(_value(row, column)) for name, column in columns.items()}
        except KeyError as e:
            raise GoldError(f"{at} has no column {e}; it has {_shown(row)}") from None
        except ValueError as e:
            raise GoldError(f"{at} {e}") from None
        value = values.pop(task.target.name)
        for name, text in values.items():
            if isinstance(text, Mapping | list):
                raise GoldError(f"{at} has {_shown(text)} in the column {columns[name]!r}; expected text")
        fields = {name: "" if text is None else str(text) for name, text in values.items()}
        if not task.labels and isinstance(value, list) and not any(map(_is_text, value)):
            if task.target.min_chars > 0:
                unanswered += 1
                continue
            targets = [""]
        else:
            targets = _targets(value, names, at, task, key)
        for name, text in (*fields.items(), *((task.target.name, target) for target in targets)):
            if half := _SURROGATE.search(text):
                raise GoldError(
                    f"{at} has half a surrogate pair (\\u{ord(half[0]):04x}) in the column {columns[name]!r}, which is "
                    "no text; remove it, or write the whole character"
                )
        raw = value[0] if isinstance(value, list) and value else value
        made.append(TestRow(fields, targets[0], tuple(targets[1:]), value=_composed(str(raw))))
    if not made:
        raise GoldError(f"{where}: no row has an answer; {_KEEP}")
    if unanswered:
        _log.warning("%s: %d of %d rows have no answer and are left out; %s", where, unanswered, len(table.rows), _KEEP)
    return made


_KEEP = "a task whose target has min_chars: 0 keeps such rows, with an empty target"


def _shown(value: Iterable[str]) -> str:
    text = str(sorted(value, key=str) if isinstance(value, Mapping) else value)
    return text if len(text) <= 160 else text[:157] + "..."


def _value(row: Any, column: str) -> Any:
    """What stands in a column; ``answers.text`` is the key ``text`` of what stands in ``answers``.

    If a list of objects stands there, as in ``[{"text": ...}]``, it is the list of what each has under the key.

    Raises:
        KeyError: There is no such column or key.
    """
    if isinstance(row, list) and all(isinstance(part, Mapping) for part in row):
        return [_value(part, column) for part in row]
    if not isinstance(row, Mapping):
        raise KeyError(column)
    if column in row:
        return row[column]
    if not column.isascii():
        for name in row:
            if isinstance(name, str) and _composed(name) == _composed(column):
                return row[name]
    name, dot, rest = column.partition(".")
    try:
        if dot:
            return _value(row[name], rest)
    except KeyError:
        pass
    raise KeyError(column)


def _plain_value(value: Any) -> Any:
    """A value as JSON would have it: bytes as text, NaN as nothing.

    Raises:
        ValueError: Bytes are not UTF-8.
    """
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise ValueError(f"has bytes that are no UTF-8 text: {_shown(repr(bytes(value)[:40]))}") from None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list | tuple):
        return [_plain_value(part) for part in value]
    return value


def _is_text(value: Any) -> bool:
    return value is not None and bool(str(value).strip())


def _targets(value: Any, names: Sequence[str], at: str, task: Task, key: RowsKey = "test") -> list[str]:
    """All texts that count as right, each once; labels by their own name."""
    if isinstance(value, Mapping):
        raise GoldError(
            f"{at} has in place of a target the keys {sorted(value)}; name one in the task's {key}.columns, "
            f"with a dot: COLUMN.{min(value, default='KEY')}"
        )
    values = [v for v in (value if isinstance(value, list) else [value]) if _is_text(v)]
    for inner in values:
        if isinstance(inner, Mapping | list):
            part = min(inner, default="KEY") if isinstance(inner, Mapping) else "KEY"
            hint = f"; name a key in the task's {key}.columns: COLUMN.{part}" if isinstance(inner, Mapping) else ""
            raise GoldError(f"{at} has {_shown(inner)} among its targets; expected text{hint}")
    found = list(dict.fromkeys(_named(v, names, at, task, key) for v in values))
    if not found or (task.labels and len(found) > 1):
        raise GoldError(f"{at} has {len(found)} different targets; expected one{'' if task.labels else ' or more'}")
    if task.labels and found[0] not in task.label_names:
        alike = next((name for name in task.label_names if _plain(name) == _plain(found[0]) != ""), None)
        near = [alike] if alike else difflib.get_close_matches(found[0], task.label_names, 1)
        hint = f"did you mean {near[0]!r}? write it so, or name" if near else "name"
        raise GoldError(
            f"{at} has the label {found[0]!r}, none of {_some(task.label_names)}; {hint} it in the task's "
            f"{key}.label_names"
        )
    return found


def _some(names: Sequence[str]) -> str:
    return str(list(names)) if len(names) <= 20 else f"{list(names[:20])} and {len(names) - 20} more"


def _named(value: Any, names: Sequence[str], at: str, task: Task, key: RowsKey = "test") -> str:
    """A target as the task names it.

    Raises:
        GoldError: The data set's own name of a number is another label than the task's ``label_names`` say.
    """
    named = _spec(task, key).label_names
    if not task.labels:
        return named.get(str(value), str(value))
    known = {_composed(name): name for name in task.label_names}
    known |= {_composed(told): name for told, name in named.items()}
    text = _composed(str(value))
    if text not in known and re.fullmatch(r"-?\d+\.0+", text):  # whole numbers beside a missing one
        text = text.partition(".")[0]
    told = known.get(text) if text in map(_composed, named) else None
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(number, int) and 0 <= number < len(names):
        own = named.get(names[number], names[number])
        same = next((name for name in task.label_names if _plain(name) == _plain(own)), None)
        if same is not None and told not in (None, same):
            raise GoldError(
                f"{at} has the label {text}, which the data set calls {names[number]!r} and the task's "
                f"{key}.label_names {told!r}; make {key}.label_names.{text} {same!r}"
            )
        told = same or told
    return known.get(text, text) if told is None else told


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", _composed(name).casefold())
