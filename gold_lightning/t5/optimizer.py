"""The student's optimizer: groups of weights, and the learning rate over a round."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

__all__ = ["lr_factor", "make_optimizer", "weight_names"]


def make_optimizer(
    kind: Literal["adamw", "adafactor"],
    model: nn.Module,
    lr: float,
    weight_decay: float,
    lr_share: Callable[[str], float],
) -> torch.optim.Optimizer:
    """Makes an optimizer of the trained weights.

    Args:
        kind: Name of the optimizer.
        model: The model.
        lr: Peak learning rate.
        weight_decay: Weight decay of weights with two or more dimensions; biases and norms have none.
        lr_share: Returns the multiplier of ``lr`` for a weight's name; each group keeps it under ``share``.
    """
    groups: list[dict[str, Any]] = []
    named = [(lr_share(name), weight) for name, weight in model.named_parameters() if weight.requires_grad]
    for share in dict.fromkeys(share for share, _ in named):
        for decay, is_matrix in ((weight_decay, True), (0.0, False)):
            if weights := [w for s, w in named if s == share and (w.ndim >= 2) is is_matrix]:
                groups.append({"params": weights, "weight_decay": decay, "share": share})
    if kind == "adafactor":
        from transformers.optimization import Adafactor

        adafactor: torch.optim.Optimizer = Adafactor(groups, lr=lr, scale_parameter=False, relative_step=False)
        return adafactor
    # One pass over each weight in place of a dozen: a third of the time on a processor. On a GPU Lightning would refuse
    # to clip gradients with it in 16-mixed precision.
    fused = all(weight.device.type == "cpu" for _, weight in named)
    return torch.optim.AdamW(groups, lr=lr, fused=fused or None)


def weight_names(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    """Returns the names of an optimizer's weights, in the order of its groups."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    return [names[id(weight)] for group in optimizer.param_groups for weight in group["params"]]


def lr_factor(step: int, steps: int, warmup: float, decay: Literal["none", "linear", "cosine"]) -> float:
    """Returns the share of the peak learning rate at a step of a round, in (0, 1].

    Args:
        step: Number of the step in its round, from 0.
        steps: Steps of the round.
        warmup: Share of the steps over which the rate rises.
        decay: Shape of its fall.

    Example:
        >>> [round(lr_factor(step, 4, 0.5, "linear"), 2) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    left = 1 - (step - rising) / max(1, steps - rising)
    if decay == "linear":
        return left
    return 0.5 * (1 - math.cos(math.pi * left)) if decay == "cosine" else 1.0
