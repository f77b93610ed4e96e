"""Completions stored by their requests, so that no run pays twice for the same one.

The key of a completion is a hash of the generator's fingerprint and the whole request, seed included. Changing the
number of samples, the learning rate or the band therefore finds the stored completions; another task, model or seed
makes new requests.

An empty or refused completion (:attr:`gold_lightning.generators.base.Completion.is_answer` is false) is recorded with
its token counts but is not lent to other runs. It is judged with its batch; if the run is killed before that, the
request is sent again. An engine that computes a whole batch at once is an exception: if some of the batch was answered,
the run keeps all of it, because a part computed alone may come out as another text.
"""

from __future__ import annotations

import json
import math
import os
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from gold_lightning.budget import Budget, Usage
from gold_lightning.generators.base import Completion, Generator, Request
from gold_lightning.storage.json_lines import append_line, digest, whole_rows
from gold_lightning.storage.number_index import NumberIndex, number_of

__all__ = ["CompletionLog", "Completions", "stored_rows", "usage_in"]

_FLUSH_SECONDS = 0.5  # a kill loses at most so much of an engine that gives completions one by one


class CompletionLog:
    """The completions of a run, and read access to those of other runs of the same task.

    Args:
        path: The run's file, append-only; ``None`` keeps completions in memory.
        others: Files of other runs. They are read if a completion is missing here, and never changed.
    """

    def __init__(self, path: Path | None = None, others: Sequence[Path] = ()) -> None:
        self.path, self.others = path, tuple(others)
        self._in_memory: dict[str, Completion] = {}  # without a file
        self._positions = NumberIndex()  # of the rows of completions in the file, by numbers of their keys
        self._usage: dict[int, Usage] = defaultdict(Usage)
        self._index: _Index | None = None
        if path is not None:
            self._read(path)

    def _read(self, path: Path) -> None:
        end = 0
        for rows, end in _row_groups(path):  # noqa: B007 - the last one is needed
            self._remember(rows)
        if path.exists() and path.stat().st_size > end:  # torn by a kill: the next row must start on its own line
            with path.open("rb+") as file:
                file.truncate(end)
                os.fsync(file.fileno())

    def find(self, keys: Iterable[str], round_: int, origin: str = "") -> dict[str, Completion]:
        """Returns the stored completions of this run and of other runs; the latter are copied here.

        Args:
            keys: Keys of requests.
            round_: The round that asks.
            origin: Current source of answers (:meth:`gold_lightning.generators.base.Generator.origin`). Completions of
                other runs count only if they have the same origin.

        Returns:
            Completions by key; unknown keys are left out.
        """
        keys = list(dict.fromkeys(keys))
        completions = self._stored(keys)
        borrowed = self._borrow([key for key in keys if key not in completions], origin)
        if borrowed:  # each row on its own, even if it was computed together with others
            single = [{name: value for name, value in row.items() if name != "more"} for row in borrowed]
            self.add([row | {"round": round_, "reused": True} for row in single])
            completions |= {row["key"]: _completion(row) for row in borrowed}
        return completions

    def get(self, key: str) -> Completion | None:
        """Returns this run's own completion for a key; ``None`` if there is none."""
        return self._stored([key]).get(key)

    def add(self, rows: Sequence[Mapping[str, Any]], together: bool = False) -> None:
        """Appends rows and returns once they are on disk.

        Args:
            rows: ``key``, ``round`` and the completion's values; ``reused`` if another run paid for it. A row without
                ``text`` records the usage of a request that got no answer.
            together: Keep all or none of the rows if a kill tears them apart. Each says how many follow it (``more``).
        """
        if together:
            rows = [dict(row) | {"more": len(rows) - 1 - i} for i, row in enumerate(rows)]
        positions = append_line(self.path, *rows) if self.path is not None and rows else [0] * len(rows)
        group: list[tuple[int, Mapping[str, Any]]] = []
        for position, row in zip(positions, rows, strict=True):
            group.append((position, row))
            if not row.get("more"):
                self._remember(group)
                group = []

    def usage(self, first: int = 0, last: int | None = None) -> Usage:
        """Returns the usage of the run's completions.

        Args:
            first: The first round that counts.
            last: The last round that counts; ``None`` for no end.
        """
        rounds = (r for r in self._usage if r >= first and (last is None or r <= last))
        return sum((self._usage[r] for r in rounds), Usage())

    def _stored(self, keys: Sequence[str]) -> dict[str, Completion]:
        if self.path is None:
            return {key: self._in_memory[key] for key in keys if key in self._in_memory}
        rows: dict[str, Completion] = {}
        for key, positions in zip(keys, self._positions.values_of(map(number_of, keys)), strict=True):
            for position in positions:
                row = _row_at(self.path, position)
                if row is not None and row["key"] == key:
                    rows[key] = _completion(row)
                    break
        return rows

    def _has(self, key: str) -> bool:
        return bool(self._stored([key]))

    def _remember(self, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Counts rows that were written together, each with its position."""
        new = [(position, row, _completion(row)) for position, row in rows if not self._has(row["key"])]
        answered = "more" in rows[-1][1] and any(completion.is_answer for _, _, completion in new) if rows else False
        counted: set[str] = set()
        for position, row, completion in new:
            if row["key"] in counted:  # twice in one batch
                continue
            self._usage[row["round"]] += _usage_of(row, completion)
            if completion.is_answer or answered:
                counted.add(row["key"])
                if self.path is None:
                    self._in_memory[row["key"]] = completion
                else:
                    self._positions.add(number_of(row["key"]), position)

    def _borrow(self, keys: Sequence[str], origin: str) -> list[dict[str, Any]]:
        if not keys or not self.others:
            return []
        if self._index is None:
            self._index = _Index(self.others)
        return [row for row in self._index.rows(keys) if row.get("origin", "") == origin]


class _Index:
    """Positions of completions in the files of other runs. A row is parsed when it is needed.

    Args:
        paths: The files; each is read once from end to end.
    """

    _BEGIN = b'{"key": "'

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [(path, self._scan(path)) for path in paths]

    def rows(self, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yields the first row that answers a key, for each key that has one."""
        missing = list(keys)
        for path, index in self._files:
            answered: set[str] = set()
            for key, positions in zip(missing, index.values_of(map(number_of, missing)), strict=True):
                for position in positions:
                    row = _row_at(path, position)
                    if row is not None and row["key"] == key and _completion(row).is_answer:
                        yield row
                        answered.add(key)
                        break
            missing = [key for key in missing if key not in answered]
            if not missing:
                return

    def _scan(self, path: Path) -> NumberIndex:
        numbers, positions, end = array("Q"), array("Q"), 0
        try:
            with path.open("rb") as file:
                for line in file:
                    begin, end = end, end + len(line)
                    if line.startswith(self._BEGIN):
                        key = line[len(self._BEGIN) :].partition(b'"')[0].decode("utf-8", "replace")
                    else:
                        row = _parse(line)
                        key = row["key"] if row is not None and isinstance(row.get("key"), str) else ""
                    if key:
                        numbers.append(number_of(key))
                        positions.append(begin)
        except OSError:  # the run was deleted in the meantime
            pass
        index = NumberIndex()
        index.extend(numbers, positions)
        return index


def _row_at(path: Path, position: int) -> dict[str, Any] | None:
    try:
        _, row = next(whole_rows(path, position))
    except (StopIteration, OSError):  # the run was deleted in the meantime
        return None
    return row if _is_valid(row) else None


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def stored_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Reads the rows that a :class:`CompletionLog` keeps.

    Args:
        path: A file of completions; it may be missing.

    Returns:
        The rows, and the end of the last one in bytes. Anything after it is a remainder that a kill left: a part of a
        row, or of rows that were written together. Damaged lines before it are skipped.
    """
    all_rows: list[dict[str, Any]] = []
    end = 0
    for rows, end in _row_groups(path):  # noqa: B007 - the last one is returned
        all_rows += [row for _, row in rows]
    return all_rows, end


def usage_in(path: Path) -> Usage:
    """Returns the usage of a file of completions as a :class:`CompletionLog` counts it, without holding its texts."""
    seen: set[int] = set()  # hashes: the keys themselves would need as much memory again
    usage = Usage()
    for rows, _ in _row_groups(path):
        if not rows:
            continue
        batch = [(row, hash(row["key"]), _completion(row)) for _, row in rows]
        answered = "more" in rows[-1][1] and any(c.is_answer for _, key, c in batch if key not in seen)
        for row, key, completion in batch:
            if key not in seen:
                usage += _usage_of(row, completion)
                if completion.is_answer or answered:
                    seen.add(key)
    return usage


def _row_groups(path: Path) -> Iterator[tuple[list[tuple[int, dict[str, Any]]], int]]:
    """Yields rows that were written together, each with its position, and the end of the last one, in bytes."""
    group: list[tuple[int, dict[str, Any]]] = []
    if not path.exists():
        return
    with path.open("rb") as file:
        end = 0
        for line in file:
            begin, end = end, end + len(line)
            if not line.endswith(b"\n"):
                break
            row = _parse(line)
            if row is None or not _is_valid(row):
                if not group:
                    yield [], end
                continue
            group.append((begin, row))
            if not row.get("more"):
                yield group, end
                group = []


def _usage_of(row: Mapping[str, Any], completion: Completion) -> Usage:
    if row.get("reused"):
        return Usage(reused=1)
    return Usage(1, completion.prompt_tokens, completion.completion_tokens)


def _is_valid(row: Mapping[str, Any]) -> bool:
    tokens = (row.get("prompt_tokens", 0), row.get("completion_tokens", 0))
    return (
        isinstance(row.get("key"), str)
        and isinstance(row.get("round"), int)
        and isinstance(row.get("text", ""), str)
        and ("text" in row or "unanswered" in row)
        and all(isinstance(n, int) for n in tokens)
        and isinstance(row.get("choice_log_probs", []), list)
    )


def _completion(row: Mapping[str, Any]) -> Completion:
    scores = tuple(-math.inf if p is None else p for p in row.get("choice_log_probs", ()))
    counts = row.get("prompt_tokens", 0), row.get("completion_tokens", 0)
    text, finish = row.get("text", row.get("raw", "")), row.get("finish", "stop")
    thinking = bool(row.get("thought")), row.get("thinking_tokens", 0)
    return Completion(text, *counts, finish, scores, row.get("reason", ""), *thinking)


def _lacks_label_scores(completion: Completion) -> bool:
    """Recognises label scores of earlier versions if the server reported none: all labels got the same likelihood."""
    return len(completion.choice_log_probs) > 1 and len(set(completion.choice_log_probs)) == 1


def _as_row(completion: Completion) -> dict[str, Any]:
    row = {field.name: getattr(completion, field.name) for field in fields(completion)}
    for name in ("thought", "thinking_tokens"):  # most models do not think
        if not row[name]:
            del row[name]
    # JSON has no infinity: a choice without any probability becomes null.
    row["choice_log_probs"] = [p if math.isfinite(p) else None for p in completion.choice_log_probs]
    if not completion.is_answer:
        row |= {"unanswered": True, "raw": row.pop("text"), "choice_log_probs": []}
    return row


class Completions:
    """Answers requests from stored completions and asks the generator for the missing ones.

    Args:
        generator: The generator.
        log: The stored completions.
        budget: Limits, checked before each call of the generator.
        seconds: Function that returns the seconds of the run so far.
        stopping: Function that tells whether the run should stop; called after answers are stored.
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
        """Returns a completion for each request, in order.

        Args:
            requests: The requests.
            round_: The round that asks.

        Raises:
            BudgetSpentError: A completion is missing and the budget is spent.
            KeyboardInterrupt: The run should stop. All answers so far are stored.
        """
        contents = [self.generator.request_values(request) for request in requests]
        fingerprint = self.generator.fingerprint()
        keys = [digest([fingerprint, content], 32) for content in contents]
        completions = self.log.find(keys, round_, self.generator.origin())
        earlier_fingerprints = self.generator.earlier_fingerprints()
        missing: dict[str, Request] = {}
        for key, content, request in zip(keys, contents, requests, strict=True):
            if key in completions or key in missing:
                continue
            candidates = (self.log.get(digest([earlier, content], 32)) for earlier in earlier_fingerprints)
            usable = next((c for c in candidates if c is not None and not _lacks_label_scores(c)), None)
            if usable is not None:
                completions[key] = usable
            else:
                missing[key] = request
        while missing:
            usage = self.log.usage()
            self.budget.check(usage, self.seconds())
            size = max(1, self.budget.affordable(usage, map(_largest_usage, missing.values())))
            completions |= self._ask(dict(list(missing.items())[:size]), round_)
            missing = dict(list(missing.items())[size:])
        if self.stopping():
            raise KeyboardInterrupt
        return [completions[key] for key in keys]

    def answer_in_batches(self, requests: Sequence[Request], round_: int) -> list[Completion]:
        """Returns a completion for each request as :meth:`answer` does, asking in batches of the generator's size."""
        size = self.generator.batch_size
        batches = (requests[first : first + size] for first in range(0, len(requests), size))
        return [completion for batch in batches for completion in self.answer(batch, round_)]

    def _ask(self, missing: Mapping[str, Request], round_: int) -> dict[str, Completion]:
        keys, requests = list(missing), list(missing.values())
        origin = self.generator.origin()
        source = {"origin": origin} if origin else {}
        positions: list[int] = []
        completions: dict[str, Completion] = {}

        def rows() -> Iterator[dict[str, Any]]:
            for position, completion in self.generator.stream(requests):
                positions.append(position)
                if position < len(keys):
                    completions[keys[position]] = completion
                    yield {"key": keys[position], "round": round_, **_as_row(completion), **source}

        # A completion may depend, in its last digits and so in its text, on the requests computed with it. An engine
        # that computes a batch at once therefore has the batch stored as a whole.
        if type(self.generator).stream is Generator.stream:
            self.log.add([*rows()], together=True)
        else:
            _flush_often(rows(), self.log.add)
        if sorted(positions) != list(range(len(requests))):
            name = type(self.generator).__name__
            raise RuntimeError(f"{name} gave {len(positions)} completions for {len(requests)} requests")
        return completions


def _largest_usage(request: Request) -> Usage:
    """Estimates an upper bound: few scripts have under three bytes a token."""
    prompt_tokens = len(request.text.encode("utf-8", "surrogatepass")) // 3
    return Usage(1, prompt_tokens, 0 if request.choices else request.max_tokens)


def _flush_often(rows: Iterable[dict[str, Any]], add: Callable[[Sequence[dict[str, Any]]], None]) -> None:
    """Stores rows in small batches; rows before an error are stored, too."""
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
