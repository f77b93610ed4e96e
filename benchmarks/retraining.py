"""Students trained anew on the stored samples of a run, with other samples, labels or settings than it had."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gold_lightning import losses
from gold_lightning.data import GoldDataModule
from gold_lightning.losses import RobustLoss
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore, StoredSample
from gold_lightning.storage.run_folder import rounds_in
from gold_lightning.student import T5Student
from gold_lightning.task import Sample, Task
from lightning.pytorch import LightningDataModule, Trainer, seed_everything

MODEL = ("optimizer", "lr", "encoder_lr", "embedding_lr", "weight_decay", "warmup", "decay")
Probabilities = Mapping[str, Mapping[str, float]]


class Samples(LightningDataModule):
    """Training batches of one round."""

    def __init__(
        self, data: GoldDataModule, samples: Sequence[StoredSample], seed: int, by_id: Probabilities | None
    ) -> None:
        super().__init__()
        self.data, self.samples, self.seed, self.by_id = data, samples, seed, by_id

    def train_dataloader(self) -> Any:
        rows = self.data.passes_per_round * len(self.samples)
        probabilities = [self.by_id[s.id] for s in self.samples] if self.by_id else []
        return self.data.loaders.training(
            [s.sample for s in self.samples], self.data.batch_size, rows, str(self.seed), probabilities
        )


class Retraining:
    """Trains students on samples of a run with its settings, as its last round does if ``model.restart`` is set.

    Args:
        run: The run folder, which stays as it is.
        task: Its task.
        config: Its resolved config.
        passes: Passes over the samples; the run's own by default.
    """

    def __init__(self, run: Path, task: Task, config: Mapping[str, Any], passes: int | None = None) -> None:
        self.run, self.task, self.config = run, task, config
        self.stored = [s for r in rounds_in(run) for s in RoundStore(run, r, read_only=True).accepted("train")]
        self.student, trained = config["model"]["student"], config["data"]
        with tempfile.TemporaryDirectory() as folder:
            self.data = GoldDataModule(
                task,
                run_dir=folder,
                student=self.student,
                batch_size=trained["batch_size"],
                passes_per_round=passes or trained["passes_per_round"],
            )

    def hard(self) -> RobustLoss:
        """Returns the run's own loss, without soft targets."""
        named = self.config["model"]["loss"]
        if named["class_path"].endswith("SoftTargets"):
            named = (named.get("init_args") or {}).get("hard") or {"class_path": "SymmetricCrossEntropy"}
        kind = getattr(losses, named["class_path"].rsplit(".", 1)[-1])
        loss: RobustLoss = kind(**(named.get("init_args") or {}))
        return loss

    def fit(
        self,
        samples: Sequence[StoredSample],
        seed: int,
        loss: RobustLoss | None = None,
        by_id: Probabilities | None = None,
    ) -> T5Student:
        """Trains a student.

        Args:
            samples: The samples to train on.
            seed: Decides about their order and dropout.
            loss: The loss; the run's own, without soft targets, by default.
            by_id: Probabilities of labels by the samples' ids, for losses that learn them.
        """
        seed_everything(seed, verbose=False)
        settings = {key: self.config["model"][key] for key in MODEL if key in self.config["model"]}
        student = T5Student(self.task, self.student, loss or self.hard(), **settings)
        trainer = Trainer(
            max_epochs=1,
            accelerator="auto",
            devices=1,
            precision=self.config["trainer"].get("precision"),
            gradient_clip_val=self.config["trainer"].get("gradient_clip_val"),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(student, datamodule=Samples(self.data, samples, seed, by_id))
        return student.train(False)


def labelled_rows(path: Path, task: Task, target: str) -> list[Sample]:
    """Reads JSON Lines of labelled rows."""
    names = [f.name for f in task.fields]
    return [Sample({n: row[n] for n in names}, row[target]) for row in read_lines(path)]
