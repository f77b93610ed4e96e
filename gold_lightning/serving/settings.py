"""Settings of the server, and of what happens to inputs that the student does not know."""

from __future__ import annotations

from dataclasses import dataclass

from gold_lightning.errors import ConfigError

__all__ = ["ServeSettings", "UnknownSettings"]


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


@dataclass(frozen=True)
class UnknownSettings:
    """What happens to inputs that the student does not know, apart from ``"known": false`` in the answer.

    Args:
        unknown: A .jsonl file to which they are appended, with the student's prediction and the generator's. It holds
            users' texts. fit --data.unlabelled takes it.
        unknown_mb: Size of that file at which it replaces the earlier one (NAME.1.jsonl).
        fallback: A config whose data.generator answers them.
        fallback_timeout: Seconds after which the student's own answer is given.
        fallback_per_hour: Maximum number of them in an hour for which the generator is asked.
    """

    unknown: str | None = None
    unknown_mb: int = 16
    fallback: str | None = None
    fallback_timeout: float = 20.0
    fallback_per_hour: int = 1000

    def __post_init__(self) -> None:
        if self.unknown_mb < 1:
            raise ConfigError("--unknown_mb", self.unknown_mb, "1 or more")
        if not 0 < self.fallback_timeout <= 3600:
            raise ConfigError("--fallback_timeout", self.fallback_timeout, "more than 0, at most 3600 seconds")
        if self.fallback_per_hour < 1:
            raise ConfigError("--fallback_per_hour", self.fallback_per_hour, "1 or more")
