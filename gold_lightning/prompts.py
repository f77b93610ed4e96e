"""The requests that ask a generator for samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gold_lightning.generators.base import Request
from gold_lightning.task import Field, Sample, Task
from gold_lightning.wire import broken_names, fields_block, line_names, render

__all__ = ["Hint", "label_line", "probe_request", "training_request"]


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
    names = line_names(task)
    answer, rest = f"{names[0]}:", names[1:]
    if label is not None:
        answer, rest = f"{names[0]}: {label}\n{rest[0]}:", rest[1:]
    # Models break the lines of a text that has some in the demos, escaped or not: no engine may end that one there.
    broken = broken_names(task)
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
    """Returns the JSON schema of a sample, which a sample reader reads like a block."""
    kinds: dict[str, dict[str, object]] = {name: {"type": "string"} for name in line_names(task)}
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
