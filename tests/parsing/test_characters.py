"""Harmless characters are removed; damage is reported."""

import pytest
from gold_lightning.parsing import clean_characters


def test_harmless_characters_are_removed():
    for text in (
        "\ufeffabc",
        "abc\u200b",
        "\u200b\u2060abc",
        "\x1b[31mabc\x1b[0m",
        "\x1b]0;title\x07abc",
        "a\ufeffbc",
        "\x1b(Babc",
    ):
        assert clean_characters(text) == ("abc", False)
    for unchanged in ("a\tb", "a\nb", "\u0e01\u200b\u0e02", "\U0001f469\u200d\U0001f467", "a\u00adb", " a "):
        assert clean_characters(unchanged) == (unchanged, False)
    assert clean_characters("a\x0bb\x1fc\x85d") == ("a b c d", False)


@pytest.mark.parametrize(
    "lost", ["\ufffd", "\ud83d", "\x00", "\x07", "\x92", "\x7f", "\uffff", "<unk>", "[UNK]", "<0x0A>", "\x1b"]
)
def test_damage_is_reported(lost):
    assert clean_characters(f"caf{lost} au lait")[1]
