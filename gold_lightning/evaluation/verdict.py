"""Says whether a generator can teach a task, before a run pays for it.

The generator answers what is known: the demos, each with the other demos in the prompt; its own samples, whose labels
the prompts requested; and labelled rows, if there are any. Labels are its likeliest ones after calibration
(:mod:`gold_lightning.likelihoods`); texts are decoded greedily. A generator that cannot tell the labels of such rows
apart cannot write samples from which a student learns to.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.console import printable, table, width, wrap
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import GoldError
from gold_lightning.evaluation.cost import wilson_interval
from gold_lightning.generators.base import Completion, Request
from gold_lightning.judging import JudgedCompletion
from gold_lightning.likelihoods import LabelCalibrator
from gold_lightning.metrics import make_metric
from gold_lightning.questions import agreement_request, answer_request, read_answer
from gold_lightning.task import Sample, Task, TestRow

__all__ = [
    "Decision",
    "Evidence",
    "GeneratorVerdict",
    "answer_demos",
    "answer_rows",
    "decide",
    "judge_generator",
    "verdict_lines",
]

Decision = Literal["go ahead", "mend the labels", "take another generator", "not clear"]
"""The verdict; :func:`decide` documents the values."""

Answer = Callable[[Sequence[Request]], list[Completion]]
_GOOD, _POOR = 0.5, 0.25  # share of the way from chance to perfect
_CONCENTRATED = 0.5  # share of the errors that two labels make for them to be the ones to mend
_FEW = 8  # answers below which nothing is said


@dataclass(frozen=True)
class Evidence:
    """Answers of a generator to rows whose answer is known.

    Args:
        name: Description of the rows, for a table.
        answers: Known answer, and the generator's, of each row; the generator's is "" if it has none.
        scores: Score of each answer in [0, 1]: for labels, whether it is right; for texts, the task's metric.
    """

    name: str
    answers: tuple[tuple[str, str], ...]
    scores: tuple[float, ...]

    @property
    def share(self) -> float:
        """The mean score."""
        return sum(self.scores) / len(self.scores)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share (Wilson), in which a score counts as that part of a hit."""
        return wilson_interval(round(sum(self.scores)), len(self.scores))


@dataclass(frozen=True)
class GeneratorVerdict:
    """A verdict on a generator for a task.

    Args:
        evidence: The answers that it rests on.
        decision: The verdict.
        confused: The two labels that account for most errors; ``None`` if no two stand out.
        sentence: The verdict as a sentence.
    """

    evidence: tuple[Evidence, ...]
    decision: Decision
    confused: tuple[str, str] | None
    sentence: str


def judge_generator(data: GoldDataModule, judged: Sequence[JudgedCompletion], rows: int) -> GeneratorVerdict:
    """Has a run's generator answer what is known, and decides whether it can teach the task.

    Args:
        data: Data module of the run.
        judged: Judged completions of round 0's requests.
        rows: Most labelled rows: of the task's validation file, or of a test file on this machine. Tasks without labels
            or with several a row take a fifth of them, since their answers are written token by token.

    Raises:
        GoldError: The generator gives no likelihoods of labels.
    """
    task, synthesizer = data.task, data.synthesizer

    def answer(requests: Sequence[Request]) -> list[Completion]:
        try:
            return synthesizer.completions.answer_in_batches(requests, 0)
        except Exception as e:
            if isinstance(e, GoldError) or not task.one_label or synthesizer.plan.label_agreement != "off":
                raise
            # An engine of one's own may not expect a request for likelihoods, which a run would not send either.
            name = type(data.generator).__name__
            raise GoldError(f"{name} answers no request for likelihoods of labels ({type(e).__name__})") from e

    evidence: list[Evidence | None] = []
    check = None
    if task.one_label:
        fits = data.generator.tokens_over_limit
        check = LabelCheck(task, data.seed, False, lambda requests, _: answer(requests), fits, "batch")
        check.check_length()
        evidence.append(_of_samples(judged, check))
    evidence.append(demos := answer_demos(task, answer, data.seed))
    if task.one_label and not any(answered for _, answered in demos.answers):
        raise GoldError(f"{type(data.generator).__name__} gives no likelihoods of labels")
    name, labelled = _labelled_rows(data)
    if labelled and rows:
        most = rows if task.one_label else math.ceil(rows / 5)
        drawn = random.Random(f"{data.seed}/verdict rows").sample(labelled, min(most, len(labelled)))
        evidence.append(answer_rows(name, task, drawn, answer, check))
    verdict = decide(task, [e for e in evidence if e is not None and e.scores])
    if judged and not any(j.parsed for j in judged) and verdict.decision == "go ahead":
        sentence = f"Not clear: it can answer, but none of its {len(judged)} completions above is a valid sample."
        return replace(verdict, decision="not clear", sentence=sentence)
    return verdict


def _of_samples(judged: Sequence[JudgedCompletion], check: LabelCheck) -> Evidence | None:
    """Compares requested and likeliest labels of samples; asks for the likelihoods that no label check asked for."""
    labels = [(str(j.planned.label), j.verdict.preferred_label) for j in judged if j.verdict.likelihoods]
    samples = [] if labels else [j.parsed for j in judged if j.parsed is not None]
    scored, _ = check.score([s.fields for s in samples], 0, [s.target for s in samples])
    labels += [(s.target, likelihoods.label) for s, likelihoods in zip(samples, scored, strict=True) if likelihoods]
    right = tuple(float(requested == likeliest) for requested, likeliest in labels)
    return Evidence("its own samples, by their labels", tuple(labels), right) if labels else None


def _labelled_rows(data: GoldDataModule) -> tuple[str, Sequence[TestRow]]:
    """Returns labelled rows that are on this machine, and their description."""
    if data.task.validation:
        return "labelled rows (validation)", data.validation.rows
    if data.test_set.file or data.task.test.file:
        return "labelled rows (test)", data.test_set.rows
    return "", ()


def verdict_lines(verdict: GeneratorVerdict) -> Iterator[str]:
    """Yields the lines of a verdict: a table of its evidence, and its sentence."""
    rows = [["", "answers", "right", "95% interval"]]
    for e in verdict.evidence:
        low, high = e.interval
        rows.append([e.name, str(len(e.scores)), f"{e.share:.0%}", f"{low:.0%} to {high:.0%}"])
    if verdict.evidence:
        yield from (f"  {line}" for line in table(rows, right=[1, 2, 3]))
    yield from wrap(verdict.sentence, width())


def answer_demos(task: Task, answer: Answer, seed: int) -> Evidence:
    """Has the generator answer each demo, with other demos in the prompt.

    Args:
        task: The task.
        answer: Completes requests.
        seed: Seed of the choice of the other demos.
    """
    order = random.Random(f"{seed}/verdict").sample(task.demos, len(task.demos))
    if task.one_label:
        requests = [agreement_request(task, d.fields, _one_of_each(task, order, d)) for d in task.demos]
        completions = answer(requests)
        calibrator = LabelCalibrator(task.label_names, "batch")
        for demo, completion in zip(task.demos, completions, strict=True):
            calibrator.observe(completion.choice_log_probs, demo.target)
        scored = [calibrator.likelihoods(c.choice_log_probs) for c in completions]
        predictions = [s.label if s else "" for s in scored]
    else:
        requests = [answer_request(task, d.fields, [o for o in order if o is not d]) for d in task.demos]
        predictions = [read_answer(c.text, task) for c in answer(requests)]
    return _evidence("the demos, each left out", task, predictions, [(d.target,) for d in task.demos])


def answer_rows(
    name: str, task: Task, rows: Sequence[TestRow], answer: Answer, check: LabelCheck | None
) -> Evidence | None:
    """Has the generator answer labelled rows; rows without an answer are left out.

    Args:
        name: Description of the rows, for a table.
        task: The task.
        rows: The rows.
        answer: Completes requests.
        check: The label check, for a task with labels.

    Returns:
        The answers; ``None`` if there are none.
    """
    if check is not None:
        scored, _ = check.score([row.fields for row in rows], 0)
        predictions = [s.label if s else "" for s in scored]
    else:
        completions = answer([answer_request(task, row.fields, task.demos) for row in rows])
        predictions = [read_answer(c.text, task) if c.finish in ("stop", "length") else "" for c in completions]
    answered = [i for i, prediction in enumerate(predictions) if prediction]
    if not answered:
        return None
    return _evidence(name, task, [predictions[i] for i in answered], [rows[i].targets for i in answered])


def decide(task: Task, evidence: Sequence[Evidence]) -> GeneratorVerdict:
    """Decides whether a generator can teach a task.

    The share of right answers is rescaled so that guessing is 0 and no error is 1. Labelled rows decide if there are 30
    or more, all evidence together otherwise. From 0.5 the verdict is to go ahead, unless the lower end of the interval
    is below 0.25; below 0.25 it is to use another generator. In between, it names two labels to clarify if confusing
    them makes half of the errors or more. Where rows have several labels, answers say less: a generator that seldom
    answers with the right set may well write a text of a given one, so the least verdict is that it is not clear.

    Args:
        task: The task.
        evidence: The answers.
    """
    rows = [e for e in evidence if e.name.startswith("labelled rows") and len(e.scores) >= 30]
    answers = [pair for e in rows or evidence for pair in e.answers]
    scores = [score for e in rows or evidence for score in e.scores]
    if len(scores) < _FEW:
        sentence = f"Not clear: {len(scores)} answers say too little; a larger --preview.count says more."
        return GeneratorVerdict(tuple(evidence), "not clear", None, sentence)
    chance = _chance(task, answers)
    low, _ = wilson_interval(round(sum(scores)), len(scores))
    skill, lowest = ((x - chance) / (1 - chance) for x in (sum(scores) / len(scores), low))
    right = f"{sum(scores) / len(scores):.0%} of {len(scores)} answers are right"
    if task.labels:
        right += f", {'guessing' if task.one_label else 'the most frequent one'} would give {chance:.0%}"
    confused, of_errors = _most_confused(answers) if task.one_label else (None, 0.0)
    pair = " and ".join(repr(printable(name)) for name in confused or ())
    decision: Decision
    if skill >= _GOOD and lowest >= _POOR:
        decision, sentence = "go ahead", f"Go ahead: {right}."
        if confused and len(task.labels) > 2 and of_errors >= _CONCENTRATED:
            sentence += f" Most errors are between {pair}: meanings and demos further apart may still help."
    elif skill < _POOR and not task.many:
        decision, sentence = "take another generator", f"Take another generator: {right}."
    elif confused and of_errors >= _CONCENTRATED:
        decision = "mend the labels"
        between = f", and {of_errors:.0%} of the errors are between these two" if len(task.labels) > 2 else ""
        sentence = f"Mend the labels {pair}: {right}{between}."
    else:
        decision = "not clear"
        sentence = f"Not clear: {right}. Clearer meanings and demos of the labels, or another generator, may help."
        if task.many:
            sentence = (
                f"Not clear: {right}. It may still write texts that teach them: one round and labelled rows tell."
            )
        if not task.labels:
            sentence = f"Not clear: {right}. A clearer description and demos, or another generator, may help."
    return GeneratorVerdict(tuple(evidence), decision, confused if of_errors >= _CONCENTRATED else None, sentence)


def _chance(task: Task, answers: Sequence[tuple[str, str]]) -> float:
    """Returns the share of right answers by guessing; for sets of labels, by always answering the most frequent one."""
    if task.many:
        return Counter(known for known, _ in answers).most_common(1)[0][1] / len(answers)
    return 1 / len(task.labels) if task.labels else 0.0


def _one_of_each(task: Task, order: Sequence[Sample], left_out: Sample) -> list[Sample]:
    """Returns a demo of each label other than the one left out, as far as there are any."""
    by_label = {d.target: d for d in reversed(order) if d is not left_out}
    return [by_label[name] for name in task.label_names if name in by_label]


def _most_confused(answers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str] | None, float]:
    """Returns the two labels between which most errors are, and their share of the errors."""
    errors = Counter((min(pair), max(pair)) for pair in answers if pair[0] != pair[1])
    if not errors:
        return None, 0.0
    (first, second), count = errors.most_common(1)[0]
    return (first, second), count / errors.total()


def _evidence(name: str, task: Task, predictions: Sequence[str], targets: Sequence[Sequence[str]]) -> Evidence:
    default = "accuracy" if task.labels else (task.metrics or ("exact_match",))[0]
    metric = make_metric(default, task.label_names, task.many)
    values = metric.rows(predictions, [tuple(t) for t in targets])
    answers = tuple((t[0], p) for t, p in zip(targets, predictions, strict=True))
    return Evidence(name, answers, tuple(float(metric.reduce(values[i : i + 1])) for i in range(len(values))))
