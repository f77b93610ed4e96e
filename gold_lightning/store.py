"""The durable, append-only store of what a generator wrote.

A round lives in ``data/round_NNN``. A batch of completions is appended to ``train.jsonl`` or
``probe.jsonl`` (accepted), ``rejects.jsonl`` and ``prompts.jsonl``, each fsynced, and last a line in
``batches.jsonl`` commits it. Opening a round cuts off whatever was not committed, so a killed run finds
exactly the batches that were whole, and asks for the next one by its index.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gold_lightning.errors import GoldError
from gold_lightning.task import Sample

__all__ = [
    "BatchRecord",
    "Kind",
    "RoundStore",
    "StoredSample",
    "append_line",
    "digest",
    "read_lines",
    "rounds_in",
    "write_lines",
]

Kind = Literal["train", "probe"]


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


@dataclass(frozen=True)
class BatchRecord:
    """One committed batch.

    Args:
        kind: Training samples or the probe set.
        index: Number within its round and kind.
        requested: Completions asked for.
        accepted: How many were accepted.
        rejects: Rejects by reason.
        prompt_tokens: Tokens of all prompts, scoring included.
        completion_tokens: Tokens written.
        seconds: Wall time of the generator.
        groups: What each group of requests asked for: label, feedback, size.
        agreed: Accepted samples whose label the generator's likelihoods favour, of ``asked_agreement``.
        asked_agreement: Samples whose label was checked.
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


def digest(value: object, length: int = 16) -> str:
    """Hash of plain values, the same in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file up to the first line that is torn; none when there is no file."""
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not isinstance(row, dict):
                break
            rows.append(row)
    return rows


def _dump(row: Mapping[str, Any]) -> bytes:
    # Lone surrogates may stand in generated text; they are written escaped, so that the file is valid UTF-8.
    text = json.dumps(row, ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


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
    return sorted(int(p.name.removeprefix("round_")) for p in (Path(run_dir) / "data").glob("round_[0-9]*"))


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
        for row in read_lines(self.folder / "batches.jsonl"):
            self._batches[row["kind"]].append(BatchRecord(**row))
        committed = {(kind, record.index) for kind, records in self._batches.items() for record in records}
        for name in ("batches", "train", "probe", "rejects", "prompts"):
            path = self.folder / f"{name}.jsonl"
            rows = read_lines(path)
            if name != "batches":
                rows = [row for row in rows if (row["kind"], row["batch"]) in committed]
            if not read_only and path.exists() and b"".join(map(_dump, rows)) != path.read_bytes():
                write_lines(path, rows)
            if name == "prompts":
                self._prompts = {row["hash"] for row in rows}
            elif name in self._accepted:
                self._accepted[name] = [_stored(row) for row in rows]

    def check_fingerprint(self, kind: Kind, parts: Mapping[str, str]) -> None:
        """Refuses to mix samples that were asked for in different ways.

        Args:
            kind: Training samples or the probe set.
            parts: Hash of everything the samples depend on, by a name that a person understands.

        Raises:
            GoldError: The round was begun with other parts; they are named.
        """
        path = self.folder / f"fingerprint_{kind}.json"
        if path.exists() and self._batches[kind]:
            held = json.loads(path.read_text())
            if other := sorted(k for k in parts.keys() | held.keys() if parts.get(k) != held.get(k)):
                raise GoldError(
                    f"{self.folder}: its {kind} samples were asked for with another {', '.join(other)}; "
                    f"take another --run.name, or delete the run folder to begin anew"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(parts, indent=1, sort_keys=True) + "\n"
        if not path.exists() or path.read_text() != text:
            part = path.with_name(path.name + ".part")
            part.write_text(text)
            part.replace(path)  # whole or not at all: a kill may come at any time

    def batches(self, kind: Kind) -> Sequence[BatchRecord]:
        """Committed batches, in order."""
        return self._batches[kind]

    def accepted(self, kind: Kind) -> Sequence[StoredSample]:
        """Accepted samples of committed batches, in order."""
        return self._accepted[kind]

    def rejects(self, kind: Kind) -> Counter[str]:
        """Rejects by reason."""
        return sum((Counter(b.rejects) for b in self._batches[kind]), Counter())

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
    )
