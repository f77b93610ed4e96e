"""The durable, append-only store of what a generator wrote.

A round lives in ``data/round_NNN``. A batch of completions is appended to ``train.jsonl`` or
``probe.jsonl`` (accepted), ``rejects.jsonl`` and ``prompts.jsonl``, each fsynced, and last a line in
``batches.jsonl`` commits it. Opening a round cuts off whatever was not committed, so a killed run finds
exactly the batches that were whole, and asks for the next one by its index. A committed batch whose rows are
not all there any more is made again, with all that follow it; the damaged files are kept aside.

``energies.jsonl`` is written beside them when the round is scored: it follows from the samples and the student.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from gold_lightning.errors import BusyError, GoldError
from gold_lightning.task import Sample

__all__ = [
    "BatchRecord",
    "Kind",
    "RoundStore",
    "StoredSample",
    "append_line",
    "copy_round",
    "digest",
    "only_writer",
    "read_lines",
    "rounds_in",
    "whole_rows",
    "write_lines",
]

_log = logging.getLogger(__name__)

Kind = Literal["train", "probe"]
_ENERGIES = "energies.jsonl"
_EVERY_ROUND = ("feedback", "training samples")  # parts of a fingerprint that change with every round
_FILES = ("batches", "train", "probe", "rejects", "prompts")  # prompts last: what they are for is read before


@dataclass(frozen=True)
class StoredSample:
    """An accepted sample with its provenance.

    Args:
        id: ``r<round>-<kind>-<number of the request>``, unique in a run.
        sample: The sample.
        batch: Index of the batch within its round and kind.
        prompt_hash: Hash of the whole prompt, which stands in ``prompts.jsonl``.
        demo_ids: What the prompt showed: ``demo-<i>`` for seed demos, sample ids for feedback and departure.
        feedback: Whether feedback demos were among them.
        hint: What the prompt asked for beyond the label.
        seed: Seed of the request.
        raw: What the generator wrote.
        agrees: Whether the generator's own likelihoods favour the label; ``None`` when not asked.
        favours: The label that they favour; "" when not asked.
        surplus_of: The round that it was written for, if that one had enough of its label and a later one took it.
    """

    id: str
    sample: Sample
    batch: int
    prompt_hash: str
    demo_ids: tuple[str, ...] = ()
    feedback: bool = False
    hint: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    raw: str = ""
    agrees: bool | None = None
    favours: str = ""
    surplus_of: int | None = None


@dataclass(frozen=True)
class BatchRecord:
    """One committed batch.

    Args:
        kind: Training samples or the probe set.
        index: Number within its round and kind.
        requested: Completions asked for, those of ``from_surplus`` included: accepted and rejected ones add up to it.
        accepted: How many were accepted.
        rejects: Rejects by reason.
        prompt_tokens: Tokens of all prompts, label checks included.
        completion_tokens: Tokens written.
        seconds: Wall time of the generator.
        groups: What each group of requests asked for: label, feedback, size.
        agreed: Samples whose label was checked and is the one that the generator's likelihoods favour.
        asked_agreement: Samples whose label was checked: accepted ones, and those rejected for their label.
        from_surplus: Samples that earlier rounds had written and did not need; nothing was paid for them here.
    """

    kind: Kind
    index: int
    requested: int
    accepted: int
    rejects: Mapping[str, int]
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    groups: Sequence[Mapping[str, Any]] = ()
    agreed: int = 0
    asked_agreement: int = 0
    from_surplus: int = 0


def digest(value: object, length: int = 16) -> str:
    """Hash of plain values, the same in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file; none when there is no file. What is torn or damaged is no row."""
    return [row for _, row in whole_rows(path)]


def whole_rows(path: Path, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a JSON Lines file with the position of each in bytes, read as they are asked for.

    Args:
        path: The file; it need not be there.
        start: Position of a row to begin with.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        at = start
        for line in file:
            here, at = at, at + len(line)
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield here, row


def _lines_in(path: Path) -> int:
    """Lines of a file, a torn last one included."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def _dump(row: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except ValueError:
        row = _finite(row)
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    # Lone surrogates may stand in generated text; they are written escaped, so that the file is valid UTF-8.
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    """Plain values as JSON has them: null for nan, and the largest finite number for an infinite one."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else math.copysign(sys.float_info.max, value)
    if isinstance(value, Mapping):
        return {key: _finite(of) for key, of in value.items()}
    return [_finite(of) for of in value] if isinstance(value, list | tuple) else value


def append_line(path: Path, *rows: Mapping[str, Any]) -> None:
    """Appends rows to a JSON Lines file and waits until they are on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(map(_dump, rows)))
        file.flush()
        os.fsync(file.fileno())


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a JSON Lines file as a whole: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(b"".join(map(_dump, rows)))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def rounds_in(run_dir: Path) -> list[int]:
    """Numbers of the rounds that a run folder holds, ascending."""
    found = (p.name.removeprefix("round_") for p in (Path(run_dir) / "data").glob("round_[0-9]*"))
    return sorted(int(number) for number in found if number.isdigit())


def copy_round(source: Path, target: Path, round_: int) -> None:
    """Copies a round of one run folder to another, whole or not at all; what is there already stays.

    Its energies stay behind: another student will have others.

    Args:
        source: The run folder to copy from, which is left as it is.
        target: The run folder to copy to.
        round_: Number of the round.
    """
    name = f"round_{round_:03d}"
    folder = Path(target) / "data" / name
    if folder.exists():
        return
    part = folder.with_name(name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(Path(source) / "data" / name, part, ignore=shutil.ignore_patterns(_ENERGIES))
    part.rename(folder)


@contextmanager
def only_writer(run_dir: Path) -> Iterator[None]:
    """Makes this process the only one that writes to a run folder. A kill ends that too.

    Raises:
        BusyError: Another process does.
        GoldError: There can be no such folder.
    """
    from filelock import FileLock, Timeout

    try:
        Path(run_dir).mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as e:  # /proc, or a file that came meanwhile
        raise GoldError(f"{run_dir}: no run folder can be made there ({e.strerror}); take another run.root") from None
    path = Path(run_dir) / ".lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"{run_dir}: another process is at work on this run; wait for it, or take another --run.name"
        ) from None
    try:
        yield
    finally:
        lock.release()


class RoundStore:
    """One round's samples.

    Args:
        run_dir: The run folder.
        round_: Number of the round.
        read_only: Leave the files as they are; uncommitted rows are skipped, not cut off.
    """

    def __init__(self, run_dir: Path, round_: int, *, read_only: bool = False) -> None:
        self.folder = Path(run_dir) / "data" / f"round_{round_:03d}"
        self.round = round_
        self._batches: dict[Kind, list[BatchRecord]] = {"train": [], "probe": []}
        self._accepted: dict[Kind, list[StoredSample]] = {"train": [], "probe": []}
        self._prompts: set[str] = set()
        self._open(read_only)

    def _open(self, read_only: bool) -> None:
        rows = {name: read_lines(self.folder / f"{name}.jsonl") for name in _FILES}
        self._prompts = {row["hash"] for row in rows["prompts"] if isinstance(row.get("hash"), str)}
        damaged = 0
        for kind in get_args(Kind):
            records = [_record(row) for row in rows["batches"] if row.get("kind") == kind]
            whole = self._leading(kind, records, rows)
            damaged += len(records) - len(whole)
            self._batches[kind] = whole
        committed = {(kind, record.index) for kind, records in self._batches.items() for record in records}
        shown: set[str] = set()
        for name in _FILES:
            at = "index" if name == "batches" else "batch"
            # A prompt stands by the first batch that showed it. Where that one is gone, others may need it.
            rows[name] = [
                row for row in rows[name] if (row.get("kind"), row.get(at)) in committed or row.get("hash") in shown
            ]
            shown |= {row["prompt_hash"] for row in rows[name] if isinstance(row.get("prompt_hash"), str)}
        self._prompts = {row["hash"] for row in rows["prompts"]}
        for kind in get_args(Kind):
            self._accepted[kind] = [_stored(row) for row in rows[kind]]
        if read_only:
            return
        if damaged:
            kept = self._set_aside("damaged")
            _log.warning(
                "%s: %d batches are damaged and made again; the files are kept in %s", *(self.folder, damaged, kept)
            )
        for name in _FILES:
            path = self.folder / f"{name}.jsonl"
            # Rows as long as they are whole stay as they are written: a line without one is all that is looked for.
            if path.exists() and _lines_in(path) != len(rows[name]):
                write_lines(path, rows[name])

    def _leading(
        self, kind: Kind, records: Sequence[BatchRecord | None], rows: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> list[BatchRecord]:
        """The committed batches up to the first one of which something is missing."""
        kept: dict[int, list[str]] = {}
        for row in rows[kind]:
            if isinstance(row.get("id"), str) and row.get("prompt_hash") in self._prompts:
                kept.setdefault(row["batch"], []).append(row["id"])
        refused = Counter(row.get("batch") for row in rows["rejects"] if row.get("kind") == kind)
        found: list[BatchRecord] = []
        for record in records:
            if record is None or record.index != len(found) or len(kept.get(record.index, ())) != record.accepted:
                break
            if refused[record.index] != sum(record.rejects.values()):
                break
            found.append(record)
        return found

    def _set_aside(self, why: str) -> Path:
        """Copies the round's files to a folder of their own, whole or not at all."""
        number = 1
        while (kept := self.folder.parent / f"{why}_{self.folder.name}_{number}").exists():
            number += 1
        part = kept.with_name(kept.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(self.folder, part)
        part.rename(kept)
        return kept

    def take_over(
        self, kind: Kind, parts: Mapping[str, str], same: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> None:
        """Notes what samples are asked for with. Where they were asked for in another way, they are set aside.

        Args:
            kind: Training samples or the probe set.
            parts: Hash of everything the samples depend on, by a name that a person understands.
            same: Other hashes of the same, by that name: what an earlier version took of it.

        Raises:
            GoldError: They are samples of another task; one run does not mix them.
        """
        path = self.folder / f"fingerprint_{kind}.json"
        noted = self._fingerprint(kind)
        held = {name: parts.get(name, h) if h in same.get(name, ()) else h for name, h in noted.items()}
        if self._batches[kind] and held != parts:
            other = sorted(k for k in parts.keys() | held.keys() if parts.get(k) != held.get(k))
            self._refuse_task(other)
            kept = self._set_aside("replaced")
            _log.warning(
                "round %d: its %s were asked for with another %s; they are kept in %s, and asked for anew "
                "(what is asked in the same way is not paid for again)",
                self.round,
                "training samples" if kind == "train" else "probe samples",
                ", ".join(other),
                kept,
            )
            self._drop(kind)
        elif not self._batches[kind] and self.round and kind == "train":
            # A new round of a run: what changes with every round is no news.
            before = self.folder.with_name(f"round_{self.round - 1:03d}") / path.name
            was = _read_json(before)
            was |= {name: parts[name] for name in same.keys() & was.keys() & parts.keys() if was[name] in same[name]}
            steady = [k for k in was.keys() & parts.keys() if k not in _EVERY_ROUND]
            if other := sorted(k for k in steady if parts[k] != was[k]):
                self._refuse_task(other)
                _log.warning("from round %d on samples are asked for with another %s", self.round, ", ".join(other))
        self.folder.mkdir(parents=True, exist_ok=True)
        if noted != parts:
            part = path.with_name(path.name + ".part")
            part.write_text(json.dumps(parts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            part.replace(path)  # whole or not at all: a kill may come at any time

    def _fingerprint(self, kind: Kind) -> dict[str, str]:
        return _read_json(self.folder / f"fingerprint_{kind}.json")

    def _refuse_task(self, other: Sequence[str]) -> None:
        if "task" in other:
            raise GoldError(
                f"{self.folder.parent.parent}: its samples were asked for with another {', '.join(other)}; "
                "take another --run.name, or delete the run folder to begin anew"
            )

    def _drop(self, kind: Kind) -> None:
        """Forgets the batches of a kind; the commits go first, so that a kill leaves nothing that seems committed."""
        self._batches[kind], self._accepted[kind] = [], []
        (self.folder / _ENERGIES).unlink(missing_ok=True)  # of samples that are gone
        for name in ("batches", kind, "rejects"):
            path = self.folder / f"{name}.jsonl"
            write_lines(path, [row for row in read_lines(path) if row.get("kind") != kind])

    def batches(self, kind: Kind) -> Sequence[BatchRecord]:
        """Committed batches, in order."""
        return self._batches[kind]

    def accepted(self, kind: Kind) -> Sequence[StoredSample]:
        """Accepted samples of committed batches, in order."""
        return self._accepted[kind]

    def rejects(self, kind: Kind) -> Counter[str]:
        """Rejects by reason."""
        return sum((Counter(b.rejects) for b in self._batches[kind]), Counter())

    def surplus(self, kind: Kind) -> list[StoredSample]:
        """Samples that passed all checks when their label had enough already, in order."""
        committed, found = len(self._batches[kind]), []
        for row in read_lines(self.folder / "rejects.jsonl"):
            # Rejects of earlier versions do not hold the sample.
            if (
                row.get("kind") == kind
                and row.get("reason") == "surplus"
                and "fields" in row
                and row["batch"] < committed
            ):
                found.append(replace(_stored(row), surplus_of=self.round))
        return found

    def from_surplus(self, kind: Kind) -> set[str]:
        """Ids of earlier rounds' surplus that this round has looked at, taken or rejected."""
        if not any(b.from_surplus for b in self._batches[kind]):
            return set()
        rows = read_lines(self.folder / "rejects.jsonl")
        rejected = {row["id"] for row in rows if row.get("kind") == kind and row.get("surplus_of") is not None}
        return rejected | {s.id for s in self._accepted[kind] if s.surplus_of is not None}

    def spare_row(self, stored: StoredSample) -> dict[str, Any]:
        """What a reject's row needs so that :meth:`surplus` gives the sample back."""
        return {k: v for k, v in _row("train", stored, {}).items() if k not in ("id", "kind", "batch", "raw")}

    def asked_alike(self, other: RoundStore, kind: Kind) -> bool:
        """Whether another round asks for samples as this one did, but for what changes with every round."""
        own, theirs = (
            {k: v for k, v in store._fingerprint(kind).items() if k not in _EVERY_ROUND} for store in (self, other)
        )
        return bool(own) and own == theirs

    def prompts(self, hashes: Collection[str]) -> dict[str, str]:
        """Texts of prompts.

        Args:
            hashes: Theirs; what is not there is left out.
        """
        rows = read_lines(self.folder / "prompts.jsonl")
        return {row["hash"]: row["prompt"] for row in rows if row.get("hash") in hashes and "prompt" in row}

    def write_energies(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replaces what is known of the scored samples, as a whole.

        Args:
            rows: One a sample: ``id``, ``kind``, ``energy``, ``fed_back``, of a probe sample ``loss``, and
                ``flipped`` where labels are exchanged (``data.label_noise``).
        """
        write_lines(self.folder / _ENERGIES, rows)

    def energies(self) -> list[dict[str, Any]]:
        """What :meth:`write_energies` was given; nothing before the round is scored."""
        return read_lines(self.folder / _ENERGIES)

    def commit(
        self,
        record: BatchRecord,
        accepted: Sequence[StoredSample],
        rejects: Sequence[Mapping[str, Any]],
        prompts: Mapping[str, str],
        provenance: Mapping[str, Any],
    ) -> None:
        """Appends a whole batch; when this returns it is on disk.

        Args:
            record: What the batch was; its index must be the next one.
            accepted: The accepted samples.
            rejects: Rows with at least ``id``, ``reason`` and ``raw``.
            prompts: Text of each prompt by its hash.
            provenance: Generator and sampling settings, repeated in each accepted row.
        """
        if record.index != len(self._batches[record.kind]):
            raise ValueError(f"batch {record.index} is not the next one ({len(self._batches[record.kind])})")
        at = {"kind": record.kind, "batch": record.index}
        new = {h: text for h, text in prompts.items() if h not in self._prompts}
        append_line(self.folder / "prompts.jsonl", *({**at, "hash": h, "prompt": t} for h, t in new.items()))
        append_line(self.folder / "rejects.jsonl", *({**at, **row} for row in rejects))
        append_line(self.folder / f"{record.kind}.jsonl", *(_row(record.kind, s, provenance) for s in accepted))
        append_line(self.folder / "batches.jsonl", dict(vars(record)))
        self._prompts |= new.keys()
        self._accepted[record.kind] += accepted
        self._batches[record.kind].append(record)


def _read_json(path: Path) -> dict[str, str]:
    """A small file of plain values; nothing where it is not there or damaged."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _record(row: Mapping[str, Any]) -> BatchRecord | None:
    try:
        return BatchRecord(**row)
    except TypeError:  # a damaged row may be valid JSON
        return None


def _row(kind: Kind, stored: StoredSample, provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": stored.id,
        "fields": dict(stored.sample.fields),
        "target": stored.sample.target,
        "kind": kind,
        "batch": stored.batch,
        "prompt_hash": stored.prompt_hash,
        "demo_ids": list(stored.demo_ids),
        "feedback": stored.feedback,
        "hint": dict(stored.hint),
        "seed": stored.seed,
        "agrees": stored.agrees,
        "favours": stored.favours,
        **({} if stored.surplus_of is None else {"surplus_of": stored.surplus_of}),
        **provenance,
        "raw": stored.raw,
    }


def _stored(row: Mapping[str, Any]) -> StoredSample:
    return StoredSample(
        id=row["id"],
        sample=Sample(dict(row["fields"]), row["target"]),
        batch=row["batch"],
        prompt_hash=row["prompt_hash"],
        demo_ids=tuple(row["demo_ids"]),
        feedback=row["feedback"],
        hint=row["hint"],
        seed=row["seed"],
        raw=row["raw"],
        agrees=row["agrees"],
        favours=row.get("favours", ""),
        surplus_of=row.get("surplus_of"),
    )
