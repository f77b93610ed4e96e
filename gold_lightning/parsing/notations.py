"""Rewrites other notations of a sample as lines ``name: value``: YAML blocks, tables, CSV, equals signs, tags."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Sequence

__all__ = ["as_lines", "name_pattern"]

_RULE = re.compile(r"^(?=[^\n]*\|)(?=[^\n]*-)[ \t:|-]+$", re.MULTILINE)  # between the head of a table and its rows
_MARKS = " \t\r\n*_`\"'“”"
_SIGN = r"(?:[-=]>|[→=;|]|[-–—](?=[ \t]))"


def name_pattern(names: Sequence[str]) -> str:
    """Returns a pattern that matches any of the names, with spaces or hyphens in place of underscores.

    A space may also stand before the number of a name: ``Sentence 1`` for ``sentence1``.
    """
    return _name_pattern(tuple(names))


@functools.lru_cache(maxsize=256)
def _name_pattern(names: tuple[str, ...]) -> str:
    longest_first = sorted(names, key=len, reverse=True)
    return "|".join(r"[_ -]".join(map(_word_pattern, name.split("_"))) for name in longest_first) or r"(?!)"


def _word_pattern(word: str) -> str:
    return r"[_ -]?".join(map(re.escape, re.split(r"(?<=[^\W\d])(?=\d)", word)))


def as_lines(text: str, names: Sequence[str], opened: str = "", prompt: str = "") -> str:
    """Replaces other notations of a sample in a reply by lines ``name: value``. Other replies stay unchanged.

    Args:
        text: The reply.
        names: Names of all lines.
        opened: The name whose value the reply continues; "" if the reply starts a new sample.
        prompt: The prompt. Signs that follow a name in it are regular text of the task.
    """
    if not names:
        return text
    known = name_pattern(names)
    if opened:
        text = re.sub(r"\A[ \t]*+(?=[|>][+-]?\d?[ \t]*\n)", f"{opened}: ", text)
    if re.search(known, text, re.IGNORECASE) is None:
        return text
    text = _without_tags(text, known)
    text = _without_blocks(text, known)
    text = _without_table(text, known)
    text = _without_csv(text, known)
    text = _without_stops(text, known)
    return _without_signs(text, known, prompt)


def _without_tags(text: str, known: str) -> str:
    """Replaces tags named after fields by lines: ``<message>..</message>``, ``[message]..[/message]``."""

    def line(match: re.Match[str]) -> str:
        value = " ".join(part.strip() for part in match[2].split("\n") if part.strip())
        return f"{match[1]}: {value}\n" if value else match[0]

    bracketed = rf"\s*+[\[(]({known})[\])][ \t]*(?=\S)(.*?)(?:\[/(?:{known})\]|\n|\Z)"
    if match := re.match(bracketed, text, re.IGNORECASE | re.DOTALL):
        return line(match) + text[match.end() :]
    begin = re.search(rf"^[ \t]*(?:<[\w.-]+>\s*)?(?=<(?:{known})>)", text, re.IGNORECASE | re.MULTILINE)
    if begin is None:
        return text
    tag = rf"<({known})>(.*?)(?:</(?:{known})[ \t]*>|\Z)\s*(?:</[\w.-]+>)?\s*"
    return text[: begin.start()] + re.sub(tag, line, text[begin.end() :], flags=re.IGNORECASE | re.DOTALL)


def _without_blocks(text: str, known: str) -> str:
    """Joins each YAML block, ``message: |`` with lines below, into one line."""
    begin = rf"^(?P<begin>[ \t]{{0,8}}(?:- )?[\"']?(?:{known})[\"']?: {{0,4}})[|>][+-]?\d?[ \t]{{0,4}}\n"
    inside = r"(?P<inside>(?:[ \t][^\n]*+(?:\n|\Z)|\n)++)"

    def line(match: re.Match[str]) -> str:
        inside = " ".join(part.strip() for part in match["inside"].split("\n") if part.strip())
        return f"{match['begin']}{inside}\n" if inside else match[0]

    return re.sub(begin + inside, line, text, flags=re.IGNORECASE | re.MULTILINE)


def _named(cells: Sequence[str], known: str) -> list[str]:
    """Returns the names in the head of a table; empty if any cell is not a name."""
    names = [cell.strip(_MARKS) for cell in cells]
    return names if names and all(re.fullmatch(known, cell, re.IGNORECASE) for cell in names) else []


def _cells(row: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def _without_table(text: str, known: str) -> str:
    """Takes the first row of a Markdown table with field names as columns, or all of its rows ``| name | value |``."""
    rule = _RULE.search(text)
    if rule is None:
        return text
    before, _, head = text[: rule.start()].rstrip("\n").rpartition("\n")
    rows = text[rule.end() :].lstrip("\n").split("\n\n", 1)[0].split("\n")
    names = _named(_cells(head), known)
    if names:
        pairs = list(zip(names, _cells(rows[0]), strict=False))
    else:
        table = [_cells(row) for row in rows]
        pairs = [(cells[0].strip(_MARKS), cells[1]) for cells in table if len(cells) == 2 and _named(cells[:1], known)]
    return _joined(before, pairs) if pairs and all(value for _, value in pairs) else text


def _without_csv(text: str, known: str) -> str:
    """Takes the first row of values below a line of names: ``queue,message`` and ``billing,"My lamp .."``."""
    name = rf"[*`\"]{{0,2}}(?:{known})[*`\"]{{0,2}}"
    gap = "[ \t]{0,4}"
    form = rf"^{gap}{name}(?:{gap}([,;\t|]){gap}{name}(?:{gap}\1{gap}{name})*+)?{gap}\n+"
    head = re.search(form, text, re.IGNORECASE | re.MULTILINE)
    if head is None or (head[1] is None and text[: head.start()].strip(" \t\r\n`")):
        return text
    row = text[head.end() :].split("\n", 1)[0].strip()
    if head[1] is None:
        return _joined("", [(head[0].strip(_MARKS), row)]) if row else text
    names = _named(head[0].split(head[1]), known)
    cells = next(csv.reader([row], delimiter=head[1], skipinitialspace=True), [])
    if len(cells) > len(names):  # an unquoted text that contains the delimiter
        cells = [*cells[: len(names) - 1], row.split(head[1], len(names) - 1)[-1]]
    if not names or len(cells) < len(names):
        return text
    return _joined(text[: head.start()].rstrip(), list(zip(names, cells, strict=True)))


def _joined(before: str, pairs: Sequence[tuple[str, str]]) -> str:
    lines = "\n".join(f"{name}: {value.strip()}" for name, value in pairs)
    return f"{before}\n\n{lines}\n\n" if before.strip() else lines


def _without_signs(text: str, known: str, prompt: str) -> str:
    """Replaces ``name = value`` and ``name - value`` by lines ``name: value``.

    A sentence can start with a field's name and a dash. So a name must be spelled as in the task, be emphasized or
    quoted, or be followed by an equals sign; and it must start the reply or a paragraph.
    """
    if re.search(rf"(?:^|: *)(?:{known})[ \t]*{_SIGN}", prompt, re.MULTILINE | re.IGNORECASE):
        return text
    plain = rf"(?:{known})[ \t]{{0,4}}{_SIGN}|(?i:{known})[ \t]{{0,4}}=>?"
    marks = rf"(?P<mark>\*\*|[*`\"])(?:new |sample |final )?(?:{known})(?P=mark)"
    marked = rf"(?i:{marks})[ \t]{{0,4}}(?:{_SIGN}|(?=[ \t]+[A-Z\"“¿¡*]))"
    form = re.compile(rf"^[ \t]{{0,8}}(?:{plain}|{marked})[ \t]{{0,4}}(?=\S)", re.MULTILINE)
    at = next((m.start() for m in form.finditer(text) if _begins_paragraph(text, m.start())), -1)
    if at < 0:
        return text
    line = rf"^[ \t]*(?:\*\*|[*`\"])?((?i:{known}))(?:\*\*|[*`\"])?[ \t]*(?:{_SIGN}|(?<=[*`\"])[ \t])[ \t]*(?=\S)"
    return text[:at] + re.sub(line, r"\1: ", text[at:], flags=re.MULTILINE)


def _without_stops(text: str, known: str) -> str:
    """Replaces ``Name 1. ..`` and ``Name 2. ..`` on lines of their own by lines ``name: value``."""
    form = re.compile(rf"^[ \t*_#>]{{0,6}}({known})[*_]{{0,3}}\.[*_]{{0,3}}[ \t]+(?=\S)", re.IGNORECASE | re.MULTILINE)
    lines = list(form.finditer(text))
    if len(lines) < 2 or len({line[1].casefold() for line in lines}) < len(lines) or text[: lines[0].start()].strip():
        return text
    return form.sub(r"\1: ", text)


def _begins_paragraph(text: str, at: int) -> bool:
    """Returns whether a line starts the reply, or follows an empty line or a line that introduces it."""
    before = text[max(0, at - 80) : at]
    above = before.rstrip()
    return not above or before[len(above) :].count("\n") > 1 or above.endswith((".", ":", "!", "```"))
