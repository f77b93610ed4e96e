"""Which samples and rejects of a run a page shows."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gold_lightning.report.numbers import decimal, percent, ratio
from gold_lightning.report.plots import shown
from gold_lightning.report.run import KINDS, Round, Run
from gold_lightning.report.text import LABEL_CHARS, cut
from gold_lightning.storage.round_store import Kind, StoredSample

__all__ = ["Detail", "reasons_of", "samples_of"]


@dataclass(frozen=True)
class Detail:
    """How much of the samples is shown.

    Args:
        samples: Of a round.
        chars: Of a text.
        rounds: Of which samples are shown at all.
    """

    samples: int = 20
    chars: int = 600
    rounds: int = 50


@dataclass(frozen=True)
class _Text:
    """A generated text, cut; ``more`` characters are left out."""

    name: str
    text: str
    more: int = 0


@dataclass(frozen=True)
class _Shown:
    """A sample as it is shown."""

    id: str
    label: str
    texts: Sequence[_Text]
    marks: Sequence[str] = ()
    energy: str = ""
    fed_back: bool = False


@dataclass(frozen=True)
class _RoundShown:
    name: str
    train: Sequence[_Shown]
    probe: Sequence[_Shown]
    by_energy: bool
    of: Mapping[str, int]


@dataclass(frozen=True)
class _Reason:
    name: str
    count: int
    share: str
    examples: Sequence[_Text] = field(default_factory=tuple)


def samples_of(run: Run, detail: Detail) -> list[_RoundShown]:
    """Some samples of each round, drawn by a fixed seed: half of them trained on, half of the probe set."""
    found = []
    rounds = [r for r in run.rounds if r.samples["train"] or r.samples["probe"]]
    for number in shown([r.number for r in rounds], detail.rounds) if detail.samples else ():
        r = next(r for r in rounds if r.number == number)
        rng = random.Random(f"samples of round {number}")
        half = detail.samples // 2
        probe = _some_probes(r, half, rng)
        own = r.samples["train"]
        train = [own[i] for i in sorted(rng.sample(range(len(own)), min(len(own), detail.samples - len(probe))))]
        found.append(
            _RoundShown(
                f"Round {number}",
                [_one(s, "train", r, run, detail.chars) for s in train],
                [_one(s, "probe", r, run, detail.chars) for s in probe],
                bool(r.energies["probe"]),
                {kind: len(r.samples[kind]) for kind in KINDS},
            )
        )
    return found


def _some_probes(round_: Round, count: int, rng: random.Random) -> list[StoredSample]:
    """Some of the probe set, half of them fed back if there are any; evenly from the lowest to the highest energy."""
    own, energy = round_.samples["probe"], round_.energies["probe"]
    fed = [s for s in own if s.id in round_.fed_back]
    rest = [s for s in own if s.id not in round_.fed_back]
    few = min(len(fed), max(count // 2, count - len(rest)))
    if energy:
        fed, rest = (sorted(found, key=lambda s: (energy.get(s.id, math.inf), s.id)) for found in (fed, rest))
        chosen = [fed[i] for i in shown(range(len(fed)), few)] if few > 1 else fed[len(fed) // 2 :][:few]
        chosen += [rest[i] for i in shown(range(len(rest)), count - few)] if count - few > 1 else rest[: count - few]
        return sorted(chosen, key=lambda s: (energy.get(s.id, math.inf), s.id))
    return sorted(rng.sample(fed, few) + rng.sample(rest, min(len(rest), count - few)), key=lambda s: s.id)


def _one(stored: StoredSample, kind: Kind, round_: Round, run: Run, chars: int) -> _Shown:
    texts = [
        _text(value, chars, name if len(stored.sample.fields) > 1 else "")
        for name, value in stored.sample.fields.items()
    ]
    if not run.labels:
        texts.append(_text(stored.sample.target, chars, "target"))
    marks = []
    if stored.feedback:
        marks.append("written after feedback")
    if stored.agrees is False:
        marks.append("generator favours another label")
    energy = round_.energies[kind].get(stored.id)
    return _Shown(
        id=stored.id,
        label=cut(stored.sample.target, LABEL_CHARS) if run.labels else "",
        texts=texts,
        marks=marks,
        energy="" if energy is None else decimal(energy),
        fed_back=stored.id in round_.fed_back,
    )


def reasons_of(run: Run, detail: Detail) -> list[_Reason]:
    """Rejects by reason, the most frequent first, with an example or two of each."""
    total: Counter[str] = sum((r.reasons(*KINDS) for r in run.rounds), Counter())
    asked = sum(r.requested(*KINDS) for r in run.rounds)
    rows = [row for r in run.rounds for row in r.rejects if isinstance(row["raw"], str)]
    found = []
    for name, count in total.most_common(40):
        own = [row for row in rows if row["reason"] == name]
        drawn = random.Random(f"rejects {name}").sample(own, min(2, len(own)))
        examples = [_text(row["raw"], detail.chars, cut(str(row.get("label") or ""), LABEL_CHARS)) for row in drawn]
        found.append(_Reason(name, count, percent(ratio(count, asked)), examples))
    return found


def _text(text: str, most: int, name: str = "") -> _Text:
    return _Text(name, text, 0) if len(text) <= most else _Text(name, text[:most], len(text) - most)
