"""The web application: routes, limits and answers of the server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gold_lightning import __version__
from gold_lightning.serving.batcher import SaturatedError
from gold_lightning.serving.bodies import RequestError, read_body
from gold_lightning.serving.openapi import openapi_document
from gold_lightning.serving.service import Service
from gold_lightning.task import Task

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["make_app"]

_log = logging.getLogger(__name__)
_ASSETS = Path(__file__).parent.parent / "assets" / "serve"
_BODIES = 64  # of the largest size that are read at a time; more would take memory without limit
_T = TypeVar("_T")


class _GoneError(Exception):
    """The client has closed its connection."""


def make_app(service: Service) -> Starlette:
    """Returns the web application of a service.

    Args:
        service: The service; it starts and ends with the application.
    """
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    bodies = _Bodies(service)
    description = _described(service.task)
    document = openapi_document(service.task, service.settings)

    async def predict(request: Request) -> Response:
        started = time.perf_counter()
        try:
            rows, many = read_body(service.task, await bodies.read(request), service.settings)
            answers = await _unless_gone(request, service.predict(rows))
            response: Response = JSONResponse(answers if many else answers[0])
        except _GoneError:
            response = Response(status_code=499)  # nobody reads it
        except SaturatedError as e:
            response = _refusal(RequestError(503, str(e), e.seconds))
        except RequestError as e:
            response = _refusal(e)
        except Exception:  # logged with its trace: one request fails, the others are answered
            _log.exception("a request failed")
            response = _refusal(RequestError(500, "the server failed on this request"))
        service.numbers.request(response.status_code, time.perf_counter() - started)
        return response

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "task": service.task.name, "version": __version__})

    async def metrics(request: Request) -> Response:
        return Response(service.numbers.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def constant(value: object) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return JSONResponse(value)

        return answer

    def page(name: str) -> Callable[[Request], Awaitable[Response]]:
        html = (_ASSETS / name).read_text(encoding="utf-8")
        headers = {"Content-Security-Policy": _policy(html), "Cache-Control": "no-cache"}

        async def answer(request: Request) -> Response:
            return Response(html, media_type="text/html", headers=headers)

        return answer

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.close)

    return Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/task", constant(description)),
            Route("/openapi.json", constant(document)),
            Route("/docs", page("docs.html")),
            Route("/", page("try.html")),
        ],
        lifespan=lifespan,
    )


class _Bodies:
    """Reads bodies of requests, within limits of size, time and memory."""

    def __init__(self, service: Service) -> None:
        self._settings = service.settings
        self._room = _BODIES * service.settings.max_bytes

    async def read(self, request: Request) -> bytes:
        """Returns the body.

        Raises:
            RequestError: It is too large or too slow, another site sends it, or too many are read at a time.
        """
        # A page of another site can send a visitor's browser here, if only blindly, and fill the file of unknown texts.
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise RequestError(403, "pages of other sites may not ask this server")
        limit = self._settings.max_bytes
        length = request.headers.get("content-length", "")
        if length.isdecimal() and len(length) < 20 and int(length) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.read_seconds):
                async for chunk in request.stream():
                    chunks.append(chunk)
                    size += len(chunk)
                    self._room -= len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    if self._room < 0:
                        raise RequestError(503, "too many requests are being read", 1)
        except TimeoutError:
            seconds = self._settings.read_seconds
            raise RequestError(408, f"body: expected all of it within {seconds:g} s") from None
        except Exception as e:
            if type(e).__name__ == "ClientDisconnect":
                raise _GoneError from None
            raise
        finally:
            self._room += size
        return b"".join(chunks)


def _too_large(limit: int) -> RequestError:
    return RequestError(413, f"body: expected at most {limit:,} bytes; send the texts in several requests")


def _refusal(error: RequestError) -> Response:
    from starlette.responses import JSONResponse

    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 408:
        headers["Connection"] = "close"
    return JSONResponse({"error": str(error)}, error.status, headers)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Awaits ``work``, and cancels it if the client closes its connection meanwhile."""
    task = asyncio.create_task(work)
    gone = asyncio.ensure_future(request.receive())  # after the body, nothing comes but the end of the connection
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _GoneError
        return await task
    finally:
        gone.cancel()
        task.cancel()


def _described(task: Task) -> dict[str, Any]:
    """Describes the task for the page on which it is tried."""
    return {
        "name": task.name,
        "fields": [{"name": f.name, "description": f.description} for f in task.fields],
        "target": {"name": task.target.name, "description": task.target.description},
        "labels": [{"name": label.name, "description": label.meaning} for label in task.labels],
    }


def _policy(html: str) -> str:
    """Allows what stands in the page itself, and requests to this server."""

    def hashes(tag: str) -> str:
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
