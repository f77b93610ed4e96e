"""The loop from prompts to stored samples, with a scripted generator."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
from gold_lightning.errors import ConfigError, GoldError, QuotaError
from gold_lightning.feedback import FeedbackPool, PoolEntry
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.prompts import agreement_request, render
from gold_lightning.storage.json_lines import digest, read_lines, write_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Field, Hints, Sample, StudentFormat, Task, TestData

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


def shown(store, stored):
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


# Quotas


@pytest.mark.parametrize("junk", [0.0, 0.3])
def test_quotas_are_balanced_exactly_over_labels(tmp_path, junk):
    made = make(tmp_path, NewsWriter(junk)).train(0, FeedbackPool(), 0.0)
    assert Counter(s.sample.target for s in made) == dict.fromkeys(LABELS, 6)


@pytest.mark.parametrize("quota", [1, 2, 5, 23])
def test_a_remainder_moves_on_over_the_rounds(tmp_path, quota):
    synthesizer = make(tmp_path, NewsWriter(0.0), replace(PLAN, samples_per_round=quota))
    total = Counter()
    for r in range(4):
        made = Counter(s.sample.target for s in synthesizer.train(r, FeedbackPool(), 0.0))
        assert made.total() == quota
        assert max(made[x] for x in LABELS) - min(made[x] for x in LABELS) <= 1
        total += made
    assert total == dict.fromkeys(LABELS, quota)


def test_a_task_without_labels_meets_its_quota(tmp_path):
    writer = ScriptedGenerator(
        lambda r: f" Item {r.seed} stands in row {r.seed % 977} of box {r.seed % 83}.\nanswer: {r.seed}", batch_size=7
    )
    made = make(tmp_path, writer, task=FREE).train(0, FeedbackPool(), 0.0)
    assert len(made) == 24
    assert {d for s in made for d in s.demo_ids} == {"demo-0", "demo-1", "demo-2"}


def test_every_reject_has_one_reason_and_all_adds_up(tmp_path):
    synthesizer = make(tmp_path, NewsWriter(0.4))
    synthesizer.train(0, FeedbackPool(), 0.0)
    synthesizer.probe(0)
    store = synthesizer.store(0)
    for kind in ("train", "probe"):
        adds_up(store, kind)
    assert {"empty", "too_short", "truncated"} <= set(store.rejects("train"))
    assert store.rejects("train").total() > 3
    rows = read_lines(store.folder / "rejects.jsonl")
    assert all(r["raw"] == "" for r in rows if r["reason"] == "empty")
    assert any("word word" in r["raw"] for r in rows if r["reason"] == "truncated")


def test_surplus_is_a_reason_too(tmp_path):
    made = make(tmp_path, NewsWriter(0.0, batch_size=64))
    made.train(0, FeedbackPool(), 0.0)
    assert made.store(0).rejects("train")["surplus"] > 0
    adds_up(made.store(0), "train")


@pytest.mark.parametrize("least", [1, 10])
def test_where_a_few_are_missing_a_batch_has_its_least_number_of_requests(tmp_path, least):
    made = make(tmp_path, NewsWriter(0.4, batch_size=40), replace(PLAN, min_requests_per_batch=least))
    made.train(0, FeedbackPool(), 0.0)
    sizes = [b.requested for b in made.store(0).batches("train")]
    adds_up(made.store(0), "train")
    assert len(sizes) > 1 and len(made.store(0).accepted("train")) == PLAN.samples_per_round
    assert min(sizes) >= 10 if least == 10 else min(sizes) < 10
    # Asking for more at once is no other way of asking.
    again = NewsWriter(0.4, batch_size=40)
    make(tmp_path, again, PLAN).train(0, FeedbackPool(), 0.0)
    assert again.requests == []


def test_a_finished_round_asks_for_nothing(tmp_path):
    writer = NewsWriter()
    made = list(make(tmp_path, writer).train(0, FeedbackPool(), 0.0))
    asked = len(writer.requests)
    again = NewsWriter()
    assert list(make(tmp_path, again).train(0, FeedbackPool(), 0.0)) == made
    assert again.requests == []
    assert asked == sum(b.requested for b in RoundStore(tmp_path, 0).batches("train"))


def test_a_larger_quota_goes_on_with_what_is_there(tmp_path):
    made = list(make(tmp_path).train(0, FeedbackPool(), 0.0))
    more = make(tmp_path, plan=replace(PLAN, samples_per_round=40)).train(0, FeedbackPool(), 0.0)
    assert list(more[:24]) == made
    assert Counter(s.sample.target for s in more) == dict.fromkeys(LABELS, 10)


def test_quota_error_lists_the_reasons(tmp_path):
    writer = ScriptedGenerator(lambda r: ["", " short."][r.seed % 2], batch_size=16)
    with pytest.raises(QuotaError) as e:
        make(tmp_path, writer, replace(PLAN, max_attempts=2)).train(0, FeedbackPool(), 0.0)
    message = str(e.value)
    assert "0 of 24 training samples after 16 requests" in message
    store = RoundStore(tmp_path, 0)
    for reason, count in store.rejects("train").items():
        assert any(line.split() == [reason, str(count)] for line in message.splitlines())
    assert set(store.rejects("train")) == {"empty", "too_short"}
    assert str(store.folder / "rejects.jsonl") in message
    assert "max_attempts" in message


def test_a_hopeless_round_stops_early_and_says_so(tmp_path):
    writer = ScriptedGenerator([" short."], batch_size=16)
    with pytest.raises(QuotaError) as e:
        make(tmp_path, writer, replace(PLAN, max_attempts=8)).train(0, FeedbackPool(), 0.0)
    # 192 are allowed. Three standard errors above 0 of 48 are 9/57, and 144 more requests give 22.7 of 24.
    assert len(writer.requests) == 48
    assert "0 of 24 training samples after 48 requests" in str(e.value)
    for label in LABELS:
        assert f"  {label}: 0 of 6 after 12 requests, mostly too_short (12)\n" in str(e.value)
    assert "stopped early: at this yield 192 requests (data.plan.max_attempts) would not do" in str(e.value)


def test_a_low_yield_that_may_do_goes_on_to_the_end(tmp_path):
    writer = NewsWriter(0.85)  # about 160 of the 192 requests that are allowed
    assert len(make(tmp_path, writer, replace(PLAN, max_attempts=8)).train(0, FeedbackPool(), 0.0)) == 24
    assert len(writer.requests) > 96


def test_after_a_quota_error_more_attempts_go_on(tmp_path):
    with pytest.raises(QuotaError):
        make(tmp_path, NewsWriter(0.8), replace(PLAN, max_attempts=1)).train(0, FeedbackPool(), 0.0)
    held = len(RoundStore(tmp_path, 0).accepted("train"))
    writer = NewsWriter(0.8)
    made = make(tmp_path, writer, replace(PLAN, max_attempts=100)).train(0, FeedbackPool(), 0.0)
    assert 0 < held < len(made) == 24
    assert len(writer.requests) < sum(b.requested for b in RoundStore(tmp_path, 0).batches("train"))


def test_progress_is_reported_before_the_first_batch_and_after_each(tmp_path):
    seen = []
    synthesizer = make(tmp_path, report=seen.append)
    synthesizer.train(0, FeedbackPool(), 0.0)
    batches = synthesizer.store(0).batches("train")
    first = seen.pop(0)
    assert (first.accepted, first.requested, first.tokens, first.seconds) == (0, 0, 0, 0.0)
    assert len(seen) == len(batches) > 1
    assert [p.requested for p in seen] == [sum(b.requested for b in batches[: i + 1]) for i in range(len(batches))]
    assert (seen[-1].accepted, seen[-1].quota, seen[-1].kind, seen[-1].round) == (24, 24, "train", 0)
    assert seen[-1].tokens == sum(b.prompt_tokens + b.completion_tokens for b in batches) > 0


def test_a_generator_that_loses_completions_is_an_error(tmp_path):
    class Lossy(NewsWriter):
        def generate(self, requests):
            return super().generate(requests)[:-1]

    with pytest.raises((RuntimeError, GoldError), match="Lossy gave 15 completions for 16 requests"):
        make(tmp_path, Lossy()).train(0, FeedbackPool(), 0.0)
    assert list(RoundStore(tmp_path, 0).batches("train")) == []


# Prompts


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
    made = synthesizer.train(0, filled_pool(), 0.5)
    fed = [s for s in made if s.feedback]
    assert fed
    assert len(fed) < len(made)
    for s in made:
        drawn = [i for i in s.demo_ids if i.startswith("r000-probe-")]
        seeds = [i for i in s.demo_ids if i.startswith("demo-")]
        assert len(seeds) == PLAN.seed_demos
        assert len(drawn) == (PLAN.feedback_demos if s.feedback else 0)
        prompt = shown(synthesizer.store(0), s)
        assert prompt.count("Feedback item") == len(drawn)
        assert prompt.count(f"of {s.sample.target}.") == len(drawn)


def test_feedback_as_a_hint_shows_seeds_alone_and_asks_for_the_same_kind(tmp_path):
    pool = FeedbackPool()
    hints = {name: {"topic": f"kind {i} of {name}", "style": "verse"} for i, name in enumerate(LABELS)}
    pool.push(
        (PoolEntry(f"r{x}", Sample({"text": f"Fed back {x}."}, x), 0.0, 0, hints[x]) for x in LABELS), by_label=True
    )
    synthesizer = make(tmp_path, plan=replace(PLAN, feedback_as="hint"))
    made = synthesizer.train(1, pool, 0.5)
    fed = [s for s in made if s.feedback]
    assert fed and len(fed) < len(made)
    for s in made:
        assert all(i.startswith("demo-") for i in s.demo_ids) and "Fed back" not in shown(synthesizer.store(1), s)
        assert (s.hint == hints[s.sample.target]) == s.feedback
        assert (
            f"about {hints[s.sample.target]['topic']}, in the style of verse." in shown(synthesizer.store(1), s)
        ) == s.feedback


@pytest.mark.parametrize("plan", [{"feedback_as": "hint"}, {"feedback_as": "demo", "feedback_demos": 0}])
def test_a_prompt_that_shows_nothing_of_what_was_fed_back_is_no_feedback_prompt(tmp_path, plan):
    synthesizer = make(tmp_path, plan=replace(PLAN, **plan))  # the pool's entries have no hints
    made = synthesizer.train(1, filled_pool(), 1.0)
    assert not any(s.feedback for s in made) and not any(g["feedback"] for g in groups(synthesizer.store(1)))


def test_labels_with_one_group_each_take_turns(tmp_path):
    synthesizer = make(tmp_path, NewsWriter(0.0), replace(PLAN, samples_per_round=8, group_size=8))
    for r in range(1, 5):
        synthesizer.train(r, filled_pool(), 0.5)
        first = groups(synthesizer.store(r))[: len(LABELS)]
        assert len({g["label"] for g in first}) == len(LABELS) and sum(g["feedback"] for g in first) == 2


def test_hints_can_be_turned_off_and_the_description_put_last(tmp_path):
    synthesizer = make(tmp_path, plan=replace(PLAN, hints=False, instruction="last"))
    made = [*synthesizer.train(0, FeedbackPool(), 0.0), *synthesizer.probe(0)]
    for s in made:
        prompt = shown(synthesizer.store(0), s)
        assert s.hint == {} and " It is about" not in prompt
        demos, described = (prompt.index(part) for part in ("Examples:\n", "All samples have the topic"))
        assert demos < described < prompt.index("Write one new sample")
        assert all(prompt.index(d) < described for d in (f"topic: {s.sample.target}\n",))
    assert len({shown(synthesizer.store(0), s) for s in made}) > 4


def test_no_feedback_from_an_empty_pool(tmp_path):
    synthesizer = make(tmp_path)
    made = synthesizer.train(0, FeedbackPool(), 1.0)
    assert not any(s.feedback for s in made)
    assert not any(g["feedback"] for g in groups(synthesizer.store(0)))
    assert all(i.startswith("demo-") for s in made for i in s.demo_ids)


def test_a_label_without_pool_demos_shows_seeds(tmp_path):
    made = make(tmp_path).train(0, filled_pool(labels=LABELS[:1]), 1.0)
    assert {s.sample.target for s in made if s.feedback} == {LABELS[0]}
    assert all(s.feedback for s in made if s.sample.target == LABELS[0])


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
    made = synthesizer.train(0, FeedbackPool(), 0.0)
    assert len({r.seed for r in writer.requests}) == len(writer.requests)
    by_seed = {r.seed: r for r in writer.requests}
    assert all(shown(synthesizer.store(0), s) == by_seed[s.seed].text for s in made)


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
            _, exist = shown(synthesizer.store(r), s).split("These exist already:")
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


# Duplicates


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


def test_duplicates_across_rounds_and_kinds_are_rejected(tmp_path):
    texts, plan = distinct_texts(80), replace(PLAN, samples_per_round=8, probe_per_round=4)
    held = set()
    for at, (round_, kind) in enumerate([(0, "train"), (0, "probe"), (1, "train"), (1, "probe"), (2, "train")]):
        synthesizer = make(tmp_path, Repeater(texts), plan)  # a new process each time
        made = synthesizer.train(round_, FeedbackPool(), 0.0) if kind == "train" else synthesizer.probe(round_)
        fresh = {s.sample.text for s in made}
        assert len(fresh) == len(made) == (8 if kind == "train" else 4)
        assert fresh.isdisjoint(held)
        if at:
            # A probe prompt shows samples of its round: what repeats those copies a demo before it is a duplicate.
            rejects = synthesizer.store(round_).rejects(kind)
            assert rejects["duplicate"] + rejects["copies_demo"] >= len(held)
            assert rejects["duplicate"] > 0 or kind == "probe"
        adds_up(synthesizer.store(round_), kind)
        held |= fresh


def test_twins_within_one_batch_are_rejected(tmp_path):
    texts = {x: [t for t in ts for _ in range(2)] for x, ts in distinct_texts(40).items()}
    synthesizer = make(tmp_path, Repeater(texts), replace(PLAN, samples_per_round=8))
    made = synthesizer.train(0, FeedbackPool(), 0.0)
    assert len({s.sample.text for s in made}) == 8
    assert synthesizer.store(0).rejects("train")["duplicate"] > 0
    adds_up(synthesizer.store(0), "train")


# Resuming


def whole_run(tmp_path, writer_of, rounds=2):
    """All rounds; a new process after each KeyboardInterrupt. Gives samples and all writers."""
    writers = []
    while True:
        writers.append(writer_of(len(writers)))
        synthesizer = make(tmp_path, writers[-1])
        found = []
        try:
            for r in range(rounds):
                found.append(list(synthesizer.train(r, filled_pool() if r else FeedbackPool(), 0.5)))
                found.append(list(synthesizer.probe(r)))
        except KeyboardInterrupt:
            continue
        return found, writers


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two rounds that nobody interrupted: its folder, samples and writer."""
    folder = tmp_path_factory.mktemp("whole")
    found, (writer,) = whole_run(folder, lambda _: NewsWriter(0.3))
    return folder, found, writer


@pytest.mark.parametrize("fail_after", [0, 16, 40, 70])
def test_resuming_gives_the_same_samples_and_pays_for_none_twice(tmp_path, whole, fail_after):
    folder, wanted, full = whole
    found, writers = whole_run(tmp_path / "cut", lambda n: NewsWriter(0.3, fail_after=fail_after if n == 0 else -1))
    assert len(writers) == 2
    assert found == wanted
    assert [r for w in writers for r in w.requests] == full.requests
    for r in range(2):
        one, two = RoundStore(folder, r), RoundStore(tmp_path / "cut", r)
        for name in ("train", "probe", "rejects", "prompts"):
            assert (one.folder / f"{name}.jsonl").read_bytes() == (two.folder / f"{name}.jsonl").read_bytes()


def test_many_kills_are_as_good_as_none(tmp_path, whole):
    _, wanted, full = whole
    found, writers = whole_run(tmp_path / "cut", lambda _: NewsWriter(0.3, fail_after=32))
    assert len(writers) > 3
    assert found == wanted
    assert [r for w in writers for r in w.requests] == full.requests


def test_a_kill_between_generating_and_committing_asks_for_nothing_twice(tmp_path, whole, monkeypatch):
    _, wanted, full = whole
    commit = RoundStore.commit

    def killed(self, record, *rest):
        if record.index == 1:
            raise KeyboardInterrupt
        commit(self, record, *rest)

    first = NewsWriter(0.3)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RoundStore, "commit", killed)
        make(tmp_path / "cut", first).train(0, FeedbackPool(), 0.5)
    found, (second,) = whole_run(tmp_path / "cut", lambda _: NewsWriter(0.3))
    assert found == wanted
    assert len(first.requests) + len(second.requests) == len(full.requests)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"plan": replace(PLAN, group_size=3)}, "plan"),
        ({"seed": 2}, "seed"),
        ({"generator": NewsWriter(batch_size=4)}, "generator"),
        ({"rate": 0.25}, "feedback"),
        ({"pool": filled_pool(3)}, "feedback"),
    ],
    ids=["plan", "seed", "generator", "rate", "pool"],
)
def test_what_was_asked_for_otherwise_is_not_mixed(tmp_path, change, part, caplog):
    make(tmp_path / "changed").train(0, filled_pool(), 0.5)
    how = {k: v for k, v in change.items() if k not in ("rate", "pool")}
    pool, rate = change.get("pool", filled_pool()), change.get("rate", 0.5)
    made = make(tmp_path / "changed", **how).train(0, pool, rate)
    assert f"asked for with another {part};" in caplog.text
    assert made == make(tmp_path / "fresh", **how).train(0, pool, rate)


def test_samples_of_another_task_are_refused(tmp_path):
    make(tmp_path).train(0, filled_pool(), 0.5)
    with pytest.raises(GoldError, match="another task;"):
        make(tmp_path, task=replace(TASK, description="Something else.")).train(0, filled_pool(), 0.5)


@pytest.mark.parametrize(
    "change", [{"metrics": ("accuracy", "balanced_accuracy")}, {"test": TestData(file="other.jsonl")}]
)
def test_how_a_task_is_tested_is_no_part_of_its_samples(tmp_path, change, caplog):
    task = replace(TASK, metrics=("accuracy",), test=TestData(file="rows.jsonl"))
    made = make(tmp_path, task=task).train(0, filled_pool(), 0.5)
    again = NewsWriter()
    assert make(tmp_path, again, task=replace(task, **change)).train(0, filled_pool(), 0.5) == made
    assert again.requests == [] and "another" not in caplog.text


def test_what_is_asked_in_the_same_way_is_not_paid_for_again(tmp_path):
    first, second, third = NewsWriter(), NewsWriter(), NewsWriter()
    make(tmp_path, first).train(0, filled_pool(), 0.5)
    # Half of the prompts show feedback demos: with others in the pool these are asked anew, the rest is there.
    make(tmp_path, second).train(0, filled_pool(3), 0.5)
    assert 0 < len(second.requests) < len(first.requests)
    assert not {r.text + str(r.seed) for r in second.requests} & {r.text + str(r.seed) for r in first.requests}
    larger = replace(PLAN, samples_per_round=32)
    whole = make(tmp_path / "at once", third, larger)
    fourth = NewsWriter()
    make(tmp_path / "in two", fourth).train(0, FeedbackPool(), 0.0)
    more = make(tmp_path / "in two", fourth, larger).train(0, FeedbackPool(), 0.0)
    assert len(more) == len(whole.train(0, FeedbackPool(), 0.0)) == 32
    assert len({(r.text, r.seed) for r in fourth.requests}) == len(fourth.requests)


def test_a_damaged_batch_is_made_again_without_asking(tmp_path):
    made = list(make(tmp_path).train(0, FeedbackPool(), 0.0))
    path = tmp_path / "data" / "round_000" / "train.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"rubbish\n", *lines[3:]]))
    again = NewsWriter()
    assert list(make(tmp_path, again).train(0, FeedbackPool(), 0.0)) == made
    assert again.requests == []


def test_same_seed_same_samples_another_seed_others(tmp_path):
    one, two, three = (
        list(make(tmp_path / str(i), seed=seed).train(0, filled_pool(), 0.5)) for i, seed in enumerate([5, 5, 6])
    )
    assert one == two
    assert {s.sample.text for s in one} != {s.sample.text for s in three}


def test_reopen_reads_what_another_process_wrote(tmp_path):
    reader = make(tmp_path)
    assert list(reader.store(0).accepted("train")) == []
    made = make(tmp_path).train(0, FeedbackPool(), 0.0)
    reader.reopen(0)
    assert list(reader.store(0).accepted("train")) == list(made)


# Label agreement


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


@pytest.fixture
def measured(tmp_path):
    writer = Scorer()
    synthesizer = make(tmp_path / "measure", writer, replace(PLAN, label_agreement="measure"))
    return synthesizer, writer, list(synthesizer.train(0, FeedbackPool(), 0.0))


def test_measuring_agreement_notes_it_and_rejects_nothing(measured):
    synthesizer, writer, made = measured
    assert len(made) == 24
    assert {s.label_agrees for s in made} == {True, False}
    # The bias towards the last label is taken out by the prior: what is left is the text's own.
    assert [s.label_agrees for s in made] == [agrees(s.sample.text) for s in made]
    assert all((s.preferred_label == s.sample.target) == s.label_agrees and s.preferred_label in LABELS for s in made)
    store = synthesizer.store(0)
    assert "label_disagreement" not in store.rejects("train")
    asked = [r for r in writer.requests if r.choices]
    assert all(r.choices == tuple(f" {x}" for x in LABELS) for r in asked)
    checked = [*made, *store.surplus("train")]
    assert sum(b.asked_agreement for b in store.batches("train")) == len(checked) <= len(asked)
    assert sum(b.agreed for b in store.batches("train")) == sum(s.label_agrees for s in checked)
    adds_up(store, "train")


def test_requiring_agreement_keeps_only_what_agrees(tmp_path):
    synthesizer = make(tmp_path, Scorer(), replace(PLAN, label_agreement="require"))
    made = synthesizer.train(0, FeedbackPool(), 0.0)
    assert Counter(s.sample.target for s in made) == dict.fromkeys(LABELS, 6)
    assert all(s.label_agrees is True and agrees(s.sample.text) for s in made)
    store = synthesizer.store(0)
    rows = [r for r in read_lines(store.folder / "rejects.jsonl") if r["reason"] == "label_disagreement"]
    assert rows
    assert not any(agrees(r["raw"].strip()) for r in rows)
    assert len(rows) == sum(b.asked_agreement - b.agreed for b in store.batches("train"))
    adds_up(store, "train")


def test_requiring_agreement_resumes_to_the_same_samples(tmp_path):
    plan = replace(PLAN, label_agreement="require")
    wanted = list(make(tmp_path / "whole", Scorer(), plan).train(0, FeedbackPool(), 0.0))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "cut", Scorer(fail_after=60), plan).train(0, FeedbackPool(), 0.0)
    assert 0 < len(RoundStore(tmp_path / "cut", 0).accepted("train")) < 24
    assert list(make(tmp_path / "cut", Scorer(), plan).train(0, FeedbackPool(), 0.0)) == wanted


class Hesitant(Scorer):
    """Has likelihoods that differ with every text, so that the mean over the samples decides on many of them."""

    def _likes(self, request):
        draw = random.Random(request.suffix)
        return [-5.0 + draw.gauss(0, 2) + at for at, _ in enumerate(LABELS)]


@pytest.mark.parametrize("fail_after", [30, 60, 90])
@pytest.mark.parametrize("calibration", ["batch", "contextual", "none"])
def test_calibration_goes_on_where_it_was(tmp_path, calibration, fail_after):
    plan = replace(PLAN, label_agreement="require", label_calibration=calibration)

    def rounds(folder, **how):
        synthesizer = make(tmp_path / folder, Hesitant(**how), plan)
        return [
            [*synthesizer.train(0, FeedbackPool(), 0.0)],
            [*synthesizer.probe(0)],
            [*synthesizer.train(1, FeedbackPool(), 0.0)],
        ]

    wanted = rounds("whole")
    with pytest.raises(KeyboardInterrupt):
        rounds("cut", fail_after=fail_after)
    assert rounds("cut") == wanted


def test_likelihoods_of_checked_samples_are_stored_whether_they_are_taken_or_not(tmp_path):
    plan = replace(PLAN, label_agreement="require")
    synthesizer = make(tmp_path, Hesitant(), plan)
    taken = [s.label_log_probs for s in synthesizer.train(0, FeedbackPool(), 0.0)]
    store = RoundStore(tmp_path, 0, read_only=True)
    assert [s.label_log_probs for s in store.accepted("train")] == taken
    checks = list(store.label_checks("train"))
    assert len(checks) == sum(b.asked_agreement for b in store.batches("train")) > len(taken) == 24
    for fields, label, log_probs in checks:
        asked = Hesitant()._likes(agreement_request(TASK, fields, ()))
        assert label in LABELS and [*log_probs] == [*LABELS] and [*log_probs.values()] == pytest.approx(asked, abs=1e-6)


def test_a_run_folder_keeps_the_calibration_with_which_it_was_begun(tmp_path, caplog):
    plan = replace(PLAN, label_agreement="require", label_calibration="contextual")
    wanted = make(tmp_path / "earlier", Hesitant(), plan).train(0, FeedbackPool(), 0.0)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "cut", Hesitant(fail_after=60), plan).train(0, FeedbackPool(), 0.0)
    caplog.set_level("INFO")
    synthesizer = make(tmp_path / "cut", Hesitant(), replace(plan, label_calibration="batch"))
    assert synthesizer.train(0, FeedbackPool(), 0.0) == wanted
    assert synthesizer.plan == plan
    assert [r.message for r in caplog.records if "data.plan.label_calibration: contextual" in r.message]
    assert not list((tmp_path / "cut").glob("data/replaced_*"))


def test_rows_of_earlier_versions_have_no_likelihoods(tmp_path):
    store = make(tmp_path, Hesitant(), replace(PLAN, label_agreement="require"))
    store.train(0, FeedbackPool(), 0.0)
    for name in ("train", "rejects"):
        path = RoundStore(tmp_path, 0, read_only=True).folder / f"{name}.jsonl"
        write_lines(path, [{k: v for k, v in row.items() if k != "label_log_probs"} for row in read_lines(path)])
    earlier = RoundStore(tmp_path, 0, read_only=True)
    assert len(earlier.accepted("train")) == 24 and list(earlier.label_checks("train")) == []


def test_agreement_requests_are_paid_for_in_the_ledger(measured):
    synthesizer, writer, _ = measured
    spent = synthesizer.log().usage()
    assert spent == synthesizer.log().usage(0, 0)
    assert spent.calls == len(writer.requests)
    assert spent.prompt_tokens == sum(len(r.text.split()) for r in writer.requests)


def test_agreement_is_off_by_default(tmp_path):
    writer = NewsWriter()
    made = make(tmp_path, writer).train(0, FeedbackPool(), 0.0)
    assert {s.label_agrees for s in made} == {None}
    assert not any(r.choices for r in writer.requests)


def test_agreement_needs_labels(tmp_path):
    with pytest.raises(ConfigError, match=r"^data\.plan\.label_agreement: got 'measure'"):
        make(tmp_path, task=FREE, plan=replace(PLAN, label_agreement="measure"))


@pytest.mark.parametrize(
    "change",
    [
        {"samples_per_round": 0},
        {"probe_per_round": 0},
        {"group_size": 0},
        {"min_requests_per_batch": 0},
        {"seed_demos": 0},
        {"feedback_demos": -1},
        {"probe_contrast_samples": -1},
        {"max_attempts": 0.5},
        {"max_attempts": float("nan")},
    ],
    ids=str,
)
def test_wrong_plans_name_their_key(change):
    ((key, value),) = change.items()
    with pytest.raises(ConfigError) as e:
        SynthesisPlan(**change)
    assert str(e.value).startswith(f"data.plan.{key}: got {value!r}")


SILENT = {
    "nothing": lambda n: [],
    "no mass": lambda n: [-float("inf")] * n,
    "no number": lambda n: [float("nan")] + [-1.0] * (n - 1),
    "a server's nothing": lambda n: [-9999.0] * n,
}


@pytest.mark.parametrize("silence", SILENT)
def test_likelihoods_without_mass_favour_no_label(tmp_path, silence, caplog):
    def scores(request):
        text = request.suffix
        return SILENT[silence](len(LABELS)) if len(text) % 3 == 0 else [-float(i) for i in range(len(LABELS))]

    writer = NewsWriter(junk=0.0)
    writer.log_probs = scores
    synthesizer = make(tmp_path, writer, replace(PLAN, label_agreement="measure"))
    made = synthesizer.train(0, FeedbackPool(), 0.0)
    assert {s.label_agrees for s in made if not s.preferred_label} == {None}
    assert 0 < sum(not s.preferred_label for s in made) < len(made)
    record = synthesizer.store(0).batches("train")
    assert sum(b.asked_agreement for b in record) < sum(b.requested for b in record)
    assert len([r for r in caplog.records if "label checks have no answer" in r.message]) == 1


def test_a_required_check_without_an_answer_is_a_reject(tmp_path):
    writer = NewsWriter(junk=0.0)
    writer.log_probs = lambda request: [-float("inf")] * len(LABELS)
    synthesizer = make(tmp_path, writer, replace(PLAN, label_agreement="require"))
    with pytest.raises(QuotaError, match="label_unchecked"):
        synthesizer.train(0, FeedbackPool(), 0.0)
    assert set(synthesizer.store(0).rejects("train")) == {"label_unchecked"}


def test_how_a_student_sees_samples_changes_none_of_them(tmp_path):
    make(tmp_path).train(0, FeedbackPool(), 0.0)
    longer = replace(TASK, student=replace(TASK.student, max_input_tokens=TASK.student.max_input_tokens + 8))
    generator = NewsWriter()
    assert make(tmp_path, generator, task=longer).train(0, FeedbackPool(), 0.0)
    assert not generator.requests


def test_a_run_of_a_version_that_took_it_for_a_part_of_the_task_goes_on(tmp_path):
    make(tmp_path).train(0, FeedbackPool(), 0.0)
    path = RoundStore(tmp_path, 0, read_only=True).folder / "fingerprint_train.json"
    earlier = {k: v for k, v in TASK.to_dict().items() if k not in ("metrics", "test", "validation")}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task": digest(earlier)}))
    make(tmp_path, generator := NewsWriter()).train(0, FeedbackPool(), 0.0)
    assert not generator.requests
    make(tmp_path).train(1, FeedbackPool(), 0.0)
