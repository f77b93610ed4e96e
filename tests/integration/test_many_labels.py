"""A task whose rows have several labels, from its file to predictions, with a scripted generator."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter

import gold_lightning as gl
import pytest
import yaml
from gold_lightning.cli.main import main
from gold_lightning.errors import ConfigError
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.labelled import load_rows
from gold_lightning.storage.json_lines import read_lines

WORDS = {
    "billing": "invoice refund fee".split(),
    "delivery": "parcel courier box".split(),
    "quality": "broken scratch crack".split(),
}
FILL = "today again please really about with thing still some hello thanks order".split()
TASK = {
    "name": "messages",
    "description": "Messages of customers to a shop.",
    "fields": [{"name": "message", "description": "one message", "min_chars": 10, "max_chars": 200}],
    "target": {"name": "topics", "description": "the subjects of the message"},
    "labels": [{"name": name, "meaning": f"it is about {words[0]}"} for name, words in WORDS.items()],
    "many": {"none": "nothing", "sizes": [1, 2, 2]},
    "demos": [
        {"message": "The invoice shows a fee that I know nothing of.", "topics": ["billing"]},
        {"message": "My parcel is late and its tracking says nothing.", "topics": "delivery"},
        {"message": "There is a scratch and a crack in the lid.", "topics": ["quality"]},
        {"message": "The box came broken, and the courier left it open.", "topics": "quality, delivery"},
        {"message": "Hello, and thanks for all you do.", "topics": []},
    ],
    "student": {"input": "{message}"},
    "metrics": ["accuracy", "micro_f1", "macro_f1"],
}


class MessageWriter(ScriptedGenerator):
    """Writes messages with two words of each wanted label."""

    def __init__(self) -> None:
        super().__init__(self._write)
        self.log_probs = self._says

    def _says(self, request):
        label = request.answer_prefix.rstrip(":")
        fits = sum(word in request.suffix.lower() for word in WORDS[label]) > 1
        return [1.0 + 3.0 * fits - 9, -9.0]  # with a liking for yes

    def _write(self, request):
        rng = random.Random(request.seed or request.suffix)
        if not request.answer_prefix.startswith("topics: "):  # asked for the labels of a row
            text = request.suffix.lower()
            found = [name for name in WORDS if sum(word in text for word in WORDS[name]) > 1]
            return " " + (", ".join(reversed(found)).upper() or "Nothing.")
        labels = request.answer_prefix.splitlines()[0].removeprefix("topics: ")
        return f" {text_of([name for name in WORDS if name in labels], rng)}"


def text_of(labels, rng):
    words = rng.sample(FILL, 5) + [word for name in labels for word in rng.sample(WORDS[name], 2)]
    rng.shuffle(words)
    return " ".join(words)


def test_rows(count):
    rng = random.Random(7)
    for i in range(count):
        labels = [name for name in WORDS if rng.random() < 0.45]
        yield {"message": f"Row {i}: {text_of(labels, rng)}", "topics": rng.sample(labels, len(labels))}


test_rows.__test__ = False


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    task = {**TASK, "test": {"file": "rows.jsonl"}}
    (folder / "messages.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test_rows(60)), encoding="utf-8")
    arguments = [f"--data.task={folder / 'messages.yaml'}", f"--run.root={folder / 'runs'}", "--run.live=false"]
    arguments += [f"--data.generator={__name__}.MessageWriter", "--trainer.accelerator=cpu", "--seed_everything=1"]
    arguments += ["--data.plan.samples_per_round=50", "--data.plan.probe_per_round=20", "--trainer.max_epochs=2"]
    arguments += ["--model.lr=0.002", "--data.passes_per_round=5", "--data.plan.label_agreement=measure"]
    (folder / "arguments.json").write_text(json.dumps(arguments))
    assert main(["fit", *arguments]) == 0
    run = folder / "runs" / "messages" / "default"
    assert main(["test", "--config", str(run / "config.yaml")]) == 0
    return run


def test_samples_have_sets_of_labels_balanced_as_planned(ran):
    rows = read_lines(ran / "data" / "round_000" / "train.jsonl")
    sets = [() if row["target"] == "nothing" else tuple(row["target"].split(", ")) for row in rows]
    assert Counter(map(len, sets)) == {0: 10, 1: 20, 2: 20}
    assert set(Counter(label for labels in sets for label in labels).values()) == {20}
    pairs = Counter(labels for labels in sets if len(labels) == 2)
    assert len(pairs) == 3 and max(pairs.values()) - min(pairs.values()) <= 1
    assert all(list(labels) == [name for name in WORDS if name in labels] for labels in sets)


def test_the_student_learns_sets_and_the_results_say_so(ran):
    results = read_lines(ran / "results.json")[0]
    student, constant = results["results"]["student"], results["results"]["majority"]
    assert set(results["metrics"]) == {"accuracy", "micro_f1", "macro_f1"}
    assert student["accuracy"]["value"] > constant["accuracy"]["value"] + 0.2
    assert student["micro_f1"]["value"] > 0.7 and student["micro_f1"]["interval"][0] > constant["micro_f1"]["value"]
    predictions = read_lines(ran / "predictions.jsonl")
    right = [set(row["prediction"].split(", ")) == set(row["target"].split(", ")) for row in predictions]
    assert sum(right) / len(right) == pytest.approx(student["accuracy"]["value"])


def test_feedback_and_report_know_sets(ran):
    rounds = read_lines(ran / "rounds.jsonl")
    assert all(row["fed_back"] for row in rounds) and rounds[1]["feedback_prompts"] > 0
    page = (ran / "report.html").read_text(encoding="utf-8")
    assert "Training samples by number of labels" in page and "taken within each label" not in page


def test_the_folder_predicts_sets_with_probabilities_and_energies_by_label(ran):
    student = gl.load(ran / "student")
    first, none = student.predict(["parcel courier still refund fee today", "hello again thanks really"])
    assert first.labels == ("billing", "delivery") and first == "billing, delivery" and first.label is None
    assert none.labels == () and none == "nothing" and none.energies == {}
    assert set(first.energies) == set(first.labels) and set(first.probabilities) == set(WORDS)
    assert all(first.probabilities[name] >= first.probability - 1e-6 for name in first.labels)
    assert first.to_dict()["labels"] == ["billing", "delivery"] and first.known is True  # by fit's calibration
    assert gl.evaluate(student, ran.parent.parent.parent / "rows.jsonl")["accuracy"] > 0.5


def test_predict_writes_lists_to_json_lines_and_text_to_csv(ran, tmp_path, capsys):
    texts = ["parcel courier still refund fee today", "courier box again about today", "hello thanks some order"]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["message"], *([text] for text in texts)])
    student = str(ran / "student")
    out = [str(tmp_path / name) for name in ("out.jsonl", "out.csv")]
    assert main(["predict", student, str(tmp_path / "in.csv"), "--out", out[0], "--probabilities"]) == 0
    assert main(["predict", student, str(tmp_path / "in.csv"), "--out", out[1]]) == 0
    # How well the student has learnt the second text differs from processor to processor.
    answers = gl.load(student).predict(texts)
    assert answers[0].labels == ("billing", "delivery") and answers[2].labels == ()
    rows = read_lines(tmp_path / "out.jsonl")
    assert [row["prediction"] for row in rows] == [list(answer.labels) for answer in answers]
    assert all(set(row["probabilities"]) == set(WORDS) for row in rows)
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == [str(answer) for answer in answers]


def test_baselines_ask_the_generator_for_sets(ran):
    arguments = json.loads((ran.parent.parent.parent / "arguments.json").read_text())
    assert main(["baselines", *arguments, "--baselines.only=[majority,zero_shot,few_shot]"]) == 0
    results = read_lines(ran / "baselines" / "results.json")[0]["results"]
    assert set(results) == {"majority", "zero_shot", "few_shot"}
    assert results["few_shot"]["accuracy"]["value"] == 1.0


def test_the_same_command_changes_nothing(ran):
    before = (ran / "rounds.jsonl").read_bytes()
    assert main(["fit", "--config", str(ran / "config.yaml")]) == 0
    assert (ran / "rounds.jsonl").read_bytes() == before


def test_a_calibration_says_which_sets_are_known(ran):
    student, rows = gl.load(ran / "student"), ran.parent.parent.parent / "rows.jsonl"
    samples = load_rows(student.task, rows)
    calibration = student.calibrate(samples, level=0.5, score="probability")
    assert calibration["temperature"] == 1.0 and calibration["threshold"] is not None
    predictions = student.predict([row.fields["message"] for row in samples])
    threshold = calibration["threshold"] - 1e-6  # it is a row's own probability
    assert [p.known for p in predictions] == [p.probability >= threshold for p in predictions]
    with pytest.raises(ConfigError) as caught:
        student.calibrate(samples, promise="conformal")
    assert caught.value.key == "promise"


def test_an_export_is_refused(ran, tmp_path, capsys):
    assert main(["export", str(ran / "student"), "--to", "onnx", "--out", str(tmp_path / "out")]) != 0
    assert "several labels" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_generator_agrees_with_its_own_labels(ran):
    rows = read_lines(ran / "data" / "round_000" / "train.jsonl")
    assert all(row["agrees"] and row["favours"] == row["target"] for row in rows)
    assert all(set(row["label_log_probs"]) == set(WORDS) for row in rows)


def test_cards_say_that_there_may_be_several_labels(ran):
    card = (ran / "student" / "README.md").read_text(encoding="utf-8")
    assert "any number of `billing`, `delivery`, `quality`" in card and "Every input gets one of the labels" not in card
