"""``serve``: answers predictions of a student over HTTP. Needs no Lightning."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from gold_lightning.cli.commands import program
from gold_lightning.cli.student_folder import load_student
from gold_lightning.errors import require
from gold_lightning.serving.settings import ServeSettings

__all__ = ["serve_command"]

_DESCRIPTION = """Serves a student over HTTP: POST /predict takes a text or a list of them as JSON; / is a page to try
it; /docs describes the interface; /health and /metrics are for those who watch it. SIGTERM and Ctrl-C stop it after the
requests under way are answered; the exit status is 0."""


def serve_command(args: Sequence[str]) -> int:
    """Runs ``serve STUDENT``.

    Args:
        args: Arguments after ``serve``.

    Returns:
        The exit status.

    Raises:
        GoldError: A setting is wrong.
        ArgumentError: An argument is wrong.
    """
    parser = ArgumentParser(prog=f"{program()} serve", description=_DESCRIPTION, exit_on_error=False)
    parser.add_argument("student", type=str, help="Folder of the student, or of the run that trained it.")
    parser.add_class_arguments(ServeSettings, None)
    parser.add_argument("--task", type=str, default=None, help="The task, for a folder that carries none.")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, or auto: a GPU if there is one.")
    options = parser.parse_args(list(args))
    settings = ServeSettings(**{name: options[name] for name in ServeSettings.__dataclass_fields__})
    for package in ("uvicorn", "starlette", "prometheus_client"):
        require(package, "serve")
    from gold_lightning.serving.server import address_of, listen, make_server, run_server

    with listen(settings) as listener:
        student = load_student(options.student, options.task, options.device)
        from gold_lightning.serving.app import make_app
        from gold_lightning.serving.service import Service

        line = f"serving {student.task.name} at {address_of(listener)} (Ctrl-C stops)"
        server = make_server(make_app(Service(student, settings)), settings)
        run_server(server, listener, lambda: print(line, file=sys.stderr, flush=True))
    return 0
