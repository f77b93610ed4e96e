"""Decides what a run takes over of a checkpoint's optimizer if its settings have changed since."""

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
    """An optimizer's saved state, if it is of the same weights, with the settings of today.

    PyTorch would take over the saved settings too, so a changed ``weight_decay`` would change nothing.

    Args:
        state: As ``state_dict`` gave it, its weights numbered in the order of its groups.
        optimizer: The optimizer of today, without any state yet.
        names: Names of its weights, in the order of its groups.
        saved_names: Those of the saved one, if they were saved.

    Returns:
        What ``load_state_dict`` takes; ``None`` if the state is of another optimizer, or of other groups of weights.
    """
    fresh = optimizer.state_dict()
    saved, groups = state.get("param_groups", []), fresh["param_groups"]
    if [len(group["params"]) for group in saved] != [len(group["params"]) for group in groups]:
        return None
    if saved_names and names and list(saved_names) != list(names):
        return None
    for old, new in zip(saved, groups, strict=True):
        # Versions add an option now and then; two kinds of optimizers have few in common.
        if 2 * len(new.keys() & old.keys()) < len(new):
            return None
    numbers = zip(_numbers(saved), _numbers(groups), strict=True)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    found: dict[Any, Any] = {}
    for (old, new), weight in zip(numbers, weights, strict=True):
        if (entry := state.get("state", {}).get(old)) is None:
            continue
        if not all(_is_of(value, weight) for value in entry.values()):
            return None
        found[new] = entry
    return {"state": found, "param_groups": groups}


def say_afresh() -> None:
    """Says that the optimizer of a checkpoint is left behind."""
    _log.warning(
        "the checkpoint's optimizer is of another kind or has other groups of weights (model.optimizer, encoder_lr or "
        "embedding_lr have changed, or the version of the program): weights go on, and the optimizer begins afresh"
    )


def _numbers(groups: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [number for group in groups for number in group["params"]]


def _is_of(value: Any, weight: Tensor) -> bool:
    """Whether a value may be a moment of a weight: of its shape, of its rows or of its columns, or a plain number."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return True
    shape = tuple(weight.shape)
    return tuple(value.shape) in (shape, shape[:-1], (*shape[:-2], *shape[-1:]), (1,))
