"""Losses against their textbook definitions."""

import doctest
import math

import pytest
import torch
from gold_lightning import losses
from gold_lightning.errors import ConfigError
from gold_lightning.losses import (
    IGNORE_INDEX,
    CrossEntropy,
    GeneralizedCrossEntropy,
    LabelSmoothing,
    RoundLoss,
    SoftTargets,
    SymmetricCrossEntropy,
    loss_settings,
    target_log_probs,
)
from torch.nn.functional import cross_entropy, one_hot

LOSSES = [CrossEntropy(), SymmetricCrossEntropy(), GeneralizedCrossEntropy(), LabelSmoothing()]
BY_NAME = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)


def batch(dtype=torch.float32, vocab=11, scale=3.0, seed=0):
    """Logits (3, 5, vocab) and targets with 0, 2 and 4 positions of padding."""
    rng = torch.Generator().manual_seed(seed)
    logits = (torch.randn(3, 5, vocab, generator=rng, dtype=torch.float64) * scale).to(dtype)
    targets = torch.randint(vocab, (3, 5), generator=rng)
    targets[1, 3:] = IGNORE_INDEX
    targets[2, 1:] = IGNORE_INDEX
    return logits, targets


def textbook_sce(logits, targets, sigma=0.1, lambda_=1.0, clip=1e-4):
    """softmax, a one-hot clipped at ``clip``, and both terms summed over the whole vocabulary."""
    kept = targets != IGNORE_INDEX
    p = logits.softmax(-1)
    q = one_hot(targets.clamp(min=0), logits.shape[-1]).to(p.dtype)
    ce = -(q * p.log()).sum(-1)
    rce = -(p * q.clamp(clip, 1.0).log()).sum(-1)
    return (sigma * ce + lambda_ * rce)[kept].mean()


@pytest.mark.parametrize(("sigma", "lambda_"), [(0.1, 1.0), (1.0, 0.0), (0.0, 1.0), (2.5, 0.3)])
def test_symmetric_cross_entropy_is_the_textbook_definition(sigma, lambda_):
    logits, targets = batch()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    got = SymmetricCrossEntropy(sigma, lambda_)(ours, targets)
    wanted = textbook_sce(theirs, targets, sigma, lambda_)
    got.backward()
    wanted.backward()
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_symmetric_cross_entropy_by_hand():
    # Two tokens at equal logits: p = 1/2, CE = ln 2, RCE = -ln(1e-4) / 2.
    loss = SymmetricCrossEntropy()(torch.zeros(1, 1, 2), torch.zeros(1, 1, dtype=torch.long))
    assert loss.item() == pytest.approx(0.1 * math.log(2) + 0.5 * -math.log(1e-4), abs=1e-5)


def test_symmetric_cross_entropy_of_a_certain_wrong_label_stays_bounded():
    logits = torch.tensor([[[-200.0, 200.0]]])
    loss = SymmetricCrossEntropy(sigma=0.0)(logits, torch.zeros(1, 1, dtype=torch.long))
    assert loss.item() == pytest.approx(-math.log(1e-4), abs=1e-4)


@BY_NAME
def test_gradcheck(loss):
    logits, targets = batch(torch.float64, vocab=5)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits.requires_grad_())


def test_gradcheck_of_both_outputs():
    logits, targets = batch(torch.float64, vocab=5)
    assert torch.autograd.gradcheck(lambda z: target_log_probs(z, targets), logits.requires_grad_())


@pytest.mark.parametrize(
    ("loss", "smoothing"),
    [(CrossEntropy(), 0.0), (LabelSmoothing(0.0), 0.0), (LabelSmoothing(0.1), 0.1), (LabelSmoothing(0.6), 0.6)],
)
def test_equals_torch(loss, smoothing):
    logits, targets = batch()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    got = loss(ours, targets)
    wanted = cross_entropy(
        theirs.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, label_smoothing=smoothing
    )
    got.backward()
    wanted.backward()
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-5)


def test_generalized_cross_entropy_at_its_ends():
    logits, targets = batch()
    kept = targets != IGNORE_INDEX
    p = logits.softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0][kept]
    torch.testing.assert_close(GeneralizedCrossEntropy(1.0)(logits, targets), (1 - p).mean())
    torch.testing.assert_close(GeneralizedCrossEntropy(0.7)(logits, targets), ((1 - p**0.7) / 0.7).mean())
    near_ce = GeneralizedCrossEntropy(1e-6)(logits, targets)
    torch.testing.assert_close(near_ce, CrossEntropy()(logits, targets), atol=1e-3, rtol=1e-3)


@BY_NAME
def test_padding_never_counts(loss):
    logits, targets = batch()
    wider = torch.cat([logits, torch.full((3, 4, 11), 50.0)], 1)
    padded = torch.cat([targets, torch.full((3, 4), IGNORE_INDEX)], 1)
    torch.testing.assert_close(loss(wider, padded), loss(logits, targets))

    logits.requires_grad_()
    loss(logits, targets).backward()
    assert (logits.grad[targets == IGNORE_INDEX] == 0).all()
    assert (logits.grad[targets != IGNORE_INDEX].abs().sum(-1) > 0).all()


@BY_NAME
def test_mean_is_over_tokens_not_over_rows(loss):
    logits, targets = batch()
    alone = [loss(logits[i : i + 1], targets[i : i + 1]) for i in range(3)]
    counts = [5, 3, 1]
    wanted = sum(n * x for n, x in zip(counts, alone, strict=True)) / sum(counts)
    torch.testing.assert_close(loss(logits, targets), wanted)


@BY_NAME
def test_all_padding_is_zero_with_zero_gradient(loss):
    logits = torch.randn(2, 3, 7, requires_grad=True)
    value = loss(logits, torch.full((2, 3), IGNORE_INDEX))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


@BY_NAME
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_widened(loss, dtype):
    logits, targets = batch(dtype)
    narrow, wide = logits.clone().requires_grad_(), logits.float().requires_grad_()
    got, wanted = loss(narrow, targets), loss(wide, targets)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6)
    got.backward()
    wanted.backward()
    assert narrow.grad.dtype == dtype
    torch.testing.assert_close(narrow.grad.float(), wide.grad, atol=1e-2, rtol=1e-2)


@BY_NAME
def test_extreme_logits_stay_finite(loss):
    logits = torch.tensor([[[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]]], requires_grad=True)
    value = loss(logits, torch.zeros(1, 2, dtype=torch.long))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_target_log_probs():
    logits, targets = batch()
    log_p, lse = target_log_probs(logits, targets)
    kept = targets != IGNORE_INDEX
    wanted = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(log_p[kept], wanted[kept])
    assert (log_p[~kept] == 0).all()
    torch.testing.assert_close(lse, logits.logsumexp(-1))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: SymmetricCrossEntropy(sigma=-1), "model.loss.sigma"),
        (lambda: SymmetricCrossEntropy(sigma=float("nan")), "model.loss.sigma"),
        (lambda: SymmetricCrossEntropy(lambda_=float("inf")), "model.loss.lambda_"),
        (lambda: SymmetricCrossEntropy(sigma=0, lambda_=0), "model.loss.sigma"),
        (lambda: SymmetricCrossEntropy(clip=0), "model.loss.clip"),
        (lambda: SymmetricCrossEntropy(clip=1), "model.loss.clip"),
        (lambda: GeneralizedCrossEntropy(0), "model.loss.q"),
        (lambda: GeneralizedCrossEntropy(1.5), "model.loss.q"),
        (lambda: LabelSmoothing(1.0), "model.loss.epsilon"),
        (lambda: LabelSmoothing(-0.1), "model.loss.epsilon"),
    ],
)
def test_wrong_settings_name_their_key(make, key):
    with pytest.raises(ConfigError) as e:
        make()
    assert e.value.key == key


def test_the_loss_of_a_round_is_the_mean_over_its_tokens_and_leaves_out_what_is_not_finite():
    found = RoundLoss()
    steps = [(2.0, 30), (1.0, 10), (float("nan"), 500), (float("inf"), 7), (4.0, 5)]
    for step, (loss, tokens) in enumerate(steps):
        found.update(torch.tensor(loss), torch.tensor(tokens), step)
    assert float(found.compute()) == pytest.approx((2.0 * 30 + 1.0 * 10 + 4.0 * 5) / 45)
    assert found.bad_steps() == (2, 2)
    found.reset()
    found.update(torch.tensor(3.0, dtype=torch.bfloat16), torch.tensor(4), 0)
    assert float(found.compute()) == 3.0 and found.bad_steps()[0] == 0


def test_the_examples_run():
    results = doctest.testmod(losses)
    assert results.attempted and not results.failed


def label_batch(rows=4, labels=5, seed=0):
    """The student's log-probabilities of labels, and probabilities of which some are 0."""
    rng = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(rows, labels, generator=rng, dtype=torch.float64).log_softmax(-1)
    probabilities = torch.rand(rows, labels, generator=rng, dtype=torch.float64)
    probabilities[0, 2] = 0.0
    return log_probs, probabilities / probabilities.sum(-1, keepdim=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_divergence_is_the_textbook_definition(temperature):
    log_probs, probabilities = label_batch()
    p = probabilities ** (1 / temperature)
    p /= p.sum(-1, keepdim=True)
    loss = SoftTargets(temperature=temperature)
    torch.testing.assert_close(loss.targets(probabilities), p)
    expected = [
        sum(float(x * (x.log() - q)) for x, q in zip(*pair, strict=True) if x > 0)
        for pair in zip(p, log_probs, strict=True)
    ]
    assert loss.divergence(log_probs, probabilities).tolist() == pytest.approx(expected)
    assert all(value > 0 for value in expected)
    assert loss.divergence(p.clamp(min=1e-300).log(), probabilities).tolist() == pytest.approx([0.0] * 4, abs=1e-12)


def test_the_divergence_from_one_label_is_its_cross_entropy_and_so_it_is_without_temperature():
    log_probs, probabilities = label_batch()
    places = torch.tensor([3, 0, 4, 1])
    expected = cross_entropy(log_probs, places, reduction="none")
    one = one_hot(places, 5).double()
    for temperature in (1e-3, 1.0, 50.0):
        torch.testing.assert_close(SoftTargets(temperature=temperature).divergence(log_probs, one), expected)
    coldest = SoftTargets(temperature=1e-3).divergence(log_probs, probabilities)
    torch.testing.assert_close(coldest, cross_entropy(log_probs, probabilities.argmax(-1), reduction="none"))
    warmest = SoftTargets(temperature=1e6).divergence(log_probs[1:], probabilities[1:])
    smoothed = cross_entropy(log_probs[1:], torch.zeros(3, dtype=torch.long), reduction="none", label_smoothing=1.0)
    torch.testing.assert_close(warmest, smoothed - math.log(5), atol=1e-5, rtol=1e-5)


def test_gradcheck_of_the_divergence():
    log_probs, probabilities = label_batch()
    loss = SoftTargets(temperature=2.0)
    logits = log_probs.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss.divergence(z.log_softmax(-1), probabilities), logits)


def test_soft_targets_compare_with_a_label_as_their_hard_loss_does():
    logits, targets = batch()
    assert torch.equal(SoftTargets(0.9)(logits, targets), SymmetricCrossEntropy()(logits, targets))
    hard = GeneralizedCrossEntropy(0.4)
    assert torch.equal(SoftTargets(0.9, hard=hard)(logits, targets), hard(logits, targets))


def test_settings_name_the_losses_that_a_loss_is_made_of():
    settings = loss_settings(SoftTargets(0.3, 2.0, GeneralizedCrossEntropy(0.4)))
    assert settings["class"] == "gold_lightning.losses.SoftTargets"
    assert (settings["weight"], settings["temperature"]) == (0.3, 2.0)
    assert settings["hard"]["class"] == "gold_lightning.losses.GeneralizedCrossEntropy" and settings["hard"]["q"] == 0.4


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"weight": -0.1}, "weight"),
        ({"weight": 1.1}, "weight"),
        ({"weight": math.nan}, "weight"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"hard": SoftTargets()}, "hard"),
    ],
)
def test_soft_targets_refuse_settings_by_their_key(settings, key):
    with pytest.raises(ConfigError) as e:
        SoftTargets(**settings)
    assert e.value.key == f"model.loss.{key}"
