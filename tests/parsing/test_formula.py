"""Arithmetic and linear programmes against values worked out apart, and against hostile text."""

import random
import re
import time
from fractions import Fraction

import pytest
from gold_lightning.parsing.formula import (
    MAX_DEPTH,
    MAX_EQUATION,
    MAX_PROGRAMME,
    FormulaError,
    LinearProgramme,
    numbers_in,
    parse_equation,
    parse_programme,
    same_programme,
)

F = Fraction


def reason(parse, text):
    try:
        parse(text)
    except FormulaError as e:
        return e.reason
    return ""


# Arithmetic

VALUES = {
    "( 8.0 - 7.0 )": F(1), "7": F(7), " 7 ": F(7), "007": F(7), ".5": F(1, 2), "0.10": F(1, 10), "-3": F(-3),
    "5 - -3": F(8), "5--3": F(8), "5 - - -3": F(2), "-(2 + 3)": F(-5), "--2": F(2), "2 * -3": F(-6),
    "2 + 3 * 4": F(14), "(2 + 3) * 4": F(20), "2 - 3 - 4": F(-5), "24 / 4 / 2": F(3), "24 / (4 / 2)": F(12),
    "24 / 4 * 2": F(12), "1 / 3": F(1, 3), "0 / 5": F(0), "((((1))))": F(1), "1\n+\t2": F(3),
    "1,250 + 1": F(1251), "1,250.50": F(2501, 2), "12,345,678": F(12345678), "1\u202f250": F(1250),
    "1\u2009250\u00a0+\u00a01": F(1251), "10 \u2212 4": F(6), "10 \u2013 4": F(6), "\u22124": F(-4),
    "10 \uff0d 4": F(6),
    "3 \u00d7 4": F(12), "3 \u00b7 4": F(12), "3 \u22c5 4": F(12), "12 \u00f7 4": F(3), "12 \u2215 4": F(3),
    "1\u20442": F(1, 2), "0.1 + 0.2": F(3, 10), "9" * 60 + " - " + "9" * 60: F(0),
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_equations_by_hand(text, value):
    assert parse_equation(text).value == value


BROKEN = [
    "", " ", "abc", "x", "2x", "x - -3", "3 +", "+ 3", "* 3", "3 3", "1 000", "(3", "3)", "()", "( )", "3 ** 2",
    "3 // 2",
    "3 ^ 2", "3 % 2", "5.", "1.2.3", "1,00", "1,0000", "1234,567", ",500", "1,5", "1e9", "1_000", "0x10", "3 = 3",
    "= 3",
    "3 < 4", "3, 4", "3; 4", "$3", "5 apples", "3(4)", "(3)(4)", "[3 + 4]", "\u0663", "\uff13", "\u00b2", "2\u00b2",
    "\u221e", "inf", "nan", "__import__('os')", "3\x00", "\ud800", "3 + \u2026", "at most 3", "1,,000", "\u2014",
    "3 \u2014 1",
]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_equation(text):
    assert reason(parse_equation, text) == "unparsable"


@pytest.mark.parametrize("text", ["1 / 0", "1 / (2 - 2)", "0 / 0", "1 / -0", "3 / 0.0", "1 / (1 / 3 - 1 / 3)"])
def test_division_by_zero_is_not_finite(text):
    assert reason(parse_equation, text) == "not_finite"


def test_numbers_of_an_equation():
    assert parse_equation("( 8.0 - -7 ) / 1,000").numbers == (F(8), F(7), F(1000))


def test_limits_of_equations():
    deep = "(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH
    assert parse_equation(deep).value == 1
    assert reason(parse_equation, f"({deep})") == "unparsable"
    assert parse_equation("1".zfill(MAX_EQUATION)).value == 1
    assert reason(parse_equation, "1".zfill(MAX_EQUATION + 1)) == "unparsable"
    assert parse_equation("-" * (MAX_EQUATION - 1) + "1").value == -1


def tree(rng, depth):
    """A random expression as a text in one of many ways of writing, and its value; None where it divides by 0."""
    if depth == 0 or rng.random() < 0.2:
        whole = rng.choice([0, 0, 0, 1, 2, 3, 7, 12, 999, 1000, 1250, 1234567])
        cents = rng.choice(["", "", ".0", ".50", ".25", ".125"])
        separator = rng.choice(["", ",", "\u202f"])
        return f"{whole:,}".replace(",", separator) + cents, whole + F("0" + cents if cents else 0)
    kind = rng.choice("+-*/n")
    left, a = tree(rng, depth - 1)
    space = rng.choice(["", " ", "  "])
    if kind == "n":
        minus = rng.choice("-\u2212\u2013")
        return f"{minus}{space}({left})", None if a is None else -a
    right, b = tree(rng, depth - 1)
    sign = rng.choice({"+": "+", "-": "-\u2212", "*": "*\u00d7\u00b7", "/": "/\u00f7"}[kind])
    text = f"({space}{left}{space}){space}{sign}{space}({right})"
    if a is None or b is None or (kind == "/" and b == 0):
        return text, None
    return text, {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[kind]()


def flat(rng):
    """Terms without parentheses, so that precedence and the order from left to right decide."""
    text, total, sign = "", F(0), 1
    for i in range(rng.randrange(1, 6)):
        if i:
            sign = rng.choice([1, -1])
            text += " + " if sign == 1 else " - "
        value = F(rng.randrange(20))
        text += str(value)
        for _ in range(rng.randrange(3)):
            times, other = rng.random() < 0.5, rng.randrange(1, 9)
            text += f" {'*' if times else '/'} {'-' if rng.random() < 0.3 else ''}{other}"
            value *= (F(other) if times else F(1, other)) * (-1 if text.endswith(f"-{other}") else 1)
        total += sign * value
    return text, total


def test_random_equations():
    rng, seen = random.Random(0), {"": 0, "not_finite": 0}
    for i in range(3000):
        text, value = flat(rng) if i % 3 == 0 else tree(rng, rng.randrange(4))
        if len(text) > MAX_EQUATION:
            continue
        if value is None:
            assert reason(parse_equation, text) == "not_finite", text
        else:
            assert parse_equation(text).value == value, text
        seen["not_finite" if value is None else ""] += 1
    assert seen[""] > 2000
    assert seen["not_finite"] > 50


PIECES = [
    "(", ")", "-", "--", "+", "*", "/", "**", "//", ",", ";", ".", "1", "0", "9" * 50, "1,000", "0.1", "x", "2x", "<=",
    "\u2264",
    "=", " ", "\n", "\u2212", "Variables:", "x: a", "Objective Function:", "maximize", "min", "Constraints:", "at most",
    "\ud800", "\x00", "\u00a0", "\u0663", "\u00b2", "e", "_", "%", "{}", "\u202e", "\u0130",
]  # fmt: skip


@pytest.mark.slow
def test_hostile_text_is_answered_at_once():
    rng = random.Random(1)
    texts = ["".join(rng.choice(PIECES) for _ in range(rng.randrange(60))) for _ in range(1000)]
    shape = "Variables: x: a, y: b Objective: max {} Constraints: {}"
    texts += [shape.format(a, b) for a, b in zip(texts[:500], texts[500:], strict=True)]
    for piece in [
        "(",
        "((1)",
        "-",
        "1",
        "1,000",
        "1/3+",
        "1/",
        " ",
        "\n",
        "a:",
        "a: b ",
        "a ",
        "variables:",
        "objective: max ",
        "objective:max x constraints:",
        "9",
        ".1",
        "x\u2264",
    ]:
        many = piece * 100_000
        texts += [many, many[:MAX_EQUATION], many[:MAX_PROGRAMME], shape.format("x", many[:3900])]
        texts += [f"Variables: {many[:3900]}", f"Variables: x: a Objective: max {many[:3800]} Constraints: x < 1"]
    primes = [p for p in range(1000, 3000) if all(p % d for d in range(2, 55))]
    texts.append(shape.format("x", "x < " + "+".join(f"1/{p}" for p in primes))[:MAX_PROGRAMME])
    for text in texts:
        begun = time.process_time()
        for parse in (parse_equation, parse_programme):
            assert reason(parse, text) in ("", "unparsable", "not_finite", "undeclared", "not_linear")
        numbers_in(text[:MAX_PROGRAMME])
        assert time.process_time() - begun < 2, text[:80]


# Numbers in prose

PROSE = {
    "She had 12 apples.": {12}, "It cost $1,250.50, or 3.5 more": {F("1250.5"), F("3.5")}, "5,10 and 15": {5, 10, 15},
    "the 25-year-old 4x4": {25, 4}, "He won 3.": {3}, "-7 degrees": {7}, "three dogs": {3}, "Twenty-five dogs": {25},
    "twenty five": {25}, "two, three and four": {2, 3, 4}, "one hundred and five": {105}, "a hundred": {100},
    "two hundred thousand and forty": {200040}, "three million two hundred": {3000200}, "nineteen twenty": {19, 20},
    "three four": {3, 4}, "seventeen hundred": {1700}, "two and a half": {2, F(1, 2)}, "5 thousand": {5, 5000},
    "2.5 million": {F("2.5"), 2500000}, "20 %": {20, F(1, 5)}, "20 percent": {20, F(1, 5)},
    "20 per cent": {20, F(1, 5)},
    "a dozen": {12}, "twice": {2}, "a third": {F(1, 3), 3}, "": set(), "none": set(), "someone often atone": set(),
    "one hundred and": {100}, "zero": {0}, "thirty-zero": {30, 0}, "five\nsix": {5, 6}, "12th": {12},
    "1\u202f000": {1000},
    "8 hundreds": {8}, "fifty five five": {55, 5}, "one thousand one": {1001}, "per 5": {5},
}  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), PROSE.items())
def test_numbers_in_prose(text, wanted):
    extra = {F(2)} if "half" in text else set()
    assert numbers_in(text) == {F(n) for n in wanted} | extra


# Linear programmes

TEXT = """Variables:
 x: oak chairs, y: pine tables
Objective Function:
maximize
20.00 * x + 45.50 * y
Constraints:
1.00 * x + 3.00 * y ≤ 1,200.00
1.00 * x  ≥ 2.00 * y
1.00 * y ≥ 0.25 * (1.00 * x + 1.00 * y)"""


def test_a_programme_by_hand():
    assert parse_programme(TEXT) == LinearProgramme(
        variables=(("x", "oak chairs"), ("y", "pine tables")),
        maximize=True,
        objective=(F(20), F("45.5"), F(0)),
        rows=((F(1), F(3), F(1200)), (F(-1), F(2), F(0)), (F(1, 4), F(-3, 4), F(0))),
    )


def test_a_programme_without_line_breaks_is_the_same():
    assert parse_programme(" ".join(TEXT.split())) == parse_programme(TEXT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("≤", "<="),
        ("≤", "<"),
        ("≤", "at most"),
        ("≥", ">="),
        ("≥", "at least"),
        ("20.00 * x", "20x"),
        ("45.50 * y", "y * 91 / 2"),
        ("maximize", "Maximise:"),
        ("Objective Function", "objective"),
        ("Constraints", "Subject to"),
        (", y:", "\n y :"),
        ("≤ 1,200.00\n", "≤ 1200; "),
        ("≤ 1,200.00\n", "≤ 1200, "),
        ("≥ 2.00 * y", "- 2y ≥ 0"),
    ],
)
def test_ways_of_writing_one_programme(old, new):
    assert old in TEXT
    assert parse_programme(TEXT.replace(old, new)) == parse_programme(TEXT)


def test_equalities_and_chains_are_two_rows():
    rows = parse_programme("Variables: x: a Objective: min x Constraints: 2x = 6\n1 ≤ x ≤ 5\n-x ≤ 2").rows
    assert rows == ((F(2), F(6)), (F(-2), F(-6)), (F(-1), F(-1)), (F(1), F(5)), (F(-1), F(2)))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "unparsable"),
        (TEXT.replace("Variables:", ""), "unparsable"),
        (TEXT.replace("Constraints:", ""), "unparsable"),
        (TEXT.replace("maximize", ""), "unparsable"),
        (TEXT.replace("maximize", "maximum"), "unparsable"),
        (TEXT.replace("20.00 * x + 45.50 * y", ""), "unparsable"),
        (TEXT.replace("20.00 * x + 45.50 * y", "5"), "unparsable"),
        (TEXT.replace("20.00 * x + 45.50 * y", "x - x"), "unparsable"),
        (TEXT.replace("20.00 * x + 45.50 * y", "20 * x, 45 * y"), "unparsable"),
        (TEXT.replace("x: oak chairs, ", ""), "undeclared"),
        (TEXT.replace("x: oak chairs", "x:"), "unparsable"),
        (TEXT.replace("y: pine tables", "x: pine tables"), "unparsable"),
        (TEXT.replace(" x: oak chairs, y: pine tables", ""), "unparsable"),
        (TEXT.replace("≤ 1,200.00", ""), "unparsable"),
        (TEXT.replace("≤ 1,200.00", "≤"), "unparsable"),
        (TEXT.replace("≤ 1,200.00", "≤ 1.200.00"), "unparsable"),
        (TEXT.replace("≤ 1,200.00", "≤ z"), "undeclared"),
        (TEXT.replace("≤ 1,200.00", "≤ 3 / x"), "not_linear"),
        (TEXT.replace("≤ 1,200.00", "≤ 3 * x * y"), "not_linear"),
        (TEXT.replace("≤ 1,200.00", "≤ 3 / 0"), "not_finite"),
        (TEXT.split("1.00")[0], "unparsable"),
        (TEXT + "\nThat is all.", "unparsable"),
        (TEXT + "\nDone", "undeclared"),
        (TEXT.replace("Constraints", "Constraint" + "s" * MAX_PROGRAMME), "unparsable"),
    ],
)
def test_what_is_no_programme(text, wanted):
    assert text != TEXT
    assert reason(parse_programme, text) == wanted


def test_products_with_what_comes_to_a_constant_are_linear():
    text = "Variables: x: a Objective: max (x - x + 2) * x / (3 - x + x) Constraints: x ≤ 1"
    assert parse_programme(text).objective == (F(2, 3), F(0))


def same(first, second):
    return same_programme(parse_programme(first), parse_programme(second))


def test_same_programme_by_hand():
    lines = TEXT.split("\n")
    assert same(TEXT, "\n".join([*lines[:6], *reversed(lines[6:])]))
    assert same(TEXT, TEXT.replace("1.00 * x + 3.00 * y ≤ 1,200.00", "600 ≥ 0.5 * x + 1.5 * y"))
    body = "\n".join(lines[2:])
    renamed = re.sub(r"\b[xy]\b", lambda m: {"x": "y", "y": "x"}[m[0]], body)
    assert same(TEXT, f"{lines[0]}\n x: Pine table; y: oak chair\n{renamed}")
    assert not same(TEXT, f"{lines[0]}\n x: Pine table; y: oak chair\n{body}")
    # Other descriptions: paired in the order of their declaration.
    assert same(TEXT, TEXT.replace("oak chairs", "seats").replace("pine tables", "desks"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("maximize", "minimize"),
        ("20.00", "40.00"),
        ("45.50 * y", "45.50 * y + 1"),
        ("1,200.00", "1,200.01"),
        ("x  ≥ 2.00", "x  ≤ 2.00"),
        ("≤ 1,200.00", "≤ 1,200.00\n1.00 * x ≤ 5.00"),
        ("≤ 1,200.00", "≤ 1,200.00\n1.00 * x + 3.00 * y ≤ 1,200.00"),
        ("\n1.00 * x  ≥ 2.00 * y", ""),
        ("y: pine tables", "y: pine tables, z: stools"),
        ("1.00 * x + 3.00 * y ≤ 1,200.00", "-1.00 * x - 3.00 * y ≤ -1,200.00"),
    ],
)
def test_other_programmes(old, new):
    assert old in TEXT
    assert not same(TEXT, TEXT.replace(old, new))
    assert not same(TEXT.replace(old, new), TEXT)
