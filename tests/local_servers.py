"""Stand-ins for servers of local models: each answers, errs and thinks in the way of the server that it is named after.

What they do was read in the servers' documentation and bug trackers in autumn 2026, and seen at llama.cpp's server
(build 11549); the others were not run.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.servers import FakeServer, tokens_of

THOUGHT = "Okay, the user wants one sample. I will write about a river."
SWITCH = "chat_template_kwargs"


@dataclass
class LocalServer(FakeServer):
    """What the servers have in common: a model that may think before it answers.

    Args:
        thinks: Whether the model thinks, unless it is told not to.
    """

    thinks: bool = False

    def _judge(self, call):
        error = self._error(call)
        if error:
            return error
        status, reply = super()._judge(call)
        if status == 200:
            if self.thinks and not self._told_not_to_think(call.body) and "messages" in call.body:
                self._think(call.body, reply)
            self._sign(reply)
        return status, reply

    def _error(self, call):
        """Status and body of this server's own errors; ``None`` if there is none."""

    def _told_not_to_think(self, body):
        return body.get(SWITCH, {}).get("enable_thinking") is False

    def _think(self, body, reply):
        """Puts thoughts beside the text. They take tokens, and may leave none for the text."""
        thought, (choice,) = len(tokens_of(THOUGHT)), reply["choices"]
        left = body["max_tokens"] - thought
        if left < reply["usage"]["completion_tokens"]:
            choice["message"]["content"] = "".join(tokens_of(choice["message"]["content"])[: max(0, left)])
            choice["finish_reason"] = "length"
        reply["usage"]["completion_tokens"] += thought
        choice["message"][self.thoughts] = THOUGHT

    def _sign(self, reply):
        """Adds members that only this server has."""


@dataclass
class Ollama(LocalServer):
    """Ollama's ``/v1``.

    Args:
        old: Whether it is older than 0.12.11, which drops ``logprobs`` without a word.
    """

    old: bool = False
    thoughts = "reasoning"

    def _error(self, call):
        if call.body["model"] != self.model:
            message = f"model '{call.body['model']}' not found"
            return 404, {"error": {"message": message, "type": "api_error", "param": None, "code": None}}
        if self.old:
            call.body.pop("top_logprobs", None)
        call.body.pop("echo", None)

    def _told_not_to_think(self, body):
        return body.get("reasoning_effort") == "none"

    def _sign(self, reply):
        reply["system_fingerprint"] = "fp_ollama"


@dataclass
class LMStudio(LocalServer):
    """LM Studio's server, which answers a wrong path with status 200.

    Args:
        apart: Whether its setting that puts thoughts beside the text is on; off by default.
    """

    apart: bool = False
    thoughts = "reasoning_content"

    def _error(self, call):
        if not call.path.startswith("/v1/"):
            return 200, {"error": f"Unexpected endpoint or method. (POST {call.path})"}
        if call.body["model"] != self.model:
            message = "No models loaded. Please load a model in the developer page or use the 'lms load' command."
            wrong = {"message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
            return 404, {"error": wrong}
        if call.body.get("response_format", {}).get("type", "text") not in ("json_schema", "text"):
            return 400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}
        for name in ("top_logprobs", "echo"):
            call.body.pop(name, None)

    def _told_not_to_think(self, body):
        return False

    def _think(self, body, reply):
        super()._think(body, reply)
        message = reply["choices"][0]["message"]
        if not self.apart:
            message["content"] = f"<think>\n{message.pop(self.thoughts)}\n</think>\n\n{message['content']}"

    def _sign(self, reply):
        reply["choices"][0]["logprobs"] = None
        reply["stats"] = {}


@dataclass
class LlamaCpp(LocalServer):
    """llama-server of llama.cpp, which has one model whatever it is called.

    It goes on with a final assistant message, which it repeats before what it writes.

    Args:
        loading: Number of first calls during which the model is loaded.
        old: Whether it refuses to echo a prompt, which newer builds leave out without a word, and to go on with an
            answer if its model thinks (bug reports of spring 2026).
    """

    loading: int = 0
    old: bool = False
    continues: bool = True
    thoughts = "reasoning_content"

    def _error(self, call):
        if call.number < self.loading:
            return 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
        if call.body.pop("echo", False) and self.old:
            return 400, {
                "error": {"code": 400, "message": "Only no echo is supported", "type": "invalid_request_error"}
            }
        going_on = call.body.get("messages", [{}])[-1].get("role") == "assistant"
        if self.old and self.thinks and going_on and not self._told_not_to_think(call.body):
            message = "Assistant response prefill is incompatible with enable_thinking."
            return 400, {"error": {"code": 400, "message": message, "type": "invalid_request_error"}}
        size = len(tokens_of(str(call.body.get("prompt", call.body.get("messages")))))
        if size > self.limit:
            message = (
                f"request ({size} tokens) exceeds the available context size ({self.limit} tokens), try increasing it"
            )
            wrong = {"code": 400, "message": message, "type": "exceed_context_size_error", "n_prompt_tokens": size}
            return 400, {"error": wrong | {"n_ctx": self.limit}}
        call.body["model"] = self.model
        call.body.pop("prompt_logprobs", None)

    def _judge(self, call):
        status, reply = super()._judge(call)
        last = call.body.get("messages", [{}])[-1]
        if status == 200 and last.get("role") == "assistant":
            message = reply["choices"][0]["message"]
            message["content"] = last["content"] + message["content"]
        return status, reply

    def _sign(self, reply):
        reply["timings"] = {"prompt_n": 9, "prompt_ms": 11.5, "predicted_n": 7, "predicted_per_second": 61.2}
        for content in ((reply["choices"][0].get("logprobs") or {}).get("content")) or ():
            for token in (content, *content["top_logprobs"]):
                token |= {"id": 11, "bytes": list(token["token"].encode())}


@dataclass
class VLLM(LocalServer):
    """vLLM's server, with a reasoning parser."""

    continues: bool = True
    thoughts = "reasoning"

    def _error(self, call):
        if call.body["model"] != self.model:
            message = f"The model `{call.body['model']}` does not exist."
            return 404, {"error": {"message": message, "type": "NotFoundError", "param": "model", "code": 404}}

    def _sign(self, reply):
        reply["choices"][0] |= {"stop_reason": None, "token_ids": None}
        reply |= {"kv_transfer_params": None, "service_tier": None}
