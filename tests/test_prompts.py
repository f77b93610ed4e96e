"""The requests that ask a generator for samples."""

import json
from dataclasses import replace

import pytest
from gold_lightning.prompts import Hint, probe_request, training_request
from gold_lightning.questions import agreement_request
from gold_lightning.task import Sample, Task
from gold_lightning.wire import render

from tests.fakes import FREE, LABELLED, ONE_FIELD, parse


def test_training_request_of_a_label():
    request = training_request(LABELLED, "yes", LABELLED.demos[:1], Hint("trains", "a child", "verse"), 7)
    assert request.answer_prefix == "verdict: yes\npremise:"
    assert request.stop == ("\n\n",)
    assert request.line_prefixes == ("claim:",)
    assert request.seed == 7
    assert request.max_tokens == LABELLED.max_sample_tokens
    assert "it follows" in request.prefix
    assert "it does not" not in request.prefix
    assert render(LABELLED.demos[0], LABELLED) in request.prefix
    assert request.suffix.endswith("It is about trains, from the point of view of a child, in the style of verse.")
    for part in (request.system, request.prefix, request.suffix, request.answer_prefix):
        assert part in request.text


def test_training_request_without_labels():
    request = training_request(FREE, None, FREE.demos, Hint(), 0)
    assert request.answer_prefix == "text:"
    assert "summary: a short one" in request.prefix
    assert request.suffix == "Write one new sample."


def test_one_line_to_write_ends_at_its_end():
    assert training_request(ONE_FIELD, "Sports", [], Hint(), 0).stop == ("\n",)


def test_lines_are_named_in_wire_order_up_to_one_that_has_line_breaks_in_a_demo():
    def begun(**broken):
        demo = FREE.demos[0]
        fields = {name: broken.get(name, text) for name, text in demo.fields.items()}
        task = replace(FREE, demos=(*FREE.demos[1:], replace(demo, fields=fields, target=broken.get("target", "One."))))
        request = training_request(task, None, task.demos, Hint(), 0)
        return request.line_prefixes, request.open_end

    assert begun() == (("text_2:", "summary:"), False)
    assert begun(target="A\nstory.") == (("text_2:", "summary:"), True)
    assert begun(text_2="A\nstory.") == (("text_2:",), True)
    assert begun(text="A\nstory.") == begun(text="A\nstory.", target="A\nstory.") == ((), False)
    assert training_request(ONE_FIELD, "Sports", [], Hint(), 0).line_prefixes == ()


def test_the_answer_and_a_perfect_completion_make_a_sample():
    request = training_request(LABELLED, "no", LABELLED.demos, Hint(), 0)
    assert parse(request.answer_prefix + " It snows.\nclaim: It is hot.", LABELLED) == {
        "verdict": "no",
        "premise": "It snows.",
        "claim": "It is hot.",
    }


def test_hint_and_seed_leave_the_shared_part_alone():
    one = training_request(LABELLED, "yes", LABELLED.demos, Hint("trains"), 1)
    two = training_request(LABELLED, "yes", LABELLED.demos, Hint(style="verse"), 2)
    assert one.prefix == two.prefix
    assert one.suffix != two.suffix


def test_probe_request_shows_what_to_depart_from():
    made = Sample({"premise": "Fog lay on the hills.", "claim": "One saw far."}, "no")
    request = probe_request(LABELLED, "no", LABELLED.demos[1:], [made], Hint("trains"), 3)
    before, after = request.prefix.split("These exist already:")
    assert render(made, LABELLED) in after
    assert render(LABELLED.demos[1], LABELLED) in before
    assert "very different" in request.suffix
    assert "trains" in request.suffix
    assert "exist already" not in probe_request(LABELLED, "no", LABELLED.demos[1:], [], Hint(), 3).prefix


def test_agreement_request_puts_the_label_last():
    fields = {"premise": "Two\nlines.", "claim": "One."}
    request = agreement_request(LABELLED, fields, LABELLED.demos)
    assert request.choices == (" yes", " no")
    assert request.answer_prefix == "verdict:"
    assert request.suffix.endswith("premise: Two\\nlines.\nclaim: One.")
    assert "premise: It rains.\nclaim: It is dry.\nverdict: no" in request.prefix
    assert "yes: it follows" in request.prefix


def test_agreement_request_is_a_conversation_too_with_a_turn_for_each_demo():
    fields = {"premise": "Two\nlines.", "claim": "One."}
    request = agreement_request(LABELLED, fields, LABELLED.demos)
    (role, system), *turns, last = request.messages
    options = request.prefix.split("\n\nExamples:")[0]
    assert role == "system" and system == f"{request.system}\n\n{options}"
    assert last == ("user", "premise: Two\\nlines.\nclaim: One.")
    assert [role for role, _ in turns] == ["user", "assistant"] * len(LABELLED.demos)
    assert [text for _, text in turns[1::2]] == [f"verdict: {demo.target}" for demo in LABELLED.demos]
    assert agreement_request(LABELLED, fields, ()).messages == ((role, system), last)


@pytest.mark.parametrize(
    ("hint", "words"),
    [(Hint(), ""), (Hint("x"), " It is about x."), (Hint(perspective="y"), " It is from the point of view of y.")],
)
def test_hint_sentence(hint, words):
    assert hint.sentence() == words


@pytest.mark.parametrize(("task", "label"), [(LABELLED, "no"), (FREE, None), (ONE_FIELD, "Sports")])
def test_the_schema_asks_for_what_parse_reads(task, label):
    request = training_request(task, label, task.demos, Hint(), seed=1)
    schema = json.loads(request.schema)
    names = [f.name for f in task.fields] + [task.target.name]
    assert sorted(schema["required"]) == sorted(schema["properties"]) == sorted(names)
    assert schema["additionalProperties"] is False
    if label is not None:
        assert schema["properties"][task.target.name]["enum"] == [label]
    written = {name: label if name == task.target.name and label else f"a {name} with {{braces}}" for name in names}
    assert parse(json.dumps(written), task, request.answer_prefix) == written


def test_a_text_whose_manner_is_wanted_is_shown_without_its_label():
    task = Task.load("news_topics")
    seeds = [demo for demo in task.demos if demo.target == "Sports"]
    manner = {"text": "Fears for pension: talks with the parent firm\nhave failed."}
    plain = training_request(task, "Sports", seeds, Hint(topic="golf"), 1)
    request = training_request(task, "Sports", seeds, Hint(topic="golf"), 1, manner=manner)
    assert request.prefix == plain.prefix and request.answer_prefix == plain.answer_prefix
    assert "text: Fears for pension: talks with the parent firm\\nhave failed.\n" in request.suffix
    assert "with the topic Sports in the manner of this text" in request.suffix and "about golf" in request.suffix
    assert "Business" not in request.suffix


def test_the_next_sample_ends_a_request_for_multiline_texts():
    plain = training_request(FREE, None, FREE.demos, Hint(), 1)
    target = replace(FREE.target, multiline=True)
    request = training_request(replace(FREE, target=target), None, FREE.demos, Hint(), 1)
    assert (plain.stop, request.stop) == (("\n\n",), ("\n\ntext:",))
    assert request.prefix == plain.prefix.replace("a short one", "a short one (write line breaks within it as \\n)")
    assert replace(request, stop=plain.stop, prefix=plain.prefix, open_end=False) == plain
