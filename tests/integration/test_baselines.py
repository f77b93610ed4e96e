"""``baselines`` and ``test``, as a user runs them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from gold_lightning.cli.main import main
from gold_lightning.evaluation.baselines import GeneratorAnswers
from gold_lightning.runner import GoldTrainer
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.student import T5Student
from lightning.pytorch import Trainer

LABELS = ["World", "Sports", "Business", "Sci/Tech"]
SMALL = ["--data.plan.samples_per_round=16", "--data.plan.probe_per_round=8", "--data.plan.label_agreement=off"]
SMALL += ["--data.passes_per_round=1", "--trainer.max_epochs=2", "--data.generator=tests.fakes.NewsWriter"]


def command(name, root, student, *more):
    base = ["--config", "quickstart.yaml", "--run.root", str(root), "--run.name", "t", "--model.student", student]
    return main([name, *base, *SMALL, *more])


def news(count):
    """Labelled rows in unequal shares, so that the most frequent label is none but the third."""
    return [{"text": f"Item {i} of the news of today.", "topic": LABELS[2 if i % 3 else i % 4]} for i in range(count)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    test, train = folder / "test.csv", folder / "train.jsonl"
    with test.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "topic"])
        writer.writeheader()
        writer.writerows(news(30))
    train.write_text("".join(json.dumps(row) + "\n" for row in news(10)))
    return str(test), str(train)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_student):
    root = tmp_path_factory.mktemp("trained")
    assert command("fit", root, tiny_student) == 0
    return root


def folder_of(root):
    return Path(root) / "news_topics" / "t"


def state(folder):
    """What a run keeps, byte by byte; its report is made anew."""
    kept = (p for p in folder.rglob("*") if p.is_file() and "baselines" not in p.parts and p.name != "report.html")
    return {p: p.read_bytes() for p in kept}


def line(table, name):
    return next(x for x in table.splitlines() if x.startswith(name))


def test_all_in_one_table_and_not_paid_for_again(trained, tiny_student, files, capsys, monkeypatch):
    test, train = files
    args = ["--data.test_file", test, "--baselines.train_file", train]
    folder = folder_of(trained)
    assert command("test", trained, tiny_student, *args[:2]) == 0
    tested = capsys.readouterr().out
    before, steps = state(folder), []
    step = T5Student.training_step
    monkeypatch.setattr(T5Student, "training_step", lambda *a: steps.append(1) or step(*a))
    assert command("baselines", trained, tiny_student, *args) == 0
    table = capsys.readouterr().out
    assert table.splitlines()[0].split() == ["news_topics,", "30", "test", "rows", "accuracy", "macro_f1"]
    shown = ["student ", "student before training", "student trained on labelled rows", "generator, few-shot"]
    shown += ["generator, few-shot", *2 * ["generator, one demo"], *2 * ["generator, zero-shot"], "always 'Business'"]
    assert [x[:19] for x in table.splitlines()[1:11]] == [x.ljust(19)[:19] for x in shown]
    # Rounds of 16 and 32 rows, 16 a batch.
    assert len(steps) == 3
    # 20 rows are Business by i % 3, and of i = 0, 3, ... 27 those with i % 4 == 2: 6 and 18.
    assert "73.3 %" in line(table, "always") and line(table, "always").split()[2:] == line(tested, "always").split()[2:]
    # The scripted generator finds the first label likeliest: World, for i = 0, 12 and 24.
    assert "10.0 %" in line(table, "generator, few-shot  ")
    assert "10.0 %" in line(table, "generator, few-shot, calibrated")  # which likes all texts alike
    for name in ("student ", "student before training"):
        assert line(table, name).split() == line(tested, name).split()
    # Nobody asks for the energies of a baseline, so they are not taken.
    tested_rows = [{k: v for k, v in row.items() if k != "energy"} for row in read_lines(folder / "predictions.jsonl")]
    assert tested_rows == read_lines(folder / "baselines" / "student.jsonl")
    names = {"majority", "untrained", "zero_shot", "few_shot", "supervised", "student"}
    names |= {"one_shot", "zero_shot_calibrated", "one_shot_calibrated", "few_shot_calibrated"}
    (held,) = read_lines(folder / "baselines" / "results.json")
    assert set(held["results"]) == names and held["rows"] == 30
    assert {p.stem for p in (folder / "baselines").glob("*.jsonl")} == names
    assert state(folder) == before
    # The rows are those of the test before, so all stand in one comparison.
    page = (folder / "report.html").read_text()
    for name in (
        "generator, zero-shot",
        "generator, zero-shot, calibrated",
        "student trained on labelled rows",
        "student before training",
    ):
        assert page.count(f'<th scope="row">{name}</th>') == 1

    def not_again(*_, **__):
        raise AssertionError("paid for twice")

    monkeypatch.setattr(GeneratorAnswers, "predict", not_again)
    monkeypatch.setattr(Trainer, "fit", not_again)
    monkeypatch.setattr(Trainer, "test", not_again)
    assert command("baselines", trained, tiny_student, *args) == 0
    assert capsys.readouterr().out == table
    with pytest.raises(AssertionError, match="paid for twice"):  # another learning rate is another supervised one
        command("baselines", trained, tiny_student, *args, "--model.lr", "2e-3")


def test_rows_are_drawn_once_for_all_and_the_table_says_so(tmp_path, tiny_student, files, capsys):
    args = ["--data.test_file", files[0], "--baselines.rows", "12", "--baselines.only", "[untrained,zero_shot]"]
    assert command("baselines", tmp_path, tiny_student, *args) == 0
    table = capsys.readouterr().out
    assert table.startswith("news_topics, 12 (drawn from 30) test rows")
    assert "the label whose name it finds likeliest; calibrated, after" in table
    folder = folder_of(tmp_path) / "baselines"
    one, two = (read_lines(folder / f"{name}.jsonl") for name in ("untrained", "zero_shot"))
    rows = [r["row"] for r in one]
    assert rows == [r["row"] for r in two] == sorted(rows) and len(set(rows)) == 12 and rows != list(range(12))
    assert [r["target"] for r in one] == [news(30)[i]["topic"] for i in rows]
    assert all(set(r) == {"row", "prediction", "target"} for r in one) and all(
        set(r["log_probs"]) == set(LABELS) for r in two
    )


def test_without_a_trained_student_there_is_no_such_line(tmp_path, tiny_student, files, capsys):
    args = ["--data.test_file", files[0]]
    assert command("baselines", tmp_path, tiny_student, *args, "--baselines.only", "[majority]") == 0
    assert not any(x.startswith("student") for x in capsys.readouterr().out.splitlines())
    assert command("baselines", tmp_path, tiny_student, *args, "--baselines.only", "[student]") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: baselines.only: got ['student'], expected no")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--baselines.only", "[best]"], "only"),
        (["--baselines.rows", "0"], "baselines.rows: got 0"),
        (["--baselines.train_file", "gone.csv"], "baselines.train_file: got 'gone.csv'"),
        (["--trainer.devices", "2"], "trainer.devices: got 2, expected 1"),
        (["--ckpt_path", "gone.ckpt"], "ckpt_path: got 'gone.ckpt', expected last, best, or the path of a checkpoint"),
    ],
)
def test_wrong_settings_are_one_line(args, told, tmp_path, tiny_student, files, capsys):
    assert command("baselines", tmp_path, tiny_student, "--data.test_file", files[0], *args) == 2
    error = capsys.readouterr().err.strip()
    assert told in error.splitlines()[-1] and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_the_subcommand_is_a_documented_method_of_the_trainer(capsys):
    with pytest.raises(SystemExit):
        main(["baselines", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert GoldTrainer.baselines.__doc__.splitlines()[0].rstrip(".") in shown
    for text in ("--baselines.only", "--baselines.rows", "--baselines.train_file", "--ckpt_path"):
        assert text in shown
