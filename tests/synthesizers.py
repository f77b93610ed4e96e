"""Synthesizers, their writers and their stores, for tests of the loop and of its planning."""

import random
from collections import Counter

from gold_lightning.feedback import FeedbackPool, PoolEntry
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Field, Hints, Sample, StudentFormat, Task

from tests.fakes import NewsWriter

TASK = Task.load("news_topics")
LABELS = TASK.label_names
FREE = Task(
    name="answers",
    description="Questions.",
    fields=(Field("text", "a text", 5, 200),),
    target=Field("answer", "a word of it", 2, 40),
    demos=tuple(Sample({"text": f"{name} lives in a house by the sea."}, name) for name in ("Mara", "Tom", "Ada")),
    student=StudentFormat("{text}", "{answer}"),
    hints=Hints(topics=("sea", "hills")),
)
PLAN = SynthesisPlan(samples_per_round=24, probe_per_round=12, group_size=4, max_attempts=20)


def make(tmp_path, generator=None, plan=PLAN, task=TASK, seed=1, **how):
    return Synthesizer(task, generator or NewsWriter(), tmp_path, plan, seed, **how)


def filled_pool(each=6, labels=LABELS):
    pool = FeedbackPool()
    pool.push(
        (
            PoolEntry(f"r000-probe-{i:05d}", Sample({"text": f"Feedback item {i} of {label}."}, label), float(i), 0)
            for label in labels
            for i in range(each)
        ),
        by_label=True,
    )
    return pool


def groups(store, kind="train"):
    return [g for b in store.batches(kind) for g in b.groups]


def prompt_of(store, stored):
    """The prompt of a stored sample."""
    prompts = {r["hash"]: r["prompt"] for r in read_lines(store.folder / "prompts.jsonl")}
    return prompts[stored.prompt_hash]


def adds_up(store, kind):
    for batch in store.batches(kind):
        assert batch.requested == batch.accepted + sum(batch.rejects.values())
    rows = [r for r in read_lines(store.folder / "rejects.jsonl") if r["kind"] == kind]
    assert all(isinstance(r["reason"], str) and r["reason"] for r in rows)
    assert Counter(r["reason"] for r in rows) == store.rejects(kind)
    ids = [r["id"] for r in rows] + [s.id for s in store.accepted(kind)]
    assert len(ids) == len(set(ids)) == sum(b.requested for b in store.batches(kind))


class Repeater(ScriptedGenerator):
    """Writes the same texts in the same order for each label, whoever asks; ``start`` begins anew."""

    def __init__(self, texts):
        super().__init__(self._write, batch_size=4)
        self.texts, self.told = texts, Counter()

    def _write(self, request):
        label = next(x for x in LABELS if request.answer_prefix.startswith(f"topic: {x}\n"))
        self.told[label] += 1
        return self.texts[label][self.told[label] - 1]


def distinct_texts(count):
    rng = random.Random(0)
    letters = "abcdefghijklmnop"
    return {
        x: [" " + " ".join("".join(rng.sample(letters, 6)) for _ in range(9)) + "." for _ in range(count)]
        for x in LABELS
    }


def likes(request):
    """Log-likelihoods biased towards the last label; the text's own words decide beyond that."""
    text = request.suffix.split("text: ")[-1]
    wrong = len(text) % 3 == 0
    own = next((i for i, words in enumerate(OWN_WORDS) if any(w in text.casefold() for w in words)), 0)
    best = (own + 1) % len(LABELS) if wrong else own
    return [-5.0 + 2.0 * (i == best) + 3.0 * (i == len(LABELS) - 1) for i in range(len(LABELS))]


def agrees(text):
    return len(text) % 3 != 0


OWN_WORDS = [
    ("election embassy troops minister treaty border refugees parliament ceasefire summit protest").split(),
    ("goal coach league striker tournament innings medal championship referee playoff racket").split(),
    ("shares profit merger bank stocks retailer earnings investors oil dollar factory").split(),
    ("software telescope chip browser satellite genome robot laboratory virus network orbit").split(),
]


class Scorer(NewsWriter):
    """Likes each demo's own label by 2, the last label by 3 whatever it reads, and errs on a third of the texts."""

    def __init__(self, junk=0.0, **how):
        super().__init__(junk, **how)
        self.log_probs = self._likes

    def _likes(self, request):
        for demo in TASK.demos:  # asked for the prior
            if request.suffix.endswith(demo.text):
                return [-5.0 + 2.0 * (demo.target == x) + 3.0 * (x == LABELS[-1]) for x in LABELS]
        return likes(request)
