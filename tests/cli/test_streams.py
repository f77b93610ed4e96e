"""Output in any encoding, into a pipe that nobody reads, onto a full disk, into nothing; and files that are UTF-8."""

from __future__ import annotations

import ast
import contextlib
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import gold_lightning
import pytest
from gold_lightning.cli.main import main
from gold_lightning.cli.streams import readable_streams, with_output
from gold_lightning.console import say
from gold_lightning.interrupt import FINISHING, Stopping

pytestmark = pytest.mark.integration

PACKAGE = Path(gold_lightning.__file__).parent
TEXT = "好 \ud83d é • ━"


def stream(encoding, errors="strict"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, write_through=True)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", r"\u597d \ud83d \xe9 * -"),
        ("latin-1", "\\u597d \\ud83d \xe9 * -"),
        ("cp1252", "\\u597d \\ud83d \xe9 • -"),
        ("gbk", "好 \\ud83d é * ━"),
        ("utf-8", "好 \\ud83d é • ━"),
        ("utf-16-le", "好 \\ud83d é • ━"),
    ],
)
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_every_text_can_be_printed_in_every_encoding(encoding, errors, shown, monkeypatch):
    out = stream(encoding, errors)
    monkeypatch.setattr(sys, "stdout", out)
    with readable_streams():
        print(TEXT, flush=True)
    assert out.buffer.getvalue().decode(encoding) == shown + "\n"
    assert sys.stdout is out and out.errors == errors  # a program around this one may have its own way


def test_streams_of_a_program_around_are_left_alone(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with readable_streams():
        say("好")
        assert sys.stdout is out
    assert out.getvalue() == "好\n"


def test_an_error_of_something_else_is_no_error_of_the_output(capsys):
    def fail():
        raise BrokenPipeError(32, "a server went away")

    with pytest.raises(BrokenPipeError, match="a server"):
        with_output(fail)
    assert capsys.readouterr() == ("", "")


class Failing(io.RawIOBase):
    """A file descriptor that takes nothing."""

    def __init__(self, number):
        self.number = number

    def writable(self):
        return True

    def write(self, data):
        raise OSError(self.number, os.strerror(self.number))


def failing(number, buffered):
    raw = Failing(number)
    return io.TextIOWrapper(io.BufferedWriter(raw) if buffered else raw, encoding="utf-8", write_through=not buffered)


def swallow():
    with contextlib.suppress(OSError):  # as argparse does
        print("help")
    return 0


def say_so():
    say("line")
    return 0


def leave():
    sys.stdout.write("config")
    sys.exit(0)


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("command", [swallow, say_so, leave])
@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        (errno.EPIPE, 141, ""),
        (errno.ENOSPC, 1, "error: standard output: No space left on device\n"),
        (errno.EIO, 1, "error: standard output: Input/output error\n"),
    ],
)
def test_output_that_cannot_be_written(buffered, command, number, status, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", failing(number, buffered))
    with readable_streams():
        assert with_output(command) == status
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("buffered", [True, False])
def test_an_error_line_that_nobody_reads(buffered, monkeypatch):
    monkeypatch.setattr(sys, "stderr", failing(errno.EPIPE, buffered))
    with readable_streams():
        assert main(["tasks", "check", "no_such"]) in (2, 141)


def test_log_lines_that_nobody_reads_end_nothing(monkeypatch, capsys):
    def run():
        print("log", file=sys.stderr)
        return 0

    monkeypatch.setattr(sys, "stderr", failing(errno.EPIPE, buffered=True))
    with readable_streams():
        assert with_output(run) == 0


def test_closed_streams(monkeypatch, capsys):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert main(["tasks"]) == 1
    assert stderr.getvalue() == "error: standard output: Bad file descriptor\n"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["tasks", "check", "no_such"]) == 2
    assert sys.stdout.getvalue() == ""  # Python would print the error there


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_nobody_reads_in_a_process(unbuffered):
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONUNBUFFERED": unbuffered, "PYTHONIOENCODING": "ascii"}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "gold_lightning", "tasks"]
    done = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_name_that_the_locale_cannot_write_is_one_line(monkeypatch, capsys):
    def fail(_):
        return "好".encode("ascii")

    monkeypatch.setattr("gold_lightning.cli.main.tasks_command", fail)
    assert main(["tasks"]) == 2
    assert capsys.readouterr().err == "error: '好' is not in ascii, this locale's encoding; set PYTHONUTF8=1\n"


def test_the_first_ctrl_c_is_announced_without_a_stream(monkeypatch, capfd):
    # A signal may come while a stream is being written to; the stream then refuses a second writer.
    class Entered(io.StringIO):
        def write(self, text):
            raise RuntimeError("reentrant call inside")

    stopping = Stopping()
    monkeypatch.setattr(sys, "stderr", Entered())
    stopping._note(2, None)
    monkeypatch.undo()
    assert stopping.wanted
    assert capfd.readouterr().err == f"\n{FINISHING}\n"


# Every file of ours is UTF-8, whatever the locale


def without_encoding(path):
    """Lines that open a text file in the locale's encoding."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called not in ("open", "read_text", "write_text", "NamedTemporaryFile", "TemporaryFile", "fdopen"):
            continue
        if ast.unparse(node.func) in ("os.open", "tarfile.open", "self._servers.open"):  # no file of text
            continue
        values = [arg.value for arg in [*node.args, *(k.value for k in node.keywords)] if isinstance(arg, ast.Constant)]
        binary = any(isinstance(v, str) and "b" in v and set(v) <= set("rwab+x") for v in values)
        if not binary and not any(k.arg == "encoding" for k in node.keywords):
            yield node.lineno


def test_the_search_finds_what_it_is_for(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("open('a')\np.open('rb')\np.read_text()\np.write_text('b', encoding='utf-8')\np.open(newline='')\n")
    assert list(without_encoding(path)) == [1, 3, 5]


def test_every_text_file_is_opened_as_utf_8():
    paths = sorted(PACKAGE.rglob("*.py"))
    assert len(paths) > 100
    assert [f"{path.relative_to(PACKAGE)}:{line}" for path in paths for line in without_encoding(path)] == []
