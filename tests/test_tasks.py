"""The shipped tasks: demos that are right, targets read by name, and all of it within the student's limits."""

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from gold_lightning.inputs.task_files import shipped_tasks
from gold_lightning.labelled import load_test_rows
from gold_lightning.metrics import make_metric
from gold_lightning.parsing.formula import numbers_in, parse_equation, parse_programme
from gold_lightning.parsing.words import words
from gold_lightning.task import Task
from gold_lightning.wire import SampleReader, render

from tests.fakes import assert_demos_pass

NLI = {"0": "entailment", "1": "neutral", "2": "contradiction"}
TWO = {"0": "entailment", "1": "not_entailment"}
PAIR = ("sentence1", "sentence2", "label")
# Data set, configuration, split, columns as on the hub, and what its label column means.
HUB = {
    "anli": ("facebook/anli", "", "test_r1", ("premise", "hypothesis", "label"), NLI),
    "mnli": (
        "nyu-mll/glue",
        "mnli",
        "validation_matched+validation_mismatched",
        ("premise", "hypothesis", "label"),
        NLI,
    ),
    "qnli": ("nyu-mll/glue", "qnli", "validation", ("question", "sentence", "label"), TWO),
    "rte": ("nyu-mll/glue", "rte", "validation", PAIR, TWO),
    "wnli": ("nyu-mll/glue", "wnli", "validation", PAIR, {"0": "not_entailment", "1": "entailment"}),
    "mrpc": ("nyu-mll/glue", "mrpc", "validation", PAIR, {"0": "not_equivalent", "1": "equivalent"}),
    "squad": ("rajpurkar/squad", "", "validation", ("context", "question", "answers.text"), {}),
    "adversarial_qa": (
        "UCLNLP/adversarial_qa",
        "adversarialQA",
        "validation",
        ("context", "question", "answers.text"),
        {},
    ),
    "svamp": ("ChilleD/SVAMP", "", "test", ("Body", "Question", "Equation"), {}),
    "nl4opt": ("", "", "test", ("problem", "formulation"), {}),
}
LIMITS = {"squad": (256, 32), "adversarial_qa": (256, 32), "nl4opt": (512, 256)}
TASKS = {name: Task.load(name) for name in HUB}
CLASSES = [name for name, task in TASKS.items() if task.labels]
each = pytest.mark.parametrize("name", TASKS)


def tokens(text):
    """A generous count: three letters a token, digits, signs and line breaks one by one, and the end."""
    return 1 + len(re.findall(r"[^\W\d_]{1,3}|[^\w\s]|[\d_\n]|\s(?=\d)", text))


@each
def test_every_demo_passes_the_tasks_own_checks(name):
    assert_demos_pass(TASKS[name])


@each
def test_demos_are_few_and_balanced(name):
    task = TASKS[name]
    assert 3 <= len(task.demos) <= 6
    if task.labels:
        counts = Counter(d.target for d in task.demos)
        assert set(counts) == set(task.label_names)
        assert len(set(counts.values())) == 1


def test_no_demo_shares_eight_words_in_a_row_with_another():
    def runs(sample):
        found = words(f"{sample.text} {sample.target}")
        return {tuple(found[i : i + 8]) for i in range(len(found) - 7)}

    # Formulations begin alike; what they have in common is their form.
    demos = [
        (n, i, runs(replace(d, target="") if n == "nl4opt" else d))
        for n, t in TASKS.items()
        for i, d in enumerate(t.demos)
    ]
    assert len(demos) > 50
    assert [(a[:2], b[:2]) for a, b in combinations(demos, 2) if a[2] & b[2]] == []


@each
def test_demos_fit_into_the_limits(name):
    task = TASKS[name]
    assert (task.student.max_input_tokens, task.student.max_target_tokens) == LIMITS.get(name, (128, 32))
    for demo in task.demos:
        assert tokens(task.student_input(demo)) <= task.student.max_input_tokens
        assert tokens(task.student_target(demo.target)) <= task.student.max_target_tokens
        assert tokens(render(demo, task)) <= task.max_sample_tokens
    for label in task.label_names:
        assert len(label) <= task.target.max_chars


@each
def test_demos_survive_the_wire_format(name):
    task = TASKS[name]
    for demo in task.demos:
        assert SampleReader(task).parse(render(demo, task)) == {**demo.fields, task.target.name: demo.target}


@each
def test_hints_are_subjects_that_differ(name):
    topics = TASKS[name].hints.topics
    assert len(set(topics)) == len(topics) >= 12
    # A subject of one label alone would give the label away.
    assert all(label.hints == () for label in TASKS[name].labels)


@each
def test_metrics_are_known_and_the_demos_targets_are_right_by_them(name):
    task = TASKS[name]
    targets = [d.target for d in task.demos]
    for metric in task.metrics:
        made = make_metric(metric, task.label_names)
        assert made.reduce(made.rows(targets, targets)) == 1


@each
def test_test_data_is_named_with_its_columns(name):
    task = TASKS[name]
    hub, config, split, columns, labels = HUB[name]
    assert (task.test.hub, task.test.config, task.test.split) == (hub, config, split)
    assert task.test.label_names == labels
    names = [*(f.name for f in task.fields), task.target.name]
    assert {task.test.columns.get(n, n) for n in names} == set(columns)


@pytest.mark.parametrize("name", CLASSES)
def test_labels_are_read_by_name(name, tmp_path):
    task = TASKS[name]
    fields = [f.name for f in task.fields]
    labels = HUB[name][4]
    assert set(labels.values()) == set(task.label_names)
    rows = [{**dict.fromkeys(fields, f"text {value}"), "label": int(value)} for value in labels]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    assert [s.target for s in load_test_rows(task, str(path))] == list(labels.values())


@pytest.mark.parametrize("name", ["squad", "adversarial_qa"])
def test_all_gold_answers_of_a_question_are_read(name, tmp_path):
    path = tmp_path / "rows.jsonl"
    answers = {"text": ["in 1702", "1702", "1702"], "answer_start": [3, 6, 6]}
    path.write_text(json.dumps({"context": "It was in 1702.", "question": "When?", "answers": answers}))
    (row,) = load_test_rows(TASKS[name], str(path))
    assert row.targets == ("in 1702", "1702")


def test_wnli_is_the_other_way_round_than_rte():
    assert TASKS["rte"].test.label_names["1"] == TASKS["wnli"].test.label_names["0"] == "not_entailment"


def test_both_halves_of_mnli_are_read(tmp_path, monkeypatch):
    from datasets import Dataset

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    task = TASKS["mnli"]
    for half, label in (("matched", 0), ("mismatched", 2)):
        rows = {"premise": [f"{half} premise"], "hypothesis": ["claim"], "label": [label]}
        path = tmp_path / "hub" / "data" / f"validation_{half}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(rows).to_parquet(path)
    local = replace(task, test=replace(task.test, hub=str(tmp_path / "hub"), config=""))
    found = [(s.fields["premise"], s.target) for s in load_test_rows(local)]
    assert found == [("matched premise", "entailment"), ("mismatched premise", "contradiction")]


@pytest.mark.parametrize("name", ["squad", "adversarial_qa"])
def test_answers_stand_once_in_their_context_and_not_in_the_question(name):
    for demo in TASKS[name].demos:
        assert len(re.findall(rf"\b{re.escape(demo.target)}\b", demo.fields["context"])) == 1
        assert demo.target.casefold() not in demo.fields["question"].casefold()


def test_equations_of_the_demos_have_the_right_value():
    values = [parse_equation(d.target).value for d in TASKS["svamp"].demos]
    assert values == [13, 5, 24, 12, 54, 9]


def test_equations_of_the_demos_are_in_the_tasks_own_form():
    for demo in TASKS["svamp"].demos:
        assert re.fullmatch(r"\(?\d+( [-+*/] \(?\d+\)?)+", demo.target)
    signs = Counter(re.sub(r"[^-+*/]", "", "".join(d.target for d in TASKS["svamp"].demos)))
    assert set(signs) == set("+-*/")


def test_the_data_sets_way_to_write_an_equation_counts_as_equal():
    metric = make_metric("equation_value", ())
    ours, theirs = ["17 - 12", "(15 + 21) / 4"], ["( 17.0 - 12.0 )", "( ( 15.0 + 21.0 ) / 4.0 )"]
    assert metric.reduce(metric.rows(ours, theirs)) == 1


def test_formulations_use_the_numbers_of_their_problem_and_no_others():
    for demo in TASKS["nl4opt"].demos:
        numbers = {float(n) for n in re.findall(r"\d+\.\d\d", demo.target)}
        assert numbers <= {float(n) for n in numbers_in(demo.fields["problem"])} | {1.0}
        told = [float(n) for n in re.findall(r"\d+(?:\.\d+)?", demo.fields["problem"])]
        assert all({n, n / 100} & numbers for n in told)
        assert not re.search(r"\d", re.sub(r"\d+\.\d\d", "", demo.target))


# Each row: factors of x, y, z and the bound, "at most".
PROGRAMMES = [
    (True, (6, 14), {(2, 5, 300), (15, 30, 2100)}),
    (False, (0.5, 0.85), {(-70, -160, -1400), (-320, -140, -3500)}),
    (True, (900, 2500), {(4, 10, 180), (-0.4, 0.6, 0), (0, 1, 8)}),
    (False, (2, 5, 20), {(-1, -1, -1, -500), (0, 0, -1, -30), (1, -1, 0, 0)}),
]


def test_formulations_say_what_their_problem_says():
    for demo, (maximize, objective, rows) in zip(TASKS["nl4opt"].demos, PROGRAMMES, strict=True):
        made = parse_programme(demo.target)
        assert made.maximize == maximize == ("maximize" in demo.fields["problem"])
        assert tuple(map(float, made.objective)) == (*objective, 0)
        assert {tuple(map(float, row)) for row in made.rows} == rows
        assert all(thing in demo.fields["problem"] for _, thing in made.variables)


@pytest.mark.parametrize("name", sorted(shipped_tasks()))
def test_a_dumped_task_is_read_as_the_same_task(name):
    task = Task.load(name)
    again = Task.from_document(json.loads(json.dumps(task.to_document())), task.source)
    test = replace(again.test, file=task.test.file)  # absolute in the dump
    assert replace(again, test=test) == task
