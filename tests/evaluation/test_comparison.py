"""Arms compared over seeds: intervals and corrections against values worked out by hand."""

import doctest
import json
import math
import random

import pytest
from gold_lightning.evaluation import comparison
from gold_lightning.evaluation.comparison import compare_arms, draw, holm, mean_interval, paired_p, result_lines


def test_mean_and_interval_by_hand():
    # t of 0.975 from a printed table: 12.706 for one degree of freedom, 4.303 for two, 2.776 for four.
    assert mean_interval([0.7, 0.8, 0.9]) == pytest.approx(
        (0.8, 0.8 - 4.3027 * 0.1 / 3**0.5, 0.8 + 4.3027 * 0.1 / 3**0.5), 1e-4
    )
    assert mean_interval([1.0, 3.0]) == pytest.approx((2.0, 2 - 12.7062, 2 + 12.7062), rel=1e-4)
    half = 2.7764 * (2.5 / 5) ** 0.5
    assert mean_interval([1, 2, 3, 4, 5]) == pytest.approx((3, 3 - half, 3 + half), rel=1e-4)
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0, 2.0)
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)
    assert all(map(math.isnan, mean_interval([])))


def test_the_examples_of_the_docstrings_are_right():
    assert doctest.testmod(comparison).failed == 0


def result(arm, seed, value, samples=32, **more):
    return {"arm": arm, "seed": seed, "metrics": {"accuracy": value}, "samples": samples, **more}


def test_differences_are_paired_by_seed():
    results = [result("none", s, v) for s, v in ((1, 0.5), (2, 0.7), (3, 0.9))]
    results += [result("band", s, v) for s, v in ((2, 0.72), (1, 0.51), (3, 0.93), (4, 0.1))]
    none, band = compare_arms(["none", "band"], results, "accuracy")
    assert none.mean[0] == pytest.approx(0.7) and none.differences == {}
    # 0.01, 0.02 and 0.03: mean 0.02, standard deviation 0.01, so 4.3027 * 0.01 / sqrt(3) to either side. Unpaired it
    # would be lost in the seeds' own spread. Seed 4 has no partner.
    assert band.differences == pytest.approx({1: 0.01, 2: 0.02, 3: 0.03})
    half = 4.3027 * 0.01 / 3**0.5
    assert band.difference == pytest.approx((0.02, 0.02 - half, 0.02 + half), rel=1e-4)
    assert band.mean[0] == pytest.approx((0.51 + 0.72 + 0.93 + 0.1) / 4) and band.row()["seeds"] == [1, 2, 3, 4]
    assert band.row()["difference"]["seeds"] == [1, 2, 3]
    json.dumps([s.row() for s in compare_arms(["none", "band"], [], "accuracy")], allow_nan=False)


def test_p_values_are_those_of_the_paired_t_test():
    from scipy.stats import ttest_1samp

    for differences in ([0.01, 0.02, 0.03], [1.0, -1.0, 2.0, 0.5], [0.3, 0.31], [-0.1, -0.2, -0.3, -0.1, -0.2]):
        assert paired_p(differences) == pytest.approx(ttest_1samp(differences, 0).pvalue)
    assert math.isnan(paired_p([0.1])) and math.isnan(paired_p([])) and paired_p([0.0, 0.0]) == 1.0
    assert math.isnan(paired_p([0.7 - 0.6, 0.6 - 0.5]))  # no spread but that of rounding


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])  # 0.01 x 3, 0.03 x 2, then no less than that
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([0.02]) == [0.02] and holm([]) == []
    known, unknown = holm([0.02, math.nan])
    assert known == pytest.approx(0.04) and math.isnan(unknown)


@pytest.mark.slow
def test_holm_finds_something_in_nothing_about_as_often_as_one_test():
    rng = random.Random(0)
    tables = [[paired_p([rng.gauss(0, 1) for _ in range(5)]) for _ in range(5)] for _ in range(600)]
    assert 0.17 < sum(min(ps) < 0.05 for ps in tables) / 600 < 0.29  # 1 - 0.95 ** 5 = 0.23
    assert 0.03 < sum(min(holm(ps)) < 0.05 for ps in tables) / 600 < 0.07


def test_a_difference_that_is_one_of_several_is_corrected_and_marked(tmp_path):
    arms = {"none": (0, 0, 0, 0, 0), "a": (0.0, 0.8, 1.8, 2.5, 2.9), "b": (-1, 0, 1, 2, -2), "c": (7, 8, 8, 7, 8)}
    results = [result(arm, s, 0.8 + s / 50 + x / 100) for arm, shifts in arms.items() for s, x in enumerate(shifts)]
    found = {s.arm: s for s in compare_arms([*arms], results, "accuracy")}
    assert found["a"].difference[1] > 0 and found["a"].p < 0.05 < found["a"].p_holm and not found["a"].holds
    assert found["a"].p_holm == pytest.approx(2 * found["a"].p)
    assert found["c"].holds and math.isnan(found["none"].p_holm)
    assert (
        found["c"].row()["difference"]["p_holm"] == found["c"].p_holm and found["none"].row()["difference"]["p"] is None
    )
    lines = [*result_lines("", "news_topics, accuracy", [*found.values()], 20)]
    assert lines[0].endswith("p (Holm)")
    told = dict(zip(arms, lines[1:], strict=False))
    assert told["c"].endswith("*") and not told["a"].endswith("*") and told["none"].endswith(")")
    assert "each interval covers its own difference alone; p is corrected for 3 comparisons with none" in lines
    # Alone, the same difference holds: how many are looked at is what decides.
    only = compare_arms(["none", "a"], results, "accuracy")
    assert only[1].holds and only[1].p_holm == only[1].p == found["a"].p
    assert not any("comparisons" in line for line in result_lines("", "news_topics, accuracy", only, 10))


def test_the_table_says_what_is_compared_and_what_is_not_equal(tmp_path):
    results = [
        result("none", 1, 0.5),
        result("none", 2, 0.6),
        result("band", 1, 0.6),
        result("band", 2, 0.7, samples=24),
    ]
    told = "\n".join(result_lines("", "news_topics, accuracy", compare_arms(["none", "band"], results, "accuracy"), 4))
    assert "none                       2  55.0 % (-8.5 to 118.5)" in told
    assert "+10.0 (+10.0 to +10.0)" in told and "difference to none" in told
    assert "training samples differ, so budgets are not equal: none 32; band 24, 32" in told
    assert "flipped" not in told and "not finished" not in told
    told = "\n".join(
        result_lines("", "news_topics, accuracy", compare_arms(["none", "band"], results[:3], "accuracy"), 4)
    )
    assert "each run: 32 training samples" in told and "not finished: 1 of 4 runs" in told


def test_noise_is_counted_against_the_base_rate(tmp_path):
    flips = [{"probe": [2, 10], "fed_back": [1, 3], "auroc": 0.8}, {"probe": [3, 10], "fed_back": [2, 3], "auroc": 0.6}]
    results = [result("none", s, 0.5, flipped=f) for s, f in zip((1, 2), flips, strict=True)]
    found = compare_arms(["none", "band"], results, "accuracy")
    assert found[0].flipped == {"probe": [5, 20], "fed_back": [3, 6], "auroc": pytest.approx(0.7)}
    told = "\n".join(result_lines("", "news_topics, accuracy", found, 4))
    assert "25% of 20       50% of 6  0.70" in told


def test_the_figure_is_written_in_both_formats_the_same_each_time(tmp_path):
    results = [result(arm, s, 0.5 + s / 50 + i / 100) for i, arm in enumerate(("a $x$", "<b>")) for s in range(5)]
    found = compare_arms(["a $x$", "<b>"], results, "accuracy")
    paths = [tmp_path / f"figure.{kind}" for kind in ("png", "svg")]
    draw("try", "accuracy", found, paths)
    before = [path.read_bytes() for path in paths]
    assert before[0].startswith(b"\x89PNG") and b"a $x$" in before[1] and b"&lt;b&gt;" in before[1]
    draw("try", "accuracy", found, paths)
    assert [path.read_bytes() for path in paths] == before and sorted(tmp_path.iterdir()) == sorted(paths)
