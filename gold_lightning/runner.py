"""Runs one run under its lock, its budget and Ctrl-C, and leaves its student and its report.

The command line and :func:`gold_lightning.distill` call the same functions here, so that both make the same folder.
"""

from __future__ import annotations

import filecmp
import importlib.util
import logging
import math
import platform
import shutil
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerStatus

from gold_lightning import __version__
from gold_lightning.calibration.fitting import CalibrationSettings
from gold_lightning.callbacks import OODFeedback
from gold_lightning.checkpoints.best import save_whole, set_aside_damaged
from gold_lightning.console import say
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import BudgetSpentError, ConfigError, GoldError
from gold_lightning.evaluation.baselines import BaselineSettings, run_baselines
from gold_lightning.evaluation.calibrate import FIT_CALIBRATION, calibrate_after_fit
from gold_lightning.evaluation.predictions import TestPredictions
from gold_lightning.evaluation.preview import PreviewSettings, preview
from gold_lightning.evaluation.supervised import LabelledRounds
from gold_lightning.planning.plan_warnings import plan_warnings
from gold_lightning.publishing.cards import write_model_card
from gold_lightning.report import try_to_report
from gold_lightning.rounds import RoundEnd, SeedSteps, StopInOrder
from gold_lightning.storage.json_lines import read_lines, write_lines
from gold_lightning.storage.run_folder import RunFolder, only_writer
from gold_lightning.student import T5Student
from gold_lightning.t5.checks import check_student
from gold_lightning.t5.folder import load_calibration, write_calibration
from gold_lightning.watching.live import LiveProgress
from gold_lightning.watching.loggers import RoundLogger, RunCSVLogger

__all__ = [
    "CHECKPOINT",
    "EARLY_STOPPING",
    "TRAINER",
    "GoldTrainer",
    "add_run_callbacks",
    "default_loggers",
    "export_best",
    "fit",
    "resume_from",
    "write_settings",
]

_log = logging.getLogger("gold_lightning")

TRAINER: Mapping[str, Any] = {
    "max_epochs": 10,
    "num_sanity_val_steps": 0,
    "reload_dataloaders_every_n_epochs": 1,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
}
"""Settings of the trainer that differ from Lightning's defaults."""
EARLY_STOPPING: Mapping[str, Any] = {"monitor": "val/metric", "mode": "max", "patience": 3}
"""Settings of :class:`lightning.pytorch.callbacks.EarlyStopping`."""
CHECKPOINT: Mapping[str, Any] = {
    "monitor": "val/metric",
    "mode": "max",
    "filename": "best",
    "enable_version_counter": False,
    "save_on_train_epoch_end": True,
}
"""Settings of :class:`gold_lightning.checkpoints.BestCheckpoint`."""


def default_loggers(run_dir: str | Path) -> list[Logger]:
    """Returns the loggers of a run for which none are named: the run folder's CSV file and, if installed, TensorBoard.

    Args:
        run_dir: The run folder.
    """
    loggers: list[Logger] = [RunCSVLogger(str(run_dir))]
    if importlib.util.find_spec("tensorboard"):  # an extra
        loggers.append(TensorBoardLogger(str(run_dir), name="", version="tensorboard"))
    return loggers


def add_run_callbacks(trainer: GoldTrainer, checkpoints: str | Path, live: LiveProgress | None = None) -> None:
    """Adds the callbacks that every run has around its :class:`~gold_lightning.callbacks.OODFeedback`.

    Args:
        trainer: The trainer, which has the feedback callback.
        checkpoints: Folder of the run's checkpoints.
        live: The view of the terminal, if there is one.
    """
    # Lightning's save_last copies only what was saved for being good; a run goes on from its last round.
    last = ModelCheckpoint(checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer.callbacks.append(last)
    feedback = next(i for i, c in enumerate(trainer.callbacks) if isinstance(c, OODFeedback))
    # Each reads what the one before it leaves.
    readers: list[Callback] = [RoundEnd(), RoundLogger(), *([] if live is None else [live])]
    trainer.callbacks[feedback + 1 : feedback + 1] = readers
    trainer.callbacks[:0] = [SeedSteps(), StopInOrder()]
    save_whole(trainer)


def resume_from(checkpoints: str | Path) -> str | None:
    """Returns the checkpoint that a run goes on from, or ``None`` if it begins. A damaged one is set aside.

    Args:
        checkpoints: Folder of the run's checkpoints.
    """
    path = Path(checkpoints) / "last.ckpt"
    return str(path) if path.exists() and not set_aside_damaged(path) else None


def write_settings(run_dir: Path, config: str) -> None:
    """Writes a run's resolved settings and the versions that it runs with.

    Args:
        run_dir: The run folder; it is made if it is missing.
        config: The settings as YAML, in the form that ``--config`` takes.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    part = run_dir / "config.yaml.part"
    part.write_text(config, encoding="utf-8")
    part.replace(RunFolder(run_dir).config)
    versions = {"gold_lightning": __version__, "python": platform.python_version()}
    for name in ("lightning", "torch", "transformers", "tokenizers", "torchmetrics", "vllm"):
        with suppress(PackageNotFoundError):  # an extra
            versions[name] = version(name)
    write_lines(RunFolder(run_dir).versions, [versions | {"platform": platform.platform()}])


def fit(
    trainer: GoldTrainer,
    student: T5Student,
    data: GoldDataModule,
    ckpt_path: str | None = None,
    live: LiveProgress | None = None,
    weights_only: bool | None = None,
    calibration: CalibrationSettings = FIT_CALIBRATION,
) -> Path | None:
    """Trains round after round and exports the best student.

    Args:
        trainer: The trainer, with the callbacks of :func:`add_run_callbacks`.
        student: The student.
        data: The rounds.
        ckpt_path: Checkpoint to go on from, as :func:`resume_from` gives it.
        live: The view of the terminal, if there is one.
        weights_only: Load nothing but plain values and tensors from the checkpoint, as is the default.
        calibration: The promise that the best student is calibrated for, on the rows by which rounds are compared.

    Returns:
        The folder of the best student; ``None`` without a whole round, after an interruption, and in other processes.

    Raises:
        BusyError: Another process is at work on the run folder.
    """
    with nullcontext() if live is None else live.display():
        try:
            trainer.fit(student, datamodule=data, ckpt_path=ckpt_path, weights_only=weights_only)
            if live is not None:
                live.begin_phase("exporting")
            whole = trainer.is_global_zero and not trainer.interrupted
            return _export_and_calibrate(trainer, student, data, calibration) if whole else None
        finally:
            if trainer.report_due:
                try_to_report(data.run_dir)


def _export_and_calibrate(
    trainer: GoldTrainer, student: T5Student, data: GoldDataModule, calibration: CalibrationSettings
) -> Path | None:
    if trainer.ended_by:
        accepted = len(data.store().accepted("train"))
        _log.info(
            "%s; round %d has %d samples. More of it, and the same command goes on",
            *(trainer.ended_by, data.round, accepted),
        )
    if not RunFolder(data.run_dir).best_checkpoint.exists():
        if trainer.ended_by:
            _log.info("no round is whole yet, so there is no student")
        return None
    folder = export_best(student, data.run_dir)
    _log.info("best student: %s", folder)
    last = max(row["round"] for row in read_lines(RunFolder(data.run_dir).rounds))
    calibrate_after_fit(folder, data.watched(last), calibration, str(trainer.strategy.root_device))
    write_model_card(folder, Path(data.run_dir))
    return folder


def export_best(student: T5Student, run_dir: Path) -> Path:
    """Writes the best checkpoint's weights to ``student/`` in the run folder, whole or not at all.

    If the weights there are the same already, their calibration is kept.

    Args:
        student: A student of the checkpoint's shape; its own weights stay as they are.
        run_dir: The run folder.

    Returns:
        The folder, which :func:`gold_lightning.load` and ``AutoModelForSeq2SeqLM.from_pretrained`` load.

    Raises:
        GoldError: There is no such checkpoint.
    """
    path = RunFolder(Path(run_dir)).best_checkpoint
    if not path.exists():
        raise GoldError(f"{path}: no such checkpoint; run fit first")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    folder = RunFolder(Path(run_dir)).student
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    student.export(part, checkpoint["state_dict"])
    weights = sorted(path.name for path in part.glob("*.safetensors"))
    if folder.is_dir() and filecmp.cmpfiles(folder, part, weights, shallow=False)[0] == weights:
        if (calibration := load_calibration(folder)) is not None:
            write_calibration(part, calibration)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return folder


class GoldTrainer(Trainer):
    """Lightning's Trainer with one method for each subcommand; it stops in order when the budget is spent."""

    callbacks: list[Callback]
    ended_by: str = ""
    """The reason why :meth:`fit` ended before its last round; "" if it did not."""
    report_due: bool = False
    """Whether :meth:`fit` left a run folder to report on; it is not, if it had to end immediately."""

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Trains round after round, and stops in order when the budget is spent.

        Args:
            model: The student.
            train_dataloaders: Not used with a data module.
            val_dataloaders: Not used with a data module.
            datamodule: The rounds. No other process may be at work on its run folder.
            ckpt_path: Checkpoint to resume from; the run's last one by default.
            weights_only: Load nothing but plain values and tensors from it, as is the default.

        Raises:
            BusyError: Another process is at work on the run folder.
        """
        if not isinstance(datamodule, GoldDataModule):
            super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only)
            return
        replayed = datamodule.replayed
        rounds = replayed.rounds if replayed else 0
        if replayed and (self.max_epochs is None or not 0 <= self.max_epochs <= rounds):
            _log.info("%s has %d rounds, so this run has no more", replayed.folder, rounds)
            self.fit_loop.max_epochs = rounds
        for callback in self.callbacks:
            if isinstance(callback, OODFeedback):
                callback.settings.check(datamodule.synthesizer.plan.label_agreement)
        self.ended_by, self.report_due = "", False
        if self.max_epochs == 0:
            _log.warning("trainer.max_epochs is 0: there is no round, so nothing is asked for and nothing is trained")
            self.state.status = TrainerStatus.FINISHED
            return
        self._check_steps(datamodule)
        _ = datamodule.validation.rows  # an unreadable file is reported before anything is paid for
        for warning in model.warnings if isinstance(model, T5Student) and self.is_global_zero else ():
            _log.warning(warning)
        if str(self.precision).startswith("16"):
            _log.warning(
                "trainer.precision %s: T5 was trained in bfloat16 and overflows; take bf16-mixed", self.precision
            )
        if self._is_over(datamodule, ckpt_path):
            self.state.status = TrainerStatus.FINISHED
            self.report_due = self._is_begun(datamodule)
            return
        writer = only_writer(datamodule.run_dir) if self.is_global_zero else nullcontext()
        with writer, datamodule.stopping.listening():
            immediately = False
            try:
                super().fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=weights_only)
            except BudgetSpentError as e:
                self.ended_by = str(e)
                self.state.status = TrainerStatus.FINISHED
            except (KeyboardInterrupt, SystemExit):  # the latter is what Lightning makes of the former
                # SIGTERM and a second Ctrl-C do not wait for a page.
                immediately = datamodule.stopping.immediately or not datamodule.stopping.wanted
                raise
            finally:
                self.report_due = not immediately and self._is_begun(datamodule)

    def validate(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[Mapping[str, float]]:
        """Scores a student on the rows by which its round was compared with others. Generates and writes nothing.

        These are the labelled rows that the task names (``validation``) or the probe sets of all rounds up to the
        student's. A run that is at work in the same folder is not disturbed.

        Args:
            model: The student.
            dataloaders: Unused if there is a data module.
            ckpt_path: Checkpoint of the student: ``best``, ``last`` or a path; the run's best one by default.
            verbose: Print Lightning's table of metrics.
            datamodule: Data module of the run.
            weights_only: Load plain values and tensors alone from the checkpoint; the default.

        Raises:
            GoldError: No round is finished, or a probe set is missing.
        """
        if isinstance(datamodule, GoldDataModule):
            self.loggers = []  # they log the run's own metrics alone
        return super().validate(model, dataloaders, ckpt_path, verbose, datamodule, weights_only)

    def _check_steps(self, data: GoldDataModule) -> None:
        """Checks ``limit_train_batches`` before a round is paid for.

        Raises:
            ConfigError: A round would have no batch.
        """
        if not isinstance(self.limit_train_batches, float):
            return
        rows = data.passes_per_round * data.synthesizer.plan.samples_per_round
        batches = math.ceil(math.ceil(rows / self.world_size) / data.batch_size)
        if int(batches * self.limit_train_batches) < 1:
            raise ConfigError(
                "trainer.limit_train_batches",
                self.limit_train_batches,
                f"{1 / batches:.2g} or more",
                f"round 0 has {batches} batches, and of none of them nothing is learnt",
            )

    def _is_begun(self, data: GoldDataModule) -> bool:
        return self.is_global_zero and RunFolder(data.run_dir).config.is_file()

    def _is_over(self, data: GoldDataModule, ckpt_path: str | Path | None) -> bool:
        """Whether a checkpoint is the run's end, after which Lightning would begin one more round.

        Raises:
            ConfigError: The checkpoint holds no state of this data module; the run would restart at its first round.
        """
        if ckpt_path is None or not Path(ckpt_path).is_file():
            return False
        checkpoint = torch.load(ckpt_path, map_location="cpu", weights_only=True, mmap=True)
        name = type(data).__qualname__  # under which Lightning stores its state and looks for it
        if name not in checkpoint:
            raise ConfigError("ckpt_path", str(ckpt_path), f"a checkpoint of a run with the data module {name}")
        round_ = checkpoint[name]["round"]
        if self.max_epochs is not None and 0 <= self.max_epochs <= round_:
            return True
        states = checkpoint.get("callbacks", {})
        stopping = [c for c in self.callbacks if isinstance(c, EarlyStopping)]
        return any(states.get(c.state_key, {}).get("wait_count", 0) >= c.patience for c in stopping)

    def preview(self, model: T5Student | None, datamodule: GoldDataModule, settings: PreviewSettings) -> None:
        """Shows prompts and a handful of samples, and estimates what the whole run takes.

        Args:
            model: Unused; the CLI does not load it.
            datamodule: Data module of the run, whose folder stays unchanged.
            settings: Settings of the preview.
        """
        callback = next(c for c in self.callbacks if isinstance(c, OODFeedback))
        rounds = -1 if self.max_epochs is None else self.max_epochs
        feedback, plan = callback.settings, datamodule.synthesizer.plan
        warnings = check_student(datamodule.task, datamodule.student, datamodule.tokenizer)
        warnings += plan_warnings(datamodule.task, plan, feedback, rounds, datamodule.synthesizer.usable_texts)
        lines = preview(
            datamodule,
            settings,
            rounds=rounds,
            rate=feedback.rate if feedback.feeds else 0.0,
            warmup_rounds=feedback.warmup_rounds,
            warnings=warnings,
        )
        for line in lines:
            say(line)

    def baselines(
        self,
        model: T5Student,
        datamodule: GoldDataModule,
        settings: BaselineSettings,
        ckpt_path: str | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Compares the student with a constant answer, the generator itself and training on labelled rows.

        Args:
            model: The student before training.
            datamodule: Data module of the run, with the test rows.
            settings: Settings of the comparison.
            ckpt_path: Checkpoint of the trained student; the run's best one by default, if there is one.

        Returns:
            Results as :func:`gold_lightning.evaluation.baselines.compare` returns them.

        Raises:
            ConfigError: There are several devices, the trained student is wanted and there is none, or supervised
                training would have no end.
        """
        if self.world_size > 1:
            raise ConfigError("trainer.devices", self.world_size, "1 for this subcommand")
        # The run's callbacks keep its checkpoints and its pool; nothing that is tested or trained here is theirs.
        collected = TestPredictions(energies=False)
        self.callbacks = [*(c for c in self.callbacks if isinstance(c, ProgressBar)), collected]
        self.loggers = []

        def fit(rounds: LabelledRounds) -> None:
            seed_everything(datamodule.seed, verbose=False)
            self.fit(model, datamodule=rounds)

        def test(checkpoint: str | None) -> list[dict[str, Any]]:
            self.test(model, datamodule=datamodule, ckpt_path=checkpoint, verbose=False)
            return collected.rows

        return run_baselines(
            model,
            datamodule,
            settings,
            fit=fit,
            test=test,
            rounds=self.max_epochs,
            precision=self.precision,
            checkpoint=ckpt_path,
        )
