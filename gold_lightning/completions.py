"""Completions by what was asked: what a run has been given is stored at once, and never asked for again.

A completion's key is a hash of the generator's fingerprint and the whole request, seed included. So another
number of samples, learning rate or band finds what is there, while another task, model or seed asks anew.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gold_lightning.generators.base import Completion, Generator, Request, request_dict
from gold_lightning.ledger import Budget, Spent
from gold_lightning.store import append_line, digest, whole_rows

__all__ = ["CompletionLog", "Completions", "kept_rows"]

_log = logging.getLogger(__name__)
_FLUSH_SECONDS = 0.5  # what a kill may lose of an engine that gives completions one by one


class CompletionLog:
    """The completions of a run, in ``data/completions.jsonl``, and those of other runs of the same task.

    Args:
        path: The file, which is only ever appended to; ``None`` to keep them in memory alone.
        others: Files of other runs. They are read when something is missing here, and left as they are.
    """

    def __init__(self, path: Path | None = None, others: Sequence[Path] = ()) -> None:
        self.path, self.others = path, tuple(others)
        self._held: dict[str, Completion] = {}
        self._spent: dict[int, Spent] = defaultdict(Spent)
        self._elsewhere: dict[str, tuple[Path, int]] | None = None
        if path is not None:
            self._read(path)

    def _read(self, path: Path) -> None:
        rows, end = kept_rows(path)
        if path.exists() and path.stat().st_size > end:  # torn by a kill: cut off, so that what follows is whole
            with path.open("rb+") as file:
                file.truncate(end)
                os.fsync(file.fileno())
        for row in rows:
            self._hold(row)

    def get(self, key: str, round_: int) -> Completion | None:
        """What was given for a key, here or in another run; the latter is copied here.

        Args:
            key: Of the request.
            round_: The round that asks.
        """
        if key not in self._held and (row := self._find(key)) is not None:
            self.add([row | {"round": round_, "reused": True}])
        return self._held.get(key)

    def add(self, rows: Sequence[Mapping[str, Any]], together: bool = False) -> None:
        """Appends rows; when this returns they are on disk.

        Args:
            rows: ``key``, ``round`` and the completion's values; ``reused`` where another run paid for it.
            together: Keep all or none of them, should a kill tear them apart: each says how many follow it (``more``).
        """
        if together:
            rows = [dict(row) | {"more": len(rows) - 1 - i} for i, row in enumerate(rows)]
        if self.path is not None and rows:
            append_line(self.path, *rows)
        for row in rows:
            self._hold(row)

    def spent(self, first: int = 0, last: int | None = None) -> Spent:
        """What the run's completions took.

        Args:
            first: The first round that counts.
            last: The last one; all that follow, by default.
        """
        rounds = (r for r in self._spent if r >= first and (last is None or r <= last))
        return sum((self._spent[r] for r in rounds), Spent())

    def _hold(self, row: Mapping[str, Any]) -> None:
        if row["key"] in self._held:
            return
        completion = _completion(row)
        self._held[row["key"]] = completion
        if row.get("reused"):
            self._spent[row["round"]] += Spent(reused=1)
        else:
            self._spent[row["round"]] += Spent(1, completion.prompt_tokens, completion.completion_tokens)

    def _find(self, key: str) -> dict[str, Any] | None:
        if self._elsewhere is None:
            self._elsewhere = {}
            for path in self.others:
                # Where they stand, not what they are: other runs may have written a great deal.
                for at, row in whole_rows(path):
                    if _is_whole(row):
                        self._elsewhere.setdefault(row["key"], (path, at))
        if (place := self._elsewhere.get(key)) is None:
            return None
        try:
            _, row = next(whole_rows(place[0], place[1]))
        except (StopIteration, OSError):  # that run was deleted meanwhile
            return None
        return row if _is_whole(row) and row["key"] == key else None


def kept_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Rows of a file of completions that a log would hold, and where the last of them ends, in bytes.

    What follows there is what a kill left of rows that were written together, or of one. Damage before that is passed
    over.
    """
    found: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    end = 0
    if not path.exists():
        return found, end
    with path.open("rb") as file:
        at = 0
        for line in file:
            at += len(line)
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict) or not _is_whole(row):
                end = at if not waiting else end
                continue
            waiting.append(row)
            if not row.get("more"):
                found += waiting
                waiting, end = [], at
    return found, end


def _is_whole(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("key"), str) and isinstance(row.get("round"), int) and isinstance(row.get("text"), str)


def _completion(row: Mapping[str, Any]) -> Completion:
    scores = tuple(row.get("choice_log_probs", ()))
    return Completion(row["text"], row["prompt_tokens"], row["completion_tokens"], row["finish"], scores)


class Completions:
    """Answers requests from what is stored, and has the generator answer the rest.

    Args:
        generator: Who answers.
        log: What is stored.
        budget: Looked at before the generator is asked.
        seconds: Gives the seconds that the run has taken so far.
        stopping: Whether the run is to stop: asked when what was asked is answered and stored.
    """

    def __init__(
        self,
        generator: Generator,
        log: CompletionLog,
        budget: Budget = Budget(),  # noqa: B008 - frozen
        seconds: Callable[[], float] = lambda: 0.0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.generator, self.log, self.budget = generator, log, budget
        self.seconds, self.stopping = seconds, stopping

    def answer(self, requests: Sequence[Request], round_: int) -> list[Completion]:
        """A completion for each request, in order.

        Args:
            requests: What is asked.
            round_: The round that it is asked for.

        Raises:
            BudgetSpentError: Something is not there, and nothing is left to pay for it.
            KeyboardInterrupt: Somebody wants the run to stop; all that was answered is stored.
        """
        who = self.generator.fingerprint()
        keys = [digest([who, request_dict(r)], 32) for r in requests]
        missing: dict[str, Request] = {}
        for key, request in zip(keys, requests, strict=True):
            if key not in missing and self.log.get(key, round_) is None:
                missing[key] = request
        if missing:
            self.budget.check(self.log.spent(), self.seconds())
            self._ask(missing, round_)
        if self.stopping():
            raise KeyboardInterrupt
        return [c for c in (self.log.get(key, round_) for key in keys) if c is not None]

    def _ask(self, missing: Mapping[str, Request], round_: int) -> None:
        keys, requests = list(missing), list(missing.values())
        came: list[int] = []

        def rows() -> Iterator[dict[str, Any]]:
            for at, completion in self.generator.stream(requests):
                came.append(at)
                if at < len(keys):
                    row = asdict(completion)
                    row["choice_log_probs"] = list(row["choice_log_probs"])
                    yield {"key": keys[at], "round": round_, **row}

        # What an engine gives may depend on what it computes together, in the last digits, and a text on these. So what
        # came together stays together: asked again alone, a part of it may come out as another text.
        if type(self.generator).stream is Generator.stream:
            self.log.add([*rows()], together=True)
        else:
            _flush_often(rows(), self.log.add)
        if sorted(came) != list(range(len(requests))):
            name = type(self.generator).__name__
            raise RuntimeError(f"{name} gave {len(came)} completions for {len(requests)} requests")


def _flush_often(rows: Iterable[dict[str, Any]], add: Callable[[Sequence[dict[str, Any]]], None]) -> None:
    """Stores rows in small batches, and what came before an error too."""
    waiting: list[dict[str, Any]] = []
    since = time.monotonic()
    try:
        for row in rows:
            waiting.append(row)
            if time.monotonic() - since > _FLUSH_SECONDS:
                add(waiting)
                waiting, since = [], time.monotonic()
    finally:
        add(waiting)
