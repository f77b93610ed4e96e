"""The best student so far, scored on the rows that this round's student was scored on."""

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
from gold_lightning.student import T5Student
from gold_lightning.t5.fsdp import load_whole, own_weights

__all__ = ["Rescored", "borrowed_weights", "rescore"]

_log = logging.getLogger("gold_lightning")


@dataclass(frozen=True)
class Rescored:
    """The best student before this round, on this round's rows.

    Args:
        round: Its round.
        values: What validation would log of it, by name.
    """

    round: int
    values: Mapping[str, float]


def rescore(
    trainer: Trainer, student: T5Student, data: GoldDataModule, path: Path, best: int | None
) -> Rescored | None:
    """Scores the student of a checkpoint on the rows that the current round's student was just scored on.

    A kill between saving the best checkpoint and the last one leaves the best one of the very round that is made again.
    What was there before is overwritten then, and its values are taken from the round's line, which was written first.

    Args:
        trainer: While it fits.
        student: The current one; it is the same after as before.
        data: Of the run.
        path: The best checkpoint.
        best: The round that the run knows as the best; ``None`` if it does not say.

    Returns:
        ``None`` if the best student is lost.
    """
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        of = held[type(data).__qualname__]["round"] - 1  # a checkpoint holds the number of the next round
        weights: Mapping[str, Tensor] = held["state_dict"]
    except (OSError, RuntimeError, EOFError, KeyError, zipfile.BadZipFile) as e:
        _log.warning("%s cannot be read (%s); rounds are compared from this one on", path, type(e).__name__)
        return None
    if of >= data.round or (best is not None and of != best):
        return _recorded(data, best)
    with borrowed_weights(student, weights), trainer.precision_plugin.val_step_context():
        return Rescored(of, student.evaluate(data.watched_dataloader()))


def _recorded(data: GoldDataModule, best: int | None) -> Rescored | None:
    """What the line of this round, which is made again, says of the best round before it."""
    row: dict[str, Any] = next((r for r in read_lines(data.run_dir / "rounds.jsonl") if r["round"] == data.round), {})
    selection = row.get("selection", {})
    same = selection.get("rows") == data.watched(data.round).fingerprint and selection.get("best_before") == best
    return Rescored(best, selection["before"]) if same and best is not None else None


@contextmanager
def borrowed_weights(student: T5Student, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Has a student evaluate with other weights for a while.

    Args:
        student: The student; its weights, and whether it trains, are the same after as before.
        weights: As a checkpoint's ``state_dict`` has them.
    """
    trains = student.training
    held = [weight.clone() for weight in own_weights(student.model)]
    try:
        load_whole(student.model, {name.removeprefix("model."): weight for name, weight in weights.items()})
        student.eval()
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(own_weights(student.model), held, strict=True):
                weight.copy_(before)
        student.train(trains)
