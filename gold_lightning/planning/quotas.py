"""Quotas of a round by label: progress, the number of requests to send next, and when to give up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from gold_lightning.budget import Usage
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.sets import planned_sets
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import Kind, RoundStore
from gold_lightning.task import Task

__all__ = ["Counts", "best_yield", "give_up", "quotas", "requests_wanted", "task_quotas", "unanswered", "yield_table"]

_PRIOR_YIELD = 0.7
_MIN_YIELD = 0.25
_PRIOR_REQUESTS = 4  # after as many requests, a label's own yield weighs as much as that of all labels
_MIN_LABEL_YIELD = 1 / 16
_MAX_LISTED_LABELS = 12


@dataclass
class Counts:
    """Counts of one round and kind by label (``None`` for a task without labels), updated batch by batch.

    Args:
        labelled: Whether the task has labels.
        real_beside: Whether real texts come beside the quota, so that they are not counted.
        batches: Number of batches.
        samples: Number of samples that were looked at.
        requested: Requests for samples.
        written: Accepted samples that these requests gave.
        accepted: All accepted samples, including those from the surplus of earlier rounds.
        groups: Groups of requests.
        silent: Requests without an answer in an earlier run of the command. They are no reason to give up, and the
            next batch does not depend on them.
    """

    labelled: bool = True
    real_beside: bool = False
    batches: int = 0
    samples: int = 0
    requested: Counter[str | None] = field(default_factory=Counter)
    written: Counter[str | None] = field(default_factory=Counter)
    accepted: Counter[str | None] = field(default_factory=Counter)
    groups: Counter[str | None] = field(default_factory=Counter)
    silent: Counter[str | None] = field(default_factory=Counter)

    @classmethod
    def of(cls, store: RoundStore, kind: Kind, *, labelled: bool, real_beside: bool = False) -> Counts:
        """Counts what earlier runs of the command have committed."""
        counts = cls(labelled, real_beside, silent=unanswered(store, kind))
        counts.update(store, kind)
        return counts

    def update(self, store: RoundStore, kind: Kind) -> None:
        """Adds the batches that were committed since the last update."""
        for batch in store.batches(kind)[self.batches :]:
            self.batches += 1
            for group in batch.groups:
                self.requested[group["label"]] += group["size"]
                self.groups[group["label"]] += 1
        accepted = store.accepted(kind)
        for number in range(self.samples, len(accepted)):  # one by one: there may be a million
            stored = accepted[number]
            if self.real_beside and stored.source == "unlabelled":
                continue
            label = stored.sample.target if self.labelled else None
            self.accepted[label] += 1
            self.written[label] += stored.surplus_of is None and stored.source == "generator"
        self.samples = len(accepted)


def quotas(quota: int, labels: Sequence[str], round_: int) -> dict[str | None, int]:
    """Divides a round's quota among the labels.

    Args:
        quota: Number of samples of all labels together.
        labels: The task's labels; empty for a task without labels, whose only key is ``None``.
        round_: Number of the round. The remainder goes to different labels each round, so that over a run all labels
            get the same.

    Returns:
        The number of wanted samples of each label.
    """
    names: tuple[str | None, ...] = tuple(labels) or (None,)
    turn = round_ % len(names)
    order = names[turn:] + names[:turn]
    wanted = {name: quota // len(names) + (i < quota % len(names)) for i, name in enumerate(order)}
    return {name: wanted[name] for name in names}


def task_quotas(quota: int, task: Task, round_: int, seed: int) -> dict[str | None, int]:
    """Divides a round's quota among the targets that the generator is asked for: labels, or sets of labels.

    Args:
        quota: Number of samples of all targets together.
        task: The task; the only key is ``None`` if it has no labels.
        round_: Number of the round.
        seed: Seed of the run, for the choice of sets.

    Returns:
        The number of wanted samples of each target.
    """
    if task.many is None:
        return quotas(quota, task.label_names, round_)
    counts = _set_counts(quota, task.label_names, tuple(task.many.sizes), f"{seed}/{round_}/sets of labels")
    return {task.many.text(labels, task.label_names): count for labels, count in counts.items()}


@lru_cache(maxsize=8)  # needed for every batch
def _set_counts(count: int, labels: Sequence[str], sizes: Sequence[float], seed: str) -> Counter[tuple[str, ...]]:
    return Counter(planned_sets(count, labels, sizes, seed))


def requests_wanted(missing: Mapping[str | None, int], counts: Counts, minimum: int) -> dict[str | None, int]:
    """Estimates the number of requests that fill the quota of each label, from its yield so far.

    A label with few requests is assumed to have nearly the yield of all labels, so that a lucky or unlucky start
    decides nothing.

    Args:
        missing: Number of samples still wanted, by label.
        counts: Counts of the round so far.
        minimum: Smallest number of requests for all labels together.

    Returns:
        The number of requests for each label.
    """
    requested, written = counts.requested.total(), counts.written.total()
    pooled = max(_MIN_YIELD, written / requested) if requested else _PRIOR_YIELD
    wanted: dict[str | None, float] = {}
    for label, n in missing.items():
        share = (counts.written[label] + _PRIOR_REQUESTS * pooled) / (counts.requested[label] + _PRIOR_REQUESTS)
        wanted[label] = n / min(1.0, max(_MIN_LABEL_YIELD, share))
    more = max(1.0, minimum / sum(wanted.values()))
    return {label: math.ceil(n * more - 1e-9) for label, n in wanted.items()}


def give_up(
    counts: Counts, missing: Mapping[str | None, int], wanted: Mapping[str | None, int], plan: SynthesisPlan
) -> str | None:
    """Decides whether a round ends without its quota.

    It does if its requests are used up, if those left would not suffice at the yield so far, or if one label's share
    of the requests would not suffice at that label's yield. Each yield is replaced by its upper bound
    (:func:`best_yield`), so a round that could still meet its quota is hardly ever given up.

    Args:
        counts: Counts of the round so far.
        missing: Number of samples still wanted, by label.
        wanted: Quota of each label.
        plan: The plan, whose ``max_attempts`` limits the requests for each wanted sample.

    Returns:
        The reason for the end; ``None`` if the round goes on.
    """
    limit = math.ceil(plan.max_attempts * sum(wanted.values()))
    requests = counts.requested - counts.silent
    requested, written = requests.total(), counts.written.total()
    if requested >= limit:
        return f"all {limit} requests (data.plan.max_attempts) are used up"
    if (limit - requested) * best_yield(written, requested) < sum(missing.values()):
        return f"stopped early: at this yield {limit} requests (data.plan.max_attempts) would not do"
    for label in missing:
        label_requests, label_samples = requests[label], counts.written[label]
        if label is not None and plan.max_attempts * best_yield(label_samples, label_requests) < 1:
            share = math.ceil(plan.max_attempts * wanted[label])
            return (
                f"stopped early: {label_requests} requests for {label} gave {label_samples}; at that yield its share "
                f"of {share} requests (data.plan.max_attempts) would not do"
            )
    return None


def best_yield(accepted: int, requested: int) -> float:
    """Returns the upper Wilson bound of a yield at three standard errors (Wilson, 1927); 1 without any request."""
    if not requested:
        return 1.0
    from scipy.stats import binomtest

    three_errors = math.erf(3 / math.sqrt(2))  # the confidence of a two-sided interval
    return float(binomtest(accepted, requested).proportion_ci(three_errors, method="wilson").high)


_ADVICE = {
    "filtered": "a content filter rejects these prompts (the log has its message): reword the task and its demos, or "
    "use a server or model without a filter",
    "failed": "the server gave no answer to these (the log has its message): run again when the server works, or show "
    "fewer or shorter demos if it says that the prompt is too long (--data.plan.seed_demos)",
    "empty": "the model wrote nothing: thinking may use up all tokens (raise max_sample_tokens of the task; with "
    "OpenAIGenerator, set extra: {chat_template_kwargs: {enable_thinking: false}}), or the server drops the text",
    "only_thinking": "the model only thinks: give the server a reasoning parser, turn thinking off (with "
    "OpenAIGenerator, extra: {chat_template_kwargs: {enable_thinking: false}}), or raise max_sample_tokens of the task",
    "talk": "the model speaks of the task instead of writing a text: use a model tuned for instructions, its chat "
    "form, or demos that differ more",
    "truncated": "the token limit breaks off the texts before a sentence ends: raise max_sample_tokens of the task, "
    "use shorter demos, or set cut_at_sentence: true for the field",
    "several_lines": "the texts have line breaks: set multiline: true for the field, or say in its description that it "
    "is one line",
    "too_long": "use shorter demos, raise max_chars of the field, or set cut_at_sentence: true for it",
    "too_many_sentences": "use demos of fewer sentences, raise max_sentences of the field, or set cut_at_sentence: "
    "true for it",
    "label_disagreement": "the generator prefers another label: clarify the labels' meanings and demos, use another "
    "data.generator, or set data.plan.label_agreement: measure, which keeps these samples",
    "label_unchecked": "the generator does not answer with a label: set data.plan.label_agreement to off",
}
"""Advice by reject reason."""
_UNANSWERED = ("filtered", "failed", "label_unchecked")
"""Reasons of requests without an answer (besides empty texts). None is stored, so the same command repeats them."""


def unanswered(store: RoundStore, kind: Kind) -> Counter[str | None]:
    """Counts requests of committed batches without an answer, by label."""
    rows = (row for row in read_lines(store.folder / "rejects.jsonl") if row.get("kind") == kind)
    silent = (r for r in rows if r.get("reason") in _UNANSWERED or not str(r.get("raw", "")).strip())
    return Counter(row.get("label") for row in silent)


def yield_table(
    store: RoundStore,
    kind: Kind,
    counts: Counts,
    missing: Mapping[str | None, int],
    wanted: Mapping[str | None, int],
    reason: str,
    spent: Usage,
) -> str:
    """Describes a round that was given up: its samples and rejects, the reason, and what to change.

    Args:
        store: The round's files.
        kind: The kind of samples whose quota was not met.
        counts: Counts of the round and kind.
        missing: Number of samples still wanted, by label.
        wanted: Quota of each label.
        reason: The line of :func:`give_up`.
        spent: Calls of the round, and completions reused from other runs.

    Returns:
        Several lines of text.
    """
    name = "training" if kind == "train" else "probe"
    accepted, requested, quota = len(store.accepted(kind)), counts.requested.total(), sum(wanted.values())
    rows = [f"round {store.round}: {accepted} of {quota} {name} samples after {requested} requests; rejects by reason:"]
    rows += [f"  {reject:<20} {count}" for reject, count in store.rejects(kind).most_common()]
    if cut := sum(batch.cut for batch in store.batches(kind)):
        rows.append(f"  accepted, and cut at the end of a sentence: {cut}")
    if thought := sum(batch.thought for batch in store.batches(kind)):
        rows.append(f"  written after thinking, which is taken off: {thought}")
    if None not in missing:
        rows += _by_label(read_lines(store.folder / "rejects.jsonl"), kind, counts, missing, wanted)
    rows.append(reason)
    rows.append("raw texts: " + str(store.folder / "rejects.jsonl"))
    common = [reject for reject, count in store.rejects(kind).most_common(2) if 3 * count >= requested - accepted]
    rows += [f"{reject}: {_ADVICE[reject]}" for reject in common if reject in _ADVICE]
    if 2 * spent.reused > spent.calls + spent.reused:
        rows.append(
            f"{spent.reused} of {spent.calls + spent.reused} answers of the round are reused from other runs; "
            "--data.reuse_completions false requests new ones"
        )
    silent = sum(unanswered(store, kind).values())
    if 2 * silent > requested:
        rows.append("most requests had no answer: the same command repeats them once the cause is fixed")
    rows.append("change: demos, limits or checks of the task, --data.generator, or a higher --data.plan.max_attempts")
    return "\n".join(rows)


def _by_label(
    rejects: Iterable[Mapping[str, Any]],
    kind: Kind,
    counts: Counts,
    missing: Mapping[str | None, int],
    wanted: Mapping[str | None, int],
) -> list[str]:
    reasons: dict[str | None, Counter[str]] = {label: Counter() for label in missing}
    for row in rejects:
        if row.get("kind") == kind and row.get("label") in reasons:
            reasons[row["label"]][row["reason"]] += 1
    # The label with the lowest yield comes first.
    order = sorted(missing, key=lambda label: (counts.written[label] + 1) / (counts.requested[label] + 1))
    rows = ["labels with samples missing:"]
    for label in order[:_MAX_LISTED_LABELS]:
        progress = f"  {label}: {counts.accepted[label]} of {wanted[label]} after {counts.requested[label]} requests"
        most = reasons[label].most_common(1)
        rows.append(progress + (f", mostly {most[0][0]} ({most[0][1]})" if most else ""))
    if len(order) > _MAX_LISTED_LABELS:
        rows.append(f"  and {len(order) - _MAX_LISTED_LABELS} more")
    return rows
