"""``export``: writes a folder that predicts without torch, and prints how it compares with the student."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from gold_lightning.cli.commands import program
from gold_lightning.cli.student_folder import student_folder
from gold_lightning.console import printable, say

__all__ = ["export_command"]

_DESCRIPTION = """Writes a folder with the student's model, tokenizer, task and predict.py, which needs no torch:
onnxruntime, tokenizers and numpy are enough (ctranslate2 in place of onnxruntime for students that generate text).
Predicts rows with both, and prints how they compare. Exit status: 0 if the folder was written, 1 if answers differ in
too many rows, 2 for a wrong setting."""


def export_command(args: Sequence[str]) -> int:
    """Runs ``export STUDENT --to TARGET --out FOLDER``.

    Args:
        args: Arguments after ``export``.

    Returns:
        The exit status.

    Raises:
        GoldError: A setting is wrong.
        ArgumentError: An argument is wrong.
    """
    parser = ArgumentParser(prog=f"{program()} export", description=_DESCRIPTION, exit_on_error=False)
    parser.add_argument("student", type=str, help="Folder of the student, or of the run that trained it.")
    parser.add_argument("--to", type=str, required=True, help="onnx or web for labels, ctranslate2 for generated text.")
    parser.add_argument("--out", type=str, required=True, help="Folder to write, which must not exist.")
    parser.add_argument("--quantize", type=str, default=None, help="int8: matrices in 8 bits; float32 by default.")
    parser.add_argument(
        "--rows", type=str, default=None, help="File of rows to compare on, labelled or not; the task's by default."
    )
    parser.add_argument(
        "--runtime",
        type=str,
        default=None,
        help="For web: node_modules with the npm packages; npm fetches them by default.",
    )
    parser.add_argument("--task", type=str, default=None, help="The task, for a folder that carries none.")
    parser.add_argument("--tolerance", type=float, default=0.01, help="Largest share of rows whose answers may differ.")
    parser.add_argument("--threads", type=int, default=None, help="Threads of the comparison; one on each core.")
    options = parser.parse_args(list(args))
    import lightning.pytorch  # noqa: F401 - sets the level of its loggers when imported, so before quiet()

    from gold_lightning.cli.quiet import quiet
    from gold_lightning.exporting.exporter import export
    from gold_lightning.exporting.parity import ParityError

    quiet()
    try:
        written = export(
            student_folder(options.student),
            options.to,
            options.out,
            quantize=options.quantize,
            rows=options.rows,
            task=options.task,
            runtime=options.runtime,
            tolerance=options.tolerance,
            threads=options.threads,
        )
    except ParityError as e:
        for line in e.parity.lines():
            say(printable(line))
        print(f"error: {e}", file=sys.stderr)
        return 1
    for line in str(written).splitlines():
        say(printable(line))
    return 0
