"""What a report says: the result, the run in six numbers, its settings, and all that ``page.html`` shows beside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from gold_lightning.console import duration
from gold_lightning.evaluation.results import BASELINE_TITLES
from gold_lightning.report.numbers import NONE, abbreviated, counted, percent
from gold_lightning.report.panels import Panel, Table, cost_panels, data_panels, loop_panels
from gold_lightning.report.plots import drawing, forest
from gold_lightning.report.run import KINDS, Run
from gold_lightning.report.samples import reasons_of, samples_of
from gold_lightning.report.text import LABEL_CHARS, cut

__all__ = ["contents", "state_of"]


def contents(run: Run) -> dict[str, Any]:
    """Everything that the page's template shows, samples and rejects aside."""
    with drawing():
        return {
            "run": run,
            "state": state_of(run),
            "facts": _facts(run),
            "result": _result(run),
            "loop": loop_panels(run),
            "data": data_panels(run),
            "costs": cost_panels(run),
            "settings": _settings(run),
            "samples": samples_of(run),
            "reasons": reasons_of(run),
        }


# The head


def state_of(run: Run) -> list[str]:
    """Where the run stands, and why it ended there, as far as its folder tells."""
    done, most = len(run.whole), run.setting("trainer.max_epochs")
    rounds = counted(done, "round")
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
        for kind in KINDS:
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
        selection = round_.row.get("selection")
        before = selection.get("before", {}).get(watched) if isinstance(selection, dict) else None
        if isinstance(before, int | float):  # what the best round before had on the same rows
            best = sign * before
        if not isinstance(value, int | float):
            return ""
        best, waited = (sign * value, 0) if sign * value - abs(delta) > best else (best, waited + 1)
    return f"{watched} had not improved for {counted(patience, 'round')}" if waited >= patience > 0 else ""


def _spent_budget(run: Run) -> str:
    budget = run.budget
    cost = budget.cost(run.spent)
    if budget.max_tokens is not None and run.spent.tokens >= budget.max_tokens:
        return f"Its budget of {budget.max_tokens:,} tokens is spent."
    if budget.max_cost is not None and cost >= budget.max_cost:
        return f"Its budget of ${budget.max_cost:,g} is spent."
    if budget.max_seconds is not None and run.seconds >= budget.max_seconds:
        return f"Its budget of {duration(budget.max_seconds)} is spent."
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
        ("yield", percent(train / asked) if asked else NONE, "accepted of what was asked for"),
        ("fed back", f"{sum(len(r.fed_back) for r in run.rounds):,}", "probe samples for later prompts"),
        ("tokens", abbreviated(spent.tokens), money),
        ("time", duration(run.seconds), "generation, training, scoring"),
    ]


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
        lead["number"] = percent(found["value"])
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
            text.format(percent(held["results"][name][first]["value"]))
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
    always = f"always {cut(common, LABEL_CHARS)!r}" if isinstance(common, str) else "always the most frequent answer"
    names = {**BASELINE_TITLES, "majority": always}
    rows = [(title, held["results"][name]) for name, title in names.items() if name in held["results"]]
    metrics = _metrics_of(held)
    told = [f"{title}: {note}." for title, found in rows for note in found.get("notes", ())]
    if {"zero_shot", "few_shot"} & held["results"].keys():
        told.append("Where there are labels, the generator takes the one whose name it finds likeliest, uncalibrated.")
    if len(rows) > 1:
        told.append("Each interval is of its own number: which of several differences hold is not tested here.")
    drawn = [(title, found[metrics[0]]["value"], *found[metrics[0]]["interval"]) for title, found in rows]
    table = Table(
        f"Test metrics with 95 % bootstrap intervals, {held['rows']:,} rows",
        ["", *metrics],
        [[title, *(_with_interval(found.get(name)) for name in metrics)] for title, found in rows],
    )
    return Panel(f"{metrics[0]} on {held['rows']:,} test rows", told, [Markup(forest(drawn))], [table])


def _with_interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NONE
    low, high = found["interval"]
    return f"{percent(found['value'])} ({100 * low:.1f} to {100 * high:.1f})"


def _untested(run: Run) -> list[str]:
    scored = [(r, values) for r in run.whole if (values := r.metrics())]
    if not scored:
        return ["No round is whole yet, so there is no student. This page is written anew when the run ends."]
    name = next(iter(scored[0][1]))
    best = run.best or scored[-1][0]
    doubt = "" if "labelled" in best.validated_on else " Those labels are the generator's, and may be wrong."
    return [
        "The student has not been tested on labelled rows: the test command with the same config does it.",
        f"The best round is {best.number}: its {name} was {percent(best.metrics().get(name, math.nan))} on "
        f"{best.validated_on}.{doubt}",
    ]


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


def _settings(run: Run) -> list[Table]:
    """The settings that matter most, and the versions. The page links ``config.yaml`` for all others."""
    rows = [[title, _plain(value)] for title, key in _KEYS.items() if (value := run.setting(key)) is not None]
    tables = [Table("What matters most", ["setting", "value"], rows)] if rows else []
    if run.versions:
        versions = [[str(name), _plain(value)] for name, value in run.versions.items()]
        tables.append(Table("Made with", ["", "version"], versions))
    return tables


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)[:200]
