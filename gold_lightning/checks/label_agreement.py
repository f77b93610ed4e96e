"""Asks the generator for its own likelihoods of all labels, given a text: to check labels, and to give them."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence

from gold_lightning.errors import GoldError
from gold_lightning.generators.base import Completion, Request
from gold_lightning.likelihoods import Calibration, LabelCalibrator, LabelLikelihoods
from gold_lightning.questions import agreement_request
from gold_lightning.storage.json_lines import digest
from gold_lightning.task import Sample, Task

__all__ = ["LabelCheck"]

_log = logging.getLogger(__name__)


class LabelCheck:
    """Asks the generator for calibrated likelihoods of all labels, given the fields of a row.

    Samples (whose label is known, since the prompt requested it) and other texts (whose label is not) are calibrated
    apart, since a generator's own texts and real ones differ in their likelihoods.

    Args:
        task: The task, which has labels.
        seed: Seed of the choice of demos in the prompt.
        required: Whether samples without a preferred label are rejected.
        answer: Function that completes requests, given the requests and the round that pays for them.
        tokens_over_limit: Function that returns the number of tokens by which each request exceeds the context of the
            generator's model.
        calibration: Kind of calibration; see :class:`~gold_lightning.likelihoods.LabelCalibrator`.
    """

    def __init__(
        self,
        task: Task,
        seed: int,
        required: bool,
        answer: Callable[[Sequence[Request], int], list[Completion]],
        tokens_over_limit: Callable[[Sequence[Request]], list[int]],
        calibration: Calibration = "contextual",
    ) -> None:
        self.task, self.required = task, required
        self._answer, self._tokens_over_limit = answer, tokens_over_limit
        self._order = random.Random(f"{seed}/agreement").sample(task.demos, len(task.demos))
        self._prompt_demos = self._one_of_each()
        self._fits = self._warned = False
        self._shows = f"lists all {len(task.labels)} with a demo of each,"
        self.calibration = calibration

    @property
    def calibration(self) -> Calibration:
        """Kind of calibration; setting it begins anew."""
        return self._calibration

    @calibration.setter
    def calibration(self, kind: Calibration) -> None:
        self._calibration = kind
        self.of_samples, self.of_texts = self._calibrators(kind)
        self._calibrated = kind == "none"
        self._seen: set[str] = set()

    def _calibrators(self, kind: Calibration) -> tuple[LabelCalibrator, LabelCalibrator]:
        names = self.task.label_names
        return LabelCalibrator(names, kind), LabelCalibrator(names, kind, by_label=False)

    def _one_of_each(self) -> list[Sample]:
        return [next(d for d in self._order if d.target == name) for name in self.task.label_names]

    def request(self, fields: Mapping[str, str]) -> Request:
        """Asks for the likelihoods of all labels, given the fields of a row."""
        return agreement_request(self.task, fields, self._prompt_demos)

    def requests(self, fields: Mapping[str, str]) -> list[Request]:
        """Returns the requests whose answers together hold the likelihoods of all labels."""
        return [self.request(fields)]

    def log_probs(self, completions: Sequence[Completion]) -> Sequence[float]:
        """Returns the likelihood of each label in the answers to :meth:`requests`."""
        return completions[0].choice_log_probs

    def check_length(self) -> None:
        """Checks that the prompt, which lists every label with a demo of each, fits the generator's model.

        Raises:
            GoldError: The prompt is too long for a sample as long as the longest demo.
        """
        if self._fits:
            return
        if over := max(self._tokens_over_limit([r for demo in self.task.demos for r in self.requests(demo.fields)])):
            raise GoldError(
                f"data.plan.label_agreement: the prompt that checks labels {self._shows} and is {over} tokens longer "
                "than the generator's model takes; shorten the labels' meanings and demos, use a model with a longer "
                "context, or set data.plan.label_agreement: off"
            )
        self._fits = True

    def calibrate(self, round_: int) -> list[Completion]:
        """Asks for the likelihoods of the demos, with which each calibration begins, once.

        Demos in the prompt are left out if their label has others.

        Args:
            round_: The round that pays for the requests.

        Returns:
            The completions of the requests; none after the first call, or if likelihoods are not calibrated.
        """
        if self._calibrated:
            return []
        self.check_length()
        demos = self._calibration_demos()
        answers, completions = self._ask([self.requests(d.fields) for d in demos], round_)
        rows = [(d.target, log_probs) for d, log_probs in zip(demos, answers, strict=True)]
        self.of_samples.start(rows)
        self.of_texts.start(rows)
        self._calibrated = True
        return completions

    def _calibration_demos(self) -> list[Sample]:
        demos: list[Sample] = []
        for name in self.task.label_names:
            of_label = [d for d in self._order if d.target == name]
            demos += [d for d in of_label if d not in self._prompt_demos] or of_label
        return demos

    def _ask(
        self, requests: Sequence[Sequence[Request]], round_: int
    ) -> tuple[list[Sequence[float]], list[Completion]]:
        """Returns the likelihoods that the answers to each row's requests hold, and these answers."""
        completions = self._answer([request for of_row in requests for request in of_row], round_)
        remaining = iter(completions)
        return [self.log_probs([next(remaining) for _ in of_row]) for of_row in requests], completions

    def remember(self, fields: Mapping[str, str], log_probs: Sequence[float], label: str = "") -> None:
        """Counts a row that was scored before, e.g. before a run was resumed, for the calibration of later ones.

        Args:
            fields: The fields of the row. Equal rows count once.
            log_probs: Its log-likelihoods, as :attr:`LabelLikelihoods.log_probs`.
            label: The label that was requested of a sample; "" for other texts.
        """
        key = digest([dict(fields), label])
        if key not in self._seen:
            self._seen.add(key)
            (self.of_samples if label else self.of_texts).observe(log_probs, label)

    def score(
        self, rows: Sequence[Mapping[str, str]], round_: int, labels: Sequence[str] = ()
    ) -> tuple[list[LabelLikelihoods | None], list[Completion]]:
        """Returns the calibrated likelihoods of all labels for each row.

        With batch calibration the rows of this call count for their own calibration, beside all rows before.

        Args:
            rows: The fields of each row.
            round_: The round that pays for the requests.
            labels: The label that was requested of each row, for samples; none for texts of unknown label.

        Returns:
            The likelihoods of each row (``None`` if they prefer no label or the request would be too long), and the
            completions of the requests.
        """
        if not rows:
            return [], []
        self.calibrate(round_)
        requests = [self.requests(fields) for fields in rows]
        over = iter(self._tokens_over_limit([request for of_row in requests for request in of_row]))
        fits = [i for i, of_row in enumerate(requests) if not sum(next(over) for _ in of_row)]
        log_probs, completions = self._ask([requests[i] for i in fits], round_)
        answers = dict(zip(fits, log_probs, strict=True))
        for i, values in answers.items():
            self.remember(rows[i], values, labels[i] if labels else "")
        calibrator = self.of_samples if labels else self.of_texts
        scored = [calibrator.likelihoods(answers[i]) if i in answers else None for i in range(len(rows))]
        return scored, completions

    def check(self, samples: Sequence[Sample], round_: int) -> tuple[list[LabelLikelihoods | None], list[Completion]]:
        """Does what :meth:`score` does for samples, and warns once if some get no answer.

        Args:
            samples: The samples, whose targets are the requested labels.
            round_: The round that pays for the requests.
        """
        scored, completions = self.score([s.fields for s in samples], round_, [s.target for s in samples])
        if (silent := scored.count(None)) and not self._warned:
            self._warned = True
            _log.warning(
                "%d of %d label checks have no answer: no label is among the likely next tokens of the generator; %s",
                *(silent, len(scored)),
                "these samples are rejected (label_unchecked); to accept them, set data.plan.label_agreement to off"
                if self.required
                else "these samples count as not checked",
            )
        return scored, completions
