"""States of a module: evaluation mode for a while, and whether its weights are sharded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluation_mode", "is_sharded"]


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Turns dropout off until the block ends, and restores the mode then, also after an error.

    Args:
        module: The module.

    Example:
        >>> module = nn.Dropout()
        >>> with evaluation_mode(module):
        ...     module.training
        False
        >>> module.training
        True
    """
    was_training = module.training
    module.train(False)
    try:
        yield
    finally:
        module.train(was_training)


def is_sharded(model: nn.Module) -> bool:
    """Tells whether a model's weights are spread over processes by FSDP2."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return False
    from torch.distributed.fsdp import FSDPModule  # takes a while to import

    return isinstance(model, FSDPModule)
