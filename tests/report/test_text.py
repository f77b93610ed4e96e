"""Untrusted text on a page."""

from gold_lightning.report.text import cut, visible


def test_what_can_be_seen_stays():
    assert visible("one\ntwo\tthree") == "one\ntwo\\tthree"
    seen = "日本語 🙂 <b> naïve Việt שָׁלוֹם"
    assert visible(seen) == seen == visible(visible(seen))
    assert visible("a" + "\u0301" * 6) == "a" + "\u0301" * 4 + r"\u0301\u0301"
    assert cut("one\ntwo", 20) == r"one\ntwo" and cut("x" * 30, 10) == "x" * 9 + "…"
