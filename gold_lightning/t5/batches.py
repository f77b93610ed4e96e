"""Batches for the student: token ids of samples, and the loader that yields them.

A batch is the contract between data and student. It contains

- ``id``: (batch,) int64, position of each row in its data set, or :data:`PADDING` for a row that must not count;
- ``input_ids``, ``attention_mask``: (batch, input_len) int64;
- ``labels``: (batch, target_len) int64, -100 on padding;
- ``targets``: a tuple per row with all accepted texts, as the task spells them; ``labels`` encode the first;
- ``probabilities``, in training batches of a task with one label a row, if any sample has stored ones: (batch, labels)
  float32, each row sums to 1. A sample without has probability 1 for its target;
- ``encoder_states``, if :meth:`gold_lightning.t5.inference.Inference.encoded` added them: (batch, input_len, width).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from gold_lightning.errors import GoldError
from gold_lightning.t5.batch_order import Integers
from gold_lightning.t5.weights import target_text
from gold_lightning.task import Sample, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "IGNORE_INDEX",
    "PADDING",
    "TOKENIZED_TOGETHER",
    "EncodedSamples",
    "Text",
    "collate",
    "encode_inputs",
    "fields_of",
    "make_loader",
]

IGNORE_INDEX = -100
"""Token of padding in targets, which PyTorch's losses ignore."""

Text = str | Mapping[str, str]
"""An input of the student: the text of the task's only field, or a mapping from each field's name to its text."""

PADDING = -1
"""Id of a padding row; the loss ignores all its tokens."""

TOKENIZED_TOGETHER = 1024
"""Number of texts that are tokenized at once, so that lists of Python integers never hold many."""


class _TokenRows:
    """Token ids of many texts, one after another, in two arrays.

    Against an Arrow table they take the same memory or half of it, and a seventh of the time to read; lists of Python
    integers take seventeen times the memory.
    """

    def __init__(self, ids: np.ndarray[Any, np.dtype[np.integer[Any]]], lengths: Integers) -> None:
        self.ids, self.lengths = ids, lengths
        self._ends = lengths.cumsum()

    @classmethod
    def encode(cls, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], max_length: int) -> _TokenRows:
        dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.int32)
        # An array that grows in place: joining parts in the end would hold all tokens twice.
        ids, lengths = array("B"), array("q")
        remaining = iter(texts)
        while some := list(islice(remaining, TOKENIZED_TOGETHER)):
            rows = tokenizer(some, max_length=max_length, truncation=True).input_ids
            lengths.extend(map(len, rows))
            ids.frombytes(np.fromiter(chain.from_iterable(rows), dtype).tobytes())
        return cls(np.frombuffer(ids, dtype), np.frombuffer(lengths, np.int64))

    def __getitem__(self, row: int) -> np.ndarray[Any, np.dtype[np.integer[Any]]]:
        end = self._ends[row]
        return self.ids[end - self.lengths[row] : end]

    def __add__(self, other: _TokenRows) -> _TokenRows:
        return _TokenRows(np.concatenate([self.ids, other.ids]), np.concatenate([self.lengths, other.lengths]))


class EncodedSamples:
    """Samples with their token ids; each sample is tokenized once.

    Args:
        task: The task, with the templates and length limits.
        tokenizer: The student's tokenizer.
        samples: The samples. They are read several times, in order, and not kept.
        earlier: Samples that were encoded before with the same task and tokenizer. If ``samples`` begin with them, as
            those of a round begin with those of earlier rounds, only the others are tokenized.
        probabilities: Stored probabilities of labels of each sample; an empty mapping for a sample without.

    Attributes:
        pad_token: Token that fills up inputs.

    Example:
        >>> from gold_lightning import Sample, Task
        >>> from gold_lightning.t5.weights import load_tokenizer
        >>> samples = [Sample({"text": "A goal in injury time"}, "Sports"), Sample({"text": "Shares rise"}, "Business")]
        >>> encoded = EncodedSamples(Task.load("news_topics"), load_tokenizer("embedded"), samples)
        >>> len(encoded), encoded.row(1)["targets"], encoded.longest_first()
        (2, ('Business',), [0, 1])
    """

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        samples: Sequence[Sample],
        earlier: EncodedSamples | None = None,
        probabilities: Sequence[Mapping[str, float]] = (),
    ) -> None:
        form, pad = task.student, cast(int, tokenizer.pad_token_id)
        self.pad_token = int(pad)
        self._hashes, self._targets = array("q"), list[tuple[str, ...]]()
        same: dict[tuple[str, ...], tuple[str, ...]] = {}  # a million rows with four labels hold four tuples
        for sample in samples:
            self._hashes.append(hash((*sample.fields.items(), sample.targets)))
            self._targets.append(same.setdefault(sample.targets, sample.targets))
        known = 0 if earlier is None else len(earlier)
        if earlier is None or self._hashes[:known] != earlier._hashes:
            earlier, known = None, 0
        inputs = (task.student_input(sample) for sample in islice(samples, known, None))
        outputs = (target_text(tokenizer, task.student_target(targets[0])) for targets in self._targets[known:])
        self._inputs = _TokenRows.encode(tokenizer, inputs, form.max_input_tokens)
        self._outputs = _TokenRows.encode(tokenizer, outputs, form.max_target_tokens)
        if earlier is not None:
            self._inputs, self._outputs = earlier._inputs + self._inputs, earlier._outputs + self._outputs
        self._probabilities = _as_array(task, self._targets, probabilities)

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def sizes(self) -> Integers:
        """(rows,) int64, numbers to sort rows by: the length of the input, then that of the target."""
        longest = int(self._outputs.lengths.max(initial=0))
        sizes: Integers = self._inputs.lengths * (longest + 1) + self._outputs.lengths
        return sizes

    def row(self, position: int) -> dict[str, Any]:
        """Returns a row as :func:`collate` takes it; its id is its position."""
        row = {
            "id": position,
            "input_ids": self._inputs[position],
            "labels": self._outputs[position],
            "targets": self._targets[position],
        }
        return row if self._probabilities is None else row | {"probabilities": self._probabilities[position]}

    def longest_first(self, rows: Sequence[int] | None = None) -> list[int]:
        """Orders rows for batches with little padding. A batch that does not fit into memory is among the first.

        Args:
            rows: Positions of the rows; all by default.
        """
        sizes = self.sizes
        return sorted(range(len(self)) if rows is None else rows, key=lambda row: -int(sizes[row]))


def _as_array(
    task: Task, targets: Sequence[tuple[str, ...]], probabilities: Sequence[Mapping[str, float]]
) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    """Returns probabilities, (samples, labels); ``None`` if no sample has any, or the task is not of one label."""
    if not task.one_label or not any(probabilities):
        return None
    names = task.label_names
    array = np.fromiter((stored.get(n, 0.0) for stored in probabilities for n in names), np.float32)
    array = array.reshape(-1, len(names))
    for row in np.flatnonzero(~array.any(-1)).tolist():
        array[row] = [name == targets[row][0] for name in names]
    array /= array.sum(-1, keepdims=True)  # stored ones are rounded
    return array


class _Rows(Dataset[dict[str, Any]]):
    """Encoded samples in a given order. A row's id is its position among the samples, independent of the order."""

    def __init__(self, encoded: EncodedSamples, order: Sequence[int] | Integers) -> None:
        self.encoded, self.order = encoded, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, at: int) -> dict[str, Any]:
        if at == PADDING:  # of the length of the last row, with which it is in a batch
            return self.encoded.row(int(self.order[-1])) | {"id": PADDING}
        return self.encoded.row(int(self.order[at]))


class _Share(DistributedSampler[Any]):
    """One process's share of the rows, in order; all shares have the same size.

    If the rows do not divide evenly, PyTorch's sampler repeats the first ones, which would train on them twice. This
    sampler yields padding rows.
    """

    def __iter__(self) -> Iterator[int]:
        rows = len(self.dataset)  # type: ignore[arg-type]
        places = range(self.rank, self.total_size, self.num_replicas)
        return (at if at < rows else PADDING for at in places)


def collate(rows: Sequence[dict[str, Any]], *, pad_token: int) -> dict[str, Any]:
    """Makes a batch of rows; the module's docstring lists its entries.

    Args:
        rows: Rows as :meth:`EncodedSamples.row` returns them.
        pad_token: Token that fills up inputs.
    """
    ids = torch.tensor([row["id"] for row in rows])
    inputs = [row["input_ids"] for row in rows]
    # The decoder has no mask for padding before a target, and T5 was trained with padding after a text.
    labels = _filled_up([row["labels"] for row in rows], IGNORE_INDEX)
    lengths = torch.tensor([len(row) for row in inputs])
    input_ids = _filled_up(inputs, pad_token)
    batch = {
        "id": ids,
        "input_ids": input_ids,
        "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
        "labels": labels.masked_fill((ids == PADDING)[:, None], IGNORE_INDEX),
        "targets": [row["targets"] for row in rows],
    }
    if "probabilities" in rows[0]:
        batch["probabilities"] = torch.from_numpy(np.stack([row["probabilities"] for row in rows]))
    return batch


def _filled_up(rows: Sequence[np.ndarray[Any, Any]], token: int) -> torch.Tensor:
    filled = np.full((len(rows), max(map(len, rows))), token, np.int64)
    for line, row in zip(filled, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(filled)


def encode_inputs(samples: Sequence[Sample], task: Task, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Tokenizes the fields of samples.

    Args:
        samples: The samples.
        task: The task, with the template and the length limit.
        tokenizer: The student's tokenizer.

    Returns:
        ``input_ids`` and ``attention_mask``, (batch, input_len).
    """
    inputs = tokenizer(
        [task.student_input(sample) for sample in samples],
        max_length=task.student.max_input_tokens,
        truncation=True,
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    return {"input_ids": inputs.input_ids, "attention_mask": inputs.attention_mask}


def make_loader(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Sample] | EncodedSamples,
    batch_size: int,
    order: Sequence[int] | Integers | None = None,
    shares: tuple[int, int] = (1, 0),
) -> DataLoader[dict[str, Any]]:
    """Returns a loader of batches.

    Args:
        task: The task.
        tokenizer: The student's tokenizer.
        samples: The samples, encoded or not.
        batch_size: Rows in a batch, per process.
        order: Positions in ``samples``; ``None`` keeps their order.
        shares: Number of processes that share the rows, and the rank of this one. A step of n processes equals a step
            of one process with n times the batch size. Lightning's own training sampler would shuffle and repeat rows.
    """
    encoded = samples if isinstance(samples, EncodedSamples) else EncodedSamples(task, tokenizer, samples)
    rows = _Rows(encoded, range(len(encoded)) if order is None else order)
    sampler = _Share(rows, *shares, shuffle=False) if shares[0] > 1 else None
    collate_fn = partial(collate, pad_token=encoded.pad_token)
    return DataLoader(rows, batch_size=batch_size, shuffle=False, sampler=sampler, collate_fn=collate_fn)


def fields_of(task: Task, text: Text) -> dict[str, str]:
    """Returns an input of the student as a mapping from each field's name to its text.

    Raises:
        GoldError: A field is missing, or is no text.
    """
    names = [f.name for f in task.fields]
    if isinstance(text, str) and len(names) == 1:
        return {names[0]: text}
    if isinstance(text, Mapping) and set(text) >= set(names) and all(isinstance(text[n], str) for n in names):
        return {name: text[name] for name in names}
    expected = f"a mapping with a text for each of {', '.join(names)}" if len(names) > 1 else "a text"
    raise GoldError(f"predict: got {text!r:.80}, expected {expected}")
