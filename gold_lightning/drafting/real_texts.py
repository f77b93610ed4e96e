"""Real texts for a draft: which columns are texts, how long they are, and a few of them to show."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gold_lightning.drafting.lines import identifier
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.columns import READABLE, column_value, half_surrogate, load_table, plain_value
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.tables import ENDINGS, ending_of, one_of, read_texts

__all__ = ["KEY", "RealTexts", "read_real_texts", "shown"]

KEY = "--from"
_PLAIN = (".txt", ".txt.gz")
_SHOWN = 300  # characters of a text that a prompt shows


@dataclass(frozen=True)
class RealTexts:
    """Texts of a file.

    Args:
        path: The file, as the user wrote it.
        rows: Texts by name of field, without empty rows and repeats.
        columns: Column of each field; "" for the lines of a plain text file, whose field has no name yet.
        ignored: Names of the other columns.
    """

    path: str
    rows: Sequence[Mapping[str, str]]
    columns: Mapping[str, str]
    ignored: Sequence[str] = ()

    @property
    def nameless(self) -> bool:
        """Whether the texts are lines of a plain text file, whose field has no name."""
        return "" in self.columns.values()

    def named(self, name: str) -> RealTexts:
        """Returns the texts of a plain text file with a name for their field."""
        return replace(self, rows=[{name: text} for row in self.rows for text in row.values()], columns={name: ""})

    def limits(self, name: str) -> tuple[int, int]:
        """Returns the lengths in characters between which 96 of 100 texts of a field lie, rounded outwards."""
        lengths = sorted(len(row[name]) for row in self.rows)
        low, high = lengths[len(lengths) // 50], lengths[-1 - len(lengths) // 50]
        return max(1, low // 10 * 10), -(-high // 10) * 10

    def sample(self, count: int, seed: int) -> list[Mapping[str, str]]:
        """Returns some rows, drawn by seed, whose texts are cut for a prompt."""
        rows = random.Random(f"{seed}/draft").sample(range(len(self.rows)), min(count, len(self.rows)))
        return [{name: _cut(text) for name, text in self.rows[i].items()} for i in rows]

    def sentence(self) -> str:
        """Describes the file in words."""
        rest = f"; not used: {', '.join(self.ignored)}" if self.ignored else ""
        named = ", ".join(column for column in self.columns.values() if column)
        return f"{self.path}: {len(self.rows):,} texts" + (f" of the column {named}" if named else "") + rest


def _cut(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _SHOWN else one_line[:_SHOWN].rsplit(" ", 1)[0] + " ..."


def read_real_texts(path: str, fields: Sequence[str] = ()) -> RealTexts:
    """Reads a file of texts: plain text with one on each line, or rows with columns.

    Args:
        path: The file, as the user wrote it.
        fields: Columns to take; by default those that hold texts rather than numbers, names or labels.

    Raises:
        ConfigError: The file cannot be read, or it is not clear which columns are texts.
    """
    file = Path(expand(KEY, path))
    if not file.is_file() or ending_of(file) not in (*READABLE, *_PLAIN):
        raise ConfigError(KEY, path, f"the path of a {one_of((*ENDINGS, '.txt'))} file")
    if ending_of(file) in _PLAIN:
        try:
            lines = read_texts(file)
        except (OSError, ValueError) as e:
            raise ConfigError(KEY, path, "a text file", " ".join(str(e).split())[:200]) from None
        name = fields[0] if fields else "text"
        return _checked(path, [{name: line.strip()} for line in lines], {name: ""}, [])
    try:
        rows = load_table(KEY, path).rows
    except GoldError as e:
        raise ConfigError(KEY, path, "a file of rows", str(e).removeprefix(f"{KEY} {path}: ")) from None
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in fields:
        if name not in names:
            raise ConfigError("--fields", name, f"columns of {path}: {', '.join(names)}")
    chosen = list(fields) or [name for name in names if _holds_texts([_text(row, name) for row in rows])]
    if not 1 <= len(chosen) <= 3:
        has = f"{path} has the columns {', '.join(names)}"
        raise ConfigError(KEY, path, "a file with one to three columns of texts", f"name them by --fields; {has}")
    columns = {identifier(name) or f"text{i + 1}": name for i, name in enumerate(chosen)}
    texts = [{field: _text(row, column) for field, column in columns.items()} for row in rows]
    return _checked(path, texts, columns, [name for name in names if name not in chosen])


def shown(real: RealTexts | None, seed: int, name: str = "") -> list[str]:
    """Returns three texts for a prompt, of one field or of all; none without real texts."""
    rows = real.sample(3, seed) if real else []
    return [row[name] if name in row else " / ".join(row.values()) for row in rows]


def _text(row: Mapping[str, Any], column: str) -> str:
    try:
        value = plain_value(column_value(row, column))
    except (KeyError, ValueError):
        return ""
    return value.strip() if isinstance(value, str) and not half_surrogate(value) else ""


def _holds_texts(values: Sequence[str]) -> bool:
    """Whether a column holds texts: most values differ and are longer than a label is."""
    present = [value for value in values if value]
    if len(present) < len(values) / 2 or not present:
        return False
    spaced = sum(len(value.split()) > 2 or (not value.isascii() and len(value) > 8) for value in present)
    return spaced > len(present) / 2 and len(set(present)) > len(present) / 2


def _checked(path: str, rows: list[dict[str, str]], columns: Mapping[str, str], ignored: Sequence[str]) -> RealTexts:
    whole = {tuple(row.values()): row for row in rows if all(row.values())}
    if not whole:
        raise ConfigError(KEY, path, "a file with at least one text", "all its rows are empty")
    return RealTexts(path, list(whole.values()), columns, ignored)
