"""Settings of the server."""

from __future__ import annotations

from dataclasses import dataclass

from gold_lightning.errors import ConfigError

__all__ = ["ServeSettings"]


@dataclass(frozen=True)
class ServeSettings:
    """Where the server listens, and what it accepts.

    Args:
        host: Address to listen on; 0.0.0.0 for every interface.
        port: Port; 0 for a free one.
        batch_size: Texts that the student predicts in one pass, from any number of requests.
        max_wait: Milliseconds that an idle student waits for more texts. While it is busy, texts gather anyway.
        max_rows: Maximum number of texts in a request; more are answered by 413.
        max_chars: Maximum number of characters in a field of a text; more are answered by 413.
        max_bytes: Maximum size of a request's body; more are answered by 413.
        max_waiting: Maximum number of texts that wait for the student; further requests are answered by 503 with the
            seconds after which to try again (Retry-After).
        read_seconds: Seconds in which a client has to send its request, and to read a long answer.
        stop_seconds: Seconds in which requests that are under way are answered when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    batch_size: int = 32
    max_wait: float = 2.0
    max_rows: int = 1000
    max_chars: int = 20_000
    max_bytes: int = 1_048_576
    max_waiting: int = 2000
    read_seconds: float = 10.0
    stop_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError("--port", self.port, "0 to 65535")
        for name in ("batch_size", "max_rows", "max_chars", "max_bytes", "max_waiting"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name}", getattr(self, name), "1 or more")
        if not 0 <= self.max_wait <= 1000:
            raise ConfigError("--max_wait", self.max_wait, "0 to 1000 milliseconds")
        for name in ("read_seconds", "stop_seconds"):
            if not 0 < getattr(self, name) <= 3600:
                raise ConfigError(f"--{name}", getattr(self, name), "more than 0, at most 3600")
