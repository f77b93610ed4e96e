"""Helpers for concurrent calls: rate limiting, and running an event loop in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ["Pace", "gather_or_cancel", "run_in_thread"]

_T = TypeVar("_T")


class Pace:
    """A token bucket as deep as one call, which spreads calls evenly over each minute.

    The amount a call takes is known only afterwards, and the pace must hold from one event loop to the next; neither
    is possible with aiolimiter.

    Args:
        per_minute: Amount that may be taken in a minute; 0 for no limit.
    """

    _SLACK = 0.05  # seconds by which a caller may be late without losing its turn

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60 or math.inf
        self._free_at = 0.0

    def take(self, amount: float) -> float:
        """Takes an amount and returns 0, or returns the seconds to wait before the next try."""
        time_now = time.monotonic()
        if self._free_at > time_now:
            return self._free_at - time_now
        self._free_at = max(self._free_at, time_now - self._SLACK) + amount / self._rate
        return 0.0

    def correct(self, amount: float) -> None:
        """Takes what was used beyond the estimate; a negative amount is returned."""
        self._free_at += amount / self._rate


def run_in_thread(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], put: Callable[[BaseException], None]
) -> None:
    """Runs a task to its end and closes its loop: the target of a thread.

    Args:
        loop: The event loop.
        task: The task.
        put: Receives the exception that ends the task early.
    """
    try:
        loop.run_until_complete(task)
    except BaseException as e:
        put(e)  # after a cancellation nobody reads it
    finally:
        with contextlib.suppress(Exception):  # a broken answer may be half read
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(asyncio.sleep(0))  # closed connections are released in the next turn of the loop
        # Threads that resolve host names are not awaited: one may hang, and none holds anything of the batch.
        loop.close()


async def gather_or_cancel(work: Sequence[Awaitable[_T]]) -> list[_T]:
    """Results of all awaitables, in order. The first failure cancels the others and waits until they have ended."""
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
