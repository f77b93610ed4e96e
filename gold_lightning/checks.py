"""Checks of what a generator wrote: one reason for each reject, and nothing kept twice.

The order is fixed and the first reason wins, so a yield table adds up. Checks beside those that always
run are named in the task file; a check is a function from (sample, task, parameters) to a reason or "".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from datasketch import MinHash, MinHashLSH

from gold_lightning.errors import ConfigError
from gold_lightning.formula import FormulaError, numbers_in, parse_equation, parse_programme
from gold_lightning.generators.base import Completion
from gold_lightning.prompt import parse
from gold_lightning.task import Sample, Task

__all__ = ["CHECKS", "Checker", "words"]

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-case words of a text, without punctuation."""
    return _WORD.findall(text.casefold())


def _shingles(text: str, size: int) -> set[tuple[str, ...]]:
    found = words(text)
    if len(found) < size:
        return {tuple(found)} if found else set()
    return {tuple(found[i : i + size]) for i in range(len(found) - size + 1)}


def fields_differ(sample: Sample, task: Task, *, first: str, second: str) -> str:
    """Two fields must not be the same text."""
    same = words(sample.fields[first]) == words(sample.fields[second])
    return "fields_equal" if same else ""


def target_in_field(sample: Sample, task: Task, *, field: str, whole_words: bool = True) -> str:
    """The target must stand in a field, letter by letter, and not as a part of longer words.

    ``whole_words: false`` is for languages that put no spaces between words.
    """
    before, after = (
        r"(?<!\w)" if whole_words and re.match(r"\w", sample.target) else "",
        r"(?!\w)" if whole_words and re.search(r"\w\Z", sample.target) else "",
    )
    found = sample.target and re.search(before + re.escape(sample.target) + after, sample.fields[field])
    return "" if found else "target_not_in_field"


def is_question(sample: Sample, task: Task, *, field: str) -> str:
    """A field must end with a question mark."""
    return "" if sample.fields[field].rstrip().endswith("?") else "not_a_question"


def label_not_in_text(sample: Sample, task: Task) -> str:
    """The label's name must not stand in the text: it would give the answer away."""
    return "label_in_text" if words(sample.target) and _contains(words(sample.text), words(sample.target)) else ""


def min_words(sample: Sample, task: Task, *, field: str, count: int = 3) -> str:
    """A field must have at least so many words."""
    return "too_few_words" if len(words(sample.fields[field])) < count else ""


def not_repeated(sample: Sample, task: Task, *, first: str, second: str, share: float | None = 0.95) -> str:
    """The second field must not repeat the first: not stand in it, and not take nearly all its words from it.

    ``share`` of the second's words, in (0, 1], standing in the first in the same order are a repetition; with
    ``share: null`` it may take all of them from there, but not as one piece.
    """
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"share is {share!r}, and must be above 0, at most 1")
    source, found = words(sample.fields[first]), words(sample.fields[second])
    repeated = _contains(source, found) or (share is not None and _common(source, found) >= share * len(found))
    return "field_repeated" if found and repeated else ""


def equation(
    sample: Sample,
    task: Task,
    *,
    fields: Sequence[str],
    constants: Sequence[float] = (1, 2, 7, 12, 24, 60, 100),
) -> str:
    """The target must be arithmetic that comes to a number, and its numbers must be those of the fields.

    ``constants`` may stand beside them: a half, days, months, hours, minutes, per cent by default. A number
    of the fields counts as digits (``1,250``) or as words (``twenty-five``). A number alone is no arithmetic.
    """
    beside = {Fraction(str(c)) for c in constants}
    told = set[Fraction]().union(*(numbers_in(sample.fields[f]) for f in fields))
    try:
        found = parse_equation(sample.target)
    except FormulaError as e:
        return f"equation_{e.reason}"
    if told.isdisjoint(found.numbers) or not (told | beside).issuperset(found.numbers):
        return "equation_number_not_in_text"
    return "" if len(found.numbers) > 1 else "equation_of_one_number"


def linear_programme(sample: Sample, task: Task) -> str:
    """The target must be a linear programme: variables, one objective, constraints over those variables."""
    try:
        parse_programme(sample.target)
    except FormulaError as e:
        return f"programme_{e.reason}"
    return ""


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    above = [0] * (len(second) + 1)
    for word in first:
        row = [0]
        for j, other in enumerate(second):
            row.append(above[j] + 1 if word == other else max(row[j], above[j + 1]))
        above = row
    return above[-1]


def _contains(hay: Sequence[str], needle: Sequence[str]) -> bool:
    return any(list(hay[i : i + len(needle)]) == list(needle) for i in range(len(hay) - len(needle) + 1))


CHECKS: dict[str, Callable[..., str]] = {
    f.__name__: f
    for f in (
        fields_differ,
        not_repeated,
        target_in_field,
        is_question,
        label_not_in_text,
        min_words,
        equation,
        linear_programme,
    )
}
"""Checks that a task file may name.

A check raises ``TypeError``, ``KeyError`` or ``ValueError`` for parameters that are wrong, whatever the sample.
"""


class Checker:
    """Judges completions of one task, and remembers all that was kept.

    Reasons, in the order in which they are looked for: ``empty``, ``truncated``, ``unparsable``,
    ``missing_field``, ``too_short``, ``too_long``, ``not_unicode``, ``label_not_in_set``, ``wrong_label``,
    ``copies_demo``, ``copies_prompt``, those of the task's own checks, ``duplicate``, ``near_duplicate``.

    Args:
        task: The task.
        near_duplicate: Jaccard similarity of word 3-grams from which two texts are near duplicates, in (0, 1].
        copied_share: A sample copies a demo or the prompt when at least this share of its word 6-grams
            stands there, in (0, 1].

    Raises:
        ConfigError: A share is out of its range, or the task names an unknown check or a parameter that it
            does not have.
    """

    def __init__(self, task: Task, near_duplicate: float = 0.7, copied_share: float = 0.3) -> None:
        if not 0 < near_duplicate <= 1:
            raise ConfigError("data.near_duplicate", near_duplicate, "a number above 0, at most 1")
        if not 0 < copied_share <= 1:
            raise ConfigError("data.copied_share", copied_share, "a number above 0, at most 1")
        self.task, self.copied_share = task, copied_share
        self._own: list[tuple[Callable[..., str], Mapping[str, Any]]] = []
        for i, check in enumerate(task.checks):
            if check.name not in CHECKS:
                raise ConfigError(f"checks[{i}]", check.name, f"one of {', '.join(sorted(CHECKS))}")
            self._own.append((CHECKS[check.name], check.params))
            try:
                CHECKS[check.name](task.demos[0], task, **check.params)
            except (TypeError, KeyError, ValueError) as e:
                raise ConfigError(f"checks[{i}].{check.name}", dict(check.params), f"its parameters ({e})") from None
        self._seen: set[str] = set()
        # The index only proposes candidates (the exact estimate decides); above 0.9 it finds no bands.
        self._lsh = MinHashLSH(threshold=min(near_duplicate, 0.9), num_perm=128)
        self._threshold = near_duplicate
        self._hashes: dict[str, MinHash] = {}

    def judge(
        self, completion: Completion, label: str | None, answer: str, prompt: str, demos: Sequence[Sample]
    ) -> tuple[Sample | None, str]:
        """The sample in a completion, or the reason why there is none.

        Args:
            completion: What the generator gave.
            label: The label that was asked for.
            answer: How the answer began (the completion goes on from there).
            prompt: The instruction without demos, whose wording must not leak into samples.
            demos: What was shown.

        Returns:
            ``(sample, "")`` or ``(None, reason)``. A sample is not kept yet: see :meth:`keep`.
        """
        task = self.task
        if not completion.text.strip():
            return None, "empty"
        if completion.finish == "length":
            return None, "truncated"
        values = parse(completion.text, task, answer)
        if not values:
            return None, "unparsable"
        wanted = [f.name for f in task.fields] + [task.target.name]
        if any(name not in values or not values[name].strip() for name in wanted):
            return None, "missing_field"
        limits = [*task.fields, task.target] if not task.labels else list(task.fields)
        for f in limits:
            if len(values[f.name]) < f.min_chars:
                return None, "too_short"
            if len(values[f.name]) > f.max_chars:
                return None, "too_long"
        if any(0xD800 <= ord(c) <= 0xDFFF for name in wanted for c in values[name]):
            return None, "not_unicode"  # a lone surrogate: no tokenizer takes it
        sample = Sample({f.name: values[f.name] for f in task.fields}, values[task.target.name])
        if task.labels:
            if sample.target not in task.label_names:
                return None, "label_not_in_set"
            if label is not None and sample.target != label:
                return None, "wrong_label"
        reason = self._copied(sample, prompt, demos)
        for check, params in self._own:
            reason = reason or check(sample, task, **params)
        reason = reason or self.duplicate(sample)
        return (None, reason) if reason else (sample, "")

    def keep(self, sample: Sample) -> None:
        """Remembers a sample as kept, so that no other like it is."""
        key = self._key(sample)
        if key not in self._seen:
            self._seen.add(key)
            self._hashes[key] = self._minhash(sample)
            self._lsh.insert(key, self._hashes[key])

    def _copied(self, sample: Sample, prompt: str, demos: Sequence[Sample]) -> str:
        own = _shingles(sample.text, 6)
        # A text of fewer than six words is its own only shingle: then it has to be equal to count.
        for reason, sources in (("copies_demo", [d.text for d in demos]), ("copies_prompt", [prompt])):
            for source in sources:
                if len(own & _shingles(source, 6)) >= self.copied_share * len(own) > 0:
                    return reason
        return ""

    def duplicate(self, sample: Sample) -> str:
        """``duplicate`` or ``near_duplicate`` of what was kept, or ""."""
        if self._key(sample) in self._seen:
            return "duplicate"
        own = self._minhash(sample)
        near = self._lsh.query(own)
        return "near_duplicate" if any(own.jaccard(self._hashes[k]) >= self._threshold for k in near) else ""

    def _key(self, sample: Sample) -> str:
        return hashlib.sha256(" ".join(words(sample.text)).encode("utf-8", "surrogatepass")).hexdigest()

    def _minhash(self, sample: Sample) -> MinHash:
        made = MinHash(num_perm=128, seed=1)
        made.update_batch([" ".join(s).encode("utf-8", "surrogatepass") for s in sorted(_shingles(sample.text, 3))])
        return made
