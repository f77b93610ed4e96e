"""Parsing of headers and texts in replies."""

from __future__ import annotations

import pytest
from gold_lightning.generators.openai.parse_response import printable, retry_after
from gold_lightning.parsing.blocks import without_beginning

pytest.importorskip("httpx", reason="the extra openai is not installed")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("topic: World\ntext: a", " a"),
        ("  TOPIC : world TEXT:\ta", "\ta"),
        ("**topic:** World\n**text:** a", " a"),
        ("text: a", " a"),
        ("\n\na text: b", "a text: b"),
        ("topic: Sports\ntext: a", "topic: Sports\ntext: a"),
        ('{"text": "a"}', '{"text": "a"}'),
        ('{"text": torn', '{"text": torn'),
        ("", ""),
    ],
)
def test_what_follows_the_beginning(reply, text):
    assert without_beginning(reply, "topic: World\ntext:") == text


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("0", 0.0), ("-1", 0.0), ("nan", None), ("inf", None), ("soon", None), (None, None)],
)
def test_how_long_to_wait(value, seconds):
    assert retry_after(value) == seconds


def test_a_date_that_has_passed_is_no_wait():
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_what_a_server_says_is_cut_and_printable():
    assert printable("a\n\x1b[1mb\t c") == "a ?[1mb c"
    assert len(printable("x" * 1000)) == 200
