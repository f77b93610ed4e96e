"""``tasks``: lists the shipped tasks, prints one, checks a task file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from gold_lightning.checks.checker import Checker
from gold_lightning.cli.commands import program
from gold_lightning.console import printable, say, table, width, wrap
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.task_files import find_task_file, shipped_tasks
from gold_lightning.labelled import load_test_rows, load_validation_rows
from gold_lightning.metrics import make_metric
from gold_lightning.plugins import load_plugins
from gold_lightning.prompts import render
from gold_lightning.t5.checks import check_student, count_cut
from gold_lightning.t5.weights import load_tokenizer, target_text
from gold_lightning.task import Task, task_schema

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["shipped", "summary", "tasks_command", "warnings_of"]


def tasks_command(args: Sequence[str]) -> None:
    """Runs ``tasks``, ``tasks show NAME``, ``tasks check FILE`` or ``tasks schema``.

    Args:
        args: Arguments after ``tasks``.

    Raises:
        GoldError: The task does not exist or its file is wrong.
        ArgumentError: An argument is wrong.
    """
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
    options = parser.parse_args(list(args))
    if options.command == "show":
        if options.show.task not in shipped_tasks():
            raise ConfigError("tasks show", options.show.task, f"one of {', '.join(shipped_tasks())}")
        for line in shipped_tasks()[options.show.task].read_text(encoding="utf-8").splitlines():
            say(line)  # not made printable: the output will be saved as a file
    elif options.command == "schema":
        say(json.dumps(task_schema(), indent=2))
    elif options.command == "check":
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
    yield "tasks show NAME prints one to start from, tasks check FILE says whether yours is right"


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


def warnings_of(task: Task, student: str = "embedded") -> list[str]:
    """Returns warnings: parts of a task that are valid, but probably a mistake.

    Args:
        task: The task.
        student: The student that will learn it, as ``model.student`` of a run.

    Raises:
        ConfigError: The task names an unknown check or metric.
        GoldError: The student's files are missing or damaged, or it cannot learn the task.
    """
    for name in task.metrics:
        make_metric(name, task.label_names)
    tokenizer = load_tokenizer(student, "--student")
    of_student = check_student(task, student, tokenizer, "--student")
    return [
        *of_student,
        *_of_demos(task),
        *_of_lengths(task, student, tokenizer),
        *_of_test(task, tokenizer),
        *_of_validation(task),
    ]


def _of_demos(task: Task) -> Iterator[str]:
    counts = Counter(d.target for d in task.demos)
    for name in task.label_names:
        if counts[name] == 1:
            yield f"labels: {name!r} has one demo, which all its prompts show; two or three give more varied samples"
    checker = Checker(task)
    for i, demo in enumerate(task.demos):
        if reason := checker.own_reason(demo) or checker.duplicate(demo):
            yield f"demos[{i}]: the task's checks would reject it ({reason}), and generated samples like it"
        checker.keep(demo)
        limits = task.target
        if not task.labels and not limits.min_chars <= len(demo.target) <= limits.max_chars:
            yield (
                f"demos[{i}].{limits.name}: {len(demo.target)} characters; samples are rejected outside of "
                f"{limits.min_chars} to {limits.max_chars}"
            )


def _of_lengths(task: Task, student: str, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    def tokens(text: str) -> int:
        return len(tokenizer(text).input_ids)

    form, by = task.student, f"by the tokens of the student {student}"
    for i, demo in enumerate(task.demos):
        for count, limit, key, effect in (
            (tokens(task.student_input(demo)), form.max_input_tokens, "student.max_input_tokens", "its input is cut"),
            (
                tokens(target_text(tokenizer, task.student_target(demo.target))),
                form.max_target_tokens,
                "student.max_target_tokens",
                "its target is cut",
            ),
            (tokens(render(demo, task)), task.max_sample_tokens, "max_sample_tokens", "a sample like it is rejected"),
        ):
            if count > limit:
                yield f"{key}: demos[{i}] takes {count} tokens of {limit}, so {effect} ({by})"


def _of_test(task: Task, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    if task.test.file:
        try:
            rows = load_test_rows(task)
        except GoldError as e:
            yield str(e)
            return
        yield from count_cut(task, tokenizer, rows).sentences(task, "test rows")
    elif not task.test.hub:
        yield "test: names no test data; the test command will need --data.test_file"


def _of_validation(task: Task) -> Iterator[str]:
    if task.validation.file:
        try:
            load_validation_rows(task)
        except GoldError as e:
            yield str(e)


def _kind(task: Task) -> str:
    return "labels" if task.labels else "sequence"


def _test_data(task: Task) -> str:
    spec = task.test
    if spec.file:
        return f"file {Path(spec.file).name}"
    return " ".join(part for part in (spec.hub, spec.config, spec.split) if part) if spec.hub else "none named"
