"""Out-of-distribution scores, and the quantile band from which feedback is taken.

Sign convention: for every score, **higher = further out of distribution**.

:class:`EnergyScore` is GOLD's and the default. :class:`MaxSoftmaxScore` and :class:`EntropyScore` are the usual
alternatives; choose one by ``feedback.score.class_path: gold_lightning.scores.EntropyScore``. Unlike the energy, both
ignore the scale of the logits. A score of your own is a subclass of :class:`OODScore` with one method.
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
"""Keys of :func:`summarize_energies`."""


def mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean of each row over its target tokens.

    Args:
        values: (batch, target_len), floating.
        mask: (batch, target_len), true for target tokens and false for padding.

    Returns:
        (batch,); 0 for a row without target tokens.

    Example:
        >>> mean_over_tokens(torch.tensor([[2.0, 4.0, 9.0]]), torch.tensor([[True, True, False]]))
        tensor([3.])
    """
    weights = mask.to(values.dtype)
    return (values * weights).sum(-1) / weights.sum(-1).clamp(min=1.0)


class OODScore(ABC):
    """Base of scores: how far a sample lies outside the student's training distribution, averaged over its tokens.

    Example:
        A score of your own defines :meth:`per_token`. Saved as ``my_scores.py``, it is named in a config by
        ``feedback.score.class_path: my_scores.Margin``.

        >>> class Margin(OODScore):
        ...     def per_token(self, logits):
        ...         best = logits.topk(2, dim=-1).values
        ...         return best[..., 1] - best[..., 0]
        >>> sure, unsure = [5.0, 1.0, 0.0], [2.0, 1.5, 0.0]
        >>> Margin()(torch.tensor([[sure, sure], [sure, unsure]]), torch.ones(2, 2))
        tensor([-4.0000, -2.2500])
    """

    def __call__(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Scores each sample.

        Args:
            logits: (batch, target_len, vocab), any floating dtype.
            mask: (batch, target_len), true for target tokens and false for padding.

        Returns:
            (batch,) float32; higher = further out of distribution.
        """
        return mean_over_tokens(self.per_token(logits.float()), mask)

    @abstractmethod
    def per_token(self, logits: Tensor) -> Tensor:
        """Scores each token.

        Args:
            logits: (..., vocab) float32.

        Returns:
            (...); higher = further out of distribution.
        """


class EnergyScore(OODScore):
    """Free energy, E(x) = -T logsumexp(logits / T) (Liu et al., NeurIPS 2020, eq. 4).

    GOLD averages it over the tokens of the output (arXiv 2403.19754, section 3.2).

    Args:
        temperature: Temperature T, above 0.

    Raises:
        ConfigError: The temperature is not a positive finite number.

    Example:
        >>> EnergyScore()(torch.tensor([[[5.0, 1.0, 0.0]], [[2.0, 1.5, 0.0]]]), torch.ones(2, 1))
        tensor([-5.0247, -2.5550])
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError("feedback.score.temperature", temperature, "a finite number above 0")
        self.temperature = temperature

    def per_token(self, logits: Tensor) -> Tensor:
        return -self.temperature * torch.logsumexp(logits / self.temperature, dim=-1)


class MaxSoftmaxScore(OODScore):
    """Negative probability of the most likely token, -max_k p_k (Hendrycks and Gimpel, ICLR 2017), in [-1, 0).

    Example:
        >>> MaxSoftmaxScore()(torch.tensor([[[5.0, 1.0, 0.0]], [[2.0, 1.5, 0.0]]]), torch.ones(2, 1))
        tensor([-0.9756, -0.5741])
    """

    def per_token(self, logits: Tensor) -> Tensor:
        return -torch.exp(logits.amax(-1) - torch.logsumexp(logits, dim=-1))


class EntropyScore(OODScore):
    """Entropy of the softmax, in nats, in [0, log(vocab)].

    Example:
        >>> EntropyScore()(torch.tensor([[[5.0, 1.0, 0.0]], [[2.0, 1.5, 0.0]]]), torch.ones(2, 1))
        tensor([0.1291, 0.8845])
    """

    def per_token(self, logits: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, -1)
        return -(log_p.exp() * log_p).sum(-1)


def band_ranks(count: int, alpha: float, beta: float) -> range:
    """Returns the ascending ranks, from 0, in the quantile band [alpha, beta) of a number of samples.

    These are floor(alpha * count) to floor(beta * count) - 1. If that range is empty, the band lies within a single
    rank and contains it if it covers at least half of it: of two samples the band [0.5, 0.8) contains the upper one, of
    one sample none. So no band is empty from 0.5 / (beta - alpha) samples on.

    Args:
        count: Number of samples.
        alpha: Lower quantile, 0 <= alpha < beta.
        beta: Upper quantile, alpha < beta <= 1.

    Example:
        >>> [list(band_ranks(n, 0.5, 0.8)) for n in (1, 2, 3, 5)]
        [[], [1], [1], [2, 3]]
    """
    # Round before the floor: 0.3 * 10 is 3.0000000000000004, and 0.29 * 100 is 28.999999999999996.
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
    """Returns the positions whose ascending energy rank, within their group, lies in the band [alpha, beta).

    Samples above the band are mostly noise, samples below it are familiar to the student (GOLD, section 3.2). See
    :func:`band_ranks` for the ranks. Ties are ranked by position.

    Args:
        energies: One finite number per sample.
        alpha: Lower quantile, 0 <= alpha < beta.
        beta: Upper quantile, alpha < beta <= 1.
        groups: Label of each sample; ``None`` puts all samples into one group.
        at: ``band``, or for comparison the same number of ranks at the ``top`` or ``bottom`` of each group.

    Returns:
        Positions in ascending order.

    Raises:
        ValueError: The band is empty or not within [0, 1], or the lengths differ.

    Example:
        >>> select_band([3.0, 1.0, 2.0, 5.0], 0.5, 1.0)
        [0, 3]
        >>> select_band([3.0, 1.0, 2.0, 5.0], 0.5, 1.0, ["a", "a", "b", "b"], at="bottom")
        [1, 2]
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
        band = band_ranks(len(ranked), alpha, beta)
        first = {"band": band.start, "top": len(ranked) - len(band), "bottom": 0}[at]
        chosen += ranked[first : first + len(band)]
    return sorted(chosen)


def auroc(low: Sequence[float], high: Sequence[float]) -> float:
    """Measures how well energy separates two kinds of samples: the area under the ROC curve.

    Args:
        low: Energies of the kind that should be lower.
        high: Energies of the kind that should be higher.

    Returns:
        Share of pairs in which ``high`` is higher, in [0, 1]; ties count half, 0.5 means no separation.

    Example:
        >>> round(auroc([1.0, 2.0, 2.0], [2.0, 3.0]), 4)
        0.8333
    """
    scores = torch.tensor([*low, *high], dtype=torch.float64)
    # torchmetrics passes scores outside [0, 1] through a sigmoid; ranks keep order and ties.
    ranks = torch.unique(scores, return_inverse=True)[1].double()
    labels = torch.tensor([0] * len(low) + [1] * len(high))
    from torchmetrics.functional.classification import binary_auroc  # takes a second to import

    return float(binary_auroc(ranks / max(1.0, float(ranks.max())), labels))


def summarize_energies(energies: Sequence[float]) -> dict[str, float]:
    """Returns mean and quantiles of energies by the keys in :data:`SUMMARY`.

    Example:
        >>> {key: round(value, 2) for key, value in summarize_energies([1.0, 2.0, 3.0, 6.0]).items()}
        {'mean': 3.0, 'q05': 1.15, 'q25': 1.75, 'q50': 2.5, 'q75': 3.75, 'q95': 5.55}
    """
    values = torch.tensor(energies, dtype=torch.float64)
    quantiles = values.quantile(torch.tensor(_QUANTILES, dtype=torch.float64)).tolist()
    return dict(zip(SUMMARY, [float(values.mean()), *quantiles], strict=True))
