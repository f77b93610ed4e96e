"""Previews a run before it costs anything: its prompts, a few judged completions, and an estimate of the total cost.

The run's own :class:`~gold_lightning.synthesis.Synthesizer` plans, parses and judges the requests, so that a preview
shows exactly what a run does. Nothing is stored, and the student's weights are not needed.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gold_lightning.budget import Budget
from gold_lightning.console import duration, printable, rule, table, width, wrap
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError
from gold_lightning.feedback import FeedbackPool, PoolEntry
from gold_lightning.generators import Completion
from gold_lightning.judging import JudgedBatch, JudgedCompletion
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.requests import PlannedRequest
from gold_lightning.prompts import render
from gold_lightning.synthesis import Synthesizer
from gold_lightning.t5.checks import count_cut
from gold_lightning.task import Sample, Task

__all__ = ["Cost", "Measured", "PreviewSettings", "Requests", "cost", "plan_requests", "preview", "wilson_interval"]

_MAX_REJECT_CHARS = 600
_FIRST_PROMPT = "as round 0 sends it, word for word"
_WHAT_TO_CHANGE = {
    "filtered": "wording of the task and its demos that no filter takes amiss, a server with a milder filter, "
    "or another data.generator",
    "failed": "another server, or later: the server broke these answers off",
    "only_thinking": "a generator that answers without thinking: a reasoning parser of the server, "
    "init_args.extra {chat_template_kwargs: {enable_thinking: false}}, or a higher max_sample_tokens of the task",
    "refusal": "milder wording of the task and its demos, another data.generator, or allow_refusals: true in a task "
    "about refusals",
    "empty": "another data.generator, or its init_args.form",
    "truncated": "a higher max_sample_tokens of the task (thinking counts too), or shorter demos",
    "not_unicode": "another data.generator, or a server that does not cut characters in two",
    "unparsable": "another data.generator, its init_args.form, or simpler demos",
    "missing_field": "another data.generator, its init_args.form, or fewer fields",
    "too_short": "longer demos, or a lower min_chars of the field",
    "too_long": "shorter demos, or a higher max_chars of the field",
    "too_many_sentences": "shorter demos, cut_at_sentence: true or a higher max_sentences of the field",
    "wrong_label": "meanings of the labels that are further apart, or another data.generator",
    "label_not_in_set": "names of the labels that are common words, or another data.generator",
    "label_disagreement": "clearer meanings and demos of the labels, another data.generator, "
    "or data.plan.label_agreement: measure",
    "label_unchecked": "another data.generator, or data.plan.label_agreement: off (it does not answer with a label)",
    "copies_demo": "more demos that differ more, or another data.generator",
    "copies_prompt": "another data.generator, or its init_args.form",
    "duplicate": "more hints in the task, or a higher temperature of the generator",
    "near_duplicate": "more hints in the task, or a higher temperature of the generator",
}


@dataclass(frozen=True)
class PreviewSettings:
    """Settings of the ``preview`` command.

    Args:
        count: Number of requests sent to the generator.

    Raises:
        ConfigError: ``count`` is below 1.
    """

    count: int = 8

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError("preview.count", self.count, "1 or more")


@dataclass(frozen=True)
class Requests:
    """The requests that a preview shows.

    Args:
        batch: First batch of round 0, exactly as a run sends it.
        feedback: Training request of the first round that uses feedback; ``None`` if no round does.
        probe: Probe request of round 0.
    """

    batch: Sequence[PlannedRequest]
    feedback: PlannedRequest | None
    probe: PlannedRequest

    def handful(self, count: int) -> list[PlannedRequest]:
        """Returns some requests of the batch, in its order, spread evenly over the prompts so that each label occurs.

        Args:
            count: Number of requests; the whole batch if it is smaller.
        """
        seen: Counter[str] = Counter()
        turns = []
        for i, planned in enumerate(self.batch):
            turns.append((seen[planned.request.prefix], i))
            seen[planned.request.prefix] += 1
        return [self.batch[i] for i in sorted(i for _, i in sorted(turns)[:count])]


@dataclass(frozen=True)
class Measured:
    """The measured yield and cost of the requests that a preview sent.

    Args:
        requests: Number of requests.
        passed: Number of completions that passed all checks.
        prompt_tokens: Tokens of the prompts.
        completion_tokens: Tokens written by the generator.
        label_tokens: Prompt tokens of the label checks.
        calibration_tokens: Prompt tokens of the calibration, which a run does once before its label checks.
        seconds: Wall time in seconds, without loading and calibration.
        feedback_length: Length of a feedback prompt as a multiple of a training prompt's.
        probe_length: Length of a probe prompt as a multiple of a training prompt's.
    """

    requests: int
    passed: int
    prompt_tokens: int
    completion_tokens: int
    label_tokens: int = 0
    calibration_tokens: int = 0
    seconds: float = 0.0
    feedback_length: float = 1.0
    probe_length: float = 1.0


@dataclass(frozen=True)
class Cost:
    """The cost of generation for a whole run, or for the part until it stops.

    Args:
        requests: Number of requests for samples.
        prompt_tokens: Tokens of all prompts, label checks included.
        completion_tokens: Tokens written by the generator.
        seconds: Generation time in seconds.
    """

    requests: float
    prompt_tokens: float
    completion_tokens: float
    seconds: float


def wilson_interval(hits: int, of: int) -> tuple[float, float]:
    """Returns the 95 % score interval of a share (Wilson, 1927).

    Args:
        hits: Number of successes, 0 to ``of``.
        of: Number of trials, 1 or more.

    >>> low, high = wilson_interval(0, 8)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.324)
    """
    from scipy.stats import binomtest

    low, high = binomtest(hits, of).proportion_ci(method="wilson")
    return float(low), float(high)


def cost(train: float, feedback: float, probe: float, measured: Measured) -> Cost:
    """Estimates the cost of some requests from the measured cost of a few.

    Prompt tokens of feedback and probe requests are scaled by the length of their prompts; seconds are proportional to
    the number of requests.

    Args:
        train: Number of training requests without feedback.
        feedback: Number of training requests with feedback.
        probe: Number of probe requests.
        measured: Measured cost.
    """
    n = measured.requests
    requests = train + feedback + probe
    prompts = train + feedback * measured.feedback_length + probe * measured.probe_length
    return Cost(
        requests=requests,
        prompt_tokens=(measured.prompt_tokens * prompts + measured.label_tokens * requests) / n
        + measured.calibration_tokens,
        completion_tokens=measured.completion_tokens * requests / n,
        seconds=measured.seconds * requests / n,
    )


def plan_requests(synthesizer: Synthesizer, warmup_rounds: int, rate: float) -> Requests:
    """Plans the requests that a preview shows. Nothing is generated.

    Demos stand in for samples that do not exist yet; their ids begin with ``stand-in``. They have the label of the
    prompt and differ from its own demos if the task has others.

    Args:
        synthesizer: Synthesizer of the run; its store is not read.
        warmup_rounds: Number of rounds without feedback.
        rate: Share of the prompts with feedback, in [0, 1].
    """
    plan, task = synthesizer.plan, synthesizer.task
    batch, _ = synthesizer.plan_batch(0, "train", FeedbackPool(), 0.0)
    (probe, *_), _ = synthesizer.plan_batch(0, "probe", FeedbackPool(), 0.0)
    train = _stand_ins(task, probe)
    (probe, *_), _ = synthesizer.plan_batch(0, "probe", FeedbackPool(), 0.0, train=train)
    feedback = None
    if rate and (plan.feedback_demos or plan.feedback_as == "hint"):
        first = warmup_rounds + 1
        (seeds, *_), _ = synthesizer.plan_batch(first, "train", FeedbackPool(), 0.0)
        pool = FeedbackPool(len(task.demos))
        # Fed-back samples come from probe prompts, which have all kinds of hints.
        probes, _ = synthesizer.plan_batch(first, "probe", FeedbackPool(), 0.0)
        likely = next((a.hint for a in probes if a.label == seeds.label), seeds.hint)
        hint = {k: v for k, v in vars(likely).items() if v}
        pool.push((PoolEntry(i, d, 0.0, 0, hint) for i, d in _stand_ins(task, seeds)), by_label=bool(task.labels))
        (fed, *_), _ = synthesizer.plan_batch(first, "train", pool, 1.0)
        feedback = fed if fed.feedback else None
    return Requests(batch, feedback, probe)


def _stand_ins(task: Task, planned: PlannedRequest) -> list[tuple[str, Sample]]:
    """Returns demos of the requested label, those that the prompt does not show already if there are any."""
    demo_ids = {i for i, _ in planned.demos}
    candidates = [(i, d) for i, d in enumerate(task.demos) if planned.label is None or d.target == planned.label]
    others = [(i, d) for i, d in candidates if f"demo-{i}" not in demo_ids] or candidates
    return [(f"stand-in-{i}", d) for i, d in others]


def preview(
    data: GoldDataModule,
    settings: PreviewSettings,
    *,
    rounds: int,
    rate: float,
    warmup_rounds: int,
    warnings: Sequence[str] = (),
) -> Iterator[str]:
    """Yields the lines of a preview. The prompts come before anything is generated.

    Args:
        data: Data module with the task, generator, plan and seed of the run.
        settings: Settings of the preview.
        rounds: Largest number of rounds; below 0 for no limit.
        rate: Share of the prompts with feedback, in [0, 1].
        warmup_rounds: Number of rounds without feedback.
        warnings: Warnings about settings that the run will not fulfil.
    """
    task, synthesizer, generator = data.task, data.synthesizer, data.generator
    planned = plan_requests(synthesizer, warmup_rounds, rate if rounds < 0 or rounds > warmup_rounds + 1 else 0.0)
    handful = planned.handful(settings.count)
    yield from _prose(f"preview of {task.name} with {type(generator).__name__}, seed {data.seed}; nothing is stored")
    for line in warnings:
        yield from _prose(f"warning: {line}")

    yield from ["", rule("a training prompt")]
    yield from _prompt(planned.batch[0], _FIRST_PROMPT, task)
    yield from ["", rule("a feedback prompt")]
    if planned.feedback is None:
        yield from _prose(
            "none: no round shows feedback (feedback.rate, feedback.strategy, feedback.warmup_rounds, "
            "data.plan.feedback_as, data.plan.feedback_demos, trainer.max_epochs)"
        )
    else:
        use = "show such demos" if synthesizer.plan.feedback_as == "demo" else "ask for the kind of a fed-back sample"
        caption = f"a prompt of round {warmup_rounds + 1}; {rate:.0%} of the prompts from then on {use}"
        yield from _prompt(planned.feedback, caption, task)
    yield from ["", rule("a probe prompt")]
    yield from _prompt(planned.probe, "a prompt of round 0's probe set, which departs from its training samples", task)

    yield from [
        "",
        rule(f"what {type(generator).__name__} makes of {len(handful)} requests of round 0's first batch"),
    ]
    if len(handful) < settings.count:
        yield from _prose(
            f"preview.count is {settings.count}; the first batch has no more (the generator's batch_size)"
        )
    started = time.perf_counter()
    generator.load()
    loaded = time.perf_counter()
    calibration = synthesizer.calibrate()
    calibrated = time.perf_counter()
    answers = synthesizer.answer(handful, synthesizer.missing(0, "train"))

    for judged in answers.completions:
        yield from _judged(judged, task)
    measured = _measure(planned, answers, calibration)
    reasons = Counter(j.reason for j in answers.completions if j.reason not in ("", "surplus"))
    surplus = sum(j.reason == "surplus" for j in answers.completions)
    more = f", {surplus} of them more than the round wants" if surplus else ""
    cut = sum(j.cut and j.reason in ("", "surplus") for j in answers.completions)
    more += f", {cut} cut at the end of a sentence" if cut else ""
    yield from ["", f"accepted {measured.passed} of {measured.requests}{more}"]
    yield from (f"  {line}" for line in table([(printable(r), str(n)) for r, n in reasons.most_common()], right=[1]))
    for reason, _ in reasons.most_common(2):
        yield from _prose(f"to have fewer {reason}: {_change(reason)}")
    accepted = [judged.sample for judged in answers.completions if judged.sample]
    for sentence in count_cut(task, data.tokenizer, accepted).sentences(task, "samples"):
        yield from _prose(sentence)

    yield from ["", rule("the whole run, estimated")]
    rate = rate if planned.feedback else 0.0
    yield from _estimate(measured, synthesizer.plan, data.budget, rounds, rate, warmup_rounds)
    yield from _prose(
        f"The generator was ready in {duration(loaded - started)}"
        + (f", calibrated for the label checks in {duration(calibrated - loaded)}" if calibration else "")
        + f"; the {measured.requests} requests took {duration(measured.seconds)}. A run sends up to "
        f"{generator.batch_size} at once, which is faster on most engines: its time is less, often by far "
        f"(--preview.count {generator.batch_size} measures it). Training the student is not in it."
    )


def _measure(planned: Requests, answers: JudgedBatch, calibration: Sequence[Completion]) -> Measured:
    base = len(planned.batch[0].request.text)
    return Measured(
        requests=len(answers.completions),
        # A surplus sample passed all checks; the round has enough samples without it.
        passed=sum(j.reason in ("", "surplus") for j in answers.completions),
        prompt_tokens=sum(j.completion.prompt_tokens for j in answers.completions),
        completion_tokens=sum(j.completion.completion_tokens for j in answers.completions),
        label_tokens=sum(c.prompt_tokens for c in answers.label_checks),
        calibration_tokens=sum(c.prompt_tokens for c in calibration),
        seconds=answers.seconds,
        feedback_length=len(planned.feedback.request.text) / base if planned.feedback else 1.0,
        probe_length=len(planned.probe.request.text) / base,
    )


def _prose(text: str) -> list[str]:
    return wrap(printable(text), width())


def _prompt(planned: PlannedRequest, caption: str, task: Task) -> Iterator[str]:
    """Yields a prompt as it is sent, with a margin that marks stand-ins."""
    text, at = planned.request.text, 0
    marked: set[int] = set()
    stand_ins = []
    seeds = [d for i, d in planned.demos if i.startswith("demo-")]
    repeated = any(d in seeds for i, d in planned.demos if i.startswith("stand-in"))
    for id_, demo in planned.demos:
        block = render(demo, task)
        at = text.index(block, at)
        if id_.startswith("stand-in"):
            first = text.count("\n", 0, at)
            marked.update(range(first, first + block.count("\n") + 1))
            stand_ins.append(id_)
        at += len(block)
    yield from _prose(f"{planned.id}: {caption}")
    if stand_ins:
        yield from _prose(
            f"The lines marked ~ are no generated samples yet: demos of the task stand in for {len(stand_ins)} of them"
            f"{', the same again where it has no others' if repeated else ''}."
        )
    for number, line in enumerate(text.split("\n")):
        for part in wrap(printable(line), width() - 2):
            yield f"{'~' if number in marked else '|'} {part}".rstrip()


def _judged(judged: JudgedCompletion, task: Task) -> Iterator[str]:
    planned = judged.planned
    label = f"  {printable(planned.label)}" if planned.label is not None else ""
    verdict = f"rejected: {printable(judged.reason)}" if judged.sample is None else "accepted"
    verdict += ", cut at the end of a sentence" if judged.sample is not None and judged.cut else ""
    yield f"{planned.id}{label}  {verdict}"
    if judged.sample is None:
        raw = planned.request.answer_prefix + judged.completion.text
        for line in raw[:_MAX_REJECT_CHARS].split("\n"):
            yield from (f"  | {part}" for part in wrap(printable(line), width() - 4))
        if len(raw) > _MAX_REJECT_CHARS:
            yield f"  ... {len(raw) - _MAX_REJECT_CHARS} characters more"
        return
    values = (
        dict(judged.sample.fields) if task.labels else {**judged.sample.fields, task.target.name: judged.sample.target}
    )
    edge = max(map(len, values)) + 1
    for name, value in values.items():
        first, *rest = wrap(printable(value), width() - edge - 3)
        yield f"  {name + ':':<{edge}} {first}"
        yield from (" " * (edge + 3) + part for part in rest)


def _change(reason: str) -> str:
    return _WHAT_TO_CHANGE.get(reason, "demos that keep to the task's checks more plainly, or another data.generator")


def _estimate(
    measured: Measured, plan: SynthesisPlan, budget: Budget, rounds: int, rate: float, warmup_rounds: int
) -> Iterator[str]:
    """Yields the table of estimated costs and the assumptions behind it."""
    if rounds == 0:
        yield from _prose("For 0 rounds (trainer.max_epochs): a run asks for nothing and trains nothing.")
        return
    low, high = wilson_interval(measured.passed, measured.requests)
    least = 1 / plan.max_attempts
    if not measured.passed:
        stop = math.ceil(plan.max_attempts * plan.samples_per_round)
        yield from _prose(
            f"None of {measured.requests} accepted. With nothing accepted the run would stop in round 0 after about "
            f"{stop:,} requests (data.plan.max_attempts {plan.max_attempts:g} for each of {plan.samples_per_round:,} "
            "samples), with no student. It would have cost by then:"
        )
        yield from _costs(budget, measured, [cost(stop, 0, 0, measured)], ["until it stops"])
        yield from _prose(
            f"{measured.requests} requests do not rule out a yield of up to {high:.0%}; a larger --preview.count says "
            "more. Change the demos, limits or checks of the task, or data.generator, and look again."
        )
        return

    def run(share: float) -> Cost:
        counted = max(1, rounds)
        train = plan.samples_per_round * counted / share
        fed = plan.samples_per_round * max(0, counted - 1 - warmup_rounds) * rate / share
        return cost(train - fed, fed, plan.probe_per_round * counted / share, measured)

    share = measured.passed / measured.requests
    each = f"{plan.samples_per_round:,} training and {plan.probe_per_round:,} probe samples"
    many = f"at most {rounds} rounds" if rounds > 0 else "each round (trainer.max_epochs sets no end)"
    yield from _prose(
        f"For {many} of {each}, at a yield of {share:.0%} ({low:.0%} to {high:.0%}: Wilson's 95% interval, from "
        f"{measured.requests} samples of round 0)."
    )
    # A yield below the least one ends the run, so a whole run costs at most as much as at the least yield.
    shares = [max(share, least), max(high, least), max(low, least)]
    yield from _costs(budget, measured, [run(s) for s in shares], ["expected", "from", "to"])
    if low < least:
        often = "is" if share < least else "may be"
        yield from _prose(
            f"The yield {often} below {least:.0%}: such a round stops (data.plan.max_attempts {plan.max_attempts:g})."
        )


def _costs(budget: Budget, measured: Measured, costs: Sequence[Cost], head: Sequence[str]) -> Iterator[str]:
    rows = [["", *head], ["requests", *(_count(c.requests) for c in costs)]]
    if measured.prompt_tokens:
        rows += [["prompt tokens", *(_count(c.prompt_tokens) for c in costs)]]
        rows += [["tokens written", *(_count(c.completion_tokens) for c in costs)]]
    else:
        rows += [["tokens", *("not counted" for _ in costs)]]
    rows += [["generator's time, at most", *(duration(c.seconds) for c in costs)]]
    if budget.priced and measured.prompt_tokens:
        rows += [["money", *(f"${budget.cost(c):,.2f}" for c in costs)]]
    yield from (f"  {line}" for line in table(rows, right=range(1, len(head) + 1)))
    if not budget.priced:
        yield "  free, on an own machine; for a paid one set data.budget.price_prompt and price_completion"
    elif not measured.prompt_tokens:
        yield "  money is not known: this generator counts no tokens"


def _count(number: float) -> str:
    """Formats a number with three significant digits, more than an estimate is worth."""
    places = 0 if number < 1000 else 2 - math.floor(math.log10(number))
    return f"{round(number, places):,.0f}"
