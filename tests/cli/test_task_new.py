"""``tasks new`` and ``tasks hints``, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from gold_lightning.cli.main import main
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.task import Task

from tests.drafting.test_drafter import SENTENCE, good

pytestmark = pytest.mark.integration

ENGINE = ["--generator", "tests.cli.test_task_new.Writer"]


class Writer(ScriptedGenerator):
    """Answers well; with ``broken`` meanings are missing."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__(lambda r: "" if broken and r.answer_prefix.endswith("meaning:") else good(r))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "engine",
    [ENGINE[1], {"class_path": ENGINE[1]}, {"class_path": ENGINE[1], "init_args": {"broken": False}}],
    ids=["name", "class_path", "init_args"],
)
def test_a_config_may_name_its_generator_in_each_way_that_fit_reads(capsys, engine):
    Path("c.yaml").write_text(yaml.safe_dump({"data": {"generator": engine}}))
    assert main(["tasks", "new", SENTENCE, "--config", "c.yaml", "--out", "letters.yaml"]) == 0
    assert capsys.readouterr().out.startswith("wrote letters.yaml: ")


def test_a_file_is_written_that_tasks_check_accepts(capsys):
    assert main(["tasks", "new", SENTENCE, *ENGINE, "--out", "letters.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("wrote letters.yaml: ") and "first try" in out and "tasks check letters.yaml" in out
    assert "labels: loans, cards, savings" in err  # what is done so far
    assert Task.load("letters.yaml").name == "letters"
    assert main(["tasks", "check", "letters.yaml"]) == 0


def test_blanks_are_listed_with_their_lines(capsys):
    assert main(["tasks", "new", SENTENCE, *ENGINE, "--generator.broken", "true", "--labels", "a,b"]) == 0
    out = capsys.readouterr().out
    (path,) = Path().glob("*.yaml")
    lines = path.read_text(encoding="utf-8").splitlines()
    numbers = [i for i, line in enumerate(lines, 1) if "meaning: null" in line]
    assert "2 blanks:" in out and all(f" {i}  meaning: null" in out for i in numbers) and len(numbers) == 2
    assert main(["tasks", "check", str(path)]) == 2
    assert "labels[0].meaning: got None" in capsys.readouterr().err


def test_nothing_is_overwritten(capsys):
    Path("mine.yaml").write_text("mine")
    assert main(["tasks", "new", SENTENCE, *ENGINE, "--out", "mine.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: --out: got 'mine.yaml'")
    assert Path("mine.yaml").read_text() == "mine"
    assert main(["tasks", "new", SENTENCE, *ENGINE]) == 0
    assert main(["tasks", "new", SENTENCE, *ENGINE]) == 2


def test_the_terminal_gets_the_file_alone(capsys):
    assert main(["tasks", "new", SENTENCE, *ENGINE, "--out", "-"]) == 0
    out, err = capsys.readouterr()
    assert Task.from_document(yaml.safe_load(out)).label_names == ("loans", "cards", "savings")
    assert "first try" in err and list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("text", "names"), [("a, b", ["a", "b"]), ('["x, y", z]', ["x, y", "z"]), ("yes,no", ["yes", "no"])]
)
def test_labels_of_the_command_line(text, names):
    assert main(["tasks", "new", SENTENCE, *ENGINE, "--labels", text, "--out", "t.yaml"]) == 0
    assert list(Task.load("t.yaml").label_names) == names


def test_the_generator_of_a_config_is_taken_and_the_arguments_win():
    engine = {"class_path": "tests.cli.test_task_new.Writer", "init_args": {"broken": True}}
    Path("server.yaml").write_text(yaml.safe_dump({"data": {"generator": engine, "batch_size": 4}}))
    assert main(["tasks", "new", SENTENCE, "--config", "server.yaml", "--labels", "a,b", "--out", "a.yaml"]) == 0
    assert "meaning: null" in Path("a.yaml").read_text(encoding="utf-8")
    args = ["--config", "server.yaml", "--generator.broken", "false", "--labels", "a,b", "--out", "b.yaml"]
    assert main(["tasks", "new", SENTENCE, *args]) == 0
    assert "meaning: null" not in Path("b.yaml").read_text(encoding="utf-8")
    args = ["--data.generator", "tests.cli.test_task_new.Writer", "--labels", "a,b", "--out", "c.yaml"]
    assert main(["tasks", "new", SENTENCE, *args]) == 0  # as fit has it


@pytest.mark.parametrize(
    ("args", "key"),
    [
        ([], "sentence"),
        (["word"], "the task"),
        ([SENTENCE, "--labels", "one"], "--labels"),
        ([SENTENCE, "--labels", "["], "--labels"),
        ([SENTENCE, "--from", "gone.csv"], "--from"),
        ([SENTENCE, "--out", "no/such/folder.yaml"], "--out"),
        ([SENTENCE, "--tries", "0"], "--tries"),
        ([SENTENCE, "--generator", "NoGenerator"], "generator"),
        ([SENTENCE, "--config", "gone.yaml"], "--config"),
        ([SENTENCE, "--label", "a,b"], "label"),
    ],
)
def test_mistakes_are_one_line(args, key, capsys):
    engine = [] if "--generator" in args else ENGINE
    assert main(["tasks", "new", *args, *engine]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and key in err
    assert list(Path().glob("*.yaml")) == []


def test_hints_are_filled_in_and_all_else_stays(capsys):
    text = """\
# my task
name: t
description: Each sample is a letter.
fields: [{name: letter, description: one letter}]   # one
target: {name: desk, description: who answers}
labels:
  - {name: loans, meaning: about loans}
  - name: cards
    meaning: about cards   # and fees
    hints: [a fee]
demos:
  - {letter: "What does a loan cost?", desk: loans}
  - {letter: "My card is lost.", desk: cards}
student: {input: "{letter}"}
"""
    Path("t.yaml").write_text(text)
    assert main(["tasks", "hints", "t.yaml", *ENGINE]) == 0
    assert "hints filled in for loans" in capsys.readouterr().out
    task, changed = Task.load("t.yaml"), Path("t.yaml").read_text()
    assert len(task.label("loans").hints) == 4 and task.label("cards").hints == ("a fee",)
    assert [line for line in text.splitlines() if line not in changed.splitlines()] == [text.splitlines()[6]]
    assert main(["tasks", "hints", "t.yaml", *ENGINE]) == 0  # nothing is left to do
    assert Path("t.yaml").read_text() == changed
    assert main(["tasks", "hints", "news_topics", *ENGINE]) == 2
    assert "tasks hints" in capsys.readouterr().err


def test_real_texts_give_lengths(capsys):
    rows = [{"letter": f"Dear bank, letter {i} is about my card and {i} others."} for i in range(40)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["tasks", "new", SENTENCE, *ENGINE, "--from", "rows.jsonl", "--labels", "a,b", "--out", "t.yaml"]) == 0
    assert Task.load("t.yaml").fields[0].max_chars < 250
    assert "rows.jsonl: 40 texts of the column letter" in Path("t.yaml").read_text(encoding="utf-8")
