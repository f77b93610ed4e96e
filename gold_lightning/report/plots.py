"""The plots of a report, drawn by matplotlib as SVG that takes its colours and fonts from the page.

Each is about 380 units wide, so that it is legible on a phone and beside its table on a screen. Colours are stand-ins
for the page's CSS variables, and nothing is told by colour alone: lines differ in style, areas in hatching, and
names stand beside what they name. Texts are drawn as texts.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from gold_lightning.report.text import cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Energies", "Lines", "bars", "drawing", "forest", "histogram", "lines", "ridge", "shown", "stacked"]

WIDTH = 380
_SHOWN = 24  # rounds that a plot has room for

# Each is replaced by the page's variable of that name: no other colour is drawn.
_COLOURS = ("ink", "muted", "grid", "paper", "probe", "train", "band", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")
_HEX = {name: f"#fe00{i:02x}" for i, name in enumerate(_COLOURS)}
_HATCHES = ("", "////", "\\\\\\\\", "----", "xxxx", "||||", "++++", "//")  # lines: circles take many bytes
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (8, 3)))
_MARKERS = "osD^v"


@dataclass(frozen=True)
class Energies:
    """What a ridge plot shows of a round.

    Args:
        name: Of the round.
        values: Energies by kind (``train``, ``probe``); empty where they were not stored.
        quantiles: Quantiles by kind, as ``rounds.jsonl`` has them; drawn where there are no values.
        band: Lower and upper quantile of the band of the probe set; ``None`` where none was chosen by quantiles.
        fed_back: Energies of the samples fed back, where they are known.
        auroc: Of probe against training samples.
    """

    name: str
    values: Mapping[str, Sequence[float]]
    quantiles: Mapping[str, Mapping[str, float]]
    band: tuple[float, float] | None
    fed_back: Sequence[float]
    auroc: float


@dataclass(frozen=True)
class Lines:
    """A line of a plot by round.

    Args:
        name: Stands at its end.
        points: Value by round; rounds without one are left out.
    """

    name: str
    points: Mapping[int, float]


def shown(numbers: Sequence[int], most: int = _SHOWN) -> list[int]:
    """At most so many of them, evenly spaced, with the first and the last."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[round(i * (len(numbers) - 1) / (most - 1))] for i in range(most)]


def ridge(rows: Sequence[Energies]) -> str:
    """Energies by round, probe against training samples, with the band, and the AUROC beside them."""
    import numpy as np

    tall = 38 if len(rows) > 6 else 46
    fig = _figure(tall * len(rows) + 86)
    left, right = fig.subplots(1, 2, width_ratios=[3.4, 1])
    fig.subplots_adjust(left=52 / WIDTH, right=1 - 38 / WIDTH, wspace=0.1)
    _margins(fig, top=34, bottom=40)
    low, high = _range(rows)
    grid = np.linspace(low, high, 160)
    for at, row in enumerate(rows):
        _ridge_row(left, row, -float(at), grid)
    left.set_xlim(low, high)
    left.locator_params(axis="x", nbins=4)
    left.set_xlabel("energy (higher = further out)")
    left.set_yticks([-float(at) for at in range(len(rows))], [row.name for row in rows])
    handles = _ridge_legend(rows)
    fig.legend(handles=handles, loc="upper left", ncols=len(handles), bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)

    known = [(row.auroc, -float(at)) for at, row in enumerate(rows) if math.isfinite(row.auroc)]
    right.axvline(0.5, color=_HEX["muted"], lw=0.8, ls=_DASHES[2])
    right.plot(*zip(*known, strict=True), color=_HEX["ink"], marker="o", ms=4, lw=1) if known else None
    for value, y in known:
        # In a column of their own: beside the points they would lie on the line.
        right.annotate(
            f"{value:.2f}", (1.08, y), xycoords=right.get_yaxis_transform(), va="center", annotation_clip=False
        )
    right.set_xlim(min([0.4, *(v - 0.05 for v, _ in known)]), 1.0)
    right.set_xticks([0.5, 1.0], ["0.5", "1"])
    right.set_xlabel("AUROC")
    right.set_yticks([])
    for ax in (left, right):
        ax.set_ylim(-len(rows) + 1 - 0.35, 1.05)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    return _svg(fig)


def _ridge_row(ax: Axes, row: Energies, base: float, grid: np.ndarray[Any, Any]) -> None:
    import numpy as np

    ax.axhline(base, color=_HEX["grid"], lw=0.8, zorder=1)
    looks: dict[str, dict[str, Any]] = {
        "train": {"color": _HEX["train"], "ls": _DASHES[1], "lw": 1.5},
        "probe": {"color": _HEX["probe"], "ls": "-", "lw": 1.5},
    }
    if all(len(row.values.get(kind, ())) for kind in looks):
        curves = {kind: _density(row.values[kind], grid) for kind in looks}
        peak = max(float(curve.max()) for curve in curves.values()) or 1.0
        for kind, look in looks.items():
            curve = curves[kind] / peak * 0.92
            if kind == "probe":
                ax.fill_between(grid, base, base + curve, color=_HEX["probe"], alpha=0.14, lw=0, zorder=2)
                if row.band is not None:
                    edges = np.quantile(row.values["probe"], row.band)
                    within = (grid >= edges[0]) & (grid <= edges[1])
                    _band(ax, grid, np.full_like(grid, base), base + curve, within)
            ax.plot(grid, base + curve, zorder=4, **look)
    else:
        for kind, lift in (("train", 0.18), ("probe", 0.5)):
            q, y = row.quantiles.get(kind, {}), base + lift
            if not {"q05", "q25", "q50", "q75", "q95"} <= q.keys():
                continue
            if kind == "probe" and row.band is not None:
                ax.fill_betweenx(
                    [y - 0.16, y + 0.16],
                    *(_quantile(q, row.band[0]), _quantile(q, row.band[1])),
                    color=_HEX["band"],
                    alpha=0.5,
                    lw=0,
                )
            ax.plot([q["q05"], q["q95"]], [y, y], **looks[kind] | {"lw": 1})
            ax.plot([q["q25"], q["q75"]], [y, y], color=looks[kind]["color"], lw=5, solid_capstyle="butt")
            ax.plot(q["q50"], y, marker="o", ms=4, color=_HEX["paper"], mec=looks[kind]["color"], mew=1.2, zorder=5)
    if row.fed_back:
        ax.vlines(row.fed_back, base - 0.16, base - 0.03, color=_HEX["ink"], lw=0.7, zorder=3)


def _band(ax: Axes, x: Any, low: Any, high: Any, where: Any) -> None:
    ax.fill_between(x, low, high, where=where, facecolor=_HEX["band"], alpha=0.55, lw=0, zorder=2)
    ax.fill_between(
        x, low, high, where=where, facecolor="none", edgecolor=_HEX["probe"], hatch="//////", lw=0, alpha=0.55, zorder=3
    )


def _ridge_legend(rows: Sequence[Energies]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=_HEX["probe"], lw=1.5, label="probe set"),
        Line2D([], [], color=_HEX["train"], lw=1.5, ls=_DASHES[1], label="training"),
    ]
    if any(row.band for row in rows):
        handles.append(Patch(facecolor=_HEX["band"], edgecolor=_HEX["probe"], hatch="//////", lw=0, label="band"))
    if any(row.fed_back for row in rows):
        tick = Line2D([], [], color=_HEX["ink"], marker="|", ls="", ms=7, label="fed back")
        handles.append(tick)
    return handles


def _range(rows: Sequence[Energies]) -> tuple[float, float]:
    """What the axis shows: all but the outermost half per cent at each end, and what is fed back."""
    import numpy as np

    found: list[float] = []
    for row in rows:
        for kind in ("train", "probe"):
            if row.values.get(kind):
                found += map(float, np.quantile(row.values[kind], [0.005, 0.995]))
            else:
                found += [float(v) for k, v in row.quantiles.get(kind, {}).items() if k.startswith("q")]
        found += row.fed_back
    found = [v for v in found if math.isfinite(v)] or [0.0, 1.0]
    margin = 0.06 * (max(found) - min(found)) or 1.0
    return min(found) - margin, max(found) + margin


def _density(values: Sequence[float], grid: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Gaussian kernel density with Silverman's bandwidth (1986, eq. 3.31)."""
    import numpy as np

    sample = np.asarray(values, dtype=float)
    low, high = np.quantile(sample, [0.25, 0.75])
    spread = min(s for s in (float(sample.std()), float(high - low) / 1.34) if s > 0) if sample.std() > 0 else 0.0
    width = max(0.9 * spread * len(sample) ** -0.2, float(grid[-1] - grid[0]) / 150)
    sample = np.sort(sample)
    if len(sample) > 4000:  # as many quantiles say the same
        sample = np.quantile(sample, np.linspace(0, 1, 4000))
    apart = (grid[:, None] - sample[None, :]) / width
    density: np.ndarray[Any, Any] = np.exp(-0.5 * apart**2).sum(1) / (len(sample) * width * math.sqrt(2 * math.pi))
    return density


def _quantile(known: Mapping[str, float], part: float) -> float:
    """A quantile by straight lines between those that are known; beyond them the outermost."""
    import numpy as np

    at = {int(name[1:]) / 100: value for name, value in known.items() if re.fullmatch(r"q\d\d", name)}
    points = sorted(at)
    return float(np.interp(part, points, [at[p] for p in points]))


def lines(series: Sequence[Lines], *, percent: bool = False, best: int | None = None) -> str:
    """Values by round, each line with its name at its end.

    Args:
        series: The lines, five at most.
        percent: Whether values are shares.
        best: The round whose point on the first line gets a ring.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    fig = _figure(196)
    ax = fig.subplots()
    _margins(fig, left=44, right=92, top=16, bottom=38)
    ends = []
    for i, line in enumerate(series):
        rounds = sorted(line.points)
        values = [line.points[r] for r in rounds]
        if not rounds:
            continue
        colour = _HEX[("ink", "c3", "c1", "c4", "c5")[i % 5]]
        few = len(rounds) <= 30
        style = {"color": colour, "ls": _DASHES[i % len(_DASHES)], "lw": 1.6, "marker": _MARKERS[i % 5]}
        ax.plot(rounds, values, ms=4 if few else 0, **style)
        ends.append((values[-1], line.name, colour))
        if i == 0 and best is not None and best in line.points and len(rounds) > 1:
            ax.plot(best, line.points[best], marker="o", ms=10, mfc="none", mec=colour, mew=1)
            ax.annotate("best", (best, line.points[best]), (0, 8), textcoords="offset points", ha="center")
    every = [r for line in series for r in line.points]
    ax.set_xlim(min(every) - 0.3, max(every) + 0.3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
    low, high = ax.get_ylim()
    room = max((high - low) * 0.1, 0.01)
    ax.set_ylim(low - room, high + room * 1.6)
    if percent:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g} %" if -1e-9 <= v <= 1 + 1e-9 else ""))
    ax.set_xlabel("round")
    ax.grid(axis="y")
    _direct_labels(fig, ax, ends)
    return _svg(fig)


def _direct_labels(fig: Figure, ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names at the ends of lines, moved apart where they would overlap."""
    low, high = ax.get_ylim()
    height = ax.get_position().height * fig.get_figheight() * 72
    least = (high - low) * 13 / height
    at: list[float] = []
    for y, *_ in sorted(ends):
        at.append(max(y, at[-1] + least) if at else y)
    over = max(0.0, at[-1] - high) if at else 0.0
    for (_, name, colour), y in zip(sorted(ends), at, strict=True):
        # In units of the axes along x: just right of them.
        ax.annotate(
            cut(name, 16),
            (1.02, y - over),
            xycoords=ax.get_yaxis_transform(),
            va="center",
            color=colour,
            annotation_clip=False,
        )


def stacked(
    rows: Sequence[tuple[str, Mapping[str, float]]],
    order: Sequence[str],
    *,
    share: bool,
    unit: str,
    first: Literal["plain", "hatched"] = "plain",
) -> str:
    """A bar for each row, in parts that differ in colour and hatching, with a legend.

    Args:
        rows: Name of each row, and its parts by name.
        order: Names of the parts, from the left; eight at most.
        share: Draw shares of the row, each row as long as the others.
        unit: What the axis counts.
        first: Whether the first part is told from the others by having no hatching.
    """
    from matplotlib.patches import Patch

    columns = 2 if max(map(len, order), default=0) > 12 else 3
    legend = 17 * math.ceil(len(order) / columns) + 8
    tall = 22 if len(rows) > 6 else 26
    fig = _figure(tall * len(rows) + 44 + legend)
    ax = fig.subplots()
    _margins(fig, left=52, right=26, top=6, bottom=38 + legend)
    looks: dict[str, dict[str, Any]] = {
        name: {"facecolor": _HEX[f"c{1 + i % 8}"], "edgecolor": _HEX["paper"], "hatch": _HATCHES[i % 8], "lw": 0.5}
        for i, name in enumerate(order)
    }
    for at, (_, parts) in enumerate(rows):
        total = sum(parts.get(name, 0) for name in order)
        scale = (1 / total if total else 0.0) if share else 1.0
        begin = 0.0
        for name in order:
            size = parts.get(name, 0) * scale
            if size > 0:
                ax.barh(-at, size, left=begin, height=0.72, **looks[name])
            begin += size
    ax.set_yticks([-at for at in range(len(rows))], [name for name, _ in rows])
    ax.set_ylim(-len(rows) + 0.4, 0.6)
    if share:
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.set_xlabel(unit)
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    handles = [Patch(label=cut(name, 24), **looks[name]) for name in order]
    fig.legend(
        handles=handles, loc="lower left", ncols=columns, bbox_to_anchor=(0.0, 0.0), borderaxespad=0.3, handlelength=1.6
    )
    return _svg(fig)


def bars(rows: Sequence[tuple[str, float, str]], *, unit: str, left: int = 132) -> str:
    """A bar for each row with its number beside it.

    Args:
        rows: Name, value, and the value as it is shown.
        unit: What the axis counts.
        left: Room for the names.
    """
    from matplotlib.ticker import MaxNLocator

    fig = _figure(19 * len(rows) + 44)
    ax = fig.subplots()
    _margins(fig, left=left, right=52, top=4, bottom=36)
    ax.barh([-at for at in range(len(rows))], [v for _, v, _ in rows], height=0.68, color=_HEX["c1"])
    for at, (_, value, told) in enumerate(rows):
        ax.annotate(told, (value, -at), (4, 0), textcoords="offset points", va="center", annotation_clip=False)
    ax.set_yticks([-at for at in range(len(rows))], [cut(name, 21) for name, *_ in rows])
    ax.set_ylim(-len(rows) + 0.4, 0.6)
    ax.set_xlim(0, max([v for _, v, _ in rows], default=1) or 1)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    ax.set_xlabel(unit)
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return _svg(fig)


def histogram(values: Mapping[str, Sequence[float]], *, unit: str) -> str:
    """How often which length occurs, in the training samples (area) and the probe set (line), each of its own total.

    Args:
        values: Lengths by kind, ``train`` and ``probe``.
        unit: What the axis counts.
    """
    import numpy as np
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    fig = _figure(168)
    ax = fig.subplots()
    _margins(fig, left=44, right=14, top=26, bottom=38)
    every = [v for found in values.values() for v in found]
    low, high = float(min(every)), float(np.quantile(every, 0.995))
    step = max(1, math.ceil((high - low + 1) / 24))
    edges = np.arange(low, high + step + 1e-9, step)
    edges = edges if len(edges) > 1 else np.array([low, low + 1])
    for kind, name in (("train", "training"), ("probe", "probe set")):
        if not values.get(kind):
            continue
        counts, _ = np.histogram(np.clip(values[kind], edges[0], edges[-1]), edges)
        shares = counts / counts.sum()
        if kind == "train":
            ax.stairs(shares, edges, fill=True, color=_HEX["train"], alpha=0.28, lw=0)
            ax.stairs(shares, edges, color=_HEX["train"], lw=1.2, ls=_DASHES[1], label=name)
        else:
            ax.stairs(shares, edges, color=_HEX["probe"], lw=1.5, label=name)
    ax.set_xlabel(unit)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
    ax.grid(axis="y")
    fig.legend(loc="upper left", ncols=2, bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
    return _svg(fig)


def forest(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """A point with its interval for each row; the first one is the heaviest.

    Args:
        rows: Name, value, and the ends of the interval, all shares.
    """
    fig = _figure(32 * len(rows) + 44)
    ax = fig.subplots()
    _margins(fig, left=14, right=18, top=8, bottom=36)
    for at, (name, value, low, high) in enumerate(rows):
        colour = _HEX["probe" if at == 0 else "muted"]
        heavy = at == 0
        ax.plot([low, high], [-at, -at], color=colour, lw=4 if heavy else 2, solid_capstyle="butt", alpha=0.5)
        ax.plot(value, -at, marker="D" if heavy else "o", ms=7 if heavy else 5, color=colour, zorder=3)
        ax.annotate(
            f"{cut(name, 34)}\u2002{100 * value:.1f} %",
            (min(max(value, 0.0), 1.0), -at),
            (0, 8),
            textcoords="offset points",
            ha="left" if value < 0.3 else "right" if value > 0.7 else "center",
            fontweight="bold" if heavy else "normal",
            annotation_clip=False,
        )
    ax.set_xlim(-0.02, 1.02)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.set_ylim(-len(rows) + 0.5, 0.8)
    ax.set_yticks([])
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    return _svg(fig)


# How they are drawn


@contextmanager
def drawing() -> Iterator[None]:
    """The page's style, whatever a matplotlibrc of the user's says. All plots are drawn within."""
    import matplotlib

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "gold_lightning",
        "font.size": 11,
        "text.parse_math": False,
        "text.color": _HEX["ink"],
        "axes.edgecolor": _HEX["muted"],
        "axes.labelcolor": _HEX["muted"],
        "axes.labelsize": 10.5,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "axes.axisbelow": True,
        "figure.facecolor": "none",
        "grid.color": _HEX["grid"],
        "grid.linewidth": 0.8,
        "hatch.linewidth": 0.9,
        "legend.frameon": False,
        "legend.fontsize": 10.5,
        "legend.handletextpad": 0.5,
        "legend.columnspacing": 1.3,
        "xtick.color": _HEX["muted"],
        "ytick.color": _HEX["muted"],
        "xtick.labelsize": 10.5,
        "ytick.labelsize": 10.5,
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that its own font does not have: the page's may
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        yield


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH / 72, height / 72))


def _margins(fig: Figure, *, top: float, bottom: float, left: float | None = None, right: float | None = None) -> None:
    """Room around the axes, in the plot's units."""
    height = fig.get_figheight() * 72
    sides: dict[str, Any] = {"top": 1 - top / height, "bottom": bottom / height}
    if left is not None:
        sides["left"] = left / WIDTH
    if right is not None:
        sides["right"] = 1 - right / WIDTH
    fig.subplots_adjust(**sides)


def _svg(fig: Figure) -> str:
    """The figure as an SVG element of a page: colours by variable, fonts of the page, no size of its own."""
    file = io.StringIO()
    fig.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = file.getvalue()
    # Several stand in a page: what refers to a part of one must not find that of another.
    prefix = hashlib.sha256(drawn.encode()).hexdigest()[:8]
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", drawn))
    root = ElementTree.fromstring(drawn)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        found = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in found.items():
            if key == "id" and value not in used:
                continue
            element.set(key, f"{prefix}-{value}" if key == "id" else _for_page(value, prefix))
    for key in ("width", "height", "version"):
        del root.attrib[key]
    # The table beside it says the same to who cannot see it.
    root.attrib.update({"class": "plot", "aria-hidden": "true", "focusable": "false"})
    return ElementTree.tostring(root, encoding="unicode")


def _for_page(value: str, prefix: str) -> str:
    """An attribute's value: colours as variables, no fonts, parts by their prefixed names, numbers to a hundredth."""
    for name, colour in _HEX.items():
        value = value.replace(colour, f"var(--{name})")
    value = re.sub(r"font: (?:(\d+) )?([\d.]+px) [^;]*", r"font-weight: \1; font-size: \2", value)  # before 3.11
    value = re.sub(r"font-family: [^;]*(; )?|font-weight: ; ", "", value)
    if value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    value = value.replace("url(#", f"url(#{prefix}-")
    return re.sub(r"(\.\d\d)\d+(?=[\s,);]|$)", r"\1", value)
