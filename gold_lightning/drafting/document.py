"""A drafted task: its values, what became of each part, and the file with comments that say what to look at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from gold_lightning.errors import GoldError
from gold_lightning.inputs.yaml_files import StrictLoader
from gold_lightning.task import Task

__all__ = ["BLANK", "Draft", "Part"]

BLANK = "BLANK"
"""The word that marks a blank in the file."""


@dataclass(frozen=True)
class Part:
    """What became of one part of a draft.

    Args:
        key: The task's key, such as ``labels[0].meaning``.
        tries: Number of answers of the generator; 0 for a part that it was not asked for.
        reasons: Why answers were rejected, in order.
        blank: Whether no answer was good, so that the part is left blank.
    """

    key: str
    tries: int = 1
    reasons: tuple[str, ...] = ()
    blank: bool = False

    @property
    def outcome(self) -> str:
        """``first try``, ``repaired`` or ``blank``."""
        return "blank" if self.blank else "repaired" if self.reasons else "first try"


@dataclass
class Draft:
    """A drafted task.

    Args:
        document: Values of the task file; ``None`` for a blank.
        parts: What became of each part that the generator was asked for.
        notes: What to look at, by key.
        head: Comment lines at the top of the file.
    """

    document: dict[str, Any]
    parts: list[Part]
    notes: dict[str, str] = field(default_factory=dict)
    head: Sequence[str] = ()

    @property
    def blanks(self) -> list[str]:
        """Keys of the parts that must be filled in before the task can be used."""
        return [key for key, value in _leaves(self.document) if value is None]

    @property
    def counts(self) -> dict[str, int]:
        """Number of parts by outcome."""
        counts = Counter(part.outcome for part in self.parts)
        return {outcome: counts[outcome] for outcome in ("first try", "repaired", "blank")}

    @property
    def task(self) -> Task:
        """The task.

        Raises:
            GoldError: Parts are blank.
        """
        if self.blanks:
            raise GoldError(
                f"the generator gave nothing usable for {', '.join(self.blanks)}; take a larger one, or fill these in: "
                "`tasks new` writes a file in which they are marked"
            )
        return Task.from_document(self.document)

    def yaml(self) -> str:
        """Returns the task file, whose comments say what to look at."""
        lines = [f"# {line}".rstrip() for line in self.head]
        for key, value in self.document.items():
            lines += self._lines(value, key, key, "")
        text = "\n".join(lines) + "\n"
        if _read(text) == self.document:
            return text
        # A text that cannot be written so: comments go, the draft stays.
        plain = yaml.safe_dump(self.document, allow_unicode=True, sort_keys=False)
        return "".join(f"# {line}\n" for line in self.head) + plain

    def _lines(self, value: Any, name: str, key: str, indent: str) -> list[str]:
        reasons = next((part.reasons for part in self.parts if part.key == key and part.blank), ())
        note = self.notes.get(key, "")
        if reasons or value is None:
            marks = [BLANK + (", optional" if value == [] else ""), _why(reasons), note]
            note = ": ".join(filter(None, [marks[0], "; ".join(filter(None, marks[1:]))]))
        comment = f"  # {note}" if note else ""
        if isinstance(value, Mapping) and value:
            lines = [f"{indent}{name}:{comment}"]
            for inner, part in value.items():
                lines += self._lines(part, _scalar(inner), f"{key}.{inner}", indent + "  ")
            return lines
        if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
            lines = [f"{indent}{name}:{comment}"]
            for i, part in enumerate(value):
                inner = [
                    line
                    for n, v in part.items()
                    for line in self._lines(v, _scalar(n), f"{key}[{i}].{n}", indent + "    ")
                ]
                if above := self.notes.get(f"{key}[{i}]"):
                    lines.append(f"{indent}  # {above}")
                lines += [f"{indent}  - {inner[0].strip()}", *inner[1:]]
            return lines
        if isinstance(value, list) and value and sum(len(str(part)) + 2 for part in value) > 70:
            return [f"{indent}{name}:{comment}", *(f"{indent}  - {_scalar(part)}" for part in value)]
        if isinstance(value, list):
            return [f"{indent}{name}: [{', '.join(_scalar(part, flow=True) for part in value)}]{comment}"]
        return [f"{indent}{name}: {'{}' if value == {} else _scalar(value)}{comment}"]


def _why(reasons: Sequence[str]) -> str:
    counts = Counter(reason.replace("_", " ") for reason in reasons)
    answers = ", ".join(f"{reason} ({count})" if count > 1 else reason for reason, count in counts.items())
    return f"fill this in; the answers were {answers}" if answers else "fill this in"


def _scalar(value: Any, *, flow: bool = False) -> str:
    """Writes a value as one line of YAML."""
    if value is None:
        return "null"
    holder: Any = [value] if flow else {"a": value}
    dumped = yaml.safe_dump(holder, allow_unicode=True, width=10**9, default_flow_style=flow).strip()
    line = dumped[1:-1] if flow else dumped.removeprefix("a:").strip()
    return json.dumps(value, ensure_ascii=False) if "\n" in line else line


def _read(text: str) -> Any:
    try:
        return yaml.load(text, StrictLoader)
    except (yaml.YAMLError, ValueError):
        return None


def _leaves(value: Any, key: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [leaf for name, part in value.items() for leaf in _leaves(part, f"{key}.{name}" if key else str(name))]
    if isinstance(value, list):
        return [leaf for i, part in enumerate(value) for leaf in _leaves(part, f"{key}[{i}]")]
    return [(key, value)]
