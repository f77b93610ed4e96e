"""The student: a T5 that learns a task from noisy samples. Lightning calls its hooks by name.

Batches are those of :mod:`gold_lightning.t5.batches`, which the data module yields; the two do not import each other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from gold_lightning.errors import ConfigError, GoldError, NotFiniteError, SharedError
from gold_lightning.losses import (
    IGNORE_INDEX,
    RobustLoss,
    RoundLoss,
    SoftTargets,
    SymmetricCrossEntropy,
    loss_settings,
    target_log_probs,
)
from gold_lightning.metrics import TextMetric, TokenMean, make_metric
from gold_lightning.scores import OODScore, mean_over_tokens
from gold_lightning.t5.checks import check_student
from gold_lightning.t5.folder import write_task
from gold_lightning.t5.fsdp import load_whole, shard
from gold_lightning.t5.inference import Inference
from gold_lightning.t5.label_scoring import label_log_probs
from gold_lightning.t5.modes import is_sharded
from gold_lightning.t5.optimizer import lr_factor, make_optimizer, weight_names
from gold_lightning.t5.resuming import fitting_state, say_afresh
from gold_lightning.t5.weights import copies_of, empty_copy, load_model, load_tokenizer
from gold_lightning.task import Task, TaskSource, prefix_errors_with

__all__ = ["T5Student", "metric_names"]

_log = logging.getLogger("gold_lightning")

_SHARES = {"encoder_lr": "encoder.", "embedding_lr": "shared."}  # settings, and the names of the weights they are of


def metric_names(task: Task) -> tuple[str, ...]:
    """Returns the names of a task's metrics; early stopping and checkpoints watch the first."""
    return task.metrics or (("accuracy",) if task.labels else ("exact_match",))


class T5Student(Inference, LightningModule):
    """A T5 with a loss that tolerates wrong labels.

    Args:
        task: The task: a :class:`~gold_lightning.task.Task`, the path of a task file, or the name of a shipped task.
        student: Hub id or folder of a T5, or ``embedded``: the one that the package brings.
        loss: The training loss; a :class:`~gold_lightning.losses.SymmetricCrossEntropy` by default.
        optimizer: ``adamw``, or ``adafactor`` with its update clipping, for models that were trained with it.
        lr: Peak learning rate.
        encoder_lr: Multiplier of ``lr`` for the encoder; 0 freezes it.
        embedding_lr: Multiplier of ``lr`` for the embeddings; 0 freezes them. With a few hundred samples only the
            embeddings of seen words move, away from all others, so freezing usually works better.
        weight_decay: Weight decay of weights with two or more dimensions.
        warmup: Share of a round's steps over which the learning rate rises.
        decay: Shape of its fall over the rest of the round. Each round begins anew: the number of rounds is not
            known in advance, and each brings new data.
        restart: Begin each round from the first weights and a new optimizer instead of continuing with both. A second
            copy of the weights stays in memory.
        num_beams: Number of beams when testing and predicting text; probing and validation are greedy.
        constrained_decoding: Let the student of a task with labels write the likeliest label, by the exact probability
            of each. If off, it writes freely, as in the published code, and every text that is not exactly a label is
            wrong.

    Example:
        >>> from gold_lightning import T5Student
        >>> student = T5Student("news_topics", student="embedded", lr=5e-4)
        >>> student.predict("The striker scored twice.")
        'Sports'
    """

    def __init__(
        self,
        task: TaskSource = "news_topics",
        student: str = "embedded",
        loss: RobustLoss | None = None,
        optimizer: Literal["adamw", "adafactor"] = "adamw",
        lr: float = 3e-4,
        encoder_lr: float = 1.0,
        embedding_lr: float = 1.0,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        decay: Literal["none", "linear", "cosine"] = "linear",
        restart: bool = False,
        num_beams: int = 1,
        constrained_decoding: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < lr <= 1e9:  # beyond, an optimizer's own numbers overflow
            raise ConfigError("model.lr", lr, "a finite number above 0", "0.0001 to 0.001 is usual")
        for key, share in (("encoder_lr", encoder_lr), ("embedding_lr", embedding_lr)):
            if not (math.isfinite(share) and share >= 0):
                raise ConfigError(f"model.{key}", share, "a finite number, 0 or more")
        if not 0 <= warmup < 1:
            raise ConfigError("model.warmup", warmup, "a number from 0 to below 1")
        if not weight_decay >= 0:
            raise ConfigError("model.weight_decay", weight_decay, "0 or more")
        if num_beams < 1:
            raise ConfigError("model.num_beams", num_beams, "1 or more")
        self.task = Task.load(task)
        if isinstance(loss, SoftTargets) and not self.task.one_label:
            kind = "several labels a row" if self.task.labels else "free text"
            raise ConfigError(
                "model.loss", "SoftTargets", f"another loss for {self.task.name}, whose targets are {kind}"
            )
        self.name, self.loss, self.optimizer = student, loss or SymmetricCrossEntropy(), optimizer
        self.lr, self.weight_decay, self.warmup, self.decay = lr, weight_decay, warmup, decay
        self.encoder_lr, self.embedding_lr = encoder_lr, embedding_lr
        self.restart, self.num_beams, self.constrained_decoding = restart, num_beams, constrained_decoding
        names = metric_names(self.task)
        with prefix_errors_with(self.task.source):
            by_stage = {stage: [(n, self._metric(n)) for n in names] for stage in ("val", "test")}
        self.metric_names = names
        self.metrics = nn.ModuleDict({f"{stage}_{n}": m for stage, pairs in by_stage.items() for n, m in pairs})
        self.train_loss = RoundLoss()
        self.val_loss = TokenMean()
        self.tokenizer = load_tokenizer(student)
        self.warnings = check_student(self.task, student, self.tokenizer)
        self.model = load_model(student).train()
        # On the CPU, for the rounds after the first. Tied weights are one tensor here too.
        self._first = copies_of(self.model.state_dict()) if restart else {}
        for name, weight in self.model.named_parameters():  # here, since DDP looks before there is an optimizer
            weight.requires_grad_(self._lr_share(name) > 0)
        self.test_score: OODScore | None = None
        """Score that ``test_step`` returns as ``energies`` beside the predictions."""
        self._bad_validation = torch.tensor(False)

    def configure_model(self) -> None:
        """Shards the weights if the strategy shards them."""
        if self._device_mesh is not None:
            shard(self.model, self._device_mesh["data_parallel"])

    # Training

    @property
    def learns_probabilities(self) -> bool:
        """Whether training reads ``probabilities`` of batches; a data module then makes sure that there are some."""
        return isinstance(self.loss, SoftTargets) and self.loss.weight > 0

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        means, counts = self._mean_losses(batch)
        self.train_loss.update(means.detach().sum(), counts[0], batch_idx)
        # A round is trained in one sitting, so its mean covers all its steps after a resume too.
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        loss = (means * self._shares(counts)).sum()
        self.log("train/loss_step", loss, prog_bar=True, batch_size=len(batch["id"]), sync_dist=True)
        return loss

    def _mean_losses(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Returns the parts of a batch's loss, each a mean, and the number of values that it is the mean of.

        The first part is the mean over target tokens; a loss of soft targets has a mean over rows as the second.
        """
        labels = batch["labels"]
        counted = labels != IGNORE_INDEX
        outputs = self.forward_outputs(batch, labels)
        loss: Tensor = self.loss(outputs.logits, labels)
        if not isinstance(self.loss, SoftTargets) or not self.learns_probabilities:
            return loss[None], counted.sum()[None]
        log_probs = label_log_probs(self.model, self.label_tree, batch, outputs)
        divergence = self.loss.divergence(log_probs, self._probabilities(batch, log_probs))
        rows, weight = counted.any(-1), self.loss.weight  # padding rows have no target tokens
        mean = torch.where(rows, divergence, 0.0).sum() / rows.sum().clamp(min=1)
        return torch.stack([(1 - weight) * loss, weight * mean]), torch.stack([counted.sum(), rows.sum()])

    def _probabilities(self, batch: dict[str, Any], like: Tensor) -> Tensor:
        """Returns the stored probabilities of labels; without any, probability 1 for each row's target."""
        if "probabilities" in batch:
            stored: Tensor = batch["probabilities"]
            return stored
        names = self.task.label_names
        places = torch.tensor([names.index(targets[0]) for targets in batch["targets"]], device=like.device)
        return nn.functional.one_hot(places, len(names)).to(like.dtype)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        every = int(getattr(self.trainer, "log_every_n_steps", 0) or 0)
        last = bool(self.trainer.is_last_batch)
        if last or (every and (batch_idx + 1) % every == 0):  # each look waits for the device
            self._check_loss(batch_idx + 1, last)

    def _check_loss(self, steps: int, last: bool) -> None:
        """Raises if a training loss of this round was not finite.

        A gradient scaler (16-mixed) skips a step whose loss is not finite, so the weights stay sound. The round then
        continues, unless half of its steps or more were skipped.

        Raises:
            NotFiniteError: A loss was not finite.
        """
        bad, first = self.train_loss.bad_steps(self._processes)
        if not bad:
            return
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            raise self.not_finite(f"the training loss of step {first} is not finite", self.loss)
        if last and 2 * bad >= steps:
            raise self.not_finite(f"the training loss of {bad} of {steps} steps is not finite", self.loss)
        if last:
            _log.warning(
                "round %d: %d of %d training steps were skipped, since their loss was not finite "
                "(trainer.precision %s; bf16-mixed does not overflow)",
                *(self.trainer.current_epoch, bad, steps, self.trainer.precision),
            )

    def not_finite(self, problem: str, cause: object = None) -> GoldError:
        """Returns the error that ends a run; the first process gets the message, the others a silent error.

        Args:
            problem: The quantity that is not finite.
            cause: The loss or score that returned it. The message names it unless it is part of this package.
        """
        trainer = self.trainer
        if not trainer.is_global_zero:
            return SharedError(problem)
        precision, ways = str(trainer.precision), []
        if precision.startswith("16"):
            ways.append(f"set trainer.precision to bf16-mixed or 32-true (T5 overflows in {precision})")
        if not trainer.testing:
            ways.append(f"lower model.lr ({self.lr:g})")
        if cause is not None and not type(cause).__module__.startswith("gold_lightning."):
            ways.append(f"mend {type(cause).__module__}.{type(cause).__qualname__}, which may have given it")
        if trainer.testing:
            return NotFiniteError(f"test: {problem}; {' or '.join(ways) or 'take another checkpoint'}")
        next_step = "The rounds before are kept, and the same command goes on from the last of them"
        if not trainer.current_epoch:
            next_step = "Its samples are kept, and the same command goes on with them"
        return NotFiniteError(f"round {trainer.current_epoch}: {problem}; {' or '.join(ways)}. {next_step}")

    def _shares(self, counts: Tensor) -> Tensor | float:
        """Scales means so that DDP's gradient average equals the average over the values of all processes.

        Args:
            counts: (parts,), number of values of each mean in this process.
        """
        if self._processes == 1:
            return 1.0
        every = counts.float()
        torch.distributed.all_reduce(every)
        share: Tensor = counts * self._processes / every
        return share

    @property
    def _processes(self) -> int:
        trainer = getattr(self, "_trainer", None)
        return 1 if trainer is None else int(trainer.world_size)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.optimizer, self.model, self.lr, self.weight_decay, self._lr_share)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.optimizers:
            checkpoint["optimizer_names"] = weight_names(self.trainer.optimizers[0], self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the optimizer's state if it fits today's settings; otherwise the optimizer begins afresh."""
        if self.trainer.state.fn != TrainerFn.FITTING or is_sharded(self.model):
            return
        optimizer = self.configure_optimizers()
        states, names = checkpoint.get("optimizer_states"), checkpoint.get("optimizer_names", ())
        state = fitting_state(states[0], optimizer, weight_names(optimizer, self.model), names) if states else None
        if state is None and self.trainer.is_global_zero and not self.restart:
            say_afresh()
        checkpoint["optimizer_states"] = [state or optimizer.state_dict()]
        checkpoint.setdefault("lr_schedulers", [])

    def _lr_share(self, name: str) -> float:
        """Learning rate of a weight as a share of ``lr``, by the weight's name."""
        return next((float(getattr(self, key)) for key, prefix in _SHARES.items() if name.startswith(prefix)), 1.0)

    def on_train_epoch_start(self) -> None:
        if self.restart and self.trainer.current_epoch > 0:
            load_whole(self.model, self._first)
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        factor = lr_factor(batch_idx, int(self.trainer.num_training_batches), self.warmup, self.decay)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * group["share"] * factor

    def training_settings(self) -> dict[str, Any]:
        """Returns the plain values that training depends on, besides data and first weights."""
        names = ("optimizer", "lr", "encoder_lr", "embedding_lr", "weight_decay", "warmup", "decay", "restart")
        return {"loss": loss_settings(self.loss), **{name: getattr(self, name) for name in names}}

    # Evaluation

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        batch = self.encoded(batch)
        tokens, labels = self.write(batch, num_beams=1), batch["labels"]
        logits = self.forward_logits(batch, labels)
        loss: Tensor = self.loss(logits, labels)
        counted = labels != IGNORE_INDEX
        # The mean over all target tokens, however they are batched, and over each row once.
        self.val_loss.update(self.loss.per_token(logits, labels), counted, batch["id"], dataloader_idx)
        self._bad_validation = self._bad_validation.to(loss.device) | ~torch.isfinite(loss)
        self._update("val", self.read(tokens), batch)
        return {"tokens": tokens}

    def on_validation_epoch_start(self) -> None:
        self._bad_validation = torch.tensor(False)

    def on_validation_epoch_end(self) -> None:
        bad = self._bad_validation.long().to(self.device)
        if self._processes > 1:
            torch.distributed.all_reduce(bad, op=torch.distributed.ReduceOp.MAX)
        if bad:
            raise self.not_finite("the validation loss is not finite", self.loss)
        self.log("val/loss", self.val_loss.compute())
        self.val_loss.reset()
        self._log_metrics("val")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        return {"id": batch["id"].tolist(), "predictions": self.predict_batch(batch)}

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        energies = None
        if self.scores_labels:
            scores = self.label_scores(batch, self.test_score)
            tokens, energies = scores.tokens, scores.energies
        else:
            batch = batch if self.test_score is None else self.encoded(batch)
            tokens = self.write(batch, num_beams=self.num_beams)
            if self.test_score is not None:
                energies = self.score(batch, self.test_score, tokens=tokens)
        predictions = self.read(tokens)
        self._update("test", predictions, batch)
        return {"tokens": tokens, "predictions": predictions, "energies": energies}

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    @torch.no_grad()
    def target_losses(self, batch: dict[str, Any]) -> Tensor:
        """Returns the mean cross-entropy of each row's target, (batch,), whatever the training loss is."""
        labels = batch["labels"]
        return mean_over_tokens(
            -target_log_probs(self.forward_logits(batch, labels), labels)[0], labels != IGNORE_INDEX
        )

    @torch.no_grad()
    def evaluate(self, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
        """Returns what validation logs for the same batches: loss, each metric, and the first as ``val/metric``.

        Args:
            batches: This process's share of the batches; all processes get the same numbers.
        """
        sums = torch.zeros(2, device=self.device)
        for batch in batches:
            batch = self.encoded(self.transfer_batch_to_device(batch, self.device, 0))
            labels = batch["labels"]
            counted = (labels != IGNORE_INDEX).sum()
            sums += torch.stack([self.loss(self.forward_logits(batch, labels), labels) * counted, counted])
            self._update("val", self.read(self.write(batch)), batch)
        if self._processes > 1:
            torch.distributed.all_reduce(sums)
        values = {"val/loss": float(sums[0] / sums[1])}
        for name, metric in self._stage_metrics("val"):
            values[f"val/{name}"] = float(metric.compute())
            values.setdefault("val/metric", values[f"val/{name}"])
            metric.reset()
        return values

    @torch.no_grad()
    def score(
        self, batch: dict[str, Any], score: OODScore, *, teacher_forcing: bool = False, tokens: Tensor | None = None
    ) -> Tensor:
        """Returns the out-of-distribution score of each row, (batch,) float32; higher is further out.

        Args:
            batch: A batch.
            score: The score.
            teacher_forcing: Average over the batch's target tokens instead of the student's own output, as the
                published code does. The target is the generator's and may be wrong.
            tokens: The student's output, if :meth:`write` was called already.
        """
        if teacher_forcing:
            tokens = batch["labels"]
        elif tokens is None and self.scores_labels:
            energies = self.label_scores(batch, score).energies
            assert energies is not None
            return energies
        elif tokens is None:
            tokens = self.write(batch)
        return score(self.forward_logits(batch, tokens), tokens != IGNORE_INDEX)

    def export(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Writes model, tokenizer and task; ``AutoModelForSeq2SeqLM.from_pretrained`` loads the folder too.

        Args:
            folder: The folder.
            weights: A checkpoint's ``state_dict``, which holds all weights even if this process has a shard of them.
        """
        model = empty_copy(self.model)
        # Assigned, not copied: a checkpoint's weights stay mapped from its file.
        state = {name.removeprefix("model."): weight.float() for name, weight in weights.items()}
        model.load_state_dict(state, assign=True)
        model.tie_weights()
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        decoding = {"num_beams": self.num_beams, "constrained_decoding": self.constrained_decoding}
        write_task(folder, self.task, decoding)

    def _metric(self, name: str) -> TextMetric:
        return make_metric(name, self.task.label_names, self.task.many)

    def _stage_metrics(self, stage: str) -> Sequence[tuple[str, TextMetric]]:
        return [(n, self.metrics[f"{stage}_{n}"]) for n in self.metric_names]  # type: ignore[misc]

    def _update(self, stage: str, predictions: list[str], batch: dict[str, Any]) -> None:
        for _, metric in self._stage_metrics(stage):
            metric.update(predictions, batch["targets"], batch["id"])

    def _log_metrics(self, stage: str) -> None:
        for i, (name, metric) in enumerate(self._stage_metrics(stage)):
            value = metric.compute()
            self.log(f"{stage}/{name}", value, prog_bar=i == 0)
            if i == 0:
                self.log(f"{stage}/metric", value)  # the one that is watched, whatever the task calls it
            metric.reset()
