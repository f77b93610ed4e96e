"""Knowledge distillation by out-of-distribution-guided data generation (GOLD), as a Lightning application.

>>> import gold_lightning as gl
>>> gl.Task.__name__
'Task'

The names below are imported when they are first used, so that ``import gold_lightning`` loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from gold_lightning import _compat

if TYPE_CHECKING:
    from gold_lightning.api import Preview as Preview
    from gold_lightning.api import distill as distill
    from gold_lightning.api import evaluate as evaluate
    from gold_lightning.api import load as load
    from gold_lightning.api import preview as preview
    from gold_lightning.api import synthesize as synthesize
    from gold_lightning.budget import Budget as Budget
    from gold_lightning.calibration.fitting import CalibrationSettings as CalibrationSettings
    from gold_lightning.callbacks import OODFeedback as OODFeedback
    from gold_lightning.checks import check as check
    from gold_lightning.data import GoldDataModule as GoldDataModule
    from gold_lightning.drafting import draft_task as draft_task
    from gold_lightning.errors import ConfigError as ConfigError
    from gold_lightning.errors import GoldError as GoldError
    from gold_lightning.evaluation.calibrate import calibrate as calibrate
    from gold_lightning.exporting.exporter import Export as Export
    from gold_lightning.exporting.exporter import export as export
    from gold_lightning.feedback import FeedbackStrategy as FeedbackStrategy
    from gold_lightning.generators import Completion as Completion
    from gold_lightning.generators import EmbeddedGenerator as EmbeddedGenerator
    from gold_lightning.generators import Generator as Generator
    from gold_lightning.generators import OpenAIGenerator as OpenAIGenerator
    from gold_lightning.generators import OpenVINOGenerator as OpenVINOGenerator
    from gold_lightning.generators import Request as Request
    from gold_lightning.generators import ScriptedGenerator as ScriptedGenerator
    from gold_lightning.generators import TransformersGenerator as TransformersGenerator
    from gold_lightning.generators import VLLMGenerator as VLLMGenerator
    from gold_lightning.losses import CrossEntropy as CrossEntropy
    from gold_lightning.losses import RobustLoss as RobustLoss
    from gold_lightning.losses import SoftTargets as SoftTargets
    from gold_lightning.losses import SymmetricCrossEntropy as SymmetricCrossEntropy
    from gold_lightning.metrics import metric as metric
    from gold_lightning.planning.plan import SynthesisPlan as SynthesisPlan
    from gold_lightning.run import Run as Run
    from gold_lightning.scores import EnergyScore as EnergyScore
    from gold_lightning.scores import OODScore as OODScore
    from gold_lightning.student import T5Student as T5Student
    from gold_lightning.task import Field as Field
    from gold_lightning.task import Label as Label
    from gold_lightning.task import Sample as Sample
    from gold_lightning.task import Task as Task

__version__ = "0.1.0"

_PUBLIC = {
    "gold_lightning.api": "Preview distill evaluate load preview synthesize",
    "gold_lightning.budget": "Budget",
    "gold_lightning.calibration.fitting": "CalibrationSettings",
    "gold_lightning.callbacks": "OODFeedback",
    "gold_lightning.checks": "check",
    "gold_lightning.data": "GoldDataModule",
    "gold_lightning.drafting": "draft_task",
    "gold_lightning.errors": "ConfigError GoldError",
    "gold_lightning.evaluation.calibrate": "calibrate",
    "gold_lightning.exporting.exporter": "Export export",
    "gold_lightning.feedback": "FeedbackStrategy",
    "gold_lightning.generators": "Completion EmbeddedGenerator Generator OpenAIGenerator OpenVINOGenerator Request "
    "ScriptedGenerator TransformersGenerator VLLMGenerator",
    "gold_lightning.losses": "CrossEntropy RobustLoss SoftTargets SymmetricCrossEntropy",
    "gold_lightning.metrics": "metric",
    "gold_lightning.planning.plan": "SynthesisPlan",
    "gold_lightning.run": "Run",
    "gold_lightning.scores": "EnergyScore OODScore",
    "gold_lightning.student": "T5Student",
    "gold_lightning.task": "Field Label Sample Task",
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names.split()}

__all__ = sorted([*_MODULES, "__version__"])

_compat.install()


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'gold_lightning' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
