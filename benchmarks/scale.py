"""Processor seconds and memory of a round by its size, with a generator that costs nothing.

    python benchmarks/scale.py                         # 1,000, 10,000 and 100,000 training samples, a tenth as probes
    python benchmarks/scale.py --samples 4000 16000
    python benchmarks/scale.py --draw docs/performance.md    # docs/scale.svg, from the table of that page

Each size has a process of its own and one round: synthesis with its parts, the run folder opened again as a resumed run
does, the training feed (samples tokenized, ordered and read once in batches, without training), and the report. Peaks
are those of a phase, by Linux's own count.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gold_lightning import synthesis
from gold_lightning.checks.checker import Checker
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import Completion, Generator
from gold_lightning.notices import without_progress_bars
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.requests import RequestPlanner
from gold_lightning.report import write_report
from gold_lightning.storage.completions import CompletionLog
from gold_lightning.storage.lazy import Mapped
from gold_lightning.synthesis import Synthesizer
from gold_lightning.t5.batch_order import training_order
from gold_lightning.t5.batches import EncodedSamples, make_loader
from gold_lightning.t5.weights import load_tokenizer
from gold_lightning.task import Task

PARTS = {
    "plan": [(RequestPlanner, "batch")],
    "check": [(Checker, "judge")],
    "duplicates": [(Checker, "duplicate"), (Checker, "keep")],
    "completions": [(CompletionLog, "add"), (CompletionLog, "find")],
    "commit": [(synthesis, "commit_batch")],
}
HEADING = "## A round by its size\n"
_SYLLABLES = [a + b for a in "bcdfglmnprst" for b in ("a", "e", "i", "o", "u", "an", "er", "ol")]
_WORDS = ["".join(random.Random(i).choices(_SYLLABLES, k=1 + i % 3)) for i in range(5_000)]


class Writer(Generator):
    """Writes items of 10 to 60 made-up words, one in ten of them too short to be accepted."""

    batch_size = 128

    def generate(self, requests) -> list[Completion]:
        return [self._item(random.Random(request.seed)) for request in requests]

    def _item(self, rng: random.Random) -> Completion:
        count = 1 if rng.random() < 0.1 else rng.randint(10, 60)
        return Completion(" " + " ".join(rng.choices(_WORDS, k=count)).capitalize() + ".", 200, count)

    def fingerprint(self) -> dict[str, Any]:
        return {"class": "Writer"}


class Meter:
    """Seconds of the processor and peak memory of named phases, one at a time, and seconds of parts within them."""

    def __init__(self) -> None:
        self.phases: dict[str, dict[str, float]] = {}
        self.parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._inner: list[float] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        gc.collect()
        try:  # Linux: the peak begins anew
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass
        self.parts, started = dict.fromkeys(PARTS, 0.0), time.process_time()
        yield
        seconds = time.process_time() - started
        parts = {name: value for name, value in self.parts.items() if value > 0}
        self.phases[name] = {"seconds": seconds, "peak": _status("VmHWM"), "after": _status("VmRSS"), **parts}

    def wrap(self, part: str, owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            started = time.process_time()
            try:
                return original(*args, **kwargs)
            finally:
                seconds = time.process_time() - started
                self.parts[part] += seconds - self._inner.pop()
                if self._inner:
                    self._inner[-1] += seconds

        setattr(owner, name, timed)


def _status(key: str) -> float:
    """A line of Linux's own count, in MB; nan elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(key))


def measure(samples: int) -> dict[str, dict[str, float]]:
    task, tokenizer = Task.load("news_topics"), load_tokenizer("embedded")
    plan = SynthesisPlan(samples, max(1, samples // 10), label_agreement="off", decontaminate="off")
    meter = Meter()
    for part, functions in PARTS.items():
        for owner, name in functions:
            meter.wrap(part, owner, name)
    with tempfile.TemporaryDirectory() as folder, without_progress_bars():
        run = Path(folder) / "news_topics" / "scale"
        synthesizer = Synthesizer(task, Writer(), run, plan)
        with meter.phase("start"):
            pass
        with meter.phase("train"):
            synthesizer.train(0, FeedbackPool(), 0.0)
        with meter.phase("probe"):
            synthesizer.probe(0)
        del synthesizer
        with meter.phase("load"):
            again = Synthesizer(task, Writer(), run, plan)
            stored = again.train(0, FeedbackPool(), 0.0)
        with meter.phase("feed"):
            encoded = EncodedSamples(task, tokenizer, Mapped(stored, lambda s: s.sample))
            order = training_order(encoded.sizes, 16, len(encoded), "scale")
            tokens = padded = 0
            for batch in make_loader(task, tokenizer, encoded, 16, order):
                tokens += int(batch["attention_mask"].sum())
                padded += batch["input_ids"].numel()
            meter.parts["padding"] = 1 - tokens / padded
        del again, stored, encoded
        with meter.phase("report"):
            write_report(run)
    return meter.phases


def read_table(page: Path) -> tuple[list[int], dict[str, list[float]]]:
    """Returns the sizes of the page's table of a round by its size, and the numbers of each of its rows."""
    section = page.read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    number = [[float(cell.split()[0].replace(",", "")) for cell in row[1:]] for row in (cells[0], *cells[2:])]
    return [int(size) for size in number[0]], {
        row[0]: values for row, values in zip(cells[2:], number[1:], strict=True)
    }


def draw(page: Path, file: Path) -> None:
    """Draws the page's table of a round by its size: processor time by phase, and peak memory.

    Args:
        page: The page with the table.
        file: SVG file to write.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sizes, rows = read_table(page)
    peaks = {name: values for name, values in rows.items() if name.startswith("peak memory")}
    times = {name: values for name, values in rows.items() if name not in peaks and not name.startswith("of them")}
    with mpl.rc_context({"svg.hashsalt": "gold", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9.2, 4.2), layout="constrained")
        panels = ((times, "processor, ms a sample"), (peaks, "peak memory, MB"))
        for axes, (lines, label) in zip(figure.subplots(1, 2), panels, strict=True):
            for number, (name, values) in enumerate(lines.items()):
                short = name.removeprefix("peak memory ").removesuffix(", MB").removeprefix("of the ")
                axes.plot(sizes, values, "osD^v"[number % 5] + "-", color=f"C{number}", label=short, lw=1.6, ms=5)
            axes.set(xscale="log", xlabel="training samples of the round", ylabel=label)
            axes.set_ylim(bottom=0)
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.minorticks_off()
            axes.grid(color="0.88", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, loc="upper left")
        figure.axes[0].set_ylim(top=1.5 * max(map(max, times.values())))
        figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # in this process, as JSON
    parser.add_argument(
        "--draw", type=Path, metavar="PAGE", help="draw the table of a page instead, in scale.svg beside it"
    )
    args = parser.parse_args()
    if args.draw:
        draw(args.draw, args.draw.with_name("scale.svg"))
        return
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    print("milliseconds of the processor a sample (a probe for the probe set), and peak memory in MB\n")
    print("| samples | phase | ms | of them | peak |")
    print("|---:|---|---:|---|---:|")
    for samples in args.samples:
        command = [sys.executable, __file__, "--one", str(samples)]
        phases = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for name, values in phases.items():
            per = 1000 / (max(1, samples // 10) if name == "probe" else samples)
            parts = [f"{part} {values[part] * per:.2f}" for part in PARTS if part in values]
            if "padding" in values:
                parts = [f"{values['padding']:.1%} of the tokens are padding"]
            shown = "" if name == "start" else f"{values['seconds'] * per:.2f}"
            print(f"| {samples:,} | {name} | {shown} | {', '.join(parts)} | {values['peak']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
