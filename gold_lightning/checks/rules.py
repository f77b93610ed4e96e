"""The built-in checks that a task file can name, each a function from (sample, task, parameters) to a reason or ""."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from fractions import Fraction

from gold_lightning.checks.registry import check
from gold_lightning.parsing.formula import FormulaError, numbers_in, parse_equation, parse_programme
from gold_lightning.parsing.json_text import read_json
from gold_lightning.parsing.words import count_words, within_word, words
from gold_lightning.task import Sample, Task

# Latin, Greek, Arabic, Armenian, Ethiopic, Limbu, Vai, full width, and pairs of marks.
_QUESTION_MARKS = tuple("?\u037e\u061f\u055e\u1367\u1945\ua60f\uff1f\u2047\u2048\u2049")


@check
def fields_differ(sample: Sample, task: Task, *, first: str, second: str) -> str:
    """Two fields must differ in more than case and punctuation."""
    return "fields_equal" if words(sample.fields[first]) == words(sample.fields[second]) else ""


@check
def target_in_field(sample: Sample, task: Task, *, field: str, whole_words: bool = True) -> str:
    """The target must occur in a field literally, as whole words.

    Composed and decomposed letters (NFC and NFD) are equal. In scripts without spaces a word may end between any two
    characters. ``whole_words: false`` accepts a target inside a longer word in any script.
    """
    target, text = (unicodedata.normalize("NFC", t) for t in (sample.target, sample.fields[field]))
    start = text.find(target) if target else -1
    while start >= 0:
        end = start + len(target)
        if not whole_words or not (within_word(text, start) or within_word(text, end)):
            return ""
        start = text.find(target, start + 1)
    return "target_not_in_field"


@check
def is_question(sample: Sample, task: Task, *, field: str) -> str:
    """A field must end with a question mark of any script; Greek text may end with a semicolon, which looks alike."""
    text = sample.fields[field].rstrip()
    greek = text.endswith(";") and any("GREEK" in unicodedata.name(c, "") for c in text)
    return "" if text.endswith(_QUESTION_MARKS) or greek else "not_a_question"


@check
def label_not_in_text(sample: Sample, task: Task) -> str:
    """The label's name must not occur in the text, since it would give the answer away.

    In scripts without spaces this includes its characters within longer words.
    """
    return "label_in_text" if words(sample.target) and _contains(words(sample.text), words(sample.target)) else ""


@check
def min_words(sample: Sample, task: Task, *, field: str, count: int = 3) -> str:
    """A field must have at least ``count`` words. In scripts without spaces two characters count as one word."""
    return "too_few_words" if count_words(words(sample.fields[field])) < count else ""


@check
def not_repeated(sample: Sample, task: Task, *, first: str, second: str, share: float | None = 0.95) -> str:
    """The second field must neither occur in the first nor take nearly all its words from it.

    It repeats the first if at least ``share`` of its words, in (0, 1], occur there in the same order. With
    ``share: null`` only a verbatim repetition in one piece counts.
    """
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"share is {share!r}; it must be above 0 and at most 1")
    source, text = words(sample.fields[first]), words(sample.fields[second])
    repeated = _contains(source, text) or (share is not None and _common(source, text) >= share * len(text))
    return "field_repeated" if text and repeated else ""


@check
def equation(
    sample: Sample,
    task: Task,
    *,
    fields: Sequence[str],
    constants: Sequence[float] = (1, 2, 7, 12, 24, 60, 100),
) -> str:
    """The target must be arithmetic that evaluates to a number, and its numbers must come from the fields.

    ``constants`` are allowed too; the default covers halves, days, months, hours, minutes and percentages. The
    fields may write numbers as digits (``1,250``) or as words (``twenty-five``). A single number is not arithmetic.
    """
    allowed_constants = {Fraction(str(c)) for c in constants}
    in_text = set[Fraction]().union(*(numbers_in(sample.fields[f]) for f in fields))
    try:
        parsed = parse_equation(sample.target)
    except FormulaError as e:
        return f"equation_{e.reason}"
    if in_text.isdisjoint(parsed.numbers) or not (in_text | allowed_constants).issuperset(parsed.numbers):
        return "equation_number_not_in_text"
    return "" if len(parsed.numbers) > 1 else "equation_of_one_number"


@check
def linear_programme(sample: Sample, task: Task) -> str:
    """The target must be a linear programme: variables, one objective, and constraints on those variables."""
    try:
        parse_programme(sample.target)
    except FormulaError as e:
        return f"programme_{e.reason}"
    return ""


@check
def json_keys(sample: Sample, task: Task, *, keys: Sequence[str], field: str = "", distinct: bool = False) -> str:
    """The target must be a JSON object with exactly these keys, in any order.

    If a ``field`` is named, every text and number of the object must occur in it word for word, ignoring case and
    punctuation; ``null`` and truth values need not. ``distinct``: no two texts or numbers of the object may be equal.
    """
    if isinstance(keys, str) or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"keys is {keys!r}; it must be a list of texts")
    source = words(sample.fields[field]) if field else []
    try:
        value = read_json(sample.target)
    except ValueError:
        return "json_unparsable"
    if not isinstance(value, dict) or value.keys() != set(keys):
        return "json_keys"
    parts = [tuple(words(leaf)) for leaf in _leaves(value)]
    if field and not all(part and _contains(source, part) for part in parts):
        return "json_value_not_in_field"
    return "json_values_equal" if distinct and len(set(parts)) < len(parts) else ""


def _leaves(value: object) -> list[str]:
    """Returns the texts and numbers of a JSON value, at any depth."""
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in _leaves(part)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Returns the length of the longest common subsequence."""
    # One bit for each word of the second sequence; it is 0 if the subsequence grows there (Crochemore et al., 2001).
    positions: dict[str, int] = {}
    for i, word in enumerate(second):
        positions[word] = positions.get(word, 0) | 1 << i
    row = all_bits = (1 << len(second)) - 1
    for word in first:
        both = row & positions.get(word, 0)
        row = ((row + both) | (row - both)) & all_bits
    return len(second) - row.bit_count()


def _contains(hay: Sequence[str], needle: Sequence[str]) -> bool:
    return f" {' '.join(needle)} " in f" {' '.join(hay)} "
