"""``experiment``: runs many settings and seeds, and compares them."""

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
        resolve: Returns the resolved config of a command line.
        runner: Runs a command line; by default each in a new process.

    Returns:
        The exit status: 0, or 1 if a run failed.

    Raises:
        GoldError: The file, or a setting in it, is wrong.
        ArgumentError: An argument is wrong.
    """
    parser = ArgumentParser(
        prog=f"{program()} experiment",
        description="Runs the unfinished arms and seeds of an experiment, and compares all.",
        exit_on_error=False,
    )
    parser.add_argument(
        "--config", type=str, required=True, help="The experiment: a file, or the name of a shipped one."
    )
    parser.add_argument("--jobs", type=int, default=1, help="Number of runs at once.")
    parser.add_argument("--base", type=str, nargs="+", help="Configs in place of the experiment's base.")
    parser.add_argument("--set", type=str, nargs="+", default=[], help="KEY=VALUE: settings of all arms.")
    parser.add_argument("--seeds", type=int, nargs="+", help="Seeds in place of the experiment's.")
    parser.add_argument("--arms", type=str, nargs="+", help="Only these arms; the others are compared with the first.")
    parser.add_argument("--metric", type=str, help="The metric to compare by: another of the task's.")
    parser.add_argument("--name", type=str, help="Another name, for other settings of the same experiment.")
    parser.add_argument("--root", type=str, help="Folder of all experiments.")
    parser.add_argument(
        "--prune",
        action="store_true",
        help="Delete a run's checkpoints once it is tested; samples, results and the best student stay.",
    )
    parser.add_argument("--table", action="store_true", help="Run nothing; compare the finished runs.")
    options = parser.parse_args(list(args))
    if options.jobs < 1:
        raise ConfigError("--jobs", options.jobs, "1 or more")
    experiment = _overridden(load_experiment(Path(expand("--config", options.config))), options)
    check_folder("root", experiment.folder, write=True)
    runs = plan_runs(experiment, resolve)
    good, place = True, f"results: {experiment.folder}"
    try:
        with only_writer(experiment.folder):
            for run in runs:
                if options.prune and result_of(experiment, run) is not None:
                    prune_checkpoints(run)
            if not options.table:
                stopped = threading.Event()
                runner = runner or in_processes(stopped, options.jobs)
                good = run_all(experiment, runs, options.jobs, runner, stopped, options.prune)
            lines = comparison_lines(experiment, runs)
    except BusyError:
        if not options.table:
            raise BusyError(
                f"{experiment.folder}: another process is at work on this experiment; wait for it, take another "
                "--name, or look at what is finished with --table"
            ) from None
        lines, place = (
            table_lines(experiment, runs),
            f"{place} (another process is still running the experiment)",
        )
    for line in lines:
        say(line)
    say(place)
    return 0 if good else 1


def _overridden(experiment: Experiment, options: Any) -> Experiment:
    settings = dict(experiment.set)
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError("--set", text, "KEY=VALUE")
        settings[key.removeprefix("--")] = value
    values: dict[str, Any] = {**vars(experiment), "set": settings}
    values |= {key: options[key] for key in ("name", "root", "metric") if options[key] is not None}
    values |= {key: tuple(options[key]) for key in ("base", "seeds") if options[key]}
    if options.arms:
        for name in options.arms:
            if name not in experiment.arms:
                raise ConfigError("--arms", name, f"some of {', '.join(experiment.arms)}")
        values["arms"] = {name: experiment.arms[name] for name in options.arms}
    return Experiment(**values)
