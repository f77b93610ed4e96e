"""The verdict on a generator: what it answers right, and the sentence that follows from it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from gold_lightning import api
from gold_lightning.errors import NoLikelihoodsError
from gold_lightning.evaluation.preview import plan_requests
from gold_lightning.evaluation.verdict import Evidence, answer_demos, decide, judge_generator, verdict_lines
from gold_lightning.generators import Completion, ScriptedGenerator
from gold_lightning.task import Task

pytestmark = pytest.mark.integration

COLOURS = ("red", "green", "blue")


def colours(**more):
    """A task whose texts name their colour."""
    demos = [{"text": f"A {c} {thing} stood there.", "colour": c} for c in COLOURS for thing in ("car", "house", "box")]
    return Task(
        name="colours",
        description="Each text is about one thing.",
        fields=["text"],
        labels=list(COLOURS),
        target="colour",
        demos=demos,
        **more,
    )


class Teacher(ScriptedGenerator):
    """Writes texts of the requested colour, and knows a share of the colours; some it takes for another one.

    Args:
        knows: Share of the texts that it answers by their colour; it guesses at others.
        takes: The colour that it takes for the colour of the key.
        bias: Added to the log-likelihood of its favourite colour, whatever the text.
    """

    def __init__(self, knows=1.0, takes=None, bias=0.0):
        super().__init__(self._write, self._score, batch_size=32)
        self.knows, self.takes, self.bias = knows, takes or {}, bias

    def _write(self, request):
        colour = next(c for c in COLOURS if f"colour: {c}" in request.answer_prefix)
        words = random.Random(request.seed).sample("tower garden river lamp street coat bird boat".split(), 4)
        return f" The {colour} {' and the '.join(words)} were all that anybody saw."

    def _score(self, request):
        text = request.suffix.rsplit("text:", 1)[1]
        rng = random.Random(text)
        colour = next((c for c in COLOURS if c in text), "red")
        colour = self.takes.get(colour, colour) if rng.random() < self.knows else rng.choice(COLOURS)
        return [(0.0 if c == colour else -3.0) + (self.bias if c == "blue" else 0.0) for c in COLOURS]


def verdict_on(generator, tmp_path, task=None, **settings):
    from gold_lightning.data import GoldDataModule

    data = GoldDataModule(task or colours(), generator, run_dir=str(tmp_path), **settings)
    missing = data.synthesizer.missing(0, "train")
    batch = plan_requests(data.synthesizer, 0, 0.0).batch
    answers = data.synthesizer.answer(batch, missing)
    return judge_generator(data, answers.completions, 100)


def test_a_generator_that_knows_the_labels_may_teach_them(tmp_path):
    verdict = verdict_on(Teacher(), tmp_path)
    assert verdict.decision == "go ahead"
    samples, demos = verdict.evidence
    assert (samples.share, demos.share) == (1.0, 1.0) and len(demos.scores) == 9
    assert "guessing would give 33%" in verdict.sentence


def test_a_favourite_label_does_not_count_against_it(tmp_path):
    assert verdict_on(Teacher(bias=10.0), tmp_path).decision == "go ahead"


def test_a_generator_that_guesses_is_turned_down(tmp_path):
    verdict = verdict_on(Teacher(knows=0.0), tmp_path)
    assert verdict.decision == "take another generator"
    assert verdict.sentence.startswith("Take another generator: ")


def test_two_labels_that_it_confuses_are_named(tmp_path):
    verdict = verdict_on(Teacher(takes={"green": "red"}), tmp_path)
    assert verdict.confused == ("green", "red")
    assert "'green' and 'red'" in verdict.sentence


def test_labelled_rows_decide_over_its_own_samples(tmp_path):
    rows = [{"text": f"Row {i} shows a {COLOURS[i % 3]} thing.", "colour": COLOURS[(i + i % 2) % 3]} for i in range(60)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    verdict = verdict_on(Teacher(), tmp_path / "run", test_file=str(file))
    assert [e.name for e in verdict.evidence][-1] == "labelled rows (test)"
    assert verdict.evidence[-1].share == 0.5  # every second label is wrong
    assert "of 60 answers" in verdict.sentence and verdict.decision != "go ahead"


def test_no_demo_stands_in_the_prompt_that_asks_for_it():
    prompts = []

    def answer(requests):
        prompts.extend(requests)
        return [Completion("", choice_log_probs=(0.0, -1.0, -2.0)) for _ in requests]

    task = colours()
    answer_demos(task, answer, seed=0)
    for demo, request in zip(task.demos, prompts, strict=True):
        assert demo.fields["text"] in request.suffix and demo.fields["text"] not in request.prefix


def test_texts_are_compared_by_the_metric_of_the_task(tmp_path):
    demos = [{"text": f"The sum of {i} and {i}.", "answer": str(2 * i)} for i in range(1, 11)]
    task = Task(name="sums", description="A sum.", fields=["text"], target="answer", demos=demos, metrics=[])
    sums = ScriptedGenerator(lambda r: " " + str(2 * int(r.suffix.split("sum of ")[1].split()[0])) + "\n")
    evidence = answer_demos(task, sums.generate, 0)
    assert evidence.share == 1.0
    assert decide(task, [evidence]).decision == "go ahead"
    wrong = answer_demos(task, ScriptedGenerator([" 7\n"]).generate, 0)
    assert decide(task, [wrong]).decision == "take another generator"


def test_answers_to_sets_of_labels_turn_no_generator_down():
    task = Task.load(str(Path(__file__).parents[2] / "examples" / "hotel_reviews.yaml"))
    pairs = (("room", "nothing of these"), ("food", "nothing of these"), ("room, food", "room")) * 10
    verdict = decide(task, [Evidence("labelled rows (test)", pairs, (0.0,) * len(pairs))])
    assert verdict.decision == "not clear"
    assert verdict.sentence.endswith("It may still write texts that teach them: one round and labelled rows tell.")
    right = tuple((known, known) for known, _ in pairs)
    assert decide(task, [Evidence("labelled rows (test)", right, (1.0,) * len(pairs))]).decision == "go ahead"


def test_a_few_answers_decide_nothing():
    evidence = Evidence("the demos, each left out", (("red", "red"),) * 5, (1.0,) * 5)
    verdict = decide(colours(), [evidence])
    assert verdict.decision == "not clear" and "--preview.count" in verdict.sentence
    assert decide(colours(), []).decision == "not clear"


def test_valid_answers_and_no_valid_sample_are_not_clear(tmp_path):
    mute = Teacher()
    mute.replies = lambda request: ""
    assert verdict_on(mute, tmp_path).decision == "not clear"


def test_a_generator_without_likelihoods_gets_no_verdict(tmp_path):
    def refuse(request):
        raise NoLikelihoodsError("no likelihoods of labels from this server")

    teacher = Teacher()
    teacher.log_probs = refuse
    preview = api.preview(colours(), generator=teacher, count=4)
    assert preview.verdict is None
    assert "No verdict: no likelihoods of labels from this server\n" in str(preview)  # nothing to turn off


@pytest.mark.parametrize("log_probs", [lambda request: (), lambda request: 1 / 0])
def test_an_engine_that_does_not_expect_choices_gets_no_verdict(log_probs):
    teacher = Teacher()
    teacher.log_probs = log_probs
    preview = api.preview(colours(), generator=teacher, count=4)
    assert preview.verdict is None
    assert "No verdict: Teacher " in str(preview)


def test_the_table_shows_each_evidence_with_its_interval(tmp_path):
    verdict = verdict_on(Teacher(), tmp_path)
    lines = list(verdict_lines(verdict))
    assert "the demos, each left out" in lines[2] and "70% to 100%" in lines[2]
    assert lines[-1].endswith(".")


@pytest.mark.parametrize("count", [8, 32])
def test_a_preview_has_the_verdict_that_it_shows(count):
    preview = api.preview(colours(), generator=Teacher(), count=count)
    assert preview.verdict.decision == "go ahead"
    assert preview.verdict.sentence in " ".join(str(preview).split())


def test_of_two_labels_it_is_not_said_that_all_errors_are_between_them():
    labels = ["red", "green"]
    demos = [{"text": label, "colour": label} for label in labels]
    task = Task("two", "Texts.", ["text"], labels=labels, target="colour", demos=demos)
    answers = tuple((labels[i % 2], labels[(i + (i % 10 < 3)) % 2]) for i in range(100))
    verdict = decide(task, [Evidence("labelled rows (test)", answers, tuple(float(a == b) for a, b in answers))])
    assert verdict.decision == "mend the labels" and set(verdict.confused) == set(labels)
    assert "70%" in verdict.sentence and "errors" not in verdict.sentence
