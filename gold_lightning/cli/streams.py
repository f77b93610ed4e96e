"""Standard output and error as they may be: in any encoding, a pipe that nobody reads, a full disk, closed."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["is_output_error", "readable_streams", "with_output"]

_ERRORS = "gold_lightning.readable"
# What progress bars draw; every other character is escaped.
_PLAIN = {"•": "*", "━": "-", "╸": "-", "╺": "-", "…": "..."}
_PIPE_STATUS = 128 + 13  # what a shell shows for a program that SIGPIPE ended


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    # A replacement must itself be in the encoding, and all of these are ASCII.
    return "".join(_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


codecs.register_error(_ERRORS, _readable)


class _Output(io.TextIOWrapper):
    """A standard stream that escapes what its encoding does not have, and remembers why it could not be written to.

    A library may swallow that error, and an unbuffered stream would not raise it again.
    """

    failure: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as e:
            self.failure = e
            raise

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as e:
            self.failure = e
            raise


class _ClosedOutput(io.TextIOBase):
    """Stands in for a closed standard output, for which Python has ``None``: to write to it is an error."""

    failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if text:
            self.failure = OSError(errno.EBADF, os.strerror(errno.EBADF))
            raise self.failure
        return 0


class _NoOutput(io.TextIOBase):
    """Stands in for a closed standard error; what is written goes nowhere."""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        return len(text)


# Both are kept as long as the process: one that is collected closes what they share, and log handlers may hold it.
_made: dict[int, tuple[io.TextIOWrapper, _Output]] = {}


def _wrapped(stream: Any) -> Any:
    if type(stream) is not io.TextIOWrapper:  # a program around this one put it in place
        return stream
    if id(stream) not in _made:
        how: dict[str, Any] = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        _made[id(stream)] = stream, _Output(stream.buffer, stream.encoding, _ERRORS, **how)
    made = _made[id(stream)][1]
    made.failure = None
    return made


@contextmanager
def readable_streams() -> Iterator[None]:
    """Has standard output and error take every text: a character that their encoding does not have is escaped.

    Closed streams get a stand-in: output fails when something is written to it, errors go nowhere. Streams that a
    program around this one put in place are left as they are.
    """
    with suppress(OSError):  # otherwise the next file that is opened would be standard output
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
    before = sys.stdout, sys.stderr
    sys.stdout = _ClosedOutput() if sys.stdout is None else _wrapped(sys.stdout)
    # print(file=None) would print errors on standard output.
    sys.stderr = _NoOutput() if sys.stderr is None else _wrapped(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def is_output_error(error: BaseException) -> bool:
    """Whether an error came of writing to standard output or error."""
    return any(error is getattr(stream, "failure", None) for stream in (sys.stdout, sys.stderr))


def with_output(command: Callable[[], int]) -> int:
    """Runs a command and makes sure that its output has left the process.

    Args:
        command: The command; it returns the exit status.

    Returns:
        Its exit status. 141 if what reads the output has gone away, as ``| head`` does: nothing is said then. 1 if the
        output cannot be written for another reason, told in one line.
    """
    exit_: SystemExit | None = None
    status, failure = 0, None
    try:
        status = command()
    except SystemExit as e:
        exit_ = e
    except OSError as e:
        if not is_output_error(e):
            raise
        failure = e
    with suppress(OSError, ValueError):  # ValueError: closed meanwhile; what fails is remembered
        sys.stdout.flush()
    # A log line that nobody reads is no failure of the command: only what ended it counts on standard error.
    failure = getattr(sys.stdout, "failure", None) or failure
    if failure is None:
        if exit_ is not None:
            raise exit_
        return status
    _discard()
    if failure.errno == errno.EPIPE:
        return _PIPE_STATUS
    print(f"error: standard output: {failure.strerror}", file=sys.stderr)
    return 1


def _discard() -> None:
    """Has what a failed stream still holds go nowhere: Python writes it once more when it exits, and complains."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "failure", None) is not None:
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
