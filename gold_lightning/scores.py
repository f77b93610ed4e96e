"""Out-of-distribution scores, and the band of them from which feedback is taken.

Sign, said once: **higher = further out of distribution**, for every score in this file.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Literal

import torch
from torch import Tensor

from gold_lightning.errors import ConfigError

__all__ = [
    "SUMMARY",
    "EnergyScore",
    "EntropyScore",
    "MaxSoftmaxScore",
    "OODScore",
    "auroc",
    "band_ranks",
    "mean_over_tokens",
    "select_band",
    "summarize_energies",
]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SUMMARY = ("mean", *(f"q{round(q * 100):02d}" for q in _QUANTILES))
"""Names of what :func:`summarize_energies` returns."""


def mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the counted tokens of each row.

    Args:
        values: (batch, target_len).
        mask: (batch, target_len), true where a token counts. Padding never does.

    Returns:
        (batch,); 0 for a row without any counted token.
    """
    counted = mask.to(values.dtype)
    return (values * counted).sum(-1) / counted.sum(-1).clamp(min=1.0)


class OODScore(ABC):
    """Scores how far a sample lies out of the student's distribution. Subclasses define :meth:`per_token`."""

    def __call__(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Score of each sample.

        Args:
            logits: (batch, target_len, vocab), any floating dtype.
            mask: (batch, target_len), true where a token counts.

        Returns:
            (batch,) float32, higher = further out of distribution.
        """
        return mean_over_tokens(self.per_token(logits.float()), mask)

    @abstractmethod
    def per_token(self, logits: Tensor) -> Tensor:
        """(..., vocab) float32 -> (...)."""


class EnergyScore(OODScore):
    """Free energy, E(x) = -T logsumexp(logits / T) (Liu et al., NeurIPS 2020, eq. 4).

    GOLD averages it over the tokens of the output (arXiv 2403.19754, section 3.2).

    Args:
        temperature: T > 0.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError("feedback.score.temperature", temperature, "a finite number above 0")
        self.temperature = temperature

    def per_token(self, logits: Tensor) -> Tensor:
        return -self.temperature * torch.logsumexp(logits / self.temperature, dim=-1)


class MaxSoftmaxScore(OODScore):
    """-max_k p_k (Hendrycks and Gimpel, ICLR 2017), in [-1, 0)."""

    def per_token(self, logits: Tensor) -> Tensor:
        return -torch.exp(logits.amax(-1) - torch.logsumexp(logits, dim=-1))


class EntropyScore(OODScore):
    """Entropy of the softmax, in nats."""

    def per_token(self, logits: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, -1)
        return -(log_p.exp() * log_p).sum(-1)


def band_ranks(count: int, alpha: float, beta: float) -> range:
    """Ascending ranks, from 0, that the quantile band [alpha, beta) takes of so many samples.

    These are floor(alpha * count) to floor(beta * count) - 1. If that is none of them, the band lies within a single
    rank, and takes it if it covers half of it or more: of two samples the band [0.5, 0.8) takes the upper one, of one
    sample nothing. So no band is empty from 0.5 / (beta - alpha) samples on.

    Args:
        count: How many samples there are.
        alpha: Lower quantile, 0 <= alpha < beta.
        beta: Upper quantile, alpha < beta <= 1.

    >>> [list(band_ranks(n, 0.5, 0.8)) for n in (1, 2, 3, 5)]
    [[], [1], [1], [2, 3]]
    """
    # Rounding first keeps 0.3 * 10 = 3.0000000000000004 and 0.29 * 100 = 28.999999999999996 honest.
    low, high = (math.floor(round(q * count, 9)) for q in (alpha, beta))
    return range(low, high if high > low else low + (round((beta - alpha) * count, 9) >= 0.5))


def select_band(
    energies: Sequence[float],
    alpha: float,
    beta: float,
    groups: Sequence[Hashable] | None = None,
    *,
    at: Literal["band", "top", "bottom"] = "band",
) -> list[int]:
    """Positions whose ascending energy rank, within their group, lies in the quantile band [alpha, beta).

    Above the band lies mostly noise, below it what the student knows (GOLD, section 3.2). :func:`band_ranks` says
    which ranks that are. Equal energies are ranked by position.

    Args:
        energies: One finite number a sample.
        alpha: Lower quantile, 0 <= alpha < beta.
        beta: Upper quantile, alpha < beta <= 1.
        groups: Label of each sample; ``None`` puts all into one group.
        at: The band itself; or as many ranks of each group at its top or bottom, to compare the band with.

    Returns:
        Positions in ascending order.

    Raises:
        ValueError: The band is empty or not within [0, 1], or lengths differ.
    """
    if not 0 <= alpha < beta <= 1:
        raise ValueError(f"a band needs 0 <= alpha < beta <= 1, got alpha={alpha}, beta={beta}")
    groups = [None] * len(energies) if groups is None else groups
    if len(groups) != len(energies):
        raise ValueError(f"{len(energies)} energies but {len(groups)} groups")
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    chosen: list[int] = []
    for positions in members.values():
        ranked = sorted(positions, key=lambda i: (energies[i], i))
        taken = band_ranks(len(ranked), alpha, beta)
        first = {"band": taken.start, "top": len(ranked) - len(taken), "bottom": 0}[at]
        chosen += ranked[first : first + len(taken)]
    return sorted(chosen)


def auroc(low: Sequence[float], high: Sequence[float]) -> float:
    """How well energy tells two kinds of samples apart.

    Args:
        low: Energies of those that should be lower.
        high: Energies of those that should be higher.

    Returns:
        Share of pairs in which the second is higher, equal ones counted half; 0.5 is not at all.
    """
    scores = torch.tensor([*low, *high], dtype=torch.float64)
    # torchmetrics squashes scores outside [0, 1]; ranks keep every tie and every order.
    ranks = torch.unique(scores, return_inverse=True)[1].double()
    labels = torch.tensor([0] * len(low) + [1] * len(high))
    from torchmetrics.functional.classification import binary_auroc  # takes a second to import

    return float(binary_auroc(ranks / max(1.0, float(ranks.max())), labels))


def summarize_energies(energies: Sequence[float]) -> dict[str, float]:
    """Returns mean and quantiles of energies, by the names in :data:`SUMMARY`."""
    values = torch.tensor(energies, dtype=torch.float64)
    quantiles = values.quantile(torch.tensor(_QUANTILES, dtype=torch.float64)).tolist()
    return dict(zip(SUMMARY, [float(values.mean()), *quantiles], strict=True))
