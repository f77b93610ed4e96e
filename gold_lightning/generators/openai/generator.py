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
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from gold_lightning.errors import ConfigError, GoldError, require
from gold_lightning.generators.base import Completion, Finish, Generator, Request, distinguishing_prefixes
from gold_lightning.generators.openai.http_client import Address
from gold_lightning.generators.openai.pacing import gather_or_cancel, run_in_thread
from gold_lightning.generators.openai.parse_response import (
    Scored,
    at_path,
    echo_scores,
    finish_reason,
    first_choice,
    is_blocked,
    is_number,
    is_tool_call,
    last_tokens,
    printable,
    prompt_scores,
    thought_apart,
)
from gold_lightning.generators.openai.server_errors import read_error
from gold_lightning.generators.openai.servers import CallSettings, FailedError, Run, Servers, UnansweredError
from gold_lightning.parsing.blocks import is_object

__all__ = ["OpenAIGenerator"]

_log = logging.getLogger(__name__)
_KEY = "data.generator.init_args."
_BYTES_PER_TOKEN = 4  # of English under a large vocabulary; only estimates stand on it
_CLOSING = 5.0  # seconds that an iterator which is closed waits for its connections to close
_MOST_STOPS = 4  # the interface takes no more; what is beyond is cut off here
_AROUND = " \t\n\r\"'`*“”▁ĠĊ"  # stand before a label or as a tokenizer's spaces, and are none of it
_ROUNDING = 0.01  # how far above 0 a log-likelihood may be by rounding
_LEAST_MASS = 1e-4  # of the labels' likelihoods, below which the model is about to say something else
_TOP = 20  # of how many first tokens the interface tells the likelihood
_Counts = tuple[int, int]  # tokens of prompt and completion


class _NoScoresError(GoldError):
    """The server tells no likelihoods of labels."""


class OpenAIGenerator(Generator):
    """A model behind one or several OpenAI-compatible servers.

    Args:
        model: Name of the model, as the server knows it.
        base_url: Where the interface begins, mostly with ``/v1`` at its end; or a list of such, over which calls
            are spread. Never holds a key; ``?api-version=`` may stand at its end.
        form: ``chat`` sends messages to ``/chat/completions``, ``completion`` plain text to ``/completions``.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_p: Samples from the smallest set of tokens with at least this probability.
        schema: ``json_schema`` has the server write JSON objects of the task's schema; ``off`` leaves it to the
            instruction and the demos.
        continue_answer: Whether the server goes on with a last assistant message, as vLLM does. Of ``chat`` alone.
        extra: Further members of each call, as ``{top_k: 50}``; one that is null takes that member out.
        system: ``message`` sends the system text as a message of its own; ``user`` puts it before the user's text, for
            models that take no system message. Of ``chat`` alone.
        api_key_env: Name of the environment variable that holds the key, never the key. Left out, none is sent.
        api_key_header: Name of the header that carries the key; ``api-key`` for Azure. Before the key of
            ``Authorization`` stands ``Bearer``.
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
        server: Name of what answers, by which completions are stored; by default host and path of the first URL, and
            on this machine any port. Name it if it moves from host to host, or if two on this machine have different
            models of one name.
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
        system: Literal["message", "user"] = "message",
        api_key_env: str = "",
        api_key_header: str = "Authorization",
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
        server: str = "",
    ) -> None:
        if isinstance(schema, bool):  # what YAML makes of on and off
            schema = "json_schema" if schema else "off"
        closed: dict[str, tuple[str, tuple[str, ...]]] = {
            "form": (form, ("chat", "completion")),
            "schema": (schema, ("off", "json_schema")),
            "system": (system, ("message", "user")),
            "max_tokens_field": (max_tokens_field, ("max_tokens", "max_completion_tokens")),
        }
        for name, (chosen, allowed) in closed.items():
            if chosen not in allowed:
                raise ConfigError(_KEY + name, chosen, " or ".join(allowed))
        for name, count, least in (("batch_size", batch_size, 1), ("max_context", max_context, 0)):
            if count < least:
                raise ConfigError(_KEY + name, count, f"{least} or more")
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ConfigError(_KEY + "temperature", temperature, "a finite number, 0 or more")
        if not 0 < top_p <= 1:
            raise ConfigError(_KEY + "top_p", top_p, "a number above 0, at most 1")
        if not model:
            raise ConfigError(_KEY + "model", model, "the name of a model")
        if continue_answer and form != "chat":
            raise ConfigError(_KEY + "continue_answer", True, "false with form: completion, which always does")
        self.model, self.form, self.temperature, self.top_p = model, form, temperature, top_p
        self.base_url = [base_url] if isinstance(base_url, str) else list(base_url)
        addresses = [Address.read(url, _KEY + "base_url", _KEY + "api_key_env") for url in self.base_url]
        if not addresses:
            raise ConfigError(_KEY + "base_url", base_url, "one URL or more")
        self.schema, self.continue_answer, self.extra = schema, continue_answer, dict(extra or {})
        self.system, self.api_key_env, self.api_key_header = system, api_key_env, api_key_header
        self.batch_size, self.concurrency = batch_size, concurrency
        self.connect_timeout, self.timeout = connect_timeout, timeout
        self.retries, self.backoff, self.max_wait, self.cooldown = retries, backoff, max_wait, cooldown
        self.max_context, self.max_tokens_field = max_context, max_tokens_field
        self._servers = Servers(
            addresses,
            CallSettings(
                model=model,
                form=form,
                system=system,
                api_key_env=api_key_env,
                api_key_header=api_key_header,
                concurrency=concurrency,
                connect_timeout=connect_timeout,
                timeout=timeout,
                retries=retries,
                backoff=backoff,
                max_wait=max_wait,
                cooldown=cooldown,
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
            ),
        )
        # Of a list the first URL: the others have the same model.
        self._server, self._origin = server or addresses[0].place_without_port, server or addresses[0].place
        self._said: set[str] = set()  # what was logged, which is logged once
        self._has_scored = False  # whether the server has told likelihoods of labels

    def fingerprint(self) -> dict[str, Any]:
        names = ("model", "form", "temperature", "top_p", "schema", "continue_answer", "system", "extra")
        return super().fingerprint() | {name: getattr(self, name) for name in names} | {"server": self._server}

    def earlier_fingerprints(self) -> list[dict[str, Any]]:
        if self.system != "message":
            return []
        names = ("model", "form", "temperature", "top_p", "schema", "continue_answer", "extra", "batch_size")
        return [super().fingerprint() | {name: getattr(self, name) for name in names}]

    def origin(self) -> str:
        return self._origin

    def tokens_over_limit(self, requests: Sequence[Request]) -> list[int]:
        if not self.max_context:
            return super().tokens_over_limit(requests)
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
        if over := max(self.tokens_over_limit(requests)):
            raise GoldError(
                f"a prompt and what may follow are about {self.max_context + over} tokens, more than the "
                f"{self.max_context} tokens of {self.model} ({_KEY}max_context): show fewer or shorter demos "
                "(--data.plan.seed_demos)"
            )
        self.check_installed()
        run = self._servers.connect()
        # A thread for each batch: nothing outlives it, so that forked and pickled generators work as any other.
        given: queue.SimpleQueue[tuple[int, Completion] | BaseException] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._answer_all(list(requests), run, given.put))
        thread = threading.Thread(target=run_in_thread, args=(loop, task, given.put), name="openai", daemon=True)
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

    async def _answer_all(
        self, requests: Sequence[Request], run: Run, give: Callable[[tuple[int, Completion]], None]
    ) -> None:
        async with run.client:

            async def one(at: int, request: Request) -> None:
                try:
                    give((at, await (self._score if request.choices else self._write)(run, request)))
                except UnansweredError as e:
                    self._say_once(e.finish, "%s: a request stays without an answer: %s", self.model, e.reason)
                    give((at, Completion("", *e.counts, e.finish)))

            await gather_or_cancel([one(at, request) for at, request in enumerate(requests)])

    def _say_once(self, about: str, message: str, *values: object) -> None:
        if about not in self._said:
            self._said.add(about)
            _log.warning(message, *values)

    # What is asked

    async def _write(self, run: Run, request: Request) -> Completion:
        """Has a text written."""
        follows = bool(request.schema) and self.schema == "json_schema"
        if follows:  # a whole object in place of what the answer begins; a line's end does not end it
            suffix = f"{request.suffix} Write it as one JSON object."
            request = replace(request, suffix=suffix, answer_prefix="", stop=(), line_prefixes=())
        fresh = self.form == "chat" and not self.continue_answer
        body = self._body(request, self._prompt(request), request.max_tokens)
        # A model that begins anew may think, announce a sample or repeat the beginning before it gets to the text, and
        # a server that stopped there would give none of it. So the reader cuts these replies. It costs the tokens that
        # the model writes behind the sample: mostly a sentence or nothing, max_tokens at most.
        if request.stop and not fresh:
            body["stop"] = list(request.stop[:_MOST_STOPS])
        if follows:
            shape = {"name": "sample", "strict": True, "schema": json.loads(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        (content, choice), counts = await self._call(run, body, request)
        reply = request.read(content, fresh=fresh, thought=thought_apart(choice))
        finish = self._finish(choice, request, whole=reply.ended)
        if follows and not is_object(reply.text) and finish == "stop":
            told = "an answer of %s is no JSON object: does its server follow %sschema?"
            self._say_once("schema", told, self.model, _KEY)
        return Completion(reply.text, *counts, finish, reason=reply.reason)

    def _finish(self, reply: Mapping[str, Any], request: Request, whole: bool) -> Finish:
        """Why a text ended. One that may have been cut counts as cut, unless the sample in it is whole."""
        told = finish_reason(reply, _told_counts(reply)[1], request)
        if whole and told in (None, "length"):
            return "stop"
        if told is None:
            said = "%s tells neither why its answers end nor how long they are: those without a stop text count as cut"
            self._say_once("finish", said, self.model)
        return told or "length"

    async def _score(self, run: Run, request: Request) -> Completion:
        """Asks for the log-likelihood of each choice, in the way that the form has.

        In plain text, and where the server goes on with an assistant's message, each choice stands at the end of a
        prompt whose likelihood the server tells. Else the likeliest first tokens of an answer are looked at.
        """
        request = replace(request, greedy=True)
        if self.form == "chat" and not self.continue_answer:
            names = [choice.strip() for choice in request.choices]
            suffix = f"{request.suffix}\n\nAnswer with one of these and nothing else: {', '.join(names)}"
            body = self._body(request, self._prompt(replace(request, suffix=suffix, answer_prefix="")), 1)
            body |= {"logprobs": True, "top_logprobs": _TOP}
            (_, reply), counts = await self._call(run, body, request)
            if finish_reason(reply, None, request) == "filtered":
                return Completion("", *counts, "filtered")
            if thought_apart(reply):  # it is the first token of the thinking
                return Completion("", *counts)
            first = at_path(at_path(reply, "logprobs", "content", 0), "top_logprobs")
            try:
                log_probs = self._first_tokens(first, names)
            except _NoScoresError:
                if not self._has_scored:
                    raise
                return Completion("", *counts, "failed")
            self._has_scored = True
            return Completion("", *counts, choice_log_probs=log_probs)

        async def one(choice: str) -> tuple[list[Scored], tuple[int, int]]:
            asked = replace(request, answer_prefix=request.answer_prefix + choice)
            body = self._body(asked, self._prompt(asked), 1)
            body |= {"prompt_logprobs": 0} if self.form == "chat" else {"echo": True, "logprobs": 1}
            (_, reply), counts = await self._call(run, body, request)
            scored = prompt_scores(reply) if self.form == "chat" else echo_scores(reply)
            return last_tokens(scored, choice), counts

        answers = await gather_or_cancel([one(choice) for choice in request.choices])
        if not all(scored for scored, _ in answers):
            raise self._no_scores("its answers hold none for the prompt")
        kept = distinguishing_prefixes([[s.token for s in scored] for scored, _ in answers])
        sums = [sum(s.score for s in scored[: len(cut)]) for cut, (scored, _) in zip(kept, answers, strict=True)]
        prompt_tokens, completion_tokens = (sum(counts[i] for _, counts in answers) for i in (0, 1))
        return Completion("", prompt_tokens, completion_tokens, choice_log_probs=tuple(sums))

    def _first_tokens(self, first: Any, names: Sequence[str]) -> tuple[float, ...]:
        """Log-likelihood of each name by the first token of an answer.

        A name that is not among the likeliest tokens gets the least likelihood that is told, which is more than
        its own. Where no name is among them, there is nothing to tell.
        """
        told = [(at_path(t, "token"), at_path(t, "logprob")) for t in first] if isinstance(first, list) else []
        tokens = [(t.strip(_AROUND).casefold(), float(p)) for t, p in told if isinstance(t, str) and is_number(p)]
        if not tokens:
            raise self._no_scores("its answers hold no top_logprobs")
        if max(p for _, p in tokens) > _ROUNDING:
            raise self._no_scores("its top_logprobs are above 0, which no log-likelihood is")
        if len(tokens) < len(told):  # what is no number may be a label's
            return ()
        mass, shared = [0.0] * len(names), 0.0
        for token, p in tokens:
            fits = [i for i, name in enumerate(names) if token and name.casefold().startswith(token)]
            if len(fits) == 1:
                mass[fits[0]] += math.exp(p)
            elif fits:
                shared += math.exp(p)
        if shared > sum(mass):
            raise self._no_scores(f"the first token of its answers does not tell {' from '.join(names)}")
        if sum(mass) < _LEAST_MASS:  # it would not answer with a label: thinking, or a phrase before it
            return ()
        left = 1 - sum(math.exp(p) for _, p in tokens)
        least = min(p for _, p in tokens if p > -math.inf)
        least = min(least, math.log(left)) if left > 0 else least
        # A label that is told to have no mass has none.
        none = [any(t and name.casefold().startswith(t) for t, p in tokens if p == -math.inf) for name in names]
        floor = [-math.inf if without else least for without in none]
        return tuple(math.log(m) if m > 0 else low for m, low in zip(mass, floor, strict=True))

    def _no_scores(self, why: str) -> _NoScoresError:
        return _NoScoresError(
            f"generator {self.model!r} at {self._servers.urls[0]}: no likelihoods of labels from this server "
            f"({printable(why)}); set data.plan.label_agreement to off, or take a server that gives them"
        )

    def _prompt(self, request: Request) -> dict[str, Any]:
        """The prompt as members of a call."""
        if self.form == "completion":
            return {"prompt": request.text}
        user = (request.prefix + request.suffix).strip()
        messages = [{"role": "system", "content": request.system}] if request.system else []
        if messages and self.system == "user":
            user, messages = f"{request.system}\n\n{user}", []
        if not self.continue_answer or not request.answer_prefix:
            if request.answer_prefix and not request.choices:
                user += f"\n\nBegin your answer with:\n{request.answer_prefix}"
            return {"messages": [*messages, {"role": "user", "content": user}]}
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": request.answer_prefix}]
        return {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}

    def _body(self, request: Request, prompt: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
        """A call but for what is special about it."""
        sampling = {"temperature": 0.0} if request.greedy else {"temperature": self.temperature, "top_p": self.top_p}
        return {"model": self.model, **prompt, **sampling, "seed": request.seed, self.max_tokens_field: max_tokens}

    # How it is asked

    async def _call(
        self, run: Run, body: dict[str, Any], request: Request
    ) -> tuple[tuple[Any, Mapping[str, Any]], _Counts]:
        """Makes a call until it is answered.

        Returns:
            Content and first choice of the reply with what it tells beside; tokens of prompt and completion.

        Raises:
            GoldError: It cannot be answered, or its tries are spent.
            UnansweredError: It stays without an answer, while others are answered.
        """
        body = {name: value for name, value in (body | self.extra).items() if value is not None}
        prompt = _estimate(request.text)
        written = body.get(self.max_tokens_field)
        estimate = prompt + (written if isinstance(written, int) else request.max_tokens)

        def read(reply: Mapping[str, Any], url: str) -> tuple[tuple[Any, Mapping[str, Any]], _Counts]:
            content, choice = self._read(reply, url)
            return (content, choice), self._counts(reply, url, prompt, _estimate(str(content)))

        path = "/chat/completions" if self.form == "chat" else "/completions"
        return await self._servers.call(run, path, body, estimate, read, bool(request.choices))

    def _read(self, reply: Mapping[str, Any], url: str) -> tuple[Any, Mapping[str, Any]]:
        """The content and the choice that a reply holds."""
        told = tuple(n or 0 for n in _told_counts(reply))
        counts = (told[0], told[1])
        if ("choices" in reply and not reply["choices"]) or ("choices" not in reply and is_blocked(reply)):
            # What filters leave. A choice may be missing by mistake too, so it is asked for again, but for a few times.
            tries = {"tries": 1} if is_blocked(reply) else {}
            raise FailedError.of_answer("an answer without choices", "filtered", counts, **tries)
        found = first_choice(reply, self.form)
        if found is None:
            raise FailedError("an answer without choices", f"look at {_KEY}model and form")
        content, choice = found
        for error in (at_path(choice, "error"), at_path(reply, "error")):
            if not error or (said := read_error(200, {"error": error}, "")) is None:
                continue
            if error is not at_path(choice, "error") and not said.coded and finish_reason(choice, None, _ANY):
                continue  # a warning beside an answer that ended
            if said.ends_run:
                raise self._servers.refusal(said, url)
            ends: tuple[Finish, dict[str, int]] = (
                ("filtered", {"tries": 1}) if said.kind == "filtered" else ("failed", {})
            )
            raise FailedError.of_answer(f"an answer with an error: {said.said}", ends[0], counts, **ends[1])
        if is_tool_call(choice):
            content = ""
        elif finish_reason(choice, None, _ANY) == "failed":
            raise FailedError.of_answer(f"an answer that ends by {choice.get('finish_reason')!r}", "failed", counts)
        return content, choice

    def _counts(self, reply: Mapping[str, Any], url: str, prompt: int, completion: int) -> _Counts:
        """Tokens of prompt and completion as the server tells them, else as estimated, which is said once."""
        told = _told_counts(reply)
        if told[0] is not None and told[1] is not None:
            return told[0], told[1]
        said = "%s does not tell how many tokens its answers took (usage): they are estimated, %d bytes a token"
        self._say_once("usage", said, url, _BYTES_PER_TOKEN)
        return prompt, completion


_ANY = Request("", "", "")


def _told_counts(reply: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens of prompt and completion as a server counts them."""
    usage = at_path(reply, "usage")
    names = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    told = [next((n for name in pair if (n := at_path(usage, name)) is not None), None) for pair in names]
    return _whole(told[0]), _whole(told[1])


def _whole(value: Any) -> int | None:
    """A count, also one that is written as 7.0; ``None`` if it is none."""
    return int(value) if is_number(value) and 0 <= value < math.inf and value == int(value) else None


def _estimate(text: str) -> int:
    """Tokens of a text, roughly."""
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)
