"""Exported folders: the same answers as the student's, without torch; what does not fit leaves nothing behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gold_lightning as gl
import pytest
from gold_lightning.cli.main import main
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.exporting import exporter, measure, parity
from gold_lightning.t5.folder import write_calibration
from gold_lightning.t5.inference import SavedStudent

from tests.exporting.students import LABELS, TEXTS, task_file, write_rows, write_student

pytestmark = pytest.mark.integration

WITHOUT_TORCH = """
import runpy, sys
class Blocker:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "transformers", "gold_lightning", "lightning", "scipy", "onnx"):
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Blocker())
path = sys.argv.pop(1)
sys.path[0] = path.rpartition("/")[0]
sys.argv[0] = path
runpy.run_path(path, run_name="__main__")
"""


def predict(folder, *arguments, stdin=""):
    """Runs predict.py of an export where torch cannot be imported; returns its lines, notices and status.

    Nothing compiled is written: the folder may be that of all tests.
    """
    command = [sys.executable, "-B", "-c", WITHOUT_TORCH, str(folder / "predict.py"), *map(str, arguments)]
    process = subprocess.run(command, input=stdin, capture_output=True, text=True, encoding="utf-8", check=False)
    return [json.loads(line) for line in process.stdout.splitlines()], process.stderr, process.returncode


def close(prediction, expected, tolerance=1e-4):
    numbers = ("probability", "energy", "probabilities")
    return all(prediction[key] == value for key, value in expected.items() if key not in numbers) and all(
        prediction[key] == pytest.approx(expected[key], abs=tolerance) for key in numbers if key in expected
    )


@pytest.fixture(scope="module", autouse=True)
def forked_measurements(forks):
    """Students and exports are measured in processes that need not import torch, but those whose memory is compared."""

    def run(command, **options):
        if command[3] != "torch" and "exports" in command[4]:
            return subprocess.run(command, **options)
        measured = forks.run(command[3:], script=Path(measure.__file__))
        return subprocess.CompletedProcess(command, measured.statuses[0], measured.stdout, measured.stderr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "subprocess", SimpleNamespace(run=run))
        yield


@pytest.fixture(scope="module")
def students(tmp_path_factory, tiny_student):
    root = tmp_path_factory.mktemp("students")
    write_student(root / "labels", tiny_student, task_file(root / "labels.yaml"))
    write_student(root / "texts", tiny_student, task_file(root / "texts.yaml", labels=()))
    write_student(root / "pairs", tiny_student, task_file(root / "pairs.yaml", fields=("text", "other")))
    return root


@pytest.fixture(scope="module")
def labels_export(students, tmp_path_factory):
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    out = tmp_path_factory.mktemp("exports")
    rows = write_rows(out / "rows.jsonl", [{"text": text or " "} for text in TEXTS])
    return gl.export(students / "labels", "onnx", out / "onnx", rows=rows, threads=1)


def test_an_onnx_folder_answers_as_the_student_without_torch(students, labels_export):
    expected = [prediction.to_dict() for prediction in SavedStudent(students / "labels").predict(TEXTS)]
    predictions, notices, status = predict(labels_export.folder, "--threads", 1, "--batch_size", 2, *TEXTS)
    assert status == 0, notices
    assert len(predictions) == len(TEXTS)
    for prediction, wanted in zip(predictions, expected, strict=True):
        assert set(prediction) == set(wanted) and close(prediction, wanted), (prediction, wanted)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("kind", ["labels", "texts"])
def test_special_tokens_in_a_text_are_read_as_the_student_reads_them(students, tmp_path, kind, split):
    target = {"labels": "onnx", "texts": "ctranslate2"}[kind]
    pytest.importorskip({"onnx": "onnxruntime"}.get(target, target), reason="the extra export is not installed")
    student = shutil.copytree(students / kind, tmp_path / "student")
    config = json.loads((student / "tokenizer_config.json").read_text())
    (student / "tokenizer_config.json").write_text(json.dumps(config | {"split_special_tokens": split}))
    special = ["</s> mid <pad> text", "a</s>", "<pad>"]
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in [*special, *TEXTS[:2]]])
    folder = gl.export(student, target, tmp_path / "out", rows=rows, threads=1, tolerance=1.0).folder
    predictions, notices, status = predict(folder, "--threads", 1, *special)
    assert status == 0, notices
    for prediction, wanted in zip(predictions, SavedStudent(student).predict(special), strict=True):
        assert close(prediction, wanted.to_dict(), tolerance=2e-3), (prediction, wanted.to_dict())


def test_it_reads_lines_json_lines_and_standard_input(labels_export, tmp_path):
    folder = labels_export.folder
    (expected, *_), _, _ = predict(folder, "été")
    (tmp_path / "lines.txt").write_text("été\n\n", encoding="utf-8")
    assert predict(folder, "--file", tmp_path / "lines.txt")[0] == [expected]
    lines = '{"text": "été", "more": 1}\n[]\n{"text": 3}\n{"text": \n{"text": "été"}\n'
    predictions, notices, status = predict(folder, "--file", "-", stdin=lines)
    assert (predictions[0], predictions[-1]) == (expected, expected)
    assert ["error" in prediction for prediction in predictions] == [False, True, True, True, False]
    assert [line.split(":")[0] for line in notices.splitlines()] == ["row 2", "row 3", "row 4"] and status == 3


@pytest.mark.parametrize("promise", ["selective", "conformal"])
def test_the_folder_keeps_the_promise_of_its_task_file(students, labels_export, tmp_path, promise):
    folder = shutil.copytree(students / "labels", tmp_path / "student")
    energies = sorted(p.energy for p in SavedStudent(folder).predict(TEXTS))
    threshold = (energies[2] + energies[3]) / 2 if promise == "selective" else 0.2
    write_calibration(folder, {"temperature": 2.5, "score": "energy", "threshold": threshold, "promise": promise,
                               "level": 0.9, "confidence": 0.9, "source": "rows", "rows": 50})  # fmt: skip
    expected = [prediction.to_dict() for prediction in SavedStudent(folder).predict(TEXTS)]
    export = shutil.copytree(labels_export.folder, tmp_path / "export")
    shutil.copyfile(folder / "gold_task.json", export / "gold_task.json")
    predictions, notices, _ = predict(export, *TEXTS)
    assert len(predictions) == len(TEXTS), notices
    assert all(close(*pair) for pair in zip(predictions, expected, strict=True))
    assert ("label_set" in predictions[0]) == (promise == "conformal")
    if promise == "selective":
        assert [p["known"] for p in predictions].count(True) == 3


def test_several_fields(students, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    export = gl.export(students / "pairs", "onnx", tmp_path / "out", quantize="int8", threads=1, tolerance=1)
    rows = [{"text": "a", "other": "b"}, {"text": "c {x}", "other": "\\ d"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    predictions, notices, _ = predict(export.folder, "--file", "-", stdin=lines)
    assert [p["label"] in LABELS for p in predictions] == [True, True], notices
    assert predict(export.folder, "a")[2] == 2


def test_a_ctranslate2_folder_writes_the_students_texts_without_torch(tmp_path, tiny_student):
    pytest.importorskip("ctranslate2", reason="the extra export is not installed")
    task = task_file(tmp_path / "texts.yaml", labels=(), student={
        "input": "toy: {text}", "target": "So: {answer}.", "max_input_tokens": 64, "max_target_tokens": 8})  # fmt: skip
    folder = write_student(tmp_path / "student", tiny_student, task)
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": text or " "} for text in TEXTS])
    export = gl.export(folder, "ctranslate2", tmp_path / "out", rows=rows, threads=1)
    assert export.parity.equal == len(TEXTS)
    expected = [prediction.to_dict() for prediction in SavedStudent(folder).predict(TEXTS)]
    predictions, notices, status = predict(export.folder, *TEXTS)
    assert status == 0, notices
    for prediction, wanted in zip(predictions, expected, strict=True):
        assert set(prediction) == set(wanted) and close(prediction, wanted, 1e-2), (prediction, wanted)


def test_the_table_and_the_folder_say_the_same(labels_export):
    parity = labels_export.parity
    assert (parity.rows, parity.equal, parity.student.score) == (len(TEXTS), len(TEXTS), None)
    assert 0 < parity.log_prob_difference < 1e-3 and 0 < parity.energy_difference < 1e-3
    assert 0 < parity.export.peak_mb < parity.student.peak_mb  # no torch
    facts = json.loads((labels_export.folder / "export.json").read_text())
    assert facts["parity"]["equal"] == len(TEXTS) and facts["precision"] == "float32"
    size = sum(path.stat().st_size for path in labels_export.folder.iterdir()) / 1e6
    assert parity.export.megabytes == pytest.approx(size, rel=0.02)
    assert all(path.is_file() for path in labels_export.folder.iterdir())  # and no compiled modules
    lines = str(labels_export).splitlines()
    assert lines[-1].endswith(str(labels_export.folder)) and any(line.startswith("rows a second") for line in lines)


@pytest.mark.slow
def test_answers_that_differ_leave_nothing(students, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    from gold_lightning.exporting import label_graph

    monkeypatch.setattr(label_graph._LabelGraph, "activation", lambda self, values: values)
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": text, "answer": "A"} for text in TEXTS if text])
    arguments = ["export", str(students / "labels"), "--to", "onnx", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--rows", str(rows), "--threads", "1"]) == 1
    out, err = capsys.readouterr()
    assert "accuracy" in out and err.splitlines()[-1].startswith("error: export: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]
    assert main([*arguments, "--rows", str(rows), "--threads", "1", "--tolerance", "1"]) == 0
    assert (tmp_path / "out" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"to": "tflite"}, "--to"),
        ({"to": "ctranslate2"}, "--to"),
        ({"quantize": "int4"}, "--quantize"),
        ({"tolerance": 2}, "--tolerance"),
        ({"rows": "missing.jsonl"}, "--rows"),
        ({"out": "missing/out"}, "--out"),
        ({"out": ""}, "--out"),
    ],
)
def test_wrong_settings_are_refused_by_key(students, tmp_path, settings, key):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    settings = {"to": "onnx", "out": "out", **settings}
    out = tmp_path / settings.pop("out") if settings["out"] else tmp_path / "full"
    settings.pop("out", None)
    with pytest.raises(ConfigError) as error:
        gl.export(students / "labels", settings.pop("to"), out, **settings)
    assert error.value.key == key
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_package_that_is_missing_is_named_with_its_extra(students, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GoldError, match=r"gold-lightning\[export\]"):
        gl.export(students / "labels", "onnx", tmp_path / "out")


def test_students_that_cannot_be_exported_are_refused(tiny_student, tmp_path):
    task = task_file(tmp_path / "texts.yaml", labels=())
    folder = write_student(tmp_path / "beams", tiny_student, task, num_beams=3)
    with pytest.raises(GoldError, match="num_beams"):
        gl.export(folder, "ctranslate2", tmp_path / "out")
    task = task_file(tmp_path / "labels.yaml")
    folder = write_student(tmp_path / "free", tiny_student, task, constrained_decoding=False)
    with pytest.raises(GoldError, match="constrained_decoding"):
        gl.export(folder, "onnx", tmp_path / "out")


def test_rows_of_a_shipped_task_are_its_test_rows(students):
    task = gl.Task.load("news_topics")
    samples, description, labelled = exporter._rows(task, None)
    assert len(samples) == 240 and labelled and "news_topics" in description
    demos, _, _ = exporter._rows(SavedStudent(students / "labels").task, None)
    assert [demo.target for demo in demos] == list(LABELS)
