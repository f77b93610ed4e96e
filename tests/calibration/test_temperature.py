"""Temperature scaling against students whose temperature is known, and the errors by hand."""

import math

import numpy as np
import pytest
from gold_lightning.calibration.temperature import (
    expected_calibration_error,
    fit_temperature,
    log_loss,
)
from scipy.special import log_softmax, softmax


def sharpened(rows, temperature, seed=0):
    """Rows whose labels are drawn from known probabilities, which the student states by a temperature too sharply."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, 4))
    targets = (softmax(logits, -1).cumsum(-1) < rng.random((rows, 1))).sum(-1)
    return log_softmax(logits * temperature, -1), targets


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_found_again(temperature):
    log_probs, targets = sharpened(20_000, temperature)
    assert fit_temperature(log_probs, targets) == pytest.approx(temperature, rel=0.05)


def test_a_few_rows_that_are_all_right_do_not_freeze_the_student():
    log_probs, targets = np.log([[0.9, 0.1]] * 12), np.zeros(12, int)
    assert 0.5 < fit_temperature(log_probs, targets) < 1.0
    assert fit_temperature(log_probs, 1 - targets) > 10  # and all wrong ones leave it near to guessing
    impossible = np.array([[0.0, -np.inf]] * 12)
    assert math.isfinite(fit_temperature(impossible, targets)) and math.isfinite(
        fit_temperature(impossible, 1 - targets)
    )


def test_errors_by_hand():
    assert expected_calibration_error(np.array([1.0, 1.0]), np.array([True, False])) == pytest.approx(0.5)
    # Bins of 1/15: 0.61 and 0.65 are together, 0.9 alone.
    probabilities, right = np.array([0.61, 0.65, 0.9]), np.array([True, False, True])
    assert expected_calibration_error(probabilities, right) == pytest.approx((abs(0.61 + 0.65 - 1) + 0.1) / 3)
    log_probs = np.log([[0.5, 0.5], [0.8, 0.2]])
    assert log_loss(log_probs, np.array([0, 0])) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)
    root = math.sqrt(0.8) / (math.sqrt(0.8) + math.sqrt(0.2))
    assert log_loss(log_probs, np.array([0, 0]), np.array([1.0, 2.0])) == pytest.approx(
        -(math.log(0.5) + math.log(root)) / 2
    )
