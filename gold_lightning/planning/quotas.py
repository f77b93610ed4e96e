"""How far a round's quotas are, by label: what to ask for next, and when to give up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gold_lightning.budget import Usage
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import BatchRecord, Kind, RoundStore, StoredSample

__all__ = ["Counts", "best_yield", "give_up", "quotas", "requests_wanted", "unanswered", "yield_table"]

_PRIOR_YIELD = 0.7
_LEAST_YIELD = 0.25
# A label's own yield counts as much as that of all labels once it was asked for so often.
_PRIOR_REQUESTS = 4
_LEAST_LABEL_YIELD = 1 / 16
_LABELS_TOLD = 12


@dataclass
class Counts:
    """What a round has of a kind so far, by label (``None`` for a task without labels). Kept up batch by batch.

    Args:
        requested: Requests for samples.
        written: Samples accepted of these requests.
        accepted: All accepted samples, those taken over from earlier rounds included.
        groups: Groups of requests.
        silent: Requests that had no answer in an earlier sitting. They are no reason to give up; what is planned next
            does not depend on them.
    """

    requested: Counter[str | None] = field(default_factory=Counter)
    written: Counter[str | None] = field(default_factory=Counter)
    accepted: Counter[str | None] = field(default_factory=Counter)
    groups: Counter[str | None] = field(default_factory=Counter)
    silent: Counter[str | None] = field(default_factory=Counter)

    def tried(self, label: str | None) -> int:
        """Requests for a label that may be a reason to give up."""
        return self.requested[label] - self.silent[label]

    def pass_over(self, silent: Mapping[str | None, int]) -> None:
        """Notes requests that are no reason to give up.

        Args:
            silent: How many, by label.
        """
        self.silent.update(silent)

    def add(self, batches: Iterable[BatchRecord], accepted: Iterable[StoredSample], labelled: bool) -> None:
        """Adds committed batches.

        Args:
            batches: The batches.
            accepted: The samples that they gave.
            labelled: Whether the task has labels.
        """
        for batch in batches:
            for group in batch.groups:
                self.requested[group["label"]] += group["size"]
                self.groups[group["label"]] += 1
        for stored in accepted:
            label = stored.sample.target if labelled else None
            self.accepted[label] += 1
            self.written[label] += stored.surplus_of is None


def quotas(quota: int, labels: Sequence[str], round_: int) -> dict[str | None, int]:
    """How many samples of each label a round wants.

    Args:
        quota: Samples of all labels.
        labels: The task's labels; none: the only key is ``None``.
        round_: Number of the round. The remainder goes to other labels in each, so that none gains over a run.
    """
    names: tuple[str | None, ...] = tuple(labels) or (None,)
    turn = round_ % len(names)
    order = names[turn:] + names[:turn]
    wanted = {name: quota // len(names) + (i < quota % len(names)) for i, name in enumerate(order)}
    return {name: wanted[name] for name in names}


def requests_wanted(missing: Mapping[str | None, int], counts: Counts, least: int) -> dict[str | None, int]:
    """How many requests to make for each label next: as many as its yield so far calls for.

    The yield of a label that was hardly asked for is taken to be near that of all labels, so that a lucky or unlucky
    start decides nothing.

    Args:
        missing: Samples still wanted, by label.
        counts: What there is.
        least: Requests for all labels together, at least.
    """
    requested, written = counts.requested.total(), counts.written.total()
    pooled = max(_LEAST_YIELD, written / requested) if requested else _PRIOR_YIELD
    wanted: dict[str | None, float] = {}
    for label, n in missing.items():
        share = (counts.written[label] + _PRIOR_REQUESTS * pooled) / (counts.requested[label] + _PRIOR_REQUESTS)
        wanted[label] = n / min(1.0, max(_LEAST_LABEL_YIELD, share))
    more = max(1.0, least / sum(wanted.values()))
    return {label: math.ceil(n * more - 1e-9) for label, n in wanted.items()}


def give_up(
    counts: Counts, missing: Mapping[str | None, int], wanted: Mapping[str | None, int], plan: SynthesisPlan
) -> str | None:
    """Why a round is given up; ``None``: it goes on.

    It ends when its requests are used up or would not do at the yield so far, and when a label's own yield says that
    its share of them would not do. Yields are taken at their very best (:func:`best_yield`), so a round that could
    still meet its quota is hardly ever given up.

    Args:
        counts: What there is.
        missing: Samples still wanted, by label.
        wanted: Quota of each label.
        plan: Has the most requests for each wanted sample.
    """
    limit = math.ceil(plan.max_attempts * sum(wanted.values()))
    requested, written = counts.requested.total() - counts.silent.total(), counts.written.total()
    if requested >= limit:
        return f"all {limit} requests (data.plan.max_attempts) are used up"
    if (limit - requested) * best_yield(written, requested) < sum(missing.values()):
        return f"stopped early: at this yield {limit} requests (data.plan.max_attempts) would not do"
    for label in missing:
        own, kept = counts.tried(label), counts.written[label]
        if label is not None and plan.max_attempts * best_yield(kept, own) < 1:
            share = math.ceil(plan.max_attempts * wanted[label])
            return (
                f"stopped early: {own} requests for {label} gave {kept}; at that yield its share of {share} requests "
                "(data.plan.max_attempts) would not do"
            )
    return None


def best_yield(accepted: int, requested: int) -> float:
    """Wilson's upper bound of a yield, three standard errors up (Wilson, 1927); 1 before anything is asked."""
    if not requested:
        return 1.0
    from scipy.stats import binomtest

    three_errors = math.erf(3 / math.sqrt(2))  # the confidence of a two-sided interval
    return float(binomtest(accepted, requested).proportion_ci(three_errors, method="wilson").high)


_ADVICE = {
    "filtered": "a filter refuses these prompts (the log has its words): change the wording of the task and its demos, "
    "or take a server or model without it",
    "failed": "the server broke these answers off (the log has its words): start again when it is well",
    "empty": "the model wrote nothing: thinking may take all tokens (a higher max_sample_tokens of the task; with "
    "OpenAIGenerator, extra: {chat_template_kwargs: {enable_thinking: false}}), or the server drops the text",
    "only_thinking": "the model only thinks: give the server a reasoning parser, turn thinking off (with "
    "OpenAIGenerator, extra: {chat_template_kwargs: {enable_thinking: false}}), or raise max_sample_tokens of the task",
    "label_disagreement": "the generator prefers another label: clearer meanings and demos of the labels, another "
    "data.generator, or data.plan.label_agreement: measure, which keeps these samples",
    "label_unchecked": "the generator does not answer with a label: set data.plan.label_agreement to off",
}
"""Advice by reject reason."""
_UNANSWERED = ("filtered", "failed", "label_unchecked")
"""Reasons of requests without an answer, as an empty text is one: not stored, and asked again by the same command."""


def unanswered(store: RoundStore, kind: Kind) -> Counter[str | None]:
    """Requests of committed batches that had no answer, by label."""
    rows = (row for row in read_lines(store.folder / "rejects.jsonl") if row.get("kind") == kind)
    silent = (r for r in rows if r.get("reason") in _UNANSWERED or not str(r.get("raw", "")).strip())
    return Counter(row.get("label") for row in silent)


def yield_table(
    store: RoundStore,
    kind: Kind,
    counts: Counts,
    missing: Mapping[str | None, int],
    wanted: Mapping[str | None, int],
    why: str,
    spent: Usage,
) -> str:
    """What a round that is given up has, why, and what to change."""
    name = "training" if kind == "train" else "probe"
    kept, requested, quota = len(store.accepted(kind)), counts.requested.total(), sum(wanted.values())
    rows = [f"round {store.round}: {kept} of {quota} {name} samples after {requested} requests; rejects by reason:"]
    rows += [f"  {reason:<20} {count}" for reason, count in store.rejects(kind).most_common()]
    if None not in missing:
        rows += _by_label(read_lines(store.folder / "rejects.jsonl"), kind, counts, missing, wanted)
    rows.append(why)
    rows.append("raw texts: " + str(store.folder / "rejects.jsonl"))
    common = [(reason, count) for reason, count in store.rejects(kind).most_common(2) if 3 * count >= requested - kept]
    rows += [f"{reason}: {_ADVICE[reason]}" for reason, _ in common if reason in _ADVICE]
    if 2 * spent.reused > spent.calls + spent.reused:
        rows.append(
            f"{spent.reused} of {spent.calls + spent.reused} answers of the round are stored ones of other runs: "
            "--data.reuse_completions false asks anew"
        )
    silent = sum(unanswered(store, kind).values())
    again = "start it again when that is mended, or " if 2 * silent > requested else ""
    rows.append(
        f"change: {again}demos, limits or checks of the task, --data.generator, or a higher --data.plan.max_attempts"
    )
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
    # Those that were tried most in vain first.
    order = sorted(missing, key=lambda label: (counts.written[label] + 1) / (counts.requested[label] + 1))
    rows = ["labels with samples missing:"]
    for label in order[:_LABELS_TOLD]:
        told = f"  {label}: {counts.accepted[label]} of {wanted[label]} after {counts.requested[label]} requests"
        most = reasons[label].most_common(1)
        rows.append(told + (f", mostly {most[0][0]} ({most[0][1]})" if most else ""))
    if len(order) > _LABELS_TOLD:
        rows.append(f"  and {len(order) - _LABELS_TOLD} more")
    return rows
