"""The student: a T5 that learns a task from noisy samples.

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

from gold_lightning.errors import ConfigError, GoldError, NotFiniteError
from gold_lightning.generators.distributed import SharedError
from gold_lightning.losses import IGNORE_INDEX, RobustLoss, RoundLoss, SymmetricCrossEntropy, target_log_probs
from gold_lightning.metrics import TextMetric, TokenMean, make_metric
from gold_lightning.scores import OODScore, mean_over_tokens
from gold_lightning.t5.batches import make_loader
from gold_lightning.t5.checks import answer_of, check_student
from gold_lightning.t5.folder import write_task
from gold_lightning.t5.fsdp import is_sharded, load_whole, shard
from gold_lightning.t5.resuming import fitting_state, say_afresh
from gold_lightning.t5.weights import copies_of, empty_copy, load_model, load_tokenizer, target_text
from gold_lightning.task import Sample, Task, TaskSource, prefix_errors_with

__all__ = ["PrefixTree", "T5Student", "metric_names"]

Text = str | Mapping[str, str]
"""What the student reads: the text of the task's one field, or a text by each field's name."""

_log = logging.getLogger("gold_lightning")

_SHARES = {"encoder_lr": "encoder.", "embedding_lr": "shared."}  # settings, and the names of the weights they are of


def metric_names(task: Task) -> tuple[str, ...]:
    """Metrics of a task's student; the first is the one that is watched."""
    return task.metrics or (("accuracy",) if task.labels else ("exact_match",))


class PrefixTree:
    """Which tokens may come next, so that what is written is one of some sequences; for ``generate``.

    Args:
        sequences: Token ids of each, its end included.
        after: What stands after an end.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], after: int) -> None:
        self._after = [after]
        self._next: dict[tuple[int, ...], list[int]] = {}
        for sequence in sequences:
            for i, token in enumerate(sequence):
                follows = self._next.setdefault(tuple(sequence[:i]), [])
                if token not in follows:
                    follows.append(token)

    def __call__(self, row: int, written: Tensor) -> list[int]:
        """Tokens that may follow.

        Args:
            row: Position of the row in the batch; all rows have the same sequences.
            written: (length,) int64, the decoder's first token and what was written after it.
        """
        return self._next.get(tuple(written[1:].tolist()), self._after)


class T5Student(LightningModule):
    """Wraps any T5 with a loss that is meant to survive wrong labels.

    Args:
        task: The task: a :class:`~gold_lightning.task.Task`, the path of a task file, or the name of a shipped task.
        student: Hub id or folder of a T5; ``embedded``: the one that the package brings;
            ``generator-embeddings``: a small one built around the embedded generator's embeddings.
        loss: Scores logits against target tokens; a :class:`~gold_lightning.losses.SymmetricCrossEntropy` by default.
        optimizer: AdamW, or Adafactor with its update clipping for models that were trained with it.
        lr: Peak learning rate.
        encoder_lr: Of the encoder, as a share of ``lr``; 0 leaves it as it is.
        embedding_lr: Of the embeddings, likewise. A few hundred samples move the embeddings of the words in them
            away from those of all other words, which the encoder was trained to read together: better leave them.
        weight_decay: Of all weights with two or more dimensions.
        warmup: Share of a round's steps over which the learning rate rises.
        decay: How it falls over the rest of the round. Each round begins anew: how many rounds there
            will be is not known, and each brings new data.
        restart: Begin each round from the first weights and a new optimizer, instead of going on with both. A second
            copy of the weights stays in memory for it.
        num_beams: Beams when testing; probing and validation are greedy.
        constrained_decoding: The student of a task with labels writes one of them and nothing else: of the tokens that
            go on to a label, the likeliest (De Cao et al., ICLR 2021). Without, it writes freely, as in the published
            code, and what is no label, if only by its case, is wrong.
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
        self.name, self.loss, self.optimizer = student, loss or SymmetricCrossEntropy(), optimizer
        self.lr, self.weight_decay, self.warmup, self.decay = lr, weight_decay, warmup, decay
        self.encoder_lr, self.embedding_lr = encoder_lr, embedding_lr
        self.restart, self.num_beams, self.constrained_decoding = restart, num_beams, constrained_decoding
        names = metric_names(self.task)
        with prefix_errors_with(self.task.source):
            made = {stage: [(n, make_metric(n, self.task.label_names)) for n in names] for stage in ("val", "test")}
        self.metric_names = names
        self.metrics = nn.ModuleDict({f"{stage}_{n}": m for stage, pairs in made.items() for n, m in pairs})
        self.train_loss = RoundLoss()
        self.val_loss = TokenMean()
        self.tokenizer = load_tokenizer(student)
        self.warnings = check_student(self.task, student, self.tokenizer)
        self.model = load_model(student).train()
        # On the CPU, for the rounds after the first. Tied weights are one tensor here too.
        self._first = copies_of(self.model.state_dict()) if restart else {}
        for name, weight in self.model.named_parameters():  # here, since DDP looks before there is an optimizer
            weight.requires_grad_(self._share(name) > 0)
        self._bad_validation = torch.tensor(False)
        # A tokenizer may not give a label back as it was, if only by a space.
        self._readable = {self._decode_text(self.task.student_target(n)): n for n in self.task.label_names}
        self._labels = PrefixTree(
            [self._encode_text(self.task.student_target(n)) for n in self.task.label_names],
            after=int(self.model.config.pad_token_id),
        )

    def configure_model(self) -> None:
        """Cuts the weights up, where the strategy is one that has them cut up."""
        if self._device_mesh is not None:
            shard(self.model, self._device_mesh["data_parallel"])

    # Training

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        logits = self.forward_logits(batch, batch["labels"])
        loss: Tensor = self.loss(logits, batch["labels"])
        self.train_loss.update(loss.detach(), (batch["labels"] != IGNORE_INDEX).sum(), batch_idx)
        # All of a round is trained in one sitting, so the round's mean is of all its steps after a resume too.
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        loss = loss * self._share_of_tokens(batch["labels"])
        self.log("train/loss_step", loss, prog_bar=True, batch_size=len(batch["id"]), sync_dist=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        every = int(getattr(self.trainer, "log_every_n_steps", 0) or 0)
        last = bool(self.trainer.is_last_batch)
        if last or (every and (batch_idx + 1) % every == 0):  # each look waits for the device
            self._check_loss(batch_idx + 1, last)

    def _check_loss(self, steps: int, last: bool) -> None:
        """Looks at the losses of the round's steps so far.

        A gradient scaler (16-mixed) skips a step whose loss is not finite, so no weight is lost by it. Then the round
        goes on, unless at its end half of the steps or more were of no use.

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
        """The error that ends a run: in the first process the one that says why, in the others one that is not shown.

        Args:
            problem: What is not finite.
            cause: The loss or the score that gave it. It is named unless it comes with this package.
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
        return NotFiniteError(
            f"round {trainer.current_epoch}: {problem}; {' or '.join(ways)}. "
            "The rounds before are kept, and the same command goes on from the last of them"
        )

    def _share_of_tokens(self, labels: Tensor) -> Tensor | float:
        """What makes the mean over processes, which is taken of gradients, the mean over all their target tokens."""
        if self._processes == 1:
            return 1.0
        tokens = (labels != IGNORE_INDEX).sum().float()
        every = tokens.clone()
        torch.distributed.all_reduce(every)
        share: Tensor = tokens * self._processes / every
        return share

    @property
    def _processes(self) -> int:
        trainer = getattr(self, "_trainer", None)
        return 1 if trainer is None else int(trainer.world_size)

    def forward_logits(self, batch: dict[str, Any], labels: Tensor) -> Tensor:
        """Logits of each target token, (batch, target_len, vocab), the decoder forced on ``labels``."""
        out = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            decoder_input_ids=self.model._shift_right(labels),
            use_cache=False,
        )
        logits: Tensor = out.logits
        return logits

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = []
        named = [(self._share(n), p) for n, p in self.model.named_parameters() if p.requires_grad]
        for share in dict.fromkeys(share for share, _ in named):
            for decay, wide in ((self.weight_decay, True), (0.0, False)):
                if part := [p for s, p in named if s == share and (p.ndim >= 2) is wide]:
                    groups.append({"params": part, "weight_decay": decay, "share": share})
        if self.optimizer == "adafactor":
            from transformers.optimization import Adafactor

            made: torch.optim.Optimizer = Adafactor(groups, lr=self.lr, scale_parameter=False, relative_step=False)
            return made
        return torch.optim.AdamW(groups, lr=self.lr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.optimizers:
            checkpoint["optimizer_names"] = self.optimizer_names(self.trainer.optimizers[0])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Has a run go on with other settings of its optimizer: with its state if that fits, else with a new one."""
        if self.trainer.state.fn != TrainerFn.FITTING or is_sharded(self.model):
            return
        made = self.configure_optimizers()
        held, names = checkpoint.get("optimizer_states"), checkpoint.get("optimizer_names", ())
        state = fitting_state(held[0], made, self.optimizer_names(made), names) if held else None
        if state is None and self.trainer.is_global_zero and not self.restart:
            say_afresh()
        checkpoint["optimizer_states"] = [state or made.state_dict()]
        checkpoint.setdefault("lr_schedulers", [])

    def optimizer_names(self, optimizer: torch.optim.Optimizer) -> list[str]:
        """Names of an optimizer's weights, in the order of its groups."""
        of = {id(weight): name for name, weight in self.model.named_parameters()}
        return [of[id(weight)] for group in optimizer.param_groups for weight in group["params"]]

    def _share(self, weight: str) -> float:
        """Learning rate of a weight, by its name, as a share of ``lr``."""
        return next((float(getattr(self, key)) for key, of in _SHARES.items() if weight.startswith(of)), 1.0)

    def on_train_epoch_start(self) -> None:
        if self.restart and self.trainer.current_epoch > 0:
            load_whole(self.model, self._first)
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        factor = self.lr_factor(batch_idx, int(self.trainer.num_training_batches))
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * group["share"] * factor

    def lr_factor(self, step: int, steps: int) -> float:
        """Share of the peak learning rate at a step of a round, in (0, 1]."""
        rising = math.ceil(self.warmup * steps)
        if step < rising:
            return (step + 1) / rising
        left = 1 - (step - rising) / max(1, steps - rising)
        if self.decay == "linear":
            return left
        return 0.5 * (1 - math.cos(math.pi * left)) if self.decay == "cosine" else 1.0

    def training_settings(self) -> dict[str, Any]:
        """Plain values on which training depends, beside data and first weights."""
        loss = {k: v for k, v in vars(self.loss).items() if isinstance(v, bool | int | float | str)}
        names = ("optimizer", "lr", "encoder_lr", "embedding_lr", "weight_decay", "warmup", "decay", "restart")
        kind = f"{type(self.loss).__module__}.{type(self.loss).__qualname__}"
        return {"loss": {"class": kind, **loss}, **{name: getattr(self, name) for name in names}}

    # Evaluation

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
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

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        tokens = self.write(batch, num_beams=self.num_beams)
        predictions = self.read(tokens)
        self._update("test", predictions, batch)
        return {"tokens": tokens, "predictions": predictions}

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def write(self, batch: dict[str, Any], num_beams: int = 1) -> Tensor:
        """What the student writes.

        Returns:
            (batch, target_len) int64, -100 after the end of each sequence.
        """
        out: Tensor = self.model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=self.task.student.max_target_tokens,
            num_beams=num_beams,
            do_sample=False,
            prefix_allowed_tokens_fn=self._labels if self.task.labels and self.constrained_decoding else None,
            synced_gpus=is_sharded(self.model),  # each process has a part of the weights, until all have written
        )[:, 1:]
        # What follows the first end is padding; the end itself counts.
        end = (out == self.model.config.eos_token_id).long()
        return out.masked_fill(end.cumsum(-1) - end > 0, IGNORE_INDEX)

    def read(self, tokens: Tensor) -> list[str]:
        """Texts of token rows with -100 on padding; labels by their own name."""
        pad = self.tokenizer.pad_token_id
        texts = self.tokenizer.batch_decode(tokens.masked_fill(tokens == IGNORE_INDEX, pad), skip_special_tokens=True)
        if not self.task.labels:
            return [answer_of(self.task, text) for text in texts]
        return [self._readable.get(text.strip(), text.strip()) for text in texts]

    @torch.no_grad()
    def target_losses(self, batch: dict[str, Any]) -> Tensor:
        """Mean cross-entropy of each row's target, (batch,), whatever the loss: how surprising the target is."""
        labels = batch["labels"]
        return mean_over_tokens(
            -target_log_probs(self.forward_logits(batch, labels), labels)[0], labels != IGNORE_INDEX
        )

    @torch.no_grad()
    def evaluate(self, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
        """What validation logs of the same batches: ``val/loss``, each metric, and ``val/metric``, the first of them.

        Args:
            batches: If there are several processes, each gives its share, and all get the same numbers.
        """
        sums = torch.zeros(2, device=self.device)
        for batch in batches:
            batch = self.transfer_batch_to_device(batch, self.device, 0)
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
        """Out-of-distribution score of each row, (batch,) float32, higher = further out.

        Args:
            batch: A batch.
            score: The score.
            teacher_forcing: Average over the batch's target tokens instead of those that the student wrote
                itself. The published code does; but the target is the generator's, and may be wrong.
            tokens: What the student wrote, where :meth:`write` was called already.
        """
        if teacher_forcing:
            tokens = batch["labels"]
        elif tokens is None:
            tokens = self.write(batch)
        return score(self.forward_logits(batch, tokens), tokens != IGNORE_INDEX)

    def export(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Writes a model and the tokenizer so that ``AutoModelForSeq2SeqLM.from_pretrained`` loads them.

        Args:
            folder: Where to.
            weights: As a checkpoint's ``state_dict`` has them: whole, whatever this process has of them.
        """
        model = empty_copy(self.model)
        # Taken as they are, which a checkpoint's are from its file: nothing is copied.
        own = {name.removeprefix("model."): weight.float() for name, weight in weights.items()}
        model.load_state_dict(own, assign=True)
        model.tie_weights()
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        decoding = {"num_beams": self.num_beams, "constrained_decoding": self.constrained_decoding}
        write_task(folder, self.task, decoding)

    @torch.no_grad()
    def predict(self, texts: Text | Sequence[Text], batch_size: int = 32) -> str | list[str]:
        """Gives the label of a text, or the text that the student writes for it.

        Args:
            texts: One text or several. A text is a string if the task has one field, otherwise a mapping with a text
                for each field.
            batch_size: Texts in a batch.

        Returns:
            A prediction for one text; for several a list of them, in order.

        Raises:
            GoldError: A text has not the task's fields.

        Example:
            >>> from gold_lightning.student import T5Student
            >>> T5Student("news_topics").predict("The striker scored twice.")
            'Sports'
        """
        one = isinstance(texts, str | Mapping)
        every: Sequence[Text] = [texts] if one else list(texts)  # type: ignore[list-item]
        samples = [Sample(self._fields_of(text), "") for text in every]
        was_training = self.model.training
        self.eval()
        predictions: list[str] = []
        for batch in make_loader(self.task, self.tokenizer, samples, batch_size):
            batch = self.transfer_batch_to_device(batch, self.device, 0)
            predictions += self.read(self.write(batch, self.num_beams))
        self.train(was_training)
        return predictions[0] if one else predictions

    def _fields_of(self, text: Text) -> dict[str, str]:
        names = [f.name for f in self.task.fields]
        if isinstance(text, str) and len(names) == 1:
            return {names[0]: text}
        if isinstance(text, Mapping) and set(text) >= set(names) and all(isinstance(text[n], str) for n in names):
            return {name: text[name] for name in names}
        expected = f"a mapping with a text for each of {', '.join(names)}" if len(names) > 1 else "a text"
        raise GoldError(f"predict: got {text!r:.80}, expected {expected}")

    def _encode_text(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer(target_text(self.tokenizer, text)).input_ids
        return tokens

    def _decode_text(self, text: str) -> str:
        return str(self.tokenizer.decode(self._encode_text(text), skip_special_tokens=True)).strip()

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
