"""Metrics against hand-computed values."""

import math

import pytest
import torch
from gold_lightning.errors import ConfigError
from gold_lightning.metrics import METRICS, Accuracy, MacroF1, bootstrap_interval, make_metric


def value(metric, predictions, targets, ids=None):
    metric.update(predictions, targets, torch.arange(len(targets)) if ids is None else torch.tensor(ids))
    return float(metric.compute())


def test_accuracy_by_hand():
    assert value(Accuracy(), ["a", " b\n", "B", ""], ["a", "b", "b", "a"]) == 0.5


def test_macro_f1_by_hand():
    predictions = ["A", "A", "B", "B", "C", "other"]
    targets = ["A", "B", "B", "B", "A", "C"]
    # A: tp 1, fp 1, fn 1 -> 1/2. B: tp 2, fp 0, fn 1 -> 4/5. C: tp 0 -> 0.
    assert value(MacroF1(["A", "B", "C"]), predictions, targets) == pytest.approx((0.5 + 0.8 + 0) / 3)


def test_macro_f1_of_no_label_counts_against_recall_only():
    # A: tp 1, fp 0, fn 1 -> 2/3. B: tp 1 -> 1.
    assert value(MacroF1(["A", "B"]), ["A", "???", "B"], ["A", "A", "B"]) == pytest.approx((2 / 3 + 1) / 2)


def test_macro_f1_is_not_accuracy_under_imbalance():
    predictions, targets = ["A"] * 10, ["A"] * 9 + ["B"]
    assert value(Accuracy(), predictions, targets) == pytest.approx(0.9)
    assert value(MacroF1(["A", "B"]), predictions, targets) == pytest.approx((18 / 19 + 0) / 2)


def test_rows_given_twice_count_once():
    metric = Accuracy()
    metric.update(["a", "b"], ["a", "a"], torch.tensor([0, 1]))
    metric.update(["b", "b", "a"], ["a", "a", "a"], torch.tensor([2, 1, 0]))  # 1 and 0 again: padded in
    assert float(metric.compute()) == pytest.approx(1 / 3)


def test_macro_f1_with_repeated_ids():
    labels = ["A", "B"]
    once = value(MacroF1(labels), ["A", "A", "B"], ["A", "B", "B"])
    twice = value(MacroF1(labels), ["A", "A", "B", "A", "A"], ["A", "B", "B", "B", "A"], [0, 1, 2, 1, 0])
    assert twice == pytest.approx(once)


def test_order_of_batches_does_not_matter_and_reset_forgets():
    metric = MacroF1(["A", "B"])
    first = value(metric, ["A", "A", "B"], ["A", "B", "B"], [5, 3, 9])
    metric.reset()
    metric.update(["B"], ["B"], torch.tensor([9]))
    metric.update(["A", "A"], ["B", "A"], torch.tensor([3, 5]))
    assert float(metric.compute()) == pytest.approx(first)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("name", list(METRICS))
def test_no_rows_give_nan(name):
    metric = make_metric(name, ["A", "B"])
    assert math.isnan(float(metric.compute()))


def test_predictions_and_targets_must_be_as_many():
    with pytest.raises(ValueError, match="zip"):
        Accuracy().update(["a"], ["a", "b"], torch.tensor([0, 1]))


def test_unknown_metric_is_named():
    with pytest.raises(ConfigError, match=r"^metrics: got 'bleurt', expected one of accuracy"):
        make_metric("bleurt", [])


def test_macro_f1_needs_labels():
    with pytest.raises(ConfigError, match=r"^metrics: got 'macro_f1'"):
        make_metric("macro_f1", [])


def test_bootstrap_of_a_sure_thing():
    assert bootstrap_interval(Accuracy(), ["a"] * 20, ["a"] * 20) == (1.0, 1.0)
    assert bootstrap_interval(Accuracy(), ["a"] * 20, ["b"] * 20) == (0.0, 0.0)


def test_bootstrap_of_a_coin():
    # 50 of 100: the normal interval is 0.5 +- 1.96 * 0.05.
    low, high = bootstrap_interval(Accuracy(), ["a"] * 100, ["a", "b"] * 50, draws=4000)
    assert low == pytest.approx(0.402, abs=0.02)
    assert high == pytest.approx(0.598, abs=0.02)


def test_bootstrap_depends_on_its_seed_alone():
    metric = MacroF1(["A", "B"])
    rows = (["A", "B", "A", "B"] * 5, ["A", "B", "B", "B"] * 5)
    first = bootstrap_interval(metric, *rows, draws=100, seed=3)
    torch.manual_seed(99)
    assert bootstrap_interval(metric, *rows, draws=100, seed=3) == first
    assert bootstrap_interval(metric, *rows, draws=100, seed=4) != first
    assert metric.ids == []  # its state is not touched
    assert first[0] <= value(metric, *rows) <= first[1]
