"""Removes a model's thinking from its reply: think tags of many models, and the channels of gpt-oss."""

from __future__ import annotations

import html
import re
from collections.abc import Collection
from typing import NamedTuple

__all__ = ["Answer", "is_thinking_tag", "without_open_thinking", "without_thinking"]

_WORDS = (
    r"(?P<word>think(?:ing)?(?:_never_used_\w+)?|thoughts?|thought[ _-]process|chain[ _-]of[ _-]thought|cot"
    r"|reason(?:ing)?(?:[ _-]process)?|reflection|scratchpad|analysis|deliberation|(?:inner|internal)[ _-]monologue"
    r"|antthinking)"
)
_PLAIN = r"(?:thinking|think|thoughts?|reasoning)"
# One pattern per bracket style. The group `close` matches in tags that end thinking.
_FAMILIES = (
    rf"<\s*(?P<close>/)?\s*(?:[\w.-]+:)?{_WORDS}(?:\s[^<>]{{0,200}})?(?P<alone>/)?>",
    # [thinking] is a stage direction in many dialogues, so only [THINK], the token of Mistral's models, is a tag.
    r"\[\s*(?P<close>/)?\s*(?P<word>think)\s*\]",
    r"[◁⟨〈＜]\s*(?P<close>/)?\s*(?P<word>think(?:ing)?)\s*[▷⟩〉＞]",
    rf"<[|｜]\s*(?:(?P<close>/|end[_▁](?:of[_▁])?)|(?:(?:begin|start)[_▁](?:of[_▁])?)?)(?P<word>{_PLAIN})\s*[|｜]>",
    rf"<[|｜]\s*(?P<word>{_PLAIN})[_▁](?:(?P<close>end)|start|begin)\s*[|｜]>",
    r"<\|inner_(?:(?P<close>suffix)|prefix)\|>",
    r"(?:<\|channel>\s*(?:thought|thinking|analysis)\b|(?P<close><channel\|>))",
)
_TAGS = tuple(re.compile(family, re.IGNORECASE) for family in _FAMILIES)
_ESCAPED = re.compile(rf"&lt;\s*/?\s*{_WORDS}\s*&gt;", re.IGNORECASE)

_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<\n]{0,80}(?:<\|constrain\|>[^<\n]{0,40})?<\|message\|>", re.IGNORECASE)
# Channels if the server drops special tokens: "analysisThe user ..assistantfinalTEXT".
_BARE_CHANNEL = re.compile(r"\s*(?:analysis|commentary)(?=[A-Z\n])")
_BARE_FINAL = re.compile(r"assistant\s?final(?=\W|[A-Z]|$)")
_ANNOUNCEMENTS = (
    re.compile(r"\s*here(?:'s| is) my thought process:.*here(?:'s| is) my response:", re.IGNORECASE | re.DOTALL),
    re.compile(r"\s*thinking\.\.\.\n.*?\n\.\.\.done thinking\.", re.IGNORECASE | re.DOTALL),
)


_ENDS = {f"<{word}>": f"</{word}>" for word in ("think", "thinking", "thought", "reasoning", "seed:think")} | {
    "[THINK]": "[/THINK]",
    "\u25c1think\u25b7": "\u25c1/think\u25b7",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
}


class Answer(NamedTuple):
    """A reply without its thinking.

    Args:
        text: The remaining text.
        thought: Whether nonempty thinking was removed.
        open: Whether thinking began and never ended.
    """

    text: str
    thought: bool = False
    open: bool = False


def is_thinking_tag(text: str) -> bool:
    """Returns whether a text is a single tag that begins or ends thinking."""
    return any(tag.fullmatch(text) for tag in _TAGS)


def without_open_thinking(prompt: str) -> str:
    """Closes thinking that a prompt opens at its end, so that the model continues with the answer."""
    opened = prompt.rstrip()
    if opened.endswith("<|start|>assistant"):  # gpt-oss starts with the name of a channel
        return f"{opened}<|channel|>final<|message|>"
    for opening, closing in _ENDS.items():
        if opened.casefold().endswith(opening.casefold()):
            return f"{opened}\n\n{closing}\n\n"
    return prompt


def without_thinking(text: str, names: Collection[str] = (), prompt: str = "") -> Answer:
    """Removes complete thinking blocks from a reply, and everything before an end tag without a begin tag.

    Args:
        text: The reply.
        names: Names of fields and target. Tags with these names do not mark thinking.
        prompt: The prompt. Tags it contains are regular text of the task.
    """
    if "<|channel|>" in text and "<|channel|>" not in prompt:
        return _final_channel(text)
    if _BARE_CHANNEL.match(text):
        *thoughts, final = _BARE_FINAL.split(text)
        return Answer(final, True) if thoughts else Answer("", True, True)
    if text.startswith("assistantfinal"):
        return Answer(text.removeprefix("assistantfinal"))
    for announcement in _ANNOUNCEMENTS:
        if match := announcement.match(text):
            return Answer(text[match.end() :], True)
    if _ESCAPED.search(text) and not _ESCAPED.search(prompt):
        text = _ESCAPED.sub(lambda m: html.unescape(m[0]), text)
    return _without_tags(text, {name.casefold() for name in names}, prompt.casefold())


def _final_channel(text: str) -> Answer:
    channels = list(_CHANNEL.finditer(text))
    final = [channel for channel in channels if channel[1].casefold() == "final"]
    thought = len(channels) > len(final)
    if final:
        return Answer(text[final[-1].end() :], thought)
    before = text[: text.index("<|channel|>")]
    return Answer(before, True, True)


def _without_tags(text: str, names: Collection[str], prompt: str) -> Answer:
    tags = sorted((m for tag in _TAGS for m in tag.finditer(text)), key=lambda m: m.start())
    parts: list[str] = []
    at, begin, thought = 0, -1, False
    for tag in tags:
        groups = tag.groupdict()
        if tag.start() < at or (groups.get("word") or "").casefold() in names or tag[0].casefold() in prompt:
            continue
        if groups.get("alone"):
            parts.append(text[at : tag.start()] if begin < 0 else "")
        elif groups["close"] is None:
            begin = tag.start() if begin < 0 else begin
            continue
        elif begin < 0:
            thought |= bool(text[: tag.start()].strip())
            parts.clear()
        else:
            thought |= bool(_block_text(text[begin : tag.start()]))
            parts.append(text[at:begin])
        at, begin = tag.end(), -1
    if begin >= 0:
        return Answer("".join([*parts, text[at:begin]]), True, True)
    return Answer("".join([*parts, text[at:]]), thought)


def _block_text(block: str) -> str:
    """Returns the text of a block after its opening tag."""
    for tag in _TAGS:
        if match := tag.match(block):
            return block[match.end() :].strip()
    return block.strip()
