# ruff: noqa: RUF001
"""Replies for a task whose texts have line breaks: headers go, paragraphs stay, the next turn ends them."""

import pytest
from gold_lightning.checks.checker import Checker
from gold_lightning.generators import Completion
from gold_lightning.prompts import Hint, training_request
from gold_lightning.task import Sample

from tests.fakes import tickets_task

BODY = "Hello,\n\nmy parcel has not arrived.\n\nRegards,\nAnna"
DEMOS = ("Dear team,\n\nyou charged my card twice.\n\nTom", "Hi,\nit is late.\n\nKim")


def mail_task(demos=DEMOS):
    from dataclasses import replace

    samples = tuple(Sample({"message": t}, label) for t, label in zip(demos, ("billing", "delivery"), strict=True))
    return replace(tickets_task(1, 1000), demos=samples)


def read(reply, fresh, task=None):
    task = task or mail_task()
    request = training_request(task, "delivery", task.demos[1:], Hint(), 1)
    reading = request.read(reply if fresh else f" {reply}", fresh=fresh)
    checked = Checker(task).judge(
        Completion(reading.text, reason=reading.reason), "delivery", request.answer_prefix, "", ()
    )
    return checked.sample.fields["message"] if checked.sample else checked.reason


HEADERS = [
    "Subject: Parcel\n\n",
    "Subject: Parcel\n",
    "**Subject:** Parcel 4411\n\n",
    "From: Anna\nTo: help@example.org\nDate: Mon, 3 May\nSubject: Parcel\n\n",
    "---\nSubject: Parcel\n---\n\n",
    "Subject: Parcel\n\nBody:\n",
    "Email: Subject: Parcel\n\n",
    "Von: Anna\nAn: Kundendienst\nBetreff: Paket\n\n",
    "Objet : Colis\n\n",
    "Тема: Посылка\n\n",
    "主题：包裹\n\n",
    "الموضوع: الطرد\n\n",
]


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("headers", HEADERS)
def test_headers_of_a_mail_are_no_text(headers, fresh):
    assert read(headers + BODY, fresh) == BODY


KEPT = [
    BODY,
    "Hello,\n\nsubject: my parcel.\n\nAnna",
    "Date: I would like the 3rd of May.\nPlease confirm.",
    "To: whom it may concern.\nNobody ever answers me.",
    "Dear team,\nFrom: Monday on nobody answers.\nAnna",
]


@pytest.mark.parametrize("text", KEPT)
def test_lines_that_look_like_headers_are_text(text):
    assert read(text, True) == text == read(text, False)


def test_headers_that_the_demos_have_are_text():
    task = mail_task(tuple(f"Subject: Mail\n\n{demo}" for demo in DEMOS))
    assert read("Subject: Parcel\n\n" + BODY, True, task) == "Subject: Parcel\n\n" + BODY


@pytest.mark.parametrize(
    "tail", ["\n\nHuman: Thanks!", "\n\nqueue: billing\nmessage: More", "<|im_end|>\nuser", "\n\n### Response:"]
)
def test_what_follows_a_text_of_several_lines_ends_it(tail):
    assert read(BODY + tail, False) == BODY
