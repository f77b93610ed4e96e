"""``Trainer.predict``: the rows in order and once each, on one process and on two."""

import json

import pytest
from gold_lightning.student import T5Student
from gold_lightning.t5.inference import SavedStudent

SCRIPT = """
import json, sys
from lightning.pytorch import Trainer
import gold_lightning as gl
from gold_lightning.evaluation.predictions import collect_predictions
from gold_lightning.t5.batches import make_loader

folder, devices, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
student = gl.load(folder)
rows = [gl.Sample({"text": "ab " * (i % 5) + str(i)}, "") for i in range(count)]
trainer = Trainer(
    accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", logger=False,
    enable_progress_bar=False, enable_model_summary=False,
)
outputs = trainer.predict(student, make_loader(student.task, student.tokenizer, rows, 4))
predictions = collect_predictions(trainer, outputs)
if trainer.is_global_zero:
    with open(folder + ".json", "w") as file:
        json.dump([p.to_dict() for p in predictions], file)
trainer.strategy.barrier()  # no process ends while another still needs the connection
"""


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_row_is_predicted_once_in_order(devices, places, tmp_path, forks):
    student = T5Student(task=places[0], student=places[1])
    student.export(tmp_path / "student", {f"model.{name}": w for name, w in student.model.state_dict().items()})
    (tmp_path / "predict.py").write_text(SCRIPT)
    arguments = [str(tmp_path / "student"), str(devices), "11"]
    finished = forks.run(arguments, script=tmp_path / "predict.py", processes=devices)
    assert finished.statuses == [0] * devices, finished.stderr[-2000:]
    collected = json.loads((tmp_path / "student.json").read_text())
    expected = SavedStudent(tmp_path / "student").predict(["ab " * (i % 5) + str(i) for i in range(11)])
    assert [row["label"] for row in collected] == expected
    assert [row["energy"] for row in collected] == pytest.approx([p.energy for p in expected], abs=1e-4)
