"""Probe sets of real texts, and real texts among the training samples, without a student."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from gold_lightning.errors import ConfigError, GoldError, NoLikelihoodsError
from gold_lightning.feedback import FeedbackPool, PoolEntry
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Field, Sample, StudentFormat, Task
from gold_lightning.unlabelled import UnlabelledTexts, real_texts

from tests.fakes import NewsReader, real_news

pytestmark = pytest.mark.integration

NEWS = Task.load("news_topics")
PLAN = SynthesisPlan(samples_per_round=16, probe_per_round=12, group_size=2, unlabelled_as=("demos", "data"))
ROWS = real_news(60)
TOPIC = {row["text"]: row["topic"] for row in ROWS}


def synthesizer(folder, generator=None, plan=PLAN, count=60, task=NEWS, rows=None):
    rows = rows or [{"text": row["text"]} for row in ROWS[:count]]
    reader = generator or NewsReader()
    return Synthesizer(task, reader, folder, plan, 1, texts=lambda: UnlabelledTexts(rows, "real.jsonl", 1))


def pool_of(samples, round_):
    pool = FeedbackPool()
    pool.push((PoolEntry(s.id, s.sample, 0.0, round_) for s in samples), by_label=True)
    return pool


def contents(folder):
    files = sorted((folder / "data").glob("round_*/*.jsonl"))
    rows = {f"{p.parent.name}/{p.name}": [json.loads(line) for line in p.read_text().splitlines()] for p in files}
    return {name: [{k: v for k, v in row.items() if k != "seconds"} for row in of] for name, of in rows.items()}


def test_each_rounds_probe_set_is_real_labelled_and_drawn_once(tmp_path):
    maker = synthesizer(tmp_path)
    drawn = []
    for round_ in range(3):
        maker.train(round_, FeedbackPool(), 0.0)
        probes = maker.probe(round_)
        assert [s.source for s in probes] == ["unlabelled"] * 12
        drawn += [s.sample.text for s in probes]
        for s in probes:
            assert s.id == f"r{round_:03d}-probe-u{[*TOPIC].index(s.sample.text):05d}"
            assert max(s.probabilities, key=s.probabilities.get) == s.sample.target == s.preferred_label
            assert sum(s.probabilities.values()) == pytest.approx(1)
            (prompt,) = maker.store(round_).prompts([s.prompt_hash]).values()
            assert s.sample.text in prompt
    assert len(set(drawn)) == 36
    labels = [(s.sample.target, TOPIC[s.sample.text]) for r in range(3) for s in maker.store(r).accepted("probe")]
    # Without calibration the generator's taste for World wins in half of the texts.
    assert sum(given == true for given, true in labels) >= 33
    record = maker.store(0).batches("probe")[0]
    assert record.requested == record.from_unlabelled == 12 and record.prompt_tokens > 0
    other = synthesizer(tmp_path / "other")
    assert [s.id for s in other.probe(0)] == [s.id for s in maker.store(0).accepted("probe")]


@pytest.mark.parametrize("after", [20, 50, 70, 95])
def test_a_run_that_was_cut_off_gives_the_same_samples(tmp_path, after):
    def go(folder, generator):
        maker, pool = synthesizer(folder, generator), FeedbackPool()
        for round_ in range(3):
            maker.train(round_, pool, 0.5)
            pool = pool_of(maker.probe(round_)[::2], round_)

    go(tmp_path / "whole", NewsReader())
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", NewsReader(fail_after=after))
    go(tmp_path / "cut", NewsReader())
    assert contents(tmp_path / "whole") == contents(tmp_path / "cut")


def test_what_was_fed_back_is_a_bounded_share_of_the_next_rounds_training_samples(tmp_path):
    maker = synthesizer(tmp_path, plan=replace(PLAN, unlabelled_share=0.5))
    maker.train(0, FeedbackPool(), 0.0)
    probes = maker.probe(0)
    pool = pool_of(probes[:9], 0)
    train = maker.train(1, pool, 0.0)
    real = [s for s in train if s.source == "unlabelled"]
    chosen = Counter(s.sample.target for s in probes[:9])
    assert Counter(s.sample.target for s in real) == {label: min(n, 2) for label, n in chosen.items()}
    assert Counter(s.sample.target for s in train) == dict.fromkeys(NEWS.label_names, 4)
    assert real_texts(real) <= real_texts(probes[:9]) and train[: len(real)] == real
    for label, count in chosen.items():
        of_label = sorted((s.probabilities[label] for s in probes[:9] if s.sample.target == label), reverse=True)
        assert [s.probabilities[label] for s in real if s.sample.target == label] == of_label[: min(count, 2)]
    assert all(s.prompt_hash in maker.store(1).prompts([s.prompt_hash]) for s in real)
    assert maker.store(1).batches("train")[0].from_unlabelled == len(real)
    again = RoundStore(tmp_path, 1)
    assert list(again.accepted("train")) == list(train)


def test_all_texts_of_a_probe_set_become_samples_beside_the_quota_under_their_joint_labels(tmp_path):
    plan = replace(PLAN, unlabelled_as=("pseudo_labels",))

    def go(folder, generator):
        maker = synthesizer(folder, generator, plan)
        maker.train(0, FeedbackPool(), 0.0)
        probes = maker.probe(0)
        joint = {s.id: dict.fromkeys(NEWS.label_names, 0.1) | {"Sports": 0.7} for s in probes[:5]}
        kind = {"kind": "probe", "energy": 0.0, "fed_back": False}
        maker.store(0).write_energies({"id": s.id, "probabilities": joint.get(s.id), **kind} for s in probes)
        return probes, joint, maker.train(1, FeedbackPool(), 0.0), maker

    probes, joint, train, maker = go(tmp_path / "whole", NewsReader())
    real = {s.sample.text: s for s in train if s.source == "unlabelled"}
    assert set(real) == {s.sample.text for s in probes}
    for probe in probes:
        sample = real[probe.sample.text]
        assert sample.sample.target == ("Sports" if probe.id in joint else probe.sample.target)
        assert sample.probabilities == joint.get(probe.id, probe.probabilities)
    written = Counter(s.sample.target for s in train if s.source == "generator")
    assert written == dict.fromkeys(NEWS.label_names, 4)
    assert list(RoundStore(tmp_path / "whole", 1).accepted("train")) == list(train)
    assert list(maker.train(1, FeedbackPool(), 0.0)) == list(train)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", NewsReader(fail_after=len(maker.generator.requests) - 3))
    go(tmp_path / "cut", NewsReader())
    assert contents(tmp_path / "whole") == contents(tmp_path / "cut")


def test_samples_are_requested_anew_if_the_student_labels_its_texts_otherwise(tmp_path):
    maker = synthesizer(tmp_path, plan=replace(PLAN, unlabelled_as=("pseudo_labels",)))
    maker.train(0, FeedbackPool(), 0.0)
    probes = maker.probe(0)
    for label in ("Sports", "World"):
        rows = [{"id": s.id, "kind": "probe", "energy": 0.0, "probabilities": {label: 1.0}} for s in probes]
        maker.store(0).write_energies(rows)
        train = maker.train(1, FeedbackPool(), 0.0)
        assert {s.sample.target for s in train if s.source == "unlabelled"} == {label}


@pytest.mark.parametrize("uses", [("demos",), ("style",), ("data",), ("demos", "style")])
def test_uses_decide_how_prompts_show_what_was_fed_back(tmp_path, uses):
    maker = synthesizer(tmp_path, plan=replace(PLAN, unlabelled_as=uses, samples_per_round=48, group_size=1))
    maker.train(0, FeedbackPool(), 0.0)
    probes = maker.probe(0)
    asked = len(maker.generator.requests)
    train = maker.train(1, pool_of(probes, 0), 0.5)
    texts = {s.sample.text: s.sample.target for s in probes}
    prompts = [r.text for r in maker.generator.requests[asked:] if not r.choices]
    shown = Counter()
    for prompt in prompts:
        for text, label in texts.items():
            if f"topic: {label}\ntext: {text}" in prompt:
                shown["demos"] += 1
            elif text in prompt:
                assert f"text: {text}\n\nWrite one new sample with the topic {label} in the manner" in prompt
                shown["style"] += 1
    assert set(shown) == set(uses) - {"data"}
    with_feedback = [s for s in train if s.feedback]
    assert bool(with_feedback) == bool(shown)
    assert all(any(i in {p.id for p in probes} for i in s.demo_ids) for s in with_feedback)
    assert any(s.source == "unlabelled" for s in train) == ("data" in uses)


def test_texts_that_would_not_last_are_shared_among_the_rounds(tmp_path):
    maker = synthesizer(tmp_path, count=20)
    maker.real.rounds = 3
    sizes = []
    for round_ in range(3):
        maker.train(round_, FeedbackPool(), 0.0)
        sizes.append([s.source for s in maker.probe(round_)])
    assert sizes == [["unlabelled"] * 6, ["unlabelled"] * 7, ["unlabelled"] * 7]
    assert maker.real.counts([maker.store(r) for r in range(3)]) == {"texts": 20, "usable": 20, "left": 0}


def test_without_an_end_the_last_texts_are_followed_by_generated_probe_sets(tmp_path):
    maker = synthesizer(tmp_path, count=20)
    sources = []
    for round_ in range(3):
        maker.train(round_, FeedbackPool(), 0.0)
        sources.append(Counter(s.source for s in maker.probe(round_)))
    assert sources == [{"unlabelled": 12}, {"unlabelled": 8}, {"generator": 12}]


def test_another_file_and_one_with_too_few_texts_are_refused(tmp_path):
    synthesizer(tmp_path).real.begin(tmp_path, 3, writes=True)
    synthesizer(tmp_path).real.begin(tmp_path, 4, writes=True)
    with pytest.raises(ConfigError) as refused:
        synthesizer(tmp_path, count=59).real.begin(tmp_path, 3, writes=True)
    assert (refused.value.key, refused.value.allowed) == ("data.unlabelled", "the file that the run began with")
    with pytest.raises(ConfigError) as refused:
        synthesizer(tmp_path / "other", count=2).real.begin(tmp_path / "other", 3, writes=True)
    assert refused.value.allowed == "a text for each of 3 rounds"


class Mute(NewsReader):
    """Has no opinion about some texts.

    Args:
        texts: The texts; all of them if there are none.
    """

    def __init__(self, *texts):
        super().__init__()
        self.texts = texts

    def _likelihoods(self, request):
        mute = not self.texts or any(text in request.suffix for text in self.texts)
        return [-1e9] * len(request.choices) if mute else super()._likelihoods(request)


def test_a_text_without_a_label_is_rejected_and_another_one_drawn(tmp_path):
    order = [ROWS[number]["text"] for number in synthesizer(tmp_path).real.texts.draw(60)]
    maker = synthesizer(tmp_path, Mute(order[11], order[12]))  # the second takes the place of the first, alone
    assert [s.sample.text for s in maker.probe(0)] == [*order[:11], order[13]]
    assert [batch.accepted for batch in maker.store(0).batches("probe")] == [11, 0, 1]
    assert maker.store(0).rejects("probe") == {"label_unchecked": 2}
    assert maker.real.counts([maker.store(0)])["left"] == 46


def test_a_generator_without_likelihoods_is_told_what_needs_them(tmp_path):
    class Wordless(NewsReader):
        def generate(self, requests):
            raise NoLikelihoodsError("generator 'm': no likelihoods of labels")

    with pytest.raises(GoldError, match=r"labels of data\.unlabelled need them: take a generator") as told:
        synthesizer(tmp_path, Wordless()).probe(0)
    assert "label_agreement" not in str(told.value)


def test_a_generator_that_labels_nothing_ends_the_round_in_one_line(tmp_path):
    maker = synthesizer(tmp_path, Mute())
    with pytest.raises(GoldError, match="gives none of 12 texts a topic"):
        maker.probe(0)
    assert not maker.store(0).batches("probe")


def test_a_task_without_labels_gets_the_generators_greedy_answers(tmp_path):
    task = Task(
        name="capitals",
        description="Each sample asks for a capital.",
        fields=(Field("question", "a question"),),
        target=Field("answer", "one word"),
        demos=tuple(Sample({"question": f"Capital of {c}?"}, a) for c, a in (("Peru", "Lima"), ("Cuba", "Havana"))),
        student=StudentFormat("{question}", "{answer}"),
    )
    writer = ScriptedGenerator(lambda r: "" if "Atlantis" in r.suffix else f" Town-{len(r.suffix)}", batch_size=4)
    rows = [{"question": f"Capital of {c}?"} for c in ("Chad", "Atlantis", "Norway", "Egypt")]
    plan = SynthesisPlan(samples_per_round=2, probe_per_round=3)
    probes = synthesizer(tmp_path, writer, plan, task=task, rows=rows).probe(0)
    assert sorted(s.sample.text for s in probes) == sorted(
        r["question"] for r in rows if "Atlantis" not in r["question"]
    )
    assert all(s.sample.target == s.raw.strip() and s.label_agrees is None and not s.probabilities for s in probes)
    assert all(r.greedy and "Capital of Peru?" in r.text for r in writer.requests)
