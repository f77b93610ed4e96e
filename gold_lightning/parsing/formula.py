"""Parses arithmetic and linear programmes from text written by a model. Nothing is evaluated as code.

Both share one grammar: numbers, names, ``+ - * /``, parentheses and unary minus. Values are exact fractions, and length
and nesting are bounded, so parsing is fast and neither overflows nor rounds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

__all__ = [
    "Equation",
    "FormulaError",
    "LinearProgramme",
    "numbers_in",
    "parse_equation",
    "parse_programme",
    "same_programme",
]

MAX_EQUATION = 300
"""Maximum length of an equation, in characters."""
MAX_PROGRAMME = 4000
"""Maximum length of a linear programme, in characters."""
MAX_DEPTH = 50
"""Maximum nesting depth of parentheses."""

# Minus signs and dashes, multiplication signs, division signs; from all of Unicode, not only its maths blocks.
_SIGNS = str.maketrans(
    dict.fromkeys("\u2212\u2010\u2011\u2013\ufe63\uff0d", "-")
    | dict.fromkeys("\u00d7\u00b7\u22c5\u2219\u2217\u2715", "*")
    | dict.fromkeys("\u00f7\u2215\u2044", "/")
)
# Commas and non-breaking spaces group thousands; a plain space separates two numbers.
_NUMBER = (
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]{1,3}(?:[\u00a0\u2009\u202f][0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
    r"|\.[0-9]+"
)
_AT_MOST = r"<=|=<|[\u2264\u2a7d\u2266<]|at\s+most\b"
_AT_LEAST = r">=|=>|[\u2265\u2a7e\u2267>]|at\s+least\b"
_TOKEN = re.compile(
    rf"(?P<space>\s*)(?:(?P<number>{_NUMBER})|(?P<le>{_AT_MOST})|(?P<ge>{_AT_LEAST})|(?P<eq>==?)"
    rf"|(?P<name>[^\W\d_]\w*)|(?P<symbol>[-+*/(),;]))",
    re.IGNORECASE,
)
_GROUPING = re.compile(r"[,\u00a0\u2009\u202f]")


class FormulaError(Exception):
    """Raised if a text is not a valid formula.

    Args:
        reason: ``unparsable``: the text violates the grammar, or is too long or too deep; ``not_finite``: it divides by
            zero; ``undeclared``: it uses a name that was not declared; ``not_linear``: it multiplies or divides by a
            variable.
    """

    def __init__(self, reason: Literal["unparsable", "not_finite", "undeclared", "not_linear"]) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Equation:
    """An arithmetic expression.

    Args:
        value: Value of the expression.
        numbers: Numbers in the expression, without their signs, in order.
    """

    value: Fraction
    numbers: tuple[Fraction, ...]


@dataclass(frozen=True)
class LinearProgramme:
    """A linear programme in canonical form: each constraint is a row ``a x <= b``.

    Args:
        variables: Name and description of each variable, in order of declaration.
        maximize: Whether the objective is maximized; otherwise it is minimized.
        objective: Coefficient of each variable, then the constant.
        rows: Coefficients of each variable, then the bound. An equation gives two rows.
    """

    variables: tuple[tuple[str, str], ...]
    maximize: bool
    objective: tuple[Fraction, ...]
    rows: tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class _Token:
    kind: str  # "number", "name", "le", "ge", "eq", one of + - * / ( ) , ; and "" at the end
    text: str
    apart: bool  # whether a space separates it from the token before

    @property
    def value(self) -> Fraction:
        return _number(self.text)


def _number(text: str) -> Fraction:
    return Fraction(_GROUPING.sub("", text))


def _tokens(text: str) -> list[_Token]:
    text = text.translate(_SIGNS).rstrip()
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FormulaError("unparsable")
        kind = match.lastgroup or ""
        tokens.append(_Token(match[kind] if kind == "symbol" else kind, match[kind], bool(match["space"])))
        at = match.end()
    return [*tokens, _Token("", "", True)]


_Linear = dict[str, Fraction]  # coefficient by variable name; the key "" holds the constant


def _sum(first: _Linear, second: _Linear, times: int = 1) -> _Linear:
    names = [*first, *(n for n in second if n not in first)]
    total = {n: first.get(n, Fraction(0)) + times * second.get(n, Fraction(0)) for n in names}
    return {n: c for n, c in total.items() if c}


def _scaled(form: _Linear, by: Fraction) -> _Linear:
    return {n: c * by for n, c in form.items()} if by else {}


def _constant(form: _Linear) -> Fraction:
    if any(form.keys() - {""}):
        raise FormulaError("not_linear")
    return form.get("", Fraction(0))


class _Parser:
    """Recursive-descent parser of linear expressions. Plain arithmetic is a linear expression without variables."""

    def __init__(self, text: str, names: Mapping[str, str]) -> None:
        self.tokens, self.at, self.depth = _tokens(text), 0, 0
        self.names = names

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def expression(self) -> _Linear:
        total = self.term()
        while self.next.kind in ("+", "-"):
            times = 1 if self.take().kind == "+" else -1
            total = _sum(total, self.term(), times)
        return total

    def term(self) -> _Linear:
        total = self.factor()
        while self.next.kind in ("*", "/"):
            if self.take().kind == "/":
                by = _constant(self.factor())
                if not by:
                    raise FormulaError("not_finite")
                total = _scaled(total, 1 / by)
                continue
            other = self.factor()
            total = _scaled(other, _constant(total)) if other.keys() - {""} else _scaled(total, _constant(other))
        return total

    def factor(self) -> _Linear:
        sign = Fraction(1)
        while self.next.kind == "-":
            self.take()
            sign = -sign
        token = self.take()
        if token.kind == "number":
            form = {"": token.value}
            if self.next.kind == "name" and not self.next.apart:  # 2x is one factor: 6 / 2x divides by a variable
                form = _scaled(self.variable(self.take()), token.value)
        elif token.kind == "name":
            form = self.variable(token)
        elif token.kind == "(":
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise FormulaError("unparsable")
            form = self.expression()
            self.depth -= 1
            if self.take().kind != ")":
                raise FormulaError("unparsable")
        else:
            raise FormulaError("unparsable")
        return _scaled(form, sign)

    def variable(self, token: _Token) -> _Linear:
        if not self.names:  # arithmetic has no names
            raise FormulaError("unparsable")
        if token.text not in self.names:
            raise FormulaError("undeclared")
        return {token.text: Fraction(1)}

    def constraints(self) -> Iterator[_Linear]:
        """Yields each constraint as a form that is at most 0. Commas, semicolons or spaces separate constraints."""
        while self.next.kind:
            left, chained = self.expression(), False
            while self.next.kind in ("le", "ge", "eq"):
                kind, right = self.take().kind, self.expression()
                if kind in ("le", "eq"):
                    yield _sum(left, right, -1)
                if kind in ("ge", "eq"):
                    yield _sum(right, left, -1)
                left, chained = right, True
            if not chained:
                raise FormulaError("unparsable")
            if self.next.kind in (",", ";"):
                self.take()
            elif not self.next.apart:
                raise FormulaError("unparsable")


def parse_equation(text: str) -> Equation:
    """Parses an expression of numbers: ``( 8.0 - 7.0 )``, ``1,200 / 3``, ``5 - -3``.

    Raises:
        FormulaError: ``unparsable`` or ``not_finite``.
    """
    if len(text) > MAX_EQUATION:
        raise FormulaError("unparsable")
    parser = _Parser(text, {})
    value = _constant(parser.expression())
    if parser.next.kind:
        raise FormulaError("unparsable")
    return Equation(value, tuple(t.value for t in parser.tokens if t.kind == "number"))


_HEADINGS = re.compile(
    r"\s*variables?\s*:(?P<variables>.*?)\bobjective(?:\s+function)?\s*:\s*"
    r"(?P<direction>max|min)(?:imi[sz]e)?\b\s*:?(?P<objective>.*?)"
    r"\b(?:constraints?|subject\s+to)\s*:(?P<constraints>.*)",
    re.IGNORECASE | re.DOTALL,
)
_NAME = re.compile(r"(?<!\w)([^\W\d_]\w*)\s*:")


def parse_programme(text: str) -> LinearProgramme:
    """Parses a linear programme, with or without line breaks.

    Expected form::

        Variables:
         x: chairs, y: tables
        Objective Function:
        maximize
        20.00 * x + 45.00 * y
        Constraints:
        1.00 * x + 3.00 * y ≤ 120.00
        1.00 * y ≥ 0.25 * (1.00 * x + 1.00 * y)

    ``<`` and ``>`` count as ``≤`` and ``≥``, as in NL4OPT. ``at most`` and ``at least`` replace them for tokenizers
    without these signs. ``2x`` means ``2 * x``. Without line breaks a constraint ends where no operator follows, so a
    constraint that starts with a minus sign needs a line break, comma or semicolon before it.

    Raises:
        FormulaError: ``unparsable``, ``not_finite``, ``undeclared`` or ``not_linear``.
    """
    if len(text) > MAX_PROGRAMME:
        raise FormulaError("unparsable")
    parts = _HEADINGS.fullmatch(text)
    if parts is None:
        raise FormulaError("unparsable")
    variables = _declarations(parts["variables"])
    names = dict(variables)

    def vector(form: _Linear, constant: int) -> tuple[Fraction, ...]:
        return (*(form.get(n, Fraction(0)) for n in names), constant * form.get("", Fraction(0)))

    parser = _Parser(parts["objective"], names)
    objective = parser.expression()
    if parser.next.kind or not objective.keys() - {""}:
        raise FormulaError("unparsable")
    rows = [
        vector(form, -1)
        for line in parts["constraints"].splitlines()
        if line.strip()
        for form in _Parser(line, names).constraints()
    ]
    if not rows:
        raise FormulaError("unparsable")
    return LinearProgramme(variables, parts["direction"].lower() == "max", vector(objective, 1), tuple(rows))


def _declarations(text: str) -> tuple[tuple[str, str], ...]:
    names = list(_NAME.finditer(text))
    if not names or text[: names[0].start()].strip():
        raise FormulaError("unparsable")
    ends = [*(m.start() for m in names[1:]), len(text)]
    declarations = tuple((m[1], text[m.end() : end].strip(" ,;\t\r\n")) for m, end in zip(names, ends, strict=True))
    if len(dict(declarations)) < len(declarations) or not all(
        re.search(r"\w", description) for _, description in declarations
    ):
        raise FormulaError("unparsable")
    return declarations


def same_programme(first: LinearProgramme, second: LinearProgramme) -> bool:
    """Returns whether two programmes are equal up to the order of their constraints and declarations.

    Constraints may differ by a positive factor; objectives may not, because that changes the optimal value. Variables
    are matched by description, ignoring case, punctuation and a plural s; the rest are paired in order of declaration.
    Numbers are compared exactly.
    """
    if first.maximize != second.maximize or len(first.variables) != len(second.variables):
        return False
    order = [*_pairing(first.variables, second.variables), len(first.variables)]

    def arranged(vector: Sequence[Fraction]) -> tuple[Fraction, ...]:
        return tuple(vector[i] for i in order)

    rows = Counter(_unit(row) for row in first.rows)
    return first.objective == arranged(second.objective) and rows == Counter(_unit(arranged(r)) for r in second.rows)


def _pairing(first: Sequence[tuple[str, str]], second: Sequence[tuple[str, str]]) -> list[int]:
    """Returns the position in the second programme of each variable of the first."""
    descriptions, other = ([_description(d) for _, d in variables] for variables in (first, second))
    free = list(range(len(other)))
    matches: list[int | None] = []
    for description in descriptions:
        match = next((i for i in free if other[i] == description), None)
        matches.append(match)
        if match is not None:
            free.remove(match)
    rest = iter(free)
    return [next(rest) if i is None else i for i in matches]


def _description(text: str) -> tuple[str, ...]:
    return tuple(w.removesuffix("s") for w in re.findall(r"\w+", text.casefold()))


def _unit(row: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Divides a row by the absolute value of its first nonzero entry."""
    size = next((abs(c) for c in row if c), Fraction(1))
    return tuple(c / size for c in row)


# Numbers in prose

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_LARGEST = 10**30
_SINGLE = {
    "dozen": ("12",), "dozens": ("12",), "half": ("1/2", "2"), "halves": ("1/2", "2"), "twice": ("2",),
    "double": ("2",), "pair": ("2",), "pairs": ("2",), "couple": ("2",), "thrice": ("3",), "triple": ("3",),
    "third": ("1/3", "3"), "thirds": ("1/3", "3"), "quarter": ("1/4", "4"), "quarters": ("1/4", "4"),
}  # fmt: skip
_PROSE = re.compile(rf"(?P<number>{_NUMBER})|(?P<word>[a-z]+)|(?P<percent>%)|(?P<other>[^\s\-a-z])")


def numbers_in(text: str) -> set[Fraction]:
    """Returns the numbers in an English text, as digits (``1,250``, ``7.5``) or as words (``twenty-five``).

    ``50 %`` yields 50 and 1/2; ``half`` yields 1/2 and 2; ``3 thousand`` yields 3 and 3000.
    """
    numbers: set[Fraction] = set()
    total = part = 0  # of the number words so far: "two hundred thousand (total) forty (part)"
    last = ""  # kind of the previous number word, "" outside a number
    digits: Fraction | None = None  # the previous token, if a number in digits

    def end() -> None:
        nonlocal total, part, last
        if last:
            numbers.add(Fraction(total + part))
        total, part, last = 0, 0, ""

    for match in _PROSE.finditer(text.casefold().translate(_SIGNS)):
        token, multiplier, digits = match[0], digits, None
        if match["number"]:
            end()
            if len(token) <= MAX_EQUATION:  # no equation has longer ones, and Python parses at most 4,300 digits
                digits = _number(token)
                numbers.add(digits)
        elif match["percent"] or token in ("percent", "per"):
            end()
            if multiplier is not None:
                numbers.add(multiplier / 100)
        elif token in _UNITS:
            value = _UNITS.index(token)
            if last not in ("", "hundred", "scale") and not (last == "tens" and 0 < value < 10):
                end()
            part, last = part + value, "units"
        elif token in _TENS:
            if last not in ("", "hundred", "scale"):
                end()
            part, last = part + 10 * (_TENS.index(token) + 2), "tens"
        elif token == "hundred" or token in _SCALES:
            if part > _LARGEST:  # "hundred hundred hundred ..." is not a number
                end()
            size = _SCALES.get(token, 100)
            if multiplier is not None:
                numbers.add(multiplier * size)
            elif token == "hundred":
                part, last = max(part, 1) * size, "hundred"
            else:
                total, part, last = total + max(part, 1) * size, 0, "scale"
        elif token == "and" and last in ("hundred", "scale"):
            continue
        else:
            end()
            numbers.update(Fraction(v) for v in _SINGLE.get(token, ()))
    end()
    return numbers
