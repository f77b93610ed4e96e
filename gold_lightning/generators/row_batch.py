"""A batch of prompts being decoded, with what rows share computed and stored once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gold_lightning.generators.base import Request
from gold_lightning.generators.prefix_attention import (
    PrefixGroup,
    attend_plainly,
    common_length,
    compute_prefix,
    supports_prefix,
)

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

__all__ = ["RowBatch"]

# A group takes a pass of its own over its prompt, and some work in each layer at every step: too much for a batch of
# at least so many groups with fewer rows than so many on average.
_MANY_GROUPS, _FEWEST_ROWS = 8, 4


@dataclass
class RowBatch:
    """Rows in flight. The cache holds what follows the shared prompts, except for each row's next token.

    Args:
        model: The model.
        cache: Keys and values of the rows' own tokens.
        groups: Rows that share a prompt, with its keys and values; empty if nothing is shared.
        mask: (rows, cached tokens), 1 for tokens and 0 for padding.
        position: (rows,), position of the last token.
        logits: (rows, vocab), of the next token.
    """

    model: PreTrainedModel
    cache: DynamicCache
    groups: list[PrefixGroup]
    mask: Tensor
    position: Tensor
    logits: Tensor

    @staticmethod
    def prefill(requests: Sequence[Request], prompts: Sequence[list[int]], model: PreTrainedModel) -> RowBatch:
        """Computes each group's common prompt once, then the rest of all rows together, up to the last token.

        Args:
            requests: The requests. Those with the same ``prefix`` form a group if they are neighbours.
            prompts: Their tokens.
            model: The model.
        """
        spans = _spans(requests, prompts) if supports_prefix(model) else []
        if not spans:
            attend_plainly(model)
            return _append(RowBatch._empty(model, [], [0] * len(prompts)), prompts)
        if len(spans) < _MANY_GROUPS or len(prompts) >= _FEWEST_ROWS * len(spans):
            groups = [PrefixGroup(rows, compute_prefix(model, prompts[at][:size])) for at, rows, size in spans]
            sizes = [size for _, rows, size in spans for _ in range(rows)]
            return _append(RowBatch._empty(model, groups, sizes), _tails(prompts, sizes))
        # Many small groups: one pass over all their prompts, whose keys and values each row then has for itself.
        shortest = min(size for *_, size in spans)
        common = min(common_length(prompts), shortest - 1)
        beginnings = [prompts[at][common:size] for at, _, size in spans]
        prefix = compute_prefix(model, prompts[0][:common])
        if not prefix:
            attend_plainly(model)
        shared = [PrefixGroup(len(spans), prefix)] if prefix else []
        batch = _append(RowBatch._empty(model, shared, [common] * len(spans)), beginnings)
        batch = batch.copies([row for row, (_, rows, _) in enumerate(spans) for _ in range(rows)])
        batch.groups = [PrefixGroup(len(prompts), prefix)] if prefix else []
        return _append(batch, _tails(prompts, [size for _, rows, size in spans for _ in range(rows)]))

    @staticmethod
    def _empty(model: PreTrainedModel, groups: list[PrefixGroup], sizes: Sequence[int]) -> RowBatch:
        """Rows whose prompts' first tokens, as many as ``sizes``, the groups hold, and nothing else."""
        from transformers import DynamicCache

        mask = torch.zeros(len(sizes), 0, dtype=torch.long, device=model.device)
        position = torch.tensor(sizes, device=model.device) - 1
        no_logits = torch.zeros(0, dtype=model.dtype, device=model.device)
        return RowBatch(model, DynamicCache(), groups, mask, position, no_logits)

    def copies(self, rows: Sequence[int]) -> RowBatch:
        """A batch of copied rows, in which nothing is shared; a row may be named more than once."""
        from transformers import DynamicCache

        index = torch.tensor(rows, device=self.mask.device)
        layers = [(x.keys[index], x.values[index]) for x in self.cache.layers]  # type: ignore[union-attr, index]
        return RowBatch(
            self.model, DynamicCache(layers), [], self.mask[index], self.position[index], self.logits[index]
        )

    def select(self, rows: Sequence[int]) -> None:
        """Drops all rows but these, which are in ascending order."""
        index = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask, self.position, self.logits = self.mask[index], self.position[index], self.logits[index]
        ends = list(itertools.accumulate(group.rows for group in self.groups))
        for group, end in zip(self.groups, ends, strict=True):
            start = end - group.rows
            group.rows = sum(start <= row < end for row in rows)

    def step(self, tokens: Tensor, real: Tensor, logits_to_keep: int = 0) -> Tensor:
        """Appends tokens to the rows.

        Args:
            tokens: (rows, steps).
            real: (rows, steps), 1 for tokens and 0 for padding.
            logits_to_keep: Number of last steps whose logits are returned; 0 for all.

        Returns:
            (rows, kept steps, vocab), the logits after each step.
        """
        cached = self.mask.shape[1]
        self.mask = torch.cat([self.mask, real], 1)
        positions = self.position[:, None] + real.cumsum(1)
        self.position = positions[:, -1]
        mask: Tensor = self.mask
        shared: dict[str, Any] = {}
        if self.groups:
            steps = tokens.shape[1]
            hidden = (self.mask == 0)[:, None, :].expand(-1, steps, -1).clone()
            hidden[:, :, cached:] |= torch.ones(steps, steps, dtype=torch.bool, device=hidden.device).triu(1)
            mask = torch.zeros(hidden.shape, dtype=self.logits.dtype, device=hidden.device)
            mask = mask.masked_fill_(hidden, torch.finfo(self.logits.dtype).min)[:, None]
            shared["shared_prefix"] = self.groups
        logits: Tensor = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions.clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
            **shared,
        ).logits
        return logits


def _spans(requests: Sequence[Request], prompts: Sequence[list[int]]) -> list[tuple[int, int, int]]:
    """First row, number of rows and common length of each group of neighbours with the same prompt.

    Nothing if a group has nothing in common, which is rare: then no row of the batch shares anything.
    """
    spans, start = [], 0
    for _, members in itertools.groupby(requests, key=lambda r: (r.system, r.prefix)):
        rows = len(list(members))
        spans.append((start, rows, common_length(prompts[start : start + rows])))
        start += rows
    return spans if all(size for *_, size in spans) else []


def _tails(prompts: Sequence[list[int]], sizes: Sequence[int]) -> list[list[int]]:
    return [ids[size:] for ids, size in zip(prompts, sizes, strict=True)]


def _append(batch: RowBatch, tails: Sequence[list[int]]) -> RowBatch:
    """Appends to each row its tokens, padded before them to the longest, and keeps the logits after the last."""
    device, width = batch.mask.device, max(map(len, tails))
    tokens = torch.zeros(len(tails), width, dtype=torch.long, device=device)
    real = torch.zeros_like(tokens)
    for row, tail in enumerate(tails):
        tokens[row, width - len(tail) :] = torch.tensor(tail, device=device)
        real[row, width - len(tail) :] = 1
    batch.logits = batch.step(tokens, real, logits_to_keep=1)[:, -1]
    return batch
