"""Short sentences of every kind from templates with gaps: questions, requests, opinions, statements.

Books and the generator hold few short questions, and a student that has read few cannot tell who from where.
A template says the kind; WordNet's words fill its gaps, as far as they are one piece of the teacher's vocabulary.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

__all__ = ["Words", "fill", "read_words", "sentences"]

_CHOICE = re.compile(r"\(([^()]*)\)")
_GAP = re.compile(r"\{(\w+)(\??)\}")
_COMMON = 6000  # the words that come first in the teacher's vocabulary are the frequent ones
_RARE = 0.3  # share of the gaps that any word may fill

Words = dict[str, list[str]]
"""Words of each kind, the frequent ones first."""


def read_words(wordnet: Path, vocabulary: Iterable[str]) -> Words:
    """Returns the words that fill gaps.

    Args:
        wordnet: WordNet's folder of ``index.*`` and ``data.*`` files.
        vocabulary: The teacher's words, the frequent ones first.
    """
    known = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2]
    index = {kind: _index(wordnet / f"index.{kind}") for kind in ("noun", "verb", "adj")}
    adjectives = index["adj"] - index["verb"]
    words = {
        "noun": [word for word in known if word in index["noun"] and word not in adjectives],
        "verb": [word for word in known if word in index["verb"] and not word.endswith(("ing", "ed"))],
        "adj": [word for word in known if word in adjectives],
    }
    names = _names(wordnet / "data.noun")
    rank = {word: place for place, word in enumerate(known)}
    for kind in ("person", "place"):
        words[kind] = sorted(names[kind], key=lambda name: (rank.get(name.split()[-1].lower(), len(rank)), name))
    return words


def sentences(templates: Path, words: Words, count: int, seed: int) -> list[str]:
    """Returns ``count`` sentences, as many of each kind and equally of its templates.

    Args:
        templates: A YAML file: kinds, each with its templates.
        words: What :func:`read_words` gives.
        count: How many.
        seed: Of all draws.
    """
    rng = random.Random(seed)
    kinds: list[list[str]] = list(yaml.safe_load(templates.read_text(encoding="utf-8")).values())
    return [fill(rng, rng.choice(kinds[number % len(kinds)]), words) for number in range(count)]


def fill(rng: random.Random, template: str, words: Words) -> str:
    """Returns one sentence of a template: ``(a|b)`` is one of them, ``{noun}`` a noun, ``{adj?}`` one or none."""
    while _CHOICE.search(template):  # the innermost first
        template = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), template)
    text = _GAP.sub(lambda found: "" if found[2] and rng.random() < 0.6 else _word(rng, found[1], words), template)
    text = re.sub(r" +([.,?!]|$)", r"\1", re.sub(r" +", " ", text)).strip()
    text = re.sub(r"\ba (?=[aeiou])", "an ", text.replace("an? ", "a "))
    if rng.random() < 0.3:  # as a tokenised corpus has it
        text = re.sub(r"([.?!])$", r" \1", text)
    return text[:1].upper() + text[1:] if rng.random() < 0.8 else text


def _word(rng: random.Random, kind: str, words: Words) -> str:
    if kind == "number":
        return str(rng.choice((2, 3, 5, 7, 12, 20, 40, 100, 250, 1000)))
    if kind == "year":
        return str(rng.randrange(1750, 2026))
    if kind == "letters":
        return "".join(rng.choice("ABCDEFGHIKLMNOPRSTUVW") for _ in range(rng.choice((2, 3, 3, 4))))
    if kind == "nouns":
        noun = _word(rng, "noun", words)
        return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s" * (not noun.endswith("s"))
    known = words[kind]
    return rng.choice(known if rng.random() < _RARE else known[: max(1, min(_COMMON, len(known) // 2))])


def _index(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split(" ", 1)[0] for line in lines if line[:1] != " "}


def _names(path: Path) -> dict[str, list[str]]:
    """Names of persons and places: WordNet's file numbers 18 and 15."""
    names: dict[str, list[str]] = {"18": [], "15": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        columns = line.split()
        if line[:1] == " " or columns[1] not in names:
            continue
        words = [columns[4 + 2 * number].replace("_", " ") for number in range(int(columns[3], 16))]
        names[columns[1]] += [word for word in words if word[0].isupper() and len(word.split()) < 3]
    return {"person": names["18"], "place": names["15"]}
