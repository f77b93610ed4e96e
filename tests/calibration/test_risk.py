"""Risk-coverage curves against the definition."""

from itertools import permutations

import numpy as np
import pytest
from gold_lightning.calibration.risk import aurc, oracle_aurc, risk_curve


def test_the_curve_follows_its_definition():
    rng = np.random.default_rng(0)
    scores, right = rng.random(50), rng.random(50) < 0.7
    order = sorted(range(50), key=lambda i: -scores[i])
    by_hand = [sum(not right[i] for i in order[:k]) / k for k in range(1, 51)]
    assert risk_curve(scores, right) == pytest.approx(by_hand)
    assert aurc(scores, right) == pytest.approx(sum(by_hand) / 50)


def test_equal_scores_count_as_the_mean_of_all_their_orders():
    scores, right = [2.0, 1.0, 1.0, 1.0, 0.0], [True, False, True, True, False]
    orders = [[0, *middle, 4] for middle in permutations((1, 2, 3))]
    curves = [risk_curve(np.arange(5.0)[::-1], np.array(right)[order]) for order in orders]
    assert risk_curve(np.array(scores), np.array(right)) == pytest.approx(np.mean(curves, 0))


def test_the_oracle_is_the_least_area_of_all_orders():
    right = np.array([True, False, True, False, True])
    areas = [aurc(-np.array(order, float), right) for order in permutations(range(5))]
    assert oracle_aurc(right) == pytest.approx(min(areas)) == pytest.approx((1 / 4 + 2 / 5) / 5)
    assert oracle_aurc(np.ones(4, bool)) == 0 and oracle_aurc(np.zeros(4, bool)) == 1
