"""The rule against hand-computed values: temperature, known or not, sets of labels."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
from gold_lightning.calibration import rule
from gold_lightning.calibration.rule import check_calibration, judge

LOG_PROBS = np.log([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]])
ENERGIES = np.array([-12.0, -10.0])
SELECTIVE = {
    "temperature": 1.0, "score": "energy", "threshold": -11.0, "promise": "selective", "level": 0.95,
    "confidence": 0.9, "source": "rows", "rows": 500,
}  # fmt: skip


def test_without_a_calibration_nothing_is_known_or_unknown():
    result = judge(None, LOG_PROBS, ENERGIES)
    assert result.probabilities == pytest.approx(np.exp(LOG_PROBS))
    assert result.known is None and result.label_sets is None


def test_temperature_divides_log_probabilities_and_keeps_the_label():
    result = judge(SELECTIVE | {"temperature": 2.0}, LOG_PROBS, ENERGIES)
    roots = [math.sqrt(p) for p in (0.7, 0.2, 0.1)]
    assert result.probabilities[0] == pytest.approx([root / sum(roots) for root in roots])
    assert result.probabilities.sum(-1) == pytest.approx([1, 1])
    for temperature in (0.01, 1.0, 100.0):
        result = judge(SELECTIVE | {"temperature": temperature}, LOG_PROBS, ENERGIES)
        assert result.probabilities.argmax(-1).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("score", "threshold", "known"),
    [
        ("energy", -11.0, [True, False]),
        ("energy", -10.0, [True, True]),
        ("probability", 0.4, [True, True]),
        ("probability", 0.5, [True, False]),
        ("probability", None, None),
    ],
)
def test_the_threshold_itself_is_known(score, threshold, known):
    result = judge(SELECTIVE | {"score": score, "threshold": threshold}, LOG_PROBS, ENERGIES)
    assert (result.known if known is None else result.known.tolist()) == known


def test_the_prediction_counts_even_if_another_label_is_as_likely():
    log_probs = np.log([[0.3, 0.4 - 1e-6, 0.3 + 1e-6]])
    calibration = SELECTIVE | {"score": "probability", "threshold": 0.35}
    assert judge(calibration, log_probs, ENERGIES[:1], best=np.array([0])).known.tolist() == [False]


def test_a_set_has_the_labels_above_the_threshold_and_always_the_prediction():
    conformal = SELECTIVE | {"promise": "conformal", "score": "probability", "threshold": 0.3}
    result = judge(conformal, LOG_PROBS, ENERGIES)
    assert result.label_sets.tolist() == [[True, False, False], [True, True, False]]
    assert result.known.tolist() == [True, False]
    result = judge(conformal | {"threshold": 0.8}, LOG_PROBS, ENERGIES)
    assert result.label_sets.tolist() == [[True, False, False], [True, False, False]]


def test_texts_keep_their_probability():
    calibration = SELECTIVE | {"score": "probability", "threshold": 0.5, "temperature": 1.0}
    result = judge(calibration, np.log([[0.6], [0.1]]), ENERGIES)
    assert result.probabilities[:, 0] == pytest.approx([0.6, 0.1]) and result.known.tolist() == [True, False]


def test_very_unlikely_labels_and_no_rows():
    result = judge(SELECTIVE | {"temperature": 0.1}, np.array([[-1e5, 0.0], [-3000.0, -2000.0]]), ENERGIES)
    assert result.probabilities.tolist() == [[0, 1], [0, 1]]
    assert judge(SELECTIVE, np.zeros((0, 3)), np.zeros(0)).known.tolist() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("promise", "always"), ("score", None), ("source", ["probe"]), ("temperature", 0), ("temperature", True),
        ("threshold", math.nan), ("threshold", "0.5"), ("level", None),
    ],
)  # fmt: skip
def test_a_damaged_calibration_is_refused(key, value):
    assert check_calibration(SELECTIVE | {"threshold": None}) == SELECTIVE | {"threshold": None}
    with pytest.raises(ValueError, match=rf"calibration\.{key} is "):
        check_calibration(SELECTIVE | {key: value})
    with pytest.raises(ValueError, match="no mapping"):
        check_calibration([SELECTIVE])


def test_a_copy_of_the_rule_needs_numpy_alone():
    tree = ast.parse(Path(rule.__file__).read_text(encoding="utf-8"))
    imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imports |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imports == {"__future__", "collections.abc", "dataclasses", "typing", "numpy"}
