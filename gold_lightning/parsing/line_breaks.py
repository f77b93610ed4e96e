"""Text after the line break in a reply to a request for a text of one line: its rest, or something else.

Some models break the lines of letters whatever they are asked for, others write remarks and further samples below a
text. Dropping the lines of a letter would leave its greeting.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gold_lightning.parsing.blocks import head
from gold_lightning.parsing.framing import has_turn, is_remark
from gold_lightning.parsing.talk import is_plan, is_talk
from gold_lightning.parsing.task_talk import speaks_of_task
from gold_lightning.parsing.words import words

__all__ = ["breaks_off", "is_laid_out", "with_next_lines"]

_ENDED = re.compile(r"""[.!?…。！？؟।۔][\W_]*\Z""")
_OPEN = re.compile(r"[,，、،:：({\[]\s*\Z")
_INDENTED = re.compile(r"\A\s*(?:```|~~~)[ \t]*\w*\n[^\n]+\n(?!\s*(?:```|~~~))|^(?: {2,}|\t)[^\s]", re.MULTILINE)
_CLOSING = " \"'“”’»)*_"
_ITEM = re.compile(r"(?:[-*•‣▪+]|\(?\d{1,3}[.)])\s")
_MARKUP = re.compile(r"[#{\[<|(`~]|[-*_=]{3,}|\*\*[^*]{1,60}\*\*:?\s*\Z")
_KEY = re.compile(r"[^\W\d_][\w' -]{0,30}[:：](?:\s|\Z)")
_OF_THE_TEXT = (
    r"(?:this|the|it|in this|here)\b[ ,]*(?:\w+ )?(?:{names}|text|sample|example|customer|user|writer|author|tone)\b"
)
_OFFER = re.compile(
    r"(?:is there|do you (?:need|want)|would you like|let me know|if you(?:'d| would)? (?:need|want|like)|feel free"
    r"|(?:i )?hope (?:this|that|it)|(?:i am|i'm) happy to|shall i|should i|can i)\b",
    re.IGNORECASE,
)
_GREETING_WORDS = 3


def breaks_off(text: str, demos: Sequence[str]) -> bool:
    """Returns whether a text of one line ends where more must follow: ``Dear team,``, ``def f(x):``.

    Args:
        text: The text.
        demos: Texts of the demos. If one ends so too, texts of the task do.
    """
    return "\n" not in text and bool(_OPEN.search(text)) and not any(map(_OPEN.search, demos))


def is_laid_out(text: str) -> bool:
    """Returns whether the lines of a text cannot be joined: code in a fence, or indented."""
    return _INDENTED.search(text) is not None


def with_next_lines(
    text: str, rest: str, names: Sequence[str], labels: Sequence[str], demos: Sequence[str]
) -> tuple[str, bool] | None:
    """Joins a text of one line with those of the following lines that belong to it.

    Args:
        text: The text up to the line break.
        rest: The reply from the line break on.
        names: Names of all lines of a sample.
        labels: Names of labels that the prompt mentions.
        demos: Texts of the demos.

    Returns:
        The text on one line, and whether the reply goes on with something else. ``None`` if the lines may be several
        texts, or may only stand on lines of their own, as in code or in a list.
    """
    prose = bool(demos) and all(map(_ENDED.search, demos))
    lines: list[str] = []
    unclear = other = False
    for line in filter(str.strip, rest.split("\n")):
        previous = [text, *lines][-1].rstrip()
        other = _is_other(line.strip(), names, labels) and not (_ITEM.match(line) and previous.endswith((":", "：")))
        if other:
            break
        unclear |= line[0] in " \t" or bool(_ITEM.match(line) or _KEY.match(line))
        lines.append(line.strip())
    if lines and not other and _OFFER.match(lines[-1].replace("’", "'")) and _ENDED.search([text, *lines][-2]):
        lines, other = lines[:-1], True  # the last words of an assistant
    exclaims = prose and text.rstrip(_CLOSING).endswith(("!", "！"))
    greets = exclaims and len(words(text)) <= _GREETING_WORDS < min(len(words(demo)) for demo in demos)
    opened = greets or breaks_off(text, demos) or (prose and not _ENDED.search(text))
    if not lines or not (opened or prose):
        return text, bool(lines) or other
    alike = len(lines) > 1 and not opened and all(map(_ENDED.search, lines))
    return None if unclear or alike else (" ".join([text.rstrip(), *lines]), other)


def _is_other(line: str, names: Sequence[str], labels: Sequence[str]) -> bool:
    """Returns whether a line is no part of a text: a name, a remark, markup, the next item of a list."""
    if head(line, names) or _MARKUP.match(line) or _ITEM.match(line) or has_turn(line) or is_remark(line):
        return True
    of_the_text = _OF_THE_TEXT.format(names="|".join(map(re.escape, names)) or r"(?!)")
    if re.match(of_the_text, line, re.IGNORECASE):
        return True
    return is_talk(line, names) or is_plan(line, names) or speaks_of_task(line, names, labels)
