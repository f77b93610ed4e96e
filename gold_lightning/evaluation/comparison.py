"""Arms of an experiment compared over seeds: means, intervals, paired differences, a table and a figure.

Several arms are compared with the first one, so some interval may leave out 0 by chance alone: among five arms about
once in five experiments. Which differences hold is therefore told by p-values with Holm's correction; the intervals
are those of each difference alone.
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
    """Mean and its 95 % interval by Student's t with n - 1 degrees of freedom (Student, 1908).

    Experiments have few seeds: with 5 of them the normal's 1.96 standard errors would have to be 2.78.

    Args:
        values: One value a seed, independent of each other.

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
    """Two-sided p-value of the paired t-test (Student, 1908): how likely chance alone gives so large a difference.

    Args:
        differences: One difference a seed, independent of each other.

    Returns:
        A value in [0, 1]. nan for fewer than two differences, and for equal differences other than 0, which have no
        spread to judge by.
    """
    test = _t_test(differences)
    if test is not None:
        return float(test.pvalue)
    return 1.0 if len(differences) > 1 and not any(differences) else math.nan


def _t_test(values: Sequence[float]) -> Any:
    """The one-sample t-test against 0; None if the values have no spread but that of rounding."""
    from scipy.stats import ttest_1samp

    if len(values) < 2 or statistics.stdev(values) <= 1e-12 * max(map(abs, values)):
        return None
    return ttest_1samp(values, 0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected so that the chance of *any* false find stays that of one (Holm, 1979).

    The smallest is multiplied by the number of tests, the next one by one less, and so on; none comes out smaller than
    one before it, or above 1.

    Args:
        p_values: One a test. nan counts as a test and stays nan.
    """
    order = sorted(range(len(p_values)), key=lambda i: 1.0 if math.isnan(p_values[i]) else p_values[i])
    corrected, least = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        if not math.isnan(p_values[i]):
            least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
            corrected[i] = least
    return corrected


@dataclass(frozen=True)
class ArmSummary:
    """One arm over its finished seeds.

    Args:
        arm: Its name.
        values: The metric by seed.
        mean: Mean, lower and upper end.
        differences: Difference to the first arm, for the seeds that both have.
        difference: Mean, lower and upper end of the differences.
        samples: Training samples of each run.
        flipped: Exchanged labels and how many there are, in the probe sets (``probe``) and in what was fed back
            (``fed_back``), over all seeds, and how well energy finds them (``auroc``); empty without label noise.
        p: p-value of the difference alone; nan if unknown.
        p_holm: The same, corrected for the number of arms that are compared with the first.
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
        """Whether the difference holds after correction; ``False`` if that is unknown."""
        return self.p_holm < ALPHA

    def row(self) -> dict[str, Any]:
        """Plain values; what is not known is ``None``."""

        def ends(found: tuple[float, float, float]) -> dict[str, Any]:
            mean, low, high = (None if math.isnan(x) else x for x in found)
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
    """Each arm's mean and its paired difference to the first arm, tested with Holm's correction.

    Args:
        arms: Their names, in order.
        results: One a finished run: ``arm``, ``seed``, ``metrics``, ``samples``, and ``flipped`` where there is noise.
        metric: Name of the metric.
    """
    by_arm = {arm: {row["seed"]: row for row in results if row["arm"] == arm} for arm in arms}
    first = {seed: row["metrics"][metric] for seed, row in by_arm[arms[0]].items()}
    found = []
    for arm, rows in by_arm.items():
        values = {seed: row["metrics"][metric] for seed, row in sorted(rows.items())}
        differences = {seed: v - first[seed] for seed, v in values.items() if seed in first and arm != arms[0]}
        found.append(
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
    compared = [i for i, summary in enumerate(found) if len(summary.differences) > 1]
    for i, p in zip(compared, holm([found[i].p for i in compared]), strict=True):
        found[i] = replace(found[i], p_holm=p)
    return found


def _add_up(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not found:
        return {}
    sums = {name: [sum(f[name][i] for f in found) for i in (0, 1)] for name in ("probe", "fed_back")}
    scores = [f["auroc"] for f in found if f["auroc"] is not None]
    return {**sums, "auroc": statistics.fmean(scores) if scores else None}


def result_lines(question: str, measured: str, found: Sequence[ArmSummary], runs: int) -> Iterator[str]:
    """The table as printable lines.

    Args:
        question: What was asked; "" for nothing.
        measured: The tasks and the metric.
        found: The arms.
        runs: How many runs there are to be.
    """
    first = found[0].arm
    if question:
        yield printable(question)
    noisy = any(s.flipped for s in found)
    head = [printable(measured), "seeds", "mean", printable(f"difference to {first}"), "p (Holm)"]
    rows = [head + (["flipped: probe", "fed back", "AUROC"] if noisy else [])]
    for s in found:
        row = [
            printable(s.arm),
            str(len(s.values)),
            _percent(s.mean),
            _points(s.difference) if s is not found[0] else "",
            _p_value(s) if s is not found[0] else "",
        ]
        if noisy:
            row += [_share(s.flipped.get("probe")), _share(s.flipped.get("fed_back")), _score(s.flipped.get("auroc"))]
        rows.append(row)
    yield from table(rows, right=[1])
    yield "mean and 95 % interval over seeds, by Student's t; the difference is paired: of runs of the same seed"
    if (compared := sum(len(s.differences) > 1 for s in found)) > 1:
        corrected = f"p is corrected for {compared} comparisons with {printable(first)}"
        yield f"each interval is of its own difference alone; {corrected}"
    yield f"p (Holm): paired t-test; * below {ALPHA:g}: the difference holds"
    if noisy:
        yield "flipped: share of exchanged labels in the probe sets and in what was fed back; AUROC of energy for them"
    samples = {s.arm: sorted(set(s.samples)) for s in found if s.samples}
    every = sorted({n for counts in samples.values() for n in counts})
    if len(every) == 1:
        yield f"each run: {every[0]} training samples"
    elif every:
        told = "; ".join(f"{printable(arm)} {', '.join(map(str, counts))}" for arm, counts in samples.items())
        yield f"training samples differ, so budgets are not equal: {told}"
    if missing := runs - sum(len(s.values) for s in found):
        yield f"not finished: {missing} of {runs} runs; the same command goes on with them"


def _percent(found: tuple[float, float, float]) -> str:
    mean, low, high = (100 * x for x in found)
    if math.isnan(mean):
        return "-"
    return f"{mean:.1f} %" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")


def _points(found: tuple[float, float, float]) -> str:
    mean, low, high = (100 * x for x in found)
    if math.isnan(mean):
        return "-"
    return f"{mean:+.1f}" + ("" if math.isnan(low) else f" ({low:+.1f} to {high:+.1f})")


def _p_value(found: ArmSummary) -> str:
    if math.isnan(found.p_holm):
        return "-"
    shown = "<0.001" if found.p_holm < 0.001 else f"{found.p_holm:.3f}"
    return shown + (" *" if found.holds else "")


def _share(found: Sequence[int] | None) -> str:
    return f"{found[0] / found[1]:.0%} of {found[1]}" if found and found[1] else "-"


def _score(found: float | None) -> str:
    return "-" if found is None else f"{found:.2f}"


def draw(question: str, metric: str, found: Sequence[ArmSummary], paths: Sequence[Path]) -> None:
    """Draws means and differences with their intervals, and each seed as a circle; black alone says all of it.

    Args:
        question: What was asked.
        metric: What was measured.
        found: The arms.
        paths: Files to write, by whose endings the formats go.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "gold", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(10, 2.1 + 0.42 * len(found)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        places = range(len(found))
        for axes, title in ((left, f"{metric} (%)"), (right, f"difference to {found[0].arm} (points)")):
            for y, s in enumerate(found):
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
        left.set_yticks(places, [printable(s.arm) for s in found], parse_math=False)
        left.set_ylim(len(found) - 0.4, -0.6)
        seeds = max((len(s.values) for s in found), default=0)
        key = (
            f"diamond: mean with 95 % interval over {seeds} seeds (Student's t), each alone; circles: seeds\n"
            f"right, filled diamond: the difference holds, p < {ALPHA:g} after Holm's correction for all arms"
        )
        asked = textwrap.fill(printable(question), 100)
        figure.suptitle(f"{asked}\n{key}", fontsize=10.5, parse_math=False)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.stem}.part{path.suffix}")
            figure.savefig(part, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
            part.replace(path)
