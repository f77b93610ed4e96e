"""Exact log-probabilities of labels: each text is encoded once, then the decoder scores all labels together.

The labels' tokens form a tree of prefixes. Its nodes follow each other in one decoder sequence, in which each node
sees its ancestors alone (tree attention, Miao et al., 2024), so a prefix that labels share is computed once. T5 adds a
bias to attention by the distance of two positions; the attention mask replaces the distance in the sequence by the
distance in the tree.

A label's probability is that of decoding which is held to the labels: at each node, the softmax over the tokens that
may follow it. Tokens that no label has take no part. With a softmax over the whole vocabulary a label of many tokens
would lose a little at each, and be chosen less often than its first token deserves.

At each node only the logits of the labels' tokens are computed; those of the whole vocabulary, which the score needs,
only along the best label. If only the best label is wanted, most nodes need none: a label is never likelier than its
beginning, so a prefix less likely than a whole label is not continued. The best label is exact all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gold_lightning.scores import mean_over_tokens
from gold_lightning.t5.batches import IGNORE_INDEX
from gold_lightning.t5.modes import is_sharded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from gold_lightning.scores import OODScore

__all__ = ["LabelScores", "LabelTree", "head_inputs", "label_log_probs", "score_labels"]

_MAX_LOGITS = 2**25
"""Most logits or attention weights of one pass, of all rows and nodes: 128 MiB in float32."""

_SMALL = 8  # nodes of a tree that is computed whole: several passes would take longer
_MAX_OPEN = 16  # nodes of a row that the search computes in a pass: each may rule out others
_NONE = -1  # no node
EQUAL = 1e-4  # labels whose log-probabilities differ by less are equally likely: sums are rounded by about as much


@dataclass(frozen=True)
class LabelScores:
    """Log-probabilities of labels for a batch of texts.

    Args:
        log_probs: (batch, labels) float32, natural logarithm of the probability of each label in decoding that is held
            to the labels; -inf for labels that were ruled out, if only the best was wanted. The probabilities of all
            labels sum to 1.
        best: (batch,) int64, position of the likeliest label; the first of equals.
        tokens: (batch, target_len) int64, tokens of the best label with its end, -100 after it.
        energies: (batch,) float32, score of the best label, averaged over its tokens; ``None`` without a score.
    """

    log_probs: Tensor
    best: Tensor
    tokens: Tensor
    energies: Tensor | None = None


class LabelTree:
    """The distinct prefixes of labels. Node 0 is the empty prefix; an edge is a token that follows a node.

    Args:
        labels: Token ids of each label, its end token included; at least one label.
        start: Token that the decoder starts with.

    Example:
        >>> tree = LabelTree([[5, 1], [5, 6, 1], [7, 1]], start=0)
        >>> tree.nodes, tree.edge_tokens.tolist()
        (4, [5, 7, 1, 6, 1, 1])
    """

    def __init__(self, labels: Sequence[Sequence[int]], start: int) -> None:
        sequences = [tuple(label) for label in labels]
        prefixes = sorted({seq[:size] for seq in sequences for size in range(len(seq))}, key=lambda p: (len(p), p))
        node = {prefix: i for i, prefix in enumerate(prefixes)}
        edges = sorted({seq[: size + 1] for seq in sequences for size in range(len(seq))}, key=lambda e: node[e[:-1]])
        number = {edge: i for i, edge in enumerate(edges)}
        parents = torch.tensor([node[edge[:-1]] for edge in edges])
        self.nodes = len(prefixes)
        self.node_tokens = torch.tensor([prefix[-1] if prefix else start for prefix in prefixes])
        self.edge_tokens = torch.tensor([edge[-1] for edge in edges])
        self.tokens, self.edge_places = torch.unique(
            self.edge_tokens, return_inverse=True
        )  # of all labels; of each edge
        self.edge_counts = torch.bincount(parents, minlength=self.nodes)
        self.first_edges = self.edge_counts.cumsum(0) - self.edge_counts
        following_tokens: list[list[int]] = [[] for _ in prefixes]
        for edge in edges:
            following_tokens[node[edge[:-1]]].append(edge[-1])
        self.following_tokens = _padded(following_tokens, _NONE)
        none = len(edges)  # a last column of zeros, so that short paths can be padded
        self.label_edges = _padded([[number[seq[: i + 1]] for i in range(len(seq))] for seq in sequences], none)
        self.node_edges = _padded([[number[prefix[: i + 1]] for i in range(len(prefix))] for prefix in prefixes], none)
        self.label_nodes = _padded([[node[seq[:i]] for i in range(len(seq))] for seq in sequences], _NONE)
        self.paths = _padded([[node[prefix[:i]] for i in range(len(prefix) + 1)] for prefix in prefixes], _NONE)
        self.labels = _padded(sequences, IGNORE_INDEX)
        self.depths = torch.tensor([len(prefix) for prefix in prefixes])
        following = {edge[:-1]: node[edge] for edge in edges if edge in node}
        branches = Counter(edge[:-1] for edge in edges)
        chains = [[i] for i in range(len(prefixes))]  # each node, and those that must follow it
        for prefix in reversed(prefixes):
            if branches[prefix] == 1 and prefix in following:
                chains[node[prefix]] += chains[following[prefix]]
        self.chains = _padded(chains, _NONE)
        # In training the nodes that several tokens may follow, and those before them: elsewhere the token is sure.
        needed = {seq[:size] for seq in sequences for end in range(len(seq)) if branches[seq[:end]] > 1
                  for size in range(end + 1)} | {()}  # fmt: skip
        self.branching_nodes = torch.tensor(sorted(node[prefix] for prefix in needed))
        self.sure_edges = torch.tensor([branches[edge[:-1]] == 1 for edge in edges] + [False])
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> LabelTree:
        """Moves the tree's tensors to a device and returns the tree."""
        if device != self._device:
            for name, value in vars(self).items():
                if isinstance(value, Tensor):
                    setattr(self, name, value.to(device))
            self._device = device
        return self


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long)


@torch.no_grad()
def score_labels(
    model: PreTrainedModel,
    tree: LabelTree,
    batch: dict[str, Any],
    score: OODScore | None = None,
    *,
    best_only: bool = False,
) -> LabelScores:
    """Scores labels for each text of a batch.

    Args:
        model: The T5, in evaluation mode.
        tree: The labels.
        batch: ``input_ids`` and ``attention_mask``, (batch, input_len); ``encoder_states`` if they are computed.
        score: Score of the best label's tokens.
        best_only: Compute no more than the best label needs.

    Returns:
        The scores, on the device of the batch.
    """
    tree = tree.to(batch["input_ids"].device)
    states = batch.get("encoder_states")
    if is_sharded(model) or not _shares_its_bias(model):
        return _score_as_rows(model, tree, batch, score, states)
    passes = _Passes(model, tree, batch, score, None if states is None else encoder_outputs(states))
    if best_only and tree.nodes > _SMALL:
        passes.search()
    else:
        passes.compute_all()
    return passes.result()


def label_log_probs(model: PreTrainedModel, tree: LabelTree, batch: dict[str, Any], outputs: Any) -> Tensor:
    """Returns the log-probability of each label, (batch, labels) float32, with its gradient.

    Nothing is encoded anew. If the labels' first tokens tell them apart, the decoder does not run again either;
    otherwise it runs over the nodes that several tokens may follow, and those before them.

    Args:
        model: The T5.
        tree: The labels.
        batch: ``attention_mask``, (batch, input_len).
        outputs: The model's outputs for this batch and any target: its logits, of which the first position is read,
            and the encoder's last hidden states.
    """
    tree = tree.to(batch["attention_mask"].device)
    if len(tree.branching_nodes) == 1:
        first = tree.edge_tokens[: tree.edge_counts[0]]  # edges are sorted by their nodes
        log_probs: Tensor = outputs.logits[:, 0, first].float().log_softmax(-1)
        return log_probs[:, tree.label_edges[:, 0]]
    encoded = outputs.encoder_last_hidden_state
    if is_sharded(model) or not _shares_its_bias(model):
        return _score_as_rows(model, tree, batch, None, encoded).log_probs
    passes = _Passes(model, tree, batch, None, encoder_outputs(encoded))
    passes.compute(tree.branching_nodes[None])
    return passes.edges.masked_fill(tree.sure_edges, 0.0)[:, tree.label_edges].sum(-1)


def encoder_outputs(states: Tensor) -> Any:
    """Returns the encoder's last hidden states as a model takes them instead of inputs."""
    from transformers.modeling_outputs import BaseModelOutput

    outputs = BaseModelOutput(last_hidden_state=states)
    outputs.router_logits = None  # Switch Transformers read it
    return outputs


def _shares_its_bias(model: PreTrainedModel) -> bool:
    """Returns whether all layers of the decoder use the first one's bias, as T5's do and UMT5's do not."""
    with_bias = [bool(attention.has_relative_attention_bias) for attention in _attentions(model)]
    return with_bias == [True, *[False] * (len(with_bias) - 1)]


def _attentions(model: PreTrainedModel) -> list[Any]:
    decoder: Any = model.decoder
    return [block.layer[0].SelfAttention for block in decoder.block]


class _Passes:
    """Passes of the decoder over nodes of the tree; keys and values of earlier nodes stay cached."""

    def __init__(
        self,
        model: PreTrainedModel,
        tree: LabelTree,
        batch: dict[str, Any],
        score: OODScore | None,
        encoded: Any = None,
    ) -> None:
        from transformers import DynamicCache, EncoderDecoderCache

        self.model, self.tree, self.score, self.mask = model, tree, score, batch["attention_mask"]
        self.encoded = encoded or model.get_encoder()(input_ids=batch["input_ids"], attention_mask=self.mask)
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self.rows, device = len(self.mask), self.mask.device
        self.edges = torch.full((self.rows, len(tree.edge_tokens) + 1), -torch.inf, dtype=torch.float32, device=device)
        self.edges[:, -1] = 0.0
        self.columns = torch.zeros(self.rows, tree.nodes, dtype=torch.long, device=device)
        self.computed = torch.zeros(self.rows, tree.nodes, dtype=torch.bool, device=device)
        self.states: Tensor | None = None  # what the head reads at each node, for the score
        self.width = 0  # columns computed so far
        heads = _attentions(model)[0].n_heads
        self.most = max(1, _MAX_LOGITS // (self.rows * max(len(tree.tokens), heads * tree.nodes)))

    def compute_all(self) -> None:
        """Computes all nodes, in one pass if memory allows."""
        for start in range(0, self.tree.nodes, self.most):
            end = min(start + self.most, self.tree.nodes)
            self.compute(torch.arange(start, end, device=self.mask.device)[None])

    def search(self) -> None:
        """Computes the nodes that may belong to the best label, in two steps.

        First each row follows its likeliest tokens to the end of a label, as greedy decoding does. Then it computes all
        nodes whose prefix is at least as likely as the best whole label, the likeliest first.
        """
        self.compute(torch.zeros(1, 1, dtype=torch.long, device=self.mask.device))
        while True:
            prefixes = self.edges[:, self.tree.node_edges].sum(-1)
            best = self.totals().amax(-1, keepdim=True)
            prefixes = prefixes.masked_fill(self.computed | (prefixes < best - EQUAL), -torch.inf)
            if not bool((is_open := prefixes.isfinite()).any()):
                return
            diving = ~best.isfinite()
            if bool(diving.any()):
                # On its first way down, a row's deepest open nodes are those that follow the last one.
                deepest = torch.where(is_open, self.tree.depths, -1).amax(-1, keepdim=True)
                first = prefixes.masked_fill(self.tree.depths < deepest, -torch.inf).argmax(-1)
                self.compute(torch.where(diving & is_open.any(-1, keepdim=True), self.tree.chains[first], _NONE))
            else:
                count = min(_MAX_OPEN, int(is_open.sum(-1).max()))
                values, nodes = prefixes.topk(count, dim=-1)
                self.compute(nodes.masked_fill(~values.isfinite(), _NONE))

    def compute(self, nodes: Tensor) -> None:
        """Runs the decoder over nodes whose ancestors are computed, or stand before them.

        Args:
            nodes: (batch, nodes), or (1, nodes) for the same nodes in each row; -1 for padding.
        """
        count = nodes.shape[1]
        attention = self._attention(nodes)
        nodes = nodes.expand(self.rows, -1)
        rows, places = (nodes != _NONE).nonzero(as_tuple=True)
        with head_inputs(self.model.lm_head) as inputs:
            self.model(
                encoder_outputs=self.encoded,
                attention_mask=self.mask,
                decoder_input_ids=self.tree.node_tokens[nodes.clamp(min=0)],
                decoder_attention_mask=attention,
                past_key_values=self.cache,
                use_cache=True,
            )
        self.width += count
        nodes = nodes[rows, places]
        self.computed[rows, nodes] = True
        states = inputs[0][rows, places]  # (nodes of all rows, hidden)
        if self.score is not None:
            if self.states is None:
                self.states = states.new_full((self.rows, self.tree.nodes, states.shape[-1]), torch.nan)
            self.states[rows, nodes] = states
        head: Any = self.model.lm_head
        bias = None if head.bias is None else head.bias[self.tree.tokens]
        logits = nn.functional.linear(states, head.weight[self.tree.tokens], bias).float()  # (nodes, labels' tokens)
        counts = self.tree.edge_counts[nodes]
        of = torch.arange(len(nodes), device=nodes.device).repeat_interleave(counts)
        edges = self.tree.first_edges[nodes][of] + torch.arange(len(of), device=of.device)
        edges -= (counts.cumsum(0) - counts)[of]
        logits = logits[of, self.tree.edge_places[edges]]
        highest = logits.new_full((len(nodes),), -torch.inf).scatter_reduce(0, of, logits.detach(), "amax")
        sums = logits.new_zeros(len(nodes)).scatter_add(0, of, (logits - highest[of]).exp())
        self.edges[rows[of], edges] = logits - (highest + sums.log())[of]

    def _attention(self, nodes: Tensor) -> Tensor:
        """Returns the additive mask of attention, (batch or 1, heads, nodes, all nodes so far)."""
        count, device = nodes.shape[1], nodes.device
        new_columns = torch.arange(self.width, self.width + count, device=device)
        rows, places = (nodes.expand(self.rows, -1) != _NONE).nonzero(as_tuple=True)
        self.columns[rows, nodes.expand(self.rows, -1)[rows, places]] = new_columns[places]
        paths = self.tree.paths[nodes.clamp(min=0)]  # padding sees node 0, which is always there
        on_path = paths >= 0
        columns = self.columns[: len(nodes)].gather(1, paths.clamp(min=0).flatten(1)).view(paths.shape)
        depths = torch.arange(paths.shape[-1], device=device)
        in_tree = (on_path.sum(-1, keepdim=True) - 1 - depths).clamp(min=0)
        in_sequence = (new_columns[:, None] - columns).clamp(min=0)
        bias: Tensor = _attentions(self.model)[0].compute_bias(self.width + count, 1, device=device)[
            0, :, :, 0
        ]  # (heads, distance)
        shift = (bias[:, in_tree] - bias[:, in_sequence]).transpose(0, 1)
        shape = (len(nodes), len(bias), count, self.width + count + 1)  # the last column takes what is on no path
        mask = torch.full(shape, torch.finfo(bias.dtype).min, dtype=bias.dtype, device=device)
        columns = columns.masked_fill(~on_path, shape[-1] - 1)[:, None].expand_as(shift)
        return mask.scatter_(-1, columns, shift)[..., :-1]

    def totals(self) -> Tensor:
        """Returns the log-probabilities of the labels, (batch, labels); -inf for those that are not whole."""
        return self.edges[:, self.tree.label_edges].sum(-1)

    def result(self) -> LabelScores:
        """Returns the scores of what was computed."""
        totals = self.totals()
        best = _first_best(totals)
        energies = None
        if self.score is not None:
            energies = self._energies(self.tree.label_nodes[best], self.score)
        return LabelScores(totals, best, self.tree.labels[best], energies)

    def _energies(self, nodes: Tensor, score: OODScore) -> Tensor:
        """Returns the mean score over the nodes of a label of each row, (batch,).

        Args:
            nodes: (batch, nodes), -1 for padding.
            score: The score.
        """
        assert self.states is not None
        rows, places = (nodes != _NONE).nonzero(as_tuple=True)
        most = max(1, _MAX_LOGITS // self.model.config.vocab_size)
        parts = torch.split(self.states[rows, nodes[rows, places]], most)
        head: Any = self.model.lm_head
        scores = torch.zeros(nodes.shape, dtype=torch.float32, device=nodes.device)
        scores[rows, places] = torch.cat([score.per_token(head(part).float()) for part in parts])
        return mean_over_tokens(scores, nodes != _NONE)


def _first_best(log_probs: Tensor) -> Tensor:
    """Returns the position of the largest value of each row, (batch,); the first of equal ones."""
    return (log_probs >= log_probs.amax(-1, keepdim=True) - EQUAL).long().argmax(-1)


@contextmanager
def head_inputs(head: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what the model's head reads, and lets it compute the logits of one position alone."""
    collected: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        collected.append(inputs[0])
        return (inputs[0][:1, :1],)

    hook = head.register_forward_pre_hook(keep)
    try:
        yield collected
    finally:
        hook.remove()


def _score_as_rows(
    model: PreTrainedModel,
    tree: LabelTree,
    batch: dict[str, Any],
    score: OODScore | None,
    encoded: Tensor | None = None,
) -> LabelScores:
    """Scores labels with a row of the decoder for each, for models whose attention the tree cannot replace."""
    mask, labels = batch["attention_mask"], tree.labels
    rows, target_len = len(mask), labels.shape[1]
    totals: list[Tensor] = []
    energies: list[Tensor] = []
    most = max(1, _MAX_LOGITS // (rows * target_len * model.config.vocab_size))
    shift_right: Any = model._shift_right
    for start in range(0, len(labels), most):
        part = labels[start : start + most]
        count = len(part)
        if encoded is None:
            # Through the whole model, which gathers the weights of a sharded student.
            first = tree.node_tokens[:1].expand(rows, 1)
            encoded = model(
                input_ids=batch["input_ids"], attention_mask=mask, decoder_input_ids=first, use_cache=False
            ).encoder_last_hidden_state
        logits = model(
            encoder_outputs=(encoded.repeat_interleave(count, 0),),
            attention_mask=mask.repeat_interleave(count, 0),
            decoder_input_ids=shift_right(part).repeat(rows, 1),
            use_cache=False,
        ).logits.float()
        targets, counted = part.repeat(rows, 1), (part != IGNORE_INDEX).repeat(rows, 1)
        following = tree.following_tokens[tree.label_nodes[start : start + most].clamp(min=0)].repeat(rows, 1, 1)
        allowed = logits.gather(-1, following.clamp(min=0)).masked_fill(following == _NONE, -torch.inf)
        log_probs = logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0] - allowed.logsumexp(-1)
        totals.append((log_probs * counted).sum(-1).view(rows, count))
        if score is not None:
            energies.append(score(logits, counted).view(rows, count))
    log_probs = torch.cat(totals, 1)
    best = _first_best(log_probs)
    of_best = torch.cat(energies, 1).gather(1, best[:, None])[:, 0] if energies else None
    return LabelScores(log_probs, best, labels[best], of_best)
