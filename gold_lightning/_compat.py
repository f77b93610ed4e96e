"""Module paths of earlier versions that stand in users' configs go on working."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

__all__ = ["MOVED", "install"]

MOVED = {
    "gold_lightning.checkpoint": "gold_lightning.checkpoints",
    "gold_lightning.ledger": "gold_lightning.budget",
    "gold_lightning.live": "gold_lightning.watching.live",
    "gold_lightning.ood": "gold_lightning.scores",
    "gold_lightning.plan": "gold_lightning.planning.plan",
    "gold_lightning.strategies": "gold_lightning.feedback",
    "gold_lightning.tracking": "gold_lightning.watching.loggers",
}
"""Earlier path of a module to today's: those whose classes a config may name by ``class_path``."""


class _MovedModules(MetaPathFinder, Loader):
    """Finds a moved module under its earlier path: the same module, so that its classes are the same too."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(MOVED[spec.name])
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has put the earlier path there


def install() -> None:
    """Makes the earlier paths importable; once."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
