"""Likelihoods of labels, calibrated."""

import json
import math
import random

import pytest
from gold_lightning.likelihoods import (
    LabelCalibrator,
    LabelLikelihoods,
    read_log_probs,
    stored_log_probs,
    stored_probabilities,
)

NONE = [-math.inf, -1.7e308, -9999.0]


def biased(rng, label):
    """Likelihoods that prefer B by 4 whatever the row, and the row's own label by 3."""
    return tuple(-9 + 4 * (name == "B") + 3 * (name == label) + rng.gauss(0, 0.3) for name in "ABC")


def rows_of(counts, seed=0):
    rng = random.Random(seed)
    labels = [name for name, n in counts.items() for _ in range(n)]
    rng.shuffle(labels)
    return [(label, biased(rng, label)) for label in labels]


def logs(*shares, of=10):
    return tuple(math.log(share / of) if share else -math.inf for share in shares)


def roots(*shares, of=10):
    return [math.sqrt(share / of) for share in shares]


def mean(*rows):
    return [sum(values) / len(rows) for values in zip(*rows, strict=True)]


def power_mean(*rows):
    """Logarithm of the power mean with exponent 1/2, of rows of square roots."""
    return [2 * math.log(value) for value in mean(*rows)]


def calibrated(kind, rows, demos=(), by_label=True, names="ABC"):
    calibrator = LabelCalibrator(names, kind, by_label)
    calibrator.start(demos)
    for label, log_probs in rows:
        calibrator.observe(log_probs, label)
    return calibrator


def test_probabilities_are_a_softmax_of_the_calibrated_values():
    row = LabelLikelihoods(("A", "B", "C"), (-1.0, -2.0, -math.inf), (0.0, math.log(3), -math.inf))
    assert row.label == "B"
    assert row.probabilities == pytest.approx({"A": 0.25, "B": 0.75, "C": 0.0})


@pytest.mark.parametrize(("kind", "by_label", "right"), [("batch", True, 90), ("batch", False, 90), ("none", True, 31)])
def test_batch_calibration_takes_off_what_the_model_prefers_whatever_it_reads(kind, by_label, right):
    rows = rows_of({"A": 30, "B": 30, "C": 30})
    calibrator = calibrated(kind, rows, by_label=by_label)
    found = [calibrator.likelihoods(log_probs).label for _, log_probs in rows]
    assert sum(name == label for name, (label, _) in zip(found, rows, strict=True)) == right


def test_rows_of_a_known_label_count_by_label():
    rows = rows_of({"A": 60, "B": 3, "C": 6})
    a, b, c = calibrated("batch", rows).means
    assert a == pytest.approx(c, abs=0.2) and b - a == pytest.approx(2.8, abs=0.3)
    a, b, c = calibrated("batch", rows, by_label=False).means
    assert a - c > 0.5  # most rows are A's


def test_the_demos_are_all_of_contextual_calibration_and_one_row_a_label_of_batch_calibration():
    demos = [
        (label, logs(*row)) for label, row in [("A", (8, 1, 1)), ("A", (4, 3, 3)), ("B", (2, 6, 2)), ("C", (1, 1, 8))]
    ]
    row, b, c = roots(9, 0.5, 0.5), roots(2, 6, 2), roots(1, 1, 8)
    a = mean(roots(8, 1, 1), roots(4, 3, 3))
    contextual = calibrated("contextual", rows_of({"A": 9}), demos)
    assert contextual.means == pytest.approx(power_mean(a, b, c))
    batch = calibrated("batch", [("A", logs(9, 0.5, 0.5))], demos)
    assert batch.means == pytest.approx(power_mean(mean(a, row), b, c))
    unknown = calibrated("batch", [("", logs(9, 0.5, 0.5))], demos, by_label=False)
    assert unknown.means == pytest.approx(power_mean(a, b, c, row))


def test_a_label_that_the_model_is_sure_does_not_fit_some_rows_is_not_preferred_in_others():
    rows = [("", logs(9.99, 0.01)), ("", (-0.001, -30.0)), ("", logs(0.1, 9.9))]
    calibrator = LabelCalibrator("AB", "batch", by_label=False)
    for _, log_probs in rows:
        calibrator.observe(log_probs)
    mean_logs = [sum(of_label) / len(rows) for of_label in zip(*(r for _, r in rows), strict=True)]
    unsure = logs(9.9, 0.1)
    assert unsure[1] - mean_logs[1] > unsure[0] - mean_logs[0]  # the mean logarithm says B
    assert calibrator.likelihoods(unsure).label == "A"


def test_a_label_that_a_server_reports_only_where_it_is_likely_counts_as_unlikely_elsewhere():
    # A is reported in every row. B only where it is likely: elsewhere it is not among the likeliest tokens.
    rows = [("", logs(10, 0)), ("", logs(10, 0)), ("", logs(1.5, 8.5)), ("", logs(1, 9))]
    calibrator = calibrated("batch", rows, by_label=False, names="AB")
    assert calibrator.likelihoods(logs(1.5, 8.5)).label == "B"
    assert calibrator.means[1] == pytest.approx(2 * math.log((math.sqrt(0.85) + math.sqrt(0.9)) / 4))
    never = calibrated("batch", rows[:2], by_label=False, names="AB").means
    assert never[1] == never[0], "a label that never had mass has the lowest mean of the others"


def test_means_do_not_depend_on_the_order_of_the_rows():
    rows = rows_of({"A": 70, "B": 50, "C": 60})
    assert calibrated("batch", rows).means == calibrated("batch", rows[::-1]).means
    stored = [(label, read_log_probs("ABC", stored_log_probs("ABC", log_probs))) for label, log_probs in rows]
    assert calibrated("batch", stored).means == calibrated("batch", rows).means


@pytest.mark.parametrize("none", NONE, ids=str)
@pytest.mark.parametrize("kind", ["batch", "contextual", "none"])
def test_a_label_without_mass_is_never_preferred_and_all_means_are_finite(kind, none):
    rows = [("A", (-2.0, none, -1.0)), ("B", (none, none, -1.0)), ("C", (-2.0, none, none))]
    calibrator = calibrated(kind, rows, rows)
    assert all(math.isfinite(mean) for mean in calibrator.means)
    assert calibrator.likelihoods((none, -3.0, none)).probabilities == {"A": 0.0, "B": 1.0, "C": 0.0}
    for nothing in ((none, none, none), (), (math.nan, -1.0, -2.0)):
        assert calibrator.likelihoods(nothing) is None


def test_likelihoods_survive_a_file():
    assert stored_log_probs("AB", (-0.12345678, -math.inf)) == {"A": -0.123457, "B": None}
    assert read_log_probs("AB", {"B": None, "A": -0.5}) == (-0.5, -math.inf)
    assert read_log_probs("ABC", {"B": None, "A": -0.5}) == ()


def test_stored_probabilities_are_whole_however_small():
    row = LabelLikelihoods(("A", "B", "C"), (-1.0, -2.0, -math.inf), (0.0, -20.0, -math.inf))
    stored = stored_probabilities(row)
    assert stored == {"A": 1.0, "B": pytest.approx(math.exp(-20), rel=1e-5), "C": 0.0}
    assert json.loads(json.dumps(stored)) == stored and len(json.dumps(stored["B"])) <= len("1.23456e-09")
    assert stored_probabilities(None) == {}
