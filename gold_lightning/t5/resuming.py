"""Restores a checkpoint's optimizer state under settings that may have changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

__all__ = ["fitting_state", "say_afresh"]

_log = logging.getLogger("gold_lightning")


def fitting_state(
    state: Mapping[str, Any], optimizer: Optimizer, names: Sequence[str] = (), saved_names: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Combines an optimizer's saved state with the current settings, if both have the same weights.

    PyTorch would restore the saved settings, too, so that a changed ``weight_decay`` had no effect.

    Args:
        state: The saved ``state_dict``, with weights numbered in the order of its groups.
        optimizer: The current optimizer, still without state.
        names: Names of its weights, in the order of its groups.
        saved_names: Names of the saved weights, if known.

    Returns:
        A value for ``load_state_dict``; ``None`` if the state belongs to another optimizer or other groups of weights.
    """
    fresh = optimizer.state_dict()
    saved, groups = state.get("param_groups", []), fresh["param_groups"]
    if [len(group["params"]) for group in saved] != [len(group["params"]) for group in groups]:
        return None
    if saved_names and names and list(saved_names) != list(names):
        return None
    for old, new in zip(saved, groups, strict=True):
        # New versions add options; different kinds of optimizers share few.
        if 2 * len(new.keys() & old.keys()) < len(new):
            return None
    numbers = zip(_numbers(saved), _numbers(groups), strict=True)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments: dict[Any, Any] = {}
    for (old, new), weight in zip(numbers, weights, strict=True):
        if (entry := state.get("state", {}).get(old)) is None:
            continue
        if not all(_is_of(value, weight) for value in entry.values()):
            return None
        moments[new] = entry
    return {"state": moments, "param_groups": groups}


def say_afresh() -> None:
    """Warns that the optimizer state of a checkpoint is not restored."""
    _log.warning(
        "the checkpoint's optimizer is of another kind or has other groups of weights (model.optimizer, encoder_lr or "
        "embedding_lr have changed, or the version of the program): weights go on, and the optimizer begins afresh"
    )


def _numbers(groups: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [number for group in groups for number in group["params"]]


def _is_of(value: Any, weight: Tensor) -> bool:
    """Tells whether a value can be a moment of a weight: of its shape, its rows or columns, or a plain number."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return True
    shape = tuple(weight.shape)
    return tuple(value.shape) in (shape, shape[:-1], (*shape[:-2], *shape[-1:]), (1,))
