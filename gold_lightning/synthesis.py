"""Loop 1: ask the generator, judge its completions and commit them until a round's quota is met.

Knows neither Lightning nor the student. Each batch is planned from what is committed and from seeds alone
(:mod:`gold_lightning.planning`), judged (:mod:`gold_lightning.judging`) and committed as a whole
(:mod:`gold_lightning.storage`), so that a run that was cut off goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gold_lightning.budget import Budget, Usage
from gold_lightning.checks.contamination import OVERLAP_WORDS, Decontaminator
from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.errors import ConfigError, QuotaError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators.base import Completion, Generator, Request
from gold_lightning.judging import Judge, JudgedBatch
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.quotas import Counts, give_up, quotas, unanswered, yield_table
from gold_lightning.planning.requests import PlannedRequest, RequestPlanner, SamplesByLabel
from gold_lightning.storage.completions import CompletionLog, Completions
from gold_lightning.storage.json_lines import digest
from gold_lightning.storage.round_store import BatchRecord, Kind, RoundStore, StoredSample
from gold_lightning.storage.run_folder import RunFolder
from gold_lightning.task import Task

__all__ = ["Progress", "Synthesizer"]

_KINDS: tuple[Kind, ...] = ("train", "probe")


@dataclass(frozen=True)
class Progress:
    """Progress toward a quota.

    Counts cover the round; ``gained``, ``tokens`` and ``seconds`` cover this call and are 0 before its first batch.
    """

    round: int
    kind: Kind
    accepted: int
    quota: int
    requested: int
    gained: int
    tokens: int
    seconds: float


class Synthesizer:
    """Makes each round's samples once, and finds them again in the run folder.

    Args:
        task: The task.
        generator: The engine that writes samples.
        run_dir: The run folder.
        plan: Number of samples, and how prompts are made up.
        seed: Seed of all that is drawn. Draws depend on it and on indices alone, never on what ran before.
        report: Called before the first batch and after each.
        decontaminator: Returns the index of the test set. It is called only if the plan drops samples with text of
            the test set; no prompt ever shows a test row.
        budget: Limits of the run.
        seconds: Returns the seconds that the run has taken, for the budget.
        stopping: Returns whether the run should stop as soon as nothing is in flight.
        others: Files with completions of other runs, which are reused for equal requests.

    Attributes:
        writes: Whether this process writes to the run folder; one process of a run does.

    Raises:
        ConfigError: The plan checks labels of a task without labels, or drops the overlap with a missing test set.
    """

    def __init__(
        self,
        task: Task,
        generator: Generator,
        run_dir: Path,
        plan: SynthesisPlan = SynthesisPlan(),  # noqa: B008 - frozen
        seed: int = 0,
        report: Callable[[Progress], None] | None = None,
        decontaminator: Callable[[], Decontaminator] | None = None,
        budget: Budget = Budget(),  # noqa: B008 - frozen
        seconds: Callable[[], float] = lambda: 0.0,
        stopping: Callable[[], bool] = lambda: False,
        others: Sequence[Path] = (),
    ) -> None:
        if plan.label_agreement != "off" and not task.labels:
            raise ConfigError("data.plan.label_agreement", plan.label_agreement, "off for a task without labels")
        if plan.decontaminate == "drop" and decontaminator is None:
            raise ConfigError("data.plan.decontaminate", plan.decontaminate, "off or measure without a test set")
        self.task, self.generator, self.plan, self.seed = task, generator, plan, seed
        self.run_dir, self.report, self.budget = Path(run_dir), report, budget
        self._seconds, self._stopping, self._others = seconds, stopping, others
        self.writes = True
        self.completions = Completions(generator, CompletionLog())  # in memory until a round begins, as for a preview
        self._stores: dict[int, RoundStore] = {}
        required = plan.label_agreement == "require"
        self._label_check: LabelCheck | None = None
        if plan.label_agreement != "off":
            self._label_check = LabelCheck(
                task, seed, required, self._answer_in_batches, lambda r: self.generator.tokens_over_limit(r)
            )
        self._decontaminator = decontaminator if plan.decontaminate == "drop" else None
        self._judge = Judge(task, self._label_check, required, self._decontaminator)
        self._planner = RequestPlanner(task, plan, seed)

    # Rounds

    def train(self, round_: int, pool: FeedbackPool, rate: float) -> Sequence[StoredSample]:
        """Returns the training samples of a round: those of the store, and what is missing from the generator.

        Args:
            round_: Number of the round.
            pool: The pool that feedback demos come from.
            rate: Share of the prompts that show feedback demos, in [0, 1]; 0 before feedback begins.

        Raises:
            QuotaError: The quota was not met within ``plan.max_attempts``.
            BudgetSpentError: The budget is spent. All completions are stored.
        """
        feedback = {"feedback": digest([pool.state_dict(), rate])}
        return self._fill(round_, "train", pool, rate, feedback)

    def probe(self, round_: int) -> Sequence[StoredSample]:
        """Returns the probe set of a round, which departs from its training samples. Raises as :meth:`train`."""
        departs_from = {"training samples": digest([s.id for s in self.store(round_).accepted("train")])}
        return self._fill(round_, "probe", FeedbackPool(), 0.0, departs_from)

    def _fill(
        self, round_: int, kind: Kind, pool: FeedbackPool, rate: float, depends: dict[str, str]
    ) -> Sequence[StoredSample]:
        self.log()
        store, quota = self.store(round_), self.plan.quota(kind)
        self._require_fingerprint(store, kind, depends)
        self._remember_before(round_, kind)
        self._judge.remember(store.accepted(kind))
        counts, wanted = Counts(), quotas(quota, self.task.label_names, round_)
        counts.add(store.batches(kind), store.accepted(kind), bool(self.task.labels))
        counts.pass_over(unanswered(store, kind))  # in earlier sittings: the server may answer now
        missing = self.missing(round_, kind, counts)
        if missing and self._label_check:
            self._label_check.check_length()
        if missing and not store.batches(kind):
            self._take_surplus(round_, kind, missing, counts)
            missing = self.missing(round_, kind, counts)
        train = self._by_label(self.store(round_).accepted("train")) if kind == "probe" else {}
        tokens, seconds, first = 0, 0.0, len(store.accepted(kind))
        if missing and self.report:
            self.report(Progress(round_, kind, first, quota, counts.requested.total(), 0, 0, 0.0))
        while missing:
            if why := give_up(counts, missing, wanted, self.plan):
                spent = self.spent(round_, round_)
                raise QuotaError(yield_table(store, kind, counts, missing, wanted, why, spent))
            planned, groups = self.plan_batch(round_, kind, pool, rate, counts, train)
            record = self._commit(store, kind, self.answer(planned, missing, round_), groups, counts)
            tokens += record.prompt_tokens + record.completion_tokens
            seconds += record.seconds
            missing = self.missing(round_, kind, counts)
            if self.report:
                accepted = len(store.accepted(kind))
                requested = counts.requested.total()
                self.report(Progress(round_, kind, accepted, quota, requested, accepted - first, tokens, seconds))
        return store.accepted(kind)

    def missing(self, round_: int, kind: Kind, counts: Counts | None = None) -> Counter[str | None]:
        """Returns how many samples are still wanted, by label; labels with nothing missing are left out.

        Args:
            round_: Number of the round.
            kind: Training samples or the probe set.
            counts: Counts of the round and kind so far; none by default.
        """
        accepted = counts.accepted if counts else Counter[str | None]()
        wanted = quotas(self.plan.quota(kind), self.task.label_names, round_)
        return Counter({label: n - accepted[label] for label, n in wanted.items() if n > accepted[label]})

    def plan_batch(
        self,
        round_: int,
        kind: Kind,
        pool: FeedbackPool,
        rate: float,
        counts: Counts | None = None,
        train: SamplesByLabel | None = None,
    ) -> tuple[list[PlannedRequest], list[dict[str, Any]]]:
        """Plans the next batch of requests, at most as many as the generator prefers at once.

        The arguments are those of :meth:`gold_lightning.planning.requests.RequestPlanner.batch`.
        """
        missing = self.missing(round_, kind, counts)
        return self._planner.batch(round_, kind, missing, pool, rate, self.generator.batch_size, counts, train)

    def answer(self, planned: Sequence[PlannedRequest], missing: Counter[str | None], round_: int = 0) -> JudgedBatch:
        """Generates and judges a batch. Accepted samples are remembered; nothing is committed.

        Args:
            planned: The requests.
            missing: Number of samples wanted, by label; what goes beyond is rejected as ``surplus``.
            round_: Number of the round.
        """
        started = time.perf_counter()
        completions = self.completions.answer([p.request for p in planned], round_)
        return self._judge.batch(planned, completions, missing, round_, started)

    def calibrate(self, round_: int = 0) -> list[Completion]:
        """Calibrates the label check now rather than in the first :meth:`answer`, e.g. before timing.

        Args:
            round_: Number of the round.

        Returns:
            The completions asked for; none if labels are not checked or the check is calibrated already.
        """
        return self._label_check.calibrate(round_) if self._label_check else []

    # The run folder

    def store(self, round_: int) -> RoundStore:
        """Returns the store of a round, opened once."""
        if round_ not in self._stores:
            self._stores[round_] = RoundStore(self.run_dir, round_, read_only=not self.writes)
        return self._stores[round_]

    def reopen(self, round_: int) -> None:
        """Opens a round's store anew: another process has written to it since."""
        self._stores[round_] = RoundStore(self.run_dir, round_, read_only=True)

    def log(self) -> CompletionLog:
        """Returns the run's completions, opened once."""
        if self.completions.log.path is None:
            log = CompletionLog(RunFolder(self.run_dir).completions, self._others)
            self.completions = Completions(self.generator, log, self.budget, self._seconds, self._stopping)
        return self.completions.log

    def spent(self, first: int = 0, last: int | None = None) -> Usage:
        """Returns what the completions of some rounds took, from a first round to a last one."""
        return self.log().usage(first, last)

    def _require_fingerprint(self, store: RoundStore, kind: Kind, depends: dict[str, str]) -> None:
        """Refuses a store whose samples were asked for with other settings."""
        if self._decontaminator:  # not in the plan's fingerprint
            rows = self._decontaminator().fingerprint()
            depends = depends | {"decontamination": digest([OVERLAP_WORDS, rows])}
        # How the student sees a sample changes none. Earlier versions hashed it too.
        earlier_task = {k: v for k, v in self.task.to_dict().items() if k not in ("metrics", "test", "validation")}
        task = {k: v for k, v in earlier_task.items() if k != "student"}
        store.require_fingerprint(
            kind,
            {
                "task": digest(task),
                "generator": digest(self.generator.fingerprint()),
                "plan": digest(self.plan.fingerprint()),
                "seed": digest(self.seed),
                **depends,
            },
            {
                "task": [digest(earlier_task)],
                "generator": [digest(earlier) for earlier in self.generator.earlier_fingerprints()],
            },
        )

    def _commit(
        self, store: RoundStore, kind: Kind, batch: JudgedBatch, groups: Sequence[dict[str, Any]], counts: Counts
    ) -> BatchRecord:
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
                hint={k: v for k, v in asdict(planned.hint).items() if v},
                seed=planned.request.seed,
                raw=j.completion.text,
                label_agrees=j.label_agrees,
                preferred_label=j.preferred_label,
            )
            if stored and j.sample is not None:
                accepted.append(stored)
                continue
            reject = {"id": planned.id, "reason": j.reason, "label": planned.label, "prompt_hash": prompt_hash}
            rejects.append(reject | (store.surplus_row(stored) if stored else {}) | {"raw": j.completion.text})
        completions = [*(j.completion for j in judged), *batch.label_checks]
        record = BatchRecord(
            kind=kind,
            index=index,
            requested=len(judged),
            accepted=len(accepted),
            rejects=dict(Counter(r["reason"] for r in rejects)),
            prompt_tokens=sum(c.prompt_tokens for c in completions),
            completion_tokens=sum(c.completion_tokens for c in completions),
            seconds=batch.seconds,
            groups=list(groups),
            agreed=sum(j.label_agrees is True for j in judged),
            asked_agreement=sum(j.label_agrees is not None for j in judged),
        )
        prompts = {digest(j.planned.request.text): j.planned.request.text for j in judged}
        store.commit(record, accepted, rejects, prompts, {"generator": self.generator.fingerprint()})
        counts.add([record], accepted, bool(self.task.labels))
        return record

    def _take_surplus(self, round_: int, kind: Kind, missing: Counter[str | None], counts: Counts) -> None:
        """Takes what earlier rounds had more than they wanted: valid samples that are paid for.

        They were asked for with those rounds' prompts, demos and feedback. What an earlier round asked for in another
        way (generator, plan, seed) is left.
        """
        store, left = self.store(round_), Counter(missing)
        taken = {id_ for r in range(1, round_) for id_ in self.store(r).from_surplus(kind)}
        earlier = [self.store(r) for r in range(round_)]
        spare = [s for other in earlier if other.has_settings_of(store, kind) for s in other.surplus(kind)]
        # As many as are missing and no more: what is looked at is either taken or rejected for good.
        candidates: list[StoredSample] = []
        for stored in spare:
            label = self._label_of(stored)
            if left[label] > 0 and stored.id not in taken and stored.id not in self._judge:
                left[label] -= 1
                candidates.append(stored)
        if not candidates:
            return
        started = time.perf_counter()
        valid = [(s.id, s.sample, s.sample.target) for s in candidates]
        verdicts, label_checks = self._judge.take(valid, missing, round_)
        accepted: list[StoredSample] = []
        rejects: list[dict[str, Any]] = []
        for stored, verdict in zip(candidates, verdicts, strict=True):
            label_agrees = verdict.preferred_label == stored.sample.target if verdict.preferred_label else None
            stored = replace(stored, batch=0, label_agrees=label_agrees, preferred_label=verdict.preferred_label)
            if not verdict.reason:
                accepted.append(stored)
                continue
            of = {"label": stored.sample.target, "prompt_hash": stored.prompt_hash, "surplus_of": stored.surplus_of}
            rejects.append({"id": stored.id, "reason": verdict.reason, **of, "raw": stored.raw})
        checked = [(v.preferred_label, s.sample.target) for s, v in zip(candidates, verdicts, strict=True)]
        record = BatchRecord(
            kind=kind,
            index=0,
            requested=len(candidates),
            accepted=len(accepted),
            rejects=dict(Counter(r["reason"] for r in rejects)),
            prompt_tokens=sum(c.prompt_tokens for c in label_checks),
            completion_tokens=sum(c.completion_tokens for c in label_checks),
            seconds=time.perf_counter() - started,
            agreed=sum(preferred == target for preferred, target in checked),
            asked_agreement=sum(bool(preferred) for preferred, _ in checked),
            from_surplus=len(candidates),
        )
        prompts: dict[str, str] = {}
        for r in {s.surplus_of for s in candidates if s.surplus_of is not None}:
            prompts |= self.store(r).prompts({s.prompt_hash for s in candidates if s.surplus_of == r})
        store.commit(record, accepted, rejects, prompts, {"generator": self.generator.fingerprint()})
        counts.add([record], accepted, bool(self.task.labels))

    def _label_of(self, stored: StoredSample) -> str | None:
        return stored.sample.target if self.task.labels else None

    def _by_label(self, samples: Sequence[StoredSample]) -> SamplesByLabel:
        by_label: dict[str | None, list[Any]] = {}
        for stored in samples:
            by_label.setdefault(self._label_of(stored), []).append((stored.id, stored.sample))
        return by_label

    def _answer_in_batches(self, requests: Sequence[Request], round_: int) -> list[Completion]:
        size = self.generator.batch_size
        parts = (requests[at : at + size] for at in range(0, len(requests), size))
        return [completion for part in parts for completion in self.completions.answer(part, round_)]

    def _remember_before(self, round_: int, kind: Kind) -> None:
        """Registers all earlier samples so that this round rejects duplicates of them."""
        for r in range(round_ + 1):
            for k in _KINDS:
                if (r, k == "probe") < (round_, kind == "probe"):
                    self._judge.remember(self.store(r).accepted(k))
