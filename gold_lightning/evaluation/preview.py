"""Previews a run before it costs anything: its prompts, a few judged completions, and an estimate of the total cost.

The run's own :class:`~gold_lightning.synthesis.Synthesizer` plans, parses and judges the requests, so that a preview
shows exactly what a run does. Nothing is stored, and the student's weights are not needed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from gold_lightning.console import duration, printable, prose, rule, table, width, wrap
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError, GoldError, NoLikelihoodsError
from gold_lightning.evaluation.cost import Measured, estimate_lines
from gold_lightning.evaluation.reject_advice import what_to_change
from gold_lightning.evaluation.verdict import GeneratorVerdict, judge_generator, verdict_lines
from gold_lightning.feedback import FeedbackPool, PoolEntry
from gold_lightning.generators import Completion
from gold_lightning.judging import JudgedBatch, JudgedCompletion
from gold_lightning.label_sets import overlap
from gold_lightning.planning.requests import ContrastSamples, PlannedRequest
from gold_lightning.storage.round_store import Kind
from gold_lightning.synthesis import Synthesizer
from gold_lightning.t5.checks import count_cut
from gold_lightning.task import Sample, Task
from gold_lightning.wire import fields_block, render

__all__ = ["PreviewSettings", "Requests", "plan_requests", "preview"]

_MAX_REJECT_CHARS = 600
_FIRST_PROMPT = "as round 0 sends it, word for word"


@dataclass(frozen=True)
class PreviewSettings:
    """Settings of the ``preview`` command.

    Args:
        count: Number of requests sent to the generator.
        shown: Number of completions that are shown.
        rows: Most labelled rows (validation or test rows on this machine) that the generator answers for the verdict.

    Raises:
        ConfigError: ``count`` is below 1, or another number below 0.
    """

    count: int = 32
    shown: int = 8
    rows: int = 100

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("shown", 0), ("rows", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"preview.{name}", getattr(self, name), f"{least} or more")


@dataclass(frozen=True)
class Requests:
    """The requests that a preview shows.

    Args:
        batch: First batch of round 0, exactly as a run sends it.
        feedback: Training request of the first round that uses feedback; ``None`` if no round does.
        probe: Probe request of round 0, or the request that labels its first real text.
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
    no_pool = FeedbackPool()

    def batch(
        round_: int, kind: Kind, pool: FeedbackPool = no_pool, train: Sequence[tuple[str, Sample]] = ()
    ) -> list[PlannedRequest]:
        missing, size = synthesizer.missing(round_, kind), synthesizer.generator.batch_size
        requests, _ = synthesizer.planner.batch(round_, kind, missing, pool, 1.0, size, train=ContrastSamples(train))
        return requests

    probe = batch(0, "probe")[0]
    probe = batch(0, "probe", train=_stand_ins(task, probe))[0]
    if synthesizer.real is not None:
        probe = synthesizer.real.example()
    feedback = None
    if rate and (plan.feedback_demos or plan.feedback_as == "hint" or synthesizer.real is not None):
        first = warmup_rounds + 1
        seeds = batch(first, "train")[0]
        pool = FeedbackPool(len(task.demos))
        # Fed-back samples come from probe prompts, which have all kinds of hints.
        probe_hints = (p.hint for p in batch(first, "probe") if p.label == seeds.label)
        hint = {k: v for k, v in vars(next(probe_hints, seeds.hint)).items() if v}
        pool.push((PoolEntry(i, d, 0.0, 0, hint) for i, d in _stand_ins(task, seeds)), by_label=task.one_label)
        fed = batch(first, "train", pool)[0]
        feedback = fed if fed.feedback else None
    return Requests(batch(0, "train"), feedback, probe)


def _stand_ins(task: Task, planned: PlannedRequest) -> list[tuple[str, Sample]]:
    """Returns demos of the requested label, those that the prompt does not show already if there are any."""
    demo_ids = {i for i, _ in planned.demos}
    wanted = task.labels_of(planned.label or "")
    candidates = [
        (i, d)
        for i, d in enumerate(task.demos)
        if wanted is None or overlap(wanted, task.labels_of(d.target) or ()) > 0
    ]
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
) -> Generator[str, None, GeneratorVerdict | None]:
    """Yields the lines of a preview. The prompts come before anything is generated.

    Args:
        data: Data module with the task, generator, plan and seed of the run.
        settings: Settings of the preview.
        rounds: Largest number of rounds; below 0 for no limit.
        rate: Share of the prompts with feedback, in [0, 1].
        warmup_rounds: Number of rounds without feedback.
        warnings: Warnings about settings that the run will not fulfil.

    Returns:
        The verdict on the generator; ``None`` if it gives no likelihoods of labels.
    """
    task, synthesizer, generator = data.task, data.synthesizer, data.generator
    planned = plan_requests(synthesizer, warmup_rounds, rate if rounds < 0 or rounds > warmup_rounds + 1 else 0.0)
    handful = planned.handful(settings.count)
    yield from prose(f"preview of {task.name} with {type(generator).__name__}, seed {data.seed}; nothing is stored")
    for line in warnings:
        yield from prose(f"warning: {line}")

    yield from ["", rule("a training prompt")]
    yield from _prompt(planned.batch[0], _FIRST_PROMPT, task)
    yield from ["", rule("a feedback prompt")]
    if planned.feedback is None:
        yield from prose(
            "none: no round shows feedback (feedback.rate, feedback.strategy, feedback.warmup_rounds, "
            "data.plan.feedback_as, data.plan.feedback_demos, trainer.max_epochs)"
        )
    else:
        use = "show such demos" if synthesizer.plan.feedback_as == "demo" else "ask for the kind of a fed-back sample"
        if synthesizer.real is not None:
            use = "show real texts"
        caption = f"a prompt of round {warmup_rounds + 1}; {rate:.0%} of the prompts from then on {use}"
        yield from _prompt(planned.feedback, caption, task)
    if synthesizer.real is None:
        yield from ["", rule("a probe prompt")]
        caption = "a prompt of round 0's probe set, which departs from its training samples"
        yield from _prompt(planned.probe, caption, task)
    else:
        yield from ["", rule("a real text of a probe set")]
        yield from prose(synthesizer.real.texts.sentence())
        for line in synthesizer.real.texts.outside_limits(task):
            yield from prose(f"warning: {line}")
        caption = f"the prompt that asks for the {task.target.name} of one of them, which stands at its end"
        yield from _prompt(planned.probe, caption, task)

    yield from [
        "",
        rule(f"what {type(generator).__name__} makes of {len(handful)} requests of round 0's first batch"),
    ]
    if len(handful) < settings.count:
        yield from prose(f"preview.count is {settings.count}; the first batch has no more (the generator's batch_size)")
    started = time.perf_counter()
    generator.load()
    loaded = time.perf_counter()
    calibration = synthesizer.label_check.calibrate(0) if synthesizer.label_check else []
    calibrated = time.perf_counter()
    answers = synthesizer.answer(handful, synthesizer.missing(0, "train"))

    for judged in answers.completions[: settings.shown]:
        yield from _judged(judged, task)
    if len(answers.completions) > settings.shown:
        yield from prose(f"... and {len(answers.completions) - settings.shown} more (--preview.shown)")
    measured = _measure(planned, answers, calibration)
    reasons = Counter(j.reason for j in answers.completions if j.reason not in ("", "surplus"))
    surplus = sum(j.reason == "surplus" for j in answers.completions)
    more = f", {surplus} of them more than the round wants" if surplus else ""
    cut = sum(j.cut and j.reason in ("", "surplus") for j in answers.completions)
    more += f", {cut} cut at the end of a sentence" if cut else ""
    yield from ["", f"accepted {measured.passed} of {measured.requests}{more}"]
    yield from (f"  {line}" for line in table([(printable(r), str(n)) for r, n in reasons.most_common()], right=[1]))
    for reason, _ in reasons.most_common(2):
        yield from prose(f"to have fewer {reason}: {what_to_change(reason)}")
    accepted = [judged.sample for judged in answers.completions if judged.sample]
    for sentence in count_cut(task, data.tokenizer, accepted).sentences(task, "samples"):
        yield from prose(sentence)

    yield from ["", rule(f"can {type(generator).__name__} teach {task.name}?")]
    verdict = None
    try:
        verdict = judge_generator(data, answers.completions, settings.rows)
    except NoLikelihoodsError as e:
        yield from prose(f"No verdict: {e if data.synthesizer.label_check else e.problem}")
    except GoldError as e:
        yield from prose(f"No verdict: {e}")
    else:
        yield from verdict_lines(verdict)

    yield from ["", rule("the whole run, estimated")]
    rate = rate if planned.feedback else 0.0
    yield from estimate_lines(
        measured, synthesizer.plan, data.budget, rounds, rate, warmup_rounds, synthesizer.usable_texts
    )
    yield from prose(
        f"The generator was ready in {duration(loaded - started)}"
        + (f", calibrated for the label checks in {duration(calibrated - loaded)}" if calibration else "")
        + f"; the {measured.requests} requests took {duration(measured.seconds)}. A run sends up to "
        f"{generator.batch_size} at once, which is faster on most engines: its time is less, often by far "
        f"(--preview.count {generator.batch_size} measures it). Training the student is not in it."
    )
    return verdict


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


def _prompt(planned: PlannedRequest, caption: str, task: Task) -> Iterator[str]:
    """Yields a prompt as it is sent, with a margin that marks stand-ins."""
    text, at = planned.request.text, 0
    marked: set[int] = set()
    stand_ins = []
    seeds = [d for i, d in planned.demos if i.startswith("demo-")]
    repeated = any(d in seeds for i, d in planned.demos if i.startswith("stand-in"))
    for id_, demo in planned.demos:
        block = render(demo, task)
        if block not in text[at:]:  # a text whose manner is asked for, without its target
            block = fields_block(demo.fields)
        at = text.index(block, at)
        if id_.startswith("stand-in"):
            first = text.count("\n", 0, at)
            marked.update(range(first, first + block.count("\n") + 1))
            stand_ins.append(id_)
        at += len(block)
    yield from prose(f"{planned.id}: {caption}")
    if stand_ins:
        yield from prose(
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
