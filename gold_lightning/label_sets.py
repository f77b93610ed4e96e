"""Sets of labels, for tasks whose rows have several labels at once, or none.

Everywhere else a set is one text, such as ``billing, delivery``: the names in the task's order with a separator between
them. Two sets are equal if their texts are, so whatever compares, counts or stores targets needs to know no sets.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import Field as Constraint
from pydantic import field_validator

from gold_lightning.inputs.models import Misfit, Words, model

__all__ = ["LabelSets", "overlap", "sets_of"]

_Weight = Annotated[float, Constraint(strict=True, ge=0, allow_inf_nan=False)]
_SIZES = "a list of weights for 0, 1, 2, ... labels, one of them after the first above 0"
_MARKS = " *_`\"'“”.[]()"  # around a label in a completion


@model
class LabelSets:
    """Settings of a task whose rows have any number of its labels.

    Args:
        separator: Text between two labels. No label contains it.
        none: Text of a row without any label.
        sizes: Weights of samples with 0, 1, 2, ... labels among those that the generator is asked for; longer lists
            than the task's labels are cut. Among samples of one size, labels and pairs of labels are balanced.

    Example:
        >>> from gold_lightning.label_sets import LabelSets
        >>> sets, names = LabelSets(none="neither"), ["billing", "delivery"]
        >>> sets.text({"delivery", "billing"}, names), sets.text([], names)
        ('billing, delivery', 'neither')
        >>> sets.read("Delivery,billing", names), sets.read("neither", names), sets.read("returns", names)
        (('billing', 'delivery'), (), None)
    """

    separator: Words = ", "
    none: Words = "none"
    sizes: tuple[_Weight, ...] = (1.0, 4.0, 3.0, 1.0)

    @field_validator("separator", "none")
    @classmethod
    def _check_line(cls, text: str) -> str:
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
            raise Misfit("", text, "text of one line, without invisible characters")
        return text

    def __post_init__(self) -> None:
        if not any(self.sizes[1:]):
            raise Misfit("sizes", list(self.sizes), _SIZES)
        if self.none != self.none.strip() or self.mark in self.none:
            raise Misfit("none", self.none, f"text without {self.mark!r} (separator), without spaces at its ends")

    @property
    def mark(self) -> str:
        """The separator without spaces at its ends, by which texts are split."""
        return self.separator.strip()

    def check(self, names: Sequence[str]) -> None:
        """Checks the task's labels.

        Args:
            names: Names of the labels.

        Raises:
            Misfit: There is none, one contains the separator, or one is the text of the empty set; or all weights of
                sizes that sets of them can have are 0.
        """
        if not names:
            raise Misfit("many", True, "false for a task without labels")
        if not any(self.sizes[1 : len(names) + 1]):
            raise Misfit("many.sizes", list(self.sizes), f"{_SIZES}, of a task with {len(names)} labels")
        for i, name in enumerate(names):
            if self.mark in name:
                hint = "rename it, or set another many.separator"
                raise Misfit(f"labels[{i}].name", name, f"a label without {self.mark!r}, which separates labels", hint)
            if name.casefold() == self.none.casefold():
                hint = "rename it, or set another many.none"
                raise Misfit(f"labels[{i}].name", name, "another name than that of a row without labels", hint)

    def text(self, labels: Collection[str], names: Sequence[str]) -> str:
        """Returns a set as text.

        Args:
            labels: The labels of the set.
            names: Names of all labels, in the task's order.
        """
        return self.separator.join(name for name in names if name in labels) if labels else self.none

    def read(self, text: str, names: Sequence[str], aliases: Mapping[str, str] | None = None) -> tuple[str, ...] | None:
        """Reads what a model wrote: in any order and case, with marks around labels.

        Args:
            text: The text.
            names: Names of all labels, in the task's order.
            aliases: Further spellings of labels, in lower case.

        Returns:
            The labels in the task's order; ``None`` if the text is no set of them.
        """
        known = {name.casefold(): name for name in names} | dict(aliases or {})
        if (plain := text.strip(_MARKS).casefold()) == self.none.casefold():
            return ()
        parts = [known.get(plain.strip(), "")]
        if not parts[0]:
            parts = [
                known.get(part.strip(), "") or known.get(part.strip(_MARKS), "") for part in plain.split(self.mark)
            ]
        return tuple(name for name in names if name in parts) if all(parts) else None

    def parse(self, value: object, names: Sequence[str], aliases: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Reads what a person wrote: a list of labels, or one text; each label exactly, and once.

        Args:
            value: The value. An empty list or text is the empty set.
            names: Names of all labels, in the task's order.
            aliases: Labels by further spellings.

        Returns:
            The labels in the task's order.

        Raises:
            Misfit: The value is of another kind, or names an unknown label, or one twice; the key is "".
        """
        if isinstance(value, str):
            plain = _composed(value).strip()
            parts = [] if plain in ("", self.none) else [plain]
            if parts and plain not in {*names, *(aliases or {})}:
                parts = [part.strip() for part in plain.split(self.mark)]
        elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            parts = [_composed(str(part)).strip() if isinstance(part, str | int) else part for part in value]
            parts = [] if parts == [self.none] else parts
        else:
            raise Misfit("", value, f"a list of labels, or one text with {self.mark!r} between them", self._empty)
        labels: set[str] = set()
        for part in parts:
            name = (aliases or {}).get(part, part) if isinstance(part, str) else ""
            if name not in names:
                near = difflib.get_close_matches(str(part), names, 1, 0.75)
                hint = f"did you mean {near[0]!r}?" if near else self._empty
                raise Misfit("", part, f"labels out of {_first_names(names)}", hint)
            if name in labels:
                raise Misfit("", value, f"each label once, and {name!r} is there twice")
            labels.add(name)
        return tuple(name for name in names if name in labels)

    @property
    def _empty(self) -> str:
        return f"write [] or {self.none} for a row without labels"


def sets_of(value: object) -> object:
    """Converts ``many`` of a task file to the keys of :class:`LabelSets`: ``true`` means its defaults."""
    if value is None or value is False:
        return None
    if value is True:
        return {}
    if not isinstance(value, LabelSets | Mapping):
        raise Misfit("", value, "true, false, or a mapping with the keys separator, none, sizes")
    return value


def overlap(first: Iterable[str], second: Iterable[str]) -> float:
    """Returns the share of labels that two sets have in common (Jaccard); 1 for two empty sets.

    Example:
        >>> overlap(["billing", "delivery"], ["delivery"]), overlap([], []), overlap([], ["billing"])
        (0.5, 1.0, 0.0)
    """
    one, other = set(first), set(second)
    return len(one & other) / len(one | other) if one | other else 1.0


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _first_names(names: Sequence[str]) -> str:
    return str(list(names)) if len(names) <= 20 else f"{list(names[:20])} and {len(names) - 20} more"
