"""Keeps the checkpoint of the best round, and saves checkpoints as a whole or not at all."""

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
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from gold_lightning.checkpoints.selection import Rescored, rescore
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError
from gold_lightning.inputs.paths import expand
from gold_lightning.student import T5Student

__all__ = ["BestCheckpoint", "WholeCheckpointIO", "check_checkpoint", "save_whole", "set_aside_damaged"]

_log = logging.getLogger(__name__)


class WholeCheckpointIO(TorchCheckpointIO):
    """Saves to a file beside the checkpoint, which replaces the checkpoint once it is on disk.

    Lightning's own plugin writes to the system's temporary folder and moves the file from there. If the run folder is
    on another file system, that move is a copy onto the old file, and a kill during it destroys both checkpoints.

    Example:
        >>> trainer = Trainer(plugins=[WholeCheckpointIO()], logger=False, accelerator="cpu")
        >>> type(trainer.strategy.checkpoint_io).__name__
        'WholeCheckpointIO'
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None or "://" in str(path):  # not a local file
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        part = target.with_name(target.name + ".part")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except BaseException as e:  # Ctrl-C too
            part.unlink(missing_ok=True)
            if isinstance(e, RuntimeError) and isinstance(e.__context__, OSError):
                raise e.__context__ from None  # the cause that torch hides, such as a full disk
            raise


def set_aside_damaged(path: Path) -> bool:
    """Renames a damaged checkpoint, so that the run can continue without it. Checks the checksums of the archive.

    Args:
        path: The checkpoint.

    Returns:
        Whether it was damaged.
    """
    if path.is_dir():  # a sharded checkpoint
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip() is not None
    except (zipfile.BadZipFile, EOFError, zlib.error):
        damaged = True
    if damaged:
        copy = path.with_name(path.name + ".damaged")
        with suppress(FileNotFoundError):  # another process was first
            path.replace(copy)
        _log.warning("%s is damaged and kept as %s; its rounds are trained again on the stored samples", path, copy)
    return damaged


def check_checkpoint(key: str, path: str) -> None:
    """Validates the path of a checkpoint early, before anything expensive is loaded.

    Args:
        key: The setting that names the checkpoint.
        path: Its value: a path, or ``last`` or ``best`` for the run's own checkpoints.

    Raises:
        ConfigError: The file does not exist or is not a checkpoint.
    """
    if path in ("last", "best"):
        return
    file = Path(expand(key, path))
    if (file / "meta.pt").is_file():  # a sharded checkpoint
        return
    if "://" in path:
        try:
            exists = get_filesystem(path).exists(path)
        except (ImportError, OSError, ValueError) as e:
            raise ConfigError(key, path, "a place that can be read", " ".join(str(e).split())) from None
        if not exists:
            raise ConfigError(key, path, "the place of a checkpoint, and nothing is found there")
        return
    if not file.is_file():
        raise ConfigError(key, path, "last, best, or the path of a checkpoint")
    if not zipfile.is_zipfile(file):
        raise ConfigError(key, path, "a checkpoint of a run, and this file is none")


class BestCheckpoint(ModelCheckpoint):
    """Keeps the student of the best round; compares rounds on the same rows.

    The rows for comparison (:class:`gold_lightning.validation.WatchedRows`) grow with each probe set. Before a round is
    compared with the best one so far, the best student is therefore scored again, on the current rows. This costs one
    validation with that student's weights; none if the rows did not change, as labelled ones do not. Early stopping
    gets the same values: it counts the rounds whose student is not better than the best checkpoint's.

    Among equally good rounds the latest wins, as its student has learnt from more samples. Lightning keeps the first.

    Attributes:
        best_round: Number of the best student's round; ``None`` before the first validation.
        best_rows: Fingerprint of the rows on which it was scored.

    Example:
        >>> callback = BestCheckpoint(monitor="val/metric", mode="max", filename="best", save_last=True)
        >>> callback.best_round is None
        True
    """

    best_round: int | None = None
    best_rows: str = ""
    _scored: tuple[int, str] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = getattr(trainer, "datamodule", None)
        if trainer.state.fn == "fit" and isinstance(data, GoldDataModule) and isinstance(pl_module, T5Student):
            self._compare_on_same_rows(trainer, pl_module, data)
        super().on_validation_end(trainer, pl_module)

    def _compare_on_same_rows(self, trainer: Trainer, student: T5Student, data: GoldDataModule) -> None:
        rows = data.watched(data.round).fingerprint
        self._scored = data.round, rows
        if self.best_model_path and (rows != self.best_rows or not self.best_k_models):
            path = Path(self.best_model_path)
            path = Path(self.dirpath) / path.name if self.dirpath else path  # the run folder may have been moved
            best = rescore(trainer, student, data, path, self.best_round)
            self._set_best(str(path), best)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, EarlyStopping) and callback.monitor.startswith("val/"):
                    worst = -torch.inf if callback.mode == "max" else torch.inf
                    callback.best_score = torch.tensor(best.values.get(callback.monitor, worst) if best else worst)
            self.best_round, self.best_rows = (best.round if best else None), rows
            best_values = dict(best.values) if best else {}
        else:
            best_values = {str(self.monitor): float(self.best_model_score)} if self.best_model_score is not None else {}
        current = trainer.callback_metrics.get(str(self.monitor))
        if current is None or not str(self.monitor).startswith("val/"):
            return
        best_value = best_values.get(str(self.monitor))
        better = best_value is None or bool(current >= best_value if self.mode == "max" else current <= best_value)
        data.notes["selection"] = {
            "monitor": self.monitor,
            "rows": rows,
            "best_before": self.best_round,
            "before": best_values,
            "best": data.round if better else self.best_round,
        }

    def _set_best(self, path: str, best: Rescored | None) -> None:
        """Sets the values that Lightning compares with: those of the best student, or none if it is lost."""
        name = str(self.monitor)
        if best is not None and not name.startswith("val/"):
            return
        if best is None or name not in best.values:
            self.best_k_models, self.kth_best_model_path, self.best_model_score = {}, "", None
            return
        score = torch.tensor(best.values[name])
        self.best_k_models, self.kth_best_model_path, self.best_model_path = {path: score}, path, path
        self.kth_value = self.best_model_score = score

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        better = super().check_monitor_top_k(trainer, current)
        if not better:
            tied = current is not None and bool(current == self.best_k_models[self.kth_best_model_path])
            better = trainer.strategy.reduce_boolean_decision(tied)
        if better and self._scored is not None:  # before saving: the checkpoint contains the best round's number
            self.best_round, self.best_rows = self._scored
        return better

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"best_round": self.best_round, "best_rows": self.best_rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.best_round, self.best_rows = state_dict.get("best_round"), state_dict.get("best_rows", "")


def save_whole(trainer: Trainer) -> None:
    """Makes a trainer save through :class:`WholeCheckpointIO`, unless its strategy or its user has another plugin."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
