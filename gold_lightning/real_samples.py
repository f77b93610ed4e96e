"""Makes samples of real texts: each round's probe set, and training samples of those that were fed back.

A real text gets its label from the generator's calibrated likelihoods; for a task without labels, its target is the
generator's greedy answer.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.errors import ConfigError, GoldError, NoLikelihoodsError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators.base import Completion, Request
from gold_lightning.likelihoods import LabelLikelihoods, read_log_probs, stored_log_probs, stored_probabilities
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.progress import Progress, ProgressMeter
from gold_lightning.planning.quotas import task_quotas
from gold_lightning.planning.requests import PlannedRequest
from gold_lightning.prompts import Hint
from gold_lightning.questions import answer_request, read_answer
from gold_lightning.storage.completions import Completions
from gold_lightning.storage.json_lines import digest, read_json, read_lines, replace_text
from gold_lightning.storage.round_store import BatchRecord, Kind, RoundStore, StoredSample
from gold_lightning.storage.run_folder import RunFolder
from gold_lightning.task import Sample, Task
from gold_lightning.text_labels import with_joint_label
from gold_lightning.unlabelled import UnlabelledTexts, real_texts, sample_id, text_number
from gold_lightning.wire import fields_block

__all__ = ["RealSamples", "TextLabel", "TextLabeller"]

_log = logging.getLogger("gold_lightning")


@dataclass(frozen=True)
class TextLabel:
    """The generator's target for a real text.

    Args:
        request: The request that asked for it.
        target: The target; "" if there is none.
        reason: Why there is none; "" if there is one.
        raw: The generator's answer, for a task without labels.
        likelihoods: The likelihoods of all labels; ``None`` for a task without labels.
    """

    request: Request
    target: str
    reason: str = ""
    raw: str = ""
    likelihoods: LabelLikelihoods | None = None


class TextLabeller:
    """Asks the generator for the targets of real texts.

    Args:
        task: The task.
        seed: Seed of the choice of demos in prompts.
        demos: Number of demos in the prompts of a task without labels; those of other tasks show one of each label.
        completions: Returns the completions of the run, and the generator that is asked.
    """

    def __init__(self, task: Task, seed: int, demos: int, completions: Callable[[], Completions]) -> None:
        self.task, self._completions = task, completions
        count = min(demos, len(task.demos))
        self._demos = random.Random(f"{seed}/unlabelled/demos").sample(task.demos, count)
        self._check: LabelCheck | None = None
        if task.one_label:
            self._check = LabelCheck(
                task, seed, True, self._answer, lambda r: completions().generator.tokens_over_limit(r), "batch"
            )

    def label(self, rows: Sequence[Mapping[str, str]], round_: int) -> tuple[list[TextLabel], list[Completion]]:
        """Returns the target of each text.

        Args:
            rows: The fields of each text.
            round_: The round that pays for the requests.

        Returns:
            The target of each text, and the completions of the requests.
        """
        if self._check is None:
            return self._answers(rows, round_)
        try:
            scored, completions = self._check.score(rows, round_)
        except NoLikelihoodsError as e:
            raise e.needed_for("labels of data.unlabelled") from None
        labels = [
            TextLabel(self._check.request(fields), likelihoods.label, likelihoods=likelihoods)
            if likelihoods
            else TextLabel(self._check.request(fields), "", "label_unchecked")
            for fields, likelihoods in zip(rows, scored, strict=True)
        ]
        return labels, completions

    def request(self, fields: Mapping[str, str]) -> Request:
        """Asks for the target of one text."""
        if self._check is not None:
            return self._check.request(fields)
        return answer_request(self.task, fields, self._demos)

    def recall(self, store: RoundStore) -> None:
        """Counts the real texts of a round's probe set for the calibration of later ones."""
        for stored in store.accepted("probe"):
            if self._check is not None and stored.source == "unlabelled":
                log_probs = read_log_probs(self.task.label_names, stored.label_log_probs)
                self._check.remember(stored.sample.fields, log_probs)

    def _answers(self, rows: Sequence[Mapping[str, str]], round_: int) -> tuple[list[TextLabel], list[Completion]]:
        requests = [self.request(fields) for fields in rows]
        over = self._completions().generator.tokens_over_limit(requests)
        completions = self._answer([r for r, n in zip(requests, over, strict=True) if not n], round_)
        remaining = iter(completions)
        labels: list[TextLabel] = []
        for request, tokens in zip(requests, over, strict=True):
            if tokens:
                labels.append(TextLabel(request, "", "too_long"))
                continue
            completion = next(remaining)
            target = read_answer(completion.text, self.task).strip()
            reason: str = completion.reason or ("truncated" if completion.finish == "length" else "")
            if not reason and self.task.many and self.task.labels_of(target) is None:
                reason = "label_not_in_set"
            if not reason and len(target) < max(1, self.task.target.min_chars):
                reason = "too_short" if target else "empty"
            labels.append(TextLabel(request, "" if reason else target, reason, completion.text))
        return labels, completions

    def _answer(self, requests: Sequence[Request], round_: int) -> list[Completion]:
        return self._completions().answer_in_batches(requests, round_)


class RealSamples:
    """Draws each round's probe set from unlabelled texts, and turns chosen texts into training samples.

    No text is drawn twice in a run. If the texts would not last for all rounds, each round gets an equal share of those
    that are left.

    Args:
        task: The task.
        plan: Sizes, and uses of the texts that are fed back.
        seed: The run's seed.
        texts: Reads the texts, on first use.
        completions: Returns the completions of the run, and the generator that is asked.

    Attributes:
        rounds: Number of rounds of the run; negative if there is no limit.
    """

    def __init__(
        self,
        task: Task,
        plan: SynthesisPlan,
        seed: int,
        texts: Callable[[], UnlabelledTexts],
        completions: Callable[[], Completions],
    ) -> None:
        self.task, self.plan, self.seed, self.rounds = task, plan, seed, -1
        self._read, self._completions = texts, completions
        self._labeller = TextLabeller(task, seed, plan.seed_demos, completions)

    @cached_property
    def texts(self) -> UnlabelledTexts:
        """The texts. Raises ConfigError if they cannot be read."""
        return self._read()

    def begin(self, run_dir: Path, rounds: int, *, writes: bool) -> None:
        """Reads the texts, and makes sure that they are those that the run began with.

        Args:
            run_dir: The run folder, which keeps a record of the texts.
            rounds: Number of rounds of the run; negative if there is no limit.
            writes: Whether this process writes to the run folder and to the log.

        Raises:
            ConfigError: The texts cannot be read or have changed, or there are fewer than rounds.
        """
        self.rounds, texts = rounds, self.texts
        path = RunFolder(run_dir).unlabelled
        if read_json(path).get("digest", texts.digest) != texts.digest:
            hint = "its texts have changed; restore it, or take another --run.name"
            raise ConfigError("data.unlabelled", texts.path, "the file that the run began with", hint)
        if len(texts) < rounds:
            raise ConfigError("data.unlabelled", texts.path, f"a text for each of {rounds} rounds", texts.sentence())
        if writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            record = {"path": texts.path, "digest": texts.digest, **texts.counts}
            replace_text(path, json.dumps(record, ensure_ascii=False, indent=1) + "\n")
            _log.info("probe sets are drawn from %s", texts.sentence())
            for line in texts.outside_limits(self.task):
                _log.warning("warning: %s", line)

    def fingerprint(self, kind: Kind) -> dict[str, str]:
        """Returns the part of a round's fingerprint that is about real texts."""
        uses = [sorted(self.plan.unlabelled_as), self.plan.unlabelled_share] if kind == "train" else []
        return {"unlabelled": digest([self.texts.digest, *uses])}

    def pseudo_labels(self, last: RoundStore | None) -> list[Any]:
        """Returns what the last round's student said of its real texts, if this round trains on all of them.

        Args:
            last: The store of the last round; ``None`` in the first one.
        """
        if last is None or not self.plan.pseudo_labels:
            return []
        return [[(row["id"], row.get("probabilities")) for row in last.energies()]]

    def size(self, earlier: Sequence[RoundStore]) -> int:
        """Returns the size of the next round's probe set.

        Args:
            earlier: The stores of all earlier rounds, from round 0 on.

        Returns:
            The plan's size, or fewer if the texts would not last; 0 if none is left.
        """
        left = self.texts.left(_numbers(earlier))
        return min(self.plan.probe_per_round, left // max(1, self.rounds - len(earlier)))

    def fill(
        self,
        store: RoundStore,
        earlier: Sequence[RoundStore],
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        """Draws and labels texts until the round has its probe set, or no text is left.

        Args:
            store: The store of the round.
            earlier: The stores of all earlier rounds, from round 0 on.
            report: Called before the first batch and after each.

        Raises:
            GoldError: The generator labels none of the round's first texts.
        """
        size, used = self.size(earlier), _numbers(earlier)
        first = len(store.accepted("probe"))
        if first >= size:
            return
        for other in (*earlier, store):
            self._labeller.recall(other)
        meter = ProgressMeter(report, store.round, "probe", size, first)
        meter.show(first, _requested(store))
        while missing := size - len(store.accepted("probe")):
            numbers = self.texts.draw(missing, used | _numbers([store]))
            if not numbers:
                return
            with meter.waiting():
                record = self._commit(store, numbers)
            meter.show(len(store.accepted("probe")), _requested(store), record)

    def commit_chosen(self, store: RoundStore, earlier: Sequence[RoundStore], pool: FeedbackPool) -> None:
        """Commits the real texts that the last round fed back, or all of its probe set, if that is one of their uses.

        Of each label, those that were fed back are at most ``unlabelled_share`` of the round's samples, the most
        probable ones first. All of a probe set come beside the round's quota.

        Args:
            store: The store of the round.
            earlier: The stores of all earlier rounds, from round 0 on.
            pool: The pool that holds what was fed back.
        """
        every = self.plan.pseudo_labels
        if not earlier or not (every or "data" in self.plan.unlabelled_as):
            return
        started, last = time.perf_counter(), earlier[-1]
        names = self.task.label_names if self.task.one_label else ("",)
        chosen = {entry.id for name in names for entry in pool.entries(name) if entry.round == last.round}
        scored = {row["id"]: row.get("probabilities") for row in last.energies()}
        texts = [
            with_joint_label(s, scored.get(s.id))
            for s in last.accepted("probe")
            if s.source == "unlabelled" and (every or s.id in chosen)
        ]
        texts.sort(key=lambda s: (-max(s.probabilities.values(), default=0.0), s.id))
        wanted = task_quotas(self.plan.samples_per_round, self.task, store.round, self.seed)
        room = Counter({label: math.floor(self.plan.unlabelled_share * n) for label, n in wanted.items()})
        if self.task.many and not every:  # of a set few samples are wanted; the share is that of all samples together
            room = Counter(wanted)
            texts = [text for text in texts if text.sample.target in room]
            texts = texts[: math.floor(self.plan.unlabelled_share * self.plan.samples_per_round)]
        samples: list[StoredSample] = []
        for text in texts:
            label = text.sample.target if self.task.labels else None
            if every or room[label] > 0:
                room[label] -= 1
                id_ = sample_id(store.round, "train", text_number(text.id) or 0)
                samples.append(replace(text, id=id_, batch=len(store.batches("train"))))
        if samples:
            prompts = last.prompts({s.prompt_hash for s in samples})
            self._append(store, "train", samples, [], prompts, [], time.perf_counter() - started)

    def counts(self, stores: Sequence[RoundStore]) -> dict[str, int]:
        """Counts the texts, for a round's line in ``rounds.jsonl``.

        Args:
            stores: The stores of all rounds so far.

        Returns:
            :attr:`UnlabelledTexts.counts`, and how many texts are ``left`` for later rounds.
        """
        return self.texts.counts | {"left": self.texts.left(_numbers(stores))}

    def example(self) -> PlannedRequest:
        """Returns the request for the target of the first text that is drawn, for a preview."""
        (number,) = self.texts.draw(1)
        request = self._labeller.request(self.texts.fields(number))
        return PlannedRequest(sample_id(0, "probe", number), request, None, (), False, Hint())

    def _commit(self, store: RoundStore, numbers: Sequence[int]) -> BatchRecord:
        """Labels texts, and commits them to a probe set."""
        started, index = time.perf_counter(), len(store.batches("probe"))
        rows = [self.texts.fields(number) for number in numbers]
        labels, answers = self._labeller.label(rows, store.round)
        if not store.accepted("probe") and all(label.reason for label in labels):
            raise GoldError(
                f"data.unlabelled: the generator gives none of {len(rows)} texts a {self.task.target.name} "
                f"({labels[0].reason}); take a data.generator that reports likelihoods, or leave data.unlabelled out"
            )
        accepted: list[StoredSample] = []
        rejects: list[dict[str, object]] = []
        for number, fields, label in zip(numbers, rows, labels, strict=True):
            id_, prompt_hash = sample_id(store.round, "probe", number), digest(label.request.text)
            if label.reason:
                of = {"label": None, "prompt_hash": prompt_hash, "source": "unlabelled"}
                rejects.append({"id": id_, "reason": label.reason, **of, "raw": fields_block(fields)})
                continue
            likelihoods = label.likelihoods
            accepted.append(
                StoredSample(
                    id=id_,
                    sample=Sample(fields, label.target),
                    batch=index,
                    prompt_hash=prompt_hash,
                    raw=label.raw,
                    label_agrees=True if self.task.one_label else None,
                    preferred_label=label.target if self.task.one_label else "",
                    label_log_probs=stored_log_probs(likelihoods.names, likelihoods.log_probs) if likelihoods else {},
                    source="unlabelled",
                    probabilities=stored_probabilities(likelihoods),
                )
            )
        prompts = {digest(label.request.text): label.request.text for label in labels}
        return self._append(store, "probe", accepted, rejects, prompts, answers, time.perf_counter() - started)

    def _append(
        self,
        store: RoundStore,
        kind: Kind,
        accepted: Sequence[StoredSample],
        rejects: Sequence[Mapping[str, object]],
        prompts: Mapping[str, str],
        answers: Sequence[Completion],
        seconds: float,
    ) -> BatchRecord:
        texts = len(accepted) + len(rejects)
        record = BatchRecord(
            kind=kind,
            index=len(store.batches(kind)),
            requested=texts,
            accepted=len(accepted),
            rejects=dict(Counter(str(r["reason"]) for r in rejects)),
            prompt_tokens=sum(c.prompt_tokens for c in answers),
            completion_tokens=sum(c.completion_tokens for c in answers),
            seconds=seconds,
            from_unlabelled=texts,
        )
        store.commit(record, accepted, rejects, prompts, {"generator": self._completions().generator.fingerprint()})
        return record


def _numbers(stores: Sequence[RoundStore]) -> set[int]:
    """Returns numbers of the texts that the probe sets of some rounds have drawn, rejected ones included."""
    numbers: set[int] = set()
    for store in stores:
        numbers |= real_texts(store.accepted("probe"))
        for row in read_lines(store.folder / "rejects.jsonl"):
            if row.get("kind") == "probe" and row.get("source") == "unlabelled":
                numbers.add(text_number(row["id"]) or 0)
    return numbers


def _requested(store: RoundStore) -> int:
    return sum(batch.requested for batch in store.batches("probe"))
