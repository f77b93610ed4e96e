"""Several processes write a round's samples together; one of them plans, judges and stores.

The first process runs the synthesis as if it were alone. Its generator is a :class:`Fleet`: each batch of
requests is cut into as many shares as there are processes, by index, and the completions come back in order.
So the data does not depend on the number of processes, nothing is judged twice, and one process writes. The
others serve until they are told that the round is made, or why it is not: nobody waits for a process that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch.distributed as dist

from gold_lightning.errors import BudgetSpentError, GoldError
from gold_lightning.generators.base import Completion, Generator, Request

__all__ = ["Fleet", "SharedError"]

# A generator may take hours for a batch, and a collective that gives up on it would end the run.
_PATIENCE = timedelta(days=7)


class SharedError(GoldError):
    """What another process has failed with; that one tells it."""


@dataclass(frozen=True)
class _Order:
    """What the first process tells the others."""

    kind: Literal["ask", "done", "failed", "spent", "stopped"]
    requests: tuple[Request, ...] = ()
    message: str = ""


class Fleet(Generator):
    """The same generator in each process, answering a share of the requests each.

    Args:
        generator: This process's own.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.batch_size = generator.batch_size
        self.size, self.rank = dist.get_world_size(), dist.get_rank()
        # On the CPU, whatever the student trains with: texts are no tensors.
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE)

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

    def rest(self) -> None:
        self.generator.rest()

    def excess(self, requests: Sequence[Request]) -> list[int]:
        return self.generator.excess(requests)

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
                self._together(order.requests)
            except GoldError:
                continue  # the first process has it too, and says how to go on

    def _tell(self, order: _Order | None) -> _Order:
        box = [order]
        dist.broadcast_object_list(box, src=0, group=self._group)
        told = box[0]
        if told is None:
            raise RuntimeError("the first process gave no order")
        return told

    def _together(self, requests: Sequence[Request]) -> list[Completion]:
        first, end = (len(requests) * rank // self.size for rank in (self.rank, self.rank + 1))
        made: list[Completion] = []
        failed: BaseException | None = None
        try:
            made = self.generator.generate(requests[first:end]) if end > first else []
        except (Exception, KeyboardInterrupt) as e:
            failed = e
        message = f"{type(failed).__name__}: {failed}" if failed and not isinstance(failed, GoldError) else str(failed)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, ("" if failed is None else message or "?", made), group=self._group)
        if isinstance(failed, KeyboardInterrupt):
            raise failed
        if told := [f"process {rank}: {message}" for rank, (message, _) in enumerate(parts) if message]:
            raise GoldError("; ".join(told)) from failed
        return [completion for _, share in parts for completion in share]
