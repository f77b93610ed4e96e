"""Finds test rows in synthetic samples, word for word (decontamination)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gold_lightning.parsing.words import runs, words
from gold_lightning.task import Sample

__all__ = ["OVERLAP_CHARACTERS", "OVERLAP_WORDS", "Decontaminator", "Overlap", "count_overlaps"]

OVERLAP_WORDS = 13
"""Shortest run of words shared by a sample and a test row that counts (Brown et al., NeurIPS 2020, appendix C)."""

OVERLAP_CHARACTERS = 2 * OVERLAP_WORDS
"""The same in characters of scripts without spaces: 13 or more words of Chinese, 8 of Thai (as for GPT-2)."""


@dataclass(frozen=True)
class Overlap:
    """The test rows that share text with a sample. An overlap without rows is false.

    Args:
        words: Positions of rows that share a run of :data:`OVERLAP_WORDS` words within a field, or of
            :data:`OVERLAP_CHARACTERS` characters in a script without spaces.
        full_field: Positions of the rows among ``words`` with a whole field equal to a field of the sample.
        full_row: Positions of rows equal to the sample in all fields, however short.
    """

    words: frozenset[int] = frozenset()
    full_field: frozenset[int] = frozenset()
    full_row: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.words or self.full_row)


class Decontaminator:
    """Finds text of a test set in samples, word for word.

    Texts are compared as lists of :func:`gold_lightning.parsing.words.words`, so case and punctuation do not count. A
    shared run of :data:`OVERLAP_WORDS` words must lie within one field of the row and one field of the sample; the two
    fields may differ. In scripts without spaces each character is a word, and two count as one. A row whose fields are
    all shorter than that is compared as a whole.

    Targets are not compared, since formulas and JSON resemble each other by form. Paraphrases and translations are
    not found.

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
                    for run in _run_hashes(text):
                        self._runs.setdefault(run, []).append(text)
                self._fields.setdefault(text, set()).add(i)

    def overlap(self, sample: Sample) -> Overlap:
        """Returns the test rows that share text with a sample."""
        plain = tuple(_plain(text) for text in sample.fields.values())
        hashes = [_run_hashes(text) for text in plain]
        shared = {text for of_field in hashes for run in of_field for text in self._runs.get(run, ())}
        equal = [self._fields[text] for text, runs in zip(plain, hashes, strict=True) if runs and text in self._fields]
        return Overlap(
            frozenset[int]().union(*(self._fields[text] for text in shared)),
            frozenset[int]().union(*equal),
            frozenset(self._rows.get(plain, ())),
        )

    def fingerprint(self) -> list[str]:
        """Returns the rows' words in a fixed order: everything that the results of :meth:`overlap` depend on."""
        return sorted(" | ".join(row) for row in self._rows)


def count_overlaps(overlaps: Iterable[Overlap]) -> dict[str, int]:
    """Counts samples that share text with the test set, by kind of overlap.

    Args:
        overlaps: The overlap of each sample.

    Returns:
        ``samples``: number of samples; ``words``, ``full_field``, ``full_row``: samples with that kind of
        :class:`Overlap`; ``any``: samples with at least one kind; ``test_rows``: distinct test rows that share text
        with a sample.
    """
    counts, test_rows = Counter[str](), set[int]()
    for overlap in overlaps:
        counts["samples"] += 1
        counts.update(kind for kind, rows in vars(overlap).items() if rows)
        counts["any"] += bool(overlap)
        test_rows |= overlap.words | overlap.full_row
    return {kind: counts[kind] for kind in ("samples", "words", "full_field", "full_row", "any")} | {
        "test_rows": len(test_rows)
    }


def _plain(text: str) -> str:
    return " ".join(words(text.replace("_", " ")))


def _run_hashes(text: str) -> set[int]:
    """Hashes all runs of words in a text from :func:`_plain`; a text shorter than one run has none."""
    return {hash(" ".join(run)) for run in runs(text.split(), OVERLAP_WORDS)}
