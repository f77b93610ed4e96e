"""Labels of real texts by generator and student together."""

import math

import numpy as np
import pytest
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.task import Sample
from gold_lightning.text_labels import joint_probabilities, with_joint_label

NAMES = ("a", "b", "c")


def logs(*rows):
    return [[math.log(p) if p else -math.inf for p in row] for row in rows]


def joint(generator, student, names=NAMES):
    rows = joint_probabilities([dict(zip(names, row, strict=True)) for row in generator], logs(*student), names)
    assert all(sum(row.values()) == pytest.approx(1, abs=1e-4) and min(row.values()) > 0 for row in rows)
    return [max(row, key=row.get) for row in rows]


def mirrored(*rows):
    return [*rows, *(row[::-1] for row in rows)]


def test_a_student_that_mostly_agrees_decides_where_the_generator_is_not_sure():
    generator = mirrored((0.55, 0.45), *[(0.7, 0.3)] * 9)
    student = mirrored((0.01, 0.99), *[(0.99, 0.01)] * 9)
    assert joint(generator, student, ("a", "b")) == [*"b", *"a" * 9, *"a", *"b" * 9]


def test_a_student_that_often_differs_does_not_change_a_sure_generators_labels():
    generator = mirrored(*[(0.97, 0.03)] * 10)
    student = mirrored(*[(0.001, 0.999)] * 3, *[(0.999, 0.001)] * 7)  # as sure when it differs
    assert joint(generator, student, ("a", "b")) == [*"a" * 10, *"b" * 10]


def test_a_student_that_is_surer_of_everything_counts_no_more():
    generator = mirrored((0.6, 0.4), (0.9, 0.1), (0.7, 0.3))
    student = mirrored((0.3, 0.7), (0.45, 0.55), (0.6, 0.4))
    log_probs = np.log(student)
    log_probs -= log_probs.mean(1, keepdims=True)
    of_labels = [dict(zip("ab", row, strict=True)) for row in generator]
    surer = joint_probabilities(of_labels, (7 * log_probs).tolist(), ("a", "b"))
    for one, two in zip(joint_probabilities(of_labels, log_probs.tolist(), ("a", "b")), surer, strict=True):
        assert one == pytest.approx(two, rel=1e-3)


def test_a_students_zero_does_not_decide_alone():
    generator = mirrored((0.02, 0.98), *[(0.8, 0.2)] * 8)
    student = mirrored((1.0, 0.0), *[(1.0, 0.0)] * 8)
    assert joint(generator, student, ("a", "b")) == [*"b", *"a" * 8, *"a", *"b" * 8]


def test_texts_of_one_label_keep_it():
    generator = [(0.8, 0.1, 0.1), (0.7, 0.2, 0.1), (0.7, 0.1, 0.2)] * 5
    student = [(0.8, 0.1, 0.1), (0.6, 0.3, 0.1), (0.6, 0.1, 0.3)] * 5
    assert joint(generator, student) == ["a"] * 15


@pytest.mark.parametrize(
    ("generator", "student", "label"),
    [
        ((0.1, 0.7, 0.2), (0.2, 0.5, 0.3), "b"),
        ((1 / 3,) * 3, (0.1, 0.1, 0.8), "c"),
        ((0.8, 0.1, 0.1), (1 / 3,) * 3, "a"),
    ],
)
def test_a_single_text_has_the_label_that_it_seems_to_have(generator, student, label):
    assert joint([generator], [student]) == [label]


def test_no_texts_have_no_labels():
    assert joint_probabilities([], [], NAMES) == []


def test_a_text_keeps_the_generators_label_without_joint_probabilities():
    stored = StoredSample("r000-probe-u00001", Sample({"text": "x"}, "a"), 0, "", source="unlabelled")
    assert with_joint_label(stored, None) is stored
    other = with_joint_label(stored, {"a": 0.2, "b": 0.5, "c": 0.3})
    assert other.sample == Sample({"text": "x"}, "b") and other.probabilities["b"] == 0.5 and other.id == stored.id
