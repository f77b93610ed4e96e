"""Any server that speaks OpenAI's HTTP interface: vLLM, llama.cpp, transformers serve, or a paid one.

A batch is answered on an event loop in a thread of its own, so that it may be asked for from anywhere, with or
without a loop there, and its completions are given as they come. What a failing call costs is time, never a
sample: it is asked again, elsewhere where there is an elsewhere, until it is answered or its tries are spent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from gold_lightning.errors import ConfigError, GoldError, require
from gold_lightning.generators.base import Completion, Generator, Request, telling
from gold_lightning.generators.calls import Pace, certificates, drive, together
from gold_lightning.generators.replies import (
    Scored,
    at_path,
    echo_scores,
    finish_reason,
    first_choice,
    is_number,
    is_object,
    last_tokens,
    printable,
    prompt_scores,
    retry_after,
    without_beginning,
)

if TYPE_CHECKING:
    import httpx

__all__ = ["OpenAIGenerator"]

_log = logging.getLogger(__name__)
_KEY = "data.generator.init_args."
_BYTES_PER_TOKEN = 4  # of English under a large vocabulary; only estimates stand on it
_LONGEST_BACKOFF = 30.0  # seconds
_CLOSING = 5.0  # seconds that an iterator which is closed waits for its connections to close
_MOST_STOPS = 4  # the interface takes no more; what is beyond is cut off here
_TOP = 20  # of how many first tokens the interface tells the likelihood
_TOO_LONG = re.compile(
    r"context.?(length|size|window)|max\w* (model|context|sequence) len|longer than the max|prompt is too long"
    r"|too many tokens|must have less than|must be <=",
    re.IGNORECASE,
)


@dataclass
class _Server:
    """One base URL. Times are seconds of the monotonic clock."""

    url: str
    begun: int = 0
    in_flight: int = 0
    not_before: float = 0.0  # it asked for this (Retry-After): nobody calls
    avoid_until: float = 0.0  # it failed: others are taken where there are some


class _FailedError(Exception):
    """A call that may do better next time.

    Args:
        reason: What happened.
        advice: What to change where it happens again and again.
        wait: Seconds that the server asked to wait; ``None`` where it did not.
    """

    def __init__(self, reason: str, advice: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.advice, self.wait = reason, advice, wait


@dataclass
class _Run:
    """What the calls of one batch share. Lives on the batch's event loop."""

    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    key: str = field(repr=False)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # calls wait for their share in the order they came
    told: bool = False  # whether it was said that calls are tried again


class OpenAIGenerator(Generator):
    """A model behind one or several OpenAI-compatible servers.

    Args:
        model: Name of the model, as the server knows it.
        base_url: Where the interface begins, mostly with ``/v1`` at its end; or a list of such, over which calls
            are spread. Never holds a key.
        form: ``chat`` sends messages to ``/chat/completions``, ``completion`` plain text to ``/completions``.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_p: Samples from the smallest set of tokens with at least this probability.
        schema: ``json_schema`` has the server write JSON objects of the task's schema; ``off`` leaves it to the
            instruction and the demos.
        continue_answer: Whether the server goes on with a last assistant message, as vLLM does. Of ``chat`` alone.
        extra: Further members of each call, as ``{top_k: 50}``; one that is null takes that member out.
        api_key_env: Name of the environment variable that holds the key, never the key. Left out, none is sent.
        batch_size: How many requests it likes to get at once.
        concurrency: Most calls in flight, over all URLs.
        connect_timeout: Seconds to connect.
        timeout: Seconds for a whole call, however much of the answer has come by then.
        retries: How often a call that failed is tried again.
        backoff: Seconds before the first new try, less a random part; they double from try to try, up to 30.
        max_wait: Most seconds to wait where a server asks for it; one that asks for more ends the run in order.
        cooldown: Seconds for which a URL that failed is left to rest while others answer.
        requests_per_minute: Most calls a minute, over all URLs; 0 for no limit.
        tokens_per_minute: Most tokens a minute, of prompts and completions; 0 for no limit.
        max_context: Tokens that the model takes, prompt and completion together; a request that is longer by our
            estimate (4 bytes a token) is not sent. 0 leaves that to the server.
        max_tokens_field: What the server calls the most tokens to write.
    """

    def __init__(
        self,
        model: str,
        base_url: str | list[str],
        form: Literal["chat", "completion"] = "chat",
        temperature: float = 0.9,
        top_p: float = 1.0,
        schema: Literal["off", "json_schema"] | bool = "off",
        continue_answer: bool = False,
        extra: dict[str, Any] | None = None,
        api_key_env: str = "",
        batch_size: int = 64,
        concurrency: int = 16,
        connect_timeout: float = 10.0,
        timeout: float = 300.0,
        retries: int = 8,
        backoff: float = 0.5,
        max_wait: float = 300.0,
        cooldown: float = 10.0,
        requests_per_minute: float = 0.0,
        tokens_per_minute: float = 0.0,
        max_context: int = 0,
        max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
    ) -> None:
        if isinstance(schema, bool):  # what YAML makes of on and off
            schema = "json_schema" if schema else "off"
        closed: dict[str, tuple[str, tuple[str, ...]]] = {
            "form": (form, ("chat", "completion")),
            "schema": (schema, ("off", "json_schema")),
            "max_tokens_field": (max_tokens_field, ("max_tokens", "max_completion_tokens")),
        }
        for name, (chosen, allowed) in closed.items():
            if chosen not in allowed:
                raise ConfigError(_KEY + name, chosen, " or ".join(allowed))
        for name, count, least in (
            ("batch_size", batch_size, 1),
            ("concurrency", concurrency, 1),
            ("retries", retries, 0),
            ("max_context", max_context, 0),
        ):
            if count < least:
                raise ConfigError(_KEY + name, count, f"{least} or more")
        for name, seconds in (("connect_timeout", connect_timeout), ("timeout", timeout)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise ConfigError(_KEY + name, seconds, "a finite number of seconds above 0")
        for name, value in (
            ("temperature", temperature),
            ("backoff", backoff),
            ("max_wait", max_wait),
            ("cooldown", cooldown),
            ("requests_per_minute", requests_per_minute),
            ("tokens_per_minute", tokens_per_minute),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(_KEY + name, value, "a finite number, 0 or more")
        if not 0 < top_p <= 1:
            raise ConfigError(_KEY + "top_p", top_p, "a number above 0, at most 1")
        if not model:
            raise ConfigError(_KEY + "model", model, "the name of a model")
        if continue_answer and form != "chat":
            raise ConfigError(_KEY + "continue_answer", True, "false with form: completion, which always does")
        # Who writes the key itself here must not find it in an error message or a log.
        if api_key_env and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", api_key_env):
            allowed_name = "the name of an environment variable in capitals, as OPENAI_API_KEY"
            raise ConfigError(_KEY + "api_key_env", "(not shown)", allowed_name, "never write a key into a config")
        self.model, self.form, self.temperature, self.top_p = model, form, temperature, top_p
        self.base_url = [base_url] if isinstance(base_url, str) else list(base_url)
        self._servers = [_Server(_checked(url)) for url in self.base_url]
        if not self._servers:
            raise ConfigError(_KEY + "base_url", base_url, "one URL or more")
        self.schema, self.continue_answer, self.extra = schema, continue_answer, dict(extra or {})
        self.api_key_env, self.batch_size, self.concurrency = api_key_env, batch_size, concurrency
        self.connect_timeout, self.timeout = connect_timeout, timeout
        self.retries, self.backoff, self.max_wait, self.cooldown = retries, backoff, max_wait, cooldown
        self.max_context, self.max_tokens_field = max_context, max_tokens_field
        self._requests, self._tokens = Pace(requests_per_minute), Pace(tokens_per_minute)
        self._luck = random.Random()  # of waits alone: what is drawn here must not change what others draw
        self._counts_missing, self._schema_ignored = False, False

    def fingerprint(self) -> dict[str, Any]:
        names = ("model", "form", "temperature", "top_p", "schema", "continue_answer", "extra", "batch_size")
        return super().fingerprint() | {name: getattr(self, name) for name in names}

    def excess(self, requests: Sequence[Request]) -> list[int]:
        if not self.max_context:
            return super().excess(requests)
        over = []
        for request in requests:
            written = max((_estimate(c) for c in request.choices), default=request.max_tokens)
            over.append(max(0, _estimate(request.text) + written - self.max_context))
        return over

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        found = dict(self.stream(requests))
        return [found[at] for at in range(len(requests))]

    def check_installed(self) -> None:
        require("httpx", "openai")

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        if not requests:
            return
        if over := max(self.excess(requests)):
            raise GoldError(
                f"a prompt and what may follow are about {self.max_context + over} tokens, more than the "
                f"{self.max_context} tokens of {self.model} ({_KEY}max_context): show fewer or shorter demos "
                "(--data.plan.seed_demos)"
            )
        self.check_installed()
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self.concurrency)
        patience = httpx.Timeout(None, connect=self.connect_timeout)
        key = self._read_key()
        client = httpx.AsyncClient(timeout=patience, limits=limits, verify=certificates())
        # A thread for each batch: nothing outlives it, so that forked and pickled generators work as any other.
        given: queue.SimpleQueue[tuple[int, Completion] | BaseException] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._answer_all(list(requests), client, key, given.put))
        thread = threading.Thread(target=drive, args=(loop, task, given.put), name="openai", daemon=True)
        thread.start()
        try:
            for _ in requests:
                item = given.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is over
                loop.call_soon_threadsafe(task.cancel)
            thread.join(_CLOSING)

    def _read_key(self) -> str:
        """The key, straight from the environment; it is kept nowhere but in the batch's own calls."""
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise GoldError(
                f"{_KEY}api_key_env: the environment variable {self.api_key_env} is not set; "
                f"export {self.api_key_env}=..., or leave the setting out for a server without keys"
            )
        if not (key.isascii() and key.isprintable()):
            raise GoldError(
                f"{_KEY}api_key_env: the environment variable {self.api_key_env} holds characters that no key has; "
                "set it to the key alone"
            )
        return key

    async def _answer_all(
        self,
        requests: Sequence[Request],
        client: httpx.AsyncClient,
        key: str,
        give: Callable[[tuple[int, Completion]], None],
    ) -> None:
        async with client:
            run = _Run(client, asyncio.Semaphore(self.concurrency), key)

            async def one(at: int, request: Request) -> None:
                give((at, await (self._score if request.choices else self._write)(run, request)))

            await together([one(at, request) for at, request in enumerate(requests)])

    # What is asked

    async def _write(self, run: _Run, request: Request) -> Completion:
        """Has a text written."""
        follows = bool(request.schema) and self.schema == "json_schema"
        if follows:  # a whole object in place of what the answer begins; a line's end does not end it
            own = f"{request.own} Write it as one JSON object."
            request = replace(request, own=own, answer="", stop=(), lines=())
        repeats = self.form == "chat" and not self.continue_answer and bool(request.answer)
        # A reply that begins as it was told must not end within that beginning.
        stop = [s for s in request.stop if not (repeats and s in request.answer)]
        body = self._body(request, self._prompt(request), request.max_tokens)
        if stop:
            body["stop"] = stop[:_MOST_STOPS]
        if follows:
            shape = {"name": "sample", "strict": True, "schema": json.loads(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        text, reply, counts = await self._call(run, body, request)
        if repeats:
            text = without_beginning(text, request.answer)
        finish: Literal["stop", "length"] = "length" if finish_reason(reply, counts[1], request) == "length" else "stop"
        whole = is_object(text)
        if follows and not whole and finish == "stop" and not self._schema_ignored:
            self._schema_ignored = True
            _log.warning("an answer of %s is no JSON object: does its server follow %sschema?", self.model, _KEY)
        if not whole:
            begin = len(text) - len(text.lstrip()) if repeats else 0
            ends = [at for at in (text.find(s, begin) for s in request.stop) if at >= 0]
            if ends:
                text, finish = text[: min(ends)], "stop"
        return Completion(text, *counts, finish)

    async def _score(self, run: _Run, request: Request) -> Completion:
        """Asks for the log-likelihood of each choice, in the way that the form has.

        In plain text, and where the server goes on with an assistant's message, each choice stands at the end of a
        prompt whose likelihood the server tells. Else the likeliest first tokens of an answer are looked at.
        """
        request = replace(request, greedy=True)
        if self.form == "chat" and not self.continue_answer:
            names = [choice.strip() for choice in request.choices]
            own = f"{request.own}\n\nAnswer with one of these and nothing else: {', '.join(names)}"
            body = self._body(request, self._prompt(replace(request, own=own, answer="")), 1)
            body |= {"logprobs": True, "top_logprobs": _TOP}
            _, reply, counts = await self._call(run, body, request)
            first = at_path(at_path(reply, "logprobs", "content", 0), "top_logprobs")
            return Completion("", *counts, choice_log_probs=self._first_tokens(first, names))

        async def one(choice: str) -> tuple[list[Scored], tuple[int, int]]:
            asked = replace(request, answer=request.answer + choice)
            body = self._body(asked, self._prompt(asked), 1)
            body |= {"prompt_logprobs": 0} if self.form == "chat" else {"echo": True, "logprobs": 1}
            _, reply, counts = await self._call(run, body, request)
            scored = prompt_scores(reply) if self.form == "chat" else echo_scores(reply)
            return last_tokens(scored, choice), counts

        answers = await together([one(choice) for choice in request.choices])
        if not all(scored for scored, _ in answers):
            raise self._no_scores("its answers hold none for the prompt")
        kept = telling([[s.token for s in scored] for scored, _ in answers])
        sums = [sum(s.score for s in scored[: len(cut)]) for cut, (scored, _) in zip(kept, answers, strict=True)]
        prompt_tokens, completion_tokens = (sum(counts[i] for _, counts in answers) for i in (0, 1))
        return Completion("", prompt_tokens, completion_tokens, choice_log_probs=tuple(sums))

    def _first_tokens(self, first: Any, names: Sequence[str]) -> tuple[float, ...]:
        """Log-likelihood of each name by the first token of an answer.

        A name that is not among the likeliest tokens gets the least likelihood that is told, which is more than
        its own.
        """
        told = [(at_path(t, "token"), at_path(t, "logprob")) for t in first] if isinstance(first, list) else []
        tokens = [(t.strip().casefold(), float(p)) for t, p in told if isinstance(t, str) and is_number(p)]
        if not tokens:
            raise self._no_scores("its answers hold no top_logprobs")
        mass, shared = [0.0] * len(names), 0.0
        for token, p in tokens:
            fits = [i for i, name in enumerate(names) if token and name.casefold().startswith(token)]
            if len(fits) == 1:
                mass[fits[0]] += math.exp(p)
            elif fits:
                shared += math.exp(p)
        if shared > sum(mass):
            raise self._no_scores(f"the first token of its answers does not tell {' from '.join(names)}")
        least = min(p for _, p in tokens)
        return tuple(math.log(m) if m > 0 else least for m in mass)

    def _no_scores(self, why: str) -> GoldError:
        return GoldError(
            f"generator {self.model!r} at {self._servers[0].url}: no likelihoods of labels from this server "
            f"({printable(why)}); set data.plan.label_agreement to off, or take a server that gives them"
        )

    def _prompt(self, request: Request) -> dict[str, Any]:
        """The prompt as members of a call."""
        if self.form == "completion":
            return {"prompt": request.text}
        user = (request.shared + request.own).strip()
        messages = [{"role": "system", "content": request.system}] if request.system else []
        if not self.continue_answer or not request.answer:
            if request.answer and not request.choices:
                user += f"\n\nBegin your answer with:\n{request.answer}"
            return {"messages": [*messages, {"role": "user", "content": user}]}
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": request.answer}]
        return {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}

    def _body(self, request: Request, prompt: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
        """A call but for what is special about it."""
        sampling = {"temperature": 0.0} if request.greedy else {"temperature": self.temperature, "top_p": self.top_p}
        return {"model": self.model, **prompt, **sampling, "seed": request.seed, self.max_tokens_field: max_tokens}

    # How it is asked

    async def _call(
        self, run: _Run, body: dict[str, Any], request: Request
    ) -> tuple[str, Mapping[str, Any], tuple[int, int]]:
        """Makes a call until it is answered.

        Returns:
            The text, the reply's first choice with what the reply tells beside it, and the tokens of prompt and
            completion.

        Raises:
            GoldError: It cannot be answered, or its tries are spent.
        """
        body = {name: value for name, value in (body | self.extra).items() if value is not None}
        content = json.dumps(body).encode()  # ASCII: half a surrogate pair in a prompt is no reason to fall
        prompt = _estimate(request.text)
        written = body.get(self.max_tokens_field)
        estimate = prompt + (written if isinstance(written, int) else request.max_tokens)
        for tries in range(1, self.retries + 2):
            async with run.slots:
                server = await self._next_server(run, estimate, tries)
                server.begun += 1
                server.in_flight += 1
                used = 0
                try:
                    reply = await self._try(run, server, content, request)
                    found = first_choice(reply, self.form)
                    if found is None:
                        raise _FailedError("an answer without choices", f"look at {_KEY}model and form")
                    text, choice = found
                    counts = self._counts(reply, server, prompt, _estimate(text))
                    used = sum(counts)
                    server.avoid_until = 0.0
                    return text, choice, counts
                except _FailedError as e:
                    failed = e
                finally:
                    server.in_flight -= 1
                    self._tokens.correct(used - estimate)
            now = time.monotonic()
            server.avoid_until = now + self.cooldown
            if failed.wait is not None:
                server.not_before = max(server.not_before, now + failed.wait)
            if tries > self.retries:
                break
            if not run.told:
                run.told = True
                _log.warning("%s: %s; such calls are tried up to %d times", server.url, failed.reason, self.retries + 1)
            if failed.wait is None and not any(max(s.not_before, s.avoid_until) <= now for s in self._servers):
                await asyncio.sleep(self._backoff(tries) * self._luck.uniform(0.5, 1.0))
        raise GoldError(
            f"generator {self.model!r} at {server.url}: {failed.reason}, after {self.retries + 1} tries; "
            f"{failed.advice}"
        )

    def _backoff(self, tries: int) -> float:
        return min(_LONGEST_BACKOFF, self.backoff * 2.0 ** min(tries - 1, 16))

    async def _next_server(self, run: _Run, tokens: int, tries: int) -> _Server:
        """Waits until a call may be made, and says where: where nothing failed lately and least is in flight."""
        while True:
            now = time.monotonic()
            wait = min(s.not_before for s in self._servers) - now
            if wait > self.max_wait:
                url = min(self._servers, key=lambda s: s.not_before).url
                raise GoldError(
                    f"generator {self.model!r} at {url}: it asks to wait {wait:.0f} s; "
                    f"start again later, or raise {_KEY}max_wait (now {self.max_wait:g})"
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

    async def _try(self, run: _Run, server: _Server, content: bytes, request: Request) -> Mapping[str, Any]:
        """One call.

        Raises:
            _FailedError: It may do better next time.
            GoldError: It will not.
        """
        import httpx

        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if run.key:
            headers["Authorization"] = f"Bearer {run.key}"
        path = "/chat/completions" if self.form == "chat" else "/completions"
        up = f"is it up, and is {_KEY}base_url right?"
        try:
            async with asyncio.timeout(self.timeout):
                answer = await run.client.post(server.url + path, content=content, headers=headers)
        except TimeoutError:
            failed = _FailedError(f"no whole answer within {self.timeout:g} s", f"raise {_KEY}timeout, or {up}")
        except httpx.RequestError as e:
            said = self._say(str(e), run.key)
            if "CERTIFICATE_VERIFY_FAILED" in said:
                raise GoldError(f"generator {self.model!r} at {server.url}: {said}; set SSL_CERT_FILE") from None
            failed = _FailedError(f"{type(e).__name__}{': ' if said else ''}{said}", up)
        else:
            return self._read(answer, server, run.key, request)
        raise failed

    def _read(self, answer: httpx.Response, server: _Server, key: str, request: Request) -> Mapping[str, Any]:
        """An answer's JSON, where it is what was asked for."""
        status = answer.status_code
        try:
            data = json.loads(answer.content)
        except (ValueError, RecursionError):
            data = None
        error = at_path(data, "error")
        if 200 <= status < 300:
            if error is None or at_path(data, "choices"):
                if isinstance(data, dict):
                    return data
                raise _FailedError("an answer that is no JSON object", f"is {_KEY}base_url right?")
            status = code if isinstance(code := at_path(error, "code"), int) and 400 <= code < 600 else 500
        told = next(
            (t for t in (at_path(error, "message"), error, at_path(data, "detail"), at_path(data, "message")) if t),
            answer.text,
        )
        said = self._say(told if isinstance(told, str) else json.dumps(told, ensure_ascii=False), key)
        what = f"HTTP {status}" + (f": {said}" if said else "")
        begin = f"generator {self.model!r} at {server.url}: {what}; "
        if status in (400, 413, 422) and (_TOO_LONG.search(said) or status == 413):
            raise GoldError(begin + "the prompt is too long: show fewer or shorter demos (--data.plan.seed_demos)")
        spent = at_path(error, "code") == "insufficient_quota" or at_path(error, "type") == "insufficient_quota"
        if (status in (408, 409, 425, 429) or status >= 500) and status != 501 and not spent:
            advice = "is the server well?"
            if status == 429:
                advice = f"lower {_KEY}concurrency, or set {_KEY}requests_per_minute and tokens_per_minute"
            raise _FailedError(what, advice, retry_after(answer.headers.get("retry-after")))
        raise GoldError(begin + self._advice(status, spent, request))

    def _advice(self, status: int, spent: bool, request: Request) -> str:
        """What to change where a server refuses for good."""
        if spent:
            return "the account has no credit left"
        if status in (401, 403):
            if not self.api_key_env:
                return f"name the environment variable that holds the key in {_KEY}api_key_env"
            return f"look at the key in the environment variable {self.api_key_env}, and at what it may do"
        if 300 <= status < 400:
            return f"set {_KEY}base_url to where it points"
        if status in (404, 405):
            return f"look at {_KEY}model, form and base_url (most end in /v1)"
        advice = f"look at {_KEY}model, and at the setting that sends what it names (schema, extra, form, ...)"
        if request.choices:
            advice += "; where it gives no likelihoods of labels, set data.plan.label_agreement to off"
        return advice

    def _say(self, text: str, key: str) -> str:
        """What a server said: one short line, without the key."""
        return printable(text.replace(key, "***") if key else text)

    def _counts(self, reply: Mapping[str, Any], server: _Server, prompt: int, completion: int) -> tuple[int, int]:
        """Tokens of prompt and completion as the server tells them, else as estimated, which is said once."""
        usage = at_path(reply, "usage")
        told = [at_path(usage, name) for name in ("prompt_tokens", "completion_tokens")]
        if all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in told):
            return told[0], told[1]
        if not self._counts_missing:
            self._counts_missing = True
            _log.warning(
                "%s does not tell how many tokens its answers took (usage): they are estimated, %d bytes a token",
                server.url,
                _BYTES_PER_TOKEN,
            )
        return prompt, completion


def _checked(url: str) -> str:
    """A base URL without the slash at its end. One that holds a secret is refused and not shown."""
    allowed = "a URL as http://localhost:8000/v1"
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise ConfigError(_KEY + "base_url", "(not shown)", allowed) from None
    if parts.username or parts.password or parts.query or parts.fragment:
        hint = f"a key comes from the environment ({_KEY}api_key_env)"
        raise ConfigError(_KEY + "base_url", "(not shown)", f"{allowed}, without user, password or query", hint)
    if not right or not url.isprintable() or " " in url:
        raise ConfigError(_KEY + "base_url", url, allowed)
    return url.rstrip("/")


def _estimate(text: str) -> int:
    """Tokens of a text, roughly."""
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)
