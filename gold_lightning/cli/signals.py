"""Handles SIGTERM, by which schedulers and containers end a process, as Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

__all__ = ["keep_sigterm", "stopped_by_sigterm"]


class Terminated:
    """Raises KeyboardInterrupt on the first SIGTERM and ignores further ones, so that the shutdown completes."""

    def __init__(self) -> None:
        self.stopping = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            raise KeyboardInterrupt


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Stops a run in order on SIGTERM, immediately."""
    # Only the main thread may set handlers, and an enclosing program may have its own.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, Terminated())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def keep_sigterm(trainer: Trainer) -> None:
    """Disables Lightning's own handler of SIGTERM inside :func:`stopped_by_sigterm`.

    That handler waits for the end of a batch, which takes a whole round while a generator works, and for a broadcast
    to other processes, which in turn wait for this one.
    """
    # A private name: the trainer registers its handler after the last callback hook before the first round, so no hook
    # can put ours first.
    if isinstance(signal.getsignal(signal.SIGTERM), Terminated):
        trainer._signal_connector._sigterm_notifier_fn = _ignore  # type: ignore[method-assign, assignment]


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Replaces Lightning's handler."""
