"""Real texts without labels: reads them, drops repeats and overlap with labelled rows, and draws from them by seed."""

from __future__ import annotations

import json
import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gold_lightning.checks.contamination import Decontaminator
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.columns import (
    READABLE,
    abridged,
    column_value,
    composed,
    half_surrogate,
    is_json_row,
    load_table,
    plain_value,
)
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.tables import ENDINGS, ending_of, one_of, read_texts
from gold_lightning.parsing.characters import clean_characters
from gold_lightning.planning.plan_warnings import lines_in_rows
from gold_lightning.storage.json_lines import digest
from gold_lightning.storage.round_store import Kind, StoredSample
from gold_lightning.task import Sample, Task

__all__ = [
    "Texts",
    "UnlabelledTexts",
    "check_texts_file",
    "counts_sentence",
    "load_texts",
    "real_texts",
    "sample_id",
    "text_number",
    "texts_file",
    "usable_texts",
]

Texts = str | Path | Sequence[str | Mapping[str, str]]
"""Texts without labels: a file, or a list of texts or of rows."""

_log = logging.getLogger("gold_lightning")
_KEY = "data.unlabelled"
_PLAIN = (".txt", ".txt.gz")
_ID = re.compile(r"-u(\d+)$")


def check_texts_file(path: str) -> None:
    """Validates the path of a file of texts early, before anything expensive is loaded.

    Args:
        path: The file, as the user wrote it.

    Raises:
        ConfigError: The file does not exist, or its ending names no format that can be read.
    """
    allowed = f"the path of a {one_of((*ENDINGS, '.txt'))} file"
    if not Path(expand(_KEY, path)).is_file():
        raise ConfigError(_KEY, path, allowed)
    if ending_of(Path(path)) not in (*READABLE, *_PLAIN):
        raise ConfigError(_KEY, path, allowed, "the ending names the format, and .gz may follow")


def load_texts(task: Task, path: str) -> list[dict[str, str]]:
    """Reads texts without labels from a file of rows, or from a plain text file with one text on each line.

    Columns have the names of the task's fields, or those that its ``test.columns`` gives them; other columns are
    ignored. A null or a NaN is an empty text.

    Args:
        task: The task. Only one with a single field takes plain text.
        path: The file, as the user wrote it.

    Returns:
        The fields of each row, in the order of the file.

    Raises:
        ConfigError: The file cannot be read, or a row lacks a field or has a value that is no text.
    """
    check_texts_file(path)
    names = [field.name for field in task.fields]
    file = Path(expand(_KEY, path))
    if ending_of(file) in _PLAIN:
        if len(names) > 1:
            raise ConfigError(_KEY, path, f"a file of rows with {_listed(names)}", "plain text has one field alone")
        try:
            texts = read_texts(file)
        except (OSError, ValueError) as e:
            raise ConfigError(_KEY, path, "a text file", " ".join(str(e).split())[:200]) from None
        if texts and all(is_json_row(text, names[0]) for text in texts):
            hint = f"its lines are JSON objects with {names[0]!r}: name it .jsonl"
            raise ConfigError(_KEY, path, "a text on each line", hint)
        return [{names[0]: text} for text in texts]
    try:
        table = load_table(_KEY, path)
    except GoldError as e:
        raise ConfigError(_KEY, path, "a file of rows", str(e).removeprefix(f"{_KEY} {path}: ")) from None
    return [_fields(task, row, f"row {i}", path) for i, row in enumerate(table.rows)]


def texts_file(task: Task, texts: Texts, folder: Path) -> str:
    """Returns the path of a file of texts; texts themselves are written into a folder, so that a run can resume.

    Args:
        task: The task.
        texts: The file, the texts of a task with one field, or rows of its fields.
        folder: The folder for ``unlabelled.jsonl``.

    Raises:
        ConfigError: The task has several fields, or the folder holds other texts.
    """
    if isinstance(texts, str | Path):
        return str(texts)
    name = task.fields[0].name if len(task.fields) == 1 else ""
    for i, row in enumerate(texts):
        if not isinstance(row, str | Mapping):
            raise ConfigError("unlabelled", row, "texts, or rows of the task's fields", f"it is number {i}")
    rows = [{name: row} if isinstance(row, str) else dict(row) for row in texts]
    if not name and any(isinstance(row, str) for row in texts):
        allowed = f"rows with {', '.join(repr(f.name) for f in task.fields)}, since the task has several fields"
        raise ConfigError("unlabelled", next(row for row in texts if isinstance(row, str)), allowed)
    path = folder / "unlabelled.jsonl"
    written = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if half_surrogate(written):
        i = next(i for i, row in enumerate(rows) if half_surrogate(json.dumps(row, ensure_ascii=False)))
        raise ConfigError("unlabelled", f"{len(rows)} texts", "text", f"number {i} has half a surrogate pair")
    if path.is_file() and path.read_text(encoding="utf-8") != written:
        hint = "take another output folder"
        raise ConfigError("unlabelled", f"{len(rows)} texts", "the texts that the run began with", hint)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(written, encoding="utf-8")
    return str(path)


def usable_texts(
    task: Task, path: str, seed: int, labelled: Mapping[str, Callable[[], Decontaminator]]
) -> UnlabelledTexts:
    """Reads texts, and drops those that share text with labelled rows, whatever ``data.plan.decontaminate`` says.

    Args:
        task: The task.
        path: The file.
        seed: The run's seed.
        labelled: Return the indexes of labelled rows, by the name under which overlap is counted. If rows are not
            available, the log says so.

    Raises:
        ConfigError: As :func:`load_texts`, or no text is left.
    """
    rows = load_texts(task, path)
    for warning in lines_in_rows(task, rows, _KEY):
        _log.warning("warning: %s", warning)
    indexes: dict[str, Decontaminator] = {}
    for name, index in labelled.items():
        try:
            indexes[name] = index()
        except GoldError as e:
            _log.warning("overlap of data.unlabelled (%s) is not looked for: %s", name, e)
    return UnlabelledTexts(rows, path, seed, indexes)


def _fields(task: Task, row: Mapping[str, Any], at: str, path: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for field in task.fields:
        columns = dict.fromkeys((field.name, task.test.columns.get(field.name, field.name)))
        try:
            value = plain_value(_first(row, columns))
        except KeyError:
            needed = f"rows with {_listed(f.name for f in task.fields)}"
            raise ConfigError(_KEY, path, needed, f"{at} lacks {field.name!r}; it has {abridged(row)}") from None
        except ValueError as e:
            raise ConfigError(_KEY, path, "text in every row", f"{at} {e}") from None
        if isinstance(value, Mapping | list):
            raise ConfigError(_KEY, path, "text in every row", f"{at} has {abridged(value)} as {field.name!r}")
        text = "" if value is None else str(value)
        if half_surrogate(text):
            raise ConfigError(_KEY, path, "text in every row", f"{at} has half a surrogate pair in {field.name!r}")
        fields[field.name] = text
    return fields


def _first(row: Mapping[str, Any], columns: Iterable[str]) -> Any:
    for column in columns:
        try:
            return column_value(row, column)
        except KeyError:
            continue
    raise KeyError


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def sample_id(round_: int, kind: Kind, number: int) -> str:
    """Returns the id of a sample that is a real text, which contains the number of its row.

    >>> sample_id(2, "probe", 17)
    'r002-probe-u00017'
    """
    return f"r{round_:03d}-{kind}-u{number:05d}"


def text_number(id_: str) -> int | None:
    """Returns the number of the row in an id of :func:`sample_id`; ``None`` for a generated sample."""
    match = _ID.search(id_)
    return int(match[1]) if match else None


def real_texts(samples: Iterable[StoredSample]) -> set[int]:
    """Returns the numbers of the rows that real texts among stored samples come from."""
    numbers = (text_number(s.id) for s in samples if s.source == "unlabelled")
    return {number for number in numbers if number is not None}


class UnlabelledTexts:
    """The texts of a file, in an order shuffled by seed, without those that no round may use.

    Invisible characters are removed, and texts that hold a substitute for a lost character are dropped, as of generated
    samples (:func:`gold_lightning.parsing.characters.clean_characters`).

    Args:
        rows: The fields of each row, as :func:`load_texts` returns them.
        path: The file, for messages.
        seed: The run's seed, which the order depends on.
        labelled: Indexes of labelled rows whose text must not occur, by the name under which overlap is counted.

    Raises:
        ConfigError: No text is left.

    Attributes:
        counts: Number of rows (``texts``), of usable ones (``usable``), and of dropped ones by reason.
        digest: Hash of all rows; the same for the same rows in another format.

    Example:
        >>> texts = UnlabelledTexts([{"text": "Rain stops play"}, {"text": "Rain stops play"}], "news.txt", seed=1)
        >>> texts.counts
        {'texts': 2, 'usable': 1, 'duplicate': 1}
        >>> texts.draw(5), texts.fields(0)
        ([0], {'text': 'Rain stops play'})
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, str]],
        path: str,
        seed: int,
        labelled: Mapping[str, Decontaminator] | None = None,
    ) -> None:
        self.path, self.digest = path, digest([list(row.items()) for row in rows], 32)
        cleaned = [{name: clean_characters(text) for name, text in row.items()} for row in rows]
        self._rows = rows = [{name: text for name, (text, _) in row.items()} for row in cleaned]
        dropped: dict[int, str] = {}
        seen: set[tuple[str, ...]] = set()
        for number, row in enumerate(rows):
            key = tuple(composed(" ".join(text.split())) for text in row.values())
            sample = Sample(row, "")
            if not any(key):
                dropped[number] = "empty"
            elif any(damaged for _, damaged in cleaned[number].values()):
                dropped[number] = "not_unicode"
            elif overlap := next((name for name, index in (labelled or {}).items() if index.overlap(sample)), ""):
                dropped[number] = overlap
            elif key in seen:
                dropped[number] = "duplicate"
            seen.add(key)
        # All rows are shuffled, dropped ones too: another test set does not change the order of the others.
        order = random.Random(f"{seed}/unlabelled").sample(range(len(rows)), len(rows))
        self._order = [number for number in order if number not in dropped]
        reasons = dict(sorted(Counter(dropped.values()).items()))
        self.counts: dict[str, int] = {"texts": len(rows), "usable": len(self._order), **reasons}
        if not self._order:
            why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            raise ConfigError(_KEY, path, "a file with at least one text that can be used", why or "it has no rows")

    def __len__(self) -> int:
        """Number of usable texts."""
        return len(self._order)

    def fields(self, number: int) -> dict[str, str]:
        """Returns the fields of a row."""
        return dict(self._rows[number])

    def left(self, used: Collection[int] = ()) -> int:
        """Returns how many usable texts are not among the used rows."""
        return sum(number not in used for number in self._order)

    def draw(self, count: int, used: Collection[int] = ()) -> list[int]:
        """Draws the next texts.

        Args:
            count: How many.
            used: Numbers of rows that were drawn before.

        Returns:
            Numbers of up to ``count`` rows.
        """
        return [number for number in self._order if number not in used][:count]

    def outside_limits(self, task: Task) -> list[str]:
        """Describes how many usable texts a field's ``min_chars`` and ``max_chars`` do not admit, if many are not.

        Such texts are used all the same, but the generator copies the length of demos, and samples of that length are
        rejected.

        Args:
            task: The task.

        Returns:
            A sentence for each field of which one text in twenty or more is too short or too long.
        """
        sentences = []
        for field in task.fields:
            lengths = [len(self._rows[number][field.name]) for number in self._order]
            count = sum(not field.min_chars <= length <= field.max_chars for length in lengths)
            if 20 * count >= len(lengths) > 0:
                sentences.append(
                    f"{count:,} of {len(lengths):,} texts of data.unlabelled have fewer characters in {field.name!r} "
                    f"than the task's min_chars ({field.min_chars}) or more than its max_chars ({field.max_chars}): "
                    "set them to what your texts have, so that the generator's samples may be as long"
                )
        return sentences

    def sentence(self) -> str:
        """Describes what the file holds, in words.

        >>> UnlabelledTexts([{"text": "a"}, {"text": ""}], "news.txt", seed=1).sentence()
        'news.txt: 2 texts, 1 of them usable (1 empty)'
        """
        return f"{self.path}: {counts_sentence(self.counts)}"


def counts_sentence(counts: Mapping[str, int]) -> str:
    """Describes :attr:`UnlabelledTexts.counts` in words.

    >>> counts_sentence({"texts": 1000, "usable": 991, "in_test_set": 9, "left": 400})
    '1,000 texts, 991 of them usable (9 in test set)'
    """
    rest = {name: n for name, n in counts.items() if name not in ("texts", "usable", "left")}
    reasons = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in rest.items())
    text = f"{counts['texts']:,} texts"
    return f"{text}, {counts['usable']:,} of them usable ({reasons})" if rest else text
