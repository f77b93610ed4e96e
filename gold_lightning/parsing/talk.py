"""Detects text that is talk about a sample instead of a sample: plans, offers, placeholders."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from gold_lightning.parsing.notations import name_pattern
from gold_lightning.parsing.patterns import spaced

__all__ = ["is_placeholder", "is_plan", "is_talk"]

_BEGIN = 300  # characters that are examined
_LEAD = (
    r"(?:(?:ok(?:ay)?|alright|all right|right|hmm+|well|so|now|first(?:ly)?|sure|certainly|of course|great|got it"
    r"|understood|absolutely|yes|then)\b[ ,.!:;…–—-]*){0,4}"
)
_WRITE = r"(?:write|generate|create|produce|craft|compose|come up with|make up|think of|draft|output|brainstorm)"
_ABOUT = r"(?:samples?|examples?|demos?|data ?(?:set|point)s?|instructions?|prompts?|format|labels?|scenarios?)"
_NEW = (
    r"(?:(?:one|an?|another|some|the|this|that|new|realistic|single|short|different|good|suitable|unique|\w+ly)[ ,]+)"
    r"{1,5}(?:[\w-]+ ){0,2}?"
)


@functools.lru_cache(maxsize=256)
def _plans(names: tuple[str, ...]) -> re.Pattern[str]:
    known = rf"(?:{name_pattern(names)})s?"
    thing = rf"(?:{_ABOUT}|{known})"
    # People also write messages, reviews and questions, so a plan must mention a sample or a label.
    tells = rf"(?:(?:samples?|examples?|scenarios?)\b|{known}\b(?=[^.\n]{{0,80}}\b(?:{_ABOUT}|{known})\b))"
    return spaced(
        rf"""{_LEAD}(?:
        let(?:'s| me| us) (?:think|reason)(?: (?:this through|it through|through this|step by step|carefully
        |about (?:this|it|how to {_WRITE}|what to {_WRITE}|the {thing}))\b[^.\n]{{0,60}})?[\s.…:!]*
        (?:\Z|\n|(?:the|i|first|we)\b)
        |let(?:'s| me| us) (?:start by |try to |begin by |now )?{_WRITE} {_NEW}{thing}\b
        |let(?:'s| me| us) (?:start by )?(?:analy[sz]|look|consider|break|examin)\w* [^.\n]{{0,40}}\b{_ABOUT}\b
        |(?:the|this) (?:user|prompt|task|instruction|request) (?:is |has )?
        (?:wants?|asks?|asking|needs?|requires?|asked|requested|would like|says)\b
        (?=[^.\n]{{0,60}}?(?:\bme to {_WRITE}| {_NEW}{_ABOUT}\b|(?: to {_WRITE})? {_NEW}{known}\b
        (?=[^.\n]{{0,60}}\b{thing}\b)))
        |(?:i|we) (?:need|want) {_NEW}(?:samples?|{known}\b(?=[^.\n]{{0,60}}[.,;] (?:let|i|we)\b))
        |(?:to {_WRITE} {_NEW}{thing}\b[^.\n]{{0,60}}, )?(?:i|we)(?: (?:need|have|want|am going|are asked|am asked|must
        |should|will|can)|'ll|'m going)(?: to)? (?:now )?(?:{_WRITE} {_NEW}{tells}
        |{_WRITE} (?:an? |one |some )?(?:new )?(?:realistic|plausible) (?:[\w-]+ ){{0,2}}?{thing}\b
        |(?:analy[sz]e|look at|consider|follow|examine|study) (?:the|these|those|your) (?:[\w-]+ )?{_ABOUT}\b)
        |to (?:fit|match|{_WRITE}) {_NEW}(?:{_ABOUT}|{known}), (?:i|we|the {thing}|it)\b
        |(?:looking at|based on|from|given|considering) the (?:given |provided |above )?(?:examples|samples|demos),?
        \ [^.\n]{{0,80}}\b(?:they are|all|samples?|{known})\b
        |[*_#]{{0,4}} ?(?:reasoning|thinking(?: process)?|thought(?: process)?|chain of thought|rationale)
        (?:[*_]{{1,2}}:|:[*_]{{0,2}})(?=\s|\Z)
        |[*_#]{{0,4}} ?analysis(?:[*_]{{1,2}}:|:[*_]{{0,2}})(?=[^.\n]{{0,60}}\b{thing}\b)
        )""",
        re.IGNORECASE,
    )


@functools.lru_cache(maxsize=256)
def _talks(names: tuple[str, ...]) -> re.Pattern[str]:
    known = rf"(?:{name_pattern(names)})s?"
    thing = rf"(?:samples?|examples?|{known})"
    return spaced(
        rf"""{_LEAD}(?:
        i(?:'d| would) be (?:happy|glad|delighted) to (?:help|assist|{_WRITE})\b[^.\n]{{0,40}}
        (?:\b{_WRITE}\b[^.\n]{{0,40}}|with (?:this|that)[.!]*\Z)
        |(?:please|could you(?: please)?|can you(?: please)?) (?:provide|give|share|specify|tell)\b[^.\n]{{0,40}}\b
        (?:(?:examples|samples|instructions|topic|prompt)\b(?: (?:you|for|of|that|to)\b[^.\n]{{0,60}})?
        |{known} (?:that )?you(?:'d| would)? (?:want|like|need)[^.\n]{{0,20}})[.?!]*\Z
        |what (?:would you like|should|do you want) the {known} to\b
        |(?:i will|i'll|i can|i am ready to|i'm ready to) {_WRITE} (?:realistic|new) {thing}\b
        |here(?:'s| is| are) (?:(?:an?|one|some|the|your|another) )?(?:(?:new|realistic|possible|generated|requested
        |short|sample|example) ){{0,3}}{thing}\b[^.\n]{{0,60}}:\s*\Z
        |(?:please )?(?:provide|give|send|share) (?:me )?(?:the|a|an|your|one) (?:new |next )?
        (?:samples?|examples?)[.!?]*\Z
        |(?:i can|i'll|i will|let me) (?:do|help with|handle) (?:that|this|it)\b[^.!?\n]{{0,30}}[.!]
        \ (?:what|which|could|can|please|do you)\b[^\n]{{0,80}}\?\Z
        |as requested,? here(?:'s| is| are) [^.\n]{{0,40}}\b(?:samples?|examples?)\b[^\n]{{0,20}}\Z
        |i(?:'ve| have) (?:written|created|generated|made) [^.\n]{{0,40}}\b(?:samples?|examples?)\b
        |this is (?:an?|one|the|my) (?:new )?(?:sample|example)\b(?: {known})?[^.\n]{{0,60}}[.!]?\Z
        |the task is to {_WRITE}\b|(?:write|generate|create) (?:one|a) new (?:samples?|examples?)\b
        |(?:sure|certainly|of course|absolutely)(?: thing)?!+\Z
        )""",
        re.IGNORECASE,
    )


def _plain(text: str) -> str:
    return text[:_BEGIN].strip(" \t\r\n\"“”'").replace("’", "'")


def is_plan(text: str, names: Sequence[str] = ()) -> bool:
    """Returns whether a text begins with a model's thoughts about its task."""
    return bool(_plans(tuple(names)).match(_plain(text)))


def is_talk(text: str, names: Sequence[str] = ()) -> bool:
    """Returns whether a text talks to its reader about the requested sample."""
    return bool(_talks(tuple(names)).match(_plain(text)))


_FILL_IN = re.compile(
    r"insert|enter|add|write|put|fill|provide|type|your|here|placeholder|blank|todo|tbd|text|content|value|goes|string"
    r"|sentence|redacted|omitted",
    re.IGNORECASE,
)
_IN_BRACKETS = re.compile(r"[\[<{(%]+[^\[\]<>{}()%]+[\]>})%]+|\$\w+")


def is_placeholder(value: str, names: Sequence[str] = ()) -> bool:
    """Returns whether a value only marks the place of a text: ``[Insert message here]``, ``<text>``, ``...``.

    Args:
        value: The value.
        names: Names of all lines. A name alone is not a value.
    """
    plain = value[:_BEGIN].strip(" \t\r\n\"“”'`*")
    if not re.search(r"[^\W_]", plain):  # "?!" and emoji are texts
        return bool(plain) and all(mark in ".…_-–—=*|[](){}<>\\$ \t" for mark in plain)
    if len(plain) > 100:
        return False
    known = name_pattern(names)
    words = re.findall(r"[^\W_]+", plain)
    if _IN_BRACKETS.fullmatch(plain):
        named = re.search(rf"(?:^|[\W_])(?:{known})(?:[\W_]|$)", plain, re.IGNORECASE)
        return len(words) <= 8 and bool(named or _FILL_IN.fullmatch(words[0]) or _FILL_IN.fullmatch(words[-1]))
    form = (
        rf"(?:insert|enter|write|put|type|add) (?:your |an? |the |new )*[\w ]{{1,30}} here\.?"
        rf"|(?:your |the |new )*(?:{known}|text|content) (?:goes )?here\.?|todo|tbd|n/?a|null|none|undefined"
        rf"|\W{{0,2}}(?:{known}|field)(?:\W{{1,3}}(?:{known}|value))*\W{{0,2}}"
    )
    return re.fullmatch(form, plain, re.IGNORECASE) is not None
