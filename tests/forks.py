"""Runs command lines in processes forked from one that has imported the program.

Importing torch, Lightning and transformers takes longer than a small run. A server process imports them once and forks
for each command line, so that a test of two processes takes three seconds instead of twenty. Processes of one run are
started as ``torchrun`` starts them: by the environment, without Lightning's launcher. Tests of the launcher and of the
program's start run ``python -m gold_lightning`` itself.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.shortcuts import leave_plots_undrawn

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Finished:
    """The result of a command line.

    Attributes:
        statuses: Exit status of each process, negative for a signal.
        stdout: What all processes printed, one process after the other.
        stderr: The same of standard error.
    """

    statuses: list[int]
    stdout: str
    stderr: str


class Started:
    """A command line at work.

    Attributes:
        pids: Of its processes.
    """

    def __init__(self, folder: tempfile.TemporaryDirectory[str], reports: int, processes: int) -> None:
        self._folder, self._reports, self._processes = folder, reports, processes
        self.pids: list[int] = self._next_report(60)

    @property
    def stdout(self) -> str:
        return self._read("stdout")

    @property
    def stderr(self) -> str:
        return self._read("stderr")

    def is_running(self) -> bool:
        return not select.select([self._reports], [], [], 0)[0]

    def send_signal(self, sent: signal.Signals, process: int = 0) -> None:
        os.kill(self.pids[process], sent)

    def wait(self, timeout: float = 280) -> Finished:
        """Waits for the end of all processes.

        Args:
            timeout: Seconds after which all of them are killed and ``TimeoutError`` is raised.
        """
        try:
            statuses = self._next_report(timeout)
        except TimeoutError as e:
            stderr = self.stderr
            self.kill()
            raise TimeoutError(f"not finished after {timeout} s: {stderr[-2000:]}") from e
        finished = Finished(statuses, self.stdout, self.stderr)
        self._clean_up()
        return finished

    def kill(self) -> None:
        """Kills the processes that are still at work. Does nothing after :meth:`wait`."""
        if self._reports < 0:
            return
        if self.is_running():
            for pid in self.pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._next_report(60)
        self._clean_up()

    def _clean_up(self) -> None:
        os.close(self._reports)
        self._reports = -1
        self._folder.cleanup()

    def _next_report(self, timeout: float) -> list[int]:
        line, deadline = b"", time.monotonic() + timeout
        while not line.endswith(b"\n"):
            if not select.select([self._reports], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            line += os.read(self._reports, 1)  # no more than this line
        report: list[int] = json.loads(line)
        return report

    def _read(self, stream: str) -> str:
        files = [Path(self._folder.name) / f"{rank}.{stream}" for rank in range(self._processes)]
        return "".join(file.read_text(errors="replace") for file in files if file.exists())


class ForkServer:
    """Starts the server with the first command line, and ends it with :meth:`close`."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(self, arguments: Sequence[str], *, timeout: float = 280, **options: Any) -> Finished:
        """Runs a command line to its end. For the parameters see :meth:`Started.wait` and :meth:`start`."""
        return self.start(arguments, **options).wait(timeout)

    def start(
        self, arguments: Sequence[str], *, script: Path | None = None, processes: int = 1, end_together: bool = True
    ) -> Started:
        """Starts ``python -m gold_lightning ARGUMENTS``, or a script, with the caller's environment and folder.

        Args:
            arguments: Of the command line.
            script: Python file to run instead of the program.
            processes: Number of processes of the run.
            end_together: Whether the others are ended if one fails, as ``torchrun`` does.
        """
        if self._server is None:
            command = [sys.executable, "-m", "tests.forks"]
            threads = os.environ | {"OMP_NUM_THREADS": "1"}  # as torchrun has it: processes share the machine
            self._server = subprocess.Popen(
                command, cwd=ROOT, env=threads, start_new_session=True, stdin=subprocess.PIPE, text=True
            )
        assert self._server.stdin is not None
        folder = tempfile.TemporaryDirectory()
        os.mkfifo(f"{folder.name}/reports")
        reports = os.open(f"{folder.name}/reports", os.O_RDWR)  # a reader that waits for no writer
        job = {
            "arguments": list(arguments),
            "script": None if script is None else str(script),
            "environments": [dict(os.environ) | _rank(rank, processes) for rank in range(processes)],
            "folder": os.getcwd(),
            "output": folder.name,
            "end_together": end_together,
        }
        if processes > 1:
            port = str(_free_port())
            for environment in job["environments"]:
                environment["MASTER_PORT"] = port
        print(json.dumps(job), file=self._server.stdin, flush=True)
        return Started(folder, reports, processes)

    def close(self) -> None:
        """Ends the server and whatever it has forked."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None


def _rank(rank: int, processes: int) -> dict[str, str]:
    if processes == 1:
        return {}
    return {
        "TORCHELASTIC_RUN_ID": "tests",
        "MASTER_ADDR": "127.0.0.1",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _serve() -> tuple[dict[str, Any], int] | None:
    """Forks for each line of standard input; returns in each forked process, with its job and rank."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors leave no zombies
    for line in sys.stdin:
        job = json.loads(line)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            rank = _supervise(job)
            if rank is None:
                os._exit(0)
            return job, rank
    return None


def _supervise(job: dict[str, Any]) -> int | None:
    """Forks the processes of a job and reports their ids and statuses; returns the rank in each forked process."""
    running: dict[int, int] = {}
    for rank in range(len(job["environments"])):
        pid = os.fork()
        if pid == 0:
            return rank
        running[pid] = rank
    with open(f"{job['output']}/reports", "w") as reports:
        print(json.dumps([*running]), file=reports, flush=True)
        statuses = [0] * len(running)
        while running:
            pid, status = os.wait()
            rank = running.pop(pid)
            statuses[rank] = os.waitstatus_to_exitcode(status)
            if statuses[rank] and job["end_together"]:  # the others would wait for this one
                for other in running:
                    os.kill(other, signal.SIGTERM)
        print(json.dumps(statuses), file=reports, flush=True)
    return None


def _become(job: dict[str, Any], rank: int) -> None:
    """Makes this process what ``python`` would have started."""
    os.environ.clear()
    os.environ.update(job["environments"][rank])
    os.chdir(job["folder"])
    for stream, mode in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        path = os.devnull if mode == "stdin" else f"{job['output']}/{rank}.{mode}"
        opened = os.open(path, os.O_RDONLY if mode == "stdin" else os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, stream)
        os.close(opened)
    script = job["script"]
    sys.argv = [script or "gold_lightning", *job["arguments"]]
    status: Any = None
    try:
        if script is None:
            runpy.run_module("gold_lightning", run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script, run_name="__main__")
    except SystemExit as e:
        status = e.code
    except Exception:
        traceback.print_exc()
        status = 1
    _exit(status)


def _exit(status: Any) -> NoReturn:
    """Ends this process as ``sys.exit`` does, without freeing all that it has imported, which takes seconds."""
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as at any end: waits for threads, then calls what asked for it
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


def _preload() -> None:
    """Imports what a run needs, most of it inside of functions; parses, and loads a student, for what that caches."""
    for name in (
        "gold_lightning.cli.lightning_cli",
        "gold_lightning.cli.predict",
        "gold_lightning.report.plots",
        "matplotlib.backends.backend_agg",
        "torch.distributed.fsdp",
        "torch.utils.tensorboard",
        "transformers.models.t5.modeling_t5",
    ):
        importlib.import_module(name)
    leave_plots_undrawn(pytest.MonkeyPatch())
    with redirect_stdout(io.StringIO()), suppress(SystemExit):
        main = importlib.import_module("gold_lightning.cli.main").main
        main(["fit", "--config", "quickstart.yaml", "--print_config"])
    with tempfile.TemporaryDirectory() as folder:
        student = importlib.import_module("tests.fakes").make_tiny_student(Path(folder) / "student")
        importlib.import_module("gold_lightning.student").T5Student(task="news_topics", student=str(student))
    assert threading.active_count() == 1, threading.enumerate()  # of which a fork would have none


if __name__ == "__main__":
    gc.disable()
    _preload()
    gc.freeze()  # else each process would copy all of it to count references
    gc.enable()
    forked = _serve()
    if forked is not None:
        _become(*forked)
