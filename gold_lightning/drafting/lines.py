"""The lines that a generator is asked for when it drafts a task, and how its answers are read and checked.

Each request shows the same kind of line of three other tasks, then the new task up to the line that is asked for. A
small model continues the pattern; a chat model is told to begin its answer in that way.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gold_lightning.checks.duplicates import copies
from gold_lightning.generators import Completion, Request
from gold_lightning.parsing import clean_characters, is_refusal
from gold_lightning.parsing.framing import bare_value
from gold_lightning.parsing.talk import is_placeholder, is_plan, is_talk
from gold_lightning.parsing.words import words
from gold_lightning.parsing.wrappers import unwrapped

__all__ = ["EXAMPLES", "Line", "Rule", "identifier", "is_list", "items", "phrase", "read_line"]

Rule = Callable[[str], str]
"""From a text to the reason to reject it, or ""."""

EXAMPLES: tuple[Mapping[str, str], ...] = (
    {
        "task": "Write a short title for a recipe.",
        "inputs": "recipe",
        "input": "recipe",
        "content": "a recipe for one dish, in three to five sentences",
        "output": "title",
        "labels": "none",
        "purpose": "the name of the dish in two to five words",
        "label": "",
        "meaning": "",
        "subjects": "a soup, bread, a cake for children, fish, a salad, breakfast",
        "text": "Boil the lentils for half an hour. Fry an onion and add it with some cumin.",
        "subject": "a soup",
    },
    {
        "task": "Does the second sentence follow from the first one?",
        "inputs": "first, second",
        "input": "second",
        "content": "one short statement about the first sentence",
        "output": "answer",
        "labels": "follows, does not follow",
        "purpose": "whether the second sentence follows from the first",
        "label": "follows",
        "meaning": "whoever believes the first sentence must believe the second one",
        "subjects": "a bridge, a village, a football club, a painter, a recipe, a railway",
        "text": "The bridge was opened in 1931 and carried trams until 1958.",
        "subject": "a bridge",
    },
    {
        "task": "Say which desk of a shop answers a customer's message.",
        "inputs": "message",
        "input": "message",
        "content": "one message of a customer to a shop, in one to three sentences",
        "output": "desk",
        "labels": "payment, delivery, returns",
        "purpose": "the desk that answers the message",
        "label": "payment",
        "meaning": "it is about an invoice, a price or money that is paid back",
        "subjects": "a double charge, a voucher, an invoice for a company, a late refund, a price that is wrong, "
        "a card that was refused",
        "text": "I was charged twice for order 881. Please pay one of them back.",
        "subject": "a double charge",
    },
)
"""Lines of three tasks that the drafted one is unlikely to be. A small model follows the last one most."""

_ASKED = {
    "inputs": "Name the texts that a task reads, each in one word.",
    "content": "Describe what each text of a task is, in one phrase.",
    "output": "Name in one word what a task puts out.",
    "labels": "List the labels of a task. A task without labels has none.",
    "purpose": "Describe what a task puts out, in one phrase.",
    "meaning": "Explain each label of a task in one phrase.",
    "subjects": "List subjects of texts, so that the texts differ.",
    "subject": "Name the subject of each text in a few words.",
}
_CONTEXT = {
    "inputs": ["task"],
    "content": ["task", "input"],
    "output": ["task", "inputs"],
    "labels": ["task", "output"],
    "purpose": ["task", "output"],
    "meaning": ["task", "labels", "label"],
    "subjects": ["task", "label", "meaning"],
    "subject": ["text"],
}
_SYSTEM = "You describe data sets from which small language models learn."
_TOKENS = {"inputs": 16, "output": 12, "subject": 16, "content": 48, "purpose": 48, "meaning": 48}
_LISTS = ("labels", "subjects")
_MENDED = {
    "copies_example": "It must be about this task, not about the examples.",
    "duplicate": "It must differ from the lines of the other labels.",
    "not_a_name": "It must be one word.",
    "too_few": "It must list more, separated by commas.",
    "too_long": "It must be shorter.",
    "truncated": "It must be shorter.",
    "repeats_task": "It must say more than the task's own words.",
}


@dataclass
class Line:
    """One line of a task that is asked for.

    Args:
        key: The task's key that it fills, such as ``labels[0].meaning``.
        kind: One of the lines of :data:`EXAMPLES`.
        context: Values of the lines before it, by name.
        rules: Checks of the value; the first reason counts.
        texts: Real texts, shown for their manner.
        reasons: Why earlier answers were rejected.
    """

    key: str
    kind: str
    context: Mapping[str, str]
    rules: Sequence[Rule] = ()
    texts: Sequence[str] = ()
    reasons: list[str] = field(default_factory=list)

    def request(self, seed: int) -> Request:
        """Asks for the line; after a rejected answer, with a sentence on what to do better."""
        names = [name for name in _CONTEXT[self.kind] if name in self.context]
        examples = [example for example in EXAMPLES if all(example[name] for name in (*names, self.kind))]
        blocks = [_block(example, [*names, self.kind]) for example in examples]
        prefix = f"{_ASKED[self.kind]}\n\nExamples:\n\n" + "\n\n".join(blocks) + "\n\n"
        suffix = "Write the next line."
        if self.texts:
            suffix = "These texts are some that the task is about:\n" + "".join(f"- {t}\n" for t in self.texts) + suffix
        if self.reasons and self.reasons[-1] in _MENDED:
            suffix += f" {_MENDED[self.reasons[-1]]}"
        return Request(
            system=_SYSTEM,
            prefix=prefix,
            suffix=suffix,
            answer_prefix=f"{_block(self.context, names)}\n{self.kind}:",
            seed=zlib.crc32(f"{seed}/{self.key}/{len(self.reasons)}".encode()),
            max_tokens=_TOKENS.get(self.kind, 96),
            stop=("\n\n",) if self.kind in _LISTS else ("\n",),
        )

    def judge(self, completion: Completion) -> tuple[str, str]:
        """Returns the value of the line and "", or "" and the reason to reject it."""
        text, reason = read_line(completion, self.kind)
        example = [example[self.kind] for example in EXAMPLES]
        if not reason and text in example and len(words(text)) > 1:
            reason = "copies_example"
        if not reason and len(words(text)) > 4 and copies(text, example):
            reason = "copies_example"
        if not reason and self.kind in _LISTS and len(shown := {*items(text)}) > 2:
            if any(2 * len(shown & {*items(one)}) > len(shown) for one in example):
                reason = "copies_example"
        reason = reason or next((reason for rule in self.rules if (reason := rule(text))), "")
        return ("", reason) if reason else (text, "")


def _block(values: Mapping[str, str], names: Sequence[str]) -> str:
    return "\n".join(f"{name}: {' '.join(values[name].split())}" for name in names)


def read_line(completion: Completion, name: str) -> tuple[str, str]:
    """Reads one line of a completion, or a list of several lines, as samples are read.

    Args:
        completion: The completion, which continues ``name:``.
        name: Name of the line.

    Returns:
        The text and "", or "" and the reason to reject it.
    """
    if completion.finish in ("filtered", "failed"):
        return "", completion.finish
    if completion.reason:
        return "", completion.reason
    lines = [line.strip() for line in completion.text.strip().split("\n")]
    bullets = [line for line in lines if _BULLET.match(line)]
    whole = name in _LISTS and len(bullets) > 1
    text = "; ".join(_BULLET.sub("", line) for line in bullets) if whole else lines[0]
    if not text:
        return "", "truncated" if completion.finish == "length" else "empty"
    text, damaged = clean_characters(text)
    text = " ".join(unwrapped(bare_value(text, name), [name]).split())
    if damaged:
        return "", "not_unicode"
    if is_refusal(text):
        return "", "refusal"
    if is_talk(text, [name]) or is_plan(text, [name]):
        return "", "only_thinking"
    if not text or (is_placeholder(text, [name]) and (name != "labels" or text.casefold().strip(_ENDS) != "none")):
        return "", "empty"
    if text.endswith(":") or _KEY.match(text):
        return "", "unparsable"
    if completion.finish == "length" and len(lines) == 1:
        if name not in _LISTS:
            return "", "truncated"
        text = text.rpartition(",")[0]  # the last item may be a part of one
    return (text, "") if text else ("", "truncated")


_BULLET = re.compile(r"(?:[-*\u2022\u2013]|\(?\d{1,2}[.)])\s+")
_KEY = re.compile(rf"(?:name|description|{'|'.join(_CONTEXT)}|task|label|input)\s*:", re.IGNORECASE)
_BETWEEN = re.compile(r"[,;|\uff0c\u3001\uff1b\u00b7\u060c]|\s/\s")
_ENDS = " \t\"'\u201c\u201d\u2018\u2019`*_[](){}.\u3002"


def items(text: str) -> list[str]:
    """Splits a list into its distinct items.

    >>> items('"a refund", a voucher, and A refund.')
    ['a refund', 'a voucher']
    """
    parts = [_BULLET.sub("", part.strip()).strip(_ENDS) for part in _BETWEEN.split(text)]
    parts = [re.sub(r"^(?:and|or)\s+", "", part) for part in parts]
    return list({part.casefold(): part for part in reversed(parts) if part}.values())[::-1]


def identifier(text: str) -> str:
    """Returns a text as the name of a field, in lower case; "" if it is none.

    >>> identifier("Customer message"), identifier("1st"), identifier("what the customer of a shop would write")
    ('customer_message', '', '')
    """
    name = re.sub(r"\W+", "_", text.strip(_ENDS).lower()).strip("_")
    return name if name.isidentifier() and len(name) <= 30 and name.count("_") < 4 else ""


def phrase(task: str, fewest: int, most: int) -> Rule:
    """Returns the rule of a phrase of some words that is not the task's sentence again."""

    def rule(text: str) -> str:
        count = len(words(text))
        if words(text) == words(task):
            return "repeats_task"
        return "too_short" if count < fewest and len(text) < 4 * fewest else "too_long" if count > most else ""

    return rule


def is_list(fewest: int, most: int, longest: int) -> Rule:
    """Returns the rule of a list with so many items, none of more words than ``longest``."""

    def rule(text: str) -> str:
        parts = items(text)
        if any(len(words(part)) > longest or len(part) > 12 * longest for part in parts):
            return "too_long"
        return "too_few" if len(parts) < fewest else "too_many" if len(parts) > most else ""

    return rule
