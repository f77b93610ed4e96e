"""Compares a sample's label with the generator's own likelihoods of all labels, given the text."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence

from gold_lightning.errors import GoldError
from gold_lightning.generators.base import Completion, Request, has_preference
from gold_lightning.prompts import agreement_request
from gold_lightning.task import Sample, Task

__all__ = ["LabelCheck", "preferred_label"]

_log = logging.getLogger(__name__)
_NO_MASS = -9000.0  # servers and files write minus infinity as various numbers, all below this one


class LabelCheck:
    """Asks the generator which label is most likely for a sample, relative to the label's mean over the demos.

    A small model prefers some labels for any text, so each label's mean log-likelihood over demos is subtracted
    (calibration after Zhao et al., ICML 2021).

    Args:
        task: The task, which has labels.
        seed: Seed of the choice of demos in the prompt.
        required: Whether samples without a preferred label are rejected.
        answer: Function that completes requests, given the requests and the round that pays for them.
        tokens_over_limit: Function that returns the number of tokens by which each request exceeds the context of the
            generator's model.
    """

    def __init__(
        self,
        task: Task,
        seed: int,
        required: bool,
        answer: Callable[[Sequence[Request], int], list[Completion]],
        tokens_over_limit: Callable[[Sequence[Request]], list[int]],
    ) -> None:
        self.task, self.required = task, required
        self._answer, self._tokens_over_limit = answer, tokens_over_limit
        order = random.Random(f"{seed}/agreement").sample(task.demos, len(task.demos))
        self._prompt_demos = [next(d for d in order if d.target == name) for name in task.label_names]
        self._others = [d for d in order if d not in self._prompt_demos]
        self._means: tuple[float, ...] | None = None
        self._fits = self._warned = False

    def request(self, sample: Sample) -> Request:
        """Asks for the likelihoods of all labels, given the fields of a sample."""
        return agreement_request(self.task, sample.fields, self._prompt_demos)

    def check_length(self) -> None:
        """Checks that the prompt, which lists every label with a demo of each, fits the generator's model.

        Raises:
            GoldError: The prompt is too long for a sample as long as the longest demo.
        """
        if self._fits:
            return
        if over := max(self._tokens_over_limit([self.request(demo) for demo in self.task.demos])):
            raise GoldError(
                f"data.plan.label_agreement: the prompt that checks labels lists all {len(self.task.labels)} with a "
                f"demo of each, and is {over} tokens longer than the generator's model takes; shorten the labels' "
                "meanings and demos, use a model with a longer context, or set data.plan.label_agreement: off"
            )
        self._fits = True

    def calibrate(self, round_: int) -> list[Completion]:
        """Computes the mean log-likelihood of each label over demos, once.

        It is the mean of the means over each label's demos, since the number of a label's demos says nothing about the
        model's bias. Demos in the prompt are left out if their label has others.

        Args:
            round_: The round that pays for the requests.

        Returns:
            The completions of the requests; none after the first call.
        """
        if self._means is not None:
            return []
        self.check_length()
        demos: list[Sample] = []
        for name in self.task.label_names:
            others = [d for d in self._others if d.target == name]
            demos += others or [d for d in self._prompt_demos if d.target == name]
        completions = self._answer([self.request(d) for d in demos], round_)
        names = self.task.label_names
        rows: dict[str, list[tuple[float, ...]]] = {}
        for demo, completion in zip(demos, completions, strict=True):
            if has_preference(completion.choice_log_probs):
                rows.setdefault(demo.target, []).append(completion.choice_log_probs)
        means: list[float | None] = []
        for at in range(len(names)):
            # The mean of a label leaves out the answers in which the label has no mass.
            by_label = [[value for row in of_label if _has_mass(value := row[at])] for of_label in rows.values()]
            label_means = [sum(values) / len(values) for values in by_label if values]
            means.append(sum(label_means) / len(label_means) if label_means else None)
        lowest = min((mean for mean in means if mean is not None), default=0.0)
        self._means = tuple(lowest if mean is None else mean for mean in means)
        return completions

    def favoured(self, samples: Sequence[Sample], round_: int) -> tuple[list[str], list[Completion]]:
        """Returns the preferred label of each sample.

        Args:
            samples: The samples.
            round_: The round that pays for the requests.

        Returns:
            The preferred label of each sample ("" if there is none or the request would be too long), and the
            completions of the requests.
        """
        if not samples:
            return [], []
        self.calibrate(round_)
        requests = [self.request(s) for s in samples]
        fits = [i for i, over in enumerate(self._tokens_over_limit(requests)) if not over]
        completions = self._answer([requests[i] for i in fits], round_)
        preferred = [""] * len(samples)
        for i, completion in zip(fits, completions, strict=True):
            preferred[i] = preferred_label(completion, self._means or (), self.task.label_names)
        if (silent := preferred.count("")) and not self._warned:
            self._warned = True
            _log.warning(
                "%d of %d label checks have no answer: no label is among the likely next tokens of the generator; %s",
                *(silent, len(preferred)),
                "these samples are rejected (label_unchecked); to accept them, set data.plan.label_agreement to off"
                if self.required
                else "these samples count as not checked",
            )
        return preferred, completions


def preferred_label(completion: Completion, means: Sequence[float], names: Sequence[str]) -> str:
    """Returns the label whose log-likelihood exceeds its mean most; "" if the likelihoods prefer none.

    Args:
        completion: A completion with the log-likelihood of each label; a label without mass is never preferred.
        means: Mean log-likelihood of each label.
        names: Names of the labels; of equals, the first is returned.
    """
    log_probs = completion.choice_log_probs
    if not has_preference(log_probs):
        return ""
    candidates = [at for at, value in enumerate(log_probs) if _has_mass(value)]
    return names[max(candidates, key=lambda at: log_probs[at] - means[at])]


def _has_mass(value: float) -> bool:
    return math.isfinite(value) and value > _NO_MASS
