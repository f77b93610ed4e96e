r"""The wire format between samples and text, both ways, and the prompts made of it.

A sample is a block of lines ``name: value``. Backslash, line breaks, spaces at the ends and quotes around
a value are escaped (``\\``, ``\n``, ``\r``, ``\x20``-like, ``\"``), so ``parse(render(sample))`` returns
the sample for any text in it, and a block never contains an empty line. For a task with labels the target
comes first: the prompt contains it and the generator continues with the text, which keeps wrong labels rare;
without labels the target comes last.
"""

from __future__ import annotations

import functools
import json
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gold_lightning.generators.base import Request
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
from gold_lightning.task import Field, Sample, Task

__all__ = [
    "Hint",
    "escape",
    "fields_block",
    "label_line",
    "parse",
    "probe_request",
    "read_sample",
    "read_target",
    "render",
    "training_request",
    "unescape",
]

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_ESCAPED = re.compile(r"[\\\n\r]")
_ESCAPED_BREAK, _QUOTED = re.compile(r"\\n"), re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
_UNESCAPE = re.compile(r"\\(\\|n|r|\"|u[0-9a-fA-F]{4})")


def _names(task: Task) -> list[str]:
    """Returns the names of a block's lines, in wire order."""
    fields = [f.name for f in task.fields]
    return [task.target.name, *fields] if task.labels else [*fields, task.target.name]


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
    return "\n".join(f"{name}: {escape(values[name])}" for name in _names(task)[:upto])


def parse(text: str, task: Task, answer: str = "") -> dict[str, str]:
    """Reads a completion, tolerantly; never fails.

    Takes a block of lines ``name: value`` (any case, with or without list markers, Markdown or tags), or a JSON
    object, from among the text that models write around it. A line without a name continues the value before it;
    an empty line or a repeated name ends the block.

    Args:
        text: The completion.
        task: The task.
        answer: The beginning of the block in the prompt, which the completion continues. A JSON object, complete or
            not, and a block that repeats lines of the answer are read alone.

    Returns:
        The values by name of field and target, in wire order, without those not found.
    """
    names = _names(task)
    located = find_sample(text, names, answer, prompt=_demo_texts(task))
    broken = _broken_names(task)
    if located.form == "rest":
        # With a space, since marks right after a colon belong to the name: "**text:** .." but not "text: **..**".
        return _lines(f"{answer} {located.text}" if answer else located.text, names, broken)
    values = _lines(located.text, names, broken) if located.form == "block" else _members(located.values, task)
    if values:  # a complete sample may leave out lines of the answer
        begun = {name: value for name, value in _lines(answer, names).items() if value}
        values = {name: values.get(name, begun.get(name, "")) for name in names if name in values or name in begun}
    return values


def read_sample(text: str, task: Task, answer: str = "") -> tuple[dict[str, str], str]:
    """Reads a completion as :func:`parse` does, without thinking, special tokens and wrappers of values.

    Args:
        text: The completion.
        task: The task.
        answer: The beginning of the block in the prompt, which the completion continues.

    Returns:
        The values as :func:`parse` returns them, and the reason to reject them: ``only_thinking``, ``talk`` (about the
        task, or a next turn within a text), ``refusal`` (unless the task allows refusals), ``not_unicode`` (a value
        contains a replacement of a lost character), or "".
    """
    names = _names(task)
    reply = read_reply(text, answer=answer, names=names, prompt=_demo_texts(task))
    if reply.reason:
        return {}, reply.reason
    values = parse(reply.text, task, answer)
    damaged = False
    described = {f.name: f.description for f in (*task.fields, task.target)}
    begun = _lines(answer, names)
    labels = [target] if task.labels and task.labels_of(target := begun.get(task.target.name, "")) is not None else []
    for name, value in values.items():
        seen, lost = clean_characters(value)
        damaged |= lost
        demos = tuple(_value(demo, name) for demo in task.demos)
        values[name] = bare_value(seen, name, demos)
        if task.labels and name == task.target.name:
            continue
        values[name] = unwrapped(values[name], names, labels, demos=demos)
        values[name] = without_mail_headers(values[name], demos)
        values[name] = without_prefix(values[name], names, labels, demos=demos, name=name, vocabulary=_vocabulary(task))
        usual = demo_traits(demos, tuple(names), tuple(labels))
        spoken = [value for value in (values[name], reply.text) if value]
        if not usual.plan and any(is_plan(value, names) for value in spoken):
            return values, "only_thinking"
        if not usual.about_task and speaks_of_task(values[name], names, labels):
            return values, "talk"
        if not usual.talk and any(is_talk(value, names) for value in spoken):
            return values, "talk"
        if not usual.next_turn and has_next_turn(values[name]):
            return values, "talk"
        unfilled = is_placeholder(values[name], names) or values[name].casefold() == described[name].casefold()
        if unfilled and not usual.placeholder:
            values[name] = ""
    written = [reply.text, *(value for name, value in values.items() if name != task.target.name or not task.labels)]
    if any(is_refusal(value) for value in written) and not _allows_refusals(task):
        return values, "refusal"
    if task.labels and (label := read_target(values.get(task.target.name, ""), task)):
        values[task.target.name] = label
    return values, "not_unicode" if damaged else ""


def _demo_texts(task: Task) -> str:
    """Writes all demos as prompts do; their markup is a regular part of the task's texts."""
    names = tuple(_names(task))
    return _join_demos(names, tuple(tuple(_value(demo, name) for name in names) for demo in task.demos))


@functools.lru_cache(maxsize=64)
def _join_demos(names: tuple[str, ...], demos: tuple[tuple[str, ...], ...]) -> str:
    return "\n".join(f"{name}: {escape(value)}" for demo in demos for name, value in zip(names, demo, strict=True))


def _vocabulary(task: Task) -> frozenset[str]:
    """Returns the stems of the words that describe the task's texts."""
    return _stems((task.description, *(part.description for part in (*task.fields, task.target)), *task.label_names))


_stems = functools.lru_cache(maxsize=64)(stems)


def _value(sample: Sample, name: str) -> str:
    return sample.fields.get(name, sample.target)


def _allows_refusals(task: Task) -> bool:
    # Samples may resemble demos, so a demo that is a refusal allows refusals.
    return task.allow_refusals or any(is_refusal(text) for demo in task.demos for text in demo.fields.values())


def read_target(text: str, task: Task) -> str:
    """Returns the label or set of labels that a text names, ignoring case and marks; "" if there is none."""
    if task.many:
        labels = task.many.read(text, task.label_names)
        return "" if labels is None else task.many.text(labels, task.label_names)
    plain = text.strip(" *_`\"'“”.").casefold()
    return next((name for name in task.label_names if plain == name.casefold()), "")


def _broken_names(task: Task) -> set[str]:
    """Returns the names of texts that may have line breaks."""
    return {text.name for text in (*task.fields, task.target) if task.is_multiline(text)}


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
    for name in _names(task):
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


@dataclass(frozen=True)
class Hint:
    """Topic, perspective and style that a prompt requests, so that samples differ. Empty parts are left out."""

    topic: str = ""
    perspective: str = ""
    style: str = ""

    def sentence(self) -> str:
        """Returns the hint in words."""
        parts = []
        if self.topic:
            parts.append(f"about {self.topic}")
        if self.perspective:
            parts.append(f"from the point of view of {self.perspective}")
        if self.style:
            parts.append(f"in the style of {self.style}")
        return " It is " + ", ".join(parts) + "." if parts else ""


def _describe(task: Task, label: str | None) -> str:
    """Returns the part of the instruction that all requests of one label share."""
    lines = [_describe_text(f) for f in task.fields]
    if label is None:
        lines.append(_describe_text(task.target))
        return "Each sample has these lines:\n" + "\n".join(lines) + "\n"
    intro = "Each sample has this line:\n" if len(lines) == 1 else "Each sample has these lines:\n"
    intro += "\n".join(lines)
    if task.many:
        return f"{intro}\n\n{_describe_set(task, task.labels_of(label) or ())}"
    return intro + f"\n\nAll samples have the {task.target.name} {label_line(task, label)}.\n"


def _describe_text(text: Field) -> str:
    form = " (write line breaks within it as \\n)" if text.multiline else ""
    return f"{text.name}: {text.description}{form}"


def _describe_set(task: Task, labels: Sequence[str]) -> str:
    assert task.many is not None
    name, target = task.target.name, task.many.text(labels, task.label_names)
    others = [label_line(task, label) for label in task.label_names if label not in labels]
    if not labels:
        return f"The new sample has the {name} {target}: none of these fits it.\n" + "\n".join(others) + "\n"
    described = "\n".join(label_line(task, label) for label in labels)
    whole = "this" if len(labels) == 1 else "all of these at once"
    return f"The new sample has the {name} {target}: {whole}, and no other.\n{described}\n"


def label_line(task: Task, label: str) -> str:
    """Returns a label with its meaning, if it has one."""
    meaning = task.label(label).meaning
    return f"{label}: {meaning}" if meaning else label


def _blocks(samples: Sequence[Sample], task: Task) -> str:
    return "\n\n".join(render(s, task) for s in samples)


def _of(task: Task, label: str | None) -> str:
    return "" if label is None else f" with the {task.target.name} {label}"


def _request(task: Task, label: str | None, prefix: str, suffix: str, seed: int) -> Request:
    names = _names(task)
    answer, rest = f"{names[0]}:", names[1:]
    if label is not None:
        answer, rest = f"{names[0]}: {label}\n{rest[0]}:", rest[1:]
    # Models break the lines of a text that has some in the demos, escaped or not: no engine may end that one there.
    broken = _broken_names(task)
    begun = [name for name in rest if broken.isdisjoint(names[: names.index(name)])]
    stop = ("\n\n",) if rest else ("\n",)
    # The next sample ends a text of several lines. A task without the key keeps its requests, and so its completions.
    declared = any(text.multiline for text in (*task.fields, task.target))
    if declared or (answer.endswith(f"{names[-1]}:") and names[-1] in broken):
        stop = (f"\n\n{names[0]}:",)
    return Request(
        system=f"You write realistic samples for a data set. {task.description}",
        prefix=prefix,
        suffix=suffix,
        answer_prefix=answer,
        seed=seed,
        max_tokens=task.max_sample_tokens,
        stop=stop,
        line_prefixes=tuple(f"{name}:" for name in begun),
        open_end=bool(begun) and begun[-1] in broken,
        schema=_schema(task, label),
    )


def _schema(task: Task, label: str | None) -> str:
    """Returns the JSON schema of a sample, which :func:`parse` reads like a block."""
    kinds: dict[str, dict[str, object]] = {name: {"type": "string"} for name in _names(task)}
    if label is not None:
        kinds[task.target.name]["enum"] = [label]
    whole = {"type": "object", "properties": kinds, "required": [*kinds], "additionalProperties": False}
    return json.dumps(whole, ensure_ascii=False)


def _ordered(description: str, examples: str, instruction: Literal["first", "last"]) -> str:
    return f"{description}\n{examples}" if instruction == "first" else f"{examples}{description}\n"


def training_request(
    task: Task,
    label: str | None,
    demos: Sequence[Sample],
    hint: Hint,
    seed: int,
    instruction: Literal["first", "last"] = "first",
    manner: Mapping[str, str] | None = None,
) -> Request:
    """Asks for one training sample.

    Args:
        task: The task.
        label: The wanted label; ``None`` for a sequence-to-sequence task.
        demos: Demos in the prompt, of the wanted label alone unless the task is about contrast.
        hint: Topic, perspective and style of this request.
        seed: Seed of the request.
        instruction: Whether the description precedes or follows the demos.
        manner: Fields of a real text, shown without a target, whose manner the sample is written in; ``None`` for no
            such text.
    """
    examples = f"Examples:\n\n{_blocks(demos, task)}\n\n" if demos else ""
    prefix = _ordered(_describe(task, label), examples, instruction)
    suffix = f"Write one new sample{_of(task, label)}.{hint.sentence()}"
    if manner is not None:
        suffix = (
            f"Here is a text by another writer:\n\n{fields_block(manner)}\n\n"
            f"Write one new sample{_of(task, label)} in the manner of this text, with other content.{hint.sentence()}"
        )
    return _request(task, label, prefix, suffix, seed)


def probe_request(
    task: Task,
    label: str | None,
    demos: Sequence[Sample],
    contrast: Sequence[Sample],
    hint: Hint,
    seed: int,
    instruction: Literal["first", "last"] = "first",
) -> Request:
    """Asks for one probe sample, which differs from the round's training samples.

    Args:
        task: The task.
        label: The wanted label; ``None`` for a sequence-to-sequence task.
        demos: Seed demos, for the form.
        contrast: Training samples of this round, from which the probe sample must differ.
        hint: Topic, perspective and style of this request.
        seed: Seed of the request.
        instruction: Whether the description precedes or follows the demos.
    """
    examples = f"Examples:\n\n{_blocks(demos, task)}\n\n"
    if contrast:
        examples += f"These exist already:\n\n{_blocks(contrast, task)}\n\n"
    prefix = _ordered(_describe(task, label), examples, instruction)
    suffix = (
        f"Write one new sample{_of(task, label)} that is very different from all of these: "
        f"another subject, another point of view, another writer.{hint.sentence()}"
    )
    return _request(task, label, prefix, suffix, seed)


def fields_block(fields: Mapping[str, str]) -> str:
    """Writes the fields of a sample as a block of lines, without its target."""
    return "\n".join(f"{name}: {escape(value)}" for name, value in fields.items())
