"""Labelled rows for evaluation and for the supervised baseline, from a file or a data set of the hub.

Labels are compared by name. A number is a label only if the task's ``test.label_names`` say so; if the data set has
names for its numbers, they must agree.
"""

from __future__ import annotations

import difflib
import logging
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from gold_lightning.checks.contamination import Decontaminator, Overlap, count_overlaps
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.columns import (
    READABLE,
    abridged,
    column_value,
    composed,
    half_surrogate,
    load_table,
    plain_value,
)
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.tables import ENDINGS, Table, ending_of, one_of
from gold_lightning.task import Sample, Task, TestData, TestRow, prefix_errors_with

__all__ = [
    "TestSet",
    "beside",
    "check_rows_file",
    "labels_as_read",
    "load_rows",
    "load_test_rows",
    "load_validation_rows",
]

RowsKey = Literal["test", "validation"]
"""A task's key that names labelled rows."""

_log = logging.getLogger("gold_lightning")


def check_rows_file(key: str, path: str) -> None:
    """Validates a data-file path early, before anything expensive is loaded.

    Raises:
        ConfigError: The file does not exist, or its ending names no format that can be read.
    """
    allowed = f"the path of a {one_of(ENDINGS)} file"
    if not Path(expand(key, path)).is_file():
        raise ConfigError(key, path, allowed)
    if ending_of(Path(path)) not in READABLE:
        raise ConfigError(key, path, allowed, "the ending names the format, and .gz may follow")


def load_test_rows(task: Task, test_file: str | None = None) -> list[TestRow]:
    """Reads test rows of a file, the task's own file, or its data set on the hub. Raises as :func:`load_rows`."""
    spec = task.test
    if test_file or spec.file:
        return load_rows(task, test_file or beside(task, "test.file", spec.file))
    if not spec.hub:
        raise GoldError(f"task {task.name} names no test data; give --data.test_file FILE")
    where = f"test data {spec.hub} ({f'{spec.config}, ' if spec.config else ''}{spec.split})"
    return _test_rows(task, _from_hub(task, where), where)


def beside(task: Task, key: str, path: str) -> str:
    """Resolves a path of a task file, which is relative to that file and may begin with ``~``.

    Args:
        task: The task.
        key: The task's key, for messages.
        path: The value of the key.

    Raises:
        ConfigError: The home folder does not exist.
    """
    with prefix_errors_with(task.source):
        return path if expand(key, path) != path else str(Path(task.source).parent / path)


def load_validation_rows(task: Task) -> list[TestRow]:
    """Reads validation rows of the task's own file, or its data set on the hub. Raises as :func:`load_rows`."""
    spec = task.validation
    key: RowsKey = "validation"
    if spec.file:
        return load_rows(task, beside(task, "validation.file", spec.file), "validation data", key)
    where = f"validation data {spec.hub} ({f'{spec.config}, ' if spec.config else ''}{spec.split})"
    return _test_rows(task, _from_hub(task, where, key), where, key)


def load_rows(task: Task, path: Path | str, description: str = "test data", key: RowsKey = "test") -> list[TestRow]:
    """Reads labelled rows of a file, whose ending is one of :data:`gold_lightning.inputs.tables.ENDINGS`.

    Columns have the names of the task's fields and target, or those of its ``test.columns``. Values of the target are
    mapped by ``test.label_names``, if present, to the name of a label. Names are compared, never positions, in
    Unicode's composed form (NFC); texts of fields stay unchanged. A list in the target's column holds all correct
    texts; if rows have several labels, it holds these, and an empty list or text is a row without labels. An empty
    cell, a null or a NaN is an empty text, which is an error as another target. A row with an empty list of answers is
    skipped, with a warning that counts such rows, or kept with an empty target if the task's target has
    ``min_chars: 0``.

    Args:
        task: The task.
        path: The file, as the user wrote it.
        description: Name of the rows in messages.
        key: The task's key with their ``columns`` and ``label_names``.

    Raises:
        GoldError: The file cannot be read or has no rows, a column is missing, a row has no target or an unknown
            label, or a text holds half a surrogate pair.
    """
    return _test_rows(task, load_table(description, path), f"{description} {path}", key)


class TestSet:
    """A task's test rows: read on first use, sampled by seed, and compared with generated samples.

    Args:
        task: The task.
        file: A file with labelled rows, instead of the task's own test data.
        seed: Seed of the sample of rows.
        decontaminate: ``off``: overlap with the rows is not measured; ``measure``: it is, if the rows are available;
            ``drop``: samples with overlap are rejected, so the rows must be available.

    Example:
        >>> rows = TestSet(Task.load("news_topics"), seed=1)
        >>> len(rows), rows.ids[:3]
        (240, [0, 1, 2])
        >>> rows.draw(2)
        >>> len(rows.ids), [overlap.full_row for _, overlap in rows.overlap([("copy", rows.rows[7])])]
        (2, [frozenset({7})])
    """

    __test__ = False  # not for pytest

    def __init__(self, task: Task, file: str | None = None, seed: int = 0, decontaminate: str = "measure") -> None:
        self.task, self.file, self.seed, self.decontaminate = task, file, seed, decontaminate
        self._ids: list[int] | None = None
        self._unavailable = False

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def rows(self) -> list[TestRow]:
        """All rows. Raises as :func:`load_test_rows`."""
        return load_test_rows(self.task, self.file)

    @property
    def ids(self) -> list[int]:
        """Positions of the rows that are tested, ascending; all unless :meth:`draw` took a sample."""
        return list(range(len(self.rows))) if self._ids is None else self._ids

    def draw(self, count: int | None) -> None:
        """Takes a seeded sample of the rows without replacement, or all of them.

        Args:
            count: Size of the sample; ``None``, or more than there are rows, for all.
        """
        total = len(self.rows)
        sample = random.Random(f"{self.seed}/test rows").sample(range(total), min(total, count or total))
        self._ids = sorted(sample)

    @cached_property
    def index(self) -> Decontaminator:
        """The words of all rows.

        Raises:
            GoldError: The rows are not available.
        """
        try:
            return Decontaminator(self.rows)
        except GoldError as e:
            if self.decontaminate != "drop":
                raise
            raise GoldError(f"data.plan.decontaminate: drop needs the test set; {e}") from None

    def overlap(self, samples: Iterable[tuple[str, Sample]]) -> Iterator[tuple[str, Overlap]] | None:
        """Finds the rows that share text with samples.

        Args:
            samples: The samples, each with its id.

        Returns:
            The id and the overlap of each sample; ``None`` if it is not measured. Unavailable rows are reported once,
            in the log, since training does not need them.

        Raises:
            GoldError: ``decontaminate`` is ``drop``, and the rows are not available.
        """
        if self.decontaminate == "off" or self._unavailable:
            return None
        try:
            index = self.index
        except GoldError as e:
            if self.decontaminate == "drop":
                raise
            self._unavailable = True
            _log.warning("overlap with the test set is not measured: %s", e)
            return None
        return ((id_, index.overlap(sample)) for id_, sample in samples)

    def overlaps(
        self, samples: Mapping[str, Mapping[str, Sample]]
    ) -> tuple[dict[str, dict[str, int]], list[dict[str, Any]]]:
        """Counts the overlap of several kinds of samples, such as ``train`` and ``demos``.

        Args:
            samples: Samples by kind and id.

        Returns:
            Counts by kind, as :func:`~gold_lightning.checks.contamination.count_overlaps` gives them, and a row for
            each sample with overlap: its id, and positions of test rows by kind of overlap. Both are empty if overlap
            is not measured.
        """
        counts: dict[str, dict[str, int]] = {}
        rows: list[dict[str, Any]] = []
        for kind, of_kind in samples.items():
            pairs = self.overlap(of_kind.items())
            if pairs is None:
                return {}, []
            overlaps = dict(pairs)
            counts[kind] = count_overlaps(overlaps.values())
            rows += [
                {"id": id_} | {name: sorted(ids) for name, ids in vars(overlap).items()}
                for id_, overlap in overlaps.items()
                if overlap
            ]
        return counts, rows


def labels_as_read(rows: Iterable[TestRow]) -> str:
    """Describes how the data's values were mapped to labels, with counts; "" if the values are the labels' names.

    Each results table ends with it, so that numbers in another order than the task's do not go unnoticed.
    """
    counts = Counter((row.value, row.target) for row in rows)
    if all(value == target for value, target in counts):
        return ""
    return ", ".join(f"{value} = {target} ({count} rows)" for (value, target), count in sorted(counts.items()))


def _from_hub(task: Task, where: str, key: RowsKey = "test") -> Table:
    from datasets import load_dataset

    spec = _spec(task, key)
    try:
        data_set = load_dataset(spec.hub, spec.config or None, split=spec.split)
        rows = list(data_set)
    except Exception as e:  # the hub's client raises errors of many libraries
        # A ValueError means that the data set exists, but not that configuration or split.
        alternative = f"a {key}.config and {key}.split that it has" if isinstance(e, ValueError) else ""
        file = "--data.test_file FILE" if key == "test" else "a validation.file"
        raise GoldError(
            f"{where}: not in the local cache, and the hub did not give it "
            f"({' '.join(str(e).split())[:120]}); two ways out: {file}, "
            f"or {alternative or 'a machine that reaches the hub'}"
        ) from None
    features = getattr(data_set, "features", None) or {}
    kinds = {name: getattr(kind, "feature", kind) for name, kind in features.items()}  # of the items of a list
    return Table(rows, {name: kind.names for name, kind in kinds.items() if hasattr(kind, "names")})


# Rows


def _spec(task: Task, key: RowsKey) -> TestData:
    return task.test if key == "test" else task.validation


def _test_rows(task: Task, table: Table, where: str, key: RowsKey = "test") -> list[TestRow]:
    if not table.rows:
        raise GoldError(f"{where}: no rows")
    spec = _spec(task, key)
    columns = {name: spec.columns.get(name, name) for name in (*(f.name for f in task.fields), task.target.name)}
    names = table.names.get(columns[task.target.name], ())
    test_rows = []
    unanswered = 0
    for i, row in enumerate(table.rows):
        at = f"{where}: row {i}"
        try:
            values = {name: plain_value(column_value(row, column)) for name, column in columns.items()}
        except KeyError as e:
            raise GoldError(f"{at} has no column {e}; it has {abridged(row)}") from None
        except ValueError as e:
            raise GoldError(f"{at} {e}") from None
        value = values.pop(task.target.name)
        for name, text in values.items():
            if isinstance(text, Mapping | list):
                raise GoldError(f"{at} has {abridged(text)} in the column {columns[name]!r}; expected text")
        fields = {name: "" if text is None else str(text) for name, text in values.items()}
        if task.many:
            targets = [_set_text(value, names, at, task, key)]
        elif not task.labels and isinstance(value, list) and not any(map(_is_text, value)):
            if task.target.min_chars > 0:
                unanswered += 1
                continue
            targets = [""]
        else:
            targets = _targets(value, names, at, task, key)
        for name, text in (*fields.items(), *((task.target.name, target) for target in targets)):
            if half := half_surrogate(text):
                raise GoldError(
                    f"{at} has half a surrogate pair (\\u{ord(half):04x}) in the column {columns[name]!r}, which is "
                    "not text; remove it, or write the whole character"
                )
        raw = value[0] if isinstance(value, list) and value else value
        raw = targets[0] if task.many else raw
        test_rows.append(TestRow(fields, targets[0], tuple(targets[1:]), value=composed(str(raw))))
    if not test_rows:
        raise GoldError(f"{where}: no row has an answer; {_KEEP}")
    if unanswered:
        _log.warning("%s: %d of %d rows have no answer and are left out; %s", where, unanswered, len(table.rows), _KEEP)
    return test_rows


_KEEP = "a task whose target has min_chars: 0 keeps such rows, with an empty target"


def _is_text(value: Any) -> bool:
    return value is not None and bool(str(value).strip())


def _targets(value: Any, names: Sequence[str], at: str, task: Task, key: RowsKey = "test") -> list[str]:
    """Returns all distinct correct texts; labels by their name in the task."""
    if isinstance(value, Mapping):
        raise GoldError(
            f"{at} has the keys {sorted(value)} in place of a target; name one in the task's {key}.columns, "
            f"with a dot: COLUMN.{min(value, default='KEY')}"
        )
    values = [v for v in (value if isinstance(value, list) else [value]) if _is_text(v)]
    for inner in values:
        if isinstance(inner, Mapping | list):
            part = min(inner, default="KEY") if isinstance(inner, Mapping) else "KEY"
            hint = f"; name a key in the task's {key}.columns: COLUMN.{part}" if isinstance(inner, Mapping) else ""
            raise GoldError(f"{at} has {abridged(inner)} among its targets; expected text{hint}")
    targets = list(dict.fromkeys(_named(v, names, at, task, key) for v in values))
    if not targets or (task.labels and len(targets) > 1):
        raise GoldError(f"{at} has {len(targets)} different targets; expected one{'' if task.labels else ' or more'}")
    if task.labels and targets[0] not in task.label_names:
        alike = next((name for name in task.label_names if _plain(name) == _plain(targets[0]) != ""), None)
        near = [alike] if alike else difflib.get_close_matches(targets[0], task.label_names, 1)
        hint = f"did you mean {near[0]!r}? write that, or name" if near else "name"
        raise GoldError(
            f"{at} has the label {targets[0]!r}, none of {_first_names(task.label_names)}; {hint} it in the task's "
            f"{key}.label_names"
        )
    return targets


def _set_text(value: Any, names: Sequence[str], at: str, task: Task, key: RowsKey) -> str:
    """Returns a set of labels as text, from a list of labels or one text with separators; an empty one is none."""
    assert task.many is not None
    if isinstance(value, list):
        value = [part if isinstance(part, Mapping | list) else _named(part, names, at, task, key) for part in value]
    elif isinstance(value, int | float):
        value = [_named(value, names, at, task, key)]
    elif isinstance(value, str) and not value.strip():
        value = []
    try:
        return task.many.text(task.many.parse(value, task.label_names, _aliases(task, key)), task.label_names)
    except ConfigError as e:
        hint = e.hint if "did you mean" in e.hint else f"name it in the task's {key}.label_names, or {e.hint}"
        hint = f"; {hint}" if e.hint else ""
        raise GoldError(f"{at} has {e.value!r} as {task.target.name}; expected {e.allowed}{hint}") from None


def _aliases(task: Task, key: RowsKey) -> dict[str, str]:
    return {composed(value): name for value, name in _spec(task, key).label_names.items()}


def _first_names(names: Sequence[str]) -> str:
    return str(list(names)) if len(names) <= 20 else f"{list(names[:20])} and {len(names) - 20} more"


def _named(value: Any, names: Sequence[str], at: str, task: Task, key: RowsKey = "test") -> str:
    """Returns the task's name of a target.

    Raises:
        GoldError: The data set's name of a number and the task's ``label_names`` disagree.
    """
    mapping = _spec(task, key).label_names
    if not task.labels:
        return mapping.get(str(value), str(value))
    known = {composed(name): name for name in task.label_names}
    known |= {composed(data_value): name for data_value, name in mapping.items()}
    text = composed(str(value))
    if text not in known and re.fullmatch(
        r"-?\d+\.0+", text
    ):  # a missing value turns a column of whole numbers into floats
        text = text.partition(".")[0]
    mapped = known.get(text) if text in map(composed, mapping) else None
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(number, int) and 0 <= number < len(names):
        data_name = mapping.get(names[number], names[number])
        same = next((name for name in task.label_names if _plain(name) == _plain(data_name)), None)
        if same is not None and mapped not in (None, same):
            raise GoldError(
                f"{at} has the label {text}, which the data set calls {names[number]!r} and the task's "
                f"{key}.label_names {mapped!r}; set {key}.label_names.{text} to {same!r}"
            )
        mapped = same or mapped
    return known.get(text, text) if mapped is None else mapped


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", composed(name).casefold())
