"""The commands of the program by name, and the calls that are answered without loading torch."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from gold_lightning import __version__
from gold_lightning.errors import ConfigError

__all__ = ["COMMANDS", "answered", "is_command", "program"]

COMMANDS = {
    "fit": "Write samples, train the student, feed back; round after round.",
    "validate": "Score a run's student on probe samples that the run has stored.",
    "test": "Score a run's best student on the task's test rows.",
    "preview": "Show prompts and a few samples, and estimate what a run takes.",
    "baselines": "Score a constant answer, the generator and training on labelled rows.",
    "experiment": "Make many runs, and compare them over seeds.",
    "report": "Write the report of a run anew.",
    "tasks": "List the shipped tasks; show one; check a file of yours.",
}
"""What each command does, in one line."""
_OTHER_WORDS = {"train": "fit", "run": "fit", "eval": "test", "evaluate": "test", "predict": "test", "val": "validate"}


def program() -> str:
    """The name of the program, as the user called it."""
    module = Path(sys.argv[0]).parts[-2:] == ("gold_lightning", "__main__.py")
    return "python -m gold_lightning" if module else "gold-lightning"


def is_command(args: Sequence[str]) -> bool:
    """Whether a command is called, or its help: ``help COMMAND`` is one of the ways to ask for it."""
    return bool(args) and (args[1:2] or [""] if args[0] == "help" else args)[0] in COMMANDS


def answered(args: list[str]) -> int | None:
    """Answers a call that needs no settings: ``--version``, ``--help``, ``help`` and a bare call.

    Args:
        args: The arguments. ``help COMMAND`` is changed, in place, to ``COMMAND --help``.

    Returns:
        The exit status, or ``None`` if the call is a command's.

    Raises:
        ConfigError: The first argument is no command.
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
    def table(rows: dict[str, str], wide: int) -> list[str]:
        return [f"  {name:{wide}}  {line}" for name, line in rows.items()]

    width = max(map(len, COMMANDS))
    options = {"--help": "Show this help; after a command, its settings.", "--version": "Show the version."}
    return "\n".join(
        [
            f"usage: {program()} COMMAND ...",
            "",
            "Distil a large language model into a small T5, from one YAML file and no labelled data.",
            "",
            "commands:",
            *table(COMMANDS, width),
            "",
            "options:",
            *table(options, width),
        ]
    )
