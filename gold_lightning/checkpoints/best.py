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
    """Keeps the student of the best round, where rounds are compared on the same rows.

    The rows by which rounds are compared (:class:`gold_lightning.validation.WatchedRows`) grow with each probe set. So
    before a round is compared with the best one, the best one's student is scored anew, on the rows on which this
    round's was just scored. It costs a validation with that student's weights, and none if the rows are the same as
    before, as labelled ones are. Early stopping is given the same values: it counts the rounds whose student is no
    better, by what it monitors, than that of the best checkpoint.

    Of equally good rounds the latest is kept: that one has learnt from more samples. Lightning keeps the first.

    Attributes:
        best_round: The round of the best student; ``None`` before there is one.
        best_rows: Fingerprint of the rows that it was scored on.
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
            path = Path(self.dirpath) / path.name if self.dirpath else path  # the folder may have been moved
            best = rescore(trainer, student, data, path, self.best_round)
            self._take(str(path), best)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, EarlyStopping) and callback.monitor.startswith("val/"):
                    worst = -torch.inf if callback.mode == "max" else torch.inf
                    callback.best_score = torch.tensor(best.values.get(callback.monitor, worst) if best else worst)
            self.best_round, self.best_rows = (best.round if best else None), rows
            before = dict(best.values) if best else {}
        else:
            before = {str(self.monitor): float(self.best_model_score)} if self.best_model_score is not None else {}
        current = trainer.callback_metrics.get(str(self.monitor))
        if current is None or not str(self.monitor).startswith("val/"):
            return
        known = before.get(str(self.monitor))
        better = known is None or bool(current >= known if self.mode == "max" else current <= known)
        data.notes["selection"] = {
            "monitor": self.monitor,
            "rows": rows,
            "best_before": self.best_round,
            "before": before,
            "best": data.round if better else self.best_round,
        }

    def _take(self, path: str, best: Rescored | None) -> None:
        """Has Lightning compare with these values of the best student, or with none if it is lost."""
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
        if better and self._scored is not None:  # before it is saved: a checkpoint says of which round the best one is
            self.best_round, self.best_rows = self._scored
        return better

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"best_round": self.best_round, "best_rows": self.best_rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.best_round, self.best_rows = state_dict.get("best_round"), state_dict.get("best_rows", "")


def save_whole(trainer: Trainer) -> None:
    """Has a trainer save through :class:`WholeCheckpointIO`, unless its strategy or its user has another way."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
