"""``tasks new`` drafts a task file with a generator; ``tasks hints`` fills in the hints of one."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser, Namespace

from gold_lightning.cli.class_settings import own_defaults
from gold_lightning.cli.commands import program
from gold_lightning.cli.configs import SECTIONS, find_config, read_config
from gold_lightning.console import printable, say, table, width, wrap
from gold_lightning.drafting.document import BLANK, Draft
from gold_lightning.drafting.drafter import Drafter, task_name
from gold_lightning.drafting.hints import draft_hints
from gold_lightning.drafting.hints_file import fill_hints
from gold_lightning.drafting.real_texts import read_real_texts
from gold_lightning.errors import ConfigError
from gold_lightning.generators import Generator
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.task_files import find_task_file
from gold_lightning.task import Task

__all__ = ["hints_command", "new_command"]


def new_command(args: Sequence[str]) -> None:
    """Runs ``tasks new SENTENCE``.

    Args:
        args: Arguments after ``new``.

    Raises:
        GoldError: A setting is wrong, or the generator cannot be asked.
        ArgumentError: An argument is wrong.
    """
    parser = _parser("new", "Drafts a task file from one sentence. Each part is checked; a bad one is left blank.")
    parser.add_argument("sentence", type=str, help="The task in one sentence, in quotes.")
    parser.add_argument(
        "--labels", type=str, help="Labels, separated by commas; none for a task that writes text. Drafted by default."
    )
    parser.add_argument(
        "--fields", type=str, help="Names of the input texts, or columns of --from, separated by commas."
    )
    parser.add_argument("--out", type=str, help="The file to write, - for the terminal; NAME.yaml by default.")
    options = _parsed(parser, args)
    labels, fields = _listed("--labels", options.labels), _listed("--fields", options.fields)
    if labels is not None and [label.casefold() for label in labels] == ["none"]:
        labels = []
    name = "" if options.out in (None, "-") else _name(Path(options.out).stem)
    path = Path(expand("--out", options.out or f"{task_name(options.sentence)}.yaml"))
    if options.out != "-":
        _check_new(path)
    real = read_real_texts(options["from"], fields or ()) if options["from"] else None
    drafter = _drafter(parser, options)
    draft = drafter.draft(options.sentence, labels=labels, fields=fields, real=real, name=name)
    text = draft.yaml()
    if options.out == "-":
        say(text.rstrip("\n"))
    else:
        with path.open("x", encoding="utf-8") as file:  # the generator took its time: somebody may have written it
            file.write(text)
    for line in _summary(draft, "the draft" if options.out == "-" else str(path), text, drafter.tokens):
        print(line, file=sys.stderr if options.out == "-" else sys.stdout)


def hints_command(args: Sequence[str]) -> None:
    """Runs ``tasks hints FILE``.

    Args:
        args: Arguments after ``hints``.

    Raises:
        GoldError: The task's file is wrong, or the generator cannot be asked.
        ArgumentError: An argument is wrong.
    """
    parser = _parser("hints", "Fills in the hints of a task file that has none; all else in the file stays as it is.")
    parser.add_argument("task", type=str, help="The path of a task file.")
    options = _parsed(parser, args)
    path = find_task_file(options.task, "tasks hints")
    if not Path(expand("tasks hints", options.task)).is_file():
        raise ConfigError("tasks hints", options.task, "the path of a file of your own", "tasks show NAME prints one")
    task = Task.load(options.task)
    text = path.read_bytes().decode("utf-8")
    wanted = [label.name for label in task.labels if not label.hints] if task.labels else [""] * (not task.hints.topics)
    if not wanted:
        say(
            f"{options.task}: every label has hints already"
            if task.labels
            else f"{options.task}: it has topics already"
        )
        return
    real = read_real_texts(options["from"], [f.name for f in task.fields]) if options["from"] else None
    drafter = _drafter(parser, options)
    hints = draft_hints(drafter, task.description, task, wanted, real)
    changed = fill_hints(text, hints, options.task)
    if changed != text:
        path.write_bytes(changed.encode("utf-8"))
    done = ", ".join(hints) if task.labels else "the task"
    outcome = f"hints filled in for {done}; read them" if hints else "no good hints"
    say(f"{options.task}: {outcome} ({drafter.tokens:,} tokens)")
    for part in drafter.parts:
        if part.blank:
            say(f"{part.key}: no good answer ({', '.join(part.reasons)})")


def _parser(command: str, description: str) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"{program()} tasks {command}", description=description, exit_on_error=False, allow_abbrev=False
    )
    parser.add_subclass_arguments(
        Generator,
        "generator",
        default={"class_path": "gold_lightning.generators.EmbeddedGenerator"},
        help="The engine and its settings, as data.generator of a config.",
    )
    parser.add_argument(
        "--config", type=str, action="append", default=[], help="A config whose data.generator is taken."
    )
    parser.add_argument("--from", type=str, help="Real texts, without labels: JSON Lines, CSV, Parquet or plain text.")
    parser.add_argument("--tries", type=int, default=3, help="How often a part is asked for before it stays blank.")
    parser.add_argument("--seed", type=int, default=1, help="Seed of all requests.")
    return parser


def _parsed(parser: ArgumentParser, args: Sequence[str]) -> Namespace:
    """Parses arguments; generators of configs come before the arguments' own, so that these win."""
    renamed = [_GENERATOR + a.removeprefix("--data.generator") if a.startswith("--data.generator") else a for a in args]
    engines: list[str] = []
    for i, arg in enumerate(renamed):
        path = arg.removeprefix("--config=") if arg.startswith("--config=") else ""
        if i and renamed[i - 1] == "--config":
            path = arg
        if path:
            engine = (read_config(Path(find_config(path)), SECTIONS).get("data") or {}).get("generator")
            if engine is None:
                raise ConfigError("--config", path, "a config with data.generator")
            engines.append(f"{_GENERATOR}={engine if isinstance(engine, str) else json.dumps(engine)}")
    with own_defaults():
        options: Namespace = parser.parse_args([*engines, *renamed])
    return options


_GENERATOR = "--generator"


def _drafter(parser: ArgumentParser, options: Namespace) -> Drafter:
    from gold_lightning.cli.quiet import quiet

    quiet()
    engine: Generator = parser.instantiate(options).generator
    engine.check_installed()
    return Drafter(engine, options.tries, options.seed, lambda line: print(printable(line), file=sys.stderr))


def _listed(key: str, text: str | None) -> list[str] | None:
    """Reads names separated by commas, or a YAML list, in which a name may have a comma."""
    if text is None:
        return None
    if text.startswith("["):
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(key, text, 'names separated by commas, or a list such as ["a, b", c]') from None
        return [str(value) for value in values]
    return [part.strip() for part in text.split(",") if part.strip()]


def _name(stem: str) -> str:
    return stem if stem.replace("-", "_").isidentifier() else task_name(stem)


def _check_new(path: Path) -> None:
    if path.exists():
        raise ConfigError("--out", str(path), "a file that does not exist yet", "nothing is overwritten; name another")
    if not path.parent.is_dir():
        raise ConfigError("--out", str(path), "a file in a folder that exists")


def _summary(draft: Draft, name: str, text: str, tokens: int) -> list[str]:
    counts = [f"{count} {outcome}" for outcome, count in draft.counts.items() if count]
    lines = wrap(printable(f"wrote {name}: {', '.join(counts)}; {tokens:,} tokens"), width())
    if draft.blanks:
        mark = f"  # {BLANK}"
        numbered = [(i, line.split(mark)) for i, line in enumerate(text.splitlines(), 1) if mark in line]
        rows = [(str(i), printable(parts[0].strip()), printable(parts[1].strip(": "))) for i, parts in numbered]
        lines += ["", f"{len(rows)} blanks:"]
        lines += [f"  {row}" for row in table([("line", "", ""), *rows], right=[0])]
    then = "fill in the blanks, change what is not right, and" if draft.blanks else "change what is not right, and"
    lines += ["", f"Read it, {then} check it:", f"  {program()} tasks check {name}"]
    return lines
