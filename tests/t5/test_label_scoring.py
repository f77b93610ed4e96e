"""Scores of labels against their definition: teacher forcing, one label and one text at a time."""

import itertools
import random

import pytest
import torch
from gold_lightning.losses import IGNORE_INDEX
from gold_lightning.scores import EnergyScore, EntropyScore
from gold_lightning.t5 import label_scoring
from gold_lightning.t5.label_scoring import LabelTree, label_log_probs, score_labels

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
    totals, energies = (torch.zeros(len(batch["input_ids"]), len(labels)) for _ in range(2))
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


def trained_outputs(model, batch):
    """What the model gives in training, whatever the targets are."""
    targets = torch.tensor([[0, 5, 6]]).expand(len(batch["input_ids"]), -1)
    return model(**batch, decoder_input_ids=targets, use_cache=False)


def grouped(words, per_group):
    """Labels of several tokens, ``per_group`` of which begin alike: as intents do."""
    return [[2 + i // per_group, 30, 12 + i % per_group, 31, END] for i in range(words)]


TRAINED = LABELS | {"77": grouped(77, 8)}
del TRAINED["500"]


@pytest.mark.parametrize("path", ["tree", "rows"])
@pytest.mark.parametrize("name", TRAINED)
def test_log_probabilities_for_training_and_their_gradients_are_as_defined(name, path, monkeypatch):
    if path == "rows":
        monkeypatch.setattr(label_scoring, "_shares_its_bias", lambda _: False)
    model, batch, labels = tiny(scale=1.0), batch_of((3, 9)), TRAINED[name]
    weights = torch.randn(2, len(labels), generator=torch.Generator().manual_seed(1))
    log_probs = label_log_probs(model, LabelTree(labels, 0), batch, trained_outputs(model, batch))
    assert log_probs.dtype == torch.float32 and log_probs.shape == weights.shape
    (log_probs * weights).sum().backward()
    gradients = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    model.zero_grad()
    expected, _ = definition.__wrapped__(model, labels, batch, EnergyScore())
    (expected * weights).sum().backward()
    torch.testing.assert_close(log_probs, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2), atol=1e-5, rtol=1e-5)
    for parameter, weight in model.named_parameters():
        wanted = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(gradients.get(parameter, torch.zeros_like(weight)), wanted, atol=1e-4, rtol=1e-3)
    assert (name == "one") == all(not g.any() for g in gradients.values())


@pytest.mark.parametrize("kind", FAMILIES)
def test_relatives_of_t5_are_trained_on_the_same_log_probabilities(kind):
    model, batch = tiny(kind, scale=1.0, **FAMILIES[kind]), batch_of()
    tree = LabelTree(LABELS["prefixes of one another"], 0)
    log_probs = label_log_probs(model, tree, batch, trained_outputs(model, batch))
    torch.testing.assert_close(log_probs, score_labels(model, tree, batch).log_probs, atol=2e-4, rtol=1e-4)
    log_probs.sum().backward()
    assert model.encoder.block[0].layer[0].layer_norm.weight.grad.any()


def test_training_computes_no_node_whose_token_is_sure_and_encodes_once():
    model, batch = tiny(), batch_of()
    calls = {"encoder": [], "decoder": []}
    for part, inputs in calls.items():
        getattr(model, part).register_forward_pre_hook(
            lambda _, args, kwargs, inputs=inputs: inputs.append(kwargs["input_ids"].shape[1]), with_kwargs=True
        )
    for labels, nodes in ((LABELS["one token"], []), (LABELS["many tokens"], [29]), (grouped(77, 8), [21])):
        for inputs in calls.values():
            inputs.clear()
        label_log_probs(model, LabelTree(labels, 0), batch, trained_outputs(model, batch))
        assert calls == {"encoder": [9], "decoder": [3, *nodes]}  # the first is of the targets themselves


def test_log_probabilities_in_bfloat16_have_finite_gradients():
    model, batch = tiny(scale=1.0), batch_of()
    tree = LabelTree(grouped(77, 8), 0)
    exact = label_log_probs(model, tree, batch, trained_outputs(model, batch))
    with torch.autocast("cpu", torch.bfloat16):
        near = label_log_probs(model, tree, batch, trained_outputs(model, batch))
        log_probs = label_log_probs(model.train(), tree, batch, trained_outputs(model, batch))  # with dropout
    assert near.dtype == log_probs.dtype == torch.float32
    torch.testing.assert_close(near, exact, atol=0.3, rtol=0.03)
    log_probs.sum().backward()
    gradients = [w.grad for w in model.parameters() if w.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)
