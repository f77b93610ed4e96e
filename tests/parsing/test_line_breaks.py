"""Replies of several lines: joined for a text of one line, kept for one of several, and rejected if that is unclear."""

from dataclasses import replace

import pytest
from gold_lightning.checks.checker import Checker
from gold_lightning.generators import Completion
from gold_lightning.prompts import Hint, training_request
from gold_lightning.task import Field, Label, Sample, StudentFormat, Task

LETTER = "Hello,\n\nmy parcel has not arrived.\n\nRegards,\nAnna"
ON_ONE_LINE = "Hello, my parcel has not arrived. Regards, Anna"
CODE = "def f(x):\n    y = x + 1\n\n    return y"
PROSE = ("Where is the parcel that I ordered?", "You charged me too much for it.")
LETTERS = ("Dear all,\n\nwhere is it?\n\nTom", "Hi,\ntoo much.")


def texts_task(demos=PROSE, **keys):
    samples = [Sample({"message": text}, label) for text, label in zip(demos, ("delivery", "billing"), strict=True)]
    return Task(
        name="texts",
        description="Texts.",
        fields=(Field("message", "a text", **keys),),
        target=Field("queue", "who answers it"),
        demos=tuple(samples),
        student=StudentFormat("{message}"),
        labels=(Label("delivery", ""), Label("billing", "")),
    )


def code_task(demo="lambda x: x + 2", **keys):
    return Task(
        name="programs",
        description="Functions.",
        fields=(Field("text", "what it does"),),
        target=Field("code", "the function", **keys),
        demos=(Sample({"text": "Add two."}, demo),),
        student=StudentFormat("{text}"),
    )


def read(task, reply, *, fresh=True):
    """Reads a reply as engines do: an answer, or what a server or decoder ended at the request's stop."""
    request = training_request(task, task.label_names[0] if task.labels else None, task.demos, Hint(), 1)
    if not fresh:
        reply = f" {reply.removeprefix(request.answer_prefix).lstrip()}"
        reply = reply[: min((at for stop in request.stop if (at := reply.find(stop)) >= 0), default=None)]
    reading = request.read(reply, fresh=fresh)
    label = task.label_names[0] if task.labels else None
    completion = Completion(reading.text, reason=reading.reason)
    checked = Checker(task).judge(completion, label, request.answer_prefix, "", ())
    if checked.sample is None:
        return checked.reason
    return checked.sample.fields["message"] if task.labels else checked.sample.target


JOINED = [
    (LETTER, ON_ONE_LINE),
    (f"queue: delivery\nmessage: {LETTER}", ON_ONE_LINE),
    (f"{LETTER}\n\nqueue: billing\nmessage: More.", ON_ONE_LINE),
    ("My parcel is late.\n\nPlease send it to my office.", "My parcel is late. Please send it to my office."),
    ("Hi there!\nMy parcel is late.", "Hi there! My parcel is late."),
    ("My parcel, ordered\nlast week, is late.", "My parcel, ordered last week, is late."),
]
CUT = [
    "This message is about delivery.",
    "Note: the customer is angry.",
    "(about delivery)",
    "Let me know if you want another sample!",
    "Is there anything else you need?",
    "2. Where is it?",
    "- Where is it?",
    "queue: billing\nmessage: More.",
    "The customer is upset.",
    "---",
]
UNCLEAR = [
    "Where is my parcel?\nI paid too much.\nThe lamp is broken.",
    "I need these:\n- a lamp\n- a bulb",
    "Order: late\nCity: Ghent",
    "Dear team,\n    indented lines",
]


@pytest.mark.parametrize(("reply", "text"), JOINED)
def test_lines_of_one_text_are_joined(reply, text):
    assert read(texts_task(), reply) == text


@pytest.mark.parametrize("behind", CUT)
@pytest.mark.parametrize("gap", ["\n", "\n\n"])
def test_what_is_no_part_of_the_text_is_cut(behind, gap):
    assert read(texts_task(), f"My parcel is late.{gap}{behind}") == "My parcel is late."


@pytest.mark.parametrize("reply", UNCLEAR)
def test_lines_that_may_be_several_texts_are_a_reject_of_their_own(reply):
    assert read(texts_task(), reply) == "several_lines"


def test_a_line_break_behind_a_greeting_leaves_no_greeting_alone():
    assert read(texts_task(), LETTER, fresh=False) == "several_lines"
    assert read(texts_task(("Hello,", "Dear all,")), "Hi Tom,", fresh=False) == "Hi Tom,"


def test_texts_that_are_no_sentences_end_at_their_line():
    assert read(texts_task(("lamp broken", "parcel late")), "wrong bill\n\nIt has two words.") == "wrong bill"


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("task", [texts_task(LETTERS), texts_task(LETTERS, multiline=True), texts_task(multiline=True)])
@pytest.mark.parametrize("reply", [LETTER, f"queue: delivery\nmessage: {LETTER}", LETTER.replace("\n", "\\n")])
@pytest.mark.parametrize("behind", ["", "\n\nqueue: billing\nmessage: More."])
def test_a_multiline_text_keeps_its_lines(task, reply, behind, fresh):
    assert read(task, reply + behind, fresh=fresh) == LETTER


def test_an_empty_line_ends_a_text_whose_line_breaks_are_escaped():
    reply = LETTER.replace("\n", "\\n") + "\n\nHere is another one:"
    assert read(texts_task(multiline=True), reply, fresh=False) == LETTER


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(
    "reply",
    [f"code: {CODE}", f"code:\n{CODE}", f"code:\n```python\n{CODE}\n```\nIt adds one.", f"code: {CODE}\n\ntext: B"],
)
def test_code_keeps_empty_lines_and_indentation(reply, fresh):
    assert read(code_task(CODE, multiline=True), f"text: Add one.\n{reply}", fresh=fresh) == CODE


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("reply", [f"code: {CODE}", f"code:\n```python\n{CODE}\n```"])
def test_code_is_not_joined_to_one_line(reply, fresh):
    assert read(code_task(), f"text: Add one.\n{reply}", fresh=fresh) == "several_lines"


def test_escapes_in_quotes_stay_if_the_lines_are_broken():
    code = 'def f():\n    return "a\\n"'
    assert read(code_task(CODE, multiline=True), f"text: A line.\ncode: {code}") == code


def test_the_next_named_line_ends_a_multiline_text():
    task = texts_task(LETTERS)
    fields = (Field("message", "a text", multiline=True), Field("question", "a question"))
    demos = tuple(Sample({**demo.fields, "question": "Who?"}, demo.target) for demo in task.demos)
    task = replace(task, fields=fields, demos=demos, student=StudentFormat("{message} {question}"))
    for gap in ("\n", "\n\n"):
        reply = f"queue: delivery\nmessage: {LETTER}{gap}question: Who wrote it?"
        assert read(task, reply) == read(task, reply, fresh=False) == LETTER
