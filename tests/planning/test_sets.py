"""Which sets of labels a round asks for."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from gold_lightning.feedback import FeedbackPool, PoolEntry
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.quotas import task_quotas
from gold_lightning.planning.requests import ContrastSamples, RequestPlanner
from gold_lightning.planning.sets import planned_sets
from gold_lightning.task import Sample, Task

LABELS = ["billing", "delivery", "quality", "returns"]


def task(**changes):
    demos = [{"message": f"about {name}", "topics": [name]} for name in LABELS]
    demos += [{"message": "of two", "topics": LABELS[:2]}, {"message": "of none", "topics": []}]
    labels = [{"name": name, "meaning": f"it is about {name}", "hints": [f"{name} hint"]} for name in LABELS]
    values = {"name": "t", "fields": ["message"], "target": "topics", "labels": labels, "many": True, "demos": demos}
    return Task(**values | changes)


@pytest.mark.parametrize(("labels", "count"), [(2, 40), (3, 80), (5, 80), (10, 240), (26, 400)])
def test_sizes_have_their_weights_and_labels_and_pairs_are_balanced(labels, count):
    names, sizes = [f"label {i}" for i in range(labels)], [1, 4, 3, 1]
    sets = planned_sets(count, names, sizes, "1")
    of_size, total = Counter(map(len, sets)), sum(sizes[: labels + 1])
    assert len(sets) == count and all(abs(of_size[k] - count * sizes[k] / total) < 2 for k in range(min(4, labels + 1)))
    of_label = Counter(name for labels in sets for name in labels)
    assert len(of_label) == labels and max(of_label.values()) - min(of_label.values()) <= 2
    of_pair = Counter(pair for labels in sets for pair in combinations(labels, 2))
    every = labels * (labels - 1) / 2
    assert max(of_pair.values()) - (min(of_pair.values()) if len(of_pair) == every else 0) <= 2


def test_a_larger_quota_adds_sets_and_another_seed_changes_them():
    sets = planned_sets(60, LABELS, [1, 4, 3, 1], "1")
    assert planned_sets(40, LABELS, [1, 4, 3, 1], "1") == sets[:40]
    assert planned_sets(60, LABELS, [1, 4, 3, 1], "2") != sets


def test_quotas_count_sets_by_their_text():
    wanted = task_quotas(30, task(), 1, seed=3)
    assert sum(wanted.values()) == 30 and "none" in wanted
    assert all(task().labels_of(target) is not None for target in wanted)
    assert wanted == task_quotas(30, task(), 1, seed=3) != task_quotas(30, task(), 2, seed=3)


def planned(target, pool=None, kind="train", train=(), **plan):
    planner = RequestPlanner(task(), SynthesisPlan(**plan), 1)
    requests, groups = planner.batch(1, kind, {target: 1}, pool or FeedbackPool(), 1.0, 1, train=ContrastSamples(train))
    return requests[0], groups[0]


def test_a_prompt_says_which_labels_and_shows_demos_that_share_them():
    request, group = planned("billing, delivery")
    prompt = request.request.prefix
    assert "all of these at once, and no other" in prompt and "billing: it is about billing\n" in prompt
    assert "quality: it is about quality" not in prompt
    assert {demo.target for _, demo in request.demos} == {"billing, delivery", "billing", "delivery"}
    assert request.request.answer_prefix == "topics: billing, delivery\nmessage:"
    assert group["labels"] == ["billing", "delivery"] and request.hint.topic in ("billing hint", "delivery hint")


def test_a_prompt_for_none_lists_what_does_not_fit():
    request, group = planned("none")
    assert "none of these fits it" in request.request.prefix and "quality: it is about" in request.request.prefix
    assert [demo.target for _, demo in request.demos] == ["none"] and group["labels"] == []


def test_fed_back_samples_and_contrast_share_labels_with_the_wanted_set():
    pool = FeedbackPool()
    targets = ["billing, quality", "returns", "none", "delivery"]
    entries = [PoolEntry(f"p{i}", Sample({"message": f"m{i}"}, t), 0.0, 0) for i, t in enumerate(targets)]
    pool.push(entries, by_label=False)
    request, _ = planned("billing, delivery", pool, feedback_demos=4)
    assert request.feedback and {id_ for id_, _ in request.demos if id_.startswith("p")} == {"p0", "p3"}
    train = [(f"t{i}", entry.sample) for i, entry in enumerate(entries)]
    request, _ = planned("quality", kind="probe", train=train)
    assert [id_ for id_, _ in request.demos if id_.startswith("t")] == ["t0"]
