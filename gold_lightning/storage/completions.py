"""Completions by what was asked: what a run has been given is stored at once, and never asked for again.

A completion's key is a hash of the generator's fingerprint and the whole request, seed included. So another
number of samples, learning rate or band finds what is there, while another task, model or seed asks anew.

What is no answer (:attr:`gold_lightning.generators.base.Completion.is_answer`) is no completion: a line says that it
was asked for and what it took, and no run is lent it. It is judged with its batch; if the run is killed before that, it
is asked for again. Only where an engine computes a whole batch at once, and answered some of it, its run keeps the
batch as it was: asked again alone, a part of it may come out as another text.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gold_lightning.budget import Budget, Spent
from gold_lightning.generators.base import Completion, Generator, Request, request_dict
from gold_lightning.storage.json_lines import append_line, digest, whole_rows

__all__ = ["CompletionLog", "Completions", "kept_rows", "spent_in"]

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
        self._elsewhere: _Index | None = None
        if path is not None:
            self._read(path)

    def _read(self, path: Path) -> None:
        rows, end = kept_rows(path)
        if path.exists() and path.stat().st_size > end:  # torn by a kill: cut off, so that what follows is whole
            with path.open("rb+") as file:
                file.truncate(end)
                os.fsync(file.fileno())
        self._hold(rows)

    def find(self, keys: Iterable[str], round_: int, origin: str = "") -> dict[str, Completion]:
        """What was given for keys, here or in other runs; the latter is copied here.

        Args:
            keys: Of requests.
            round_: The round that asks.
            origin: Where answers come from now (:meth:`gold_lightning.generators.base.Generator.origin`). What came
                from elsewhere is not taken from other runs.

        Returns:
            Completions by key, without the keys that nothing is known of.
        """
        keys = list(dict.fromkeys(keys))
        lent = self._borrow([key for key in keys if key not in self._held], origin)
        if lent:  # each for itself, whatever it was made together with
            apart = [{name: value for name, value in row.items() if name != "more"} for row in lent]
            self.add([row | {"round": round_, "reused": True} for row in apart])
        return {key: self._held[key] for key in keys if key in self._held}

    def held(self, key: str) -> Completion | None:
        """What the run itself was given for a key."""
        return self._held.get(key)

    def add(self, rows: Sequence[Mapping[str, Any]], together: bool = False) -> None:
        """Appends rows; when this returns they are on disk.

        Args:
            rows: ``key``, ``round`` and the completion's values; ``reused`` if another run paid for it. A row without
                ``text`` tells what a request took that stayed without an answer.
            together: Keep all or none of them, should a kill tear them apart: each says how many follow it (``more``).
        """
        if together:
            rows = [dict(row) | {"more": len(rows) - 1 - i} for i, row in enumerate(rows)]
        if self.path is not None and rows:
            append_line(self.path, *rows)
        self._hold(rows)

    def spent(self, first: int = 0, last: int | None = None) -> Spent:
        """What the run's completions took.

        Args:
            first: The first round that counts.
            last: The last one; all that follow, by default.
        """
        rounds = (r for r in self._spent if r >= first and (last is None or r <= last))
        return sum((self._spent[r] for r in rounds), Spent())

    def _hold(self, rows: Iterable[Mapping[str, Any]]) -> None:
        batch: list[tuple[Mapping[str, Any], Completion]] = []
        for row in rows:
            if row["key"] not in self._held:
                batch.append((row, _completion(row)))
            if row.get("more"):
                continue
            answered = "more" in row and any(completion.is_answer for _, completion in batch)
            for part, completion in batch:
                if part["key"] in self._held:  # it stands here twice
                    continue
                self._spent[part["round"]] += _took(part, completion)
                if completion.is_answer or answered:
                    self._held[part["key"]] = completion
            batch = []

    def _borrow(self, keys: Sequence[str], origin: str) -> list[dict[str, Any]]:
        """Rows of other runs."""
        if not keys or not self.others:
            return []
        if self._elsewhere is None:
            self._elsewhere = _Index(self.others)
        return [row for row in self._elsewhere.rows(keys) if row.get("origin", "") == origin]


class _Index:
    """Where completions stand in the files of other runs: 16 bytes for each, and no row is parsed before it is needed.

    Args:
        paths: The files, read from end to end once.
    """

    _BEGIN = b'{"key": "'

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [(path, *self._scan(path)) for path in paths]

    def rows(self, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
        """A row for each key that has an answer in any of the files; of several the first."""
        wanted = {key: _short(key) for key in keys}
        for path, shorts, places in self._files:
            begins = np.searchsorted(shorts, np.fromiter(wanted.values(), np.uint64, len(wanted)))
            found: list[str] = []
            for (key, short), begin in zip(wanted.items(), begins.tolist(), strict=True):
                for at in range(begin, len(shorts)):
                    if shorts[at] != short:
                        break
                    if (row := _row_at(path, int(places[at]))) is not None and row["key"] == key:
                        yield row
                        found.append(key)
                        break
            for key in found:
                del wanted[key]
            if not wanted:
                return

    def _scan(self, path: Path) -> tuple[Any, Any]:
        """Keys in ascending order, shortened to numbers, and the positions of their rows."""
        shorts: list[int] = []
        places: list[int] = []
        at = 0
        try:
            with path.open("rb") as file:
                for line in file:
                    here, at = at, at + len(line)
                    if line.startswith(self._BEGIN):
                        key = line[len(self._BEGIN) :].partition(b'"')[0].decode("utf-8", "replace")
                    else:
                        row = _parsed(line)
                        key = row["key"] if row is not None and isinstance(row.get("key"), str) else ""
                    if key:
                        shorts.append(_short(key))
                        places.append(here)
        except OSError:  # that run was deleted meanwhile
            pass
        order = np.argsort(np.array(shorts, np.uint64), kind="stable")
        return np.array(shorts, np.uint64)[order], np.array(places, np.uint64)[order]


def _short(key: str) -> int:
    """A key as a number; two keys may have the same one."""
    try:
        return int(key[:16], 16) & 0xFFFFFFFFFFFFFFFF
    except ValueError:
        return hash(key) & 0xFFFFFFFFFFFFFFFF


def _row_at(path: Path, place: int) -> dict[str, Any] | None:
    try:
        _, row = next(whole_rows(path, place))
    except (StopIteration, OSError):  # that run was deleted meanwhile
        return None
    return row if _is_whole(row) and _completion(row).is_answer else None


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def kept_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Rows of a file of completions that a log would hold, and where the last of them ends, in bytes.

    What follows there is what a kill left of rows that were written together, or of one. Damage before that is passed
    over.
    """
    found: list[dict[str, Any]] = []
    end = 0
    for rows, end in _kept_together(path):  # noqa: B007 - the last one is given
        found += rows
    return found, end


def spent_in(path: Path) -> Spent:
    """What the completions of a file took, as a log of it has them, without holding their texts.

    Args:
        path: The file; it is left as it is.
    """
    seen: set[int] = set()  # hashes: the keys themselves would be as much again
    spent = Spent()
    for rows, _ in _kept_together(path):
        if not rows:
            continue
        batch = [(row, hash(row["key"]), _completion(row)) for row in rows]
        answered = "more" in rows[-1] and any(c.is_answer for _, key, c in batch if key not in seen)
        for row, key, completion in batch:
            if key not in seen:
                spent += _took(row, completion)
                if completion.is_answer or answered:
                    seen.add(key)
    return spent


def _kept_together(path: Path) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Rows that were written together, and where the last of them ends, in bytes."""
    waiting: list[dict[str, Any]] = []
    if not path.exists():
        return
    with path.open("rb") as file:
        at = 0
        for line in file:
            at += len(line)
            if not line.endswith(b"\n"):
                break
            row = _parsed(line)
            if row is None or not _is_whole(row):
                if not waiting:
                    yield [], at
                continue
            waiting.append(row)
            if not row.get("more"):
                yield waiting, at
                waiting = []


def _took(row: Mapping[str, Any], completion: Completion) -> Spent:
    if row.get("reused"):
        return Spent(reused=1)
    return Spent(1, completion.prompt_tokens, completion.completion_tokens)


def _is_whole(row: Mapping[str, Any]) -> bool:
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
    return Completion(text, *counts, finish, scores, row.get("reason", ""))


def _was_silent(completion: Completion) -> bool:
    """Whether no label was among the tokens that a server told: earlier versions gave all the same likelihood then."""
    return len(completion.choice_log_probs) > 1 and len(set(completion.choice_log_probs)) == 1


def _as_row(completion: Completion) -> dict[str, Any]:
    row = asdict(completion)
    # JSON has no infinity: a choice without any mass has no number.
    row["choice_log_probs"] = [p if math.isfinite(p) else None for p in completion.choice_log_probs]
    if not completion.is_answer:
        row |= {"unanswered": True, "raw": row.pop("text"), "choice_log_probs": []}
    return row


class Completions:
    """Answers requests from what is stored, and has the generator answer the rest.

    Args:
        generator: Who answers.
        log: What is stored.
        budget: Looked at before the generator is asked; near its end it is asked for less at once.
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
        asked = [request_dict(request) for request in requests]
        who = self.generator.fingerprint()
        keys = [digest([who, a], 32) for a in asked]
        found = self.log.find(keys, round_, self.generator.origin())
        before = self.generator.earlier_fingerprints()
        missing: dict[str, Request] = {}
        for key, a, request in zip(keys, asked, requests, strict=True):
            if key in found or key in missing:
                continue
            earlier = (self.log.held(digest([was, a], 32)) for was in before)
            if (completion := next((c for c in earlier if c is not None and not _was_silent(c)), None)) is not None:
                found[key] = completion
            else:
                missing[key] = request
        while missing:
            self.budget.check(self.log.spent(), self.seconds())
            size = max(1, self.budget.pays_for(self.log.spent(), map(_most, missing.values())))
            found |= self._ask(dict(list(missing.items())[:size]), round_)
            missing = dict(list(missing.items())[size:])
        if self.stopping():
            raise KeyboardInterrupt
        return [found[key] for key in keys]

    def _ask(self, missing: Mapping[str, Request], round_: int) -> dict[str, Completion]:
        keys, requests = list(missing), list(missing.values())
        origin = self.generator.origin()
        from_there = {"origin": origin} if origin else {}
        came: list[int] = []
        found: dict[str, Completion] = {}

        def rows() -> Iterator[dict[str, Any]]:
            for at, completion in self.generator.stream(requests):
                came.append(at)
                if at < len(keys):
                    found[keys[at]] = completion
                    yield {"key": keys[at], "round": round_, **_as_row(completion), **from_there}

        # What an engine gives may depend on what it computes together, in the last digits, and a text on these. So what
        # came together stays together: asked again alone, a part of it may come out as another text.
        if type(self.generator).stream is Generator.stream:
            self.log.add([*rows()], together=True)
        else:
            _flush_often(rows(), self.log.add)
        if sorted(came) != list(range(len(requests))):
            name = type(self.generator).__name__
            raise RuntimeError(f"{name} gave {len(came)} completions for {len(requests)} requests")
        return found


def _most(request: Request) -> Spent:
    """What a request takes at most, about: three bytes a token are few in any script."""
    return Spent(
        1, len(request.text.encode("utf-8", "surrogatepass")) // 3, 0 if request.choices else request.max_tokens
    )


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
