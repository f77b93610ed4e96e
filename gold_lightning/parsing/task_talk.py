"""Detects text that discusses its task instead of fulfilling it: the voice of a writer at work, the prompt's words.

No single word is proof: customers write messages, and reviewers mention their reviews. So a sentence needs a voice (a
plan, an order, a rule for the text, a remark on it, an offer), and scores for each kind of word it shares with the
prompt: samples and examples, the instruction, field names, the label, an unspecified customer, the required style.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from gold_lightning.parsing.notations import name_pattern
from gold_lightning.parsing.patterns import spaced
from gold_lightning.parsing.talk_elsewhere import speaks_of_task_elsewhere

__all__ = ["speaks_of_task"]

_BEGIN = 300  # characters that are examined
_ENOUGH = 6
_SENTENCES = re.compile(r"(?:[^.!?\n]|[.!?](?=\S))*[.!?]*\s*")

_SAMPLE = r"(?:(?:counter)?examples?|samples?|demos?|demonstrations?|data ?(?:sets?|points?)|placeholders?)"
_INSTRUCTION = r"(?:tasks?|instructions?|prompts?|requirements?|constraints?|formats?|assignments?|outputs?)"
_SHOWN = r"(?:examples|samples|demos|demonstrations|ones above|(?:two|three|four|five) above)"
_PERSON = (
    r"(?:customer|user|client|person|someone|somebody|writer|author|speaker|reviewer|shopper|buyer|caller|guest"
    r"|individual|reader|student|viewer)"
)
_WRITE = (
    r"(?:write|generate|create|produce|craft|compose|draft|come up with|make up|think of|think up|output|brainstorm"
    r"|construct|formulate|phrase|invent)"
)
_DETERMINER = r"(?:the|this|that|these|those|an?|one|each|every|all|any|another|my|your|our|some|both)"
_LEAD = (
    r"(?:(?:ok(?:ay)?|alright|all right|right|hmm+|well|so|now|first(?:ly)?|next|then|sure|certainly|of course|great"
    r"|got it|understood|absolutely|yes|therefore|thus|alternatively|perfect)\b[ ,.!;:…–—-]*){1,4}"
)
_HEADED = (
    r"(?:scenarios?|topics?|labels?|constraints?|requirements?|themes?|tone|persona|ideas?|instructions?|prompts?|plan"
    r"|approach|brainstorm(?:ing)?|(?:draft|option|attempt|idea|version) ?#?\d+|key (?:points?|elements?|details?))"
)
_HEADED_MAYBE = r"(?:goal|context|task|style|category|situation|background|problem|structure|perspective|intent|focus)"
_STEPS = (
    r"(?:understand|identify|choose|pick|think|analy[sz]e|write|consider|determine|decide|select|define|create|generate"
    r"|draft|brainstorm|come up|interpret)"
)
_HOW = (
    r"(?:realistic(?:ally)?|plausible|natural[- ]sounding|authentic|one sentence|single sentence|sounds? (?:like|real"
    r"|natural)|(?:different|distinct) from|similar to|keep it|concise|first[- ]person|one[- ]line|in the style of)"
)

_MUST = r"(?:should|must|needs? to|ha(?:s|ve) to|could|might|ought to|can)"
_DECIDE = r"chose|picked|selected|used|wrote|decided|went with|focused|came up with|thought of|created|made"
# What a rule for a text is about: its subject, its manner, its length.
_PROPERTY = (
    r"(?:(?:sound|feel|express|convey|describe|mention|reflect|include|contain|have|focus|talk|speak|revolve|differ"
    r"|fit|match|address|concern|involve|cover|avoid|complain|ask|show|sum|stay|keep|follow|use)\b(?! been\b| \w+ed\b)"
    r"|be (?:about|in (?:the|an?|first|second|third|\w+ish)|from the|under|at (?:most|least)|related|labell?ed"
    r"|(?:an?|one) (?:[\w-]+ )?(?:short|single|new|realistic|complete|statement|sentence|question|complaint|request)"
    r"|(?:very |more |quite )?(?:short|brief|concise|realistic|natural|plausible|authentic|believable|different"
    r"|distinct|unique|new|original|specific|simple|similar|unlike|formal|informal|casual|polite|positive|negative|neutral|varied"
    r"|diverse))\b)"
)

_WHOLE = spaced(
    rf"""(?:{_LEAD})?(?:
    (?:i hope (?:this|that|it) helps|here (?:you go|you are|it is|goes|we go)|let me try(?: again)?|i'm ready|i am ready
    |(?:ready|done|good question|great question|let's (?:begin|start|go|do (?:this|it)))|my (?:attempt|answer|response))
    |what (?:should|shall|can|do you want me to|would you like me to) (?:i )?{_WRITE}(?: about| next| now| first)?
    |(?:(?:the )?same|similar|identical|ditto|see|refer|(?:exactly )?as)(?: (?:as|to|in|the|above|below|before|previous
    |previously|last|first|{_SAMPLE}|one|\d+|mentioned|given|message|text|answer))+
    |ditto|repeat(?: the)? (?:above|previous)[\w ]{{0,20}}
    )[ .!?:]*""",
    re.IGNORECASE,
)
_DECISIVE = spaced(
    rf"""(?:{_LEAD})?(?:
    (?:i|we) (?:understand|see|have read|got|get|understood|'ve read) (?:the|your|this)
    \ (?:task|instructions?|requirements?|prompt|assignment|format|guidelines for)\b
    |(?:i'm |i am )?ready(?: to \w+)?[.!,] what (?:should|shall|would|do)\b
    |(?:what|which) (?:kind|type|sort|topic|subject|style|tone)\b[^.!?]{{0,40}}
    \b(?:would you like|do you want|should) (?:me to|i) {_WRITE}\b
    |(?:would you like|do you want|is there anything(?: else)?(?: that)? you(?:'d| would) like) me to {_WRITE}\b
    |(?:let me know|feel free|don't hesitate|just ask|tell me|please (?:let me know|tell me))\b
    [^.!?]{{0,30}}\b(?:if|whether|to ask)\b[^.!?]{{0,40}}
    \b(?:more|another|other|further|different|additional|new) (?:{_SAMPLE}|variations?|versions?)\b
    |(?:step|phase) ?\d*[.:)] *{_STEPS}\b|\d{{1,2}}[.)] *(?:understand|identify|analy[sz]e|interpret|determine)
    \ (?:the|what)\b
    |(?:the|this) (?:prompt|instruction|assignment|system prompt)s? (?:says?|wants?|asks?|is|requires?|needs?|tells?)\b
    |lorem ipsum\b|foo bar\b
    )""",
    re.IGNORECASE,
)


@functools.lru_cache(maxsize=256)
def _voices(names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[tuple[int, re.Pattern[str]], ...]:
    field, target = rf"(?:{name_pattern(names)})s?", "|".join(map(re.escape, labels)) or r"(?!)"
    thing = rf"(?:{_SAMPLE}|{_INSTRUCTION}|(?:{name_pattern(names)})s?)"
    subject = rf"(?:(?:for|to|in|with|given|based on) [^.,!?]{{1,40}}, )?{_DETERMINER} (?:[\w-]+ ){{0,2}}?{thing}"
    some = r"(?:an?|one|another|the|some|this|new)"
    forms = (
        (
            4,
            rf"{_WRITE} (?:me )?{some} (?:[\w-]+ ){{0,3}}?{thing}\b(?! (?:to|for) (?:my|me|us)\b)",
        ),
        # A rule for the writing; "should have arrived" and "could not be delivered" are about the world.
        (4, rf"{subject} {_MUST} (?:not )?(?:\w+ly )?(?:{_PROPERTY}|(?:{target})\b)"),
        (2, rf"{subject} {_MUST} "),
        (4, rf"{subject} will (?:be about|express|convey|describe|revolve|focus|reflect)\b"),
        (3, rf"{subject} (?:says?|asks?|wants?|requires?) \b"),
        (
            2,
            rf"{subject} (?:is|are|was|were|will|would|have|has|fits?|match(?:es)?|shows?|mentions?|reflects?"
            r"|takes|expresses|conveys|describes)\b",
        ),
        (2, r"(?:it|this|that|they) (?:should|must|needs? to|has to|could|might|can) (?!(?:not )?have\b)"),
        (
            3,
            r"(?:i|we|you|one|let's|let me|let us)(?:'ll|'d)?"
            r" ?(?:should|could|can|might|must|will|would|need to|have to|want to|am going to|'m going to|are going to"
            rf"|have been asked to|am asked to|are asked to|try to|was asked to|ha(?:ve|d) to)? ?{_WRITE}\b"
            r"(?![^.!?]{0,40}\b(?:to|for) (?:my|our|me|us)\b)",
        ),
        (
            3,
            r"(?:i|we)(?:'ll|'d| will| can| should| could| might)? (?:go with|aim for|use|try) (?=an?\b|one\b|the\b)",
        ),
        (6, rf"(?:i|we|let me|let us|let's)\b[^.!?]{{0,30}}\b{_WRITE} about (?:an?|one|someone|somebody)\b"),
        (
            3,
            rf"(?:the|a|this|an? \w+) {_PERSON} (?:wants?|would like|asks?|needs?|requests?|requested|complains?|wrote"
            rf"|is (?:asking|requesting|looking|complaining)|says|is)\b"
            rf"|{_PERSON} (?:wants|complains|asks|requests|says)\b",
        ),
        (3, r"you(?:'d| would)? (?:want|need|like|asked|are asking|requested)\b"),
        (
            3,
            r"(?:maybe|perhaps|possibly|how about|what about|something like|for example|for instance|e\.g\."
            r"|(?:one|an?|another) (?:possibility|option|idea|possible)|as an example|consider|imagine|suppose"
            r"|(?:i'm|i am|i was) thinking of|(?:i|we) (?:could|can|might) (?:have|use|imagine|consider|go))\b",
        ),
        (3, rf"(?:in order )?to {_WRITE} (?:[\w-]+ ){{0,3}}?{thing}\b"),
        (4, rf"[*_#]{{0,4}}{_HEADED_MAYBE}[*_]{{0,2}}:"),
        (1, rf"(?:i|we) (?:need|want|require) {some} (?:[\w-]+ ){{0,2}}?{field}\b"),
        (2, rf"(?:for|in) (?:this|the|my) [^.,!?]{{1,40}}?,? (?:i|we)(?:'ve|'ll| have| will)? (?:{_DECIDE})\b"),
        (3, r"here(?:'s| is) how (?:i|we)(?:'d|'ll| would| will| plan| can| could| might)\b"),
        (3, rf"(?:do you want|would you like|should|shall|must) (?:the|this|your) {field} (?:to )?{_PROPERTY}"),
        (2, r"(?:please|could you|can you)(?: please)? (?:share|provide|give|tell|specify|clarify|show)\b"),
    )
    return tuple((weight, re.compile(form, re.IGNORECASE)) for weight, form in forms)


@functools.lru_cache(maxsize=256)
def _words(names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[tuple[int, re.Pattern[str]], ...]:
    field, target = rf"(?:{name_pattern(names)})s?", "|".join(map(re.escape, labels)) or r"(?!)"
    forms = (
        (3, rf"(?<!\bfor )\b{_SAMPLE}\b"),
        (3, rf"\b{_INSTRUCTION}\b"),
        (2, rf"\b{field}\b"),
        (2, rf"(?<!\w)(?:{target})(?!\w)"),
        (1, rf"[(\[](?:{target})[)\]]"),
        (
            3,
            rf"\b(?:an?|some|the) (?:[\w-]+ )?{_PERSON} (?:who|whose|that|with|from|about|in|\w+ing)\b",
        ),
        (3, r"\bsomeone \w+ing\b"),
        (2, rf"\b{_HOW}\b"),
        (1, r"\b(?:(?:in)?formal|tone|style|length)\b"),
        (2, r"\bas (?:you )?requested\b"),
        (3, rf"\b(?:the|these|those|given|previous|earlier|existing|other) (?:\w+ )?{_SHOWN}\b"),
        (2, rf"\b(?:previous|earlier|existing|above) {field}(?<=s)\b"),
        (1, rf"\b(?:new|another|real|short|different|possible|typical) (?:[\w-]+ )?(?:{field}|{_SAMPLE})\b"),
    )
    return tuple((weight, re.compile(form, re.IGNORECASE)) for weight, form in forms)


def speaks_of_task(text: str, names: Sequence[str], labels: Sequence[str] = ()) -> bool:
    """Returns whether a text begins with talk about the task instead of the requested sample.

    Args:
        text: The text.
        names: Names of all lines of a sample.
        labels: Names of labels that the prompt mentions.

    >>> speaks_of_task("The message should be short and about money.", ["queue", "message"])
    True
    >>> speaks_of_task("My message from Monday is still unanswered.", ["queue", "message"])
    False
    """
    plain = text[:_BEGIN].strip(" \t\r\n\"“”'*_()[]-").replace("’", "'")
    if _DECISIVE.match(plain) or _WHOLE.fullmatch(plain):
        return True
    headed = rf"[*_#]{{0,4}} ?{_HEADED}[*_]{{0,2}}[:：]"
    if re.match(headed, plain, re.IGNORECASE):
        return True
    if speaks_of_task_elsewhere(text, names, labels):
        return True
    voices, word_forms = _voices(tuple(names), tuple(labels)), _words(tuple(names), tuple(labels))
    for count, sentence in enumerate(_SENTENCES.finditer(plain)):
        if count == 2 or not sentence[0]:
            return False
        lead = re.match(_LEAD, sentence[0], re.IGNORECASE)
        clause = sentence[0][lead.end() :] if lead else sentence[0]
        voice = max((weight for weight, form in voices if form.match(clause)), default=0)
        if voice == 0:
            if lead and clause and _nothing_else(clause, names, labels):
                return True
            continue
        shared = sum(weight for weight, form in word_forms if form.search(clause))
        shared += len({name for name in names if name.casefold() in clause.casefold()}) > 1
        if voice + (lead is not None) + shared >= _ENOUGH:
            return True
    return False


def _nothing_else(text: str, names: Sequence[str], labels: Sequence[str]) -> bool:
    """Returns whether a text consists of names and labels only: ``billing.`` in ``Hmm, billing.``."""
    known = rf"(?:{name_pattern(names)}|{'|'.join(map(re.escape, labels)) or '(?!)'}|{_SAMPLE})"
    return (
        re.fullmatch(
            rf"\W*(?:(?:an?|the|new|one|about|for) )*{known}(?:[ ,]+(?:(?:in|with|on|of|about) )?{known})*\W*",
            text,
            re.IGNORECASE,
        )
        is not None
    )
