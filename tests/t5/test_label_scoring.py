"""Scores of labels against their definition: teacher forcing, one label and one text at a time."""

import itertools
import random

import pytest
import torch
from gold_lightning.losses import IGNORE_INDEX
from gold_lightning.scores import EnergyScore, EntropyScore
from gold_lightning.t5 import label_scoring
from gold_lightning.t5.label_scoring import LabelTree, score_labels

pytestmark = pytest.mark.integration

END, VOCAB = 1, 40
LABELS = {
    "one": [[5, 6, END]],
    "one token": [[5, END], [6, END], [7, END]],
    "prefixes of one another": [[5, END], [5, 6, END], [5, 6, 7, END], [6, END], [END]],
    "many tokens": [[5, *range(2, 30), END], [5, *range(2, 29), 9, END], [7, END], [*range(30, 39), END]],
    "500": [[*p, END] for p in itertools.islice(itertools.product(range(2, 12), repeat=3), 500)],
}
SHAPES = {"one layer": (1, 1), "three layers": (2, 3)}


def tiny(kind="t5", layers=(2, 3), scale=3.0, **settings):
    """A T5 of random weights; its logits differ enough for labels to have different ranks."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=VOCAB, d_model=16, d_kv=8, d_ff=32, num_layers=layers[0], num_decoder_layers=layers[1],
        num_heads=2, decoder_start_token_id=0, pad_token_id=0, eos_token_id=END, initializer_factor=scale, **settings,
    )  # fmt: skip
    return AutoModelForSeq2SeqLM.from_config(config).eval()


def batch_of(sizes=(3, 9, 1, 6)):
    rng = random.Random(0)
    ids = torch.zeros(len(sizes), max(sizes), dtype=torch.long)
    for row, size in enumerate(sizes):
        ids[row, :size] = torch.tensor([rng.randrange(2, VOCAB) for _ in range(size)])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


@torch.no_grad()
def definition(model, labels, batch, score):
    """The sum of the log-probabilities of a label's tokens, and the mean of the score over them; (rows, labels).

    A token's probability is among those that continue what was written to a label.
    """
    totals, energies = torch.zeros(2, len(batch["input_ids"]), len(labels)).unbind()
    for row, (ids, mask) in enumerate(zip(batch["input_ids"], batch["attention_mask"], strict=True)):
        text = ids[mask.bool()][None]
        for at, label in enumerate(labels):
            logits = model(input_ids=text, decoder_input_ids=torch.tensor([[0, *label[:-1]]])).logits[0]
            for i, token in enumerate(label):
                allowed = sorted({other[i] for other in labels if other[:i] == label[:i]})
                totals[row, at] += logits[i][allowed].log_softmax(-1)[allowed.index(token)]
            energies[row, at] = score.per_token(logits).mean()
    return totals, energies


def assert_as_defined(scores, totals, energies, labels):
    assert torch.equal(scores.best, totals.argmax(-1))
    whole = scores.log_probs.isfinite()
    assert whole.gather(1, scores.best[:, None]).all()
    torch.testing.assert_close(scores.log_probs[whole], totals[whole], atol=2e-4, rtol=1e-4)
    expected = energies.gather(1, totals.argmax(-1, keepdim=True))[:, 0]
    torch.testing.assert_close(scores.energies, expected, atol=1e-4, rtol=1e-4)
    assert [[t for t in row if t != IGNORE_INDEX] for row in scores.tokens.tolist()] == [
        list(labels[i]) for i in scores.best.tolist()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("layers", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", LABELS)
def test_labels_are_scored_as_defined(name, layers, monkeypatch):
    model, batch, labels = tiny(layers=layers), batch_of(), LABELS[name]
    if name == "500":  # one by one they take long
        batch, labels = {key: value[:1] for key, value in batch.items()}, labels[:: 1 if layers == (1, 1) else 10]
    score = EnergyScore(2.0)
    expected = definition(model, labels, batch, score)
    for limit in (2**25, 4 * VOCAB * 7, 1):  # all nodes in one pass, a few, one
        if limit == 1 and name == "500":
            continue
        monkeypatch.setattr(label_scoring, "_MAX_LOGITS", limit)
        scores = score_labels(model, LabelTree(labels, 0), batch, score)
        assert scores.log_probs.isfinite().all()
        assert_as_defined(scores, *expected, labels)


def test_probabilities_of_all_labels_sum_to_one_and_length_costs_nothing():
    model, batch = tiny(), batch_of()
    for labels in LABELS.values():
        totals = score_labels(model, LabelTree(labels, 0), batch).log_probs
        torch.testing.assert_close(totals.exp().sum(-1), torch.ones(len(totals)), atol=1e-4, rtol=1e-4)
    short = score_labels(model, LabelTree([[5, END], [6, END]], 0), batch).log_probs
    long = score_labels(model, LabelTree([[5, END], [6, *range(10, 30), END]], 0), batch).log_probs
    torch.testing.assert_close(short, long)


@pytest.mark.parametrize("scale", [0.5, 3.0, 12.0], ids=["unsure", "sure", "certain"])
@pytest.mark.parametrize("name", LABELS)
def test_the_search_finds_the_best_label_with_fewer_nodes(name, scale, monkeypatch):
    monkeypatch.setattr(label_scoring, "_SMALL", 0)
    model, batch, labels = tiny(scale=scale), batch_of((4, 9, 1, 6, 2, 5)), LABELS[name]
    tree = LabelTree(labels, 0)
    every = score_labels(model, tree, batch, EntropyScore())
    scores = score_labels(model, tree, batch, EntropyScore(), best_only=True)
    assert_as_defined(scores, every.log_probs, torch.where(
        every.log_probs == every.log_probs.amax(-1, keepdim=True), every.energies[:, None], torch.nan
    ), labels)  # fmt: skip
    if name == "500" and scale > 1:
        assert scores.log_probs.isfinite().float().mean() < 0.5


@pytest.mark.parametrize("best_only", [False, True])
def test_the_first_of_equally_likely_labels_is_taken(best_only, monkeypatch):
    monkeypatch.setattr(label_scoring, "_SMALL", 0)
    model = tiny()
    with torch.no_grad():
        model.shared.weight[11:15] = model.shared.weight[10]  # five tokens that are always equally likely
    batch = batch_of((4, 9, 1, 6, 2, 5))
    equal = [[14, END], [12, END], [10, END], [13, END]]
    for labels in (equal, equal[::-1]):
        assert score_labels(model, LabelTree(labels, 0), batch, best_only=best_only).best.tolist() == [0] * 6
    likelier = [END]  # or not, by row
    scores = score_labels(model, LabelTree([*equal, likelier], 0), batch, best_only=best_only)
    assert set(scores.best.tolist()) <= {0, 4}


FAMILIES = {
    "mt5": {},
    "umt5": {},
    "longt5": {"local_radius": 3},
    "switch_transformers": {"num_experts": 1, "expert_capacity": 512, "router_jitter_noise": 0.0},
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_relatives_of_t5_are_scored_as_defined(kind):
    model, batch, labels = tiny(kind, **FAMILIES[kind]), batch_of(), LABELS["prefixes of one another"]
    expected = definition(model, labels, batch, EnergyScore())
    scores = score_labels(model, LabelTree(labels, 0), batch, EnergyScore())
    assert_as_defined(scores, *expected, labels)


def test_rows_of_labels_are_scored_as_the_tree_is(monkeypatch):
    model, batch, labels = tiny(), batch_of(), LABELS["many tokens"]
    expected = definition(model, labels, batch, EnergyScore())
    monkeypatch.setattr(label_scoring, "_shares_its_bias", lambda _: False)
    for limit in (2**25, 1):
        monkeypatch.setattr(label_scoring, "_MAX_LOGITS", limit)
        assert_as_defined(score_labels(model, LabelTree(labels, 0), batch, EnergyScore()), *expected, labels)


def test_bfloat16_is_near():
    model, batch, labels = tiny(scale=1.0), batch_of(), LABELS["prefixes of one another"]
    tree = LabelTree(labels, 0)
    exact = score_labels(model, tree, batch, EnergyScore())
    with torch.autocast("cpu", torch.bfloat16):
        near = score_labels(model, tree, batch, EnergyScore())
    whole = score_labels(model.bfloat16(), tree, batch, EnergyScore())
    for scores in (near, whole):
        assert scores.log_probs.dtype == scores.energies.dtype == torch.float32
        torch.testing.assert_close(scores.log_probs, exact.log_probs, atol=0.3, rtol=0.03)


def test_weights_that_are_not_finite_give_energies_that_are_not():
    model, batch = tiny(), batch_of()
    with torch.no_grad():
        model.decoder.final_layer_norm.weight.fill_(torch.nan)
    for best_only in (False, True):
        scores = score_labels(model, LabelTree(LABELS["500"], 0), batch, EnergyScore(), best_only=best_only)
        assert scores.energies.isnan().all()


@pytest.mark.slow
def test_the_encoder_runs_once_whatever_the_number_of_passes(monkeypatch):
    model, batch = tiny(), batch_of()
    calls = []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(label_scoring, "_MAX_LOGITS", 4 * VOCAB * 50)
    for best_only in (False, True):
        score_labels(model, LabelTree(LABELS["500"], 0), batch, EnergyScore(), best_only=best_only)
    assert len(calls) == 2
