"""What a server answers, apart from HTTP: predictions of a student, and what follows if it does not know an input."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gold_lightning.serving.batcher import Batcher, SaturatedError
from gold_lightning.serving.numbers import ServerNumbers
from gold_lightning.serving.settings import ServeSettings
from gold_lightning.serving.unknown_file import Outcome, UnknownFile
from gold_lightning.t5.prediction import Prediction
from gold_lightning.task import Task

if TYPE_CHECKING:
    from gold_lightning.serving.fallback import Answer, Fallback

__all__ = ["Service", "Student"]

_log = logging.getLogger("gold_lightning")
_QUIET_SECONDS = 60.0  # between two lines of the log about the same trouble
_Fields = dict[str, str]


class Student(Protocol):
    """A student that can be served, such as :class:`~gold_lightning.t5.inference.SavedStudent`."""

    task: Task
    calibration: Mapping[str, Any] | None

    def predict(self, texts: list[_Fields], batch_size: int = 32) -> list[Prediction]:
        """Predicts each text; see :meth:`gold_lightning.t5.inference.Inference.predict`."""


class Service:
    """Predicts texts of many requests at once; stores those that the student does not know, and asks a generator.

    Neither the file nor the generator can make a request fail: without them the answer is the student's.

    Args:
        student: The student.
        settings: Sizes of batches and of the queue.
        unknown: File of the inputs that the student does not know.
        fallback: Generator that answers them.
        fallback_timeout: Seconds after which the student's own answer is given.
    """

    def __init__(
        self,
        student: Student,
        settings: ServeSettings,
        unknown: UnknownFile | None = None,
        fallback: Fallback | None = None,
        fallback_timeout: float = 20.0,
    ) -> None:
        self.task, self.settings, self._student = student.task, settings, student
        self._unknown, self._fallback, self._timeout = unknown, fallback, fallback_timeout
        self._reported: dict[str, float] = {}
        self.numbers = ServerNumbers(lambda: self._predictions.waiting)
        self._predictions: Batcher[_Fields, Prediction] = Batcher(
            lambda rows: student.predict(rows, settings.batch_size),
            settings.batch_size,
            settings.max_wait / 1000,
            settings.max_waiting,
            isolate=True,
            observe=self.numbers.batch,
        )
        self._batchers: list[Batcher[Any, Any]] = [self._predictions]
        if unknown is not None:
            self._stored: Batcher[tuple[_Fields, dict[str, Any]], Outcome]
            self._stored = Batcher(unknown.append, 1000)
            self._batchers.append(self._stored)
        if fallback is not None:
            self._answers: Batcher[_Fields, Answer | None]
            self._answers = Batcher(fallback.answer, fallback.generator.batch_size, 0.02)
            self._batchers.append(self._answers)

    def start(self) -> None:
        """Starts the threads, and predicts a text so that the first request is as fast as later ones."""
        self._student.predict([dict(self.task.demos[0].fields)])
        for batcher in self._batchers:
            batcher.start()

    def close(self) -> None:
        """Answers what waits, ends the threads, and closes the file."""
        for batcher in self._batchers:
            batcher.close(self.settings.stop_seconds)
        if self._unknown is not None:
            self._unknown.close()

    async def predict(self, rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """Returns what the server answers for each text.

        Args:
            rows: The fields of each text.

        Returns:
            :meth:`Prediction.to_dict`. With a fallback also ``source``: ``student``, or ``generator`` if ``label``,
            ``probability`` and ``probabilities`` are the generator's; ``energy`` and ``known`` stay the student's.

        Raises:
            SaturatedError: Too many texts wait for the student.
        """
        texts = [dict(row) for row in rows]
        predictions = await self._predictions.submit(texts)
        answers = [prediction.to_dict() for prediction in predictions]
        for prediction in predictions:
            self.numbers.text(prediction.known)
        if self._fallback is not None:
            answers = [answer | {"source": "student"} for answer in answers]
        unknown = [at for at, prediction in enumerate(predictions) if prediction.known is False]
        if unknown and (self._fallback is not None or self._unknown is not None):
            followed = await asyncio.gather(*(self._follow(texts[at], answers[at]) for at in unknown))
            for at, answer in zip(unknown, followed, strict=True):
                answers[at] = answer
        return answers

    async def _follow(self, fields: _Fields, own: dict[str, Any]) -> dict[str, Any]:
        """Asks the generator about an input that the student does not know, stores both answers, and returns one."""
        names = ("label", "labels", "text", "probability", "energy")
        stored = {"student": {name: own[name] for name in names if name in own}}
        answer = await self._ask(fields) if self._fallback is not None else None
        if answer is not None:
            stored["generator"] = {name: answer[name] for name in names if name in answer}
        if self._unknown is not None:
            await self._store(fields, stored)
        if answer is None:
            return own
        unchanged = {name: own[name] for name in own if name not in ("label_set", "energies", "probabilities")}
        return {**unchanged, **answer, "source": "generator"}

    async def _ask(self, fields: _Fields) -> Answer | None:
        assert self._fallback is not None
        if (answer := self._fallback.known_answer(fields)) is not None:
            self.numbers.fallback("remembered")
            return answer
        if not self._fallback.may_ask():
            self.numbers.fallback("over_limit")
            return None
        try:
            (answer,) = await asyncio.wait_for(self._answers.submit([fields]), self._timeout)
        except TimeoutError:
            self.numbers.fallback("late")
        except SaturatedError:
            self.numbers.fallback("busy")
        except Exception as e:
            self.numbers.fallback("failed")
            self._report("--fallback", e)
        else:
            self.numbers.fallback("none" if answer is None else "answered")
            return answer
        return None

    async def _store(self, fields: _Fields, values: dict[str, Any]) -> None:
        try:
            (outcome,) = await self._stored.submit([(fields, values)])
        except Exception as e:
            self.numbers.unknown("lost")
            self._report("--unknown", e)
        else:
            self.numbers.unknown(outcome)

    def _report(self, setting: str, error: Exception) -> None:
        """Logs trouble with a setting, once a minute at most."""
        if time.monotonic() - self._reported.get(setting, -_QUIET_SECONDS) >= _QUIET_SECONDS:
            self._reported[setting] = time.monotonic()
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            _log.warning("%s: %s; the student's own answers are given", setting, reason)
