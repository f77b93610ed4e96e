"""Builds the content of a report: the result, six key figures, the settings and the panels of ``page.html``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from gold_lightning.console import duration
from gold_lightning.evaluation.baselines import GENERATOR_BASELINES
from gold_lightning.evaluation.results import BASELINE_TITLES, GENERATOR_ANSWER
from gold_lightning.report.known import known_panels
from gold_lightning.report.numbers import NONE, abbreviated, counted, percent
from gold_lightning.report.panels import cost_panels, data_panels, loop_panels
from gold_lightning.report.parts import Panel, Table
from gold_lightning.report.plots import drawing, forest
from gold_lightning.report.real_texts import real_text_panels
from gold_lightning.report.run import KINDS, Run
from gold_lightning.report.samples import reasons_of, samples_of
from gold_lightning.report.text import LABEL_CHARS, cut

__all__ = ["contents", "state_of"]


def contents(run: Run) -> dict[str, Any]:
    """Returns the variables of the page's template.

    Args:
        run: The run.
    """
    with drawing():
        return {
            "run": run,
            "state": state_of(run),
            "facts": _facts(run),
            "result": _result(run),
            "loop": loop_panels(run),
            "data": [*data_panels(run), *real_text_panels(run)],
            "costs": cost_panels(run),
            "settings": _settings(run),
            "samples": samples_of(run),
            "reasons": reasons_of(run),
        }


# The head


def state_of(run: Run) -> list[str]:
    """Returns sentences that say how far the run is, and why it ended if its folder shows the reason.

    Args:
        run: The run.
    """
    done, most = len(run.whole), run.setting("trainer.max_epochs")
    rounds = counted(done, "round")
    sentences = []
    if isinstance(most, int) and 0 <= most <= done and done:
        sentences.append(f"All {rounds} are done." if done > 1 else "The only round is done.")
    elif reason := _plateau(run):
        sentences.append(f"The run ended after {rounds}: {reason}.")
    elif done or run.unfinished:
        limit = f" of at most {most}" if isinstance(most, int) and most >= 0 else ""
        sentences.append(f"{done}{limit} round{'s are' if limit or done != 1 else ' is'} done.")
    if unfinished := run.unfinished:
        parts = []
        for kind in KINDS:
            name = "training samples" if kind == "train" else "probe samples"
            wanted = run.setting(f"data.plan.{'samples' if kind == 'train' else 'probe'}_per_round")
            accepted = len(unfinished.samples[kind])
            if accepted or kind == "train" or unfinished.requested(kind):
                parts.append(f"{accepted:,}{f' of {wanted:,}' if isinstance(wanted, int) else ''} {name}")
        sentences.append(f"Round {unfinished.number} is not finished: it has {' and '.join(parts)}.")
    if reason := _spent_budget(run):
        sentences.append(reason)
    return sentences or ["There is no round yet."]


def _plateau(run: Run) -> str:
    """Returns the reason for which early stopping ended the run; "" if it did not."""
    watched, patience = run.setting("early_stopping.monitor"), run.setting("early_stopping.patience")
    delta = run.setting("early_stopping.min_delta", 0.0)
    if not isinstance(watched, str) or not isinstance(patience, int) or not isinstance(delta, int | float):
        return ""
    sign = -1 if run.setting("early_stopping.mode") == "min" else 1
    best, waited = -math.inf, 0
    for round_ in run.whole:
        value = round_.row.get("metrics", {}).get(watched)
        selection = round_.row.get("selection")
        previous_best = selection.get("before", {}).get(watched) if isinstance(selection, dict) else None
        if isinstance(previous_best, int | float):  # scored anew, so that both are of the same rows
            best = sign * previous_best
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
    """Returns the run's six key figures, each as name, number and note."""
    train = sum(len(r.samples["train"]) for r in run.rounds)
    requests = sum(r.requested("train") for r in run.rounds)
    spent, budget = run.spent, run.budget
    money = f"${budget.cost(spent):,.2f}" if budget.priced else "no price set"
    money += f"; {spent.reused:,} calls reused" if spent.reused else ""
    return [
        ("rounds", f"{len(run.whole)}", "finished"),
        ("training samples", f"{train:,}", f"from {requests:,} requests"),
        ("yield", percent(train / requests) if requests else NONE, "accepted share of the requests"),
        ("fed back", f"{sum(len(r.fed_back) for r in run.rounds):,}", "probe samples for later prompts"),
        ("tokens", abbreviated(spent.tokens), money),
        ("time", duration(run.seconds), "generation, training, scoring"),
    ]


# The result


def _result(run: Run) -> dict[str, Any]:
    summaries = _test_summaries(run)
    if not summaries:
        return {"number": "", "notes": _untested(run), "panels": known_panels(run)}
    summary = summaries[0]
    first = _metrics_of(summary)[0]
    number, notes = "", list[str]()
    if "student" in summary["results"]:
        result = summary["results"]["student"][first]
        low, high = result["interval"]
        number = percent(result["value"])
        notes.append(
            f"{first} of the best student on {summary['rows']:,} test rows; the 95 % interval is "
            f"{100 * low:.1f} to {100 * high:.1f} %."
        )
        comparisons = {
            "untrained": "before training it had {}",
            "majority": "the most frequent answer has {}",
            **{
                name: f"the {BASELINE_TITLES[name]}, has {{}}" for name in _best_of_generator(summary["results"], first)
            },
            "supervised": "trained on labelled rows it has {}",
        }
        parts = [
            text.format(percent(summary["results"][name][first]["value"]))
            for name, text in comparisons.items()
            if name in summary["results"]
        ]
        if parts:
            sentence = "; ".join(parts)
            notes.append(sentence[0].upper() + sentence[1:] + ".")
    shared = (summary.get("overlap") or run.overlap).get("train", {})
    if shared.get("any"):
        verb = "shares" if shared["any"] == 1 else "share"
        notes.append(
            f"Caution: {shared['any']:,} of {shared['samples']:,} training samples {verb} text with the test set."
        )
    if summary.get("labels_as_read"):
        notes.append(f"Labels as read: {cut(summary['labels_as_read'], 2000)}.")
    return {"number": number, "notes": notes, "panels": [*map(_comparison, summaries), *known_panels(run)]}


def _best_of_generator(results: Mapping[str, Any], metric: str) -> list[str]:
    """Returns the better of the raw and the calibrated line for each number of demos: the student's real rivals."""
    pairs = [[name, f"{name}_calibrated"] for name in GENERATOR_BASELINES]
    present = [[name for name in pair if name in results] for pair in pairs]
    return [max(names, key=lambda name: results[name][metric]["value"]) for names in present if names]


def _test_summaries(run: Run) -> list[dict[str, Any]]:
    """Returns the summary of ``test``, then that of ``baselines``; one of both if they tested the same rows."""
    summaries: list[dict[str, Any]] = []
    for summary in (run.results, run.baselines):
        if not summary.get("results"):
            continue
        if summaries and summaries[0].get("of_rows") == summary.get("of_rows"):
            summaries[0] = summaries[0] | {"results": {**summary["results"], **summaries[0]["results"]}}
        else:
            summaries.append(dict(summary))
    return summaries


def _metrics_of(summary: Mapping[str, Any]) -> list[str]:
    """Returns the names of the metrics, the watched one first."""
    first = next(iter(summary["results"].values()))
    return [name for name, value in first.items() if isinstance(value, Mapping) and "interval" in value]


def _comparison(summary: Mapping[str, Any]) -> Panel:
    common = summary.get("most_frequent")
    always = f"always {cut(common, LABEL_CHARS)!r}" if isinstance(common, str) else "always the most frequent answer"
    names = {**BASELINE_TITLES, "majority": always}
    rows = [(title, summary["results"][name]) for name, title in names.items() if name in summary["results"]]
    metrics = _metrics_of(summary)
    notes = [f"{title}: {note}." for title, result in rows for note in result.get("notes", ())]
    if summary["results"].keys() & GENERATOR_BASELINES:
        notes.append(f"In a task with labels the generator's answer is {GENERATOR_ANSWER}.")
    if len(rows) > 1:
        notes.append("Each interval covers one number. Differences between the lines are not tested here.")
    drawn = [(title, result[metrics[0]]["value"], *result[metrics[0]]["interval"]) for title, result in rows]
    table = Table(
        f"Test metrics with 95 % bootstrap intervals, {summary['rows']:,} rows",
        ["", *metrics],
        [[title, *(_with_interval(result.get(name)) for name in metrics)] for title, result in rows],
    )
    return Panel(f"{metrics[0]} on {summary['rows']:,} test rows", notes, [Markup(forest(drawn))], [table])


def _with_interval(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return NONE
    low, high = result["interval"]
    return f"{percent(result['value'])} ({100 * low:.1f} to {100 * high:.1f})"


def _untested(run: Run) -> list[str]:
    scored = [(r, values) for r in run.whole if (values := r.metrics())]
    if not scored:
        return ["No round is finished yet, so there is no student. The page is rewritten when the run ends."]
    name = next(iter(scored[0][1]))
    best = run.best or scored[-1][0]
    doubt = "" if "labelled" in best.validated_on else " Those labels are the generator's, and may be wrong."
    return [
        "The student has not been tested on labelled rows; run the test command with the same config to do so.",
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
    "real texts": "data.unlabelled",
    "real texts fed back as": "data.plan.unlabelled_as",
    "real texts, largest share": "data.plan.unlabelled_share",
    "label agreement": "data.plan.label_agreement",
    "label calibration": "data.plan.label_calibration",
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
    """Returns tables of the main settings and of the versions; the page links ``config.yaml`` for the others."""
    real = run.setting("data.unlabelled") is not None
    keys = {title: key for title, key in _KEYS.items() if real or not key.startswith("data.plan.unlabelled")}
    rows = [[title, _plain(value)] for title, key in keys.items() if (value := run.setting(key)) is not None]
    tables = [Table("Main settings", ["setting", "value"], rows)] if rows else []
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
