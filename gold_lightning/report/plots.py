"""Draws the plots of a report with matplotlib, in the colours of ``page.css`` as CSS variables.

Each plot is 380 units wide: legible on a phone, and beside its table on a screen. Colour is never the only mark: lines
differ in dashes and markers, areas in hatching, and the table beside a plot has its numbers.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gold_lightning.report.text import cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Energies", "Lines", "bars", "coverage", "drawing", "forest", "histogram", "lines", "ridge", "stacked"]

_WIDTH = 380
_LIGHT, *_ = (Path(__file__).parent / "page.css").read_text(encoding="utf-8").split("}", 1)
_COLOURS: dict[str, str] = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", _LIGHT))
_VARIABLES = {colour: f"var(--{name})" for name, colour in _COLOURS.items()}
_HATCHES = ("", "////", "\\\\\\\\", "----", "xxxx", "||||", "++++", "//")  # lines: circles take many bytes
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (8, 3)))
_LOOKS: dict[str, dict[str, Any]] = {
    "train": {"color": _COLOURS["train"], "ls": _DASHES[1], "lw": 1.5, "label": "training"},
    "probe": {"color": _COLOURS["probe"], "ls": "-", "lw": 1.5, "label": "probe set"},
}
_BAND: dict[str, Any] = {"facecolor": _COLOURS["band"], "alpha": 0.7, "lw": 0}


@dataclass(frozen=True)
class Energies:
    """The energies of one round.

    Args:
        name: Name of the round.
        values: Energies by kind (``train``, ``probe``); empty if the run did not store them.
        quantiles: Quantiles by kind as in ``rounds.jsonl`` (``q05`` to ``q95``); drawn if there are no values.
        band: Lower and upper quantile of the band of the probe set; ``None`` if feedback was not chosen by a band.
        fed_back: Energies of the samples fed back, if known.
        auroc: AUROC of probe against training samples.
    """

    name: str
    values: Mapping[str, Sequence[float]]
    quantiles: Mapping[str, Mapping[str, float]]
    band: tuple[float, float] | None
    fed_back: Sequence[float]
    auroc: float


@dataclass(frozen=True)
class Lines:
    """One line of a plot by round.

    Args:
        name: Name in the legend.
        points: Value by round; rounds without a value are left out.
    """

    name: str
    points: Mapping[int, float]


def ridge(rows: Sequence[Energies]) -> str:
    """Draws the energies of probe and training samples by round, with the band, and the AUROC beside them.

    Args:
        rows: Energies of the rounds, from the top.

    Returns:
        An SVG element, as the other plots do.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure = _figure((38 if len(rows) > 6 else 46) * len(rows) + 86)
    left, right = figure.subplots(1, 2, width_ratios=[3.4, 1])
    low, high = _range(rows)
    places = [-at for at in range(len(rows))]
    for y, row in zip(places, rows, strict=True):
        _ridge_row(left, row, y, np.linspace(low, high, 160))
    left.set(xlim=(low, high), xlabel="energy (higher = further out)")
    left.locator_params(axis="x", nbins=4)
    left.set_yticks(places, [row.name for row in rows])
    handles: list[Any] = [Line2D([], [], **_LOOKS[kind]) for kind in ("probe", "train")]
    if any(row.band and row.values.get("probe") for row in rows):
        handles.append(Patch(**_BAND, label="band"))
    if any(row.fed_back for row in rows):
        handles.append(Line2D([], [], color=_COLOURS["ink"], marker="|", ls="", ms=7, label="fed back"))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))

    known = [(row.auroc, y) for row, y in zip(rows, places, strict=True) if math.isfinite(row.auroc)]
    right.axvline(0.5, color=_COLOURS["muted"], lw=0.8, ls=_DASHES[2])
    right.plot([auroc for auroc, _ in known], [y for _, y in known], color=_COLOURS["ink"], marker="o", ms=4, lw=1)
    right.yaxis.tick_right()
    right.set_yticks([y for _, y in known], [f"{auroc:.2f}" for auroc, _ in known], color=_COLOURS["ink"])
    right.set_xticks([0.5, 1.0], ["0.5", "1"])
    right.set(xlim=(min([0.4, *(auroc - 0.05 for auroc, _ in known)]), 1.05), xlabel="AUROC")
    for axes in (left, right):
        axes.set_ylim(-len(rows) + 0.65, 1.05)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    return _svg(figure)


def _ridge_row(axes: Axes, row: Energies, base: float, grid: np.ndarray[Any, Any]) -> None:
    axes.axhline(base, color=_COLOURS["grid"], lw=0.8, zorder=1)
    curves = {kind: _density(row.values[kind], grid) for kind in _LOOKS if row.values.get(kind)}
    peak = max((float(curve.max()) for curve in curves.values()), default=0.0) or 1.0
    for kind, curve in curves.items():
        height = base + curve / peak * 0.92
        axes.plot(grid, height, zorder=4, **_LOOKS[kind])
        if kind == "probe":
            axes.fill_between(grid, base, height, color=_COLOURS["probe"], alpha=0.14, lw=0, zorder=2)
        if kind == "probe" and row.band is not None:
            low, high = np.quantile(row.values["probe"], row.band)
            axes.fill_between(grid, base, height, where=(grid >= low) & (grid <= high), zorder=3, **_BAND)
    for kind, lift in (("train", 0.18), ("probe", 0.5)):
        quantiles, look = row.quantiles.get(kind, {}), _LOOKS[kind]
        if not curves and {"q05", "q25", "q50", "q75", "q95"} <= quantiles.keys():
            q05, q25, q50, q75, q95 = (quantiles[f"q{q:02d}"] for q in (5, 25, 50, 75, 95))
            axes.plot([q05, q95], [base + lift] * 2, **look | {"lw": 1})
            axes.plot([q25, q75], [base + lift] * 2, color=look["color"], lw=5, solid_capstyle="butt")
            axes.plot(q50, base + lift, "o", ms=4, mfc=_COLOURS["paper"], mec=look["color"], zorder=5)
    axes.vlines(row.fed_back, base - 0.16, base - 0.03, color=_COLOURS["ink"], lw=0.7, zorder=3)


def _range(rows: Sequence[Energies]) -> tuple[float, float]:
    """Returns the axis limits, without the outermost half per cent of a round's samples at each end."""
    ends: list[float] = []
    for row in rows:
        for kind in _LOOKS:
            if row.values.get(kind):
                ends += np.quantile(row.values[kind], [0.005, 0.995]).tolist()
            else:
                ends += [value for name, value in row.quantiles.get(kind, {}).items() if name.startswith("q")]
        ends += row.fed_back
    ends = ends or [0.0, 1.0]
    margin = 0.06 * (max(ends) - min(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin


def _density(values: Sequence[float], grid: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Gaussian kernel density up to a factor, with Silverman's bandwidth (1986, eq. 3.31)."""
    sample = np.quantile(values, np.linspace(0, 1, min(len(values), 2000)))  # as many quantiles say the same
    spreads = (float(np.std(values)), float(np.subtract(*np.quantile(values, [0.75, 0.25]))) / 1.34)
    spread = min((spread for spread in spreads if spread > 0), default=0.0)
    width = max(0.9 * spread * len(values) ** -0.2, float(grid[-1] - grid[0]) / 150)
    density: np.ndarray[Any, Any] = np.exp(-0.5 * ((grid[:, None] - sample) / width) ** 2).mean(1) / width
    return density


def lines(series: Sequence[Lines], *, percent: bool = False, best: int | None = None) -> str:
    """Draws values by round as lines.

    Args:
        series: Lines, five at most.
        percent: Whether values are shares.
        best: The round whose point on the first line gets a ring.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(190)
    axes = figure.subplots()
    for i, line in enumerate(series):
        rounds = sorted(line.points)
        look: dict[str, Any] = {"color": _COLOURS[("ink", "c3", "c1", "c4", "c5")[i % 5]], "ls": _DASHES[i % 5]}
        marker = "osD^v"[i % 5] if len(rounds) <= 30 else ""
        axes.plot(
            rounds, [line.points[r] for r in rounds], marker=marker, ms=4, lw=1.6, label=cut(line.name, 24), **look
        )
    if best is not None and best in series[0].points and len(series[0].points) > 1:
        at = best, series[0].points[best]
        axes.plot(*at, marker="o", ms=10, mfc="none", mec=_COLOURS["ink"], mew=1)
        axes.annotate("best", at, (0, 8), textcoords="offset points", ha="center")
    axes.margins(y=0.15)
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    if percent:
        axes.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %" if -1e-9 <= v <= 1 + 1e-9 else "")
    axes.grid(axis="y")
    figure.legend(loc="outside upper left", ncols=3)
    return _svg(figure)


def coverage(points: Sequence[tuple[float, float]], *, level: float, answered: float | None) -> str:
    """Draws accuracy by coverage: what is right among the answers to the inputs of which a student is surest.

    Args:
        points: Coverage and accuracy, each in [0, 1], by ascending coverage.
        level: The promised accuracy.
        answered: Coverage at the student's threshold; ``None`` without one.
    """
    figure = _figure(190)
    axes = figure.subplots()
    axes.axhline(level, color=_COLOURS["muted"], lw=1, ls=_DASHES[2], label="promised")
    shares, right = zip(*points, strict=True)
    axes.plot(shares, right, color=_COLOURS["probe"], lw=1.6, label="right")
    if answered is not None:
        axes.axvline(answered, color=_COLOURS["ink"], lw=1, ls=_DASHES[1], label="known")
    axes.set(ylim=(max(0.0, min(*right, level) - 0.05), 1.02), xlabel="share of inputs that are answered")
    _percent_axis(axes)
    axes.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %" if v <= 1 + 1e-9 else "")
    axes.locator_params(axis="y", nbins=4)
    axes.grid(axis="y")
    figure.legend(loc="outside upper left", ncols=3)
    return _svg(figure)


def stacked(rows: Sequence[tuple[str, Mapping[str, float]]], order: Sequence[str], *, share: bool, unit: str) -> str:
    """Draws a bar for each row, in parts that differ in colour and hatching.

    Args:
        rows: Name of each row, and its parts by name.
        order: Names of the parts, from the left; eight at most.
        share: Draw shares of the row, each row as long as the others.
        unit: Label of the axis.
    """
    columns = 2 if max(map(len, order), default=0) > 12 else 3
    figure = _figure((22 if len(rows) > 6 else 26) * len(rows) + 52 + 17 * math.ceil(len(order) / columns))
    axes = _bar_axes(figure, [name for name, _ in rows], unit)
    sizes = np.array([[parts.get(name, 0) for name in order] for _, parts in rows], dtype=float)
    if share:
        sizes /= np.maximum(sizes.sum(1, keepdims=True), 1e-9)
        _percent_axis(axes)
    begins = np.cumsum(sizes, axis=1) - sizes
    for i, name in enumerate(order):
        look: dict[str, Any] = {"edgecolor": _COLOURS["paper"], "hatch": _HATCHES[i % 8], "lw": 0.5}
        axes.barh(axes.get_yticks(), sizes[:, i], 0.72, begins[:, i], label=cut(name, 24), **look)
    figure.legend(loc="outside lower left", ncols=columns, handlelength=1.6)
    return _svg(figure)


def bars(rows: Sequence[tuple[str, float, str]], *, unit: str) -> str:
    """Draws a bar for each row with its number beside it.

    Args:
        rows: Name, value, and the value as text.
        unit: Label of the axis.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(19 * len(rows) + 44)
    axes = _bar_axes(figure, [cut(name, 21) for name, *_ in rows], unit)
    drawn = axes.barh(axes.get_yticks(), [value for _, value, _ in rows], 0.68)
    axes.bar_label(drawn, [text for *_, text in rows], padding=4)
    axes.set_xlim(0, 1.1 * max([value for _, value, _ in rows], default=1) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    return _svg(figure)


def histogram(values: Mapping[str, Sequence[float]], *, unit: str) -> str:
    """Draws the shares of lengths in the training samples (area) and in the probe set (line).

    Args:
        values: Lengths by kind, ``train`` and ``probe``.
        unit: Label of the axis.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(168)
    axes = figure.subplots()
    every = [v for lengths in values.values() for v in lengths]
    low, high = min(every), float(np.quantile(every, 0.995))
    step = max(1, math.ceil((high - low + 1) / 24))
    edges = np.arange(low, high + 2 * step, step)
    for kind, look in _LOOKS.items():
        if lengths := values.get(kind):
            weights = np.full(len(lengths), 1 / len(lengths))
            clipped = np.clip(lengths, edges[0], edges[-1])
            axes.hist(clipped, edges, weights=weights, histtype="step", **look)  # type: ignore[arg-type]
            if kind == "train":
                axes.hist(clipped, edges, weights=weights, color=look["color"], alpha=0.28)  # type: ignore[arg-type]
    axes.set_xlabel(unit)
    axes.yaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.grid(axis="y")
    figure.legend(loc="outside upper left", ncols=2)
    return _svg(figure)


def forest(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Draws a point with its interval for each row, the first one emphasised.

    Args:
        rows: Name, value, and the ends of the interval, all shares.
    """
    figure = _figure(28 * len(rows) + 40)
    axes = _bar_axes(figure, [cut(name, 32) for name, *_ in rows], "")
    _percent_axis(axes)
    axes.set_xlim(-0.02, 1.02)
    for y, (_, value, low, high) in zip(axes.get_yticks(), rows, strict=True):
        first = y == 0
        colour = _COLOURS["probe" if first else "muted"]
        axes.plot([low, high], [y, y], color=colour, lw=4 if first else 2, solid_capstyle="butt", alpha=0.5)
        axes.plot(value, y, marker="D" if first else "o", ms=7 if first else 5, color=colour, zorder=3)
        right = high < 0.8
        offset, side = ((8, 0), "left") if right else ((-8, 0), "right")
        place = (high if right else low, y)
        axes.annotate(f"{100 * value:.1f} %", place, offset, textcoords="offset points", va="center", ha=side)
    for label in axes.get_yticklabels()[:1]:
        label.set(fontweight="bold", color=_COLOURS["ink"])
    return _svg(figure)


# Drawing


@contextmanager
def drawing() -> Iterator[None]:
    """Applies the page's style, regardless of the user's matplotlibrc. All plots are drawn inside this block."""
    from matplotlib import style

    with style.context(Path(__file__).parent / "plots.mplstyle", after_reset=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that matplotlib's font lacks may exist in the page's font
        yield


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH / 72, height / 72))


def _bar_axes(figure: Figure, names: Sequence[str], unit: str) -> Axes:
    """Returns axes with a named row for each bar, from the top."""
    axes: Axes = figure.subplots()
    axes.set_yticks([-at for at in range(len(names))], list(names))
    axes.set(ylim=(-len(names) + 0.4, 0.6), xlabel=unit)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return axes


def _percent_axis(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])


def _svg(figure: Figure) -> str:
    """Returns the figure as an SVG element of the page, in the page's colours and without a fixed size."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    # The canvas itself draws once; savefig would draw twice, for layouts that need it.
    canvas: Any = FigureCanvasSVG(figure)  # its methods carry no types
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    prefix = hashlib.sha256(svg.encode()).hexdigest()[:8]  # ids must be unique in a page of several plots
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))

    def for_page(tag: re.Match[str]) -> str:
        text = re.sub(r"#[0-9a-f]{6}\b", lambda colour: _VARIABLES.get(colour[0], colour[0]), tag[0])
        text = re.sub(r' id="([^"]*)"', lambda id_: f' id="{prefix}-{id_[1]}"' if id_[1] in used else "", text)
        text = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", text)
        return re.sub(r' xmlns(:xlink)?="[^"]*"| (width|height)="[\d.]+pt"|(?<=\.\d\d)\d+', "", text)

    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub("<[^>]*>", for_page, svg)
    # Hidden from screen readers, which read the table beside it.
    return svg.replace("<svg", '<svg class="plot" aria-hidden="true" focusable="false"', 1)
