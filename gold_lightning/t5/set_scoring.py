"""Sets of labels by decoding that is held to them: the likeliest set, and the probability of each label.

A text of n labels may have any of 2^n sets, so they are not listed. The search goes from the beginning of the text to
longer ones, the likeliest first; after each, the softmax is over the tokens that some set has there. A set is never
likelier than its beginning, so the likeliest set is found for certain once no open beginning is likelier than it.

The probability of a label is that of all sets with it. The search ends when the beginnings that are still open have
less than a thousandth of the probability together, or after a number of steps.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gold_lightning.scores import mean_over_tokens
from gold_lightning.t5.batches import IGNORE_INDEX
from gold_lightning.t5.label_scoring import head_inputs
from gold_lightning.t5.modes import is_sharded
from gold_lightning.t5.set_tokens import Position, SetTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from gold_lightning.scores import OODScore

__all__ = ["SetScores", "score_sets"]

_OPEN = 1e-3
"""Probability of all sets that are not looked at; that of each label is too low by no more."""
_MOST = 256  # beginnings of a row that are looked at, if a whole set was found
_AT_ONCE = 8  # of them in one pass of the decoder, after the first whole set
_MAX_NUMBERS = 2**25  # states of the encoder or logits of one pass: 128 MiB in float32
_EQUAL = 1e-4  # sets whose log-probabilities differ by less are equally likely


@dataclass(frozen=True)
class SetScores:
    """The likeliest sets of labels for a batch of texts.

    Args:
        sets: The likeliest set of each row, as positions of labels; of equals, the first in lexicographic order.
        log_probs: (batch,) float32, natural logarithm of its probability in decoding that is held to sets of labels.
        labels: (batch, labels) float32, probability of each label: the sum over all sets with it that were looked at.
        open: (batch,) float32, probability of all sets that were not looked at. A label's probability may be higher by
            as much.
        tokens: (batch, target_len) int64, tokens of the likeliest set with its end, -100 after it.
        energies: (batch,) float32, score of the likeliest set, averaged over its tokens; ``None`` without a score.
        label_energies: Score of each label of the likeliest set by its position, averaged over the label's tokens, for
            each row.
    """

    sets: tuple[tuple[int, ...], ...]
    log_probs: Tensor
    labels: Tensor
    open: Tensor
    tokens: Tensor
    energies: Tensor | None = None
    label_energies: tuple[dict[int, float], ...] = ()


class _Beginning(NamedTuple):
    """The beginning of a text; the likeliest of several is the least."""

    cost: float  # its negative log-probability
    tokens: tuple[int, ...]
    position: Position
    steps: int  # tokens of it that were chosen among several


class _Row:
    """The search for one text."""

    def __init__(self, sets: SetTokens, best_only: bool) -> None:
        self.sets, self.best_only = sets, best_only
        self.open: list[_Beginning] = []
        self.whole: dict[tuple[int, ...], float] = {}
        self.best, self.looked_at = -math.inf, 0
        self._push(_Beginning(0.0, (), sets.start(), 0))

    def _push(self, beginning: _Beginning) -> None:
        """Adds a beginning with the tokens that must follow it."""
        cost, tokens, position, steps = beginning
        following = self.sets.following(position)
        while len(following) == 1 and position.labels is None:
            ((token, position),) = following.items()
            tokens, following = (*tokens, token), self.sets.following(position)
        if position.labels is None:
            heapq.heappush(self.open, _Beginning(cost, tokens, position, steps))
        else:
            self.whole[position.labels] = -cost
            self.best = max(self.best, -cost)

    @property
    def open_probability(self) -> float:
        """Probability of all texts that no whole set was found for."""
        return math.fsum(math.exp(-beginning.cost) for beginning in self.open)

    def take(self) -> list[_Beginning]:
        """Takes the beginnings to look at next; none if the search is over."""
        taken: list[_Beginning] = []
        if not self.whole:  # along the likeliest tokens, as greedy decoding does
            taken = [min(self.open, key=lambda b: (-b.steps, b.cost))]
            self.open.remove(taken[0])
            heapq.heapify(self.open)
        elif self.looked_at < _MOST and (self._may_be_best or (not self.best_only and self.open_probability > _OPEN)):
            while self.open and len(taken) < _AT_ONCE and (self._may_be_best or not self.best_only):
                taken.append(heapq.heappop(self.open))
        self.looked_at += len(taken)
        return taken

    @property
    def _may_be_best(self) -> bool:
        """Whether an open beginning may be that of the likeliest set."""
        return bool(self.open) and -self.open[0].cost >= self.best - _EQUAL

    def extend(self, beginning: _Beginning, logits: NDArray[np.float32]) -> None:
        """Adds what is longer than a beginning by a token.

        Args:
            beginning: The beginning.
            logits: (tokens,), of the next token for each of ``SetTokens.all``.
        """
        following = self.sets.following(beginning.position)
        values = logits[[self.sets.columns[token] for token in following]].astype(np.float64)
        values = values.max() + np.log(np.exp(values - values.max()).sum()) - values
        for (token, position), cost in zip(following.items(), values.tolist(), strict=True):
            self._push(_Beginning(beginning.cost + cost, (*beginning.tokens, token), position, beginning.steps + 1))

    def likeliest(self) -> tuple[int, ...]:
        """Returns the likeliest set, of equals the first."""
        return min(labels for labels, log_prob in self.whole.items() if log_prob >= self.best - _EQUAL)

    def label_probabilities(self) -> list[float]:
        """Returns the probability of each label in what was found."""
        weighted = [(labels, log_prob) for labels, log_prob in self.whole.items()]
        weighted += [(tuple(b.position.written), -b.cost) for b in self.open]
        return [math.fsum(math.exp(p) for labels, p in weighted if label in labels) for label in range(self.sets.count)]


@torch.no_grad()
def score_sets(
    model: PreTrainedModel,
    sets: SetTokens,
    batch: dict[str, Any],
    score: OODScore | None = None,
    *,
    best_only: bool = False,
) -> SetScores:
    """Searches the likeliest set of labels for each text of a batch.

    Args:
        model: The T5, in evaluation mode.
        sets: The tokens of the sets.
        batch: ``input_ids`` and ``attention_mask``, (batch, input_len).
        score: Score of the likeliest set's tokens.
        best_only: Look at no more than the likeliest set needs; the probabilities of labels are then too low.

    Returns:
        The scores, on the device of the batch.
    """
    mask: Tensor = batch["attention_mask"]
    start: Any = model.config.decoder_start_token_id
    encoded: Tensor | None = batch.get("encoder_states")
    if encoded is None:  # through the whole model, which gathers the weights of a sharded student
        encoded = model(
            input_ids=batch["input_ids"],
            attention_mask=mask,
            decoder_input_ids=torch.full_like(mask[:, :1], start),
            use_cache=False,
        ).encoder_last_hidden_state
    assert encoded is not None
    rows = [_Row(sets, best_only) for _ in mask]
    while True:
        taken = [(i, beginning) for i, row in enumerate(rows) for beginning in row.take()]
        if not _anyone(bool(taken), model, mask.device):
            break
        for part in _parts(taken, encoded, sets) if taken else [[(0, _Beginning(0.0, (), sets.start(), 0))]]:
            logits = _next_logits(model, sets, encoded, mask, part)
            if taken:
                for (i, beginning), values in zip(part, logits, strict=True):
                    rows[i].extend(beginning, values)
    return _result(model, sets, rows, encoded, mask, score)


def _anyone(searching: bool, model: PreTrainedModel, device: torch.device) -> bool:
    """Returns whether any process is searching: those of a sharded model compute together."""
    if not is_sharded(model):
        return searching
    flag = torch.tensor(int(searching), device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag)


_Taken = list[tuple[int, _Beginning]]


def _parts(taken: _Taken, encoded: Tensor, sets: SetTokens) -> Iterator[_Taken]:
    size = max(1, _MAX_NUMBERS // (encoded.shape[1] * encoded.shape[2]))
    for at in range(0, len(taken), size):
        yield taken[at : at + size]


def _next_logits(
    model: PreTrainedModel, sets: SetTokens, encoded: Tensor, mask: Tensor, taken: _Taken
) -> NDArray[np.float32]:
    """Returns the logits of the token after each beginning, (beginnings, tokens of ``sets.all``)."""
    device, start = mask.device, int(model.config.decoder_start_token_id)
    width = max(len(beginning.tokens) for _, beginning in taken) + 1
    inputs = [[start, *b.tokens, *[start] * (width - 1 - len(b.tokens))] for _, b in taken]
    which = torch.tensor([i for i, _ in taken], device=device)
    last = torch.tensor([len(b.tokens) for _, b in taken], device=device)
    of, columns = torch.arange(len(taken), device=device), torch.tensor(sets.all, device=device)
    arguments = {
        "encoder_outputs": (encoded[which],),
        "attention_mask": mask[which],
        "decoder_input_ids": torch.tensor(inputs, device=device),
        "use_cache": False,
    }
    if is_sharded(model):
        logits: Tensor = model(**arguments).logits[of, last][:, columns]
    else:
        head: Any = model.lm_head
        with head_inputs(head) as states:
            model(**arguments)
        bias = None if head.bias is None else head.bias[columns]
        logits = nn.functional.linear(states[0][of, last], head.weight[columns], bias)
    return np.asarray(logits.float().cpu().numpy())


def _result(
    model: PreTrainedModel,
    sets: SetTokens,
    rows: Sequence[_Row],
    encoded: Tensor,
    mask: Tensor,
    score: OODScore | None,
) -> SetScores:
    device = mask.device
    best = [row.likeliest() for row in rows]
    pieces = [sets.of(labels) for labels in best]
    tokens = nn.utils.rnn.pad_sequence(
        [torch.tensor([*itertools.chain(*of_row)]) for of_row in pieces], batch_first=True, padding_value=IGNORE_INDEX
    ).to(device)
    energies, by_label = None, list[dict[int, float]]()
    if score is not None:
        shift_right: Any = model._shift_right
        logits = model(
            encoder_outputs=(encoded,), attention_mask=mask, decoder_input_ids=shift_right(tokens), use_cache=False
        ).logits
        per_token = score.per_token(logits.float())
        energies = mean_over_tokens(per_token, tokens != IGNORE_INDEX)
        for labels, of_row, values in zip(best, pieces, per_token.tolist(), strict=True):
            ends = [*itertools.accumulate(map(len, of_row))]
            parts = [values[end - len(piece) : end] for end, piece in zip(ends, of_row, strict=True)]
            by_label.append({label: math.fsum(part) / len(part) for label, part in zip(labels, parts, strict=False)})
    return SetScores(
        tuple(best),
        torch.tensor([row.whole[labels] for row, labels in zip(rows, best, strict=True)], device=device),
        torch.tensor([row.label_probabilities() for row in rows], device=device),
        torch.tensor([row.open_probability for row in rows], device=device),
        tokens,
        energies,
        tuple(by_label),
    )
