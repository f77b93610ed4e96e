"""The logistic regression beside a student."""

import numpy as np
from benchmarks.linear_probe import STRENGTHS, scores


def test_classes_that_a_line_separates_are_told_apart_and_others_are_not():
    rng = np.random.default_rng(0)
    labels = ["a", "b", "c"] * 20
    centres = {"a": (4, 0), "b": (0, 4), "c": (-4, -4)}
    vectors = np.array([centres[label] for label in labels]) + rng.normal(size=(60, 2))
    right = scores(vectors[:30], labels[:30], vectors[30:], labels[30:])
    assert set(right) == set(STRENGTHS) and min(right.values()) > 0.9
    exchanged = ["b" if label == "a" else "a" if label == "b" else "c" for label in labels[30:]]
    assert max(scores(vectors[:30], labels[:30], vectors[30:], exchanged).values()) < 0.45
