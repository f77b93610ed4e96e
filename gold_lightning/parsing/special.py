"""Cuts a text at special tokens that a server or tokenizer left in it, and at the next turn of a conversation."""

from __future__ import annotations

import functools
import re

from gold_lightning.parsing.thinking import is_thinking_tag

__all__ = ["has_next_turn", "looks_special", "until_special"]

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
# The speakers of a chat. Behind a sentence without a space, or at the beginning of a line; elsewhere it may be text.
_CHAT = r"(?:Human|HUMAN|User|Assistant|System|AI|Bot|ChatGPT)"
_TURN = re.compile(
    rf"(?:(?<=[.!?…。！？])|(?<=[.!?…。！？][\"”’)])|^[ \t]*[*_#\[<]{{0,4}}[ \t]?)(?:###[ \t]*)?{_CHAT}[*_\]>]{{0,3}}"
    r"(?:[ \t]?\([^()\n]{1,30}\))?[:：]"
    r"|^[ \t]*(?:Utilisateur|Benutzer|Nutzer|Usuario|Usuária?|Utente|Gebruiker"
    r"|Пользователь|用户|ユーザー|사용자)[ \t]?[:：]"
    r"|^###[ \t]*(?:Instruction|Response|Input|Human|User|Assistant)\b"
    r"|^(?:H|A|Q):[ \t][^\n]*\n\s*A:"
    r"|^(?:user|assistant|human)[ \t]*\n"
    r"|^(?:Write one new sample\b|Each sample has (?:this|these) lines?:|These exist already:|Examples:[ \t]*$"
    r"|The \w+ is one of:|Which \w+ fits here\?)",
    re.MULTILINE,
)


_COLON_OR_LINE = re.compile(r"[:：\n]")
_TURN_INSIDE = re.compile(rf"(?<=[.!?…。！？])[ \t]+{_CHAT}: ")


def looks_special(token: str) -> bool:
    """Returns whether a token of a vocabulary is written as special ones are, such as ``<|endoftext|>``.

    >>> looks_special("<|endoftext|>"), looks_special("</s>"), looks_special("<p>")
    (True, True, False)
    """
    return _SPECIAL.fullmatch(token) is not None


def has_next_turn(text: str) -> bool:
    """Returns whether another speaker of a chat answers within a text: ``It never came. User: More``."""
    return ": " in text and _TURN_INSIDE.search(text) is not None


def until_special(text: str, prompt: str = "") -> tuple[str, bool]:
    """Returns a text up to its first special token, without special tokens at its beginning.

    Args:
        text: The text, without thinking.
        prompt: The prompt. A token in it is regular text of the task.

    Returns:
        The text, and whether a special token ended it.
    """
    if "<0x0A>" not in prompt:
        text = text.replace("<0x0A>", "\n")  # a line break of tokenizers that fall back to bytes
    at = 0
    for token in _SPECIAL.finditer(text) if any(mark in text for mark in "<[]") else ():
        if token[0] in prompt or is_thinking_tag(token[0]) or _struck_out(text, at, token):
            continue
        if text[at : token.start()].strip():
            return text[at : token.start()], True
        at = token.end()
        if role := _ROLE.match(text, at):
            at = role.end()
    text = text[at:]
    if "assistant" in text and (turn := _NEXT_TURN.search(text)):
        return text[: turn.start()], True
    return _until_turn(text, prompt)


def _until_turn(text: str, prompt: str) -> tuple[str, bool]:
    """Returns a text up to the next turn of a conversation, or up to repeated words of the prompt."""
    begun = len(text) - len(text.lstrip())
    # A turn has a colon, or stands at the beginning of a line: most texts need no search, which takes long.
    if not _COLON_OR_LINE.search(text, begun) or _has_turn(prompt) or _TURN.match(text[begun:]):  # a dialogue
        return text, False
    turn = next((t for t in _TURN.finditer(text, begun + 1) if text[: t.start()].strip()), None)
    return (text[: turn.start()].rstrip(), True) if turn else (text, False)


@functools.lru_cache(maxsize=64)  # the demos of a task, with every reply
def _has_turn(prompt: str) -> bool:
    return _TURN.search(prompt) is not None


def _struck_out(text: str, at: int, token: re.Match[str]) -> bool:
    """Returns whether a token belongs to HTML's ``<s>..</s>`` around some words, rather than ending a sequence."""
    if token[0].casefold() == "<s>":
        return bool(text[at : token.start()].strip()) and "</s>" in text[token.end() :].casefold()
    begun = text[at : token.start()].casefold().find("<s>")
    return token[0].casefold() == "</s>" and begun >= 0
