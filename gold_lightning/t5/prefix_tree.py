"""Constrained decoding: which tokens may come next."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["PrefixTree"]


class PrefixTree:
    """Restricts ``generate`` to a set of sequences (De Cao et al., ICLR 2021).

    Args:
        sequences: Token ids of each sequence, its end token included.
        after: Token that follows the end of a sequence.

    Example:
        >>> import torch
        >>> tree = PrefixTree([[5, 1], [5, 6, 1], [7, 1]], after=0)
        >>> tree(0, torch.tensor([0])), tree(0, torch.tensor([0, 5]))
        ([5, 7], [1, 6])
    """

    def __init__(self, sequences: Sequence[Sequence[int]], after: int) -> None:
        self._after = [after]
        self._next: dict[tuple[int, ...], list[int]] = {}
        for sequence in sequences:
            for i, token in enumerate(sequence):
                successors = self._next.setdefault(tuple(sequence[:i]), [])
                if token not in successors:
                    successors.append(token)

    def __call__(self, row: int, written: Tensor) -> list[int]:
        """Returns the tokens that may follow.

        Args:
            row: Position of the row in the batch; all rows have the same sequences.
            written: (length,) int64, the decoder's first token and the tokens written after it.
        """
        return self._next.get(tuple(written[1:].tolist()), self._after)
