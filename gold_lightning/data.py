"""Rounds of synthetic data. Owns the feedback pool and the round counter."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch.utils.data import DataLoader

from gold_lightning.budget import Budget
from gold_lightning.checks.contamination import Decontaminator, Overlap, count_overlaps
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import EmbeddedGenerator, Generator
from gold_lightning.generators.distributed import DistributedGenerator, distribute
from gold_lightning.inputs.paths import folder_for
from gold_lightning.interrupt import Stopping
from gold_lightning.labelled import check_rows_file, load_test_rows, load_validation_rows
from gold_lightning.noise import LabelNoise
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.plugins import load_plugins
from gold_lightning.rounds import RoundEnd
from gold_lightning.storage.clock import RunClock
from gold_lightning.storage.replay import Replay
from gold_lightning.storage.round_store import RoundStore, StoredSample, rounds_in
from gold_lightning.synthesis import Progress, Synthesizer
from gold_lightning.t5.batches import make_loader
from gold_lightning.t5.checks import Cut, count_cut
from gold_lightning.t5.weights import load_tokenizer
from gold_lightning.task import Sample, Task, TaskSource, TestRow
from gold_lightning.validation import WatchedRows

__all__ = ["GoldDataModule", "log_progress"]

_log = logging.getLogger(__name__)


class GoldDataModule(LightningDataModule):
    """Has the generator write new samples in every round, and keeps the probe set apart from them for ever.

    Rounds are keyed by a counter of its own, not by Lightning's epoch: on resume Lightning asks for the
    training loader once with a stale epoch. A round's data is made once and found again in the store.

    Args:
        task: The task: a :class:`~gold_lightning.task.Task`, the path of a task file, or the name of a shipped task.
        generator: The engine that writes samples; an :class:`~gold_lightning.generators.EmbeddedGenerator` by default.
        plan: How much to synthesise a round, and how prompts are made up.
        run_dir: The run folder. The CLI sets it from ``--run``.
        student: Whose tokenizer to use; the CLI links it to ``--model.student``.
        batch_size: Samples a training step on each device.
        eval_batch_size: Samples a batch when validating, probing and testing.
        passes_per_round: How often a round trains on each sample.
        replay: Train on the samples of all rounds so far, or of the last one.
        feedback_rate: Share of the prompts that shows feedback demos; the CLI links ``--feedback.rate``.
        feedback_capacity: Most feedback demos held for each label; linked to ``--feedback.capacity``.
        test_file: JSON, JSON Lines, CSV, TSV or Parquet file with labelled rows, in place of the task's own test data.
        label_noise: Share of the samples, training and probe, whose label is exchanged for another one, for
            experiments on noise. Which ones they are depends on seed and id; the store keeps what was written.
        budget: What the run may spend, and what tokens cost.
        reuse_completions: Take what other runs of the task, in the folder beside this one, were given for the
            very same request, in place of asking again.
        replay_from: A run folder whose samples to train on, round by round, in place of asking a generator.
        seed: Of synthesis and of the training order; linked to ``--seed_everything``.
        plugins: Modules to import, such as ``my_package.checks``, whose decorators register checks and metrics that
            the task names.

    Attributes:
        watch: Told how far the synthesis is; a log line by default.
        notes: What callbacks add to this round's line in ``rounds.jsonl``.
        clock: How long the run has taken, in all its sittings.
        generation_seconds: How long this sitting has waited for samples.
    """

    def __init__(
        self,
        task: TaskSource = "news_topics",
        generator: Generator | None = None,
        plan: SynthesisPlan = SynthesisPlan(),  # noqa: B008 - frozen
        run_dir: str = "runs/run",
        student: str = "embedded",
        batch_size: int = 16,
        eval_batch_size: int = 64,
        passes_per_round: int = 4,
        replay: Literal["all", "last"] = "all",
        feedback_rate: float = 0.5,
        feedback_capacity: int = 64,
        test_file: str | None = None,
        label_noise: float = 0.0,
        budget: Budget = Budget(),  # noqa: B008 - frozen
        reuse_completions: bool = True,
        replay_from: str | None = None,
        seed: int = 0,
        plugins: Sequence[str] = (),
    ) -> None:
        super().__init__()
        load_plugins(plugins)
        sizes = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "passes_per_round": passes_per_round}
        for key, value in sizes.items():
            if value < 1:
                raise ConfigError(f"data.{key}", value, "1 or more")
        if test_file is not None:
            check_rows_file("data.test_file", test_file)
        self.task: Task = Task.load(task)
        self.noise = LabelNoise(label_noise, self.task.label_names, seed)
        self.run_dir = folder_for("data.run_dir", run_dir)
        self.student, self.batch_size, self.eval_batch_size = student, batch_size, eval_batch_size
        self.passes_per_round, self.replay, self.seed = passes_per_round, replay, seed
        self.feedback_rate, self.test_file = feedback_rate, test_file
        self.generator = EmbeddedGenerator() if generator is None else generator
        self.pool = FeedbackPool(feedback_capacity)
        self.round = 0
        self.decontaminate = plan.decontaminate
        self.budget, self.stopping = budget, Stopping()
        self.watch: Callable[[Progress], None] = log_progress
        self.replayed = None if replay_from is None else Replay(replay_from, self.run_dir, self.task)
        beside = sorted(self.run_dir.parent.glob("*/data/completions.jsonl")) if reuse_completions else []
        self.synthesizer = Synthesizer(
            self.task,
            self.generator,
            self.run_dir,
            plan,
            seed,
            self._progress,
            self.test_index,
            budget,
            self.seconds,
            lambda: self.stopping.wanted,
            [path for path in beside if path.parent.parent.name != self.run_dir.name],
        )
        self.clock, self.generation_seconds = RunClock(self.run_dir), 0.0
        self.notes: dict[str, Any] = {}
        self._distributed: DistributedGenerator | None = None
        self.tokenizer = load_tokenizer(student)
        self._test_rows: list[TestRow] | None = None
        self._test_index: Decontaminator | None = None
        self._validation_rows: list[TestRow] | None = None
        self._validation_index: Decontaminator | None = None
        self._measures = plan.decontaminate != "off"
        self._test_ids: list[int] | None = None

    # Rounds

    def store(self, round_: int | None = None) -> RoundStore:
        """The store of a round, the current one by default. One process of a run alone mends and writes it."""
        self.synthesizer.writes = self.trainer is None or self.trainer.is_global_zero
        return self.synthesizer.store(self.round if round_ is None else round_)

    def train_samples(self) -> list[StoredSample]:
        """What this round trains on: from the first round, or from this one."""
        first = 0 if self.replay == "all" else self.round
        return [self.noise.apply(s) for r in range(first, self.round + 1) for s in self.store(r).accepted("train")]

    def probe_samples(self) -> Sequence[StoredSample]:
        """This round's probe set."""
        return [self.noise.apply(s) for s in self.store().accepted("probe")]

    def setup(self, stage: str) -> None:
        """Has a trainer that fits go from round to round, whoever made it."""
        if stage != "fit" or self.trainer is None:
            return
        self.validation_rows()  # a file that cannot be read is told before anything is paid for
        self.trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]  # a round has its own samples
        self.trainer.num_sanity_val_steps = 0  # there is no probe set before the first round
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        if not any(isinstance(callback, RoundEnd) for callback in callbacks):
            callbacks.append(RoundEnd())

    def advance(self) -> None:
        """Ends the round: what follows belongs to the next one."""
        self.round += 1
        self.notes = {}

    @staticmethod
    def of(trainer: Trainer) -> GoldDataModule:
        """The trainer's own, for callbacks. Raises TypeError where it has another."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, GoldDataModule):
            raise TypeError(f"this callback needs a GoldDataModule, got {type(data).__name__}")
        return data

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Synthesises the round's training samples, unless they are there, and gives them in a seeded order."""
        self._synthesise(lambda: self.synthesizer.train(self.round, self.pool, self.feedback_rate))
        samples = [s.sample for s in self.train_samples()]
        rng = random.Random(f"{self.seed}/{self.round}/order")
        order: list[int] = []
        for _ in range(self.passes_per_round):
            order += rng.sample(range(len(samples)), len(samples))
        return self.loader(samples, self.batch_size, order, shard=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Synthesises the round's probe set, unless it is there, and gives the rows that the student is scored on.

        Asked for before training in round 0. A trainer that only validates gets the rows of the round whose student
        was loaded: nothing is synthesised, and nothing is written.
        """
        if self.only_reads:
            return self.loader(self.watched(self.round - 1).samples, self.eval_batch_size)
        self._synthesise(lambda: self.synthesizer.probe(self.round))
        return self.loader(self.watched(self.round).samples, self.eval_batch_size)

    @property
    def only_reads(self) -> bool:
        """Whether the trainer validates alone; then the counter is one ahead of the student that was loaded."""
        return self.trainer is not None and self.trainer.state.fn == "validate"

    def watched(self, round_: int) -> WatchedRows:
        """The rows by which a round's student is compared with others.

        Raises:
            GoldError: There are none, since no round is over, or a probe set is not there.
        """
        if self.task.validation:
            return WatchedRows(self.validation_rows(), 0)
        if round_ < 0:
            raise GoldError(f"{self.run_dir}: no round is over yet, so there is nothing to validate on; run fit first")
        probes = []
        for r in (round_, *range(round_)):  # its own first
            store = RoundStore(self.run_dir, r, read_only=True) if self.only_reads else self.store(r)
            if found := [self.noise.apply(s).sample for s in store.accepted("probe")]:
                probes.append(found)
            elif r == round_:
                raise GoldError(f"{store.folder}: there is no probe set of round {r} to validate on; run fit first")
        return WatchedRows([sample for found in probes for sample in found], len(probes))

    def watched_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The round's watched rows, of which each process gets its share."""
        return self.loader(self.watched(self.round).samples, self.eval_batch_size, shard=True)

    def probe_dataloader(self) -> DataLoader[dict[str, Any]]:
        """All of the round's probe set, for each process."""
        return self.loader([s.sample for s in self.probe_samples()], self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Labelled rows for evaluation."""
        return self.loader(self.test_rows(), self.eval_batch_size, self.test_ids())

    def reference_dataloader(self, count: int) -> DataLoader[dict[str, Any]]:
        """Up to ``count`` of this round's new training samples, to compare the probe set's energies with."""
        own = [self.noise.apply(s).sample for s in self.store().accepted("train")]
        rng = random.Random(f"{self.seed}/{self.round}/reference")
        chosen = rng.sample(range(len(own)), min(count, len(own)))
        return self.loader(own, self.eval_batch_size, sorted(chosen))

    def test_rows(self) -> list[TestRow]:
        """The test set, read once."""
        if self._test_rows is None:
            self._test_rows = load_test_rows(self.task, self.test_file)
        return self._test_rows

    def validation_rows(self) -> list[TestRow]:
        """The labelled rows that the task names for comparing rounds, read once; none if it names none."""
        if self._validation_rows is None:
            self._validation_rows = load_validation_rows(self.task) if self.task.validation else []
        return self._validation_rows

    def validation_overlap(self) -> dict[str, dict[str, int]]:
        """What the round's training samples and the demos share with the labelled validation rows, as counts.

        Nothing if there are no such rows, or the overlap is not measured (``data.plan.decontaminate: off``).
        """
        if not self.task.validation or self.decontaminate == "off":
            return {}
        self._validation_index = self._validation_index or Decontaminator(self.validation_rows())
        found = {"train": [s.sample for s in self.store().accepted("train")], "demos": self.task.demos}
        return {k: count_overlaps(map(self._validation_index.overlap, samples)) for k, samples in found.items()}

    def test_index(self) -> Decontaminator:
        """The test set's words, indexed once.

        Raises:
            GoldError: The test set is out of reach.
        """
        if self._test_index is None:
            try:
                self._test_index = Decontaminator(self.test_rows())
            except GoldError as e:
                if self.decontaminate != "drop":
                    raise
                raise GoldError(f"data.plan.decontaminate: drop needs the test set; {e}") from None
        return self._test_index

    def overlap(self, samples: Mapping[str, Sample]) -> dict[str, Overlap] | None:
        """What samples, by id, have in common with the test set.

        Returns:
            An entry for each sample; ``None`` where that is turned off or the test set is out of reach. The
            latter is told once: training needs no test data.
        """
        if not self._measures:
            return None
        try:
            index = self.test_index()
        except GoldError as e:
            if self.decontaminate == "drop":
                raise
            self._measures = False
            _log.warning("the overlap with the test set is not measured: %s", e)
            return None
        return {name: index.overlap(sample) for name, sample in samples.items()}

    def overlaps(self) -> tuple[dict[str, dict[str, int]], list[dict[str, Any]]]:
        """What the run's training samples and the task's demos have in common with the test set.

        Returns:
            Counts for ``train`` and ``demos``, as :func:`~gold_lightning.checks.contamination.count_overlaps` gives
            them, and a row for each sample found: its id, and the test rows by kind. Nothing where it is not measured.
        """
        stores = (RoundStore(self.run_dir, r, read_only=True) for r in rounds_in(self.run_dir))
        samples = {
            "train": {s.id: s.sample for store in stores for s in store.accepted("train")},
            "demos": {f"demo-{i}": demo for i, demo in enumerate(self.task.demos)},
        }
        counts: dict[str, dict[str, int]] = {}
        rows: list[dict[str, Any]] = []
        for kind, own in samples.items():
            if (found := self.overlap(own)) is None:
                return {}, []
            counts[kind] = count_overlaps(found.values())
            rows += [{"id": i} | {k: sorted(v) for k, v in vars(o).items()} for i, o in found.items() if o]
        return counts, rows

    def test_ids(self) -> list[int]:
        """Positions of the test rows that are tested, ascending; all unless a sample was drawn."""
        return list(range(len(self.test_rows()))) if self._test_ids is None else self._test_ids

    def draw_test_rows(self, count: int | None) -> None:
        """Tests from now on what a seeded draw without replacement gives, or all rows.

        Args:
            count: How many; ``None``, or more than there are, for all.
        """
        every = range(len(self.test_rows()))
        drawn = random.Random(f"{self.seed}/test rows").sample(every, min(len(every), count or len(every)))
        self._test_ids = sorted(drawn)

    def state_dict(self) -> dict[str, Any]:
        return {"round": self.round, "pool": self.pool.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.round = state_dict["round"]
        self.pool.load_state_dict(state_dict["pool"])

    # Batches

    def cut(self, samples: Sequence[Sample]) -> Cut:
        """How many of some samples are longer than the student reads or writes."""
        return count_cut(self.task, self.tokenizer, samples)

    def loader(
        self, samples: Sequence[Sample], batch_size: int, order: Sequence[int] | None = None, *, shard: bool = False
    ) -> DataLoader[dict[str, Any]]:
        """Batches of samples as the student takes them, in their own order or in that of ``order``'s positions.

        Args:
            samples: The samples.
            batch_size: Of each process.
            order: Positions in ``samples``.
            shard: Give each process its share, so that the step of all of them is the step of one process with
                as many times the batch size. Lightning's own sampler for training would shuffle, and repeat rows.
        """
        trainer = self.trainer
        shares = (trainer.world_size, trainer.global_rank) if shard and trainer is not None else (1, 0)
        return make_loader(self.task, self.tokenizer, samples, batch_size, order, shares)

    def _synthesise(self, work: Callable[[], object]) -> None:
        """Has the round's samples made, by all processes together; one of them writes, the others read it then."""
        self.seconds()  # counts from here, at the latest
        started = time.perf_counter()
        try:
            self._have_made(work)
        finally:
            self.generation_seconds += time.perf_counter() - started

    def _have_made(self, work: Callable[[], object]) -> None:
        trainer = self.trainer
        if trainer is None or trainer.world_size == 1:
            self._make(work)
            self.generator.release()
            return
        if self._distributed is None:
            self._distributed = distribute(self.generator)
            self.synthesizer.generator = self.synthesizer.completions.generator = self._distributed
        self._distributed.run(lambda: self._make(work))
        if not trainer.is_global_zero:
            self.synthesizer.reopen(self.round)
        self.generator.release()

    def _make(self, work: Callable[[], object]) -> None:
        if self.replayed is None:
            work()
        else:
            self.replayed.copy(self.store())

    def seconds(self) -> float:
        """Seconds that the run has taken so far, training included, in all its sittings."""
        return self.clock.seconds(self.round)

    def _progress(self, now: Progress) -> None:
        self.watch(now)
        if self.trainer is not None and self.trainer.is_global_zero:
            self.clock.note()


def log_progress(now: Progress) -> None:
    """Progress of the synthesis as a line: accepted / quota, yield, tokens a second, time left.

    Args:
        now: What the synthesis reports.
    """
    if not now.seconds:  # it begins
        return
    name = f"round {now.round} {'training samples' if now.kind == 'train' else 'probe set'}"
    speed = f"yield {now.accepted / now.requested:.0%}, {now.tokens / max(now.seconds, 1e-9):.0f} tokens/s"
    left = now.seconds * (now.quota - now.accepted) / max(1, now.gained)
    _log.info("%s: %d/%d, %s, %.0f s left", name, now.accepted, now.quota, speed, left)
