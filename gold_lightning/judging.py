"""Judges a batch of completions: parses, checks, looks for duplicates, checks labels, and keeps what is missing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gold_lightning.checks.checker import CheckedText, Checker
from gold_lightning.checks.contamination import OVERLAP_WORDS, Decontaminator
from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.checks.semantic import SemanticIndex
from gold_lightning.checks.set_agreement import SetCheck
from gold_lightning.errors import ConfigError
from gold_lightning.generators.base import Completion, Request
from gold_lightning.likelihoods import LabelLikelihoods, read_log_probs, stored_log_probs, stored_probabilities
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.requests import PlannedRequest
from gold_lightning.storage.json_lines import digest
from gold_lightning.storage.number_index import NumberIndex, number_of
from gold_lightning.storage.round_store import Kind, RoundStore
from gold_lightning.t5.sentence_vectors import SentenceVectors
from gold_lightning.task import Sample, Task

__all__ = ["Judge", "JudgedBatch", "JudgedCompletion", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """Whether a sample that passed all checks of its own is taken.

    Args:
        reason: Why not; "" if it is.
        likelihoods: The generator's own likelihoods of all labels; ``None`` if not asked for, or if they prefer none.
    """

    reason: str = ""
    likelihoods: LabelLikelihoods | None = None

    @property
    def preferred_label(self) -> str:
        """The label that the generator's own likelihoods prefer; "" if not asked for, or none."""
        return self.likelihoods.label if self.likelihoods else ""

    @property
    def label_log_probs(self) -> dict[str, float | None]:
        """The likelihoods as the store holds them; empty if there are none."""
        return stored_log_probs(self.likelihoods.names, self.likelihoods.log_probs) if self.likelihoods else {}

    @property
    def probabilities(self) -> dict[str, float]:
        """The calibrated probabilities as the store holds them; empty if there are none."""
        return stored_probabilities(self.likelihoods)

    def checked(self, sample: Sample | None) -> dict[str, Any]:
        """Returns the values of a reject's row on which the calibration of later label checks depends.

        Args:
            sample: The sample of the completion, if it was one.
        """
        if sample is None or not self.likelihoods:
            return {}
        return {"fields": dict(sample.fields), "label_log_probs": self.label_log_probs}


@dataclass(frozen=True)
class JudgedCompletion:
    """A completion with its verdict.

    Args:
        planned: The request.
        completion: The generator's completion.
        parsed: The sample that the completion is, if it passed all checks of its own.
        verdict: Whether it is taken.
        cut: Whether its text was cut at the end of its last whole sentence.
    """

    planned: PlannedRequest
    completion: Completion
    parsed: Sample | None
    verdict: Verdict
    cut: bool = False

    @property
    def sample(self) -> Sample | None:
        """The accepted sample; ``None`` for a reject."""
        return None if self.reason else self.parsed

    @property
    def spare(self) -> Sample | None:
        """The sample of a reject that was ``surplus``; a later round may take it."""
        return self.parsed if self.reason == "surplus" else None

    @property
    def reason(self) -> str:
        """The reason of a reject; "" for an accepted sample."""
        return self.verdict.reason

    @property
    def label_agrees(self) -> bool | None:
        """Whether the generator's own likelihoods prefer the requested label; ``None`` if they were not asked for."""
        preferred = self.verdict.preferred_label
        return preferred == self.planned.label if preferred else None


@dataclass(frozen=True)
class JudgedBatch:
    """A batch of completions with their verdicts.

    Args:
        completions: One for each request, in order.
        label_checks: Completions of the label-check requests sent with this batch.
        seconds: Wall time of generating and judging.
    """

    completions: tuple[JudgedCompletion, ...]
    label_checks: tuple[Completion, ...]
    seconds: float


class Judge:
    """Judges completions and remembers accepted samples, so that later ones like them are duplicates.

    Args:
        task: The task.
        plan: Checks of labels, of the overlap with the test set, and of meanings.
        seed: Seed of the choice of demos in prompts that check labels.
        answer: Function that completes requests, given the requests and the round that pays for them.
        tokens_over_limit: Function that returns the number of tokens by which each request exceeds the context of the
            generator's model.
        decontaminator: Returns the index of the test set. It is called only if the plan drops samples with its text.
        vectors: Embeds texts if the plan compares their meanings.

    Attributes:
        label_check: The check of labels by the generator's own likelihoods; ``None`` if labels are not checked.

    Raises:
        ConfigError: The plan checks labels of a task without labels, drops the overlap with a missing test set, or
            compares meanings without vectors.
    """

    def __init__(
        self,
        task: Task,
        plan: SynthesisPlan,
        seed: int,
        answer: Callable[[Sequence[Request], int], list[Completion]],
        tokens_over_limit: Callable[[Sequence[Request]], list[int]],
        decontaminator: Callable[[], Decontaminator] | None = None,
        vectors: SentenceVectors | None = None,
    ) -> None:
        if plan.label_agreement != "off" and not task.labels:
            raise ConfigError("data.plan.label_agreement", plan.label_agreement, "off for a task without labels")
        if plan.decontaminate == "drop" and decontaminator is None:
            raise ConfigError("data.plan.decontaminate", plan.decontaminate, "off or measure without a test set")
        if plan.semantic_duplicate is not None and vectors is None:
            raise ConfigError("data.plan.semantic_duplicate", plan.semantic_duplicate, "null without vectors of texts")
        self.task, self._labels_required = task, plan.label_agreement == "require"
        self.label_check: LabelCheck | None = None
        if plan.label_agreement != "off":
            check = SetCheck if task.many else LabelCheck
            self.label_check = check(
                task, seed, self._labels_required, answer, tokens_over_limit, plan.label_calibration
            )
        self._decontaminator = decontaminator if plan.decontaminate == "drop" else None
        self._vectors, meanings = None, None
        if plan.semantic_duplicate is not None and vectors is not None:
            self._vectors = vectors
            meanings = SemanticIndex(vectors, plan.semantic_duplicate, labelled=bool(task.labels))
        self._checker = Checker(task, meanings)
        self._ids = NumberIndex()  # their hashes: of a million ids, two are alike once in forty million runs
        self._remembered: set[tuple[int, Kind]] = set()  # rounds whose label checks are

    def fingerprint(self) -> dict[str, str]:
        """Returns hashes of what samples depend on beside task, generator, plan and seed."""
        parts: dict[str, str] = {}
        if self._decontaminator:
            parts["decontamination"] = digest([OVERLAP_WORDS, self._decontaminator().fingerprint()])
        if self._vectors:
            parts["sentence vectors"] = self._vectors.fingerprint()
        return parts

    def __contains__(self, id_: str) -> bool:
        """Whether the sample of that id is remembered."""
        return bool(self._ids.values(number_of(id_)))

    def remember(self, store: RoundStore, kind: Kind) -> None:
        """Registers the accepted samples of an earlier round or sitting, and its label checks.

        Later samples that are like them are duplicates, and later label checks are calibrated over them too.
        """
        for stored in store.accepted(kind):
            if stored.id not in self:
                self._ids.add(number_of(stored.id), 0)
                self._checker.keep(stored.sample)
        if self.label_check and (store.round, kind) not in self._remembered:
            self._remembered.add((store.round, kind))
            for fields, label, log_probs in store.label_checks(kind):
                self.label_check.remember(fields, read_log_probs(self.task.label_names, log_probs), label)

    def batch(
        self,
        planned: Sequence[PlannedRequest],
        completions: Sequence[Completion],
        missing: Mapping[str | None, int],
        round_: int,
        started: float,
    ) -> JudgedBatch:
        """Judges a batch.

        Args:
            planned: The requests.
            completions: Their completions, in order.
            missing: Number of samples wanted, by label; what goes beyond is rejected as ``surplus``.
            round_: Number of the round.
            started: When the batch was sent, by :func:`time.perf_counter`.
        """
        fields = "\n".join(f.description for f in self.task.fields)
        checked: list[CheckedText] = []
        for request, completion in zip(planned, completions, strict=True):
            prompt = f"{request.request.system}\n{request.request.suffix}\n{fields}"
            demos = [*self.task.demos, *(demo for _, demo in request.demos)]
            text = self._checker.judge(completion, request.label, request.request.answer_prefix, prompt, demos)
            if text.sample is not None and self._decontaminator and self._decontaminator().overlap(text.sample):
                text = CheckedText(reason="in_test_set")
            checked.append(text)

        valid = [(p.id, c.sample, p.label) for p, c in zip(planned, checked, strict=True) if c.sample is not None]
        taken, label_checks = self.take(valid, missing, round_)
        verdicts = dict(zip((id_ for id_, _, _ in valid), taken, strict=True))
        judged: list[JudgedCompletion] = []
        for request, completion, text in zip(planned, completions, checked, strict=True):
            verdict = verdicts.get(request.id, Verdict(text.reason))
            judged.append(JudgedCompletion(request, completion, text.sample, verdict, text.cut))
        return JudgedBatch(tuple(judged), tuple(label_checks), time.perf_counter() - started)

    def take(
        self, valid: Sequence[tuple[str, Sample, str | None]], missing: Mapping[str | None, int], round_: int
    ) -> tuple[list[Verdict], list[Completion]]:
        """Takes as many samples as are missing, and remembers them.

        A sample's label is checked only if the sample can be taken: surplus samples, and twins of a sample that is
        taken, are not asked about. If the check rejects some, the next ones have their turn.

        Args:
            valid: Id, sample and requested label of what passed all other checks, in order.
            missing: Number of samples wanted, by label.
            round_: Number of the round.

        Returns:
            The verdict of each, and the completions of the label-check requests.
        """
        left = Counter(missing)
        verdicts: dict[int, Verdict] = {}
        label_checks: list[Completion] = []
        waiting = list(range(len(valid)))
        while waiting:
            room, candidates, later = Counter(left), list[int](), list[int]()
            for i in waiting:
                _, sample, label = valid[i]
                if room[label] > 0 and not self._checker.duplicate(sample):
                    self._checker.keep(sample)  # for now: its twins wait for its verdict
                    room[label] -= 1
                    candidates.append(i)
                else:
                    later.append(i)
            if not candidates:
                break
            waiting, scored = later, list[LabelLikelihoods | None]([None] * len(candidates))
            if self.label_check:
                scored, completions = self.label_check.check([valid[i][1] for i in candidates], round_)
                label_checks += completions
            for i, likelihoods in zip(candidates, scored, strict=True):
                id_, sample, label = valid[i]
                preferred_label = likelihoods.label if likelihoods else ""
                if preferred_label != label and self._labels_required:
                    reason = "label_disagreement" if preferred_label else "label_unchecked"
                    verdicts[i] = Verdict(reason, likelihoods)
                    self._checker.forget(sample)
                else:
                    # Only what is stored is remembered: a resumed run judges as this one does.
                    verdicts[i] = Verdict("", likelihoods)
                    self._ids.add(number_of(id_), 0)
                    left[label] -= 1
        for i in waiting:
            verdicts[i] = Verdict(self._checker.duplicate(valid[i][1]) or "surplus")
        return [verdicts[i] for i in range(len(valid))], label_checks
