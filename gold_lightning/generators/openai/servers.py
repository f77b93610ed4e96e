"""Calls to one server or several until each is answered: pace, slots, new tries, and which server is asked next."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators.base import Finish
from gold_lightning.generators.openai.http_client import Address, certificate_variable, is_here, open_client, proxy_for
from gold_lightning.generators.openai.pacing import Pace
from gold_lightning.generators.openai.parse_response import printable, retry_after
from gold_lightning.generators.openai.server_errors import Interface, ServerError, advice, read_error

if TYPE_CHECKING:
    import httpx

__all__ = ["CallSettings", "FailedError", "Run", "Servers", "UnansweredError"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_KEY = "data.generator.init_args."
_TAKEN = ("accept", "content-length", "content-type", "host", "transfer-encoding", "connection")  # headers of calls
_STREAM = re.compile(r"\s*(data|event|id|retry)?:")  # of server-sent events, whose comments begin with a colon
_BROKEN = (500, 502, 504)  # statuses of a server that breaks over one call, or over all
_LONGEST_BACKOFF = 30.0  # seconds
_LOOK = 0.02  # seconds between two looks at whether another call was answered
_ANSWER_TRIES = 3  # of a call whose answer holds none: a filter's stays as it is, and the server is well


class FailedError(Exception):
    """A call that may do better next time.

    Args:
        reason: What happened.
        advice: What to change if it happens again and again.
        wait: Seconds that the server asked to wait; ``None`` if it did not.
        tries: Most tries of such a call; ``None`` for as many as any other has.
        finish: How the request counts when its tries are spent; ``None`` if that ends the run.
        counts: Tokens of prompt and completion that the failed try took.
        of_call: Whether it may be about this call alone, of a server that is well.
    """

    def __init__(
        self,
        reason: str,
        advice: str = "",
        wait: float | None = None,
        tries: int | None = None,
        finish: Finish | None = None,
        counts: tuple[int, int] = (0, 0),
        of_call: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.advice, self.wait = reason, advice, wait
        self.tries, self.finish, self.counts, self.of_call = tries, finish, counts, of_call

    @classmethod
    def of_answer(cls, reason: str, finish: Finish, counts: tuple[int, int], tries: int = _ANSWER_TRIES) -> FailedError:
        """An answer that holds none, of a server that is well otherwise."""
        return cls(reason, tries=tries, finish=finish, counts=counts)


class _RefusedError(GoldError):
    """A refusal that may be of one prompt: it ends the run unless others are answered.

    Args:
        message: What ends the run.
        reason: What the server said.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnansweredError(Exception):
    """A request that stays without an answer, while others are answered.

    Args:
        reason: What the server said.
        finish: How the request counts.
        counts: Tokens of prompt and completion that all its tries took.
    """

    def __init__(self, reason: str, finish: Finish, counts: tuple[int, int]) -> None:
        super().__init__(reason)
        self.reason, self.finish, self.counts = reason, finish, counts


@dataclass
class _Server:
    """One base URL. Times are seconds of the monotonic clock."""

    address: Address
    begun: int = 0
    in_flight: int = 0
    not_before: float = 0.0  # it asked for this (Retry-After): nobody calls
    avoid_until: float = 0.0  # it failed: others are taken where there are some

    @property
    def url(self) -> str:
        return self.address.base


@dataclass(frozen=True)
class CallSettings:
    """How servers are called; :class:`OpenAIGenerator` says what each means."""

    model: str
    form: str
    system: str
    api_key_env: str
    api_key_header: str
    concurrency: int
    connect_timeout: float
    timeout: float
    retries: int
    backoff: float
    max_wait: float
    cooldown: float
    requests_per_minute: float
    tokens_per_minute: float

    def __post_init__(self) -> None:
        for name, least in (("concurrency", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ConfigError(_KEY + name, getattr(self, name), f"{least} or more")
        for name in ("connect_timeout", "timeout"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds > 0):
                raise ConfigError(_KEY + name, seconds, "a finite number of seconds above 0")
        for name in ("backoff", "max_wait", "cooldown", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(_KEY + name, value, "a finite number, 0 or more")
        # Who writes the key itself here must not find it in an error message or a log.
        if self.api_key_env and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):
            allowed = "the name of an environment variable in capitals, as OPENAI_API_KEY"
            raise ConfigError(_KEY + "api_key_env", "(not shown)", allowed, "never write a key into a config")
        header = self.api_key_header
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,39}", header) or header.lower() in _TAKEN:
            allowed = "the name of a header, as Authorization or api-key"
            raise ConfigError(_KEY + "api_key_header", "(not shown)", allowed, "a key comes from the environment")


@dataclass
class Run:
    """What the calls of one batch share. Lives on the batch's event loop."""

    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    key: str = field(repr=False)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # calls wait for their share in the order they came
    told: bool = False  # whether it was said that calls are tried again
    refused: int = 0  # calls that wait to see whether others are answered


class Servers:
    """One server or several of the same model.

    Args:
        addresses: Where they are.
        how: How they are called.
    """

    def __init__(self, addresses: Sequence[Address], how: CallSettings) -> None:
        self.how = how
        self._servers = [_Server(address) for address in addresses]
        self._requests, self._tokens = Pace(how.requests_per_minute), Pace(how.tokens_per_minute)
        self._answered = {False: 0, True: 0}  # calls that were answered: those for texts, and those for likelihoods
        self._luck = random.Random()  # of waits alone: what is drawn here must not change what others draw

    @property
    def urls(self) -> list[str]:
        """Base URLs."""
        return [server.url for server in self._servers]

    def connect(self) -> Run:
        """What a batch's calls share.

        Raises:
            GoldError: The key is not set, or the environment names a proxy or certificates that cannot be used.
        """
        key = self._read_key()
        client = open_client(self.urls, self.how.connect_timeout, self.how.concurrency)
        return Run(client, asyncio.Semaphore(self.how.concurrency), key)

    def _read_key(self) -> str:
        """The key, straight from the environment; it is kept nowhere but in the batch's own calls."""
        name = self.how.api_key_env
        if not name:
            return ""
        key = os.environ.get(name, "").strip()
        if not key:
            raise GoldError(
                f"{_KEY}api_key_env: the environment variable {name} is not set; "
                f"export {name}=..., or leave the setting out for a server without keys"
            )
        if not (key.isascii() and key.isprintable()):
            raise GoldError(
                f"{_KEY}api_key_env: the environment variable {name} holds characters that no key has; "
                "set it to the key alone"
            )
        return key

    async def call(
        self,
        run: Run,
        path: str,
        body: Mapping[str, Any],
        estimate: int,
        read: Callable[[Mapping[str, Any], str], tuple[_T, tuple[int, int]]],
        scoring: bool = False,
    ) -> tuple[_T, tuple[int, int]]:
        """Makes a call until it is answered.

        Args:
            run: Of the batch.
            path: What follows the base URL.
            body: The call.
            estimate: Tokens that it may take, prompt and completion.
            read: Takes the answer's JSON and the server's URL, and gives what it holds with the tokens that it took;
                raises :class:`FailedError` if it holds nothing.
            scoring: Whether it asks for likelihoods of labels.

        Returns:
            What ``read`` gave. The tokens are those of all tries.

        Raises:
            GoldError: It cannot be answered, or its tries are spent.
            UnansweredError: It stays without an answer, while others are answered.
        """
        content = json.dumps(body).encode()  # ASCII: half a surrogate pair in a prompt is no reason to fall
        spent, tries, alike = (0, 0), 0, 0  # alike: tries that came to an answer which holds none
        answered = 0  # how many calls had been when this one began
        while True:
            tries += 1
            async with run.slots:
                server = await self._next_server(run, estimate, tries)
                answered = self._answered[scoring] if tries == 1 else answered
                server.begun += 1
                server.in_flight += 1
                used = 0
                try:
                    reply = await self._try(run, server, path, content, scoring)
                    found, counts = read(reply, server.url)
                    used = sum(counts)
                    server.avoid_until = 0.0
                    self._answered[scoring] += 1
                    return found, _sum(spent, counts)
                except FailedError as e:
                    failed = e
                    used, spent = sum(e.counts), _sum(spent, e.counts)
                except _RefusedError as e:
                    if not await self._answers_others(run, scoring):
                        raise
                    raise UnansweredError(e.reason, "filtered", spent) from None
                finally:
                    server.in_flight -= 1
                    self._tokens.correct(used - estimate)
            alike += failed.tries is not None
            most = min(self.how.retries + 1, failed.tries or self.how.retries + 1)
            if failed.finish is None:
                now = time.monotonic()
                server.avoid_until = now + self.how.cooldown
                if failed.wait is not None:
                    server.not_before = max(server.not_before, now + failed.wait)
            if tries > self.how.retries or (failed.tries is not None and alike >= failed.tries):
                break
            if not run.told:
                run.told = True
                _log.warning("%s: %s; such calls are tried up to %d times", server.url, failed.reason, most)
            now = time.monotonic()
            elsewhere = any(max(s.not_before, s.avoid_until) <= now for s in self._servers)
            if failed.wait is None and (failed.finish is not None or not elsewhere):
                await asyncio.sleep(self._backoff(tries) * self._luck.uniform(0.5, 1.0))
        if failed.finish is not None:
            raise UnansweredError(failed.reason, failed.finish, spent)
        if failed.of_call and self._answered[scoring] > answered:  # the server is well, but for this call
            raise UnansweredError(f"{failed.reason}, after {tries} tries", "failed", spent)
        after = f", after {tries} tries" if tries > 1 else ""
        raise GoldError(f"generator {self.how.model!r} at {server.url}: {failed.reason}{after}; {failed.advice}")

    async def _answers_others(self, run: Run, scoring: bool) -> bool:
        """Whether calls are answered while one is refused; waits until that is known."""
        run.refused += 1
        try:
            while not self._answered[scoring] and run.refused < sum(server.in_flight for server in self._servers):
                await asyncio.sleep(_LOOK)
            return bool(self._answered[scoring])
        finally:
            run.refused -= 1

    def _backoff(self, tries: int) -> float:
        return min(_LONGEST_BACKOFF, self.how.backoff * 2.0 ** min(tries - 1, 16))

    async def _next_server(self, run: Run, tokens: int, tries: int) -> _Server:
        """Waits until a call may be made, and says where: where nothing failed lately and least is in flight."""
        while True:
            now = time.monotonic()
            wait = min(s.not_before for s in self._servers) - now
            if wait > self.how.max_wait:
                url = min(self._servers, key=lambda s: s.not_before).url
                raise GoldError(
                    f"generator {self.how.model!r} at {url}: it asks to wait {wait:.0f} s; "
                    f"start again later, or raise {_KEY}max_wait (now {self.how.max_wait:g})"
                )
            if wait > 0:  # not all at the same moment, or they are turned away again
                await asyncio.sleep(wait + self._backoff(tries) * self._luck.random())
                continue
            async with run.turn:
                for pace, amount in ((self._requests, 1), (self._tokens, tokens)):
                    while (wait := pace.take(amount)) > 0:
                        await asyncio.sleep(min(wait, 0.25))  # a correction may make it shorter
            now = time.monotonic()
            ready = [s for s in self._servers if s.not_before <= now]
            if ready:
                rested = [s for s in ready if s.avoid_until <= now]
                if rested:
                    return min(rested, key=lambda s: (s.in_flight, s.begun))
                return min(ready, key=lambda s: s.avoid_until)

    async def _try(self, run: Run, server: _Server, path: str, content: bytes, scoring: bool) -> Mapping[str, Any]:
        """One call.

        Raises:
            FailedError: It may do better next time.
            GoldError: It will not.
        """
        import httpx

        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if run.key:
            bearer = "Bearer " if self.how.api_key_header.lower() == "authorization" else ""
            headers[self.how.api_key_header] = f"{bearer}{run.key}"
        begin = f"generator {self.how.model!r} at {server.url}"
        up = f"is it up, and is {_KEY}base_url right?"
        way = self._way(server)
        try:
            async with asyncio.timeout(self.how.timeout):
                url = f"{server.url}{path}{server.address.query}"
                answer = await run.client.post(url, content=content, headers=headers)
        except TimeoutError:
            raise_it = f"raise {_KEY}timeout, or {up}"
            failed = FailedError(f"no whole answer within {self.how.timeout:g} s", raise_it, of_call=True)
        except httpx.InvalidURL:
            raise GoldError(f"{begin}: no address that can be called; look at {_KEY}base_url") from None
        except httpx.RequestError as e:
            said = self._say(str(e), run.key)
            if "CERTIFICATE_VERIFY_FAILED" in said:
                variable = certificate_variable()
                now = f" (now {os.environ[variable]!r})" if variable else ""
                raise GoldError(
                    f"{begin}: {said}; set {variable or 'SSL_CERT_FILE'} to its certificates{now}"
                ) from None
            if "WRONG_VERSION_NUMBER" in said:
                raise GoldError(f"{begin}: {said}; no TLS is spoken there: write {_KEY}base_url with http://") from None
            if way and isinstance(e, httpx.ProxyError) and re.match("40[37]", said):
                raise GoldError(f"{begin}: {way[0]} refuses the way ({said}); {way[1]}") from None
            if way:
                reason = f"{type(e).__name__} on the way through {way[0]}{': ' if said else ''}{said}"
                failed = FailedError(reason, f"is the proxy up? {way[1]}")
            else:
                # A name that is not known hardly will be; other URLs are tried meanwhile.
                tries = 3 if re.search("not known|nodename nor servname|getaddrinfo failed", said) else None
                reached = not isinstance(e, httpx.ConnectError | httpx.ConnectTimeout)
                reason = f"{type(e).__name__}{': ' if said else ''}{said}"
                failed = FailedError(reason, up, tries=tries, of_call=reached)
        else:
            return self._read(answer, server, run, scoring)
        raise failed

    def _way(self, server: _Server) -> tuple[str, str] | None:
        """The proxy on the way to a server, and what to do if it is none that should be there."""
        proxy = proxy_for(server.url)
        if proxy is None:
            return None
        host = urlsplit(server.url).hostname or ""
        where = "an address of this machine needs none" if is_here(host) else "if the server needs none"
        return f"the proxy {proxy.shown} ({proxy.variable})", f"{where}: put {host} into NO_PROXY"

    def _read(self, answer: httpx.Response, server: _Server, run: Run, scoring: bool) -> Mapping[str, Any]:
        """An answer's JSON, if it is what was asked for."""
        status, text = answer.status_code, _text(answer)
        data = _parsed(text)
        error = read_error(status, data, text)
        if error is None:
            if isinstance(data, dict):
                return data
            streams = bool(_STREAM.match(text))
            look = f"set {_KEY}extra: {{stream: false}}" if streams else f"is {_KEY}base_url right?"
            said = f": {printable(self._say(text, run.key), 80)}" if text.strip() and not streams else ""
            # What is torn may be whole the next time; a stream, or another thing than an object, hardly.
            tries = None if not text.strip() or text.lstrip()[0] in "{[<" else 2
            raise FailedError(f"an answer that is no JSON object{said}", look, tries=tries, of_call=True)
        if run.key and run.key in text:  # some servers repeat what they were given
            text = text.replace(run.key, "***")
            error = read_error(status, _parsed(text), text) or error
        if error.kind == "redirect" and (place := answer.headers.get("location")):
            error = replace(error, said=self._say(f"to {urljoin(str(answer.url), place)}", run.key))
        raise self._refusal(error, server, scoring, retry_after(answer.headers.get("retry-after")))

    def refusal(self, error: ServerError, url: str, scoring: bool = False) -> Exception:
        """What an error in an answer of the server at a URL comes to, as an exception to raise."""
        server = next(server for server in self._servers if server.url == url)
        return self._refusal(error, server, scoring, None)

    def _refusal(self, error: ServerError, server: _Server, scoring: bool, wait: float | None) -> Exception:
        """What an error comes to: a new try, a request without an answer, or the end of the run."""
        good = 200 <= error.status < 300
        what = f"HTTP {error.status}{' with an error' if good else ''}" + (f": {error.said}" if error.said else "")
        way = self._way(server)
        if way and (error.status in (407, 502, 503, 504) or "HTML" in error.said):
            what += f" (on the way through {way[0]})"
        if error.kind == "filtered":
            return UnansweredError(what, "filtered", (0, 0))
        if error.kind == "busy":
            look = "is the server well?"
            if error.status == 429:
                look = f"lower {_KEY}concurrency, or set {_KEY}requests_per_minute and tokens_per_minute"
            elif way:
                look = f"is the proxy up, and the server well? {way[1]}"
            broken = error.status in _BROKEN
            return FailedError(what, look, wait if wait is not None else error.wait, of_call=broken)
        how = self.how
        proxy = proxy_for(server.url)
        asked = Interface(
            server.url,
            how.form,
            how.system,
            how.api_key_env,
            how.api_key_header,
            scoring,
            proxy.variable if proxy else "",
        )
        look = advice(error, asked)
        if not error.coded:  # nobody says that it cannot heal; but it hardly will
            return FailedError(what, look, tries=2, of_call=True)
        message = f"generator {how.model!r} at {server.url}: {what}; {look}"
        return _RefusedError(message, what) if error.of_prompt else GoldError(message)

    def _say(self, text: str, key: str) -> str:
        """What was said: one short line, without the key and without credentials in a URL."""
        text = text.replace(key, "***") if key else text
        return printable(re.sub(r"//[^/@\s]+@", "//***@", text))


def _text(answer: httpx.Response) -> str:
    """An answer's text: in the encoding of JSON that its bytes show, else in the one that its header names."""
    content = answer.content
    with contextlib.suppress(UnicodeDecodeError):
        return content.decode(json.detect_encoding(content))
    try:
        return content.decode(answer.charset_encoding or "utf-8", "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _sum(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    return first[0] + second[0], first[1] + second[1]
