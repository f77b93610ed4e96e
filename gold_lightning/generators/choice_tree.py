"""Log-likelihoods of many choices after one prompt, in a pass over the tree of their tokens.

A row of the batch for each choice would repeat the text before it, and compute beginnings that choices have in
common once for each of them: for 77 labels that is thousands of rows a batch. Here the distinct beginnings follow
the text as one sequence, and the attention mask lets each token see the text and its own beginning alone (tree
attention, Miao et al., 2024). So the cost grows with the tokens that tell choices apart.
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

# Bounds of one forward pass, in elements: they keep it below about half a gigabyte whatever the vocabulary.
_MOST_LOGITS = 2**25
_MOST_SCORES = 2**25
_MOST_TOKENS = 4096
_MOST_NODES = 512


@dataclass(frozen=True)
class TreePart:
    """Some nodes of a tree, with all that lead to them. Node 0 is the text before; node i has ``tokens[i - 1]``.

    Args:
        tokens: Of the nodes below node 0, parents before their children.
        parents: The node before each of them.
        edges: ``(node, token that follows, number of the edge in the tree)`` of the likelihoods to read here.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    edges: tuple[tuple[int, int, int], ...]

    def depths(self) -> list[int]:
        """Tokens from node 0 to each node, node 0 included."""
        depths = [0]
        for parent in self.parents:
            depths.append(depths[parent] + 1)
        return depths

    def sees(self) -> Tensor:
        """Which nodes below node 0 each of them attends to, (nodes, nodes) bool: those before it, and itself."""
        seen = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent:
                seen[node] |= seen[parent - 1]
        return seen

    def read(self, logits: Tensor, log_probs: Sequence[list[float]]) -> None:
        """Notes the likelihoods of the edges, of each text.

        Args:
            logits: (texts, 1 + nodes, vocab), of what follows node 0 and those below it; more nodes are passed over.
            log_probs: Of each text, by number of the edge; written to.
        """
        at = torch.tensor([node for node, _, _ in self.edges], device=logits.device)
        following = torch.tensor([token for _, token, _ in self.edges], device=logits.device)
        logits = logits.float()
        found = logits[:, at, following] - logits.logsumexp(-1)[:, at]
        for noted, values in zip(log_probs, found.tolist(), strict=True):
            for (_, _, edge), value in zip(self.edges, values, strict=True):
                noted[edge] = value


class ChoiceTree:
    """The beginnings that choices have in common or of their own, each once.

    Args:
        choices: Tokens of each choice. A choice counts up to the token that tells it from all others.
    """

    def __init__(self, choices: Sequence[Sequence[int]]) -> None:
        self.choices = [tuple(choice) for choice in distinguishing_prefixes(choices)]
        self._nodes: dict[tuple[int, ...], int] = {(): 0}
        self._edges: dict[tuple[int, ...], int] = {}
        for choice in sorted(self.choices):  # neighbours share their beginnings
            for size in range(1, len(choice) + 1):
                self._edges.setdefault(choice[:size], len(self._edges))
                if size < len(choice):
                    self._nodes.setdefault(choice[:size], len(self._nodes))

    def __len__(self) -> int:
        """Nodes below the root: tokens to compute after each text."""
        return len(self._nodes) - 1

    @property
    def edges(self) -> int:
        """Likelihoods that are needed of each text."""
        return len(self._edges)

    def parts(self, most: int) -> Iterator[TreePart]:
        """Cuts the tree into parts that can be computed one by one.

        Args:
            most: Nodes of a part, roughly: beginnings that lead to its nodes come on top.
        """
        following = self._following()
        here: dict[tuple[int, ...], int] = {(): 0}
        edges: list[tuple[int, int, int]] = []
        for begin in self._nodes:
            if len(here) > most:
                yield _part(here, edges)
                here, edges = {(): 0}, []
            for size in range(1, len(begin) + 1):
                here.setdefault(begin[:size], len(here))
            edges += [(here[begin], token, number) for token, number in following.get(begin, ())]
        yield _part(here, edges)

    def branches(self) -> Iterator[TreePart]:
        """Gives the tree as sequences from its root, for models that take nothing else."""
        following, inner = self._following(), {begin[:-1] for begin in self._nodes if begin}
        for begin in self._nodes:
            if begin in inner:
                continue
            nodes = {begin[:size]: size for size in range(len(begin) + 1)}
            yield _part(nodes, [(nodes[b], token, number) for b in nodes for token, number in following.pop(b, ())])

    def _following(self) -> dict[tuple[int, ...], list[tuple[int, int]]]:
        """The tokens after each node, with the number of their edge."""
        found: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for begin, number in self._edges.items():
            found.setdefault(begin[:-1], []).append((begin[-1], number))
        return found

    def totals(self, log_probs: Sequence[float]) -> tuple[float, ...]:
        """Log-likelihood of each choice.

        Args:
            log_probs: Of each edge.
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
    head: Sequence[tuple[Tensor, Tensor]],
    size: int,
    rests: Sequence[Sequence[int]],
    tree: ChoiceTree,
) -> list[tuple[float, ...]]:
    """Log-likelihood of each choice after each text.

    Args:
        model: A causal model that attends by :func:`gold_lightning.generators.prefix_attention.attend`.
        head: Keys and values of the prompt that the texts share, by layer.
        size: Its tokens; with 0 there is none.
        rests: Tokens of each text after the shared prompt, at least one.
        tree: The choices.

    Returns:
        The choices' log-likelihoods for each text, natural logarithm.
    """
    config = model.config.get_text_config()
    vocab, heads = config.vocab_size, config.num_attention_heads
    order = sorted(range(len(rests)), key=lambda i: len(rests[i]))
    log_probs = [[0.0] * tree.edges for _ in rests]
    for part in tree.parts(max(1, min(_MOST_NODES, _MOST_LOGITS // vocab - 1))):
        at = 0
        while at < len(order):
            rows = 1
            while at + rows < len(order):  # longer ones follow: each row takes as much room as the last
                steps = len(rests[order[at + rows]]) + len(part.tokens)
                logits, scores = (1 + len(part.tokens)) * vocab, heads * steps * (size + steps)
                if (rows + 1) * max(logits / _MOST_LOGITS, scores / _MOST_SCORES, steps / _MOST_TOKENS) > 1:
                    break
                rows += 1
            chosen = order[at : at + rows]
            at += rows
            part.read(_logits(model, head, size, [rests[i] for i in chosen], part), [log_probs[i] for i in chosen])
    return [tree.totals(values) for values in log_probs]


def _logits(
    model: PreTrainedModel,
    head: Sequence[tuple[Tensor, Tensor]],
    size: int,
    rests: Sequence[Sequence[int]],
    part: TreePart,
) -> Tensor:
    """Logits after each text and each node of a part that follows it, (texts, 1 + nodes, vocab)."""
    device, nodes, width = model.device, len(part.tokens), max(map(len, rests))
    tokens = torch.zeros(len(rests), width + nodes, dtype=torch.long)
    seen = torch.zeros(len(rests), width + nodes, width + nodes, dtype=torch.bool)
    positions = torch.zeros_like(tokens)
    below = torch.tensor(part.depths()[1:], dtype=torch.long)
    for row, rest in enumerate(rests):
        start = width - len(rest)  # texts end in one column, before the tree
        tokens[row, start:width] = torch.tensor(rest)
        tokens[row, width:] = torch.tensor(part.tokens)
        positions[row, start:width] = size + torch.arange(len(rest))
        positions[row, width:] = size + len(rest) - 1 + below
        seen[row, start:width, start:width] = torch.ones(len(rest), len(rest), dtype=torch.bool).tril()
        seen[row, width:, start:width] = True
    seen[:, width:, width:] = part.sees()
    hidden = torch.zeros(seen.shape, dtype=model.dtype).masked_fill_(~seen, torch.finfo(model.dtype).min)
    out = model(
        input_ids=tokens.to(device),
        attention_mask=hidden[:, None].to(device),
        position_ids=positions.to(device),
        use_cache=False,
        logits_to_keep=1 + nodes,
        shared_prefix=[PrefixGroup(len(rests), head)] if size else [],
    )
    logits: Tensor = out.logits
    return logits
