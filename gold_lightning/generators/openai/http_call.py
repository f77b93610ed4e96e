"""One HTTP call to a server: sends it, and turns whatever comes back into JSON or an error that says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators.base import Finish
from gold_lightning.generators.openai.http_client import Address, certificate_variable, is_here, proxy_for
from gold_lightning.generators.openai.parse_response import printable, retry_after
from gold_lightning.generators.openai.server_errors import Interface, ServerError, advice, read_error

if TYPE_CHECKING:
    import httpx

__all__ = ["CallSettings", "FailedError", "HTTPCall", "RefusedError", "UnansweredError"]

_KEY = "data.generator.init_args."
_RESERVED_HEADERS = ("accept", "content-length", "content-type", "host", "transfer-encoding", "connection")
_EVENT_STREAM = re.compile(r"\s*(data|event|id|retry)?:")  # server-sent events; their comments begin with a colon
_BROKEN = (500, 502, 504)  # statuses of a server that breaks on one call, or on all
_ANSWER_TRIES = 3  # for a reply without an answer: a filter's verdict stays the same


class FailedError(Exception):
    """A call that may succeed when tried again.

    Args:
        reason: What happened.
        advice: What to change if it keeps happening.
        wait: Seconds that the server asked to wait; ``None`` if it did not.
        tries: Maximum number of tries of such a call; ``None`` for the setting.
        finish: How the request counts once its tries are spent; ``None`` if that ends the run.
        counts: Tokens of prompt and completion that the failed try used.
        of_call: Whether the failure may concern this call alone, on a server that works otherwise.
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
        """A reply without an answer, from a server that works otherwise."""
        return cls(reason, tries=tries, finish=finish, counts=counts)


class RefusedError(GoldError):
    """A refusal that may concern one prompt: it ends the run unless other prompts are answered.

    Args:
        message: The message that ends the run.
        reason: The server's own words.
        finish: How the request counts if others are answered. A greeting counts as another only for ``filtered``: it is
            shorter than any prompt.
    """

    def __init__(self, message: str, reason: str, finish: Finish = "filtered") -> None:
        super().__init__(message)
        self.reason, self.finish = reason, finish


class UnansweredError(Exception):
    """A request that stays without an answer, while others are answered.

    Args:
        reason: The server's own words.
        finish: How the request counts.
        counts: Tokens of prompt and completion that all its tries used.
    """

    def __init__(self, reason: str, finish: Finish, counts: tuple[int, int]) -> None:
        super().__init__(reason)
        self.reason, self.finish, self.counts = reason, finish, counts


@dataclass(frozen=True)
class CallSettings:
    """Settings of calls; :class:`OpenAIGenerator` documents each."""

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
        for name, minimum in (("concurrency", 1), ("retries", 0)):
            if getattr(self, name) < minimum:
                raise ConfigError(_KEY + name, getattr(self, name), f"{minimum} or more")
        for name in ("connect_timeout", "timeout"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds > 0):
                raise ConfigError(_KEY + name, seconds, "a finite number of seconds above 0")
        for name in ("backoff", "max_wait", "cooldown", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(_KEY + name, value, "a finite number, 0 or more")
        # A key written here by mistake must not appear in an error message or a log.
        if self.api_key_env and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):
            allowed = "the name of an environment variable in capitals, as OPENAI_API_KEY"
            raise ConfigError(_KEY + "api_key_env", "(not shown)", allowed, "never write a key into a config")
        header = self.api_key_header
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,39}", header) or header.lower() in _RESERVED_HEADERS:
            allowed = "the name of a header, as Authorization or api-key"
            raise ConfigError(_KEY + "api_key_header", "(not shown)", allowed, "a key comes from the environment")

    def read_key(self) -> str:
        """The API key from the environment, which is stored nowhere else; "" if none is sent.

        Raises:
            GoldError: The variable is not set, or holds something that is no key.
        """
        name = self.api_key_env
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
                f"{_KEY}api_key_env: the environment variable {name} contains characters that no key has; "
                "set it to the key alone"
            )
        return key


class HTTPCall:
    """Calls of one batch, each a single try.

    Args:
        client: The HTTP client.
        key: The API key; "" to send none.
        settings: Settings of calls.
    """

    def __init__(self, client: httpx.AsyncClient, key: str, settings: CallSettings) -> None:
        self.client, self.settings, self._key = client, settings, key

    async def post(self, address: Address, path: str, content: bytes, scoring: bool) -> Mapping[str, Any]:
        """Sends a call.

        Args:
            address: The server.
            path: Path below the base URL.
            content: The call's JSON.
            scoring: Whether it requests likelihoods of labels.

        Returns:
            The reply's JSON object.

        Raises:
            FailedError: The call may succeed when tried again.
            GoldError: It will not.
        """
        import httpx

        settings = self.settings
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            bearer = "Bearer " if settings.api_key_header.lower() == "authorization" else ""
            headers[settings.api_key_header] = f"{bearer}{self._key}"
        check_url = f"is it up, and is {_KEY}base_url right?"
        try:
            async with asyncio.timeout(settings.timeout):
                url = f"{address.base}{path}{address.query}"
                response = await self.client.post(url, content=content, headers=headers)
        except TimeoutError:
            reason = f"no complete answer within {settings.timeout:g} s"
            raise FailedError(reason, f"raise {_KEY}timeout, or {check_url}", of_call=True) from None
        except httpx.InvalidURL:
            begin = f"generator {settings.model!r} at {address.base}"
            raise GoldError(f"{begin}: this is not a valid address; check {_KEY}base_url") from None
        except httpx.RequestError as e:
            raise self._connection_error(e, address, check_url) from None
        return self._read(response, address, scoring)

    def refusal(
        self, error: ServerError, address: Address, scoring: bool = False, wait: float | None = None
    ) -> Exception:
        """The exception for an error in a server's reply: for a new try, a lost request, or the end of the run.

        Args:
            error: The error.
            address: The server.
            scoring: Whether the call requested likelihoods of labels.
            wait: Seconds that the reply's header asks to wait.
        """
        settings = self.settings
        good = 200 <= error.status < 300
        reason = f"HTTP {error.status}{' with an error' if good else ''}" + (f": {error.said}" if error.said else "")
        proxy = _proxy_advice(address)
        if proxy and (error.status in (407, 502, 503, 504) or "HTML" in error.said):
            reason += f" (through {proxy[0]})"
        if error.kind == "filtered":
            return UnansweredError(reason, "filtered", (0, 0))
        if error.kind == "busy":
            action = "is the server well?"
            if error.status == 429:
                action = f"lower {_KEY}concurrency, or set {_KEY}requests_per_minute and tokens_per_minute"
            elif proxy:
                action = f"is the proxy up, and the server well? {proxy[1]}"
            return FailedError(
                reason, action, wait if wait is not None else error.wait, of_call=error.status in _BROKEN
            )
        on_the_way = proxy_for(address.base)
        interface = Interface(
            address.base,
            settings.form,
            settings.system,
            settings.api_key_env,
            settings.api_key_header,
            scoring,
            on_the_way.variable if on_the_way else "",
        )
        action = advice(error, interface)
        if not error.coded:  # no status or code says that it is permanent, though it probably is
            return FailedError(reason, action, tries=2, of_call=True)
        message = f"generator {settings.model!r} at {address.base}: {reason}; {action}"
        if error.kind == "too_long":
            return RefusedError(message, reason, "failed")
        return RefusedError(message, reason) if error.of_prompt else GoldError(message)

    def _connection_error(self, error: httpx.RequestError, address: Address, check_url: str) -> Exception:
        import httpx

        begin = f"generator {self.settings.model!r} at {address.base}"
        said = self._one_line(str(error))
        if "CERTIFICATE_VERIFY_FAILED" in said:
            variable = certificate_variable()
            current = f" (now {os.environ[variable]!r})" if variable else ""
            return GoldError(f"{begin}: {said}; set {variable or 'SSL_CERT_FILE'} to its certificates{current}")
        if "WRONG_VERSION_NUMBER" in said:
            return GoldError(f"{begin}: {said}; the server does not use TLS: write {_KEY}base_url with http://")
        proxy = _proxy_advice(address)
        if proxy and isinstance(error, httpx.ProxyError) and re.match("40[37]", said):
            return GoldError(f"{begin}: {proxy[0]} refuses the connection ({said}); {proxy[1]}")
        cause = f": {said}" if said else ""
        if proxy:
            reason = f"{type(error).__name__} through {proxy[0]}{cause}"
            return FailedError(reason, f"is the proxy up? {proxy[1]}")
        # An unknown host rarely becomes known; other URLs are tried meanwhile.
        tries = 3 if re.search("not known|nodename nor servname|getaddrinfo failed", said) else None
        reached = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        return FailedError(f"{type(error).__name__}{cause}", check_url, tries=tries, of_call=reached)

    def _read(self, response: httpx.Response, address: Address, scoring: bool) -> Mapping[str, Any]:
        status, text = response.status_code, _text(response)
        data = _parsed(text)
        error = read_error(status, data, text)
        if error is None:
            if isinstance(data, dict):
                return data
            streams = bool(_EVENT_STREAM.match(text))
            action = f"set {_KEY}extra: {{stream: false}}" if streams else f"is {_KEY}base_url right?"
            said = f": {printable(self._one_line(text), 80)}" if text.strip() and not streams else ""
            # A torn object may be complete the next time; an event stream or a plain text stays what it is.
            tries = None if not text.strip() or text.lstrip()[0] in "{[<" else 2
            raise FailedError(f"an answer that is not a JSON object{said}", action, tries=tries, of_call=True)
        if self._key and self._key in text:  # some servers repeat the key
            text = text.replace(self._key, "***")
            error = read_error(status, _parsed(text), text) or error
        if error.kind == "redirect" and (location := response.headers.get("location")):
            error = replace(error, said=self._one_line(f"to {urljoin(str(response.url), location)}"))
        raise self.refusal(error, address, scoring, retry_after(response.headers.get("retry-after")))

    def _one_line(self, text: str) -> str:
        """A message as one short line, without the key and without credentials in a URL."""
        text = text.replace(self._key, "***") if self._key else text
        return printable(re.sub(r"//[^/@\s]+@", "//***@", text))


def _proxy_advice(address: Address) -> tuple[str, str] | None:
    """The proxy between this machine and a server, and how to go without it."""
    proxy = proxy_for(address.base)
    if proxy is None:
        return None
    host = urlsplit(address.base).hostname or ""
    condition = "an address of this machine needs none" if is_here(host) else "if the server needs none"
    return f"the proxy {proxy.shown} ({proxy.variable})", f"{condition}: put {host} into NO_PROXY"


def _text(response: httpx.Response) -> str:
    """A reply's text, in the JSON encoding that its bytes show or else in the one named by its header."""
    content = response.content
    with contextlib.suppress(UnicodeDecodeError):
        return content.decode(json.detect_encoding(content))
    try:
        return content.decode(response.charset_encoding or "utf-8", "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
