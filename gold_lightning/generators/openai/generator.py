"""Servers with OpenAI's HTTP interface: vLLM, llama.cpp, transformers serve, or a paid service.

Each batch runs on an event loop in a thread of its own, so that callers with and without a running loop can use it,
and completions are yielded as they arrive. A failed call costs time but no sample: it is repeated, on another server
if there is one, until it is answered or its tries are spent.
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

from gold_lightning.errors import ConfigError, GoldError, NoLikelihoodsError, require
from gold_lightning.generators.base import Completion, Finish, Generator, Request
from gold_lightning.generators.openai.http_call import CallSettings, FailedError, UnansweredError
from gold_lightning.generators.openai.http_client import Address
from gold_lightning.generators.openai.label_scores import (
    TOP_LOGPROBS,
    NoScoresError,
    ScoredToken,
    choice_sums,
    echo_scores,
    first_token_scores,
    last_tokens,
    prompt_scores,
)
from gold_lightning.generators.openai.messages import BYTES_PER_TOKEN, after_beginning, chat_prompt, size_in_tokens
from gold_lightning.generators.openai.pacing import gather_or_cancel, run_in_thread
from gold_lightning.generators.openai.parse_response import (
    at_path,
    finish_reason,
    first_choice,
    is_blocked,
    is_tool_call,
    printable,
    thinking_tokens,
    thought_apart,
    token_counts,
)
from gold_lightning.generators.openai.server_errors import read_error
from gold_lightning.generators.openai.servers import Run, Servers
from gold_lightning.parsing.blocks import is_object

__all__ = ["OpenAIGenerator"]

_log = logging.getLogger(__name__)
_KEY = "data.generator.init_args."
_CLOSE_SECONDS = 5.0  # for which a closed iterator waits for its connections to close
_MAX_STOPS = 4  # of the interface; texts are cut at further stops here
_Counts = tuple[int, int]  # tokens of prompt and completion


class OpenAIGenerator(Generator):
    """A model behind one or several OpenAI-compatible servers.

    Args:
        model: Name of the model on the server.
        base_url: Start of the interface's URL, mostly with ``/v1`` at its end; or a list of URLs over which calls are
            spread. May end in ``?api-version=``; must not hold a key.
        form: ``chat`` sends messages to ``/chat/completions``, ``completion`` plain text to ``/completions``.
        temperature: Divisor of the logits; 0 takes the most likely token.
        top_p: Probability of the smallest set of tokens to sample from.
        schema: ``json_schema`` makes the server write JSON objects of the task's schema; ``off`` relies on the
            instruction and the demos.
        continue_answer: Whether the server continues a final assistant message, as vLLM and llama.cpp do. With ``chat``
            only.
        extra: Further members of each call, such as ``{top_k: 50}``; ``null`` removes a member.
        system: ``message`` sends the system text as a message of its own; ``user`` puts it before the user's text,
            for models without system messages. With ``chat`` only.
        api_key_env: Name of the environment variable that holds the key, never the key itself. By default no key is
            sent.
        api_key_header: Name of the header that carries the key; ``api-key`` for Azure. In ``Authorization`` the key
            follows ``Bearer``.
        batch_size: Preferred number of requests per call of the generator.
        concurrency: Maximum number of HTTP calls in flight, over all URLs.
        connect_timeout: Seconds to connect.
        timeout: Seconds for a whole HTTP call, even if part of the answer has arrived.
        retries: Number of further tries of a failed call.
        backoff: Seconds before the first retry, less a random part; doubles with each retry, up to 30.
        max_wait: Maximum number of seconds to wait when a server asks for it; a longer wait ends the run in order.
        cooldown: Seconds for which a URL that failed is avoided while others answer.
        requests_per_minute: Maximum number of calls a minute, over all URLs; 0 for no limit.
        tokens_per_minute: Maximum number of tokens a minute, of prompts and completions; 0 for no limit.
        max_context: Size of the model's context in tokens. A request that exceeds it by our estimate (4 bytes a
            token) is not sent; 0 leaves the check to the server.
        max_tokens_field: The server's name for the maximum number of tokens to write.
        server: Name under which completions are stored; by default host and path of the first URL, and for this
            machine regardless of the port. Set it if the server moves between hosts, or if two servers on this machine
            have different models of the same name.

    Example:
        >>> from gold_lightning import OpenAIGenerator
        >>> generator = OpenAIGenerator("gpt-4o-mini", base_url="https://api.openai.com/v1", form="chat")
        >>> generator.model
        'gpt-4o-mini'
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
        if isinstance(schema, bool):  # YAML reads on and off as booleans
            schema = "json_schema" if schema else "off"
        choices: dict[str, tuple[str, tuple[str, ...]]] = {
            "form": (form, ("chat", "completion")),
            "schema": (schema, ("off", "json_schema")),
            "system": (system, ("message", "user")),
            "max_tokens_field": (max_tokens_field, ("max_tokens", "max_completion_tokens")),
        }
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise ConfigError(_KEY + name, value, " or ".join(allowed))
        for name, count, minimum in (("batch_size", batch_size, 1), ("max_context", max_context, 0)):
            if count < minimum:
                raise ConfigError(_KEY + name, count, f"{minimum} or more")
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
        # The first URL stands for a list, as all have the same model.
        self._server, self._origin = server or addresses[0].place_without_port, server or addresses[0].place
        self._warned: set[str] = set()  # topics of warnings, which are logged once each
        self._has_scored = False  # whether the server has returned likelihoods of labels
        self._by_first_token = False  # whether it continues answers, but returns no likelihoods of prompts

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
        after = [max(map(size_in_tokens, r.choices), default=r.max_tokens) for r in requests]
        return [max(0, size_in_tokens(r.text) + n - self.max_context) for r, n in zip(requests, after, strict=True)]

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        completions = dict(self.stream(requests))
        return [completions[i] for i in range(len(requests))]

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
        # One thread per batch, of which nothing remains: the generator can be forked and pickled.
        results: queue.SimpleQueue[tuple[int, Completion] | BaseException] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._answer_all(list(requests), run, results.put))
        thread = threading.Thread(target=run_in_thread, args=(loop, task, results.put), name="openai", daemon=True)
        thread.start()
        try:
            for _ in requests:
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(task.cancel)
            thread.join(_CLOSE_SECONDS)

    async def _answer_all(
        self, requests: Sequence[Request], run: Run, put: Callable[[tuple[int, Completion]], None]
    ) -> None:
        async def answer(position: int, request: Request) -> None:
            try:
                put((position, await (self._score if request.choices else self._write)(run, request)))
            except UnansweredError as e:
                self._warn_once(e.finish, "%s: a request stays without an answer: %s", self.model, e.reason)
                put((position, Completion("", *e.counts, e.finish)))

        async with run.http.client:
            await gather_or_cancel([answer(i, request) for i, request in enumerate(requests)])

    def _warn_once(self, topic: str, message: str, *values: object) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            _log.warning(message, *values)

    # Content of calls

    async def _write(self, run: Run, request: Request) -> Completion:
        """Requests a text."""
        follows = bool(request.schema) and self.schema == "json_schema"
        if follows:  # a whole object instead of the rest of the answer, not ended by a line break
            suffix = f"{request.suffix} Write it as one JSON object."
            request = replace(request, suffix=suffix, answer_prefix="", stop=(), line_prefixes=())
        fresh = self.form == "chat" and not self.continue_answer
        body = self._body(request, self._prompt(request), request.max_tokens)
        # A model that starts a new answer may think, announce a sample or repeat the beginning before the text, and a
        # server that stopped there would return none of it. These replies are cut after the fact, at the cost of the
        # tokens behind the sample: mostly a sentence or nothing, at most max_tokens.
        if request.stop and not fresh:
            body["stop"] = list(request.stop[:_MAX_STOPS])
        if follows:
            shape = {"name": "sample", "strict": True, "schema": json.loads(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        (content, choice), counts = await self._call(run, body, request)
        if self.continue_answer:
            content = after_beginning(content, request.answer_prefix)
        reply = request.read(content, fresh=fresh, thought=thought_apart(choice))
        finish = self._finish(choice, request, whole=reply.ended)
        if follows and not is_object(reply.text) and finish == "stop":
            self._warn_once(
                "schema", "an answer of %s is no JSON object: does its server follow %sschema?", self.model, _KEY
            )
        thinking = thinking_tokens(choice) if reply.thought else 0
        return Completion(
            reply.text, *counts, finish, reason=reply.reason, thought=reply.thought, thinking_tokens=thinking
        )

    def _finish(self, reply: Mapping[str, Any], request: Request, whole: bool) -> Finish:
        """Why a text ended. One that may have been cut counts as cut, unless the sample in it is whole."""
        finish = finish_reason(reply, token_counts(reply)[1], request)
        if whole and finish in (None, "length"):
            return "stop"
        if finish is None:
            self._warn_once(
                "finish",
                "%s tells neither why its answers end nor how long they are: those without a stop text count as cut",
                self.model,
            )
        return finish or "length"

    async def _score(self, run: Run, request: Request) -> Completion:
        """Requests the log-likelihood of each choice.

        In plain text, and if the server continues an assistant's message, each choice ends a prompt whose likelihood
        the server returns. Servers that return none for prompts (llama.cpp), and those that begin a new answer, are
        asked for the most likely first tokens, which are compared with the choices.
        """
        request = replace(request, greedy=True)
        if self.form == "chat" and (not self.continue_answer or self._by_first_token):
            return await self._score_first_token(run, request)

        async def score(choice: str) -> tuple[list[ScoredToken], _Counts]:
            whole = replace(request, answer_prefix=request.answer_prefix + choice)
            body = self._body(whole, self._prompt(whole), 1)
            body |= {"prompt_logprobs": 0} if self.form == "chat" else {"echo": True, "logprobs": 1}
            (_, reply), counts = await self._call(run, body, request)
            scored = prompt_scores(reply) if self.form == "chat" else echo_scores(reply)
            return last_tokens(scored, choice), counts

        answers = await gather_or_cancel([score(choice) for choice in request.choices])
        read, written = (sum(counts[i] for _, counts in answers) for i in (0, 1))
        if not all(scored for scored, _ in answers):
            if self.form == "completion" or (self._has_scored and not self._by_first_token):
                raise self._no_scores("its answers hold none for the prompt")
            self._by_first_token = True
            return await self._score_first_token(run, request, (read, written))
        self._has_scored = True
        return Completion("", read, written, choice_log_probs=choice_sums([scored for scored, _ in answers]))

    async def _score_first_token(self, run: Run, request: Request, spent: _Counts = (0, 0)) -> Completion:
        names = [choice.strip() for choice in request.choices]
        if not self.continue_answer:
            suffix = f"{request.suffix}\n\nAnswer with one of these and nothing else: {', '.join(names)}"
            request = replace(request, suffix=suffix, answer_prefix="")
        body = self._body(request, self._prompt(request), 1) | {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        (_, reply), (read, written) = await self._call(run, body, request)
        counts = read + spent[0], written + spent[1]
        if finish_reason(reply, None, request) == "filtered":
            return Completion("", *counts, "filtered")
        if thought_apart(reply):  # the first token belongs to the thinking
            return Completion("", *counts)
        try:
            log_probs = first_token_scores(at_path(reply, "logprobs", "content", 0, "top_logprobs"), names)
        except NoScoresError as e:
            if not self._has_scored:
                raise self._no_scores(str(e)) from None
            return Completion("", *counts, "failed")
        self._has_scored = True
        return Completion("", *counts, choice_log_probs=log_probs)

    def _no_scores(self, reason: str) -> NoLikelihoodsError:
        return NoLikelihoodsError(
            f"generator {self.model!r} at {self._servers.urls[0]}: no likelihoods of labels from this server "
            f"({printable(reason)})"
        )

    def _prompt(self, request: Request) -> dict[str, Any]:
        """Members of a call that hold the prompt."""
        if self.form == "completion":
            return {"prompt": request.text}
        return chat_prompt(request, self.system, self.continue_answer)

    def _body(self, request: Request, prompt: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
        """Members that all calls have."""
        sampling = {"temperature": 0.0} if request.greedy else {"temperature": self.temperature, "top_p": self.top_p}
        return {"model": self.model, **prompt, **sampling, "seed": request.seed, self.max_tokens_field: max_tokens}

    # Replies

    async def _call(
        self, run: Run, body: dict[str, Any], request: Request
    ) -> tuple[tuple[Any, Mapping[str, Any]], _Counts]:
        """Makes a call until it is answered.

        Returns:
            Content and first choice of the reply, with members of the reply beside it; tokens of prompt and completion.

        Raises:
            GoldError: The call cannot be answered, or its tries are spent.
            UnansweredError: It stays without an answer, while others are answered.
        """
        body = {name: value for name, value in (body | self.extra).items() if value is not None}
        prompt_tokens = size_in_tokens(request.text)
        most = body.get(self.max_tokens_field)
        size = prompt_tokens + (most if isinstance(most, int) else request.max_tokens)

        def read(reply: Mapping[str, Any], url: str) -> tuple[tuple[Any, Mapping[str, Any]], _Counts]:
            content, choice = self._read(run, reply, url)
            return (content, choice), self._counts(reply, url, prompt_tokens, size_in_tokens(str(content)))

        path = "/chat/completions" if self.form == "chat" else "/completions"
        return await self._servers.call(run, path, body, size, read, bool(request.choices))

    def _read(self, run: Run, reply: Mapping[str, Any], url: str) -> tuple[Any, Mapping[str, Any]]:
        """Content and choice of a reply.

        Raises:
            FailedError: The reply holds no answer.
            GoldError: It holds an error that ends the run.
        """
        prompt_tokens, completion_tokens = token_counts(reply)
        counts = prompt_tokens or 0, completion_tokens or 0
        if ("choices" in reply and not reply["choices"]) or ("choices" not in reply and is_blocked(reply)):
            # Left by a filter, or missing by mistake; unless a filter says so, the call is repeated a few times.
            tries = {"tries": 1} if is_blocked(reply) else {}
            raise FailedError.of_answer("an answer without choices", "filtered", counts, **tries)
        first = first_choice(reply, self.form)
        if first is None:
            raise FailedError("an answer without choices", f"look at {_KEY}model and form")
        content, choice = first
        ended = finish_reason(choice, None, _EMPTY_REQUEST)
        for error, is_of_choice in ((at_path(choice, "error"), True), (at_path(reply, "error"), False)):
            if not error or (server_error := read_error(200, {"error": error}, "")) is None:
                continue
            if not is_of_choice and not server_error.coded and ended:
                continue  # a warning beside a complete answer
            if server_error.ends_run:
                raise self._servers.refusal(run, server_error, url)
            reason = f"an answer with an error: {server_error.said}"
            if server_error.kind == "filtered":
                raise FailedError.of_answer(reason, "filtered", counts, tries=1)
            raise FailedError.of_answer(reason, "failed", counts)
        if is_tool_call(choice):
            content = ""
        elif ended == "failed":
            raise FailedError.of_answer(f"an answer that ends by {choice.get('finish_reason')!r}", "failed", counts)
        return content, choice

    def _counts(self, reply: Mapping[str, Any], url: str, prompt_tokens: int, completion_tokens: int) -> _Counts:
        """Tokens of prompt and completion as the server counts them, or else these estimates."""
        counted = token_counts(reply)
        if counted[0] is not None and counted[1] is not None:
            return counted[0], counted[1]
        self._warn_once(
            "usage",
            "%s does not tell how many tokens its answers took (usage): they are estimated, %d bytes a token",
            url,
            BYTES_PER_TOKEN,
        )
        return prompt_tokens, completion_tokens


_EMPTY_REQUEST = Request("", "", "")
