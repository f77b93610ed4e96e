"""Evaluation mode for a while: a module without dropout, whose mode comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluation_mode"]


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
