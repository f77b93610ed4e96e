"""``experiment``: makes many runs and compares them over seeds."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from gold_lightning.cli.commands import program
from gold_lightning.console import say
from gold_lightning.errors import BusyError, ConfigError
from gold_lightning.evaluation.experiment_file import Experiment, load_experiment
from gold_lightning.evaluation.experiments import (
    Resolve,
    Runner,
    comparison_lines,
    in_processes,
    plan_runs,
    prune_checkpoints,
    result_of,
    run_all,
    table_lines,
)
from gold_lightning.inputs.paths import check_folder, expand
from gold_lightning.storage.run_folder import only_writer

__all__ = ["experiment_command"]


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
                if given.prune and result_of(experiment, run) is not None:
                    prune_checkpoints(run)
            if not given.table:
                stopped = threading.Event()
                runner = runner or in_processes(stopped, given.jobs)
                good = run_all(experiment, runs, given.jobs, runner, stopped, given.prune)
            lines = comparison_lines(experiment, runs)
    except BusyError:
        if not given.table:
            raise BusyError(
                f"{experiment.folder}: another process is at work on this experiment; wait for it, take another "
                "--name, or look at what is finished with --table"
            ) from None
        lines, there = (
            table_lines(experiment, runs),
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
