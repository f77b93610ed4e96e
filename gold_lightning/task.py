"""Tasks: what a student learns, as data. Every key of a task file is defined here, once.

Nothing in this module knows a prompt, a model or a run folder; every other module may import it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, SkipValidation, TypeAdapter, WithJsonSchema

from gold_lightning.errors import ConfigError
from gold_lightning.inputs.models import Flag, Misfit, PositiveNumber, Words, config_errors, model
from gold_lightning.inputs.task_files import find_task_file, name_of
from gold_lightning.inputs.yaml_files import load_yaml
from gold_lightning.label_sets import LabelSets, sets_of
from gold_lightning.parsing.sentences import count_sentences
from gold_lightning.task_parts import (
    CHECK_SCHEMA,
    DEMO_SCHEMA,
    Check,
    Field,
    Hints,
    Label,
    Sample,
    StudentFormat,
    TestData,
    TestRow,
    check_of,
    composed,
    described,
    name_of_part,
    plain_document,
    target_name,
)

__all__ = [
    "Check",
    "Field",
    "Hints",
    "Label",
    "LabelSets",
    "Sample",
    "StudentFormat",
    "Task",
    "TaskSource",
    "TestData",
    "TestRow",
    "prefix_errors_with",
    "task_schema",
]


@model
class Task:
    """A language task: fields, target, labels, demos, checks, metrics.

    A task file must say all that has no default below. In Python, ``name``, ``fields`` and ``demos`` suffice: a field,
    label or target may be its name alone, a demo a plain dict, ``test`` a path.

    Args:
        name: Identifier, part of the path of run folders.
        description: One sentence on the nature of a sample, for the generator.
        fields: The input texts.
        target: Name, description and length limits of the output.
        demos: Seed demos, written by a person; at least one of each label.
        student: The student's input and output.
        labels: The classes; none for a sequence-to-sequence task.
        many: Whether a row has any number of the labels, none included: ``true``, or a mapping with the keys of
            :class:`LabelSets`. Demos and labelled rows then have a list of labels, or one text with separators.
        hints: Variations of prompts.
        checks: Checks beside those that always run.
        metrics: Names of metrics, as :mod:`gold_lightning.metrics` has them; rounds are compared by the first.
        test: Labelled rows for evaluation.
        validation: Labelled rows for comparing rounds, instead of their probe sets.
        contrast: Whether each prompt shows demos of all labels. Only for tasks about the contrast itself: a weak
            generator confuses labels whose demos stand side by side.
        max_sample_tokens: Limit of a completion for one sample, in the generator's tokens.
        allow_refusals: Whether samples may begin like a model's refusal; for tasks about refusals.
        source: The task's file, for messages and relative paths. Not a key of the file.

    Raises:
        ConfigError: A value is wrong or contradicts another; the error names the key.

    Example:
        >>> task = Task(
        ...     name="spam",
        ...     fields=["message"],
        ...     labels=["spam", "ham"],
        ...     demos=[
        ...         {"message": "You won a prize! Reply with your bank details.", "label": "spam"},
        ...         {"message": "Are we still on for lunch?", "label": "ham"},
        ...     ],
        ... )
        >>> task.student_input(task.demos[1]), task.student_target("ham")
        ('message: Are we still on for lunch?', 'ham')
    """

    not_in_files: ClassVar = ("source",)

    name: Words
    description: Words
    fields: tuple[Field, ...]
    target: Field
    demos: tuple[Annotated[Sample, SkipValidation(), WithJsonSchema(DEMO_SCHEMA)], ...]
    student: StudentFormat
    labels: tuple[Label, ...] = ()
    many: Annotated[LabelSets | None, BeforeValidator(sets_of)] = None
    hints: Hints = Hints()
    checks: tuple[Annotated[Check, BeforeValidator(check_of), WithJsonSchema(CHECK_SCHEMA)], ...] = ()
    metrics: tuple[Words, ...] = ()
    test: TestData = TestData()
    validation: TestData = TestData()
    contrast: Flag = False
    max_sample_tokens: PositiveNumber = 128
    allow_refusals: Flag = False
    source: str = ""

    @classmethod
    def load(cls, name_or_path: TaskSource) -> Task:
        """Reads a task file. A :class:`Task` is returned unchanged.

        Args:
            name_or_path: The path of a YAML file, or the name of a shipped task.

        Raises:
            ConfigError: The file does not exist, or a key in it is wrong; the message names file and key.
            GoldError: The file cannot be read, or is not YAML.

        Example:
            >>> Task.load("news_topics").label_names
            ('World', 'Sports', 'Business', 'Sci/Tech')
        """
        if isinstance(name_or_path, Task):
            return name_or_path
        path = find_task_file(name_or_path)
        stat = path.stat()
        return _load(path, name_of(path, name_or_path), stat.st_mtime_ns, stat.st_size, stat.st_ino)

    @classmethod
    def from_document(cls, document: object, source: str = "") -> Task:
        """Makes a task from the plain values of a task file.

        Args:
            document: The mapping.
            source: The file, for messages and relative paths.

        Raises:
            ConfigError: A value is wrong; the error names its key.
        """
        if isinstance(document, Mapping) and "source" in document:
            known = [f.name for f in dataclasses.fields(cls) if f.name != "source"]
            raise ConfigError("source", document["source"], f"one of the keys {', '.join(known)}")
        with config_errors(cls):
            return dataclasses.replace(TypeAdapter(cls).validate_python(document), source=source)

    def to_document(self) -> dict[str, Any]:
        """Returns the plain values of a task file, from which :meth:`from_document` makes the same task.

        Paths of rows are absolute, since the document may be written anywhere.
        """

        def rows(data: TestData) -> dict[str, Any]:
            document = {k: v for k, v in dataclasses.asdict(data).items() if v != getattr(TestData(), k)}
            if data.file:
                document["file"] = str((Path(self.source).parent / Path(data.file).expanduser()).resolve())
            return document

        document = dataclasses.asdict(self) | self._texts()
        document |= {
            "demos": [{**demo.fields, self.target.name: demo.target} for demo in self.demos],
            "checks": [{check.name: dict(check.params)} for check in self.checks],
            "test": rows(self.test),
            "validation": rows(self.validation),
        }
        del document["source"]
        return {key: plain for key, value in document.items() if (plain := plain_document(value)) not in ([], {}, None)}

    @classmethod
    def fill_in(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Completes the constructor's arguments, which may leave out more than a task file."""
        filled = dict(values)
        names = []
        if isinstance(filled.get("fields"), list | tuple):
            filled["fields"] = [described(value) for value in filled["fields"]]
            names = [name_of_part(value) for value in filled["fields"]]
        if isinstance(filled.get("labels"), list | tuple):
            filled["labels"] = [{"name": v, "meaning": ""} if isinstance(v, str) else v for v in filled["labels"]]
        if isinstance(filled.get("test"), str):
            filled["test"] = {"file": filled["test"]}
        filled["target"] = described(filled.get("target", target_name(filled)))
        parts = ", ".join([*names, name_of_part(filled["target"])])
        filled.setdefault("description", f"Each sample has these parts: {parts}.")
        filled.setdefault("student", {"input": " ".join(f"{name}: {{{name}}}" for name in names)})
        return filled

    def __post_init__(self) -> None:
        if not self.name.replace("-", "_").isidentifier():
            raise Misfit("name", self.name, "letters, digits, _ and - (it names a folder)")
        self._check_names()
        self._check_labels()
        self._set("demos", tuple(self._demo(demo, f"demos[{i}]") for i, demo in enumerate(self.demos)))
        self._check_demos()
        if not self.student.target:
            self._set("student", dataclasses.replace(self.student, target=f"{{{self.target.name}}}"))
        self._check_templates()
        for key in ("test", "validation"):
            self._check_rows(key)
        for i, name in enumerate(self.metrics):
            if name in self.metrics[:i]:
                raise Misfit(f"metrics[{i}]", name, "each metric once")

    def _set(self, key: str, value: object) -> None:
        object.__setattr__(self, key, value)  # the class is frozen

    def _check_names(self) -> None:
        # Names must differ in more than case, since completions are parsed in any case.
        if not self.fields:
            raise Misfit("fields", [], "at least one field")
        names = [f.name.casefold() for f in self.fields]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise Misfit(f"fields[{i}].name", self.fields[i].name, "a name that no other field has, ignoring case")
        if self.target.name.casefold() in names:
            raise Misfit("target.name", self.target.name, "a name that no field has, ignoring case")

    def _check_labels(self) -> None:
        names: set[str] = set()
        for i, label in enumerate(self.labels):
            if label.name.casefold() in names:
                raise Misfit(f"labels[{i}].name", label.name, "a name that no other label has")
            names.add(label.name.casefold())
        if len(self.labels) == 1:
            raise Misfit("labels", [self.labels[0].name], "no labels, or two or more")
        if self.labels and self.target.multiline:
            raise Misfit("target.multiline", True, "no such key: labels are one line")
        if self.many:
            self.many.check(self.label_names)

    def _demo(self, demo: object, key: str) -> Sample:
        """Converts a demo to a sample, from a sample or a mapping with a key for each field and for the target."""
        if not isinstance(demo, Sample):
            names = [*(f.name for f in self.fields), self.target.name]
            if not isinstance(demo, Mapping):
                raise Misfit(key, demo, f"a mapping with the keys {', '.join(names)}")
            for name in names:
                text = demo.get(name)
                if self.many and name == self.target.name and name in demo:
                    continue  # a list, or text that may be empty
                if not isinstance(text, str) or not text.strip():
                    hint = "put it in quotes" if name in demo else "the key is missing"
                    raise Misfit(f"{key}.{name}", text, "text that is not empty", hint)
            for name in demo:
                if name not in names:
                    raise Misfit(f"{key}.{name}", demo[name], f"one of the keys {', '.join(names)}")
            demo = Sample({name: demo[name] for name in names[:-1]}, demo[self.target.name])
        return dataclasses.replace(demo, target=self._target(demo.target, f"{key}.{self.target.name}"))

    def _target(self, value: Any, key: str) -> str:
        if self.many is None:
            return composed(value) if self.labels else value
        try:
            return self.many.text(self.many.parse(value, self.label_names), self.label_names)
        except Misfit as e:
            raise Misfit(key, e.value, e.allowed, e.hint) from None

    def _check_demos(self) -> None:
        if not self.demos:
            raise Misfit("demos", [], "at least one demo (for labels: one of each)")
        names, allowed = {f.name for f in self.fields}, list(self.label_names)
        for i, demo in enumerate(self.demos):
            if set(demo.fields) != names:
                raise Misfit(f"demos[{i}]", sorted(demo.fields), f"the fields {sorted(names)}")
            for f in self.fields:
                text = demo.fields[f.name]
                if not f.min_chars <= len(text) <= f.max_chars:
                    limits = f"{f.min_chars} to {f.max_chars} characters, the task's own limits"
                    raise Misfit(f"demos[{i}].{f.name}", text, limits)
                if f.max_sentences and count_sentences(text) > f.max_sentences:
                    limits = f"at most {f.max_sentences} sentences, the task's own limit"
                    raise Misfit(f"demos[{i}].{f.name}", text, limits)
            for f in (*self.fields, self.target):
                if f.multiline is False and "\n" in (text := demo.fields.get(f.name, demo.target)):
                    raise Misfit(f"demos[{i}].{f.name}", text, f"one line, as multiline: false of {f.name} says")
            if allowed and self.labels_of(demo.target) is None:
                raise Misfit(f"demos[{i}].{self.target.name}", demo.target, f"one of {allowed}")
        demonstrated = {label for demo in self.demos for label in self.labels_of(demo.target) or ("",)}
        for label in allowed:
            if label not in demonstrated:
                raise Misfit("demos", f"no demo of {label!r}", "at least one demo of each label")
        if self.many and self.many.sizes[0] and "" not in demonstrated:
            hint = "or set many.sizes to a list that begins with 0, so that the generator is asked for none"
            raise Misfit("demos", "no demo without labels", "at least one demo without labels", hint)

    def _check_templates(self) -> None:
        for key, template, wanted in (
            ("student.input", self.student.input, {f.name for f in self.fields}),
            ("student.target", self.student.target, {self.target.name}),
        ):
            try:
                parts = list(string.Formatter().parse(template))
            except ValueError as e:
                raise Misfit(key, template, f"a template ({e})", "write {{ and }} for braces") from None
            if any(spec or conversion for _, _, spec, conversion in parts):
                raise Misfit(key, template, "plain {name} slots, without format or conversion")
            if {name for _, name, _, _ in parts if name is not None} != wanted:
                slots = ", ".join("{" + name + "}" for name in sorted(wanted))
                raise Misfit(key, template, f"each of {slots} and nothing else in braces")

    def _check_rows(self, key: str) -> None:
        rows: TestData = getattr(self, key)
        allowed = [*(f.name for f in self.fields), self.target.name]
        for name, column in rows.columns.items():
            if name not in allowed:
                raise Misfit(f"{key}.columns.{name}", column, f"one of the keys {', '.join(allowed)}")
        if self.labels:  # without labels any text is a target
            by_value = {value: composed(label) for value, label in rows.label_names.items()}
            for value, label in by_value.items():
                if label not in self.label_names:
                    raise Misfit(f"{key}.label_names.{value}", label, f"one of {list(self.label_names)}")
            self._set(key, dataclasses.replace(rows, label_names=by_value))

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in the task's order; empty for a sequence-to-sequence task."""
        return tuple(label.name for label in self.labels)

    def label(self, name: str) -> Label:
        """Returns the label of a name."""
        return next(label for label in self.labels if label.name == name)

    @property
    def one_label(self) -> bool:
        """Whether each row has exactly one of the labels."""
        return bool(self.labels) and self.many is None

    def labels_of(self, target: str) -> tuple[str, ...] | None:
        """Returns the labels of a target, in the task's order.

        Args:
            target: A target as samples have it.

        Returns:
            One label, or those of a set if rows have several; ``None`` if the target is no label or no set of them.
        """
        if self.many is None:
            return (target,) if target in self.label_names else None
        labels = self.many.read(target, self.label_names)
        return labels if labels is not None and self.many.text(labels, self.label_names) == target else None

    def cuts(self, text: Field) -> bool:
        """Returns whether a text that is too long is cut at its last whole sentence.

        Args:
            text: One of the fields, or the target.
        """
        if text.cut_at_sentence is not None:
            return text.cut_at_sentence
        # A text written before another one may have been read for it: cutting it would make a wrong pair.
        return bool(self.labels) and text == self.fields[-1] and not self.is_multiline(text)

    def is_multiline(self, text: Field) -> bool:
        """Returns whether a text may have line breaks.

        Args:
            text: One of the fields, or the target.
        """
        if text.multiline is not None:
            return text.multiline
        return any("\n" in demo.fields.get(text.name, demo.target) for demo in self.demos)

    def student_input(self, sample: Sample) -> str:
        """Returns the student's input for a sample."""
        return self.student.input.format_map(dict(sample.fields))

    def student_target(self, target: str) -> str:
        """Returns the student's output for a target."""
        return self.student.target.format_map({self.target.name: target})

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for fingerprints, without ``source``, since a task stays the same if its file moves."""
        data = dataclasses.asdict(self)
        del data["source"]
        # Fingerprints from before allow_refusals, many and optional keys of fields were introduced stay valid.
        if not self.allow_refusals:
            del data["allow_refusals"]
        if self.many is None:
            del data["many"]
        return data | self._texts()

    def _texts(self) -> dict[str, Any]:
        """Returns the keys of fields and target that are set."""

        def keys(text: Field) -> dict[str, Any]:
            return {key: value for key, value in dataclasses.asdict(text).items() if value is not None}

        return {"fields": tuple(map(keys, self.fields)), "target": keys(self.target)}


if TYPE_CHECKING:
    TaskSource = str | Task
    """A task, the path of a task file, or the name of a shipped task."""
else:  # on the command line a task has one setting, its path, instead of one for each attribute
    TaskSource = str


@functools.lru_cache(maxsize=16)  # one start reads its task six times
def _load(path: Path, name: str, *_: int) -> Task:
    with prefix_errors_with(name):
        return Task.from_document(load_yaml(path, name), str(path))


@contextmanager
def prefix_errors_with(source: str) -> Iterator[None]:
    """Prefixes the key of a :class:`ConfigError` raised inside the block with a task's source, if it has one."""
    try:
        yield
    except ConfigError as e:
        raise ConfigError(f"{source}: {e.key}" if source else e.key, e.value, e.allowed, e.hint) from None


def task_schema() -> dict[str, Any]:
    """Returns the JSON schema of task files, for editors. Its descriptions come from the docstrings of the classes."""
    from docstring_parser import parse_from_object

    schema: dict[str, Any] = TypeAdapter(Task).json_schema()
    del schema["properties"]["source"]
    schema["properties"]["many"]["anyOf"].insert(0, {"type": "boolean"})
    for part in (schema, *schema["$defs"].values()):
        docs = parse_from_object(globals()[part["title"]])
        part["description"] = docs.short_description
        for argument in docs.params:
            if values := part["properties"].get(argument.arg_name):
                text = re.sub(r":\w+:(?=`)|`(?=`)", "", argument.description or "")  # Sphinx's markup
                values["description"] = " ".join(text.split())
                values.pop("title", None)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "gold_lightning task"
    return schema
