"""Checks a student against its task: whether it can read its inputs, write its targets and tell its labels apart.

A tokenizer that was not made for the weights, or lacks the task's characters, ends no run by itself. The student
trains on what is left of the texts, and the numbers at the end are those of another task.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gold_lightning.errors import GoldError
from gold_lightning.metrics import make_metric
from gold_lightning.t5.folder import refusal
from gold_lightning.t5.weights import load_config, load_tokenizer, target_text
from gold_lightning.task import Sample, Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = ["Cut", "answer_of", "check_student", "count_cut"]

_UNREADABLE, _WORTH_A_WORD = 0.5, 0.05  # shares of the demos' characters
_OTHER = "or take another student"


@dataclass(frozen=True)
class Cut:
    """How many of some samples the student sees or writes without their end.

    Args:
        inputs: Samples whose input is longer than ``student.max_input_tokens``.
        targets: Samples none of whose targets fits into ``student.max_target_tokens``.
        of: How many there are.
    """

    inputs: int
    targets: int
    of: int

    def sentences(self, task: Task, noun: str) -> list[str]:
        """What a person is told: nothing if nothing was cut.

        Args:
            task: The task.
            noun: What was counted, in the plural.
        """
        form, told = task.student, []
        if self.inputs:
            told.append(
                f"{self.inputs} of {self.of} {noun} are longer than student.max_input_tokens of the task "
                f"({form.max_input_tokens}): the student does not read their end; raise it"
            )
        if self.targets:
            told.append(
                f"the targets of {self.targets} of {self.of} {noun} are longer than student.max_target_tokens of the "
                f"task ({form.max_target_tokens}): the student cannot write their end; raise it"
            )
        return told


def count_cut(task: Task, tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]) -> Cut:
    """Counts samples that are longer than the student's limits.

    Args:
        task: The task.
        tokenizer: The student's.
        samples: The samples; a test row counts as cut in its targets if each of them is.
    """
    if not samples:
        return Cut(0, 0, 0)
    form = task.student
    inputs = tokenizer([task.student_input(s) for s in samples]).input_ids
    targets = [target for s in samples for target in s.targets]
    length = {t: 0 for t in targets}
    every = tokenizer([target_text(tokenizer, task.student_target(t)) for t in length]).input_ids
    length = {t: len(ids) for t, ids in zip(length, every, strict=True)}
    return Cut(
        inputs=sum(len(ids) > form.max_input_tokens for ids in inputs),
        targets=sum(min(length[t] for t in s.targets) > form.max_target_tokens for s in samples),
        of=len(samples),
    )


def answer_of(task: Task, text: str) -> str:
    """The target in what a student wrote: without the text that ``student.target`` of the task has around it."""
    before, after = (part.strip() for part in task.student_target("\0").split("\0", 1))
    return text.strip().removeprefix(before).removesuffix(after).strip()


def check_student(
    task: Task, name: str, tokenizer: PreTrainedTokenizerBase | None = None, key: str = "model.student"
) -> list[str]:
    """Refuses a student that cannot learn a task. Its weights are not loaded.

    Args:
        task: The task.
        name: Hub id, folder, ``embedded`` or ``generator-embeddings``.
        tokenizer: The student's, if it is loaded already.
        key: The setting that named it, for messages.

    Returns:
        Warnings: what it can learn only in part.

    Raises:
        GoldError: Its files are missing or damaged; its tokenizer is not its model's, or says next to nothing of the
            task's texts; or it cannot write the labels, or tell them apart, or no demo's target.
    """
    config = load_config(name, key)
    check = _Check(task, name, key, config, tokenizer or load_tokenizer(name, key))
    check.vocabulary()
    check.labels()
    return [*check.inputs(), *check.targets()]


@dataclass(frozen=True)
class _Check:
    task: Task
    name: str
    key: str
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase

    def refuse(self, expected: str, problem: str, hint: str) -> GoldError:
        return refusal(self.key, self.name)(expected, problem, hint)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text).input_ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def target_ids(self, target: str) -> list[int]:
        return self.encode(target_text(self.tokenizer, self.task.student_target(target)))

    def vocabulary(self) -> None:
        """Whether the tokenizer was made for the model."""
        expected, hint = "a T5 with its own tokenizer", "save both from one model, with save_pretrained(FOLDER)"
        if self.tokenizer.pad_token_id is None:
            raise self.refuse(expected, "this one's has no token for padding", hint)
        ids, end = self.encode("a"), self.config.eos_token_id
        if not ids or ids[-1] != end:
            last = f"with token {ids[-1]}" if ids else "with none"
            raise self.refuse(expected, f"this one's ends a text {last}, the model with {end} (eos_token_id)", hint)
        rows = self.config.vocab_size
        beyond = {token: id_ for token, id_ in self.tokenizer.get_vocab().items() if id_ >= rows}
        # Tokens that were added, as T5's own <extra_id_0>, may be out of reach of any text.
        added = self.tokenizer.added_tokens_decoder
        if any(id_ not in added or id_ in self.encode(token) for token, id_ in beyond.items()):
            most = max(beyond.values()) + 1
            raise self.refuse(expected, f"its tokenizer has {most} tokens, the model {rows}", hint)

    def inputs(self) -> Iterator[str]:
        """Whether the tokenizer has the characters of the demos' fields."""
        yield from self._characters("inputs", [text for demo in self.task.demos for text in demo.fields.values()])

    def _characters(self, noun: str, texts: Sequence[str]) -> Iterator[str]:
        had: Counter[str] = Counter()
        lost: Counter[str] = Counter()
        for text in texts:
            had += _characters(text)
            lost += _characters(text) - _characters(self.decode(self.encode(text)))
        share = lost.total() / max(1, had.total())
        shown = "".join(c for c, _ in lost.most_common(8))
        if share > _UNREADABLE:
            raise self.refuse(
                "a student whose tokenizer has the characters of the task",
                f"it lacks {share:.0%} of those in the demos' {noun} (as {shown!r})",
                "take one that was trained on such texts (mT5 for many languages, ByT5 for any)",
            )
        if share > _WORTH_A_WORD:
            yield (
                f"{self.key} {self.name!r}: its tokenizer lacks {share:.0%} of the characters in the demos' {noun} "
                f"(as {shown!r}): the student neither reads nor writes them"
            )

    def labels(self) -> None:
        """Whether each label can be written, and told from the others."""
        most, seen = self.task.student.max_target_tokens, dict[tuple[int, ...], str]()
        tokens = {label: self.target_ids(label) for label in self.task.label_names}
        for label, ids in tokens.items():
            if (other := seen.setdefault(tuple(ids), label)) != label:
                raise self.refuse(
                    "a student that can tell the labels apart",
                    f"{other!r} and {label!r} are the same tokens to it ({_shown(self.decode(ids))})",
                    f"rename one of them, {_OTHER}",
                )
        expected = "a student that can write each label"
        for i, (label, ids) in enumerate(tokens.items()):
            at, wanted = f"labels[{i}] {label!r}", self.task.student_target(label).strip()
            if len(ids) > most:
                raise self.refuse(
                    expected,
                    f"{at} takes {len(ids)} tokens of student.max_target_tokens {most}",
                    f"set that of the task to {len(ids)} or more, or shorten the label",
                )
            back = self.decode(ids).strip()
            if back != wanted:
                raise self.refuse(
                    expected, f"it writes {at} as {_shown(back)}", f"name the label so that it can be written, {_OTHER}"
                )

    def targets(self) -> Iterator[str]:
        """Whether the demos' targets come back from the tokenizer as far as the metrics look at them."""
        if self.task.labels:
            return
        targets = [demo.target for demo in self.task.demos]
        back = [answer_of(self.task, self.decode(self.target_ids(target))) for target in targets]
        changed = next(((t, b) for t, b in zip(targets, back, strict=True) if b.split() != t.split()), None)
        example = "" if changed is None else _difference(*changed)
        yield from self._characters("targets", targets)
        names = self.task.metrics or ("exact_match",)
        for name in names:
            metric = make_metric(name, ())
            best, own = (float(metric.reduce(metric.rows(texts, targets))) for texts in (back, targets))
            if not best < own:
                continue
            if not best and name == names[0]:
                raise self.refuse(
                    "a student that can write the task's targets",
                    f"{name} could only be 0: no demo's target comes back from its tokenizer ({example})",
                    "take one whose tokenizer has these characters (ByT5 has all), or another metric",
                )
            yield (
                f"{self.key} {self.name!r}: its tokenizer does not give all targets back ({example}), so {name} of a "
                f"student without any fault would be {best:.2f} on the demos"
            )


def _characters(text: str) -> Counter[str]:
    """Characters of a text without spaces and marks, and in lower case: some tokenizers take these off on purpose."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return Counter(c for c in plain if not c.isspace() and unicodedata.category(c) != "Mn")


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 40 else repr(text[:37] + "...")


def _difference(text: str, back: str) -> str:
    """Where a text and what came back begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
    start = max(0, at - 10)
    return f"{_shown(text[start : at + 15])} as {_shown(back[start : at + 15])}"
