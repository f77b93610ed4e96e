"""Locates a sample in a reply: lines ``name: value`` in many spellings, or a JSON object, with any text around them."""

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
from gold_lightning.parsing.mail import without_form, without_mail_headers
from gold_lightning.parsing.notations import as_lines, name_pattern
from gold_lightning.parsing.talk import is_plan, is_talk
from gold_lightning.parsing.task_talk import speaks_of_task
from gold_lightning.parsing.wrappers import as_json, unwrapped, without_prefix

__all__ = ["LocatedSample", "answer_lines", "find_sample", "head", "heads", "is_object", "member", "without_beginning"]

_COLON = "[:：﹕︰]"
_HAS_COLON = re.compile(_COLON).search
_OPENING, _CLOSING = "[*_`\"'“‘«「\\[]", "[*_`\"'”’»」\\]]"
_MARKER = r"(?:[-*•‣▪+]|\(?\d{1,3}[.)])"
# Words that models add before and after a name.
_KIND = r"(?:(?:the\s)?(?:new|sample|example|generated|final|customer|user)\s|the\s)?"
_NUMBER = r"(?:\s(?:#?\d{1,2}|text|\([^()\n]{1,40}\)))?"
_MOST_OBJECTS = 20  # number of braces tried as the beginning of an object
_DEPTH = 3  # maximum depth of mappings and lists around a sample


# Preselects lines that can have a name, because texts can be long and most lines have none.
_NAMED_LINE = re.compile(rf"^(?:[^\n:：﹕︰]*{_COLON}|[ \t]*(?:#|\*\*))[^\n]*$", re.MULTILINE)


@dataclass(frozen=True)
class LocatedSample:
    """A sample located in a reply.

    Args:
        text: The sample, without the text around it.
        form: ``rest``: continues the answer's beginning. ``block``: complete lines that repeat the answer's beginning.
            ``object``: JSON. ``torn``: a JSON object that does not parse. ``preamble``: only an announcement.
        values: Members of the object; empty for other forms.
        ended: Whether other text follows, so that the sample is complete.
    """

    text: str
    form: Literal["rest", "block", "object", "torn", "preamble"] = "rest"
    values: Mapping[str, Any] = field(default_factory=dict)
    ended: bool = False


@functools.lru_cache(maxsize=1024)
def _key(name: str) -> str:
    joined = re.sub(r"[\s_-]+", "_", name).casefold()
    return re.sub(r"(?<=[^\W\d_])_(?=\d)", "", joined)  # "sentence 1" and "sentence_1" are sentence1


@functools.lru_cache(maxsize=256)
def _line_patterns(names: tuple[str, ...]) -> tuple[dict[str, str], re.Pattern[str], re.Pattern[str]]:
    """Returns the names by comparison key, and patterns of a line with a name and of a heading without a colon."""
    any_name = name_pattern(names)
    prefix = rf"(?:>\s*)?(?:{_MARKER}\s*)?(?:#{{1,6}}\s*)?{_OPENING}{{0,4}}"
    line = prefix + rf"{_KIND}({any_name}){_NUMBER}{_CLOSING}{{0,4}}\s*{_COLON}(?:=(?=\s))?[*_`]{{0,3}}(.*)"
    heading = rf"(?:#{{1,6}}\s*[*_`]{{0,3}}{_KIND}({any_name})[*_`]{{0,3}}|\*\*{_KIND}({any_name})\*\*)\s*"
    by_key = {_key(name): name for name in names}
    return by_key, re.compile(line, re.IGNORECASE | re.DOTALL), re.compile(heading, re.IGNORECASE)


def head(line: str, names: Sequence[str]) -> tuple[str, str] | None:
    """Returns name and value of a line ``name: value``, in any spelling that models use; ``None`` for other lines."""
    line = line.lstrip()
    if not (line.startswith(("#", "**")) or _HAS_COLON(line)):
        return None
    by_key, form, heading = _line_patterns(tuple(names))
    if match := form.fullmatch(line):
        name, rest = match[1], match[2]
        if line[:4].casefold() == "the " and rest.strip() and match.start(1) == 4:
            return None  # a sentence: "The message: do not wait."
        if line[0] in '"“' and rest.rstrip().endswith(('",', "”,")):  # a member of an object without braces
            rest = rest.rstrip()[:-1]
    elif match := heading.fullmatch(line):
        name, rest = match[1] or match[2], ""
    else:
        return None
    # IGNORECASE matches dotted and dotless i with i, but such a name is not one of the task's.
    return (by_key[_key(name)], rest) if _key(name) in by_key else None


def heads(text: str, names: Sequence[str]) -> dict[int, str]:
    """Returns the names of all lines that have one, by the position at which the line begins."""
    name_by_place: dict[int, str] = {}
    for line in _NAMED_LINE.finditer(text):
        if line_head := head(line[0], names):
            name_by_place[line.start()] = line_head[0]
    return name_by_place


def is_object(text: str) -> bool:
    """Returns whether a text is a single JSON object."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def without_beginning(text: str, answer: str) -> str:
    """Removes the answer's beginning from a reply that may repeat all of its lines or only the last ones.

    Ignores case, whitespace and emphasis between words.
    """
    if is_object(text):
        return text
    lines = answer.split("\n")
    for first_line in range(len(lines)):
        forms = [_line_form(line) for line in lines[first_line:]]
        begin = rf"(?:[\s>]*{_MARKER}(?=\s))?[\s>*`\"“”#]*" + r"[\s*`\"“”#,;|]*".join(forms) + "[*`]*"
        if any(forms) and (match := re.match(begin, text, re.IGNORECASE)):
            return text[match.end() :]
    return text.lstrip()


def _line_form(line: str) -> str:
    """Returns a pattern of a line of the answer, with any whitespace and marks between its words."""
    words = re.findall(r"\w+|[^\w\s]", line)
    forms = (
        _COLON + r"(?:=(?=\s))?" if word == ":" else "[_ -]".join(map(re.escape, word.split("_"))) for word in words
    )
    return r"[\s*`\"“”#]*".join(forms)


@functools.lru_cache(maxsize=4)  # a reply that needs no reading is located twice: as a reply, and as a sample
def find_sample(
    text: str, names: tuple[str, ...], answer: str = "", *, fresh: bool = False, prompt: str = ""
) -> LocatedSample:
    """Locates the sample in a reply.

    Args:
        text: The reply, without thinking and special tokens.
        names: Names of all lines.
        answer: The beginning of the sample in the prompt.
        fresh: Whether the model started a new answer. Text before the lines of the answer's beginning is then dropped.
            Otherwise these lines may start the next sample, so only announcements before them are dropped.
        prompt: The prompt. Its fences and list markers are regular text of the task.
    """
    fresh = fresh or not answer
    answer_names, answer_values = answer_lines(answer, names)
    demo_values = _demo_values(prompt, names)
    if not demo_values or not any(demo.startswith(("{", "[")) for demo in demo_values):
        text = as_json(text)
        if not is_object(text) or _sample_mapping(json.loads(text), names) is None:
            text = unwrapped(text, names, answer_values, demos=demo_values)
    text = _unboxed(as_lines(text, names, (answer_names or ("",))[-1], prompt), prompt)
    text = _with_label_line(text, names, answer)

    def is_named(line: str) -> bool:
        return head(line, names) is not None

    if (without_speaker := without_role(text, prompt, is_named)) and is_named(without_speaker.split("\n", 1)[0]):
        text = without_speaker
    name_by_place = heads(text, names)
    first = min(name_by_place, default=len(text))
    if json_sample := _object(text, first, names, fresh):
        return json_sample
    expected_names = set(answer_names) or set(names)
    start = next((place for place, name in name_by_place.items() if name in expected_names), None)
    if start is not None:
        others = set(names) - expected_names
        whole_before = bool(others) and others <= {name for place, name in name_by_place.items() if place < start}
        if announces(text[:first]) if fresh else not text[:first].strip():
            start, whole_before = first, False
        elif answer_names and answer_names[-1] not in {name for place, name in name_by_place.items() if place >= start}:
            whole_before = True  # lines after a text without its name
        if fresh and _has_text_before(text[:start], text[start:], answer, names, answer_values):
            whole_before = True
        if not whole_before and (
            fresh or announces(text[:start]) or _begins_anew(text, name_by_place, start, answer, names, prompt)
        ):
            block = _block(_without_lines_between(text[start:], answer, names), text[:start])
            if (rest := _behind_label(block.text, answer, names)) is None:
                return block
            text = rest  # the model wrote the line of the label, then the text without its name
    if "```" in prompt:
        return LocatedSample(text)
    demo_texts = [demo.replace("\\n", "\n") for demo in demo_values]
    text = without_mail_headers(without_form(text, demo_texts), demo_texts)

    has_list_marker = re.search(rf"^(?:{name_pattern(names)}): *{_MARKER}[ \t]", prompt, re.MULTILINE)
    rest, ended = bare_text(text, is_named, keep_marker=has_list_marker is not None)
    rest = _without_label(rest, answer, names)
    if (bare_rest := without_role(rest, prompt, is_named)) is None:
        return LocatedSample(text, "preamble")
    rest = without_heading(without_prefix(bare_rest, names, answer_values, demos=demo_values))
    if "\n" not in text.strip() and is_title(rest):
        return LocatedSample(text, "preamble")
    if not rest.strip() and text.strip() and after_announcement(text, is_named) is not None:
        return LocatedSample(text, "preamble")
    return LocatedSample(rest, ended=ended)


def _with_label_line(text: str, names: Sequence[str], answer: str) -> str:
    """Ends the line of the label if the next name follows it there: ``queue: billing. Message: ..``."""
    label, end, opened = answer.partition("\n")
    begun, following = head(label, names), opened.rstrip(": ")
    if not end or begun is None or "\n" in opened or not begun[1].strip():
        return text
    form = (
        rf"\s*[*_#>`-]{{0,4}}[ \t]?(?:{name_pattern([begun[0]])})[*_`]{{0,3}}[ \t]?{_COLON}[*_`]{{0,3}}[ \t]*"
        rf"{re.escape(begun[1].strip())}[*_`]{{0,3}}[.,;|/–—-]*[ \t]+(?=[*_`]{{0,3}}(?:{name_pattern([following])})"
        rf"[*_`]{{0,3}}[ \t]?{_COLON})"
    )
    match = re.match(form, text, re.IGNORECASE)
    return f"{label}\n{text[match.end() :]}" if match else text


@functools.lru_cache(maxsize=256)
def answer_lines(answer: str, names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names in the lines of the answer's beginning, and the values: the label."""
    lines = (head(line, names) for line in answer.split("\n"))
    return tuple(heads(answer, names).values()), tuple(line[1].strip() for line in lines if line and line[1].strip())


@functools.lru_cache(maxsize=64)
def _demo_values(prompt: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the values in the named lines of the prompt: those of the demos."""
    lines = (head(line, names) for line in prompt.split("\n"))
    return tuple(line[1].strip() for line in lines if line)


def _has_text_before(before: str, block: str, answer: str, names: Sequence[str], labels: Sequence[str]) -> bool:
    """Returns whether a bare text precedes a block of another label, which is then the next sample."""
    first_line = head(block.split("\n", 1)[0], names)
    if not labels or first_line is None or first_line[0] != next(iter(heads(answer, names).values())):
        return False
    if first_line[1].strip(" *_`\"'.").casefold() == labels[0].casefold() or announces(before):
        return False
    return not (is_plan(before, names) or is_talk(before, names) or speaks_of_task(before, names, labels))


def _begins_anew(
    text: str, name_by_place: Mapping[int, str], start: int, answer: str, names: Sequence[str], prompt: str
) -> bool:
    """Returns whether a new attempt at the sample begins at a line, after text that may continue the answer.

    The text before must be a plan or a separate paragraph, and all lines from the answer's last one must be repeated.
    Lines of another label after a text are the next sample.
    """
    before = text[:start].rstrip()
    planned = is_plan(before, names) or is_talk(before, names)
    one_line = "\\n" not in prompt  # so the texts of the task have no line breaks
    if not (planned or one_line or re.search(r"\n[ \t]*\n[\s`#*>-]*\Z", text[max(0, start - 80) : start])):
        return False
    opened = heads(answer, names)
    last = [*opened.values()][-1:] or [*names][:1]
    repeated = [name for at, name in name_by_place.items() if at >= start]
    if not set(names[names.index(last[0]) :]) <= set(repeated):
        return False
    at = next(at for at, name in name_by_place.items() if at >= start)
    for place, name in opened.items():
        if planned or name != name_by_place[at] or name == last[0]:
            continue
        replied, requested = (head(part.split("\n", 1)[0], names) for part in (text[at:], answer[place:]))
        labels = [line_head[1].strip(" *_`\"'.").casefold() for line_head in (replied, requested) if line_head]
        return labels[0] == labels[-1]
    return True


def _unboxed(text: str, prompt: str) -> str:
    """Returns the content of a LaTeX box, which some models put around every answer."""
    begin = text.rfind("\\boxed{")
    if begin < 0 or "\\boxed" in prompt:
        return text
    depth, content_begin = 0, begin + len("\\boxed{")
    for mark in re.finditer(r"(?<!\\)[{}]", text[content_begin:]):
        depth += 1 if mark[0] == "{" else -1
        if depth < 0:
            content = text[content_begin : content_begin + mark.start()].strip()
            if text_command := re.fullmatch(r"\\(?:text|mbox|textbf|mathrm)\{(.*)\}", content, re.DOTALL):
                content = text_command[1]
            line_name = re.match(
                r"[ \t]*[\w -]{1,40}:[ \t]*(?=\\boxed)", text[text.rfind("\n", 0, begin) + 1 : content_begin]
            )
            return (line_name[0] if line_name else "") + re.sub(r"\\([%$&#_{} ])", r"\1", content)
    return text


def _without_lines_between(text: str, answer: str, names: Sequence[str]) -> str:
    """Removes lines without a name of the task between the label and the line that the answer opens.

    Models that write a form add some: ``queue: billing``, ``Customer: Ola``, ``message: ..``.
    """
    opened = head(answer.rsplit("\n", 1)[-1], names)
    label_line, _, _ = text.partition("\n")
    label, places = head(label_line, names), [*heads(text, names).items()]
    if "\n" not in answer or not opened or not label or not label[1].strip() or len(places) < 2:
        return text
    place, name = places[1]
    return f"{label_line}\n{text[place:]}" if places[0][0] == 0 and name == opened[0] else text


def _behind_label(text: str, answer: str, names: Sequence[str]) -> str | None:
    """Returns the text after the first lines of the answer; ``None`` if a line with a name follows them."""
    lines = answer.split("\n")
    for count in range(len(lines) - 1, 0, -1):
        begin = r"[\s>*`#-]*" + r"\s*".join(map(_line_form, lines[:count])) + r"[*`]*[ \t]*\n\s*"
        if match := re.match(begin, text, re.IGNORECASE):
            rest = text[match.end() :]
            return rest if rest and head(rest.split("\n", 1)[0], names) is None else None
    return None


def _without_label(text: str, answer: str, names: Sequence[str]) -> str:
    """Removes the label at the beginning of a text if the answer has it: ``billing: ..``, ``[billing] ..``."""
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


def _block(text: str, before: str) -> LocatedSample:
    """Returns a block of lines, up to the end of its fence."""
    fence = re.search(r"(```|~~~)[ \t]*[\w+-]*\s*\Z", before[-60:])
    end = text.find(fence[1]) if fence else -1
    return LocatedSample(text[:end].rstrip() if end >= 0 else text, "block", ended=end >= 0)


def _object(text: str, first: int, names: tuple[str, ...], anywhere: bool) -> LocatedSample | None:
    """Returns the JSON object that contains a sample, if it begins before the first line with a name."""
    known = name_pattern(names)
    has_name = re.compile(
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
            if has_name.match(text, at) or (at == begin and not text[at + 1 :].strip()):
                return LocatedSample(text[at:], "torn")
        else:
            if (holder := _sample_mapping(value, names)) is not None:
                whole = text[at:end] if holder is value else json.dumps(holder, ensure_ascii=False)
                return LocatedSample(whole, "object", holder, ended=True)
            if at == begin and "[" not in text[:at]:
                return LocatedSample(text[at:end], "object", ended=True)
        at = text.find("{", at + 1, first)
    return None


def _sample_mapping(value: Any, names: Sequence[str], depth: int = 0) -> Mapping[str, Any] | None:
    """Returns the mapping inside a value that has members with any of the names."""
    if isinstance(value, dict) and any(member(value, name) is not None for name in names):
        return value
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if depth == _DEPTH:
        return None
    return next((holder for part in parts[:4] if (holder := _sample_mapping(part, names, depth + 1)) is not None), None)


def member(values: Mapping[str, Any], name: str) -> Any:
    """Returns the member with this name, ignoring case; ``None`` if the object has none."""
    if name in values:
        return values[name]
    return next((value for key, value in values.items() if _key(key) == _key(name)), None)
