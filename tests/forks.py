"""Runs command lines in processes forked from one that has imported the program.

Importing torch, Lightning and transformers takes longer than a small run. A server process imports them once and forks
for each command line, so that a test of two processes takes three seconds instead of twenty. Processes of one run are
started as ``torchrun`` starts them: by the environment, without Lightning's launcher. Tests of the launcher, of signals
and of the program's start run ``python -m gold_lightning`` itself.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


class ForkServer:
    """Starts the server with the first command line, and ends it with :meth:`close`."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(
        self, arguments: Sequence[str], *, script: Path | None = None, processes: int = 1, timeout: float = 280
    ) -> Finished:
        """Runs ``python -m gold_lightning ARGUMENTS``, or a script, with the caller's environment and folder.

        Args:
            arguments: Of the command line.
            script: Python file to run instead of the program.
            processes: Number of processes of the run.
            timeout: Seconds after which all of them are killed and ``TimeoutError`` is raised.
        """
        if self._server is None:
            command = [sys.executable, "-m", "tests.forks"]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self._server = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes)
        server = self._server
        assert server.stdin is not None and server.stdout is not None
        with tempfile.TemporaryDirectory() as output:
            job = {
                "arguments": list(arguments),
                "script": None if script is None else str(script),
                "environments": [dict(os.environ) | _rank(rank, processes) for rank in range(processes)],
                "folder": os.getcwd(),
                "output": output,
            }
            if processes > 1:
                port = str(_free_port())
                for environment in job["environments"]:
                    environment["MASTER_PORT"] = port
            print(json.dumps(job), file=server.stdin, flush=True)
            if not select.select([server.stdout], [], [], timeout)[0]:
                self.close()
                raise TimeoutError(f"not finished after {timeout} s: {_read(output, 'stderr', processes)[-2000:]}")
            statuses = json.loads(server.stdout.readline())
            return Finished(statuses, _read(output, "stdout", processes), _read(output, "stderr", processes))

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


def _read(output: str, stream: str, processes: int) -> str:
    files = [Path(output) / f"{rank}.{stream}" for rank in range(processes)]
    return "".join(file.read_text(errors="replace") for file in files if file.exists())


def _serve() -> tuple[dict[str, Any], int] | None:
    """Forks for each line of standard input; returns in each forked process, with its job and rank."""
    for line in sys.stdin:
        job = json.loads(line)
        running: dict[int, int] = {}
        for rank in range(len(job["environments"])):
            pid = os.fork()
            if pid == 0:
                return job, rank
            running[pid] = rank
        statuses = [0] * len(running)
        while running:
            pid, status = os.wait()
            rank = running.pop(pid)
            statuses[rank] = os.waitstatus_to_exitcode(status)
            if statuses[rank]:  # the others would wait for this one
                for other in running:
                    os.kill(other, signal.SIGTERM)
        print(json.dumps(statuses), flush=True)
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
    if script is None:
        runpy.run_module("gold_lightning", run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(script, run_name="__main__")


def _preload() -> None:
    """Imports what a run needs, most of it inside of functions."""
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


if __name__ == "__main__":
    _preload()
    forked = _serve()
    if forked is not None:
        _become(*forked)
