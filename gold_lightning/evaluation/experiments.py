"""Repeats runs that differ in a setting over seeds, at equal sample budgets, and compares them.

``fit`` and ``test`` run in a process for each run and leave an ordinary run folder.

The runs of a seed share completions as all runs of a task do: a request that two arms send in the same form (mostly in
round 0) is sent once. The design is therefore *paired*: the arms of a seed begin with the same samples, weights and
order, whose effects cancel in their difference. Runs of different seeds share no sample, because each request carries
a seed drawn from the run's. Hence all intervals here are over seeds, and differences are taken within a seed. The first
arm of a seed ends before the others begin, so that the shared requests do not depend on the number of parallel runs.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gold_lightning.console import printable
from gold_lightning.errors import BusyError, ConfigError, GoldError
from gold_lightning.evaluation.comparison import ArmSummary, compare_arms, draw, result_lines
from gold_lightning.evaluation.experiment_file import Experiment, folder_name
from gold_lightning.inputs.pipes import local_copy
from gold_lightning.metrics import make_metric
from gold_lightning.scores import auroc
from gold_lightning.storage.json_lines import read_lines, write_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import RunFolder, only_writer, rounds_in
from gold_lightning.student import metric_names
from gold_lightning.task import Task

__all__ = [
    "Resolve",
    "Run",
    "Runner",
    "comparison_lines",
    "in_processes",
    "plan_runs",
    "prune_checkpoints",
    "result_of",
    "results_of",
    "run_all",
    "table_lines",
    "write_results",
]

_log = logging.getLogger("gold_lightning")
_NEVER = 1_000_000  # rounds without improvement
_RECORD = "experiment.json"

Resolve = Callable[[Sequence[str]], Mapping[str, Any]]
"""Resolves a command line to its config; raises an error that names the setting if one is wrong."""
Runner = Callable[[Sequence[str], Path], int]
"""Runs a command line, appends its output to a file, and returns the exit status."""


@dataclass(frozen=True)
class Run:
    """One run of an experiment.

    Args:
        arm: Name of the arm.
        seed: Seed of the run.
        first: Whether the other runs of the seed wait for this one.
        arguments: Arguments of ``fit`` and ``test``, without the subcommand.
        config: Resolved config, a value for each dotted key.
        folder: Run folder.
        log: File for the run's output.
        task: Task of the run.
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
        """Reads the run's record from its folder.

        Returns:
            The record; empty if the run was never started.

        Raises:
            GoldError: The run was started with other settings.
        """
        record, *_ = [*read_lines(self.folder / _RECORD), {}]
        earlier = record.get("config", {})
        if changed := sorted(k for k in earlier.keys() & self.config.keys() if earlier[k] != self.config[k]):
            raise GoldError(
                f"{self.folder}: was run with another {', '.join(changed)}; take another --name, or delete the folder"
            )
        return record


def plan_runs(experiment: Experiment, resolve: Resolve) -> list[Run]:
    """Plans all runs, seed by seed, after resolving the config of each arm.

    Args:
        experiment: The experiment.
        resolve: Resolves a command line to its config.

    Raises:
        GoldError: A setting is wrong; the message names the arm.
    """
    runs: list[Run] = []
    resolved: dict[str, tuple[dict[str, Any], Task]] = {}
    for seed in experiment.seeds:
        for name, arm in experiment.arms.items():
            slug = f"{folder_name(name)}-s{seed}"
            # Equal budgets: no arm stops early, unless the experiment sets a patience.
            settings = {"early_stopping.patience": _NEVER, "trainer.enable_progress_bar": False}
            settings |= {**experiment.set, **arm}
            # A pipe can be read only once, but each run reads the configs.
            base = [local_copy("base", config) or config for config in experiment.base]
            arguments = [part for config in base for part in ("--config", config)]
            arguments += ["--run.root", str(experiment.folder), "--run.name", slug, "--seed_everything", str(seed)]
            arguments += [f"--{key}={_text(value)}" for key, value in settings.items()]
            if name not in resolved:
                try:
                    values = _flat(resolve(["fit", *arguments]))
                    resolved[name] = values, Task.load(str(values["data.task"]))
                except GoldError as e:
                    raise GoldError(f"arms.{name}: {e}") from None
                _metric(experiment, resolved[name][1])
            values, task = resolved[name]
            config = {k: v for k, v in values.items() if not k.startswith("run.")}
            config |= {"seed_everything": seed, "checkpoint": experiment.checkpoint}
            folder = experiment.folder / task.name / slug
            log = experiment.folder / "logs" / f"{task.name}-{slug}.log"
            runs.append(
                Run(name, seed, name == next(iter(experiment.arms)), tuple(arguments), config, folder, log, task)
            )
    return runs


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, inner in config.items():
        values |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) and inner else {f"{prefix}{key}": inner}
    return json.loads(json.dumps(values, default=str))  # type: ignore[no-any-return]


def _metric(experiment: Experiment, task: Task) -> str:
    names = metric_names(task)
    if experiment.metric and experiment.metric not in names:
        raise ConfigError("metric", experiment.metric, f"a metric of {task.name} ({', '.join(names)})")
    return experiment.metric or names[0]


def result_of(experiment: Experiment, run: Run) -> dict[str, Any] | None:
    """Returns the stored result of a run.

    Args:
        experiment: The experiment.
        run: One of its runs.

    Returns:
        The result; ``None`` if the run is not finished, or was tested before its task had the metric.

    Raises:
        GoldError: The run was started with other settings.
    """
    record = run.record()
    name = _metric(experiment, run.task)
    return record["result"] if record.get("finished") and name in record["result"]["metrics"] else None


# Running


def in_processes(stopped: threading.Event, jobs: int) -> Runner:
    """Returns a runner that starts a process for each command line.

    Args:
        stopped: Event that stops all processes at their next safe point.
        jobs: Number of parallel runs; each gets a share of the processors, unless ``OMP_NUM_THREADS`` is set.
    """

    def run(arguments: Sequence[str], log: Path) -> int:
        environment = dict(os.environ) | {"PYTHONIOENCODING": "utf-8"}  # the encoding in which the log is read
        if jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            # In a new session a Ctrl-C does not reach the run directly; this process sends it one SIGTERM instead.
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
    """Runs all runs that are not finished.

    A run that fails because of a wrong setting ends the experiment. After any other failure the other runs go on.

    Args:
        experiment: The experiment.
        runs: Runs of the experiment.
        jobs: Number of parallel runs.
        runner: Runs a command line.
        stopped: Event that is set to stop all runs.
        prune: Whether to delete the checkpoints of each run once it is tested.

    Returns:
        Whether all runs succeeded.

    Raises:
        GoldError: A setting of a run is wrong, or a run was started with other settings.
    """
    pending = [run for run in runs if result_of(experiment, run) is None]
    if done := len(runs) - len(pending):
        _log.info("%d of %d runs are finished", done, len(runs))
    waiting = {run.seed for run in pending if run.first}  # seeds whose first run is not finished
    running: dict[Future[str], Run] = {}
    succeeded, wrong_setting = True, ""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while pending or running:
                ready = [run for run in pending if run.first or run.seed not in waiting]
                for run in ready[: jobs - len(running)]:
                    pending.remove(run)
                    running[pool.submit(_run, experiment, run, runner, stopped)] = run
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    run = running.pop(future)
                    if run.first:
                        waiting.discard(run.seed)
                    if failure := future.result():
                        succeeded = False
                        if failure.startswith("error: "):
                            message = f"{run.arm}, seed {run.seed}: {failure.removeprefix('error: ')}"
                            wrong_setting, pending = wrong_setting or message, []
                        else:
                            _log.warning("%s, seed %d failed: %s (%s)", run.arm, run.seed, failure, run.log)
                    elif prune:
                        prune_checkpoints(run)
                    write_results(experiment, runs)
        except BaseException:
            stopped.set()
            raise
    if wrong_setting:
        raise GoldError(wrong_setting)
    return succeeded


def _run(experiment: Experiment, run: Run, runner: Runner, stopped: threading.Event) -> str:
    """Fits and tests; returns "" on success, and otherwise the reason, with ``error:`` first for a wrong setting."""
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
            return _failure(run.log, status)
    result = _measure(run)
    write_lines(run.folder / _RECORD, [record | {"finished": True, "result": result}])
    name = _metric(experiment, run.task)
    message = f"{run.arm}, seed {run.seed}: {name} {result['metrics'][name]:.3f}, {result['samples']} training samples"
    _log.info("%s, %.0f s", message, time.perf_counter() - started)
    return ""


def prune_checkpoints(run: Run) -> None:
    """Deletes the checkpoints, which are most of a run folder. The samples stay, so that training again needs none."""
    shutil.rmtree(RunFolder(run.folder).checkpoints, ignore_errors=True)


def _wait_for_others(run: Run, stopped: threading.Event) -> None:
    """Waits while another process works on the run, such as one that outlived a killed experiment."""
    logged = False
    while not stopped.is_set():
        try:
            with only_writer(run.folder):
                return
        except BusyError:
            if not logged:
                _log.info("%s, seed %d: waits for another process that works on it", run.arm, run.seed)
                logged = True
        stopped.wait(1.0)


def _failure(log: Path, status: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    if status == 2 and (errors := [line for line in lines if line.startswith("error: ")]):
        return printable(errors[-1])
    last = next((line for line in reversed(lines) if line.strip()), "")
    return printable(f"exit status {status}: {last}"[:300])


def _measure(run: Run) -> dict[str, Any]:
    """Returns the metrics and counts of a finished run."""
    tested = read_lines(RunFolder(run.folder).predictions)
    metrics = {}
    for name in metric_names(run.task):
        metric = make_metric(name, run.task.label_names, run.task.many)
        targets = [row.get("targets", (row["target"],)) for row in tested]
        # In float64, as in results.json, so that both have the same digits.
        metrics[name] = float(metric.reduce(metric.rows([row["prediction"] for row in tested], targets)))
    rounds = read_lines(RunFolder(run.folder).rounds)
    result = {
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
        result["flipped"] = _flipped(scored)
    return result


def _flipped(rounds: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Counts exchanged labels among all probe samples and the fed-back ones; ``auroc`` is that of energy for them."""
    rows = [row for scored in rounds for row in scored]
    fed = [row for row in rows if row["fed_back"]]
    # Each round has another student, so only energies of the same round are compared. A round's weight is its number of
    # pairs of a flipped and another sample.
    score, pairs = 0.0, 0
    for scored in rounds:
        finite = [row for row in scored if row["energy"] is not None and math.isfinite(row["energy"])]
        flipped = [row["energy"] for row in finite if row["flipped"]]
        others = [row["energy"] for row in finite if not row["flipped"]]
        if flipped and others:
            score += len(flipped) * len(others) * auroc(others, flipped)
            pairs += len(flipped) * len(others)
    return {
        "probe": [sum(row["flipped"] for row in rows), len(rows)],
        "fed_back": [sum(row["flipped"] for row in fed), len(fed)],
        "auroc": score / pairs if pairs else None,
    }


# Results


def results_of(experiment: Experiment, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Returns the results of the finished runs, each with its arm, seed, task and run folder."""
    results = []
    for run in runs:
        if result := result_of(experiment, run):
            source = {"arm": run.arm, "seed": run.seed, "task": run.task.name, "run": str(run.folder)}
            results.append(source | result)
    return results


def write_results(experiment: Experiment, runs: Sequence[Run]) -> list[ArmSummary]:
    """Writes the results so far: ``results.jsonl``, a line for each run, and ``summary.jsonl``, a line for each arm.

    Returns:
        A summary of each arm.
    """
    results = results_of(experiment, runs)
    summaries = compare_arms([*experiment.arms], results, _metric(experiment, runs[0].task))
    write_lines(experiment.folder / "results.jsonl", results)
    write_lines(experiment.folder / "summary.jsonl", [summary.row() for summary in summaries])
    return summaries


def table_lines(
    experiment: Experiment, runs: Sequence[Run], summaries: Sequence[ArmSummary] | None = None
) -> list[str]:
    """Returns the table of the finished runs without writing anything.

    Args:
        experiment: The experiment.
        runs: Runs of the experiment.
        summaries: Summary of each arm; ``None`` to compute them.
    """
    metric = _metric(experiment, runs[0].task)
    if summaries is None:
        summaries = compare_arms([*experiment.arms], results_of(experiment, runs), metric)
    tasks = ", ".join(dict.fromkeys(run.task.name for run in runs))
    return [*result_lines(experiment.question, f"{tasks}, {metric}", summaries, len(runs))]


def comparison_lines(experiment: Experiment, runs: Sequence[Run]) -> list[str]:
    """Writes the results, the table and the figure of the finished runs, and returns the lines of the table."""
    summaries = write_results(experiment, runs)
    lines = table_lines(experiment, runs, summaries)
    (experiment.folder / "table.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if any(summary.values for summary in summaries):
        figures = [experiment.folder / f"figure.{kind}" for kind in ("png", "svg")]
        draw(experiment.question or experiment.name, _metric(experiment, runs[0].task), summaries, figures)
    return lines
