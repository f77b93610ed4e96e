"""Progress of the synthesis toward a quota."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gold_lightning.storage.round_store import BatchRecord, Kind

__all__ = ["Progress", "ProgressMeter", "log_progress", "speed"]

_EVERY = 60.0  # seconds between two reports of a batch that is under way
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Progress toward a quota.

    Counts cover the round, with ``cut`` that of accepted samples cut at the end of a sentence; ``gained``, ``tokens``
    (written by the generator, without prompts) and ``seconds`` cover this call and are 0 before its first batch.
    ``waiting`` is 0 except while a batch is under way: the seconds that it has taken so far.
    """

    round: int
    kind: Kind
    accepted: int
    quota: int
    requested: int
    gained: int
    tokens: int
    seconds: float
    cut: int = 0
    waiting: float = 0.0


class ProgressMeter:
    """Adds up the batches of one call, and reports the progress after each, and every minute of a long one.

    Args:
        report: Called with the progress.
        round_: Number of the round.
        kind: Training samples or the probe set.
        quota: Number of samples wanted.
        accepted: Samples of the round that were accepted before.
        cut: Those of them that were cut at the end of a sentence.
    """

    def __init__(
        self, report: Callable[[Progress], None], round_: int, kind: Kind, quota: int, accepted: int, cut: int = 0
    ) -> None:
        self._report, self._round, self._kind, self._quota = report, round_, kind, quota
        self._first, self._tokens, self._seconds, self._cut = accepted, 0, 0.0, cut
        self._latest = Progress(round_, kind, accepted, quota, 0, 0, 0, 0.0, cut)

    def show(self, accepted: int, requested: int, batch: BatchRecord | None = None) -> None:
        """Reports the progress.

        Args:
            accepted: Samples of the round that are accepted so far.
            requested: Samples that were requested for them.
            batch: The batch that was committed last; ``None`` before the first one of the call.
        """
        if batch is not None:
            self._tokens += batch.completion_tokens
            self._seconds += batch.seconds
            self._cut += batch.cut
        gained, so_far = accepted - self._first, (self._tokens, self._seconds, self._cut)
        self._latest = Progress(self._round, self._kind, accepted, self._quota, requested, gained, *so_far)
        self._report(self._latest)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Reports every minute while the block runs: a slow generator answers a batch in many."""
        done = threading.Event()

        def report() -> None:
            waited = 0.0
            while not done.wait(_EVERY):
                waited += _EVERY
                self._report(replace(self._latest, waiting=waited))

        thread = threading.Thread(target=report, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def log_progress(progress: Progress) -> None:
    """Logs accepted samples and quota, yield, written tokens per second, and an estimate of the seconds left."""
    name = f"round {progress.round} {'training samples' if progress.kind == 'train' else 'probe set'}"
    if progress.waiting:
        minutes = f"{progress.waiting / 60:.0f} min"
        _log.info("%s: %d/%d, batch under way for %s", name, progress.accepted, progress.quota, minutes)
    elif progress.seconds:  # otherwise the first batch is on its way
        left = progress.seconds * (progress.quota - progress.accepted) / max(1, progress.gained)
        _log.info("%s: %d/%d, %s, %.0f s left", name, progress.accepted, progress.quota, speed(progress), left)


def speed(progress: Progress) -> str:
    """Returns the yield, and what the generator writes.

    >>> speed(Progress(2, "train", 20, 80, 64, 10, tokens=740, seconds=5.0))
    'yield 31%, writes 148 tokens/s'
    """
    cut = f", {progress.cut} cut" if progress.cut else ""
    rate = progress.tokens / max(progress.seconds, 1e-9)
    written = f", writes {rate:,.{0 if rate >= 10 else 1}f} tokens/s" if progress.tokens else ""  # labels alone: none
    return f"yield {progress.accepted / max(1, progress.requested):.0%}{cut}{written}"
