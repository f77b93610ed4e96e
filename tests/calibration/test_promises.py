"""The promises: their tests by hand, and kept as often as promised in simulations."""

import math

import numpy as np
import pytest
from gold_lightning.calibration.fitting import CalibrationSettings
from gold_lightning.calibration.promises import (
    conformal_rows,
    conformal_threshold,
    rows_at_least,
    selective_rows,
    selective_threshold,
    thresholds_to_test,
)
from scipy.stats import binom, binomtest

from tests.calibration.simulation import Population, simulate

DRAWS = 100


def test_thresholds_let_through_one_fortieth_more_each():
    scores = np.random.default_rng(0).permutation(401).astype(float)
    thresholds = thresholds_to_test(scores)
    assert len(thresholds) == 40 and [int((scores >= t).sum()) for t in thresholds[[0, 19, 39]]] == [11, 201, 401]


def test_the_least_number_of_rows_passes_and_one_less_does_not():
    least = rows_at_least(0.95, 0.9)
    assert 0.95**least <= 0.05 < 0.95 ** (least - 1)
    thresholds = thresholds_to_test(np.arange(100.0))
    scores = np.linspace(0, 99, least)
    assert selective_threshold(thresholds, scores, np.ones(least), [0.95], 0.9) == (0.0, 0.95)
    assert selective_threshold(thresholds, scores[1:], np.ones(least - 1), [0.95], 0.9) is None


def test_a_threshold_that_passes_has_a_lower_bound_at_the_level():
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores = rng.random(400)
        right = rng.random(400) < 0.9 + 0.1 * scores
        threshold, _ = selective_threshold(thresholds_to_test(rng.random(100)), scores, right, [0.9], 0.9)
        known = scores >= threshold
        bound = binomtest(int(right[known].sum()), int(known.sum()), alternative="greater").proportion_ci(0.9).low
        assert bound >= 0.9  # Clopper and Pearson's


def test_one_strict_threshold_that_fails_does_not_end_it_all():
    scores, thresholds = np.arange(400.0), thresholds_to_test(np.arange(400.0))
    right = np.ones(400, bool)
    right[-3:] = False  # the three surest answers are wrong
    assert selective_threshold(thresholds, scores, right, [0.95], 0.9) == (0.0, 0.95)
    assert selective_threshold(thresholds, scores, ~right, [0.95], 0.9) is None


def test_it_falls_back_to_the_strictest_level_that_a_start_allows():
    levels = [0.95, 0.9, 0.85, 0.8, 0.7]
    for rows, wrong in ((48, 2), (60, 8), (300, 40)):
        scores = np.arange(float(rows))
        right = scores >= wrong  # the least sure ones are wrong
        thresholds = thresholds_to_test(scores)
        threshold, level = selective_threshold(thresholds, scores, right, levels, 0.9)
        known = scores >= threshold
        starts = 3 if rows >= rows_at_least(0.95, 0.9, fallback=True) else 2
        bounds = {
            count: binomtest(int(right[-count:].sum()), count, alternative="greater")
            .proportion_ci(1 - 0.1 / starts)
            .low
            for count in (rows // 2, rows)
        }
        if level < 0.95:
            assert level == max(lower for lower in levels if max(bounds.values()) >= lower)
            assert known.mean() >= 0.5 and bounds[int(known.sum())] >= level
    # Levels to fall back to take nothing from the wanted one beyond their share of the error.
    assert selective_threshold(thresholds_to_test(np.arange(400.0)), np.arange(400.0), np.ones(400), levels, 0.9) == (
        0.0,
        0.95,
    )
    assert selective_threshold(thresholds, scores, np.zeros(300), levels, 0.9) is None


def test_a_level_to_fall_back_to_is_not_that_of_a_few_sure_inputs():
    scores = np.arange(2000.0)
    right = scores >= 1900  # a twentieth, which one start looks at
    assert selective_threshold(thresholds_to_test(scores), scores, right, [0.999, 0.8], 0.9) is None


@pytest.mark.parametrize("rows", [0, 1, 30])
def test_few_rows_promise_nothing(rows):
    assert selective_threshold(thresholds_to_test(np.arange(9.0)), np.arange(rows), np.ones(rows), [0.95], 0.9) is None


def test_the_number_of_rows_that_would_do_does_in_four_draws_of_five():
    rows = selective_rows([0.3, 0.6, 1.0], [0.99, 0.98, 0.9], 0.95, 0.9)
    counts = {coverage: round(rows * coverage) for coverage in (0.3, 0.6)}
    enough = {n: int(binom.isf(0.05, n, 0.95)) + 1 for n in counts.values()}
    assert max(binom.sf(enough[n] - 1, n, a) for n, a in zip(counts.values(), (0.99, 0.98), strict=True)) >= 0.8
    assert selective_rows([0.3, 1.0], [0.95, 0.9], 0.95, 0.9) == 0
    assert selective_rows([0.5], [0.9500001], 0.95, 0.9) == 0  # more than ten million


def test_conformal_threshold_and_rows_by_hand():
    scores = np.array([0.9, 0.2, 0.7, 0.4])
    assert conformal_threshold(scores, 0.6) == 0.4  # the second smallest: floor(0.4 x 5) = 2
    assert conformal_threshold(scores, 0.8) == 0.2 and conformal_threshold(scores, 0.81) is None
    for level in (0.5, 0.8, 0.9, 0.95, 0.99):
        rows = conformal_rows(level)
        assert conformal_threshold(np.ones(rows), level) == 1 and conformal_threshold(np.ones(rows - 1), level) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("population", "rows", "score"),
    [(Population(), 150, "energy"), (Population(), 600, "probability"), (Population(rounding=7), 600, "energy")],
)
def test_a_selective_promise_is_kept_as_often_as_it_says(population, rows, score):
    settings = CalibrationSettings(level=0.9, confidence=0.9, score=score)
    outcome = simulate(population, rows, settings, DRAWS, inputs=20_000)
    assert outcome.made > 0.5 and outcome.coverage > 0.2
    assert outcome.kept >= 0.9 - 3 * math.sqrt(0.9 * 0.1 / DRAWS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("population", "rows"),
    [(Population(), 60), (Population(6.0, 1.0), 60), (Population(4.0, 4.0), 100), (Population(6.0, 1.0), 400)],
)
def test_a_promise_that_falls_back_is_kept_as_often_as_it_says(population, rows):
    settings = CalibrationSettings(level=0.95, confidence=0.9, lowest_level=0.5)
    outcome = simulate(population, rows, settings, DRAWS, inputs=20_000)
    assert outcome.made > 0.8 and outcome.coverage > 0.3 and max(outcome.made_at) > min(outcome.made_at)
    assert outcome.kept >= 0.9 - 3 * math.sqrt(0.9 * 0.1 / DRAWS)


@pytest.mark.slow
def test_a_student_that_is_never_quite_good_enough_is_promised_about_in_one_draw_of_ten_at_most():
    population = Population(easiest=4.0, hardest=4.0)  # right in about 89 of 100, whatever the energy
    accuracy = population.draw(100_000, np.random.default_rng(0)).right.mean()
    assert 0.88 < accuracy < 0.9
    outcome = simulate(population, 300, CalibrationSettings(level=0.9, confidence=0.9), DRAWS, inputs=1000)
    assert outcome.made <= 0.1 + 3 * math.sqrt(0.9 * 0.1 / DRAWS)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_conformal_sets_cover_as_often_as_promised(level):
    population = Population(easiest=3.0)  # hard enough for sets that are never empty, which would cover more
    outcome = simulate(population, 200, CalibrationSettings("conformal", level), DRAWS, inputs=20_000)
    deviation = math.sqrt(level * (1 - level) / (150 * DRAWS))  # of the mean of beta distributions
    assert outcome.made == 1 and level - 4 * deviation <= outcome.kept <= level + 1 / 151 + 4 * deviation
