"""``calibrate``: fits a student's temperature and threshold to labelled rows. Needs no Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from gold_lightning.cli.commands import program
from gold_lightning.cli.student_folder import student_folder, torch_device
from gold_lightning.errors import ConfigError

__all__ = ["calibrate_command"]

_DESCRIPTION = """Fits the temperature of a student's probabilities, and the threshold up to which its answers count as
known, to labelled rows, and writes both into the student's folder. FILE is a JSON Lines, CSV, TSV, JSON or Parquet file
with a column for each field of the task and for its target: rows as the student will meet them, that it was not trained
on. Two promises: selective (of the answers given, at least LEVEL are right, with CONFIDENCE) and conformal (a set of
labels holds the right one with probability LEVEL)."""


def calibrate_command(args: Sequence[str]) -> int:
    """Runs ``calibrate STUDENT FILE``.

    Args:
        args: Arguments after ``calibrate``.

    Returns:
        The exit status, 0, also if the rows do not allow the promise.

    Raises:
        GoldError: A setting is wrong, or the rows cannot be read.
        ArgumentError: An argument is wrong.
    """
    parser = ArgumentParser(prog=f"{program()} calibrate", description=_DESCRIPTION, exit_on_error=False)
    parser.add_argument("student", type=str, help="Folder of the student, or of the run that trained it.")
    parser.add_argument("file", type=str, help="The labelled rows.")
    parser.add_argument("--promise", type=str, default="selective", help="selective or conformal.")
    parser.add_argument("--level", type=float, default=0.95, help="Promised share, above 0 and below 1.")
    parser.add_argument("--confidence", type=float, default=0.9, help="Confidence of a selective promise.")
    parser.add_argument(
        "--score", type=str, default=None, help="Order from known to unknown: energy (selective) or probability."
    )
    parser.add_argument(
        "--lowest_level",
        type=float,
        default=None,
        help="If the rows do not allow a selective promise of LEVEL, fall back to the strictest that they allow of "
        "0.95, 0.9, 0.85, ... and this one. Default: no lower promise.",
    )
    parser.add_argument("--batch_size", type=int, default=32, help="Rows in a batch.")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, or auto: a GPU if there is one.")
    options = parser.parse_args(list(args))
    if options.batch_size < 1:
        raise ConfigError("--batch_size", options.batch_size, "1 or more")
    from gold_lightning.cli.quiet import quiet

    quiet()
    from gold_lightning.calibration.describe import describe
    from gold_lightning.evaluation.calibrate import calibrate

    folder, device = student_folder(options.student), torch_device(options.device)
    calibration = calibrate(
        folder,
        options.file,
        options.promise,
        options.level,
        options.confidence,
        options.score,
        options.lowest_level,
        batch_size=options.batch_size,
        device=device,
    )
    for line in describe(calibration):
        print(line)
    _rewrite_report(folder)
    return 0


def _rewrite_report(folder: Path) -> None:
    from gold_lightning.storage.run_folder import RunFolder

    run = folder.absolute().parent
    if RunFolder(run).config.is_file() and RunFolder(run).student == folder.absolute():
        from gold_lightning.report import write_report

        print(f"report: {write_report(run)}")
