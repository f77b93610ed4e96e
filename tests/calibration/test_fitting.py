"""Calibrations of scored rows: settings, division of rows, measures."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from gold_lightning.calibration.describe import describe
from gold_lightning.calibration.fitting import CalibrationSettings, ScoredRows, fit_calibration, fitted_with
from gold_lightning.calibration.rule import check_calibration, judge
from gold_lightning.calibration.temperature import fit_temperature, log_loss
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.evaluation.calibrate import FIT_CALIBRATION

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
        ({"lowest_level": 1.0}, "lowest_level"), ({"lowest_level": 0.0}, "lowest_level"),
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


def test_few_rows_fall_back_to_a_promise_that_they_allow():
    easy = Population(8.0, 3.0)
    fitted = fit_calibration(rows(60, population=easy), CalibrationSettings(lowest_level=0.5), "probe")
    assert fitted["threshold"] is not None and 0.5 <= fitted["level"] < 0.95 and fitted["level_asked"] == 0.95
    assert check_calibration(json.loads(json.dumps(fitted))) == fitted and fitted["coverage"] >= 0.3
    said = describe(fitted)[0]
    assert f"at least {100 * fitted['level']:.0f} % are right" in said and "do not allow the 95 % asked for" in said
    assert f"about {fitted['rows_needed']:,} would" in said
    none = fit_calibration(rows(12, population=easy), CalibrationSettings(lowest_level=0.9), "probe")
    assert none["threshold"] is None and none["level"] == 0.9 and none["rows_needed"] > 12
    assert "at least 90 % are right" in describe(none)[0] and "would" in describe(none)[0]
    sets = fit_calibration(rows(60), CalibrationSettings("conformal", 0.9, lowest_level=0.5), "rows")
    assert sets["level"] == 0.9 and "level_asked" not in sets  # a conformal promise needs few rows


@pytest.mark.parametrize(
    "changed, levels",
    [
        ({"level": 0.6}, [0.6]),  # the user has written the level alone
        ({"level": 0.7}, [0.7]),
        ({"level": 0.8}, [0.8, 0.75, 0.7]),
        ({"promise": "conformal"}, [0.95]),
    ],
)
def test_one_setting_of_the_promise_of_fit_can_be_changed_alone(changed, levels):
    assert replace(FIT_CALIBRATION, **changed).levels == levels


def test_calibrations_know_the_settings_they_were_fitted_with():
    every = [
        CalibrationSettings(), CalibrationSettings(level=0.9), CalibrationSettings(lowest_level=0.5),
        CalibrationSettings(lowest_level=0.7), CalibrationSettings(score="probability"),
        CalibrationSettings("conformal"), CalibrationSettings(confidence=0.8),
    ]  # fmt: skip
    fitted = [fit_calibration(rows(60), settings, "probe") for settings in every]
    for i, calibration in enumerate(fitted):
        assert [fitted_with(calibration, settings) for settings in every] == [i == j for j in range(len(every))]


def test_cross_fitted_measures_are_counted_on_rows_that_the_fit_has_not_seen():
    drawn = rows(100)[np.random.default_rng(1).permutation(100)]
    settings = CalibrationSettings(level=0.8)
    calibration = fit_calibration(drawn, settings, "rows", seed=3)
    order = np.random.default_rng(3).permutation(100)
    known, right, after, promised = [], [], [], 0
    for fold in np.array_split(order, 5):
        others = order[~np.isin(order, fold)]
        # The fit divides its rows by their order, so that its own shuffle is taken back.
        inverse = np.argsort(np.random.default_rng(0).permutation(len(others)))
        fitted = fit_calibration(drawn[others[inverse]], settings, "rows", seed=0)
        after.append(log_loss(drawn[fold].log_probs, drawn[fold].targets, fitted["temperature"]))
        if fitted["threshold"] is not None:
            promised += 1
            known += (drawn[fold].energies <= fitted["threshold"]).tolist()
            right += drawn[fold].right.tolist()
    assert calibration["cross_fitted"]["promised"] == promised > 2
    assert calibration["cross_fitted"]["coverage"] == pytest.approx(np.mean(known))
    assert calibration["cross_fitted"]["selective_accuracy"] == pytest.approx(np.mean(np.array(right)[known]))
    assert calibration["log_loss"][1] == pytest.approx(np.mean(after))


@pytest.mark.slow
def test_measures_on_the_rows_that_chose_are_optimistic_and_cross_fitted_ones_are_not():
    # All answers are as sure: each threshold lets through the same accuracy, so that what differs is luck.
    population, settings = Population(2.0, 2.0), CalibrationSettings(level=0.7, lowest_level=0.5)
    rng = np.random.default_rng(5)
    accuracy = population.draw(200_000, rng).right.mean()
    within, across, weights, loss_within, loss_across = [], [], [], [], []
    for seed in range(120):
        drawn = population.draw(60, rng)
        calibration = fit_calibration(drawn, settings, "rows", seed=seed)
        if (measured := calibration.get("cross_fitted", {}).get("selective_accuracy")) is not None:
            within.append(calibration["selective_accuracy"])
            across.append(measured)
            weights.append(calibration["cross_fitted"]["promised"] * calibration["cross_fitted"]["coverage"])
        best = fit_temperature(drawn.log_probs, drawn.targets)
        loss_within.append(log_loss(drawn.log_probs, drawn.targets, best))
        loss_across.append(calibration["log_loss"][1])
    fresh = population.draw(200_000, rng)
    truth = min(log_loss(fresh.log_probs, fresh.targets, t) for t in (2.7, 3.0, 3.3))
    assert np.mean(within) - accuracy > 0.04 and abs(np.average(across, weights=weights) - accuracy) < 0.02
    assert np.mean(loss_within) < truth < np.mean(loss_across)


@pytest.mark.slow
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
    assert said[0].startswith(
        "Promised: of the answers given, at least 90 % are right by the generator's labels, with 90 % "
    )
    assert "Labels are the generator's" in said[1] and "400 of 500 rows" in said[2] and "before" in said[3]
    assert "Cross-fitted" in said[2] and f"{100 * calibration['cross_fitted']['coverage']:.1f}" in said[2]
    del calibration["cross_fitted"]  # as earlier versions wrote it
    assert "Cross-fitted" not in describe(calibration)[2] and "are known" in describe(calibration)[2]
    sets = describe(fit_calibration(rows(500), CalibrationSettings("conformal", 0.9), "rows"))
    assert "the set of labels holds the right one in 90 % of the cases" in sets[0] and "labels on average" in sets[1]
    bare = {
        k: calibration[k] for k in ("temperature", "score", "threshold", "promise", "level", "confidence", "source")
    }
    assert len(describe(bare | {"source": "rows", "rows": 500})) == 1
    assert describe(fit_calibration(texts(500), CalibrationSettings(), "rows"))[2].startswith(
        "Texts have no temperature"
    )
