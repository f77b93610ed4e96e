"""Asks a generator about the inputs that a student does not know."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.errors import GoldError
from gold_lightning.generators.base import Completion, Generator, Request
from gold_lightning.likelihoods import LabelLikelihoods
from gold_lightning.questions import answer_request, read_answer
from gold_lightning.task import Task

__all__ = ["Answer", "Fallback"]

_log = logging.getLogger("gold_lightning")
_REMEMBERED = 10_000  # answers that are not asked for again
_HOUR = 3600.0

Answer = dict[str, Any]
"""``label``, ``probability`` and ``probabilities``; or ``labels`` or ``text``, and no probability (``None``)."""


class Fallback:
    """The generator's answers to inputs, asked for as labels of real texts are: ``fit --data.unlabelled`` does it.

    For a task with one label a row, the answer is the label whose likelihood gains most over its mean for the task's
    demos (contextual calibration), so that it does not depend on what was asked before. Other tasks are decoded
    greedily.

    Args:
        task: The task.
        generator: The generator.
        per_hour: Maximum number of inputs in an hour for which the generator is asked.
    """

    def __init__(self, task: Task, generator: Generator, per_hour: int) -> None:
        self.task, self.generator, self.per_hour = task, generator, per_hour
        self._answers: OrderedDict[tuple[str, ...], Answer] = OrderedDict()
        self._hour, self._asked = time.monotonic(), 0
        self._check: LabelCheck | None = None
        if task.one_label:
            self._check = LabelCheck(task, 1, True, self._generate, generator.tokens_over_limit, "contextual")

    def prepare(self) -> None:
        """Loads the generator, and asks it about the task's demos if it has labels.

        Raises:
            GoldError: The generator cannot be asked, or reports no likelihoods of labels.
        """
        self.generator.load()
        self._calibrate()

    def known_answer(self, fields: Mapping[str, str]) -> Answer | None:
        """Returns the answer to an input that was asked about before."""
        return self._answers.get(tuple(fields.values()))

    def may_ask(self) -> bool:
        """Counts an input; returns whether ``per_hour`` allows it."""
        if time.monotonic() - self._hour >= _HOUR:
            self._hour, self._asked = time.monotonic(), 0
        self._asked += 1
        return self._asked <= self.per_hour

    def answer(self, rows: Sequence[Mapping[str, str]]) -> list[Answer | None]:
        """Asks the generator.

        Args:
            rows: The fields of each input.

        Returns:
            The answer to each; ``None`` if the generator has none, or the input is too long for it.
        """
        self._calibrate()
        requests = [self._request(fields) for fields in rows]
        fits = [not over for over in self.generator.tokens_over_limit(requests)]
        sent = [request for request, fit in zip(requests, fits, strict=True) if fit]
        completions = iter(self.generator.generate(sent) if sent else [])
        answers = [self._read(next(completions)) if fit else None for fit in fits]
        for fields, answer in zip(rows, answers, strict=True):
            if answer is not None:
                self._answers[tuple(fields.values())] = answer
                if len(self._answers) > _REMEMBERED:
                    self._answers.popitem(last=False)
        return answers

    def _calibrate(self) -> None:
        """Asks about the demos, once they are answered never again."""
        if self._check is None:
            return
        completions = self._check.calibrate(0)
        if completions and not any(completion.is_answer for completion in completions):
            self._check.calibration = "contextual"  # begins anew
            raise GoldError("the generator prefers no label for any of the task's demos")

    def _request(self, fields: Mapping[str, str]) -> Request:
        if self._check is not None:
            return self._check.request(fields)
        return answer_request(self.task, fields, self.task.demos)

    def _read(self, completion: Completion) -> Answer | None:
        if not completion.is_answer:
            return None
        if self._check is not None:
            likelihoods = self._check.of_texts.likelihoods(completion.choice_log_probs)
            return None if likelihoods is None else _label_answer(likelihoods)
        text = read_answer(completion.text, self.task).strip()
        if not text or completion.reason or completion.finish != "stop":
            return None
        if self.task.many:
            labels = self.task.labels_of(text)
            return None if labels is None else {"labels": list(labels), "probability": None}
        return {"text": text, "probability": None}

    def _generate(self, requests: Sequence[Request], round_: int) -> list[Completion]:
        return self.generator.generate(requests)


def _label_answer(likelihoods: LabelLikelihoods) -> Answer:
    probabilities = likelihoods.probabilities
    label = likelihoods.label
    return {"label": label, "probability": probabilities[label], "probabilities": probabilities}
