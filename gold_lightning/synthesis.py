"""Loop 1: ask the generator, judge its completions and commit them until a round's quota is met.

Knows neither Lightning nor the student. Each batch is planned from what is committed and from seeds alone
(:mod:`gold_lightning.planning`), judged (:mod:`gold_lightning.judging`) and committed as a whole
(:mod:`gold_lightning.storage`), so that a run that was cut off goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

from gold_lightning.budget import Budget
from gold_lightning.checks.contamination import Decontaminator
from gold_lightning.committing import commit_batch, commit_surplus
from gold_lightning.errors import QuotaError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators.base import Generator
from gold_lightning.judging import Judge, JudgedBatch
from gold_lightning.planning.fingerprint import plan_of_folder, synthesis_fingerprint
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.progress import Progress, ProgressMeter
from gold_lightning.planning.quotas import Counts, give_up, task_quotas, yield_table
from gold_lightning.planning.requests import ContrastSamples, PlannedRequest, RequestPlanner
from gold_lightning.real_samples import RealSamples
from gold_lightning.storage.completions import CompletionLog, Completions
from gold_lightning.storage.json_lines import digest
from gold_lightning.storage.round_store import Kind, RoundStore, StoredSample
from gold_lightning.storage.run_folder import RunFolder
from gold_lightning.t5.sentence_vectors import SentenceVectors
from gold_lightning.task import Task
from gold_lightning.unlabelled import UnlabelledTexts

__all__ = ["Synthesizer"]

_KINDS: tuple[Kind, ...] = ("train", "probe")


class Synthesizer:
    """Makes each round's samples once, and finds them again in the run folder.

    Args:
        task: The task.
        generator: The engine that writes samples.
        run_dir: The run folder.
        plan: Number of samples, and how prompts are made up.
        seed: Seed of all that is drawn. Draws depend on it and on indices alone, never on what ran before.
        report: Called before the first batch and after each.
        decontaminator: Returns the index of the test set, for a plan that drops samples with its text.
        budget: Limits of the run.
        seconds: Returns the seconds that the run has taken, for the budget.
        stopping: Returns whether the run should stop as soon as nothing is in flight.
        others: Files with completions of other runs, which are reused for equal requests.
        texts: Reads real texts without labels, which probe sets are drawn from; ``None`` for generated probe sets.
        vectors: Embeds texts if the plan compares their meanings.

    Attributes:
        writes: Whether this process writes to the run folder; one process of a run does.
        planner: Plans the requests.
        label_check: The check of labels; ``None`` if labels are not checked.
        real: Makes samples of real texts; ``None`` without them.

    Raises:
        ConfigError: As :class:`~gold_lightning.judging.Judge`.
    """

    def __init__(
        self,
        task: Task,
        generator: Generator,
        run_dir: Path,
        plan: SynthesisPlan = SynthesisPlan(),  # noqa: B008 - frozen
        seed: int = 0,
        report: Callable[[Progress], None] = lambda progress: None,
        decontaminator: Callable[[], Decontaminator] | None = None,
        budget: Budget = Budget(),  # noqa: B008 - frozen
        seconds: Callable[[], float] = lambda: 0.0,
        stopping: Callable[[], bool] = lambda: False,
        others: Sequence[Path] = (),
        texts: Callable[[], UnlabelledTexts] | None = None,
        vectors: SentenceVectors | None = None,
    ) -> None:
        self.task, self.generator, self.plan, self.seed = task, generator, plan, seed
        self.run_dir, self.report, self._others = Path(run_dir), report, others
        self.writes = True
        log = CompletionLog()  # in memory until a round begins, as for a preview
        self.completions = Completions(generator, log, budget, seconds, stopping)
        self._stores: dict[int, RoundStore] = {}
        self._judge = Judge(
            task,
            plan,
            seed,
            lambda requests, round_: self.completions.answer_in_batches(requests, round_),
            lambda requests: self.generator.tokens_over_limit(requests),
            decontaminator,
            vectors,
        )
        self.label_check = self._judge.label_check
        self.planner = RequestPlanner(task, plan, seed, real_texts=texts is not None)
        self.real = None if texts is None else RealSamples(task, plan, seed, texts, lambda: self.completions)

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
        fed_back, depends = [pool.state_dict(), rate], dict[str, str]()
        if self.real is not None:
            fed_back += self.real.pseudo_labels(self.store(round_ - 1) if round_ else None)
            depends = self.real.fingerprint("train")
        return self._fill(round_, "train", pool, rate, {"feedback": digest(fed_back)} | depends)

    def probe(self, round_: int) -> Sequence[StoredSample]:
        """Returns the probe set of a round: real texts, or samples unlike those it trains on. Raises as ``train``."""
        earlier = [self.store(r) for r in range(round_)]
        if self.real is not None and self.real.size(earlier):
            self._begin()
            store = self.store(round_)
            self._require_fingerprint(store, "probe", self.real.fingerprint("probe"))
            self.real.fill(store, earlier, self.report)
            return store.accepted("probe")
        departs_from = {"training samples": digest([s.id for s in self.store(round_).accepted("train")])}
        return self._fill(round_, "probe", FeedbackPool(), 0.0, departs_from)

    def _fill(
        self, round_: int, kind: Kind, pool: FeedbackPool, rate: float, depends: dict[str, str]
    ) -> Sequence[StoredSample]:
        self._begin()
        store, quota = self.store(round_), self.plan.quota(kind)
        self._require_fingerprint(store, kind, depends)
        for r, k in product(range(round_ + 1), _KINDS):  # later samples reject duplicates of earlier ones
            if (r, k == "probe") <= (round_, kind == "probe"):
                self._judge.remember(self.store(r), k)
        beside = kind == "train" and self.plan.pseudo_labels
        counts = Counts.of(store, kind, labelled=bool(self.task.labels), real_beside=beside)
        missing = self.missing(round_, kind, counts)
        if missing and self.label_check:
            self.label_check.check_length()
        earlier = [self.store(r) for r in range(round_)]
        if missing and kind == "train" and self.real is not None and not store.batches(kind):
            self.real.commit_chosen(store, earlier, pool)
            counts.update(store, kind)
            missing = self.missing(round_, kind, counts)
        # Before the first batch of requests: what earlier rounds had to spare.
        if missing and all(batch.from_unlabelled for batch in store.batches(kind)):
            commit_surplus(store, kind, earlier, self._judge, missing, self.generator.fingerprint())
            counts.update(store, kind)
            missing = self.missing(round_, kind, counts)

        train = ContrastSamples(store.accepted("train").with_ids if kind == "probe" else ())
        cut = sum(b.cut for b in store.batches(kind))
        meter = ProgressMeter(self.report, round_, kind, quota, counts.accepted.total(), cut)
        if missing:
            meter.show(counts.accepted.total(), counts.requested.total())
        while missing:
            wanted = task_quotas(quota, self.task, round_, self.seed)
            if why := give_up(counts, missing, wanted, self.plan):
                usage = self.log().usage(round_, round_)
                raise QuotaError(yield_table(store, kind, counts, missing, wanted, why, usage))
            size = self.generator.batch_size
            planned, groups = self.planner.batch(round_, kind, missing, pool, rate, size, counts, train)
            with meter.waiting():
                batch = self.answer(planned, missing, round_)
            record = commit_batch(store, kind, batch, groups, self.generator.fingerprint())
            counts.update(store, kind)
            missing = self.missing(round_, kind, counts)
            meter.show(counts.accepted.total(), counts.requested.total(), record)
        return store.accepted(kind)

    def missing(self, round_: int, kind: Kind, counts: Counts | None = None) -> Counter[str | None]:
        """Returns how many samples are still wanted, by label; labels with nothing missing are left out.

        Args:
            round_: Number of the round.
            kind: Training samples or the probe set.
            counts: Counts of the round and kind so far; none by default.
        """
        wanted = task_quotas(self.plan.quota(kind), self.task, round_, self.seed)
        return Counter(wanted) - (counts or Counts()).accepted

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

    @property
    def usable_texts(self) -> int | None:
        """Number of real texts that probe sets are drawn from; ``None`` for generated probe sets."""
        return None if self.real is None else len(self.real.texts)

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
            self.completions.log = CompletionLog(RunFolder(self.run_dir).completions, self._others)
        return self.completions.log

    def _begin(self) -> None:
        """Opens the completions, and keeps the way of calibrating label checks with which the folder was begun."""
        self.log()
        if self.label_check is not None:
            self.plan = plan_of_folder(self.store(0), self.plan)
            if self.label_check.calibration != self.plan.label_calibration:  # setting it begins anew
                self.label_check.calibration = self.plan.label_calibration

    def _require_fingerprint(self, store: RoundStore, kind: Kind, depends: Mapping[str, str]) -> None:
        """Refuses or sets aside samples that were requested with other settings."""
        parts, same = synthesis_fingerprint(self.task, self.generator, self.plan, self.seed)
        parts |= {**depends, **self._judge.fingerprint()}
        store.require_fingerprint(kind, parts, same)
