"""Questions about a row to the generator: how likely each label is, or what the target is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gold_lightning.generators.base import Request
from gold_lightning.prompts import label_line
from gold_lightning.task import Sample, Task
from gold_lightning.wire import escape, fields_block, read_target, unescape

__all__ = ["agreement_request", "answer_request", "label_question", "read_answer"]


def agreement_request(task: Task, fields: Mapping[str, str], demos: Sequence[Sample]) -> Request:
    """Asks for the likelihood of each label, given the fields of a sample.

    The fields come first and the label last, in any wire order. As a conversation, each demo is a turn of its own.
    """
    labels = "\n".join(label_line(task, label) for label in task.label_names)
    name = task.target.name
    system = f"You say which {name} fits. {task.description}"
    options = f"The {name} is one of:\n{labels}"
    messages = [("system", f"{system}\n\n{options}")]
    for demo in demos:
        messages += [("user", fields_block(demo.fields)), ("assistant", f"{name}: {escape(demo.target)}")]
    return Request(
        system=system,
        prefix=f"{options}\n\n{_answered(demos, task)}",
        suffix=f"Which {name} fits here?\n\n{fields_block(fields)}",
        answer_prefix=f"{name}:",
        choices=tuple(f" {label}" for label in task.label_names),
        messages=(*messages, ("user", fields_block(fields))),
    )


def label_question(
    task: Task, label: str, fields: Mapping[str, str], fitting: Sequence[Sample], others: Sequence[Sample]
) -> Request:
    """Asks whether a label fits the fields of a row, for the likelihoods of yes and no.

    Args:
        task: The task.
        label: The label.
        fields: The fields of the row.
        fitting: Demos that the label fits.
        others: Demos that it does not fit.
    """
    system = f"You say whether a {task.target.name} fits. {task.description}"
    options = f"Does this {task.target.name} fit, yes or no?\n{label_line(task, label)}"
    answers = [(d, "yes") for d in fitting] + [(d, "no") for d in others]
    answers = answers[::2] + answers[1::2]  # both in turn
    turns = [(fields_block(demo.fields), f"{label}: {answer}") for demo, answer in answers]
    examples = "Examples:\n\n" + "".join(f"{text}\n{answer}\n\n" for text, answer in turns) if turns else ""
    messages = [("system", f"{system}\n\n{options}")]
    for text, answer in turns:
        messages += [("user", text), ("assistant", answer)]
    return Request(
        system=system,
        prefix=f"{options}\n\n{examples}",
        suffix=fields_block(fields),
        answer_prefix=f"{label}:",
        choices=(" yes", " no"),
        messages=(*messages, ("user", fields_block(fields))),
    )


def answer_request(task: Task, fields: Mapping[str, str], demos: Sequence[Sample] = ()) -> Request:
    """Asks for the target of a row: for the likelihood of each label, or for text, decoded greedily.

    If rows have several labels, it asks for the text of a set: its likelihood can be compared with that of no few other
    sets, and labels asked about one by one would take a request each.

    Args:
        task: The task.
        fields: The fields of the row.
        demos: Demos in the prompt; none for zero-shot.
    """
    if task.one_label:
        return agreement_request(task, fields, demos)
    name, described = task.target.name, f"The {task.target.name} is {task.target.description}."
    if task.many:
        labels = "\n".join(label_line(task, label) for label in task.label_names)
        between = task.many.separator.join(("LABEL", "LABEL"))
        described += f" Write those of these labels that fit, as {between}, or {task.many.none}:\n{labels}"
    # Demos show targets on one line; without demos a model writes a target of several lines with its line breaks.
    lines = not demos and any("\n" in demo.target for demo in task.demos)
    return Request(
        system=f"You give the {name}. {task.description}",
        prefix=f"{described}\n\n{_answered(demos, task)}",
        suffix=f"What is the {name} here?\n\n{fields_block(fields)}",
        answer_prefix=f"{name}:",
        max_tokens=task.student.max_target_tokens,
        stop=(f"\n\n{task.fields[0].name}:",) if task.target.multiline else ("\n\n",) if lines else ("\n",),
        greedy=True,
    )


def read_answer(text: str, task: Task | None = None) -> str:
    """Returns the target in the completion of an :func:`answer_request`.

    Args:
        text: The completion.
        task: The task, if its rows have several labels: these are read in any order and case.
    """
    target = unescape(text)
    return (read_target(target, task) if task is not None and task.many else "") or target


def _answered(demos: Sequence[Sample], task: Task) -> str:
    """Writes demos with their fields first and their target last."""
    turned = [f"{fields_block(d.fields)}\n{task.target.name}: {escape(d.target)}" for d in demos]
    return "Examples:\n\n" + "\n\n".join(turned) + "\n\n" if demos else ""
