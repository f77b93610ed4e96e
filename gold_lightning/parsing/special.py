"""Special tokens that a server or a tokenizer left in a text. None of them is text: a sample ends there."""

from __future__ import annotations

import re

from gold_lightning.parsing.thinking import is_thinking_tag

__all__ = ["until_special"]

_SPECIAL = re.compile(
    r"<[|｜](?! )[A-Za-z0-9_▁/ .:-]{1,40}(?<! )[|｜]>"
    r"|<(?:turn|tool_call|tool_response)\|>|<\|(?:turn|tool_call|tool_response)>"
    r"|</?s>|<(?:eos|bos|pad|eot|eop|eod|sop|mask)>|<(?:end|start)[_▁]of[_▁](?:turn|text|utterance|sentence|image)>"
    r"|<extra_id_\d+>|<(?:unused|reserved)_?\d+>|\[/?INST\]|<</?SYS>>|\[(?:EOS|BOS|PAD|EOT|gMASK)\]|\[e~\[|\]~b\]",
    re.IGNORECASE,
)
_ROLE = re.compile(r"(?:assistant|model|bot|ai)(?=[ \t]*\n|<)", re.IGNORECASE)
# What is left of <|eot_id|><|start_header_id|>assistant where special tokens are left out: the next turn.
_NEXT_TURN = re.compile(r"(?<=[.!?…。！？\"”’)])assistant(?=\s*\n|\s*\Z)")


def until_special(text: str, prompt: str = "") -> tuple[str, bool]:
    """A text up to its first special token, without those that it begins with.

    Args:
        text: The text, without thinking.
        prompt: What the model read. A token that stands there is the task's own.

    Returns:
        The text, and whether a special token ended it.
    """
    at = 0
    for token in _SPECIAL.finditer(text):
        if token[0] in prompt or is_thinking_tag(token[0]) or _struck_out(text, at, token):
            continue
        if text[at : token.start()].strip():
            return text[at : token.start()], True
        at = token.end()
        if role := _ROLE.match(text, at):
            at = role.end()
    text = text[at:]
    if turn := _NEXT_TURN.search(text):
        return text[: turn.start()], True
    return text, False


def _struck_out(text: str, at: int, token: re.Match[str]) -> bool:
    """Whether it is HTML's <s>..</s> around some words, and no end of a sequence."""
    if token[0].casefold() == "<s>":
        return bool(text[at : token.start()].strip()) and "</s>" in text[token.end() :].casefold()
    begun = text[at : token.start()].casefold().find("<s>")
    return token[0].casefold() == "</s>" and begun >= 0
