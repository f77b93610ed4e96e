"""The append-only store of a round's samples.

A round has the folder ``data/round_NNN``. Each batch appends to ``train.jsonl`` or ``probe.jsonl`` (accepted samples),
``rejects.jsonl`` and ``prompts.jsonl``, all synced to disk; a line in ``batches.jsonl`` then commits it. Opening the
store cuts off uncommitted rows, so a run that was killed continues after the last whole batch. If rows of a committed
batch are missing, that batch and all later ones are synthesised again and the damaged files are set aside.

``energies.jsonl`` is written when the round is scored. It depends on the student, too.
"""

from __future__ import annotations

import json
import logging
import shutil
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, get_args

from gold_lightning.errors import GoldError
from gold_lightning.storage.json_lines import (
    append_line,
    count_lines,
    read_json,
    read_lines,
    replace_text,
    whole_rows,
    write_lines,
)
from gold_lightning.storage.run_folder import ENERGIES, RunFolder
from gold_lightning.storage.sample_rows import Kind, SampleRows, Source, StoredSample, sample_row, stored_sample

__all__ = ["BatchRecord", "Kind", "RoundStore", "Source", "StoredSample"]

_log = logging.getLogger(__name__)

_EVERY_ROUND = ("feedback", "training samples")  # parts of a fingerprint that change with every round
_FILES = ("batches", "train", "probe", "rejects", "prompts")  # prompts last: the others say which are needed
_NEEDED = frozenset({"fields", "target", "demo_ids", "feedback", "hint", "seed", "raw", "agrees"})  # of a sample's row

_Batch: TypeAlias = tuple[Any, Any]  # kind and index


@dataclass(frozen=True)
class BatchRecord:
    """One committed batch; its fields are the keys in ``batches.jsonl``.

    Args:
        kind: Training samples or the probe set.
        index: Number within its round and kind.
        requested: Number of completions, ``from_surplus`` included; the sum of accepted and rejected ones.
        accepted: Number of accepted samples.
        rejects: Number of rejects by reason.
        prompt_tokens: Tokens of all prompts, label checks included.
        completion_tokens: Tokens written.
        seconds: Wall time of the generator.
        groups: Label, feedback and size of each group of requests.
        agreed: Number of checked samples whose label the generator's likelihoods prefer.
        asked_agreement: Number of samples whose label was checked: accepted ones and those rejected for their label.
        from_surplus: Number of samples taken from earlier rounds' surplus, at no cost here.
        from_unlabelled: Number of real texts among ``requested``.
        cut: Number of accepted samples whose text is cut at the end of a sentence.
        thought: Number of completions before which the model thought.
        thinking_tokens: Tokens of the thinking among ``completion_tokens``, as far as they are counted.
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
    from_unlabelled: int = 0
    cut: int = 0
    thought: int = 0
    thinking_tokens: int = 0


class RoundStore:
    """The samples of one round on disk.

    Args:
        run_dir: The run folder.
        round_: Number of the round.
        read_only: Skip uncommitted rows instead of cutting them off; no file changes.
    """

    def __init__(self, run_dir: Path, round_: int, *, read_only: bool = False) -> None:
        self.folder = RunFolder(Path(run_dir)).round(round_)
        self.round = round_
        self._batches: dict[Kind, list[BatchRecord]] = {"train": [], "probe": []}
        self._accepted: dict[Kind, SampleRows] = {kind: SampleRows(self._path(kind)) for kind in get_args(Kind)}
        self._prompts: set[str] = set()
        self._open(read_only)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _open(self, read_only: bool) -> None:
        records = read_lines(self._path("batches"))
        prompts = [(_batch(row), row.get("hash")) for _, row in whole_rows(self._path("prompts"))]
        self._prompts = {hash_ for _, hash_ in prompts if isinstance(hash_, str)}
        scans = {name: _Scan.of(self._path(name), self._prompts) for name in ("train", "probe", "rejects")}
        damaged = 0
        for kind in get_args(Kind):
            of_kind = [_record(row) for row in records if row.get("kind") == kind]
            self._batches[kind] = _whole_batches(kind, of_kind, scans[kind], scans["rejects"])
            damaged += len(of_kind) - len(self._batches[kind])
        committed = {(kind, record.index) for kind, batches in self._batches.items() for record in batches}
        # A prompt is stored with the first batch that used it. Later batches may need it if that one is dropped.
        used_prompts = {
            h for scan in scans.values() for at, hashes in scan.prompts.items() if at in committed for h in hashes
        }
        lines = {name: sum(scan.rows[at] for at in committed) for name, scan in scans.items()}
        lines["batches"] = len(committed)
        lines["prompts"] = sum(at in committed or hash_ in used_prompts for at, hash_ in prompts)
        self._prompts = {h for at, h in prompts if isinstance(h, str) and (at in committed or h in used_prompts)}
        if damaged and not read_only:
            copy = self._set_aside("damaged")
            _log.warning(
                "%s: %d batches are damaged and made again; the files are kept in %s", self.folder, damaged, copy
            )
        for name in _FILES if not read_only else ():
            path = self._path(name)
            # Rewriting is only needed if lines were dropped.
            if path.exists() and count_lines(path) != lines[name]:
                rows = (row for _, row in whole_rows(path))
                write_lines(path, (r for r in rows if _batch(r) in committed or r.get("hash") in used_prompts))
                if name in get_args(Kind):
                    scans[name] = _Scan.of(path, self._prompts)
        for kind in get_args(Kind):
            self._accepted[kind] = SampleRows(self._path(kind), scans[kind].positions_of(committed))

    def _set_aside(self, reason: str) -> Path:
        """Copies the round's files to a new folder, whole or not at all."""
        number = 1
        while (copy := self.folder.parent / f"{reason}_{self.folder.name}_{number}").exists():
            number += 1
        part = copy.with_name(copy.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(self.folder, part)
        part.rename(copy)
        return copy

    def require_fingerprint(
        self, kind: Kind, parts: Mapping[str, str], same: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> None:
        """Makes sure that all samples of a kind come from the same settings, and stores the settings' fingerprint.

        Samples of other settings are set aside, so that the round starts again; those of another task are an error.

        Args:
            kind: Training samples or the probe set.
            parts: Hash of everything that the samples depend on, by a name that a person understands.
            same: Equivalent hashes by the same names, as earlier versions computed them.

        Raises:
            GoldError: The stored samples belong to another task; a run does not mix tasks.
        """
        path = self.folder / f"fingerprint_{kind}.json"
        stored = read_json(path)
        current = {name: parts.get(name, h) if h in same.get(name, ()) else h for name, h in stored.items()}
        if self._batches[kind] and current != parts:
            changed = sorted(k for k in parts.keys() | current.keys() if parts.get(k) != current.get(k))
            self._refuse_other_task(changed)
            copy = self._set_aside("replaced")
            _log.warning(
                "round %d: its %s were asked for with another %s; they are kept in %s, and asked for anew "
                "(what is asked in the same way is not paid for again)",
                self.round,
                "training samples" if kind == "train" else "probe samples",
                ", ".join(changed),
                copy,
            )
            self._drop(kind)
        elif not self._batches[kind] and self.round and kind == "train":
            self._compare_with_previous_round(path.name, parts, same)
        self.folder.mkdir(parents=True, exist_ok=True)
        if stored != parts:
            replace_text(path, json.dumps(parts, indent=1, sort_keys=True) + "\n")

    def _compare_with_previous_round(
        self, name: str, parts: Mapping[str, str], same: Mapping[str, Sequence[str]]
    ) -> None:
        """Warns if settings that do not change with every round differ from those of the previous round."""
        previous = read_json(self.folder.with_name(f"round_{self.round - 1:03d}") / name)
        known = same.keys() & previous.keys() & parts.keys()
        previous |= {key: parts[key] for key in known if previous[key] in same[key]}
        steady = [key for key in previous.keys() & parts.keys() if key not in _EVERY_ROUND]
        if changed := sorted(key for key in steady if parts[key] != previous[key]):
            self._refuse_other_task(changed)
            _log.warning("from round %d on samples are asked for with another %s", self.round, ", ".join(changed))

    def _refuse_other_task(self, changed: Sequence[str]) -> None:
        if "task" in changed:
            raise GoldError(
                f"{self.folder.parent.parent}: its samples were asked for with another {', '.join(changed)}; "
                "take another --run.name, or delete the run folder to begin anew"
            )

    def _drop(self, kind: Kind) -> None:
        """Removes the batches of a kind. Commits go first, so that a kill leaves no batch that seems committed."""
        self._batches[kind], self._accepted[kind] = [], SampleRows(self._path(kind))
        (self.folder / ENERGIES).unlink(missing_ok=True)
        for name in ("batches", kind, "rejects"):
            path = self._path(name)
            write_lines(path, (row for _, row in whole_rows(path) if row.get("kind") != kind))

    def batches(self, kind: Kind) -> Sequence[BatchRecord]:
        """Returns the committed batches, in order."""
        return self._batches[kind]

    def accepted(self, kind: Kind) -> SampleRows:
        """Returns the accepted samples of committed batches, in order. It grows with the round."""
        return self._accepted[kind]

    def rejects(self, kind: Kind) -> Counter[str]:
        """Counts rejects by reason."""
        return sum((Counter(b.rejects) for b in self._batches[kind]), Counter())

    def label_checks(self, kind: Kind) -> Iterator[tuple[Mapping[str, str], str, Mapping[str, float | None]]]:
        """Yields the fields, requested label and log-likelihoods of labels of each checked sample, taken or not.

        Real texts are left out: no label was requested of them.
        """
        for stored in self._accepted[kind]:
            if stored.label_log_probs and stored.source == "generator":
                yield stored.sample.fields, stored.sample.target, stored.label_log_probs
        for _, row in whole_rows(self._path("rejects")):
            # Uncommitted rows of a store that is read only are left out.
            if row.get("kind") == kind and "label_log_probs" in row and row["batch"] < len(self._batches[kind]):
                yield row["fields"], row["label"], row["label_log_probs"]

    def fingerprint(self, kind: Kind) -> dict[str, str]:
        """Returns the hashes that :meth:`require_fingerprint` stored; empty if it did not."""
        return {str(name): str(value) for name, value in read_json(self.folder / f"fingerprint_{kind}.json").items()}

    def surplus(self, kind: Kind) -> list[StoredSample]:
        """Returns the samples that passed all checks after the quota of their label was full, in order."""
        committed = len(self._batches[kind])
        return [
            replace(stored_sample(row), surplus_of=self.round)
            for _, row in whole_rows(self._path("rejects"))
            if row.get("kind") == kind
            and row.get("reason") == "surplus"
            and "fields" in row  # rejects of earlier versions lack the sample
            and row["batch"] < committed
        ]

    def from_surplus(self, kind: Kind) -> set[str]:
        """Returns ids of earlier rounds' surplus samples that this round has accepted or rejected."""
        if not any(b.from_surplus for b in self._batches[kind]):
            return set()
        rows = whole_rows(self._path("rejects"))
        rejected = {row["id"] for _, row in rows if row.get("kind") == kind and row.get("surplus_of") is not None}
        return rejected | {s.id for s in self._accepted[kind] if s.surplus_of is not None}

    def surplus_row(self, stored: StoredSample) -> dict[str, Any]:
        """Returns the values that a reject's row needs so that :meth:`surplus` can restore the sample."""
        return {k: v for k, v in sample_row("train", stored, {}).items() if k not in ("id", "kind", "batch", "raw")}

    def has_settings_of(self, other: RoundStore, kind: Kind) -> bool:
        """Tells whether two rounds have the same fingerprint, apart from the parts that change with every round."""
        mine, theirs = (
            {k: v for k, v in store.fingerprint(kind).items() if k not in _EVERY_ROUND} for store in (self, other)
        )
        return bool(mine) and mine == theirs

    def prompts(self, hashes: Collection[str]) -> dict[str, str]:
        """Returns texts of prompts by their hashes; unknown hashes are left out."""
        rows = whole_rows(self._path("prompts"))
        return {row["hash"]: row["prompt"] for _, row in rows if row.get("hash") in hashes and "prompt" in row}

    def write_energies(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replaces the scores of the round's samples as a whole.

        Args:
            rows: One row a sample: ``id``, ``kind``, ``energy``, ``fed_back``; for probe samples also ``loss``; for
                real texts also ``source``, and ``probabilities`` of labels by generator and student together; with
                label noise (``data.label_noise``) also ``flipped``.
        """
        write_lines(self.folder / ENERGIES, rows)

    def energies(self) -> list[dict[str, Any]]:
        """Returns the rows of :meth:`write_energies`; empty before the round is scored."""
        return read_lines(self.folder / ENERGIES)

    def commit(
        self,
        record: BatchRecord,
        accepted: Sequence[StoredSample],
        rejects: Sequence[Mapping[str, Any]],
        prompts: Mapping[str, str],
        provenance: Mapping[str, Any],
    ) -> None:
        """Appends a whole batch and returns once it is on disk.

        Args:
            record: The batch; its index must be the next one.
            accepted: The accepted samples.
            rejects: Rows with at least ``id``, ``reason`` and ``raw``.
            prompts: Text of each prompt by its hash.
            provenance: Generator and sampling settings, repeated in each accepted row.

        Raises:
            ValueError: The batch is not the next one.
        """
        if record.index != len(self._batches[record.kind]):
            raise ValueError(f"batch {record.index} is not the next one ({len(self._batches[record.kind])})")
        at = {"kind": record.kind, "batch": record.index}
        new = {h: text for h, text in prompts.items() if h not in self._prompts}
        append_line(self._path("prompts"), *({**at, "hash": h, "prompt": t} for h, t in new.items()))
        append_line(self._path("rejects"), *({**at, **row} for row in rejects))
        rows = [sample_row(record.kind, s, provenance) for s in accepted]
        positions = append_line(self._path(record.kind), *rows)
        append_line(self._path("batches"), dict(vars(record)))
        self._prompts |= new.keys()
        self._accepted[record.kind].extend(positions)
        self._batches[record.kind].append(record)


@dataclass
class _Scan:
    """The rows of a file by batch, without their texts.

    Args:
        rows: Number of rows.
        whole: Number of rows of samples in which nothing is missing.
        prompts: Hashes of the rows' prompts.
        positions: Position of each row in bytes.
        batches: Batch of each row.
    """

    rows: Counter[_Batch] = field(default_factory=Counter)
    whole: Counter[_Batch] = field(default_factory=Counter)
    prompts: defaultdict[_Batch, set[str]] = field(default_factory=lambda: defaultdict(set))
    positions: array[int] = field(default_factory=lambda: array("Q"))
    batches: list[_Batch] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, prompts: Collection[str]) -> _Scan:
        scan, known = cls(), dict[_Batch, _Batch]()
        for position, row in whole_rows(path):
            try:
                at = known.setdefault(_batch(row), _batch(row))
            except TypeError:  # a damaged row can be valid JSON
                continue
            scan.rows[at] += 1
            scan.positions.append(position)
            scan.batches.append(at)
            if isinstance(hash_ := row.get("prompt_hash"), str):
                scan.prompts[at].add(hash_)
                scan.whole[at] += isinstance(row.get("id"), str) and hash_ in prompts and row.keys() >= _NEEDED
        return scan

    def positions_of(self, batches: Collection[_Batch]) -> Iterator[int]:
        return (position for position, at in zip(self.positions, self.batches, strict=True) if at in batches)


def _batch(row: Mapping[str, Any]) -> _Batch:
    return row.get("kind"), row.get("batch", row.get("index"))


def _whole_batches(
    kind: Kind, records: Sequence[BatchRecord | None], accepted: _Scan, rejects: _Scan
) -> list[BatchRecord]:
    """Returns the committed batches before the first one with missing rows."""
    whole: list[BatchRecord] = []
    for record in records:
        if record is None or record.index != len(whole):
            break
        at = kind, record.index
        if accepted.whole[at] != record.accepted or rejects.rows[at] != sum(record.rejects.values()):
            break
        whole.append(record)
    return whole


def _record(row: Mapping[str, Any]) -> BatchRecord | None:
    try:
        return BatchRecord(**row)
    except TypeError:  # a damaged row can be valid JSON
        return None
