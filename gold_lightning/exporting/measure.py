"""Predicts with one student in a process of its own, so that time and memory are those of this student alone.

It imports nothing at the beginning that an exported folder does not need.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["BATCH_SIZE", "main"]

BATCH_SIZE = 32
"""Texts in a batch, of answers and of the rate of rows."""

_SINGLE = 50  # texts that are timed one by one
_SECONDS = 20.0  # of timing, beyond the passes that are necessary


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes predictions, times and peak memory of a student as JSON.

    Args:
        arguments: ``torch`` or ``exported``, the folder, a JSON file with the texts, the file to write, the number of
            threads, and for ``torch`` a JSON file with the task.
    """
    parser = argparse.ArgumentParser()
    for name in ("kind", "folder", "texts", "out", "threads", "task"):
        parser.add_argument(name, nargs="?" if name == "task" else None)
    options = parser.parse_args(arguments)
    texts = json.loads(Path(options.texts).read_text(encoding="utf-8"))
    load = _load_torch if options.kind == "torch" else _load_exported
    predict = load(options.folder, int(options.threads), options.task)
    started = time.perf_counter()
    predictions = predict(texts, BATCH_SIZE)
    first = time.perf_counter() - started
    seconds = [_timed(predict, texts, BATCH_SIZE) for _ in range(3 if first < _SECONDS / 3 else 1)]
    single = [_timed(predict, [text], 1) for text in texts[:_SINGLE]]
    result = {
        "predictions": predictions,
        "rows_per_second": len(texts) / min(seconds),
        "ms_single": 1000 * sorted(single)[len(single) // 2],
        "peak_mb": _peak_mb(),
    }
    Path(options.out).write_text(json.dumps(result), encoding="utf-8")


def _timed(predict: Callable[[list[Any], int], Any], texts: list[Any], batch_size: int) -> float:
    started = time.perf_counter()
    predict(texts, batch_size)
    return time.perf_counter() - started


def _load_torch(folder: str, threads: int, task_file: str) -> Callable[[list[Any], int], list[dict[str, Any]]]:
    import torch

    from gold_lightning.t5.folder import TASK_FILE
    from gold_lightning.t5.inference import SavedStudent
    from gold_lightning.task import Task

    torch.set_num_threads(threads)
    task = None
    if not (Path(folder) / TASK_FILE).is_file():
        task = Task.from_document(json.loads(Path(task_file).read_text(encoding="utf-8"))["task"])
    student = SavedStudent(folder, task)
    return lambda texts, batch_size: [prediction.to_dict() for prediction in student.predict(texts, batch_size)]


def _load_exported(folder: str, threads: int, task_file: str) -> Callable[[list[Any], int], list[dict[str, Any]]]:
    sys.path.insert(0, folder)
    predict: Callable[[list[Any], int], list[dict[str, Any]]]
    sys.dont_write_bytecode = True  # the folder is given away as it was written
    predict = importlib.import_module("predict").Student(folder, threads).predict
    return predict


def _peak_mb() -> float | None:
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage counts the process that started this one, too
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main()
