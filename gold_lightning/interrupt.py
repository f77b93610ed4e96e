"""Ctrl-C once ends a run in order, twice at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["FINISHING", "Stopping"]

FINISHING = "finishing what is in flight; Ctrl-C again stops at once"


def _write() -> None:
    # Not print: the signal may have come in the middle of one, and a stream refuses to be entered twice.
    with suppress(OSError):
        os.write(2, f"\n{FINISHING}\n".encode())


class Stopping:
    """Whether somebody wants the run to stop.

    Attributes:
        wanted: Looked at where the run can stop without losing anything: when the generator has answered what it
            was asked and all of it is stored, and after a training step.
        immediately: Whether somebody does not want to wait even for that.
        announce: Called by the signal handler after the first Ctrl-C; writes a line to standard error by default.
    """

    announce: Callable[[], None]

    def __init__(self) -> None:
        self.wanted = self.immediately = False
        self.announce = _write

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notes the first Ctrl-C; the second raises KeyboardInterrupt, as the first does outside of this."""
        # Other threads may not set handlers, and a program around this one may have its own.
        own = signal.default_int_handler
        if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not own:
            yield
            return
        self.wanted = self.immediately = False
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, own)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.wanted:
            self.immediately = True
            raise KeyboardInterrupt
        self.wanted = True
        self.announce()
