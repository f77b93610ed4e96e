"""Text of anybody's on a terminal."""

import doctest
import io
import unicodedata

import pytest
from gold_lightning import console
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len


def test_the_examples_of_the_docstrings_are_right():
    assert doctest.testmod(console).failed == 0


@pytest.mark.parametrize("char", ["\x1b", "\x07", "\r", "\n", "\t", "\x9b", "\u202e", "\u200b", "\u2028", "\ud800"])
def test_what_a_terminal_may_act_on_is_escaped(char):
    assert console.printable(f"a{char}b") == "a" + char.encode("unicode_escape").decode() + "b"


@given(st.text())
def test_nothing_hidden_is_left_and_all_else_is_as_it_was(text):
    shown = console.printable(text)
    assert not [c for c in shown if unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp")]
    assert console.printable(shown) == shown


@example("000🌀\U0002ebe1\xa0", 15)  # white space at the end of a line may go
@given(st.text(), st.integers(2, 20))
def test_no_line_is_too_wide_and_no_word_is_lost(text, size):
    shown = console.printable(text)
    lines = console.wrap(shown, size)
    assert all(cell_len(line) <= size for line in lines)
    assert "".join("".join(lines).split()) == "".join(shown.split())


def test_columns_stand_under_each_other_whatever_their_width():
    lines = console.table([["日本", "1"], ["ab", "200"], ["e\u0301", "3"]], right=[1])
    assert lines == ["日本    1", "ab    200", "e\u0301       3"]


def test_an_output_without_the_characters_gets_them_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console.say("é 日")
    assert raw.getvalue() == b"\\xe9 \\u65e5\n"


@pytest.mark.parametrize(("columns", "width"), [("10", 40), ("80", 80), ("400", 120)])
def test_lines_are_as_wide_as_the_terminal_within_reason(columns, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert console.width() == width == len(console.rule("x"))
