"""Requests share batches in turn, wait no longer than told, and fail alone."""

import asyncio
import threading
import time
from itertools import chain

import pytest
from gold_lightning.serving.batcher import Batcher, SaturatedError


class Doubler:
    """Doubles numbers, when it is let; notes the batches."""

    def __init__(self):
        self.batches, self.free = [], threading.Event()

    def __call__(self, rows):
        self.batches.append(list(rows))
        assert self.free.wait(10)
        if -1 in rows:
            raise ValueError("-1")
        return [2 * row for row in rows]


def run(work, *, batch_size=8, free=True, **settings):
    """Runs ``work(batcher, doubler)``, and returns what it returns and the batches."""
    doubler = Doubler()
    if free:
        doubler.free.set()
    batcher = Batcher(doubler, batch_size, **settings)
    batcher.start()
    try:
        return asyncio.run(work(batcher, doubler)), doubler.batches
    finally:
        doubler.free.set()
        batcher.close(5)
        assert not batcher._thread.is_alive()


async def begun(doubler, count=1):
    while len(doubler.batches) < count:
        await asyncio.sleep(0.001)


def test_each_request_gets_its_own_answers_in_order():
    async def work(batcher, doubler):
        return await asyncio.gather(*(batcher.submit(range(10 * i, 10 * i + i)) for i in range(30)))

    answers, batches = run(work)
    assert answers == [[2 * row for row in range(10 * i, 10 * i + i)] for i in range(30)]
    assert max(map(len, batches)) == 8 and sorted(chain(*batches)) == sorted(
        row for i in range(30) for row in range(10 * i, 10 * i + i)
    )


def test_what_gathers_while_a_batch_is_computed_shares_the_next_one():
    async def work(batcher, doubler):
        first = asyncio.create_task(batcher.submit([0]))
        await begun(doubler)
        others = [asyncio.create_task(batcher.submit([i])) for i in range(1, 6)]
        await asyncio.sleep(0)
        assert batcher.waiting == 5
        doubler.free.set()
        return await asyncio.gather(first, *others)

    answers, batches = run(work, free=False)
    assert answers == [[0], [2], [4], [6], [8], [10]] and batches == [[0], [1, 2, 3, 4, 5]]


def test_an_idle_batcher_waits_for_more_rows_but_not_for_long():
    async def work(batcher, doubler):
        started = time.monotonic()
        first = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0.05)
        await asyncio.gather(first, batcher.submit([2]))
        return time.monotonic() - started

    seconds, batches = run(work, max_wait=1.0)
    assert batches == [[1, 2]] and 0.9 < seconds < 10
    _, batches = run(work, max_wait=0.0)
    assert batches == [[1], [2]]


def test_a_full_batch_does_not_wait():
    async def work(batcher, doubler):
        started = time.monotonic()
        await batcher.submit(range(8))
        return time.monotonic() - started

    assert run(work, max_wait=30.0)[0] < 20


def test_a_large_request_does_not_delay_a_small_one():
    async def work(batcher, doubler):
        first = asyncio.create_task(batcher.submit([1]))
        await begun(doubler)
        large = asyncio.create_task(batcher.submit(range(100, 180)))
        await asyncio.sleep(0)
        small = asyncio.create_task(batcher.submit([7]))
        await asyncio.sleep(0)
        doubler.free.set()
        return await small, await large, await first

    (_, answers, _), batches = run(work, free=False)
    assert 7 in batches[1] and answers == [2 * row for row in range(100, 180)]


def test_a_full_queue_refuses_and_says_when_to_come_back():
    async def work(batcher, doubler):
        first = asyncio.create_task(batcher.submit([1]))
        await begun(doubler)
        large = asyncio.create_task(batcher.submit(range(100)))  # nothing waits, so it is accepted whatever its size
        await asyncio.sleep(0)
        with pytest.raises(SaturatedError) as refused:
            await batcher.submit([1000])
        doubler.free.set()
        await asyncio.gather(first, large)
        assert await batcher.submit([3]) == [6]
        return refused.value.seconds

    seconds, batches = run(work, free=False, max_waiting=20)
    assert 1 <= seconds <= 60 and 1000 not in chain(*batches)


def test_rows_of_a_client_that_has_gone_are_not_computed():
    async def work(batcher, doubler):
        first = asyncio.create_task(batcher.submit([1]))
        await begun(doubler)
        gone = asyncio.create_task(batcher.submit([2, 3]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        doubler.free.set()
        await first
        return await batcher.submit([4]), batcher.waiting

    (answers, waiting), batches = run(work, free=False)
    assert answers == [8] and waiting == 0 and batches == [[1], [4]]


@pytest.mark.parametrize("isolate", [True, False])
def test_a_bad_row_fails_alone(isolate):
    async def work(batcher, doubler):
        first = asyncio.create_task(batcher.submit([1]))
        await begun(doubler)
        tasks = [asyncio.create_task(batcher.submit(rows)) for rows in ([2], [-1, 5], [3])]
        await asyncio.sleep(0)
        doubler.free.set()
        await first
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return outcomes, await batcher.submit([6])

    (outcomes, after), _ = run(work, free=False, isolate=isolate)
    assert isinstance(outcomes[1], ValueError) and after == [12]
    if isolate:
        assert outcomes[0] == [4] and outcomes[2] == [6]
    else:
        assert all(isinstance(outcome, ValueError) for outcome in outcomes)


def test_closing_answers_what_waits():
    async def work(batcher, doubler):
        tasks = [asyncio.create_task(batcher.submit([i])) for i in range(20)]
        await asyncio.sleep(0)
        threading.Timer(0.05, doubler.free.set).start()
        await asyncio.to_thread(batcher.close, 5)
        return await asyncio.gather(*tasks)

    answers, _ = run(work, free=False)
    assert answers == [[2 * i] for i in range(20)]
