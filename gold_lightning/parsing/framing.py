"""Removes text that models write around a sample: announcements, headings, fences, list markers, remarks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gold_lightning.parsing.announcements import ANNOUNCEMENT

__all__ = [
    "after_announcement",
    "announces",
    "bare_text",
    "bare_value",
    "has_turn",
    "is_remark",
    "is_title",
    "without_heading",
    "without_role",
]

_ENDS_OPEN = (":", "：", "﹕")
_LONGEST_TITLE = 60  # characters
_LONGEST = 400  # characters of an announcement without a colon
_YES = r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|all right|great|gladly|no problem|got it)"
_HELP = r"(?:i(?:'d|’d| would) be (?:happy|glad) to (?:help|assist|do (?:so|that))(?: with that)?)"
_SHOW = (
    r"(?:here(?:'s|’s| is| are| you go| it is)|below (?:is|are)|i(?:'ve|’ve| have) (?:written|created|generated)"
    r"|the following is)"
)
_SAMPLE = r"\b(?:samples?|examples?|you(?:r| have)? request(?:ed)?|as requested|(?:new )?one(?=[.!]?$))"
_ANNOUNCEMENT = re.compile(
    rf"(?:{_YES}\b[\s,.!:;–—-]*)?(?:{_HELP}[\s.!]*)?(?:{_SHOW}\b[^\n]{{0,160}}?{_SAMPLE}[^\n]{{0,80}})?", re.IGNORECASE
)
_OPENING = re.compile(rf"(?:{_YES}\b[\s,.!;:–—-]|{_HELP}|{_SHOW}\b)", re.IGNORECASE)
_ON_ONE_LINE = re.compile(
    rf"(?:{_YES}[ ,.!;–—-]+(?:{_HELP}[ .!]*)?{_SHOW}\b[^:：\n]{{0,120}}"
    rf"|{_SHOW}(?: an?| one| the| your)? (?:new |another |realistic |fresh |generated )*(?:sample|example)\b"
    r"[^:：\n]{0,80}|[*_]{0,2}(?:new |generated )?(?:sample|example|output|response|answer)(?: (?:no\. ?|#)?\d{1,3})?"
    r"(?: \([^)\n]{0,60}\))?)"
    r"[:：﹕][*_]{0,2}+[ \t]*(?=\S)",
    re.IGNORECASE,
)
# Texts can also begin so ("Result: the lamp is broken."). So a new sentence must follow.
_TITLE_NOUN = (
    r"(?:(?:the )?(?:final |generated |new |model )?(?:sample|example|output|response|answer|result|reply|completion)"
    r"|(?:final|generated|new) text|text|the answer is)"
)
_BEGINS_SENTENCE = r"(?=[\"“‘«'*_]{0,2}(?-i:[^\W\d_a-z]))"
_TITLE_ON_ONE_LINE = re.compile(
    rf"(?:#{{1,6}} *)?[*_]{{0,2}}{_TITLE_NOUN}[*_]{{0,2}}(?:[:：﹕]| [-–—])[*_]{{0,2}}[ \t]*{_BEGINS_SENTENCE}",
    re.IGNORECASE,
)
_TITLE_ABOVE = re.compile(
    rf"[*_]{{0,2}}{_TITLE_NOUN}(?: #?\d{{1,3}})?[*_]{{0,2}}[:：﹕][*_]{{0,2}}[ \t]*", re.IGNORECASE
)
_SPEAKER = (
    r"(?:assistant|user|customer|client|human|ai|bot|chatbot|chatgpt|gpt|claude|gemini|llama|qwen|mistral|model|speaker"
    r"|sender|agent|kunde|kundin|nutzer|benutzer|assistent|cliente|client|utilisateur|usuario|asistente|utente|usuário"
    r"|用户|助手|客户|顾客|ユーザー|アシスタント|お客様|q|a)"
)
_ROLE = re.compile(
    rf"\s*+(?:#{{1,6}} *)?(?:[*_]{{0,2}}\[?{_SPEAKER}\]?[*_]{{0,2}}[:：﹕][*_]{{0,2}}|\[{_SPEAKER}\])\s*",
    re.IGNORECASE,
)
_SENTENCE = re.compile(_BEGINS_SENTENCE, re.IGNORECASE)
_TURN = re.compile(
    rf"(?:^|(?<=[\s.!?。！？]))(?:#{{1,6}} *)?[*_\[]{{0,3}}{_SPEAKER}[*_\]]{{0,3}}[:：﹕]", re.IGNORECASE | re.MULTILINE
)
_WORDS_OF_TITLES = r"(?:new |generated |final )?(?:sample|example|output|answer|response|result|text|message)s?"
_TITLE = re.compile(
    rf"(?:#{{1,6}} *{_WORDS_OF_TITLES}\b[^\n]{{0,30}}|\*\*{_WORDS_OF_TITLES}\b[^*\n]{{0,30}}\*\*:?"
    r"|-{3,}|\*{3,}|={3,})\s*",
    re.IGNORECASE,
)
_FURNITURE = re.compile(
    r"(?:#{1,6}[^\n]{0,80}|[-*_=]{3,}|\*\*[^*\n]{1,80}\*\*:?|</?[A-Za-z][\w.-]*>|```+[\w+-]*|~~~+[\w+-]*"
    rf"|{_WORDS_OF_TITLES}(?: #?\d+)?[.:)]?|\d{{1,3}}[.)])",
    re.IGNORECASE,
)
_MARKER = re.compile(r"(?:[-*•‣▪+>]|\(?\d{1,3}[.)])[ \t]+(?=[^\W\d]|[\"'“‘«「¿¡*<])")
_WRAPPER = re.compile(r"<(answer|output|response|result|sample|example|final(?:_answer)?)>\s*", re.IGNORECASE)
# Languages that a one-line fence can name. Any other word after the marks is part of the text.
_LANGUAGE = re.compile(r"(?:json[l5]?|ya?ml|text|txt|plain(?:text)?|markdown|md|xml|html|csv)\b[ \t]*", re.IGNORECASE)
_REMARK = re.compile(
    r"^[ \t]*[*_(\[]*(?:note\b ?[:*]|(?:explanation|reasoning|rationale)\b ?[:*]"
    r"|(?:let me know|feel free)\b[^\n]*\b(?:more|another|further|different|adjust\w*|changes?|samples?|examples?)\b"
    r"|i hope (?:this|that|it) (?:helps|meets|works|fits|is what)|(?:this|the above) (?:sample|example)\b"
    r"|(?:would you like|do you want) (?:me to|another|more samples))",
    re.IGNORECASE | re.MULTILINE,
)
_NOTE_BEHIND = re.compile(
    r"[ \t]*[*_]{0,2}[(\[](?:note|explanation|label|reason)\b[^()\[\]]*\b(?:sample|label|example|requested"
    r"|instructions?|class|category|fits)\b[^()\[\]]*[)\]][*_]{0,2}\Z",
    re.IGNORECASE,
)


_PAIRS = (
    *("“”", "„“", "„”", "””", "«»", "»«", "‹›", "‘’", "‚‘", "「」", "『』", "＂＂", '""', "''", "``", "**", "__"),
)


def announces(before: str) -> bool:
    """Returns whether the text before a sample only announces it. Empty text counts as an announcement."""
    lines = [line.strip() for line in before.split("\n") if line.strip()]
    lines = [line for line in lines if not _FURNITURE.fullmatch(line)]
    if not lines or lines[-1].rstrip("*_ ").endswith(_ENDS_OPEN):
        return True
    return len(before) < _LONGEST and all(_ANNOUNCEMENT.fullmatch(line) for line in lines)


def after_announcement(text: str, is_named: Callable[[str], bool]) -> str | None:
    """Returns the text after an announcement at its beginning; ``None`` without an announcement.

    Args:
        text: The text.
        is_named: Predicate for lines ``name: value``. Text before such a line is a value, however it ends.
    """
    stripped = text.lstrip()
    paragraph, gap, rest = stripped.partition("\n\n")
    rest = rest.lstrip()
    if gap and not is_named(rest.split("\n", 1)[0]) and announces(paragraph):
        return rest
    line, end, rest = stripped.partition("\n")
    if end and is_named(rest.lstrip().split("\n", 1)[0]):
        return None
    if end and (_TITLE.fullmatch(line) or _TITLE_ABOVE.fullmatch(line)):
        return rest.lstrip()
    if line.rstrip("*_ \t\r").endswith(_ENDS_OPEN) and len(line) < _LONGEST and _OPENING.match(line):
        return rest.lstrip()
    if match := _ON_ONE_LINE.match(stripped) or _TITLE_ON_ONE_LINE.match(stripped) or ANNOUNCEMENT.match(stripped):
        return stripped[match.end() :]
    return None


def is_title(line: str) -> bool:
    """Returns whether a line is the title of a text instead of a text: ``Output:``, ``### Assistant``."""
    plain = line.strip()
    if len(plain) > _LONGEST:
        return False
    title = re.fullmatch(
        rf"[#*_ ]*(?:{_TITLE_NOUN}|{_SPEAKER}|thinking|reasoning|analysis)[*_ ]*", plain.rstrip(":："), re.IGNORECASE
    )
    if plain.startswith(("#", "**")) or plain.endswith(_ENDS_OPEN):
        return bool(title) or (len(plain) < _LONGEST_TITLE and plain.rstrip("*_").endswith(_ENDS_OPEN))
    return False


def without_heading(text: str) -> str:
    """Removes the marks of a heading from a one-line text."""
    stripped = text.strip()
    marks = re.match(r"#{1,6}[ \t]+(?=\S)", stripped)
    return stripped[marks.end() :] if marks and "\n" not in stripped else text


def has_turn(text: str) -> bool:
    """Returns whether a text contains a role with a colon, as dialogues do."""
    return _TURN.search(text) is not None


def is_remark(line: str) -> bool:
    """Returns whether a line is a remark on a sample: ``Note: ..``, ``Let me know if you want another one.``."""
    return _REMARK.match(line) is not None


def without_role(text: str, prompt: str, is_named: Callable[[str], bool]) -> str | None:
    """Removes the role at the beginning of a text, ``User: ..``; ``None`` if other speakers follow on later lines.

    Dialogues on one line stay unchanged, and so do all texts if the texts of the task have roles.
    """
    role = _ROLE.match(text)
    if role is None or _TURN.search(prompt.casefold()):
        return text
    rest = text[role.end() :]
    if is_named(rest.split("\n", 1)[0]):
        return rest
    if not _SENTENCE.match(rest):  # "User: admin is locked."
        return text
    turn = _TURN.search(rest)
    if turn is None:
        return rest
    return text if "\n" not in rest[: turn.start()] else None


def bare_text(text: str, is_named: Callable[[str], bool], *, keep_marker: bool = False) -> tuple[str, bool]:
    """Removes announcements, headings, fences, list markers and closing remarks from a text without names.

    Args:
        text: The text.
        is_named: Predicate for lines ``name: value``.
        keep_marker: Whether a list marker before the text is part of it.

    Returns:
        The text, and whether anything followed it.
    """
    ended = False
    for _ in range(5):  # an announcement, a heading, a fence, in any order
        if (inner := _unfenced(text)) is not None:
            text, closed = inner
            ended |= closed
        elif (rest := after_announcement(text, is_named)) is not None:
            text = rest
        else:
            break
    stripped = text.lstrip()
    if not keep_marker and (marker := _MARKER.match(stripped)):
        stripped = text = stripped[marker.end() :]
    if wrapper := _WRAPPER.match(stripped):
        inner_text, closing, _ = stripped[wrapper.end() :].partition(f"</{wrapper[1]}>")
        text, ended = inner_text.rstrip() if closing else inner_text, ended or bool(closing)
    return _without_remarks(text, is_named, ended)


def _unfenced(text: str) -> tuple[str, bool] | None:
    """Returns the content of a fence at the beginning of a text, and whether it is closed; ``None`` without one."""
    stripped = text.lstrip()
    if not stripped.startswith(("```", "~~~")):
        return None
    fence = stripped[:3]
    line, _, rest = stripped.lstrip(fence[0]).partition("\n")
    if fence in line:  # all on one line
        inside = line[: line.index(fence)].strip()
        language = _LANGUAGE.match(inside)
        return (inside[language.end() :] if language else inside), True
    if re.fullmatch(r"[\w+-]*\s*", line):
        inner, closing, _ = rest.partition(fence)
        return inner.strip() if closing else inner.lstrip(), bool(closing)
    language = _LANGUAGE.match(line.lstrip())
    return stripped.lstrip(fence[0]).lstrip()[language.end() if language else 0 :], False


def _without_remarks(text: str, is_named: Callable[[str], bool], ended: bool) -> tuple[str, bool]:
    begin = len(text) - len(text.lstrip())
    for remark in _REMARK.finditer(text, begin + 1):  # not at the beginning of the text
        if not is_named(text[remark.start() :].split("\n", 1)[0]):  # a field can have such a name
            text, ended = text[: remark.start()].rstrip(), True
            break
    if text.rstrip("*_ ").endswith((")", "]")):
        end = text.rstrip()
        if note := _NOTE_BEHIND.search(end, max(0, len(end) - _LONGEST)):
            text, ended = end[: note.start()], True
    return text, ended


def bare_value(value: str, name: str, demos: Sequence[str] = ()) -> str:
    """Removes marks that enclose a whole value: quotes, emphasis, tags with its name.

    Args:
        value: The value.
        name: Name of its line.
        demos: Values of this name in the demos. Marks around any of them are part of the text.
    """
    for _ in range(4):
        inner = _inside_tag(value, name)
        if inner is None and (fenced := _unfenced(value)) and not any("```" in demo for demo in demos):
            inner = fenced[0]
        for pair in _PAIRS if inner is None else ():
            if (inner := _inside(value, pair)) is not None and all(_inside(demo, pair) is None for demo in demos):
                break
            inner = None
        if inner is None:
            return value
        value = inner.strip()
    return value


def _inside_tag(value: str, name: str) -> str | None:
    tag = re.escape(name)
    match = re.fullmatch(rf"<{tag}>(.*?)(?:</{tag}>)?", value, re.IGNORECASE | re.DOTALL)
    if match is None and (closed := re.fullmatch(rf"([^<]*)(?:</{tag}>|\[/{tag}\])", value, re.IGNORECASE)):
        return closed[1]  # the opening tag was before the name of the line
    return match[1] if match else None


def _inside(value: str, pair: str) -> str | None:
    """Returns the content of a pair of marks; ``None`` if they do not enclose the whole value."""
    before, after = pair[0], pair[1]
    if len(value) < 3 or value[0] != before or value[-1] != after:
        return None
    inner = value[1:-1]
    if pair in ("**", "__") and inner[0] == inner[-1] == before and len(inner) > 2:
        return inner[1:-1] if pair not in inner[1:-1].strip(before) else None
    if pair in ("**", "__", "``") and (inner[0].isspace() or inner[-1].isspace()):
        return None
    plain = re.sub(r"(?<=\w)['’](?=\w)", "", inner)  # apostrophes
    if before == after:
        return inner if before not in plain else None
    depth = 0
    for mark in plain:
        depth += (mark == before) - (mark == after)
        if depth < 0:  # “Yes” or “no”: two pairs
            return None
    return inner if depth == 0 else None
