"""Runs the web application until SIGTERM or Ctrl-C, and ends clients that are too slow."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from gold_lightning.errors import ConfigError
from gold_lightning.serving.settings import ServeSettings

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

__all__ = ["address_of", "listen", "make_server", "run_server"]

_BACKLOG = 2048
_FILES = 65_536  # connections that a client opens and leaves must not keep others out


def listen(settings: ServeSettings) -> socket.socket:
    """Takes the port, before a student is loaded for it.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except socket.gaierror as e:
        raise ConfigError("--host", settings.host, "an address of this machine", e.strerror or str(e)) from None
    except OSError as e:
        reason = f"{settings.host}: {e.strerror or e}"
        raise ConfigError("--port", settings.port, "a free port that this user may take", reason) from None


def address_of(listener: socket.socket) -> str:
    """Returns the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: Starlette, settings: ServeSettings) -> uvicorn.Server:
    """Returns a server of the application, which :func:`run_server` runs.

    Args:
        app: The application.
        settings: Timeouts.
    """
    import uvicorn

    _allow_many_files()
    config = uvicorn.Config(
        app,
        http=_patient_protocol(settings.read_seconds),
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
    )
    return uvicorn.Server(config)


def run_server(server: uvicorn.Server, listener: socket.socket, on_start: Callable[[], None] = lambda: None) -> None:
    """Serves until SIGTERM or Ctrl-C, and answers the requests that are under way. A second Ctrl-C does not.

    Args:
        server: The server.
        listener: The socket of :func:`listen`.
        on_start: Called when the server accepts requests.
    """

    async def serve() -> None:
        started = asyncio.create_task(_when_started(server, on_start))
        try:
            await server.serve([listener])
        finally:
            started.cancel()

    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when it has stopped
        asyncio.run(serve())


async def _when_started(server: uvicorn.Server, on_start: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    on_start()


def _patient_protocol(seconds: float) -> type[asyncio.Protocol]:
    """Returns uvicorn's protocol, which ends connections that send no whole head, or do not read, for too long.

    uvicorn has a timeout for idle connections alone: one that sends a byte of its head now and then stays for ever, and
    so does an answer that nobody reads.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class PatientProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None
        _reading: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            for timer in (self._timer, self._reading):
                if timer is not None:
                    timer.cancel()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reading = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._reading is not None:
                self._reading.cancel()

        def _watch(self) -> None:
            """Begins to wait for a head, unless a request is at work or one is waited for already."""
            if self._has_request():
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._end)

        def _end(self) -> None:
            self._timer = None
            if not self._has_request():
                self.transport.close()

        def _has_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

    return PatientProtocol


def _allow_many_files() -> None:
    with suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
