"""Progress of the synthesis toward a quota."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gold_lightning.storage.round_store import Kind

__all__ = ["Progress", "log_progress"]

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
