"""Near duplicates in meaning: the index by its definition, the check during synthesis, and going on after a stop."""

import random
from dataclasses import replace

import numpy as np
import pytest
from gold_lightning import ConfigError, Sample
from gold_lightning.checks.checker import Checker
from gold_lightning.checks.semantic import SemanticIndex
from gold_lightning.feedback import FeedbackPool
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.synthesis import Synthesizer
from gold_lightning.t5.sentence_vectors import SentenceVectors
from gold_lightning.task import Task

from tests.fakes import NewsWriter

pytestmark = pytest.mark.integration

TASK = Task.load("news_topics")


class Vectors:
    """A vector of its own for each text, drawn by its words; counts its calls."""

    def __init__(self):
        self.texts = []

    def __call__(self, texts):
        self.texts += texts
        drawn = np.stack([np.random.default_rng(sum(map(ord, t))).normal(size=8) for t in texts])
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    def fingerprint(self):
        return "by letters"


@pytest.mark.parametrize("labelled", [True, False])
def test_the_index_is_its_definition(labelled):
    rng, embed, remembered = random.Random(1), Vectors(), set()
    index = SemanticIndex(Vectors(), 0.6, labelled=labelled)
    for _ in range(300):
        sample = Sample({"text": f"text {rng.randrange(60)}"}, rng.choice("AB"))
        row = (sample.text, sample.target if labelled else "")
        near = [t for t, of in remembered if of == row[1] and float(embed([t])[0] @ embed([sample.text])[0]) >= 0.6]
        assert index.reason(sample) == ("semantic_duplicate" if near else "")
        if rng.random() < 0.3:
            index.remove(sample)
            remembered.discard(row)
        elif rng.random() < 0.8:
            index.add(sample)
            remembered.add(row)


def test_each_text_is_embedded_once_if_it_is_judged_and_remembered():
    embed = Vectors()
    index = SemanticIndex(embed, 0.99)
    for i in range(5):
        assert index.reason(Sample({"text": f"{i}"}, "A")) == ""
        index.add(Sample({"text": f"{i}"}, "A"))
    assert embed.texts == [f"{i}" for i in range(5)]


def test_the_checker_compares_words_first_and_then_meanings():
    index = SemanticIndex(SentenceVectors("embedded"), 0.7)
    checker = Checker(TASK, index)
    first = Sample({"text": "The home team scored three goals in the final match."}, "Sports")
    checker.keep(first)
    other_words = Sample({"text": "In the last game the hosts got three goals."}, "Sports")
    assert checker.duplicate(first) == "duplicate"
    assert checker.duplicate(other_words) == "semantic_duplicate"
    assert checker.duplicate(replace(other_words, target="Business")) == ""
    assert checker.duplicate(Sample({"text": "A swimmer breaks her own record in Rome."}, "Sports")) == ""
    checker.forget(first)
    assert checker.duplicate(other_words) == ""
    assert Checker(TASK).duplicate(other_words) == ""


def test_vectors_are_means_over_tokens_whatever_stands_beside_them(tiny_student):
    vectors = SentenceVectors(tiny_student, max_tokens=40, batch_size=2)
    texts = ["a", "a longer text of many more tokens", "b" * 300]
    together = vectors(texts)
    assert together.dtype == np.float32 and np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
    for text, vector in zip(texts, together, strict=True):
        assert vectors([text])[0] == pytest.approx(vector, abs=1e-5)
    assert vectors(["b" * 400])[0] == pytest.approx(together[2], abs=1e-6)  # what is cut is not read
    assert vectors([]).shape == (0, together.shape[1])
    assert vectors.fingerprint() == SentenceVectors(tiny_student).fingerprint() != SentenceVectors("embedded")


def synthesizer(folder, threshold, **how):
    plan = SynthesisPlan(samples_per_round=16, probe_per_round=8, group_size=2, semantic_duplicate=threshold)
    return Synthesizer(TASK, NewsWriter(**how), folder, plan, seed=5, vectors=Vectors())


def rounds(folder, threshold, **how):
    made = synthesizer(folder, threshold, **how)
    return [list(made.train(0, FeedbackPool(), 0.0)), list(made.probe(0)), list(made.train(1, FeedbackPool(), 0.0))]


def test_no_two_accepted_samples_of_a_label_are_close_and_a_stopped_run_goes_on(tmp_path):
    whole = rounds(tmp_path / "whole", 0.5)
    for label in TASK.label_names:
        texts = [s.sample.text for part in whole for s in part if s.sample.target == label]
        close = Vectors()(texts) @ Vectors()(texts).T - 2 * np.eye(len(texts))
        assert close.max() < 0.5
    assert RoundStore(tmp_path / "whole", 0, read_only=True).rejects("train")["semantic_duplicate"] > 0
    with pytest.raises(KeyboardInterrupt):
        rounds(tmp_path / "cut", 0.5, fail_after=30)
    assert rounds(tmp_path / "cut", 0.5) == whole


def test_a_run_without_it_is_what_it_was_and_another_threshold_is_another_run():
    plain = SynthesisPlan().fingerprint()
    assert "semantic_duplicate" not in plain
    assert SynthesisPlan(semantic_duplicate=0.9).fingerprint() == plain | {"semantic_duplicate": 0.9}


@pytest.mark.parametrize("value", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_is_a_cosine(value):
    with pytest.raises(ConfigError) as refused:
        SynthesisPlan(semantic_duplicate=value)
    assert refused.value.key == "data.plan.semantic_duplicate"
