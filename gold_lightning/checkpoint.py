"""Which checkpoints are kept, and how they get onto the disk: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

__all__ = ["BestCheckpoint", "WholeCheckpointIO", "save_whole"]


class WholeCheckpointIO(TorchCheckpointIO):
    """Saves to a file beside the checkpoint, which takes the checkpoint's place once it is on disk.

    Lightning's own writes to the system's temporary folder and moves the file from there. Where the run
    folder is on another file system that move is a copy onto the old file, and a kill during it leaves
    neither the old checkpoint nor the new one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None or "://" in str(path):  # no local file
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        whole = Path(path)
        part = whole.with_name(whole.name + ".part")
        whole.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(whole)
        except BaseException:  # Ctrl-C too
            part.unlink(missing_ok=True)
            raise


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, but of equally good rounds it keeps the latest: that one has learnt from more samples.

    Lightning keeps the first. A probe set is small, so its metric takes few values, and ties are common.
    """

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        if super().check_monitor_top_k(trainer, current):
            return True
        tied = current is not None and bool(current == self.best_k_models[self.kth_best_model_path])
        return trainer.strategy.reduce_boolean_decision(tied)


def save_whole(trainer: Trainer) -> None:
    """Has a trainer save through :class:`WholeCheckpointIO`, unless its strategy or its user has another way."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
