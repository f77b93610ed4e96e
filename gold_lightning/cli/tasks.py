"""``tasks``: lists the shipped tasks, prints one, checks a task file, drafts a new one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from gold_lightning.cli.commands import program
from gold_lightning.console import printable, say, table, width, wrap
from gold_lightning.errors import ConfigError
from gold_lightning.inputs.task_files import find_task_file, shipped_tasks
from gold_lightning.plugins import load_plugins
from gold_lightning.task import Task, task_schema

__all__ = ["shipped", "summary", "tasks_command"]


def tasks_command(args: Sequence[str]) -> None:
    """Runs ``tasks`` or one of its commands: ``show``, ``check``, ``schema``, ``new``, ``hints``.

    Args:
        args: Arguments after ``tasks``.

    Raises:
        GoldError: The task does not exist or its file is wrong.
        ArgumentError: An argument is wrong.
    """
    if args and args[0] in ("new", "hints"):
        from gold_lightning.cli import task_new  # needs torch

        (task_new.new_command if args[0] == "new" else task_new.hints_command)(args[1:])
        return
    parser = ArgumentParser(
        prog=f"{program()} tasks", description="Lists the shipped tasks; or one of:", exit_on_error=False
    )
    commands = parser.add_subcommands(required=False, dest="command")
    show = ArgumentParser(description="Prints the file of a shipped task, as a template.", exit_on_error=False)
    show.add_argument("task", type=str, help="Name of a shipped task.")
    commands.add_subcommand("show", show)
    check = ArgumentParser(description="Checks a task file; warns of probable mistakes.", exit_on_error=False)
    check.add_argument("task", type=str, help="The path of a task file, or the name of a shipped task.")
    check.add_argument(
        "--student", type=str, default="embedded", help="The student that will learn it, as model.student of a run."
    )
    check.add_argument(
        "--plugins", type=list[str], default=[], help="Modules with checks and metrics of your own, as data.plugins."
    )
    commands.add_subcommand("check", check)
    schema = ArgumentParser(description="Prints the JSON schema of task files, for editors.", exit_on_error=False)
    commands.add_subcommand("schema", schema)
    for name, description in (
        ("new", "Drafts a task file from one sentence, with a generator."),
        ("hints", "Drafts the hints of a task file, with a generator."),
    ):
        commands.add_subcommand(name, ArgumentParser(description=description, exit_on_error=False))
    options = parser.parse_args(list(args))
    if options.command == "show":
        if options.show.task not in shipped_tasks():
            raise ConfigError("tasks show", options.show.task, f"one of {', '.join(shipped_tasks())}")
        for line in shipped_tasks()[options.show.task].read_text(encoding="utf-8").splitlines():
            say(line)  # not made printable: the output will be saved as a file
    elif options.command == "schema":
        say(json.dumps(task_schema(), indent=2))
    elif options.command == "check":
        from gold_lightning.cli.quiet import quiet
        from gold_lightning.cli.task_check import warnings_of  # needs torch

        quiet()
        load_plugins(options.check.plugins, "--plugins")
        task = Task.load(str(find_task_file(options.check.task, "tasks check")))
        warnings = warnings_of(task, options.check.student)  # may raise, too
        say(f"ok: {summary(task)}")
        for warning in warnings:
            for i, line in enumerate(wrap(printable(warning), width() - 9)):
                say(("         " if i else "warning: ") + line)
    else:
        for line in shipped():
            say(line)


def shipped() -> Iterator[str]:
    """Yields lines that list the shipped tasks, each a row of facts with its description below."""
    tasks = [Task.load(str(path)) for path in shipped_tasks().values()]
    rows = [["task", "kind", "labels", "demos", "metrics", "test data"]]
    rows += [
        [t.name, _kind(t), str(len(t.labels) or "-"), str(len(t.demos)), ", ".join(t.metrics), _test_data(t)]
        for t in tasks
    ]
    head, *lines = table(rows, right=[2, 3])
    yield head
    for line, task in zip(lines, tasks, strict=True):
        yield line
        yield from (f"    {part}" for part in wrap(task.description, width() - 4))
    yield ""
    yield 'tasks new "ONE SENTENCE" drafts one of your own, tasks show NAME prints one to start from, and'
    yield "tasks check FILE says whether yours is right"


def summary(task: Task) -> str:
    """Describes a task in one printable line."""
    labels = f" ({', '.join(task.label_names)})" if task.labels else ""
    parts = [
        f"{task.name}, {_kind(task)}{labels}",
        f"{len(task.demos)} demos",
        f"metrics {', '.join(task.metrics)}" if task.metrics else "the usual metric",
        f"test data {_test_data(task)}",
    ]
    return printable("; ".join(parts))


def _kind(task: Task) -> str:
    if task.many:
        return "several labels"
    return "labels" if task.labels else "sequence"


def _test_data(task: Task) -> str:
    spec = task.test
    if spec.file:
        return f"file {Path(spec.file).name}"
    return " ".join(part for part in (spec.hub, spec.config, spec.split) if part) if spec.hub else "none named"
