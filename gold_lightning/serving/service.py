"""What a server answers, apart from HTTP: predictions of a student, and what follows if it does not know an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gold_lightning.serving.batcher import Batcher
from gold_lightning.serving.numbers import ServerNumbers
from gold_lightning.serving.settings import ServeSettings
from gold_lightning.t5.prediction import Prediction
from gold_lightning.task import Task

__all__ = ["Service", "Student"]


class Student(Protocol):
    """A student that can be served, such as :class:`~gold_lightning.t5.inference.SavedStudent`."""

    task: Task

    def predict(self, texts: list[dict[str, str]], batch_size: int = 32) -> list[Prediction]:
        """Predicts each text; see :meth:`gold_lightning.t5.inference.Inference.predict`."""


class Service:
    """Predicts texts of many requests at once.

    Args:
        student: The student.
        settings: Sizes of batches and of the queue.
    """

    def __init__(self, student: Student, settings: ServeSettings) -> None:
        self.task, self.settings, self._student = student.task, settings, student
        self.numbers = ServerNumbers(lambda: self._predictions.waiting)
        self._predictions: Batcher[dict[str, str], Prediction] = Batcher(
            lambda rows: student.predict(rows, settings.batch_size),
            settings.batch_size,
            settings.max_wait / 1000,
            settings.max_waiting,
            isolate=True,
            observe=self.numbers.batch,
        )

    def start(self) -> None:
        """Starts the threads, and predicts a text so that the first request is as fast as later ones."""
        self._student.predict([dict(self.task.demos[0].fields)])
        self._predictions.start()

    def close(self) -> None:
        """Answers what waits, and ends the threads."""
        self._predictions.close(self.settings.stop_seconds)

    async def predict(self, rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """Returns what the server answers for each text: :meth:`Prediction.to_dict`.

        Args:
            rows: The fields of each text.

        Raises:
            SaturatedError: Too many texts wait for the student.
        """
        predictions = await self._predictions.submit([dict(row) for row in rows])
        for prediction in predictions:
            self.numbers.text(prediction.known)
        return [prediction.to_dict() for prediction in predictions]
