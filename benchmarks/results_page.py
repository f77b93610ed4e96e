"""Writes the tables of docs/results.md, and its figure, from docs/results.jsonl, which ``benchmarks.proof`` measures.

    python -m benchmarks.results_page           # rewrites what stands between <!-- table: NAME --> and <!-- end -->
    python -m benchmarks.results_page --check   # exit status 1 if that would change anything

Means are over seeds, with 95 % intervals by Student's t from three seeds on. A difference is paired: of the same seed,
hence of the same samples. Its p-value (paired t-test) is corrected for the comparisons of its table (Holm), and ``*``
marks those below 0.05.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.proof import CALLS, COVERAGES, LARGE, PSEUDO, SHOWN, STRATEGIES
from gold_lightning.evaluation.comparison import ALPHA, holm, mean_interval, paired_p
from gold_lightning.storage.json_lines import read_lines

DOCS = Path(__file__).parents[1] / "docs"
_TASKS = {
    **{"news": "news topics", "film": "film reviews", "questions": "kinds of questions", "qnli": "QNLI"},
    **{"intents-20": "messages to a bank, 20 labels", "intents-77": "messages to a bank, 77 labels"},
}
NAMES = _TASKS | {f"{task}{LARGE}": f"{name}, larger generator" for task, name in _TASKS.items()}
SIZES = ("40", "80", "160")
_ALL_SIZES = (*SIZES, "plain")
_TODAY = 2  # the version of lines that name none
_VERSIONS = {1: "likelihoods calibrated by the mean of their logarithms"}
FIGURE = "results-sizes.svg"
_LEAST = 3  # seeds that an interval needs
_REGION = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


class Results:
    """The stored measurements.

    Lines with ``version`` are of an earlier version of the project. They count where a task has none of a later one,
    and only among themselves.

    Args:
        rows: Lines of ``results.jsonl``.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._by_arm: dict[tuple[str, str], dict[tuple[int, int], Mapping[str, Any]]] = {}
        for row in rows:
            self._by_arm.setdefault((row["task"], row["arm"]), {})[row["seed"], row.get("version", _TODAY)] = row

    def tasks(self, arm: str) -> list[str]:
        """Returns the tasks that have the arm."""
        return [task for task in NAMES if (task, arm) in self._by_arm]

    def of(
        self, task: str, arm: str, key: str = "accuracy", at: int | None = None, beside: Sequence[str] = ()
    ) -> dict[int, float]:
        """Returns a number by seed, in percent.

        Args:
            task: The task.
            arm: The arm.
            key: Name of the number.
            at: Position in a list of numbers.
            beside: Arms with which it is compared; a seed counts if the version has all of them.
        """
        rows = self._by_arm.get((task, arm), {})
        others = [self._by_arm.get((task, other), {}) for other in beside]
        whole = [run for run in rows if all(run in of for of in others)]
        latest = max((version for _, version in whole), default=_TODAY)
        chosen = {seed: rows[seed, latest] for seed in sorted(s for s, version in whole if version == latest)}
        return {seed: 100 * (row[key] if at is None else row[key][at]) for seed, row in chosen.items()}

    def earlier(self) -> dict[int, dict[str, list[str]]]:
        """Returns the arms, by version and task, that no later version has."""
        old: dict[int, dict[str, list[str]]] = {}
        for (task, arm), of in sorted(self._by_arm.items()):
            if (latest := max(version for _, version in of)) < _TODAY:
                old.setdefault(latest, {}).setdefault(task, []).append(arm)
        return {version: {task: of[task] for task in NAMES if task in of} for version, of in sorted(old.items())}

    def difference(self, task: str, arm: str, to: str) -> list[float]:
        """Returns the differences of two arms in accuracy by seed, in points."""
        first, second = self.of(task, to, beside=[arm]), self.of(task, arm, beside=[to])
        return [second[seed] - first[seed] for seed in first.keys() & second.keys()]


def mean(values: Mapping[int, float]) -> str:
    """Returns a mean without its interval."""
    return f"{sum(values.values()) / len(values):.1f} %" if values else "-"


def area(values: Mapping[int, float]) -> str:
    """Returns the mean of areas under a curve, which :meth:`Results.of` gives in percent."""
    return f"{sum(values.values()) / len(values) / 100:.2f}"


def cell(values: Mapping[int, float]) -> str:
    """Returns a mean with its interval."""
    middle, low, high = mean_interval([*values.values()])
    return (
        "-"
        if not values
        else f"{middle:.1f} %"
        if len(values) < _LEAST
        else f"{middle:.1f} % ({low:.1f} to {high:.1f})"
    )


def differences(columns: Sequence[Sequence[float]]) -> list[str]:
    """Returns the mean difference of each comparison of a table; ``*`` if it holds after correction."""
    corrected = holm([paired_p(values) for values in columns])
    cells = []
    for values, p in zip(columns, corrected, strict=True):
        middle, low, high = mean_interval(values)
        interval = "" if len(values) < _LEAST else f" ({low:+.1f} to {high:+.1f}){' *' if p < ALPHA else ''}"
        cells.append(f"{middle:+.1f}{interval}" if values else "-")
    return cells


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns a Markdown table, or a sentence instead of one without rows."""
    marks, rows = ["---", *["---:"] * (len(head) - 1)], [*rows]
    if not rows:
        return ["Not measured yet."]
    return [f"| {' | '.join(row)} |" for row in (head, marks, *rows)]


def students(results: Results) -> list[str]:
    tasks = results.tasks("plain")
    arms = ("regression/plain", "own/plain")
    behind = differences([results.difference(task, "plain", arms[0]) for task in tasks])
    rows = [
        (
            *(NAMES[task], str(len(results.of(task, "plain"))), cell(results.of(task, "plain"))),
            *(cell(results.of(task, arm)) for arm in arms),
            difference,
        )
        for task, difference in zip(tasks, behind, strict=True)
    ]
    head = ("task", "seeds", "student", "regression, MiniLM", "regression, own vectors", "student over MiniLM, points")
    return table(head, rows)


def generators(results: Results) -> list[str]:
    tasks = results.tasks("few_shot")
    kinds = ("zero_shot", "few_shot")
    rows = [
        (
            *(NAMES[task], mean(results.of(task, "plain")), mean(results.of(task, "pseudo", beside=["few_shot"]))),
            *(mean(results.of(task, kind, key)) for kind in kinds for key in ("raw", "accuracy")),
        )
        for task in tasks
    ]
    head = ("task", "student", "with pseudo-labels", "no demos", "no demos, calibrated", "all demos")
    head += ("all demos, calibrated",)
    return table(head, rows)


def abstention(results: Results) -> list[str]:
    rows = [
        (
            NAMES[task],
            kind,
            *(mean(results.of(task, "plain", f"by_{kind}", i)) for i in range(len(COVERAGES))),
            area(results.of(task, "plain", f"auroc_{kind}")),
        )
        for task in results.tasks("plain")
        for kind in ("energy", "probability")
    ]
    head = ("task", "sureness by", *(f"{share:.0%} answered" for share in COVERAGES), "AUROC for errors")
    return table([cell.replace("%", " %") for cell in head], rows)


def cascade(results: Results) -> list[str]:
    rows = [
        (NAMES[task], *(mean(results.of(task, "cascade", "by_calls", i)) for i in range(len(CALLS))))
        for task in results.tasks("cascade")
    ]
    return table(("task", *(f"{share:.0%} asked".replace("%", " %") for share in CALLS)), rows)


def labels(results: Results) -> list[str]:
    rows = [
        (
            *(NAMES[task], mean(results.of(task, "labels", "generator")), mean(results.of(task, "labels", "joint"))),
            *(mean(results.of(task, "energy", "labels_right_by_fifth", i)) for i in range(5)),
            area(results.of(task, "energy", "auroc")),
        )
        for task in results.tasks("energy")
    ]
    fifths = ("lowest fifth of energy", "2nd", "3rd", "4th", "highest")
    return table(("task", "labels right: generator", "with the student", *fifths, "AUROC"), rows)


def texts(results: Results) -> list[str]:
    return [*_texts(results, ""), "", *_texts(results, ", true")]


def _texts(results: Results, suffix: str) -> list[str]:
    learners = {"": "student", "regression/": "regression, MiniLM", "own/": "regression, own vectors"}
    lines = [
        (task, x) for task in NAMES for x in learners if results.difference(task, f"{x}random{suffix}", f"{x}plain")
    ]
    without = [results.of(task, f"{x}plain", beside=[f"{x}random{suffix}"]) for task, x in lines]
    others = [name for name in STRATEGIES if name != "random"]
    compared = [
        *(results.difference(task, f"{x}random{suffix}", f"{x}plain") for task, x in lines),
        *(results.difference(task, f"{x}{o}{suffix}", f"{x}random{suffix}") for o in others for task, x in lines),
    ]
    cells = differences(compared)
    rows = [
        (
            *(
                NAMES[task],
                learners[x],
                str(len(without[i])),
                mean(without[i]),
            ),
            *(cells[i + column * len(lines)] for column in range(1 + len(others))),
        )
        for i, (task, x) in enumerate(lines)
    ]
    kind = "true labels" if suffix else "labels that a run gives"
    head = (
        "task",
        f"learner, {kind}",
        "seeds",
        "no real texts",
        "random over none",
        *(f"{o} over random" for o in others),
    )
    return table(head, rows)


def pseudo(results: Results) -> list[str]:
    learners = {"": "student", "regression/": "regression, MiniLM", "own/": "regression, own vectors"}
    lines = [(task, x, arm) for x in learners for arm in PSEUDO for task in results.tasks(f"{x}{arm}")]
    cells = differences([results.difference(task, f"{x}{arm}", f"{x}plain") for task, x, arm in lines])
    rows = []
    for (task, x, arm), difference in zip(lines, cells, strict=True):
        keys = ("real_texts", "labels_right", "accuracy")
        counts, right, accuracy = (results.of(task, f"{x}{arm}", key, beside=[f"{x}plain"]) for key in keys)
        texts = f"{sum(counts.values()) / 100 / len(counts):,.0f}"
        rows.append((NAMES[task], learners[x], str(len(counts)), texts, mean(right), mean(accuracy), difference))
    head = ("task", "learner", "seeds", "real texts", "labels right", "accuracy", "over samples alone, points")
    return table(head, rows)


def sizes(results: Results) -> list[str]:
    rows = []
    for task in NAMES:
        columns = [results.of(task, arm, beside=_ALL_SIZES) for arm in _ALL_SIZES]
        if columns[0]:
            rows.append((NAMES[task], str(len(columns[0])), *map(mean, columns)))
    return table(("task", "seeds", *(f"{size} samples" for size in SIZES), "all"), rows)


def draw_sizes(results: Results, path: Path) -> None:
    """Draws the accuracy of students by the number of samples: a circle for each seed, a line through the means.

    Args:
        results: The measurements.
        path: SVG file to write.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = [task for task in NAMES if results.of(task, "plain", beside=SIZES)]
    with mpl.rc_context({"svg.hashsalt": "gold", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes, ticks = figure.subplots(), {*map(int, SIZES)}
        for task in drawn:
            i = [*_TASKS].index(task.removesuffix(LARGE))
            columns = [results.of(task, arm, beside=_ALL_SIZES) for arm in _ALL_SIZES]
            counts = [*map(int, SIZES), round(min(results.of(task, "plain", "samples").values()) / 100)]
            ticks.add(counts[-1])
            seeds = [*columns[0]]
            look = {"color": f"C{i}", "marker": "osD^vP"[i % 6], "ls": "--" if task.endswith(LARGE) else "-"}
            means = [sum(of[seed] for seed in seeds) / len(seeds) for of in columns]
            axes.plot(counts, means, label=f"{NAMES[task]} ({len(seeds)})", lw=1.8, ms=6, **look)
            for seed in seeds if len(seeds) > 1 else ():
                axes.plot(counts, [of[seed] for of in columns], "o", ms=4, mfc="none", color=f"C{i}", alpha=0.6)
        axes.set(xscale="log", xlabel="training samples", ylabel="accuracy (%)")
        axes.set_xticks(sorted(ticks), map(str, sorted(ticks)))
        axes.minorticks_off()
        axes.grid(color="0.88", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=2, title="task (seeds)", frameon=False)
        figure.savefig(path, metadata={"Date": None})


def loop(results: Results) -> list[str]:
    tasks = results.tasks("loop")
    cells = differences([results.difference(task, "loop", "plain") for task in tasks])
    rows = [
        (NAMES[task], str(len(of)), area(results.of(task, "loop", "auroc_probes")), cell(of), difference)
        for task, difference in zip(tasks, cells, strict=True)
        for of in [results.of(task, "loop", beside=["plain"])]
    ]
    return table(("task", "seeds", "AUROC, probes against samples", "with feedback", "over none, points"), rows)


def shown(results: Results) -> list[str]:
    lines = [(task, arm) for arm in SHOWN for task in results.tasks(arm)]
    cells = differences([results.difference(task, arm, "plain") for task, arm in lines])
    rows = [
        (NAMES[task], arm, str(len(of)), cell(of), difference)
        for (task, arm), difference in zip(lines, cells, strict=True)
        for of in [results.of(task, arm, beside=["plain"])]
    ]
    return table(("task", "real texts", "seeds", "accuracy", "over no real texts, points"), rows)


def label_shares(results: Results) -> list[str]:
    rows = [
        (NAMES[task], *(mean(results.of(task, f"regression/{name}", "labels_right")) for name in STRATEGIES))
        for task in results.tasks("regression/random")
    ]
    return table(("task", *(f"labels right, {name}" for name in STRATEGIES)), rows)


def settings(results: Results) -> list[str]:
    arms = [a for a in ("random order", "7 passes", "7 passes, random order", "soft", "drop") if results.tasks(a)]
    pairs = [(task, arm) for arm in arms for task in results.tasks(arm)]
    cells = differences([results.difference(task, arm, "plain") for task, arm in pairs])
    rows = [
        (arm, NAMES[task], str(len(of)), cell(of), difference)
        for (task, arm), difference in zip(pairs, cells, strict=True)
        for of in [results.of(task, arm, beside=["plain"])]
    ]
    return table(("arm", "task", "seeds", "accuracy", "over plain, points"), rows)


def earlier(results: Results) -> list[str]:
    lines = []
    for version, by_task in results.earlier().items():
        lines.append(f"- {_VERSIONS[version]}:")
        for task, arms in by_task.items():
            # Learners of the same texts, under either labels, are one.
            names = dict.fromkeys(arm.rpartition("/")[2].removesuffix(", true") for arm in arms)
            lines.append(f"    - {NAMES[task]}: {'; '.join(names)}")
    return lines or ["No number is of an earlier version."]


TABLES: Mapping[str, Callable[[Results], list[str]]] = {
    **{"students": students, "generators": generators, "abstention": abstention, "cascade": cascade},
    **{"labels": labels, "label shares": label_shares, "texts": texts, "settings": settings},
    **{"earlier": earlier, "pseudo": pseudo, "sizes": sizes, "loop": loop, "shown": shown},
}


def page(text: str, results: Results) -> str:
    """Returns the page with its tables made anew.

    Args:
        text: The page.
        results: The measurements.
    """
    return _REGION.sub(lambda m: m[1] + "\n" + "\n".join(TABLES[m[2]](results)) + "\n\n" + m[3], text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=DOCS / "results.jsonl")
    parser.add_argument("--page", type=Path, default=DOCS / "results.md")
    parser.add_argument("--out", type=Path, help="file of the page; the page itself by default")
    parser.add_argument("--check", action="store_true", help="change nothing")
    given = parser.parse_args()
    text = given.page.read_text(encoding="utf-8")
    made = page(text, Results(read_lines(given.results)))
    if given.check:
        sys.exit(made != text)
    out = given.out or given.page
    out.write_text(made, encoding="utf-8")
    if FIGURE in made:
        draw_sizes(Results(read_lines(given.results)), out.with_name(FIGURE))


if __name__ == "__main__":
    main()
