"""Builds the panels of a report, each a plot with its table: the loop, the data and the costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from gold_lightning.checks.contamination import OVERLAP_WORDS
from gold_lightning.parsing.words import has_characters, words
from gold_lightning.planning.plan_warnings import reasons_not_fed_back
from gold_lightning.report.labels import label_panel
from gold_lightning.report.numbers import counted, decimal, evenly_spaced, percent, quantile, ratio, to_float
from gold_lightning.report.parts import Panel, Table
from gold_lightning.report.plots import Energies, Lines, histogram, lines, ridge, stacked
from gold_lightning.report.run import KINDS, PHASES, Round, Run
from gold_lightning.storage.lazy import Chained, Mapped
from gold_lightning.watching.diversity import diversity

__all__ = ["cost_panels", "data_panels", "loop_panels"]

_MOST_DRAWN = 24  # rounds of a plot
_MOST_REASONS = 7
_MOST_TEXTS = 500  # of a round, for distinct-n and self-BLEU
_MOST_ROWS = 60  # of a table by round


def loop_panels(run: Run) -> list[Panel]:
    """Returns the panels of energies, metrics and yield by round; those without data are left out.

    Args:
        run: The run.
    """
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
                values={kind: list(energies.values()) for kind, energies in r.energies.items()},
                quantiles={k: _finite(v) for k, v in r.row.get("energy", {}).items()},
                band=(float(band[0]), float(band[1])) if band and by_band else None,
                fed_back=[e for i, e in r.energies["probe"].items() if i in r.fed_back],
                auroc=to_float(r.row.get("auroc")),
            )
        )
    notes = ["Energy of the student on each sample: the higher, the further from what it has learnt."]
    if bands := [row.band for row in rows if row.band]:
        low, high = bands[-1]
        within = ", taken within each label" if run.labels and not run.many else ""
        as_hint = run.setting("data.plan.feedback_as") == "hint" and run.setting("data.unlabelled") is None
        use = "ask the generator for more of its kind" if as_hint else "show it to the generator"
        notes.append(
            f"The band holds the quantiles {low:g} to {high:g} of the probe set{within}: the prompts of the next "
            f"rounds {use}. GOLD's idea: samples above the band are mostly noise, samples below it are known already."
        )
    if others := sorted({_strategy(r) for r in run.whole} - {"energy_band"}):
        notes.append(f"The samples fed back were chosen by {' and '.join(others)} (feedback.strategy).")
    notes += _not_fed_back(run)
    if not all(row.values.get("probe") for row in rows):
        notes.append(
            "If a round did not store the energies of its samples, a thin line goes from the 5 % to the 95 % "
            "quantile, a thick one from 25 % to 75 %, and the dot is the median."
        )
    notes.append(
        "AUROC measures how well energy separates probe from training samples; 0.5 means not at all. A value little "
        "above 0.5 proves little: samples the student was not trained on have higher energies anyway."
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
    return Panel("Energies, probe set against training samples", notes, [Markup(ridge(rows))], [table])


def _not_fed_back(run: Run) -> list[str]:
    """Returns a sentence for each reason for which rounds fed back less than planned."""
    rounds: dict[str, list[int]] = {}
    labels = 0 if run.many else len(run.labels)
    for r in run.whole:
        counts = r.row.get("not_fed_back", {})
        for reason in reasons_not_fed_back(counts, labels) if isinstance(counts, dict) else ():
            rounds.setdefault(reason, []).append(r.number)
    return [
        f"Less was fed back than planned in {counted(len(numbers), 'round')}, first in round {numbers[0]}: {reason}."
        for reason, numbers in rounds.items()
    ]


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(to_float(value))}


def _strategy(round_: Round) -> str:
    """Returns the name of a round's feedback strategy; runs of before there was a choice used the band."""
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
        notes = ["Scored on the task's labelled validation rows, which are not test rows."]
    else:
        notes = [
            "Each round's student was scored on the rows named in the last column, against the generator's labels. "
            "These may be wrong, and numbers on different probe sets are not comparable: they show whether the "
            "student still learns, not how good it is. To find the best round, the best one so far was scored again "
            "on the same probe sets."
        ]
    drawn = (
        [Markup(lines(series, percent=True, best=run.best.number if run.best else None))] if len(run.whole) > 1 else []
    )
    return Panel("Metrics by round", notes, drawn, [table])


def _yield(run: Run) -> Panel:
    total: Counter[str] = sum((r.reasons(*KINDS) for r in run.rounds), Counter())
    reasons = [
        name for name, _ in total.most_common(_MOST_REASONS if len(total) <= _MOST_REASONS else _MOST_REASONS - 1)
    ]
    rounds = [r for r in run.rounds if r.requested(*KINDS)]

    def parts(r: Round) -> dict[str, int]:
        counts = r.reasons(*KINDS)
        rest = {"other reasons": sum(n for name, n in counts.items() if name not in reasons)}
        accepted = {"accepted": r.requested(*KINDS) - counts.total()}
        return accepted | {name: counts[name] for name in reasons} | (rest if len(total) > len(reasons) else {})

    order = list(parts(rounds[0]))
    cut = sum(r.cut(*KINDS) for r in rounds)
    drawn = stacked(
        [(f"round {r.number}", parts(r)) for r in _drawn(rounds)], order, share=True, unit="share of requests"
    )
    tables = [
        Table(
            "Requests by round, and the share accepted",
            ["round", "requests", "accepted", *(["of these cut"] if cut else []), "yield, training", "yield, probe"],
            [
                [
                    f"{r.number}",
                    f"{r.requested(*KINDS):,}",
                    f"{parts(r)['accepted']:,}",
                    *([f"{r.cut(*KINDS):,}"] if cut else []),
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
    notes = ["Requests for training and probe samples: the accepted ones, and the rejected ones by reason."]
    if cut:
        notes.append(
            "Cut samples were too long, or broken off at the token limit; they end with their last whole sentence."
        )
    thought, tokens = (sum(counts) for counts in zip(*(r.thinking(*KINDS) for r in rounds), strict=True))
    if thought:
        counted = f", which took {tokens:,} tokens" if tokens else ""
        notes.append(
            f"The generator thought before {thought:,} of its answers{counted}; thinking is no part of samples."
        )
    return Panel("Yield by round", notes, [Markup(drawn)], tables)


# The data


def data_panels(run: Run) -> list[Panel]:
    """Returns the panels of label balance, lengths, diversity and copies; none if the run has no samples.

    Args:
        run: The run.
    """
    if not any(r.samples["train"] or r.samples["probe"] for r in run.rounds):
        return []
    panels = [label_panel(run)] if run.labels else []
    return [*panels, _lengths(run), _diversity(run), _copies(run)]


def _lengths(run: Run) -> Panel:
    samples = {kind: Mapped(run.samples(kind), lambda s: s.sample) for kind in KINDS}
    inputs: dict[str, list[float]] = {kind: [len(words(s.text)) for s in samples[kind]] for kind in KINDS}
    plots = [histogram(inputs, unit="words of an input" if run.labels else "words of an input (all fields)")]
    columns: dict[str, list[float]] = {
        name: [len(words(s.fields[name])) for s in samples["train"]] for name in run.fields
    }
    if not run.labels:
        targets: dict[str, list[float]] = {kind: [_target_words(s.target) for s in samples[kind]] for kind in KINDS}
        plots.append(histogram(targets, unit="words of a target"))
        columns["target"] = targets["train"]
    rows = [
        [name, *(f"{quantile(lengths, q):,.0f}" for q in (0, 0.05, 0.5, 0.95, 1))]
        for name, lengths in columns.items()
        if lengths
    ]
    table = Table("Words of the training samples", ["", "shortest", "5\u00a0%", "median", "95\u00a0%", "longest"], rows)
    notes = ["Lengths of both kinds are drawn, since length alone could separate the probe set from training samples."]
    if any(has_characters(s.text) for kind in KINDS for s in samples[kind][:100]):
        notes.append("In scripts without spaces each character counts as a word.")
    return Panel("Lengths", notes, [Markup(p) for p in plots], [table])


def _target_words(target: str) -> int:
    """Counts words between spaces, since a target may be a formula; characters in scripts without spaces."""
    return len(words(target)) if has_characters(target) else len(target.split())


def _diversity(run: Run) -> Panel:
    texts = {r.number: Mapped(r.samples["train"], lambda s: s.sample.text) for r in run.rounds if r.samples["train"]}
    size = min([_MOST_TEXTS, *map(len, texts.values())], default=0)
    names = {
        "distinct_1": "distinct-1",
        "distinct_2": "distinct-2",
        "distinct_3": "distinct-3",
        "self_bleu": "self-BLEU",
    }
    by_round = {number: diversity(texts[number], at_most=max(1, size)) for number in texts}
    every = diversity(Chained([*texts.values()]), at_most=_MOST_TEXTS)
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
    notes = [
        "Distinct-n: distinct sequences of n words over all such sequences; higher is more varied. Self-BLEU: BLEU-4 "
        "of each text with the others as references; higher is more alike.",
        "Both depend on the number of texts, so the same number is drawn from each round with a fixed seed; the last "
        "row covers more texts and is not comparable.",
    ]
    return Panel("Diversity", notes, [Markup(lines(series))] if len(by_round) > 1 else [], [table])


def _copies(run: Run) -> Panel:
    rounds = [r for r in run.rounds if r.requested(*KINDS)]
    reasons = ("duplicate", "near_duplicate", "semantic_duplicate", "copies_demo", "copies_prompt")
    rejects = [[f"{r.number}", *(f"{r.reasons(*KINDS)[name]:,}" for name in reasons)] for r in _rows(rounds)]
    total = [f"{sum(r.reasons(*KINDS)[name] for r in rounds):,}" for name in reasons]
    tables = [
        Table(
            "Rejected as copies",
            ["round", "duplicate", "near duplicate", "in meaning", "of a demo", "of the prompt"],
            rejects,
            ["all", *total],
        )
    ]
    accepted = Counter(hash(" ".join(words(s.sample.text))) for kind in KINDS for s in run.samples(kind))
    repeated = accepted.total() - len(accepted)
    notes = [
        f"Of {accepted.total():,} accepted samples, training and probe set, "
        + (f"{repeated:,} have the same words as another." if repeated else "no two have the same words.")
    ]
    measured = [(r, r.row["overlap"]["train"]) for r in run.whole if r.row.get("overlap", {}).get("train")]
    parts = ("samples", "words", "full_field", "full_row", "any")
    head = ["samples", f"{OVERLAP_WORDS} words in a row", "full field", "full row", "any of these"]
    if measured or run.overlap:
        rows = [[f"round {r.number}", *(f"{counts.get(p, 0):,}" for p in parts)] for r, counts in _rows(measured)]
        for name, title in (("train", "all training samples"), ("demos", "demos")):
            if counts := run.overlap.get(name):
                rows.append([title, *(f"{counts.get(p, 0):,}" for p in parts)])
        tables.append(Table("Text in common with the test set", ["", *head], rows))
        dropped = sum(r.reasons(*KINDS)["in_test_set"] for r in run.rounds)
        notes.append(
            "The comparison is of words: zero means that nothing was copied, not that the generator never saw the "
            + (f"test set. Decontamination dropped {dropped:,} samples." if dropped else "test set.")
        )
    else:
        notes.append("The overlap with the test set was not measured.")
    return Panel("Copies and decontamination", notes, [], tables)


# The costs


def cost_panels(run: Run) -> list[Panel]:
    """Returns the panels of seconds, tokens and money by round.

    Args:
        run: The run.
    """
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
    priced = budget.priced or any("cost" in counts for _, counts in tokens)
    rows = [
        [
            f"{r.number}",
            *(f"{counts.get(name, 0):,}" for name in ("calls", "reused_calls", "prompt", "completion")),
            *([f"${counts.get('cost', 0.0):,.4f}"] if priced else []),
        ]
        for r, counts in _rows(tokens)
    ]
    total = [f"{v:,}" for v in (spent.calls, spent.reused, spent.prompt_tokens, spent.completion_tokens)]
    foot = ["all", *total, *([f"${budget.cost(spent):,.4f}"] if priced else [])]
    head = ["round", "calls", "reused calls", "prompt tokens", "tokens written", *(["cost"] if priced else [])]
    notes = [
        "Calls are requests the generator answered, label checks included. Reused calls were paid for by another run."
    ]
    if priced:
        notes.append(
            f"Prices: ${budget.price_prompt:g} for a million prompt tokens, ${budget.price_completion:g} for a million "
            "written."
        )
    else:
        notes.append("No price is set, so no cost is shown (data.budget.price_prompt, data.budget.price_completion).")
    panels.append(Panel("Tokens and money", notes, [], [Table("Tokens by round", head, rows, foot)]))
    return panels


# Rounds


def _drawn(rounds: Sequence[Round]) -> list[Round]:
    """Returns evenly spaced rounds, as many as a plot has room for."""
    return [rounds[i] for i in evenly_spaced(range(len(rounds)), _MOST_DRAWN)]


def _rows(rounds: Sequence[Any]) -> list[Any]:
    """Returns evenly spaced rounds, as many as a table has room for."""
    return [rounds[i] for i in evenly_spaced(range(len(rounds)), _MOST_ROWS)]
