"""Callbacks that turn the rounds: each round's end with its line in ``rounds.jsonl``, seeds of steps, Ctrl-C."""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gold_lightning.budget import Budget
from gold_lightning.checks.contamination import count_overlaps
from gold_lightning.feedback import FeedbackPool
from gold_lightning.interrupt import Stopping
from gold_lightning.labelled import TestSet
from gold_lightning.planning.plan_warnings import reasons_not_fed_back
from gold_lightning.storage.clock import RunClock
from gold_lightning.storage.json_lines import read_lines, write_lines
from gold_lightning.storage.lazy import Mapped
from gold_lightning.storage.round_store import BatchRecord, Kind, RoundStore, StoredSample
from gold_lightning.storage.run_folder import RunFolder
from gold_lightning.synthesis import Synthesizer
from gold_lightning.t5.checks import count_cut
from gold_lightning.task import StudentFormat, Task
from gold_lightning.unlabelled import real_texts
from gold_lightning.validation import ValidationSet, WatchedRows, described

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["NOT_SCORED", "RoundData", "RoundEnd", "SeedSteps", "StopInOrder"]

_log = logging.getLogger("gold_lightning")

NOT_SCORED: Mapping[str, Any] = {
    "energy": {},
    "auroc": None,
    "strategy": "none",
    "band": None,
    "fed_back": [],
    "not_fed_back": {},
}
"""Values in a round's line if no callback has scored the probe set."""


class RoundData(Protocol):
    """The part of :class:`gold_lightning.data.GoldDataModule` that these callbacks use."""

    round: int
    seed: int
    stopping: Stopping
    run_dir: Path
    task: Task
    pool: FeedbackPool
    budget: Budget
    synthesizer: Synthesizer
    test_set: TestSet
    validation: ValidationSet
    tokenizer: PreTrainedTokenizerBase
    clock: RunClock
    generation_seconds: float
    notes: dict[str, Any]

    def store(self) -> RoundStore:
        """Returns the round's store."""

    def train_samples(self) -> Sequence[StoredSample]:
        """Returns the samples that the round trains on."""

    def watched(self, round_: int) -> WatchedRows:
        """Returns the rows that the round's validation metrics are over."""

    def advance(self) -> None:
        """Ends the round."""


class _AfterBatch(Callback, ABC):
    """A callback that does the same after each training and each validation batch."""

    @abstractmethod
    def after_batch(self, trainer: Trainer) -> None:
        """Called after each batch."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.after_batch(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.after_batch(trainer)


class RoundEnd(_AfterBatch):
    """Ends each round: writes its line to ``rounds.jsonl`` and the log, and turns the data module to the next round.

    The data module adds this callback to a trainer without it. The line contains the data module's ``notes``, in which
    other callbacks leave values until validation ends: :class:`gold_lightning.callbacks.OODFeedback` leaves energies
    and the ids of the samples that it feeds back.
    """

    def __init__(self) -> None:
        self._times = {"training": 0.0, "scoring": 0.0}
        self._since = self._generated = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since, self._generated = time.perf_counter(), _data(trainer).generation_seconds

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        validation_start = time.perf_counter()
        # In rounds after the first, Lightning asks for the probe set between training and validation.
        generated = _data(trainer).generation_seconds - self._generated
        self._times["training"] = max(0.0, validation_start - self._since - generated)
        self._since = validation_start

    def after_batch(self, trainer: Trainer) -> None:
        self._note(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._note(trainer, immediately=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = _data(trainer)
        self._times["scoring"] = time.perf_counter() - self._since
        if trainer.is_global_zero:
            row = self._row(trainer, data)
            path = RunFolder(data.run_dir).rounds
            # A round that runs again after a kill replaces its line.
            write_lines(path, [r for r in read_lines(path) if r["round"] < data.round] + [row])
            _log.info(_line(row, data.task))
            if not row["energy"] and not data.round:
                _log.warning(
                    "warning: nothing has scored the probe set, so nothing is fed back; "
                    "gold_lightning.callbacks.OODFeedback among the trainer's callbacks does"
                )
            self._note(trainer, immediately=True)
        data.advance()

    def _note(self, trainer: Trainer, *, immediately: bool = False) -> None:
        if trainer.is_global_zero and trainer.state.fn == "fit":
            _data(trainer).clock.note(immediately=immediately)

    def _row(self, trainer: Trainer, data: RoundData) -> dict[str, Any]:
        store, real = data.store(), data.synthesizer.real
        kinds: tuple[Kind, ...] = ("train", "probe")
        by_kind = {kind: store.batches(kind) for kind in kinds}
        batches = [b for of_kind in by_kind.values() for b in of_kind]
        samples = {kind: Mapped(store.accepted(kind), lambda s: s.sample) for kind in kinds}
        overlaps = {kind: data.test_set.overlap(store.accepted(kind).with_ids) for kind in kinds}
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(("train/loss", "val/"))}
        lost, data.clock.lost = data.clock.lost, 0.0
        usage = data.synthesizer.log().usage
        leaked = data.validation.overlaps({"train": samples["train"], "demos": data.task.demos})
        return {
            "round": data.round,
            "step": trainer.global_step,
            **{
                kind: {
                    "requested": sum(b.requested for b in of_kind),
                    "accepted": sum(b.accepted for b in of_kind),
                    "rejects": dict(sum((Counter(b.rejects) for b in of_kind), Counter())),
                    "agreed": sum(b.agreed for b in of_kind),
                    "asked_agreement": sum(b.asked_agreement for b in of_kind),
                    "from_surplus": sum(b.from_surplus for b in of_kind),
                    "cut": sum(b.cut for b in of_kind),
                    **_thinking(of_kind),
                    **({"unlabelled": len(texts)} if (texts := real_texts(store.accepted(kind))) else {}),
                }
                for kind, of_kind in by_kind.items()
            },
            "trained_on": len(data.train_samples()),
            "overlap": {k: count_overlaps(o for _, o in pairs) for k, pairs in overlaps.items() if pairs is not None},
            "cut": {kind: vars(count_cut(data.task, data.tokenizer, of_kind)) for kind, of_kind in samples.items()},
            "feedback_prompts": sum(s.feedback for s in store.accepted("train")),
            "tokens": data.budget.as_row(usage(data.round, data.round)),
            "tokens_so_far": data.budget.as_row(usage(0, data.round)),
            "seconds": {"generation": round(sum(b.seconds for b in batches), 3)}
            | {k: round(v, 3) for k, v in self._times.items()}
            | ({"interrupted": round(lost, 3)} if lost >= 0.001 else {}),
            "pool": len(data.pool),
            **({"unlabelled": real.counts([data.synthesizer.store(r) for r in range(data.round + 1)])} if real else {}),
            **NOT_SCORED,
            **data.notes,
            "metrics": metrics,
            "validated_on": data.watched(data.round).as_row(),
            **({"validation_overlap": leaked} if leaked else {}),
        }


class StopInOrder(_AfterBatch):
    """Ends a run after the training step or the validation batch during which Ctrl-C was pressed."""

    def after_batch(self, trainer: Trainer) -> None:
        if _data(trainer).stopping.wanted:
            raise KeyboardInterrupt


class SeedSteps(Callback):
    """Seeds torch before each training step from the run's seed, the round and the step alone.

    Dropout in a resumed run is then the same as in an uninterrupted one. Lightning's checkpoints hold no states of
    random number generators, and loaders draw from these at other moments after a resume.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        data = _data(trainer)
        torch.manual_seed(random.Random(f"{data.seed}/{data.round}/{batch_idx}/{trainer.global_rank}").getrandbits(63))


def _data(trainer: Trainer) -> RoundData:
    return cast(RoundData, trainer.datamodule)  # type: ignore[attr-defined]


def _best(row: Mapping[str, Any]) -> str:
    """Names the round that is better than this one on the same rows, if there is one."""
    selection = row.get("selection", {})
    if selection.get("best", row["round"]) == row["round"]:
        return ""
    value = selection["before"].get(selection["monitor"])
    return f"round {selection['best']} has " + (f"{value:.3f}" if value is not None else "more")


def _thinking(batches: Sequence[BatchRecord]) -> dict[str, int]:
    """Counts completions after thinking, and tokens of it; empty if the generator did not think."""
    counts = {"thought": sum(b.thought for b in batches), "thinking_tokens": sum(b.thinking_tokens for b in batches)}
    return {name: count for name, count in counts.items() if count}


def _cut_parts(cut: Mapping[str, Mapping[str, int]], form: StudentFormat) -> Iterator[str]:
    """Counts the round's new samples that are cut, with the setting of the limit."""
    for part, limit in (("inputs", form.max_input_tokens), ("targets", form.max_target_tokens)):
        number, total = (sum(of_kind[key] for of_kind in cut.values()) for key in (part, "of"))
        if number:
            yield f"{number} of {total} {part} cut (student.max_{part[:-1]}_tokens {limit})"


def _line(row: Mapping[str, Any], task: Task) -> str:
    train, energy = row["train"], row["energy"]
    first = next((k for k in row["metrics"] if k not in ("val/loss", "val/metric") and k.startswith("val/")), None)
    shared = sum(overlap["any"] for overlap in row["overlap"].values())
    leaked = row.get("validation_overlap", {}).get("train", {}).get("any", 0)
    reasons = reasons_not_fed_back(row["not_fed_back"], len(task.labels) if task.one_label else 0)
    parts = [
        f"round {row['round']}",
        f"trained on {row['trained_on']} (+{train['accepted']}, "
        f"yield {train['accepted'] / max(1, train['requested']):.0%}"
        + (f", {train['cut']} cut at a sentence's end" if train["cut"] else "")
        + (f", {train['thought']} after thinking" if train.get("thought") else "")
        + (f"; {len(row['left_out'])} doubtful left out)" if row.get("left_out") else ")"),
        f"{first} {row['metrics'][first]:.3f} on {described(row['validated_on'])}" if first else "",
        _best(row),
        f"energy probe {energy['probe']['mean']:.2f} train {energy['train']['mean']:.2f} AUROC {row['auroc']:.2f}"
        if energy
        else "",
        f"fed back {len(row['fed_back'])}" + (f" ({'; '.join(reasons)})" if reasons else ""),
        f"{shared} have text in common with the test set" if shared else "",
        f"{leaked} have text in common with the validation rows" if leaked else "",
        *_cut_parts(row["cut"], task.student),
        f"{sum(row['seconds'].values()):.0f} s",
    ]
    return " | ".join(p for p in parts if p)
