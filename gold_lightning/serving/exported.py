"""Loads an exported student, so that it can be served without torch."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gold_lightning.calibration import rule
from gold_lightning.errors import GoldError, require
from gold_lightning.t5.prediction import Prediction
from gold_lightning.task import Task

__all__ = ["ExportedStudent", "is_exported"]

_PREDICT = Path(__file__).parent.parent / "assets" / "export" / "predict.py"


def is_exported(folder: Path) -> bool:
    """Returns whether a folder is one that ``export`` has written."""
    return (folder / "export.json").is_file()


class ExportedStudent:
    """A student that onnxruntime or CTranslate2 runs.

    The code is this package's copy of the folder's ``predict.py``: what stands in the folder is not executed.

    Args:
        folder: The folder that ``export`` has written.

    Raises:
        GoldError: The folder is damaged, or its runtime is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            facts = json.loads((folder / "export.json").read_text(encoding="utf-8"))
            settings = json.loads((folder / "gold_task.json").read_text(encoding="utf-8"))
            self.task = Task.from_document(settings["task"], "")
            runtime = {"onnx": "onnxruntime", "ctranslate2": "ctranslate2"}[facts["to"]]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise GoldError(f"{folder}: damaged ({type(e).__name__}: {e}); export it again") from None
        require(runtime, "export")
        self._student = _module().Student(folder)
        self.calibration: Mapping[str, Any] | None = self._student.calibration

    def predict(self, texts: list[dict[str, str]], batch_size: int = 32) -> list[Prediction]:
        """Predicts each text; see :meth:`gold_lightning.t5.inference.Inference.predict`."""
        return [_prediction(values) for values in self._student.predict(texts, batch_size)]


def _prediction(values: Mapping[str, Any]) -> Prediction:
    shares: Mapping[str, float] = values.get("probabilities", {})
    return Prediction(
        values.get("label", values.get("text", "")),
        list(shares),
        list(shares.values()),
        probability=values["probability"],
        energy=values["energy"],
        known=values["known"],
        label_set=values.get("label_set"),
    )


def _module() -> Any:
    """Imports the exported folder's program from this package, which is no module of it."""
    sys.modules.setdefault("calibration_rule", rule)  # by this name it stands beside the program
    spec = importlib.util.spec_from_file_location("gold_lightning_exported", _PREDICT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
