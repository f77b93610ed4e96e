"""Runs a command; errors that the user can fix become one line each. Imports torch only for commands that need it."""

from __future__ import annotations

import errno
import gc
import importlib
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from jsonargparse import ArgumentError

from gold_lightning.cli.commands import answered
from gold_lightning.cli.configs import resolve_configs, resolve_tasks
from gold_lightning.cli.messages import gold_cause, one_line
from gold_lightning.cli.signals import stopped_by_sigterm
from gold_lightning.cli.streams import is_output_error, readable_streams, with_output
from gold_lightning.cli.tasks import tasks_command
from gold_lightning.errors import GoldError, SharedError
from gold_lightning.inputs.pipes import deleting_copies
from gold_lightning.inputs.yaml_files import parse_own_yaml

__all__ = ["main"]

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
# Each run by COMMAND_command of the module of its name.
_WITHOUT_LIGHTNING = ("calibrate", "export", "predict", "push", "serve")
_GONE = "error: another process of this run is gone; the same command goes on from here"


def _resolved(args: Sequence[str]) -> Mapping[str, Any]:
    """Returns the resolved config of a command line, without instantiating its classes.

    Raises:
        GoldError: A setting is wrong.
    """
    from gold_lightning.cli.lightning_cli import GoldCLI

    output = io.StringIO()
    try:
        with redirect_stdout(output):
            GoldCLI(resolve_configs([*args, "--print_config"]))
    except SystemExit as e:
        if e.code:
            raise
    except ArgumentError as e:
        raise GoldError(str(gold_cause(e) or one_line(str(e)))) from None
    config: Mapping[str, Any] = parse_own_yaml(output.getvalue())
    return config


def _say_stopped() -> None:
    utilities = sys.modules.get("lightning.pytorch.utilities")  # not imported for this line alone
    if utilities is None or utilities.rank_zero_only.rank == 0:
        print("stopped; the same command goes on from here", file=sys.stderr)


@contextmanager
def _imports() -> Iterator[None]:
    """Looks for no garbage while modules are imported, nor later in what they have made: they make hardly any."""
    collects, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:  # else what is frozen would be of the commands before this one
            gc.freeze()
        if collects:
            gc.enable()


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        args: Arguments; those of the process by default.

    Returns:
        The exit status: 0 for success; 1 if Ctrl-C or SIGTERM stopped the command or its output cannot be written; 2
        for a wrong setting; 3 if ``predict`` could not read some rows; 141 if the reader of its output is gone.
    """
    argv = list(sys.argv[1:] if args is None else args)
    with readable_streams(), deleting_copies():
        return with_output(lambda: _run(argv))


def _run(argv: list[str]) -> int:
    """Runs a command; errors that the user can fix become one line each."""
    original = list(argv)
    try:
        if (status := answered(argv)) is not None:
            return status
        with stopped_by_sigterm():
            if argv[:1] == ["tasks"]:  # needs torch for no command but tasks check
                tasks_command(argv[1:])
                return 0
            if argv[0] in _WITHOUT_LIGHTNING:
                with _imports():
                    module = importlib.import_module(f"gold_lightning.cli.{argv[0]}")
                status_of_command: int = getattr(module, f"{argv[0]}_command")(argv[1:])
                return status_of_command
            with _imports():
                import lightning.pytorch  # noqa: F401 - sets the level of its loggers when imported, so before quiet()

                from gold_lightning.cli.quiet import quiet

            quiet()
            # These commands need neither a config nor a run.
            if argv[:1] == ["experiment"]:
                from gold_lightning.cli.experiment import experiment_command

                return experiment_command(resolve_configs(argv[1:]), _resolved)
            if argv[:1] == ["report"]:
                from gold_lightning.cli.report import report_command

                report_command(argv[1:])
            else:
                with _imports():
                    from gold_lightning.cli.lightning_cli import GoldCLI

                argv = resolve_tasks(resolve_configs(argv))
                sys.argv[1:] = argv if sys.argv[1:] == original else sys.argv[1:]  # processes that Lightning starts
                GoldCLI(argv)
    except KeyboardInterrupt:
        _say_stopped()
        return 1
    except SystemExit as e:
        if isinstance(e.__context__, KeyboardInterrupt):  # Lightning exits after Ctrl-C
            _say_stopped()
        raise
    except SharedError:  # the process that failed prints the message
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
        # The connection broke because the other process was killed.
        print(_GONE, file=sys.stderr)
        return 1
    except OSError as e:  # a full disk, a folder that must not be written to
        if e.errno not in _DISK or is_output_error(e):
            raise
        print(f"error: {one_line(e)}; what is stored is whole, and the same command goes on from it", file=sys.stderr)
        return 1
    except ArgumentError as e:
        print(f"error: {gold_cause(e) or one_line(e)}", file=sys.stderr)
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
