"""Means by which likelihoods are calibrated, compared on rows of known labels."""

import math

import numpy as np
import pytest
from benchmarks.power_means import EXPONENTS, log_power_mean, of_answers, shares
from gold_lightning.likelihoods import LabelCalibrator

NAMES = ["A", "B", "C"]


def drawn(seed, labels):
    """Likelihoods that prefer B whatever the row, and the row's own label."""
    rng = np.random.default_rng(seed)
    return np.array([[2.0 * (n == "B") + 1.5 * (n == label) + rng.normal(0, 0.5) for n in NAMES] for label in labels])


def test_the_mean_with_exponent_one_half_is_the_calibrators():
    log_probs = drawn(0, "AABBCCABC")
    calibrator = LabelCalibrator(NAMES, "batch", by_label=False)
    for row in log_probs:
        calibrator.observe(row.tolist())
    normal = log_probs - np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
    assert log_power_mean(normal, 0.5).tolist() == pytest.approx(calibrator.means, abs=1e-5)


def test_power_means_lie_between_the_geometric_and_the_arithmetic():
    log_probs = np.log([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])
    means = [log_power_mean(log_probs, exponent)[0] for exponent in EXPONENTS]
    assert means == sorted(means)
    assert means[0] == pytest.approx(math.log(0.9 * 0.1 * 0.5) / 3) and means[-1] == pytest.approx(math.log(0.5))


def test_every_mean_takes_off_what_the_model_prefers():
    labels = "ABC" * 40
    log_probs, truth = drawn(1, labels), np.array([NAMES.index(label) for label in labels])
    raw, _ = shares(log_probs, truth, None)
    assert raw < 0.7
    for exponent in EXPONENTS:
        together, by_label = shares(log_probs, truth, exponent)
        assert together > 0.85 and by_label > 0.85


def test_answers_without_likelihoods_are_left_out():
    rows = [
        {"target": "A", "log_probs": {"A": -1.0, "B": None}},
        {"target": "B", "log_probs": {}},
        {"target": "B", "log_probs": {"A": -2.0, "B": -0.5}},
    ]
    log_probs, truth = of_answers(rows)
    assert truth.tolist() == [0, 1] and log_probs.tolist() == [[-1.0, -30.0], [-2.0, -0.5]]
