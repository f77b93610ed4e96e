"""What models write around a sample: announcements, headings, fences, list markers, remarks."""

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
# What a text may begin with too: "Result: the lamp is broken." So a new sentence must follow.
_CALLED = (
    r"(?:(?:the )?(?:final |generated |new |model )?(?:sample|example|output|response|answer|result|reply|completion)"
    r"|(?:final|generated|new) text|text|the answer is)"
)
_BEGINS_SENTENCE = r"(?=[\"“‘«'*_]{0,2}(?-i:[^\W\d_a-z]))"
_CALLED_ON_ONE_LINE = re.compile(
    rf"(?:#{{1,6}} *)?[*_]{{0,2}}{_CALLED}[*_]{{0,2}}(?:[:：﹕]| [-–—])[*_]{{0,2}}[ \t]*{_BEGINS_SENTENCE}",
    re.IGNORECASE,
)
_CALLED_ABOVE = re.compile(rf"[*_]{{0,2}}{_CALLED}(?: #?\d{{1,3}})?[*_]{{0,2}}[:：﹕][*_]{{0,2}}[ \t]*", re.IGNORECASE)
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
# Languages that a fence of one line may name; another word there is a part of the text.
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
    """Whether a text that stands before a sample is nothing but an announcement; an empty one is."""
    lines = [line.strip() for line in before.split("\n") if line.strip()]
    lines = [line for line in lines if not _FURNITURE.fullmatch(line)]
    if not lines or lines[-1].rstrip("*_ ").endswith(_ENDS_OPEN):
        return True
    return len(before) < _LONGEST and all(_ANNOUNCEMENT.fullmatch(line) for line in lines)


def after_announcement(text: str, named: Callable[[str], bool]) -> str | None:
    """What follows an announcement at the beginning of a text; ``None`` if there is none.

    Args:
        text: The text.
        named: Whether a line is ``name: value``. What such a line follows is a value, however it ends.
    """
    begun = text.lstrip()
    paragraph, gap, rest = begun.partition("\n\n")
    rest = rest.lstrip()
    if gap and not named(rest.split("\n", 1)[0]) and announces(paragraph):
        return rest
    line, end, rest = begun.partition("\n")
    if end and named(rest.lstrip().split("\n", 1)[0]):
        return None
    if end and (_TITLE.fullmatch(line) or _CALLED_ABOVE.fullmatch(line)):
        return rest.lstrip()
    if line.rstrip("*_ \t\r").endswith(_ENDS_OPEN) and len(line) < _LONGEST and _OPENING.match(line):
        return rest.lstrip()
    if match := _ON_ONE_LINE.match(begun) or _CALLED_ON_ONE_LINE.match(begun) or ANNOUNCEMENT.match(begun):
        return begun[match.end() :]
    return None


def is_title(line: str) -> bool:
    """Whether a line is what stands over a text, and none itself: ``Output:``, ``### Assistant``."""
    plain = line.strip()
    if len(plain) > _LONGEST:
        return False
    over = re.fullmatch(
        rf"[#*_ ]*(?:{_CALLED}|{_SPEAKER}|thinking|reasoning|analysis)[*_ ]*", plain.rstrip(":："), re.IGNORECASE
    )
    if plain.startswith(("#", "**")) or plain.endswith(_ENDS_OPEN):
        return bool(over) or (len(plain) < _LONGEST_TITLE and plain.rstrip("*_").endswith(_ENDS_OPEN))
    return False


def without_heading(text: str) -> str:
    """A text of one line without the marks of a heading."""
    begun = text.strip()
    marks = re.match(r"#{1,6}[ \t]+(?=\S)", begun)
    return begun[marks.end() :] if marks and "\n" not in begun else text


def has_turn(text: str) -> bool:
    """Whether a role with a colon stands in a text: a dialogue."""
    return _TURN.search(text) is not None


def without_role(text: str, prompt: str, named: Callable[[str], bool]) -> str | None:
    """A text without the role that it begins with, ``User: ..``; ``None`` if others speak below.

    A dialogue on one line stays as it is, and so does any if the task's own texts have roles.
    """
    role = _ROLE.match(text)
    if role is None or _TURN.search(prompt.casefold()):
        return text
    rest = text[role.end() :]
    if named(rest.split("\n", 1)[0]):
        return rest
    if not _SENTENCE.match(rest):  # "User: admin is locked."
        return text
    turn = _TURN.search(rest)
    if turn is None:
        return rest
    return text if "\n" not in rest[: turn.start()] else None


def bare_text(text: str, named: Callable[[str], bool], *, keep_marker: bool = False) -> tuple[str, bool]:
    """A text without names, without what announces it and what is remarked behind it.

    Args:
        text: The text.
        named: Whether a line is ``name: value``.
        keep_marker: A list marker before the text is a part of it.

    Returns:
        The text, and whether something stood behind it.
    """
    ended = False
    for _ in range(5):  # an announcement, a heading, a fence, in any order
        if (inner := _unfenced(text)) is not None:
            text, closed = inner
            ended |= closed
        elif (rest := after_announcement(text, named)) is not None:
            text = rest
        else:
            break
    begun = text.lstrip()
    if not keep_marker and (marker := _MARKER.match(begun)):
        begun = text = begun[marker.end() :]
    if wrapper := _WRAPPER.match(begun):
        inner_text, closing, _ = begun[wrapper.end() :].partition(f"</{wrapper[1]}>")
        text, ended = inner_text.rstrip() if closing else inner_text, ended or bool(closing)
    return _without_remarks(text, named, ended)


def _unfenced(text: str) -> tuple[str, bool] | None:
    """What stands in the fence that a text begins with, and whether the fence is closed; ``None`` without a fence."""
    begun = text.lstrip()
    if not begun.startswith(("```", "~~~")):
        return None
    fence = begun[:3]
    line, _, rest = begun.lstrip(fence[0]).partition("\n")
    if fence in line:  # all on one line
        inside = line[: line.index(fence)].strip()
        language = _LANGUAGE.match(inside)
        return (inside[language.end() :] if language else inside), True
    if re.fullmatch(r"[\w+-]*\s*", line):
        inner, closing, _ = rest.partition(fence)
        return inner.strip() if closing else inner.lstrip(), bool(closing)
    language = _LANGUAGE.match(line.lstrip())
    return begun.lstrip(fence[0]).lstrip()[language.end() if language else 0 :], False


def _without_remarks(text: str, named: Callable[[str], bool], ended: bool) -> tuple[str, bool]:
    begun = len(text) - len(text.lstrip())
    for remark in _REMARK.finditer(text, begun + 1):  # not where the text begins
        if not named(text[remark.start() :].split("\n", 1)[0]):  # a field may be called so
            text, ended = text[: remark.start()].rstrip(), True
            break
    if text.rstrip("*_ ").endswith((")", "]")):
        end = text.rstrip()
        if note := _NOTE_BEHIND.search(end, max(0, len(end) - _LONGEST)):
            text, ended = end[: note.start()], True
    return text, ended


def bare_value(value: str, name: str, demos: Sequence[str] = ()) -> str:
    """A value without marks around the whole of it: quotes, emphasis, tags of its name.

    Args:
        value: The value.
        name: Name of its line.
        demos: Values of this name in the demos. Marks that one of them has are a part of the text.
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
        return closed[1]  # the opening one stood before the line's name
    return match[1] if match else None


def _inside(value: str, pair: str) -> str | None:
    """What a pair of marks is around; ``None`` if it is not around the whole."""
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
