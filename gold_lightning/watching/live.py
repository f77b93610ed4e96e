"""What a run is doing, in the terminal while it runs."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gold_lightning.console import printable
from gold_lightning.data import GoldDataModule
from gold_lightning.interrupt import FINISHING
from gold_lightning.storage.round_store import read_lines
from gold_lightning.synthesis import Progress

__all__ = ["LiveView"]

_LATEST = 400  # characters of a sample that are looked at; a line shows fewer


class LiveView(Callback):
    """Shows round, phase, progress, last energies and best metric of a run, and leaves the terminal as it was.

    It is for a terminal and for the first process; what is logged meanwhile appears above it. It comes after
    :class:`gold_lightning.callbacks.OODFeedback`, whose rows it reads.

    Args:
        data: Whose rounds they are; its progress is watched.
        console: Where to draw; standard error by default.
    """

    def __init__(self, data: GoldDataModule, console: Console | None = None) -> None:
        # Nothing is markup here: a text of the generator's, or a task's name, may look like it.
        self.console = console or Console(stderr=True, markup=False, emoji=False, highlight=False)
        self.data = data
        self._since = self._phase_since = time.monotonic()
        self._phase = "starting"
        self._last_round: int | None = None
        self._done = self._total = 0
        self._told: tuple[float, Progress] | None = None
        self._latest = ""
        self._rows: Sequence[dict[str, Any]] = ()
        self._live: Live | None = None

    @staticmethod
    def possible() -> bool:
        """Whether standard error is a terminal that can redraw lines."""
        console = Console(stderr=True)
        return sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the view; whatever ends it, the terminal is restored."""
        self._since = self._phase_since = time.monotonic()
        # What goes to a file goes there, and only what goes to the terminal must keep clear of the view.
        live = Live(
            get_renderable=self.render, console=self.console, transient=True, redirect_stdout=sys.stdout.isatty()
        )
        watching, self.data.watch = self.data.watch, self.progress
        # The view itself shows that the run is stopping: what is written below it would not be cleared.
        announce, self.data.stopping.announce = self.data.stopping.announce, lambda: None
        streams = (sys.stdout, sys.stderr)
        try:
            live.start(refresh=True)
            self._live = live
            with _handlers_follow(streams):
                yield
        finally:
            self.data.watch, self._live = watching, None
            self.data.stopping.announce = announce
            try:
                live.stop()
            except BaseException:  # Ctrl-C, a second time
                sys.stdout, sys.stderr = streams
                self.console.show_cursor(True)
                raise

    # What happens

    def progress(self, now: Progress) -> None:
        """Notes how far the synthesis is.

        Args:
            now: What it reports.
        """
        name = "synthesising" if now.kind == "train" else "probing"
        if self._phase != name:
            self._begin(name, now.quota)
        self._done, self._told = now.accepted, (time.monotonic(), now)
        if now.gained:
            newest = self.data.synthesizer.store(now.round).accepted(now.kind)[-1].sample
            label = f"{newest.target}: " if self.data.task.labels else ""
            self._latest = printable((label + newest.text)[:_LATEST].replace("\n", " / "))
        self._refresh()

    def phase(self, name: str) -> None:
        """Notes that something else begins, of which there is no progress to tell.

        Args:
            name: What it is.
        """
        self._begin(name, 0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rounds = trainer.max_epochs
        self._last_round = None if rounds is None or rounds < 0 else rounds - 1
        self._read_rounds()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin("training", int(trainer.num_training_batches))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._done = batch_idx + 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin("scoring", sum(map(int, trainer.num_val_batches)))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._done = batch_idx + 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read_rounds()

    def _begin(self, phase: str, total: int) -> None:
        self._phase, self._phase_since, self._done, self._total = phase, time.monotonic(), 0, total
        self._told, self._latest = None, ""
        self._refresh()

    def _refresh(self) -> None:
        if self._live is not None:  # at once: a phase may be over before the next refresh
            self._live.refresh()

    def _read_rounds(self) -> None:
        self._rows = [r for r in read_lines(self.data.run_dir / "rounds.jsonl") if r["round"] < self.data.round]

    # What is seen

    def render(self) -> RenderableType:
        """The view as it is now."""
        grid = Table.grid(padding=(0, 1), expand=True)
        # A terminal echoes ^C where the cursor is: were that the last column, a line would be left behind.
        grid.width = max(10, self.console.width - 2)
        grid.add_column(no_wrap=True, min_width=8)  # as wide as "accepted", which is not always there
        grid.add_column(ratio=1, overflow="fold")
        for name, shown in self._lines():
            grid.add_row(Text(name, "dim"), Text(shown) if isinstance(shown, str) else shown)
        return grid

    def _lines(self) -> Iterator[tuple[str, RenderableType]]:
        now = time.monotonic()
        last = "" if self._last_round is None else f" of 0 to {self._last_round}"
        yield "run", printable(f"{self.data.task.name}/{self.data.run_dir.name}, {_time(now - self._since)}")
        # After the last round the data module stands at one that will not come.
        round_ = self.data.round if self._last_round is None else min(self.data.round, self._last_round)
        yield "round", f"{round_}{last}"
        yield "phase", Text(f"{self._phase}, {_time(now - self._phase_since)}", "bold")
        if self.data.stopping.wanted:
            yield "stopping", FINISHING
        if self._total:
            bar = Table.grid(padding=(0, 1), expand=True)
            bar.add_column(ratio=1)
            bar.add_column(no_wrap=True)
            bar.add_row(ProgressBar(self._total, self._done), Text(f"{self._done}/{self._total}"))
            yield {"training": "steps", "scoring": "batches"}.get(self._phase, "accepted"), bar
        if speed := self._speed(now):
            yield "speed", speed
        if self._latest:
            yield "latest", Text(self._latest, no_wrap=True, overflow="ellipsis")
        if self._rows:
            row = self._rows[-1]
            if row["energy"]:
                mean = {kind: _decimal(found["mean"]) for kind, found in row["energy"].items()}
                shown = f"probe {mean['probe']}, train {mean['train']}, AUROC {_decimal(row['auroc'])}"
                yield "energy", f"{shown} (round {row['round']})"
            scored = [row for row in self._rows if row["metrics"].get("val/metric") is not None]
            if scored:
                best = max(scored, key=lambda row: (row["metrics"]["val/metric"], row["round"]))
                number = scored[-1].get("selection", {}).get("best")  # compared on the same rows
                best = next((row for row in scored if row["round"] == number), best)
                names = (k for k in best["metrics"] if k.startswith("val/") and k not in ("val/loss", "val/metric"))
                yield "best", f"{next(names, 'val/metric')} {best['metrics']['val/metric']:.3f} (round {best['round']})"

    def _speed(self, now: float) -> str:
        if self._told is not None:
            at, told = self._told
            if not told.seconds:
                return ""
            parts = [
                f"yield {told.accepted / max(1, told.requested):.0%}",
                f"{told.tokens / told.seconds:,.0f} tokens/s",
            ]
            if told.gained and told.accepted < told.quota:
                left = told.seconds * (told.quota - told.accepted) / told.gained - (now - at)
                parts.append(f"{_time(max(0.0, left))} left")
            return ", ".join(parts)
        if not self._done or self._done >= self._total:
            return ""
        each = (now - self._phase_since) / self._done
        return f"{1 / max(each, 1e-9):,.1f} a second, {_time(each * (self._total - self._done))} left"


@contextmanager
def _handlers_follow(streams: tuple[Any, Any]) -> Iterator[None]:
    """Has what logging handlers write to the terminal appear above the view, as what is printed does."""
    loggers = [logging.root, *logging.Logger.manager.loggerDict.values()]
    found = [h for logger in loggers if isinstance(logger, logging.Logger) for h in logger.handlers]
    moved = [
        (handler, handler.setStream(now))
        for handler in found
        if isinstance(handler, logging.StreamHandler)
        for before, now in zip(streams, (sys.stdout, sys.stderr), strict=True)
        if handler.stream is before and before is not now
    ]
    try:
        yield
    finally:
        for handler, stream in moved:
            if stream is not None:
                handler.setStream(stream)


def _time(seconds: float) -> str:
    """Whole seconds, minutes and hours.

    >>> _time(59.6), _time(60), _time(3725)
    ('59 s', '1 min 0 s', '1 h 2 min')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600:,} h {whole % 3600 // 60} min"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"  # null stands for what was not finite
