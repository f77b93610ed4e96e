"""Experiments: which run when, what fails, and what is looked at."""

import math
import random
import threading
import time
import tracemalloc
from dataclasses import replace

import pytest
from gold_lightning.cli.experiment import experiment_command
from gold_lightning.errors import BusyError, ConfigError, GoldError
from gold_lightning.evaluation.experiment_file import Experiment, load_experiment
from gold_lightning.evaluation.experiments import (
    Run,
    _flipped,
    in_processes,
    plan_runs,
    run_all,
    write_results,
)
from gold_lightning.storage.json_lines import read_lines, write_lines
from gold_lightning.storage.run_folder import only_writer
from gold_lightning.task import Task

from tests.evaluation.test_experiment_file import GOOD, write

pytestmark = pytest.mark.integration

TWO = Experiment("try", ("quickstart.yaml",), {"none": {"feedback.strategy": "none"}, "band": {}}, (1, 2))


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
    with pytest.raises(ConfigError) as caught:
        experiment_command(["--config", str(write(tmp_path, GOOD)), *args], dict)
    assert caught.value.key == key


def test_some_arms_in_the_order_in_which_they_are_named(tmp_path):
    path = write(tmp_path, "name: t\nbase: quickstart.yaml\narms: {a: , b: , c: }\nseeds: [1]\n")
    with pytest.raises(GoldError, match=r"^arms\.c: looked at first"):
        experiment_command(["--config", str(path), "--arms", "c", "a"], _refuses)


def test_another_metric_takes_the_place_of_the_files(tmp_path):
    command = ["--config", str(write(tmp_path, GOOD)), "--metric"]
    with pytest.raises(ConfigError) as caught:
        experiment_command([*command, "nothing"], resolve)
    assert (caught.value.key, caught.value.value) == ("metric", "nothing")


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
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, replace(TWO, metric="f1"))
    assert caught.value.key == "metric" and "accuracy, macro_f1" in caught.value.allowed


def test_a_process_that_outlived_the_experiment_is_waited_for(tmp_path, caplog):
    caplog.set_level("INFO", logger="gold_lightning")
    script = Script(tmp_path)
    folder = tmp_path / "try" / "news_topics" / "none-s1"
    found = []
    with only_writer(folder):
        thread = threading.Thread(target=lambda: found.append(go(tmp_path, script)[0]))
        thread.start()
        while "waits for another process" not in caplog.text:
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
        assert "not finished: 1 of 4 runs" in told and "another process is still running the experiment" in told
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


def test_run_is_plain(tmp_path):
    run = planned(tmp_path)[0]
    assert isinstance(run, Run) and run.task == Task.load("news_topics") and run.first and run.record() == {}
