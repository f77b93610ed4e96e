"""An OpenAI-compatible HTTP server for tests: deterministic, counting, and misbehaving on demand.

It speaks real HTTP on a socket of this machine, from a loop in a thread. Its model is a toy: what it writes is drawn
from prompt and seed, and a token is a word or a mark with the space before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

WORDS = "river stone market naïve 北京 🙂 garden copper window harbour silent Öl seven paper orbit".split()
JUNK = "\x1b[31m"


@dataclass(frozen=True)
class Fault:
    """How a call goes wrong.

    Args:
        kind: ``status`` (an answer with that status), ``reset`` (the connection is reset), ``half`` (half an answer,
            then the end), ``hang`` (nothing), ``drip`` (a byte now and then), ``body`` (a good status and this body).
        status: Of the answer.
        headers: More headers of it.
        body: Its body, a text or bytes; a JSON error by default.
    """

    kind: str = "status"
    status: int = 500
    headers: tuple[tuple[str, str], ...] = ()
    body: str | bytes = ""


@dataclass
class Call:
    """A request that came in.

    Args:
        number: How many came before it.
        attempt: How many with the very same body came before it.
        path: Path of the URL.
        headers: Names in lower case.
        body: Its JSON.
        began: When it was read, in seconds of the monotonic clock.
        fault: What went wrong with it, if anything.
    """

    number: int
    attempt: int
    path: str
    headers: dict[str, str]
    body: dict
    began: float
    fault: Fault | None = None


@dataclass
class FakeServer:
    """The server; a context manager, reachable at :attr:`url` within.

    Args:
        model: The one model that it has.
        key: The key that it asks for; "" for none.
        limit: Tokens that its model takes.
        delay: Seconds that each answer takes, or a function from the call to them.
        faults: From a call to what goes wrong with it.
        replies: From a call's body to what is written; ``None`` for the toy's own text.
        usage: Whether it counts tokens.
        continues: Whether it goes on with a last assistant message.
        repeats: Whether it begins an answer as it was told to.
        scores: Which likelihoods it tells: ``echo``, ``prompt_logprobs``, ``top_logprobs``.
        bos: Whether its model begins each text with a token of its own.
    """

    model: str = "toy"
    key: str = ""
    limit: int = 400
    delay: object = 0.0
    faults: object = lambda call: None
    replies: object = lambda body: None
    usage: bool = True
    continues: bool = False
    repeats: bool = True
    scores: frozenset = frozenset({"echo", "prompt_logprobs", "top_logprobs"})
    bos: bool = False
    calls: list[Call] = field(default_factory=list)
    tokens: int = 0
    busy: int = 0
    most_busy: int = 0
    abandoned: int = 0
    connections: int = 0

    def __enter__(self):
        self._seen = Counter()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(5)
        assert not self._thread.is_alive()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def _serve(self):
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self):
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader, writer):
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")[:-2]
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                call = Call(
                    len(self.calls),
                    self._seen[raw],
                    first.split()[1],
                    headers,
                    json.loads(raw),
                    time.monotonic(),
                )
                self._seen[raw] += 1
                call.fault = self.faults(call)
                self.calls.append(call)
                self.busy += 1
                self.most_busy = max(self.most_busy, self.busy)
                try:
                    if not await self._answer(call, reader, writer):
                        return
                finally:
                    self.busy -= 1
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return
        finally:
            with contextlib.suppress(Exception):
                writer.close()

    async def _answer(self, call, reader, writer):
        """Writes the answer; false where the connection is not to be used again."""
        fault = call.fault
        await asyncio.sleep(self.delay(call) if callable(self.delay) else self.delay)
        if fault and fault.kind == "hang":
            await reader.read(1)
            self.abandoned += 1
            return False
        if fault and fault.kind == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        status, data = (200, {}) if fault else self._judge(call)
        if fault and fault.kind == "status":
            status, data = fault.status, {"error": {"message": f"told to fail{JUNK}\nwith a second line"}}
        elif fault and fault.kind in ("half", "drip"):
            status, data = self._judge(call)
        body = fault.body if fault and fault.body else json.dumps(data)
        body = body.encode() if isinstance(body, str) else body
        headers = {
            "Content-Type": "application/json",
            "Content-Length": len(body),
            **dict(fault.headers if fault else ()),
        }
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        writer.write(head.encode() + b"\r\n")
        if fault and fault.kind == "half":
            writer.write(body[: len(body) // 2])
            await writer.drain()
            return False
        if fault and fault.kind == "drip":
            for byte in body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
            return True
        writer.write(body)
        await writer.drain()
        return True

    # The toy model

    def _judge(self, call):
        """Status and answer of a call that goes well."""
        body = call.body
        if self.key and call.headers.get("authorization") != f"Bearer {self.key}":
            given = call.headers.get("authorization", "")  # some servers repeat what they were given
            return 401, {"error": {"message": f"Incorrect API key provided: {given}", "code": "invalid_api_key"}}
        if body["model"] != self.model:
            return 404, {
                "error": {"message": f"The model `{body['model']}` does not exist.", "code": "model_not_found"}
            }
        if not 0 <= body.get("temperature", 1) <= 2:
            return 400, {"error": {"message": "temperature must lie in [0, 2]", "param": "temperature"}}
        chat = call.path == "/v1/chat/completions"
        if not chat and call.path != "/v1/completions":
            return 404, {"detail": "Not Found"}
        going_on = chat and body["messages"][-1]["role"] == "assistant"
        if going_on and not (self.continues and body.get("continue_final_message")):
            return 400, {"error": {"message": "Unrecognized request argument: continue_final_message"}}
        prompt = self._template(body["messages"]) if chat else body["prompt"]
        size, most = len(tokens_of(prompt)) + self.bos, body["max_tokens"]
        if size + most > self.limit:
            said = f"This model's maximum context length is {self.limit} tokens. However, you requested {size + most}."
            return 400, {"error": {"message": said, "code": "context_length_exceeded"}}
        text = self.replies(body)
        if text is None:
            text = self._text(body, prompt)
        written = tokens_of(text)[:most]
        text, finish = "".join(written), "length" if len(tokens_of(text)) > most else "stop"
        ends = [at for at in (text.find(s) for s in body.get("stop", ())) if at >= 0]
        if ends:
            written = tokens_of(text[: min(ends) + 1])
            text, finish = text[: min(ends)], "stop"
        choice = {"index": 0, "finish_reason": finish}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        reply = {"object": "x", "model": self.model, "choices": [choice]}
        if self.usage:
            self.tokens += size + len(written)
            reply["usage"] = {"prompt_tokens": size, "completion_tokens": len(written)}
        self._tell_scores(body, prompt, written, choice, reply, chat)
        return 200, reply

    def _template(self, messages):
        text = "".join(f"[{m['role']}] {m['content']}\n" for m in messages)
        return text[:-1] if messages[-1]["role"] == "assistant" else text + "[assistant] "

    def _text(self, body, prompt):
        greedy = body.get("temperature", 1) == 0
        rng = random.Random(prompt if greedy else f"{body.get('seed')}|{body['temperature']}|{prompt}")
        if "response_format" in body:
            shape = body["response_format"]["json_schema"]["schema"]["properties"]
            return json.dumps({n: rng.choice(p["enum"]) if "enum" in p else words(rng, 8) for n, p in shape.items()})
        told = re.search(
            r"Begin your answer with:\n(.*)$", body.get("messages", [{"content": ""}])[-1]["content"], re.S
        )
        return (told[1].upper() if told and self.repeats else "") + " " + words(rng, rng.randint(20, 40))

    def log_prob(self, before, token):
        """Log-likelihood of a token after a text."""
        return -0.1 - 5 * random.Random(f"{before}|{token}").random()

    def _tell_scores(self, body, prompt, written, choice, reply, chat):
        if not {"echo", "prompt_logprobs", "top_logprobs"} & body.keys():
            return
        parts = tokens_of(prompt)
        scores = [self.log_prob("".join(parts[:i]), t) if i else None for i, t in enumerate(parts)]
        if self.bos:
            parts, scores = ["<s>", *parts], [None, self.log_prob("", parts[0]), *scores[1:]]
        if body.get("echo") and "echo" in self.scores:
            offsets = [len("".join(parts[:i])) for i in range(len(parts) + len(written))]
            offsets[len(parts) :] = [len("".join([*parts, *written[:i]])) for i in range(len(written))]
            choice["text"] = prompt + choice["text"]
            choice["logprobs"] = {
                "tokens": [*parts, *written],
                "token_logprobs": [*scores, *(-1.0 for _ in written)],
                "text_offset": offsets,
            }
        if "prompt_logprobs" in body and "prompt_logprobs" in self.scores:
            told = [
                s if s is None else {str(i): {"logprob": s, "rank": 1, "decoded_token": t}}
                for i, (t, s) in enumerate(zip(parts, scores, strict=True))
            ]
            (reply if chat else choice)["prompt_logprobs"] = told
        if body.get("top_logprobs") and "top_logprobs" in self.scores:
            _, named, names = body["messages"][-1]["content"].rpartition("nothing else: ")
            firsts = {tokens_of(name)[0] for name in names.split(", ")} if named else {" World", " Sports"}
            top = [{"token": t, "logprob": self.log_prob(prompt, t)} for t in (*firsts, "The", " I")]
            choice["logprobs"] = {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": top}]}


def tokens_of(text):
    """The toy's tokens of a text; together they are the text."""
    return re.findall(r"\s*\w+|\s*[^\w\s]|\s+", text)


def words(rng, count):
    """Some words in a row."""
    return " ".join(rng.choice(WORDS) for _ in range(count))


def chosen(server, prompt, choice):
    """Log-likelihood of a choice after a prompt, by the toy's own numbers."""
    parts = tokens_of(prompt + choice)
    start = len(tokens_of(prompt))
    return math.fsum(server.log_prob("".join(parts[:i]), parts[i]) for i in range(start, len(parts)))
