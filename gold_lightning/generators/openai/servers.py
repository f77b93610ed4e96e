"""Calls to one or several servers until each is answered: pace, slots, retries, and the choice of the next server."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from gold_lightning.errors import GoldError
from gold_lightning.generators.openai.http_call import (
    CallSettings,
    FailedError,
    HTTPCall,
    RefusedError,
    UnansweredError,
)
from gold_lightning.generators.openai.http_client import Address, open_client
from gold_lightning.generators.openai.pacing import Pace

if TYPE_CHECKING:
    from gold_lightning.generators.openai.server_errors import ServerError

__all__ = ["Run", "Servers"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_KEY = "data.generator.init_args."
_MAX_BACKOFF = 30.0  # seconds
_GREETING = "Hello."
_MOST_REFUSED = 3  # prompts that are refused, and the greeting too, before the settings are to blame
_NEWEST = 0.2  # weight of the newest call in a server's average latency
_BUSY = 0.9  # exponent of the calls in flight: 0 for servers with room, 1 for busy ones
_REMEMBERED = 120.0  # seconds for which a server's latency counts
_POLL_SECONDS = 0.02  # between two looks at whether another call was answered


@dataclass
class _Server:
    """One base URL. Times are seconds of the monotonic clock."""

    address: Address
    started: int = 0  # calls
    in_flight: int = 0
    not_before: float = 0.0  # the server asked for this (Retry-After): no call is made earlier
    avoid_until: float = 0.0  # a call failed: until then other servers are preferred
    latency: float = 0.0  # seconds of a call, averaged over recent ones
    crowd: float = 1.0  # calls in flight when one began, itself among them, averaged likewise
    answered: float = -math.inf  # when the last call was

    @property
    def url(self) -> str:
        return self.address.base

    def note_answer(self, began: float, crowd: int) -> None:
        """Notes that a call is answered, by the time at which it began and the calls in flight then."""
        now = time.monotonic()
        weight = _NEWEST if self.is_known(now) else 1.0
        self.latency += weight * (now - began - self.latency)
        self.crowd += weight * (crowd - self.crowd)
        self.answered = now

    def wait(self, usual: float) -> float:
        """Estimates when a further call would be answered, in a unit that all servers share.

        Latency over calls in flight is the time that a busy server takes for each (Little's law). A server with room
        takes the latency however many there are, and would look the faster the more it has: the exponent below 1 has
        calls spread evenly over such servers.

        Args:
            usual: The estimate for a call in flight of a server about which nothing is known.
        """
        each = self.latency / self.crowd**_BUSY if self.is_known(time.monotonic()) else usual
        return (self.in_flight + 1) * each

    def is_known(self, now: float) -> bool:
        """Whether its latency is known: what it was minutes ago does not count."""
        return now - self.answered < _REMEMBERED


def _soonest(servers: Sequence[_Server]) -> _Server:
    """Returns the server that should answer a further call first."""
    now = time.monotonic()
    # A server about which nothing is known counts as the fastest, so that it is tried.
    usual = min((s.wait(0.0) / (s.in_flight + 1) for s in servers if s.is_known(now)), default=1.0)
    return min(servers, key=lambda s: (s.wait(usual), s.started))


@dataclass
class Run:
    """State shared by the calls of one batch, on the batch's event loop."""

    http: HTTPCall
    slots: asyncio.Semaphore
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # calls wait for the pace in the order they came
    has_warned: bool = False  # about retries
    refused: int = 0  # refused calls that wait to see whether others are answered
    calls: int = 0  # calls that are under way or wait for a slot
    set_aside: int = 0  # refused calls, after the greeting was refused too, that let others have their slots
    greeted: dict[bool, bool] = field(default_factory=dict)  # whether the server answers a greeting; by scoring
    greeting: asyncio.Lock = field(default_factory=asyncio.Lock)


class Servers:
    """One or several servers of the same model.

    Args:
        addresses: Their addresses.
        settings: Settings of calls.
    """

    def __init__(self, addresses: Sequence[Address], settings: CallSettings) -> None:
        self.settings = settings
        self._servers = [_Server(address) for address in addresses]
        self._requests, self._tokens = Pace(settings.requests_per_minute), Pace(settings.tokens_per_minute)
        self._answered = {False: 0, True: 0}  # number of answered calls: for texts, and for likelihoods
        self._random = random.Random()  # for waits alone: drawing from the global one would change other draws

    @property
    def urls(self) -> list[str]:
        """Base URLs."""
        return [server.url for server in self._servers]

    def connect(self) -> Run:
        """Opens a client for the calls of a batch.

        Raises:
            GoldError: The key is not set, or the environment names a proxy or certificates that cannot be used.
        """
        key = self.settings.read_key()
        client = open_client(self.urls, self.settings.connect_timeout, self.settings.concurrency)
        return Run(HTTPCall(client, key, self.settings), asyncio.Semaphore(self.settings.concurrency))

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
            run: State of the batch.
            path: Path below the base URL.
            body: The call.
            estimate: Tokens that it may use, prompt and completion.
            read: Turns the reply's JSON and the server's URL into a result and the tokens used; raises
                :class:`FailedError` if the reply holds no answer.
            scoring: Whether the call requests likelihoods of labels.

        Returns:
            The result of ``read``, and the tokens of all tries.

        Raises:
            GoldError: The call cannot be answered, or its tries are spent.
            UnansweredError: It stays without an answer, while others are answered.
        """
        run.calls += 1
        try:
            return await self._call(run, path, body, estimate, read, scoring)
        finally:
            run.calls -= 1

    async def _call(
        self,
        run: Run,
        path: str,
        body: Mapping[str, Any],
        estimate: int,
        read: Callable[[Mapping[str, Any], str], tuple[_T, tuple[int, int]]],
        scoring: bool,
    ) -> tuple[_T, tuple[int, int]]:
        content = json.dumps(body).encode()  # ASCII, so that a lone surrogate in a prompt can be sent
        used, tries, limited_tries = (0, 0), 0, 0  # limited: failures that have a maximum of their own
        answered_before = self._answered[scoring]
        while True:
            tries += 1
            refusal: RefusedError | None = None
            answered = False
            async with run.slots:
                server = await self._next_server(run, estimate, tries)
                if tries == 1:
                    answered_before = self._answered[scoring]
                server.started += 1
                server.in_flight += 1
                began, crowd = time.monotonic(), server.in_flight
                tokens = 0
                try:
                    result, counts = read(await run.http.post(server.address, path, content, scoring), server.url)
                    tokens = sum(counts)
                    server.avoid_until = 0.0
                    server.note_answer(began, crowd)
                    self._answered[scoring] += 1
                    return result, _add(used, counts)
                except FailedError as e:
                    failure = e
                    tokens, used = sum(e.counts), _add(used, e.counts)
                except RefusedError as e:
                    refusal = e
                    answered = await self._answers_others(run, scoring)
                    if not answered and e.finish == "filtered":
                        answered = await self._greet(run, server, path, body, scoring)
                finally:
                    server.in_flight -= 1
                    self._tokens.correct(tokens - estimate)
            if refusal is not None:
                if answered or (refusal.finish == "filtered" and await self._answers_next(run, scoring)):
                    raise UnansweredError(refusal.reason, refusal.finish, used)
                raise refusal
            limited_tries += failure.tries is not None
            self._avoid(server, failure)
            if tries > self.settings.retries or (failure.tries is not None and limited_tries >= failure.tries):
                break
            if not run.has_warned:
                run.has_warned = True
                most = min(self.settings.retries + 1, failure.tries or self.settings.retries + 1)
                _log.warning("%s: %s; such calls are tried up to %d times", server.url, failure.reason, most)
            elsewhere = any(max(s.not_before, s.avoid_until) <= time.monotonic() for s in self._servers)
            if failure.wait is None and (failure.finish is not None or not elsewhere):
                await asyncio.sleep(self._backoff(tries) * self._random.uniform(0.5, 1.0))
        if failure.finish is not None:
            raise UnansweredError(failure.reason, failure.finish, used)
        after = f", after {tries} tries" if tries > 1 else ""
        answers_others = self._answered[scoring] > answered_before
        if failure.of_call and (answers_others or await self._greet(run, server, path, body, scoring)):
            raise UnansweredError(f"{failure.reason}{after}", "failed", used)
        raise GoldError(f"generator {self.settings.model!r} at {server.url}: {failure.reason}{after}; {failure.advice}")

    def refusal(self, run: Run, error: ServerError, url: str) -> Exception:
        """The exception for an error within a reply of the server at a URL; see :meth:`HTTPCall.refusal`."""
        address = next(server.address for server in self._servers if server.url == url)
        return run.http.refusal(error, address)

    def _avoid(self, server: _Server, failure: FailedError) -> None:
        if failure.finish is not None:  # the server works, but has no answer
            return
        time_now = time.monotonic()
        server.avoid_until = time_now + self.settings.cooldown
        if failure.wait is not None:
            server.not_before = max(server.not_before, time_now + failure.wait)

    async def _answers_others(self, run: Run, scoring: bool) -> bool:
        """Whether other calls are answered while one is refused; waits until that is known."""
        run.refused += 1
        try:
            while not self._answered[scoring] and run.refused < sum(server.in_flight for server in self._servers):
                await asyncio.sleep(_POLL_SECONDS)
            return bool(self._answered[scoring])
        finally:
            run.refused -= 1

    async def _answers_next(self, run: Run, scoring: bool) -> bool:
        """Whether a next prompt is answered while this one and a greeting are refused, with its slot for others.

        A server may refuse a greeting that lacks a word which all prompts have, as JSON in a call for JSON.
        """
        run.set_aside += 1
        while not self._answered[scoring] and run.set_aside < min(_MOST_REFUSED, run.calls):
            await asyncio.sleep(_POLL_SECONDS)
        return bool(self._answered[scoring])

    async def _greet(self, run: Run, server: _Server, path: str, body: Mapping[str, Any], scoring: bool) -> bool:
        """Whether the server answers a greeting sent with the settings of a call that it did not answer.

        The answer tells a prompt that the server takes offence at from a setting that it does not accept. It is
        requested once in a batch, and only if no other call has been answered.
        """
        async with run.greeting:
            if scoring not in run.greeted:
                try:
                    await run.http.post(server.address, path, json.dumps(_greeting(body)).encode(), scoring)
                except (FailedError, GoldError, UnansweredError):
                    run.greeted[scoring] = False
                else:
                    run.greeted[scoring] = True
            return run.greeted[scoring]

    def _backoff(self, tries: int) -> float:
        return min(_MAX_BACKOFF, self.settings.backoff * 2.0 ** min(tries - 1, 16))

    async def _next_server(self, run: Run, tokens: int, tries: int) -> _Server:
        """Waits until a call may be made; prefers servers without recent failures, then the soonest to answer."""
        while True:
            time_now = time.monotonic()
            wait = min(s.not_before for s in self._servers) - time_now
            if wait > self.settings.max_wait:
                url = min(self._servers, key=lambda s: s.not_before).url
                raise GoldError(
                    f"generator {self.settings.model!r} at {url}: it asks to wait {wait:.0f} s; "
                    f"start again later, or raise {_KEY}max_wait (now {self.settings.max_wait:g})"
                )
            if wait > 0:  # with a random part: calls that return together are turned away again
                await asyncio.sleep(wait + self._backoff(tries) * self._random.random())
                continue
            async with run.turn:
                for pace, amount in ((self._requests, 1), (self._tokens, tokens)):
                    while (wait := pace.take(amount)) > 0:
                        await asyncio.sleep(min(wait, 0.25))  # a correction may shorten it
            time_now = time.monotonic()
            ready = [s for s in self._servers if s.not_before <= time_now]
            if ready:
                healthy = [s for s in ready if s.avoid_until <= time_now]
                if healthy:
                    return _soonest(healthy)
                return min(ready, key=lambda s: s.avoid_until)


def _greeting(body: Mapping[str, Any]) -> dict[str, Any]:
    """A call as another, with a greeting for its prompt; the system message stays."""
    if "messages" not in body:
        return {**body, "prompt": _GREETING}
    messages = [m if m["role"] == "system" else {**m, "content": _GREETING} for m in body["messages"]]
    return {**body, "messages": messages}


def _add(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    return first[0] + second[0], first[1] + second[1]
