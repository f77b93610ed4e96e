"""Plans a round's requests: demos, hints and seeds of each prompt, determined by seeds and counts alone."""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gold_lightning.feedback import FeedbackPool, PoolEntry
from gold_lightning.generators.base import Request
from gold_lightning.label_sets import overlap
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.quotas import Counts, requests_wanted
from gold_lightning.prompts import Hint, probe_request, training_request
from gold_lightning.storage.lazy import Chosen
from gold_lightning.storage.round_store import Kind
from gold_lightning.task import Sample, Task

__all__ = ["ContrastSamples", "PlannedRequest", "RequestPlanner"]


@dataclass(frozen=True)
class PlannedRequest:
    """A request, with the values that its completion is judged by.

    Args:
        id: Id of the sample made from its completion.
        request: The request for the generator.
        label: The requested label; ``None`` for a sequence-to-sequence task.
        demos: The demos of the prompt in their order, each with its id; last a text whose manner it asks for.
        feedback: Whether feedback demos are among them.
        hint: Topic, perspective and style that the prompt asks for.
    """

    id: str
    request: Request
    label: str | None
    demos: tuple[tuple[str, Sample], ...]
    feedback: bool
    hint: Hint


class ContrastSamples:
    """Training samples that probe samples must differ from, found by their target without looking at all of them.

    Args:
        samples: The samples with their ids. They are looked up in it when they are needed.
    """

    def __init__(self, samples: Sequence[tuple[str, Sample]] = ()) -> None:
        self.samples = samples
        self._by_target: dict[str, array[int]] | None = None

    def of(self, label: str | None) -> Sequence[tuple[str, Sample]]:
        """Returns the samples with a target, in order; all for ``None``."""
        if label is None:
            return self.samples
        if self._by_target is None:
            self._by_target = {}
            for i, (_, sample) in enumerate(self.samples):
                self._by_target.setdefault(sample.target, array("L")).append(i)
        return Chosen(self.samples, self._by_target.get(label, ()))


_NO_PROMPT = ("data", "pseudo_labels")  # uses of real texts that no prompt shows


class RequestPlanner:
    """Plans batches of requests.

    Args:
        task: The task.
        plan: Quotas and composition of prompts.
        seed: Seed of all random choices, which do not depend on earlier batches.
        real_texts: Whether real texts are fed back, so that ``plan.unlabelled_as`` and not ``plan.feedback_as`` says
            how prompts show them.
    """

    def __init__(self, task: Task, plan: SynthesisPlan, seed: int, real_texts: bool = False) -> None:
        self.task, self.plan, self.seed = task, plan, seed
        self._uses: list[str] = [plan.feedback_as]
        if real_texts:
            self._uses = [{"demos": "demo"}.get(use, use) for use in plan.unlabelled_as if use not in _NO_PROMPT]
        if not plan.feedback_demos and "demo" in self._uses:
            self._uses.remove("demo")

    def batch(
        self,
        round_: int,
        kind: Kind,
        missing: Mapping[str | None, int],
        pool: FeedbackPool,
        rate: float,
        size: int,
        counts: Counts | None = None,
        train: ContrastSamples | None = None,
    ) -> tuple[list[PlannedRequest], list[dict[str, Any]]]:
        """Plans the next batch.

        Args:
            round_: Number of the round.
            kind: Training samples or the probe set.
            missing: Number of samples still wanted, by label.
            pool: The pool that feedback demos come from.
            rate: Share of the prompts that show feedback demos, in [0, 1].
            size: Largest number of requests in the batch.
            counts: Counts of the round and kind so far; zero by default, as before the first batch.
            train: The round's training samples. Probe samples must differ from those of their label.

        Returns:
            The requests, and one record for each group of requests that shares a prompt: label (and the labels of a
            set), feedback, size.
        """
        counts, train = counts or Counts(), train or ContrastSamples()
        wanted = requests_wanted(missing, counts, self.plan.min_requests_per_batch)
        if (total := sum(wanted.values())) > size:  # all labels go on together: the next batch knows what is missing
            wanted = {label: math.ceil(n * size / total) for label, n in wanted.items()}
        requested, first = counts.requested.total(), counts.groups.total()
        groups_before, requests_before = Counter(counts.groups), Counter(counts.requested)
        planned: list[PlannedRequest] = []
        groups: list[dict[str, Any]] = []
        while len(planned) < size and any(n > 0 for n in wanted.values()):
            label = max(wanted, key=lambda name: wanted[name])  # ties: the task's order
            group_size = min(self.plan.group_size, wanted[label], size - len(planned))
            rng = random.Random(f"{self.seed}/{round_}/{kind}/{first + len(groups)}")
            # Each label begins one turn later than the label before; otherwise all turns could coincide.
            names = self.task.labels_of(label) or () if label is not None else ()
            turn = groups_before[label] + round_ + sum(map(self.task.label_names.index, names))
            # A prompt that uses no fed-back sample does not count as a feedback prompt.
            usable = self._entries(pool, label, hinted=self._uses == ["hint"]) if self._uses else []
            feedback = bool(usable) and math.floor((turn + 1) * rate) > math.floor(turn * rate)
            # Of several uses, each group of prompts draws one.
            use = "" if not feedback else rng.choice(self._uses) if len(self._uses) > 1 else self._uses[0]
            shown_pool = pool if use == "demo" else None
            demos = self._demos(kind, label, shown_pool, train, rng)
            for i in range(group_size):
                hint = self._hint(round_, kind, label, requests_before[label] + i)
                number, manner = requested + len(planned), None
                if use == "hint":
                    (entry,) = rng.sample(self._entries(pool, label, hinted=True), 1)
                    hint = Hint(**entry.hint)
                elif use == "style":
                    (manner,) = rng.sample(self._entries(pool, label), 1)
                planned.append(self._request(round_, kind, number, label, demos, feedback, hint, manner))
            of_set = {"labels": list(names)} if self.task.many else {}
            groups.append({"label": label, **of_set, "feedback": feedback, "size": group_size})
            wanted[label] -= group_size
            groups_before[label] += 1
            requests_before[label] += group_size
        return planned, groups

    def _demos(
        self,
        kind: Kind,
        label: str | None,
        pool: FeedbackPool | None,
        train: ContrastSamples,
        rng: random.Random,
    ) -> tuple[tuple[str, Sample], ...]:
        """Draws a group's demos with ids; in probe prompts the samples to differ from come last."""
        one_label = label is not None and not self.task.contrast
        seeds = [(f"demo-{i}", d) for i, d in enumerate(self.task.demos)]
        if one_label and self.task.one_label:
            seeds = [(id_, demo) for id_, demo in seeds if demo.target == label]
        if one_label and self.task.many:  # those that share most labels with the wanted set
            alike = {id_: self._overlap(label, demo) for id_, demo in seeds}
            seeds = sorted(rng.sample(seeds, len(seeds)), key=lambda pair: -alike[pair[0]])[: self.plan.seed_demos]
            seeds = [pair for pair in seeds if alike[pair[0]] > 0] or seeds
        demos = rng.sample(seeds, min(self.plan.seed_demos, len(seeds)))
        if pool is not None:
            entries = self._entries(pool, label)
            demos += [(e.id, e.sample) for e in rng.sample(entries, min(self.plan.feedback_demos, len(entries)))]
            rng.shuffle(demos)
        if kind == "probe":
            contrast = train.of(label)
            if self.task.many and not contrast:
                contrast = [(id_, sample) for id_, sample in train.samples if self._overlap(label, sample) > 0]
            demos += rng.sample(contrast, min(self.plan.probe_contrast_samples, len(contrast)))
        return tuple(demos)

    def _entries(self, pool: FeedbackPool, label: str | None, *, hinted: bool = False) -> tuple[PoolEntry, ...]:
        """Returns the pool's demos of a label; for a set of labels, those that share labels with it."""
        if self.task.many is None:
            return pool.entries(label or "", hinted=hinted)
        return tuple(e for e in pool.entries(hinted=hinted) if self._overlap(label, e.sample) > 0)

    def _overlap(self, label: str | None, sample: Sample) -> float:
        return overlap(self.task.labels_of(label or "") or (), self.task.labels_of(sample.target) or ())

    def _hint(self, round_: int, kind: Kind, label: str | None, number: int) -> Hint:
        """Cycles through topics, perspectives and styles, each in an order shuffled by round and kind.

        A training prompt carries at most one hint beside the topic; a probe prompt carries all three, so that its
        sample differs more.
        """

        def pick(name: str, options: Sequence[str], turn: int) -> str:
            if not options or not self.plan.hints:
                return ""
            order = list(options)
            random.Random(f"{self.seed}/{round_}/{kind}/{name}/{label}/{turn // len(order)}").shuffle(order)
            return order[turn % len(order)]

        hints = self.task.hints
        names = self.task.labels_of(label) or () if label is not None else ()
        topics = [topic for name in names for topic in self.task.label(name).hints] or hints.topics
        both = kind == "probe"
        return Hint(
            pick("topic", topics, number),
            pick("perspective", hints.perspectives, number // 3) if both or number % 3 == 1 else "",
            pick("style", hints.styles, number // 3) if both or number % 3 == 2 else "",
        )

    def _request(
        self,
        round_: int,
        kind: Kind,
        number: int,
        label: str | None,
        demos: tuple[tuple[str, Sample], ...],
        feedback: bool,
        hint: Hint,
        manner: PoolEntry | None = None,
    ) -> PlannedRequest:
        seed = random.Random(f"{self.seed}/{round_}/{kind}/request/{number}").getrandbits(31)
        id_ = f"r{round_:03d}-{kind}-{number:05d}"
        if kind == "train":
            prompt_demos, fields = [d for _, d in demos], manner.sample.fields if manner else None
            request = training_request(self.task, label, prompt_demos, hint, seed, self.plan.instruction, fields)
            demos += ((manner.id, manner.sample),) if manner else ()
        else:
            seeds = [d for i, d in demos if i.startswith("demo-")]
            contrast = [d for i, d in demos if not i.startswith("demo-")]
            request = probe_request(self.task, label, seeds, contrast, hint, seed, self.plan.instruction)
        return PlannedRequest(id_, request, label, demos, feedback, hint)
