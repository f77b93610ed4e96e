"""Several processes write a round's samples together; one of them plans, judges and stores.

The first process runs the synthesis as if it were alone. Its generator is a :class:`DistributedGenerator`: each batch
of requests is cut into as many shares as there are processes, by index, and the completions come back to it.
So nothing is judged twice, and one process writes. The others serve until they are told that the round is made, or why
it is not: nobody waits for a process that failed.

A fleet of N takes N times the requests of one engine at once, since an engine is not N times as fast with an N-th of
its batch. So the data are those of one process whose engine has a batch of that size.
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

from gold_lightning.errors import BudgetSpentError, GoldError
from gold_lightning.generators.base import Completion, Generator, Request

__all__ = ["DistributedGenerator", "SharedError", "StreamingDistributedGenerator", "distribute"]

# A generator may take hours for a batch, and a collective that gives up on it would end the run.
_PATIENCE = timedelta(days=7)
_PACE_SECONDS = 0.5  # between two looks at what the engines of all processes have given


class SharedError(GoldError):
    """What another process has failed with; that one tells it."""


@dataclass(frozen=True)
class _Order:
    """What the first process tells the others."""

    kind: Literal["ask", "done", "failed", "spent", "stopped"]
    requests: tuple[Request, ...] = ()
    message: str = ""


class DistributedGenerator(Generator):
    """The same generator in each process, answering a share of the requests each.

    Args:
        generator: This process's own.

    Raises:
        GoldError: The machine of a process has no room for its engine.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.size, self.rank = dist.get_world_size(), dist.get_rank()
        self.batch_size = generator.batch_size * self.size
        # On the CPU, whatever the student trains with: texts are no tensors.
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        self._mail: _Mail | None = None  # that is under way
        machines: list[Any] = [None] * self.size
        dist.all_gather_object(machines, platform.node(), group=self._group)
        mine = machines[self.rank]
        failed: GoldError | None = None
        try:
            generator.share_machine(machines[: self.rank].count(mine), machines.count(mine))
        except GoldError as e:
            failed = e
        # All of them end, and the first one says why.
        problems: list[Any] = [None] * self.size
        dist.all_gather_object(problems, _message(failed), group=self._group)
        if problem := next(filter(None, problems), ""):
            raise (SharedError if self.rank else GoldError)(problem)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers requests together with the other processes, which :meth:`run` has serve meanwhile.

        Raises:
            GoldError: Any process failed; the message says which, and with what.
        """
        self._tell(_Order("ask", tuple(requests)))
        return self._together(requests)

    def run(self, work: Callable[[], None]) -> None:
        """Runs ``work`` in the first process, while the others serve it.

        Raises:
            BudgetSpentError: In every process, where it ended the work.
            KeyboardInterrupt: In every process, where it ended the work.
            SharedError: In the processes that serve, where the work failed in the first one.
        """
        if self.rank:
            self._serve()
            return
        try:
            work()
        except BudgetSpentError as e:
            self._tell(_Order("spent", message=str(e)))
            raise
        except KeyboardInterrupt:
            self._tell(_Order("stopped"))
            raise
        except Exception as e:
            self._tell(_Order("failed", message=str(e)))
            raise
        self._tell(_Order("done"))

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

    def origin(self) -> str:
        return self.generator.origin()

    def _serve(self) -> None:
        while True:
            order = self._tell(None)
            if order.kind == "done":
                return
            if order.kind == "spent":
                raise BudgetSpentError(order.message)
            if order.kind == "stopped":
                raise KeyboardInterrupt
            if order.kind == "failed":
                raise SharedError(order.message)
            try:
                self._help(order.requests)
            except GoldError:
                continue  # the first process has it too, and says how to go on

    def _help(self, requests: Sequence[Request]) -> None:
        """Answers this process's share of what the first one was asked."""
        self._together(requests)

    def _tell(self, order: _Order | None) -> _Order:
        if self._mail is not None:  # whoever read it has failed; its thread must not be amid a collective of its own
            self._mail.close("given up")
            self._mail = None
        box = [order]
        dist.broadcast_object_list(box, src=0, group=self._group)
        told = box[0]
        if told is None:
            raise RuntimeError("the first process gave no order")
        return told

    def _share(self, requests: Sequence[Request]) -> tuple[int, int]:
        """Positions of the first request of this process, and of the one after its last."""
        first, end = (len(requests) * rank // self.size for rank in (self.rank, self.rank + 1))
        return first, end

    def _together(self, requests: Sequence[Request]) -> list[Completion]:
        first, end = self._share(requests)
        made: list[Completion] = []
        failed: BaseException | None = None
        try:
            made = self.generator.generate(requests[first:end]) if end > first else []
        except (Exception, KeyboardInterrupt) as e:
            failed = e
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, (_message(failed), made), group=self._group)
        _raise_failures([message for message, _ in parts], failed)
        return [completion for _, share in parts for completion in share]


class StreamingDistributedGenerator(DistributedGenerator):
    """A fleet of engines whose requests end one by one.

    The first process gives completions of all processes about as they come, so that they can be stored: a kill loses
    what came in the last half second, or since its own engine gave something. If a process fails, the others give up
    what they are at, as one engine alone does.
    """

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        self._tell(_Order("ask", tuple(requests)))
        yield from self._exchange(requests)

    def _help(self, requests: Sequence[Request]) -> None:
        for _ in self._exchange(requests):
            pass

    def _exchange(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Answers this process's share; gives its completions, and in the first process those of the others too."""
        first, end = self._share(requests)
        mail = self._mail = _Mail(self._group, self.rank, self.size)
        failed: BaseException | None = None
        own = self.generator.stream(requests[first:end]) if end > first else iter(())
        try:
            # The engine stays in the main thread, where CUDA, signals and event loops expect it.
            for at, completion in own:
                mail.post(first + at, completion)
                yield first + at, completion
                yield from mail.come()
                if mail.over:
                    _close(own)
                    break
        except GeneratorExit:
            _close(own)
            mail.close("given up")
            raise
        except (Exception, KeyboardInterrupt) as e:
            failed = e
        mail.finish(_message(failed))
        yield from mail.remaining()
        self._mail = None
        _raise_failures(mail.messages, failed)


class _Mail:
    """Carries completions to the first process, in a thread of its own, while the engine is at work.

    Every half second all processes tell each other what is new and whether they are done or have failed, by the same
    collective in each.
    """

    def __init__(self, group: dist.ProcessGroup, rank: int, size: int) -> None:
        self._group, self._rank, self._size = group, rank, size
        self._out: queue.SimpleQueue[tuple[int, Completion]] = queue.SimpleQueue()
        self._in: queue.SimpleQueue[tuple[int, Completion] | None] = queue.SimpleQueue()
        self._done, self._message = threading.Event(), ""
        self._broken: BaseException | None = None
        self.messages: list[str] = [""] * size
        self.over = False  # a process has failed: nobody needs to go on
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def post(self, at: int, completion: Completion) -> None:
        """Sends a completion of this process; the first has its own already."""
        if self._rank:
            self._out.put((at, completion))

    def come(self) -> Iterator[tuple[int, Completion]]:
        """What has come from the other processes by now."""
        while not self._in.empty():
            if (item := self._in.get()) is not None:
                yield item

    def finish(self, message: str) -> None:
        """Tells that this process is done, or why it failed."""
        self._message = message
        self._done.set()

    def remaining(self) -> Iterator[tuple[int, Completion]]:
        """What still comes, until all processes are done."""
        while (item := self._in.get()) is not None:
            yield item
        self._thread.join()
        if self._broken is not None:
            raise self._broken

    def close(self, message: str) -> None:
        """Tells the others to give up, and waits until they have."""
        self.finish(message)
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._done.wait(_PACE_SECONDS)
                done = self._done.is_set()  # before the queue is emptied: nothing comes into it afterwards
                new = [self._out.get() for _ in range(self._out.qsize())]
                parts: list[Any] = [None] * self._size
                dist.all_gather_object(parts, (done, self._message if done else "", new), group=self._group)
                self.messages = [message for _, message, _ in parts]
                self.over = self.over or any(self.messages)
                if not self._rank:
                    for _, _, completions in parts:
                        for item in completions:
                            self._in.put(item)
                if all(done for done, _, _ in parts):
                    return
        except Exception as e:  # another process is gone
            self._broken, self.over = e, True
        finally:
            self._in.put(None)


def distribute(generator: Generator) -> DistributedGenerator:
    """The fleet of a generator: one that streams if the generator does.

    Args:
        generator: This process's own.
    """
    # Completions of an engine that computes a batch as a whole are stored as a whole too.
    streams = type(generator).stream is not Generator.stream
    return StreamingDistributedGenerator(generator) if streams else DistributedGenerator(generator)


def _close(stream: Iterator[tuple[int, Completion]]) -> None:
    """Has an engine give up what is left."""
    if isinstance(stream, Generated):
        stream.close()


def _message(failed: BaseException | None) -> str:
    """What another process is told of a failure; "" for none."""
    if failed is None:
        return ""
    return (str(failed) if isinstance(failed, GoldError) else f"{type(failed).__name__}: {failed}") or "?"


def _raise_failures(messages: Sequence[str], failed: BaseException | None) -> None:
    if isinstance(failed, KeyboardInterrupt):
        raise failed
    if told := [f"process {rank}: {message}" for rank, message in enumerate(messages) if message]:
        raise GoldError("; ".join(told)) from failed
