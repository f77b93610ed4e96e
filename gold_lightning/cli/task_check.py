"""``tasks check``: warns of parts of a task that are valid, but probably a mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gold_lightning.checks.checker import Checker
from gold_lightning.errors import GoldError
from gold_lightning.labelled import load_test_rows, load_validation_rows
from gold_lightning.metrics import make_metric
from gold_lightning.planning.plan_warnings import lines_in_demos, lines_in_rows, listed
from gold_lightning.t5.checks import check_student, count_cut
from gold_lightning.t5.weights import load_tokenizer, target_text
from gold_lightning.task import Task
from gold_lightning.wire import render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["warnings_of"]

_MOST_OF_A_KIND = 12


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
        make_metric(name, task.label_names, task.many)
    tokenizer = load_tokenizer(student, "--student")
    of_student = check_student(task, student, tokenizer, "--student")
    return [
        *of_student,
        *lines_in_demos(task),
        *_of_demos(task),
        *_first(_of_lengths(task, student, tokenizer)),
        *_of_test(task, tokenizer),
        *_of_validation(task),
    ]


def _of_demos(task: Task) -> Iterator[str]:
    sets = [task.labels_of(d.target) or () for d in task.demos]
    counts = Counter(label for labels in sets for label in labels)
    if task.many and any(task.many.sizes[2:]) and max(map(len, sets)) < 2:
        yield "demos: none has several labels, and the generator is asked for samples with several (many.sizes)"
    if alone := [name for name in task.label_names if counts[name] == 1]:
        has, its = ("has one demo", "its") if len(alone) == 1 else ("have one demo each", "their")
        yield f"labels: {listed(alone)} {has}, which all {its} prompts show; two or three give more varied samples"
    yield from _first(_of_each_demo(task))


def _first(warnings: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yields a few warnings of each kind, and the number of the others.

    Args:
        warnings: Kind and words of each.
    """
    counts: Counter[str] = Counter()
    for kind, words in warnings:
        counts[kind] += 1
        if counts[kind] <= _MOST_OF_A_KIND:
            yield words
    for kind, count in counts.items():
        if count > _MOST_OF_A_KIND:
            yield f"{kind}: the same holds of {count - _MOST_OF_A_KIND} more demos"


def _of_each_demo(task: Task) -> Iterator[tuple[str, str]]:
    checker = Checker(task)
    for i, demo in enumerate(task.demos):
        if reason := checker.task_reason(demo) or checker.duplicate(demo):
            yield reason, f"demos[{i}]: the task's checks would reject it ({reason}), and generated samples like it"
        checker.keep(demo)
        limits = task.target
        if not task.labels and not limits.min_chars <= len(demo.target) <= limits.max_chars:
            yield (
                limits.name,
                f"demos[{i}].{limits.name}: {len(demo.target)} characters; samples are rejected outside of "
                f"{limits.min_chars} to {limits.max_chars}",
            )


def _of_lengths(task: Task, student: str, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, str]]:
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
                yield key, f"{key}: demos[{i}] takes {count} tokens of {limit}, so {effect} ({by})"


def _of_test(task: Task, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    if task.test.file:
        try:
            rows = load_test_rows(task)
        except GoldError as e:
            yield str(e)
            return
        yield from lines_in_rows(task, [row.fields for row in rows], "test")
        yield from count_cut(task, tokenizer, rows).sentences(task, "test rows")
    elif not task.test.hub:
        yield "test: names no test data; the test command will need --data.test_file"


def _of_validation(task: Task) -> Iterator[str]:
    if task.validation.file:
        try:
            rows = load_validation_rows(task)
        except GoldError as e:
            yield str(e)
            return
        yield from lines_in_rows(task, [row.fields for row in rows], "validation")
