"""The search for sets of labels against its definition: the scores of all sets, listed one by one."""

from __future__ import annotations

import itertools

import pytest
import torch
from gold_lightning.losses import IGNORE_INDEX
from gold_lightning.scores import EnergyScore, EntropyScore
from gold_lightning.t5 import set_scoring
from gold_lightning.t5.label_scoring import LabelTree, score_labels
from gold_lightning.t5.set_scoring import score_sets
from gold_lightning.t5.set_tokens import SetTokens
from gold_lightning.task import Task

from tests.t5.test_label_scoring import VOCAB, batch_of, tiny

pytestmark = pytest.mark.integration

END = 1


def make_task(names, **changes):
    demos = [{"text": name, "topics": [name]} for name in names] + [{"text": "x", "topics": []}]
    values = {"name": "t", "fields": ["text"], "labels": names, "target": "topics", "many": True, "demos": demos}
    return Task(**values | changes)


def encode(text):
    """A token for each character, and the end."""
    return [*(2 + (ord(c) * 7) % (VOCAB - 2) for c in text), END]


def sets_of(count):
    return [labels for size in range(count + 1) for labels in itertools.combinations(range(count), size)]


def listed(model, sets, batch, score):
    """All sets of a few labels, with the log-probability of each and the score of its tokens."""
    every = sets_of(sets.count)
    tokens = [list(itertools.chain(*sets.of(labels))) for labels in every]
    return every, score_labels(model, LabelTree(tokens, 0), batch, score)


NAMES = {
    "two": ["ab", "cd"],
    "prefixes of one another": ["a", "ab", "abc", "b"],
    "five": ["a", "be", "bd", "fgh", "i"],
}


@pytest.mark.parametrize("kind", ["t5", "umt5"])
@pytest.mark.parametrize("name", NAMES)
def test_sets_and_labels_have_the_probabilities_of_the_definition(name, kind, monkeypatch):
    monkeypatch.setattr(set_scoring, "_OPEN", 1e-6)
    monkeypatch.setattr(set_scoring, "_MOST", 10_000)
    model, batch = tiny(kind), batch_of()
    sets = SetTokens(make_task(NAMES[name]), encode)
    assert sets.mismatch() == ""
    scores, (every, expected) = score_sets(model, sets, batch, EnergyScore()), listed(model, sets, batch, EnergyScore())
    probabilities = expected.log_probs.exp()
    assert list(scores.sets) == [every[i] for i in expected.best.tolist()]
    torch.testing.assert_close(scores.log_probs, expected.log_probs.amax(-1), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(scores.energies, expected.energies, atol=1e-4, rtol=1e-4)
    for label in range(sets.count):
        of_label = probabilities[:, [label in labels for labels in every]].sum(-1)
        torch.testing.assert_close(scores.labels[:, label], of_label, atol=1e-4, rtol=1e-3)
    rows = [[t for t in row if t != IGNORE_INDEX] for row in scores.tokens.tolist()]
    assert rows == [list(itertools.chain(*sets.of(labels))) for labels in scores.sets]


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_sets_that_are_not_looked_at_bound_the_error(scale, monkeypatch):
    monkeypatch.setattr(set_scoring, "_MOST", 20)
    model, batch = tiny(scale=scale), batch_of()
    sets = SetTokens(make_task(NAMES["five"]), encode)
    scores, (every, expected) = score_sets(model, sets, batch), listed(model, sets, batch, None)
    exact = torch.stack(
        [expected.log_probs.exp()[:, [label in labels for labels in every]].sum(-1) for label in range(5)], -1
    )
    assert scores.energies is None and (scores.open > 0).any()
    assert (scores.labels <= exact + 1e-5).all() and (exact <= scores.labels + scores.open[:, None] + 1e-5).all()


def test_the_likeliest_set_is_the_same_if_only_it_is_wanted():
    model, batch = tiny(), batch_of()
    sets = SetTokens(make_task(["a", "be", "bd", "fgh", "i", "jk", "l", "mn", "o", "p", "qr", "s"]), encode)
    best, scores = score_sets(model, sets, batch, EntropyScore(), best_only=True), score_sets(model, sets, batch)
    assert best.sets == scores.sets and torch.equal(best.tokens, scores.tokens)
    torch.testing.assert_close(best.log_probs, scores.log_probs)


def test_energies_of_labels_average_to_that_of_the_set():
    model, batch = tiny(), batch_of()
    sets = SetTokens(make_task(NAMES["five"]), encode)
    scores = score_sets(model, sets, batch, EnergyScore())
    assert [tuple(energies) for energies in scores.label_energies] == list(scores.sets)
    for labels, energies, whole in zip(scores.sets, scores.label_energies, scores.energies.tolist(), strict=True):
        sizes = [len(part) for part in sets.of(labels)]
        if labels:
            mean = sum(n * energies[label] for n, label in zip(sizes, labels, strict=True)) / sum(sizes)
            assert mean == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("target", ["{topics}", "Topics: {topics}.", "{topics}, and that is all"])
def test_the_text_around_sets_is_part_of_their_tokens(target):
    task = make_task(NAMES["prefixes of one another"], student={"input": "{text}", "target": target})
    sets = SetTokens(task, encode)
    assert sets.mismatch() == ""
    for labels in sets_of(4):
        tokens, position = encode(task.student_target(sets.text(labels))), sets.start()
        for token in tokens:
            position = sets.following(position)[token]
        assert position.labels == labels and not sets.following(position)


def test_a_tokenizer_that_joins_separators_is_found():
    def joining(text):
        return encode(text.replace(", b", "#"))

    assert SetTokens(make_task(["a", "be", "cd"]), joining).mismatch() == "a, be, cd"
