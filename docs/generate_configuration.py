"""Writes docs/configuration.md: every setting of the program, read from its argument parser.

    python docs/generate_configuration.py

``make docs`` does so before it builds the site. The page is not kept in the repository, so it cannot be out of date.
"""

from __future__ import annotations

import inspect
import re
from argparse import SUPPRESS, Action
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gold_lightning import feedback, generators, losses, scores
from gold_lightning.cli.commands import COMMANDS
from gold_lightning.cli.lightning_cli import GoldCLI
from jsonargparse import ArgumentParser, Namespace

PAGE = Path(__file__).parent / "configuration.md"
SECTIONS = {
    "seed_everything": "",
    "run": "Where a run is stored and how it is shown.",
    "data": "The task, the generator, what a round asks for, and its limits.",
    "model": "The student and how it is trained.",
    "feedback": "What is fed back after each round.",
    "calibration": "What `fit` promises about the student at its end: [known or not](known-or-not.md).",
    "early_stopping": "When a run ends before `trainer.max_epochs`. This is Lightning's `EarlyStopping`.",
    "checkpoint": "Which round's student is the best. This is Lightning's `ModelCheckpoint`.",
    "preview": "Settings of the command `preview` alone.",
    "baselines": "Settings of the command `baselines` alone.",
    "trainer": "Lightning's `Trainer`; its documentation has the details. A round is an epoch.",
}
LIGHTNINGS = ("trainer", "early_stopping", "checkpoint")
CLASSES = {
    "data.generator": (generators, "Generator"),
    "model.loss": (losses, "RobustLoss"),
    "feedback.score": (scores, "OODScore"),
    "feedback.strategy": (feedback, "FeedbackStrategy"),
}
HEAD = """\
# Configuration

Every setting of `fit`, `validate`, `test`, `preview` and `baselines`; this page is generated from the program's own
parser. A setting stands in a YAML file (`--config FILE`; several are read in order) or on the command line
(`--data.plan.samples_per_round 80`); the last one counts. `--print_config` prints what a command line resolves to.
`null` means that the setting is off, or that the program finds a value by itself.
"""


class Setting(NamedTuple):
    """One row of the page."""

    key: str
    type: str
    default: str
    help: str


class _Parsed(Exception):
    """Ends the command line once its parser is there."""


class _ParserOnly(GoldCLI):
    def parse_arguments(self, parser: Any, args: Any) -> None:
        raise _Parsed


def parser_of(command: str) -> ArgumentParser:
    """The parser of one command."""
    cli = _ParserOnly.__new__(_ParserOnly)
    try:
        cli.__init__([command])  # type: ignore[misc]
    except _Parsed:
        pass
    return cli.command_parser


def settings(parser: ArgumentParser) -> Iterator[Setting]:
    """The settings of a parser in its order, without options that only print something."""
    for action in parser._actions:
        hidden = type(action).__name__ in ("ActionLink", "_ActionConfigLoad", "_ActionHelpClassPath", "_HelpAction")
        if hidden or action.dest in ("config", "print_config"):
            continue
        yield Setting(action.dest, _type(action), _default(action), _help(action))


def _type(action: Action) -> str:
    hint = getattr(action, "_typehint", None) or action.type
    text = inspect.formatannotation(hint) if hint is not None else ""
    text = re.sub(r"[\w.]+\.(\w+)", r"\1", text)  # no module paths
    for _ in range(3):
        text = re.sub(r"Optional\[([^\[\]]*(?:\[[^\[\]]*\])?)\]", r"\1 | None", text)
        text = re.sub(r"Union\[((?:[^\[\]]|\[[^\[\]]*\])*)\]", lambda m: _split(m[1]), text)
    text = re.sub(r"Literal\[([^\]]*)\]", lambda m: m[1].replace(", ", " | "), text)
    return text.replace("NoneType", "null").replace("None", "null").replace("'", "")


def _split(arguments: str) -> str:
    return " | ".join(re.split(r", (?![^\[]*\])", arguments))


def _default(action: Action) -> str:
    value = action.default
    if value is None or value is SUPPRESS:
        return "required" if action.required else "null"
    if isinstance(value, Namespace):
        value = str(value.class_path).rsplit(".", 1)[-1]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _help(action: Action) -> str:
    text = (action.help or "").strip()
    if action.dest.split(".")[0] in LIGHTNINGS:  # its own documentation has the rest
        text = " ".join(re.split(r"\n\s*\n|Default:|Example::", text)[0].split())
        text = re.split(r"(?<=\w[.\)]) (?=[A-Z])", text)[0]
        text = text[:1].upper() + text[1:]
    text = re.sub(r":(?:class|meth|func|mod|attr):`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))


def table(rows: Iterable[Setting]) -> str:
    """A Markdown table of settings; each key has an anchor of its own name."""

    def cell(text: str) -> str:
        return text.replace("|", r"\|").replace("<", "&lt;")

    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        kind = f"`{cell(row.type)}`" if row.type else ""
        lines.append(f"| `{row.key}` | {kind} | `{cell(row.default) or repr('')}` | {cell(row.help)} |")
    return "\n".join(lines) + "\n"


def class_settings(cls: type) -> list[Setting]:
    """The settings of a class that a config names by ``class_path``."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "x")
    return [row._replace(key=row.key.removeprefix("x.")) for row in settings(parser)]


def _subclasses(module: Any, base: str) -> list[type]:
    named = (getattr(module, name) for name in module.__all__)
    classes = [c for c in named if inspect.isclass(c) and issubclass(c, getattr(module, base))]
    return [c for c in classes if not inspect.isabstract(c) and c is not generators.ScriptedGenerator]  # of tests


def page() -> str:
    """The whole page."""
    rows = list(settings(parser_of("fit")))
    rows += [row for row in settings(parser_of("preview")) if row.key.startswith(("preview.", "baselines."))]
    rows = list({row.key: row for row in rows}.values())
    parts = [HEAD, "## Commands\n", "| command | what it does |", "|---|---|"]
    parts += [f"| `{name}` | {what} |" for name, what in COMMANDS.items()]
    parts.append("")
    for section, what in SECTIONS.items():
        own = [row for row in rows if row.key.split(".")[0] == section]
        parts += [f"## {section}\n", f"{what}\n" if what else "", table(own)]
    for key, (module, base) in CLASSES.items():
        parts.append(f"## Classes of {key}\n")
        for cls in _subclasses(module, base):
            summary = (inspect.getdoc(cls) or "").split("\n\n")[0]
            own = class_settings(cls)
            parts += [f"### {cls.__name__}\n", _plain(summary) + "\n", table(own) if own else "No settings.\n"]
    return "\n".join(parts)


def _plain(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", " ".join(text.split())))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
