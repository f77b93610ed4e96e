"""Loads the student that a command names, without Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gold_lightning.errors import ConfigError
from gold_lightning.inputs.paths import expand

if TYPE_CHECKING:
    from gold_lightning.t5.inference import SavedStudent

__all__ = ["load_student", "student_folder", "torch_device"]


def load_student(folder: str, task: str | None, device: str) -> SavedStudent:
    """Loads a student for prediction.

    Args:
        folder: The student's folder, or that of the run that trained it, as the user wrote it.
        task: The task, for a folder that carries none.
        device: Device of torch; ``auto`` takes a GPU if there is one.

    Raises:
        GoldError: The folder holds no student, or there is no such device.
    """
    from gold_lightning.cli.quiet import quiet

    quiet()
    path = student_folder(folder)
    from gold_lightning.t5.inference import SavedStudent

    return SavedStudent(path, task, torch_device(device))


def student_folder(folder: str) -> Path:
    """Returns the folder of a student that a user names, or names the run of.

    Raises:
        ConfigError: There is no such folder.
    """
    from gold_lightning.t5.folder import TASK_FILE

    path = Path(expand("STUDENT", folder))
    if not path.is_dir():
        raise ConfigError("STUDENT", folder, "the folder of a student, as fit leaves it in the run folder's student/")
    if not (path / TASK_FILE).is_file() and (path / "student" / "config.json").is_file():
        path /= "student"
    return path


def torch_device(name: str) -> str:
    """Returns the name of a device; ``auto`` is a GPU if there is one.

    Raises:
        ConfigError: There is no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise ConfigError("--device", name, "cpu, cuda or auto") from None
