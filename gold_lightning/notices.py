"""Silences notices of other packages, so that a run prints one line a round."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ignore_known_warnings", "lines_shown", "without_progress_bars"]


def ignore_known_warnings() -> None:
    """Ignores warnings of other packages about what is right here."""
    # Rows are tokenised as they are needed and rounds are short: workers and longer logging gaps do not pay.
    # A run folder that is there already is what resuming is about.
    for text in (
        "does not have many workers",
        "log_every_n_steps",
        "Checkpoint directory",
        "logs directory",
        "LeafSpec",
        # Of the baselines, which train without a probe set and test without the run's callbacks.
        "You defined a `validation_step` but have no",
        "callbacks used to create the checkpoint",
        "The dirpath has changed",  # of the test of another run's checkpoint
        "It is recommended to use `self.log",  # metrics are the same in all processes: they gather what they count
        "Using `DistributedSampler` with the dataloaders",  # a row that is tested twice counts once
        "all_gather is deprecated",  # Lightning's own
        "returned a view tensor",  # a T5 block's position bias, which nobody changes in place
    ):
        warnings.filterwarnings("ignore", f".*{text}.*")


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Hides the bars of transformers while it reads and writes weights."""
    from transformers.utils import logging as transformers_logging

    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def lines_shown(verbose: bool) -> Iterator[None]:
    """Prints one line per round, without notices of other packages, unless the program around it has set up logging."""
    log = logging.getLogger("gold_lightning")
    others = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = {logger: logger.level for logger in (log, *others)}
    for logger in others:
        logger.setLevel(max(logger.level, logging.WARNING))
    handler = logging.StreamHandler(sys.stdout) if verbose and not log.hasHandlers() else None
    if handler:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        with without_progress_bars(), warnings.catch_warnings():
            ignore_known_warnings()
            yield
    finally:
        if handler:
            log.removeHandler(handler)
        for logger, level in levels.items():
            logger.setLevel(level)
