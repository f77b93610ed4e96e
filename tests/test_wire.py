"""The wire format, both ways."""

import json
from dataclasses import replace

import pytest
from gold_lightning.task import Field, Sample, StudentFormat
from gold_lightning.wire import SampleReader, render
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakes import FREE, LABELLED, ONE_FIELD, parse

ANY = st.one_of(
    st.text(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010)),  # lone surrogates and their neighbours
    st.text(
        st.sampled_from("\\nru\"'\n\r\t \x0b\x0c\x1c\x85\xa0\u2028\u3000{}:*-1.)tex_20d")
    ),  # what the format is made of
    st.sampled_from(
        ["premise: x", "\nverdict: no", "**text**: x", '{"text": "x"}', "\\u0020", '"', '""', '" "', "\\", "\\\\n"]
    ),
)


def as_dict(sample, task):
    return {**sample.fields, task.target.name: sample.target}


@settings(max_examples=250, deadline=None)
@given(ANY, ANY, ANY)
@example("", "", "")
@example('"quoted"', '\\"quoted"', '"')
@example("\ud800", "\udfff\ud800", "a\ud83d")
@example(" ", "\n", "\r\n\r\n")
def test_parse_of_render_is_the_sample(first, second, target):
    labelled = Sample({"premise": first, "claim": second}, target)
    assert parse(render(labelled, LABELLED), LABELLED) == as_dict(labelled, LABELLED)
    free = Sample({"text": first, "text_2": second}, target)
    assert parse(render(free, FREE), FREE) == as_dict(free, FREE)


@settings(max_examples=200, deadline=None)
@given(ANY, ANY, ANY)
def test_a_block_holds_no_empty_line_and_as_many_lines_as_names(first, second, target):
    lines = render(Sample({"premise": first, "claim": second}, target), LABELLED).split("\n")
    assert [line.split(":")[0] for line in lines] == ["verdict", "premise", "claim"]
    assert all(line.strip() for line in lines)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(ANY)
def test_parse_never_fails(text):
    for task in (LABELLED, FREE, ONE_FIELD):
        for whole in (text, "text: " + text, "topic: Sports\ntext:" + text, "{" + text, "verdict " + text):
            found = parse(whole, task)
            assert set(found) <= {*(f.name for f in task.fields), task.target.name}
            assert all(isinstance(value, str) for value in found.values())


@pytest.mark.parametrize("name", ["top\u0131c", "top\u0130c", "TOPIC", "te\u017ft"])
def test_names_that_only_nearly_match_do_not_break_parsing(name):
    # re.IGNORECASE lets a dotless and a dotted i pass for i; casefold does not make them one.
    found = parse(f"{name}: Sports\ntext: Goal!", ONE_FIELD)
    assert found["text"] == "Goal!"


def test_wire_order():
    assert render(LABELLED.demos[0], LABELLED) == "verdict: yes\npremise: It rains.\nclaim: It is wet."
    assert render(FREE.demos[0], FREE) == "text: A long story.\ntext_2: The end.\nsummary: A story."
    assert render(LABELLED.demos[0], LABELLED, upto=2) == "verdict: yes\npremise: It rains."


WANTED = {"topic": "Sports", "text": "Late goal: Rovers win."}


@pytest.mark.parametrize(
    "text",
    [
        "topic: Sports\ntext: Late goal: Rovers win.",
        "**topic:** Sports\n**text:** Late goal: Rovers win.",
        "**Topic**: Sports\n**Text**: Late goal: Rovers win.",
        "1. topic: Sports\n2. text: Late goal: Rovers win.",
        "1) TOPIC : Sports\n2) TEXT : Late goal: Rovers win.",
        "- topic: Sports\n* text: Late goal: Rovers win.",
        "\u2022 topic: Sports\n\u2022 text: Late goal: Rovers win.",
        'topic: "Sports"\ntext: "Late goal: Rovers win."',
        "topic: Sports\ntext: Late goal:\n  Rovers win.",
        "topic:\nSports\ntext:\nLate goal: Rovers win.",
        "text: Late goal: Rovers win.\ntopic: Sports",
        "Sure! Here is one:\ntopic: Sports\ntext: Late goal: Rovers win.",
        "Sure! Here is one:\n\ntopic: Sports\ntext: Late goal: Rovers win.",
        "\n\ntopic: Sports\r\ntext: Late goal: Rovers win.\r\n",
        "topic: Sports\ntext: Late goal: Rovers win.\n\ntopic: Business\ntext: Shares fell.",
        "topic: Sports\ntext: Late goal: Rovers win.\ntopic: Business\ntext: Shares fell.",
        "topic: Sports\ntext: Late goal: Rovers win.\n\nI hope this helps!",
        "Topic\uff1aSports\nText\uff1aLate goal: Rovers win.",
        "### Topic\nSports\n\n### Text\nLate goal: Rovers win.",
        "**Topic:** Sports\n\n**Text:** Late goal: Rovers win.",
        "`topic`: Sports\n`text`: Late goal: Rovers win.",
        '"topic": "Sports",\n"text": "Late goal: Rovers win."',
        "<topic>Sports</topic>\n<text>\nLate goal: Rovers win.\n</text>",
        "<sample><topic>Sports</topic><text>Late goal: Rovers win.</text></sample>",
        "Here it is:\n```yaml\ntopic: Sports\ntext: Late goal: Rovers win.\n```\nI hope this helps!",
        "> topic: Sports\n> text: Late goal: Rovers win.",
        "```json\n" + json.dumps(WANTED) + "\n```",
        "```json " + json.dumps(WANTED) + " ```",
        "Sure: " + json.dumps(WANTED) + " Enjoy!",
        json.dumps([WANTED, WANTED]),
        json.dumps({"sample": WANTED}),
        json.dumps({"Topic": "Sports", "TEXT": WANTED["text"]}),
        json.dumps(WANTED),
        " \n" + json.dumps(WANTED, indent=2) + "\nI hope this helps!",
        json.dumps({**WANTED, "id": 7, "tags": ["x"]}),
    ],
)
def test_tolerance(text):
    assert parse(text, ONE_FIELD) == WANTED
    assert parse(text, ONE_FIELD, "topic: Sports\ntext:") == WANTED  # as engines have it


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("\n\n", {}),
        ("no names here", {}),
        ("texts: x", {}),
        ("text: x", {"text": "x"}),
        ("text:", {"text": ""}),
        ("topic Sports", {}),
        ("{not json", {}),
        ("[1, 2]", {}),
        ("{" * 5000, {}),
        ('{"text": {"a": 1}, "topic": null}', {}),
        ('{"text": 3, "topic": "Sports"}', {"topic": "Sports", "text": "3"}),
        ('{"text": 1' + "0" * 5000 + "}", {}),
    ],
)
def test_what_is_not_there_is_left_out(text, wanted):
    assert parse(text, ONE_FIELD) == wanted


@pytest.mark.parametrize(
    "text",
    [
        " {Late goal}: Rovers win.",
        "{not json",
        '{"Goal!" they shouted',
        "{1, 2} is the score.",
        "{text} is a slot.",
        "{" * 5000,
    ],
)
def test_a_text_that_begins_with_a_brace_goes_on_with_the_answer(text):
    assert parse(text, ONE_FIELD, "topic: Sports\ntext:") == {"topic": "Sports", "text": text.strip()}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (json.dumps(WANTED), WANTED),
        ("\n" + json.dumps(WANTED, indent=2) + "\nI hope this helps!", WANTED),
        ('{"headline": "Late goal"}', {}),
        # Torn: a stop text or a missing quote ended it. It is no text of the answer.
        ("{", {}),
        (" {\n", {}),
        ('{"topic": "Sports",', {}),
        ('{ "Text": "Late goal', {}),
        # An object of another notation has the text, and the answer's beginning has the label.
        ("{'text': 'x'}", {"topic": "Business", "text": "x"}),
        ("{text: Late goal}", {"topic": "Business", "text": "Late goal"}),
    ],
)
def test_a_json_object_stands_for_itself_whatever_the_answer_began_with(text, wanted):
    assert parse(text, ONE_FIELD, "topic: Business\ntext:") == wanted


def test_a_sample_that_stands_for_itself_may_leave_out_what_the_answer_says():
    answer = "topic: Sports\ntext:"
    for text in (
        "**Text:** Late goal: Rovers win.",
        '{"text": "Late goal: Rovers win."}',
        "<text>Late goal: Rovers win.</text>",
    ):
        assert parse(text, ONE_FIELD, answer) == WANTED
    assert parse("topic: Business\ntext: Shares fell.", ONE_FIELD, answer) == {
        "topic": "Business",
        "text": "Shares fell.",
    }


def test_what_announces_a_text_is_none_of_it():
    for text in (
        "Sure! Here is one:\n\nGoal!",
        "Sure, here's one: Goal!",
        "1. Goal!\n",
        "```\nGoal!\n```",
        "Sports: Goal!",
    ):
        assert parse(text, ONE_FIELD, "topic: Sports\ntext:") == {"topic": "Sports", "text": "Goal!"}
    assert parse("Sure! Here is one:", ONE_FIELD, "topic: Sports\ntext:") == {}
    for text in (
        "Here is my bet: Rovers win.",
        "Okay, he said: no goal.",
        "Fans: we want 1. a goal, 2. a win.",
        '"Goal!" he said.',
    ):
        assert parse(text, ONE_FIELD, "topic: Sports\ntext:") == {"topic": "Sports", "text": text}


def test_a_field_may_be_called_as_a_remark_is():
    task = replace(
        FREE,
        fields=(Field("text", "a text"), Field("note", "on it")),
        target=Field("explanation", "why"),
        demos=(Sample({"text": "A dog.", "note": "It is old."}, "It ran."),),
        student=StudentFormat("{text} {note}", "{explanation}"),
    )
    wanted = {"text": "A cat.", "note": "Young.", "explanation": "It slept."}
    for text in (
        " A cat.\nnote: Young.\nexplanation: It slept.",
        "**Text:** A cat.\n\n**Note:** Young.\n\n**Explanation:** It slept.",
    ):
        assert parse(text, task, "text:") == wanted


def test_a_target_that_is_json_may_be_written_as_such():
    task = replace(FREE, demos=(Sample({"text": "A long story.", "text_2": "The end."}, '{"kind": "story"}'),))
    written = {"text": "A dog.", "text_2": "It ran.", "summary": {"kind": "dog"}}
    assert parse(json.dumps(written), task)["summary"] == '{"kind": "dog"}'
    assert "summary" not in parse(json.dumps(written), FREE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>Let me see.</think> Late goal: Rovers win.", ""),
        ("\u201cLate goal: Rovers win.\u201d<|im_end|>", ""),
        ("\ufeff**Late goal: Rovers win.**", ""),
        ("Late goal: \x1b[1mRovers\x1b[0m win.", ""),
        ("topic: SPORTS\ntext: Late goal: Rovers win.", ""),
        ("<think>Let me see.", "only_thinking"),
        ("I\u2019m sorry, but I can\u2019t assist with that request.", "refusal"),
        ('{"text": "I cannot assist with that request."}', "refusal"),
        ("Late goal: R\ufffdvers win.", "not_unicode"),
        ("Late goal: R\\u0000vers win.", "not_unicode"),
    ],
)
def test_a_sample_is_read_as_any_generator_writes_it(text, reason):
    values, why = SampleReader(ONE_FIELD).read(text, "topic: Sports\ntext:")
    assert why == reason
    if not reason:
        assert values == WANTED


def test_refusals_are_texts_of_tasks_about_refusals():
    text = "I'm sorry, but I can't assist with that request."
    demo = Sample({"text": "I cannot help with that request."}, "Sports")
    for task in (replace(ONE_FIELD, allow_refusals=True), replace(ONE_FIELD, demos=(demo, *ONE_FIELD.demos))):
        assert SampleReader(task).read(text, "topic: Sports\ntext:") == ({"topic": "Sports", "text": text}, "")


def test_marks_that_demos_have_are_a_part_of_the_text():
    demo = Sample({"text": "\u201cGoal!\u201d"}, "Sports")
    task = replace(ONE_FIELD, demos=(demo, *ONE_FIELD.demos))
    assert SampleReader(task).read("\u201cNo goal!\u201d", "topic: Sports\ntext:")[0]["text"] == "\u201cNo goal!\u201d"


def test_a_name_that_begins_another_is_not_taken_for_it():
    assert parse("text_2: b\ntext: a\nsummary: c", FREE) == {"text": "a", "text_2": "b", "summary": "c"}
