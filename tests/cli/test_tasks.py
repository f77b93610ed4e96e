"""tasks, tasks show and tasks check, as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gold_lightning.cli.main import main
from gold_lightning.cli.task_check import warnings_of
from gold_lightning.inputs.task_files import shipped_tasks
from gold_lightning.task import Task, task_schema

pytestmark = pytest.mark.integration


def changed(tmp_path, **keys):
    """A shipped task with other values, as a file."""
    raw = yaml.safe_load(shipped_tasks()["news_topics"].read_text(encoding="utf-8"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(raw | keys), encoding="utf-8")
    return str(path)


def test_every_shipped_task_is_listed(capsys):
    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in shipped_tasks():
        task = Task.load(name)
        line = next(line for line in lines if line.split()[:1] == [name])
        kind = ["labels", str(len(task.labels))] if task.labels else ["sequence", "-"]
        assert line.split()[1:4] == [*kind, str(len(task.demos))]
        assert ", ".join(task.metrics) in line and (task.test.hub or task.test.file or "none named") in line
        assert task.description[:30] in lines[lines.index(line) + 1]


def test_show_prints_the_file_itself(capsys):
    assert main(["tasks", "show", "svamp"]) == 0
    assert capsys.readouterr().out == shipped_tasks()["svamp"].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", shipped_tasks())
def test_no_shipped_task_is_warned_about(name):
    expected = ["test: names no test data"] if name == "nl4opt" else []
    assert [w[:24] for w in warnings_of(Task.load(name))] == expected


def test_check_says_ok_or_the_line_of_the_error(tmp_path, capsys):
    path = changed(tmp_path, test={"hub": "a/b", "split": "train"}, metrics=["accuracy"])
    assert main(["tasks", "check", path]) == 0
    said = (
        "ok: news_topics, labels (World, Sports, Business, Sci/Tech); 12 demos; metrics accuracy; test data a/b train\n"
    )
    assert capsys.readouterr().out == said
    for wrong, key in ({"demos": []}, "demos"), ({"checks": ["magic"]}, "checks[0]"), ({"metrics": ["f7"]}, "metrics"):
        assert main(["tasks", "check", changed(tmp_path, **wrong)]) == 2
        out, error = capsys.readouterr()
        assert out == "" and error.startswith("error: ") and key in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (["check", "gone.yaml"], "tasks check"),
        (["show", "gone"], "tasks show"),
        (["magic"], "magic"),
        (["check"], "task"),
    ],
)
def test_wrong_arguments_are_one_line(args, key, capsys):
    assert main(["tasks", *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and key in error and error.count("\n") == 1


def test_what_may_not_be_right_is_a_warning(tmp_path, capsys):
    task = Task.load("news_topics")
    rows = [{**d.fields, "topic": d.target} for d in task.demos]
    own = [r for r in rows if r["topic"] == "World"][:1] + [r for r in rows if r["topic"] != "World"]
    own += [own[-1], own[-1] | {"text": "A chip and a robot are new in the laboratory today. " * 4}]
    path = changed(
        tmp_path,
        demos=own,
        checks=[{"min_words": {"field": "text", "count": 12}}],
        student={"input": "news topic: {text}", "max_input_tokens": 30},
        max_sample_tokens=32,
        test={"file": "gone.jsonl"},
    )
    assert main(["tasks", "check", path]) == 0
    out = capsys.readouterr().out
    said = " ".join(line.removeprefix("warning:").strip() for line in out.splitlines())
    last = len(own) - 1
    assert "labels: 'World' has one demo" in said
    assert f"demos[{last - 1}]: the task's checks would reject it (duplicate)" in said
    assert f"student.max_input_tokens: demos[{last}] takes" in said
    assert f"max_sample_tokens: demos[{last}] takes" in said
    assert "gone.jsonl" in said
    assert out.startswith("ok: ") and out.count("warning: ") == len(warnings_of(Task.load(path)))
    short = changed(tmp_path, checks=[{"min_words": {"field": "text", "count": 200}}])
    warnings = warnings_of(Task.load(short))
    for i in range(len(task.demos)):
        assert any(f"demos[{i}]: the task's checks would reject it (too_few_words)" in w for w in warnings)


def test_warnings_of_many_labels_and_demos_are_few_lines(tmp_path):
    names = [f"subject {i}" for i in range(40)]
    path = changed(
        tmp_path,
        labels=[{"name": name, "meaning": f"about {name}"} for name in names],
        demos=[{"text": f"The news of today is about {name} and nothing else.", "topic": name} for name in names],
        checks=[{"min_words": {"field": "text", "count": 200}}],
        target={"name": "topic", "description": "the subject", "max_chars": 20},
    )
    warnings = warnings_of(Task.load(path))
    alone = [w for w in warnings if "one demo" in w]
    assert len(alone) == 1 and alone[0].startswith("labels: 'subject 0', 'subject 1', ")
    assert " and 35 more have one demo each, which all their prompts show" in alone[0]
    rejected = [w for w in warnings if "would reject it (too_few_words)" in w]
    assert len(rejected) == 12 and "too_few_words: the same holds of 28 more demos" in warnings


def test_a_target_outside_of_its_limits_is_a_warning(tmp_path):
    raw = yaml.safe_load(shipped_tasks()["svamp"].read_text(encoding="utf-8"))
    raw["target"]["max_chars"] = 6
    path = Path(tmp_path / "mine.yaml")
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    warnings = warnings_of(Task.load(str(path)))
    long = [i for i, d in enumerate(raw["demos"]) if len(d["equation"]) > 6]
    assert [w.split(":")[0] for w in warnings] == [f"demos[{i}].equation" for i in long] and long


def test_schema_prints_the_schema_of_task_files(capsys):
    assert main(["tasks", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == task_schema()


@pytest.mark.parametrize(
    "args", [["tasks"], ["tasks", "show", "rte"], ["tasks", "schema"], ["tasks", "--help"]], ids=str
)
def test_tasks_are_listed_and_shown_without_loading_torch(args):
    script = (
        "import contextlib, sys\n"
        "from gold_lightning.cli.main import main\n"
        "with contextlib.suppress(SystemExit):\n"
        f"    main({args})\n"
        "loaded = {'torch', 'lightning', 'transformers', 'scipy'} & set(sys.modules)\n"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout
