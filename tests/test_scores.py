"""Scores (higher = further out of distribution) and the band."""

import doctest
import math

import pytest
import torch
from gold_lightning import scores
from gold_lightning.errors import ConfigError
from gold_lightning.scores import EnergyScore, EntropyScore, MaxSoftmaxScore, band_ranks, mean_over_tokens, select_band
from hypothesis import given
from hypothesis import strategies as st

SCORES = pytest.mark.parametrize(
    "score", [EnergyScore(), MaxSoftmaxScore(), EntropyScore()], ids=lambda s: type(s).__name__
)


def test_energy_by_hand():
    # Two tokens: logsumexp(0, 0) = ln 2; logsumexp(1, 1, ...) of ln values gives the logarithm of their sum.
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), math.log(5)]]])
    energy = EnergyScore()(logits, torch.tensor([[True, True]]))
    assert energy.item() == pytest.approx(-(math.log(2) + math.log(8)) / 2, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_energy_temperature(temperature):
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    wanted = -temperature * (logits / temperature).exp().sum(-1).log()
    torch.testing.assert_close(EnergyScore(temperature).per_token(logits), wanted)


def test_max_softmax_and_entropy_by_hand():
    logits = torch.tensor([[[math.log(0.5), math.log(0.25), math.log(0.25)]]])
    mask = torch.ones(1, 1)
    assert MaxSoftmaxScore()(logits, mask).item() == pytest.approx(-0.5, abs=1e-6)
    assert EntropyScore()(logits, mask).item() == pytest.approx(1.5 * math.log(2), abs=1e-6)


@SCORES
def test_the_sign_is_the_same_for_all(score):
    sure, unsure = torch.tensor([[[9.0, 0.0, 0.0]]]), torch.tensor([[[0.1, 0.0, 0.0]]])
    mask = torch.ones(1, 1)
    assert score(unsure, mask) > score(sure, mask)


@SCORES
def test_padding_never_counts(score):
    logits = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    found = score(logits, mask)
    torch.testing.assert_close(found[1], score(logits[1:, :2], mask[1:, :2])[0])
    changed = logits.clone()
    changed[1, 2:] = 77.0
    torch.testing.assert_close(score(changed, mask), found)


@SCORES
def test_low_precision_is_widened(score):
    logits = torch.randn(2, 3, 9).bfloat16()
    mask = torch.ones(2, 3)
    assert score(logits, mask).dtype == torch.float32
    torch.testing.assert_close(score(logits, mask), score(logits.float(), mask))


def test_mean_over_tokens_of_an_empty_row_is_zero():
    found = mean_over_tokens(torch.tensor([[2.0, 4.0], [5.0, 5.0]]), torch.tensor([[True, True], [False, False]]))
    assert found.tolist() == [3.0, 0.0]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_wrong_temperature(temperature):
    with pytest.raises(ConfigError) as e:
        EnergyScore(temperature)
    assert e.value.key == "feedback.score.temperature" and str(e.value.value) == str(temperature)


def test_band_by_hand():
    energies = [5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 7.0, 6.0, 8.0, 0.0]
    assert select_band(energies, 0.5, 0.8) == [0, 6, 7]  # ranks 5, 6, 7 hold 5.0, 6.0, 7.0
    assert select_band(energies, 0.0, 1.0) == list(range(10))
    assert select_band([], 0.5, 0.8) == []


def test_band_within_groups():
    energies = [1, 2, 3, 4, 101, 102, 103, 104]
    groups = ["a"] * 4 + ["b"] * 4
    assert select_band(energies, 0.5, 1.0, groups) == [2, 3, 6, 7]
    assert select_band(energies, 0.5, 1.0) == [4, 5, 6, 7]


def test_band_ties_go_by_position():
    assert select_band([1.0] * 4, 0.5, 1.0) == [2, 3]


@pytest.mark.parametrize(
    ("alpha", "beta", "n", "count"), [(0.0, 0.3, 10, 3), (0.0, 0.29, 100, 29), (0.7, 1.0, 10, 3), (0.57, 0.58, 100, 1)]
)
def test_band_edges_are_not_moved_by_floating_point(alpha, beta, n, count):
    assert len(select_band([float(i) for i in range(n)], alpha, beta)) == count


@given(
    st.lists(st.floats(-100, 100), max_size=40),
    st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    st.sampled_from([0.6, 0.8, 0.9, 1.0]),
)
def test_bands_part_the_order_of_energies(energies, alpha, beta):
    chosen = set(select_band(energies, alpha, beta))
    ranked = sorted(range(len(energies)), key=lambda i: (energies[i], i))
    where = [at for at, i in enumerate(ranked) if i in chosen]
    assert not where or where == list(range(where[0], where[0] + len(where)))  # one run, no holes
    ends = [(low, high) for low, high in ((0.0, alpha), (alpha, beta), (beta, 1.0)) if low < high]
    if all(math.floor(low * len(energies)) < math.floor(high * len(energies)) for low, high in ends):
        parts = [select_band(energies, *band) for band in ends]
        assert sorted(i for part in parts for i in part) == list(range(len(energies)))  # each in one band


@pytest.mark.parametrize(
    ("alpha", "beta", "counts"),
    [
        (0.5, 0.8, [0, 0, 1, 1, 1, 2, 1, 2]),  # of 0 to 7 samples
        (0.5, 0.6, [0, 0, 0, 0, 0, 1, 1, 1]),
        (0.2, 0.9, [0, 1, 1, 2, 3, 3, 4, 5]),
        (0.0, 1.0, [0, 1, 2, 3, 4, 5, 6, 7]),
        (0.7, 1.0, [0, 1, 1, 1, 2, 2, 2, 3]),
    ],
)
def test_a_few_samples_have_a_band_too(alpha, beta, counts):
    assert [len(band_ranks(n, alpha, beta)) for n in range(8)] == counts


def test_of_two_samples_of_a_label_the_upper_one_is_taken():
    assert select_band([3.0, 1.0, 2.0, 5.0, 9.0], 0.5, 0.8, ["a", "a", "b", "b", "c"]) == [0, 3]
    assert select_band([3.0, 1.0], 0.5, 0.8, at="bottom") == [1] and select_band([3.0, 1.0], 0.5, 0.8, at="top") == [0]


@given(st.integers(1, 200), st.floats(0, 0.99), st.floats(0.01, 1))
def test_a_band_is_never_empty_for_long_and_changes_only_where_it_was(n, alpha, width):
    beta = min(1.0, alpha + width)
    taken, floors = band_ranks(n, alpha, beta), [math.floor(round(q * n, 9)) for q in (alpha, beta)]
    assert taken == range(*floors) or (floors[0] == floors[1] and len(taken) == 1)
    assert not taken or 0 <= taken[0] <= taken[-1] < n
    assert taken or (beta - alpha) * n < 0.5


def test_the_examples_run():
    results = doctest.testmod(scores)
    assert results.attempted and not results.failed


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.5), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_wrong_band(alpha, beta):
    with pytest.raises(ValueError, match="alpha"):
        select_band([1.0], alpha, beta)


def test_wrong_groups():
    with pytest.raises(ValueError, match="2 energies but 1 groups"):
        select_band([1.0, 2.0], 0.5, 0.8, ["a"])
