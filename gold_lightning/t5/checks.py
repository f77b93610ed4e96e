"""Checks a student against its task: whether it can read the inputs, write the targets and distinguish the labels.

A tokenizer that does not belong to the weights, or that lacks the task's characters, raises no error by itself: the
student trains on the remaining characters, and the results are those of another task.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from gold_lightning.errors import GoldError
from gold_lightning.metrics import make_metric
from gold_lightning.t5.batches import TOKENIZED_TOGETHER
from gold_lightning.t5.folder import refusal
from gold_lightning.t5.inference import answer_of
from gold_lightning.t5.set_tokens import SetTokens
from gold_lightning.t5.weights import load_config, load_tokenizer, target_text
from gold_lightning.task import Sample, Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = ["Cut", "check_student", "count_cut"]

_REFUSED_SHARE, _WARNED_SHARE = 0.5, 0.05  # of the characters in the demos that the tokenizer lacks
_OTHER = "or take another student"


@dataclass(frozen=True)
class Cut:
    """Numbers of samples that are longer than the student's limits.

    Args:
        inputs: Number of samples whose input is longer than ``student.max_input_tokens``.
        targets: Number of samples without a target that fits into ``student.max_target_tokens``.
        of: Number of all samples.
    """

    inputs: int
    targets: int
    of: int

    def sentences(self, task: Task, noun: str) -> list[str]:
        """Returns a warning for each limit that is too low.

        Args:
            task: The task.
            noun: Name of the samples, in the plural.
        """
        form, warnings = task.student, []
        if self.inputs:
            warnings.append(
                f"{self.inputs} of {self.of} {noun} are longer than student.max_input_tokens of the task "
                f"({form.max_input_tokens}): the student does not read their end; raise it"
            )
        if self.targets:
            warnings.append(
                f"the targets of {self.targets} of {self.of} {noun} are longer than student.max_target_tokens of the "
                f"task ({form.max_target_tokens}): the student cannot write their end; raise it"
            )
        return warnings


def count_cut(task: Task, tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]) -> Cut:
    """Counts samples that are longer than the student's limits.

    Args:
        task: The task.
        tokenizer: The student's tokenizer.
        samples: The samples. A test row counts in ``targets`` if each of its targets is too long.
    """
    form, cut, remaining = task.student, Cut(0, 0, 0), iter(samples)
    while some := list(islice(remaining, TOKENIZED_TOGETHER)):
        inputs = tokenizer([task.student_input(s) for s in some]).input_ids
        targets = list(dict.fromkeys(target for s in some for target in s.targets))
        every = tokenizer([target_text(tokenizer, task.student_target(t)) for t in targets]).input_ids
        length = {t: len(ids) for t, ids in zip(targets, every, strict=True)}
        cut = Cut(
            inputs=cut.inputs + sum(len(ids) > form.max_input_tokens for ids in inputs),
            targets=cut.targets + sum(min(length[t] for t in s.targets) > form.max_target_tokens for s in some),
            of=cut.of + len(some),
        )
    return cut


def check_student(
    task: Task, name: str, tokenizer: PreTrainedTokenizerBase | None = None, key: str = "model.student"
) -> list[str]:
    """Refuses a student that cannot learn a task, without loading its weights.

    Args:
        task: The task.
        name: Hub id, folder, or ``embedded``.
        tokenizer: The student's tokenizer, if it is loaded already.
        key: The setting that names the student, for messages.

    Returns:
        Warnings about texts that the student can learn only in part.

    Raises:
        GoldError: Files are missing or damaged; the tokenizer does not belong to the model or lacks most of the task's
            characters; or the student cannot write or distinguish the labels, or cannot write any demo's target.
    """
    config = load_config(name, key)
    check = _Check(task, name, key, config, tokenizer or load_tokenizer(name, key))
    check.vocabulary()
    check.labels()
    check.sets()
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
        """Checks that the tokenizer belongs to the model."""
        expected, hint = "a T5 with its own tokenizer", "save both from one model, with save_pretrained(FOLDER)"
        if self.tokenizer.pad_token_id is None:
            raise self.refuse(expected, "this one's has no token for padding", hint)
        ids, end = self.encode("a"), self.config.eos_token_id
        if not ids or ids[-1] != end:
            last = f"with token {ids[-1]}" if ids else "with none"
            raise self.refuse(expected, f"this one's ends a text {last}, the model with {end} (eos_token_id)", hint)
        rows = self.config.vocab_size
        beyond = {token: id_ for token, id_ in self.tokenizer.get_vocab().items() if id_ >= rows}
        # Added tokens, such as T5's <extra_id_0>, may be unreachable from any text.
        added = self.tokenizer.added_tokens_decoder
        if any(id_ not in added or id_ in self.encode(token) for token, id_ in beyond.items()):
            most = max(beyond.values()) + 1
            raise self.refuse(expected, f"its tokenizer has {most} tokens, the model {rows}", hint)

    def inputs(self) -> Iterator[str]:
        """Checks that the tokenizer has the characters of the demos' fields."""
        yield from self._characters("inputs", [text for demo in self.task.demos for text in demo.fields.values()])

    def _characters(self, noun: str, texts: Sequence[str]) -> Iterator[str]:
        all_characters: Counter[str] = Counter()
        lost: Counter[str] = Counter()
        for text in texts:
            all_characters += _characters(text)
            lost += _characters(text) - _characters(self.decode(self.encode(text)))
        share = lost.total() / max(1, all_characters.total())
        examples = "".join(c for c, _ in lost.most_common(8))
        if share > _REFUSED_SHARE:
            raise self.refuse(
                "a student whose tokenizer has the characters of the task",
                f"it lacks {share:.0%} of those in the demos' {noun} (as {examples!r})",
                "take one that was trained on such texts (mT5 for many languages, ByT5 for any)",
            )
        if share > _WARNED_SHARE:
            yield (
                f"{self.key} {self.name!r}: its tokenizer lacks {share:.0%} of the characters in the demos' {noun} "
                f"(as {examples!r}): the student neither reads nor writes them"
            )

    def labels(self) -> None:
        """Checks that the student can write each label and distinguish it from the others."""
        limit, seen = self.task.student.max_target_tokens, dict[tuple[int, ...], str]()
        tokens = {label: self.target_ids(label) for label in self.task.label_names}
        for label, ids in tokens.items():
            if (other := seen.setdefault(tuple(ids), label)) != label:
                raise self.refuse(
                    "a student that can tell the labels apart",
                    f"{other!r} and {label!r} are the same tokens to it ({_short(self.decode(ids))})",
                    f"rename one of them, {_OTHER}",
                )
        expected = "a student that can write each label"
        for i, (label, ids) in enumerate(tokens.items()):
            place, target = f"labels[{i}] {label!r}", self.task.student_target(label).strip()
            if len(ids) > limit:
                raise self.refuse(
                    expected,
                    f"{place} takes {len(ids)} tokens of student.max_target_tokens {limit}",
                    f"set that of the task to {len(ids)} or more, or shorten the label",
                )
            decoded = self.decode(ids).strip()
            if decoded != target:
                raise self.refuse(
                    expected,
                    f"it writes {place} as {_short(decoded)}",
                    f"name the label so that it can be written, {_OTHER}",
                )

    def sets(self) -> None:
        """Checks that the student can write sets of labels, each label after any other."""
        if self.task.many is None:
            return
        many, limit = self.task.many, self.task.student.max_target_tokens
        expected = "a student that can write sets of labels"
        if self.decode(self.target_ids(many.none)).strip() != self.task.student_target(many.none).strip():
            decoded = _short(self.decode(self.target_ids(many.none)))
            raise self.refuse(expected, f"it writes many.none {many.none!r} as {decoded}", f"set another one, {_OTHER}")
        every = self.task.student_target(many.text(self.task.label_names, self.task.label_names)).strip()
        if (decoded := self.decode(self.encode(target_text(self.tokenizer, every))).strip()) != every:
            difference = _difference(every, decoded)
            raise self.refuse(expected, f"it writes {difference}", f"set another many.separator, {_OTHER}")
        sets = SetTokens(self.task, lambda text: self.encode(target_text(self.tokenizer, text)))
        if text := sets.mismatch():
            problem = f"its tokenizer joins labels and separators in {_short(text)}"
            raise self.refuse(expected, problem, f"set another many.separator, as ', ' or ' | ', {_OTHER}")
        most = max(size for size, weight in enumerate(many.sizes[: sets.count + 1]) if weight)
        longest = sorted(range(sets.count), key=lambda i: len(self.target_ids(self.task.label_names[i])))[-most:]
        tokens = sum(map(len, sets.of(sorted(longest))))
        if tokens > limit:
            raise self.refuse(
                expected,
                f"{most} labels (many.sizes) may take {tokens} tokens of student.max_target_tokens {limit}",
                f"set that of the task to {tokens} or more",
            )

    def targets(self) -> Iterator[str]:
        """Checks that the demos' targets survive encoding and decoding, as far as the metrics can tell."""
        if self.task.labels:
            return
        targets = [demo.target for demo in self.task.demos]
        decoded = [answer_of(self.task, self.decode(self.target_ids(target))) for target in targets]
        changed = next(((t, d) for t, d in zip(targets, decoded, strict=True) if d.split() != t.split()), None)
        example = "" if changed is None else _difference(*changed)
        yield from self._characters("targets", targets)
        names = self.task.metrics or ("exact_match",)
        for name in names:
            metric = make_metric(name, ())
            best, perfect = (float(metric.reduce(metric.rows(texts, targets))) for texts in (decoded, targets))
            if not best < perfect:
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
    """Counts characters in lower case, without spaces and accents: some tokenizers remove these on purpose."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return Counter(c for c in plain if not c.isspace() and unicodedata.category(c) != "Mn")


def _short(text: str) -> str:
    return repr(text) if len(text) <= 40 else repr(text[:37] + "...")


def _difference(text: str, decoded: str) -> str:
    """Quotes both texts around their first difference."""
    shorter = min(len(text), len(decoded))
    at = next((i for i, (a, b) in enumerate(zip(text, decoded, strict=False)) if a != b), shorter)
    start = max(0, at - 10)
    return f"{_short(text[start : at + 15])} as {_short(decoded[start : at + 15])}"
