"""Prompt, generate, parse, check and store until the quota is met. Knows no Lightning and no student."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gold_lightning.budget import Budget, Spent
from gold_lightning.checks.checker import Checker
from gold_lightning.checks.contamination import OVERLAP_WORDS, Decontaminator
from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.errors import ConfigError, QuotaError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators.base import Completion, Generator, Request
from gold_lightning.planning.plan import Plan
from gold_lightning.planning.quotas import Counts, give_up, quotas, requests_wanted, unanswered, yield_table
from gold_lightning.prompts import Hint, probe_request, training_request
from gold_lightning.storage.completions import CompletionLog, Completions
from gold_lightning.storage.round_store import BatchRecord, Kind, RoundStore, StoredSample, digest
from gold_lightning.task import Sample, Task

__all__ = ["Answers", "Asked", "Judged", "Progress", "Synthesizer"]


@dataclass(frozen=True)
class Progress:
    """How far a quota is: counts of the round; gain, tokens and seconds of this call, 0 before its first batch."""

    round: int
    kind: Kind
    accepted: int
    quota: int
    requested: int
    gained: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Asked:
    """A request with what its answer is judged by.

    Args:
        id: Of the sample that comes of it.
        request: What the generator gets.
        label: The wanted label; ``None`` for a sequence-to-sequence task.
        demos: What the prompt shows, in its order, each with its id.
        feedback: Whether feedback demos are among them.
        hint: What it asks for beyond the label.
    """

    id: str
    request: Request
    label: str | None
    demos: tuple[tuple[str, Sample], ...]
    feedback: bool
    hint: Hint


@dataclass(frozen=True)
class Judged:
    """What became of a request.

    Args:
        asked: The request.
        completion: What the generator gave.
        sample: The accepted sample; ``None`` for a reject.
        reason: Why it was rejected; "" for an accepted sample.
        favours: The label that the generator's own likelihoods favour; "" when not asked, or if they favour none.
        spare: The sample of a reject that was ``surplus``: a later round may take it.
    """

    asked: Asked
    completion: Completion
    sample: Sample | None
    reason: str
    favours: str = ""
    spare: Sample | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether the generator's own likelihoods favour the label that was asked for; ``None`` when not asked."""
        return self.favours == self.asked.label if self.favours else None


@dataclass(frozen=True)
class _Verdict:
    """Whether a sample that passed all checks of its own is taken.

    Args:
        reason: Why not; "" if it is.
        favours: The label that the generator's likelihoods favour; "" when not asked, or if they favour none.
    """

    reason: str = ""
    favours: str = ""


@dataclass(frozen=True)
class Answers:
    """A batch, answered and judged.

    Args:
        judged: One for each request, in order.
        scored: What the generator was asked about labels beside.
        seconds: Wall time of it all.
    """

    judged: tuple[Judged, ...]
    scored: tuple[Completion, ...]
    seconds: float


class Synthesizer:
    """Makes each round's samples once, and finds them again in the store.

    Args:
        task: The task.
        generator: Who writes.
        run_dir: The run folder.
        plan: How much, and how.
        seed: Everything drawn here depends on it and on indices alone, never on what ran before.
        report: Called before the first batch, and after each.
        decontaminator: Gives the index of the test set. It is asked for only where the plan drops what stands
            there, and used for nothing else: no prompt ever shows a test row.
        budget: What the run may spend.
        seconds: Gives the seconds that the run has taken, for the budget.
        stopping: Whether the run is to stop as soon as nothing is in flight.
        others: Files with the completions of other runs, which are not asked for again.
    """

    def __init__(
        self,
        task: Task,
        generator: Generator,
        run_dir: Path,
        plan: Plan = Plan(),  # noqa: B008 - frozen
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
        self._decontaminator = decontaminator if plan.decontaminate == "drop" else None
        self.run_dir, self.report = Path(run_dir), report
        self.budget, self._seconds, self._stopping, self._others = budget, seconds, stopping, others
        # Nothing is stored until a round is made: a preview asks too.
        self.completions = Completions(generator, CompletionLog())
        self._checker = Checker(task)
        self._remembered: set[str] = set()
        self._rounds: dict[int, RoundStore] = {}
        self.writes = True  # False in a process beside the one that stores
        self._label_check: LabelCheck | None = None
        if plan.label_agreement != "off":
            self._label_check = LabelCheck(
                task,
                seed,
                plan.label_agreement == "require",
                self._answer_in_batches,
                lambda r: self.generator.tokens_over_limit(r),
            )

    def store(self, round_: int) -> RoundStore:
        """The store of a round, opened once."""
        if round_ not in self._rounds:
            self._rounds[round_] = RoundStore(self.run_dir, round_, read_only=not self.writes)
        return self._rounds[round_]

    def log(self) -> CompletionLog:
        """What the run has been given so far; opened once."""
        if self.completions.log.path is None:
            log = CompletionLog(self.run_dir / "data" / "completions.jsonl", self._others)
            self.completions = Completions(self.generator, log, self.budget, self._seconds, self._stopping)
        return self.completions.log

    def spent(self, first: int = 0, last: int | None = None) -> Spent:
        """What the run's completions took, from a first round to a last one."""
        return self.log().spent(first, last)

    def reopen(self, round_: int) -> None:
        """Forgets what was read of a round: another process has written to it since."""
        self._rounds[round_] = RoundStore(self.run_dir, round_, read_only=True)

    def train(self, round_: int, pool: FeedbackPool, rate: float) -> Sequence[StoredSample]:
        """Training samples of a round: from the store, and what is missing from the generator.

        Args:
            round_: Number of the round.
            pool: Where feedback demos come from.
            rate: Share of the prompts that shows them, in [0, 1]; 0 where feedback has not begun.

        Raises:
            QuotaError: The quota was not met within ``plan.max_attempts``.
            BudgetSpentError: The budget is spent. What was asked for is stored.
        """
        fed = {"feedback": digest([pool.state_dict(), rate])}
        return self._fill(round_, "train", pool, rate, fed)

    def probe(self, round_: int) -> Sequence[StoredSample]:
        """The probe set of a round, which departs from its training samples. Raises as :meth:`train`."""
        shown = {"training samples": digest([s.id for s in self.store(round_).accepted("train")])}
        return self._fill(round_, "probe", FeedbackPool(), 0.0, shown)

    def _fill(
        self, round_: int, kind: Kind, pool: FeedbackPool, rate: float, depends: dict[str, str]
    ) -> Sequence[StoredSample]:
        self.log()
        store, quota = self.store(round_), self.plan.quota(kind)
        # Sizes are left out: a larger quota asks for more of the same, and pays for nothing twice.
        # Measuring the overlap changes no sample; dropping does, and stands beside the plan with its test set.
        apart = ("samples_per_round", "probe_per_round", "least_requests", "max_attempts", "decontaminate")
        how = {k: v for k, v in asdict(self.plan).items() if k not in apart}
        if self._decontaminator:
            rows = self._decontaminator().fingerprint()
            depends = depends | {"decontamination": digest([OVERLAP_WORDS, rows])}
        # How the student sees a sample changes none. Earlier versions took it for a part of the task.
        before = {k: v for k, v in self.task.to_dict().items() if k not in ("metrics", "test", "validation")}
        task = {k: v for k, v in before.items() if k != "student"}
        store.take_over(
            kind,
            {
                "task": digest(task),
                "generator": digest(self.generator.fingerprint()),
                "plan": digest(how),
                "seed": digest(self.seed),
                **depends,
            },
            {"task": [digest(before)], "generator": [digest(was) for was in self.generator.earlier_fingerprints()]},
        )
        self._remember_before(round_, kind)
        self._remember(store.accepted(kind))
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
        tokens, seconds, found = 0, 0.0, len(store.accepted(kind))
        if missing and self.report:
            self.report(Progress(round_, kind, found, quota, counts.requested.total(), 0, 0, 0.0))
        while missing:
            if why := give_up(counts, missing, wanted, self.plan):
                lent = self.spent(round_, round_)
                raise QuotaError(yield_table(store, kind, counts, missing, wanted, why, lent))
            asked, groups = self.ask(round_, kind, pool, rate, counts, train)
            record = self._commit(store, kind, self.answer(asked, missing, round_), groups, counts)
            tokens += record.prompt_tokens + record.completion_tokens
            seconds += record.seconds
            missing = self.missing(round_, kind, counts)
            if self.report:
                kept = len(store.accepted(kind))
                self.report(
                    Progress(round_, kind, kept, quota, counts.requested.total(), kept - found, tokens, seconds)
                )
        return store.accepted(kind)

    def missing(self, round_: int, kind: Kind, counts: Counts | None = None) -> Counter[str | None]:
        """How many samples are still wanted, by label; labels with nothing missing are left out.

        Args:
            round_: Number of the round.
            kind: Training samples or the probe set.
            counts: What the round has of them; nothing by default.
        """
        have = counts.accepted if counts else Counter[str | None]()
        wanted = quotas(self.plan.quota(kind), self.task.label_names, round_)
        return Counter({label: n - have[label] for label, n in wanted.items() if n > have[label]})

    def _by_label(self, samples: Sequence[StoredSample]) -> dict[str | None, list[tuple[str, Sample]]]:
        """Samples with their ids, by label; all under ``None`` for a task without labels."""
        found: dict[str | None, list[tuple[str, Sample]]] = {}
        for s in samples:
            found.setdefault(s.sample.target if self.task.labels else None, []).append((s.id, s.sample))
        return found

    def _take_surplus(self, round_: int, kind: Kind, missing: Counter[str | None], counts: Counts) -> None:
        """Takes what earlier rounds had more than they wanted: valid samples that are paid for.

        They were asked for with those rounds' prompts, demos and feedback. What an earlier round asked for in another
        way (generator, plan, seed) is left.
        """
        store, left = self.store(round_), Counter(missing)
        spare: list[StoredSample] = []
        taken = {id_ for r in range(1, round_) for id_ in self.store(r).from_surplus(kind)}
        for r in range(round_):
            if self.store(r).asked_alike(store, kind):
                spare += [s for s in self.store(r).surplus(kind) if s.id not in taken]
        spare = [s for s in spare if (s.sample.target if self.task.labels else None) in left]
        # As many as are missing and no more: what is looked at is either taken or rejected for good.
        chosen: list[StoredSample] = []
        for stored in spare:
            label = stored.sample.target if self.task.labels else None
            if left[label] > 0 and stored.id not in self._remembered:
                left[label] -= 1
                chosen.append(stored)
        if not chosen:
            return
        started = time.perf_counter()
        verdicts, scored = self._take([(s.id, s.sample, s.sample.target) for s in chosen], missing, round_)
        accepted: list[StoredSample] = []
        rejects: list[dict[str, Any]] = []
        for stored, verdict in zip(chosen, verdicts, strict=True):
            agrees = verdict.favours == stored.sample.target if verdict.favours else None
            made = replace(stored, batch=0, agrees=agrees, favours=verdict.favours)
            if not verdict.reason:
                accepted.append(made)
                continue
            of = {"label": made.sample.target, "prompt_hash": made.prompt_hash, "surplus_of": made.surplus_of}
            rejects.append({"id": made.id, "reason": verdict.reason, **of, "raw": made.raw})
        record = BatchRecord(
            kind=kind,
            index=0,
            requested=len(chosen),
            accepted=len(accepted),
            rejects=dict(Counter(r["reason"] for r in rejects)),
            prompt_tokens=sum(c.prompt_tokens for c in scored),
            completion_tokens=sum(c.completion_tokens for c in scored),
            seconds=time.perf_counter() - started,
            agreed=sum(bool(v.favours) and v.favours == s.sample.target for s, v in zip(chosen, verdicts, strict=True)),
            asked_agreement=sum(bool(v.favours) for v in verdicts),
            from_surplus=len(chosen),
        )
        prompts: dict[str, str] = {}
        for r in {s.surplus_of for s in chosen if s.surplus_of is not None}:
            prompts |= self.store(r).prompts({s.prompt_hash for s in chosen if s.surplus_of == r})
        store.commit(record, accepted, rejects, prompts, {"generator": self.generator.fingerprint()})
        counts.add([record], accepted, bool(self.task.labels))

    def ask(
        self,
        round_: int,
        kind: Kind,
        pool: FeedbackPool,
        rate: float,
        counts: Counts | None = None,
        train: Mapping[str | None, Sequence[tuple[str, Sample]]] | None = None,
    ) -> tuple[list[Asked], list[dict[str, Any]]]:
        """Plans the next batch of requests: a function of what is committed and of seeds alone.

        Args:
            round_: Number of the round.
            kind: Training samples or the probe set.
            pool: Where feedback demos come from.
            rate: Share of the prompts that shows them, in [0, 1].
            counts: What the round has of this kind; nothing by default: this is the first batch.
            train: The round's training samples with their ids, by label, from which a probe prompt departs.

        Returns:
            The requests, at most as many as the generator likes at once, and what each group of them asks for.
        """
        counts = counts or Counts()
        to_ask = requests_wanted(self.missing(round_, kind, counts), counts, self.plan.least_requests)
        requested, first = counts.requested.total(), counts.groups.total()
        earlier, hinted = Counter(counts.groups), Counter(counts.requested)
        asked: list[Asked] = []
        groups: list[dict[str, Any]] = []
        while len(asked) < self.generator.batch_size and any(n > 0 for n in to_ask.values()):
            label = max(to_ask, key=lambda name: to_ask[name])  # ties: the task's order
            size = min(self.plan.group_size, to_ask[label], self.generator.batch_size - len(asked))
            rng = random.Random(f"{self.seed}/{round_}/{kind}/{first + len(groups)}")
            # Each label begins one turn further on: with a group of each in a round, all would take turns together.
            turn = earlier[label] + round_ + (self.task.label_names.index(label) if label is not None else 0)
            key, by_hint = label if label is not None else "", self.plan.feedback_as == "hint"
            # A prompt that shows or asks for nothing of what was fed back is no feedback prompt.
            usable = pool.entries(key, hinted=by_hint) if by_hint or self.plan.feedback_demos else ()
            feed = usable and math.floor((turn + 1) * rate) > math.floor(turn * rate)
            as_demos = feed and not by_hint
            demos = self._demos(kind, label, pool if as_demos else None, (train or {}).get(label, ()), rng)
            for i in range(size):
                hint = self._hint(round_, kind, label, hinted[label] + i)
                if feed and not as_demos:
                    (entry,) = pool.draw(1, rng, key, hinted=True)
                    hint = Hint(**entry.hint)
                asked.append(self._one(round_, kind, requested + len(asked), label, demos, bool(feed), hint))
            groups.append({"label": label, "feedback": bool(feed), "size": size})
            to_ask[label] -= size
            earlier[label] += 1
            hinted[label] += size
        return asked, groups

    def _demos(
        self,
        kind: Kind,
        label: str | None,
        pool: FeedbackPool | None,
        train: Sequence[tuple[str, Sample]],
        rng: random.Random,
    ) -> tuple[tuple[str, Sample], ...]:
        """What a group's prompt shows, with ids; for probe prompts the samples to depart from come last."""
        own_label = label is not None and not self.task.contrast
        seeds = [(f"demo-{i}", d) for i, d in enumerate(self.task.demos) if not own_label or d.target == label]
        shown = rng.sample(seeds, min(self.plan.seed_demos, len(seeds)))
        if pool is not None:
            drawn = pool.draw(self.plan.feedback_demos, rng, label if label is not None else "")
            shown += [(e.id, e.sample) for e in drawn]
            rng.shuffle(shown)
        if kind == "probe":
            shown += rng.sample(train, min(self.plan.depart_from, len(train)))
        return tuple(shown)

    def _hint(self, round_: int, kind: Kind, label: str | None, number: int) -> Hint:
        """Cycles through topics, perspectives and styles, each in an order shuffled by round and kind.

        A training prompt carries one hint beside the topic at most; a probe prompt carries all three, to get
        further away.
        """

        def pick(name: str, options: Sequence[str], turn: int) -> str:
            if not options or not self.plan.hints:
                return ""
            order = list(options)
            random.Random(f"{self.seed}/{round_}/{kind}/{name}/{label}/{turn // len(order)}").shuffle(order)
            return order[turn % len(order)]

        hints = self.task.hints
        topics = (self.task.label(label).hints if label is not None else ()) or hints.topics
        both = kind == "probe"
        return Hint(
            pick("topic", topics, number),
            pick("perspective", hints.perspectives, number // 3) if both or number % 3 == 1 else "",
            pick("style", hints.styles, number // 3) if both or number % 3 == 2 else "",
        )

    def _one(
        self,
        round_: int,
        kind: Kind,
        number: int,
        label: str | None,
        demos: tuple[tuple[str, Sample], ...],
        feedback: bool,
        hint: Hint,
    ) -> Asked:
        seed = random.Random(f"{self.seed}/{round_}/{kind}/request/{number}").getrandbits(31)
        id_ = f"r{round_:03d}-{kind}-{number:05d}"
        if kind == "train":
            request = training_request(self.task, label, [d for _, d in demos], hint, seed, self.plan.instruction)
        else:
            seeds = [d for i, d in demos if i.startswith("demo-")]
            depart = [d for i, d in demos if not i.startswith("demo-")]
            request = probe_request(self.task, label, seeds, depart, hint, seed, self.plan.instruction)
        return Asked(id_, request, label, demos, feedback, hint)

    def answer(self, asked: Sequence[Asked], missing: Counter[str | None], round_: int = 0) -> Answers:
        """Has the generator answer requests, and judges what it gave. Remembers the accepted, commits nothing.

        Args:
            asked: The requests.
            missing: How many samples are wanted, by label; what is beyond that is rejected as ``surplus``.
            round_: The round that they are for.
        """
        started = time.perf_counter()
        completions = self.completions.answer([a.request for a in asked], round_)
        found: list[tuple[Asked, Completion, Sample | None, str]] = []
        for a, completion in zip(asked, completions, strict=True):
            described = "\n".join(f.description for f in self.task.fields)
            instruction = f"{a.request.system}\n{a.request.suffix}\n{described}"
            shown = [*self.task.demos, *(d for _, d in a.demos)]
            sample, reason = self._checker.judge(completion, a.label, a.request.answer_prefix, instruction, shown)
            if sample is not None and self._decontaminator and self._decontaminator().overlap(sample):
                sample, reason = None, "in_test_set"
            found.append((a, completion, sample, reason))

        valid = [(a.id, sample, a.label) for a, _, sample, _ in found if sample is not None]
        verdicts, scored = self._take(valid, missing, round_)
        of = dict(zip((id_ for id_, _, _ in valid), verdicts, strict=True))
        judged: list[Judged] = []
        for a, completion, sample, reason in found:
            verdict = of.get(a.id, _Verdict(reason))
            spare = sample if verdict.reason == "surplus" else None
            taken = None if verdict.reason else sample
            judged.append(Judged(a, completion, taken, verdict.reason, verdict.favours, spare))
        return Answers(tuple(judged), tuple(scored), time.perf_counter() - started)

    def _take(
        self, valid: Sequence[tuple[str, Sample, str | None]], missing: Mapping[str | None, int], round_: int
    ) -> tuple[list[_Verdict], list[Completion]]:
        """Takes as many samples as are missing, and remembers them.

        The label of a sample is checked only if the sample can be taken: those that are too many, and twins of one
        that is, are not asked about. Where the check makes room, the next ones have their turn.

        Args:
            valid: Id, sample and wanted label of what passed all other checks, in order.
            missing: How many samples are wanted, by label.
            round_: The round that they are for.

        Returns:
            What became of each, and the completions that checked labels.
        """
        left = Counter(missing)
        verdicts: dict[int, _Verdict] = {}
        scored: list[Completion] = []
        waiting = list(range(len(valid)))
        while waiting:
            room, chosen, later = Counter(left), list[int](), list[int]()
            for i in waiting:
                _, sample, label = valid[i]
                if room[label] > 0 and not self._checker.duplicate(sample):
                    self._checker.keep(sample)  # for now: its twins wait for its verdict
                    room[label] -= 1
                    chosen.append(i)
                else:
                    later.append(i)
            if not chosen:
                break
            waiting, favoured = later, [""] * len(chosen)
            if self._label_check:
                favoured, completions = self._label_check.favoured([valid[i][1] for i in chosen], round_)
                scored += completions
            for i, favours in zip(chosen, favoured, strict=True):
                id_, sample, label = valid[i]
                if favours != label and self.plan.label_agreement == "require":
                    verdicts[i] = _Verdict("label_disagreement" if favours else "label_unchecked", favours)
                    self._checker.forget(sample)
                else:
                    # Only what is stored is remembered: a resumed run judges as this one does.
                    verdicts[i] = _Verdict("", favours)
                    self._remembered.add(id_)
                    left[label] -= 1
        for i in waiting:
            reason = self._checker.duplicate(valid[i][1]) or "surplus"
            verdicts[i] = _Verdict(reason)
        return [verdicts[i] for i in range(len(valid))], scored

    def _commit(
        self, store: RoundStore, kind: Kind, answers: Answers, groups: Sequence[dict[str, Any]], counts: Counts
    ) -> BatchRecord:
        """Puts a batch into the store."""
        index, judged = len(store.batches(kind)), answers.judged
        accepted: list[StoredSample] = []
        rejects: list[dict[str, Any]] = []
        for j in judged:
            a, prompt_hash = j.asked, digest(j.asked.request.text)
            sample = j.sample or j.spare
            stored = sample and StoredSample(
                id=a.id,
                sample=sample,
                batch=index,
                prompt_hash=prompt_hash,
                demo_ids=tuple(i for i, _ in a.demos),
                feedback=a.feedback,
                hint={k: v for k, v in asdict(a.hint).items() if v},
                seed=a.request.seed,
                raw=j.completion.text,
                agrees=j.agrees,
                favours=j.favours,
            )
            if stored and j.sample is not None:
                accepted.append(stored)
                continue
            of = {"label": a.label, "prompt_hash": prompt_hash}
            spare = store.spare_row(stored) if stored else {}
            rejects.append({"id": a.id, "reason": j.reason, **of, **spare, "raw": j.completion.text})
        spent = [*(j.completion for j in judged), *answers.scored]
        record = BatchRecord(
            kind=kind,
            index=index,
            requested=len(judged),
            accepted=len(accepted),
            rejects=dict(Counter(r["reason"] for r in rejects)),
            prompt_tokens=sum(c.prompt_tokens for c in spent),
            completion_tokens=sum(c.completion_tokens for c in spent),
            seconds=answers.seconds,
            groups=list(groups),
            agreed=sum(j.agrees is True for j in judged),
            asked_agreement=sum(j.agrees is not None for j in judged),
        )
        prompts = {digest(j.asked.request.text): j.asked.request.text for j in judged}
        store.commit(record, accepted, rejects, prompts, {"generator": self.generator.fingerprint()})
        counts.add([record], accepted, bool(self.task.labels))
        return record

    def calibrate(self, round_: int = 0) -> list[Completion]:
        """Makes the label check ready, if labels are checked at all: see :meth:`LabelCheck.calibrate`.

        :meth:`answer` does it by itself; a caller who measures does it before.

        Args:
            round_: The round that it is for.

        Returns:
            What was asked for it; nothing where it was done before, or where no label is checked.
        """
        return self._label_check.calibrate(round_) if self._label_check else []

    def _answer_in_batches(self, requests: Sequence[Request], round_: int) -> list[Completion]:
        size = self.generator.batch_size
        parts = (requests[at : at + size] for at in range(0, len(requests), size))
        return [completion for part in parts for completion in self.completions.answer(part, round_)]

    def _remember_before(self, round_: int, kind: Kind) -> None:
        """What was kept before this round and kind: a duplicate of any of it is none of this round's."""
        for r in range(round_ + 1):
            for k in ("train", "probe"):
                if (r, k == "probe") < (round_, kind == "probe"):
                    self._remember(self.store(r).accepted(k))

    def _remember(self, samples: Sequence[StoredSample]) -> None:
        for stored in samples:
            if stored.id not in self._remembered:
                self._remembered.add(stored.id)
                self._checker.keep(stored.sample)
