# ruff: noqa: E501
"""Marks around a value are removed; texts that resemble framing stay."""

import pytest
from gold_lightning.parsing.framing import bare_value

from tests.parsing.replies import read


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("\u201cYes.\u201d", "Yes."), ("\u00abYes.\u00bb", "Yes."), ("\u300cYes.\u300d", "Yes."), ("\u201eYes.\u201c", "Yes."), ("\u2018I can\u2019t go.\u2019", "I can\u2019t go."),
        ("'I can't go.'", "I can't go."), ("**Yes.**", "Yes."), ("*Yes.*", "Yes."), ("`Yes.`", "Yes."), ("<message>Yes.</message>", "Yes."),
        ("```Yes.```", "Yes."), ("**\u201cYes.\u201d**", "Yes."), ("\u201cHe said \u201cno\u201d.\u201d", "He said \u201cno\u201d."),
        ("\u201cYes\u201d or \u201cno\u201d", None), ("\u201cYes, she said", None), ("'Yes' or 'no'", None), ("**Yes** or **no**", None), ("* 3 *", None),
        ("`a` and `b`", None), ("\u300a\u7ea2\u697c\u68a6\u300b", None), ("'90s music", None), ("(Yes.)", None), ("x * y", None), ("''", None),
    ],
)  # fmt: skip
def test_marks_around_the_whole_of_a_value(value, wanted):
    assert bare_value(value, "message") == (value if wanted is None else wanted)


def test_marks_that_demos_have_too_stay():
    assert bare_value("\u201cYes.\u201d", "message", ["\u201cNo.\u201d"]) == "\u201cYes.\u201d"


@pytest.mark.parametrize(
    "text",
    [
        "Here is the problem: I was charged twice for one lamp.",
        "Okay. So my parcel is late again and nobody tells me why.",
        "Sure, but who pays for the broken lamp that you sent?",
        "Hello: my card was charged twice, please pay one back.",
        "1 lamp is missing from the order 8831 of last week.",
        "2.5 metres of cable were ordered, and 2 came.",
        "- 20 euros is what my account says now.",
        "{AB12} is my code and it does not work.",
        "[URGENT] My parcel with medicine has not come yet.",
        "(sorry for the typos) my parcel has not come yet.",
        "Note: the parcel was open when it came to me.",
        "*sigh* my parcel is late again, and nobody cares.",
        "Message to your boss: I want my money back now.",
        "This is what I paid: 20 euros; this is what I got: nothing.",
        "Let me know if you need my order number for the refund.",
        "I hope this helps you to find my parcel soon.",
        'The box said: "Fragile", and yet you threw it.',
        "<3 the new lamp, but the bill is wrong by ten euros.",
        "My order <b>8831</b> is late, says your page.",
        "The code ```x = 1``` on my bill is wrong.",
    ],
)
def test_texts_that_look_like_framing_stay(text):
    for settings in ({}, {"fresh": False}):
        assert read(text, **settings).text == text
        assert read(" " + text, **settings).text.strip() == text
        assert read(f"queue: billing\nmessage: {text}", **settings).text.strip() == text
