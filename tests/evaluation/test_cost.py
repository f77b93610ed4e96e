"""The estimated cost of a run, and the interval of a yield."""

import doctest

import pytest
from gold_lightning.budget import Budget
from gold_lightning.evaluation import cost as module
from gold_lightning.evaluation.cost import Measured, cost, wilson_interval


def test_the_examples_of_the_docstrings_are_right():
    results = doctest.testmod(module)
    assert results.attempted and not results.failed


def test_the_cost_is_what_a_hand_computes():
    measured = Measured(
        requests=4,
        passed=2,
        prompt_tokens=400,  # 100 a request
        completion_tokens=80,  # 20
        label_tokens=40,  # 10
        calibration_tokens=7,
        seconds=2.0,
        feedback_length=1.5,
        probe_length=2.0,
    )
    estimate = cost(60, 20, 10, measured)
    assert estimate.requests == 90
    # 100 x (60 + 20 x 1.5 + 10 x 2) + 10 x 90 + 7
    assert estimate.prompt_tokens == 11_907
    assert (estimate.completion_tokens, estimate.seconds) == (1800, 45)
    # 11907 x 3 $ + 1800 x 10 $ for a million
    assert Budget(price_prompt=3, price_completion=10).cost(estimate) == pytest.approx(0.053721)
    assert Budget().cost(estimate) == 0


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(hits, of, low, high):
    assert wilson_interval(hits, of) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(of - hits, of) == pytest.approx((1 - high, 1 - low), abs=5e-5)
