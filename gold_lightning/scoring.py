"""Scores a round's probe set, and some of its training samples for comparison, with the student."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from gold_lightning.data import GoldDataModule
from gold_lightning.feedback import ScoredProbe
from gold_lightning.noise import LabelNoise
from gold_lightning.scores import SUMMARY, OODScore, auroc, summarize_energies
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.student import T5Student
from gold_lightning.text_labels import LabelledBy, joint_probabilities, with_joint_label

__all__ = ["RoundScores", "data_of", "logged_names", "score_round", "student_of"]


def logged_names(metrics: Sequence[str]) -> list[str]:
    """Returns the names that a round logs, which early stopping and checkpoints may monitor.

    Args:
        metrics: Names of the student's metrics.
    """
    energies = [f"{kind}/energy_{name}" for kind in ("probe", "train") for name in SUMMARY]
    return ["val/metric", *(f"val/{name}" for name in metrics), "val/loss", "train/loss", "probe/auroc", *energies]


@dataclass(frozen=True)
class RoundScores:
    """The student's scores of a round.

    Args:
        probe: The probe set.
        energies: Energy of each probe sample; higher = further out of distribution.
        losses: The student's mean cross-entropy per target token of each probe sample, in nats.
        reference: Energies of training samples by id.
        joint: Joint probabilities of labels of real texts, by id (:mod:`gold_lightning.text_labels`).
    """

    probe: Sequence[StoredSample]
    energies: tuple[float, ...]
    losses: tuple[float, ...]
    reference: Mapping[str, float]
    joint: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def labelled(self) -> list[StoredSample]:
        """The probe set, with real texts under their joint labels."""
        return [with_joint_label(s, self.joint.get(s.id)) for s in self.probe]

    def summary(self) -> dict[str, Any]:
        """Returns the values for the round's line in ``rounds.jsonl``: ``energy`` by kind, and ``auroc``."""
        by_kind = {"probe": self.energies, "train": tuple(self.reference.values())}
        energy = {kind: summarize_energies(energies) for kind, energies in by_kind.items()}
        return {"energy": energy, "auroc": auroc(by_kind["train"], by_kind["probe"])}

    def metrics(self) -> dict[str, float]:
        """Returns the values that the round logs, by name."""
        summary = self.summary()
        energies = {f"{kind}/energy_{k}": v for kind, values in summary["energy"].items() for k, v in values.items()}
        return {**energies, "probe/auroc": summary["auroc"]}

    def probe_set(self, data: GoldDataModule, alpha: float, beta: float) -> ScoredProbe:
        """Returns the probe set as a strategy takes it, with the quantiles of the band."""
        samples = [s.sample for s in self.labelled]
        return ScoredProbe(
            data.round,
            data.seed,
            alpha,
            beta,
            tuple(samples),
            self.energies,
            self.losses,
            tuple(sample.target if data.task.one_label else "" for sample in samples),
        )

    def rows(self, fed_back: Collection[str], noise: LabelNoise) -> list[dict[str, Any]]:
        """Returns the lines of ``energies.jsonl``.

        Args:
            fed_back: Ids of the samples that are fed back.
            noise: The label noise of the run.
        """
        rows: list[dict[str, Any]] = [
            {"id": s.id, "kind": "probe", "energy": energy, "loss": loss, "fed_back": s.id in fed_back}
            | ({} if s.source == "generator" else {"source": s.source})
            | ({"probabilities": dict(self.joint[s.id])} if s.id in self.joint else {})
            for s, energy, loss in zip(self.probe, self.energies, self.losses, strict=True)
        ]
        rows += [{"id": id_, "kind": "train", "energy": e, "fed_back": False} for id_, e in self.reference.items()]
        return [row | {"flipped": noise.flips(row["id"])} for row in rows] if noise.share else rows


def score_round(
    trainer: Trainer,
    data: GoldDataModule,
    student: T5Student,
    score: OODScore,
    *,
    teacher_forcing: bool,
    reference_samples: int,
    label_by: LabelledBy = "generator",
) -> RoundScores:
    """Scores the round's probe set, and some of its new training samples.

    Each process scores all of them, since they are few.

    Args:
        trainer: The trainer, whose processes agree on the scores of the probe set.
        data: The data module.
        student: The student.
        score: The score.
        teacher_forcing: Average over the generator's target tokens instead of the student's own output.
        reference_samples: Most training samples that are scored.
        label_by: ``both``: find the joint labels of real texts.

    Raises:
        NotFiniteError: A loss or an energy is not finite.
    """
    probe = [data.noise.apply(s) for s in data.store().accepted("probe")]
    values: dict[int, tuple[float, float, Sequence[float]]] = {}
    joint = label_by == "both" and data.task.one_label and student.scores_labels
    real = [i for i, s in enumerate(probe) if joint and s.source == "unlabelled" and s.probabilities]
    for batch in _batches(data, student, probe):
        batch = student.encoded(batch)  # for energies and for losses
        log_probs: Sequence[Sequence[float]] = [()] * len(batch["id"])
        energies: Tensor | None = None
        if real:  # one pass for both
            scores = student.label_scores(batch, None if teacher_forcing else score, best_only=False)
            log_probs, energies = scores.log_probs.tolist(), scores.energies
        if energies is None:
            energies = student.score(batch, score, teacher_forcing=teacher_forcing)
        of_rows = zip(energies.tolist(), student.target_losses(batch).tolist(), log_probs, strict=True)
        values |= zip(batch["id"].tolist(), of_rows, strict=True)
    # All processes use the numbers of one: the pool must not depend on the last digit that a device computes.
    values = trainer.strategy.broadcast(values)
    if not all(math.isfinite(loss) for _, loss, _ in values.values()):
        raise student.not_finite("the losses of probe samples are not finite")

    train = data.store().accepted("train")
    rng = random.Random(f"{data.seed}/{data.round}/reference")
    drawn = [
        data.noise.apply(train[i]) for i in sorted(rng.sample(range(len(train)), min(reference_samples, len(train))))
    ]
    reference: dict[str, float] = {}
    for batch in _batches(data, student, drawn):
        ids = [drawn[i].id for i in batch["id"].tolist()]
        reference |= zip(ids, student.score(batch, score, teacher_forcing=teacher_forcing).tolist(), strict=True)
    if not all(map(math.isfinite, [*(energy for energy, _, _ in values.values()), *reference.values()])):
        raise student.not_finite("the energies of samples are not finite", score)

    ordered = [values[i] for i in range(len(probe))]
    probabilities = joint_probabilities(
        [probe[i].probabilities for i in real], [values[i][2] for i in real], data.task.label_names
    )
    return RoundScores(
        probe,
        tuple(energy for energy, _, _ in ordered),
        tuple(loss for _, loss, _ in ordered),
        reference,
        dict(zip((probe[i].id for i in real), probabilities, strict=True)),
    )


def data_of(trainer: Trainer) -> GoldDataModule:
    """Returns a trainer's data module, for callbacks. Raises TypeError if it is another one."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, GoldDataModule):
        raise TypeError(f"this callback needs a GoldDataModule, got {type(data).__name__}")
    return data


def student_of(module: LightningModule) -> T5Student:
    """Returns a module as the student it is, for callbacks. Raises TypeError if it is another one."""
    if not isinstance(module, T5Student):
        raise TypeError(f"this callback needs a T5Student, got {type(module).__name__}")
    return module


def _batches(data: GoldDataModule, student: T5Student, samples: Sequence[StoredSample]) -> Iterator[dict[str, Any]]:
    for batch in data.loaders.evaluation([s.sample for s in samples], data.eval_batch_size):
        yield student.transfer_batch_to_device(batch, student.device, 0)
