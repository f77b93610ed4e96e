"""Prompt, generate, parse, check and store until the quota is met. Knows no Lightning and no student."""

from __future__ import annotations

import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gold_lightning.checks import OVERLAP_WORDS, Checker, Decontaminator
from gold_lightning.completions import CompletionLog, Completions
from gold_lightning.errors import ConfigError, QuotaError
from gold_lightning.generators.base import Completion, Generator, Request, has_preference
from gold_lightning.ledger import Budget, Spent
from gold_lightning.plan import Plan
from gold_lightning.pool import FeedbackPool
from gold_lightning.prompt import Hint, agreement_request, probe_request, training_request
from gold_lightning.store import BatchRecord, Kind, RoundStore, StoredSample, digest, read_lines
from gold_lightning.task import Sample, Task

__all__ = ["Answers", "Asked", "Judged", "Progress", "Synthesizer"]

_log = logging.getLogger(__name__)
_PRIOR_YIELD = 0.7
_LEAST_YIELD = 0.25


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
    """

    asked: Asked
    completion: Completion
    sample: Sample | None
    reason: str
    favours: str = ""

    @property
    def agrees(self) -> bool | None:
        """Whether the generator's own likelihoods favour the label that was asked for; ``None`` when not asked."""
        return self.favours == self.asked.label if self.favours else None


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
        self._prior: tuple[float, ...] | None = None
        self._silence_told = False  # whether it was said that label checks had no answer

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
        task = {k: v for k, v in self.task.to_dict().items() if k not in ("metrics", "test", "validation")}
        store.take_over(
            kind,
            {
                "task": digest(task),
                "generator": digest(self.generator.fingerprint()),
                "plan": digest(how),
                "seed": digest(self.seed),
                **depends,
            },
            {"generator": [digest(was) for was in self.generator.earlier_fingerprints()]},
        )
        self._remember_before(round_, kind)
        self._remember(store.accepted(kind))
        missing = self.missing(round_, kind, store.accepted(kind))
        tokens, seconds, found = 0, 0.0, len(store.accepted(kind))
        silent = _unanswered(store, kind)  # in earlier sittings: the server may answer now
        if missing and self.report:
            asked_for = sum(b.requested for b in store.batches(kind))
            self.report(Progress(round_, kind, found, quota, asked_for, 0, 0, 0.0))
        while missing:
            requested = sum(b.requested for b in store.batches(kind))
            limit = math.ceil(self.plan.max_attempts * quota)
            kept = len(store.accepted(kind))
            tried = requested - silent
            if _most_accepted(kept, tried, limit - tried) < missing.total():
                lent = self.spent(round_, round_)
                raise QuotaError(_yield_table(store, kind, quota, missing, requested, limit, lent))
            asked, groups = self.ask(
                round_, kind, pool, rate, store.batches(kind), store.accepted(kind), store.accepted("train")
            )
            record = self._commit(store, kind, self.answer(asked, missing, round_), groups)
            tokens += record.prompt_tokens + record.completion_tokens
            seconds += record.seconds
            missing = self.missing(round_, kind, store.accepted(kind))
            if self.report:
                kept = len(store.accepted(kind))
                asked_for = requested + len(asked)
                self.report(Progress(round_, kind, kept, quota, asked_for, kept - found, tokens, seconds))
        return store.accepted(kind)

    def missing(self, round_: int, kind: Kind, accepted: Sequence[StoredSample] = ()) -> Counter[str | None]:
        """How many samples are still wanted, by label; labels with nothing missing are left out.

        Args:
            round_: Number of the round.
            kind: Training samples or the probe set.
            accepted: What the round has of them.
        """
        quota = self.plan.quota(kind)
        labels: tuple[str | None, ...] = self.task.label_names or (None,)
        # The remainder goes to other labels in each round, so that no label gains over a run.
        turn = round_ % len(labels)
        order = labels[turn:] + labels[:turn]
        have = Counter(s.sample.target if self.task.labels else None for s in accepted)
        wanted = {label: quota // len(labels) + (i < quota % len(labels)) for i, label in enumerate(order)}
        return Counter({label: wanted[label] - have[label] for label in labels if wanted[label] > have[label]})

    def ask(
        self,
        round_: int,
        kind: Kind,
        pool: FeedbackPool,
        rate: float,
        batches: Sequence[BatchRecord] = (),
        accepted: Sequence[StoredSample] = (),
        train: Sequence[StoredSample] = (),
    ) -> tuple[list[Asked], list[dict[str, Any]]]:
        """Plans the next batch of requests: a function of what is committed and of seeds alone.

        Args:
            round_: Number of the round.
            kind: Training samples or the probe set.
            pool: Where feedback demos come from.
            rate: Share of the prompts that shows them, in [0, 1].
            batches: The committed batches of this round and kind; none: this is the first.
            accepted: What they gave.
            train: The round's training samples, from which a probe prompt departs.

        Returns:
            The requests, at most as many as the generator likes at once, and what each group of them asks for.
        """
        missing = self.missing(round_, kind, accepted)
        earlier = [g for b in batches for g in b.groups]
        requested, kept = sum(b.requested for b in batches), len(accepted)
        rate_kept = max(_LEAST_YIELD, kept / requested) if requested else _PRIOR_YIELD
        more = max(1.0, self.plan.least_requests * rate_kept / missing.total())
        to_ask = {label: math.ceil(n * more / rate_kept) for label, n in missing.items()}
        asked: list[Asked] = []
        groups: list[dict[str, Any]] = []
        while len(asked) < self.generator.batch_size and any(n > 0 for n in to_ask.values()):
            label = max(to_ask, key=lambda name: to_ask[name])  # ties: the task's order
            size = min(self.plan.group_size, to_ask[label], self.generator.batch_size - len(asked))
            before = [g for g in earlier + groups if g["label"] == label]
            group = len(earlier) + len(groups)
            rng = random.Random(f"{self.seed}/{round_}/{kind}/{group}")
            # Each label begins one turn further on: with a group of each in a round, all would take turns together.
            turn = len(before) + round_ + (self.task.label_names.index(label) if label is not None else 0)
            key, by_hint = label if label is not None else "", self.plan.feedback_as == "hint"
            # A prompt that shows or asks for nothing of what was fed back is no feedback prompt.
            usable = pool.entries(key, hinted=by_hint) if by_hint or self.plan.feedback_demos else ()
            feed = usable and math.floor((turn + 1) * rate) > math.floor(turn * rate)
            as_demos = feed and not by_hint
            demos = self._demos(kind, label, pool if as_demos else None, train, rng)
            hinted = sum(g["size"] for g in before)
            for i in range(size):
                hint = self._hint(round_, kind, label, hinted + i)
                if feed and not as_demos:
                    (entry,) = pool.draw(1, rng, key, hinted=True)
                    hint = Hint(**entry.hint)
                asked.append(self._one(round_, kind, requested + len(asked), label, demos, bool(feed), hint))
            groups.append({"label": label, "feedback": bool(feed), "size": size})
            to_ask[label] -= size
        return asked, groups

    def _demos(
        self,
        kind: Kind,
        label: str | None,
        pool: FeedbackPool | None,
        train: Sequence[StoredSample],
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
            made = [(s.id, s.sample) for s in train if label is None or s.sample.target == label]
            shown += rng.sample(made, min(self.plan.depart_from, len(made)))
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
            instruction = f"{a.request.system}\n{a.request.own}\n" + "\n".join(f.description for f in self.task.fields)
            shown = [*self.task.demos, *(d for _, d in a.demos)]
            sample, reason = self._checker.judge(completion, a.label, a.request.answer, instruction, shown)
            if sample is not None and self._decontaminator and self._decontaminator().overlap(sample):
                sample, reason = None, "in_test_set"
            found.append((a, completion, sample, reason))

        favoured, scored = self._agreement([sample for _, _, sample, _ in found if sample is not None], round_)
        verdicts = iter(favoured)
        left = Counter(missing)
        judged: list[Judged] = []
        for a, completion, sample, reason in found:
            favours = "" if sample is None else next(verdicts)
            if sample is not None:
                if favours != a.label and self.plan.label_agreement == "require":
                    reason = "label_disagreement" if favours else "label_unchecked"
                elif left[a.label] <= 0:
                    reason = "surplus"
                else:
                    reason = self._checker.duplicate(sample)  # of an earlier sample of this very batch
            if sample is not None and not reason:
                # Only what is stored is remembered: a resumed run judges as this one does.
                self._remembered.add(a.id)
                self._checker.keep(sample)
                left[a.label] -= 1
            judged.append(Judged(a, completion, None if reason else sample, reason, favours))
        return Answers(tuple(judged), tuple(scored), time.perf_counter() - started)

    def _commit(self, store: RoundStore, kind: Kind, answers: Answers, groups: Sequence[dict[str, Any]]) -> BatchRecord:
        """Puts a batch into the store."""
        index, judged = len(store.batches(kind)), answers.judged
        accepted: list[StoredSample] = []
        rejects: list[dict[str, Any]] = []
        for j in judged:
            a, prompt_hash = j.asked, digest(j.asked.request.text)
            if j.sample is None:
                of = {"label": a.label, "prompt_hash": prompt_hash}
                rejects.append({"id": a.id, "reason": j.reason, **of, "raw": j.completion.text})
                continue
            accepted.append(
                StoredSample(
                    id=a.id,
                    sample=j.sample,
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
            )
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
        return record

    def calibrate(self, round_: int = 0) -> list[Completion]:
        """Takes the mean log-likelihood of each label over seed demos, once, where labels are checked at all.

        A small model likes some labels better than others whatever it reads (calibration after Zhao et al.,
        ICML 2021). :meth:`answer` does it by itself; a caller who measures does it before.

        Args:
            round_: The round that it is for.

        Returns:
            What was asked for it; nothing where it was done before, or where no label is checked.
        """
        if self.plan.label_agreement == "off" or self._prior is not None:
            return []
        shown, others = self._label_demos()
        asked = [agreement_request(self.task, d.fields, shown) for d in others]
        spent = self.completions.answer(asked, round_)
        told = [s.choice_log_probs for s in spent if has_preference(s.choice_log_probs)]
        # A label that has no mass beside a demo says nothing about how much it is liked beside others.
        each = ([p for p in scores if math.isfinite(p)] for scores in zip(*told, strict=True))
        self._prior = tuple(sum(p) / len(p) if p else 0.0 for p in each) or (0.0,) * len(self.task.labels)
        return spent

    def _label_demos(self) -> tuple[list[Sample], list[Sample]]:
        """The demos that label checks show, one of each label, and those that they are calibrated with."""
        order = random.Random(f"{self.seed}/agreement").sample(self.task.demos, len(self.task.demos))
        shown = [next(d for d in order if d.target == name) for name in self.task.label_names]
        # As many of each label, so that what the likelihoods favour on average is the model's own bias.
        return shown, [d for d in order if d not in shown] or shown

    def _agreement(self, samples: Sequence[Sample], round_: int) -> tuple[list[str], list[Completion]]:
        """The label that the generator's likelihoods favour for each sample, relative to :meth:`calibrate`'s means."""
        if self.plan.label_agreement == "off" or not samples:
            return [""] * len(samples), []
        self.calibrate(round_)
        means = self._prior or ()  # calibrate() has set it
        shown, _ = self._label_demos()
        asked = [agreement_request(self.task, s.fields, shown) for s in samples]
        names = self.task.label_names
        answers: list[Completion] = []
        for at in range(0, len(asked), self.generator.batch_size):
            answers += self.completions.answer(asked[at : at + self.generator.batch_size], round_)
        favoured: list[str] = []
        for answer in answers:
            if not has_preference(answer.choice_log_probs):
                favoured.append("")
                continue
            lift = [score - mean for score, mean in zip(answer.choice_log_probs, means, strict=True)]
            favoured.append(names[max(range(len(names)), key=lambda i: lift[i])])
        if (silent := favoured.count("")) and not self._silence_told:
            self._silence_told = True
            _log.warning(
                "%d of %d label checks have no answer: no label is among what the generator may say next; %s",
                *(silent, len(favoured)),
                "such samples are rejects (label_unchecked), or set data.plan.label_agreement to off"
                if self.plan.label_agreement == "require"
                else "such samples count as not checked",
            )
        return favoured, answers

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


def _most_accepted(accepted: int, requested: int, more: int) -> float:
    """How many samples more requests may give at the very best, judged by the requests so far.

    At the very best is Wilson's upper bound of the yield, three standard errors up (Wilson, 1927): a round that
    could still meet its quota is hardly ever given up, and a hopeless one costs little.
    """
    if not requested or more <= 0:
        return max(0, more)
    z = 3.0
    share = accepted / requested
    spread = z * math.sqrt(share * (1 - share) / requested + (z / (2 * requested)) ** 2)
    return more * (share + z * z / (2 * requested) + spread) / (1 + z * z / requested)


_NO_ANSWER = {
    "filtered": "a filter refuses these prompts (the log has its words): change the wording of the task and its demos, "
    "or take a server or model without it",
    "failed": "the server broke these answers off (the log has its words): start again when it is well",
    "empty": "the model wrote nothing: thinking may take all tokens (a higher max_sample_tokens of the task; with "
    "OpenAIGenerator, extra: {chat_template_kwargs: {enable_thinking: false}}), or the server drops the text",
    "only_thinking": "the model only thinks: turn that off, or raise max_sample_tokens of the task",
    "label_unchecked": "the generator does not answer with a label: set data.plan.label_agreement to off",
}
"""What to do about requests that have no answer. They are not stored, and the same command asks anew."""


def _unanswered(store: RoundStore, kind: Kind) -> int:
    """How many requests of committed batches had no answer."""
    rows = (row for row in read_lines(store.folder / "rejects.jsonl") if row.get("kind") == kind)
    return sum(row.get("reason") in _NO_ANSWER or not str(row.get("raw", "")).strip() for row in rows)


def _yield_table(
    store: RoundStore, kind: Kind, quota: int, missing: Counter[str | None], requested: int, limit: int, spent: Spent
) -> str:
    kept = len(store.accepted(kind))
    name = "training" if kind == "train" else "probe"
    rows = [f"round {store.round}: {kept} of {quota} {name} samples after {requested} requests; rejects by reason:"]
    rows += [f"  {reason:<20} {count}" for reason, count in store.rejects(kind).most_common()]
    if None not in missing:
        rows.append("missing by label: " + ", ".join(f"{label} {count}" for label, count in missing.items()))
    if requested < limit:
        rows.append(f"stopped early: at this yield {limit} requests (data.plan.max_attempts) would not do")
    rows.append("raw texts: " + str(store.folder / "rejects.jsonl"))
    common = [(reason, count) for reason, count in store.rejects(kind).most_common(2) if 3 * count >= requested - kept]
    rows += [f"{reason}: {_NO_ANSWER[reason]}" for reason, _ in common if reason in _NO_ANSWER]
    if 2 * spent.reused > spent.calls + spent.reused:
        rows.append(
            f"{spent.reused} of {spent.calls + spent.reused} answers of the round are stored ones of other runs: "
            "--data.reuse_completions false asks anew"
        )
    silent = _unanswered(store, kind)
    again = "start it again when that is mended, or " if 2 * silent > requested else ""
    rows.append(
        f"change: {again}demos, limits or checks of the task, --data.generator, or a higher --data.plan.max_attempts"
    )
    return "\n".join(rows)
