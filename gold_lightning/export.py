"""What leaves a run: the best student as an ordinary Hugging Face folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from gold_lightning.errors import GoldError
from gold_lightning.student import T5Student

__all__ = ["export_best"]


def export_best(student: T5Student, run_dir: Path) -> Path:
    """Writes the best checkpoint's weights to ``student/`` in the run folder, whole or not at all.

    Args:
        student: Of the checkpoint's shape; its own weights stay as they are.
        run_dir: The run folder.

    Returns:
        The folder, which ``AutoModelForSeq2SeqLM.from_pretrained`` loads.
    """
    path = Path(run_dir) / "checkpoints" / "best.ckpt"
    if not path.exists():
        raise GoldError(f"{path}: no such checkpoint; run fit first")
    held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    folder, part = Path(run_dir) / "student", Path(run_dir) / "student.part"
    shutil.rmtree(part, ignore_errors=True)
    student.export(part, held["state_dict"])
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return folder
