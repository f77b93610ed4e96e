"""Checkpoints: which are kept, and that whatever breaks a save off, the old file is whole."""

import doctest
import errno
import os

import pytest
import torch
from gold_lightning.checkpoints import best as best_module
from gold_lightning.checkpoints.best import BestCheckpoint, WholeCheckpointIO, save_whole
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from tests.fakes import other_file_system

OLD, NEW = {"round": 1, "weight": torch.ones(3)}, {"round": 2, "weight": torch.zeros(3)}


def held(path):
    return torch.load(path, weights_only=True)["round"]


def tears(real):
    """``torch.save`` that gets as far as the middle of the file."""

    def save(value, file):
        real(value, file)
        file.truncate(file.tell() // 2)
        raise KeyboardInterrupt

    return save


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("broken", ["save", "fsync", "replace"])
def test_a_save_that_breaks_off_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, broken):
    path = tmp_path / "checkpoints" / "last.ckpt"
    io = WholeCheckpointIO()
    io.save_checkpoint(OLD, path)
    with monkeypatch.context() as patch:
        if broken == "save":
            patch.setattr(torch, "save", tears(torch.save))
        else:
            patch.setattr(os, broken, full)
        with pytest.raises((KeyboardInterrupt, OSError)):
            io.save_checkpoint(NEW, path)
    assert held(path) == 1
    assert list(path.parent.iterdir()) == [path]
    io.save_checkpoint(NEW, str(path))
    assert io.load_checkpoint(path, weights_only=True)["round"] == 2
    assert list(path.parent.iterdir()) == [path]


def test_what_a_kill_left_is_written_over(tmp_path):
    path = tmp_path / "last.ckpt"
    (tmp_path / "last.ckpt.part").write_bytes(b"torn")
    WholeCheckpointIO().save_checkpoint(NEW, path)
    assert held(path) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_saving_does_not_go_through_another_file_system(tmp_path, monkeypatch):
    other_file_system(monkeypatch)
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint(OLD, path)
    WholeCheckpointIO().save_checkpoint(NEW, path)
    assert held(path) == 2


def test_storage_options_are_refused_as_by_lightning(tmp_path):
    with pytest.raises(TypeError, match="storage_options"):
        WholeCheckpointIO().save_checkpoint(NEW, tmp_path / "last.ckpt", storage_options={})


class Own(TorchCheckpointIO):
    pass


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_spawn"])
def test_a_trainer_saves_whole_unless_its_user_chose_otherwise(strategy):
    trainer = Trainer(accelerator="cpu", devices=1, strategy=strategy, logger=False)
    save_whole(trainer)
    assert type(trainer.strategy.checkpoint_io) is WholeCheckpointIO
    own = Trainer(accelerator="cpu", devices=1, strategy=strategy, plugins=[Own()], logger=False)
    save_whole(own)
    assert type(own.strategy.checkpoint_io) is Own


class Scores(LightningModule):
    """Learns nothing, and reaches one of the given scores after each epoch."""

    def __init__(self, scores):
        super().__init__()
        self.scores, self.layer = scores, torch.nn.Linear(1, 1)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(1, 1))

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def on_train_epoch_end(self):
        self.log("val/metric", self.scores[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("scores", "best"), [((0.5, 0.7, 0.7, 0.6), 2), ((0.5, 0.6, 0.7), 2), ((0.7, 0.5, 0.6), 0), ((0.4, 0.4, 0.4), 2)]
)
def test_of_equally_good_rounds_the_latest_is_kept(tmp_path, scores, best):
    names = {"monitor": "val/metric", "mode": "max", "filename": "best", "enable_version_counter": False}
    keeper = BestCheckpoint(tmp_path, save_on_train_epoch_end=True, **names)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(accelerator="cpu", max_epochs=len(scores), callbacks=[keeper], **quiet).fit(Scores(scores))
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == best
    assert [p.name for p in tmp_path.iterdir()] == ["best.ckpt"]


def test_the_examples_run():
    results = doctest.testmod(best_module)
    assert results.attempted and not results.failed
