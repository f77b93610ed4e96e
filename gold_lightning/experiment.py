"""Runs of one base that differ in a setting, repeated over seeds at equal sample budgets, and compared.

Each run is an ordinary run folder, made by the ordinary ``fit`` and ``test`` in a process of its own.

Runs of one seed lie beside each other, so they share completions as all runs of a task do: what two arms ask in the
very same way (round 0, mostly) is asked once. That makes the design *paired*: arms of a seed begin with the same
samples, weights and order, and their difference is free of what these do to both. It makes no two seeds alike: a
request carries a seed drawn from the run's, so runs of different seeds share no sample. Hence all intervals here are
over seeds, and differences are taken within them. The first arm of a seed ends before the others begin, so what is
shared does not depend on how many run at once.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from jsonargparse import ArgumentParser

from gold_lightning.callbacks import auroc
from gold_lightning.commands import program
from gold_lightning.comparison import Summary, draw, result_lines, summarise
from gold_lightning.console import printable, say
from gold_lightning.errors import BusyError, ConfigError, GoldError
from gold_lightning.metrics import make_metric
from gold_lightning.paths import check_folder, expand, folder_for
from gold_lightning.piped import local_copy
from gold_lightning.store import RoundStore, only_writer, read_lines, rounds_in, write_lines
from gold_lightning.student import metric_names
from gold_lightning.task import Task
from gold_lightning.task_file import load_task, load_yaml

__all__ = ["Experiment", "Run", "experiment_command", "load_experiment"]

_log = logging.getLogger("gold_lightning")
_NEVER = 1_000_000  # rounds without improvement
_RECORD = "experiment.json"

Resolve = Callable[[Sequence[str]], Mapping[str, Any]]
"""Gives the resolved config of a command line, or an error that names what is wrong with it."""
Runner = Callable[[Sequence[str], Path], int]
"""Runs a command line, its output appended to a file, and gives the exit status."""


@dataclass(frozen=True)
class Experiment:
    """What is compared.

    Args:
        name: A folder's name.
        base: Configs of all runs, as ``--config`` takes them.
        arms: Settings of each arm by its name, keys as on the command line. The first is what others are compared with.
        seeds: Of the runs; each arm has one run for each.
        set: Settings of all arms.
        question: What is to be found out, in a sentence.
        metric: Of the task's metrics; "" for the first.
        checkpoint: Which student is tested. ``last``: trained on the samples of all rounds, as many in each arm;
            ``best``: by the probe set, which is each arm's own.
        root: Folder of all experiments.
    """

    name: str
    base: tuple[str, ...]
    arms: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    set: Mapping[str, Any] = field(default_factory=dict)
    question: str = ""
    metric: str = ""
    checkpoint: Literal["last", "best"] = "last"
    root: str = "runs/experiments"

    def __post_init__(self) -> None:
        if _slug(self.name) != self.name:
            raise ConfigError("name", self.name, "a folder's name of letters, digits, _, - and .")
        if not self.base:
            raise ConfigError("base", [], "one config or more")
        if len(self.arms) < 2:
            raise ConfigError("arms", list(self.arms), "two arms or more, in arms or in grid")
        slugs = [_slug(name) for name in self.arms]
        for i, (name, slug) in enumerate(zip(self.arms, slugs, strict=True)):
            if slug in slugs[:i] or not slug:
                raise ConfigError("arms", name, "names that differ in letters and digits")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError("seeds", list(self.seeds), "one seed or more, each once")
        if self.checkpoint not in get_args(Literal["last", "best"]):
            raise ConfigError("checkpoint", self.checkpoint, "last or best")
        for at, settings in [("set", self.set), *((f"arms.{name}", arm) for name, arm in self.arms.items())]:
            for key in settings:
                if key in ("seed_everything", "config", "ckpt_path") or key.startswith("run."):
                    raise ConfigError(
                        f"{at}.{key}", settings[key], "a setting that is not the experiment's own to make"
                    )

    @property
    def folder(self) -> Path:
        """Where runs, results and figures go."""
        return folder_for("root", self.root) / self.name


def load_experiment(path: Path) -> Experiment:
    """Reads an experiment file.

    Raises:
        GoldError: A key in it is wrong; the message names file and key.
    """
    raw = load_yaml(path)
    try:
        return _read(raw)
    except ConfigError as e:
        raise GoldError(f"{path}: {e}") from None


def _read(raw: object) -> Experiment:
    known = ("name", "question", "base", "set", "arms", "grid", "seeds", "metric", "checkpoint", "root")
    given = _mapping(raw, "the experiment")
    for key in given:
        if key not in known:
            raise ConfigError(key, given[key], f"one of the keys {', '.join(known)}")
    if "name" not in given or "base" not in given:
        missing = "name" if "name" not in given else "base"
        raise ConfigError(
            missing, None, "text" if missing == "name" else "a config or a list of them; the key is missing"
        )
    base = given["base"] if isinstance(given["base"], list) else [given["base"]]
    seeds = given.get("seeds", [1, 2, 3, 4, 5])
    texts: dict[str, Any] = {k: given[k] for k in ("name", "question", "metric", "checkpoint", "root") if k in given}
    for key, value in [*texts.items(), *((f"base[{i}]", b) for i, b in enumerate(base))]:
        if not isinstance(value, str):
            raise ConfigError(key, value, "text", "put it in quotes")
    if not isinstance(seeds, list) or not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds):
        raise ConfigError("seeds", seeds, "a list of whole numbers, 0 or more")
    arms = {
        name: _mapping({} if arm is None else arm, f"arms.{name}")
        for name, arm in _mapping(given.get("arms", {}), "arms").items()
    }
    grid = _mapping(given.get("grid", {}), "grid")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"grid.{key}", values, "a list of values")
    if grid:
        arms = _spread(arms, grid)
    return Experiment(
        base=tuple(base), arms=arms, seeds=tuple(seeds), set=_mapping(given.get("set", {}), "set"), **texts
    )


def _mapping(value: object, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(key, value, "a mapping of keys to values")
    for name in value:
        if not isinstance(name, str):
            raise ConfigError(key, name, "names that are text", "put it in quotes")
    return value


def _spread(arms: Mapping[str, Mapping[str, Any]], grid: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Each arm at each point of the grid; without arms, the points."""
    found: dict[str, dict[str, Any]] = {}
    for name, arm in (arms or {"": {}}).items():
        for point in itertools.product(*grid.values()):
            values = dict(zip(grid, point, strict=True))
            told = ", ".join(f"{key.rsplit('.', 1)[-1]} {_shown(value)}" for key, value in values.items())
            found[f"{name}, {told}" if name else told] = {**arm, **values}
    return found


def _shown(value: Any) -> str:
    """A setting in a few words: of a class its name and arguments."""
    if isinstance(value, dict) and "class_path" in value:
        arguments = "".join(f" {k} {v}" for k, v in value.get("init_args", {}).items())
        return str(value["class_path"]).rsplit(".", 1)[-1] + arguments
    return str(value)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.")


@dataclass(frozen=True)
class Run:
    """One run of an experiment.

    Args:
        arm: Name of its arm.
        seed: Its seed.
        first: Whether the others of its seed wait for it.
        arguments: Of ``fit`` and ``test``, without the subcommand.
        config: The resolved config, a value for each dotted key.
        folder: Its run folder.
        log: Where its output goes.
        task: Its task.
    """

    arm: str
    seed: int
    first: bool
    arguments: tuple[str, ...]
    config: Mapping[str, Any]
    folder: Path
    log: Path
    task: Task

    def record(self) -> dict[str, Any]:
        """What is known of an earlier sitting; nothing where there was none.

        Raises:
            GoldError: That one had other settings.
        """
        held, *_ = [*read_lines(self.folder / _RECORD), {}]
        was = held.get("config", {})
        if other := sorted(k for k in was.keys() & self.config.keys() if was[k] != self.config[k]):
            raise GoldError(
                f"{self.folder}: was run with another {', '.join(other)}; take another --name, or delete the folder"
            )
        return held


def plan_runs(experiment: Experiment, resolve: Resolve) -> list[Run]:
    """All runs, seed by seed, each with its config looked at.

    Raises:
        GoldError: A setting is wrong; the message names the arm.
    """
    runs: list[Run] = []
    looked_at: dict[str, tuple[dict[str, Any], Task]] = {}
    for seed in experiment.seeds:
        for name, arm in experiment.arms.items():
            slug = f"{_slug(name)}-s{seed}"
            # Equal budgets: no arm ends early, unless the experiment says so.
            settings = {"early_stopping.patience": _NEVER, "trainer.enable_progress_bar": False}
            settings |= {**experiment.set, **arm}
            base = [local_copy("base", config) or config for config in experiment.base]  # each run reads it
            arguments = [part for config in base for part in ("--config", config)]
            arguments += ["--run.root", str(experiment.folder), "--run.name", slug, "--seed_everything", str(seed)]
            arguments += [f"--{key}={_text(value)}" for key, value in settings.items()]
            if name not in looked_at:
                try:
                    found = _flat(resolve(["fit", *arguments]))
                    looked_at[name] = found, load_task(str(found["data.task"]))
                except GoldError as e:
                    raise GoldError(f"arms.{name}: {e}") from None
                _metric(experiment, looked_at[name][1])
            found, task = looked_at[name]
            config = {k: v for k, v in found.items() if not k.startswith("run.")}
            config |= {"seed_everything": seed, "checkpoint": experiment.checkpoint}
            folder = experiment.folder / task.name / slug
            log = experiment.folder / "logs" / f"{task.name}-{slug}.log"
            runs.append(
                Run(name, seed, name == next(iter(experiment.arms)), tuple(arguments), config, folder, log, task)
            )
    return runs


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _flat(value: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{at}{key}.") if isinstance(inner, dict) and inner else {f"{at}{key}": inner}
    return json.loads(json.dumps(found, default=str))  # type: ignore[no-any-return]


def _metric(experiment: Experiment, task: Task) -> str:
    names = metric_names(task)
    if experiment.metric and experiment.metric not in names:
        raise ConfigError("metric", experiment.metric, f"a metric of {task.name} ({', '.join(names)})")
    return experiment.metric or names[0]


def _result(experiment: Experiment, run: Run) -> dict[str, Any] | None:
    """What a finished run is compared by; ``None`` too where it was tested before its task had the metric."""
    held = run.record()
    name = _metric(experiment, run.task)
    return held["result"] if held.get("finished") and name in held["result"]["metrics"] else None


# Running


def in_processes(stopped: threading.Event, jobs: int) -> Runner:
    """Runs command lines in processes of their own, which end when ``stopped`` is set.

    Args:
        stopped: Ends them all, in order.
        jobs: How many run at once; each gets a share of the processors, unless ``OMP_NUM_THREADS`` says otherwise.
    """

    def run(arguments: Sequence[str], log: Path) -> int:
        environment = dict(os.environ) | {"PYTHONIOENCODING": "utf-8"}  # as the log is read
        if jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            # A session of its own: a Ctrl-C reaches it through this process alone, once and in order.
            process = subprocess.Popen(
                [sys.executable, "-m", "gold_lightning", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            while process.poll() is None:
                if stopped.wait(0.1):
                    process.send_signal(signal.SIGTERM)
                    process.wait()
        return process.returncode

    return run


def run_all(
    experiment: Experiment,
    runs: Sequence[Run],
    jobs: int,
    runner: Runner,
    stopped: threading.Event,
    prune: bool = False,
) -> bool:
    """Runs what is not finished; whether all of it went well.

    A run that fails with a wrong setting ends the experiment; one that fails otherwise leaves the others alone.

    Args:
        experiment: The experiment.
        runs: Its runs.
        jobs: How many at once.
        runner: Runs a command line.
        stopped: Set where somebody wants all to stop.
        prune: Whether the checkpoints of each are deleted once it is tested.

    Raises:
        GoldError: A run had a wrong setting.
    """
    left = [run for run in runs if _result(experiment, run) is None]
    if done := len(runs) - len(left):
        _log.info("%d of %d runs are finished", done, len(runs))
    waiting = {run.seed for run in left if run.first}  # seeds whose first run is not finished
    working: dict[Future[str], Run] = {}
    good, wrong = True, ""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while left or working:
                ready = [run for run in left if run.first or run.seed not in waiting]
                for run in ready[: jobs - len(working)]:
                    left.remove(run)
                    working[pool.submit(_run, experiment, run, runner, stopped)] = run
                ended, _ = wait(working, return_when=FIRST_COMPLETED)
                for future in ended:
                    run = working.pop(future)
                    if run.first:
                        waiting.discard(run.seed)
                    if failure := future.result():
                        good = False
                        if failure.startswith("error: "):
                            wrong, left = wrong or f"{run.arm}, seed {run.seed}: {failure.removeprefix('error: ')}", []
                        else:
                            _log.warning("%s, seed %d failed: %s (%s)", run.arm, run.seed, failure, run.log)
                    elif prune:
                        _prune(run)
                    write_results(experiment, runs)
        except BaseException:
            stopped.set()
            raise
    if wrong:
        raise GoldError(wrong)
    return good


def _run(experiment: Experiment, run: Run, runner: Runner, stopped: threading.Event) -> str:
    """Fits and tests; "" where that went well, else why not. What begins with ``error:`` is a wrong setting."""
    _wait_for_others(run, stopped)
    record: dict[str, Any] = {"experiment": experiment.name, "arm": run.arm, "seed": run.seed, "config": run.config}
    write_lines(run.folder / _RECORD, [record | {"finished": False}])
    _log.info("%s, seed %d: %s", run.arm, run.seed, run.folder)
    started = time.perf_counter()
    for arguments in (["fit", *run.arguments], ["test", *run.arguments, "--ckpt_path", experiment.checkpoint]):
        if stopped.is_set():
            return "stopped"
        status = runner(arguments, run.log)
        if status:
            return _why(run.log, status)
    found = _outcome(run)
    write_lines(run.folder / _RECORD, [record | {"finished": True, "result": found}])
    name = _metric(experiment, run.task)
    told = f"{run.arm}, seed {run.seed}: {name} {found['metrics'][name]:.3f}, {found['samples']} training samples"
    _log.info("%s, %.0f s", told, time.perf_counter() - started)
    return ""


def _prune(run: Run) -> None:
    """Deletes the checkpoints, which are most of a run folder. Its samples stay: to train again asks for none."""
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)


def _wait_for_others(run: Run, stopped: threading.Event) -> None:
    """Waits while another process is at work on the run: one that outlived an experiment that was killed."""
    told = False
    while not stopped.is_set():
        try:
            with only_writer(run.folder):
                return
        except BusyError:
            if not told:
                _log.info("%s, seed %d: waits for a process that is at work on it", run.arm, run.seed)
                told = True
        stopped.wait(1.0)


def _why(log: Path, status: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    if status == 2 and (errors := [line for line in lines if line.startswith("error: ")]):
        return printable(errors[-1])
    last = next((line for line in reversed(lines) if line.strip()), "")
    return printable(f"exit status {status}: {last}"[:300])


def _outcome(run: Run) -> dict[str, Any]:
    """What a finished run is compared by."""
    tested = read_lines(run.folder / "predictions.jsonl")
    metrics = {}
    for name in metric_names(run.task):
        metric = make_metric(name, run.task.label_names)
        targets = [row.get("targets", (row["target"],)) for row in tested]
        # As results.json has it, digit for digit.
        metrics[name] = float(metric.reduce(metric.rows([row["prediction"] for row in tested], targets)))
    rounds = read_lines(run.folder / "rounds.jsonl")
    found = {
        "metrics": metrics,
        "test_rows": len(tested),
        "rounds": len(rounds),
        "samples": sum(row["train"]["accepted"] for row in rounds),
        "feedback_prompts": sum(row["feedback_prompts"] for row in rounds),
        "fed_back": sum(len(row["fed_back"]) for row in rounds),
        "calls": sum(row["tokens"]["calls"] for row in rounds),
        "reused_calls": sum(row["tokens"]["reused_calls"] for row in rounds),
        "seconds": round(sum(sum(row["seconds"].values()) for row in rounds), 1),
    }
    scored = [
        [row for row in RoundStore(run.folder, r, read_only=True).energies() if row["kind"] == "probe"]
        for r in rounds_in(run.folder)
    ]
    if any("flipped" in row for rows in scored for row in rows):
        found["flipped"] = _flipped(scored)
    return found


def _flipped(rounds: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """How many probe samples have an exchanged label, how many of those fed back, and how well energy finds them."""
    rows = [row for scored in rounds for row in scored]
    fed = [row for row in rows if row["fed_back"]]
    # Energies of different rounds are of different students: only those of one round are compared. Rounds count by
    # their pairs of a flipped and another sample.
    score, pairs = 0.0, 0
    for scored in rounds:
        known = [row for row in scored if row["energy"] is not None and math.isfinite(row["energy"])]
        high = [row["energy"] for row in known if row["flipped"]]
        low = [row["energy"] for row in known if not row["flipped"]]
        if high and low:
            score += len(high) * len(low) * auroc(low, high)
            pairs += len(high) * len(low)
    return {
        "probe": [sum(row["flipped"] for row in rows), len(rows)],
        "fed_back": [sum(row["flipped"] for row in fed), len(fed)],
        "auroc": score / pairs if pairs else None,
    }


# Results


def results_of(experiment: Experiment, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Results of the finished runs."""
    found = []
    for run in runs:
        if result := _result(experiment, run):
            at = {"arm": run.arm, "seed": run.seed, "task": run.task.name, "run": str(run.folder)}
            found.append(at | result)
    return found


def write_results(experiment: Experiment, runs: Sequence[Run]) -> list[Summary]:
    """Writes what is there so far: ``results.jsonl``, a line a run, and ``summary.jsonl``, a line an arm."""
    results = results_of(experiment, runs)
    found = summarise([*experiment.arms], results, _metric(experiment, runs[0].task))
    write_lines(experiment.folder / "results.jsonl", results)
    write_lines(experiment.folder / "summary.jsonl", [summary.row() for summary in found])
    return found


def _table(experiment: Experiment, runs: Sequence[Run], found: Sequence[Summary] | None = None) -> list[str]:
    """The table of what is finished, which writes nothing."""
    metric = _metric(experiment, runs[0].task)
    found = summarise([*experiment.arms], results_of(experiment, runs), metric) if found is None else found
    tasks = ", ".join(dict.fromkeys(run.task.name for run in runs))
    return [*result_lines(experiment.question, f"{tasks}, {metric}", found, len(runs))]


def _compare(experiment: Experiment, runs: Sequence[Run]) -> list[str]:
    """The table of what is finished; writes it, the results and the figure."""
    found = write_results(experiment, runs)
    lines = _table(experiment, runs, found)
    (experiment.folder / "table.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if any(s.values for s in found):
        figures = [experiment.folder / f"figure.{kind}" for kind in ("png", "svg")]
        draw(experiment.question or experiment.name, _metric(experiment, runs[0].task), found, figures)
    return lines


def experiment_command(args: Sequence[str], resolve: Resolve, runner: Runner | None = None) -> int:
    """Runs ``experiment --config FILE``.

    Args:
        args: Arguments after ``experiment``.
        resolve: Gives the resolved config of a command line.
        runner: Runs a command line; in a process of its own by default.

    Returns:
        The exit status: 0, or 1 where a run failed.

    Raises:
        GoldError: The file, or a setting in it, is wrong.
        ArgumentError: An argument is wrong.
    """
    parser = ArgumentParser(
        prog=f"{program()} experiment",
        description="Runs all arms of an experiment over all seeds, or what of it is not finished, and compares them.",
        exit_on_error=False,
    )
    parser.add_argument(
        "--config", type=str, required=True, help="The experiment: a file, or the name of a shipped one."
    )
    parser.add_argument("--jobs", type=int, default=1, help="How many runs at once.")
    parser.add_argument("--base", type=str, nargs="+", help="Configs in place of the experiment's base.")
    parser.add_argument("--set", type=str, nargs="+", default=[], help="KEY=VALUE: settings of all arms.")
    parser.add_argument("--seeds", type=int, nargs="+", help="Seeds in place of the experiment's.")
    parser.add_argument(
        "--arms", type=str, nargs="+", help="Only these arms; the first is what the others are compared with."
    )
    parser.add_argument("--metric", type=str, help="Another of the task's metrics to compare by.")
    parser.add_argument("--name", type=str, help="Another name, for other settings of the same experiment.")
    parser.add_argument("--root", type=str, help="Folder of all experiments.")
    parser.add_argument(
        "--prune",
        action="store_true",
        help="Delete a run's checkpoints once it is tested; samples, results and the best student stay.",
    )
    parser.add_argument("--table", action="store_true", help="Run nothing: compare what is finished.")
    given = parser.parse_args(list(args))
    if given.jobs < 1:
        raise ConfigError("--jobs", given.jobs, "1 or more")
    experiment = _overridden(load_experiment(Path(expand("--config", given.config))), given)
    check_folder("root", experiment.folder, write=True)
    runs = plan_runs(experiment, resolve)
    good, there = True, f"results: {experiment.folder}"
    try:
        with only_writer(experiment.folder):
            for run in runs:
                if given.prune and _result(experiment, run) is not None:
                    _prune(run)
            if not given.table:
                stopped = threading.Event()
                runner = runner or in_processes(stopped, given.jobs)
                good = run_all(experiment, runs, given.jobs, runner, stopped, given.prune)
            lines = _compare(experiment, runs)
    except BusyError:
        if not given.table:
            raise BusyError(
                f"{experiment.folder}: another process is at work on this experiment; wait for it, take another "
                "--name, or look at what is finished with --table"
            ) from None
        lines, there = (
            _table(experiment, runs),
            f"{there} (a process is at work on them; its files are as it left them)",
        )
    for line in lines:
        say(line)
    say(there)
    return 0 if good else 1


def _overridden(experiment: Experiment, given: Any) -> Experiment:
    settings = dict(experiment.set)
    for text in given.set:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError("--set", text, "KEY=VALUE")
        settings[key.removeprefix("--")] = value
    values: dict[str, Any] = {**vars(experiment), "set": settings}
    values |= {key: given[key] for key in ("name", "root", "metric") if given[key] is not None}
    values |= {key: tuple(given[key]) for key in ("base", "seeds") if given[key]}
    if given.arms:
        for name in given.arms:
            if name not in experiment.arms:
                raise ConfigError("--arms", name, f"some of {', '.join(experiment.arms)}")
        values["arms"] = {name: experiment.arms[name] for name in given.arms}
    return Experiment(**values)
