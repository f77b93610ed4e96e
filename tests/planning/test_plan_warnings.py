"""What a plan leaves undone is told before anything is generated, and nothing is told of a plan that does all of it."""

from dataclasses import replace

import pytest
from gold_lightning.callbacks import OODFeedback
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.plan_warnings import labels_without_hints, lines_in_demos, lines_in_rows, plan_warnings
from gold_lightning.scores import band_ranks
from gold_lightning.task import Field, Hints, Label, Sample, StudentFormat, Task

from tests.fakes import Shortest

DEFAULT = Hints()
NONE = Hints((), (), ())


def task(labels=4, hints=DEFAULT, label_hints=()):
    return Task(
        name="t",
        description="Texts.",
        fields=(Field("text", "a text"),),
        target=Field("kind", "its kind"),
        demos=tuple(Sample({"text": f"Text {i}."}, f"kind {i}") for i in range(labels or 1)),
        student=StudentFormat("{text}", "{kind}"),
        labels=tuple(Label(f"kind {i}", "a kind", label_hints if i else ()) for i in range(labels)),
        hints=hints,
    )


def warned(labels=4, plan=None, rounds=3, hints=DEFAULT, label_hints=(), **feedback):
    made = SynthesisPlan(**{"samples_per_round": 80, "probe_per_round": 20, "group_size": 4} | (plan or {}))
    return plan_warnings(task(labels, hints, label_hints), made, OODFeedback(**feedback).settings, rounds)


@pytest.mark.parametrize(
    ("labels", "plan"),
    [
        (4, {}),
        (10, {}),  # two probe samples of each: the band takes the upper one
        (0, {}),
        (3, {"probe_per_round": 96, "samples_per_round": 512}),
        (4, {"feedback_as": "hint"}),
    ],
)
@pytest.mark.parametrize("rounds", [-1, 2, 3, 20])
def test_nothing_is_told_of_a_plan_that_does_what_it_says(labels, plan, rounds):
    assert warned(labels, plan, rounds) == []


@pytest.mark.parametrize("off", [{"rate": 0.0}, {"strategy": "none"}])
def test_nothing_is_told_of_feedback_that_is_turned_off(off):
    plan = {"probe_per_round": 4, "hints": False, "feedback_as": "hint", "feedback_demos": 0}
    assert warned(4, plan, 1, warmup_rounds=9, **off) == []


@pytest.mark.parametrize(
    ("labels", "probes", "band", "words"),
    [
        (20, 20, (0.5, 0.8), ["20 labels", "1 probe sample,", "nothing is ever fed back", "probe_per_round to 40 or"]),
        (20, 16, (0.5, 0.8), ["at most 1 probe sample,", "nothing is ever fed back", "to 40 or more"]),
        (150, 16, (0.5, 0.8), ["150 labels", "nothing is ever fed back", "to 300 or more"]),
        (4, 20, (0.52, 0.58), ["5 probe samples", "[0.52, 0.58)", "nothing is ever fed back", "to 36 or more"]),
        (12, 20, (0.5, 0.8), ["each round has 4 labels", "1 probe sample,", "to 24 or more"]),
        (0, 1, (0.5, 0.8), ["none of 1 probe sample:", "nothing is ever fed back", "to 2 or more"]),
    ],
)
def test_an_empty_band_is_told_with_what_would_fill_it(labels, probes, band, words):
    def of(probe_per_round):
        plan = {"probe_per_round": probe_per_round, "samples_per_round": 800}
        return warned(labels, plan, alpha=band[0], beta=band[1])

    (line,) = of(probes)
    assert [word for word in words if word not in line] == []
    enough = int(line.split("probe_per_round to ")[1].split()[0])
    assert of(enough) == [] and band_ranks(enough // max(1, labels), *band)


def test_a_strategy_of_ones_own_need_not_keep_to_the_band():
    assert warned(20, strategy=Shortest()) == []
    assert len(warned(20, strategy="random")) == 1  # as much of each label as the band


def test_labels_without_a_sample_are_told():
    (line,) = warned(150, {"samples_per_round": 16, "probe_per_round": 300})
    assert (
        "16 and the task has 150 labels: 134 of them get no sample in a round, and 132 get none in all 3 rounds" in line
    )
    assert "raise it to 150" in line
    (line,) = warned(10, {"samples_per_round": 9}, -1)
    assert "1 of them get no sample in a round; raise" in line
    assert warned(150, {"samples_per_round": 16, "probe_per_round": 300}, 0) == []  # no round, no sample


def test_feedback_as_hints_that_are_not_there_is_told():
    (line,) = warned(plan={"feedback_as": "hint", "hints": False})
    assert "data.plan.hints is false" in line and "feedback_as: demo" in line
    (line,) = warned(plan={"feedback_as": "hint"}, hints=NONE)
    assert "hints.topics, perspectives and styles are empty" in line
    (line,) = warned(0, {"feedback_as": "hint"}, hints=NONE)
    assert "the task has none" in line
    (line,) = warned(plan={"feedback_as": "hint"}, hints=NONE, label_hints=("a", "b"))
    assert "'kind 0'" in line and "'kind 1'" not in line
    assert warned(plan={"feedback_as": "demo", "hints": False}, hints=NONE) == []
    assert warned(plan={"feedback_as": "hint"}, hints=Hints(("a",), (), ())) == []
    (line,) = warned(plan={"feedback_as": "demo", "feedback_demos": 0})
    assert "data.plan.feedback_demos is 0" in line
    assert warned(plan={"feedback_as": "hint", "feedback_demos": 0}) == []
    every = task(3, NONE, ("a",))
    assert labels_without_hints(every, SynthesisPlan()) == ["kind 0"]
    assert labels_without_hints(every, SynthesisPlan(hints=False)) == ["kind 0", "kind 1", "kind 2"]


@pytest.mark.parametrize(
    ("rounds", "warmup", "told"),
    [
        (1, 0, "trainer.max_epochs is 1"),
        (3, 2, "max_epochs to 4 or more"),
        (3, 9, "begins in round 10"),
        (3, 1, ""),
        (-1, 9, ""),
    ],
)
def test_rounds_that_end_before_feedback_begins_are_told(rounds, warmup, told):
    lines = warned(rounds=rounds, warmup_rounds=warmup)
    assert [told in line for line in lines] == [True] * bool(told)


def test_a_rate_below_a_group_of_prompts_is_told():
    (line,) = warned(plan={"group_size": 16}, rate=0.000001)
    assert "no prompt shows feedback in any round; raise it to 0.2 or more" in line and "group_size (16)" in line
    assert warned(plan={"group_size": 16}, rate=0.2) == []
    (line,) = warned(0, {"samples_per_round": 4}, rounds=4, rate=0.3)  # two groups: turns 1 and 2, 2 and 3, 3 and 4
    assert "in 1 of the 3 rounds that could show it; raise it to 0.5 or more" in line
    assert warned(0, {"samples_per_round": 4}, rounds=4, rate=0.5) == []
    (line,) = warned(rate=0.01, rounds=-1)
    assert "in round 1, the first that could" in line


@pytest.mark.parametrize(
    ("texts", "plan", "rounds", "words"),
    [
        (1000, {}, 3, []),
        (1000, {}, -1, []),
        (50, {}, 3, ["50 usable texts", "last 2 rounds of 20", "each of the 3 rounds gets 16"]),
        (10, {}, -1, ["last 0 rounds of 20", "then generated"]),
        (1000, {"feedback_demos": 0}, 3, ["data.plan.unlabelled_as: demos"]),
        (1000, {"unlabelled_as": "data", "unlabelled_share": 0.04}, 3, ["less than one", "raise it to 0.05 or more"]),
        (1000, {"unlabelled_as": "style", "feedback_as": "hint", "hints": False}, 3, []),
    ],
)
def test_uses_of_real_texts_without_effect_are_told(texts, plan, rounds, words):
    made = SynthesisPlan(**{"samples_per_round": 80, "probe_per_round": 20, "group_size": 4} | plan)
    lines = plan_warnings(task(), made, OODFeedback().settings, rounds, texts)
    assert len(lines) == bool(words)
    assert all(word in lines[0] for word in words)


def test_empty_lines_in_demos_and_line_breaks_in_rows_are_told():
    letters = tuple(Sample({"text": "Dear all,\n\nhello."}, d.target) for d in task(0).demos)
    one_line, free = task(0), replace(task(0), demos=letters)
    assert [line.split("'")[1] for line in lines_in_demos(free)] == ["text"]
    assert lines_in_demos(one_line) == []
    assert lines_in_demos(replace(free, fields=(replace(free.fields[0], multiline=True),))) == []
    assert lines_in_demos(replace(task(4), demos=tuple(Sample(letters[0].fields, f"kind {i}") for i in range(4)))) == []
    rows = [{"text": "Hello,\nyou."}, {"text": "Hello.\n"}]
    assert [line.split(" have")[0] for line in lines_in_rows(one_line, rows, "test")] == ["test: 1 of 2 rows"]
    assert lines_in_rows(free, rows, "test") == []
    said = replace(one_line, fields=(replace(one_line.fields[0], multiline=False),))
    assert lines_in_rows(said, rows, "test") == []
