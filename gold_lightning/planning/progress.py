"""Progress of the synthesis toward a quota."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from gold_lightning.storage.round_store import BatchRecord, Kind

__all__ = ["Progress", "ProgressMeter", "log_progress"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Progress toward a quota.

    Counts cover the round, with ``cut`` that of accepted samples cut at the end of a sentence; ``gained``, ``tokens``
    and ``seconds`` cover this call and are 0 before its first batch.
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


class ProgressMeter:
    """Adds up the batches of one call, and reports the progress after each.

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

    def show(self, accepted: int, requested: int, batch: BatchRecord | None = None) -> None:
        """Reports the progress.

        Args:
            accepted: Samples of the round that are accepted so far.
            requested: Samples that were requested for them.
            batch: The batch that was committed last; ``None`` before the first one of the call.
        """
        if batch is not None:
            self._tokens += batch.prompt_tokens + batch.completion_tokens
            self._seconds += batch.seconds
            self._cut += batch.cut
        gained, so_far = accepted - self._first, (self._tokens, self._seconds, self._cut)
        self._report(Progress(self._round, self._kind, accepted, self._quota, requested, gained, *so_far))


def log_progress(progress: Progress) -> None:
    """Logs accepted samples and quota, yield, tokens per second, and an estimate of the seconds left."""
    if not progress.seconds:  # the first batch is on its way
        return
    name = f"round {progress.round} {'training samples' if progress.kind == 'train' else 'probe set'}"
    speed = (
        f"yield {progress.accepted / progress.requested:.0%}, "
        + (f"{progress.cut} cut, " if progress.cut else "")
        + f"{progress.tokens / max(progress.seconds, 1e-9):.0f} tokens/s"
    )
    left = progress.seconds * (progress.quota - progress.accepted) / max(1, progress.gained)
    _log.info("%s: %d/%d, %s, %.0f s left", name, progress.accepted, progress.quota, speed, left)
