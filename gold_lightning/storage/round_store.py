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
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from gold_lightning.errors import GoldError
from gold_lightning.storage.json_lines import append_line, count_lines, read_json, read_lines, replace_text, write_lines
from gold_lightning.storage.run_folder import ENERGIES, RunFolder
from gold_lightning.task import Sample

__all__ = ["BatchRecord", "Kind", "RoundStore", "Source", "StoredSample"]

_log = logging.getLogger(__name__)

Kind = Literal["train", "probe"]
"""Training samples or the probe set."""
Source = Literal["generator", "unlabelled"]
"""Origin of a sample's text: written by the generator, or a real text of ``data.unlabelled``."""

_EVERY_ROUND = ("feedback", "training samples")  # parts of a fingerprint that change with every round
_FILES = ("batches", "train", "probe", "rejects", "prompts")  # prompts last: the others say which are needed


@dataclass(frozen=True)
class StoredSample:
    """An accepted sample with its provenance.

    Args:
        id: ``r<round>-<kind>-<number of the request>``, unique in a run.
        sample: The sample.
        batch: Index of the batch within its round and kind.
        prompt_hash: Hash of the whole prompt; its text is in ``prompts.jsonl``.
        demo_ids: Demos in the prompt: ``demo-<i>`` for seed demos, sample ids for feedback and contrast samples.
        feedback: Whether feedback demos are among them.
        hint: Request of the prompt beyond the label, such as a topic.
        seed: Seed of the request.
        raw: The generator's whole completion.
        label_agrees: Whether the generator's own likelihoods prefer the sample's label; ``None`` if not checked.
        preferred_label: The label that they prefer; "" if not checked.
        label_log_probs: The generator's log-likelihood of each label, uncalibrated (``None`` for a label without mass);
            empty if not checked.
        surplus_of: Number of the earlier round that synthesised the sample without needing it; ``None`` otherwise.
        source: Origin of the text. The label of a real text is the generator's; its prompt is the one that asked it.
        probabilities: Probability of each label by name: the generator's likelihoods, calibrated as they were when the
            label was checked; empty if it was not, and in folders of earlier versions for all but real texts.
        cut: Whether its text is cut at the end of a sentence, so that ``raw`` contains more.
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
    label_agrees: bool | None = None
    preferred_label: str = ""
    label_log_probs: Mapping[str, float | None] = field(default_factory=dict)
    surplus_of: int | None = None
    source: Source = "generator"
    probabilities: Mapping[str, float] = field(default_factory=dict)
    cut: bool = False


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
        self._accepted: dict[Kind, list[StoredSample]] = {"train": [], "probe": []}
        self._prompts: set[str] = set()
        self._open(read_only)

    def _open(self, read_only: bool) -> None:
        rows = {name: read_lines(self.folder / f"{name}.jsonl") for name in _FILES}
        self._prompts = {row["hash"] for row in rows["prompts"] if isinstance(row.get("hash"), str)}
        damaged = 0
        for kind in get_args(Kind):
            records = [_record(row) for row in rows["batches"] if row.get("kind") == kind]
            self._batches[kind] = self._whole_batches(kind, records, rows)
            damaged += len(records) - len(self._batches[kind])
        committed = {(kind, record.index) for kind, records in self._batches.items() for record in records}
        used_prompts: set[str] = set()
        for name in _FILES:
            batch_key = "index" if name == "batches" else "batch"
            # A prompt is stored with the first batch that used it. Later batches may need it if that one is dropped.
            rows[name] = [
                row
                for row in rows[name]
                if (row.get("kind"), row.get(batch_key)) in committed or row.get("hash") in used_prompts
            ]
            used_prompts |= {row["prompt_hash"] for row in rows[name] if isinstance(row.get("prompt_hash"), str)}
        self._prompts = {row["hash"] for row in rows["prompts"]}
        for kind in get_args(Kind):
            self._accepted[kind] = [_stored(row) for row in rows[kind]]
        if read_only:
            return
        if damaged:
            copy = self._set_aside("damaged")
            _log.warning(
                "%s: %d batches are damaged and made again; the files are kept in %s", self.folder, damaged, copy
            )
        for name in _FILES:
            path = self.folder / f"{name}.jsonl"
            # Rewriting is only needed if lines were dropped.
            if path.exists() and count_lines(path) != len(rows[name]):
                write_lines(path, rows[name])

    def _whole_batches(
        self, kind: Kind, records: Sequence[BatchRecord | None], rows: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> list[BatchRecord]:
        """Returns the committed batches before the first one with missing rows."""
        accepted_ids: dict[int, list[str]] = {}
        for row in rows[kind]:
            if isinstance(row.get("id"), str) and row.get("prompt_hash") in self._prompts:
                accepted_ids.setdefault(row["batch"], []).append(row["id"])
        rejects = Counter(row.get("batch") for row in rows["rejects"] if row.get("kind") == kind)
        whole: list[BatchRecord] = []
        for record in records:
            if record is None or record.index != len(whole):
                break
            if len(accepted_ids.get(record.index, ())) != record.accepted:
                break
            if rejects[record.index] != sum(record.rejects.values()):
                break
            whole.append(record)
        return whole

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
        self._batches[kind], self._accepted[kind] = [], []
        (self.folder / ENERGIES).unlink(missing_ok=True)
        for name in ("batches", kind, "rejects"):
            path = self.folder / f"{name}.jsonl"
            write_lines(path, [row for row in read_lines(path) if row.get("kind") != kind])

    def batches(self, kind: Kind) -> Sequence[BatchRecord]:
        """Returns the committed batches, in order."""
        return self._batches[kind]

    def accepted(self, kind: Kind) -> Sequence[StoredSample]:
        """Returns the accepted samples of committed batches, in order."""
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
        for row in read_lines(self.folder / "rejects.jsonl"):
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
            replace(_stored(row), surplus_of=self.round)
            for row in read_lines(self.folder / "rejects.jsonl")
            if row.get("kind") == kind
            and row.get("reason") == "surplus"
            and "fields" in row  # rejects of earlier versions lack the sample
            and row["batch"] < committed
        ]

    def from_surplus(self, kind: Kind) -> set[str]:
        """Returns ids of earlier rounds' surplus samples that this round has accepted or rejected."""
        if not any(b.from_surplus for b in self._batches[kind]):
            return set()
        rows = read_lines(self.folder / "rejects.jsonl")
        rejected = {row["id"] for row in rows if row.get("kind") == kind and row.get("surplus_of") is not None}
        return rejected | {s.id for s in self._accepted[kind] if s.surplus_of is not None}

    def surplus_row(self, stored: StoredSample) -> dict[str, Any]:
        """Returns the values that a reject's row needs so that :meth:`surplus` can restore the sample."""
        return {k: v for k, v in _row("train", stored, {}).items() if k not in ("id", "kind", "batch", "raw")}

    def has_settings_of(self, other: RoundStore, kind: Kind) -> bool:
        """Tells whether two rounds have the same fingerprint, apart from the parts that change with every round."""
        mine, theirs = (
            {k: v for k, v in store.fingerprint(kind).items() if k not in _EVERY_ROUND} for store in (self, other)
        )
        return bool(mine) and mine == theirs

    def prompts(self, hashes: Collection[str]) -> dict[str, str]:
        """Returns texts of prompts by their hashes; unknown hashes are left out."""
        rows = read_lines(self.folder / "prompts.jsonl")
        return {row["hash"]: row["prompt"] for row in rows if row.get("hash") in hashes and "prompt" in row}

    def write_energies(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replaces the scores of the round's samples as a whole.

        Args:
            rows: One row a sample: ``id``, ``kind``, ``energy``, ``fed_back``; for probe samples also ``loss``;
                with label noise (``data.label_noise``) also ``flipped``.
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
        append_line(self.folder / "prompts.jsonl", *({**at, "hash": h, "prompt": t} for h, t in new.items()))
        append_line(self.folder / "rejects.jsonl", *({**at, **row} for row in rejects))
        append_line(self.folder / f"{record.kind}.jsonl", *(_row(record.kind, s, provenance) for s in accepted))
        append_line(self.folder / "batches.jsonl", dict(vars(record)))
        self._prompts |= new.keys()
        self._accepted[record.kind] += accepted
        self._batches[record.kind].append(record)


def _record(row: Mapping[str, Any]) -> BatchRecord | None:
    try:
        return BatchRecord(**row)
    except TypeError:  # a damaged row can be valid JSON
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
        "agrees": stored.label_agrees,
        "favours": stored.preferred_label,
        **({"label_log_probs": dict(stored.label_log_probs)} if stored.label_log_probs else {}),
        **({} if stored.surplus_of is None else {"surplus_of": stored.surplus_of}),
        **({} if stored.source == "generator" else {"source": stored.source}),
        **({"probabilities": dict(stored.probabilities)} if stored.probabilities else {}),
        **({"cut": True} if stored.cut else {}),
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
        label_agrees=row["agrees"],
        preferred_label=row.get("favours", ""),
        label_log_probs=row.get("label_log_probs", {}),
        surplus_of=row.get("surplus_of"),
        source=row.get("source", "generator"),
        probabilities=row.get("probabilities", {}),
        cut=row.get("cut", False),
    )
