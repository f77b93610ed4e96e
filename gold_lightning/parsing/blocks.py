"""Finds a sample in a reply: lines ``name: value`` in many spellings, or a JSON object, with any text around them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gold_lightning.parsing.framing import (
    after_announcement,
    announces,
    bare_text,
    is_title,
    without_heading,
    without_role,
)
from gold_lightning.parsing.mail import without_mail_headers
from gold_lightning.parsing.notations import as_lines, name_pattern
from gold_lightning.parsing.talk import is_plan, is_talk
from gold_lightning.parsing.task_talk import speaks_of_task
from gold_lightning.parsing.wrappers import as_json, unwrapped, without_prefix

__all__ = ["Found", "find_sample", "head", "heads", "is_object", "member", "without_beginning"]

_COLON = "[:：﹕︰]"
_HAS_COLON = re.compile(_COLON).search
_OPENING, _CLOSING = "[*_`\"'“‘«「\\[]", "[*_`\"'”’»」\\]]"
_MARKER = r"(?:[-*•‣▪+]|\(?\d{1,3}[.)])"
# What models put before a name, and behind it.
_KIND = r"(?:(?:the\s)?(?:new|sample|example|generated|final|customer|user)\s|the\s)?"
_NUMBER = r"(?:\s(?:#?\d{1,2}|text|\([^()\n]{1,40}\)))?"
_MOST_OBJECTS = 20  # braces that are tried as the beginning of an object
_DEPTH = 3  # of mappings and lists around a sample


# Lines that may have a name; texts may be long, and most lines have none.
_NAMED_LINE = re.compile(rf"^(?:[^\n:：﹕︰]*{_COLON}|[ \t]*(?:#|\*\*))[^\n]*$", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """A sample in a reply.

    Args:
        text: The sample, without what stands around it.
        form: ``rest``: it goes on from the answer's beginning. ``block``: it has lines that the beginning has too, and
            stands for itself. ``object``: it is JSON. ``torn``: it is a JSON object that does not parse. ``preamble``:
            there is nothing but an announcement.
        values: Members of the object; empty for other forms.
        ended: Whether something stands behind it, so that it is whole.
    """

    text: str
    form: Literal["rest", "block", "object", "torn", "preamble"] = "rest"
    values: Mapping[str, Any] = field(default_factory=dict)
    ended: bool = False


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name).casefold()


@functools.lru_cache(maxsize=256)
def _forms(names: tuple[str, ...]) -> tuple[dict[str, str], re.Pattern[str], re.Pattern[str]]:
    """Names by what they are compared by, and patterns of a line with a name and of a heading without a colon."""
    known = name_pattern(names)
    before = rf"(?:>\s*)?(?:{_MARKER}\s*)?(?:#{{1,6}}\s*)?{_OPENING}{{0,4}}"
    line = before + rf"{_KIND}({known}){_NUMBER}{_CLOSING}{{0,4}}\s*{_COLON}(?:=(?=\s))?[*_`]{{0,3}}(.*)"
    alone = rf"(?:#{{1,6}}\s*[*_`]{{0,3}}{_KIND}({known})[*_`]{{0,3}}|\*\*{_KIND}({known})\*\*)\s*"
    by_key = {_key(name): name for name in names}
    return by_key, re.compile(line, re.IGNORECASE | re.DOTALL), re.compile(alone, re.IGNORECASE)


def head(line: str, names: Sequence[str]) -> tuple[str, str] | None:
    """Name and rest of a line ``name: value``, in any of the spellings that models have; ``None`` for other lines."""
    line = line.lstrip()
    if not (line.startswith(("#", "**")) or _HAS_COLON(line)):
        return None
    by_key, form, alone = _forms(tuple(names))
    if match := form.fullmatch(line):
        name, rest = match[1], match[2]
        if line[:4].casefold() == "the " and rest.strip() and match.start(1) == 4:
            return None  # a sentence: "The message: do not wait."
        if line[0] in '"“' and rest.rstrip().endswith(('",', "”,")):  # a member of an object that lost its braces
            rest = rest.rstrip()[:-1]
    elif match := alone.fullmatch(line):
        name, rest = match[1] or match[2], ""
    else:
        return None
    # IGNORECASE lets a dotted and a dotless i pass for i; such a name is none of the task's.
    return (by_key[_key(name)], rest) if _key(name) in by_key else None


def heads(text: str, names: Sequence[str]) -> dict[int, str]:
    """Names of all lines that have one, by the place where the line begins."""
    name_by_place: dict[int, str] = {}
    for line in _NAMED_LINE.finditer(text):
        if one := head(line[0], names):
            name_by_place[line.start()] = one[0]
    return name_by_place


def is_object(text: str) -> bool:
    """Whether a text is one JSON object."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def without_beginning(text: str, answer: str) -> str:
    """What follows the answer's beginning in a reply that may repeat it: all its lines, or only the last ones.

    Case, spaces and marks of emphasis between its words do not count.
    """
    if is_object(text):
        return text
    lines = answer.split("\n")
    for at in range(len(lines)):
        forms = [_line_form(line) for line in lines[at:]]
        begin = rf"(?:[\s>]*{_MARKER}(?=\s))?[\s>*`\"“”#]*" + r"[\s*`\"“”#,;|]*".join(forms) + "[*`]*"
        if any(forms) and (match := re.match(begin, text, re.IGNORECASE)):
            return text[match.end() :]
    return text.lstrip()


def _line_form(line: str) -> str:
    """A pattern of a line of the answer, whatever stands between its words."""
    words = re.findall(r"\w+|[^\w\s]", line)
    forms = (
        _COLON + r"(?:=(?=\s))?" if word == ":" else "[_ -]".join(map(re.escape, word.split("_"))) for word in words
    )
    return r"[\s*`\"“”#]*".join(forms)


def find_sample(text: str, names: Sequence[str], answer: str = "", *, fresh: bool = False, prompt: str = "") -> Found:
    """Finds the sample in a reply.

    Args:
        text: The reply, without thinking and special tokens.
        names: Names of all lines.
        answer: How the sample began, in the prompt.
        fresh: The model began anew, so nothing that stands before the lines of the answer's beginning is text. A model
            that went on from the answer may write the next sample there: then only what announces a sample is no text.
        prompt: What the model read. A fence or a list marker that stands there is the task's own.
    """
    names = tuple(names)
    fresh = fresh or not answer
    opened = [*heads(answer, names).values()]
    labels, demos = tuple(_begun_values(answer, names)), _shown_values(prompt, names)
    if not demos or not any(demo.startswith(("{", "[")) for demo in demos):
        text = as_json(text)
        if not is_object(text) or _holding(json.loads(text), names) is None:
            text = unwrapped(text, names, labels, demos=demos)
    text = _unboxed(as_lines(text, names, (opened or [""])[-1], prompt), prompt)

    def named(line: str) -> bool:
        return head(line, names) is not None

    if (inside := without_role(text, prompt, named)) and named(inside.split("\n", 1)[0]):
        text = inside
    placed = heads(text, names)
    first = min(placed, default=len(text))
    if found := _object(text, first, names, fresh):
        return found
    begun = set(opened) or set(names)
    start = next((at for at, name in placed.items() if name in begun), None)
    if start is not None:
        others = set(names) - begun
        whole_before = bool(others) and others <= {name for at, name in placed.items() if at < start}
        if announces(text[:first]) if fresh else not text[:first].strip():
            start, whole_before = first, False
        elif opened and opened[-1] not in {name for at, name in placed.items() if at >= start}:
            whole_before = True  # lines behind a text that was written without its name
        if fresh and _has_text_before(text[:start], text[start:], answer, names, labels):
            whole_before = True
        if not whole_before and (
            fresh or announces(text[:start]) or _begins_anew(text, placed, start, answer, names, prompt)
        ):
            block = _block(text[start:], text[:start])
            if (rest := _behind_label(block.text, answer, names)) is None:
                return block
            text = rest  # the model wrote the label's line and then the text, without its name
    if "```" in prompt:
        return Found(text)
    text = without_mail_headers(text, [demo.replace("\\n", "\n") for demo in demos])

    marked = re.search(rf"^(?:{name_pattern(names)}): *{_MARKER}[ \t]", prompt, re.MULTILINE)
    rest, ended = bare_text(text, named, keep_marker=marked is not None)
    rest = _without_label(rest, answer, names)
    if (alone := without_role(rest, prompt, named)) is None:
        return Found(text, "preamble")
    rest = without_heading(without_prefix(alone, names, labels, demos=demos))
    if "\n" not in text.strip() and is_title(rest):
        return Found(text, "preamble")
    if not rest.strip() and text.strip() and after_announcement(text, named) is not None:
        return Found(text, "preamble")
    return Found(rest, ended=ended)


def _begun_values(answer: str, names: Sequence[str]) -> list[str]:
    """Values in the lines with which a sample began: the label."""
    lines = (head(line, names) for line in answer.split("\n"))
    return [line[1].strip() for line in lines if line and line[1].strip()]


@functools.lru_cache(maxsize=64)
def _shown_values(prompt: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Values in the lines of the prompt that have a name: those of the demos."""
    lines = (head(line, names) for line in prompt.split("\n"))
    return tuple(line[1].strip() for line in lines if line)


def _has_text_before(before: str, block: str, answer: str, names: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether a bare text stands before a block of another label, which is then the next sample."""
    first_line = head(block.split("\n", 1)[0], names)
    if not labels or first_line is None or first_line[0] != next(iter(heads(answer, names).values())):
        return False
    if first_line[1].strip(" *_`\"'.").casefold() == labels[0].casefold() or announces(before):
        return False
    return not (is_plan(before, names) or is_talk(before, names) or speaks_of_task(before, names, labels))


def _begins_anew(
    text: str, placed: Mapping[int, str], start: int, answer: str, names: Sequence[str], prompt: str
) -> bool:
    """Whether a sample begins anew at a line, behind a text that may have gone on from the answer.

    What stands before is a plan, or a paragraph of its own; then all lines from the answer's last one must come again.
    Lines of another label behind a text are the next sample.
    """
    before = text[:start].rstrip()
    planned = is_plan(before, names) or is_talk(before, names)
    one_line = "\\n" not in prompt  # as the task's own texts are
    if not (planned or one_line or re.search(r"\n[ \t]*\n[\s`#*>-]*\Z", text[max(0, start - 80) : start])):
        return False
    opened = heads(answer, names)
    last = [*opened.values()][-1:] or [*names][:1]
    again = [name for at, name in placed.items() if at >= start]
    if not set(names[names.index(last[0]) :]) <= set(again):
        return False
    at = next(at for at, name in placed.items() if at >= start)
    for place, name in opened.items():
        if planned or name != placed[at] or name == last[0]:
            continue
        replied, requested = (head(part.split("\n", 1)[0], names) for part in (text[at:], answer[place:]))
        bare = [one[1].strip(" *_`\"'.").casefold() for one in (replied, requested) if one]
        return bare[0] == bare[-1]
    return True


def _unboxed(text: str, prompt: str) -> str:
    """What stands in LaTeX's box, in which some models put whatever answers."""
    begin = text.rfind("\\boxed{")
    if begin < 0 or "\\boxed" in prompt:
        return text
    depth, inside = 0, begin + len("\\boxed{")
    for mark in re.finditer(r"(?<!\\)[{}]", text[inside:]):
        depth += 1 if mark[0] == "{" else -1
        if depth < 0:
            inner = text[inside : inside + mark.start()].strip()
            if words := re.fullmatch(r"\\(?:text|mbox|textbf|mathrm)\{(.*)\}", inner, re.DOTALL):
                inner = words[1]
            named = re.match(r"[ \t]*[\w -]{1,40}:[ \t]*(?=\\boxed)", text[text.rfind("\n", 0, begin) + 1 : inside])
            return (named[0] if named else "") + re.sub(r"\\([%$&#_{} ])", r"\1", inner)
    return text


def _behind_label(text: str, answer: str, names: Sequence[str]) -> str | None:
    """What follows the first lines of the answer, if that is no line with a name; ``None`` for other blocks."""
    lines = answer.split("\n")
    for count in range(len(lines) - 1, 0, -1):
        begin = r"[\s>*`#-]*" + r"\s*".join(map(_line_form, lines[:count])) + r"[*`]*[ \t]*\n\s*"
        if match := re.match(begin, text, re.IGNORECASE):
            rest = text[match.end() :]
            return rest if rest and head(rest.split("\n", 1)[0], names) is None else None
    return None


def _without_label(text: str, answer: str, names: Sequence[str]) -> str:
    """A text that does not begin with the label that the answer names already: ``billing: ..``, ``[billing] ..``."""
    for line in answer.split("\n"):
        label_line = head(line, names)
        if label_line and (label := re.escape(label_line[1].strip())):
            plain = rf"[*_]{{0,2}}{label}(?:\s(?:{name_pattern(names)}))?[*_]{{0,2}}{_COLON}[*_]{{0,2}}\s+"
            form = (
                rf"\s*(?:{plain}|\[{label}\]:?\s+|\({label}\):?\s+|{label}[ \t]*[|\t][ \t]*|{label},[ \t]*(?=\"))(?=\S)"
            )
            if match := re.match(form, text, re.IGNORECASE):
                return text[match.end() :]
    return text


def _block(text: str, before: str) -> Found:
    """A block of lines, up to the end of the fence that it stands in."""
    fence = re.search(r"(```|~~~)[ \t]*[\w+-]*\s*\Z", before[-60:])
    end = text.find(fence[1]) if fence else -1
    return Found(text[:end].rstrip() if end >= 0 else text, "block", ended=end >= 0)


def _object(text: str, first: int, names: tuple[str, ...], anywhere: bool) -> Found | None:
    """The JSON object that holds a sample, if it begins before the first line with a name."""
    known = name_pattern(names)
    named = re.compile(
        rf"\{{\s*(?:[\"“](?:{known})[\"”]|['‘](?:{known})['’]\s*{_COLON}|(?:{known})\s*:\s)", re.IGNORECASE
    )
    begin = len(text) - len(text.lstrip(" \t\r\n["))
    at = text.find("{", 0, first)
    for _ in range(_MOST_OBJECTS):
        before = text[:at].rstrip(" \t\r\n[") if at >= 0 else ""
        if at < 0 or not (at == begin or anywhere or announces(before) or is_plan(before, names)):
            return None
        try:
            value, end = json.JSONDecoder(strict=False).raw_decode(text, at)
        except (ValueError, RecursionError):
            if named.match(text, at) or (at == begin and not text[at + 1 :].strip()):
                return Found(text[at:], "torn")
        else:
            if (holder := _holding(value, names)) is not None:
                whole = text[at:end] if holder is value else json.dumps(holder, ensure_ascii=False)
                return Found(whole, "object", holder, ended=True)
            if at == begin and "[" not in text[:at]:
                return Found(text[at:end], "object", ended=True)
        at = text.find("{", at + 1, first)
    return None


def _holding(value: Any, names: Sequence[str], depth: int = 0) -> Mapping[str, Any] | None:
    """The mapping within a value that has members of these names."""
    if isinstance(value, dict) and any(member(value, name) is not None for name in names):
        return value
    inside = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if depth == _DEPTH:
        return None
    return next((found for part in inside[:4] if (found := _holding(part, names, depth + 1)) is not None), None)


def member(values: Mapping[str, Any], name: str) -> Any:
    """The member of an object that is called so, in any case; ``None`` if it has none."""
    if name in values:
        return values[name]
    return next((value for key, value in values.items() if _key(key) == _key(name)), None)
