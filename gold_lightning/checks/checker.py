"""Judges completions: each gives a sample or the first reason to reject it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gold_lightning.checks.duplicates import DuplicateIndex, copies
from gold_lightning.checks.registry import CHECKS
from gold_lightning.errors import ConfigError
from gold_lightning.generators.base import Completion
from gold_lightning.plugins import find
from gold_lightning.prompts import read_sample
from gold_lightning.task import Sample, Task, prefix_errors_with

__all__ = ["Checker"]


class Checker:
    """Judges completions of one task, and remembers accepted samples to find duplicates.

    The order of the reasons is fixed and the first one counts, so that a yield table adds up: ``filtered``, ``failed``,
    ``only_thinking``, ``empty``, ``refusal``, ``truncated``, ``unparsable``, ``missing_field``, ``too_short``,
    ``too_long``, ``not_unicode`` (a character that replaces a lost one, such as U+FFFD), ``label_not_in_set``,
    ``wrong_label``, ``copies_demo``, ``copies_prompt``, the reasons of the task's own checks, ``duplicate``,
    ``near_duplicate``.

    Args:
        task: The task.

    Raises:
        ConfigError: The task names an unknown check, or parameters that the check does not have.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._duplicates = DuplicateIndex()
        with prefix_errors_with(task.source):
            self._rules = [_rule(task, i) for i in range(len(task.checks))]

    def judge(
        self, completion: Completion, label: str | None, answer: str, prompt: str, demos: Sequence[Sample]
    ) -> tuple[Sample | None, str]:
        """Returns the sample in a completion, or the reason to reject it.

        Args:
            completion: The generator's completion.
            label: The requested label.
            answer: The beginning of the answer in the prompt; the completion continues it.
            prompt: The instruction without demos, whose wording must not leak into samples.
            demos: The demos in the prompt.

        Returns:
            ``(sample, "")`` or ``(None, reason)``. The sample is not remembered yet; see :meth:`keep`.
        """
        task = self.task
        if completion.finish in ("filtered", "failed"):
            return None, completion.finish
        values, read_reason = read_sample(completion.text, task, answer)
        reply_reason = completion.reason if completion.reason != "refusal" or not task.allow_refusals else ""
        if reply_reason or read_reason == "only_thinking":
            return None, reply_reason or read_reason
        if not completion.text.strip():
            return None, "truncated" if completion.finish == "length" else "empty"
        if read_reason == "refusal":
            return None, read_reason
        if completion.finish == "length":
            return None, "truncated"
        if not values:
            return None, "unparsable"
        names = [*(f.name for f in task.fields), task.target.name]
        if any(name not in values or not values[name].strip() for name in names):
            return None, "missing_field"
        for f in task.fields if task.labels else (*task.fields, task.target):
            if len(values[f.name]) < f.min_chars:
                return None, "too_short"
            if len(values[f.name]) > f.max_chars:
                return None, "too_long"
        if read_reason:
            return None, read_reason
        sample = Sample({f.name: values[f.name] for f in task.fields}, values[task.target.name])
        if task.labels:
            if sample.target not in task.label_names:
                return None, "label_not_in_set"
            if label is not None and sample.target != label:
                return None, "wrong_label"
        if copies(sample.text, (demo.text for demo in demos)):
            return None, "copies_demo"
        if copies(sample.text, [prompt]):
            return None, "copies_prompt"
        reason = self.own_reason(sample) or self.duplicate(sample)
        return (None, reason) if reason else (sample, "")

    def own_reason(self, sample: Sample) -> str:
        """Returns the first reason of the task's own checks to reject a sample, or ""."""
        return next((reason for rule, params in self._rules if (reason := rule(sample, self.task, **params))), "")

    def keep(self, sample: Sample) -> None:
        """Remembers an accepted sample, so that later samples like it are rejected as duplicates."""
        self._duplicates.add(sample)

    def forget(self, sample: Sample) -> None:
        """Undoes :meth:`keep`."""
        self._duplicates.remove(sample)

    def duplicate(self, sample: Sample) -> str:
        """Returns ``duplicate`` or ``near_duplicate`` for a sample like an accepted one, otherwise ""."""
        return self._duplicates.reason(sample)


def _rule(task: Task, index: int) -> tuple[Callable[..., str], Mapping[str, Any]]:
    """Looks up a check of the task, and validates its parameters by a call on the first demo."""
    named = task.checks[index]
    function = find(CHECKS, named.name)
    if function is None:
        allowed = f"one of {', '.join(sorted(CHECKS))}"
        raise ConfigError(f"checks[{index}]", named.name, allowed, "data.plugins names modules with checks of your own")
    try:
        function(task.demos[0], task, **named.params)
    except (TypeError, KeyError, ValueError) as e:
        parameters = inspect.signature(function).parameters.values()
        allowed = ", ".join(p.name for p in parameters if p.kind is p.KEYWORD_ONLY) or "none"
        hint = f"the task has no field {e}" if isinstance(e, KeyError) else str(e)
        key = f"checks[{index}].{named.name}"
        raise ConfigError(key, dict(named.params), f"its parameters: {allowed}", hint) from None
    return function, named.params
