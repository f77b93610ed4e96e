"""Loop 2: rounds and batches. Owns the round counter and the feedback pool.

A trainer asks for ``train_dataloader`` and ``val_dataloader`` in every round; each first has the round's samples
synthesised (:mod:`gold_lightning.synthesis`), unless they are in the run folder already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from lightning.pytorch import Callback, LightningDataModule
from torch.utils.data import DataLoader

from gold_lightning.budget import Budget
from gold_lightning.doubtful import DoubtfulLabels
from gold_lightning.errors import ConfigError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import EmbeddedGenerator, Generator
from gold_lightning.generators.distributed import DistributedGenerator, distribute
from gold_lightning.inputs.paths import folder_for
from gold_lightning.interrupt import Stopping
from gold_lightning.labelled import TestSet, check_rows_file
from gold_lightning.noise import LabelNoise
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.progress import Progress, log_progress
from gold_lightning.plugins import load_plugins
from gold_lightning.rounds import RoundEnd
from gold_lightning.storage.clock import RunClock
from gold_lightning.storage.lazy import Mapped
from gold_lightning.storage.replay import Replay
from gold_lightning.storage.round_store import RoundStore, StoredSample
from gold_lightning.storage.run_folder import completions_beside
from gold_lightning.synthesis import Synthesizer
from gold_lightning.t5.loaders import Loaders
from gold_lightning.t5.sentence_vectors import SentenceVectors
from gold_lightning.t5.weights import load_tokenizer
from gold_lightning.task import Task, TaskSource
from gold_lightning.training_samples import TrainingSamples, check_plan
from gold_lightning.unlabelled import check_texts_file, usable_texts
from gold_lightning.validation import ValidationSet, WatchedRows

__all__ = ["GoldDataModule"]


class GoldDataModule(LightningDataModule):
    """Synthesises new samples in every round and never trains on the probe sets.

    Rounds are numbered by a counter of this module, not by Lightning's epoch: on resume Lightning asks for the training
    loader once with a stale epoch. A round's samples are made once and found again in the run folder.

    Args:
        task: The task: a :class:`~gold_lightning.task.Task`, the path of a task file, or the name of a shipped task.
        generator: The engine that writes samples; an :class:`~gold_lightning.generators.EmbeddedGenerator` by default.
        plan: Number of samples per round, and how prompts are made up.
        run_dir: The run folder. The command line sets it from ``--run``.
        student: The student whose tokenizer batches use; the command line links it to ``--model.student``.
        batch_size: Samples per training step on each device.
        eval_batch_size: Samples per batch when validating, probing and testing.
        passes_per_round: Number of times a round trains on each sample.
        doubtful_labels: ``drop`` leaves samples with a doubtful label out of training: in each round, those about whose
            label a classifier that was not fitted to them is confident otherwise. They stay in the store.
        group_by_length: Make training batches of samples of about one length, so that few tokens are padding: under
            2 % in large sets, where a random order has a third or more. Batches still come in a random order. Not with
            ``unlabelled``: real texts of another length than the samples would share no batch with them.
        replay: Train on the samples of all rounds so far, or of the last one.
        feedback_rate: Share of the prompts that show feedback demos, in [0, 1]; linked to ``--feedback.rate``.
        feedback_capacity: Most feedback demos of each label in the pool; linked to ``--feedback.capacity``.
        test_file: JSON, JSON Lines, CSV, TSV or Parquet file with labelled rows, instead of the task's own test data.
        unlabelled: JSON, JSON Lines, CSV, TSV or Parquet file with the task's fields and no target, or plain text with
            one text on each line. Probe sets are then drawn from these real texts, which the generator labels, instead
            of being generated; ``data.plan.unlabelled_as`` names the uses of those that are fed back.
        label_noise: Share of the samples, training and probe, that get another label, for experiments on noise. Seed
            and id of a sample decide; the store keeps what was written.
        budget: Limits of the run, and prices of tokens.
        reuse_completions: Reuse completions of the task's other runs, in the folders beside this one, for equal
            requests.
        replay_from: A run folder whose samples to train on, round by round, instead of asking a generator.
        plugins: Modules to import, such as ``my_package.checks``, whose decorators register checks and metrics that
            the task names.

    Attributes:
        seed: Seed of synthesis and of the training order; linked to ``--seed_everything``.
        watch: Called with the progress of the synthesis; logs a line by default.
        notes: Values that callbacks add to this round's line in ``rounds.jsonl``.
        clock: Seconds that the run has taken, in all its sittings.
        generation_seconds: Seconds that this sitting has waited for samples.
        test_set: The labelled test rows.
        validation: The labelled rows that the task names for comparing rounds.
        training: The choice of the samples that a round trains on.
        loaders: Makes loaders of batches.

    Example:
        >>> import gold_lightning as gl
        >>> from lightning.pytorch import Trainer
        >>> data = gl.GoldDataModule("news_topics", plan=gl.SynthesisPlan(samples_per_round=80, probe_per_round=20))
        >>> trainer = Trainer(max_epochs=3, callbacks=[gl.OODFeedback()])  # doctest: +SKIP
        >>> trainer.fit(gl.T5Student("news_topics"), data)  # doctest: +SKIP
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
        unlabelled: str | None = None,
        group_by_length: bool = False,
        doubtful_labels: Literal["keep", "drop"] = "keep",
    ) -> None:
        super().__init__()
        load_plugins(plugins)
        sizes = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "passes_per_round": passes_per_round}
        for key, value in sizes.items():
            if value < 1:
                raise ConfigError(f"data.{key}", value, "1 or more")
        if test_file is not None:
            check_rows_file("data.test_file", test_file)
        if unlabelled is not None:
            check_texts_file(unlabelled)
            if replay_from is not None:
                raise ConfigError("data.unlabelled", unlabelled, "null with data.replay_from, which has probe sets")
        self.task: Task = Task.load(task)
        self.noise = LabelNoise(label_noise, self.task.label_names if self.task.one_label else (), seed)
        self.run_dir = folder_for("data.run_dir", run_dir)
        self.student, self.batch_size, self.eval_batch_size = student, batch_size, eval_batch_size
        self.passes_per_round, self.seed, self.feedback_rate = passes_per_round, seed, feedback_rate
        self.test_set = TestSet(self.task, test_file, seed, str(plan.decontaminate))
        self.validation = ValidationSet(self.task, measured=plan.decontaminate != "off")
        self.generator = EmbeddedGenerator() if generator is None else generator
        self.pool, self.round = FeedbackPool(feedback_capacity), 0
        self.budget, self.stopping = budget, Stopping()
        self.watch: Callable[[Progress], None] = log_progress
        self.replayed = None if replay_from is None else Replay(replay_from, self.run_dir, self.task)
        labelled = {"in_test_set": lambda: self.test_set.index, "in_validation_rows": lambda: self.validation.index}
        vectors = SentenceVectors(student, self.task.student.max_input_tokens)
        self.synthesizer = Synthesizer(
            self.task,
            self.generator,
            self.run_dir,
            plan,
            seed,
            self._progress,
            lambda: self.test_set.index,
            budget,
            lambda: self.clock.seconds(self.round),
            lambda: self.stopping.wanted,
            completions_beside(self.run_dir) if reuse_completions else (),
            None if unlabelled is None else partial(usable_texts, self.task, unlabelled, seed, labelled),
            vectors,
        )
        doubtful = DoubtfulLabels(self.task, vectors, seed) if doubtful_labels == "drop" else None
        self.training = TrainingSamples(self.store, replay, self.noise, doubtful)
        self.clock, self.generation_seconds = RunClock(self.run_dir), 0.0
        self.notes: dict[str, Any] = {}
        self.tokenizer = load_tokenizer(student)
        by_length = group_by_length and unlabelled is None
        self.loaders = Loaders(self.task, self.tokenizer, self._shares, group_by_length=by_length)
        self._distributed: DistributedGenerator | None = None

    # Rounds

    def setup(self, stage: str) -> None:
        """Makes any trainer that fits go from round to round."""
        if stage != "fit" or self.trainer is None:
            return
        _ = self.validation.rows  # an unreadable file is reported before anything is paid for
        if self.replayed is None:
            check_plan(self.synthesizer.plan, self.trainer)
        if self.synthesizer.real is not None:
            rounds = -1 if self.trainer.max_epochs is None else self.trainer.max_epochs
            self.synthesizer.real.begin(self.run_dir, rounds, writes=self.trainer.is_global_zero)
        self.trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]  # a round has its own samples
        self.trainer.num_sanity_val_steps = 0  # there is no probe set before the first round
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        if not any(isinstance(callback, RoundEnd) for callback in callbacks):
            callbacks.append(RoundEnd())

    def advance(self) -> None:
        """Ends the round and begins the next."""
        self.round += 1
        self.notes, self.training.left_out = {}, ()

    def state_dict(self) -> dict[str, Any]:
        return {"round": self.round, "pool": self.pool.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.round = state_dict["round"]
        self.pool.load_state_dict(state_dict["pool"])

    def store(self, round_: int | None = None) -> RoundStore:
        """Returns the store of a round, the current one by default. Only one process of a run writes to it."""
        self.synthesizer.writes = self.trainer is None or self.trainer.is_global_zero
        return self.synthesizer.store(self.round if round_ is None else round_)

    def train_samples(self) -> Sequence[StoredSample]:
        """Returns the samples that this round trains on; doubtful ones are left out once it has its training loader."""
        return self.training.of(self.round)

    @property
    def only_reads(self) -> bool:
        """Whether the trainer validates alone; the counter is then one ahead of the loaded student."""
        return self.trainer is not None and self.trainer.state.fn == "validate"

    def watched(self, round_: int) -> WatchedRows:
        """Returns the rows by which a round's student is compared with others.

        Raises:
            GoldError: No round is finished, or a probe set is missing.
        """
        read_only = partial(RoundStore, self.run_dir, read_only=True)
        return self.validation.watched(round_, read_only if self.only_reads else self.store, self.noise)

    # Loaders

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Synthesises the round's training samples if they are missing, and loads them in a seeded order."""
        self._synthesise(lambda: self.synthesizer.train(self.round, self.pool, self.feedback_rate))
        stored = self.training.begin(self.round, self.trainer)
        if self.training.doubtful is not None:
            self.notes["left_out"] = list(self.training.left_out)
        total, seed = self.passes_per_round * len(stored), f"{self.seed}/{self.round}/order"
        samples, probabilities = Mapped(stored, lambda s: s.sample), Mapped(stored, lambda s: s.probabilities)
        return self.loaders.training(samples, self.batch_size, total, seed, probabilities)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Synthesises the round's probe set if it is missing, and loads the rows that the student is scored on.

        In round 0 Lightning asks for it before training. A trainer that only validates gets the rows of the loaded
        student's round; nothing is synthesised and nothing is written.
        """
        if not self.only_reads:
            self._synthesise(lambda: self.synthesizer.probe(self.round))
        return self.loaders.evaluation(self.watched(self.round - self.only_reads).samples, self.eval_batch_size)

    def watched_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Loads this process's share of the round's watched rows."""
        return self.loaders.evaluation(self.watched(self.round).samples, self.eval_batch_size, shard=True)

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Loads the test rows, or the sample of them that :meth:`gold_lightning.labelled.TestSet.draw` took."""
        return self.loaders.evaluation(self.test_set.rows, self.eval_batch_size, self.test_set.ids)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Loads the rows of :meth:`test_dataloader`, for ``Trainer.predict``."""
        return self.test_dataloader()

    # Synthesis

    def _synthesise(self, work: Callable[[], object]) -> None:
        """Makes the round's samples with all processes together. One process writes; the others then read."""
        self.clock.seconds(self.round)  # starts the clock if nothing has
        started = time.perf_counter()
        trainer = self.trainer
        if self.replayed is not None:
            work = partial(self.replayed.copy, self.round)
        try:
            if trainer is None or trainer.world_size == 1:
                work()
            else:
                if self._distributed is None:
                    self._distributed = distribute(self.generator)
                    self.synthesizer.generator = self.synthesizer.completions.generator = self._distributed
                self._distributed.run(work)
                if not trainer.is_global_zero:
                    self.synthesizer.reopen(self.round)
            self.generator.release()
        finally:
            self.generation_seconds += time.perf_counter() - started

    def _shares(self) -> tuple[int, int]:
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _progress(self, progress: Progress) -> None:
        self.watch(progress)
        if progress.waiting:  # reported by another thread, which writes no file
            return
        if self.trainer is not None and self.trainer.is_global_zero:
            self.clock.note()
