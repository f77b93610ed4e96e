"""Numbers of the server in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["ServerNumbers"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServerNumbers:
    """Counts requests, texts and batches. Threads may share it.

    Args:
        waiting: Returns the number of texts that wait for the student.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = every = CollectorRegistry()
        name = "gold_lightning"
        self._requests = Counter(f"{name}_requests", "Requests to /predict by status.", ["status"], registry=every)
        self._seconds = Histogram(
            f"{name}_request_seconds", "Seconds to answer /predict.", buckets=_SECONDS, registry=every
        )
        self._texts = Counter(f"{name}_texts", "Texts answered: known yes, no, or none.", ["known"], registry=every)
        self._batches = Histogram(f"{name}_batch_texts", "Texts in a pass.", buckets=_ROWS, registry=every)
        self._passes = Histogram(f"{name}_batch_seconds", "Seconds of a pass.", buckets=_SECONDS, registry=every)
        self._unknown = Counter(f"{name}_unknown", "Texts not known: stored, repeated, lost.", ["what"], registry=every)
        self._fallback = Counter(f"{name}_fallback", "Fallback: answered, late, ...", ["outcome"], registry=every)
        Gauge(f"{name}_waiting_texts", "Texts that wait for the student.", registry=every).set_function(waiting)

    def request(self, status: int, seconds: float) -> None:
        """Counts an answered request."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def text(self, known: bool | None) -> None:
        """Counts a predicted text."""
        self._texts.labels({True: "yes", False: "no", None: "none"}[known]).inc()

    def batch(self, rows: int, seconds: float) -> None:
        """Counts a pass of the student."""
        self._batches.observe(rows)
        self._passes.observe(seconds)

    def unknown(self, outcome: str) -> None:
        """Counts a text that the student does not know, by what became of it in the file."""
        self._unknown.labels(outcome).inc()

    def fallback(self, outcome: str) -> None:
        """Counts a text that the generator was to answer."""
        self._fallback.labels(outcome).inc()

    def render(self) -> bytes:
        """Returns all numbers in the text format of Prometheus."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
