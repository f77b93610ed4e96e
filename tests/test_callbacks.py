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
    student.score.return_value = torch.tensor([-1.0, -2.0])
    trainer, callback = SimpleNamespace(callbacks=callbacks), TestPredictions(energies)
    callback.on_test_start(trainer, student)
    batch, tokens = {"id": torch.tensor([4, 5])}, torch.zeros(2, 3)
    callback.on_test_batch_end(trainer, student, {"tokens": tokens, "predictions": ["a", "b"]}, batch, 0)
    assert not student.write.called
    if kind is None:
        assert not student.score.called and callback._predictions == [(4, None, "a"), (5, None, "b")]
    else:
        (_, score), how = student.score.call_args
        assert type(score) is kind and how["tokens"] is tokens
        assert callback._predictions == [(4, -1.0, "a"), (5, -2.0, "b")]


def test_energies_of_test_rows_that_are_not_finite_are_an_error():
    student, callback = Mock(spec=T5Student), TestPredictions()
    student.not_finite.return_value = NotFiniteError("test: x")
    callback._predictions = [(0, float("nan"), "a")]
    with pytest.raises(NotFiniteError):
        callback.on_test_end(SimpleNamespace(world_size=1, datamodule=None), student)
