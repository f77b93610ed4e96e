"""Collects the predictions of a test with their energies, and those of ``Trainer.predict``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gold_lightning.callbacks import OODFeedback
from gold_lightning.evaluation.intervals import prediction_row
from gold_lightning.scores import EnergyScore, OODScore
from gold_lightning.scoring import data_of, student_of
from gold_lightning.t5.prediction import Prediction

__all__ = ["TestPredictions", "collect_predictions"]


class TestPredictions(Callback):
    """Collects each test prediction with its energy, by the score of the run's :class:`OODFeedback`.

    Args:
        energies: Whether to compute energies.

    Attributes:
        rows: Lines of the last test, as ``prediction_row`` returns them, in the order
            of the test set; the same in every process.
    """

    __test__ = False  # pytest would collect the class by its name

    def __init__(self, energies: bool = True) -> None:
        self.energies = energies
        self._predictions: list[tuple[int, float | None, str]] = []
        self._score: OODScore | None = None
        self.rows: list[dict[str, Any]] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._predictions = []
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        scores = (callback.score for callback in callbacks if isinstance(callback, OODFeedback))
        self._score = next(scores, EnergyScore()) if self.energies else None
        student_of(pl_module).test_score = self._score

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        energies: list[float | None] = [None] * len(batch["id"])
        if outputs["energies"] is not None:
            energies = outputs["energies"].tolist()
        self._predictions += zip(batch["id"].tolist(), energies, outputs["predictions"], strict=True)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parts = [self._predictions]
        if trainer.world_size > 1:
            parts = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(parts, self._predictions)
        # A distributed sampler pads with duplicates of rows, which the dictionary drops.
        predictions = {row: (energy, text) for part in parts for row, energy, text in part}
        if any(energy is not None and not math.isfinite(energy) for energy, _ in predictions.values()):
            raise student_of(pl_module).not_finite("energies of test rows are not finite", self._score)
        tested = data_of(trainer).test_set.rows
        self.rows = [
            prediction_row(row, text, tested[row].targets, **({} if energy is None else {"energy": round(energy, 4)}))
            for row, (energy, text) in sorted(predictions.items())
        ]


def collect_predictions(trainer: Trainer, outputs: Sequence[Any]) -> list[Prediction]:
    """Brings what ``Trainer.predict`` returned into the order of the rows.

    Args:
        trainer: The trainer. Every process of it has to call this function.
        outputs: What its ``predict`` returned in this process.

    Returns:
        One prediction for each row, the same in every process.

    Example:
        >>> import gold_lightning as gl
        >>> from lightning.pytorch import Trainer
        >>> from gold_lightning.t5.batches import make_loader
        >>> student, rows = gl.T5Student("news_topics"), [gl.Sample({"text": "The striker scored twice."}, "")]
        >>> trainer = Trainer(logger=False, enable_progress_bar=False)
        >>> outputs = trainer.predict(student, make_loader(student.task, student.tokenizer, rows, 32))
        >>> collect_predictions(trainer, outputs)
        ['Sports']
    """
    pairs = [pair for batch in outputs for pair in zip(batch["id"], batch["predictions"], strict=True)]
    parts = [pairs]
    if trainer.world_size > 1:
        parts = [[] for _ in range(trainer.world_size)]
        torch.distributed.all_gather_object(parts, pairs)
    by_row = dict(pair for part in parts for pair in part)
    return [by_row[row] for row in sorted(by_row)]
