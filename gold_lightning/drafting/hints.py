"""Drafts hints: subjects by which samples differ, from the generator or from real texts."""

from __future__ import annotations

from collections.abc import Sequence

from gold_lightning.drafting.asking import Asker
from gold_lightning.drafting.document import Part
from gold_lightning.drafting.lines import Line, Rule, is_list, items, phrase
from gold_lightning.drafting.real_texts import RealTexts, shown
from gold_lightning.task import Task

__all__ = ["draft_hints"]

_SUBJECTS = 24  # real texts whose subject is asked for
_MOST = 16  # subjects of a label


def draft_hints(
    asker: Asker, sentence: str, task: Task, labels: Sequence[str], real: RealTexts | None
) -> dict[str, list[str]]:
    """Drafts subjects, of labels or of the whole task.

    Args:
        asker: Asks the generator.
        sentence: The task in one sentence.
        task: The task.
        labels: Names of the labels that need subjects; "" for the whole task.
        real: Real texts, whose subjects are taken if enough are found.

    Returns:
        Subjects by label, without those labels for which no answer was good.
    """
    subjects_of = _real_subjects(asker, task, labels, real) if real else {}
    rules = [is_list(3, 40, 8)]
    lines = []
    for label in labels:
        if label in subjects_of:
            continue
        meaning = task.label(label).meaning if label else ""
        context = {"task": sentence, "label": label, "meaning": meaning}
        key = f"labels[{task.label_names.index(label)}].hints" if label else "hints.topics"
        context = {name: value for name, value in context.items() if value}
        lines.append(Line(key, "subjects", context, [*rules, _not_only(task.label_names)], shown(real, asker.seed)))
    for line, text in zip(lines, asker.ask(lines), strict=True):
        if text is not None:
            names = {name.casefold() for name in task.label_names}
            subjects = [item for item in items(text) if item.casefold() not in names][:_MOST]
            shared = [
                label for label, others in subjects_of.items() if 2 * len({*subjects} & {*others}) > len(subjects)
            ]
            subjects_of[line.context.get("label", "")] = subjects
            if shared:
                asker.notes[line.key] = f"LOOK: most of these are subjects of {shared[0]} too"
            elif real:
                asker.notes[line.key] = "not from your texts: too few of them seem to have this label"
    return subjects_of


def _real_subjects(asker: Asker, task: Task, labels: Sequence[str], real: RealTexts) -> dict[str, list[str]]:
    """Subjects of real texts, by the label that the generator finds likeliest."""
    rows = real.sample(_SUBJECTS if labels == [""] else max(_SUBJECTS, 6 * len(labels)), asker.seed)
    lines = [
        Line(f"the subject of text {i}", "subject", {"text": " ".join(row.values())}, [phrase("", 1, 8)])
        for i, row in enumerate(rows)
    ]
    parts = list(asker.parts)
    subjects = asker.ask(lines, tries=1)
    asker.parts = parts  # a text without a subject is no part of the task
    good = [(row, text.strip(" .")) for row, text in zip(rows, subjects, strict=True) if text]
    chosen = asker.likeliest(task, [row for row, _ in good]) if labels != [""] else [""] * len(good)
    subjects_of: dict[str, list[str]] = {}
    seen: set[str] = set()
    for (_, subject), label in zip(good, chosen, strict=True):
        if label in labels and subject.casefold() not in seen:
            subjects_of.setdefault(label, []).append(subject)
            seen.add(subject.casefold())
    subjects_of = {label: hints for label, hints in subjects_of.items() if len(hints) >= 3}
    for label in subjects_of:
        key = f"labels[{task.label_names.index(label)}].hints" if label else "hints.topics"
        asker.parts.append(Part(key))
        asker.notes[key] = "subjects of your texts" + (", by the generator's guess at their label" if label else "")
    return subjects_of


def _not_only(names: Sequence[str]) -> Rule:
    """The rule of a list that holds more than the labels' names."""
    known = {name.casefold() for name in names}
    return lambda text: "" if sum(item.casefold() not in known for item in items(text)) >= 3 else "too_few"
