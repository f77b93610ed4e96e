"""The samples that a round trains on: those of all rounds so far or of the last one, without doubtful ones."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Sequence
from typing import Literal

from lightning.pytorch import LightningModule, Trainer

from gold_lightning.doubtful import DoubtfulLabels
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.noise import LabelNoise
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.lazy import Chained, Chosen, Mapped
from gold_lightning.storage.round_store import RoundStore, StoredSample

__all__ = ["TrainingSamples", "check_plan"]

_log = logging.getLogger("gold_lightning")


class TrainingSamples:
    """Chooses the samples that a round trains on.

    Args:
        store: Returns the store of a round.
        replay: Train on the samples of all rounds so far, or of the last one.
        noise: The label noise that the run trains with.
        doubtful: Finds samples to leave out; ``None`` to train on all.

    Attributes:
        left_out: Ids of the samples that the current round leaves out, in order.
    """

    def __init__(
        self,
        store: Callable[[int], RoundStore],
        replay: Literal["all", "last"],
        noise: LabelNoise,
        doubtful: DoubtfulLabels | None,
    ) -> None:
        self._store, self.replay, self.noise, self.doubtful = store, replay, noise, doubtful
        self.left_out: tuple[str, ...] = ()

    def rounds(self, round_: int) -> range:
        """Returns the rounds whose samples a round trains on."""
        return range(0 if self.replay == "all" else round_, round_ + 1)

    def of(self, round_: int) -> Sequence[StoredSample]:
        """Returns the samples that a round trains on, without those that are left out. They are read when needed."""
        stored: Sequence[StoredSample] = Chained([self._store(r).accepted("train") for r in self.rounds(round_)])
        if left_out := frozenset(self.left_out):
            stored = Chosen(stored, array("Q", (i for i, s in enumerate(stored) if s.id not in left_out)))
        return Mapped(stored, self.noise.apply) if self.noise.share else stored

    def begin(self, round_: int, trainer: Trainer | None) -> Sequence[StoredSample]:
        """Chooses the samples that a round leaves out, and returns those that it trains on.

        One process chooses for all, whose numbers may round apart.

        Args:
            round_: Number of the round.
            trainer: The trainer whose processes agree; ``None`` for one process.

        Raises:
            GoldError: The student learns probabilities of labels, and no sample has any.
        """
        self.left_out = ()
        if self.doubtful is not None:
            ids = self.doubtful(self.of(round_)) if trainer is None or trainer.is_global_zero else []
            if trainer is not None and trainer.world_size > 1:
                ids = trainer.strategy.broadcast(ids)
            self.left_out = tuple(ids)
        stored = self.of(round_)
        _check_probabilities(stored, trainer)
        return stored


def check_plan(plan: SynthesisPlan, trainer: Trainer) -> None:
    """Checks that a plan asks for the probabilities of labels if the student learns them.

    Raises:
        ConfigError: It asks for none.
    """
    if _learns_probabilities(trainer.lightning_module) and plan.label_agreement == "off":
        raise ConfigError(
            "data.plan.label_agreement",
            plan.label_agreement,
            "measure or require with model.loss SoftTargets",
            "they ask for the likelihoods that the soft targets are made of",
        )


def _check_probabilities(stored: Sequence[StoredSample], trainer: Trainer | None) -> None:
    """Warns of training samples without probabilities of labels if the student learns them.

    Raises:
        GoldError: No sample has any.
    """
    if trainer is None or not _learns_probabilities(trainer.lightning_module):
        return
    without = sum(not s.probabilities for s in stored)
    if not without:
        return
    if without == len(stored):
        raise GoldError(
            f"model.loss: SoftTargets needs the generator's probabilities of labels, and none of {without} samples has "
            "any; take a data.generator that reports likelihoods, or another model.loss"
        )
    if trainer.is_global_zero:
        _log.warning(
            "%d of %d training samples have no probabilities of labels; their own label is their target",
            *(without, len(stored)),
        )


def _learns_probabilities(module: LightningModule | None) -> bool:
    return bool(getattr(module, "learns_probabilities", False))
