"""Batches of the pre-training: what the student reads beside its teacher, and text-to-text tasks."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gold_lightning.t5.weights import target_text
from text import Example, exchange_words, recase, text_to_text
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

if TYPE_CHECKING:
    from pretrain import Settings

__all__ = ["Batches", "encode_words"]

_EXCHANGED = 1 / 3  # of the words of a piece
_WINDOW = 4096  # texts that are sorted by length among themselves
_PADDED = 1.1  # tokens of a batch over those of its texts, about
_LONGEST = 256  # tokens of a text that are read; a piece of few words may have more where they are no words
_PREFIXES = "topic subject category label classify sentence text review question what kind task about section".split()


def encode_words(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], skips: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """Tokens of texts, and the words that they are part of.

    Args:
        tokenizer: A fast one.
        texts: The texts.
        skips: How many characters at each text's start belong to no word.

    Returns:
        ``ids``, ``mask`` and ``words``, (batch, tokens) int64, a multiple of 4 wide. A word is a run of characters
        between spaces; the one that a token ends in counts. It is -1 for special tokens and skipped text.
    """
    fast = tokenizer.backend_tokenizer  # the wrapper around it costs more than it does
    fast.no_padding()
    fast.enable_truncation(_LONGEST)
    read = fast.encode_batch(list(texts))
    width = -(-max(len(e) for e in read) // 4) * 4
    made = {name: np.full((len(read), width), empty) for name, empty in (("ids", 0), ("mask", 0), ("words", -1))}
    for row, (text, e) in enumerate(zip(texts, read, strict=True)):
        made["ids"][row, : len(e)] = e.ids
        made["mask"][row, : len(e)] = 1
        made["words"][row, : len(e)] = _words(text, e.offsets, e.special_tokens_mask, skips[row] if skips else 0)
    return {name: torch.from_numpy(array) for name, array in made.items()}


def _words(text: str, offsets: Any, special: Any, skip: int = 0) -> np.ndarray:
    """The word (between spaces) that each token ends in; -1 for special tokens and the first ``skip`` characters."""
    spaces = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32) == 32
    word_of = np.cumsum(np.diff(spaces.astype(np.int8), prepend=1) < 0) - 1
    start, end = np.array(offsets).T
    first = word_of[skip] if skip < len(word_of) else 0
    return np.where((np.array(special) > 0) | (end == start) | (end <= skip), -1, word_of[end - 1] - first)


@dataclass(frozen=True)
class _Row:
    """A text, the same as it is read, and the words before it."""

    text: str
    changed: str
    prefix: str


class Batches(IterableDataset):
    """Batches without end. Each is a function of its number, so that a stopped run goes on with the next one.

    Args:
        texts: What they are made of.
        settings: Of the run.
        tokenizers: The student's and the teacher's.
        first: Gives the number of the first batch of this process, and how far the next one is.
    """

    def __init__(
        self,
        texts: list[str],
        settings: Settings,
        tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase],
        first: Callable[[], tuple[int, int]] = lambda: (0, 1),
    ) -> None:
        self.texts, self.settings, self.tokenizers, self.first = texts, settings, tokenizers, first
        self._last: tuple[int, list[list[_Row]]] = (-1, [])
        self._per_window: int | None = None
        vocabulary = tokenizers[1].get_vocab() if settings.exchange else {}
        self._words = sorted(w for w in vocabulary if w.isascii() and w.isalpha() and w.islower() and len(w) > 2)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        number, step = self.first()
        if worker := get_worker_info():  # the loader takes from the workers in turn
            number, step = number + step * worker.id, step * worker.num_workers
        while True:
            yield self.batch(number)
            number += step

    def batch(self, number: int) -> dict[str, Any]:
        if self._per_window is None:
            texts = self.texts[:_WINDOW]
            tokens, fewest = sum(self._lengths(texts)), len(texts) / self.settings.batch_texts
            self._per_window = math.ceil(max(tokens * _PADDED / self.settings.batch_tokens, fewest))
        window, at = divmod(number, self._per_window)
        rows = self._window(window)[at]
        if number % self.settings.tasks_every == self.settings.tasks_every - 1:
            # Half as many texts: these batches are wider, and pay for logits at every target token.
            luck = random.Random(f"{self.settings.seed} {number}")
            texts = [row.text for row in rows]
            return self.tasks([text_to_text(luck, t, luck.choice(texts)) for t in texts[::2]])
        return self.dense([row.changed for row in rows], [row.prefix for row in rows])

    def dense(self, texts: Sequence[str], prefixes: Sequence[str]) -> dict[str, Any]:
        """What the student reads (``ids``, ``mask``, ``words``) and what the teacher does (``teacher_...``)."""
        own = [p + t for p, t in zip(prefixes, texts, strict=True)]
        student = encode_words(self.tokenizers[0], own, [len(p) for p in prefixes])
        teacher = encode_words(self.tokenizers[1], texts)
        count = 1 + int(max(student["words"].max(), teacher["words"].max()))
        return student | {f"teacher_{k}": v for k, v in teacher.items()} | {"count": count}

    def tasks(self, made: Sequence[Example]) -> dict[str, Any]:
        """Sources and targets as tokens; ``labels`` have -100 on padding."""
        tokenizer = self.tokenizers[0]
        read, asked = (
            tokenizer(texts, padding=True, truncation=True, max_length=limit, pad_to_multiple_of=8, return_tensors="pt")
            for texts, limit in (
                ([m.source for m in made], 192),
                ([target_text(tokenizer, m.target) for m in made], 40),
            )
        )
        labels = asked.input_ids.masked_fill(asked.input_ids == 0, -100)
        return {"ids": read.input_ids, "mask": read.attention_mask, "labels": labels}

    def _lengths(self, texts: list[str]) -> list[int]:
        """Tokens of each text, its end included."""
        fast = self.tokenizers[0].backend_tokenizer
        fast.no_padding()
        fast.enable_truncation(_LONGEST)
        return [len(read) for read in fast.encode_batch_fast(texts)]

    def _window(self, number: int) -> list[list[_Row]]:
        """Texts as they are read, in batches of about one length and about as many tokens, in random order."""
        if self._last[0] != number:
            settings = self.settings
            epoch, at = divmod(number, max(1, len(self.texts) // _WINDOW))
            order = list(range(len(self.texts)))
            random.Random(f"{settings.seed} {epoch}").shuffle(order)
            luck = random.Random(f"{settings.seed} window {number}")
            rows = []
            for text in (self.texts[i] for i in order[at * _WINDOW : (at + 1) * _WINDOW]):
                changed = text
                if luck.random() < settings.exchange:
                    changed = exchange_words(luck, changed, self._words, _EXCHANGED)
                if luck.random() < settings.recase:
                    changed = recase(luck, changed)
                rows.append(_Row(text, changed, _prefix(luck)))
            lengths = self._lengths([row.prefix + row.changed for row in rows])
            batches = _of_equal_cost(lengths, self._per_window or 1, settings.batch_texts)
            luck.shuffle(batches)
            self._last = (number, [[rows[i] for i in batch] for batch in batches])
        return self._last[1]


def _of_equal_cost(lengths: Sequence[int], count: int, most: int) -> list[list[int]]:
    """Cuts indices into ``count`` batches: of about one length, ``most`` texts at most, about as many padded tokens."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches: list[list[int]] = []
    for left in range(count, 0, -1):
        share = sum(lengths[i] for i in order) / left
        # Not so few that more than ``most`` would be left for each of the others, and one for each of them.
        fewest = max(1, len(order) - most * (left - 1))
        size = fewest
        while size < min(most, len(order) - left + 1) and lengths[order[size]] * (size + 1) <= share * _PADDED:
            size += 1
        batches.append(order[: size if left > 1 else len(order)])
        order = order[len(batches[-1]) :]
    return batches


def _prefix(luck: random.Random) -> str:
    """Nothing, or words and a colon, as a task's input template puts before a text."""
    if luck.random() < 0.4:
        return ""
    return " ".join(luck.sample(_PREFIXES, luck.choice((1, 1, 2, 3)))) + ": "
