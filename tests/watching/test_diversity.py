"""How varied texts are."""

import random
import time

import pytest
from gold_lightning.parsing.words import words
from gold_lightning.watching.diversity import distinct_n, diversity, length_quantiles, self_bleu
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.text import bleu_score

TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), min_size=2, max_size=6)


def test_distinct_n_by_hand():
    texts = ["The cat sat. The cat ran!", "the CAT sat"]
    # the cat sat the cat ran the cat sat: 4 words of 9; the cat, cat sat, sat the, cat ran of 5 + 2 pairs.
    assert distinct_n(texts, 1) == pytest.approx(4 / 9)
    assert distinct_n(texts, 2) == pytest.approx(4 / 7)
    assert distinct_n(texts, 7) == distinct_n([], 1) == distinct_n(["", "?!"], 1) == 0.0


@given(TEXTS)
def test_self_bleu_is_torchmetrics_bleu_against_all_others(texts):
    # Of references as close in length torchmetrics takes the first; sorted, that is the shorter one.
    others = [sorted(texts[:i] + texts[i + 1 :], key=lambda t: len(words(t))) for i in range(len(texts))]
    expected = float(bleu_score(texts, others)) if any(texts) else 0.0
    assert self_bleu(texts) == pytest.approx(expected, abs=1e-6)


def test_self_bleu_tells_copies_from_other_texts():
    same, other = ["one two three four five six"] * 3, ["a b c d e f", "g h i j k l", "m n o p q r"]
    assert self_bleu(same) == 1.0 and self_bleu(other) == self_bleu(same[:1]) == self_bleu([]) == 0.0
    assert 0 < self_bleu([same[0], "one two three four five seven", *other]) < 0.6


@pytest.mark.slow
def test_self_bleu_takes_linear_time():
    rng = random.Random(0)
    texts = [" ".join(f"w{rng.randrange(300)}" for _ in range(40)) for _ in range(1000)]
    since = time.perf_counter()
    self_bleu(texts)
    assert time.perf_counter() - since < 5


def test_length_quantiles_by_hand():
    texts = [" ".join("w" * n) for n in range(1, 22)]
    assert length_quantiles(texts) == {"q05": 2.0, "q25": 6.0, "q50": 11.0, "q75": 16.0, "q95": 20.0}
    assert set(length_quantiles(["a b c"]).values()) == {3.0} and set(length_quantiles([]).values()) == {0.0}


def test_diversity_looks_at_no_more_than_it_is_told_to_and_at_the_same_texts_again():
    texts = [f"text number {i} of many that are much alike" for i in range(50)]
    found = diversity(texts, at_most=10)
    assert found["texts"] == 10 and found == diversity(texts, at_most=10)
    assert found["distinct_1"] == pytest.approx((8 + 10) / 90)
    varied = ["word " * i for i in range(50)]
    assert diversity(varied, at_most=10) != diversity(varied, at_most=10, seed=1)
    assert diversity(texts)["texts"] == 50
    assert set(diversity([]).values()) == {0.0}
    with pytest.raises(ValueError, match="at_most"):
        diversity(texts, at_most=0)
