"""The seconds that a run has taken, in all its sittings."""

from __future__ import annotations

import json
import time
from pathlib import Path

from gold_lightning.storage.round_store import RoundStore, read_lines

__all__ = ["RunClock"]

_BEAT = 5.0  # seconds between two notes of how long a run has taken


class RunClock:
    """Seconds that a run has taken in all its sittings.

    They are noted in the run folder every few seconds, so that a sitting that was killed counts too.

    Args:
        run_dir: The run folder.

    Attributes:
        lost: Seconds of earlier sittings that are in no round's line and no stored batch, until a round takes them.
    """

    def __init__(self, run_dir: Path) -> None:
        self.lost = 0.0
        self._run_dir, self._path = run_dir, run_dir / "data" / "seconds.json"
        self._started: float | None = None
        self._before = self._noted = 0.0

    def seconds(self, round_: int) -> float:
        """Seconds of the run so far; the first call begins a sitting.

        Args:
            round_: The round that the sitting begins with.
        """
        now = time.perf_counter()
        if self._started is None:
            rows = read_lines(self._run_dir / "rounds.jsonl")
            known = sum(sum(row["seconds"].values()) for row in rows if row["round"] < round_)
            begun = RoundStore(self._run_dir, round_, read_only=True)
            known += sum(b.seconds for kind in ("train", "probe") for b in begun.batches(kind))
            self._started, self._before = now, max(known, self._read())
            self.lost = self._before - known
        return self._before + now - self._started

    def note(self, *, at_once: bool = False) -> None:
        """Notes in the run folder how long the run has taken, unless that was done just now or no sitting has begun.

        Args:
            at_once: Do it even so.
        """
        now = time.perf_counter()
        if self._started is None or not (at_once or now - self._noted >= _BEAT):
            return
        self._noted = now
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(self._path.name + ".part")
        part.write_text(json.dumps({"seconds": round(self._before + now - self._started, 3)}) + "\n", encoding="utf-8")
        part.replace(self._path)

    def _read(self) -> float:
        try:
            seconds = json.loads(self._path.read_text(encoding="utf-8"))["seconds"]
            return max(0.0, float(seconds))
        except (OSError, ValueError, TypeError, KeyError):
            return 0.0
