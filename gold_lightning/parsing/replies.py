"""Extracts the text of a sample from a raw reply. Every engine passes its replies through this module."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gold_lightning.parsing.blocks import answer_lines, find_sample, head, heads, without_beginning
from gold_lightning.parsing.line_breaks import is_laid_out, with_next_lines
from gold_lightning.parsing.special import until_special
from gold_lightning.parsing.thinking import without_thinking

__all__ = ["Reason", "Reply", "read_reply"]

# The part of our prompts that describes a sample's lines as a sample has them.
_DESCRIPTION = re.compile(r"^Each sample has (?:this|these) lines?:\n(?:[^\n]+\n)+", re.MULTILINE)
_NO_SPACE = re.compile(r"\S")
Reason = Literal["", "only_thinking", "refusal", "several_lines"]
_THINKING_PARTS = {"thinking", "reasoning", "redacted_thinking", "thought", "reasoning_content", "summary"}


@dataclass(frozen=True)
class Reply:
    """The content of a reply.

    Args:
        text: The text that continues the answer, or a complete sample; the whole reply if ``reason`` is set.
        reason: Why the reply contains no sample: ``only_thinking`` (thinking that never ended or that nothing follows)
            or ``refusal`` (marked as such by the interface) or ``several_lines`` (a text of one line goes on below, and
            the lines may be several texts); otherwise "".
        ended: Whether the text is complete, wherever the engine stopped: a stop, a special token or a remark follows.
        thought: Whether the model thought before it wrote, in its text or apart from it.
    """

    text: str
    reason: Reason = ""
    ended: bool = False
    thought: bool = False


def read_reply(
    content: Any,
    *,
    answer: str = "",
    names: Sequence[str] = (),
    stop: Sequence[str] = (),
    prompt: str = "",
    fresh: bool = False,
    thought: bool = False,
    sample: bool = False,
) -> Reply:
    """Reads a reply.

    Removes thinking, cuts the text at special tokens, locates the sample and cuts it at the first stop, in this order.

    Args:
        content: Text, or a list of parts ``{type, text}``; ``None`` for no text.
        answer: The beginning of the sample in the prompt.
        names: Names of all lines of a sample.
        stop: Texts that end the sample.
        prompt: The prompt. Its tags, tokens and fences are regular text of the task.
        fresh: Whether the model started a new answer, which may or may not repeat the answer's beginning.
        thought: Whether the interface returned thinking separately from the text.
        sample: Whether a sample is asked for, whose last text may have line breaks even if it should be one line. Of
            other answers only the first line counts.
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
    names = tuple(names)
    located = find_sample(text, names, answer, fresh=fresh, prompt=prompt)
    text, ended = located.text, ended or located.ended
    if located.form in ("rest", "block"):
        if fresh and located.form == "rest":
            text = without_beginning(text, answer)
        seen = set(answer_lines(answer, names)[0]) if located.form == "rest" else set()
        end = _stop_position(text, stop, names, seen, skip=fresh_text or located.form == "block")
        until_stop = (text[:end], True) if end >= 0 else (text, False)
        whole = _whole_value(text, end, answer, names, prompt, fresh=fresh) if sample else until_stop
        if whole is None:
            return Reply(text, "several_lines", True)
        text, stopped = whole
        ended = ended or stopped
        if located.form == "block" and answer:
            text = _continued(text, answer, names)
    thought = thinking.open or thinking.thought or thought or apart
    if not text.strip() and thought:
        return Reply(raw, "only_thinking", thought=True)
    return Reply(text, ended=ended, thought=thought)


def _content(content: Any) -> tuple[str, str, bool]:
    """Returns text and refusal of a message's content, and whether parts of it are thinking."""
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


def _continued(text: str, answer: str, names: tuple[str, ...]) -> str:
    """A block as what follows the answer's beginning, if it has each of the answer's lines there and nowhere else."""
    if text.lstrip().startswith('"'):  # members of an object that lost its braces
        return text
    rest = without_beginning(text, answer)
    again = set(heads(rest, names).values()) & set(answer_lines(answer, names)[0])
    return text if again else rest


def _whole_value(
    text: str, end: int, answer: str, names: tuple[str, ...], prompt: str, *, fresh: bool
) -> tuple[str, bool] | None:
    """Returns a reply up to the end of the sample's last value, and whether something else follows.

    A line break ends a text that the model continues, since the next sample would follow. In an answer, the rest of the
    text may follow.

    Args:
        text: The reply, from the sample on.
        end: Position of its first stop; -1 if it has none.
        answer: The beginning of the sample in the prompt.
        names: Names of all lines.
        prompt: The prompt, whose demos tell what texts of the task look like.
        fresh: Whether the reply is an answer.

    Returns:
        ``None`` if it is not clear whether the lines below belong to the text.
    """
    stopped, rest = ((text[:end], True), text[end:]) if end >= 0 else ((text, False), "")
    answer_names, labels = answer_lines(answer, names)
    places = {0: answer_names[-1] if answer_names else "", **heads(stopped[0], names)}
    start, name = max(places.items())
    line = head(stopped[0][start:], names)
    value = (line[1] if line else stopped[0][start:]).strip()
    ends_line = fresh and rest[:1].isspace() and bool(rest.strip())
    if not names or name != names[-1] or not (ends_line or "\n" in value):
        return stopped
    samples = _DESCRIPTION.sub("", prompt)
    demos = [demo[1].strip() for part in samples.split("\n") if (demo := head(part, names)) and demo[0] == name]
    if any("\\n" in demo for demo in demos):
        if not ends_line:
            return stopped
        after = min(heads(rest, names), default=-1)  # the next sample alone ends a text of several lines
        return (text, False) if after < 0 else (stopped[0] + rest[:after].rstrip(), True)
    if is_laid_out(value + rest if ends_line else value):
        return None
    if "\n" in value or not ends_line:
        return stopped
    joined = with_next_lines(value, rest, names, labels, demos)
    return joined and (stopped[0].rstrip().removesuffix(value) + joined[0], joined[1])


def _stop_position(text: str, stop: Sequence[str], names: Sequence[str], seen: set[str], *, skip: bool) -> int:
    """Returns the position of a text's first stop; -1 if there is none.

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
            return end
        while waiting and waiting[-1] < end:
            last = waiting.pop()
            seen.add(placed[last])
        bare_name = last >= 0 and not (head(text[last:end], names) or ("", "x"))[1].strip()
        line = text.rfind("\n", 0, behind.start()) + 1
        if not bare_name and placed.get(line, "") in seen | {""}:
            return end
        at = behind.start()
    return -1
