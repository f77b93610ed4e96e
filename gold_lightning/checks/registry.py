"""Registry of checks by the names that task files use: the built-in rules and a user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from gold_lightning.errors import GoldError

__all__ = ["CHECKS", "check"]

CHECKS: dict[str, Callable[..., str]] = {}
"""Every registered check by name."""

_F = TypeVar("_F", bound=Callable[..., str])


def check(function: _F) -> _F:
    r"""Registers a function as a check that a task file can name.

    A check takes a sample, the task and keyword-only parameters. It returns "" for a sample that passes, and a
    reason in ``snake_case`` for one that does not: the reason is stored with the reject and counted in yield tables.
    For parameters that are wrong whatever the sample, it raises ``TypeError``, ``KeyError`` or ``ValueError``. The
    task names it as ``checks: [{one_line: {field: text}}]``; ``--data.plugins my_package.checks`` imports the module.

    Args:
        function: The check. Its name is the name in the task file.

    Returns:
        The function itself.

    Raises:
        GoldError: A check of another module has that name, or the function's parameters are not those of a check.

    Example:
        >>> from gold_lightning.checks import check
        >>> @check
        ... def one_line(sample, task, *, field):
        ...     return "several_lines" if "\n" in sample.fields[field] else ""
    """
    name = function.__name__
    positional = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    if len(positional) != 2 or any(p.kind is p.VAR_POSITIONAL or p.kind is p.VAR_KEYWORD for p in positional):
        raise GoldError(f"the check {name} must take (sample, task, *, ...), with its own parameters after the star")
    registered = CHECKS.get(name)
    # The same module may register a check twice, as when a notebook cell runs again.
    if registered is not None and registered.__module__ != function.__module__:
        taken = f"has the same name as one of {registered.__module__}"
        raise GoldError(f"the check {name} of {function.__module__} {taken}; rename it")
    CHECKS[name] = function
    return function
