"""The prompts of a round: demos, feedback, hints and seeds."""

from collections import Counter
from dataclasses import replace

import pytest
from gold_lightning.feedback import FeedbackPool, PoolEntry
from gold_lightning.planning.requests import RequestPlanner
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.task import Sample
from gold_lightning.wire import render

from tests.fakes import NewsWriter
from tests.synthesizers import LABELS, PLAN, TASK, filled_pool, groups, make, prompt_of


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 1.0])
def test_the_feedback_share_matches_the_rate(tmp_path, rate):
    synthesizer = make(tmp_path, NewsWriter(0.0), replace(PLAN, samples_per_round=32, group_size=1))
    total = Counter()
    for r in range(2):
        synthesizer.train(r, filled_pool(), rate)
        for g in groups(synthesizer.store(r)):
            total[g["label"], g["feedback"]] += 1
    for label in LABELS:
        fed, rest = total[label, True], total[label, False]
        assert fed + rest >= 16
        assert abs(fed - rate * (fed + rest)) <= 2  # at most one group a round


def test_feedback_prompts_show_pool_demos_beside_seeds(tmp_path):
    synthesizer = make(tmp_path)
    accepted = synthesizer.train(0, filled_pool(), 0.5)
    fed = [s for s in accepted if s.feedback]
    assert fed
    assert len(fed) < len(accepted)
    for s in accepted:
        drawn = [i for i in s.demo_ids if i.startswith("r000-probe-")]
        seeds = [i for i in s.demo_ids if i.startswith("demo-")]
        assert len(seeds) == PLAN.seed_demos
        assert len(drawn) == (PLAN.feedback_demos if s.feedback else 0)
        prompt = prompt_of(synthesizer.store(0), s)
        assert prompt.count("Feedback item") == len(drawn)
        assert prompt.count(f"of {s.sample.target}.") == len(drawn)


def test_feedback_as_a_hint_shows_seeds_alone_and_asks_for_the_same_kind(tmp_path):
    pool = FeedbackPool()
    hints = {name: {"topic": f"kind {i} of {name}", "style": "verse"} for i, name in enumerate(LABELS)}
    pool.push(
        (PoolEntry(f"r{x}", Sample({"text": f"Fed back {x}."}, x), 0.0, 0, hints[x]) for x in LABELS), by_label=True
    )
    synthesizer = make(tmp_path, plan=replace(PLAN, feedback_as="hint"))
    accepted = synthesizer.train(1, pool, 0.5)
    fed = [s for s in accepted if s.feedback]
    assert fed and len(fed) < len(accepted)
    for s in accepted:
        assert all(i.startswith("demo-") for i in s.demo_ids) and "Fed back" not in prompt_of(synthesizer.store(1), s)
        assert (s.hint == hints[s.sample.target]) == s.feedback
        assert (
            f"about {hints[s.sample.target]['topic']}, in the style of verse." in prompt_of(synthesizer.store(1), s)
        ) == s.feedback


@pytest.mark.parametrize("plan", [{"feedback_as": "hint"}, {"feedback_as": "demo", "feedback_demos": 0}])
def test_a_prompt_that_shows_nothing_of_what_was_fed_back_is_no_feedback_prompt(tmp_path, plan):
    synthesizer = make(tmp_path, plan=replace(PLAN, **plan))  # the pool's entries have no hints
    accepted = synthesizer.train(1, filled_pool(), 1.0)
    assert not any(s.feedback for s in accepted) and not any(g["feedback"] for g in groups(synthesizer.store(1)))


def test_labels_with_one_group_each_take_turns(tmp_path):
    synthesizer = make(tmp_path, NewsWriter(0.0), replace(PLAN, samples_per_round=8, group_size=8))
    for r in range(1, 5):
        synthesizer.train(r, filled_pool(), 0.5)
        first = groups(synthesizer.store(r))[: len(LABELS)]
        assert len({g["label"] for g in first}) == len(LABELS) and sum(g["feedback"] for g in first) == 2


def test_hints_can_be_turned_off_and_the_description_put_last(tmp_path):
    synthesizer = make(tmp_path, plan=replace(PLAN, hints=False, instruction="last"))
    accepted = [*synthesizer.train(0, FeedbackPool(), 0.0), *synthesizer.probe(0)]
    for s in accepted:
        prompt = prompt_of(synthesizer.store(0), s)
        assert s.hint == {} and " It is about" not in prompt
        demos, described = (prompt.index(part) for part in ("Examples:\n", "All samples have the topic"))
        assert demos < described < prompt.index("Write one new sample")
        assert all(prompt.index(d) < described for d in (f"topic: {s.sample.target}\n",))
    assert len({prompt_of(synthesizer.store(0), s) for s in accepted}) > 4


def test_no_feedback_from_an_empty_pool(tmp_path):
    synthesizer = make(tmp_path)
    made = synthesizer.train(0, FeedbackPool(), 1.0)
    assert not any(s.feedback for s in made)
    assert not any(g["feedback"] for g in groups(synthesizer.store(0)))
    assert all(i.startswith("demo-") for s in made for i in s.demo_ids)


def test_a_label_without_pool_demos_shows_seeds(tmp_path):
    accepted = make(tmp_path).train(0, filled_pool(labels=LABELS[:1]), 1.0)
    assert {s.sample.target for s in accepted if s.feedback} == {LABELS[0]}
    assert all(s.feedback for s in accepted if s.sample.target == LABELS[0])


def test_demos_are_of_the_wanted_label_alone(tmp_path):
    writer = NewsWriter()
    make(tmp_path, writer).train(0, filled_pool(), 0.5)
    for request in writer.requests:
        label = next(x for x in LABELS if request.answer_prefix.startswith(f"topic: {x}\n"))
        others = [d for d in TASK.demos if d.target != label]
        assert not any(render(d, TASK) in request.prefix for d in others)
        assert any(render(d, TASK) in request.prefix for d in TASK.demos if d.target == label)


def test_a_task_about_contrast_shows_all_labels(tmp_path):
    writer = NewsWriter()
    plan = replace(PLAN, seed_demos=len(TASK.demos))
    make(tmp_path, writer, plan, task=replace(TASK, contrast=True)).train(0, FeedbackPool(), 0.0)
    for request in writer.requests:
        assert all(render(d, TASK) in request.prefix for d in TASK.demos)


def test_groups_share_their_prompt_and_cycle_through_hints(tmp_path):
    writer = NewsWriter(0.0, batch_size=8)
    synthesizer = make(tmp_path, writer, replace(PLAN, samples_per_round=56))
    synthesizer.train(0, FeedbackPool(), 0.0)
    at = 0
    asked = {label: [] for label in LABELS}
    for g in groups(synthesizer.store(0)):
        part = writer.requests[at : at + g["size"]]
        assert len({r.prefix for r in part}) == 1
        assert len({r.suffix for r in part}) == len(part)
        asked[g["label"]] += [r.suffix for r in part]
        at += g["size"]
    assert at == len(writer.requests)
    for label, own in asked.items():
        hints = TASK.label(label).hints
        used = [h for text in own for h in hints if text.endswith(f"about {h}.")]
        assert len(used) == len(own) >= len(hints)
        assert set(used[: len(hints)]) == set(hints)  # each once before any comes again


def test_seeds_differ_and_prompts_are_found_again(tmp_path):
    writer = NewsWriter()
    synthesizer = make(tmp_path, writer)
    accepted = synthesizer.train(0, FeedbackPool(), 0.0)
    assert len({r.seed for r in writer.requests}) == len(writer.requests)
    by_seed = {r.seed: r for r in writer.requests}
    assert all(prompt_of(synthesizer.store(0), s) == by_seed[s.seed].text for s in accepted)


def test_probe_prompts_show_samples_of_this_round_to_depart_from(tmp_path):
    writer = NewsWriter()
    synthesizer = make(tmp_path, writer)
    for r in range(2):
        synthesizer.train(r, filled_pool(), 0.5)
        asked = len(writer.requests)
        probes = synthesizer.probe(r)
        own = {s.id: s.sample for s in synthesizer.store(r).accepted("train")}
        assert Counter(s.sample.target for s in probes) == dict.fromkeys(LABELS, 3)
        for s in probes:
            if s.surplus_of is not None:  # an earlier round's, which departs from the samples of that one
                assert s.surplus_of < r
                continue
            departed = [i for i in s.demo_ids if not i.startswith("demo-")]
            assert len(departed) == PLAN.probe_contrast_samples
            assert {own[i].target for i in departed} == {s.sample.target}  # a KeyError is another round's
            _, exist = prompt_of(synthesizer.store(r), s).split("These exist already:")
            assert all(render(own[i], TASK) in exist for i in departed)
            assert not s.feedback
        assert all("very different" in q.suffix for q in writer.requests[asked:])


def test_probe_and_training_samples_are_apart(tmp_path):
    synthesizer = make(tmp_path)
    train = synthesizer.train(0, FeedbackPool(), 0.0)
    probe = synthesizer.probe(0)
    assert {s.id for s in train}.isdisjoint(s.id for s in probe)
    assert {s.sample.text for s in train}.isdisjoint(s.sample.text for s in probe)
    rows = read_lines(synthesizer.store(0).folder / "train.jsonl")
    assert [r["id"] for r in rows] == [s.id for s in train]


def test_a_batch_too_small_for_all_requests_takes_every_label_further():
    planner = RequestPlanner(TASK, replace(PLAN, group_size=16), seed=1)
    missing = dict.fromkeys(LABELS, 70)
    planned, _ = planner.batch(0, "train", missing, FeedbackPool(), 0.0, size=64)
    assert Counter(p.label for p in planned) == dict.fromkeys(LABELS, 64 // len(LABELS))
    planned, _ = planner.batch(0, "train", missing | {LABELS[0]: 7}, FeedbackPool(), 0.0, size=64)
    requested = Counter(p.label for p in planned)
    assert len(planned) == 64 and 1 <= requested[LABELS[0]] <= 4 and len(requested) == len(LABELS)
