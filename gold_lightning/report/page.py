"""What a report says: a run's numbers as tables, plots and sentences, and its samples, for ``page.html``."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from markupsafe import Markup

from gold_lightning.checks import OVERLAP_WORDS, words
from gold_lightning.diversity import distinct_n, self_bleu
from gold_lightning.report.plots import (
    Energies,
    Lines,
    bars,
    drawing,
    forest,
    histogram,
    lines,
    ridge,
    shown,
    stacked,
)
from gold_lightning.report.redaction import hidden
from gold_lightning.report.run import Round, Run
from gold_lightning.report.text import cut
from gold_lightning.results import NAMES
from gold_lightning.store import Kind, StoredSample

__all__ = ["Detail", "Panel", "Table", "contents", "reasons_of", "samples_of", "state_of"]

_KINDS: tuple[Kind, ...] = ("train", "probe")
_PHASES = ("generation", "training", "scoring")
_NAME = 80  # characters of a label
_MOST_BARS = 40
_MOST_REASONS = 7
_MOST_TEXTS = 500  # that distinct-n and self-BLEU are taken of, a round
_NONE = "\u2013"
_MOST_ROWS = 60  # of a table by round


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
class Table:
    """A small table; the first column names the rows.

    Args:
        caption: What it is of.
        head: Names of the columns.
        rows: The cells, as text.
        foot: A last row that sums up.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    foot: Sequence[str] = ()


@dataclass(frozen=True)
class Panel:
    """A plot with its numbers, and what to see in it.

    Args:
        title: Its heading.
        told: Paragraphs.
        plots: SVG elements.
        tables: The numbers.
    """

    title: str
    told: Sequence[str] = ()
    plots: Sequence[Markup] = ()
    tables: Sequence[Table] = ()


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


def contents(run: Run) -> dict[str, Any]:
    """Everything that the page's template shows, samples and rejects aside."""
    with drawing():
        return {
            "run": run,
            "state": state_of(run),
            "facts": _facts(run),
            "result": _result(run),
            "loop": _loop(run),
            "data": _data(run),
            "costs": _costs(run),
            "settings": _settings(run),
        }


# The head


def state_of(run: Run) -> list[str]:
    """Where the run stands, and why it ended there, as far as its folder tells."""
    done, most = len(run.whole), run.setting("trainer.max_epochs")
    rounds = _count(done, "round")
    told = []
    if isinstance(most, int) and 0 <= most <= done and done:
        told.append(f"All {rounds} are done." if done > 1 else "Its round is done.")
    elif reason := _plateau(run):
        told.append(f"It ended after {rounds}: {reason}.")
    elif done or run.unfinished:
        limit = f" of at most {most}" if isinstance(most, int) and most >= 0 else ""
        told.append(f"{done}{limit} round{'s are' if limit or done != 1 else ' is'} done.")
    if now := run.unfinished:
        parts = []
        for kind in _KINDS:
            name = "training samples" if kind == "train" else "probe samples"
            wanted = run.setting(f"data.plan.{'samples' if kind == 'train' else 'probe'}_per_round")
            have = len(now.samples[kind])
            if have or kind == "train" or now.requested(kind):
                parts.append(f"{have:,}{f' of {wanted:,}' if isinstance(wanted, int) else ''} {name}")
        told.append(f"Round {now.number} is not whole: it has {' and '.join(parts)}.")
    if reason := _spent_budget(run):
        told.append(reason)
    return told or ["There is no round yet."]


def _plateau(run: Run) -> str:
    """Why early stopping ended the run; "" where it did not."""
    watched, patience = run.setting("early_stopping.monitor"), run.setting("early_stopping.patience")
    delta = run.setting("early_stopping.min_delta", 0.0)
    if not isinstance(watched, str) or not isinstance(patience, int) or not isinstance(delta, int | float):
        return ""
    sign = -1 if run.setting("early_stopping.mode") == "min" else 1
    best, waited = -math.inf, 0
    for round_ in run.whole:
        value = round_.row.get("metrics", {}).get(watched)
        if not isinstance(value, int | float):
            return ""
        best, waited = (sign * value, 0) if sign * value - abs(delta) > best else (best, waited + 1)
    return f"{watched} had not improved for {_count(patience, 'round')}" if waited >= patience > 0 else ""


def _spent_budget(run: Run) -> str:
    budget = run.budget
    cost = budget.cost(run.spent)
    if budget.max_tokens is not None and run.spent.tokens >= budget.max_tokens:
        return f"Its budget of {budget.max_tokens:,} tokens is spent."
    if budget.max_cost is not None and cost >= budget.max_cost:
        return f"Its budget of ${budget.max_cost:,g} is spent."
    if budget.max_seconds is not None and _seconds(run) >= budget.max_seconds:
        return f"Its budget of {_time(budget.max_seconds)} is spent."
    return ""


def _facts(run: Run) -> list[tuple[str, str, str]]:
    """The run in six numbers: a name, a number, and what to know about it."""
    train = sum(len(r.samples["train"]) for r in run.rounds)
    asked = sum(r.requested("train") for r in run.rounds)
    spent, budget = run.spent, run.budget
    money = f"${budget.cost(spent):,.2f}" if budget.priced else "no price set"
    money += f"; {spent.reused:,} calls reused" if spent.reused else ""
    return [
        ("rounds", f"{len(run.whole)}", "whole ones"),
        ("training samples", f"{train:,}", f"of {asked:,} requests"),
        ("yield", _percent(train / asked) if asked else _NONE, "accepted of what was asked for"),
        ("fed back", f"{sum(len(r.fed_back) for r in run.rounds):,}", "probe samples for later prompts"),
        ("tokens", _short(spent.tokens), money),
        ("time", _time(_seconds(run)), "generation, training, scoring"),
    ]


def _seconds(run: Run) -> float:
    whole = sum(sum(_phases(r).values()) for r in run.whole)
    now = run.unfinished
    return whole + (sum(b.seconds for kind in now.batches.values() for b in kind) if now else 0.0)


def _phases(round_: Round) -> dict[str, float]:
    found = round_.row.get("seconds", {})
    return {name: float(found.get(name, 0.0)) for name in _PHASES}


# The result


def _result(run: Run) -> dict[str, Any]:
    tests = [_comparison(held) for held in _tested(run)]
    if not tests:
        return {"number": "", "told": _untested(run), "panels": []}
    held = _tested(run)[0]
    first = _metrics_of(held)[0]
    lead: dict[str, Any] = {"number": "", "told": []}
    if "student" in held["results"]:
        found = held["results"]["student"][first]
        low, high = found["interval"]
        lead["number"] = _percent(found["value"])
        lead["told"].append(
            f"{first} of the best student on {held['rows']:,} test rows; the 95 % interval is "
            f"{100 * low:.1f} to {100 * high:.1f} %."
        )
        beside = {
            "untrained": "before training it had {}",
            "majority": "the most frequent answer has {}",
            "few_shot": "the generator, few-shot, has {}",
            "zero_shot": "the generator, zero-shot, has {}",
            "supervised": "trained on labelled rows it has {}",
        }
        parts = [
            text.format(_percent(held["results"][name][first]["value"]))
            for name, text in beside.items()
            if name in held["results"]
        ]
        if parts:
            told = "; ".join(parts)
            lead["told"].append(told[0].upper() + told[1:] + ".")
    shared = (held.get("overlap") or run.overlap).get("train", {})
    if shared.get("any"):
        lead["told"].append(
            f"Take it with care: text of the test set stands in {shared['any']:,} of {shared['samples']:,} training "
            "samples."
        )
    if held.get("labels_as_read"):
        lead["told"].append(f"Labels as read: {cut(held['labels_as_read'], 2000)}.")
    return lead | {"panels": tests}


def _tested(run: Run) -> list[dict[str, Any]]:
    """Results on the same rows together, those of ``test`` first."""
    found: list[dict[str, Any]] = []
    for held in (run.results, run.baselines):
        if not held.get("results"):
            continue
        if found and found[0].get("of_rows") == held.get("of_rows"):
            found[0] = found[0] | {"results": {**held["results"], **found[0]["results"]}}
        else:
            found.append(dict(held))
    return found


def _metrics_of(held: Mapping[str, Any]) -> list[str]:
    """Names of the metrics, the watched one first."""
    first = next(iter(held["results"].values()))
    return [name for name, value in first.items() if isinstance(value, Mapping) and "interval" in value]


def _comparison(held: Mapping[str, Any]) -> Panel:
    common = held.get("most_frequent")
    always = f"always {cut(common, _NAME)!r}" if isinstance(common, str) else "always the most frequent answer"
    names = {**NAMES, "majority": always}
    rows = [(title, held["results"][name]) for name, title in names.items() if name in held["results"]]
    metrics = _metrics_of(held)
    told = [f"{title}: {note}." for title, found in rows for note in found.get("notes", ())]
    if {"zero_shot", "few_shot"} & held["results"].keys():
        told.append("Where there are labels, the generator takes the one whose name it finds likeliest, uncalibrated.")
    drawn = [(title, found[metrics[0]]["value"], *found[metrics[0]]["interval"]) for title, found in rows]
    table = Table(
        f"Test metrics with 95 % bootstrap intervals, {held['rows']:,} rows",
        ["", *metrics],
        [[title, *(_with_interval(found.get(name)) for name in metrics)] for title, found in rows],
    )
    return Panel(f"{metrics[0]} on {held['rows']:,} test rows", told, [Markup(forest(drawn))], [table])


def _with_interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return _NONE
    low, high = found["interval"]
    return f"{_percent(found['value'])} ({100 * low:.1f} to {100 * high:.1f})"


def _untested(run: Run) -> list[str]:
    scored = [(r, values) for r in run.whole if (values := r.metrics())]
    if not scored:
        return ["No round is whole yet, so there is no student. This page is written anew when the run ends."]
    name = next(iter(scored[0][1]))
    best, values = max(((r, v) for r, v in scored if name in v), key=lambda pair: (pair[1][name], pair[0].number))
    return [
        "The student has not been tested on labelled rows: the test command with the same config does it.",
        f"On the probe set of round {best.number}, its best, {name} is {_percent(values[name])} of "
        f"{len(best.samples['probe']):,} samples. Those labels are the generator's, and may be wrong.",
    ]


# The loop


def _loop(run: Run) -> list[Panel]:
    panels = []
    if run.whole:
        panels.append(_energies(run))
        if any(r.metrics() for r in run.whole):
            panels.append(_metrics(run))
    if any(r.requested(*_KINDS) for r in run.rounds):
        panels.append(_yield(run))
    return panels


def _energies(run: Run) -> Panel:
    rounds = _drawn(run.whole)
    rows = []
    for r in rounds:
        band = r.row.get("band")
        by_band = isinstance(band, list) and len(band) == 2 and r.fed_back and _strategy(r) == "energy_band"
        rows.append(
            Energies(
                name=f"round {r.number}",
                values={kind: list(found.values()) for kind, found in r.energies.items()},
                quantiles=r.row.get("energy", {}),
                band=(float(band[0]), float(band[1])) if band and by_band else None,
                fed_back=[e for i, e in r.energies["probe"].items() if i in r.fed_back],
                auroc=_number(r.row.get("auroc")),
            )
        )
    told = ["Energy of the student on each sample: the higher, the further from what it has learnt."]
    if bands := [row.band for row in rows if row.band]:
        low, high = bands[-1]
        within = ", taken within each label" if run.labels else ""
        alone = run.setting("data.plan.feedback_as") == "hint"
        use = "ask the generator for more of its kind" if alone else "show it to the generator"
        told.append(
            f"The band holds the quantiles {low:g} to {high:g} of the probe set{within}: the prompts of the next "
            f"rounds {use}. GOLD's idea: above it lies mostly noise, below it what is known already."
        )
    if others := sorted({_strategy(r) for r in run.whole} - {"energy_band"}):
        told.append(f"What was fed back was chosen by {' and '.join(others)} (feedback.strategy).")
    if not all(row.values.get("probe") for row in rows):
        told.append(
            "Where a round did not store the energies of its samples, a thin line goes from the 5 % to the 95 % "
            "quantile, a thick one from 25 % to 75 %, and the dot is the median."
        )
    told.append("AUROC tells how well energy parts probe from training samples; 0.5 is not at all.")
    table = Table(
        "Energies by round",
        ["round", "probe median", "training median", "AUROC", "fed back", "prompts with feedback"],
        [
            [
                f"{r.number}",
                *(_decimal(_number(r.row.get("energy", {}).get(kind, {}).get("q50"))) for kind in ("probe", "train")),
                _decimal(_number(r.row.get("auroc"))),
                f"{len(r.fed_back):,}",
                f"{r.row.get('feedback_prompts', 0):,}",
            ]
            for r in _rows(run.whole)
        ],
    )
    return Panel("Energies, probe set against training samples", told, [Markup(ridge(rows))], [table])


def _strategy(round_: Round) -> str:
    """How a round chose what to feed back; before there was a choice, by the band."""
    return str(round_.row.get("strategy", "energy_band"))


def _metrics(run: Run) -> Panel:
    names = list(dict.fromkeys(name for r in run.whole for name in r.metrics()))
    series = [
        Lines(name, {r.number: r.metrics()[name] for r in run.whole if name in r.metrics()}) for name in names[:5]
    ]
    table = Table(
        "Validation metrics by round",
        ["round", *names, "trained on", "probe samples"],
        [
            [
                f"{r.number}",
                *(_percent(r.metrics().get(name, math.nan)) for name in names),
                f"{r.row.get('trained_on', 0):,}",
                f"{len(r.samples['probe']):,}",
            ]
            for r in _rows(run.whole)
        ],
    )
    told = [
        "On each round's own probe set, against the generator's labels: these may be wrong, and each round has other "
        "samples. So it says whether the student still learns, not how good it is."
    ]
    drawn = [Markup(lines(series, percent=True, mark_best=True))] if len(run.whole) > 1 else []
    return Panel("Metrics by round", told, drawn, [table])


def _yield(run: Run) -> Panel:
    total: Counter[str] = sum((r.reasons(*_KINDS) for r in run.rounds), Counter())
    reasons = [
        name for name, _ in total.most_common(_MOST_REASONS if len(total) <= _MOST_REASONS else _MOST_REASONS - 1)
    ]
    rounds = [r for r in run.rounds if r.requested(*_KINDS)]

    def parts(r: Round) -> dict[str, int]:
        found = r.reasons(*_KINDS)
        rest = {"other reasons": sum(n for name, n in found.items() if name not in reasons)}
        accepted = {"accepted": r.requested(*_KINDS) - found.total()}
        return accepted | {name: found[name] for name in reasons} | (rest if len(total) > len(reasons) else {})

    order = list(parts(rounds[0]))
    drawn = stacked(
        [(f"round {r.number}", parts(r)) for r in _drawn(rounds)], order, share=True, unit="share of requests"
    )
    tables = [
        Table(
            "Requests by round, and the share accepted",
            ["round", "requests", "accepted", "yield, training", "yield, probe"],
            [
                [
                    f"{r.number}",
                    f"{r.requested(*_KINDS):,}",
                    f"{parts(r)['accepted']:,}",
                    *(_percent(_share(len(r.samples[kind]), r.requested(kind))) for kind in _KINDS),
                ]
                for r in _rows(rounds)
            ],
        )
    ]
    if total:
        rejects = [[f"{r.number}", *(f"{parts(r)[name]:,}" for name in order[1:])] for r in _rows(rounds)]
        foot = ["all", *(f"{sum(parts(r)[name] for r in rounds):,}" for name in order[1:])]
        tables.append(Table("Rejects by reason and round", ["round", *order[1:]], rejects, foot))
    told = [
        "Requests for training and probe samples together: accepted ones, and the others by the reason of the reject."
    ]
    return Panel("Yield by round", told, [Markup(drawn)], tables)


# The data


def _data(run: Run) -> list[Panel]:
    if not any(r.samples["train"] or r.samples["probe"] for r in run.rounds):
        return []
    panels = [_labels(run)] if run.labels else []
    return [*panels, _lengths(run), _diversity(run), _copies(run)]


def _labels(run: Run) -> Panel:
    made = Counter(s.sample.target for r in run.rounds for s in r.samples["train"])
    lost = Counter(row.get("label") for r in run.rounds for row in r.rejects if row["kind"] == "train")
    checked = [s for r in run.rounds for s in r.samples["train"] if s.agrees is not None]
    asked, agreed = Counter(s.sample.target for s in checked), Counter(s.sample.target for s in checked if s.agrees)
    total = made.total() or 1
    names = sorted(run.labels, key=lambda name: -made[name]) if len(run.labels) > _MOST_BARS else list(run.labels)
    drawn = bars([(name, made[name], f"{made[name]:,}") for name in names[:_MOST_BARS]], unit="training samples")
    told = ["The plan asks for each label as often; what is rejected is asked for again."]
    if len(names) > _MOST_BARS:
        told.append(f"Of {len(names):,} labels the {_MOST_BARS} with the most samples are drawn.")
    head = ["label", "samples", "share", "yield"] + (["generator agrees"] if checked else [])
    rows = [
        [
            cut(name, _NAME),
            f"{made[name]:,}",
            _percent(made[name] / total),
            _percent(_share(made[name], made[name] + lost[name])),
            *([_percent(_share(agreed[name], asked[name]))] if checked else []),
        ]
        for name in names[:200]
    ]
    if checked:
        told.append("The last column: how often the generator's own likelihoods favour the label of a kept sample.")
    return Panel("Label balance", told, [Markup(drawn)], [Table("Training samples by label", head, rows)])


def _lengths(run: Run) -> Panel:
    made = {kind: [s.sample for r in run.rounds for s in r.samples[kind]] for kind in _KINDS}
    inputs: dict[str, list[float]] = {kind: [len(words(s.text)) for s in found] for kind, found in made.items()}
    plots = [histogram(inputs, unit="words of an input" if run.labels else "words of an input (all fields)")]
    columns: dict[str, list[float]] = {name: [len(words(s.fields[name])) for s in made["train"]] for name in run.fields}
    if not run.labels:
        targets: dict[str, list[float]] = {kind: [len(s.target.split()) for s in found] for kind, found in made.items()}
        plots.append(histogram(targets, unit="words of a target"))
        columns["target"] = targets["train"]
    rows = [
        [name, *(f"{_quantile(found, q):,.0f}" for q in (0, 0.05, 0.5, 0.95, 1))]
        for name, found in columns.items()
        if found
    ]
    table = Table("Words of the training samples", ["", "shortest", "5\u00a0%", "median", "95\u00a0%", "longest"], rows)
    told = ["A probe set that departs in length alone could be told by its length, so both are drawn."]
    return Panel("Lengths", told, [Markup(p) for p in plots], [table])


def _diversity(run: Run) -> Panel:
    texts = {r.number: [s.sample.text for s in r.samples["train"]] for r in run.rounds if r.samples["train"]}
    size = min([_MOST_TEXTS, *map(len, texts.values())], default=0)
    rng = random.Random("texts of a report")
    found: dict[int, list[float]] = {}
    for number, own in texts.items():
        drawn = rng.sample(own, size)
        found[number] = [*(distinct_n(drawn, n) for n in (1, 2, 3)), self_bleu(drawn)]
    names = ["distinct-1", "distinct-2", "distinct-3", "self-BLEU"]
    series = [Lines(names[at], {r: v[at] for r, v in found.items() if math.isfinite(v[at])}) for at in (1, 3)]
    series = [line for line in series if line.points]
    every = [text for own in texts.values() for text in own]
    drawn = rng.sample(every, min(len(every), _MOST_TEXTS))
    table = Table(
        f"Diversity of {_count(size, 'training sample')} of each round",
        ["round", *names],
        [[f"{number}", *map(_decimal, values)] for number, values in found.items()][:_MOST_ROWS],
        [f"all ({len(drawn):,})", *(_decimal(distinct_n(drawn, n)) for n in (1, 2, 3)), _decimal(self_bleu(drawn))],
    )
    told = [
        "Distinct-n: different runs of n words over all of them; higher is more varied. Self-BLEU: BLEU-4 of the "
        "texts, each with the others as references; higher is more alike.",
        "Both depend on how many texts there are, so each round gives as many, drawn by a fixed seed; the row of all "
        "rounds has more, and is not comparable.",
    ]
    return Panel("Diversity", told, [Markup(lines(series))] if series and len(found) > 1 else [], [table])


def _copies(run: Run) -> Panel:
    rounds = [r for r in run.rounds if r.requested(*_KINDS)]
    reasons = ("duplicate", "near_duplicate", "copies_demo", "copies_prompt")
    counts = [[f"{r.number}", *(f"{r.reasons(*_KINDS)[name]:,}" for name in reasons)] for r in _rows(rounds)]
    total = [f"{sum(r.reasons(*_KINDS)[name] for r in rounds):,}" for name in reasons]
    tables = [
        Table(
            "Rejected as copies",
            ["round", "duplicate", "near duplicate", "of a demo", "of the prompt"],
            counts,
            ["all", *total],
        )
    ]
    kept = Counter(" ".join(words(s.sample.text)) for r in run.rounds for kind in _KINDS for s in r.samples[kind])
    twice = kept.total() - len(kept)
    told = [
        f"Of {kept.total():,} kept samples, training and probe set, "
        + (f"{twice:,} have the very words of another." if twice else "no two have the same words.")
    ]
    measured = [(r, r.row["overlap"]["train"]) for r in run.whole if r.row.get("overlap", {}).get("train")]
    parts = ("samples", "words", "full_field", "full_row", "any")
    head = ["samples", f"{OVERLAP_WORDS} words in a row", "full field", "full row", "any of these"]
    if measured or run.overlap:
        rows = [[f"round {r.number}", *(f"{found.get(p, 0):,}" for p in parts)] for r, found in _rows(measured)]
        for name, title in (("train", "all training samples"), ("demos", "demos")):
            if found := run.overlap.get(name):
                rows.append([title, *(f"{found.get(p, 0):,}" for p in parts)])
        tables.append(Table("Text in common with the test set", ["", *head], rows))
        dropped = sum(r.reasons(*_KINDS)["in_test_set"] for r in run.rounds)
        told.append(
            "Decontamination compares words, so zero means not copied, not never seen"
            + (f"; {dropped:,} samples were dropped for it." if dropped else ".")
        )
    else:
        told.append("The overlap with the test set was not measured.")
    return Panel("Copies and decontamination", told, [], tables)


# Samples


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
                {kind: len(r.samples[kind]) for kind in _KINDS},
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
        label=cut(stored.sample.target, _NAME) if run.labels else "",
        texts=texts,
        marks=marks,
        energy="" if energy is None else _decimal(energy),
        fed_back=stored.id in round_.fed_back,
    )


def reasons_of(run: Run, detail: Detail) -> list[_Reason]:
    """Rejects by reason, the most frequent first, with an example or two of each."""
    total: Counter[str] = sum((r.reasons(*_KINDS) for r in run.rounds), Counter())
    asked = sum(r.requested(*_KINDS) for r in run.rounds)
    rows = [row for r in run.rounds for row in r.rejects if isinstance(row["raw"], str)]
    found = []
    for name, count in total.most_common(40):
        own = [row for row in rows if row["reason"] == name]
        drawn = random.Random(f"rejects {name}").sample(own, min(2, len(own)))
        examples = [_text(row["raw"], detail.chars, cut(str(row.get("label") or ""), _NAME)) for row in drawn]
        found.append(_Reason(name, count, _percent(_share(count, asked)), examples))
    return found


def _text(text: str, most: int, name: str = "") -> _Text:
    return _Text(name, text, 0) if len(text) <= most else _Text(name, text[:most], len(text) - most)


# The costs


def _costs(run: Run) -> list[Panel]:
    panels = []
    if run.whole:
        rounds = [(f"round {r.number}", _phases(r)) for r in _drawn(run.whole)]
        drawn = stacked(rounds, _PHASES, share=False, unit="seconds")
        rows = [
            [f"{r.number}", *(f"{v:,.1f}" for v in (*_phases(r).values(), sum(_phases(r).values())))]
            for r in _rows(run.whole)
        ]
        sums = [sum(_phases(r)[name] for r in run.whole) for name in _PHASES]
        foot = ["all", *(f"{v:,.1f}" for v in (*sums, sum(sums)))]
        table = Table("Seconds by phase", ["round", *_PHASES, "together"], rows, foot)
        panels.append(Panel("Time", [], [Markup(drawn)], [table]))
    spent, budget = run.spent, run.budget
    tokens = [(r, r.row.get("tokens", {})) for r in run.whole]
    priced = budget.priced or any("cost" in found for _, found in tokens)
    rows = [
        [
            f"{r.number}",
            *(f"{found.get(name, 0):,}" for name in ("calls", "reused_calls", "prompt", "completion")),
            *([f"${found.get('cost', 0.0):,.4f}"] if priced else []),
        ]
        for r, found in _rows(tokens)
    ]
    total = [f"{v:,}" for v in (spent.calls, spent.reused, spent.prompt_tokens, spent.completion_tokens)]
    foot = ["all", *total, *([f"${budget.cost(spent):,.4f}"] if priced else [])]
    head = ["round", "calls", "reused calls", "prompt tokens", "tokens written", *(["cost"] if priced else [])]
    told = ["Calls are requests that the generator answered, label checks included. Another run paid for reused ones."]
    if priced:
        told.append(
            f"Prices: ${budget.price_prompt:g} for a million prompt tokens, ${budget.price_completion:g} for a million "
            "written."
        )
    else:
        told.append("No price is set: on an own machine tokens are free (data.budget.price_prompt, price_completion).")
    panels.append(Panel("Tokens and money", told, [], [Table("Tokens by round", head, rows, foot)]))
    return panels


# The settings

_KEYS = {
    "seed": "seed_everything",
    "task": "data.task",
    "generator": "data.generator.class_path",
    "generator's model": "data.generator.init_args.model",
    "student": "model.student",
    "loss": "model.loss.class_path",
    "loss settings": "model.loss.init_args",
    "optimiser": "model.optimizer",
    "learning rate": "model.lr",
    "samples a round": "data.plan.samples_per_round",
    "probe samples a round": "data.plan.probe_per_round",
    "label agreement": "data.plan.label_agreement",
    "decontamination": "data.plan.decontaminate",
    "batch size": "data.batch_size",
    "passes a round": "data.passes_per_round",
    "replay": "data.replay",
    "feedback strategy": "feedback.strategy",
    "feedback rate": "feedback.rate",
    "fed back as": "data.plan.feedback_as",
    "band, from": "feedback.alpha",
    "band, to": "feedback.beta",
    "warm-up rounds": "feedback.warmup_rounds",
    "teacher forcing": "feedback.teacher_forcing",
    "most rounds": "trainer.max_epochs",
    "patience": "early_stopping.patience",
    "precision": "trainer.precision",
    "devices": "trainer.devices",
}


def _settings(run: Run) -> dict[str, Any]:
    config = hidden(run.config)
    found = Run(run.folder, (), config)
    rows = [[title, _plain(value)] for title, key in _KEYS.items() if (value := found.setting(key)) is not None]
    tables = [Table("What matters most", ["setting", "value"], rows)] if rows else []
    if run.versions:
        versions = [[str(name), _plain(value)] for name, value in run.versions.items()]
        tables.append(Table("Made with", ["", "version"], versions))
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100) if config else ""
    return {"tables": tables, "config": text[:200_000]}


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)[:200]


# Numbers and words


def _drawn(rounds: Sequence[Round]) -> list[Round]:
    """The rounds that a plot has room for."""
    kept = set(shown([r.number for r in rounds]))
    return [r for r in rounds if r.number in kept]


def _rows(rounds: Sequence[Any]) -> list[Any]:
    """The rounds that a table has room for."""
    return [rounds[i] for i in shown(range(len(rounds)), _MOST_ROWS)]


def _quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return float(ordered[round(part * (len(ordered) - 1))])


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _share(part: float, of: float) -> float:
    return part / of if of else math.nan


def _seconds_row(phases: Mapping[str, float]) -> list[str]:
    return [f"{v:,.1f}" for v in (*phases.values(), sum(phases.values()))]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%" if math.isfinite(share) else _NONE


def _decimal(value: float) -> str:
    return f"{value:.2f}".replace("-", "\u2212") if math.isfinite(value) else _NONE


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _short(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60:02} min"
