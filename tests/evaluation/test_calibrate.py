"""Calibration of a student in its folder, from Python and by the command."""

import json
import shutil

import gold_lightning as gl
import pytest
from gold_lightning.cli.main import main
from gold_lightning.errors import ConfigError
from gold_lightning.t5.folder import load_calibration
from gold_lightning.t5.inference import SavedStudent

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(saved_student, tmp_path):
    """A copy of its own, since tests write to it."""
    return shutil.copytree(saved_student, tmp_path / "student")


@pytest.fixture
def rows(folder):
    """Rows of which the student knows all but every tenth."""
    student = SavedStudent(folder)
    texts = [f"text number {i}" for i in range(200)]
    names, field = student.task.label_names, student.task.fields[0].name
    labels = [str(p) for p in student.predict(texts)]
    for i in range(0, 200, 10):
        labels[i] = names[(names.index(labels[i]) + 1) % len(names)]
    return [gl.Sample({field: text}, label) for text, label in zip(texts, labels, strict=True)]


def test_the_folder_carries_the_calibration_that_python_returns(folder, rows):
    before = SavedStudent(folder).predict([s.fields for s in rows])
    calibration = gl.calibrate(folder, rows, level=0.7)
    assert calibration == load_calibration(folder) and calibration["rows"] == 200 and calibration["source"] == "rows"
    assert calibration["accuracy"] == pytest.approx(0.9, abs=0.05) and calibration["temperature"] != 1
    student = gl.load(folder)
    after = student.predict([s.fields for s in rows])
    assert after == before and [p.energy for p in after] == [p.energy for p in before]
    assert [p.known for p in after] == [p.energy <= calibration["threshold"] for p in after]
    # Calibrated anew, the first calibration has no part in it.
    anew = student.calibrate(rows, level=0.7)
    assert anew == student.calibration and anew["threshold"] == pytest.approx(calibration["threshold"])
    assert anew["temperature"] == pytest.approx(calibration["temperature"])


def test_sets_of_labels(folder, rows):
    assert gl.calibrate(folder, rows, "conformal", 0.9)["promise"] == "conformal"
    predictions = SavedStudent(folder).predict([s.fields for s in rows])
    assert all(p in p.label_set and p.known is (len(p.label_set) == 1) for p in predictions)
    covered = sum(s.target in p.label_set for s, p in zip(rows, predictions, strict=True))
    assert covered / 200 == pytest.approx(0.9, abs=0.07)


def test_the_command_says_what_it_promises(folder, rows, tmp_path, capsys):
    student = SavedStudent(folder)
    name, target = student.task.fields[0].name, student.task.target.name
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({name: s.fields[name], target: s.target}) + "\n" for s in rows))
    assert main(["calibrate", str(folder), str(file), "--level", "0.7"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Promised: of the answers given, at least 70 % are right, with 90 % confidence")
    assert "expected calibration error" in said and load_calibration(folder)["level"] == 0.7
    assert main(["calibrate", str(folder), str(file), "--level", "0.999"]) == 0
    assert capsys.readouterr().out.startswith("Not promised: ") and load_calibration(folder)["threshold"] is None
    assert SavedStudent(folder).predict("x").known is None


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["--level", "1"], "level"), (["--score", "loss"], "score"),
        (["--promise", "conformal", "--score", "energy"], "score"),
        (["--batch_size", "0"], "--batch_size"), (["--device", "abacus"], "--device"),
    ],
)  # fmt: skip
def test_wrong_arguments_change_nothing(folder, tmp_path, capsys, arguments, key):
    file = tmp_path / "rows.jsonl"
    file.write_text("{}\n")
    assert main(["calibrate", str(folder), str(file), *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {key}: ")
    assert main(["calibrate", str(tmp_path / "none"), str(file)]) == 2
    assert load_calibration(folder) is None


def test_texts_are_right_by_the_first_metric(folder, rows):
    student = SavedStudent(folder)
    student.constrained_decoding = False
    calibration = student.calibrate(rows[:50], level=0.7, score="probability")
    assert calibration["temperature"] == 1 and calibration["ece"][1] is None
    with pytest.raises(ConfigError) as refused:
        student.calibrate(rows[:50], "conformal")
    assert refused.value.key == "promise"
