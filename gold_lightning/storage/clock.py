"""Measures how long a run takes, over all its sessions."""

from __future__ import annotations

import json
import time
from pathlib import Path

from gold_lightning.storage.json_lines import read_json, read_lines, replace_text
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import RunFolder

__all__ = ["RunClock"]

_INTERVAL = 5.0  # seconds between two writes


class RunClock:
    """Counts the seconds of a run over all its sessions: the first one and every resumption.

    The run folder holds the count, updated every few seconds, so that a session that was killed counts too.

    Args:
        run_dir: The run folder.

    Attributes:
        lost: Seconds of earlier sessions that belong to no finished round and no stored batch. The next finished round
            adds them to its own and sets this to 0.
    """

    def __init__(self, run_dir: Path) -> None:
        self.lost = 0.0
        self._folder = RunFolder(run_dir)
        self._started: float | None = None
        self._earlier = self._written_at = 0.0

    def seconds(self, round_: int) -> float:
        """Returns the seconds of the run so far. The first call starts a session.

        Args:
            round_: Number of the round that the session starts with.
        """
        time_now = time.perf_counter()
        if self._started is None:
            rows = read_lines(self._folder.rounds)
            accounted = sum(sum(row["seconds"].values()) for row in rows if row["round"] < round_)
            store = RoundStore(self._folder.path, round_, read_only=True)
            accounted += sum(b.seconds for kind in ("train", "probe") for b in store.batches(kind))
            self._started, self._earlier = time_now, max(accounted, self._read())
            self.lost = self._earlier - accounted
        return self._earlier + time_now - self._started

    def note(self, *, immediately: bool = False) -> None:
        """Writes the seconds so far to the run folder, every few seconds at most; does nothing before a session starts.

        Args:
            immediately: Write even if the last write was a moment ago.
        """
        time_now = time.perf_counter()
        if self._started is None or not (immediately or time_now - self._written_at >= _INTERVAL):
            return
        self._written_at = time_now
        seconds = round(self._earlier + time_now - self._started, 3)
        replace_text(self._folder.seconds, json.dumps({"seconds": seconds}) + "\n")

    def _read(self) -> float:
        try:
            return max(0.0, float(read_json(self._folder.seconds)["seconds"]))
        except (ValueError, TypeError, KeyError):
            return 0.0
