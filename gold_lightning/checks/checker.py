"""Judges completions: each gives a sample or the first reason to reject it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gold_lightning.checks.duplicates import DuplicateIndex, copies
from gold_lightning.checks.registry import CHECKS
from gold_lightning.checks.semantic import SemanticIndex
from gold_lightning.errors import ConfigError
from gold_lightning.generators.base import Completion
from gold_lightning.parsing import clean_characters
from gold_lightning.parsing.line_breaks import breaks_off
from gold_lightning.parsing.sentences import count_sentences, cut_to_sentences
from gold_lightning.plugins import find
from gold_lightning.task import Field, Sample, Task, prefix_errors_with
from gold_lightning.wire import SampleReader

__all__ = ["CheckedText", "Checker"]


@dataclass(frozen=True)
class CheckedText:
    """A completion as the checks see it.

    Args:
        sample: The sample; ``None`` for a reject.
        reason: The reason of a reject; "" for a sample.
        cut: Whether a text of the sample was cut at the end of its last whole sentence.
    """

    sample: Sample | None = None
    reason: str = ""
    cut: bool = False


class Checker:
    """Judges completions of one task, and remembers accepted samples to find duplicates.

    The order of the reasons is fixed and the first one counts, so that a yield table adds up: ``filtered``, ``failed``,
    ``only_thinking``, ``talk`` (about the task, instead of a text or within it), ``empty``, ``refusal``, ``truncated``,
    ``unparsable``, ``missing_field``, ``too_short``, ``too_long``, ``too_many_sentences``, ``several_lines`` (a text
    of one line whose rest stands, or would stand, below it), ``not_unicode`` (a character that replaces a lost one,
    such as U+FFFD),
    ``label_not_in_set``, ``wrong_label``, ``copies_demo``, ``copies_prompt``, the reasons of the task's own checks,
    ``duplicate``, ``near_duplicate``, ``semantic_duplicate``.

    Args:
        task: The task.
        meanings: Finds samples with the meaning of an accepted one; ``None`` if only words are compared.

    Raises:
        ConfigError: The task names an unknown check, or parameters that the check does not have.
    """

    def __init__(self, task: Task, meanings: SemanticIndex | None = None) -> None:
        self.task, self._meanings = task, meanings
        self._reader, self._duplicates = SampleReader(task), DuplicateIndex()
        with prefix_errors_with(task.source):
            self._rules = [_rule(task, i) for i in range(len(task.checks))]

    def judge(
        self, completion: Completion, label: str | None, answer: str, prompt: str, demos: Sequence[Sample]
    ) -> CheckedText:
        """Returns the sample in a completion, or the reason to reject it.

        A text that is too long, or broken off at the token limit, is cut if the task says so (:meth:`Task.cuts`).

        Args:
            completion: The generator's completion.
            label: The requested label.
            answer: The beginning of the answer in the prompt; the completion continues it.
            prompt: The instruction without demos, whose wording must not leak into samples.
            demos: The demos in the prompt.

        Returns:
            The sample, which is not remembered yet (see :meth:`keep`), or the reason.
        """
        values, reason = self._read(completion, answer)
        if reason:
            return CheckedText(reason=reason)
        whole = dict(values)
        if reason := self._limit(values, unfinished=completion.finish == "length"):
            return CheckedText(reason=reason)
        if self._breaks_off(values):
            return CheckedText(reason="several_lines")
        if any(damaged for _, damaged in map(clean_characters, values.values())):
            return CheckedText(reason="not_unicode")
        sample = Sample({f.name: values[f.name] for f in self.task.fields}, values[self.task.target.name])
        reason = self._label_reason(sample, label) or _copy_reason(sample, prompt, demos)
        reason = reason or self.task_reason(sample) or self.duplicate(sample)
        return CheckedText(reason=reason) if reason else CheckedText(sample, cut=values != whole)

    def _read(self, completion: Completion, answer: str) -> tuple[dict[str, str], str]:
        """Returns the values in a completion, or the reason why it has no values."""
        task = self.task
        if completion.finish in ("filtered", "failed"):
            return {}, completion.finish
        values, read_reason = self._reader.read(completion.text, answer)
        reply_reason = completion.reason if completion.reason != "refusal" or not task.allow_refusals else ""
        if reply_reason or read_reason in ("only_thinking", "talk"):
            return {}, reply_reason or read_reason
        unfinished = completion.finish == "length"
        if not completion.text.strip():
            return {}, "truncated" if unfinished else "empty"
        if read_reason == "refusal":
            return {}, read_reason
        if not values:
            return {}, "truncated" if unfinished else "unparsable"
        names = [*(f.name for f in task.fields), task.target.name]
        if any(name not in values or not values[name].strip() for name in names):
            return {}, "truncated" if unfinished else "missing_field"
        return values, ""

    def _limit(self, values: dict[str, str], *, unfinished: bool) -> str:
        """Cuts texts that are too long, or returns the reason why one of them cannot be.

        Args:
            values: The values by name; those that are cut are replaced.
            unfinished: Whether the token limit broke off the text that was written last.
        """
        task = self.task
        texts = task.fields if task.labels else (*task.fields, task.target)
        for text in texts:
            broken_off = unfinished and text is texts[-1]
            reason = "truncated" if broken_off else _length_reason(values[text.name], text)
            if reason and reason != "too_short" and task.cuts(text):
                limits = (text.max_chars, text.max_sentences)
                cut = cut_to_sentences(values[text.name], *limits, whole=not broken_off)
                if len(cut) >= max(1, text.min_chars):
                    values[text.name], reason = cut, ""
            if reason:
                return reason
        return ""

    def _breaks_off(self, values: Mapping[str, str]) -> bool:
        """Returns whether a line break ended a text where more must follow, as behind a greeting."""
        demos = self.task.demos
        return any(
            breaks_off(value, [demo.fields.get(name, demo.target) for demo in demos]) for name, value in values.items()
        )

    def _label_reason(self, sample: Sample, label: str | None) -> str:
        if self.task.labels and self.task.labels_of(sample.target) is None:
            return "label_not_in_set"
        return "wrong_label" if self.task.labels and label not in (None, sample.target) else ""

    def task_reason(self, sample: Sample) -> str:
        """Returns the first reason of the task's own checks to reject a sample, or ""."""
        return next((reason for rule, params in self._rules if (reason := rule(sample, self.task, **params))), "")

    def keep(self, sample: Sample) -> None:
        """Remembers an accepted sample, so that later samples like it are rejected as duplicates."""
        self._duplicates.add(sample)
        if self._meanings is not None:
            self._meanings.add(sample)

    def forget(self, sample: Sample) -> None:
        """Undoes :meth:`keep`."""
        self._duplicates.remove(sample)
        if self._meanings is not None:
            self._meanings.remove(sample)

    def duplicate(self, sample: Sample) -> str:
        """Returns ``duplicate``, ``near_duplicate`` or ``semantic_duplicate`` for a sample like an accepted one.

        Returns "" for any other sample.
        """
        reason = self._duplicates.reason(sample)
        return reason or (self._meanings.reason(sample) if self._meanings is not None else "")


def _length_reason(value: str, limits: Field) -> str:
    if len(value) < limits.min_chars:
        return "too_short"
    if len(value) > limits.max_chars:
        return "too_long"
    too_many = limits.max_sentences is not None and count_sentences(value) > limits.max_sentences
    return "too_many_sentences" if too_many else ""


def _copy_reason(sample: Sample, prompt: str, demos: Sequence[Sample]) -> str:
    if copies(sample.text, (demo.text for demo in demos)):
        return "copies_demo"
    return "copies_prompt" if copies(sample.text, [prompt]) else ""


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
