"""The worked examples of two pages: they load, their demos and test rows are right, the pages are true."""

import re
from collections import Counter
from pathlib import Path

import pytest
from gold_lightning.checks.contamination import Decontaminator
from gold_lightning.checks.registry import CHECKS
from gold_lightning.labelled import load_test_rows
from gold_lightning.metrics import make_metric
from gold_lightning.parsing.json_text import read_json
from gold_lightning.task import Task

from tests.fakes import assert_demos_pass

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "write-a-task.md").read_text(encoding="utf-8")
TASKS = {path.stem: Task.load(str(path)) for path in sorted((ROOT / "examples").glob("*.yaml"))}
ROWS = {name: load_test_rows(task) for name, task in TASKS.items()}
each = pytest.mark.parametrize("name", TASKS)


def test_the_examples_are_there():
    assert set(TASKS) == {"intents", "notes", "events", "hotel_reviews"}
    assert len(TASKS["intents"].labels) == 20


@each
def test_every_demo_passes_the_tasks_own_checks(name):
    assert_demos_pass(TASKS[name])


@each
def test_every_test_row_is_what_the_task_asks_for(name):
    task = TASKS[name]
    assert len(ROWS[name]) >= 20
    for row in ROWS[name]:
        assert all(f.min_chars <= len(row.fields[f.name]) <= f.max_chars for f in task.fields)
        assert task.labels or task.target.min_chars <= len(row.target) <= task.target.max_chars
        assert [CHECKS[c.name](row, task, **c.params) for c in task.checks] == [""] * len(task.checks)
    assert len({row.text for row in ROWS[name]}) == len(ROWS[name])
    if task.one_label:
        assert set(Counter(row.target for row in ROWS[name]).values()) == {2}


@each
def test_demos_are_not_in_the_test_set(name):
    index = Decontaminator(ROWS[name])
    assert not any(index.overlap(demo) for demo in TASKS[name].demos)


@each
def test_gold_targets_are_right_by_the_tasks_metrics(name):
    targets = [row.target for row in ROWS[name]]
    for metric in TASKS[name].metrics:
        made = make_metric(metric, TASKS[name].label_names, TASKS[name].many)
        assert made.reduce(made.rows(targets, targets)) == 1


def test_intents_have_as_many_demos_of_each_label():
    assert set(Counter(d.target for d in TASKS["intents"].demos).values()) == {3}


def test_facts_keep_the_order_in_which_the_student_learns_them():
    for sample in [*TASKS["events"].demos, *ROWS["events"]]:
        assert list(read_json(sample.target)) == ["event", "day", "time", "place"]


def test_names_in_notes_are_speakers_or_told_in_the_dialogue():
    samples = [*TASKS["notes"].demos, *ROWS["notes"]]
    named = [(name, s.fields["dialogue"]) for s in samples for name in re.findall(r"(?<!^)\b[A-Z][a-z]+", s.target)]
    assert len(named) >= len(samples) / 2
    assert [name for name, dialogue in named if name not in dialogue] == []


@each
def test_the_page_has_a_command_for_each_example(name):
    page = PAGE if TASKS[name].many is None else (ROOT / "docs" / "several-labels.md").read_text(encoding="utf-8")
    assert f"examples/{name}.yaml --run.name {name}" in page
