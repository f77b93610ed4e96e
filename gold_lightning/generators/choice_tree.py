"""Log-likelihoods of many choices after one prompt, in one pass over the tree of their tokens.

A row of the batch for each choice would repeat the text before it, and compute common prefixes of choices once for
each choice: for 77 labels that is thousands of rows per batch. Here the distinct prefixes follow the text as one
sequence, and the attention mask lets each token see only the text and its own prefix (tree attention, Miao et al.,
2024). The cost thus grows with the number of tokens that distinguish the choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gold_lightning.generators.base import distinguishing_prefixes
from gold_lightning.generators.prefix_attention import PrefixGroup

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ChoiceTree", "TreePart", "score_tree"]

# Limits of one forward pass, in elements: they keep it below about half a gigabyte for any vocabulary.
_MOST_LOGITS = 2**25
_MOST_SCORES = 2**25
_MOST_TOKENS = 4096
_MOST_NODES = 512


@dataclass(frozen=True)
class TreePart:
    """Some nodes of a tree, with all their ancestors. Node 0 is the text before; node i has ``tokens[i - 1]``.

    Args:
        tokens: Tokens of the nodes below node 0, parents before their children.
        parents: Parent of each of these nodes.
        edges: ``(node, following token, number of the edge in the tree)`` of the likelihoods to read here.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    edges: tuple[tuple[int, int, int], ...]

    def depths(self) -> list[int]:
        """Number of tokens from node 0 to each node, node 0 included."""
        depths = [0]
        for parent in self.parents:
            depths.append(depths[parent] + 1)
        return depths

    def sees(self) -> Tensor:
        """Mask of attention among the nodes below node 0, (nodes, nodes) bool: each sees its ancestors and itself."""
        seen = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent:
                seen[node] |= seen[parent - 1]
        return seen

    def read(self, logits: Tensor, log_probs: Sequence[list[float]]) -> None:
        """Writes the log-likelihoods of the edges for each text.

        Args:
            logits: (texts, 1 + nodes, vocab), after node 0 and the nodes below it; further nodes are ignored.
            log_probs: For each text the log-likelihoods by number of the edge; written to.
        """
        nodes = torch.tensor([node for node, _, _ in self.edges], device=logits.device)
        following = torch.tensor([token for _, token, _ in self.edges], device=logits.device)
        logits = logits.float()
        edge_log_probs = logits[:, nodes, following] - logits.logsumexp(-1)[:, nodes]
        for row, values in zip(log_probs, edge_log_probs.tolist(), strict=True):
            for (_, _, edge), value in zip(self.edges, values, strict=True):
                row[edge] = value


class ChoiceTree:
    """The distinct prefixes of choices.

    Args:
        choices: Tokens of each choice. A choice counts up to the token that distinguishes it from all others.
    """

    def __init__(self, choices: Sequence[Sequence[int]]) -> None:
        self.choices = [tuple(choice) for choice in distinguishing_prefixes(choices)]
        self._nodes: dict[tuple[int, ...], int] = {(): 0}
        self._edges: dict[tuple[int, ...], int] = {}
        for choice in sorted(self.choices):  # neighbours share prefixes
            for size in range(1, len(choice) + 1):
                self._edges.setdefault(choice[:size], len(self._edges))
                if size < len(choice):
                    self._nodes.setdefault(choice[:size], len(self._nodes))

    def __len__(self) -> int:
        """Number of nodes below the root: tokens to compute after each text."""
        return len(self._nodes) - 1

    @property
    def edges(self) -> int:
        """Number of likelihoods needed for each text."""
        return len(self._edges)

    def parts(self, max_nodes: int) -> Iterator[TreePart]:
        """Cuts the tree into parts that can be computed one by one.

        Args:
            max_nodes: Approximate number of nodes of a part, to which the ancestors of its nodes are added.
        """
        following = self._following()
        part: dict[tuple[int, ...], int] = {(): 0}
        edges: list[tuple[int, int, int]] = []
        for prefix in self._nodes:
            if len(part) > max_nodes:
                yield _part(part, edges)
                part, edges = {(): 0}, []
            for size in range(1, len(prefix) + 1):
                part.setdefault(prefix[:size], len(part))
            edges += [(part[prefix], token, number) for token, number in following.get(prefix, ())]
        yield _part(part, edges)

    def branches(self) -> Iterator[TreePart]:
        """Yields the tree as sequences from its root, for models without tree attention."""
        following, inner = self._following(), {prefix[:-1] for prefix in self._nodes if prefix}
        for prefix in self._nodes:
            if prefix in inner:
                continue
            nodes = {prefix[:size]: size for size in range(len(prefix) + 1)}
            yield _part(nodes, [(nodes[b], token, number) for b in nodes for token, number in following.pop(b, ())])

    def _following(self) -> dict[tuple[int, ...], list[tuple[int, int]]]:
        """The tokens after each node, each with the number of its edge."""
        following: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for prefix, number in self._edges.items():
            following.setdefault(prefix[:-1], []).append((prefix[-1], number))
        return following

    def totals(self, log_probs: Sequence[float]) -> tuple[float, ...]:
        """Log-likelihood of each choice.

        Args:
            log_probs: Log-likelihood of each edge.
        """
        ends = (range(1, len(choice) + 1) for choice in self.choices)
        return tuple(
            sum(log_probs[self._edges[choice[:size]]] for size in sizes)
            for choice, sizes in zip(self.choices, ends, strict=True)
        )


def _part(nodes: dict[tuple[int, ...], int], edges: Sequence[tuple[int, int, int]]) -> TreePart:
    below = list(nodes)[1:]
    return TreePart(tuple(b[-1] for b in below), tuple(nodes[b[:-1]] for b in below), tuple(edges))


def score_tree(
    model: PreTrainedModel,
    prefix: Sequence[tuple[Tensor, Tensor]],
    size: int,
    suffixes: Sequence[Sequence[int]],
    tree: ChoiceTree,
) -> list[tuple[float, ...]]:
    """Log-likelihood of each choice after each text.

    Args:
        model: A causal model with the attention :func:`gold_lightning.generators.prefix_attention.attend`.
        prefix: Keys and values of the prompt shared by the texts, by layer.
        size: Number of tokens of the shared prompt; 0 for none.
        suffixes: Tokens of each text after the shared prompt, at least one.
        tree: The choices.

    Returns:
        The choices' log-likelihoods for each text, natural logarithm.
    """
    config = model.config.get_text_config()
    vocab, heads = config.vocab_size, config.num_attention_heads
    order = sorted(range(len(suffixes)), key=lambda i: len(suffixes[i]))
    log_probs = [[0.0] * tree.edges for _ in suffixes]
    for part in tree.parts(max(1, min(_MOST_NODES, _MOST_LOGITS // vocab - 1))):
        start = 0
        while start < len(order):
            rows = 1
            while start + rows < len(order):  # in order of length: each row takes as much memory as the last
                steps = len(suffixes[order[start + rows]]) + len(part.tokens)
                logits, scores = (1 + len(part.tokens)) * vocab, heads * steps * (size + steps)
                if (rows + 1) * max(logits / _MOST_LOGITS, scores / _MOST_SCORES, steps / _MOST_TOKENS) > 1:
                    break
                rows += 1
            chosen = order[start : start + rows]
            start += rows
            part.read(_logits(model, prefix, size, [suffixes[i] for i in chosen], part), [log_probs[i] for i in chosen])
    return [tree.totals(values) for values in log_probs]


def _logits(
    model: PreTrainedModel,
    prefix: Sequence[tuple[Tensor, Tensor]],
    size: int,
    suffixes: Sequence[Sequence[int]],
    part: TreePart,
) -> Tensor:
    """Logits after each text and each node of a part that follows it, (texts, 1 + nodes, vocab)."""
    device, nodes, width = model.device, len(part.tokens), max(map(len, suffixes))
    tokens = torch.zeros(len(suffixes), width + nodes, dtype=torch.long)
    seen = torch.zeros(len(suffixes), width + nodes, width + nodes, dtype=torch.bool)
    positions = torch.zeros_like(tokens)
    below = torch.tensor(part.depths()[1:], dtype=torch.long)
    for row, suffix in enumerate(suffixes):
        first = width - len(suffix)  # texts end in the same column, before the tree
        tokens[row, first:width] = torch.tensor(suffix)
        tokens[row, width:] = torch.tensor(part.tokens)
        positions[row, first:width] = size + torch.arange(len(suffix))
        positions[row, width:] = size + len(suffix) - 1 + below
        seen[row, first:width, first:width] = torch.ones(len(suffix), len(suffix), dtype=torch.bool).tril()
        seen[row, width:, first:width] = True
    seen[:, width:, width:] = part.sees()
    hidden = torch.zeros(seen.shape, dtype=model.dtype).masked_fill_(~seen, torch.finfo(model.dtype).min)
    out = model(
        input_ids=tokens.to(device),
        attention_mask=hidden[:, None].to(device),
        position_ids=positions.to(device),
        use_cache=False,
        logits_to_keep=1 + nodes,
        shared_prefix=[PrefixGroup(len(suffixes), prefix)] if size else [],
    )
    logits: Tensor = out.logits
    return logits
