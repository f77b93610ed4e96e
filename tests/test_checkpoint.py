"""Checkpoints: whatever breaks a save off, the old file is whole."""

import errno
import os

import pytest
import torch
from gold_lightning.checkpoint import WholeCheckpointIO, save_whole
from lightning.pytorch import Trainer
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
