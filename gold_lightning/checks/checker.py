"""Checks of what a generator wrote: one reason for each reject, nothing kept twice, and the overlap with a test set.

The order is fixed and the first reason wins, so a yield table adds up. Checks beside those that always
run are named in the task file; a check is a function from (sample, task, parameters) to a reason or "".
"""

from __future__ import annotations

import hashlib
import inspect
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from datasketch import MinHash, MinHashLSH

from gold_lightning.errors import ConfigError
from gold_lightning.generators.base import Completion
from gold_lightning.parsing.formula import FormulaError, numbers_in, parse_equation, parse_programme
from gold_lightning.parsing.json_text import read_json
from gold_lightning.parsing.words import count_words, runs, within_word, words
from gold_lightning.prompts import read_sample
from gold_lightning.task import Sample, Task, blaming

__all__ = [
    "CHECKS",
    "OVERLAP_CHARACTERS",
    "OVERLAP_WORDS",
    "Checker",
    "Decontaminator",
    "Overlap",
    "count_overlaps",
    "words",
]

OVERLAP_WORDS = 13
"""Words in a row that a sample and a test row must share to count (Brown et al., NeurIPS 2020, appendix C)."""

OVERLAP_CHARACTERS = 2 * OVERLAP_WORDS
"""The same in characters of scripts without spaces: 13 words of Chinese or more; 8 of Thai, as GPT-2's authors took."""

# Of Latin, Greek, Arabic, Armenian, Ethiopic, Limbu, Vai, full width, and pairs with an exclamation mark.
_QUESTION_MARKS = tuple("?\u037e\u061f\u055e\u1367\u1945\ua60f\uff1f\u2047\u2048\u2049")


def _shingles(text: str, size: int) -> set[tuple[str, ...]]:
    found = words(text)
    return set(runs(found, size)) or ({tuple(found)} if found else set())


def fields_differ(sample: Sample, task: Task, *, first: str, second: str) -> str:
    """Two fields must not be the same text."""
    same = words(sample.fields[first]) == words(sample.fields[second])
    return "fields_equal" if same else ""


def target_in_field(sample: Sample, task: Task, *, field: str, whole_words: bool = True) -> str:
    """The target must stand in a field, letter by letter, and not as a part of longer words.

    Composed and decomposed letters (NFC and NFD) are the same. In scripts without spaces every place between two
    characters may end a word. ``whole_words: false`` lets the target be a part of a longer word in any script.
    """
    target, text = (unicodedata.normalize("NFC", t) for t in (sample.target, sample.fields[field]))
    at = text.find(target) if target else -1
    while at >= 0:
        end = at + len(target)
        if not whole_words or not (within_word(text, at) or within_word(text, end)):
            return ""
        at = text.find(target, at + 1)
    return "target_not_in_field"


def is_question(sample: Sample, task: Task, *, field: str) -> str:
    """A field must end with a question mark, of any script. Greek's looks like a semicolon, and may be one."""
    text = sample.fields[field].rstrip()
    greek = text.endswith(";") and any("GREEK" in unicodedata.name(c, "") for c in text)
    return "" if text.endswith(_QUESTION_MARKS) or greek else "not_a_question"


def label_not_in_text(sample: Sample, task: Task) -> str:
    """The label's name must not stand in the text: it would give the answer away.

    In scripts without spaces it stands there wherever its characters do, in longer words too.
    """
    return "label_in_text" if words(sample.target) and _contains(words(sample.text), words(sample.target)) else ""


def min_words(sample: Sample, task: Task, *, field: str, count: int = 3) -> str:
    """A field must have at least so many words. In scripts without spaces two characters count as one."""
    return "too_few_words" if count_words(words(sample.fields[field])) < count else ""


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


def json_keys(sample: Sample, task: Task, *, keys: Sequence[str], field: str = "", distinct: bool = False) -> str:
    """The target must be a JSON object with these keys, in any order, and no others.

    Where a field is named, each text and number in the object must stand in it, word for word; case and
    punctuation aside. ``null`` and truth values stand for themselves. ``distinct``: no two texts or numbers in
    the object are the same.
    """
    if isinstance(keys, str) or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"keys is {keys!r}, and must be a list of texts")
    source = words(sample.fields[field]) if field else []
    try:
        found = read_json(sample.target)
    except ValueError:
        return "json_unparsable"
    if not isinstance(found, dict) or found.keys() != set(keys):
        return "json_keys"
    parts = [tuple(words(leaf)) for leaf in _leaves(found)]
    if field and not all(part and _contains(source, part) for part in parts):
        return "json_value_not_in_field"
    return "json_values_equal" if distinct and len(set(parts)) < len(parts) else ""


def _leaves(value: object) -> list[str]:
    """Texts and numbers in a JSON value, at any depth."""
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in _leaves(part)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    # One bit a word of the second, 0 where the subsequence grows (Crochemore et al., 2001).
    at: dict[str, int] = {}
    for i, word in enumerate(second):
        at[word] = at.get(word, 0) | 1 << i
    row = every = (1 << len(second)) - 1
    for word in first:
        both = row & at.get(word, 0)
        row = ((row + both) | (row - both)) & every
    return len(second) - row.bit_count()


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
        json_keys,
    )
}
"""Checks that a task file may name.

A check raises ``TypeError``, ``KeyError`` or ``ValueError`` for parameters that are wrong, whatever the sample.
"""


class Checker:
    """Judges completions of one task, and remembers all that was kept.

    Reasons, in the order in which they are looked for: ``filtered``, ``failed``, ``only_thinking``, ``empty``,
    ``refusal``, ``truncated``, ``unparsable``, ``missing_field``, ``too_short``, ``too_long``, ``not_unicode`` (a
    character that stands for a lost one, as U+FFFD), ``label_not_in_set``, ``wrong_label``, ``copies_demo``,
    ``copies_prompt``, those of the task's own checks, ``duplicate``, ``near_duplicate``.

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
        with blaming(task):
            self._find_checks(task)
        self._seen: set[str] = set()
        # The index only proposes candidates (the exact estimate decides); above 0.9 it finds no bands.
        self._lsh = MinHashLSH(threshold=min(near_duplicate, 0.9), num_perm=128)
        self._threshold = near_duplicate
        self._hashes: dict[str, MinHash] = {}

    def _find_checks(self, task: Task) -> None:
        for i, check in enumerate(task.checks):
            if check.name not in CHECKS:
                raise ConfigError(f"checks[{i}]", check.name, f"one of {', '.join(sorted(CHECKS))}")
            self._own.append((CHECKS[check.name], check.params))
            try:
                CHECKS[check.name](task.demos[0], task, **check.params)
            except (TypeError, KeyError, ValueError) as e:
                named = inspect.signature(CHECKS[check.name]).parameters.values()
                own = ", ".join(p.name for p in named if p.kind is p.KEYWORD_ONLY) or "none"
                reason = f"the task has no field {e}" if isinstance(e, KeyError) else str(e)
                raise ConfigError(
                    f"checks[{i}].{check.name}", dict(check.params), f"its parameters: {own}", reason
                ) from None

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
        if completion.finish in ("filtered", "failed"):
            return None, completion.finish
        values, reason = read_sample(completion.text, task, answer)
        told = completion.reason if completion.reason != "refusal" or not task.allow_refusals else ""
        if told or reason == "only_thinking":
            return None, told or reason
        if not completion.text.strip():
            return None, "truncated" if completion.finish == "length" else "empty"
        if reason == "refusal":
            return None, reason
        if completion.finish == "length":
            return None, "truncated"
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
        if reason:
            return None, reason
        sample = Sample({f.name: values[f.name] for f in task.fields}, values[task.target.name])
        if task.labels:
            if sample.target not in task.label_names:
                return None, "label_not_in_set"
            if label is not None and sample.target != label:
                return None, "wrong_label"
        reason = self._copied(sample, prompt, demos) or self.own_reason(sample) or self.duplicate(sample)
        return (None, reason) if reason else (sample, "")

    def own_reason(self, sample: Sample) -> str:
        """The first reason of the task's own checks, or ""."""
        return next((reason for check, params in self._own if (reason := check(sample, self.task, **params))), "")

    def keep(self, sample: Sample) -> None:
        """Remembers a sample as kept, so that no other like it is."""
        key = self._key(sample)
        if key not in self._seen:
            self._seen.add(key)
            self._hashes[key] = self._minhash(sample)
            self._lsh.insert(key, self._hashes[key])

    def forget(self, sample: Sample) -> None:
        """Takes back :meth:`keep`."""
        key = self._key(sample)
        if key in self._seen:
            self._seen.remove(key)
            self._lsh.remove(key)
            del self._hashes[key]

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
        # A text without any word, of symbols alone, is compared as it is.
        compared = " ".join(words(sample.text)) or sample.text
        return hashlib.sha256(compared.encode("utf-8", "surrogatepass")).hexdigest()

    def _minhash(self, sample: Sample) -> MinHash:
        made = MinHash(num_perm=128, seed=1)
        shingles = _shingles(sample.text, 3) or {(sample.text,)}
        made.update_batch([" ".join(s).encode("utf-8", "surrogatepass") for s in sorted(shingles)])
        return made


@dataclass(frozen=True)
class Overlap:
    """The test rows that a sample has text in common with; false where there are none.

    Args:
        words: Positions of rows that share :data:`OVERLAP_WORDS` words in a row of a field, or
            :data:`OVERLAP_CHARACTERS` characters of a script without spaces.
        full_field: Those of them with a whole field that a field of the sample equals.
        full_row: Rows that the sample equals in all fields, however short these are.
    """

    words: frozenset[int] = frozenset()
    full_field: frozenset[int] = frozenset()
    full_row: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.words or self.full_row)


class Decontaminator:
    """Finds what of a test set stands in a sample, word for word.

    Texts are compared as :func:`gold_lightning.parsing.words.words` has them; all else parts words and counts for
    nothing. A run of :data:`OVERLAP_WORDS` words counts within one field, never across two, in whichever it stands. In
    scripts without spaces each character is a word, and two count as one. A row without a field of so many words is
    compared whole.
    Targets are left out: formulas and JSON are alike in their form. What is said in other words, or another
    language, is not found.

    Args:
        rows: The test set.
    """

    def __init__(self, rows: Iterable[Sample]) -> None:
        self._rows: dict[tuple[str, ...], set[int]] = {}
        self._fields: dict[str, set[int]] = {}
        # Hashes, not texts: a test set of long contexts has a run for each word. By field, not by row: several
        # questions share a context.
        self._runs: dict[int, list[str]] = {}
        for i, row in enumerate(rows):
            plain = tuple(_plain(text) for text in row.fields.values())
            if any(plain):
                self._rows.setdefault(plain, set()).add(i)
            for text in plain:
                if text not in self._fields:
                    for run in _runs(text):
                        self._runs.setdefault(run, []).append(text)
                self._fields.setdefault(text, set()).add(i)

    def overlap(self, sample: Sample) -> Overlap:
        """What the sample shares with the test set."""
        plain = tuple(_plain(text) for text in sample.fields.values())
        runs = [_runs(text) for text in plain]
        shared = {text for found in runs for run in found for text in self._runs.get(run, ())}
        equal = [self._fields[text] for text, found in zip(plain, runs, strict=True) if found and text in self._fields]
        return Overlap(
            frozenset[int]().union(*(self._fields[text] for text in shared)),
            frozenset[int]().union(*equal),
            frozenset(self._rows.get(plain, ())),
        )

    def fingerprint(self) -> list[str]:
        """What the findings depend on: the rows' words, in a fixed order."""
        return sorted(" | ".join(row) for row in self._rows)


def count_overlaps(found: Iterable[Overlap]) -> dict[str, int]:
    """How many samples have text in common with the test set, by what it is.

    Returns:
        ``samples``: how many there are; ``words``, ``full_field``, ``full_row``: how many have that overlap, as
        :class:`Overlap` says; ``any``: how many have one of them; ``test_rows``: distinct rows of the test set
        that have text in common with a sample.
    """
    found = list(found)
    return {
        "samples": len(found),
        "words": sum(bool(o.words) for o in found),
        "full_field": sum(bool(o.full_field) for o in found),
        "full_row": sum(bool(o.full_row) for o in found),
        "any": sum(map(bool, found)),
        "test_rows": len(frozenset[int]().union(*(o.words | o.full_row for o in found))),
    }


def _plain(text: str) -> str:
    return " ".join(words(text.replace("_", " ")))


def _runs(text: str) -> set[int]:
    """A hash of each run of words in a text that :func:`_plain` gave; none where it is shorter than one."""
    return {hash(" ".join(run)) for run in runs(text.split(), OVERLAP_WORDS)}
