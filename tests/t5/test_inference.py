"""Predictions: probabilities and energies as defined, in the order of any number of inputs."""

import json
import pickle
import shutil
import subprocess
import sys
import tracemalloc

import gold_lightning as gl
import pytest
import torch
from gold_lightning.errors import GoldError
from gold_lightning.losses import IGNORE_INDEX as IGNORED_BY_LOSSES
from gold_lightning.student import T5Student
from gold_lightning.t5 import inference
from gold_lightning.t5.batches import IGNORE_INDEX
from gold_lightning.t5.folder import write_calibration
from gold_lightning.t5.inference import SavedStudent
from gold_lightning.t5.prediction import Prediction

pytestmark = pytest.mark.integration

TEXTS = ["x", "a text that is a good deal longer than others", "", "middling text", "y"]


@pytest.fixture
def folder(saved_student, tmp_path):
    """A copy of its own, since tests write to it."""
    return shutil.copytree(saved_student, tmp_path / "student")


@pytest.fixture
def student(folder):
    return SavedStudent(folder)


def test_a_saved_student_predicts_as_the_trained_one(student, places, folder):
    trained = T5Student(task=places[0], student=places[1])
    assert student.predict(TEXTS) == trained.predict(TEXTS)
    assert [p.energy for p in student.predict(TEXTS)] == [p.energy for p in trained.predict(TEXTS)]
    by_task = SavedStudent(folder, task=places[0])
    (folder / "gold_task.json").unlink()
    assert by_task.predict(TEXTS) == SavedStudent(folder, task=places[0]).predict(TEXTS)
    with pytest.raises(GoldError, match=r"gold_task\.json"):
        SavedStudent(folder)


def test_probabilities_are_shares_of_the_labels(student):
    for text, prediction in zip(TEXTS, student.predict(TEXTS), strict=True):
        inputs = student.tokenizer(f"toy: {text}", return_tensors="pt")
        targets = [student.tokenizer(f" {name}").input_ids for name in student.task.label_names]
        log_probs = []
        for name, tokens in zip(student.task.label_names, targets, strict=True):
            target = torch.tensor([tokens])
            with torch.no_grad():
                logits = student.forward_logits(inputs, target)
            total = 0.0
            for i, token in enumerate(tokens):
                allowed = sorted({other[i] for other in targets if other[:i] == tokens[:i]})
                total += float(logits[0, i, allowed].log_softmax(-1)[allowed.index(token)])
            log_probs.append(total)
            if name == prediction:
                assert prediction.energy == pytest.approx(float(-logits.logsumexp(-1).mean()), abs=1e-4)
        shares = torch.tensor(log_probs).exp().tolist()
        assert sum(shares) == pytest.approx(1)
        assert list(prediction.probabilities.values()) == pytest.approx(shares, abs=1e-5)
        assert list(prediction.probabilities) == list(student.task.label_names)
        assert (
            prediction.probability == prediction.probabilities[prediction.label] == pytest.approx(max(shares), abs=1e-5)
        )


def test_a_generated_text_has_its_own_probability(student):
    student.constrained_decoding = False
    prediction = student.predict("x")
    assert prediction.label is None and prediction.probabilities == {}
    inputs = student.tokenizer("toy: x", return_tensors="pt")
    tokens = student.write(inputs)
    with torch.no_grad():
        logits = student.forward_logits(inputs, tokens)
    written = logits.log_softmax(-1).gather(-1, tokens[..., None]).sum()
    assert prediction.probability == pytest.approx(float(written.exp()), rel=1e-4)
    assert set(prediction.to_dict()) == {"text", "probability", "energy", "known"}


def test_predictions_keep_the_order_of_any_number_of_inputs(student, monkeypatch):
    monkeypatch.setattr(inference, "_WINDOW", 2)
    texts = [("ab " * (i % 7)) + str(i) for i in range(23)]
    alone = [student.predict(text) for text in texts]
    for size in (1, 2, 3, 50):
        many = student.predict(texts, batch_size=size)
        assert many == alone
        assert [p.energy for p in many] == pytest.approx([p.energy for p in alone], abs=1e-4)
    assert student.predict([]) == [] and student.predict(tuple(texts)) == alone
    assert student.predict([{"text": text, "more": 1} for text in texts]) == alone


def test_an_iterator_gives_an_iterator_that_reads_no_further_than_it_must(student, monkeypatch):
    monkeypatch.setattr(inference, "_WINDOW", 2)
    read = []
    predictions = student.predict((read.append(i) or str(i) for i in range(100)), batch_size=3)
    assert read == []
    assert next(predictions) == student.predict("0") and len(read) == 6
    assert len(list(predictions)) == 99


def test_a_hundred_thousand_rows_take_the_memory_of_a_few(student, monkeypatch):
    monkeypatch.setattr(student, "predict_batch", lambda batch: [
        Prediction("A", ("A", "B"), (0.5, 0.5), probability=0.5, energy=-1.0)
    ] * len(batch["input_ids"]), raising=False)  # fmt: skip
    monkeypatch.setattr(
        inference, "encode_inputs", lambda samples, *_: {"input_ids": torch.zeros(len(samples), 1, dtype=torch.long)}
    )
    tracemalloc.start()
    count = sum(1 for _ in student.predict(f"a text of some length, number {i}" for i in range(100_000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000 and peak < 8 * 2**20  # the texts alone have 10 MiB


def test_a_prediction_is_a_string_and_plain_data():
    prediction = Prediction("B b", ("A", "B b"), torch.tensor([0.25, 0.75]).numpy(), probability=0.75, energy=-3.5)
    assert prediction == "B b" and prediction.text == "B b" and {"B b": 1}[prediction] == 1
    assert json.dumps(prediction) == '"B b"'
    assert json.loads(json.dumps(prediction.to_dict())) == {
        "label": "B b", "probability": 0.75, "energy": -3.5, "known": None,
        "probabilities": {"A": 0.25, "B b": 0.75},
    }  # fmt: skip
    judged = Prediction("A", ("A", "B"), (0.6, 0.4), probability=0.6, energy=-3.5, known=False, label_set=("A", "B"))
    assert judged.to_dict()["known"] is False and judged.to_dict()["label_set"] == ["A", "B"]
    for original in (prediction, judged):
        assert pickle.loads(pickle.dumps(original)).to_dict() == original.to_dict()


CALIBRATION = {
    "temperature": 3.0, "score": "energy", "threshold": 0.0, "promise": "selective", "level": 0.9, "confidence": 0.9,
    "source": "rows", "rows": 100,
}  # fmt: skip


def test_a_calibrated_student_says_whether_it_knows(student, folder):
    plain = student.predict(TEXTS)
    assert {p.known for p in plain} == {None} and {p.label_set for p in plain} == {None}
    threshold = sorted(p.energy for p in plain)[2]
    write_calibration(folder, CALIBRATION | {"threshold": threshold})
    calibrated = SavedStudent(folder).predict(TEXTS)
    assert calibrated == plain and [p.energy for p in calibrated] == [p.energy for p in plain]
    assert [p.known for p in calibrated] == [p.energy <= threshold for p in plain]
    assert all(0.5 < new.probability < old.probability for new, old in zip(calibrated, plain, strict=True))
    assert gl.load(folder).predict(TEXTS)[0].to_dict() == calibrated[0].to_dict()
    sets = {"score": "probability", "promise": "conformal", "threshold": 1e-9}
    write_calibration(folder, CALIBRATION | sets)
    assert SavedStudent(folder).predict("x").label_set == list(student.task.label_names)
    assert SavedStudent(folder).predict("x").known is False
    write_calibration(folder, None)
    assert SavedStudent(folder).predict("x").to_dict() == student.predict("x").to_dict()


def test_generated_texts_are_known_by_energy_or_by_probability(student):
    student.constrained_decoding = False
    plain = student.predict(TEXTS)
    for score, sign in (("energy", -1), ("probability", 1)):
        values = [sign * getattr(p, score) for p in plain]
        student.calibration = CALIBRATION | {"score": score, "threshold": sign * sorted(values)[2], "temperature": 1.0}
        assert [p.known for p in student.predict(TEXTS)] == [value >= sorted(values)[2] for value in values]


def test_a_task_of_ones_own_is_not_calibrated_by_the_folder(folder, places):
    write_calibration(folder, CALIBRATION)
    assert SavedStudent(folder, task=places[0]).calibration is None
    assert gl.load(folder, task=places[0]).calibration is None and gl.load(folder).calibration == CALIBRATION


def test_a_damaged_calibration_is_reported(folder):
    write_calibration(folder, CALIBRATION | {"temperature": -1.0})
    with pytest.raises(GoldError, match=r"gold_task\.json: damaged .*calibration\.temperature"):
        SavedStudent(folder)


def test_padding_is_what_losses_ignore():
    assert IGNORE_INDEX == IGNORED_BY_LOSSES


def test_predicting_needs_no_lightning(folder):
    code = (
        "import sys; from gold_lightning.t5.inference import SavedStudent; "
        f"SavedStudent({str(folder)!r}).predict('x'); "
        "print([m for m in ('lightning', 'torchmetrics', 'wandb', 'datasets', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_prediction_of_several_labels_survives_pickling_and_writes_plain_values():
    prediction = Prediction(
        "a, c", ["a", "b", "c"], [0.9, 0.1, 0.8], probability=0.7, energy=-9.0, chosen=["a", "c"], energies=[-9.5, -8.5]
    )
    copy = pickle.loads(pickle.dumps(prediction))
    assert copy == "a, c" and copy.is_set and copy.label is None and copy.labels == ("a", "c")
    assert copy.to_dict() == {
        "labels": ["a", "c"], "probability": 0.7, "energy": -9.0, "known": None,
        "probabilities": {"a": 0.9, "b": 0.1, "c": 0.8}, "energies": {"a": -9.5, "c": -8.5},
    }  # fmt: skip
    single = Prediction("a", ["a", "b"], [0.9, 0.1], probability=0.9, energy=-9.0)
    assert single.labels == ("a",) and not single.is_set and single.energies == {}
