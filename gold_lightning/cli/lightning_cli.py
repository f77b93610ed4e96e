"""LightningCLI with the run folder, the shipped configs and the feedback loop."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from gold_lightning.callbacks import OODFeedback, logged_names
from gold_lightning.checkpoints.best import BestCheckpoint, check_checkpoint
from gold_lightning.cli.class_settings import own_defaults
from gold_lightning.cli.commands import program
from gold_lightning.cli.configs import SECTIONS, configs_in
from gold_lightning.cli.messages import (
    Given,
    check_contradictions,
    of_lightning,
    of_parser,
    read_config,
)
from gold_lightning.cli.signals import keep_sigterm
from gold_lightning.console import say
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.evaluation.baselines import BaselineSettings
from gold_lightning.evaluation.predictions import TestPredictions
from gold_lightning.evaluation.preview import PreviewSettings
from gold_lightning.evaluation.results import results_summary, results_table, validation_table
from gold_lightning.inputs.paths import check_folder, expand, folder_for
from gold_lightning.inputs.pipes import is_copy
from gold_lightning.inputs.task_files import local_task
from gold_lightning.metrics import evaluate
from gold_lightning.plugins import load_plugins
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
from gold_lightning.storage.json_lines import write_lines
from gold_lightning.storage.run_folder import RunFolder
from gold_lightning.student import T5Student, metric_names
from gold_lightning.t5.fsdp import check_strategy
from gold_lightning.task import Task
from gold_lightning.watching.live import LiveProgress
from gold_lightning.watching.loggers import RunCSVLogger, set_up_wandb

__all__ = ["GoldCLI", "gold_cause"]


class GoldCLI(LightningCLI):
    """LightningCLI around a T5Student and a GoldDataModule."""

    trainer: GoldTrainer
    datamodule: GoldDataModule
    model: T5Student

    def __init__(self, args: Sequence[str] | None = None) -> None:
        self._args = list(sys.argv[1:] if args is None else args)
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

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # nobody asks the class
        """The trainer's methods that make sense here; the wanted one alone, as a parser takes a while to make."""
        own = {name: {"model", "datamodule", "settings"} for name in ("preview", "baselines")}
        every = LightningCLI.subcommands() | own
        names = ("fit", "validate", "test", "preview", "baselines")
        return {name: every[name] for name in (self._args[:1] if self._args[:1] and self._args[0] in names else names)}

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Has ``COMMAND --help`` begin with how the command is called, in place of its two hundred settings."""
        super().setup_parser(*args, **kwargs)
        for name, parser in self._subcommand_parsers.items():
            parser.prog = f"{program()} {name}"
            parser.usage = "%(prog)s [--config FILE]... [--KEY VALUE]..."

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything", type=int, default=1, help="Seed of all that is drawn, from 0 to 4294967295."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Says in one line what is wrong, and looks at what contradicts itself before anything is made."""
        configs = [read_config(Path(path), SECTIONS) for path in configs_in(self._args)]
        try:
            with own_defaults():
                super().parse_arguments(parser, args)
        except ArgumentError as e:
            known = self._subcommand_parsers.get(self._args[0]) if self._args else None
            defaults = dict(known.get_defaults(skip_validation=True).items()) if known else {}
            raise gold_cause(e) or of_parser(e, Given(self._args, configs, defaults)) from e
        self._check_settings()

    def _check_settings(self) -> None:
        """Looks at settings that are right each, but not here or not together."""
        name = self.config["subcommand"]
        config = self.config[name]
        load_plugins(config.data.plugins)  # before the student, which makes the task's metrics
        for key, default in self._subcommand_parsers[name].get_defaults(skip_validation=True).items(branches=True):
            if key.split(".")[0] in ("run", "data", "model", "feedback") and default is not None:
                if config.get(key, "") is None:  # jsonargparse takes null for any class
                    raise ConfigError(key, None, "a value", "leave it out for the default")
        if name in ("fit", "preview", "baselines"):
            task = Task.load(config.data.task)
            check_contradictions(config.as_dict(), logged_names(metric_names(task)))
        check_strategy(config.as_dict()["trainer"]["strategy"], config.model.optimizer)
        writes = name in ("fit", "test", "baselines")
        check_folder("run.root and run.name", Path(config.data.run_dir), write=writes)
        if config.get("ckpt_path") is not None:
            check_checkpoint("ckpt_path", config.ckpt_path)
            config.ckpt_path = expand("ckpt_path", config.ckpt_path)
        _expand_folders(config.trainer, "trainer")

    def instantiate_classes(self) -> None:
        """Says in one line what Lightning does not take."""
        try:
            super().instantiate_classes()
        except Exception as e:
            told = of_lightning(e, self.config[self.subcommand].as_dict())
            if told is None:
                raise
            raise told from e
        if self.subcommand in ("fit", "preview") and self.datamodule.replayed is None:
            self.datamodule.generator.check_installed()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run.root", type=str, default="runs", help="Folder of all runs.")
        parser.add_argument(
            "--run.name",
            type=str,
            default="default",
            help="Name of this run. The same name goes on with what is there; another begins anew.",
        )
        parser.add_argument(
            "--run.live",
            type=bool,
            default=True,
            help="Show fit in the terminal while it runs. Where there is none, or with false: a line now and then. "
            "With trainer.enable_progress_bar: true, Lightning's bar.",
        )
        # No group of its own: the arguments of a subcommand's method are in a group of that name already.
        parser.add_class_arguments(PreviewSettings, "preview", as_group=False)
        parser.add_class_arguments(BaselineSettings, "baselines", as_group=False)
        parser.add_lightning_class_args(OODFeedback, "feedback")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "data.generator": {"class_path": "gold_lightning.generators.EmbeddedGenerator"},
                "model.loss": {"class_path": "gold_lightning.losses.SymmetricCrossEntropy"},
                "feedback.score": {"class_path": "gold_lightning.scores.EnergyScore"},
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
        """Finds what to resume from, and which student to test, where nothing is said."""
        config = self.config[self.subcommand]
        folder = Path(config.checkpoint.dirpath)
        if self.subcommand in ("test", "validate"):
            config.verbose = False  # a table of ours says it
        show = self.subcommand == "fit" and config.run.live and not config.trainer.enable_progress_bar
        self._show = show and _first_process() and LiveProgress.supported()
        if self._show:
            config.trainer.enable_progress_bar = False  # only one of them can have the terminal
        if self.subcommand == "preview":  # it is about prompts and money
            self.parser.add_instantiator(_not_loaded, T5Student, subclasses=True, prepend=True)
        if self.subcommand in ("fit", "test"):
            set_up_wandb(config.trainer.get("logger"), Path(config.data.run_dir))
        if self.subcommand == "baselines" and config.trainer.devices == "auto":
            config.trainer.devices = 1
        if "ckpt_path" not in config:
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
        given = config.trainer.get("logger")
        if self.subcommand == "validate":  # writes nothing
            kwargs["logger"] = False
        elif given is None or given is True:
            kwargs["logger"] = default_loggers(run_dir)
        elif given:  # the run folder's own file is there whatever else is
            made = self._get(self.config_init, "trainer")["logger"]
            loggers = list(made) if isinstance(made, list | tuple) else [made]
            own = [] if any(isinstance(logger, CSVLogger) for logger in loggers) else [RunCSVLogger(run_dir)]
            kwargs["logger"] = own + loggers
        kwargs.setdefault("default_root_dir", run_dir)
        trainer: GoldTrainer = super().instantiate_trainer(**kwargs)  # type: ignore[assignment]
        self.live = LiveProgress(self.datamodule) if self._show else None
        add_run_callbacks(trainer, config.checkpoint.dirpath, self.live)
        keep_sigterm(trainer)
        return trainer

    def preview(self, model: T5Student | None, datamodule: GoldDataModule) -> None:
        """Gives the trainer's method its settings, which are a section of the config and no arguments."""
        self.trainer.preview(model, datamodule, PreviewSettings(**self._get(self.config, "preview")))

    def fit(self, **kwargs: Any) -> None:
        """Runs the run and leaves its best student."""
        fit(self.trainer, kwargs["model"], kwargs["datamodule"], kwargs["ckpt_path"], self.live, kwargs["weights_only"])

    def after_validate(self) -> None:
        """Prints what the student was scored on, and its metrics."""
        if self.trainer.is_global_zero:
            for line in validation_table(self.datamodule, self.trainer.callback_metrics):
                say(line)

    def before_test(self) -> None:
        """Tests the student before training too, without which a result says little."""
        untrained, self._collected = TestPredictions(energies=False), TestPredictions()
        self.trainer.callbacks.append(untrained)
        self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        self._untrained = untrained.rows
        self.trainer.callbacks.remove(untrained)
        self.trainer.callbacks.append(self._collected)

    def after_test(self) -> None:
        """Writes predictions, results and the report, and prints the results."""
        if self.trainer.is_global_zero:
            metrics, labels = self.model.metric_names, self.model.task.label_names
            tested = {"student": self._collected.rows, "untrained": self._untrained}
            results = {name: evaluate(metrics, labels, rows) for name, rows in tested.items()}
            write_lines(RunFolder(self.datamodule.run_dir).predictions, self._collected.rows)
            counts, found = self.datamodule.overlaps()
            if counts:
                write_lines(RunFolder(self.datamodule.run_dir).overlap, [counts | {"found": found}])
            self._tell(results, counts, "results.json")

    def baselines(self, **kwargs: Any) -> None:
        """Runs the trainer's method of that name, prints the results and writes the report."""
        settings = BaselineSettings(**self._get(self.config, "baselines"))  # a section of the config, no arguments
        self._tell(self.trainer.baselines(**kwargs, settings=settings))

    def _tell(self, results: dict[str, Any], overlap: dict[str, Any] | None = None, file: str = "") -> None:
        """Prints results, writes them to a file of the run folder where one is named, and the report anew."""
        data = self.datamodule
        summary = results_summary(results, data, self.model, overlap)
        if file:
            write_lines(data.run_dir / file, [summary])
        print(results_table(summary, data.run_dir, data.task))
        try_to_report(data.run_dir)


class RunConfig(SaveConfigCallback):
    """Writes the resolved config of a fit, and the versions of what it runs with, into the run folder."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if self.already_saved or stage != "fit" or not trainer.is_global_zero:
            return
        run_dir = Path(self.config.data.run_dir)
        config = self.config.clone()
        piped = local_task("data.task", config.data.task) or (is_copy(config.data.task) and config.data.task)
        if piped:  # the copy goes with the command, and the run goes on
            run_dir.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(piped, run_dir / "task.yaml")
            config.data.task = str(run_dir / "task.yaml")
        write_settings(run_dir, self.parser.dump(config, skip_none=False))
        self.already_saved = True


@rank_zero_only
def _first_process() -> bool:
    return True


def _not_loaded(*args: Any, **kwargs: Any) -> None:
    """Stands in for a model that a subcommand does not need."""


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


def _expand_folders(settings: Any, at: str) -> None:
    """Expands home folders in the settings of loggers, callbacks and profilers, which mostly do not do it themselves.

    Args:
        settings: A section, changed in place.
        at: Its key.
    """
    found = settings if isinstance(settings, dict | list) else vars(settings)
    for key, value in list(enumerate(found) if isinstance(found, list) else found.items()):
        name = f"{at}[{key}]" if isinstance(key, int) else f"{at}.{key}"
        if key in ("save_dir", "dirpath", "dir", "root_dir", "log_dir", "default_root_dir") and isinstance(value, str):
            found[key] = expand(name, value)
        elif isinstance(value, dict | Namespace | list):
            _expand_folders(value, name)


def gold_cause(error: BaseException | None) -> GoldError | None:
    """The error of ours inside one that the argument parser raised for it."""
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, GoldError):
            return error
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None
