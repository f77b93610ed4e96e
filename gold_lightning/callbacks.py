"""The feedback loop as a Lightning callback, and the small ones beside it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError
from gold_lightning.feedback import (
    STRATEGIES,
    FeedbackStrategy,
    NoFeedback,
    PoolEntry,
    ScoredProbe,
    StrategyName,
    choose,
    make_strategy,
    strategy_name,
    strategy_settings,
)
from gold_lightning.noise import count_flipped
from gold_lightning.planning.plan_warnings import plan_warnings
from gold_lightning.scores import SUMMARY, EnergyScore, OODScore, auroc, band_ranks, summarize_energies
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.student import T5Student
from gold_lightning.task import Sample

__all__ = ["OODFeedback", "logged_names"]

_log = logging.getLogger("gold_lightning")


def logged_names(metrics: Sequence[str]) -> list[str]:
    """What a round logs, which early stopping and checkpoints may watch; the student's metrics among it."""
    energies = [f"{kind}/energy_{name}" for kind in ("probe", "train") for name in SUMMARY]
    return ["val/metric", *(f"val/{name}" for name in metrics), "val/loss", "train/loss", "probe/auroc", *energies]


class OODFeedback(Callback):
    """Scores the probe set with the student, and feeds the band of it back into the generator's prompts.

    At the end of validation each probe sample gets an energy, label-free by default. The samples in the
    quantile band [alpha, beta) of ascending energy, within each label, enter the pool from which the next
    round's prompts draw feedback demos (GOLD, arXiv 2403.19754, section 3). What it finds goes to
    ``rounds.jsonl`` and ``energies.jsonl`` in the run folder, and to loggers by
    :mod:`gold_lightning.watching.loggers`.

    Args:
        rate: Share of the prompts that shows feedback demos; 0 turns feedback off.
        alpha: Lower quantile of the band.
        beta: Upper quantile; above it lies mostly noise.
        strategy: What is fed back. ``energy_band``: the band (GOLD); ``none``: nothing, so prompts show seed demos
            alone; and to compare with, as many samples of each label as the band has: ``random``, ``energy_top``,
            ``energy_bottom``, ``loss_top`` (what the student gets wrong, by the generator's label). Or a class of
            one's own.
        label_check: What becomes of a chosen sample whose label the generator's own likelihoods do not favour.
            ``off``: it is fed back; ``require``: it is not; ``relabel``: it is, under the label that they favour.
            They are asked for by ``data.plan.label_agreement``.
        capacity: Most feedback demos held for each label.
        warmup_rounds: Rounds whose student is too young to choose. They score, but feed nothing back.
        teacher_forcing: Average the energy over the generator's target tokens instead of those that the
            student wrote itself.
        score: Higher = further out of distribution; an :class:`~gold_lightning.scores.EnergyScore` by default.
        reference_samples: This round's training samples scored for comparison (AUROC), at most.
    """

    def __init__(
        self,
        rate: float = 0.5,
        alpha: float = 0.5,
        beta: float = 0.8,
        capacity: int = 64,
        warmup_rounds: int = 0,
        teacher_forcing: bool = False,
        strategy: StrategyName | FeedbackStrategy = "energy_band",
        label_check: Literal["off", "require", "relabel"] = "off",
        score: OODScore | None = None,
        reference_samples: int = 256,
    ) -> None:
        if not 0 <= rate <= 1:
            raise ConfigError("feedback.rate", rate, "a number from 0 to 1")
        if not 0 <= alpha < beta <= 1:
            raise ConfigError("feedback.alpha", [alpha, beta], "0 <= alpha < beta <= 1")
        if warmup_rounds < 0:
            raise ConfigError("feedback.warmup_rounds", warmup_rounds, "0 or more")
        if reference_samples < 1:
            raise ConfigError("feedback.reference_samples", reference_samples, "1 or more")
        self.rate, self.alpha, self.beta, self.capacity = rate, alpha, beta, capacity
        self.warmup_rounds, self.teacher_forcing = warmup_rounds, teacher_forcing
        self.score, self.reference_samples = score or EnergyScore(), reference_samples
        self.strategy, self.label_check = make_strategy(strategy), label_check
        self._chosen: list[PoolEntry] = []
        self._not_fed: dict[str, Any] = {}
        self._scored: list[dict[str, Any]] = []

    @property
    def feeds(self) -> bool:
        """Whether any prompt will show feedback demos."""
        return self.rate > 0 and not isinstance(self.strategy, NoFeedback)

    def check(self, data: GoldDataModule) -> None:
        """Looks whether what it needs is asked for.

        Raises:
            ConfigError: Labels are to be checked, and nobody asks for their likelihoods.
        """
        if self.label_check != "off" and data.synthesizer.plan.label_agreement == "off":
            raise ConfigError(
                "feedback.label_check",
                self.label_check,
                "off where data.plan.label_agreement is off",
                "set that to measure (for a task with labels)",
            )

    def state_dict(self) -> dict[str, Any]:
        """How is chosen, in plain values."""
        return {"strategy": strategy_settings(self.strategy), "band": [self.alpha, self.beta], "rate": self.rate} | {
            key: getattr(self, key) for key in ("label_check", "teacher_forcing", "warmup_rounds")
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Says what has changed since: what was chosen before stays in the pool."""
        now = self.state_dict()
        if other := sorted(key for key in now if state_dict.get(key, now[key]) != now[key]):
            _log.warning("from now on samples are fed back with another %s", ", ".join(other))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            data = GoldDataModule.of(trainer)
            self.check(data)
            # The command line links them; a trainer of one's own may not.
            data.feedback_rate, data.pool.capacity = self.rate, self.capacity

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = GoldDataModule.of(trainer)
        if data.replayed is None:  # nothing is asked for
            rounds = -1 if trainer.max_epochs is None else trainer.max_epochs
            for line in plan_warnings(data.task, data.synthesizer.plan, self, rounds):
                _log.warning("warning: %s", line)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data, student = GoldDataModule.of(trainer), student_of(pl_module)
        if data.only_reads:
            return
        # One process's numbers for all of them: a pool must not depend on the last digit that a device gives.
        probe = trainer.strategy.broadcast(self._score_probe(data, student))
        reference = self._score_reference(data, student)
        _check_finite(student, self.score, probe, reference)
        samples = data.probe_samples()
        found = [(samples[i], energy, loss) for i, (energy, loss) in sorted(probe.items())]
        self._chosen = self._choose(found, data)
        fed_back = {e.id for e in self._chosen}
        scored: list[dict[str, Any]] = [
            {"id": s.id, "kind": "probe", "energy": energy, "loss": loss, "fed_back": s.id in fed_back}
            for s, energy, loss in found
        ]
        scored += [{"id": id_, "kind": "train", "energy": e, "fed_back": False} for id_, e in reference.items()]
        if data.noise.share:
            scored = [row | {"flipped": data.noise.flips(row["id"])} for row in scored]
        self._scored = scored
        energies = {"probe": [energy for _, energy, _ in found], "train": [*reference.values()]}
        data.notes |= {
            "energy": {k: summarize_energies(v) for k, v in energies.items()},
            "auroc": auroc(energies["train"], energies["probe"]),
            "strategy": strategy_name(self.strategy),
            "band": [self.alpha, self.beta],
            "fed_back": [e.id for e in self._chosen],
            "not_fed_back": {name: value for name, value in self._not_fed.items() if value},
            **({"flipped": count_flipped(scored)} if data.noise.share else {}),
        }
        for kind, summary in data.notes["energy"].items():
            for name, value in summary.items():
                pl_module.log(f"{kind}/energy_{name}", value, rank_zero_only=True)
        pl_module.log("probe/auroc", data.notes["auroc"], rank_zero_only=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = GoldDataModule.of(trainer)
        if data.only_reads:
            return
        data.pool.push(self._chosen, by_label=bool(data.task.labels))
        if trainer.is_global_zero:
            data.store().write_energies(self._scored)  # before its line: a round that has one has its energies too

    def _choose(self, found: Sequence[tuple[StoredSample, float, float]], data: GoldDataModule) -> list[PoolEntry]:
        """The feedback demos among probe samples, which come with energy and loss; notes what is not fed back."""
        self._not_fed = {}
        if not self.feeds:
            return []
        if len(data.pool) and not any(s.feedback for s in data.store().accepted("train")):
            self._not_fed["unused_pool"] = len(data.pool)
        if data.round < self.warmup_rounds:
            self._not_fed["warmup_rounds"] = self.warmup_rounds
            return []
        samples, energies, losses = zip(*found, strict=True)
        probe = ScoredProbe(
            data.round,
            data.seed,
            self.alpha,
            self.beta,
            tuple(s.sample for s in samples),
            energies,
            losses,
            tuple(s.sample.target if data.task.labels else "" for s in samples),
        )
        if type(self.strategy) in STRATEGIES.values():
            sizes = Counter(probe.groups)
            labels = data.task.label_names or ("",)
            self._not_fed["empty_bands"] = [x for x in labels if not band_ranks(sizes[x], self.alpha, self.beta)]
        entries = []
        chosen = choose(self.strategy, probe)
        for i in chosen:
            stored: StoredSample = samples[i]
            sample = stored.sample
            if self.label_check != "off" and not stored.label_agrees:
                if self.label_check == "require" or not stored.preferred_label:
                    continue
                sample = Sample(sample.fields, stored.preferred_label)
            entries.append(PoolEntry(stored.id, sample, energies[i], data.round, dict(stored.hint)))
        self._not_fed["label_check"] = len(chosen) - len(entries)
        if not chosen and not self._not_fed.get("empty_bands"):
            self._not_fed["strategy"] = strategy_name(self.strategy)
        return entries

    def _score_probe(self, data: GoldDataModule, student: T5Student) -> dict[int, tuple[float, float]]:
        """Energies and losses of this round's probe set by position; validation may be over other rows."""
        found: dict[int, tuple[float, float]] = {}
        for batch in data.probe_dataloader():
            batch = student.transfer_batch_to_device(batch, student.device, 0)
            tokens = student.write(batch)
            energies = student.score(batch, self.score, teacher_forcing=self.teacher_forcing, tokens=tokens)
            losses = student.target_losses(batch)
            rows = zip(energies.tolist(), losses.tolist(), strict=True)
            found |= zip(batch["id"].tolist(), rows, strict=True)
        return found

    def _score_reference(self, data: GoldDataModule, student: T5Student) -> dict[str, float]:
        """Energies of training samples by id. Each process scores all: they are few, and nobody has to wait."""
        own = data.store().accepted("train")
        found: dict[str, float] = {}
        for batch in data.reference_dataloader(self.reference_samples):
            ids = [own[i].id for i in batch["id"].tolist()]
            batch = student.transfer_batch_to_device(batch, student.device, 0)
            energies = student.score(batch, self.score, teacher_forcing=self.teacher_forcing).tolist()
            found |= zip(ids, energies, strict=True)
        return found


def student_of(module: LightningModule) -> T5Student:
    if not isinstance(module, T5Student):
        raise TypeError(f"OODFeedback needs a T5Student, got {type(module).__name__}")
    return module


def _check_finite(
    student: T5Student, score: OODScore, probe: Mapping[int, tuple[float, float]], reference: Mapping[str, float]
) -> None:
    """Looks at what the band is chosen by, and what the AUROC is of. Raises NotFiniteError."""
    if not all(math.isfinite(loss) for _, loss in probe.values()):
        raise student.not_finite("the losses of probe samples are not finite")
    if not all(map(math.isfinite, [*(energy for energy, _ in probe.values()), *reference.values()])):
        raise student.not_finite("the energies of samples are not finite", score)
