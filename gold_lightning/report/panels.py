"""The plots and tables of a report: what the loop did, its data, its costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gold_lightning.checks.contamination import OVERLAP_WORDS
from gold_lightning.parsing.words import has_characters, words
from gold_lightning.planning.plan_warnings import reasons_not_fed_back
from gold_lightning.report.numbers import counted, decimal, evenly_spaced, percent, quantile, ratio, to_float
from gold_lightning.report.plots import Energies, Lines, bars, histogram, lines, ridge, stacked
from gold_lightning.report.run import KINDS, PHASES, Round, Run
from gold_lightning.report.text import LABEL_CHARS, cut
from gold_lightning.watching.diversity import diversity

__all__ = ["Panel", "Table", "cost_panels", "data_panels", "loop_panels"]

_MOST_BARS = 40
_MOST_DRAWN = 24  # rounds of a plot
_MOST_REASONS = 7
_MOST_TEXTS = 500  # that distinct-n and self-BLEU are taken of, a round
_MOST_ROWS = 60  # of a table by round


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


def loop_panels(run: Run) -> list[Panel]:
    """Energies, metrics and yield by round, as far as there are any."""
    panels = []
    if run.whole:
        panels.append(_energies(run))
        if any(r.metrics() for r in run.whole):
            panels.append(_metrics(run))
    if any(r.requested(*KINDS) for r in run.rounds):
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
                quantiles={k: _finite(v) for k, v in r.row.get("energy", {}).items()},
                band=(float(band[0]), float(band[1])) if band and by_band else None,
                fed_back=[e for i, e in r.energies["probe"].items() if i in r.fed_back],
                auroc=to_float(r.row.get("auroc")),
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
    told += _not_fed_back(run)
    if not all(row.values.get("probe") for row in rows):
        told.append(
            "Where a round did not store the energies of its samples, a thin line goes from the 5 % to the 95 % "
            "quantile, a thick one from 25 % to 75 %, and the dot is the median."
        )
    told.append(
        "AUROC tells how well energy parts probe from training samples; 0.5 is not at all. A little more proves "
        "little: samples that the student has merely not learnt from lie above those that it has."
    )
    table = Table(
        "Energies by round",
        ["round", "probe median", "training median", "AUROC", "fed back", "prompts with feedback"],
        [
            [
                f"{r.number}",
                *(decimal(to_float(r.row.get("energy", {}).get(kind, {}).get("q50"))) for kind in ("probe", "train")),
                decimal(to_float(r.row.get("auroc"))),
                f"{len(r.fed_back):,}",
                f"{r.row.get('feedback_prompts', 0):,}",
            ]
            for r in _rows(run.whole)
        ],
    )
    return Panel("Energies, probe set against training samples", told, [Markup(ridge(rows))], [table])


def _not_fed_back(run: Run) -> list[str]:
    """Which rounds fed back less than they were to, by the reason."""
    rounds: dict[str, list[int]] = {}
    for r in run.whole:
        why = r.row.get("not_fed_back", {})
        for reason in reasons_not_fed_back(why, len(run.labels)) if isinstance(why, dict) else ():
            rounds.setdefault(reason, []).append(r.number)
    return [
        f"Less was fed back than was to be in {counted(len(of), 'round')}, the first of which is {of[0]}: {reason}."
        for reason, of in rounds.items()
    ]


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(to_float(value))}


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
        ["round", *names, "trained on", "scored on"],
        [
            [
                f"{r.number}",
                *(percent(r.metrics().get(name, math.nan)) for name in names),
                f"{r.row.get('trained_on', 0):,}",
                r.validated_on,
            ]
            for r in _rows(run.whole)
        ],
    )
    if all("labelled" in r.validated_on for r in run.whole):
        told = ["On the labelled rows that the task names for comparing rounds; they are no test rows."]
    else:
        told = [
            "Each round's student was scored on what stands in its row, against the generator's labels: these may be "
            "wrong, and numbers on different probes cannot be compared. So they say whether the student still learns, "
            "not how good it is. To find the best round, the best one so far was scored anew on the same probes."
        ]
    drawn = (
        [Markup(lines(series, percent=True, best=run.best.number if run.best else None))] if len(run.whole) > 1 else []
    )
    return Panel("Metrics by round", told, drawn, [table])


def _yield(run: Run) -> Panel:
    total: Counter[str] = sum((r.reasons(*KINDS) for r in run.rounds), Counter())
    reasons = [
        name for name, _ in total.most_common(_MOST_REASONS if len(total) <= _MOST_REASONS else _MOST_REASONS - 1)
    ]
    rounds = [r for r in run.rounds if r.requested(*KINDS)]

    def parts(r: Round) -> dict[str, int]:
        found = r.reasons(*KINDS)
        rest = {"other reasons": sum(n for name, n in found.items() if name not in reasons)}
        accepted = {"accepted": r.requested(*KINDS) - found.total()}
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
                    f"{r.requested(*KINDS):,}",
                    f"{parts(r)['accepted']:,}",
                    *(percent(ratio(len(r.samples[kind]), r.requested(kind))) for kind in KINDS),
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


def data_panels(run: Run) -> list[Panel]:
    """Label balance, lengths, diversity and copies; none without samples."""
    if not any(r.samples["train"] or r.samples["probe"] for r in run.rounds):
        return []
    panels = [_labels(run)] if run.labels else []
    return [*panels, _lengths(run), _diversity(run), _copies(run)]


def _labels(run: Run) -> Panel:
    made = Counter(s.sample.target for r in run.rounds for s in r.samples["train"])
    lost = Counter(row.get("label") for r in run.rounds for row in r.rejects if row["kind"] == "train")
    checked = [s for r in run.rounds for s in r.samples["train"] if s.label_agrees is not None]
    asked, agreed = (
        Counter(s.sample.target for s in checked),
        Counter(s.sample.target for s in checked if s.label_agrees),
    )
    total = made.total() or 1
    names = sorted(run.labels, key=lambda name: -made[name]) if len(run.labels) > _MOST_BARS else list(run.labels)
    drawn = bars([(name, made[name], f"{made[name]:,}") for name in names[:_MOST_BARS]], unit="training samples")
    told = ["The plan asks for each label as often; what is rejected is asked for again."]
    if len(names) > _MOST_BARS:
        told.append(f"Of {len(names):,} labels the {_MOST_BARS} with the most samples are drawn.")
    head = ["label", "samples", "share", "yield"] + (["generator agrees"] if checked else [])
    rows = [
        [
            cut(name, LABEL_CHARS),
            f"{made[name]:,}",
            percent(made[name] / total),
            percent(ratio(made[name], made[name] + lost[name])),
            *([percent(ratio(agreed[name], asked[name]))] if checked else []),
        ]
        for name in names[:200]
    ]
    if checked:
        told.append("The last column: how often the generator's own likelihoods favour the label of a kept sample.")
    return Panel("Label balance", told, [Markup(drawn)], [Table("Training samples by label", head, rows)])


def _lengths(run: Run) -> Panel:
    made = {kind: [s.sample for r in run.rounds for s in r.samples[kind]] for kind in KINDS}
    inputs: dict[str, list[float]] = {kind: [len(words(s.text)) for s in found] for kind, found in made.items()}
    plots = [histogram(inputs, unit="words of an input" if run.labels else "words of an input (all fields)")]
    columns: dict[str, list[float]] = {name: [len(words(s.fields[name])) for s in made["train"]] for name in run.fields}
    if not run.labels:
        targets: dict[str, list[float]] = {
            kind: [_target_words(s.target) for s in found] for kind, found in made.items()
        }
        plots.append(histogram(targets, unit="words of a target"))
        columns["target"] = targets["train"]
    rows = [
        [name, *(f"{quantile(found, q):,.0f}" for q in (0, 0.05, 0.5, 0.95, 1))]
        for name, found in columns.items()
        if found
    ]
    table = Table("Words of the training samples", ["", "shortest", "5\u00a0%", "median", "95\u00a0%", "longest"], rows)
    told = ["A probe set that departs in length alone could be told by its length, so both are drawn."]
    if any(has_characters(s.text) for found in made.values() for s in found[:100]):
        told.append("In scripts without spaces each character counts as a word.")
    return Panel("Lengths", told, [Markup(p) for p in plots], [table])


def _target_words(target: str) -> int:
    """Words between spaces, since a target may be a formula; characters in scripts without spaces."""
    return len(words(target)) if has_characters(target) else len(target.split())


def _diversity(run: Run) -> Panel:
    texts = {r.number: [s.sample.text for s in r.samples["train"]] for r in run.rounds if r.samples["train"]}
    size = min([_MOST_TEXTS, *map(len, texts.values())], default=0)
    names = {
        "distinct_1": "distinct-1",
        "distinct_2": "distinct-2",
        "distinct_3": "distinct-3",
        "self_bleu": "self-BLEU",
    }
    by_round = {number: diversity(texts[number], at_most=max(1, size)) for number in texts}
    every = diversity([text for of_round in texts.values() for text in of_round], at_most=_MOST_TEXTS)
    table = Table(
        f"Diversity of {counted(size, 'training sample')} of each round",
        ["round", *names.values()],
        [[f"{number}", *(decimal(measures[name]) for name in names)] for number, measures in by_round.items()][
            :_MOST_ROWS
        ],
        [f"all ({every['texts']:,.0f})", *(decimal(every[name]) for name in names)],
    )
    series = [
        Lines(names[name], {number: measures[name] for number, measures in by_round.items()})
        for name in ("distinct_2", "self_bleu")
    ]
    told = [
        "Distinct-n: different runs of n words over all of them; higher is more varied. Self-BLEU: BLEU-4 of the "
        "texts, each with the others as references; higher is more alike.",
        "Both depend on the number of texts, so each round gives as many, drawn by a fixed seed; the row of all "
        "rounds has more, and is not comparable.",
    ]
    return Panel("Diversity", told, [Markup(lines(series))] if len(by_round) > 1 else [], [table])


def _copies(run: Run) -> Panel:
    rounds = [r for r in run.rounds if r.requested(*KINDS)]
    reasons = ("duplicate", "near_duplicate", "copies_demo", "copies_prompt")
    counts = [[f"{r.number}", *(f"{r.reasons(*KINDS)[name]:,}" for name in reasons)] for r in _rows(rounds)]
    total = [f"{sum(r.reasons(*KINDS)[name] for r in rounds):,}" for name in reasons]
    tables = [
        Table(
            "Rejected as copies",
            ["round", "duplicate", "near duplicate", "of a demo", "of the prompt"],
            counts,
            ["all", *total],
        )
    ]
    kept = Counter(" ".join(words(s.sample.text)) for r in run.rounds for kind in KINDS for s in r.samples[kind])
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
        dropped = sum(r.reasons(*KINDS)["in_test_set"] for r in run.rounds)
        told.append(
            "Decontamination compares words, so zero means not copied, not never seen"
            + (f"; {dropped:,} samples were dropped for it." if dropped else ".")
        )
    else:
        told.append("The overlap with the test set was not measured.")
    return Panel("Copies and decontamination", told, [], tables)


# The costs


def cost_panels(run: Run) -> list[Panel]:
    """Seconds, tokens and money by round."""
    panels = []
    if run.whole:
        rounds = [(f"round {r.number}", r.phases) for r in _drawn(run.whole)]
        drawn = stacked(rounds, PHASES, share=False, unit="seconds")
        rows = [
            [f"{r.number}", *(f"{v:,.1f}" for v in (*r.phases.values(), sum(r.phases.values())))]
            for r in _rows(run.whole)
        ]
        sums = [sum(r.phases[name] for r in run.whole) for name in PHASES]
        foot = ["all", *(f"{v:,.1f}" for v in (*sums, sum(sums)))]
        table = Table("Seconds by phase", ["round", *PHASES, "together"], rows, foot)
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


# Rounds


def _drawn(rounds: Sequence[Round]) -> list[Round]:
    """The rounds that a plot has room for."""
    return [rounds[i] for i in evenly_spaced(range(len(rounds)), _MOST_DRAWN)]


def _rows(rounds: Sequence[Any]) -> list[Any]:
    """The rounds that a table has room for."""
    return [rounds[i] for i in evenly_spaced(range(len(rounds)), _MOST_ROWS)]
