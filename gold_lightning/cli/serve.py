"""``serve``: answers predictions of a student over HTTP. Needs no Lightning."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from gold_lightning.cli.commands import program
from gold_lightning.cli.configs import SECTIONS, find_config, read_config
from gold_lightning.cli.student_folder import load_student
from gold_lightning.errors import ConfigError, GoldError, require
from gold_lightning.inputs.paths import expand
from gold_lightning.serving.settings import ServeSettings, UnknownSettings

if TYPE_CHECKING:
    from gold_lightning.generators import Generator
    from gold_lightning.serving.fallback import Fallback
    from gold_lightning.serving.service import Student
    from gold_lightning.serving.unknown_file import UnknownFile

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
    parser.add_argument("student", type=str, help="Folder of the student, of its run, or of export.")
    parser.add_class_arguments(ServeSettings, None)
    parser.add_class_arguments(UnknownSettings, None)
    parser.add_argument("--task", type=str, default=None, help="The task, for a folder that carries none.")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, or auto: a GPU if there is one.")
    options = parser.parse_args(list(args))
    settings = ServeSettings(**{name: options[name] for name in ServeSettings.__dataclass_fields__})
    unknown = UnknownSettings(**{name: options[name] for name in UnknownSettings.__dataclass_fields__})
    for package in ("uvicorn", "starlette", "prometheus_client"):
        require(package, "serve")
    generator = None if unknown.fallback is None else _generator(unknown.fallback)
    from gold_lightning.serving.server import address_of, listen, make_server, run_server

    with listen(settings) as listener:
        student = _load(options.student, options.task, options.device)
        _check_calibration(student, options.student, unknown)
        from gold_lightning.serving.app import make_app
        from gold_lightning.serving.service import Service

        file = _unknown_file(unknown)
        fallback = _fallback(student, generator, unknown)
        lines = [f"serving {student.task.name} at {address_of(listener)} (Ctrl-C stops)", *_warnings(unknown)]
        service = Service(student, settings, file, fallback, unknown.fallback_timeout)
        server = make_server(make_app(service), settings)
        run_server(server, listener, lambda: print(*lines, sep="\n", file=sys.stderr, flush=True))
    return 0


def _load(folder: str, task: str | None, device: str) -> Student:
    path = Path(expand("STUDENT", folder))
    from gold_lightning.serving.exported import ExportedStudent, is_exported

    if not is_exported(path):
        return load_student(folder, task, device)
    for key, value in (("--task", task), ("--device", None if device in ("auto", "cpu") else device)):
        if value is not None:
            raise ConfigError(key, value, "nothing for an exported folder, which has its task and runs on the cpu")
    return ExportedStudent(path)


def _check_calibration(student: Student, folder: str, unknown: UnknownSettings) -> None:
    """Raises ConfigError if a setting needs to tell known inputs from others and the student cannot."""
    for key, value in (("--unknown", unknown.unknown), ("--fallback", unknown.fallback)):
        if value is None:
            continue
        command = f"{program()} calibrate {folder} FILE"
        if student.calibration is None:
            raise ConfigError(key, value, "a student with a calibration", f"{command} writes one, from labelled rows")
        if student.calibration.get("threshold") is None:
            allowed = "a student whose calibration tells known inputs from others"
            raise ConfigError(key, value, allowed, f"this one's had too few rows; {command} takes more")


def _unknown_file(unknown: UnknownSettings) -> UnknownFile | None:
    if unknown.unknown is None:
        return None
    from gold_lightning.serving.unknown_file import UnknownFile

    return UnknownFile(Path(expand("--unknown", unknown.unknown)), unknown.unknown_mb * 2**20)


def _generator(config: str) -> Generator:
    """Makes the ``data.generator`` of a config."""
    from gold_lightning.generators import Generator  # loads torch, which an exported student does without

    engine: Any = (read_config(Path(find_config(config)), SECTIONS).get("data") or {}).get("generator")
    if engine is None:
        raise ConfigError("--fallback", config, "a config with data.generator")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Generator, "data.generator")
    options = parser.instantiate(parser.parse_object({"data": {"generator": engine}}))
    generator: Generator = options.data.generator
    generator.check_installed()
    return generator


def _fallback(student: Student, generator: Generator | None, unknown: UnknownSettings) -> Fallback | None:
    if generator is None:
        return None
    from gold_lightning.serving.fallback import Fallback

    fallback = Fallback(student.task, generator, unknown.fallback_per_hour)
    try:
        fallback.prepare()
    except GoldError as e:  # a server that is away for a while should not keep the student away
        print(f"warning: --fallback: {e}; it is asked again later", file=sys.stderr)
    return fallback


def _warnings(unknown: UnknownSettings) -> list[str]:
    lines: list[str] = []
    if unknown.unknown is not None:
        lines.append(
            f"WARNING: --unknown stores your users' texts: each input that the student does not know is appended to "
            f"{unknown.unknown} (readable by its owner alone; at most 2 x {unknown.unknown_mb} MB)"
        )
    if unknown.fallback is not None:
        lines.append(
            f"WARNING: --fallback sends your users' texts to the generator of {unknown.fallback}: those that the "
            f"student does not know, at most {unknown.fallback_per_hour:,} an hour"
        )
    return lines
