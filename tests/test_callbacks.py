"""The small callbacks, apart from a run."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from gold_lightning.callbacks import OODFeedback
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import NotFiniteError
from gold_lightning.evaluation.predictions import TestPredictions
from gold_lightning.scores import EnergyScore, EntropyScore, auroc
from gold_lightning.student import T5Student


@pytest.mark.parametrize("world_size", [1, 2])
def test_predictions_of_all_processes_come_once_and_in_order(world_size, tmp_path, tiny_student, monkeypatch):
    file = tmp_path / "test.csv"
    file.write_text("text,topic\na,World\nb,Sports\nc,World\n")
    data = GoldDataModule(student=tiny_student, test_file=str(file))
    # A distributed sampler gives every other row to each process, and the first one again where rows run out.
    own, other = [(0, -1.0, "World"), (2, -2.00004, "Sports")], [(1, -3.0, "World"), (0, -1.0, "World")]

    def gather(parts, mine):
        assert mine == own
        parts[:] = [own, other]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    callback = TestPredictions()
    callback._predictions = own
    callback.on_test_end(SimpleNamespace(world_size=world_size, datamodule=data), None)
    rows = [
        {"row": 0, "prediction": "World", "target": "World", "energy": -1.0},
        {"row": 1, "prediction": "World", "target": "Sports", "energy": -3.0},
        {"row": 2, "prediction": "Sports", "target": "World", "energy": -2.0},
    ]
    assert callback.rows == (rows if world_size == 2 else rows[::2])


def test_auroc_is_the_share_of_pairs_in_order_and_ties_count_half():
    assert auroc(low=[-3.0, -2.0], high=[-2.0, -1.0]) == pytest.approx(3.5 / 4)
    assert auroc(low=[-2.0, -1.0], high=[-3.0, -2.0]) == pytest.approx(0.5 / 4)
    assert auroc(low=[-14.0, -13.0], high=[-12.0, -11.0]) == 1.0  # far outside [0, 1], where scores saturate


@pytest.mark.parametrize(
    ("callbacks", "energies", "kind"),
    [([OODFeedback(score=EntropyScore())], True, EntropyScore), ([], True, EnergyScore), ([], False, None)],
)
def test_a_test_row_is_decoded_once_and_scored_as_the_run_scores(callbacks, energies, kind):
    student = Mock(spec=T5Student)
    trainer, callback = SimpleNamespace(callbacks=callbacks), TestPredictions(energies)
    callback.on_test_start(trainer, student)
    assert type(student.test_score) is (type(None) if kind is None else kind)  # the score that test_step returns
    outputs = {"predictions": ["a", "b"], "energies": torch.tensor([-1.0, -2.0]) if energies else None}
    callback.on_test_batch_end(trainer, student, outputs, {"id": torch.tensor([4, 5])}, 0)
    assert not student.write.called and not student.score.called
    scores = [-1.0, -2.0] if energies else [None, None]
    assert callback._predictions == [(4, scores[0], "a"), (5, scores[1], "b")]


def test_energies_of_test_rows_that_are_not_finite_are_an_error():
    student, callback = Mock(spec=T5Student), TestPredictions()
    student.not_finite.return_value = NotFiniteError("test: x")
    callback._predictions = [(0, float("nan"), "a")]
    with pytest.raises(NotFiniteError):
        callback.on_test_end(SimpleNamespace(world_size=1, datamodule=None), student)
