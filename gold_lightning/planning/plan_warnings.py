"""What a plan leaves undone, known before anything is generated: labels without samples, feedback that never comes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from gold_lightning.feedback import STRATEGIES, FeedbackStrategy, NoFeedback
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.scores import band_ranks
from gold_lightning.task import Task

__all__ = ["FeedbackSettings", "labels_without_hints", "plan_warnings", "reasons_not_fed_back"]

_PRIOR_YIELD = 0.7  # that the first batch of a round is planned with
_MOST_LABELS = 5  # whose names stand in a line


class FeedbackSettings(Protocol):
    """What a warning needs to know of :class:`gold_lightning.callbacks.OODFeedback`."""

    rate: float
    alpha: float
    beta: float
    warmup_rounds: int
    strategy: FeedbackStrategy


def plan_warnings(task: Task, plan: SynthesisPlan, feedback: FeedbackSettings, max_rounds: int) -> list[str]:
    """Lines on what a run will not do although its settings ask for it; none for a plan that does all of it.

    Nothing is said of feedback that is turned off (``rate: 0``, ``strategy: none``).

    Args:
        task: The task.
        plan: How much is synthesised a round.
        feedback: What is fed back.
        max_rounds: Most rounds of the run; below 0: no end is set.
    """
    if max_rounds == 0:
        return []
    lines = [*_labels_without_samples(task, plan, max_rounds)]
    if feedback.rate > 0 and not isinstance(feedback.strategy, NoFeedback):
        lines += _empty_bands(task, plan, feedback)
        lines += _feedback_without_effect(task, plan)
        lines += _rounds_without_feedback(task, plan, feedback, max_rounds)
    return lines


def reasons_not_fed_back(why: Mapping[str, Any], labels: int) -> list[str]:
    """Why a round fed back less than it was to, in words.

    Args:
        why: ``not_fed_back`` of the round's line in ``rounds.jsonl``.
        labels: How many labels the task has.
    """
    reasons = []
    if "warmup_rounds" in why:
        reasons.append(f"feedback.warmup_rounds is {why['warmup_rounds']}")
    if isinstance(empty := why.get("empty_bands"), list) and empty:
        of = f" of {len(empty)} of {labels} labels" if labels else ""
        reasons.append(f"the band{of} is empty")
    if "label_check" in why:
        reasons.append(f"feedback.label_check refused {why['label_check']}")
    if "strategy" in why:
        reasons.append(f"{why['strategy']} chose none")
    if "unused_pool" in why:
        reasons.append(f"no new sample came of a prompt with feedback, of which the pool had {why['unused_pool']}")
    return reasons


def labels_without_hints(task: Task, plan: SynthesisPlan) -> list[str]:
    """Labels whose prompts ask for no topic, perspective or style; ``[""]`` for a task without labels that has none."""
    if plan.hints and (task.hints.topics or task.hints.perspectives or task.hints.styles):
        return []
    return [name for name in task.label_names or ("",) if not plan.hints or not name or not task.label(name).hints]


def _labels_without_samples(task: Task, plan: SynthesisPlan, max_rounds: int) -> Iterator[str]:
    labels, wanted = len(task.labels), plan.samples_per_round
    if wanted >= labels:
        return
    line = f"data.plan.samples_per_round is {wanted} and the task has {labels} labels: "
    line += f"{labels - wanted} of them get no sample in a round"
    # Each round begins one label further on.
    if max_rounds > 0 and (never := labels - min(labels, wanted + max_rounds - 1)):
        line += f", {never} in none of {max_rounds} rounds"
    yield f"{line}; raise it to {labels} or more"


def _empty_bands(task: Task, plan: SynthesisPlan, feedback: FeedbackSettings) -> Iterator[str]:
    if type(feedback.strategy) not in STRATEGIES.values():
        return  # one of the user's own need not keep to the band
    band = f"the band [{feedback.alpha:g}, {feedback.beta:g})"
    labels, probes = max(1, len(task.labels)), plan.probe_per_round
    each, more = divmod(probes, labels)
    empty = 0 if band_ranks(each, feedback.alpha, feedback.beta) else labels - more
    if more and not band_ranks(each + 1, feedback.alpha, feedback.beta):
        empty += more
    if not empty:
        return
    enough = labels * math.ceil(0.5 / (feedback.beta - feedback.alpha))
    advice = f"raise data.plan.probe_per_round to {enough} or more"
    if not task.labels:
        yield f"of {_samples(probes)} {band} takes none: nothing is ever fed back; {advice}"
    elif empty == labels:
        most = each + (more > 0)
        yield (
            f"with {labels} labels and data.plan.probe_per_round {probes} a label has "
            f"{'at most ' if more else ''}{_samples(most)}, of which {band} takes none: nothing is ever fed back; "
            f"{advice}"
        )
    else:
        yield (
            f"with {labels} labels and data.plan.probe_per_round {probes} there are {empty} labels in each round, "
            f"other ones each time, with {_samples(each)}, of which {band} takes none: nothing of theirs is fed back; "
            f"{advice}"
        )


def _feedback_without_effect(task: Task, plan: SynthesisPlan) -> Iterator[str]:
    if plan.feedback_as == "demo":
        if not plan.feedback_demos:
            yield (
                "data.plan.feedback_demos is 0 with data.plan.feedback_as: demo: no prompt shows what is fed back; "
                "set it to 1 or more, or data.plan.feedback_as: hint"
            )
        return
    if not (without := labels_without_hints(task, plan)):
        return
    way_out = "or set data.plan.feedback_as: demo"
    if not plan.hints:
        yield (
            "data.plan.feedback_as: hint asks for the hints of what is fed back, and data.plan.hints is false: "
            f"no prompt changes by feedback; set data.plan.hints: true, {way_out}"
        )
    elif len(without) == max(1, len(task.labels)):
        yield (
            "data.plan.feedback_as: hint asks for the hints of what is fed back, and the task has none "
            f"(hints.topics, perspectives and styles are empty): no prompt changes by feedback; name some, {way_out}"
        )
    else:
        yield (
            "data.plan.feedback_as: hint asks for the hints of what is fed back, and there are none for "
            f"{_named(without)}: none of their prompts changes by feedback; give labels[].hints to all, {way_out}"
        )


def _rounds_without_feedback(
    task: Task, plan: SynthesisPlan, feedback: FeedbackSettings, max_rounds: int
) -> Iterator[str]:
    first = feedback.warmup_rounds + 1  # shows what the round before it has fed back
    if 0 < max_rounds <= first:
        if feedback.warmup_rounds:
            yield (
                f"feedback.warmup_rounds is {feedback.warmup_rounds} and trainer.max_epochs {max_rounds}: no prompt "
                f"shows feedback; it begins in round {first}, so that takes {first + 1} rounds"
            )
        else:
            yield "trainer.max_epochs is 1: no prompt shows feedback, which begins in the second round"
        return
    labels = max(1, len(task.labels))
    share = -(-plan.samples_per_round // labels)
    groups = -(-math.ceil(share / _PRIOR_YIELD) // plan.group_size)
    rounds = range(first, max_rounds) if max_rounds > 0 else range(first, first + 1)
    turns = labels + groups - 1  # of all labels together: each begins one turn further on
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


def _named(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _MOST_LABELS} more" if len(names) > _MOST_LABELS else ""
    return ", ".join(map(repr, names[:_MOST_LABELS])) + rest
