"""Scores the best student so far on the rows of the current round."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from gold_lightning.data import GoldDataModule
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.run_folder import RunFolder
from gold_lightning.student import T5Student
from gold_lightning.t5.fsdp import load_whole, own_weights
from gold_lightning.t5.modes import evaluation_mode

__all__ = ["Rescored", "borrowed_weights", "rescore"]

_log = logging.getLogger("gold_lightning")


@dataclass(frozen=True)
class Rescored:
    """Validation of the best student before this round on this round's rows.

    Args:
        round: Number of the student's round.
        values: Validation metrics by name.
    """

    round: int
    values: Mapping[str, float]


def rescore(
    trainer: Trainer, student: T5Student, data: GoldDataModule, path: Path, best: int | None
) -> Rescored | None:
    """Scores the student of a checkpoint on the rows on which the current round's student was just scored.

    A kill between saving the best checkpoint and the last one leaves a best checkpoint of the round that is now
    repeated. The best student before it is overwritten then; its values are read from the round's line in
    ``rounds.jsonl``, which was written earlier.

    Args:
        trainer: The trainer, while it fits.
        student: The current student; unchanged afterwards.
        data: The data module of the run.
        path: The best checkpoint.
        best: Number of the best round according to the run; ``None`` if unknown.

    Returns:
        The best student's values; ``None`` if it is lost.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        round_ = checkpoint[type(data).__qualname__]["round"] - 1  # a checkpoint has the number of the next round
        weights: Mapping[str, Tensor] = checkpoint["state_dict"]
    except (OSError, RuntimeError, EOFError, KeyError, zipfile.BadZipFile) as e:
        _log.warning("%s cannot be read (%s); rounds are compared from this one on", path, type(e).__name__)
        return None
    if round_ >= data.round or (best is not None and round_ != best):
        return _recorded(data, best)
    with borrowed_weights(student, weights), trainer.precision_plugin.val_step_context():
        return Rescored(round_, student.evaluate(data.watched_dataloader()))


def _recorded(data: GoldDataModule, best: int | None) -> Rescored | None:
    """Reads the values of the best round before this one from this round's line, as the round is repeated."""
    rows = read_lines(RunFolder(data.run_dir).rounds)
    row: dict[str, Any] = next((r for r in rows if r["round"] == data.round), {})
    selection = row.get("selection", {})
    same = selection.get("rows") == data.watched(data.round).fingerprint and selection.get("best_before") == best
    return Rescored(best, selection["before"]) if same and best is not None else None


@contextmanager
def borrowed_weights(student: T5Student, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Gives a student other weights, in evaluation mode, until the block ends.

    Args:
        student: The student; its weights and its mode are restored.
        weights: Weights by the names of a checkpoint's ``state_dict``.
    """
    saved = [weight.clone() for weight in own_weights(student.model)]
    try:
        load_whole(student.model, {name.removeprefix("model."): weight for name, weight in weights.items()})
        with evaluation_mode(student):
            yield
    finally:
        with torch.no_grad():
            for weight, saved_weight in zip(own_weights(student.model), saved, strict=True):
                weight.copy_(saved_weight)
