"""Compares the arms of an experiment over seeds: means, intervals, paired differences, a table and a figure.

Several arms are compared with the first one, so an interval may exclude 0 by chance alone: among five arms in about
one of five experiments. Whether a difference holds is therefore decided by p-values with Holm's correction. Each
interval covers its own difference alone.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gold_lightning.console import printable, table

__all__ = ["ALPHA", "ArmSummary", "compare_arms", "draw", "holm", "mean_interval", "paired_p", "result_lines"]

ALPHA = 0.05
"""The corrected p-value below which a difference counts."""


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns the mean and its 95 % interval by Student's t with n - 1 degrees of freedom (Student, 1908).

    Experiments have few seeds: with 5 of them the interval is 2.78 standard errors on each side, not the 1.96 of the
    normal distribution.

    Args:
        values: One value for each seed, independent of each other.

    Returns:
        Mean, lower and upper end. The ends are nan for fewer than two values.

    >>> [round(x, 3) for x in mean_interval([0.7, 0.8, 0.9])]
    [0.8, 0.552, 1.048]
    """
    mean = statistics.fmean(values) if values else math.nan
    if len(values) < 2:
        return mean, math.nan, math.nan
    low, high = (mean, mean) if (test := _t_test(values)) is None else test.confidence_interval()
    return mean, float(low), float(high)


def paired_p(differences: Sequence[float]) -> float:
    """Returns the two-sided p-value of the paired t-test (Student, 1908).

    Args:
        differences: One difference for each seed, independent of each other.

    Returns:
        The probability of so large a mean difference by chance alone, in [0, 1]. nan for fewer than two differences,
        and for equal differences other than 0, which have no spread.
    """
    test = _t_test(differences)
    if test is not None:
        return float(test.pvalue)
    return 1.0 if len(differences) > 1 and not any(differences) else math.nan


def _t_test(values: Sequence[float]) -> Any:
    """Runs the one-sample t-test against 0; returns ``None`` if the values differ by rounding at most."""
    from scipy.stats import ttest_1samp

    if len(values) < 2 or statistics.stdev(values) <= 1e-12 * max(map(abs, values)):
        return None
    return ttest_1samp(values, 0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values of several tests so that the chance of *any* false positive is that of one test (Holm, 1979).

    The smallest is multiplied by the number of tests, the next one by one less, and so on. No corrected value is
    smaller than the one before it, or above 1.

    Args:
        p_values: One p-value for each test. nan counts as a test and stays nan.

    Returns:
        The corrected p-values, in the order of the tests.
    """
    order = sorted(range(len(p_values)), key=lambda i: 1.0 if math.isnan(p_values[i]) else p_values[i])
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        if not math.isnan(p_values[i]):
            largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
            corrected[i] = largest
    return corrected


@dataclass(frozen=True)
class ArmSummary:
    """The results of one arm over its finished seeds.

    Args:
        arm: Name of the arm.
        values: Metric by seed.
        mean: Mean, lower and upper end of the metric.
        differences: Difference to the first arm by seed, for the seeds that both have.
        difference: Mean, lower and upper end of the differences.
        samples: Number of training samples of each run.
        flipped: Exchanged labels and all labels of the probe sets (``probe``) and of the fed-back samples
            (``fed_back``), over all seeds, and the AUROC of energy for exchanged labels (``auroc``); empty without
            label noise.
        p: p-value of the difference alone; nan if unknown.
        p_holm: p-value corrected for the number of arms that are compared with the first; nan if unknown.
    """

    arm: str
    values: Mapping[int, float]
    mean: tuple[float, float, float]
    differences: Mapping[int, float]
    difference: tuple[float, float, float]
    samples: tuple[int, ...]
    flipped: Mapping[str, Any]
    p: float = math.nan
    p_holm: float = math.nan

    @property
    def holds(self) -> bool:
        """Whether the difference is significant after the correction; ``False`` if unknown."""
        return self.p_holm < ALPHA

    def row(self) -> dict[str, Any]:
        """Returns plain values for a line of ``summary.jsonl``; unknown ones are ``None``."""

        def ends(estimate: tuple[float, float, float]) -> dict[str, Any]:
            mean, low, high = (None if math.isnan(x) else x for x in estimate)
            return {"mean": mean, "interval": None if low is None else [low, high]}

        return {
            "arm": self.arm,
            "seeds": sorted(self.values),
            **ends(self.mean),
            "difference": {
                "seeds": sorted(self.differences),
                **ends(self.difference),
                "p": None if math.isnan(self.p) else self.p,
                "p_holm": None if math.isnan(self.p_holm) else self.p_holm,
            },
            "samples": sorted(set(self.samples)),
            **({"flipped": dict(self.flipped)} if self.flipped else {}),
        }


def compare_arms(arms: Sequence[str], results: Sequence[Mapping[str, Any]], metric: str) -> list[ArmSummary]:
    """Computes each arm's mean and its paired difference to the first arm, tested with Holm's correction.

    Args:
        arms: Names of the arms, in order.
        results: ``arm``, ``seed``, ``metrics``, ``samples`` of each finished run, and ``flipped`` with label noise.
        metric: Name of the metric.

    Returns:
        A summary of each arm, in order.
    """
    by_arm = {arm: {row["seed"]: row for row in results if row["arm"] == arm} for arm in arms}
    first = {seed: row["metrics"][metric] for seed, row in by_arm[arms[0]].items()}
    summaries = []
    for arm, rows in by_arm.items():
        values = {seed: row["metrics"][metric] for seed, row in sorted(rows.items())}
        differences = {seed: v - first[seed] for seed, v in values.items() if seed in first and arm != arms[0]}
        summaries.append(
            ArmSummary(
                arm,
                values,
                mean_interval([*values.values()]),
                differences,
                mean_interval([*differences.values()]),
                tuple(row["samples"] for row in rows.values()),
                _add_up([row["flipped"] for row in rows.values() if "flipped" in row]),
                paired_p([*differences.values()]),
            )
        )
    compared = [i for i, summary in enumerate(summaries) if len(summary.differences) > 1]
    for i, p in zip(compared, holm([summaries[i].p for i in compared]), strict=True):
        summaries[i] = replace(summaries[i], p_holm=p)
    return summaries


def _add_up(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not counts:
        return {}
    sums = {name: [sum(of_run[name][i] for of_run in counts) for i in (0, 1)] for name in ("probe", "fed_back")}
    scores = [of_run["auroc"] for of_run in counts if of_run["auroc"] is not None]
    return {**sums, "auroc": statistics.fmean(scores) if scores else None}


def result_lines(question: str, measured: str, summaries: Sequence[ArmSummary], runs: int) -> Iterator[str]:
    """Yields the table of an experiment as printable lines.

    Args:
        question: Question of the experiment; "" for none.
        measured: Names of the tasks and of the metric.
        summaries: Summary of each arm.
        runs: Number of planned runs.
    """
    first = summaries[0].arm
    if question:
        yield printable(question)
    noisy = any(s.flipped for s in summaries)
    head = [printable(measured), "seeds", "mean", printable(f"difference to {first}"), "p (Holm)"]
    rows = [head + (["flipped: probe", "fed back", "AUROC"] if noisy else [])]
    for s in summaries:
        row = [
            printable(s.arm),
            str(len(s.values)),
            _percent(s.mean),
            _points(s.difference) if s is not summaries[0] else "",
            _p_value(s) if s is not summaries[0] else "",
        ]
        if noisy:
            row += [_share(s.flipped.get("probe")), _share(s.flipped.get("fed_back")), _score(s.flipped.get("auroc"))]
        rows.append(row)
    yield from table(rows, right=[1])
    yield "mean and 95 % interval over seeds, by Student's t; the difference is paired: of runs of the same seed"
    if (compared := sum(len(s.differences) > 1 for s in summaries)) > 1:
        corrected = f"p is corrected for {compared} comparisons with {printable(first)}"
        yield f"each interval covers its own difference alone; {corrected}"
    yield f"p (Holm): paired t-test; * below {ALPHA:g}: the difference holds"
    if noisy:
        yield "flipped: share of exchanged labels in the probe sets and fed-back samples; AUROC of energy for them"
    samples = {s.arm: sorted(set(s.samples)) for s in summaries if s.samples}
    every = sorted({n for counts in samples.values() for n in counts})
    if len(every) == 1:
        yield f"each run: {every[0]} training samples"
    elif every:
        by_arm = "; ".join(f"{printable(arm)} {', '.join(map(str, counts))}" for arm, counts in samples.items())
        yield f"training samples differ, so budgets are not equal: {by_arm}"
    if missing := runs - sum(len(s.values) for s in summaries):
        yield f"not finished: {missing} of {runs} runs; the same command continues them"


def _percent(estimate: tuple[float, float, float]) -> str:
    mean, low, high = (100 * x for x in estimate)
    if math.isnan(mean):
        return "-"
    return f"{mean:.1f} %" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")


def _points(estimate: tuple[float, float, float]) -> str:
    mean, low, high = (100 * x for x in estimate)
    if math.isnan(mean):
        return "-"
    return f"{mean:+.1f}" + ("" if math.isnan(low) else f" ({low:+.1f} to {high:+.1f})")


def _p_value(summary: ArmSummary) -> str:
    if math.isnan(summary.p_holm):
        return "-"
    text = "<0.001" if summary.p_holm < 0.001 else f"{summary.p_holm:.3f}"
    return text + (" *" if summary.holds else "")


def _share(counts: Sequence[int] | None) -> str:
    return f"{counts[0] / counts[1]:.0%} of {counts[1]}" if counts and counts[1] else "-"


def _score(auroc: float | None) -> str:
    return "-" if auroc is None else f"{auroc:.2f}"


def draw(question: str, metric: str, summaries: Sequence[ArmSummary], paths: Sequence[Path]) -> None:
    """Draws means and differences with their intervals and one circle for each seed. Readable without colour.

    Args:
        question: Question of the experiment.
        metric: Name of the metric.
        summaries: Summary of each arm.
        paths: Files to write; their suffixes determine the formats.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "gold", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(10, 2.1 + 0.42 * len(summaries)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        places = range(len(summaries))
        for axes, title in ((left, f"{metric} (%)"), (right, f"difference to {summaries[0].arm} (points)")):
            for y, s in enumerate(summaries):
                values, (mean, low, high) = (s.values, s.mean) if axes is left else (s.differences, s.difference)
                if not values:
                    continue
                axes.plot(
                    [100 * v for v in values.values()], [y + 0.22] * len(values), "o", ms=4.5, mfc="none", mec="0.35"
                )
                if not math.isnan(low):
                    ends = [[100 * (mean - low)], [100 * (high - mean)]]
                    axes.errorbar([100 * mean], [y], xerr=ends, fmt="none", ecolor="black", elinewidth=1.6, capsize=4)
                filled = axes is left or s.holds
                axes.plot([100 * mean], [y], "D", ms=6, mec="black", mfc="black" if filled else "white")
            axes.set_xlabel(title, parse_math=False)
            axes.grid(axis="x", color="0.88", linewidth=0.8)
            axes.set_axisbelow(True)
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.tick_params(axis="y", length=0)
        right.axvline(0, color="black", linewidth=1, linestyle=(0, (4, 3)))
        left.set_yticks(places, [printable(s.arm) for s in summaries], parse_math=False)
        left.set_ylim(len(summaries) - 0.4, -0.6)
        seeds = max((len(s.values) for s in summaries), default=0)
        key = (
            f"diamond: mean with 95 % interval over {seeds} seeds (Student's t), each alone; circles: seeds\n"
            f"right, filled diamond: the difference holds, p < {ALPHA:g} after Holm's correction for all arms"
        )
        heading = textwrap.fill(printable(question), 100)
        figure.suptitle(f"{heading}\n{key}", fontsize=10.5, parse_math=False)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.stem}.part{path.suffix}")
            figure.savefig(part, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
            part.replace(path)
