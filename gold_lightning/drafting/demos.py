"""Drafts demos with the requests of a run, judged by its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gold_lightning.checks.checker import Checker
from gold_lightning.drafting.asking import Asker
from gold_lightning.drafting.document import Part
from gold_lightning.drafting.real_texts import RealTexts
from gold_lightning.likelihoods import LabelCalibrator
from gold_lightning.parsing.words import count_words, runs, words
from gold_lightning.prompts import Hint, training_request
from gold_lightning.task import Sample, Task

__all__ = ["draft_demos"]

_DEMOS = 2  # of each label
_FEWEST = 3  # words of a demo
_ECHO = 4  # words in a row of a description that no text has by chance
_DEMOS_WITHOUT_LABELS = 4


def draft_demos(
    asker: Asker, document: Mapping[str, Any], task: Task, real: RealTexts | None
) -> tuple[list[dict[str, Any]], str]:
    """Drafts demos with the requests of a run, judged by its checks, and marks those whose label is in doubt."""
    named = [label["name"] for label in document.get("labels", ())] or [None] * (_DEMOS_WITHOUT_LABELS // _DEMOS)
    if None in named and document.get("labels"):
        fields = {field.name: None for field in task.fields}
        return [{**fields, task.target.name: None} for _ in named], ""
    checker = Checker(task)
    demos: list[tuple[Any, Sample | None]] = []
    for turn in range(_DEMOS):
        demos += _turn(asker, document, task, checker, named, turn, demos, real)
    rows = [
        {**(demo.fields if demo else {f.name: None for f in task.fields}), task.target.name: demo.target}
        if demo
        else {**{f.name: None for f in task.fields}, task.target.name: label}
        for label, demo in sorted(demos, key=lambda pair: named.index(pair[0]))
    ]
    return rows, _doubts(asker, task, rows) if task.labels else ""


def _turn(
    asker: Asker,
    document: Mapping[str, Any],
    task: Task,
    checker: Checker,
    named: Sequence[Any],
    turn: int,
    earlier: Sequence[tuple[Any, Sample | None]],
    real: RealTexts | None,
) -> list[tuple[Any, Sample | None]]:
    """Drafts one demo of each label."""
    reasons: dict[int, list[str]] = {i: [] for i in range(len(named))}
    good: dict[int, Sample] = {}
    manners = real.sample(_DEMOS * len(named), asker.seed + 1) if real else []
    while waiting := [i for i in reasons if i not in good and len(reasons[i]) < asker.tries]:
        requests, prompt_samples = [], []
        for i in waiting:
            label = named[i]
            demos = [demo for name, demo in earlier if demo and name == label]
            hints = _hints_of(document, label)
            topic = hints[(turn + _DEMOS * len(reasons[i])) % len(hints)] if hints else ""
            manner = manners[(turn * len(named) + i) % len(manners)] if manners else None
            key = f"{label}/{turn}/{i}/{len(reasons[i])}"
            requests.append(training_request(task, label, demos, Hint(topic), asker.number(key), manner=manner))
            prompt_samples.append([*demos, *([Sample(manner, "")] if manner else [])])
        for i, request, sources, completion in zip(
            waiting, requests, prompt_samples, asker.generate(requests), strict=True
        ):
            checked = checker.judge(
                completion, named[i], request.answer_prefix, request.prefix + document["description"], sources
            )
            sample, reason = checked.sample, checked.reason
            if sample and (reason := _echo(sample, task) or _single_word(sample, real)):
                sample = None
            if sample:
                checker.keep(sample)
                good[i] = sample
            else:
                reasons[i].append(reason)
    for i in range(len(named)):
        place = i * _DEMOS + turn if task.labels else turn * len(named) + i
        field = next(iter(task.fields)).name
        tries = len(reasons[i]) + (i in good)
        asker.done(Part(f"demos[{place}].{field}", tries, tuple(reasons[i]), i not in good), str(good.get(i, "")))
    return [(label, good.get(i)) for i, label in enumerate(named)]


def _doubts(asker: Asker, task: Task, rows: Sequence[Mapping[str, Any]]) -> str:
    """Notes the demos for which the generator itself prefers another label; returns how the check went."""
    whole = [i for i, row in enumerate(rows) if None not in row.values()]
    samples = [Sample({f.name: rows[i][f.name] for f in task.fields}, rows[i][task.target.name]) for i in whole]
    scores = asker.scores(task, [sample.fields for sample in samples])
    if not whole:
        return ""
    if not any(scores):
        return "The generator gives no likelihoods, so nothing checked the labels of the demos."
    calibrator = LabelCalibrator(task.label_names, "batch")
    for sample, log_probs in zip(samples, scores, strict=True):
        calibrator.observe(log_probs, sample.target)
    doubtful = 0
    for i, sample, log_probs in zip(whole, samples, scores, strict=True):
        row = calibrator.likelihoods(log_probs)
        at = task.label_names.index(sample.target)
        if row and row.calibrated[at] < max(row.calibrated) - 1e-6:
            asker.notes[f"demos[{i}]"] = f"LOOK: asked which label fits, the generator says {row.label}"
            doubtful += 1
    agreed = f"{len(whole) - doubtful} of {len(whole)}"
    return f"Asked which label fits each demo, the generator names the demo's own for {agreed}."


def _echo(sample: Sample, task: Task) -> str:
    """Reason to reject a demo that repeats what it is to be: the label's name first, or a part of a description."""
    texts = [*sample.fields.values(), *([] if task.labels else [sample.target])]
    label = words(sample.target) if task.labels else []
    names = [words(name) for name in task.label_names]
    if label and any(words(text)[: len(label)] == label or words(text) in names for text in sample.fields.values()):
        return "repeats_label"
    descriptions = [part.description for part in (*task.fields, task.target)] + [label.meaning for label in task.labels]
    known = {run for text in descriptions for run in runs(words(text), _ECHO)}
    return "copies_prompt" if any(run in known for text in texts for run in runs(words(text), _ECHO)) else ""


def _single_word(sample: Sample, real: RealTexts | None) -> str:
    """Reason to reject a demo of a word or two, unless real texts show that such are meant."""
    short = all(count_words(words(text)) < _FEWEST for text in sample.fields.values())
    return "too_short" if short and real is None else ""


def _hints_of(document: Mapping[str, Any], label: str | None) -> list[str]:
    if label is None:
        return list(document.get("hints", {}).get("topics", ()))
    return list(next(x for x in document["labels"] if x["name"] == label).get("hints", ()))
