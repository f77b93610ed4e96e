"""Chooses the samples and rejects that a report shows."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gold_lightning.report.numbers import decimal, evenly_spaced, percent, ratio
from gold_lightning.report.run import KINDS, Round, Run
from gold_lightning.report.text import LABEL_CHARS, cut, visible
from gold_lightning.storage.lazy import Chained
from gold_lightning.storage.round_store import Kind, StoredSample

__all__ = ["PageReason", "PageRound", "PageSample", "PageText", "max_chars", "reasons_of", "samples_of"]

_PER_ROUND = 20
_MAX_ROUNDS = 50
_MAX_REASONS = 40
_MAX_CHARS = 600  # of a text
_ALL_CHARS = 400_000  # of all samples: 2 MB if each is written as "&#34;" or takes four bytes


@dataclass(frozen=True)
class PageText:
    """A generated text with every character visible, cut; ``more`` characters are left out."""

    name: str
    text: str
    more: int = 0


@dataclass(frozen=True)
class PageSample:
    """A sample as the page shows it."""

    id: str
    label: str
    texts: Sequence[PageText]
    marks: Sequence[str] = ()
    energy: str = ""
    fed_back: bool = False


@dataclass(frozen=True)
class PageRound:
    """The samples of a round that the page shows; ``of`` holds the number of all samples by kind."""

    name: str
    train: Sequence[PageSample]
    probe: Sequence[PageSample]
    by_energy: bool
    of: Mapping[str, int]


@dataclass(frozen=True)
class PageReason:
    """A reject reason with up to two examples."""

    name: str
    count: int
    share: str
    examples: Sequence[PageText] = ()


def max_chars(run: Run) -> int:
    """Returns the most characters of a text on a page, fewer with many rounds or fields to bound the page's size.

    Args:
        run: The run.
    """
    rounds = sum(bool(r.samples["train"] or r.samples["probe"]) for r in run.rounds)
    texts = min(rounds, _MAX_ROUNDS) * _PER_ROUND * (len(run.fields) + (not run.labels))
    return min(_MAX_CHARS, _ALL_CHARS // max(1, texts))


def samples_of(run: Run) -> list[PageRound]:
    """Returns some samples of each round, drawn with a fixed seed: half training samples, half probe set.

    Args:
        run: The run.
    """
    with_samples = {r.number: r for r in run.rounds if r.samples["train"] or r.samples["probe"]}
    return [_round(run, with_samples[number]) for number in evenly_spaced([*with_samples], _MAX_ROUNDS)]


def _round(run: Run, round_: Round) -> PageRound:
    rng = random.Random(f"samples of round {round_.number}")
    probe = _some_probes(round_, _PER_ROUND // 2, rng)
    every = round_.samples["train"]
    train = [every[i] for i in sorted(rng.sample(range(len(every)), min(len(every), _PER_ROUND - len(probe))))]
    return PageRound(
        f"Round {round_.number}",
        [_sample(stored, "train", round_, run) for stored in train],
        [_sample(stored, "probe", round_, run) for stored in probe],
        bool(round_.energies["probe"]),
        {kind: len(round_.samples[kind]) for kind in KINDS},
    )


def _some_probes(round_: Round, count: int, rng: random.Random) -> list[StoredSample]:
    """Draws from the probe set, half of it fed back if possible, evenly from the lowest to the highest energy."""
    energy = round_.energies["probe"]
    fed = [s for s in round_.samples["probe"] if s.id in round_.fed_back]
    rest = [s for s in round_.samples["probe"] if s.id not in round_.fed_back]
    few = min(len(fed), max(count // 2, count - len(rest)))
    if energy:
        fed, rest = (sorted(samples, key=lambda s: (energy.get(s.id, math.inf), s.id)) for samples in (fed, rest))
        chosen = [fed[i] for i in evenly_spaced(range(len(fed)), few)] if few > 1 else fed[len(fed) // 2 :][:few]
        many = count - few
        chosen += [rest[i] for i in evenly_spaced(range(len(rest)), many)] if many > 1 else rest[:many]
        return sorted(chosen, key=lambda s: (energy.get(s.id, math.inf), s.id))
    return sorted(rng.sample(fed, few) + rng.sample(rest, min(len(rest), count - few)), key=lambda s: s.id)


def _sample(stored: StoredSample, kind: Kind, round_: Round, run: Run) -> PageSample:
    chars, fields = max_chars(run), stored.sample.fields
    texts = [_text(value, chars, name if len(fields) > 1 else "") for name, value in fields.items()]
    if not run.labels:
        texts.append(_text(stored.sample.target, chars, "target"))
    marks = ["real text"] if stored.source == "unlabelled" else []
    marks += ["written after feedback"] if stored.feedback else []
    if stored.label_agrees is False:
        marks.append("generator favours another label")
    energy = round_.energies[kind].get(stored.id)
    return PageSample(
        id=stored.id,
        label=cut(stored.sample.target, LABEL_CHARS) if run.labels else "",
        texts=texts,
        marks=marks,
        energy="" if energy is None else decimal(energy),
        fed_back=stored.id in round_.fed_back,
    )


def reasons_of(run: Run) -> list[PageReason]:
    """Returns the rejects by reason, the most frequent first, with up to two examples each.

    Args:
        run: The run.
    """
    total: Counter[str] = sum((r.reasons(*KINDS) for r in run.rounds), Counter())
    requested = sum(r.requested(*KINDS) for r in run.rounds)
    every, reasons = Chained([r.rejects for r in run.rounds]), []
    by_reason = defaultdict[str, list[int]](list)
    for number, row in enumerate(every):
        if isinstance(row["raw"], str):
            by_reason[row["reason"]].append(number)
    for name, count in total.most_common(_MAX_REASONS):
        numbers = by_reason.get(name, [])
        drawn = [every[i] for i in random.Random(f"rejects {name}").sample(numbers, min(2, len(numbers)))]
        examples = [_text(row["raw"], _MAX_CHARS, cut(str(row.get("label") or ""), LABEL_CHARS)) for row in drawn]
        reasons.append(PageReason(name, count, percent(ratio(count, requested)), examples))
    return reasons


def _text(text: str, most: int, name: str = "") -> PageText:
    text = visible(text)
    return PageText(name, text[:most], max(0, len(text) - most))
