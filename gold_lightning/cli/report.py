"""``report``: rewrites the report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from gold_lightning.cli.commands import program
from gold_lightning.console import printable, say
from gold_lightning.inputs.paths import expand
from gold_lightning.report import write_report

__all__ = ["report_command"]


def report_command(args: Sequence[str]) -> None:
    """Runs ``report RUN``.

    Args:
        args: Arguments after ``report``.

    Raises:
        GoldError: The folder is not a run folder.
        ArgumentError: An argument is wrong.
    """
    parser = ArgumentParser(
        prog=f"{program()} report",
        description="Rewrites report.html of a run, also while the run is in progress.",
        exit_on_error=False,
    )
    parser.add_argument("run", type=str, help="The run folder, runs/<task>/<name>.")
    path = write_report(Path(expand("report", parser.parse_args(list(args)).run)))
    say(f"report: {printable(str(path))}")
