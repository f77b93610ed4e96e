"""Doubtful labels: probabilities of held-out rows, the rule, and samples of a task."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gold_lightning.data import GoldDataModule
from gold_lightning.doubtful import DoubtfulLabels, is_doubtful, out_of_fold_probabilities
from gold_lightning.errors import ConfigError
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.task import Sample, Task

from tests.fakes import _WORDS, NewsWriter

NAMES = [*_WORDS]


def clusters(rows, labels=3, width=8, spread=0.5, seed=0):
    """Points around a centre for each label."""
    rng = np.random.default_rng(seed)
    true = np.arange(rows) % labels
    return np.eye(width)[true] + rng.normal(0, spread / width**0.5, (rows, width)), true


def test_probabilities_are_those_of_classifiers_that_have_not_seen_the_row():
    vectors, labels = clusters(60)
    before = out_of_fold_probabilities(vectors, labels, seed=1)
    np.testing.assert_allclose(before.sum(1), 1, atol=1e-9)
    assert (before.argmax(1) == labels).mean() > 0.9
    changed = labels.copy()
    changed[7] = (labels[7] + 1) % 3
    rng = np.random.default_rng(0)
    vectors[:, :] = rng.normal(size=vectors.shape)  # nothing to learn
    chance = [(out_of_fold_probabilities(vectors, labels, seed=s).argmax(1) == labels).mean() for s in range(5)]
    assert np.mean(chance) < 0.6  # a classifier that had seen its rows would have learnt them by heart
    assert np.array_equal(before, out_of_fold_probabilities(*clusters(60), seed=1))


def test_the_regression_is_at_its_optimum():
    """Its gradient is that of its definition, and 0."""
    from gold_lightning import doubtful

    vectors, labels = clusters(40, spread=2.0)
    probabilities = torch.tensor(doubtful.logistic_regression(vectors, labels, 3)(vectors))
    # At the optimum the weights are C * X^T (Y - P), so that they give the same probabilities.
    residual = torch.nn.functional.one_hot(torch.tensor(labels), 3) - probabilities
    weights = doubtful._C * torch.tensor(vectors).T @ residual
    logits = torch.tensor(vectors) @ weights
    offset = (probabilities.log() - logits).mean(0)
    torch.testing.assert_close((logits + offset).softmax(-1), probabilities, atol=1e-3, rtol=1e-2)
    assert residual.sum(0).abs().max() < 1e-2


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_were_exchanged_are_found_and_few_others(seed):
    vectors, true = clusters(150, seed=seed)
    labels, rng = true.copy(), np.random.default_rng(seed)
    flipped = rng.choice(150, 20, replace=False)
    labels[flipped] = (true[flipped] + rng.integers(1, 3, 20)) % 3
    flags = is_doubtful(out_of_fold_probabilities(vectors, labels, seed), labels)
    assert flags[flipped].mean() >= 0.8 and np.delete(flags, flipped).mean() <= 0.05


def test_the_likeliest_candidate_decides_and_a_label_that_is_usually_unlikely_may_be_one():
    probabilities = np.array([[0.6, 0.4], [0.7, 0.3], [0.6, 0.4], [0.7, 0.3], [0.65, 0.35]])
    labels = np.array([0, 0, 1, 1, 0])
    # On average label 0 has 0.65, and label 1 has 0.35: the first row is usual for label 1 alone, the fourth for 0.
    assert is_doubtful(probabilities, labels).tolist() == [True, False, False, True, False]


def news(count, wrong=()):
    task, rows = Task.load("news_topics"), []
    for i in range(count):
        name = NAMES[i % 4]
        text = " ".join(_WORDS[name][(i + j) % len(_WORDS[name])] for j in range(6))
        label = NAMES[(i + 1) % 4] if i in wrong else name
        rows.append(StoredSample(f"r000-train-{i:05d}", Sample({"text": text}, label), 0, "x"))
    return task, rows


def bag_of_words(texts):
    """(texts, labels): words of each label."""
    counts = [[sum(word in _WORDS[name] for word in text.split()) for name in NAMES] for text in texts]
    return np.array(counts, float).reshape(-1, 4) + 1e-3


def test_samples_with_a_doubtful_label_are_named_and_each_text_is_embedded_once():
    task, rows = news(40, wrong=(3, 17))
    asked = []
    find = DoubtfulLabels(task, lambda texts: asked.extend(texts) or bag_of_words(texts), seed=1)
    assert find(rows[:32]) == find(rows[:32]) == ["r000-train-00003", "r000-train-00017"]
    assert find(rows) == ["r000-train-00003", "r000-train-00017"]
    assert len(asked) == 40
    assert find([]) == []


def test_labels_of_few_samples_are_not_judged():
    task, rows = news(40, wrong=(3,))
    few = [s for s in rows if s.sample.target != "World"] + [s for s in rows if s.sample.target == "World"][:4]
    world = {s.id for s in few if s.sample.target == "World"}
    assert "r000-train-00003" in world
    assert not world & set(DoubtfulLabels(task, bag_of_words, seed=1)(few))
    one = [s for s in rows if s.sample.target == "World"]
    assert DoubtfulLabels(task, bag_of_words, seed=1)(one) == []


@pytest.mark.parametrize("task", ["squad", "svamp"])
def test_tasks_without_labels_are_refused(tiny_student, task):
    with pytest.raises(ConfigError) as e:
        GoldDataModule(task, student=tiny_student, doubtful_labels="drop")
    assert (e.value.key, e.value.value) == ("data.doubtful_labels", "drop")


def make(tiny_student, folder, **how):
    plan = SynthesisPlan(samples_per_round=40, probe_per_round=8, group_size=4)
    data = GoldDataModule(
        *("news_topics", NewsWriter(), plan, str(folder), tiny_student), doubtful_labels="drop", batch_size=4, **how
    )
    data.training.doubtful._vectors = bag_of_words
    return data


def test_a_round_trains_without_doubtful_samples_and_keeps_them_in_the_store(tiny_student, tmp_path):
    data = make(tiny_student, tmp_path, label_noise=0.1, seed=4, passes_per_round=2)
    data.synthesizer.train(0, data.pool, data.feedback_rate)
    everything = data.train_samples()
    wrong = [s.id for s in everything if data.noise.flips(s.id)]
    ids = torch.cat([batch["id"] for batch in data.train_dataloader()])
    assert data.notes["left_out"] == wrong and 2 < len(wrong) < 12
    assert [s.id for s in data.train_samples()] == [s.id for s in everything if s.id not in wrong]
    assert len(ids) == 2 * len(data.train_samples())
    assert len(data.store().accepted("train")) == 40
    data.advance()
    assert data.notes == {} and len(data.store(0).accepted("train")) == 40
    again = make(tiny_student, tmp_path, label_noise=0.1, seed=4, passes_per_round=2)  # as after a kill
    again.train_dataloader()
    assert again.notes["left_out"] == wrong


def test_all_processes_leave_out_what_the_first_one_names(tiny_student, tmp_path):
    first = make(tiny_student, tmp_path, label_noise=0.1, seed=4)
    first.synthesizer.train(0, first.pool, first.feedback_rate)
    sent = []
    second = make(tiny_student, tmp_path, label_noise=0.1, seed=4)
    second.training.doubtful._vectors = None
    for data, rank in ((first, 0), (second, 1)):
        strategy = SimpleNamespace(broadcast=lambda ids: sent.append(ids) or sent[0])
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank, is_global_zero=not rank, strategy=strategy)
        data.trainer.lightning_module = None
        data.training.begin(0, data.trainer)
    assert sent[0] and sent[1] == [] and first.training.left_out == second.training.left_out == tuple(sent[0])
    assert [s.id for s in first.train_samples()] == [s.id for s in second.train_samples()]
