"""The live display of a run in the terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import rich.progress
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console, RenderableType
from rich.highlighter import NullHighlighter
from rich.live import Live
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from gold_lightning.console import printable
from gold_lightning.data import GoldDataModule
from gold_lightning.interrupt import FINISHING
from gold_lightning.planning.progress import Progress, speed
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.run_folder import RunFolder

__all__ = ["LiveProgress"]

_LATEST_CHARS = 400  # of a sample; a line shows fewer
_UNITS = {"training": "steps", "scoring": "batches"}  # of the bar; samples otherwise


class LiveProgress(Callback):
    """Shows round, phase, progress, latest energies and best metric, and restores the terminal when it ends.

    Log records and printed lines appear above the display. Use it in the first process and in a terminal
    (:meth:`supported`), after :class:`gold_lightning.callbacks.OODFeedback`, whose rows it reads.

    Args:
        data: The data module whose rounds are shown.
        console: The console to draw on; standard error by default.
    """

    def __init__(self, data: GoldDataModule, console: Console | None = None) -> None:
        # No markup: a generated text or a task's name may look like it.
        self.console = console or Console(stderr=True, markup=False, emoji=False, highlight=False)
        self.data = data
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(bar_width=None),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(compact=True),
            console=self.console,
            get_time=lambda: time.monotonic(),
            speed_estimate_period=600,  # a batch of a large generator takes minutes
            expand=True,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._began = time.monotonic()
        self._last_round: int | None = None
        self._synthesis: Progress | None = None
        self._latest = ""
        self._rows: Sequence[dict[str, Any]] = ()
        self._live: Live | None = None

    @staticmethod
    def supported() -> bool:
        """Whether standard error is a terminal that can redraw lines."""
        console = Console(stderr=True)
        return sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal

    @contextmanager
    def display(self) -> Iterator[None]:
        """Shows the display while the block runs; the terminal is restored whatever ends the block."""
        self._began = time.monotonic()
        self.begin_phase("starting")
        # Output that goes to a file stays there; only the terminal's lines must appear above the display.
        live = Live(
            get_renderable=self.render, console=self.console, transient=True, redirect_stdout=sys.stdout.isatty()
        )
        watch, self.data.watch = self.data.watch, self.update
        # The display itself says that the run is stopping: a line written below it would stay behind.
        announce, self.data.stopping.announce = self.data.stopping.announce, lambda: None
        streams = (sys.stdout, sys.stderr)
        try:
            with _logs_above(self.console):
                live.start(refresh=True)
                self._live = live
                yield
        finally:
            self.data.watch, self._live = watch, None
            self.data.stopping.announce = announce
            try:
                live.stop()
            except BaseException:  # Ctrl-C, a second time
                sys.stdout, sys.stderr = streams
                self.console.show_cursor(True)
                raise

    # Events

    def update(self, progress: Progress) -> None:
        """Shows the progress of the synthesis.

        Args:
            progress: The report of the synthesizer.
        """
        if progress.waiting:  # the view has a clock
            return
        phase = "synthesising" if progress.kind == "train" else "probing"
        if self._phase.description != phase:
            self.begin_phase(phase, progress.quota)
        self._synthesis = progress
        self._bar.update(self._task, completed=progress.accepted)
        if progress.gained:
            newest = self.data.synthesizer.store(progress.round).accepted(progress.kind)[-1].sample
            label = f"{newest.target}: " if self.data.task.labels else ""
            self._latest = printable((label + newest.text)[:_LATEST_CHARS].replace("\n", " / "))
        self._refresh()

    def begin_phase(self, name: str, total: int = 0) -> None:
        """Shows that another phase begins.

        Args:
            name: Name of the phase.
            total: Number of samples or steps in it; 0 if there is nothing to count.
        """
        previous = self._task  # not reset: a task keeps its total
        self._task = self._bar.add_task(name, total=total or None)
        self._bar.remove_task(previous)
        self._synthesis, self._latest = None, ""
        self._refresh()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rounds = trainer.max_epochs
        self._last_round = None if rounds is None or rounds < 0 else rounds - 1
        self._read_rounds()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin_phase("training", int(trainer.num_training_batches))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._bar.update(self._task, completed=batch_idx + 1)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin_phase("scoring", sum(map(int, trainer.num_val_batches)))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._bar.update(self._task, completed=batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read_rounds()

    def _refresh(self) -> None:
        if self._live is not None:  # at once: a phase may be over before the next refresh
            self._live.refresh()

    def _read_rounds(self) -> None:
        self._rows = [r for r in read_lines(RunFolder(self.data.run_dir).rounds) if r["round"] < self.data.round]

    # Rendering

    @property
    def _phase(self) -> rich.progress.Task:
        return self._bar.tasks[-1]

    def render(self) -> RenderableType:
        """The display in its present state."""
        grid = Table.grid(padding=(0, 1), expand=True)
        # A terminal echoes ^C at the cursor: in the last column it would leave a line behind.
        grid.width = max(10, self.console.width - 2)
        grid.add_column(no_wrap=True, min_width=8, style="dim")  # as wide as "accepted", which is not always there
        grid.add_column(ratio=1, overflow="fold")
        for name, value in self._lines():
            grid.add_row(name, value)
        return grid

    def _lines(self) -> Iterator[tuple[str, RenderableType]]:
        elapsed = timedelta(seconds=int(time.monotonic() - self._began))
        yield "run", Text(printable(f"{self.data.task.name}/{self.data.run_dir.name}, {elapsed}"))
        # After the last round the data module stands at one that will not come.
        round_ = self.data.round if self._last_round is None else min(self.data.round, self._last_round)
        yield "round", f"{round_}" + ("" if self._last_round is None else f" of 0 to {self._last_round}")
        yield "phase", Text(f"{self._phase.description}, {timedelta(seconds=int(self._phase.elapsed or 0))}", "bold")
        if self.data.stopping.wanted:
            yield "stopping", FINISHING
        if self._phase.total:
            yield _UNITS.get(self._phase.description, "accepted"), self._bar.get_renderable()
        if (progress := self._synthesis) and progress.seconds:
            yield "speed", speed(progress)
        if self._latest:
            yield "latest", Text(self._latest, no_wrap=True, overflow="ellipsis")
        if self._rows:
            yield from self._results(self._rows)

    def _results(self, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, RenderableType]]:
        latest = rows[-1]
        if latest["energy"]:
            mean = {kind: _decimal(energy["mean"]) for kind, energy in latest["energy"].items()}
            energies = f"probe {mean['probe']}, train {mean['train']}, AUROC {_decimal(latest['auroc'])}"
            yield "energy", f"{energies} (round {latest['round']})"
        scored = [row for row in rows if row["metrics"].get("val/metric") is not None]
        if scored:
            best = max(scored, key=lambda row: (row["metrics"]["val/metric"], row["round"]))
            number = scored[-1].get("selection", {}).get("best")  # compared on the same rows
            best = next((row for row in scored if row["round"] == number), best)
            names = (k for k in best["metrics"] if k.startswith("val/") and k not in ("val/loss", "val/metric"))
            yield "best", f"{next(names, 'val/metric')} {best['metrics']['val/metric']:.3f} (round {best['round']})"


@contextmanager
def _logs_above(console: Console) -> Iterator[None]:
    """Replaces all log handlers that write to the terminal by one that writes above the console's display."""
    above = RichHandler(
        console=console,
        show_time=False,
        show_level=False,
        show_path=False,
        highlighter=NullHighlighter(),
        keywords=[],
    )
    loggers = [logging.root, *(x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger))]
    replaced = [
        (logger, handler)
        for logger in loggers
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)
        if handler.stream.isatty()
    ]
    for logger, handler in replaced:
        logger.removeHandler(handler)
        logger.addHandler(above)
    try:
        yield
    finally:
        for logger, handler in replaced:
            logger.removeHandler(above)
            logger.addHandler(handler)


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"  # null stands for a value that was not finite
