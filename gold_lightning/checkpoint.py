"""Which checkpoints are kept, and how they get onto the disk: whole or not at all."""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.cloud_io import get_filesystem
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from gold_lightning.errors import ConfigError
from gold_lightning.paths import expand

__all__ = ["BestCheckpoint", "WholeCheckpointIO", "check_checkpoint", "save_whole", "set_aside_damaged"]

_log = logging.getLogger(__name__)


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
        except BaseException as e:  # Ctrl-C too
            part.unlink(missing_ok=True)
            if isinstance(e, RuntimeError) and isinstance(e.__context__, OSError):
                raise e.__context__ from None  # torch hides why: a full disk, mostly
            raise


def set_aside_damaged(path: Path) -> bool:
    """Whether a checkpoint is damaged; then it is renamed, so that the run can do without it.

    What is looked at is the archive's own checksums, not what stands in it.

    Args:
        path: The checkpoint.
    """
    if path.is_dir():  # a sharded one
        return False
    try:
        with zipfile.ZipFile(path) as held:
            damaged = held.testzip() is not None
    except (zipfile.BadZipFile, EOFError, zlib.error):
        damaged = True
    if damaged:
        kept = path.with_name(path.name + ".damaged")
        with suppress(FileNotFoundError):  # another process was first
            path.replace(kept)
        _log.warning("%s is damaged and kept as %s; its rounds are trained again on the stored samples", path, kept)
    return damaged


def check_checkpoint(key: str, path: str) -> None:
    """Refuses what is no checkpoint, before anything is loaded for it.

    Args:
        key: Where it was named.
        path: What was named; ``last`` and ``best`` are those of the run.

    Raises:
        ConfigError: There is no such file, or it is of another kind.
    """
    if path in ("last", "best"):
        return
    place = Path(expand(key, path))
    if (place / "meta.pt").is_file():  # a sharded one
        return
    if "://" in path:
        try:
            there = get_filesystem(path).exists(path)
        except (ImportError, OSError, ValueError) as e:
            raise ConfigError(key, path, "a place that can be read", " ".join(str(e).split())) from None
        if not there:
            raise ConfigError(key, path, "the place of a checkpoint, and nothing is found there")
        return
    if not place.is_file():
        raise ConfigError(key, path, "last, best, or the path of a checkpoint")
    if not zipfile.is_zipfile(place):
        raise ConfigError(key, path, "a checkpoint of a run, and this file is none")


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
