"""Loop 3: the out-of-distribution feedback as a Lightning callback.

One round, in the order in which Lightning calls it:

1. ``GoldDataModule.train_dataloader``: the generator writes the round's training samples.
2. ``T5Student.training_step``: the student trains on them, and on those of earlier rounds.
3. ``GoldDataModule.val_dataloader``: the generator writes the round's probe set. In round 0 Lightning asks for it
   before training, later after it.
4. ``T5Student.validation_step``: metrics over the probe sets of all rounds so far, or over labelled rows.
5. ``OODFeedback.on_validation_epoch_end``: the student scores the probe set; the strategy chooses among it.
6. ``OODFeedback.on_validation_end``: the chosen samples enter the feedback pool, from which the next round's training
   prompts draw demos.
7. ``RoundEnd.on_train_epoch_end``: the round's line goes to ``rounds.jsonl``, and the next round begins.
8. Checkpoints: ``last.ckpt`` of every round, ``best.ckpt`` of the best.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, get_args

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError
from gold_lightning.feedback import FeedbackSettings, FeedbackStrategy, PoolEntry, StrategyName, make_strategy
from gold_lightning.noise import count_flipped
from gold_lightning.planning.plan_warnings import plan_warnings
from gold_lightning.scores import EnergyScore, OODScore
from gold_lightning.scoring import RoundScores, data_of, score_round, student_of
from gold_lightning.text_labels import LabelledBy

__all__ = ["OODFeedback"]

_log = logging.getLogger("gold_lightning")


class OODFeedback(Callback):
    """Scores the probe set with the student and feeds a part of it back into the generator's prompts.

    At the end of validation each probe sample gets an energy, without its label by default. The samples in the quantile
    band [alpha, beta) of ascending energy, within each label, enter the pool from which the next round's prompts draw
    feedback demos (GOLD, arXiv 2403.19754, section 3). Energies and choice go to ``rounds.jsonl`` and
    ``energies.jsonl`` in the run folder, and to loggers by :mod:`gold_lightning.watching.loggers`.

    Args:
        rate: Share of the prompts that show feedback demos, in [0, 1]; 0 turns feedback off.
        alpha: Lower quantile of the band, in [0, 1).
        beta: Upper quantile, above alpha; most samples above it are noise.
        strategy: The choice among the probe set. ``energy_band``: the band (GOLD); ``none``: nothing, so that prompts
            show seed demos alone; for comparison, as many samples of each label as the band has: ``random``,
            ``energy_top``, ``energy_bottom``, ``loss_top`` (highest loss on the generator's label). Or an own
            :class:`~gold_lightning.feedback.FeedbackStrategy`.
        label_check: Treatment of a chosen sample whose label is not the one that the generator's own likelihoods
            prefer. ``off``: it is fed back; ``require``: it is not; ``relabel``: it is, with the preferred label.
            ``data.plan.label_agreement`` has the likelihoods measured.
        capacity: Most feedback demos of each label in the pool.
        warmup_rounds: Number of first rounds that score the probe set but feed nothing back.
        teacher_forcing: Average the energy over the generator's target tokens instead of the student's own output.
        score: The score, higher for samples further out of distribution; an
            :class:`~gold_lightning.scores.EnergyScore` by default.
        reference_samples: Most training samples of the round that are scored for comparison (AUROC).
        label_by: Whose probabilities give a real text (``data.unlabelled``) its label when it is fed back. ``both``:
            the generator's and the student's together, for tasks of one label a row; ``generator``: the generator's
            alone.

    Raises:
        ConfigError: A value is out of its range.

    Example:
        >>> import gold_lightning as gl
        >>> gl.OODFeedback(alpha=0.5, beta=0.8, strategy="energy_band").settings.feeds
        True
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
        label_by: LabelledBy = "both",
    ) -> None:
        if reference_samples < 1:
            raise ConfigError("feedback.reference_samples", reference_samples, "1 or more")
        if label_by not in get_args(LabelledBy):
            raise ConfigError("feedback.label_by", label_by, f"one of {', '.join(get_args(LabelledBy))}")
        chosen_by = make_strategy(strategy)
        self.settings = FeedbackSettings(rate, alpha, beta, chosen_by, label_check, warmup_rounds)
        self.capacity, self.teacher_forcing, self.label_by = capacity, teacher_forcing, label_by
        self.score, self.reference_samples = score or EnergyScore(), reference_samples
        self._chosen: list[PoolEntry] = []
        self._rows: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """Returns the settings of the choice as plain values."""
        return self.settings.state_dict() | {"label_by": self.label_by, "teacher_forcing": self.teacher_forcing}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Warns of settings that have changed; samples that were chosen before stay in the pool."""
        settings = self.state_dict()
        if changed := sorted(key for key in settings if state_dict.get(key, settings[key]) != settings[key]):
            _log.warning("from now on samples are fed back with another %s", ", ".join(changed))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            data = data_of(trainer)
            self.settings.check(data.synthesizer.plan.label_agreement)
            # The command line links them; another trainer may not.
            data.feedback_rate, data.pool.capacity = self.settings.rate, self.capacity

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = data_of(trainer)
        if data.replayed is None:  # a replayed run asks the generator for nothing
            rounds = -1 if trainer.max_epochs is None else trainer.max_epochs
            texts = data.synthesizer.usable_texts
            for line in plan_warnings(data.task, data.synthesizer.plan, self.settings, rounds, texts):
                _log.warning("warning: %s", line)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data, student = data_of(trainer), student_of(pl_module)
        if data.only_reads:
            return
        scores = score_round(
            trainer,
            data,
            student,
            self.score,
            teacher_forcing=self.teacher_forcing,
            reference_samples=self.reference_samples,
            label_by=self.label_by,
        )
        self._chosen, left_out = self._choose(data, scores)
        fed_back = [entry.id for entry in self._chosen]
        self._rows = scores.rows(fed_back, data.noise)
        data.notes |= {
            **scores.summary(),
            **self.settings.notes(),
            "fed_back": fed_back,
            "not_fed_back": {reason: value for reason, value in left_out.items() if value},
            **({"flipped": count_flipped(self._rows)} if data.noise.share else {}),
        }
        pl_module.log_dict(scores.metrics(), rank_zero_only=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = data_of(trainer)
        if data.only_reads:
            return
        data.pool.push(self._chosen, by_label=data.task.one_label)
        if trainer.is_global_zero:
            data.store().write_energies(self._rows)  # before the round's line, so that a finished round has them

    def _choose(self, data: GoldDataModule, scores: RoundScores) -> tuple[list[PoolEntry], dict[str, Any]]:
        """Chooses feedback demos, and notes why others are left out."""
        if not self.settings.feeds:
            return [], {}
        pool_was_used = any(s.feedback or s.source == "unlabelled" for s in data.store().accepted("train"))
        unused = {"unused_pool": len(data.pool)} if len(data.pool) and not pool_was_used else {}
        probe = scores.probe_set(data, self.settings.alpha, self.settings.beta)
        labels = data.task.label_names if data.task.one_label else ()
        entries, reasons = self.settings.choose(scores.labelled, probe, labels)
        return entries, unused | reasons
