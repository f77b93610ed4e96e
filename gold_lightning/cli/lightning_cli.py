"""LightningCLI with the run folder, the shipped configs and the feedback loop."""

from __future__ import annotations

import shutil
import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from gold_lightning.calibration.fitting import CalibrationSettings
from gold_lightning.callbacks import OODFeedback
from gold_lightning.checkpoints.best import BestCheckpoint, check_checkpoint
from gold_lightning.cli.class_settings import own_defaults
from gold_lightning.cli.commands import program
from gold_lightning.cli.configs import SECTIONS, configs_in, read_config
from gold_lightning.cli.messages import UserInput, explain_lightning_error, explain_parser_error, gold_cause
from gold_lightning.cli.round_rules import check_contradictions
from gold_lightning.cli.signals import keep_sigterm
from gold_lightning.console import say
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.evaluation.baselines import BaselineSettings
from gold_lightning.evaluation.calibrate import FIT_CALIBRATION
from gold_lightning.evaluation.intervals import evaluate
from gold_lightning.evaluation.predictions import TestPredictions
from gold_lightning.evaluation.preview import PreviewSettings
from gold_lightning.evaluation.results import overlaps_of_run, results_summary, results_table, validation_table
from gold_lightning.inputs.paths import check_folder, expand, folder_for
from gold_lightning.inputs.pipes import is_copy
from gold_lightning.inputs.task_files import local_task
from gold_lightning.plugins import load_plugins
from gold_lightning.publishing.cards import write_model_card
from gold_lightning.report import try_to_report
from gold_lightning.runner import (
    CHECKPOINT,
    EARLY_STOPPING,
    TRAINER,
    GoldTrainer,
    add_run_callbacks,
    default_loggers,
    fit,
    resume_from,
    write_settings,
)
from gold_lightning.scoring import logged_names
from gold_lightning.storage.json_lines import write_lines
from gold_lightning.storage.run_folder import RunFolder
from gold_lightning.student import T5Student, metric_names
from gold_lightning.t5.calibrating import check_promise
from gold_lightning.t5.fsdp import check_strategy
from gold_lightning.task import Task
from gold_lightning.watching.live import LiveProgress
from gold_lightning.watching.loggers import RunCSVLogger, set_up_wandb

__all__ = ["GoldCLI"]


# Keys in the config of a run that a command does not use: it takes the config all the same.
_UNUSED = {"preview": ("ckpt_path", "weights_only"), "baselines": ("weights_only",)}
_SECTIONS_HELP = (
    "Settings by section: run (folder), data (task, generator, plan, budget), model (student, loss, optimizer), "
    "feedback, calibration, trainer, early_stopping, checkpoint. --print_config shows all values; "
    "--data.generator.help CLASS shows the settings of a class."
)


class GoldCLI(LightningCLI):
    """LightningCLI around a T5Student and a GoldDataModule."""

    trainer: GoldTrainer
    datamodule: GoldDataModule
    model: T5Student

    def __init__(self, args: Sequence[str] | None = None) -> None:
        self._args = list(sys.argv[1:] if args is None else args)
        self._command = self._args[0] if self._args else ""
        super().__init__(
            T5Student,
            GoldDataModule,
            trainer_class=GoldTrainer,
            save_config_callback=RunConfig,
            save_config_kwargs={"overwrite": True},
            trainer_defaults=dict(TRAINER),
            seed_everything_default=1,
            parser_kwargs={"exit_on_error": False},
            auto_configure_optimizers=False,
            args=list(args) if args is not None else None,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # only called on the instance
        """Returns the arguments that each command skips: of the given command alone, as a parser takes a while."""
        skipped = LightningCLI.subcommands()
        skipped |= {name: {"model", "datamodule", "settings"} for name in ("preview", "baselines")}
        names = ("fit", "validate", "test", "preview", "baselines")
        return {name: skipped[name] for name in ([self._command] if self._command in names else names)}

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Makes ``COMMAND --help`` begin with usage and sections, and names the section of each group of settings."""
        super().setup_parser(*args, **kwargs)
        parser = self.command_parser
        parser.usage = f"{program()} {self._command} [--config FILE]... [--KEY VALUE]..."
        parser.description = f"{parser.description} {_SECTIONS_HELP}"
        for section, group in (parser.groups or {}).items():
            group.title = "start" if section == self._command else f"{section}: {group.title}"

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything", type=int, default=1, help="Seed of all random numbers, from 0 to 4294967295."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses and checks the settings before any class is instantiated.

        Raises:
            GoldError: A setting is wrong.
        """
        configs = [read_config(Path(path), SECTIONS) for path in configs_in(self._args)]
        try:
            with own_defaults():
                super().parse_arguments(parser, args)
        except ArgumentError as e:
            defaults = dict(self.command_parser.get_defaults(skip_validation=True).items())
            raise gold_cause(e) or explain_parser_error(e, UserInput(self._args, configs, defaults)) from e
        self._check_settings()

    def _check_settings(self) -> None:
        """Checks settings that are valid one by one, but not for this command or not together."""
        name = self.config["subcommand"]
        config = self.config[name]
        load_plugins(config.data.plugins)  # before the student, which makes the task's metrics
        for key, default in self.command_parser.get_defaults(skip_validation=True).items(branches=True):
            if key.split(".")[0] in ("run", "data", "model", "feedback") and default is not None:
                if config.get(key, "") is None:  # jsonargparse takes null for any class
                    raise ConfigError(key, None, "a value", "leave it out for the default")
        try:
            promise = CalibrationSettings(**config.calibration)
        except ConfigError as e:
            raise ConfigError(f"calibration.{e.key}", e.value, e.allowed, e.hint) from None
        if name in ("fit", "preview", "baselines"):
            task = Task.load(config.data.task)
            check_promise(promise, task, "calibration.promise")
            check_contradictions(config.as_dict(), logged_names(metric_names(task)))
        check_strategy(config.as_dict()["trainer"]["strategy"], config.model.optimizer)
        writes = name in ("fit", "test", "baselines")
        check_folder("run.root and run.name", Path(config.data.run_dir), write=writes)
        if config.get("ckpt_path") is not None:
            check_checkpoint("ckpt_path", config.ckpt_path)
            config.ckpt_path = expand("ckpt_path", config.ckpt_path)
        _expand_folders(config.trainer, "trainer")

    def instantiate_classes(self) -> None:
        """Instantiates the classes; an error of Lightning about a setting becomes one line."""
        try:
            super().instantiate_classes()
        except GoldError:
            raise
        except Exception as e:
            explained = gold_cause(e) or explain_lightning_error(e, self.config[self.subcommand].as_dict())
            if explained is None:
                raise
            raise explained from e
        if self.subcommand in ("fit", "preview") and self.datamodule.replayed is None:
            self.datamodule.generator.check_installed()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        self.command_parser = parser  # of the command, or of the last one if none is given
        parser.add_argument("--run.root", type=str, default="runs", help="Folder of all runs.")
        parser.add_argument(
            "--run.name",
            type=str,
            default="default",
            help="Name of this run. The same name resumes the run; another starts a new one.",
        )
        parser.add_argument(
            "--run.live",
            type=bool,
            default=True,
            help="Show the progress of fit in the terminal. Without a terminal, or if false: a line now and then. "
            "trainer.enable_progress_bar: true shows Lightning's bar instead.",
        )
        # Without a group: the arguments of a command's method are in a group of that name already.
        parser.add_class_arguments(PreviewSettings, "preview", as_group=False)
        parser.add_class_arguments(BaselineSettings, "baselines", as_group=False)
        parser.add_class_arguments(CalibrationSettings, "calibration")
        for key in _UNUSED.get(self._command, ()):
            parser.add_argument(f"--{key}", default=None, help=SUPPRESS)
        parser.add_lightning_class_args(OODFeedback, "feedback")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "data.generator": {"class_path": "gold_lightning.generators.EmbeddedGenerator"},
                "model.loss": {"class_path": "gold_lightning.losses.SymmetricCrossEntropy"},
                "feedback.score": {"class_path": "gold_lightning.scores.EnergyScore"},
                **{f"calibration.{key}": value for key, value in asdict(FIT_CALIBRATION).items()},
                **{f"early_stopping.{key}": value for key, value in EARLY_STOPPING.items()},
                **{f"checkpoint.{key}": value for key, value in CHECKPOINT.items()},
            }
        )
        parser.link_arguments("data.task", "model.task")
        parser.link_arguments("model.student", "data.student")
        parser.link_arguments("feedback.rate", "data.feedback_rate")
        parser.link_arguments("feedback.capacity", "data.feedback_capacity")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        parser.link_arguments(("run.root", "run.name", "data.task"), "data.run_dir", compute_fn=_run_dir)
        parser.link_arguments(("run.root", "run.name", "data.task"), "checkpoint.dirpath", compute_fn=_checkpoint_dir)

    def before_instantiate_classes(self) -> None:
        """Chooses the checkpoint to resume from or to test, and who has the terminal: our live display or the bar."""
        config = self.config[self.subcommand]
        folder = Path(config.checkpoint.dirpath)
        if self.subcommand in ("test", "validate"):
            config.verbose = False  # our table shows the metrics
        show = self.subcommand == "fit" and config.run.live and not config.trainer.enable_progress_bar
        self._show = show and _first_process() and LiveProgress.supported()
        if self._show:
            config.trainer.enable_progress_bar = False  # only one of them can have the terminal
        if self.subcommand == "preview":  # which shows prompts and costs
            self.parser.add_instantiator(_not_loaded, T5Student, subclasses=True, prepend=True)
        if self.subcommand in ("fit", "test"):
            set_up_wandb(config.trainer.get("logger"), Path(config.data.run_dir))
        if self.subcommand == "baselines" and config.trainer.devices == "auto":
            config.trainer.devices = 1
        if "ckpt_path" not in config or self.subcommand == "preview":
            return
        if config.ckpt_path in (None, "last", "best"):
            path = folder / f"{config.ckpt_path or 'best'}.ckpt"
            if self.subcommand == "fit":
                config.ckpt_path = resume_from(folder)
            elif path.exists():
                config.ckpt_path = str(path)
            elif self.subcommand != "baselines" or config.ckpt_path is not None:
                raise GoldError(f"{path}: no such checkpoint; run fit first, or give --ckpt_path FILE")

    def instantiate_trainer(self, **kwargs: Any) -> GoldTrainer:
        """Adds the run folder's loggers and the callbacks that every run has."""
        config = self.config[self.subcommand]
        run_dir = config.data.run_dir
        logger = config.trainer.get("logger")
        if self.subcommand == "validate":  # writes nothing
            kwargs["logger"] = False
        elif logger is None or logger is True:
            kwargs["logger"] = default_loggers(run_dir)
        elif logger:  # always with a CSV file in the run folder
            chosen = self.config_init[self.subcommand]["trainer"]["logger"]
            loggers = list(chosen) if isinstance(chosen, list | tuple) else [chosen]
            has_csv = any(isinstance(item, CSVLogger) for item in loggers)
            kwargs["logger"] = loggers if has_csv else [RunCSVLogger(run_dir), *loggers]
        kwargs.setdefault("default_root_dir", run_dir)
        trainer: GoldTrainer = super().instantiate_trainer(**kwargs)  # type: ignore[assignment]
        self.live = LiveProgress(self.datamodule) if self._show else None
        add_run_callbacks(trainer, config.checkpoint.dirpath, self.live)
        keep_sigterm(trainer)
        return trainer

    def preview(self, model: T5Student | None, datamodule: GoldDataModule) -> None:
        """Runs the trainer's method with the settings of the section ``preview``."""
        self.trainer.preview(model, datamodule, PreviewSettings(**self.config[self.subcommand]["preview"]))

    def fit(self, **kwargs: Any) -> None:
        """Runs the fit and exports its best student."""
        fit(
            *(self.trainer, kwargs["model"], kwargs["datamodule"], kwargs["ckpt_path"], self.live),
            kwargs["weights_only"],
            CalibrationSettings(**self.config[self.subcommand]["calibration"]),
        )

    def after_validate(self) -> None:
        """Prints the number of samples that were scored, and the metrics."""
        if self.trainer.is_global_zero:
            for line in validation_table(self.datamodule, self.trainer.callback_metrics):
                say(line)

    def before_test(self) -> None:
        """Tests the untrained student first, so that results show what training gained."""
        untrained, self._collected = TestPredictions(energies=False), TestPredictions()
        self.trainer.callbacks.append(untrained)
        self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        self._untrained = untrained.rows
        self.trainer.callbacks.remove(untrained)
        self.trainer.callbacks.append(self._collected)

    def after_test(self) -> None:
        """Writes predictions, results and the report, and prints the results."""
        if self.trainer.is_global_zero:
            metrics, task = self.model.metric_names, self.model.task
            tested = {"student": self._collected.rows, "untrained": self._untrained}
            results = {name: evaluate(metrics, task.label_names, rows, task.many) for name, rows in tested.items()}
            write_lines(RunFolder(self.datamodule.run_dir).predictions, self._collected.rows)
            counts, overlaps = overlaps_of_run(self.datamodule)
            if counts:
                write_lines(RunFolder(self.datamodule.run_dir).overlap, [counts | {"found": overlaps}])
            self._publish(results, counts, "results.json")

    def baselines(self, **kwargs: Any) -> None:
        """Runs the baselines, prints their results and writes the report."""
        settings = BaselineSettings(**self.config[self.subcommand]["baselines"])
        self._publish(self.trainer.baselines(**kwargs, settings=settings))

    def _publish(self, results: dict[str, Any], overlap: dict[str, Any] | None = None, file: str = "") -> None:
        """Prints results, writes them to ``file`` in the run folder if given, and rewrites the report."""
        data = self.datamodule
        summary = results_summary(results, data, self.model, overlap)
        if file:
            write_lines(data.run_dir / file, [summary])
            if RunFolder(data.run_dir).student.is_dir():
                write_model_card(RunFolder(data.run_dir).student, data.run_dir)
        print(results_table(summary, data.run_dir, data.task))
        try_to_report(data.run_dir)


class RunConfig(SaveConfigCallback):
    """Writes the resolved config of a fit, and the versions of its packages, into the run folder."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if self.already_saved or stage != "fit" or not trainer.is_global_zero:
            return
        run_dir = Path(self.config.data.run_dir)
        config = self.config.clone()
        piped = local_task("data.task", config.data.task) or (is_copy(config.data.task) and config.data.task)
        if piped:  # the copy is deleted when the command ends, but the run may be resumed
            run_dir.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(piped, run_dir / "task.yaml")
            config.data.task = str(run_dir / "task.yaml")
        write_settings(run_dir, self.parser.dump(config, skip_none=False, skip_validation=True))  # valid when parsed
        self.already_saved = True


@rank_zero_only
def _first_process() -> bool:
    return True


def _not_loaded(*args: Any, **kwargs: Any) -> None:
    """Replaces a model that the command does not need."""


def _seed(value: int) -> int:
    if not 0 <= value < 2**32:
        raise ConfigError("seed_everything", value, f"a whole number from 0 to {2**32 - 1}")
    return value


def _run_dir(root: str, name: str, task: str) -> str:
    if not name.isprintable() or name != Path(name).name or name in ("", "..") or "\\" in name or len(name) > 128:
        raise ConfigError("run.name", name, "the name of a folder, without separators", "run.root says where it is")
    return str(folder_for("run.root", root) / Task.load(task).name / name)


def _checkpoint_dir(root: str, name: str, task: str) -> str:
    return str(Path(_run_dir(root, name, task)) / "checkpoints")


def _expand_folders(settings: Any, section: str) -> None:
    """Expands home folders in the settings of loggers, callbacks and profilers, most of which do not.

    Args:
        settings: A section, changed in place.
        section: The key of the section.
    """
    values = settings if isinstance(settings, dict | list) else vars(settings)
    for key, value in list(enumerate(values) if isinstance(values, list) else values.items()):
        name = f"{section}[{key}]" if isinstance(key, int) else f"{section}.{key}"
        if key in ("save_dir", "dirpath", "dir", "root_dir", "log_dir", "default_root_dir") and isinstance(value, str):
            values[key] = expand(name, value)
        elif isinstance(value, dict | Namespace | list):
            _expand_folders(value, name)
