"""Defensive parsing of server responses: text, finish reason, token counts, Retry-After."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping
from typing import Any

from gold_lightning.generators.base import Finish, Request

__all__ = [
    "at_path",
    "finish_reason",
    "first_choice",
    "is_blocked",
    "is_number",
    "is_tool_call",
    "meaning_of",
    "plain_word",
    "printable",
    "retry_after",
    "thinking_tokens",
    "thought_apart",
    "token_counts",
]


def printable(text: str, max_length: int = 200) -> str:
    """A text as one line of printable characters, shortened to a maximum length."""
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text[: 4 * max_length]).split())
    return text if len(text) <= max_length else text[: max_length - 3] + "..."


def retry_after(value: str | None) -> float | None:
    """Seconds to wait according to a Retry-After header, which holds seconds or a date; ``None`` for anything else."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def at_path(value: Any, *path: str | int) -> Any:
    """The value at a path in JSON of any shape; ``None`` if there is none."""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def is_number(value: Any) -> bool:
    """Whether a value is a number, finite or infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def first_choice(reply: Mapping[str, Any], form: str) -> tuple[Any, Mapping[str, Any]] | None:
    """Content of a reply, and its first choice with ``usage`` and ``prompt_logprobs``; ``None`` if it has no choice.

    The content is text or a list of parts, as :func:`~gold_lightning.parsing.read_reply` takes it.
    """
    choice = at_path(reply, "choices", 0)
    message = at_path(choice, "message") if form == "chat" else choice
    content = at_path(message, "content" if form == "chat" else "text")
    if isinstance(content, dict):
        content = [content]
    # A tool call has no text, which counts as an empty one.
    if (
        not isinstance(choice, dict)
        or not isinstance(message, dict | None)
        or not isinstance(content, str | list | None)
    ):
        return None
    if message is None and not choice.keys() & {"finish_reason", "error"}:
        return None
    refusal = at_path(message, "refusal")
    if not content and isinstance(refusal, str) and refusal.strip():
        content = [{"type": "refusal", "refusal": refusal}]
    return _storable(content or ""), {name: at_path(reply, name) for name in ("prompt_logprobs", "usage")} | choice


def _storable(value: Any) -> Any:
    """JSON with U+FFFD in place of lone surrogates, which JSON allows but UTF-8 cannot encode."""
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(part) for part in value]
    return {name: _storable(part) for name, part in value.items()} if isinstance(value, dict) else value


def thought_apart(choice: Mapping[str, Any]) -> bool:
    """Whether a message holds the model's thinking beside its text, as servers with a reasoning parser return it."""
    if any(_holds_text(at_path(choice, "message", name)) for name in _THINKING):
        return True
    return thinking_tokens(choice) > 0


def thinking_tokens(choice: Mapping[str, Any]) -> int:
    """Tokens of the thinking, as the server counts them; 0 if it counts none."""
    counts = (_whole_number(at_path(choice, "usage", *path)) for path in _THINKING_TOKENS)
    return max((count for count in counts if count), default=0)


_THINKING = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks", "thoughts")
_THINKING_TOKENS = (("completion_tokens_details", "reasoning_tokens"), ("reasoning_tokens",))


def _holds_text(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_holds_text(part) for part in parts)


def plain_word(word: str) -> str:
    """A name in lower case without punctuation and qualifier: ``FinishReason.MAX_TOKENS`` becomes ``maxtokens``."""
    return re.sub(r"[\W_]+", "", word.rpartition(".")[2]).casefold().removeprefix("finishreason")


# Why a text ended, in the words of OpenAI, Anthropic, Gemini, Bedrock, Cohere, Mistral, xAI, watsonx, Zhipu, TGI, vLLM,
# SGLang, llama.cpp and Ollama.
_ENDS: dict[Finish, str] = {
    "stop": """stop stopped eos eostoken eot endturn endofturn endoftext endofsequence endofmessage stopsequence
        stopsequences stopstring stopword stoptoken stopcriteria stopcriteriamet complete completed end finish finished
        done normal reasonstop succeeded success naturalstop eosfound stoppedeos stoppedword
        toolcall toolcalls tooluse functioncall""",
    "length": """length limit maxtokens maxlength maximumlength maximumtokens maxnewtokens maxoutput maxoutputtokens
        tokenlimit modellength maxcontext maxcontextlength contextlength modelcontextwindowexceeded incomplete truncated
        reasonmaxlen reasonmaxcontext notfinished unfinished pauseturn errorlimit outputlimit stoppedlimit lengthlimit
        maxtokensreached maxlengthreached tokenlimitreached outputtokenlimit contextwindow""",
    "filtered": """contentfilter contentfiltered contentfiltering contentpolicy contentpolicyviolation safety recitation
        blocklist prohibitedcontent spii modelarmor imagesafety imageprohibitedcontent language blocked refusal refused
        guardrail guardrails guardrailintervened sensitive moderation flagged filtered errortoxic jailbreak
        contentblocked safetyfilter censored policyviolation inputsensitive outputsensitive""",
    "failed": """error abort aborted cancel cancelled canceled failed failure timeout timelimit reasontimelimit
        usercancel networkerror insufficientsystemresource malformedfunctioncall malformedtooluse malformedmodeloutput
        unexpectedtoolcall toomanytoolcalls internalerror servererror unavailable killed
        interrupted disconnected preempted evicted""",
}
_MEANING: dict[str, Finish] = {word: finish for finish, words in _ENDS.items() for word in words.split()}


def meaning_of(reason: object) -> Finish | None:
    """Maps a server's finish reason, in any spelling, to ours.

    Args:
        reason: The word, or an object that holds it, as ``{"type": "eos_token"}``.

    Returns:
        ``None`` if there is no reason. Unknown words count as ``length``, and so do numbers: 1 means the end on one
        server and the limit on another.
    """
    if isinstance(reason, dict):
        names = ("type", "reason", "name", "value", "finish_reason", "kind")
        reason = next((reason[n] for n in names if isinstance(reason.get(n), str)), "unknown" if reason else None)
    if isinstance(reason, str) and plain_word(reason) not in ("", "null", "none", "unspecified"):
        return _MEANING.get(plain_word(reason), "length")
    return None if reason is None or isinstance(reason, str) else "length"


def finish_reason(choice: Mapping[str, Any], completion_tokens: int | None, request: Request) -> Finish | None:
    """Why the text ended: the server's finish reason, or else a comparison of its length with the maximum.

    A text without a finish reason that has fewer tokens than allowed was ended by the model or by a stop text.

    Args:
        choice: The reply's choice.
        completion_tokens: Tokens written, as the server counts them; ``None`` if it does not.
        request: The request.

    Returns:
        ``None`` if the server returns neither a reason nor a count.
    """
    finish = next((m for name in _FINISH_KEYS if (m := meaning_of(choice.get(name)))), None)
    if finish in ("stop", None):  # a router may report "stop" for a text that its provider ended otherwise
        native = choice.get("native_finish_reason")
        known = isinstance(native, str) and plain_word(native) in _MEANING
        finish = "filtered" if _is_filtered(choice) else (meaning_of(native) if known else None) or finish
    if finish or completion_tokens is None:
        return finish
    return "length" if completion_tokens >= request.max_tokens else "stop"


_FINISH_KEYS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason")


def is_tool_call(choice: Mapping[str, Any]) -> bool:
    """Whether a reply calls a tool or a function instead of answering."""
    called = at_path(choice, "message", "tool_calls") or at_path(choice, "message", "function_call")
    if isinstance(called, list | dict) and called:
        return True
    word = choice.get("finish_reason")
    return isinstance(word, str) and plain_word(word) in ("toolcall", "toolcalls", "tooluse", "functioncall")


def is_blocked(reply: Mapping[str, Any]) -> bool:
    """Whether a reply without a text reports that a filter blocked the prompt."""
    for feedback in (at_path(reply, "prompt_feedback"), at_path(reply, "promptFeedback")):
        if at_path(feedback, "block_reason") or at_path(feedback, "blockReason"):
            return True
    if at_path(reply, "input_sensitive") is True:
        return True
    results = at_path(reply, "prompt_filter_results")
    return any(_is_filtered(result) for result in results) if isinstance(results, list) else False


def _is_filtered(value: Any) -> bool:
    results = at_path(value, "content_filter_results")
    return isinstance(results, dict) and any(at_path(result, "filtered") is True for result in results.values())


def token_counts(reply: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens of prompt and completion as the server counts them; ``None`` for a count that is missing or invalid."""
    usage = at_path(reply, "usage")
    names = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    counts = [next((n for name in pair if (n := at_path(usage, name)) is not None), None) for pair in names]
    return _whole_number(counts[0]), _whole_number(counts[1])


def _whole_number(value: Any) -> int | None:
    """A count, which some servers write as 7.0."""
    return int(value) if is_number(value) and 0 <= value < math.inf and value == int(value) else None
