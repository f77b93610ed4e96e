"""The command line: LightningCLI with the run folder, the shipped configs and the feedback loop."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from gold_lightning.callbacks import OODFeedback, logged_names
from gold_lightning.checkpoints.best import BestCheckpoint, check_checkpoint
from gold_lightning.cli.class_settings import own_defaults
from gold_lightning.cli.commands import answered, program
from gold_lightning.cli.experiment import experiment_command
from gold_lightning.cli.messages import (
    Given,
    check_contradictions,
    of_lightning,
    of_parser,
    one_line,
    read_config,
)
from gold_lightning.cli.renamed_keys import RENAMED, rename_argument, rename_settings
from gold_lightning.cli.report import report_command
from gold_lightning.cli.streams import is_output_error, readable_streams, with_output
from gold_lightning.cli.tasks import tasks_command
from gold_lightning.console import say
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.evaluation.baselines import BaselineSettings
from gold_lightning.evaluation.predictions import TestPredictions
from gold_lightning.evaluation.preview import PreviewSettings
from gold_lightning.evaluation.results import results_summary, results_table, validation_table
from gold_lightning.generators.distributed import SharedError
from gold_lightning.inputs.paths import check_folder, expand, folder_for
from gold_lightning.inputs.pipes import is_copy, kept, local_copy, replacement, written
from gold_lightning.inputs.task_files import local_task
from gold_lightning.inputs.yaml_files import load_yaml
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
from gold_lightning.storage.round_store import write_lines
from gold_lightning.student import T5Student, metric_names
from gold_lightning.t5.fsdp import check_strategy
from gold_lightning.task import Task
from gold_lightning.watching.live import LiveProgress
from gold_lightning.watching.loggers import RunCSVLogger, set_up_wandb

__all__ = ["GoldCLI", "main"]

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_HERE = Path(__file__).parent.parent
_SECTIONS = ("run", "data", "model", "trainer", "feedback", "early_stopping", "checkpoint", "preview", "baselines")
_CONFIGS = next((p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir()), _HERE / "configs")


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
        configs = [read_config(Path(path), _SECTIONS) for path in _configs_in(self._args)]
        try:
            with own_defaults():
                super().parse_arguments(parser, args)
        except ArgumentError as e:
            known = self._subcommand_parsers.get(self._args[0]) if self._args else None
            defaults = dict(known.get_defaults(skip_validation=True).items()) if known else {}
            raise _gold_cause(e) or of_parser(e, Given(self._args, configs, defaults)) from e
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
        if isinstance(signal.getsignal(signal.SIGTERM), _Stop):
            # Lightning's own handler would come first. It waits for the end of a batch, which a generator at
            # work does not reach for a whole round, and for other processes, which then wait for this one.
            trainer._signal_connector._sigterm_notifier_fn = _nothing  # type: ignore[method-assign, assignment]
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
            write_lines(self.datamodule.run_dir / "predictions.jsonl", self._collected.rows)
            counts, found = self.datamodule.overlaps()
            if counts:
                write_lines(self.datamodule.run_dir / "overlap.json", [counts | {"found": found}])
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


def find_config(name: str) -> str:
    """A config by path, or by its name among the shipped ones.

    Raises:
        ConfigError: There is neither.
    """
    if copy := local_copy("--config", name):
        return _of_today(Path(copy), written(copy))
    if (path := Path(expand("--config", name))).is_file():
        return _of_today(path, name)
    if not Path(name).is_absolute() and (_CONFIGS / name).is_file():
        return str(_CONFIGS / name)
    shipped = sorted(str(p.relative_to(_CONFIGS)) for p in _CONFIGS.rglob("*.yaml"))
    kind = "the path of a file, not of a folder" if path.is_dir() else "the path of a file"
    raise ConfigError("--config", name, f"{kind}, or a shipped config ({', '.join(shipped)})")


def _of_today(path: Path, shown: str) -> str:
    """A config with today's names of settings, and without top-level keys like ``x-...``, which only hold anchors."""
    earlier = "|".join(name.rsplit(".", 1)[1] for name in RENAMED)
    if re.search(rf"""^["']?x-|^ *\{{.*\bx-|\b({earlier})\b""".encode(), path.read_bytes(), re.MULTILINE) is None:
        return str(path)
    config = load_yaml(path, shown)
    if not isinstance(config, dict):
        return str(path)
    renamed = rename_settings(config)
    rest = {key: value for key, value in config.items() if not (isinstance(key, str) and key.startswith("x-"))}
    if not renamed and len(rest) == len(config):
        return str(path)
    return replacement(shown, yaml.dump(rest, Dumper=_NoAliases, sort_keys=False, allow_unicode=True).encode())


class _NoAliases(yaml.SafeDumper):
    """Writes what an alias stands for."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _configs_in(args: Sequence[str]) -> list[str]:
    """Paths of the configs among the arguments."""
    both = [a for i, a in enumerate(args) if (i and args[i - 1] in ("--config", "-c")) or a.startswith("--config=")]
    return [arg.removeprefix("--config=") for arg in both]


def _resolve_configs(args: Sequence[str]) -> list[str]:
    done: list[str] = []
    for i, arg in enumerate(args):
        if i and args[i - 1] in ("--config", "-c"):
            done.append(find_config(arg))
        elif arg.startswith("--config="):
            done.append("--config=" + find_config(arg.removeprefix("--config=")))
        else:
            done.append(rename_argument(arg))
    return done


def _resolve_tasks(args: Sequence[str]) -> list[str]:
    """Has a copy take the place of a task that is read from a pipe."""
    done: list[str] = []
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if i and args[i - 1] == "--data.task":
            done.append(local_task("data.task", arg) or arg)
        elif flag == "--data.task" and equals:
            done.append(f"{flag}={local_task('data.task', value) or value}")
        else:
            done.append(arg)
    return done


def _resolved(args: Sequence[str]) -> Mapping[str, Any]:
    """The resolved config of a command line, without anything made of it.

    Raises:
        GoldError: Something in it is wrong.
    """
    shown = io.StringIO()
    try:
        with redirect_stdout(shown):
            GoldCLI(_resolve_configs([*args, "--print_config"]))
    except SystemExit as e:
        if e.code:
            raise
    except ArgumentError as e:
        raise GoldError(str(_gold_cause(e) or one_line(str(e)))) from None
    found: Mapping[str, Any] = yaml.safe_load(shown.getvalue())
    return found


class _HubSaidOnce(logging.Filter):
    """Lets one line of ours through for all that the hub's client says of each of its tries."""

    _told = False

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "thrown while requesting" not in text and "[Retry " not in text:
            return True
        if not self._told:
            record.msg, record.args = "the hub does not answer; trying for a while (HF_HUB_OFFLINE=1 does not try)", ()
            self._told = True
            return True
        return False


def _quiet() -> None:
    """One line a round, not a screen of notices."""
    hub = logging.getLogger("huggingface_hub.utils._http")
    if not any(isinstance(f, _HubSaidOnce) for f in hub.filters):
        hub.addFilter(_HubSaidOnce())
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own: each line would come twice
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("gold_lightning").setLevel(logging.INFO)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # Rows are tokenised as they are needed and rounds are short: workers and longer logging gaps do not pay.
    # A run folder that is there already is what resuming is about.
    for text in (
        "does not have many workers",
        "log_every_n_steps",
        "Checkpoint directory",
        "logs directory",
        "LeafSpec",
        # Of the baselines, which train without a probe set and test without the run's callbacks.
        "You defined a `validation_step` but have no",
        "callbacks used to create the checkpoint",
        "The dirpath has changed",  # of the test of another run's checkpoint
        "It is recommended to use `self.log",  # metrics are the same in all processes: they gather what they count
        "Using `DistributedSampler` with the dataloaders",  # a row that is tested twice counts once
        "all_gather is deprecated",  # Lightning's own
        "returned a view tensor",  # a T5 block's position bias, which nobody changes in place
    ):
        warnings.filterwarnings("ignore", f".*{text}.*")
    # The arguments are given only where the program is called from Python, or to resolve shipped configs.
    warnings.filterwarnings("ignore", ".*args parameter is intended to run from within Python.*")


class _Stop:
    """Handles SIGTERM as Ctrl-C; a second one does not disturb the shutdown."""

    def __init__(self) -> None:
        self.stopping = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            raise KeyboardInterrupt


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Has SIGTERM, by which schedulers and containers end a process, stop a run at once and in order."""
    # Other threads may not set handlers, and a program around this one may have its own.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _Stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _nothing(signum: int, frame: FrameType | None) -> None:
    """Stands in for Lightning's handler of SIGTERM."""


_GONE = "error: another process of this run is gone; the same command goes on from here"


def _say_who_is_gone() -> None:
    """Has Lightning say why, before it ends this process with SIGKILL since one that it started was killed.

    It looks every five seconds; mostly the broken connection is noticed before that, and told in :func:`main`.
    """
    from lightning.fabric.strategies.launchers import subprocess_script

    class Observer(subprocess_script._ChildProcessObserver):
        def _terminate_all(self) -> None:
            if any((p.returncode or 0) < 0 for p in self._child_processes):  # one that failed has told why itself
                print(_GONE, file=sys.stderr, flush=True)
            super()._terminate_all()

    subprocess_script._ChildProcessObserver = Observer  # type: ignore[misc]


@rank_zero_only
def _say_stopped() -> None:
    print("stopped; the same command goes on from here", file=sys.stderr)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        args: Arguments; those of the process by default.

    Returns:
        The exit status: 0; 2 for a wrong setting, told in one line; 1 where Ctrl-C or SIGTERM stopped it, or if its
        output cannot be written; 141 if what reads its output has gone away.
    """
    argv = list(sys.argv[1:] if args is None else args)
    with readable_streams(), kept():
        return with_output(lambda: _run(argv))


def _run(argv: list[str]) -> int:
    """Runs a command and turns errors that a person can mend into one line each."""
    called = list(argv)
    try:
        if (status := answered(argv)) is not None:
            return status
        _quiet()
        with _stopped_by_sigterm():
            # They need no config, and no run.
            if argv[:1] == ["tasks"]:
                tasks_command(argv[1:])
            elif argv[:1] == ["experiment"]:  # many runs
                return experiment_command(_resolve_configs(argv[1:]), _resolved)
            elif argv[:1] == ["report"]:
                report_command(argv[1:])
            else:
                _say_who_is_gone()
                argv = _resolve_tasks(_resolve_configs(argv))
                sys.argv[1:] = argv if sys.argv[1:] == called else sys.argv[1:]  # processes that Lightning starts
                GoldCLI(argv)
    except KeyboardInterrupt:
        _say_stopped()
        return 1
    except SystemExit as e:
        if isinstance(e.__context__, KeyboardInterrupt):  # Lightning has shut down in order
            _say_stopped()
        raise
    except SharedError:  # the process that failed tells it
        return 2
    except GoldError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except RuntimeError as e:
        if "loading state_dict" in str(e):
            print(f"error: ckpt_path: its weights are not those of model.student; {one_line(e)}", file=sys.stderr)
            return 2
        if "gloo/transport" not in str(e):
            raise
        # Its connection broke: it was killed, and could say nothing.
        print(_GONE, file=sys.stderr)
        return 1
    except OSError as e:  # a full disk, a folder that must not be written to
        if e.errno not in _DISK or is_output_error(e):
            raise
        print(f"error: {one_line(e)}; what is stored is whole, and the same command goes on from it", file=sys.stderr)
        return 1
    except ArgumentError as e:
        print(f"error: {_gold_cause(e) or one_line(e)}", file=sys.stderr)
        return 2
    except UnicodeEncodeError as e:  # of a locale that is not UTF-8: a file's name, or a file that a library writes
        if e.encoding.lower().replace("-", "") == "utf8":
            raise
        part = e.object[e.start : e.start + 20]
        print(f"error: {part!r} is not in {e.encoding}, this locale's encoding; set PYTHONUTF8=1", file=sys.stderr)
        return 2
    except Exception as e:
        if not type(e).__module__.startswith("wandb"):
            raise
        print(f"error: trainer.logger: {one_line(e)} Offline it needs no key: WANDB_MODE=offline", file=sys.stderr)
        return 2
    return 0


def _gold_cause(error: BaseException | None) -> GoldError | None:
    """The error of ours inside one that the argument parser raised for it."""
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, GoldError):
            return error
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None
