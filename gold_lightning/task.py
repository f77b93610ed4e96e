"""What is to be learnt. A task is data, never code, and checked when it is made.

Nothing in here knows a prompt, a model or a file layout; every other module may import this one.
"""

from __future__ import annotations

import dataclasses
import string
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gold_lightning.errors import ConfigError

__all__ = [
    "Check",
    "Field",
    "Hints",
    "Label",
    "Sample",
    "StudentFormat",
    "Task",
    "TestData",
    "TestRow",
    "blaming",
    "check_names",
]


@dataclass(frozen=True)
class Sample:
    """One row of a task.

    Args:
        fields: The input texts by field name, in the task's order.
        target: What the student must write: a label's name, or free text.
    """

    fields: Mapping[str, str]
    target: str

    @property
    def text(self) -> str:
        """The fields in one string, for what compares texts (duplicates, overlaps)."""
        return "\n".join(self.fields.values())

    @property
    def targets(self) -> tuple[str, ...]:
        """All texts that count as right; the target is the first."""
        return (self.target,)


@dataclass(frozen=True)
class TestRow(Sample):
    """A sample of a test set, whose question may have several right answers.

    Args:
        others: What counts as right beside the target.
        value: What stood in the target's column, before it was named.
    """

    __test__ = False  # not for pytest

    others: tuple[str, ...] = ()
    value: str = field(default="", compare=False)

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target, *self.others)


@dataclass(frozen=True)
class Field:
    """One named text of a sample.

    Args:
        name: An identifier; it stands in prompts and in the student's input template.
        description: What stands in it, told to the generator.
        min_chars: Shortest text accepted, in characters.
        max_chars: Longest text accepted, in characters.
    """

    name: str
    description: str
    min_chars: int = 1
    max_chars: int = 1000

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError("name", self.name, "a name of letters, digits and _, no digit first")
        if self.min_chars < 0:
            raise ConfigError("min_chars", self.min_chars, "0 or more")
        if self.max_chars < max(1, self.min_chars):
            raise ConfigError("max_chars", self.max_chars, f"{max(1, self.min_chars)} (min_chars) or more")


@dataclass(frozen=True)
class Label:
    """One class of a classification task.

    Args:
        name: What the student writes.
        meaning: What it means, told to the generator.
        hints: Sub-topics of this label; prompts cycle through them, so that samples differ.
    """

    name: str
    meaning: str
    hints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip() or self.name != self.name.strip() or "\n" in self.name:
            raise ConfigError("name", self.name, "a label of one line without spaces around it")
        hidden = next((c for c in self.name if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
        if hidden or unicodedata.category(self.name[0]) == "Cf" or unicodedata.category(self.name[-1]) == "Cf":
            raise ConfigError("name", ascii(self.name), "a label without characters that cannot be seen")


@dataclass(frozen=True)
class Hints:
    """What prompts vary, so that outputs differ. An empty list leaves that kind of hint out.

    Args:
        topics: What to write about. Labels that have hints of their own use those instead.
        perspectives: From whose view; a short list of everyday ones by default.
        styles: In what manner; a short list of everyday ones by default.
    """

    topics: tuple[str, ...] = ()
    perspectives: tuple[str, ...] = ("an expert", "a beginner", "a local", "a critic", "a bystander")
    styles: tuple[str, ...] = ("plain speech", "a formal report", "a lively story", "a short note", "a textbook")


@dataclass(frozen=True)
class StudentFormat:
    """How the student sees a sample: the same in training, probing and testing.

    Args:
        input: Template of the input, with ``{field}`` for each field.
        target: Template of the output, with ``{name of the target}``.
        max_input_tokens: Inputs are cut to this many tokens, end of sequence included.
        max_target_tokens: Targets are cut to, and decoding stops at, this many tokens.
    """

    input: str
    target: str
    max_input_tokens: int = 128
    max_target_tokens: int = 32

    def __post_init__(self) -> None:
        for key in ("max_input_tokens", "max_target_tokens"):
            if getattr(self, key) < 2:
                raise ConfigError(key, getattr(self, key), "2 or more")


@dataclass(frozen=True)
class Check:
    """A named check with its parameters, as :mod:`gold_lightning.checks.rules` has them."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TestData:
    """Where labelled rows for evaluation come from: a file, or a data set of the hub.

    Args:
        file: A JSON, JSON Lines, CSV, TSV or Parquet file, relative to the task file.
        hub: Data set id on the hub.
        config: Configuration of that data set.
        split: Its split.
        columns: Column of the data set for each field and for the target; ``answers.text`` is the key
            ``text`` in the column ``answers``. Left out: the same names. A list in the target's column
            holds all texts that count as right.
        label_names: The task's label for each value that the column holds (numbers as text), so that
            no label order is ever assumed.
    """

    __test__ = False  # not for pytest

    file: str = ""
    hub: str = ""
    config: str = ""
    split: str = "validation"
    columns: Mapping[str, str] = field(default_factory=dict)
    label_names: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether any rows are named."""
        return bool(self.file or self.hub)


@dataclass(frozen=True)
class Task:
    """A language task: fields, target, labels, demos, checks, metrics.

    Args:
        name: Identifier; run folders carry it.
        description: One sentence on what a sample is, told to the generator.
        fields: The input texts.
        target: Name, description and length limits of the output.
        demos: Seed demos, written by a person.
        student: How the student sees a sample.
        labels: The classes; empty for a sequence-to-sequence task.
        hints: What prompts vary.
        checks: Checks beside those that always run.
        metrics: Names known to :mod:`gold_lightning.metrics`; the first is the one that is watched.
        test: Labelled rows for evaluation.
        validation: Labelled rows by which rounds are compared, in place of their probe sets; none by default.
        contrast: Show demos of all labels in each prompt. Only for tasks that are about the contrast:
            a weak generator confuses labels whose demos stand side by side.
        max_sample_tokens: Longest completion asked of the generator for one sample, in its tokens.
        allow_refusals: Accept samples that begin as a model's refusal. For tasks that are about refusals.
        source: The file that this task was read from, for messages and for relative paths.

    Raises:
        ConfigError: A value contradicts another one; the key is named.
    """

    name: str
    description: str
    fields: tuple[Field, ...]
    target: Field
    demos: tuple[Sample, ...]
    student: StudentFormat
    labels: tuple[Label, ...] = ()
    hints: Hints = Hints()
    checks: tuple[Check, ...] = ()
    metrics: tuple[str, ...] = ()
    test: TestData = TestData()
    validation: TestData = TestData()
    contrast: bool = False
    max_sample_tokens: int = 128
    allow_refusals: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        if not self.name.replace("-", "_").isidentifier():
            raise ConfigError("name", self.name, "letters, digits, _ and - (it names a folder)")
        check_names(self.fields, self.target)
        names = [f.name for f in self.fields]
        self._check_labels()
        self._check_demos(names)
        self._check_templates(names)
        self._check_rows("test", self.test, names)
        self._check_rows("validation", self.validation, names)
        for i, name in enumerate(self.metrics):
            if name in self.metrics[:i]:
                raise ConfigError(f"metrics[{i}]", name, "each metric once")
        if self.max_sample_tokens < 1:
            raise ConfigError("max_sample_tokens", self.max_sample_tokens, "1 or more")

    def _check_labels(self) -> None:
        seen: set[str] = set()
        for i, label in enumerate(self.labels):
            if label.name.casefold() in seen:
                raise ConfigError(f"labels[{i}].name", label.name, "a name that no other label has")
            seen.add(label.name.casefold())
        if len(self.labels) == 1:
            raise ConfigError("labels", [self.labels[0].name], "no labels, or two and more")

    def _check_demos(self, names: Sequence[str]) -> None:
        if not self.demos:
            raise ConfigError("demos", [], "at least one demo (for labels: one of each)")
        allowed = [label.name for label in self.labels]
        for i, demo in enumerate(self.demos):
            if set(demo.fields) != set(names):
                raise ConfigError(f"demos[{i}]", sorted(demo.fields), f"the fields {sorted(names)}")
            for f in self.fields:
                if not f.min_chars <= len(demo.fields[f.name]) <= f.max_chars:
                    raise ConfigError(
                        f"demos[{i}].{f.name}",
                        demo.fields[f.name],
                        f"{f.min_chars} to {f.max_chars} characters, the task's own limits",
                    )
            if allowed and demo.target not in allowed:
                raise ConfigError(f"demos[{i}].{self.target.name}", demo.target, f"one of {allowed}")
        for label in allowed:
            if not any(demo.target == label for demo in self.demos):
                raise ConfigError("demos", f"no demo of {label!r}", "at least one demo of each label")

    def _check_templates(self, names: Sequence[str]) -> None:
        for key, template, wanted in (
            ("student.input", self.student.input, set(names)),
            ("student.target", self.student.target, {self.target.name}),
        ):
            try:
                parts = list(string.Formatter().parse(template))
            except ValueError as e:
                raise ConfigError(key, template, f"a template ({e})", "write {{ and }} for braces") from None
            used = {name for _, name, _, _ in parts if name is not None}
            if any(spec or conversion for _, _, spec, conversion in parts):
                raise ConfigError(key, template, "plain {name} slots, no format or conversion")
            if used != wanted:
                shown = ", ".join("{" + n + "}" for n in sorted(wanted))
                raise ConfigError(key, template, f"each of {shown} and nothing else in braces")

    def _check_rows(self, key: str, rows: TestData, names: Sequence[str]) -> None:
        allowed = [*names, self.target.name]
        for name, column in rows.columns.items():
            if name not in allowed:
                raise ConfigError(f"{key}.columns.{name}", column, f"one of the keys {', '.join(allowed)}")
        if self.labels:  # without labels any text is a target
            for value, label in rows.label_names.items():
                if label not in self.label_names:
                    raise ConfigError(f"{key}.label_names.{value}", label, f"one of {list(self.label_names)}")

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in the task's order; empty for a sequence-to-sequence task."""
        return tuple(label.name for label in self.labels)

    def label(self, name: str) -> Label:
        """The label of that name."""
        return next(label for label in self.labels if label.name == name)

    def student_input(self, sample: Sample) -> str:
        """What the student reads."""
        return self.student.input.format_map(dict(sample.fields))

    def student_target(self, target: str) -> str:
        """What the student must write for a target."""
        return self.student.target.format_map({self.target.name: target})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for fingerprints and dumps; ``source`` is left out: a moved file is no new task."""
        data = dataclasses.asdict(self)
        del data["source"]
        if not self.allow_refusals:  # a task that does not name it has the fingerprint that it had before the key was
            del data["allow_refusals"]
        return data


def check_names(fields: Sequence[Field], target: Field) -> None:
    """Names of fields and target differ, in more than case: generated text is read in any case."""
    if not fields:
        raise ConfigError("fields", [], "at least one field")
    names = [f.name.casefold() for f in fields]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(f"fields[{i}].name", fields[i].name, "a name that no other field has, in any case")
    if target.name.casefold() in names:
        raise ConfigError("target.name", target.name, "a name that no field has, in any case")


@contextmanager
def blaming(task: Task) -> Iterator[None]:
    """Puts the task's file before the key of an error that is found after the file was read."""
    try:
        yield
    except ConfigError as e:
        at = f"{task.source}: " if task.source else ""
        raise ConfigError(at + e.key, e.value, e.allowed, e.hint) from None
