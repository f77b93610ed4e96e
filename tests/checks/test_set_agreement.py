"""The generator's own opinion on each label of a row, and its calibration."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from gold_lightning.checks.set_agreement import SetCheck
from gold_lightning.generators.base import Completion
from gold_lightning.label_sets import LabelSets
from gold_lightning.likelihoods import SetCalibrator
from gold_lightning.questions import answer_request, read_answer
from gold_lightning.task import Sample

from tests.planning.test_sets import LABELS, task


class Reader:
    """Says yes for labels whose name is in the text, with a liking for yes that differs by label."""

    def __init__(self, silent=()):
        self.asked, self.silent = [], silent

    def __call__(self, requests, round_):
        self.asked += requests
        return [Completion("", choice_log_probs=self._answer(request)) for request in requests]

    def _answer(self, request):
        label = request.answer_prefix.rstrip(":")
        if label in self.silent:
            return (math.nan, math.nan)
        yes = 3.0 + LABELS.index(label) + 2.0 * (label in request.suffix)
        return (yes - 20, -20.0)


def check(reader, kind="batch", required=True):
    return SetCheck(task(), 1, required, reader, lambda requests: [0] * len(requests), kind)


def sample(*labels):
    return Sample({"message": f"a text on {' and '.join(labels)}"}, ", ".join(labels) or "none")


def test_each_label_is_a_question_of_its_own_with_demos_of_both_answers():
    requests = check(Reader()).requests({"message": "about billing"})
    assert [request.answer_prefix for request in requests] == [f"{name}:" for name in LABELS]
    assert all(request.choices == (" yes", " no") for request in requests)
    delivery = requests[1]
    assert Counter(line for line in delivery.prefix.splitlines() if line.startswith("delivery: ")) == {
        "delivery: it is about delivery": 1, "delivery: yes": 2, "delivery: no": 2,
    }  # fmt: skip
    assert "message: about billing\n" not in delivery.prefix  # the row itself is a demo


def test_calibration_finds_the_labels_through_the_liking_for_yes():
    reader = Reader()
    scored, completions = check(reader).check([sample("billing", "returns"), sample(), sample("quality")], 0)
    assert [row.label for row in scored] == ["billing, returns", "none", "quality"]
    assert len(completions) == 3 * len(LABELS) and len(reader.asked) == (3 + len(task().demos)) * len(LABELS)
    assert scored[0].probabilities["billing"] > 0.5 > scored[0].probabilities["delivery"]
    raw, _ = check(Reader(), "none").check([sample()], 0)
    assert raw[0].label == ", ".join(LABELS)


def test_a_row_with_a_label_that_has_no_answer_is_not_judged():
    assert check(Reader(silent=["quality"])).check([sample("billing")], 0)[0] == [None]


def test_rows_seen_before_calibrate_as_rows_of_this_sitting():
    rows = [sample("billing"), sample("billing", "delivery"), sample()]
    whole = check(Reader())
    scored, _ = whole.check(rows, 0)
    resumed = check(Reader())
    for row, likelihoods in zip(rows[:2], scored, strict=False):
        resumed.remember(row.fields, likelihoods.log_probs, row.target)
    assert resumed.check(rows[2:], 0)[0][0].calibrated == pytest.approx(scored[2].calibrated)


def calibrated(rows):
    calibrator = SetCalibrator(["a", "b"], "batch", LabelSets())
    for odds, labels in rows:
        calibrator.observe(odds, labels)
    return calibrator


@pytest.mark.parametrize("with_label", [1, 9, 400])
def test_the_threshold_is_in_the_middle_however_frequent_a_label_is(with_label):
    means = calibrated([((4.0, -1.0), "a")] * with_label + [((1.0, 1.0), "b")]).means
    assert means[0] == pytest.approx(2.0, abs=0.5) and means[1] == pytest.approx(0.0)


@pytest.mark.parametrize("kind", ["batch", "contextual"])
def test_sure_answers_about_other_rows_move_no_threshold_far(kind):
    rows = [((2.0, 30.0), "a"), ((-40.0, 1.0), "b")]
    calibrator = SetCalibrator(["a", "b"], kind, LabelSets())
    calibrator.start((labels, odds) for odds, labels in rows)
    assert [calibrator.likelihoods((odds, 0.0)).label for odds in (-5.0, 2.0)] == ["none", "a"]
    assert all(abs(mean) < 3 for mean in calibrator.means)  # the middle of means of odds: -19 and 15.5


@pytest.mark.parametrize(
    ("text", "target"),
    [(" Delivery, billing.", "billing, delivery"), ("None", "none"), (" billing and more", "billing and more")],
)
def test_answers_are_read_in_any_order(text, target):
    assert read_answer(text, task()) == target


def test_the_question_for_all_labels_at_once_says_how_to_write_them():
    request = answer_request(task(), {"message": "m"}, task().demos)
    assert "as LABEL, LABEL, or none:\nbilling: it is about billing\n" in request.prefix
    assert "topics: billing, delivery" in request.prefix and not request.choices and request.greedy
