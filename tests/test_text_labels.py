"""Labels of real texts by generator and student together."""

import math

import pytest
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.task import Sample
from gold_lightning.text_labels import joint_probabilities, with_joint_label

NAMES = ("a", "b", "c")


def logs(*rows):
    return [[math.log(p) if p else -math.inf for p in row] for row in rows]


@pytest.mark.parametrize(
    ("generator", "student", "likelier"),
    [
        ((0.9, 0.1), (0.45, 0.55), "a"),  # the surer of the two decides
        ((0.4, 0.6), (0.95, 0.05), "a"),
        ((0.7, 0.3), (0.3, 0.7), "b"),  # half of the generator's logarithm counts
        ((0.0, 1.0), (1.0, 0.0), "a"),  # a probability of 0 does not decide alone
    ],
)
def test_the_likelier_label(generator, student, likelier):
    rows = (generator, generator[::-1])  # with its mirror image, no label is favoured whatever the text
    joint = joint_probabilities(
        [dict(zip("ab", row, strict=True)) for row in rows], logs(student, student[::-1]), ("a", "b")
    )
    assert [max(row, key=row.get) for row in joint] == ([*"ab"] if likelier == "a" else [*"ba"])
    assert all(0 < p < 1 for row in joint for p in row.values())
    assert all(sum(row.values()) == pytest.approx(1, abs=1e-4) for row in joint)


def test_a_label_that_both_favour_whatever_the_text_is_favoured_no_more():
    generator = [{"a": 0.8, "b": 0.1, "c": 0.1}, {"a": 0.7, "b": 0.2, "c": 0.1}, {"a": 0.7, "b": 0.1, "c": 0.2}]
    student = logs((0.8, 0.1, 0.1), (0.6, 0.3, 0.1), (0.6, 0.1, 0.3))
    joint = joint_probabilities(generator, student, NAMES)
    assert [max(row, key=row.get) for row in joint] == ["a", "b", "c"]


def test_no_texts_have_no_labels():
    assert joint_probabilities([], [], NAMES) == []


def test_a_text_keeps_the_generators_label_without_joint_probabilities():
    stored = StoredSample("r000-probe-u00001", Sample({"text": "x"}, "a"), 0, "", source="unlabelled")
    assert with_joint_label(stored, None) is stored
    other = with_joint_label(stored, {"a": 0.2, "b": 0.5, "c": 0.3})
    assert other.sample == Sample({"text": "x"}, "b") and other.probabilities["b"] == 0.5 and other.id == stored.id
