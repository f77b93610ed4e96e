"""Dynamic batching: rows that arrive together are computed together, in one thread, and each request gets its own."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Batcher", "SaturatedError"]

_Row = TypeVar("_Row")
_Answer = TypeVar("_Answer")


class SaturatedError(Exception):
    """Too many rows wait already.

    Args:
        seconds: Seconds after which there is room, as far as can be told.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many rows are waiting; try again in {seconds} s")
        self.seconds = seconds


class _Job(Generic[_Row, _Answer]):
    def __init__(self, rows: Sequence[_Row], future: asyncio.Future[list[_Answer]]) -> None:
        self.rows, self.future = rows, future
        self.answers: list[_Answer] = []
        self.taken = 0
        self.abandoned = False  # set by the event loop, read by the thread


class Batcher(Generic[_Row, _Answer]):
    """Computes rows of many requests in shared batches.

    A thread of its own calls ``compute``, which therefore need not be thread-safe. Requests share a batch in turn, a
    part of each, so that a request of many rows does not delay those of one row.

    Args:
        compute: Function that returns an answer for each row of a batch.
        batch_size: Maximum number of rows in a batch.
        max_wait: Seconds that an idle thread waits for more rows, from the arrival of the first.
        max_waiting: Maximum number of rows that wait. A request is accepted if no row waits, however many it has.
        isolate: If a batch fails, compute its rows one by one, so that a bad row fails alone.
        observe: Called in the thread after each batch with its number of rows and its seconds.

    Example:
        >>> batcher = Batcher(lambda rows: [row * 2 for row in rows], batch_size=8)
        >>> batcher.start()
        >>> asyncio.run(batcher.submit([1, 2, 3]))
        [2, 4, 6]
        >>> batcher.close()
    """

    def __init__(
        self,
        compute: Callable[[list[_Row]], Sequence[_Answer]],
        batch_size: int,
        max_wait: float = 0.0,
        max_waiting: int = 2000,
        *,
        isolate: bool = False,
        observe: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        self._compute, self._observe, self._isolate = compute, observe, isolate
        self.batch_size, self.max_wait, self.max_waiting = batch_size, max_wait, max_waiting
        self._part = max(1, batch_size // 4)
        self._jobs: deque[_Job[_Row, _Answer]] = deque()
        self._waiting = 0
        self._row_seconds = 0.01  # smoothed
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True, name="batcher")

    @property
    def waiting(self) -> int:
        """Number of rows that no batch has taken yet."""
        return self._waiting

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self, timeout: float | None = None) -> None:
        """Ends the thread once no row waits.

        Args:
            timeout: Seconds to wait for that; a thread that is still busy then ends with the process.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    async def submit(self, rows: Sequence[_Row]) -> list[_Answer]:
        """Returns an answer for each row. Rows of a cancelled call are not computed any more.

        Raises:
            SaturatedError: Too many rows wait already.
            Exception: Whatever ``compute`` raises for one of the rows.
        """
        if not rows:
            return []
        job: _Job[_Row, _Answer] = _Job(rows, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._waiting and self._waiting + len(rows) > self.max_waiting:
                raise SaturatedError(min(60, max(1, math.ceil(self._waiting * self._row_seconds))))
            self._jobs.append(job)
            self._waiting += len(rows)
            self._changed.notify()
        try:
            return await job.future
        finally:
            job.abandoned = True

    def _run(self) -> None:
        while batch := self._next_batch():
            rows = [job.rows[at] for job, start, end in batch for at in range(start, end)]
            started = time.perf_counter()
            outcomes = self._outcomes(rows)
            seconds = time.perf_counter() - started
            self._row_seconds += 0.2 * (seconds / len(rows) - self._row_seconds)
            self._observe(len(rows), seconds)
            at = 0
            for job, start, end in batch:
                self._deliver(job, outcomes[at : at + end - start])
                at += end - start

    def _next_batch(self) -> list[tuple[_Job[_Row, _Answer], int, int]]:
        """Waits for rows and takes a part of each request in turn; returns nothing after :meth:`close`."""
        with self._changed:
            while True:
                if not self._waiting:
                    if self._closed:
                        return []
                    self._changed.wait()
                    self._gather()
                if batch := self._take():
                    return batch

    def _gather(self) -> None:
        """Waits for a full batch, at most ``max_wait`` seconds."""
        deadline = time.monotonic() + self.max_wait
        while 0 < self._waiting < self.batch_size and not self._closed:
            if (left := deadline - time.monotonic()) <= 0 or not self._changed.wait(left):
                return

    def _take(self) -> list[tuple[_Job[_Row, _Answer], int, int]]:
        batch: list[tuple[_Job[_Row, _Answer], int, int]] = []
        room = self.batch_size
        while room and self._jobs:
            job = self._jobs.popleft()
            if job.abandoned:
                self._waiting -= len(job.rows) - job.taken
                continue
            start, job.taken = job.taken, min(len(job.rows), job.taken + min(self._part, room))
            batch.append((job, start, job.taken))
            room -= job.taken - start
            self._waiting -= job.taken - start
            if job.taken < len(job.rows):
                self._jobs.append(job)
        return batch

    def _outcomes(self, rows: list[_Row]) -> list[_Answer | Exception]:
        try:
            return list(self._compute(rows))
        except Exception as e:
            if not self._isolate or len(rows) == 1:
                return [e] * len(rows)
            return [outcome for row in rows for outcome in self._outcomes([row])]

    def _deliver(self, job: _Job[_Row, _Answer], outcomes: Sequence[_Answer | Exception]) -> None:
        failure = next((outcome for outcome in outcomes if isinstance(outcome, Exception)), None)
        job.answers += outcomes  # type: ignore[arg-type]  # of a failed job they are not read
        if failure is not None or len(job.answers) == len(job.rows):
            job.abandoned = True  # no further row of a failed request
            loop = job.future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, job.future, failure, job.answers)


def _settle(future: asyncio.Future[list[_Answer]], failure: Exception | None, answers: list[_Answer]) -> None:
    if future.done():  # cancelled meanwhile
        return
    if failure is None:
        future.set_result(answers)
    else:
        future.set_exception(failure)
