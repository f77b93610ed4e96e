"""Imports a user's modules, whose decorators register checks and metrics that task files can name.

Modules come from the setting ``data.plugins``, and from installed packages with an entry point in the group
``gold_lightning.plugins``. A task file names checks and metrics alone, so that a task stays data.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import TypeVar

from gold_lightning.errors import ConfigError, GoldError

__all__ = ["GROUP", "find", "load_plugins"]

GROUP = "gold_lightning.plugins"
_T = TypeVar("_T")


def load_plugins(modules: Sequence[str], key: str = "data.plugins") -> None:
    """Imports modules.

    Args:
        modules: Names such as ``my_package.checks``.
        key: The setting that names them, for messages.

    Raises:
        ConfigError: There is no such module.
    """
    for i, name in enumerate(modules):
        try:
            importlib.import_module(name)
        except (ModuleNotFoundError, TypeError, ValueError) as e:
            missing = getattr(e, "name", None)
            if missing and not f"{name}.".startswith(f"{missing}."):
                raise  # the module exists, but imports one that does not
            hint = "install its package, or put its folder on PYTHONPATH"
            raise ConfigError(f"{key}[{i}]", name, "the name of a module that can be imported", hint) from None


@cache
def load_entry_points() -> None:
    """Imports the plugins of installed packages, once."""
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as e:  # another package's code may raise anything
            raise GoldError(f"plugin {entry.value} of an installed package: {type(e).__name__}: {e}") from e


def find(registry: Mapping[str, _T], name: str) -> _T | None:
    """Returns a registry's entry of a name. If there is none, imports the plugins of installed packages first."""
    if name not in registry:
        load_entry_points()
    return registry.get(name)
