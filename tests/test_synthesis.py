"""The loop from prompts to stored samples, with a scripted generator."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from gold_lightning.errors import ConfigError, GoldError, QuotaError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.json_lines import digest, read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.task import TestData

from tests.fakes import NewsWriter
from tests.synthesizers import FREE, LABELS, PLAN, TASK, Repeater, adds_up, distinct_texts, filled_pool, make

pytestmark = pytest.mark.integration

# Quotas


@pytest.mark.parametrize("junk", [0.0, 0.3])
def test_quotas_are_balanced_exactly_over_labels(tmp_path, junk):
    accepted = make(tmp_path, NewsWriter(junk)).train(0, FeedbackPool(), 0.0)
    assert Counter(s.sample.target for s in accepted) == dict.fromkeys(LABELS, 6)


@pytest.mark.parametrize("quota", [1, 2, 5, 23])
def test_a_remainder_moves_on_over_the_rounds(tmp_path, quota):
    synthesizer = make(tmp_path, NewsWriter(0.0), replace(PLAN, samples_per_round=quota))
    total = Counter()
    for r in range(4):
        accepted = Counter(s.sample.target for s in synthesizer.train(r, FeedbackPool(), 0.0))
        assert accepted.total() == quota
        assert max(accepted[x] for x in LABELS) - min(accepted[x] for x in LABELS) <= 1
        total += accepted
    assert total == dict.fromkeys(LABELS, quota)


def test_a_task_without_labels_meets_its_quota(tmp_path):
    writer = ScriptedGenerator(
        lambda r: f" Item {r.seed} stands in row {r.seed % 977} of box {r.seed % 83}.\nanswer: {r.seed}", batch_size=7
    )
    accepted = make(tmp_path, writer, task=FREE).train(0, FeedbackPool(), 0.0)
    assert len(accepted) == 24
    assert {d for s in accepted for d in s.demo_ids} == {"demo-0", "demo-1", "demo-2"}


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
    synthesizer = make(tmp_path, NewsWriter(0.0, batch_size=64))
    synthesizer.train(0, FeedbackPool(), 0.0)
    assert synthesizer.store(0).rejects("train")["surplus"] > 0
    adds_up(synthesizer.store(0), "train")


@pytest.mark.parametrize("least", [1, 10])
def test_where_a_few_are_missing_a_batch_has_its_least_number_of_requests(tmp_path, least):
    synthesizer = make(tmp_path, NewsWriter(0.4, batch_size=40), replace(PLAN, min_requests_per_batch=least))
    synthesizer.train(0, FeedbackPool(), 0.0)
    sizes = [b.requested for b in synthesizer.store(0).batches("train")]
    adds_up(synthesizer.store(0), "train")
    assert len(sizes) > 1 and len(synthesizer.store(0).accepted("train")) == PLAN.samples_per_round
    assert min(sizes) >= 10 if least == 10 else min(sizes) < 10
    # Asking for more at once is no other way of asking.
    again = NewsWriter(0.4, batch_size=40)
    make(tmp_path, again, PLAN).train(0, FeedbackPool(), 0.0)
    assert again.requests == []


def test_a_finished_round_asks_for_nothing(tmp_path):
    writer = NewsWriter()
    accepted = list(make(tmp_path, writer).train(0, FeedbackPool(), 0.0))
    asked = len(writer.requests)
    again = NewsWriter()
    assert list(make(tmp_path, again).train(0, FeedbackPool(), 0.0)) == accepted
    assert again.requests == []
    assert asked == sum(b.requested for b in RoundStore(tmp_path, 0).batches("train"))


def test_a_larger_quota_goes_on_with_what_is_there(tmp_path):
    accepted = list(make(tmp_path).train(0, FeedbackPool(), 0.0))
    more = make(tmp_path, plan=replace(PLAN, samples_per_round=40)).train(0, FeedbackPool(), 0.0)
    assert list(more[:24]) == accepted
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
    accepted = make(tmp_path, writer, replace(PLAN, max_attempts=100)).train(0, FeedbackPool(), 0.0)
    assert 0 < held < len(accepted) == 24
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
    assert seen[-1].tokens == sum(b.completion_tokens for b in batches) > 0


def test_a_generator_that_loses_completions_is_an_error(tmp_path):
    class Lossy(NewsWriter):
        def generate(self, requests):
            return super().generate(requests)[:-1]

    with pytest.raises((RuntimeError, GoldError), match="Lossy gave 15 completions for 16 requests"):
        make(tmp_path, Lossy()).train(0, FeedbackPool(), 0.0)
    assert list(RoundStore(tmp_path, 0).batches("train")) == []


# Duplicates


def test_duplicates_across_rounds_and_kinds_are_rejected(tmp_path):
    texts, plan = distinct_texts(80), replace(PLAN, samples_per_round=8, probe_per_round=4)
    held = set()
    for at, (round_, kind) in enumerate([(0, "train"), (0, "probe"), (1, "train"), (1, "probe"), (2, "train")]):
        synthesizer = make(tmp_path, Repeater(texts), plan)  # a new process each time
        accepted = synthesizer.train(round_, FeedbackPool(), 0.0) if kind == "train" else synthesizer.probe(round_)
        fresh = {s.sample.text for s in accepted}
        assert len(fresh) == len(accepted) == (8 if kind == "train" else 4)
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
    accepted = synthesizer.train(0, FeedbackPool(), 0.0)
    assert len({s.sample.text for s in accepted}) == 8
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
    accepted = make(tmp_path / "changed", **how).train(0, pool, rate)
    assert f"asked for with another {part};" in caplog.text
    assert accepted == make(tmp_path / "fresh", **how).train(0, pool, rate)


def test_samples_of_another_task_are_refused(tmp_path):
    make(tmp_path).train(0, filled_pool(), 0.5)
    with pytest.raises(GoldError, match="another task;"):
        make(tmp_path, task=replace(TASK, description="Something else.")).train(0, filled_pool(), 0.5)


@pytest.mark.parametrize(
    "change", [{"metrics": ("accuracy", "balanced_accuracy")}, {"test": TestData(file="other.jsonl")}]
)
def test_how_a_task_is_tested_is_no_part_of_its_samples(tmp_path, change, caplog):
    task = replace(TASK, metrics=("accuracy",), test=TestData(file="rows.jsonl"))
    accepted = make(tmp_path, task=task).train(0, filled_pool(), 0.5)
    again = NewsWriter()
    assert make(tmp_path, again, task=replace(task, **change)).train(0, filled_pool(), 0.5) == accepted
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
    accepted = list(make(tmp_path).train(0, FeedbackPool(), 0.0))
    path = tmp_path / "data" / "round_000" / "train.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"rubbish\n", *lines[3:]]))
    again = NewsWriter()
    assert list(make(tmp_path, again).train(0, FeedbackPool(), 0.0)) == accepted
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


def test_a_process_that_does_not_write_leaves_damaged_files_to_the_one_that_does(tmp_path):
    make(tmp_path).train(0, FeedbackPool(), 0.0)
    path = RoundStore(tmp_path, 0, read_only=True).folder / "train.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    reader = make(tmp_path)
    reader.writes = False
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert len(reader.store(0).accepted("train")) < 24
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


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
