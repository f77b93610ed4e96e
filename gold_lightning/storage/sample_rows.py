"""Accepted samples with their provenance, in a file with a JSON line for each.

A round may have a million samples. :class:`SampleRows` therefore knows where each line begins, and reads a line when
it is needed.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gold_lightning.errors import GoldError
from gold_lightning.storage.json_lines import rows_at
from gold_lightning.storage.lazy import LazySequence, Mapped
from gold_lightning.task import Sample

__all__ = ["Kind", "SampleRows", "Source", "StoredSample", "sample_row", "stored_sample"]

Kind = Literal["train", "probe"]
"""Training samples or the probe set."""
Source = Literal["generator", "unlabelled"]
"""Origin of a sample's text: written by the generator, or a real text of ``data.unlabelled``."""

_BLOCK = 16  # samples that are read together
_BLOCKS = 32  # that are kept


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


class SampleRows(LazySequence[StoredSample]):
    """The samples of a file in order, read in blocks when they are needed; the last blocks are kept.

    Args:
        path: The file.
        positions: Position in bytes of each sample's line.

    Raises:
        GoldError: On reading, if the file has changed since.
    """

    def __init__(self, path: Path, positions: Iterable[int] = ()) -> None:
        self.path = path
        self._positions = array("Q", positions)
        self._blocks: dict[int, list[StoredSample]] = {}  # the least recently used one first
        self._next = 0  # after the sample that was read last

    def extend(self, positions: Iterable[int]) -> None:
        """Adds samples that were appended to the file."""
        self._blocks.pop(len(self._positions) // _BLOCK, None)  # the last block grows
        self._positions.extend(positions)

    @property
    def with_ids(self) -> Sequence[tuple[str, Sample]]:
        """The samples without their provenance, each with its id."""
        return Mapped(self, lambda stored: (stored.id, stored.sample))

    def __len__(self) -> int:
        return len(self._positions)

    def _item(self, number: int) -> StoredSample:
        at, in_order = number // _BLOCK, number == self._next
        self._next = number + 1
        block = self._blocks.pop(at, None)
        if block is None:
            if not in_order and number % _BLOCK:  # one of many, drawn at random
                (stored,) = self._read(self._positions[number : number + 1])
                return stored
            block = self._read(self._positions[at * _BLOCK : (at + 1) * _BLOCK])
            if len(self._blocks) == _BLOCKS:
                del self._blocks[next(iter(self._blocks))]
        self._blocks[at] = block
        return block[number % _BLOCK]

    def _read(self, positions: Sequence[int]) -> list[StoredSample]:
        try:
            return [stored_sample(row) for row in rows_at(self.path, positions)]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise GoldError(
                f"{self.path}: another program changed this file while it was read ({type(e).__name__}); run again"
            ) from None


def sample_row(kind: Kind, stored: StoredSample, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the line of a sample, as :func:`stored_sample` reads it.

    Args:
        kind: Training samples or the probe set.
        stored: The sample.
        provenance: Generator and sampling settings.
    """
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


def stored_sample(row: Mapping[str, Any]) -> StoredSample:
    """Returns the sample of a line.

    Raises:
        KeyError: A value is missing.
    """
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
