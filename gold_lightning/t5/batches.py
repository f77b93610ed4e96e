"""Batches for the student: token ids of samples, and the loader that yields them.

A batch is the contract between data and student. It contains

- ``id``: (batch,) int64, position of each row in its data set, or :data:`PADDING` for a row that must not count;
- ``input_ids``, ``attention_mask``: (batch, input_len) int64;
- ``labels``: (batch, target_len) int64, -100 on padding;
- ``targets``: a tuple per row with all accepted texts, as the task spells them; ``labels`` encode the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from gold_lightning.errors import GoldError
from gold_lightning.t5.weights import target_text
from gold_lightning.task import Sample, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IGNORE_INDEX", "PADDING", "Text", "collate", "encode_inputs", "fields_of", "make_loader"]

IGNORE_INDEX = -100
"""Token of padding in targets, which PyTorch's losses ignore."""

Text = str | Mapping[str, str]
"""An input of the student: the text of the task's only field, or a mapping from each field's name to its text."""

PADDING = -1
"""Id of a padding row; the loss ignores all its tokens."""


class _Rows(Dataset[dict[str, Any]]):
    """Samples in a given order. A row's id is its position in ``samples``, independent of the order."""

    def __init__(self, samples: Sequence[Sample], order: Sequence[int] | None = None) -> None:
        self.samples = samples
        self.order = list(range(len(samples))) if order is None else order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, at: int) -> dict[str, Any]:
        if at == PADDING:
            return {"id": PADDING, "sample": self.samples[self.order[0]]}
        return {"id": self.order[at], "sample": self.samples[self.order[at]]}


class _Share(DistributedSampler[Any]):
    """One process's share of the rows, in order; all shares have the same size.

    If the rows do not divide evenly, PyTorch's sampler repeats the first ones, which would train on them twice. This
    sampler yields padding rows.
    """

    def __iter__(self) -> Iterator[int]:
        rows = len(self.dataset)  # type: ignore[arg-type]
        places = range(self.rank, self.total_size, self.num_replicas)
        return (at if at < rows else PADDING for at in places)


def collate(rows: Sequence[dict[str, Any]], *, task: Task, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Tokenizes samples into a batch; the module's docstring lists its entries.

    Args:
        rows: Mappings with ``id`` and ``sample``.
        task: The task, with the templates and length limits.
        tokenizer: The student's tokenizer.
    """
    labels = tokenizer(
        [target_text(tokenizer, task.student_target(r["sample"].target)) for r in rows],
        max_length=task.student.max_target_tokens,
        truncation=True,
        padding=True,
        padding_side="right",  # the decoder has no mask for padding before a target
        return_tensors="pt",
    )
    ids = torch.tensor([r["id"] for r in rows])
    padding = (ids == PADDING)[:, None]
    return {
        "id": ids,
        **encode_inputs([r["sample"] for r in rows], task, tokenizer),
        "labels": labels.input_ids.masked_fill((labels.attention_mask == 0) | padding, IGNORE_INDEX),
        "targets": [r["sample"].targets for r in rows],
    }


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
    samples: Sequence[Sample],
    batch_size: int,
    order: Sequence[int] | None = None,
    shares: tuple[int, int] = (1, 0),
) -> DataLoader[dict[str, Any]]:
    """Returns a loader of batches.

    Args:
        task: The task.
        tokenizer: The student's tokenizer.
        samples: The samples.
        batch_size: Rows in a batch, per process.
        order: Positions in ``samples``; ``None`` keeps their order.
        shares: Number of processes that share the rows, and the rank of this one. A step of n processes equals a step
            of one process with n times the batch size. Lightning's own training sampler would shuffle and repeat rows.
    """
    rows = _Rows(samples, order)
    sampler = _Share(rows, *shares, shuffle=False) if shares[0] > 1 else None
    collate_fn = partial(collate, task=task, tokenizer=tokenizer)
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
