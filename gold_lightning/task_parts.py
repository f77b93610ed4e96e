"""The parts of a task: samples, fields, labels, hints, formats, checks and data sets, each with its keys."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, field_validator
from pydantic import Field as Constraint

from gold_lightning.inputs.models import Flag, Misfit, NaturalNumber, PositiveNumber, Text, Words, model

__all__ = [
    "CHECK_SCHEMA",
    "DEMO_SCHEMA",
    "Check",
    "Field",
    "Hints",
    "Label",
    "Sample",
    "StudentFormat",
    "TestData",
    "TestRow",
    "check_of",
    "composed",
    "described",
    "name_of_part",
    "plain_document",
    "target_name",
]

_TEXTS = {"type": "array", "items": {"type": "string"}}
DEMO_SCHEMA: dict[str, Any] = {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, _TEXTS]}}
CHECK_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": {"type": "object"}},
    ]
}
"""JSON schemas of demos and checks, which a task file may write in several forms."""


@dataclass(frozen=True)
class Sample:
    """One row of a task.

    Args:
        fields: The input texts by field name, in the task's order.
        target: The correct output: a label's name, or free text.

    Example:
        >>> from gold_lightning import Sample
        >>> Sample({"message": "Where is my parcel?"}, "delivery").text
        'Where is my parcel?'
    """

    fields: Mapping[str, str]
    target: str

    @property
    def text(self) -> str:
        """All fields in one string, for comparisons of texts (duplicates, overlaps)."""
        return "\n".join(self.fields.values())

    @property
    def targets(self) -> tuple[str, ...]:
        """All correct outputs, the target first."""
        return (self.target,)


@dataclass(frozen=True)
class TestRow(Sample):
    """A sample of a test set, whose question may have several correct answers.

    Args:
        alternatives: Correct outputs beside the target.
        value: Original content of the target's column, before it was mapped to a label.
    """

    __test__ = False  # not for pytest

    alternatives: tuple[str, ...] = ()
    value: str = field(default="", compare=False)

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target, *self.alternatives)


@model
class Field:
    """One named text of a sample.

    Args:
        name: An identifier, used in prompts and in the student's input template.
        description: Its content, in words for the generator.
        min_chars: Length of the shortest accepted text, in characters.
        max_chars: Length of the longest accepted text, in characters.
        max_sentences: Number of sentences of the longest accepted text.
        cut_at_sentence: Whether a text that is too long, or that the token limit broke off, is cut at the end of its
            last whole sentence rather than rejected. By default it is if nothing else of the sample was written for
            it (the last field of a task with labels) and it is not multiline.
        multiline: Whether line breaks belong to the text, as in e-mails or code: only the next named line, the next
            sample or the end of the reply ends it. Otherwise it is one line. By default it is multiline if a demo has
            a line break in it.

    Example:
        >>> from gold_lightning import Field
        >>> Field("message", "one message of a customer", min_chars=10, max_chars=300).name
        'message'
    """

    name: Words
    description: Words
    min_chars: NaturalNumber = 1
    max_chars: NaturalNumber = 1000
    max_sentences: PositiveNumber | None = None
    cut_at_sentence: Flag | None = None
    multiline: Flag | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise Misfit("name", self.name, "a name of letters, digits and _, no digit first")
        if self.max_chars < max(1, self.min_chars):
            raise Misfit("max_chars", self.max_chars, f"{max(1, self.min_chars)} (min_chars) or more")


@model
class Label:
    """One class of a classification task.

    Args:
        name: The student's output.
        meaning: An explanation for the generator; "" if the name says enough.
        hints: Sub-topics of this label. Prompts cycle through them, so that samples differ.

    Example:
        >>> from gold_lightning import Label
        >>> Label("billing", "it is about an invoice or a payment", hints=("a refund", "a fee")).hints[0]
        'a refund'
    """

    name: Words
    meaning: Text
    hints: tuple[Words, ...] = ()

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name != name.strip() or "\n" in name:
            raise Misfit("", name, "a label of one line, without spaces at its ends")
        hidden = next((c for c in name if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
        if hidden or unicodedata.category(name[0]) == "Cf" or unicodedata.category(name[-1]) == "Cf":
            raise Misfit("", ascii(name), "a label without invisible characters")
        return composed(name)


@model
class Hints:
    """Variations of prompts, so that completions differ. An empty list leaves out that kind of hint.

    Args:
        topics: Subjects. Labels with hints of their own use those instead.
        perspectives: Points of view; a few everyday ones by default.
        styles: Manners of writing; a few everyday ones by default.
    """

    topics: tuple[Words, ...] = ()
    perspectives: tuple[Words, ...] = ("an expert", "a beginner", "a local", "a critic", "a bystander")
    styles: tuple[Words, ...] = ("plain speech", "a formal report", "a lively story", "a short note", "a textbook")


@model
class StudentFormat:
    """Input and output of the student for a sample, the same in training, probing and testing.

    Args:
        input: Template of the input, with ``{field}`` for each field.
        target: Template of the output, with ``{name of the target}``; the target alone by default.
        max_input_tokens: Length to which inputs are cut, in tokens, end of sequence included.
        max_target_tokens: Length to which targets are cut and at which decoding stops, in tokens.
    """

    input: Words
    target: Text = ""
    max_input_tokens: Annotated[int, Constraint(strict=True, ge=2)] = 128
    max_target_tokens: Annotated[int, Constraint(strict=True, ge=2)] = 32


@model
class Check:
    """A named check with its parameters; see :func:`gold_lightning.checks.check`."""

    name: Text
    params: Mapping[str, Any] = field(default_factory=dict)


def check_of(value: object) -> object:
    """Converts a check of a task file, a name or a name with parameters, to the keys of :class:`Check`."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Check):
        return value
    if not isinstance(value, Mapping) or len(value) != 1:
        raise Misfit("", value, "the name of a check, or {name: {parameter: value}}")
    ((name, params),) = value.items()
    if not isinstance(params, Mapping):
        raise Misfit(str(name), params, "a mapping of parameters to values")
    return {"name": str(name), "params": params}


def _with_text_keys(value: object) -> object:
    """Converts keys to text: 1 and "1" are the same value of a label column, so only one of them may be a key."""
    if not isinstance(value, Mapping):
        return value
    by_text: dict[str, Any] = {}
    for key, text in value.items():
        if str(key) in by_text:
            raise Misfit(str(key), text, f"one value; the same key, as text, has {by_text[str(key)]!r} already")
        by_text[str(key)] = text
    return by_text


_TextMapping = Annotated[Mapping[str, Text], BeforeValidator(_with_text_keys)]


@model
class TestData:
    """Labelled rows for evaluation: a file, or a data set of the hub.

    Args:
        file: A JSON, JSON Lines, CSV, TSV or Parquet file, relative to the task file.
        hub: Data set id on the hub.
        config: Configuration of that data set.
        split: Its split.
        columns: Column of the data set for each field and for the target, if the names differ; ``answers.text``
            is the key ``text`` in the column ``answers``. A list in the target's column holds all correct texts.
        label_names: The task's label for each value of the target's column (numbers as text), so that no label
            order is ever assumed.
    """

    __test__ = False  # not for pytest

    file: Text = ""
    hub: Text = ""
    config: Text = ""
    split: Text = "validation"
    columns: _TextMapping = field(default_factory=dict)
    label_names: _TextMapping = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Returns whether the task names any rows."""
        return bool(self.file or self.hub)


def described(value: object) -> object:
    """Converts the name of a field to its keys; other values stay as they are."""
    return {"name": value, "description": f"the {value}"} if isinstance(value, str) else value


def name_of_part(value: object) -> str:
    """Returns the name in a field, or in its keys."""
    return str(value.get("name")) if isinstance(value, Mapping) else str(getattr(value, "name", value))


def target_name(values: Mapping[str, Any]) -> str:
    """Returns the name of the target of a task that names none."""
    if not values.get("labels"):
        return "answer"
    return "labels" if values.get("many") else "label"


def composed(label: str) -> str:
    """Returns a label in the form (NFC) that most keyboards write and tokenizers decode to."""
    return unicodedata.normalize("NFC", label)


def plain_document(value: object) -> object:
    """Converts tuples to lists and other mappings to dicts, at any depth."""
    if isinstance(value, Mapping):
        return {key: plain_document(part) for key, part in value.items()}
    return [plain_document(part) for part in value] if isinstance(value, list | tuple) else value
