"""Plain text for the student's pre-training: pieces of one to three sentences, and small tasks made of them."""

from __future__ import annotations

import json
import lzma
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

__all__ = ["Example", "Source", "exchange_words", "ngrams", "pieces", "recase", "text_to_text"]

_SENTENCE_END = re.compile(r"(?<=[.!?][\"')\]])\s+|(?<=[.!?])\s+(?=[\"'(\[A-Z0-9])")
_SENTENCES = (1, 1, 2, 3, 5)  # in a piece
_WORD = re.compile(r"[a-z0-9]+")
_EXCHANGED = re.compile(r"(?<![^\W_])[A-Za-z]{3,}(?![^\W_])")


@dataclass(frozen=True)
class Source:
    """Where text comes from.

    Args:
        path: A file of paragraphs (one a line) or a JSON Lines file with ``text``, either may be xz-packed, or
            WordNet's folder of ``data.*`` files.
        kind: Which of the three.
        share: Of its pieces, how many are taken, from 0 to 1; above 1 they are repeated.
    """

    path: Path
    kind: Literal["paragraphs", "jsonl", "wordnet"]
    share: float = 1.0


def ngrams(text: str, n: int) -> Iterator[bytes]:
    """Digests of all runs of n words, case and punctuation aside."""
    words = _WORD.findall(text.lower())
    for i in range(len(words) - n + 1):
        yield blake2b(" ".join(words[i : i + n]).encode(), digest_size=8).digest()


def pieces(sources: Sequence[Source], exclude: Path | None, max_words: int, seed: int) -> tuple[list[str], int]:
    """Cuts all sources into pieces, in random order.

    Args:
        sources: Where the text comes from.
        exclude: Folder of JSON Lines files with rows to keep out: text that shares 13 words in a row with
            one of them is left out.
        max_words: Longest piece.
        seed: Of cutting and order.

    Returns:
        The pieces, and the number of paragraphs left out.
    """
    barred: set[bytes] = set()
    for file in sorted(exclude.rglob("*.jsonl")) if exclude else []:
        for row in file.read_text(encoding="utf-8").splitlines():
            for value in json.loads(row).values():
                for text in value if isinstance(value, list) else [value]:
                    barred.update(ngrams(str(text), 13))
    found: list[str] = []
    left_out = 0
    for source in sources:
        luck = random.Random(f"{seed} {source.path.name}")
        made: list[str] = []
        for paragraph in _read(source, luck):
            if not barred.isdisjoint(ngrams(paragraph, 13)):
                left_out += 1
            elif source.kind == "paragraphs":
                made.extend(_cut(paragraph, max_words, luck))
            else:
                made.append(" ".join(paragraph.split()[:max_words]))
        luck.shuffle(made)
        found += (made * (1 + int(source.share)))[: int(source.share * len(made))]
    random.Random(seed).shuffle(found)
    return found, left_out


def _read(source: Source, luck: random.Random) -> Iterator[str]:
    opened = lzma.open if source.path.suffix == ".xz" else open
    if source.kind == "jsonl":
        with opened(source.path, "rt", encoding="utf-8") as file:
            for row in file:
                if len(text := json.loads(row)["text"].strip()) > 20:
                    yield text
    elif source.kind == "wordnet":
        for part in ("noun", "verb", "adj", "adv"):
            for line in (source.path / f"data.{part}").read_text(encoding="utf-8").splitlines():
                if line.startswith(" ") or " | " not in line:
                    continue
                head, gloss = line.split(" | ", 1)
                columns = head.split()
                words = [w.split("(")[0].replace("_", " ") for w in columns[4 : 4 + 2 * int(columns[3], 16) : 2]]
                gloss = gloss.strip().replace('"', "")
                # A word alone, its synonyms, what it means, and both together.
                yield luck.choice([words[0], ", ".join(words), gloss, gloss, f"{words[0]}: {gloss}"])
    else:
        with opened(source.path, "rt", encoding="utf-8") as file:
            yield from (line.strip() for line in file if len(line) > 40)


def _cut(paragraph: str, max_words: int, luck: random.Random) -> Iterator[str]:
    taken: list[str] = []
    wanted = luck.choice(_SENTENCES)
    for sentence in _SENTENCE_END.split(paragraph):
        words = sentence.split()
        if taken and (wanted == 0 or len(taken) + len(words) > max_words):
            yield " ".join(taken)
            taken, wanted = [], luck.choice(_SENTENCES)
        taken += words[: max_words - len(taken)]
        wanted -= 1
    if len(taken) > 3:
        yield " ".join(taken)


def exchange_words(luck: random.Random, text: str, words: Sequence[str], share: float) -> str:
    """Puts other words in the place of some, about half of them capitalised, as names are.

    A teacher says what any text means, also one that makes no sense: so its whole vocabulary can be learnt from it,
    names above all, wherever the text at hand has few of them. Spaces and punctuation stay where they are.

    Args:
        luck: Draws places and words.
        text: The text.
        words: Lower-case words to draw from.
        share: Of the words of three letters or more, how many are exchanged, from 0 to 1.
    """

    def other(found: re.Match[str]) -> str:
        if luck.random() >= share:
            return found[0]
        word = luck.choice(words)
        return word.capitalize() if found[0][0].isupper() or luck.random() < 0.4 else word

    return _EXCHANGED.sub(other, text)


def recase(luck: random.Random, text: str) -> str:
    """Writes a text as a title, in small letters, or a run of one to three of its words in capitals.

    An uncased teacher says the same of it, so the student learns what a letter's case does not change.
    """
    kind = luck.choice(("title", "title", "small", "capitals", "capitals"))
    if kind == "small":
        return text.lower()
    words = text.split(" ")
    if kind == "title":
        return " ".join(w if len(w) < 4 and luck.random() < 0.5 else w[:1].upper() + w[1:] for w in words)
    at = luck.randrange(len(words)) if luck.random() < 0.5 else 0
    size = luck.randint(1, 3)
    return " ".join(w.upper() if at <= i < at + size else w for i, w in enumerate(words))


# Text to text


@dataclass(frozen=True)
class Example:
    """What the student reads and what it is to write."""

    source: str
    target: str


def text_to_text(luck: random.Random, text: str, other: str) -> Example:
    """One small task made of plain text, of a kind drawn at random.

    Args:
        luck: Draws the kind and its details.
        text: The piece that it is made of.
        other: Another piece, for tasks that compare or distract.
    """
    made: Example | None = None
    while made is None:
        made = luck.choices(list(_KINDS), weights=list(_KINDS.values()))[0](luck, text, other)
    return made


def _fill(luck: random.Random, text: str, other: str) -> Example:
    """Span corruption (T5): about 15 % of the words, in runs of one to five."""
    words, source, target, at, gaps = text.split(), [], [], 0, 0
    while at < len(words):
        if gaps < 99 and luck.random() < 0.06:
            size = luck.randint(1, 5)
            source.append(f"<extra_id_{gaps}>")
            target += [f"<extra_id_{gaps}>", *words[at : at + size]]
            at, gaps = at + size, gaps + 1
        else:
            source.append(words[at])
            at += 1
    if not gaps:
        return Example(" ".join([*words[:-1], "<extra_id_0>"]), f"<extra_id_0> {words[-1]}")
    return Example(" ".join(source), " ".join(target))


def _continue(luck: random.Random, text: str, other: str) -> Example | None:
    words = text.split()
    if len(words) < 6:
        return None
    cut = luck.randint(3, len(words) - 2)
    return Example("continue: " + " ".join(words[:cut]), " ".join(words[cut : cut + 10]))


def _cloze(luck: random.Random, text: str, other: str) -> Example | None:
    """A question whose answer, one to three words, stands in the context."""
    words = text.split()
    if len(words) < 8:
        return None
    size = luck.randint(1, 3)
    at = luck.randint(1, len(words) - size)
    low, high = max(0, at - luck.randint(3, 8)), at + size + luck.randint(0, 4)
    asked = " ".join([*words[low:at], "___", *words[at + size : high]])
    context = f"{text} {other}" if luck.random() < 0.5 else f"{other} {text}"
    return Example(f"question: {asked} context: {context}", " ".join(words[at : at + size]).strip(".,;:!?\"'()"))


def _same(luck: random.Random, text: str, other: str) -> Example | None:
    """Whether two texts say the same, one of them reordered and shortened."""
    words = text.split()
    if len(words) < 6:
        return None
    if luck.random() < 0.5:
        return Example(f"same meaning? first: {text} second: {other}", "no")
    kept = [w for w in words if luck.random() > 0.15]
    cut = luck.randint(1, len(kept) - 1) if len(kept) > 2 else 0
    return Example(f"same meaning? first: {text} second: {' '.join(kept[cut:] + kept[:cut])}", "yes")


def _copy(luck: random.Random, text: str, other: str) -> Example | None:
    words = text.split()
    if len(words) < 4:
        return None
    kind = luck.choice(("first word", "last word", "word after", "repeat"))
    if kind == "first word":
        return Example(f"first word: {text}", words[0])
    if kind == "last word":
        return Example(f"last word: {text}", words[-1])
    if kind == "repeat":
        return Example("repeat: " + " ".join(words[:8]), " ".join(words[:8]))
    at = luck.randrange(len(words) - 1)
    return Example(f"word after {words[at]}: {text}", words[at + 1]) if words.count(words[at]) == 1 else None


_NAMES = "Ana Ben Cleo Dev Eve Finn Gita Hugo Ines Jan Kofi Lena Mona Nils Omar Pia Ravi Sara Tom Uma Vera Wes".split()
_THINGS = "apples books cards coins cups eggs flowers games kites letters marbles pencils stamps tickets toys".split()
_PROBLEMS = (
    ("{n} had {a} {t}. {m} gave {n} {b} more. How many {t} does {n} have now?", "{a} + {b}"),
    ("There are {a} {t} in one box and {b} in another. How many {t} are there in all?", "{a} + {b}"),
    ("{n} found {b} {t} on Monday and {a} on Tuesday. How many {t} did {n} find on the two days?", "{b} + {a}"),
    ("After {n} sold {b} {t} there were {a} left. How many {t} were there before?", "{b} + {a}"),
    ("{m} needs {a} more {t} to have as many as {n}. {m} has {b}. How many does {n} have?", "{a} + {b}"),
    ("{n} had {a} {t} and lost {b} of them. How many {t} are left?", "{a} - {b}"),
    ("{n} has {a} {t}. {m} has {b} {t}. How many more {t} does {n} have than {m}?", "{a} - {b}"),
    ("{n} used {b} of the {a} {t} on Monday. How many {t} did {n} have on Tuesday?", "{a} - {b}"),
    ("Of {a} {t} {b} are red and the rest are blue. How many {t} are blue?", "{a} - {b}"),
    ("{n} wants {a} {t} and has {b} so far. How many {t} are still missing?", "{a} - {b}"),
    ("{n} has {c} {u}, {a} {t} and a dog. {m} took {b} of the {t}. How many {t} does {n} have now?", "{a} - {b}"),
    ("There were {c} {u} and {b} {t} on the table. Now there are {a} {t}. How many {t} were put there?", "{a} - {b}"),
    ("{n} bought {a} boxes with {b} {t} in each. How many {t} did {n} buy?", "{a} * {b}"),
    ("Each of {b} friends brought {a} {t} to {n}. How many {t} did {n} get?", "{b} * {a}"),
    ("One of the {t} costs {b} dollars. What do {a} of them cost?", "{b} * {a}"),
    ("{n} reads {b} pages a day. How many pages does {n} read in {a} days?", "{b} * {a}"),
    ("{c} {u} lie beside {a} rows of {t}, {b} in each row. How many {t} are there?", "{a} * {b}"),
    ("{n} shares {a} {t} equally among {b} friends. How many {t} does each get?", "{a} / {b}"),
    ("{a} {t} are put into {b} bags with the same number in each. How many {t} are in a bag?", "{a} / {b}"),
    ("{b} {t} fit into a box. How many boxes does {n} need for {a} {t}?", "{a} / {b}"),
    ("{n} paid {a} dollars for {b} {t} and {c} for {u}. What did one of the {t} cost?", "{a} / {b}"),
)


def _problem(luck: random.Random, text: str, other: str) -> Example:
    question, answer = luck.choice(_PROBLEMS)
    low, high = sorted(luck.sample(range(2, 200), 2))
    names, things = luck.sample(_NAMES, 2), luck.sample(_THINGS, 2)
    values = {
        "n": names[0],
        "m": names[1],
        "t": things[0],
        "u": things[1],
        "a": high,
        "b": low,
        "c": luck.randrange(99),
    }
    return Example("equation: " + question.format(**values), answer.format(**values))


_KINDS: dict[Callable[[random.Random, str, str], Example | None], float] = {
    _fill: 0.35,
    _continue: 0.15,
    _cloze: 0.2,
    _same: 0.1,
    _copy: 0.1,
    _problem: 0.1,
}
