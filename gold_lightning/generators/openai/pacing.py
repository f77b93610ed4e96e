"""Helpers for many calls at once, whatever is asked: rate limiting, and an event loop that runs in a thread."""

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
    """A token bucket as deep as one call: calls are spread evenly, and no minute has more than its share.

    Args:
        per_minute: The share; 0 for no limit.
    """

    _SLACK = 0.05  # seconds that a caller may be late without losing its turn

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60 or math.inf
        self._free_at = 0.0

    def take(self, amount: float) -> float:
        """Takes an amount, or says how many seconds to wait before the next try."""
        now = time.monotonic()
        if self._free_at > now:
            return self._free_at - now
        self._free_at = max(self._free_at, now - self._SLACK) + amount / self._rate
        return 0.0

    def correct(self, amount: float) -> None:
        """Takes what was used beyond the estimate; gives back where it is negative."""
        self._free_at += amount / self._rate


def run_in_thread(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], give: Callable[[BaseException], None]
) -> None:
    """Runs a batch to its end, in its thread. What ends it early is given to who waits."""
    try:
        loop.run_until_complete(task)
    except BaseException as e:
        give(e)  # a cancelled one has nobody who waits
    finally:
        with contextlib.suppress(Exception):  # what a broken answer left half read
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(asyncio.sleep(0))  # connections that were closed are let go of in the next turn
        # The threads that look up names are not waited for: one may hang, and it holds nothing of ours.
        loop.close()


async def gather_or_cancel(work: Sequence[Awaitable[_T]]) -> list[_T]:
    """Results of all, in order. The first that fails ends the others, and nothing of them is left behind."""
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
