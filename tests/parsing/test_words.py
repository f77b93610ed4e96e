"""Words in all scripts."""

import random
import re
import unicodedata

import pytest
from gold_lightning.parsing.words import count_words, runs, segments, within_word, words


def test_ascii_is_runs_of_letters_digits_and_underscores():
    rng = random.Random(0)
    for _ in range(2000):
        text = "".join(chr(rng.randrange(128)) for _ in range(rng.randrange(40)))
        assert words(text) == re.findall(r"\w+", text.casefold())
        assert runs(words(text), 3) == list(zip(*(words(text)[i:] for i in range(3)), strict=False))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("?! ...", []),
        ("Stra\u00dfe", ["strasse"]),
        ("na\u00efve\u2014caf\u00e9\u2026 \u201cend\u201d", ["na\u00efve", "caf\u00e9", "end"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940, \u092e", ["\u0939\u093f\u0928\u094d\u0926\u0940", "\u092e"]),
        ("\u09ac\u09be\u0982\u09b2\u09be", ["\u09ac\u09be\u0982\u09b2\u09be"]),
        ("\u0ba4\u0bae\u0bbf\u0bb4\u0bcd", ["\u0ba4\u0bae\u0bbf\u0bb4\u0bcd"]),
        ("\u4e2d\u6587\uff0cGPT-4\u5f88\u597d\u3002", ["\u4e2d", "\u6587", "gpt", "4", "\u5f88", "\u597d"]),
        ("\u30e9\u30fc\u30e1\u30f3", ["\u30e9", "\u30fc", "\u30e1", "\u30f3"]),
        ("\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48", ["\u0e17\u0e35\u0e48", "\u0e19\u0e35\u0e48"]),  # with marks
        ("\u1019\u103c\u1014\u103a\u1019\u102c", ["\u1019\u103c", "\u1014\u103a", "\u1019\u102c"]),
        ("\u1781\u17d2\u1798\u17c2\u179a", ["\u1781\u17d2", "\u1798\u17c2", "\u179a"]),
        ("\ud55c\uad6d\uc5b4 \ubb38\uc7a5", ["\ud55c\uad6d\uc5b4", "\ubb38\uc7a5"]),  # Korean has spaces
        ("\u0f56\u0f7c\u0f51\u0f0b\u0f66\u0f90\u0f51", ["\u0f56\u0f7c\u0f51", "\u0f66\u0f90\u0f51"]),
        ("\u1369\u137b", ["\u1369\u137b"]),  # numerals that are no decimal digits
        ("\u2764\ufe0f \U0001f469\u200d\U0001f680 \u0301", []),  # signs and marks alone
        ("\ud800 a", ["a"]),
    ],
)  # fmt: skip
def test_words_of_a_script(text, wanted):
    assert words(text) == [unicodedata.normalize("NFKC", w) for w in wanted]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("\uff21\uff22\uff23 \uff11", "abc 1"),  # full width
        ("\uff76\uff9e\uff77\uff9e", "\u30ac\u30ae"),  # half width with its own mark
        ("\u1112\u1161\u11ab", "\ud55c"),  # jamo
        ("\u0e19\u0e49\u0e33", "\u0e19\u0e49\u0e4d\u0e32"),  # Thai sara am, whole and in two
        ("\u0643\u062a\u0640\u0640\u0627\u0628", "\u0643\u062a\u0627\u0628"),  # Arabic, stretched
        ("\u0643\u0650\u062a\u064e\u0627\u0628", "\u0643\u062a\u0627\u0628"),  # with vowel signs
        ("\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\u05e9\u05dc\u05d5\u05dd"),  # Hebrew, pointed
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"),
        ("co\u00adoperate", "cooperate"),
        ("\u03bf\u03b4\u03cc\u03c2", "\u039f\u0394\u038c\u03a3"),  # final sigma
        ("\ufb01sh", "FISH"),
    ],
)  # fmt: skip
def test_ways_to_write_the_same_word(one, other):
    assert words(one) == words(other) != []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u0915\u0932", "\u0915\u0932\u093e"),  # Hindi vowel signs are letters of the word
        ("\u0e01\u0e32", "\u0e01\u0e49\u0e32"),  # Thai tones too
        ("caf\u00e9", "cafe"),
        ("\u304b", "\u304c"),
        ("\u0438", "\u0439"),
    ],
)
def test_other_words_stay_other_words(one, other):
    assert words(one) != words(other)


def test_counts_and_runs_take_two_characters_for_a_word():
    assert count_words([]) == 0 and count_words(["a", "b"]) == 2
    assert count_words(["\u597d"]) == 1 and count_words(["\u597d", "\u7684", "ok"]) == 2
    text_words = ["a", "\u597d", "\u7684", "b", "c"]
    assert runs(text_words, 2) == [
        ("a", "\u597d", "\u7684"),
        ("\u597d", "\u7684", "b"),
        ("\u7684", "b", "c"),
        ("b", "c"),
    ]
    assert runs(["\u597d"], 1) == [] and runs([], 1) == []
    rng = random.Random(0)
    for _ in range(300):
        text_words = [rng.choice(["a", "bc", "\u597d", "\u7684"]) for _ in range(rng.randrange(30))]
        size = rng.randrange(1, 6)
        expected = []
        for start in range(len(text_words)):
            ends = (
                e
                for e in range(start + 1, len(text_words) + 1)
                if sum(2 - (w > "z") for w in text_words[start:e]) >= 2 * size
            )
            end = next(ends, None)
            if end is not None:
                expected.append(tuple(text_words[start:end]))
        assert runs(text_words, size) == expected


def test_segments_keep_case_and_form():
    assert segments("Caf\u00e9, \uff21\u5317\u4eac") == ["Caf\u00e9", "\uff21", "\u5317", "\u4eac"]


def test_positions_within_words():
    text = "ab \u5317\u4eac\u0301x"
    assert [i for i in range(len(text) + 1) if within_word(text, i)] == [1, 5]
