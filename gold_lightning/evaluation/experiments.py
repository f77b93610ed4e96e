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
from gold_lightning.storage.run_folder import only_writer, rounds_in
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
"""Gives the resolved config of a command line, or an error that names what is wrong with it."""
Runner = Callable[[Sequence[str], Path], int]
"""Runs a command line, its output appended to a file, and gives the exit status."""


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
            slug = f"{folder_name(name)}-s{seed}"
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
                    looked_at[name] = found, Task.load(str(found["data.task"]))
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


def result_of(experiment: Experiment, run: Run) -> dict[str, Any] | None:
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
    left = [run for run in runs if result_of(experiment, run) is None]
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
                        prune_checkpoints(run)
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


def prune_checkpoints(run: Run) -> None:
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
        if result := result_of(experiment, run):
            at = {"arm": run.arm, "seed": run.seed, "task": run.task.name, "run": str(run.folder)}
            found.append(at | result)
    return found


def write_results(experiment: Experiment, runs: Sequence[Run]) -> list[ArmSummary]:
    """Writes what is there so far: ``results.jsonl``, a line a run, and ``summary.jsonl``, a line an arm."""
    results = results_of(experiment, runs)
    found = compare_arms([*experiment.arms], results, _metric(experiment, runs[0].task))
    write_lines(experiment.folder / "results.jsonl", results)
    write_lines(experiment.folder / "summary.jsonl", [summary.row() for summary in found])
    return found


def table_lines(experiment: Experiment, runs: Sequence[Run], found: Sequence[ArmSummary] | None = None) -> list[str]:
    """The table of what is finished, which writes nothing."""
    metric = _metric(experiment, runs[0].task)
    found = compare_arms([*experiment.arms], results_of(experiment, runs), metric) if found is None else found
    tasks = ", ".join(dict.fromkeys(run.task.name for run in runs))
    return [*result_lines(experiment.question, f"{tasks}, {metric}", found, len(runs))]


def comparison_lines(experiment: Experiment, runs: Sequence[Run]) -> list[str]:
    """The table of what is finished; writes it, the results and the figure."""
    found = write_results(experiment, runs)
    lines = table_lines(experiment, runs, found)
    (experiment.folder / "table.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if any(s.values for s in found):
        figures = [experiment.folder / f"figure.{kind}" for kind in ("png", "svg")]
        draw(experiment.question or experiment.name, _metric(experiment, runs[0].task), found, figures)
    return lines
