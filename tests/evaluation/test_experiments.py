"""Comparing runs: intervals against values worked out by hand, and which run when."""

import doctest
import json
import math
import random
import threading
import time
import tracemalloc
from dataclasses import replace

import pytest
from gold_lightning.cli.experiment import experiment_command
from gold_lightning.errors import BusyError, ConfigError, GoldError
from gold_lightning.evaluation import comparison
from gold_lightning.evaluation.comparison import compare_arms, draw, holm, mean_interval, paired_p, result_lines
from gold_lightning.evaluation.experiment_file import Experiment, load_experiment
from gold_lightning.evaluation.experiments import (
    Run,
    _flipped,
    in_processes,
    plan_runs,
    run_all,
    write_results,
)
from gold_lightning.storage.round_store import only_writer, read_lines, write_lines
from gold_lightning.task import Task

TWO = Experiment("try", ("quickstart.yaml",), {"none": {"feedback.strategy": "none"}, "band": {}}, (1, 2))


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
    assert "each interval is of its own difference alone; p is corrected for 3 comparisons with none" in lines
    # Alone, the same difference holds: how many are looked at is what decides.
    only = compare_arms(["none", "a"], results, "accuracy")
    assert only[1].holds and only[1].p_holm == only[1].p == found["a"].p
    assert not any("comparisons" in line for line in result_lines("", "news_topics, accuracy", only, 10))


def test_the_table_says_what_is_compared_and_what_is_not_equal(tmp_path):
    runs = planned(tmp_path)
    results = [
        result("none", 1, 0.5),
        result("none", 2, 0.6),
        result("band", 1, 0.6),
        result("band", 2, 0.7, samples=24),
    ]
    told = "\n".join(
        result_lines("", "news_topics, accuracy", compare_arms(["none", "band"], results, "accuracy"), len(runs))
    )
    assert "none                       2  55.0 % (-8.5 to 118.5)" in told
    assert "+10.0 (+10.0 to +10.0)" in told and "difference to none" in told
    assert "training samples differ, so budgets are not equal: none 32; band 24, 32" in told
    assert "flipped" not in told and "not finished" not in told
    told = "\n".join(
        result_lines("", "news_topics, accuracy", compare_arms(["none", "band"], results[:3], "accuracy"), len(runs))
    )
    assert "each run: 32 training samples" in told and "not finished: 1 of 4 runs" in told


def test_noise_is_counted_against_the_base_rate(tmp_path):
    flips = [{"probe": [2, 10], "fed_back": [1, 3], "auroc": 0.8}, {"probe": [3, 10], "fed_back": [2, 3], "auroc": 0.6}]
    results = [result("none", s, 0.5, flipped=f) for s, f in zip((1, 2), flips, strict=True)]
    found = compare_arms(["none", "band"], results, "accuracy")
    assert found[0].flipped == {"probe": [5, 20], "fed_back": [3, 6], "auroc": pytest.approx(0.7)}
    told = "\n".join(result_lines("", "news_topics, accuracy", found, 4))
    assert "25% of 20       50% of 6  0.70" in told


# Files


def write(tmp_path, text):
    path = tmp_path / "e.yaml"
    path.write_text(text)
    return path


def test_a_grid_is_all_its_points_with_each_arm(tmp_path):
    text = "name: n\nbase: a.yaml\ngrid:\n  data.label_noise: [0.0, 0.2]\n"
    text += "  model.loss: [CrossEntropy, {class_path: x.Robust, init_args: {q: 0.7}}]\n"
    arms = load_experiment(write(tmp_path, text)).arms
    assert list(arms) == [
        "label_noise 0.0, loss CrossEntropy",
        "label_noise 0.0, loss Robust q 0.7",
        "label_noise 0.2, loss CrossEntropy",
        "label_noise 0.2, loss Robust q 0.7",
    ]
    assert arms["label_noise 0.2, loss CrossEntropy"] == {"data.label_noise": 0.2, "model.loss": "CrossEntropy"}
    arms = load_experiment(write(tmp_path, text + "arms: {none: {feedback.strategy: none}, band: }\n")).arms
    assert len(arms) == 8 and "band, label_noise 0.2, loss CrossEntropy" in arms
    assert arms["none, label_noise 0.0, loss CrossEntropy"]["feedback.strategy"] == "none"


GOOD = "name: n\nbase: quickstart.yaml\narms: {a: {feedback.rate: 0}, b: {}}\nseeds: [1, 2]\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("- 1", "the experiment"),
        ("name: n", "base"),
        ("base: a", "name"),
        (GOOD.replace("name: n", "name: ../n"), "name"),
        (GOOD.replace("name: n", "name: 3"), "name"),
        (GOOD.replace("{a: {feedback.rate: 0}, b: {}}", "{a: {}}"), "arms"),
        (GOOD.replace("a: {", "no: {"), "arms"),
        (GOOD.replace("b: {}", "b: 3"), "arms.b"),
        (GOOD.replace("b: {}", "a/: {}"), "arms"),
        (GOOD.replace("b: {}", "b: {seed_everything: 3}"), "arms.b.seed_everything"),
        (GOOD.replace("b: {}", "b: {run.name: x}"), "arms.b.run.name"),
        (GOOD.replace("[1, 2]", "[1, 1]"), "seeds"),
        (GOOD.replace("[1, 2]", "[one]"), "seeds"),
        (GOOD + "checkpoint: first", "checkpoint"),
        (GOOD + "grid: {feedback.alpha: 0.5}", "grid.feedback.alpha"),
        (GOOD + "seed: 3", "seed"),
        (GOOD + "name: m", "name"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_file_and_key(text, key, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(GoldError) as caught:
        load_experiment(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: ") and key in line


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (["--jobs", "0"], "--jobs"),
        (["--set", "feedback.rate"], "--set"),
        (["--seeds", "1", "1"], "seeds"),
        (["--arms", "nobody"], "--arms"),
        (["--name", "a b"], "name"),
    ],
)
def test_wrong_arguments_name_their_key(args, key, tmp_path):
    with pytest.raises(ConfigError, match=f"^{key}: got"):
        experiment_command(["--config", str(write(tmp_path, GOOD)), *args], dict)


def test_some_arms_in_the_order_in_which_they_are_named(tmp_path):
    path = write(tmp_path, "name: t\nbase: quickstart.yaml\narms: {a: , b: , c: }\nseeds: [1]\n")
    with pytest.raises(GoldError, match=r"^arms\.c: looked at first"):
        experiment_command(["--config", str(path), "--arms", "c", "a"], _refuses)


def test_another_metric_takes_the_place_of_the_files(tmp_path):
    command = ["--config", str(write(tmp_path, GOOD)), "--metric"]
    with pytest.raises(ConfigError, match=r"^metric: got 'nothing', expected a metric of news_topics"):
        experiment_command([*command, "nothing"], resolve)


def _refuses(args):
    raise GoldError("looked at first")


# Running


def resolve(args):
    """Stands in for the command line's parser."""
    given = dict(arg.removeprefix("--").split("=", 1) for arg in args if "=" in arg)
    return {"data": {"task": "news_topics"}, "feedback": {"strategy": given.get("feedback.strategy", "energy_band")}}


def planned(tmp_path, experiment=TWO):
    return plan_runs(replace(experiment, root=str(tmp_path)), resolve)


def finish(folder):
    """What a fit and a test leave, as far as it is looked at."""
    write_lines(folder / "predictions.jsonl", [{"row": 0, "prediction": "World", "target": "World"}])
    row = {"train": {"accepted": 16}, "feedback_prompts": 4, "fed_back": ["x"], "seconds": {"training": 1.0}}
    write_lines(folder / "rounds.jsonl", [row | {"tokens": {"calls": 20, "reused_calls": 3}}])


class Script:
    """Runs nothing, but notes what was to be run, and leaves what a run leaves."""

    def __init__(self, tmp_path, fails=(), status=1):
        self.root, self.fails, self.status = tmp_path, dict(fails), status
        self.began, self.ended, self.lock = [], [], threading.Lock()

    def __call__(self, args, log):
        name = args[args.index("--run.name") + 1]
        with self.lock:
            self.began.append((args[0], name, set(self.ended)))
        time.sleep(0.01)
        if name in self.fails:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(self.fails[name])
            return self.status
        finish(self.root / "try" / "news_topics" / name)
        with self.lock:
            self.ended.append(name)
        return 0


def go(tmp_path, script, jobs=1, experiment=TWO):
    experiment = replace(experiment, root=str(tmp_path))
    runs = plan_runs(experiment, resolve)
    good = run_all(experiment, runs, jobs, script, threading.Event())
    return good, write_results(experiment, runs)


def test_runs_are_fitted_and_tested_seed_by_seed_and_not_again(tmp_path):
    script = Script(tmp_path)
    good, (none, _) = go(tmp_path, script)
    assert good and none.values == {1: 1.0, 2: 1.0}
    runs = ("none-s1", "band-s1", "none-s2", "band-s2")
    assert [b[:2] for b in script.began] == [(c, n) for n in runs for c in ("fit", "test")]
    rows = read_lines(tmp_path / "try" / "results.jsonl")
    assert [(r["arm"], r["seed"], r["samples"], r["reused_calls"]) for r in rows][:2] == [
        ("none", 1, 16, 3),
        ("band", 1, 16, 3),
    ]
    again = Script(tmp_path)
    assert go(tmp_path, again)[0] and again.began == []
    three = replace(TWO, seeds=(1, 2, 3))
    assert go(tmp_path, again, experiment=three)[0] and {b[1] for b in again.began} == {"none-s3", "band-s3"}


@pytest.mark.parametrize("jobs", [2, 8])
def test_the_first_arm_of_a_seed_ends_before_its_others_begin(tmp_path, jobs):
    arms = {"none": {"feedback.strategy": "none"}} | {f"a{i}": {} for i in range(4)}
    script = Script(tmp_path)
    assert go(tmp_path, script, jobs, replace(TWO, arms=arms, seeds=(1, 2, 3)))[0]
    fits = [(name, ended) for command, name, ended in script.began if command == "fit"]
    assert len(fits) == 15
    assert all(f"none-{name.split('-')[1]}" in ended for name, ended in fits if not name.startswith("none"))


def test_a_run_that_fails_leaves_the_others_alone_and_is_run_again(tmp_path, caplog):
    script = Script(tmp_path, {"none-s1": "Traceback\nRuntimeError: out of memory\n"})
    good, (none, band) = go(tmp_path, script)
    assert not good and list(none.values) == [2] and list(band.values) == [1, 2] and list(band.differences) == [2]
    assert "none, seed 1 failed: exit status 1: RuntimeError: out of memory" in caplog.text
    again = Script(tmp_path)
    assert go(tmp_path, again)[0] and {b[1] for b in again.began} == {"none-s1"}


def test_a_wrong_setting_ends_the_experiment_with_the_runs_own_line(tmp_path):
    script = Script(tmp_path, {"band-s1": "noise\nerror: feedback.alpha: got 2\n"}, status=2)
    with pytest.raises(GoldError, match=r"^band, seed 1: feedback\.alpha: got 2$"):
        go(tmp_path, script)
    assert {b[1] for b in script.began} == {"none-s1", "band-s1"}


def test_another_metric_is_looked_up_and_what_was_tested_before_it_was_there_is_tested_again(tmp_path):
    go(tmp_path, Script(tmp_path))
    again = Script(tmp_path)
    by_f1 = replace(TWO, metric="macro_f1")
    good, (none, _) = go(tmp_path, again, experiment=by_f1)
    assert good and again.began == [] and none.values == {1: 1.0, 2: 1.0}  # of four labels one has a row
    record = tmp_path / "try" / "news_topics" / "band-s1" / "experiment.json"
    (held,) = read_lines(record)
    del held["result"]["metrics"]["macro_f1"]
    write_lines(record, [held])
    assert [len(s.values) for s in write_results(by_f1, planned(tmp_path, by_f1))] == [2, 1]
    good, (_, band) = go(tmp_path, again, experiment=by_f1)
    assert good and {b[1] for b in again.began} == {"band-s1"} and band.values == {1: 1.0, 2: 1.0}


def test_checkpoints_of_tested_runs_are_deleted_where_that_is_asked_for(tmp_path):
    class WithCheckpoints(Script):
        def __call__(self, args, log):
            name = args[args.index("--run.name") + 1]
            for part in ("checkpoints", "student"):
                path = self.root / "try" / "news_topics" / name / part / "weights"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            return super().__call__(args, log)

    def kept(part):
        return {path.parent.name for path in (tmp_path / "try" / "news_topics").glob(f"*/{part}")}

    script = WithCheckpoints(tmp_path, {"band-s2": "RuntimeError: out of memory"})
    runs = planned(tmp_path)
    assert not run_all(replace(TWO, root=str(tmp_path)), runs, 1, script, threading.Event(), prune=True)
    assert kept("checkpoints") == {"band-s2"} and kept("student") == {"none-s1", "band-s1", "none-s2", "band-s2"}


def test_a_run_with_other_settings_is_refused(tmp_path):
    go(tmp_path, Script(tmp_path))
    other = replace(TWO, arms={"none": {"feedback.strategy": "none"}, "band": {"feedback.strategy": "random"}})
    with pytest.raises(GoldError, match=r"band-s1: was run with another feedback\.strategy; take another --name"):
        go(tmp_path, Script(tmp_path), experiment=other)


def test_a_metric_that_the_task_does_not_have_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^metric: got 'f1', expected a metric of news_topics \(accuracy, macro_f1\)"
    ):
        planned(tmp_path, replace(TWO, metric="f1"))


def test_a_process_that_outlived_the_experiment_is_waited_for(tmp_path, caplog):
    caplog.set_level("INFO", logger="gold_lightning")
    script = Script(tmp_path)
    folder = tmp_path / "try" / "news_topics" / "none-s1"
    found = []
    with only_writer(folder):
        thread = threading.Thread(target=lambda: found.append(go(tmp_path, script)[0]))
        thread.start()
        while "waits for a process" not in caplog.text:
            time.sleep(0.01)
        assert script.began == []
    thread.join(timeout=20)
    assert found == [True] and len(script.began) == 8


def test_a_table_can_be_looked_at_while_the_experiment_runs(tmp_path, capsys):
    text = f"name: try\nbase: quickstart.yaml\nseeds: [1, 2]\nroot: {tmp_path}\n"
    path = write(tmp_path, text + "arms: {none: {feedback.strategy: none}, band: }\n")
    experiment = load_experiment(path)
    go(tmp_path, Script(tmp_path, {"band-s2": "RuntimeError: out of memory"}), experiment=experiment)
    for file in (tmp_path / "try").iterdir():
        if file.suffix in (".jsonl", ".txt", ".png", ".svg"):
            file.write_text("of the process at work")
    with only_writer(tmp_path / "try"):
        assert experiment_command(["--config", str(path), "--table"], resolve) == 0
        told = capsys.readouterr().out
        assert "not finished: 1 of 4 runs" in told and "a process is at work on them" in told
        with pytest.raises(BusyError, match=r"take another --name, or look at what is finished with --table$"):
            experiment_command(["--config", str(path)], resolve)
    assert (tmp_path / "try" / "results.jsonl").read_text() == "of the process at work"
    assert not (tmp_path / "try" / "table.txt").exists()
    assert experiment_command(["--config", str(path), "--table"], resolve) == 0
    told = capsys.readouterr().out
    assert "not finished: 1 of 4 runs" in told and "at work" not in told
    assert (tmp_path / "try" / "table.txt").read_text().splitlines() == told.splitlines()[:-1]


def scored(energy, *, flipped, fed_back=False):
    return {"id": f"{energy}", "kind": "probe", "energy": energy, "flipped": flipped, "fed_back": fed_back}


def test_auroc_of_flipped_labels_is_the_share_of_pairs_within_rounds():
    rng = random.Random(0)
    rounds = [
        [scored(float(rng.randrange(8)), flipped=rng.random() < 0.3, fed_back=rng.random() < 0.2) for _ in range(n)]
        for n in (40, 7, 1, 25)
    ]
    pairs = [(a["energy"], b["energy"]) for r in rounds for a in r if a["flipped"] for b in r if not b["flipped"]]
    found = _flipped(rounds)
    assert found["auroc"] == pytest.approx(sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs))
    every = [row for r in rounds for row in r]
    assert found["probe"] == [sum(row["flipped"] for row in every), 73]
    assert _flipped([[scored(1.0, flipped=True)], []])["auroc"] is None
    # Energies of a run that lost its way are no numbers, and nothing is known of them.
    odd = [
        [
            scored(math.nan, flipped=True),
            scored(None, flipped=True),
            scored(2.0, flipped=True),
            scored(1.0, flipped=False),
        ]
    ]
    assert _flipped(odd)["auroc"] == 1.0


def test_auroc_of_ten_thousand_probe_samples_takes_no_list_of_pairs():
    rng = random.Random(0)
    rounds = [[scored(rng.random(), flipped=rng.random() < 0.3) for _ in range(10_000)]]
    tracemalloc.start()
    assert _flipped(rounds)["auroc"] == pytest.approx(0.5, abs=0.02)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000  # 21 million pairs were 2.5 GB
    tracemalloc.stop()


def test_processes_end_when_they_are_stopped_and_their_output_is_kept(tmp_path):
    stopped, found = threading.Event(), []
    run = in_processes(stopped, jobs=1)
    log = tmp_path / "logs" / "x.log"
    assert run(["tasks", "show", "no_such_task"], log) == 2 and "error: tasks show: got" in log.read_text()
    stopped.set()
    thread = threading.Thread(target=lambda: found.append(run(["tasks"], log)))
    thread.start()
    thread.join(timeout=60)
    assert found and found[0] != 0


def test_the_figure_is_written_in_both_formats_the_same_each_time(tmp_path):
    results = [result(arm, s, 0.5 + s / 50 + i / 100) for i, arm in enumerate(("a $x$", "<b>")) for s in range(5)]
    found = compare_arms(["a $x$", "<b>"], results, "accuracy")
    paths = [tmp_path / f"figure.{kind}" for kind in ("png", "svg")]
    draw("try", "accuracy", found, paths)
    before = [path.read_bytes() for path in paths]
    assert before[0].startswith(b"\x89PNG") and b"a $x$" in before[1] and b"&lt;b&gt;" in before[1]
    draw("try", "accuracy", found, paths)
    assert [path.read_bytes() for path in paths] == before and sorted(tmp_path.iterdir()) == sorted(paths)


def test_run_is_plain(tmp_path):
    run = planned(tmp_path)[0]
    assert isinstance(run, Run) and run.task == Task.load("news_topics") and run.first and run.record() == {}
