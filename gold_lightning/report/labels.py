"""The panel of a report with the balance of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from markupsafe import Markup

from gold_lightning.report.numbers import percent, ratio
from gold_lightning.report.parts import Panel, Table
from gold_lightning.report.plots import bars
from gold_lightning.report.run import Run
from gold_lightning.report.text import LABEL_CHARS, cut

__all__ = ["label_panel"]

_MOST_BARS = 40


def label_panel(run: Run) -> Panel:
    """Returns the panel of the training samples by label.

    Args:
        run: The run, of a task with labels.
    """
    brief = [(s.sample.target, s.label_agrees) for s in run.samples("train")]
    accepted = _counts(run, (target for target, _ in brief))
    rejected = _counts(run, (str(x.get("label")) for r in run.rounds for x in r.rejects if x["kind"] == "train"))
    checks = _counts(run, (target for target, agrees in brief if agrees is not None))
    agreed = _counts(run, (target for target, agrees in brief if agrees))
    checked, total = checks.total() > 0, len(brief) or 1
    names = sorted(run.labels, key=lambda name: -accepted[name]) if len(run.labels) > _MOST_BARS else list(run.labels)
    values = [(name, accepted[name], f"{accepted[name]:,}") for name in names[:_MOST_BARS]]
    notes = ["The plan asks for each label equally often and asks again for rejected samples."]
    if run.many:
        notes = [
            "Samples have several labels or none, so shares do not add up to 100 %. The plan asks for each label and "
            "each pair of labels about equally often, and asks again for rejected samples."
        ]
    if len(names) > _MOST_BARS:
        notes.append(f"Of {len(names):,} labels the {_MOST_BARS} with the most samples are drawn.")
    head = ["label", "samples", "share", "yield"] + (["generator agrees"] if checked else [])
    rows = [
        [
            cut(name, LABEL_CHARS),
            f"{accepted[name]:,}",
            percent(accepted[name] / total),
            percent(ratio(accepted[name], accepted[name] + rejected[name])),
            *([percent(ratio(agreed[name], checks[name]))] if checked else []),
        ]
        for name in names[:200]
    ]
    if checked:
        notes.append("The last column is the share of samples whose label the generator itself finds likeliest.")
    plots = [Markup(bars(values, unit="training samples"))]
    tables = [Table("Training samples by label", head, rows)]
    if run.many:
        sizes = Counter(len(run.sets.get(target, (target,))) for target, _ in brief)
        by_size = [[f"{size}", f"{n:,}", percent(n / total)] for size, n in sorted(sizes.items())]
        tables.append(Table("Training samples by number of labels", ["labels", "samples", "share"], by_size))
    return Panel("Label balance", notes, plots, tables)


def _counts(run: Run, targets: Iterable[str]) -> Counter[str]:
    """Counts the labels of targets."""
    return Counter(label for target in targets for label in run.labels_of(target))
