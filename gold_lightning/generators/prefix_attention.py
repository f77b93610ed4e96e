"""Attention over a prompt that many rows share, computed and stored once for all of them.

A cache that repeats the shared prompt for each row costs memory and, at every token written, memory bandwidth: for
short samples behind long prompts that is most of the time. Here each group of rows stores the keys and values of its
prompt once, and a row's own cache holds only what follows. The softmax runs over both parts together, so the result
equals plain attention (the idea of cascade inference, Ye et al., 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PrefixGroup", "attend", "attend_plainly", "common_length", "compute_prefix", "supports_prefix"]

_NAME = "gold_shared_prefix"  # under which transformers knows the attention
_CHUNK_TOKENS = 1024  # of a shared prompt computed in one pass: the cost of attention grows with their square
_SUPPORTS_PREFIX: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # by model


@dataclass
class PrefixGroup:
    """Neighbouring rows of a batch that share a prompt.

    Args:
        rows: Number of rows left in the batch.
        layers: Keys and values of each layer, (kv_heads, prefix_len, head_dim) each.
    """

    rows: int
    layers: Sequence[tuple[Tensor, Tensor]]


class _Probe(list[PrefixGroup]):
    """No groups, but records the layers that receive it: some models drop arguments unknown to them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: set[int] = set()


def supports_prefix(model: PreTrainedModel) -> bool:
    """Whether the model can attend to a shared prompt stored apart; switches it to :func:`attend` if so.

    That takes full attention in every layer, and a model that hands its attention the argument ``shared_prefix``.
    """
    config = model.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    sliding = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    if set(kinds) != {"full_attention"} or (sliding and not hasattr(config, "layer_types")):
        return False
    if not getattr(model, "_supports_attention_backend", False):
        return False
    if model not in _SUPPORTS_PREFIX:
        from transformers import AttentionInterface

        AttentionInterface.register(_NAME, attend)
        model.set_attn_implementation(_NAME)
        probe = _Probe()
        one_token = torch.ones(1, 1, dtype=torch.long, device=model.device)
        try:
            model(input_ids=one_token, use_cache=False, shared_prefix=probe)
        except TypeError:  # an unknown argument
            _SUPPORTS_PREFIX[model] = False
        else:
            # Some models accept any attention implementation and still compute their own.
            _SUPPORTS_PREFIX[model] = len(probe.layers) == config.get_text_config().num_hidden_layers
    if _SUPPORTS_PREFIX[model]:
        model.set_attn_implementation(_NAME)
    return _SUPPORTS_PREFIX[model]


def attend_plainly(model: PreTrainedModel) -> None:
    """Switches the model to an attention of transformers itself."""
    try:
        model.set_attn_implementation("sdpa")
    except ValueError:  # torch has no kernel for this form of attention
        model.set_attn_implementation("eager")


def compute_prefix(model: PreTrainedModel, tokens: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Computes the keys and values of a shared prompt.

    Returns:
        Keys and values by layer, (kv_heads, tokens, head_dim) each; nothing if there are no tokens.
    """
    from transformers import DynamicCache

    cache = DynamicCache()
    for start in range(0, len(tokens), _CHUNK_TOKENS):
        end = min(start + _CHUNK_TOKENS, len(tokens))
        hidden = torch.full((end - start, end), torch.finfo(model.dtype).min, dtype=model.dtype, device=model.device)
        model(
            input_ids=torch.tensor([tokens[start:end]], device=model.device),
            attention_mask=hidden.triu_(1 + start)[None, None],
            position_ids=torch.arange(start, end, device=model.device)[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return [(x.keys[0], x.values[0]) for x in cache.layers]  # type: ignore[union-attr, index]


def common_length(prompts: Sequence[list[int]]) -> int:
    """Number of tokens that all prompts begin with, less at least one token of each prompt."""
    first, last = min(prompts), max(prompts)
    limit = min(map(len, prompts)) - 1
    size = 0
    while size < limit and first[size] == last[size]:
        size += 1
    return size


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
    """Attention with the signature that transformers' modules call.

    Args:
        module: The attention module, for its ``layer_idx``.
        query: (batch, heads, query_len, head_dim).
        key: (batch, kv_heads, own_len, head_dim), of the tokens after the shared prompt.
        value: (batch, kv_heads, own_len, value_dim).
        attention_mask: (batch, 1, query_len, own_len), added to the scores.
        scaling: Factor of the scores; head_dim ** -0.5 by default.
        dropout: Ignored: this is for inference.
        shared_prefix: Groups whose rows add up to the batch; none for plain attention.

    Returns:
        (batch, query_len, heads, value_dim), and ``None`` in place of the weights.
    """
    batch, heads, steps, dim = query.shape
    kv_heads = key.shape[1]
    per_kv = heads // kv_heads  # queries of one key head, in one matrix product
    layer: int = module.layer_idx  # type: ignore[assignment]
    if isinstance(shared_prefix, _Probe):
        shared_prefix.layers.add(layer)
    if steps > 1 and attention_mask is not None:
        empty = key[0, :, :0], value[0, :, :0]
        spans = [(rows, group.layers[layer]) for rows, group in _slices(shared_prefix)] or [(slice(None), empty)]
        out = torch.cat(
            [
                _fused(query[rows], key[rows], value[rows], attention_mask[rows], scaling, prefix)
                for rows, prefix in spans
            ]
        )
        return out.transpose(1, 2).contiguous(), None
    scaled = (query * (dim**-0.5 if scaling is None else scaling)).reshape(batch, kv_heads, per_kv * steps, dim)
    suffix_scores = (scaled @ key.transpose(-1, -2)).float()
    if attention_mask is not None:
        suffix_scores = (suffix_scores.view(batch, kv_heads, per_kv, steps, -1) + attention_mask[:, :, None]).view_as(
            suffix_scores
        )
    width = max((group.layers[layer][0].shape[1] for group in shared_prefix), default=0)
    scores = suffix_scores.new_full((batch, kv_heads, per_kv * steps, width), -torch.inf)
    for rows, group in _slices(shared_prefix):
        keys = group.layers[layer][0]
        flat = scaled[rows].transpose(0, 1).reshape(kv_heads, -1, dim)
        products = (flat @ keys.transpose(-1, -2)).view(kv_heads, group.rows, per_kv * steps, -1)
        scores[rows, :, :, : keys.shape[1]] = products.transpose(0, 1).float()
    weights = torch.softmax(torch.cat([scores, suffix_scores], -1), -1).to(value.dtype)
    out = weights[..., width:] @ value
    for rows, group in _slices(shared_prefix):
        values = group.layers[layer][1]
        flat = weights[rows, :, :, : values.shape[1]].transpose(0, 1).reshape(kv_heads, -1, values.shape[1])
        out[rows] += (flat @ values).view(kv_heads, group.rows, per_kv * steps, -1).transpose(0, 1)
    return out.reshape(batch, heads, steps, -1).transpose(1, 2).contiguous(), None


def _fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None, prefix: tuple[Tensor, Tensor]
) -> Tensor:
    """Attention of one group's rows in torch's fused kernel, which is faster for many queries than explicit scores.

    The kernel reads one sequence of keys, so the prefix is repeated for each row: little memory beside explicit scores.
    Arguments are those of :func:`attend` for the group's rows, and the group's keys and values.

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
    slices, start = [], 0
    for group in groups:
        if group.rows:
            slices.append((slice(start, start + group.rows), group))
        start += group.rows
    return slices
