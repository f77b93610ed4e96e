"""Calibrations of scored rows: settings, division of rows, measures."""

import json
import math

import numpy as np
import pytest
from gold_lightning.calibration.describe import describe
from gold_lightning.calibration.fitting import CalibrationSettings, ScoredRows, fit_calibration
from gold_lightning.calibration.rule import check_calibration, judge
from gold_lightning.errors import ConfigError, GoldError

from tests.calibration.simulation import Population

POPULATION = Population()


def rows(count, seed=0, population=POPULATION):
    return population.draw(count, np.random.default_rng(seed))


def texts(count):
    drawn = rows(count)
    log_probs = drawn.log_probs.max(-1, keepdims=True)
    return ScoredRows(log_probs, drawn.energies, np.zeros(count, int), drawn.right)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"promise": "always"}, "promise"), ({"level": 1.0}, "level"), ({"level": math.nan}, "level"),
        ({"confidence": 0}, "confidence"), ({"score": "loss"}, "score"),
        ({"promise": "conformal", "score": "energy"}, "score"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_by_key(settings, key):
    with pytest.raises(ConfigError) as refused:
        CalibrationSettings(**settings)
    assert refused.value.key == key and refused.value.value is settings[key]


def test_a_calibration_is_plain_json_that_the_rule_takes():
    for settings in (CalibrationSettings(level=0.9), CalibrationSettings("conformal", 0.9)):
        calibration = json.loads(json.dumps(fit_calibration(rows(500), settings, "rows"), allow_nan=False))
        assert check_calibration(calibration) == calibration
        assert calibration == fit_calibration(rows(500), settings, "rows")  # the division is seeded
        assert calibration["temperature"] == pytest.approx(3, rel=0.4)
        assert calibration["ece"][1] < calibration["ece"][0] and calibration["log_loss"][1] < calibration["log_loss"][0]
        assert calibration["aurc_oracle"] < calibration["aurc_energy"] < 1 - calibration["accuracy"]
        assert calibration["curve"][-1] == [1.0, round(calibration["accuracy"], 4)] and len(calibration["curve"]) == 50


def test_measures_are_those_of_the_rows_that_test():
    every = rows(500)
    calibration = fit_calibration(every, CalibrationSettings(level=0.9, score="probability"), "rows")
    tested = every[np.random.default_rng(0).permutation(500)[100:]]
    result = judge(calibration, tested.log_probs, tested.energies)
    assert calibration["tested"] == 400 and calibration["coverage"] == pytest.approx(result.known.mean())
    assert calibration["selective_accuracy"] == pytest.approx(tested.right[result.known].mean())
    assert calibration["selective_accuracy"] > 0.9 > calibration["accuracy"]


@pytest.mark.parametrize(("score", "tested"), [("energy", 64), ("probability", 40)])
def test_few_rows_are_divided_so_that_both_parts_have_some(score, tested):
    assert fit_calibration(rows(80), CalibrationSettings(level=0.8, score=score), "rows")["tested"] == tested


def test_the_temperature_is_of_all_rows_unless_the_threshold_depends_on_it():
    every, swapped = rows(500), rows(500)
    place = np.random.default_rng(0).permutation(500)[-1]  # tests the threshold
    swapped.targets[place] = (swapped.targets[place] + 1) % 4
    for score, same in (("energy", False), ("probability", True)):
        fitted = [fit_calibration(r, CalibrationSettings(level=0.8, score=score), "rows") for r in (every, swapped)]
        assert (fitted[0]["temperature"] == fitted[1]["temperature"]) is same


def test_rows_that_do_not_allow_the_promise_say_how_many_would():
    few = fit_calibration(rows(40), CalibrationSettings(level=0.95), "rows")
    assert few["threshold"] is None and "coverage" not in few
    needed = few["rows_needed"]
    assert needed > 40 and f"about {needed:,} would" in describe(few)[0]
    hopeless = fit_calibration(rows(300, population=Population(1.0, 1.0)), CalibrationSettings(level=0.95), "rows")
    assert hopeless["threshold"] is None and hopeless["rows_needed"] == 0 and "nor would more" in describe(hopeless)[0]
    sets = fit_calibration(rows(30), CalibrationSettings("conformal", level=0.95), "rows")
    assert sets["threshold"] is None and sets["rows_needed"] == 37  # 19 of them test
    assert fit_calibration(rows(37), CalibrationSettings("conformal", level=0.95), "rows")["threshold"] is not None
    assert fit_calibration(rows(36), CalibrationSettings("conformal", level=0.95), "rows")["threshold"] is None
    with pytest.raises(GoldError, match="9 rows"):
        fit_calibration(rows(9), CalibrationSettings(), "rows")


def test_with_the_rows_it_asks_for_the_promise_is_mostly_made():
    settings = CalibrationSettings(level=0.95)
    asked = [fit_calibration(rows(80, seed), settings, "rows").get("rows_needed", 80) for seed in range(25)]
    enough = int(np.median(asked))
    made = [fit_calibration(rows(enough, 100 + seed), settings, "rows")["threshold"] is not None for seed in range(25)]
    assert enough > 80 and sum(made) >= 15


def test_texts_have_a_threshold_and_no_temperature():
    for score in ("energy", "probability"):
        calibration = fit_calibration(texts(500), CalibrationSettings(level=0.9, score=score), "rows")
        assert calibration["temperature"] == 1 and calibration["ece"][1] is None and "log_loss" not in calibration
        assert calibration["threshold"] is not None and calibration["coverage"] > 0.2
    with pytest.raises(ConfigError) as refused:
        fit_calibration(texts(500), CalibrationSettings("conformal"), "rows")
    assert refused.value.key == "promise"


def test_a_single_label_and_equal_scores():
    one = ScoredRows(np.zeros((60, 1)), np.zeros(60), np.zeros(60, int), np.ones(60, bool), np.zeros(60, int))
    calibration = fit_calibration(one, CalibrationSettings(level=0.9), "rows")
    assert calibration["temperature"] == 1 and calibration["coverage"] == 1 and calibration["selective_accuracy"] == 1
    sure = ScoredRows(
        np.log([[1 - 1e-9, 1e-9]] * 60), np.zeros(60), np.zeros(60, int), np.ones(60, bool), np.zeros(60, int)
    )
    for promise in ("selective", "conformal"):
        assert fit_calibration(sure, CalibrationSettings(promise, 0.9), "rows")["coverage"] == 1


def test_sentences_say_promise_origin_and_measures():
    calibration = fit_calibration(rows(500), CalibrationSettings(level=0.9), "probe")
    said = describe(calibration)
    assert said[0].startswith("Promised: of the answers given, at least 90 % are right, with 90 % confidence (known if")
    assert "the generator's labels" in said[1] and "400 of 500 rows" in said[2] and "before" in said[3]
    sets = describe(fit_calibration(rows(500), CalibrationSettings("conformal", 0.9), "rows"))
    assert "the set of labels holds the right one in 90 % of the cases" in sets[0] and "labels on average" in sets[1]
    bare = {
        k: calibration[k] for k in ("temperature", "score", "threshold", "promise", "level", "confidence", "source")
    }
    assert len(describe(bare | {"source": "rows", "rows": 500})) == 1
    assert describe(fit_calibration(texts(500), CalibrationSettings(), "rows"))[2].startswith(
        "Texts have no temperature"
    )
