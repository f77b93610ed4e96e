"""Warnings about a plan before anything is generated: labels without samples, feedback without effect."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gold_lightning.feedback import STRATEGIES, FeedbackSettings
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.scores import band_ranks
from gold_lightning.task import Task

__all__ = [
    "labels_without_hints",
    "lines_in_demos",
    "lines_in_rows",
    "listed",
    "plan_warnings",
    "reasons_not_fed_back",
]

_EMPTY_LINE = re.compile(r"\n[ \t\r]*\n")
_PRIOR_YIELD = 0.7  # assumed by the first batch of a round
_MAX_LISTED_LABELS = 5


def plan_warnings(
    task: Task, plan: SynthesisPlan, feedback: FeedbackSettings, max_rounds: int, texts: int | None = None
) -> list[str]:
    """Warns of settings that will have no effect in a run, and of demos of which samples would be a part.

    There are no warnings about feedback that is turned off (``rate: 0``, ``strategy: none``).

    Args:
        task: The task.
        plan: Quotas and composition of prompts.
        feedback: Settings of the feedback.
        max_rounds: Largest number of rounds of the run; negative if there is no limit.
        texts: Number of real texts that probe sets are drawn from; ``None`` for generated probe sets.

    Returns:
        One line for each warning.
    """
    if max_rounds == 0:
        return []
    lines = [*lines_in_demos(task), *_labels_without_samples(task, plan, max_rounds)]
    short = texts is not None and texts < plan.probe_per_round * max(1, max_rounds)
    if texts is not None and short:
        lines += [_texts_run_out(plan, max_rounds, texts)]
    if feedback.feeds:
        if not short:
            lines += _empty_bands(task, plan, feedback)
        lines += _feedback_without_effect(task, plan) if texts is None else _real_texts_without_effect(task, plan)
        if texts is None or set(plan.unlabelled_as) - {"data", "pseudo_labels"}:
            lines += _rounds_without_feedback(task, plan, feedback, max_rounds)
    return lines


def lines_in_demos(task: Task) -> list[str]:
    """Warns of texts that an empty line would end although a demo has some, because they are not ``multiline``."""
    texts = (*task.fields, task.target)
    if any(text.multiline for text in texts) or (task.labels and len(task.fields) == 1):
        return []  # the next sample ends them
    return [
        f"demos have empty lines in {text.name!r}, and an empty line ends a sample; set multiline: true for it"
        for text in texts
        if any(_EMPTY_LINE.search(demo.fields.get(text.name, demo.target)) for demo in task.demos)
    ]


def lines_in_rows(task: Task, rows: Sequence[Mapping[str, str]], where: str) -> list[str]:
    """Warns of fields that have line breaks in rows, while samples have them on one line.

    Args:
        task: The task.
        rows: The fields of rows.
        where: The key that names the rows.
    """
    lines = []
    for field in task.fields:
        count = sum("\n" in row.get(field.name, "").strip() for row in rows)
        if count and field.multiline is None and not task.is_multiline(field):
            lines.append(
                f"{where}: {count:,} of {len(rows):,} rows have line breaks in {field.name!r}, and the demos none, so "
                f"samples are of one line; set multiline: true for {field.name!r}, or false if that is right"
            )
    return lines


def reasons_not_fed_back(not_fed_back: Mapping[str, Any], labels: int) -> list[str]:
    """Explains why a round fed back fewer samples than its settings request.

    Args:
        not_fed_back: Value of ``not_fed_back`` in the round's line of ``rounds.jsonl``.
        labels: Number of labels of the task.

    Returns:
        One phrase for each reason.
    """
    reasons = []
    if "warmup_rounds" in not_fed_back:
        reasons.append(f"feedback.warmup_rounds is {not_fed_back['warmup_rounds']}")
    if isinstance(empty := not_fed_back.get("empty_bands"), list) and empty:
        of = f" of {len(empty)} of {labels} labels" if labels else ""
        reasons.append(f"the band{of} is empty")
    if "label_check" in not_fed_back:
        reasons.append(f"feedback.label_check rejected {not_fed_back['label_check']}")
    if "strategy" in not_fed_back:
        reasons.append(f"{not_fed_back['strategy']} chose none")
    if "unused_pool" in not_fed_back:
        reasons.append(
            f"no prompt with feedback gave a new sample (samples in the pool: {not_fed_back['unused_pool']})"
        )
    return reasons


def labels_without_hints(task: Task, plan: SynthesisPlan) -> list[str]:
    """Returns labels whose prompts ask for no topic, perspective or style; ``[""]`` for such a task without labels."""
    if plan.hints and (task.hints.topics or task.hints.perspectives or task.hints.styles):
        return []
    return [name for name in task.label_names or ("",) if not plan.hints or not name or not task.label(name).hints]


def _labels_without_samples(task: Task, plan: SynthesisPlan, max_rounds: int) -> Iterator[str]:
    labels, wanted = len(task.labels) if task.one_label else 0, plan.samples_per_round
    if wanted >= labels:
        return
    line = f"data.plan.samples_per_round is {wanted} and the task has {labels} labels: "
    line += f"{labels - wanted} of them get no sample in a round"
    # Each round begins with the label after the first one of the round before.
    if max_rounds > 0 and (never := labels - min(labels, wanted + max_rounds - 1)):
        line += f", and {never} get none in all {max_rounds} rounds"
    yield f"{line}; raise it to {labels} or more"


def _empty_bands(task: Task, plan: SynthesisPlan, feedback: FeedbackSettings) -> Iterator[str]:
    if type(feedback.strategy) not in STRATEGIES.values():
        return  # a user's strategy may choose samples outside the band
    band = f"the band [{feedback.alpha:g}, {feedback.beta:g})"
    labels, probes = len(task.labels) if task.one_label else 1, plan.probe_per_round
    each, more = divmod(probes, labels)
    empty = 0 if band_ranks(each, feedback.alpha, feedback.beta) else labels - more
    if more and not band_ranks(each + 1, feedback.alpha, feedback.beta):
        empty += more
    if not empty:
        return
    enough = labels * math.ceil(0.5 / (feedback.beta - feedback.alpha))
    advice = f"raise data.plan.probe_per_round to {enough} or more"
    if not task.one_label:
        yield f"{band} selects none of {_samples(probes)}: nothing is ever fed back; {advice}"
    elif empty == labels:
        most = each + (more > 0)
        yield (
            f"with {labels} labels and data.plan.probe_per_round {probes}, each label has "
            f"{'at most ' if more else ''}{_samples(most)}, and {band} selects none: nothing is ever fed back; "
            f"{advice}"
        )
    else:
        yield (
            f"with {labels} labels and data.plan.probe_per_round {probes}, each round has {empty} labels (not always "
            f"the same) with {_samples(each)}, and {band} selects none: these labels get no feedback; {advice}"
        )


def _feedback_without_effect(task: Task, plan: SynthesisPlan) -> Iterator[str]:
    if plan.feedback_as == "demo":
        if not plan.feedback_demos:
            yield (
                "data.plan.feedback_demos is 0 with data.plan.feedback_as: demo: no prompt shows fed-back samples; "
                "set it to 1 or more, or data.plan.feedback_as: hint"
            )
        return
    if not (without := labels_without_hints(task, plan)):
        return
    intro = "data.plan.feedback_as: hint repeats the hints of fed-back samples"
    alternative = "or set data.plan.feedback_as: demo"
    if not plan.hints:
        yield (
            f"{intro}, but data.plan.hints is false: feedback changes no prompt; "
            f"set data.plan.hints: true, {alternative}"
        )
    elif len(without) == max(1, len(task.labels)):
        yield (
            f"{intro}, but the task has none (hints.topics, perspectives and styles are empty): "
            f"feedback changes no prompt; add some, {alternative}"
        )
    else:
        yield (
            f"{intro}, but {listed(without)} have none: feedback changes none of their prompts; "
            f"add labels[].hints to all labels, {alternative}"
        )


def _texts_run_out(plan: SynthesisPlan, max_rounds: int, texts: int) -> str:
    lasting = texts // plan.probe_per_round
    line = f"data.unlabelled has {texts:,} usable texts, which last {lasting} rounds of {plan.probe_per_round} "
    line += "(data.plan.probe_per_round): "
    if max_rounds > 0:
        return line + f"each of the {max_rounds} rounds gets {texts // max_rounds}; lower that, or give more texts"
    return line + "later probe sets are smaller, and then generated; set trainer.max_epochs, or give more texts"


def _real_texts_without_effect(task: Task, plan: SynthesisPlan) -> Iterator[str]:
    if "demos" in plan.unlabelled_as and not plan.feedback_demos:
        yield (
            "data.plan.feedback_demos is 0 with data.plan.unlabelled_as: demos: no prompt shows real texts under their "
            "label; set it to 1 or more"
        )
    each = -(-plan.samples_per_round // (len(task.labels) if task.one_label else 1))
    if "data" in plan.unlabelled_as and math.floor(plan.unlabelled_share * each) < 1:
        of = " of each label" if task.one_label else ""
        yield (
            f"data.plan.unlabelled_share {plan.unlabelled_share:g} of {each} samples{of} in a round is less than one: "
            f"no real text is trained on; raise it to {math.ceil(100 / each) / 100:g} or more"
        )


def _rounds_without_feedback(
    task: Task, plan: SynthesisPlan, feedback: FeedbackSettings, max_rounds: int
) -> Iterator[str]:
    first = feedback.warmup_rounds + 1  # its prompts are the first to show fed-back samples
    if 0 < max_rounds <= first:
        if feedback.warmup_rounds:
            yield (
                f"feedback.warmup_rounds is {feedback.warmup_rounds} and trainer.max_epochs {max_rounds}: no prompt "
                f"shows feedback, which begins in round {first}; set trainer.max_epochs to {first + 1} or more"
            )
        else:
            yield "trainer.max_epochs is 1: no prompt shows feedback, which begins in the second round"
        return
    if task.many:
        return  # each set of labels has prompts of its own, so nearly all shares of feedback are met
    labels = max(1, len(task.labels))
    share = -(-plan.samples_per_round // labels)
    groups = -(-math.ceil(share / _PRIOR_YIELD) // plan.group_size)
    rounds = range(first, max_rounds) if max_rounds > 0 else range(first, first + 1)
    turns = labels + groups - 1  # of all labels together, since each begins one turn after the one before
    without = [r for r in rounds if math.floor((r + turns) * feedback.rate) == math.floor(r * feedback.rate)]
    if not without:
        return
    if len(without) < len(rounds):
        where = f"in {len(without)} of the {len(rounds)} rounds that could show it"
    else:
        where = "in any round" if max_rounds > 0 else f"in round {first}, the first that could"
    yield (
        f"feedback.rate {feedback.rate:g} comes to less than one group of prompts: no prompt shows feedback {where}; "
        f"raise it to {math.ceil(100 / turns) / 100:g} or more, or lower data.plan.group_size ({plan.group_size})"
    )


def _samples(count: int) -> str:
    return f"{count} probe sample{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Returns the first names in quotes, and how many more there are.

    >>> listed(["a", "b"]), listed(list("abcdefgh"))
    ("'a', 'b'", "'a', 'b', 'c', 'd', 'e' and 3 more")
    """
    rest = f" and {len(names) - _MAX_LISTED_LABELS} more" if len(names) > _MAX_LISTED_LABELS else ""
    return ", ".join(map(repr, names[:_MAX_LISTED_LABELS])) + rest
