"""The first Ctrl-C stops a run at the next safe point; the second stops it immediately."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["FINISHING", "Stopping"]

FINISHING = "finishing what is in flight; Ctrl-C again stops at once"


def _announce() -> None:
    # The signal may interrupt a print, and streams are not re-entrant: write to the descriptor.
    with suppress(OSError):
        os.write(2, f"\n{FINISHING}\n".encode())


class Stopping:
    """A user's request to stop the run.

    Attributes:
        wanted: Whether Ctrl-C was pressed. The run checks it where stopping loses nothing: after the generator's
            answers are stored, and after a training step.
        immediately: Whether Ctrl-C was pressed twice.
        announce: Function that the signal handler calls after the first Ctrl-C; by default it writes a line to standard
            error.
    """

    announce: Callable[[], None]

    def __init__(self) -> None:
        self.wanted = self.immediately = False
        self.announce = _announce

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Records the first Ctrl-C inside the block; the second one raises KeyboardInterrupt, as usual outside it."""
        # Only the main thread may set handlers, and a surrounding program may have its own.
        default = signal.default_int_handler
        if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not default:
            yield
            return
        self.wanted = self.immediately = False
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, default)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.wanted:
            self.immediately = True
            raise KeyboardInterrupt
        self.wanted = True
        self.announce()
