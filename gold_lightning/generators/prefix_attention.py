"""Attention over a prompt that many rows share, computed and kept once for all of them.

A cache that repeats the shared prompt for each row costs its memory and, at every token written, its
bandwidth: for short samples behind long prompts that is most of the time. Here each group of rows keeps its
prompt's keys and values once; a row's own cache holds only what follows. The softmax runs over both parts
together, so the result is plain attention (the idea of cascade inference, Ye et al., 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["NAME", "PrefixGroup", "Witness", "register"]

NAME = "gold_shared_prefix"


@dataclass
class PrefixGroup:
    """Rows that share a prompt; they stand next to each other in the batch.

    Args:
        rows: Number of rows left in the batch.
        layers: Keys and values of each layer, (kv_heads, prefix_len, head_dim) each.
    """

    rows: int
    layers: Sequence[tuple[Tensor, Tensor]]


class Witness(list[PrefixGroup]):
    """No groups, but a note of which layers were told so: a model may drop what it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: set[int] = set()


def register() -> None:
    """Makes the attention known to transformers under :data:`NAME`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared_prefix: Sequence[PrefixGroup] = (),
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers' modules call it.

    Args:
        module: The attention module, for its ``layer_idx``.
        query: (batch, heads, query_len, head_dim).
        key: (batch, kv_heads, own_len, head_dim), what follows the shared prompt.
        value: (batch, kv_heads, own_len, value_dim).
        attention_mask: (batch, 1, query_len, own_len), added to the scores.
        scaling: Of the scores; head_dim ** -0.5 by default.
        dropout: Not used: this is for inference.
        shared_prefix: The groups, whose rows add up to the batch; none means plain attention.

    Returns:
        (batch, query_len, heads, value_dim), and no weights.
    """
    batch, heads, steps, dim = query.shape
    kv_heads = key.shape[1]
    per_kv = heads // kv_heads  # queries of one key head, in one matrix product
    layer: int = module.layer_idx  # type: ignore[assignment]
    if isinstance(shared_prefix, Witness):
        shared_prefix.layers.add(layer)
    if steps > 1 and attention_mask is not None:
        nothing = key[0, :, :0], value[0, :, :0]
        spans = [(rows, group.layers[layer]) for rows, group in _slices(shared_prefix)] or [(slice(None), nothing)]
        out = torch.cat(
            [_fused(query[at], key[at], value[at], attention_mask[at], scaling, prefix) for at, prefix in spans]
        )
        return out.transpose(1, 2).contiguous(), None
    scaled = (query * (dim**-0.5 if scaling is None else scaling)).reshape(batch, kv_heads, per_kv * steps, dim)
    own = (scaled @ key.transpose(-1, -2)).float()
    if attention_mask is not None:
        own = (own.view(batch, kv_heads, per_kv, steps, -1) + attention_mask[:, :, None]).view_as(own)
    width = max((group.layers[layer][0].shape[1] for group in shared_prefix), default=0)
    scores = own.new_full((batch, kv_heads, per_kv * steps, width), -torch.inf)
    for rows, group in _slices(shared_prefix):
        keys = group.layers[layer][0]
        flat = scaled[rows].transpose(0, 1).reshape(kv_heads, -1, dim)
        found = (flat @ keys.transpose(-1, -2)).view(kv_heads, group.rows, per_kv * steps, -1)
        scores[rows, :, :, : keys.shape[1]] = found.transpose(0, 1).float()
    weights = torch.softmax(torch.cat([scores, own], -1), -1).to(value.dtype)
    out = weights[..., width:] @ value
    for rows, group in _slices(shared_prefix):
        values = group.layers[layer][1]
        flat = weights[rows, :, :, : values.shape[1]].transpose(0, 1).reshape(kv_heads, -1, values.shape[1])
        out[rows] += (flat @ values).view(kv_heads, group.rows, per_kv * steps, -1).transpose(0, 1)
    return out.reshape(batch, heads, steps, -1).transpose(1, 2).contiguous(), None


def _fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None, prefix: tuple[Tensor, Tensor]
) -> Tensor:
    """Attention of one group's rows in torch's own kernel: of many queries, scores that are written down take longer.

    It reads one sequence of keys, so the prefix is repeated for each row: little beside their scores.

    Args:
        query: As those of :func:`attend`, of the group's rows alone; so are ``key``, ``value`` and ``mask``.
        key: See there.
        value: See there.
        mask: See there.
        scaling: Of the scores; head_dim ** -0.5 by default.
        prefix: Keys and values of what the rows share, (kv_heads, prefix_len, head_dim) each.

    Returns:
        (rows, heads, query_len, value_dim).
    """
    rows, heads, steps, dim = query.shape
    per_kv = heads // key.shape[1]
    keys, values = (part.expand(rows, -1, -1, -1) for part in prefix)
    hidden = torch.nn.functional.pad(mask, (prefix[0].shape[1], 0)).expand(rows, -1, -1, -1)
    out = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(rows, -1, per_kv * steps, dim),  # the queries of one key head in one sequence
        torch.cat([keys, key], 2),
        torch.cat([values, value], 2),
        attn_mask=hidden.repeat(1, 1, per_kv, 1),
        scale=scaling,
    )
    return out.reshape(rows, heads, steps, -1)


def _slices(groups: Sequence[PrefixGroup]) -> list[tuple[slice, PrefixGroup]]:
    found, at = [], 0
    for group in groups:
        if group.rows:
            found.append((slice(at, at + group.rows), group))
        at += group.rows
    return found
