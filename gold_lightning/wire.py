r"""The wire format between samples and text, both ways.

A sample is a block of lines ``name: value``. Backslash, line breaks, spaces at the ends and quotes around
a value are escaped (``\\``, ``\n``, ``\r``, ``\x20``-like, ``\"``), so a :class:`SampleReader` returns the
sample that :func:`render` wrote for any text in it, and a block never contains an empty line. For a task with labels
the target comes first: the prompt contains it and the generator continues with the text, which keeps wrong labels rare;
without labels the target comes last.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from gold_lightning.parsing import clean_characters, is_refusal, read_reply
from gold_lightning.parsing.blocks import find_sample, head, member
from gold_lightning.parsing.demo_traits import demo_traits
from gold_lightning.parsing.framing import bare_value
from gold_lightning.parsing.mail import without_mail_headers
from gold_lightning.parsing.special import has_next_turn
from gold_lightning.parsing.talk import is_placeholder, is_plan, is_talk
from gold_lightning.parsing.task_talk import speaks_of_task
from gold_lightning.parsing.text_names import stems
from gold_lightning.parsing.wrappers import unwrapped, without_prefix
from gold_lightning.task import Sample, Task

__all__ = [
    "SampleReader",
    "broken_names",
    "escape",
    "fields_block",
    "line_names",
    "read_target",
    "render",
    "unescape",
]

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_ESCAPED = re.compile(r"[\\\n\r]")
_ESCAPED_BREAK, _QUOTED = re.compile(r"\\n"), re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
_UNESCAPE = re.compile(r"\\(\\|n|r|\"|u[0-9a-fA-F]{4})")


def line_names(task: Task) -> tuple[str, ...]:
    """Returns the names of a block's lines, in wire order."""
    fields = tuple(f.name for f in task.fields)
    return (task.target.name, *fields) if task.labels else (*fields, task.target.name)


def escape(value: str) -> str:
    """Writes a value on one line, so that :func:`unescape` returns it."""
    value = _ESCAPED.sub(lambda m: _ESCAPES[m[0]], value)
    # Spaces at the ends are code points, so that neither stripping nor a model's own spacing can touch them.
    inside = value.strip()
    start = len(value) - len(value.lstrip()) if inside else len(value)
    value = _code_points(value[:start]) + inside + _code_points(value[start + len(inside) :])
    return "\\" + value if len(value) > 1 and value[0] == value[-1] == '"' else value


def _code_points(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


def unescape(value: str) -> str:
    """Reads a value of one line."""

    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] == "u":
            return chr(int(code[1:], 16))
        return {"n": "\n", "r": "\r"}.get(code, code)

    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"' and _is_whole_quote(value[1:-1]):
        value = value[1:-1].strip()
    return _UNESCAPE.sub(one, value)


def _is_whole_quote(inside: str) -> bool:
    """Returns whether the quotes around a text form one pair, unlike those of ``"Yes" or "no"``."""
    plain = inside.replace('\\"', "")
    return '"' not in plain or plain.startswith('"') or plain.endswith('"')


def render(sample: Sample, task: Task, *, upto: int | None = None) -> str:
    """Writes a sample as a block of lines.

    Args:
        sample: The sample.
        task: Its task.
        upto: Number of lines to write; all by default.
    """
    values = {**sample.fields, task.target.name: sample.target}
    return "\n".join(f"{name}: {escape(values[name])}" for name in line_names(task)[:upto])


def fields_block(fields: Mapping[str, str]) -> str:
    """Writes the fields of a sample as a block of lines, without its target."""
    return "\n".join(f"{name}: {escape(value)}" for name, value in fields.items())


def read_target(text: str, task: Task) -> str:
    """Returns the label or set of labels that a text names, ignoring case and marks; "" if there is none."""
    if task.many:
        labels = task.many.read(text, task.label_names)
        return "" if labels is None else task.many.text(labels, task.label_names)
    plain = text.strip(" *_`\"'“”.").casefold()
    return next((name for name in task.label_names if plain == name.casefold()), "")


def broken_names(task: Task) -> set[str]:
    """Returns the names of texts that may have line breaks."""
    return {text.name for text in (*task.fields, task.target) if task.is_multiline(text)}


class SampleReader:
    r"""Reads completions of one task, tolerantly.

    Args:
        task: The task.

    Example:
        >>> from gold_lightning.task import Task
        >>> reader = SampleReader(Task.load("news_topics"))
        >>> reader.read(" **The team won again.**", "topic: Sports\ntext:")
        ({'topic': 'Sports', 'text': 'The team won again.'}, '')
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.names = line_names(task)
        texts = (*task.fields, task.target)
        self._demos = {name: tuple(_value(demo, name) for demo in task.demos) for name in self.names}
        # As prompts show them: their markup is a regular part of the task's texts.
        self._prompt = "\n".join(f"{name}: {escape(_value(demo, name))}" for demo in task.demos for name in self.names)
        self._described = {text.name: text.description.casefold() for text in texts}
        self._vocabulary = stems((task.description, *(text.description for text in texts), *task.label_names))
        self._broken = broken_names(task)

    @cached_property
    def _refusals_allowed(self) -> bool:
        # Samples may resemble demos, so a demo that is a refusal allows refusals.
        fields = (text for demo in self.task.demos for text in demo.fields.values())
        return self.task.allow_refusals or any(map(is_refusal, fields))

    def parse(self, text: str, answer: str = "") -> dict[str, str]:
        """Reads a completion; never fails.

        Takes a block of lines ``name: value`` (any case, with or without list markers, Markdown or tags), or a JSON
        object, from among the text that models write around it. A line without a name continues the value before it;
        an empty line or a repeated name ends the block.

        Args:
            text: The completion.
            answer: The beginning of the block in the prompt, which the completion continues. A JSON object, complete or
                not, and a block that repeats lines of the answer are read alone.

        Returns:
            The values by name of field and target, in wire order, without those not found.
        """
        names = self.names
        located = find_sample(text, names, answer, fresh=False, prompt=self._prompt)
        if located.form == "rest":
            # With a space, since marks right after a colon belong to the name: "**text:** .." but not "text: **..**".
            return _lines(f"{answer} {located.text}" if answer else located.text, names, self._broken)
        is_block = located.form == "block"
        values = _lines(located.text, names, self._broken) if is_block else _members(located.values, self.task)
        if values:  # a complete sample may leave out lines of the answer
            begun = {name: value for name, value in _lines(answer, names).items() if value}
            values = {name: values.get(name, begun.get(name, "")) for name in names if name in values or name in begun}
        return values

    def read(self, text: str, answer: str = "") -> tuple[dict[str, str], str]:
        """Reads a completion as :meth:`parse` does, without thinking, special tokens and wrappers of values.

        Args:
            text: The completion.
            answer: The beginning of the block in the prompt, which the completion continues.

        Returns:
            The values as :meth:`parse` returns them, and the reason to reject them: ``only_thinking``, ``talk`` (about
            the task, or a next turn within a text), ``refusal`` (unless the task allows refusals), ``not_unicode`` (a
            value contains a replacement of a lost character), or "".
        """
        task, names = self.task, self.names
        reply = read_reply(text, answer=answer, names=names, prompt=self._prompt)
        if reply.reason:
            return {}, reply.reason
        values = self.parse(reply.text, answer)
        damaged, target = False, _lines(answer, names).get(task.target.name, "")
        labels = [target] if task.labels and task.labels_of(target) is not None else []
        for name, value in values.items():
            seen, lost = clean_characters(value)
            damaged |= lost
            values[name] = bare_value(seen, name, self._demos[name])
            if task.labels and name == task.target.name:
                continue
            values[name], reason = self._text(values[name], name, reply.text, labels)
            if reason:
                return values, reason
        texts = [value for name, value in values.items() if name != task.target.name or not task.labels]
        # A completion of one text is that text, but for the spaces around it.
        if any(map(is_refusal, {written.strip() for written in (reply.text, *texts)})) and not self._refusals_allowed:
            return values, "refusal"
        if task.labels and (label := read_target(values.get(task.target.name, ""), task)):
            values[task.target.name] = label
        return values, "not_unicode" if damaged else ""

    def _text(self, value: str, name: str, reply: str, labels: Sequence[str]) -> tuple[str, str]:
        """Returns a text without its wrappers, and the reason to reject the reply that it is from."""
        names, demos = self.names, self._demos[name]
        value = without_mail_headers(unwrapped(value, names, labels, demos=demos), demos)
        value = without_prefix(value, names, labels, demos=demos, name=name, vocabulary=self._vocabulary)
        usual = demo_traits(demos, names, tuple(labels))
        spoken = {written.strip() for written in (value, reply)} - {""}
        if not usual.plan and any(is_plan(written, names) for written in spoken):
            return value, "only_thinking"
        if not usual.about_task and speaks_of_task(value, names, labels):
            return value, "talk"
        if not usual.talk and any(is_talk(written, names) for written in spoken):
            return value, "talk"
        if not usual.next_turn and has_next_turn(value):
            return value, "talk"
        if not usual.placeholder and (is_placeholder(value, names) or value.casefold() == self._described[name]):
            return "", ""
        return value, ""


def _value(sample: Sample, name: str) -> str:
    return sample.fields.get(name, sample.target)


def _lines(text: str, names: Sequence[str], broken: Collection[str] = ()) -> dict[str, str]:
    """Reads the values of a block of lines; those of the broken names go on over further lines, also empty ones."""
    values: dict[str, list[str]] = {}
    last = ""
    # Only "\n" separates lines: str.splitlines would also break at characters that may stand in a text.
    lines = iter(text.split("\n"))
    for line in lines:
        gap = not line.strip()
        if gap and last not in broken:  # models that write Markdown put empty lines between the lines
            line = next((later for later in lines if later.strip()), "")
        line_head = head(line, names)
        if gap and last in broken and line_head is None and _ESCAPED_BREAK.search(" ".join(values[last])):
            break  # a model that writes its line breaks as escapes leaves no line empty within a text
        if gap and last and last not in broken and (line_head is None or line_head[0] in values) and any(values[last]):
            break
        if line_head:
            last = line_head[0]
            if last in values:
                break
            values[last] = [line_head[1].strip()]
        elif last:
            values[last].append(line.rstrip() if last in broken else line.strip())  # joined once: there may be many
    return {name: _value_of(values[name], name in broken) for name in names if name in values}


def _value_of(lines: Sequence[str], multiline: bool) -> str:
    """Returns the value that stands on some lines, the first of them behind its name."""
    if not multiline:
        return unescape(" ".join(lines))
    text = "\n".join([lines[0], textwrap.dedent("\n".join(lines[1:]))] if not lines[0] else lines).strip("\n")
    # A model that breaks lines does not write them as escapes, and those in quotes belong to the text, as in code.
    as_written = "\n" in text and not _ESCAPED_BREAK.search(_QUOTED.sub("", text))
    return text.strip() if as_written else unescape(text)


def _members(values: Mapping[str, Any], task: Task) -> dict[str, str]:
    """Reads the values of a JSON object."""
    texts: dict[str, str] = {}
    for name in line_names(task):
        value = member(values, name)
        if isinstance(value, str):
            texts[name] = value.strip()
        elif isinstance(value, bool | int | float):
            texts[name] = json.dumps(value)
        elif isinstance(value, list) and task.many and name == task.target.name:
            texts[name] = task.many.separator.join(map(str, value)) or task.many.none
        elif isinstance(value, dict | list) and any(_value(d, name).startswith(("{", "[")) for d in task.demos):
            texts[name] = json.dumps(value, ensure_ascii=False)  # a target that is JSON, written as such
    return texts
