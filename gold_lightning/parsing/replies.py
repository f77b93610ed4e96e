"""From whatever a model or a server replied to the text of a sample: the one way that all engines go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gold_lightning.parsing.blocks import find_sample, head, heads, without_beginning
from gold_lightning.parsing.special import until_special
from gold_lightning.parsing.thinking import without_thinking

__all__ = ["Reason", "Reply", "read_reply"]

_NO_SPACE = re.compile(r"\S")
Reason = Literal["", "only_thinking", "refusal"]
_THINKING_PARTS = {"thinking", "reasoning", "redacted_thinking", "thought", "reasoning_content", "summary"}


@dataclass(frozen=True)
class Reply:
    """What a reply says.

    Args:
        text: What follows the answer's beginning, or a sample that stands for itself. The whole reply if there is a
            reason against it.
        reason: Why it holds no sample: ``only_thinking`` (thinking that never ended, or with nothing behind it) or
            ``refusal`` (as the interface tells it apart from text). "" for all others.
        ended: Whether the text is whole, wherever the engine stopped: a stop, a special token or a remark follows it.
    """

    text: str
    reason: Reason = ""
    ended: bool = False


def read_reply(
    content: Any,
    *,
    answer: str = "",
    names: Sequence[str] = (),
    stop: Sequence[str] = (),
    prompt: str = "",
    fresh: bool = False,
    thought: bool = False,
) -> Reply:
    """Reads a reply.

    In this order: thinking is taken off, special tokens end the text, the sample is looked for, and stops cut what is
    behind it.

    Args:
        content: Text, or a list of parts ``{type, text}``; ``None`` for no text.
        answer: How the sample began, in the prompt.
        names: Names of all lines of a sample.
        stop: Texts that end it.
        prompt: What the model read. Tags, tokens and fences that stand there are the task's own text.
        fresh: The model began anew, whether or not it repeats the answer's beginning.
        thought: The interface gave thinking apart from the text.
    """
    raw, refusal, apart = _content(content)
    if refusal and not raw.strip():
        return Reply(refusal, "refusal", True)
    thinking = without_thinking(raw, names, prompt)
    text, ended = until_special(thinking.text, prompt)
    if not raw.startswith(text):  # something was taken off before it
        text, fresh_text = text.lstrip(), True
    else:
        fresh_text = fresh
    sample = find_sample(text, names, answer, fresh=fresh, prompt=prompt)
    text, ended = sample.text, ended or sample.ended
    if sample.form in ("rest", "block"):
        if fresh and sample.form == "rest":
            text = without_beginning(text, answer)
        seen = set(heads(answer, names).values()) if sample.form == "rest" else set()
        text, stopped = _until_stop(text, stop, names, seen, skip=fresh_text or sample.form == "block")
        ended = ended or stopped
        if sample.form == "block" and answer:
            text = _continued(text, answer, names)
    if not text.strip() and (thinking.open or thinking.thought or thought or apart):
        return Reply(raw, "only_thinking")
    return Reply(text, ended=ended)


def _content(content: Any) -> tuple[str, str, bool]:
    """Text and refusal in a message's content, and whether it has parts of thinking."""
    if isinstance(content, str):
        return content, "", False
    texts: list[str] = []
    refusal, thought = "", False
    for part in content if isinstance(content, list) else []:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            kind = part.get("type", "text")
            value = part.get("text")
            if isinstance(value, dict):  # {"value": .., "annotations": ..}
                value = value.get("value")
            if kind in _THINKING_PARTS or part.get("thought") is True:
                thought = True
            elif kind == "refusal" and isinstance(part.get("refusal"), str):
                refusal += part["refusal"]
            elif isinstance(value, str):
                texts.append(value)
    return "".join(texts), refusal, thought


def _continued(text: str, answer: str, names: Sequence[str]) -> str:
    """A block as what follows the answer's beginning, if it has each of the answer's lines there and nowhere else."""
    if text.lstrip().startswith('"'):  # members of an object that lost its braces
        return text
    rest = without_beginning(text, answer)
    again = set(heads(rest, names).values()) & set(heads(answer, names).values())
    return text if again else rest


def _until_stop(
    text: str, stop: Sequence[str], names: Sequence[str], seen: set[str], *, skip: bool
) -> tuple[str, bool]:
    """A text up to its first stop, and whether there was one.

    A line end is no stop behind a name without a value, nor before a name that is still to come: models that write
    Markdown put headings over texts, and empty lines between them.

    Args:
        text: The text.
        stop: The stops.
        names: Names of all lines.
        seen: Names of the lines before the text.
        skip: Stops in the spaces before the text do not count.
    """
    placed = heads(text, names)
    waiting, seen, last = sorted(placed, reverse=True), set(seen), -1
    at = len(text) - len(text.lstrip()) if skip else 0
    while ends := [place for place in (text.find(s, at) for s in stop) if place >= 0]:
        end = min(ends)
        behind = _NO_SPACE.search(text, end)
        if not text[end].isspace() or behind is None:
            return text[:end], True
        while waiting and waiting[-1] < end:
            last = waiting.pop()
            seen.add(placed[last])
        bare_name = last >= 0 and not (head(text[last:end], names) or ("", "x"))[1].strip()
        line = text.rfind("\n", 0, behind.start()) + 1
        if not bare_name and placed.get(line, "") in seen | {""}:
            return text[:end], True
        at = behind.start()
    return text, False
