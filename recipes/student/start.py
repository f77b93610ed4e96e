"""The student's first weights, taken from the teacher's layers in closed form.

A BERT normalises the sum after each sublayer, has biases, and knows positions from its embeddings. A T5 normalises what
goes into a sublayer, never the sum, has no biases, and adds a bias of relative positions to the attention's logits. Yet
one can be turned into the other, nearly:

- Standard deviations of the sums hardly differ between tokens (5 to 15 % in all layers but the last). So a BERT's norm
  is nearly a fixed scale, and the T5's stream may hold the BERT's state times a known vector.
- States share a large mean, so there is a direction c with ``state @ c`` = 1 to within 3 to 5 %. A bias b then is the
  matrix b c^T.
- What heads think of positions is the mean of their logits at each distance. T5's layers share one table of it, so
  each layer's heads are put in the order in which they agree best.

What this leaves (no [CLS], other tokens, norms that do depend on the token) is learnt in training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

_FIRST = 3  # the first token that is not special; 100 sentinels end the vocabulary
_SENTINELS = 100


def student_config(bert: Any, vocab_size: int, layers: int, decoder_layers: int) -> T5Config:
    """A plain T5 of the teacher's widths."""
    config = T5Config(
        vocab_size=vocab_size,
        d_model=bert.hidden_size,
        d_kv=bert.hidden_size // bert.num_attention_heads,
        num_heads=bert.num_attention_heads,
        d_ff=bert.intermediate_size,
        num_layers=layers,
        num_decoder_layers=decoder_layers,
        dropout_rate=0.0,
        feed_forward_proj=bert.hidden_act,
        pad_token_id=0,
        eos_token_id=1,
    )
    config.decoder_start_token_id = 0
    return config


@torch.no_grad()
def copy_encoder(
    model: T5ForConditionalGeneration,
    bert: nn.Module,
    bert_tokenizer: PreTrainedTokenizerBase,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    layers: Sequence[int],
) -> Tensor:
    """Turns layers of a BERT into the encoder of a T5, embeddings included.

    Args:
        model: The T5, of the BERT's widths.
        bert: The BERT, on any device; a GPU reads the texts in seconds.
        bert_tokenizer: Its tokenizer.
        tokenizer: The T5's: byte-level BPE, special tokens first, sentinels last.
        texts: A few hundred texts, to see what the layers do.
        layers: The BERT's layers that become the T5's, in order.

    Returns:
        A direction c, (width,), with ``encoder_state @ c`` near 1 everywhere.
    """
    seen = _record(bert, bert_tokenizer, texts)
    positions = _positions(bert, bert_tokenizer, texts, model.config)
    bert.cpu()
    model.shared.weight.copy_(_embeddings(model, bert, bert_tokenizer, tokenizer, seen[0]["states"].mean(0)))
    table, orders = _shared_positions(positions[list(layers)])
    model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.copy_(table)
    width = model.config.d_kv
    scale = torch.ones(model.config.d_model)
    for block, at, order in zip(model.encoder.block, layers, orders, strict=True):
        layer, saw = bert.encoder.layer[at], seen[at]
        rows = (order[:, None] * width + torch.arange(width)).flatten()
        ours, theirs = block.layer[0].SelfAttention, layer.attention.self
        gain, one = _enter(scale, saw["states"])
        block.layer[0].layer_norm.weight.copy_(gain)
        for own, other in ((ours.q, theirs.query), (ours.k, theirs.key), (ours.v, theirs.value)):
            own.weight.copy_((other.weight + torch.outer(other.bias, one))[rows])
        ours.q.weight /= math.sqrt(width)  # T5 does not scale its logits
        out, scale = _leave(scale, layer.attention.output, saw["mixed"], saw["attended"])
        ours.o.weight.copy_(out[:, rows])

        ours, theirs = block.layer[1].DenseReluDense, layer.intermediate.dense
        gain, one = _enter(scale, saw["between"])
        block.layer[1].layer_norm.weight.copy_(gain)
        ours.wi.weight.copy_(theirs.weight + torch.outer(theirs.bias, one))
        out, scale = _leave(scale, layer.output, saw["hidden"], saw["added"])
        ours.wo.weight.copy_(out)
    last = bert.encoder.layer[layers[-1]].output.LayerNorm(seen[layers[-1]]["added"])
    gain, one = _enter(scale, last)
    model.encoder.final_layer_norm.weight.copy_(gain)
    return one


@torch.no_grad()
def read_out(model: T5ForConditionalGeneration, words: Tensor, ids: Tensor, vectors: Tensor, one: Tensor) -> Tensor:
    """Has the decoder's first step tell which words are like the text, by uniform attention and one matrix.

    Args:
        model: The T5, its encoder done.
        words: Unit vectors of the vocabulary's words, centred, (words, width).
        ids: Their tokens, (words,).
        vectors: Mean states of some texts, (texts, width).
        one: What :func:`copy_encoder` gave.

    Returns:
        The matrix that makes the decoder's first state the text's centred vector again, (width, width).
    """
    width = model.config.d_model
    mean = vectors.mean(0)
    centred = nn.functional.normalize(vectors - mean, dim=1)
    table = model.shared.weight[ids]
    table = table - table.mean(0)
    matrix = _ridge(table, words)  # table @ (matrix @ vector) = words @ vector
    state = nn.functional.normalize(centred @ matrix.T, dim=1) * width**0.5
    logits, wanted = state @ table.T / width**0.5, centred @ words.T / 0.05
    logits, wanted = (x - x.mean(1, keepdim=True) for x in (logits, wanted))
    gain = (logits * wanted).sum() / logits.square().sum()
    for name, weight in model.decoder.named_parameters():
        if name.endswith((".o.weight", ".wo.weight")):
            weight *= 0.1
    cross = model.decoder.block[-1].layer[1].EncDecAttention
    cross.q.weight *= 0.1
    cross.v.weight.copy_(torch.eye(width))
    cross.o.weight.copy_(20 * matrix @ (torch.eye(width) - torch.outer(mean, one)))
    model.decoder.final_layer_norm.weight.fill_(gain)
    model.shared.weight[0] = 0.02 * torch.randn(width)  # what the decoder begins with
    return _ridge(gain * state, centred, 1e-4).T


@torch.no_grad()
def fit_read_out(
    model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], vectors: Tensor
) -> Tensor:
    """The matrix that reads the texts' centred vectors from a student's first decoder state, by least squares.

    Args:
        model: A student, in evaluation mode.
        tokenizer: Its own.
        texts: Some texts.
        vectors: The teacher's mean states of them, (texts, width).

    Returns:
        (width, width), as :func:`read_out` gives it.
    """
    states = []
    for at in range(0, len(texts), 64):
        read = tokenizer(list(texts[at : at + 64]), padding=True, return_tensors="pt")
        first = torch.zeros(len(read.input_ids), 1, dtype=torch.long)
        out = model(
            input_ids=read.input_ids,
            attention_mask=read.attention_mask,
            decoder_input_ids=first,
            output_hidden_states=True,
        )
        states.append(out.decoder_hidden_states[-1][:, 0])
    return _ridge(torch.cat(states), nn.functional.normalize(vectors - vectors.mean(0), dim=1), 1e-3).T


@torch.no_grad()
def grow(
    model: T5ForConditionalGeneration,
    student: T5ForConditionalGeneration,
    layers: Sequence[int],
    trained: Sequence[int],
    share: float,
) -> None:
    """Puts a trained student of fewer layers into a model; its missing layers begin as the teacher's.

    Args:
        model: The T5 to grow into, its encoder made by :func:`copy_encoder` with the student's tokenizer.
        student: The smaller T5. All of its weights are copied.
        layers: The teacher's layers that the model's encoder began as.
        trained: Those of them that the student's encoder began as, in the same order.
        share: How much of their output the missing layers add to the stream: 0 leaves the student's function as it is.
    """
    begun = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.T.clone()
    model.shared.load_state_dict(student.shared.state_dict())
    model.decoder.load_state_dict(student.decoder.state_dict())
    model.encoder.final_layer_norm.load_state_dict(student.encoder.final_layer_norm.state_dict())
    blocks = dict(zip(layers, model.encoder.block, strict=True))
    table = student.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
    for layer, block in zip(trained, student.encoder.block, strict=True):
        blocks.pop(layer).load_state_dict(block.state_dict(), strict=False)  # the first block alone has the table
    model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.load_state_dict(table.state_dict())
    order = torch.as_tensor(linear_sum_assignment(torch.cdist(table.weight.T, begun) ** 2)[1])
    rows = (order[:, None] * model.config.d_kv + torch.arange(model.config.d_kv)).flatten()
    for block in blocks.values():
        attention = block.layer[0].SelfAttention
        for part in (attention.q, attention.k, attention.v):
            part.weight.copy_(part.weight[rows].clone())
        attention.o.weight.copy_(share * attention.o.weight[:, rows])
        block.layer[1].DenseReluDense.wo.weight *= share


# Parts


def _ridge(x: Tensor, y: Tensor, ridge: float = 1e-2) -> Tensor:
    """Least squares: (in, out) with ``x @ it`` near ``y``; ``ridge`` in units of the mean square of ``x``."""
    gram = x.T @ x
    return torch.linalg.solve(gram + ridge * gram.diagonal().mean() * torch.eye(len(gram)), x.T @ y)


def _constant(x: Tensor) -> Tensor:
    """The direction c, (features,), along which all rows of ``x`` have nearly the same, ``x @ c`` = 1."""
    return _ridge(x, torch.ones(len(x), 1)).squeeze(1)


def _enter(scale: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Gain of the norm that gives back ``states`` from the stream, and the constant direction of its output."""
    sizes = (scale * states).square().mean(1, keepdim=True).sqrt()
    return sizes.mean() / scale, _constant(states * (sizes.mean() / sizes))


def _leave(scale: Tensor, sublayer: Any, inner: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
    """Output matrix of a sublayer that adds to the stream, and the stream's scale after the norm that T5 lacks."""
    norm = sublayer.LayerNorm
    after = scale * added.std(1).mean() / norm.weight.clamp(min=0.05)
    shift = scale * (sublayer.dense.bias - added.mean()) + after * norm.bias
    return scale[:, None] * sublayer.dense.weight + torch.outer(shift, _constant(inner)), after


def _record(bert: Any, tokenizer: Any, texts: Sequence[str]) -> list[dict[str, Tensor]]:
    """What goes into the parts of each layer, (tokens, features), at all tokens but [CLS] and [SEP]."""
    seen: list[dict[str, list[Tensor]]] = [{} for _ in bert.encoder.layer]
    with ExitStack() as hooks:
        for found, layer in zip(seen, bert.encoder.layer, strict=True):
            parts = {
                "states": layer.attention.self.query,
                "mixed": layer.attention.output.dense,
                "attended": layer.attention.output.LayerNorm,
                "between": layer.intermediate.dense,
                "hidden": layer.output.dense,
                "added": layer.output.LayerNorm,
            }
            for name, part in parts.items():
                kept = found.setdefault(name, [])
                hook = part.register_forward_hook(lambda _, given, __, kept=kept: kept.append(given[0].cpu()))
                hooks.callback(hook.remove)
        inside = []
        for at in range(0, len(texts), 64):
            read = tokenizer(list(texts[at : at + 64]), padding=True, return_tensors="pt")
            bert(**read.to(bert.device))
            read = read.to("cpu")
            ends = torch.isin(read.input_ids, torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id]))
            inside.append(read.attention_mask.bool() & ~ends)
    return [{k: torch.cat([x[m] for x, m in zip(v, inside, strict=True)]) for k, v in found.items()} for found in seen]


def _embeddings(model: Any, bert: Any, theirs: Any, ours: Any, mean: Tensor) -> Tensor:
    """For each token the mean of the teacher's first states of the pieces of the same text, (vocab, width)."""
    parts = bert.embeddings
    place = parts.position_embeddings.weight[1:33].mean(0) + parts.token_type_embeddings.weight[0]
    table = parts.LayerNorm(parts.word_embeddings.weight + place)
    pieces = theirs.get_vocab()
    out = mean.repeat(model.config.vocab_size, 1)
    for i in range(_FIRST, model.config.vocab_size - _SENTINELS):
        text = ours.decode([i])
        string = text.strip().lower()
        if not string or "\ufffd" in string:  # part of a character
            continue
        inside = pieces.get("##" + string) if text == text.lstrip() else None  # goes on with a word
        found = [inside] if inside is not None else theirs(string, add_special_tokens=False).input_ids
        if found:
            out[i] = table[found].mean(0)
    out[1] = table[theirs.sep_token_id]
    return out


def _positions(bert: Any, tokenizer: Any, texts: Sequence[str], config: T5Config) -> Tensor:
    """Mean logit of each head at each of T5's buckets of distance, less its row's mean: (layers, heads, buckets)."""
    buckets, heads = config.relative_attention_num_buckets, config.num_heads
    total = torch.zeros(len(bert.encoder.layer), heads, buckets)
    count = torch.zeros(buckets)
    given: dict[tuple[int, str], Tensor] = {}
    with ExitStack() as hooks:
        for i, layer in enumerate(bert.encoder.layer):
            for name in ("query", "key"):
                part = getattr(layer.attention.self, name)
                hook = part.register_forward_hook(lambda _, __, out, at=(i, name): given.__setitem__(at, out.cpu()))
                hooks.callback(hook.remove)
        for text in texts:
            bert(**tokenizer([text], return_tensors="pt").to(bert.device))
            length = given[0, "query"].shape[1] - 2  # without [CLS] and [SEP]
            at = torch.arange(length)
            bucket = T5Attention._relative_position_bucket(
                at[None] - at[:, None], num_buckets=buckets, max_distance=config.relative_attention_max_distance
            ).flatten()
            for i in range(len(total)):
                q, k = (given[i, n][0, 1:-1].view(length, heads, -1).transpose(0, 1) for n in ("query", "key"))
                logits = q @ k.transpose(1, 2) / math.sqrt(config.d_kv)
                total[i].index_add_(1, bucket, (logits - logits.mean(2, keepdim=True)).flatten(1))
            count.index_add_(0, bucket, torch.ones(len(bucket)))
    return (total / count.clamp(min=1)).clamp(-6, 6)  # one head looks at its neighbour alone, by 29


def _shared_positions(logits: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One table, (buckets, heads), for all layers, and the order of each layer's heads that fits it best."""
    best: tuple[float, Tensor, list[Tensor]] | None = None
    for first in logits:
        shared = first
        for _ in range(20):
            orders = [torch.as_tensor(linear_sum_assignment(torch.cdist(shared, own) ** 2)[1]) for own in logits]
            placed = torch.stack([own[order] for own, order in zip(logits, orders, strict=True)])
            shared = placed.mean(0)
        error = float((placed - shared).square().mean())
        if best is None or error < best[0]:
            best = error, shared.T.contiguous(), orders
    assert best is not None
    return best[1], best[2]
