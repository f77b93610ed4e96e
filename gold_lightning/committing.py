"""Commits judged samples to a round's store, with their provenance, their rejects and their prompts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gold_lightning.generators.base import Completion
from gold_lightning.judging import Judge, JudgedBatch
from gold_lightning.storage.json_lines import digest
from gold_lightning.storage.round_store import BatchRecord, Kind, RoundStore, StoredSample

__all__ = ["commit_batch", "commit_surplus"]


def commit_batch(
    store: RoundStore,
    kind: Kind,
    batch: JudgedBatch,
    groups: Sequence[Mapping[str, Any]],
    generator: Mapping[str, Any],
) -> BatchRecord:
    """Commits a batch of judged completions.

    Args:
        store: The store of the round.
        kind: Training samples or the probe set.
        batch: The judged completions.
        groups: Label, feedback and size of each group of requests.
        generator: Fingerprint of the generator.

    Returns:
        The committed record.
    """
    index, judged = len(store.batches(kind)), batch.completions
    accepted: list[StoredSample] = []
    rejects: list[dict[str, Any]] = []
    for j in judged:
        planned, prompt_hash = j.planned, digest(j.planned.request.text)
        sample = j.sample or j.spare
        stored = sample and StoredSample(
            id=planned.id,
            sample=sample,
            batch=index,
            prompt_hash=prompt_hash,
            demo_ids=tuple(id_ for id_, _ in planned.demos),
            feedback=planned.feedback,
            hint={k: v for k, v in vars(planned.hint).items() if v},
            seed=planned.request.seed,
            raw=j.completion.text,
            label_agrees=j.label_agrees,
            preferred_label=j.verdict.preferred_label,
            label_log_probs=j.verdict.label_log_probs,
            probabilities=j.verdict.probabilities,
            cut=j.cut,
        )
        if stored and j.sample is not None:
            accepted.append(stored)
            continue
        reject = {"id": planned.id, "reason": j.reason, "label": planned.label, "prompt_hash": prompt_hash}
        more = store.surplus_row(stored) if stored else j.verdict.checked(j.parsed)
        rejects.append(reject | more | {"raw": j.completion.text})
    completions = [*(j.completion for j in judged), *batch.label_checks]
    record = _record(
        kind,
        index,
        accepted,
        rejects,
        completions,
        seconds=batch.seconds,
        groups=list(groups),
        agreed=sum(j.label_agrees is True for j in judged),
        asked_agreement=sum(j.label_agrees is not None for j in judged),
        thought=sum(j.completion.thought for j in judged),
        thinking_tokens=sum(j.completion.thinking_tokens for j in judged),
    )
    prompts = {digest(j.planned.request.text): j.planned.request.text for j in judged}
    store.commit(record, accepted, rejects, prompts, {"generator": generator})
    return record


def commit_surplus(
    store: RoundStore,
    kind: Kind,
    earlier: Sequence[RoundStore],
    judge: Judge,
    missing: Mapping[str | None, int],
    generator: Mapping[str, Any],
) -> None:
    """Commits samples that earlier rounds had more than they wanted: valid samples that are paid for.

    They were requested with those rounds' prompts, demos and feedback. Samples that an earlier round requested with
    another generator, plan or seed are left. Does nothing if no sample is left over.

    Args:
        store: The store of the round.
        kind: Training samples or the probe set.
        earlier: The stores of all earlier rounds, from round 0 on.
        judge: The judge, which remembers all earlier samples.
        missing: Number of samples wanted, by label.
        generator: Fingerprint of the generator.
    """
    candidates = _candidates(store, kind, earlier, judge, missing)
    if not candidates:
        return
    started, index = time.perf_counter(), len(store.batches(kind))
    valid = [(s.id, s.sample, s.sample.target) for s in candidates]
    verdicts, label_checks = judge.take(valid, missing, store.round)
    accepted: list[StoredSample] = []
    rejects: list[dict[str, Any]] = []
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        stored = replace(
            candidate,
            batch=index,
            label_agrees=verdict.preferred_label == candidate.sample.target if verdict.preferred_label else None,
            preferred_label=verdict.preferred_label,
            label_log_probs=verdict.label_log_probs,
            probabilities=verdict.probabilities,
        )
        if not verdict.reason:
            accepted.append(stored)
            continue
        of = {"label": stored.sample.target, "prompt_hash": stored.prompt_hash, "surplus_of": stored.surplus_of}
        checked_values = verdict.checked(stored.sample)
        rejects.append({"id": stored.id, "reason": verdict.reason, **of, **checked_values, "raw": stored.raw})
    checked = [(v.preferred_label, s.sample.target) for s, v in zip(candidates, verdicts, strict=True)]
    record = _record(
        kind,
        index,
        accepted,
        rejects,
        label_checks,
        seconds=time.perf_counter() - started,
        agreed=sum(preferred == target for preferred, target in checked),
        asked_agreement=sum(bool(preferred) for preferred, _ in checked),
        from_surplus=len(candidates),
    )
    prompts: dict[str, str] = {}
    for round_ in {s.surplus_of for s in candidates if s.surplus_of is not None}:
        prompts |= earlier[round_].prompts({s.prompt_hash for s in candidates if s.surplus_of == round_})
    store.commit(record, accepted, rejects, prompts, {"generator": generator})


def _record(
    kind: Kind,
    index: int,
    accepted: Sequence[StoredSample],
    rejects: Sequence[Mapping[str, Any]],
    completions: Sequence[Completion],
    **counts: Any,
) -> BatchRecord:
    """Returns the record of a batch: what its samples, rejects and paid completions add up to, and other counts."""
    return BatchRecord(
        kind=kind,
        index=index,
        requested=len(accepted) + len(rejects),
        accepted=len(accepted),
        rejects=dict(Counter(r["reason"] for r in rejects)),
        prompt_tokens=sum(c.prompt_tokens for c in completions),
        completion_tokens=sum(c.completion_tokens for c in completions),
        cut=sum(s.cut for s in accepted),
        **counts,
    )


def _candidates(
    store: RoundStore, kind: Kind, earlier: Sequence[RoundStore], judge: Judge, missing: Mapping[str | None, int]
) -> list[StoredSample]:
    """Returns as many samples as are missing and no more: each is then either taken or rejected for good."""
    left, candidates = Counter(missing), list[StoredSample]()
    taken = {id_ for other in earlier for id_ in other.from_surplus(kind)}
    spare = (s for other in earlier if other.has_settings_of(store, kind) for s in other.surplus(kind))
    for stored in spare:
        label = stored.sample.target if judge.task.labels else None
        if left[label] > 0 and stored.id not in taken and stored.id not in judge:
            left[label] -= 1
            candidates.append(stored)
    return candidates
