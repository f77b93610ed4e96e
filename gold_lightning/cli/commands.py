"""Names the commands and answers help and version without loading torch."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from gold_lightning import __version__
from gold_lightning.errors import ConfigError

__all__ = ["COMMANDS", "answered", "is_command", "program"]

COMMANDS = {
    "fit": "Synthesise samples, train the student, feed back; round after round.",
    "validate": "Score a run's student on the probe samples of the run.",
    "test": "Score a run's best student on the task's test rows.",
    "preview": "Show prompts and a few samples; estimate the cost of a run.",
    "baselines": "Score a constant answer, the generator and training on labelled rows.",
    "experiment": "Run many settings and seeds, and compare them.",
    "predict": "Predict texts, a file of rows or standard input with a student.",
    "serve": "Serve a student over HTTP, with a page to try it.",
    "push": "Upload a student with its card, or a run's samples, to the Hugging Face hub.",
    "calibrate": "Fit a student's probabilities, and what it knows, to labelled rows.",
    "export": "Write a student's folder that predicts without torch, and compare it with the student.",
    "report": "Rewrite the report of a run.",
    "tasks": "List the shipped tasks; show one; check a task file; draft a new one.",
}
"""What each command does, in one line."""
_OTHER_WORDS = {"train": "fit", "run": "fit", "eval": "test", "evaluate": "test", "infer": "predict", "val": "validate"}


def program() -> str:
    """Returns the name of the program as the user called it."""
    module = Path(sys.argv[0]).parts[-2:] == ("gold_lightning", "__main__.py")
    return "python -m gold_lightning" if module else "gold-lightning"


def is_command(args: Sequence[str]) -> bool:
    """Returns whether the arguments call a command or ask for its help, also by ``help COMMAND``."""
    return bool(args) and (args[1:2] or [""] if args[0] == "help" else args)[0] in COMMANDS


def answered(args: list[str]) -> int | None:
    """Answers a call that needs no settings: ``--version``, ``--help``, ``help`` and a bare call.

    Args:
        args: The arguments. ``help COMMAND`` becomes ``COMMAND --help``, in place.

    Returns:
        The exit status, or ``None`` if the arguments call a command.

    Raises:
        ConfigError: The first argument is not a command.
    """
    if not args:
        print(_help(), file=sys.stderr)
        return 2
    if args[:1] == ["--version"]:
        print(f"gold-lightning {__version__}")
        return 0
    if args[0] in ("-h", "--help") or args == ["help"]:
        print(_help())
        return 0
    if args[0] == "help":
        args[:] = [args[1], "--help"]
    if args[0] not in COMMANDS:
        raise ConfigError("command", args[0], f"one of {', '.join(COMMANDS)}", _hint(args))
    return None


def _hint(args: list[str]) -> str:
    word = args[0].lower().lstrip("-")
    if word.endswith((".yaml", ".yml")) and not args[0].startswith("-"):
        return f"did you mean {program()} fit --config {args[0]}?"
    near = difflib.get_close_matches(word, COMMANDS, 1)
    if meant := _OTHER_WORDS.get(word) or (near[0] if near else ""):
        return f"did you mean {meant}?"
    return "it comes before its settings" if args[0].startswith("-") else ""


def _help() -> str:
    def table(rows: dict[str, str]) -> list[str]:
        return [f"  {name:{width}}  {line}" for name, line in rows.items()]

    width = max(map(len, COMMANDS))
    options = {"--help": "Show this help; after a command, its settings.", "--version": "Show the version."}
    return "\n".join(
        [
            f"usage: {program()} COMMAND ...",
            "",
            "Distil a large language model into a small T5, from one YAML file and no labelled data.",
            "",
            "commands:",
            *table(COMMANDS),
            "",
            "options:",
            *table(options),
        ]
    )
