"""Trains on labelled rows in place of generated samples, for the supervised baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from gold_lightning.data import GoldDataModule
from gold_lightning.task import Sample

__all__ = ["LabelledRounds"]


class LabelledRounds(LightningDataModule):
    """A data module of labelled rows, with the rounds and training steps of a run on generated samples.

    A round of the run trains ``passes_per_round`` times on its samples so far. Here the same number of rows is drawn
    from the labelled ones; each row is used once, in a random order, before any is used again.

    Args:
        data: Data module of the run, for the number and size of its rounds.
        rows: Labelled rows.
    """

    def __init__(self, data: GoldDataModule, rows: Sequence[Sample]) -> None:
        super().__init__()
        self.data, self.rows = data, rows

    def steps(self, round_: int) -> int:
        """Returns the number of training steps of a round on one device.

        Args:
            round_: Number of the round, from 0.
        """
        return math.ceil(self._size(round_) / self.data.batch_size)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Returns the rows of the trainer's current epoch in batches."""
        round_ = self.trainer.current_epoch if self.trainer else 0
        return self.data.loaders.training(
            self.rows, self.data.batch_size, self._size(round_), f"{self.data.seed}/{round_}/labelled"
        )

    def _size(self, round_: int) -> int:
        rounds = len(self.data.training.rounds(round_))
        return self.data.passes_per_round * rounds * self.data.synthesizer.plan.samples_per_round
