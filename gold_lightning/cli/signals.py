"""SIGTERM, by which schedulers and containers end a process, stops a run in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lightning.pytorch import Trainer

__all__ = ["keep_sigterm", "stopped_by_sigterm"]


class Terminated:
    """Handles SIGTERM as Ctrl-C; a second one does not disturb the shutdown."""

    def __init__(self) -> None:
        self.stopping = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            raise KeyboardInterrupt


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Has SIGTERM, by which schedulers and containers end a process, stop a run at once and in order."""
    # Other threads may not set handlers, and a program around this one may have its own.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, Terminated())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def keep_sigterm(trainer: Trainer) -> None:
    """Keeps Lightning's own handler of SIGTERM from coming first, inside :func:`stopped_by_sigterm`.

    It waits for the end of a batch, which a generator at work does not reach for a whole round, and for other
    processes, which then wait for this one.
    """
    if isinstance(signal.getsignal(signal.SIGTERM), Terminated):
        trainer._signal_connector._sigterm_notifier_fn = _nothing  # type: ignore[method-assign, assignment]


def _nothing(signum: int, frame: FrameType | None) -> None:
    """Stands in for Lightning's handler."""
