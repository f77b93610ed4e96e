"""Labels held against the generator's own likelihoods."""

import math
import random
from dataclasses import replace

import pytest
from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.errors import GoldError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Hints, Sample, Task

from tests.fakes import NewsWriter, bank_task

NEWS = Task.load("news_topics")
LABELS = NEWS.label_names


def task_of(**counts):
    """A task of these labels with so many demos each."""
    labels = tuple(replace(NEWS.labels[0], name=name) for name in counts)
    demos = [Sample({"text": f"{name} number {i} of all"}, name) for name, n in counts.items() for i in range(n)]
    field = replace(NEWS.fields[0], min_chars=1)
    return replace(NEWS, fields=(field,), labels=labels, demos=tuple(demos), hints=Hints(), checks=())


def check_of(task, likes, limit=0, seed=0):
    """A check whose generator likes what ``likes(text)`` gives by label."""

    def log_probs(request):
        found = likes(request.suffix.split("text: ")[-1])
        return [found[name] for name in task.label_names]

    generator = ScriptedGenerator(["x"], log_probs, limit=limit)
    check = LabelCheck(task, seed, False, lambda requests, _: generator.generate(requests), generator.tokens_over_limit)
    return check, generator


def labels_of(check, samples):
    """The preferred label of each sample; "" if there is none."""
    return [found.label if found else "" for found in check.check(samples, 0)[0]]


def biased(text):
    """Likes B by 4 whatever it reads, and the label that the text names by 3."""
    return {name: -9.0 + 4.0 * (name == "B") + 3.0 * text.startswith(name) for name in "ABC"}


# Power mean, exponent 1/2, over texts of which a third names each label: e^3 + e^4 + 1, or e^7 + 2, is a text's whole.
OF_B, OF_OTHERS = math.exp(7) + 2, math.exp(3) + math.exp(4) + 1
ROOTS_A_OR_C = math.sqrt(math.exp(3) / OF_OTHERS) + math.sqrt(1 / OF_OTHERS) + math.sqrt(1 / OF_B)
ROOTS_B = math.sqrt(math.exp(7) / OF_B) + 2 * math.sqrt(math.exp(4) / OF_OTHERS)
OF_THIRDS = tuple(2 * math.log(roots / 3) for roots in (ROOTS_A_OR_C, ROOTS_B, ROOTS_A_OR_C))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "counts", [{"A": 5, "B": 2, "C": 1}, {"A": 1, "B": 1, "C": 1}, {"A": 3, "B": 3, "C": 3}, {"A": 40, "B": 1, "C": 2}]
)
def test_each_label_counts_alike_however_many_demos_it_has(counts, seed):
    check, generator = check_of(task_of(**counts), biased, seed=seed)
    check.calibrate(0)
    assert check.of_samples.means == pytest.approx(OF_THIRDS)
    assert len(generator.requests) == sum(max(1, n - 1) for n in counts.values())
    texts = [Sample({"text": f"{name} is meant"}, "A") for name in "CABBA"]
    assert labels_of(check, texts) == [*"CABBA"]
    assert check.calibrate(0) == []


def test_demos_that_the_prompt_shows_calibrate_labels_that_have_no_other():
    task = task_of(A=3, B=1, C=2)
    check, generator = check_of(task, biased)
    check.calibrate(0)
    asked = [r.suffix.split("text: ")[-1] for r in generator.requests]
    shown = [d.fields["text"] for d in task.demos if d.fields["text"] in generator.requests[0].prefix]
    assert len(shown) == 3
    assert [text for text in asked if text in shown] == ["B number 0 of all"]
    assert sorted(asked + shown) == sorted([d.fields["text"] for d in task.demos] + ["B number 0 of all"])


NONE = [-math.inf, -1.7e308, -9999.0]


@pytest.mark.parametrize("none", NONE, ids=str)
def test_a_label_without_mass_poisons_no_mean(none):
    def likes(text):
        found = biased(text)
        return found | {name: none for name in found if name != "B" and not text.startswith(name)}

    check, _ = check_of(task_of(A=3, B=3, C=3), likes)
    check.calibrate(0)
    assert all(math.isfinite(mean) for mean in check.of_samples.means)
    texts = [Sample({"text": f"{name} is meant"}, "A") for name in "CAB"]
    assert labels_of(check, texts) == [*"CAB"]


@pytest.mark.parametrize("none", NONE, ids=str)
def test_likelihoods_without_any_mass_are_no_preference(none):
    check, _ = check_of(task_of(A=2, B=2, C=2), lambda text: dict.fromkeys("ABC", none))
    assert labels_of(check, [Sample({"text": "x"}, "A")]) == [""]


@pytest.mark.parametrize(("agreement", "accepted"), [("measure", 8), ("require", 0)])
def test_no_preference_is_noted_as_none_and_is_no_agreement(tmp_path, agreement, accepted):
    writer = NewsWriter(0.0)
    writer.log_probs = lambda request: [-math.inf] * len(request.choices)
    plan = SynthesisPlan(8, 8, label_agreement=agreement)
    made = Synthesizer(NEWS, writer, tmp_path, plan)
    if accepted:
        assert {s.label_agrees for s in made.train(0, FeedbackPool(), 0.0)} == {None}
    else:
        with pytest.raises(GoldError, match="label_unchecked"):
            made.train(0, FeedbackPool(), 0.0)
    store = made.store(0)
    assert len(store.accepted("train")) == accepted
    assert sum(b.asked_agreement for b in store.batches("train")) == 0


def test_a_prompt_of_many_labels_that_is_too_long_is_told_before_anything_is_written(tmp_path):
    task = bank_task(77)
    writer = ScriptedGenerator(["x"], limit=1500, batch_size=16)
    plan = SynthesisPlan(77, 77, label_agreement="require")
    for work in (
        lambda s: s.train(0, FeedbackPool(), 0.0),
        lambda s: s.label_check.calibrate(0),
    ):
        with pytest.raises(GoldError) as e:
            work(Synthesizer(task, writer, tmp_path, plan))
        assert str(e.value).startswith("data.plan.label_agreement: the prompt that checks labels lists all 77")
        assert len(str(e.value).splitlines()) == 1
    assert writer.requests == []
    Synthesizer(task, ScriptedGenerator(["x"], limit=5000), tmp_path, plan).label_check.calibrate(0)


def test_a_text_that_is_too_long_to_be_asked_about_is_no_preference():
    check, generator = check_of(task_of(A=2, B=2, C=2), biased)
    generator.limit = len(check.request({"text": "A word"}).text.split()) + 9
    samples = [Sample({"text": f"B {'word ' * n}end"}, "B") for n in (2, 200, 3)]
    assert labels_of(check, samples) == ["B", "", "B"]


def test_preferred_labels_do_not_depend_on_what_is_asked_beside():
    rng = random.Random(3)
    check, _ = check_of(task_of(A=4, B=2, C=3), biased)
    samples = [Sample({"text": f"{rng.choice('ABC')} {i}"}, "A") for i in range(20)]
    together = labels_of(check, samples)
    assert together == [labels_of(check, [s])[0] for s in samples] == [s.fields["text"][0] for s in samples]


def test_texts_of_unknown_label_are_calibrated_over_themselves_not_over_samples():
    check, _ = check_of(task_of(A=2, B=2, C=2), biased)
    check.calibration = "batch"
    check.check([Sample({"text": f"A {i}"}, "A") for i in range(9)], 0)
    demos_alone = check.of_texts.means
    texts = [{"text": f"{name} {i}"} for i in range(5) for name in "ABC"]
    scored, completions = check.score(texts, 1)
    assert [row.label for row in scored] == [text["text"][0] for text in texts]
    assert [row.log_probs for row in scored] == [c.choice_log_probs for c in completions]
    assert demos_alone == pytest.approx(OF_THIRDS)


def test_a_row_counts_once_however_often_it_is_scored_or_remembered():
    check, _ = check_of(task_of(A=2, B=2, C=2), biased)
    check.calibration = "batch"
    samples = [Sample({"text": f"C {i}"}, "C") for i in range(4)]
    check.check(samples, 0)
    means = check.of_samples.means
    for sample, row in zip(samples, check.check(samples, 0)[0], strict=True):
        check.remember(sample.fields, row.log_probs, sample.target)
    assert check.of_samples.means == means


def test_uncalibrated_checks_ask_for_no_demos():
    check, generator = check_of(task_of(A=2, B=2, C=2), biased)
    check.calibration = "none"
    assert check.calibrate(0) == []
    assert labels_of(check, [Sample({"text": "A word"}, "A")]) == ["B"]
    assert len(generator.requests) == 1
