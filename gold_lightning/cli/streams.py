"""Makes standard output and error robust: other encodings, broken pipes, full disks, closed streams."""

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
# Substitutes for the characters of progress bars; every other character is escaped.
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
    """A standard stream that escapes characters outside its encoding and remembers the error of a failed write.

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
    """Replaces a closed standard output, for which Python has ``None``; writing raises an error."""

    failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if text:
            self.failure = OSError(errno.EBADF, os.strerror(errno.EBADF))
            raise self.failure
        return 0


class _NoOutput(io.TextIOBase):
    """Replaces a closed standard error; discards all text."""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        return len(text)


# Kept until the process ends: a collected wrapper closes the shared buffer, which log handlers may still use.
_wrappers: dict[int, tuple[io.TextIOWrapper, _Output]] = {}


def _wrapped(stream: Any) -> Any:
    if type(stream) is not io.TextIOWrapper:  # replaced by an enclosing program
        return stream
    if id(stream) not in _wrappers:
        buffering: dict[str, Any] = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        _wrappers[id(stream)] = stream, _Output(stream.buffer, stream.encoding, _ERRORS, **buffering)
    wrapper = _wrappers[id(stream)][1]
    wrapper.failure = None
    return wrapper


@contextmanager
def readable_streams() -> Iterator[None]:
    """Makes standard output and error accept any text; characters outside their encoding are escaped.

    A closed standard output is replaced by a stream that fails on writing, a closed standard error by one that discards
    text. Streams that an enclosing program has replaced are left unchanged.
    """
    with suppress(OSError):  # otherwise the next file that is opened would be standard output
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
    original = sys.stdout, sys.stderr
    sys.stdout = _ClosedOutput() if sys.stdout is None else _wrapped(sys.stdout)
    # print(file=None) would print errors on standard output.
    sys.stderr = _NoOutput() if sys.stderr is None else _wrapped(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = original


def is_output_error(error: BaseException) -> bool:
    """Returns whether an error was raised by writing to standard output or error."""
    return any(error is getattr(stream, "failure", None) for stream in (sys.stdout, sys.stderr))


def with_output(command: Callable[[], int]) -> int:
    """Runs a command and flushes its output.

    Args:
        command: The command; it returns the exit status.

    Returns:
        The command's exit status; 141, without a message, if the reader of the output is gone (``| head``); 1, with a
        one-line message, if the output cannot be written for another reason.
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
    with suppress(OSError, ValueError):  # ValueError: the stream is closed; failures are remembered
        sys.stdout.flush()
    # A failed log line is not a failure of the command: on standard error only the error that ended it counts.
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
    """Discards the buffers of failed streams, which Python would otherwise write again at exit, with a complaint."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "failure", None) is not None:
            with suppress(OSError, ValueError):
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, stream.fileno())
                os.close(devnull)
