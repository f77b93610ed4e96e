"""Generates a round's samples with the engines of several processes; the first one plans, judges and stores.

The first process runs the synthesis as if it were alone. Its generator is a :class:`DistributedGenerator`: each batch
of requests is cut by index into as many shares as there are processes, and the completions return to the first one.
Nothing is judged twice, and one process writes. The others serve until they learn that the round is complete, or why
it failed: no process waits for one that has failed.

N processes take N times the requests of one engine per batch, since an engine is not N times as fast with an N-th of
its batch. The data therefore equal those of one process whose engine has a batch of that size.
"""

from __future__ import annotations

import platform
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Generated
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch.distributed as dist

from gold_lightning.errors import BudgetSpentError, GoldError, SharedError
from gold_lightning.generators.base import Completion, Generator, Request

__all__ = ["DistributedGenerator", "StreamingDistributedGenerator", "distribute"]

# A batch may take hours, and a collective that times out would end the run.
_TIMEOUT = timedelta(days=7)
_EXCHANGE_SECONDS = 0.5  # between two exchanges of completions


@dataclass(frozen=True)
class _Order:
    """A message from the first process to the others."""

    kind: Literal["ask", "done", "failed", "spent", "stopped"]
    requests: tuple[Request, ...] = ()
    message: str = ""


class DistributedGenerator(Generator):
    """The same generator in each process, each of which answers a share of the requests.

    Args:
        generator: The generator of this process.

    Raises:
        GoldError: The machine of a process has no room for its engine.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.size, self.rank = dist.get_world_size(), dist.get_rank()
        self.batch_size = generator.batch_size * self.size
        # On the CPU, whatever device the student trains on: texts are no tensors.
        self._group = dist.new_group(backend="gloo", timeout=_TIMEOUT)
        self._exchange: _Exchange | None = None  # in progress
        machines: list[Any] = [None] * self.size
        dist.all_gather_object(machines, platform.node(), group=self._group)
        machine = machines[self.rank]
        error: GoldError | None = None
        try:
            generator.share_machine(machines[: self.rank].count(machine), machines.count(machine))
        except GoldError as e:
            error = e
        # All processes end, and the first one prints why.
        messages: list[Any] = [None] * self.size
        dist.all_gather_object(messages, _message(error), group=self._group)
        if message := next(filter(None, messages), ""):
            raise (SharedError if self.rank else GoldError)(message)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers requests jointly with the other processes, which serve in :meth:`run` meanwhile.

        Raises:
            GoldError: A process failed; the message says which, and how.
        """
        self._broadcast(_Order("ask", tuple(requests)))
        return self._answer_share(requests)

    def run(self, work: Callable[[], object]) -> None:
        """Runs ``work`` in the first process, while the others serve it.

        Raises:
            BudgetSpentError: In every process, if it ended the work.
            KeyboardInterrupt: In every process, if it ended the work.
            SharedError: In the serving processes, if the work failed in the first one.
        """
        if self.rank:
            self._serve()
            return
        try:
            work()
        except BudgetSpentError as e:
            self._broadcast(_Order("spent", message=str(e)))
            raise
        except KeyboardInterrupt:
            self._broadcast(_Order("stopped"))
            raise
        except Exception as e:
            self._broadcast(_Order("failed", message=str(e)))
            raise
        self._broadcast(_Order("done"))

    def load(self) -> None:
        self.generator.load()

    def release(self) -> None:
        self.generator.release()

    def tokens_over_limit(self, requests: Sequence[Request]) -> list[int]:
        return self.generator.tokens_over_limit(requests)

    def fingerprint(self) -> dict[str, Any]:
        return self.generator.fingerprint()

    def earlier_fingerprints(self) -> list[dict[str, Any]]:
        return self.generator.earlier_fingerprints()

    def request_values(self, request: Request) -> dict[str, Any]:
        return self.generator.request_values(request)

    def origin(self) -> str:
        return self.generator.origin()

    def _serve(self) -> None:
        while True:
            order = self._broadcast(None)
            if order.kind == "done":
                return
            if order.kind == "spent":
                raise BudgetSpentError(order.message)
            if order.kind == "stopped":
                raise KeyboardInterrupt
            if order.kind == "failed":
                raise SharedError(order.message)
            try:
                self._serve_requests(order.requests)
            except GoldError:
                continue  # raised in the first process too, whose next order says how to continue

    def _serve_requests(self, requests: Sequence[Request]) -> None:
        self._answer_share(requests)

    def _broadcast(self, order: _Order | None) -> _Order:
        if self._exchange is not None:  # abandoned by its reader; its thread may still be within a collective
            self._exchange.close("given up")
            self._exchange = None
        orders = [order]
        dist.broadcast_object_list(orders, src=0, group=self._group)
        received = orders[0]
        if received is None:
            raise RuntimeError("the first process gave no order")
        return received

    def _share(self, requests: Sequence[Request]) -> tuple[int, int]:
        """Positions of this process's first request and of the one after its last."""
        first, end = (len(requests) * rank // self.size for rank in (self.rank, self.rank + 1))
        return first, end

    def _answer_share(self, requests: Sequence[Request]) -> list[Completion]:
        first, end = self._share(requests)
        completions: list[Completion] = []
        error: BaseException | None = None
        try:
            completions = self.generator.generate(requests[first:end]) if end > first else []
        except (Exception, KeyboardInterrupt) as e:
            error = e
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, (_message(error), completions), group=self._group)
        _raise_failures([message for message, _ in parts], error)
        return [completion for _, share in parts for completion in share]


class StreamingDistributedGenerator(DistributedGenerator):
    """A distributed generator for engines whose requests finish one by one.

    The first process yields the completions of all processes soon after they arrive, so that they can be stored: a
    kill loses those of the last half second, or those since its own engine last yielded one. If a process fails, the
    others abandon their requests, as a single engine does.
    """

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        self._broadcast(_Order("ask", tuple(requests)))
        yield from self._stream_share(requests)

    def _serve_requests(self, requests: Sequence[Request]) -> None:
        for _ in self._stream_share(requests):
            pass

    def _stream_share(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Yields the completions of this process's share, and in the first process those of all others too."""
        first, end = self._share(requests)
        exchange = self._exchange = _Exchange(self._group, self.rank, self.size)
        error: BaseException | None = None
        stream = self.generator.stream(requests[first:end]) if end > first else iter(())
        try:
            # The engine stays in the main thread, as CUDA, signals and event loops require.
            for position, completion in stream:
                exchange.send(first + position, completion)
                yield first + position, completion
                yield from exchange.received()
                if exchange.failed:
                    _close(stream)
                    break
        except GeneratorExit:
            _close(stream)
            exchange.close("given up")
            raise
        except (Exception, KeyboardInterrupt) as e:
            error = e
        exchange.finish(_message(error))
        yield from exchange.remaining()
        self._exchange = None
        _raise_failures(exchange.messages, error)


class _Exchange:
    """Carries completions to the first process in a thread, while the engine works in the main one.

    Every half second all processes exchange new completions and whether they are done or have failed, in one
    collective.
    """

    def __init__(self, group: dist.ProcessGroup, rank: int, size: int) -> None:
        self._group, self._rank, self._size = group, rank, size
        self._out: queue.SimpleQueue[tuple[int, Completion]] = queue.SimpleQueue()
        self._in: queue.SimpleQueue[tuple[int, Completion] | None] = queue.SimpleQueue()
        self._done, self._message = threading.Event(), ""
        self._broken: BaseException | None = None
        self.messages: list[str] = [""] * size
        self.failed = False  # in any process, so that the others can stop
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, position: int, completion: Completion) -> None:
        """Sends a completion to the first process, unless this is the first one."""
        if self._rank:
            self._out.put((position, completion))

    def received(self) -> Iterator[tuple[int, Completion]]:
        """Completions that have arrived from other processes so far."""
        while not self._in.empty():
            if (item := self._in.get()) is not None:
                yield item

    def finish(self, message: str) -> None:
        """Announces that this process is done, or why it failed."""
        self._message = message
        self._done.set()

    def remaining(self) -> Iterator[tuple[int, Completion]]:
        """Completions that arrive until all processes are done."""
        while (item := self._in.get()) is not None:
            yield item
        self._thread.join()
        if self._broken is not None:
            raise self._broken

    def close(self, message: str) -> None:
        """Makes the other processes stop, and waits until they have."""
        self.finish(message)
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._done.wait(_EXCHANGE_SECONDS)
                done = self._done.is_set()  # read before the queue is emptied: nothing enters it afterwards
                new = [self._out.get() for _ in range(self._out.qsize())]
                parts: list[Any] = [None] * self._size
                dist.all_gather_object(parts, (done, self._message if done else "", new), group=self._group)
                self.messages = [message for _, message, _ in parts]
                self.failed = self.failed or any(self.messages)
                if not self._rank:
                    for _, _, completions in parts:
                        for item in completions:
                            self._in.put(item)
                if all(done for done, _, _ in parts):
                    return
        except Exception as e:  # another process is gone
            self._broken, self.failed = e, True
        finally:
            self._in.put(None)


def distribute(generator: Generator) -> DistributedGenerator:
    """Distributes a generator over all processes; the result streams if the generator does.

    Args:
        generator: The generator of this process.
    """
    # Batches that an engine computes as a whole are stored as a whole, too.
    streams = type(generator).stream is not Generator.stream
    return StreamingDistributedGenerator(generator) if streams else DistributedGenerator(generator)


def _close(stream: Iterator[tuple[int, Completion]]) -> None:
    if isinstance(stream, Generated):
        stream.close()


def _message(error: BaseException | None) -> str:
    if error is None:
        return ""
    return (str(error) if isinstance(error, GoldError) else f"{type(error).__name__}: {error}") or "?"


def _raise_failures(messages: Sequence[str], error: BaseException | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        raise error
    if failures := [f"process {rank}: {message}" for rank, message in enumerate(messages) if message]:
        raise GoldError("; ".join(failures)) from error
