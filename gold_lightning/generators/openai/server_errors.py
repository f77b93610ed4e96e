"""Classifies the errors of servers: what is wrong, whether a retry can help, and which setting to change.

Servers share no error format. The message may be a text, an object, a list around it, or an HTML page; the status may
be 200 for an error, and 400 for a wrong key. The kind of an error is therefore taken from its codes first, then from
its words, and from its status last.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gold_lightning.generators.openai.parse_response import at_path, plain_word, printable

__all__ = ["ErrorKind", "Interface", "ServerError", "advice", "read_error"]

_KEY = "data.generator.init_args."

ErrorKind = Literal[
    "busy",  # a retry may succeed
    "filtered",  # this prompt is refused, others are not
    "credit",
    "too_long",
    "key",
    "proxy",
    "model",
    "url",
    "redirect",
    "system",  # the model takes no system message
    "setting",
]
"""What is wrong, as far as the server says."""


@dataclass(frozen=True)
class ServerError:
    """An error in a server's reply.

    Args:
        status: HTTP status; that of the error, if a reply with a good status holds one.
        said: The server's message, in one line.
        kind: What is wrong.
        coded: Whether a status or code says what is wrong, rather than words alone.
        parameter: Member of the call that the server complains about; "" if it names none.
        offered: Names of models that the server offers instead.
        wait: Seconds that the error asks to wait; ``None`` if it does not.
        of_prompt: Whether the error may concern this prompt alone: a refusal in unknown words. It does if other
            calls with the same settings are answered.
    """

    status: int
    said: str
    kind: ErrorKind
    coded: bool = True
    parameter: str = ""
    offered: tuple[str, ...] = ()
    wait: float | None = None
    of_prompt: bool = False

    @property
    def ends_run(self) -> bool:
        """Whether no other call will be answered either until a setting or the account changes."""
        return self.kind not in ("busy", "filtered", "setting") and self.coded


@dataclass(frozen=True)
class Interface:
    """The settings that advice depends on.

    Args:
        url: Base URL of the server.
        form: ``chat`` or ``completion``.
        system: Place of the system text: ``message`` or ``user``.
        api_key_env: Name of the variable that holds the key; "" if no key is sent.
        api_key_header: Name of the header that carries the key.
        scoring: Whether the call requested likelihoods of labels.
        proxy: Name of the variable that names the proxy; "" if there is none.
    """

    url: str
    form: str
    system: str
    api_key_env: str
    api_key_header: str
    scoring: bool
    proxy: str = ""


# Codes in lower case, without punctuation.
_CODES: dict[ErrorKind, frozenset[str]] = {
    "filtered": frozenset(
        "contentfilter contentfiltered contentpolicyviolation contentpolicy contentmoderation contentblocked "
        "responsibleaipolicyviolation invalidprompt safety safetyviolation prohibitedcontent blocklist recitation "
        "spii moderation moderationblocked inputmoderation datainspectionfailed guardrailintervened guardrail "
        "jailbreak contentpolicyviolationerror usagepolicyviolation cyberpolicyviolation sensitivecontent".split()
    ),
    "credit": frozenset(
        "insufficientquota insufficientbalance insufficientcredits insufficientcredit insufficientfunds "
        "billinghardlimitreached billingnotactive exceededcurrentquotaerror arrearage paymentrequired "
        "outofcredits creditlimitexceeded spendinglimitreached".split()
    ),
    "too_long": frozenset(
        "contextlengthexceeded exceedcontextsizeerror stringabovemaxlength contextwindowexceeded "
        "contextwindowexceedederror requesttoolarge promptoolong prompttoolong toomanytokens".split()
    ),
    "key": frozenset(
        "invalidapikey apikeyinvalid incorrectapikey authenticationerror unauthenticated unauthorized "
        "invalidauthentication accesstokenexpired apikeyexpired missingapikey invalidapikeyerror".split()
    ),
    "model": frozenset(
        "modelnotfound modelnotsupported invalidmodel deploymentnotfound modelnotexist modelnotavailable "
        "unknownmodel modeldecommissioned modelnotfounderror".split()
    ),
    "busy": frozenset(
        "ratelimitexceeded ratelimited ratelimit ratelimiterror overloaded overloadederror engineoverloaded "
        "servererror internalservererror internalerror internal apierror serviceunavailable unavailable timeout "
        "resourceexhausted serveroverloaded modeloverloaded upstreamerror badgateway gatewaytimeout "
        "throttlingexception throttling toomanyrequests".split()
    ),
}


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_FILTERED = _words(
    r"content management policy|responsible ?ai|(usage|content|acceptable use) polic|content guidelines",
    r"(input|prompt|request|response|content|output)\b.{0,40}\b(was|were|been|is|got) (flagged|filtered|moderated)",
    r"(input|prompt|request|content|response) (was |is |has been )?(blocked|rejected|withheld) (by|because|due|for)",
    r"trigger\w* .{0,40}content.?filter|content.?filter\w* .{0,20}trigger|flagged as",
    r"content.?policy.?violation|content.?filter(ing)? polic|content exists risk",
    r"(in|out)put (new_)?sensitive|legal reasons|high.?risk content",
    r"(inappropriate|prohibited|unsafe) content|content.?moderation|requires moderation|guardrail",
    r"safety (system|filter|reason|guideline|polic|check|rating)|block.?reason|敏感|不安全|不合规",
)
_CREDIT = _words(
    r"insufficient.{0,12}(balance|credit|fund|quota)|credit balance|余额不足|欠费",
    r"(out of|no|not enough|used all|more) .{0,20}credits|spending limit|payment required",
    r"billing (hard limit|is not active|not active)",
)
_TOO_LONG = _words(
    r"context.?(length|size|window)|max\w* (model|context|sequence) len|longer than the (max|model)",
    r"(prompt|input) is too long|too many (input )?tokens|maximum number of (input )?tokens|request too large",
    r"\b(tokens|inputs)\W.{0,60}(must have less than|must be <=)|context the overflows",
    r"reduce (the|your) (length|message|prompt|input)",
    r"(tokens?|input|prompt)\b.{0,40}\bexceeds? .{0,40}(context|token|maximum)",
)
_WRONG_KEY = _words(
    r"(invalid|incorrect|wrong|missing|expired|bad|no|valid|provide an?) api.?key|subscription key",
    r"api.?key\b.{0,30}\b(not|invalid|expired|missing)|authentication (failed|error|required)",
    r"(invalid|expired) (\w+ )?(token|credential)|invalid.authorization|login fail|carry the api.?(secret.?)?key",
)
_NO_MODEL = _words(
    r"model\b.{0,80}\b(not found|does not exist|doesn.t exist|not exist|unknown|decommissioned|no longer)",
    r"model\b.{0,60}\bis not (available|loaded|deployed|supported by any|a valid)|(unknown|invalid|no such) model\b",
    r"not a valid model|deployment\b.{0,60}not (exist|found)|no (model|endpoints?) (found|available|is loaded|loaded)",
)
_WRONG_URL = _words(
    r"unexpected endpoint|invalid url|no route|route .{0,40}not found|cannot (post|get) /|unrecognized request url",
    r"(unknown|no such) (path|endpoint|url)|path .{0,40}not found",
)
_SYSTEM = _words(
    r"system.?(role|message|prompt|instruction)s?\b.{0,60}(\bnot\b|n't|unsupported|disabled)",
    r"(not|n't) (support|accept|allow|take).{0,40}\bsystem\b|role.{0,12}\bsystem\b.{0,40}(not|unsupported|invalid)",
    r"(unexpected|invalid|unknown|unsupported).{0,20}role.{0,12}\bsystem\b|roles must alternate",
    r"only (the )?\W?user\W? ?(and|,|/|or) ?(the )?\W?(assistant|model)\W? (roles|messages|are)",
    r"must (start|begin) with .{0,12}\buser\b|first message .{0,30}\buser\b|developer instruction",
)
_OF_PROMPT = (400, 403, 406, 409, 422)  # statuses with which a server, or a firewall before it, refuses one prompt
_DIRECT = {402: "credit", 407: "proxy", 413: "too_long", 401: "key"}
# These statuses never come from a filter, though messages about a limit or a wrong key may look like it.
_NEVER_FILTERED = (401, 402, 404, 405, 407, 408, 413, 429)


def read_error(status: int, data: Any, text: str) -> ServerError | None:
    """Finds the error in a reply.

    Args:
        status: HTTP status of the reply.
        data: Its JSON; ``None`` if it is not JSON.
        text: Its text.

    Returns:
        ``None`` if there is no error: a good status, and no error in the body.
    """
    good = 200 <= status < 300
    while isinstance(data, list) and len(data) == 1:  # Gemini's
        data = data[0]
    page = data is None and bool(re.match(r"\s*<(!doctype|html|head|body|\?xml)", text, re.IGNORECASE))
    if good and not page:
        if not isinstance(data, dict) or at_path(data, "choices"):
            return None
        errors = [data.get(name) for name in ("error", "errors", "detail", "error_message")]
        if not (any(errors) or data.get("object") == "error" or data.get("type") == "error" or _is_refusal(data)):
            return None
    said = printable(_message(data) or _plain_text(text if data is None else json.dumps(data, ensure_ascii=False)))
    codes = {plain_word(c) for c in _codes(data)}
    number = next((n for c in _codes(data) if (n := int(c) if c.isdigit() else 0) in range(400, 600)), 0)
    coded = not good or bool(number) or any(codes & known for known in _CODES.values())
    if good:
        status = number or status
    kind = _kind(status, codes, said, page)
    parameter = next((p for p in _at(data, "param") if p), "")
    offered = next((names for names in _offered(data) if names), ())
    delay = next((d for d in _at(data, "retryDelay") if re.fullmatch(r"\d+(\.\d+)?s", d)), "")  # Gemini's
    unknown = kind == "setting" or (kind == "key" and not (codes & _CODES["key"] or _WRONG_KEY.search(said)))
    wait = float(delay[:-1]) if delay else None
    return ServerError(status, said, kind, coded, parameter, offered, wait, unknown and status in _OF_PROMPT)


def _is_refusal(data: Mapping[str, Any]) -> bool:
    """Whether a reply without an error reports failure in another format, as gateways do."""
    if data.get("success") is False or data.get("ok") is False:
        return True
    has_message = any(isinstance(data.get(name), str) and data[name] for name in ("msg", "message"))
    code = at_path(data, "base_resp", "status_code") or (data.get("code") if has_message else 0)
    return isinstance(code, int | str) and str(code) not in ("0", "200", "", "False", "success", "ok")


def _kind(status: int, codes: set[str], said: str, page: bool) -> ErrorKind:
    filtered = codes & _CODES["filtered"] or _FILTERED.search(said) or status == 451
    if filtered and status not in _NEVER_FILTERED:
        return "filtered"
    if codes & _CODES["credit"] or (_CREDIT.search(said) and status != 500):
        return "credit"
    if codes & _CODES["too_long"] or (
        _TOO_LONG.search(said) and (status != 429 or "request too large" in said.lower())
    ):
        return "too_long"
    if status in _DIRECT:
        return _DIRECT[status]  # type: ignore[return-value]
    if status < 500 and status != 429:
        if codes & _CODES["key"] or _WRONG_KEY.search(said):
            return "key"
        if codes & _CODES["model"] or _NO_MODEL.search(said):
            return "model"
        if _WRONG_URL.search(said) or (page and status != 403) or status in (404, 405):
            return "url"
    if _SYSTEM.search(said):
        return "system"
    if status in (408, 409, 425, 429) or (status >= 500 and status != 501):
        return "busy"
    if status == 403:
        return "key"
    if 300 <= status < 400:
        return "redirect"
    if status == 200 and codes & _CODES["busy"]:
        return "busy"
    return "setting"


def _message(value: Any, depth: int = 0) -> str:
    """The message of an error, at whatever place in its JSON."""
    if depth > 6:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(m for m in (_message(v, depth + 1) for v in value[:4]) if m)
    if not isinstance(value, dict):
        return ""
    if isinstance(text := value.get("msg"), str) and isinstance(location := value.get("loc"), list):
        return f"{'.'.join(map(str, location))}: {text}"
    for name in _MESSAGE_KEYS:
        if message := _message(value.get(name), depth + 1):
            raw = at_path(value, "metadata", "raw")  # the message of a provider behind a router
            return f"{message}: {raw}" if isinstance(raw, str) and raw and raw not in message else message
    return ""


_MESSAGE_KEYS = (
    "message error detail details errors msg error_message errorMessage error_description reason fault faultstring "
    "title Message description innererror base_resp status_msg"
).split()


def _walk(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if depth > 6:
        return
    if isinstance(value, dict):
        yield value
        for name, part in value.items():
            if name != "choices":
                yield from _walk(part, depth + 1)
    elif isinstance(value, list):
        for part in value[:20]:
            yield from _walk(part, depth + 1)


def _at(data: Any, *names: str) -> Iterator[str]:
    for part in _walk(data):
        for name in names:
            value = part.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool):
                yield str(value)


def _codes(data: Any) -> list[str]:
    return list(
        _at(data, "code", "status_code", "status", "type", "error_type", "err_type", "error_code", "reason", "kind")
    )


def _offered(data: Any) -> Iterator[tuple[str, ...]]:
    for part in _walk(data):
        for name in ("available_models", "allowed_models", "supported_models", "valid_models", "models", "available"):
            models = part.get(name)
            names = [m if isinstance(m, str) else at_path(m, "id") for m in models] if isinstance(models, list) else []
            yield tuple(n for n in names if isinstance(n, str))


def _plain_text(text: str) -> str:
    """The title of an HTML page, or its words; other text unchanged."""
    if not re.match(r"\s*<", text):
        return text
    title = re.search(r"<title[^>]*>(.{1,200}?)</title>", text[:20_000], re.IGNORECASE | re.DOTALL)
    words = title[1] if title else re.sub(r"<[^>]{0,500}>", " ", text[:4000])
    return f"a page of HTML: {html.unescape(words)}"


# The setting behind each member of a call.
_SETTINGS = {
    "temperature": f"{_KEY}temperature, or leave it out with {_KEY}extra: {{temperature: null}}",
    "top_p": f"{_KEY}top_p, or leave it out with {_KEY}extra: {{top_p: null}}",
    "seed": f"{_KEY}extra: {{seed: null}} leaves it out",
    "stop": f"{_KEY}extra: {{stop: null}} leaves it out",
    "max_tokens": f"{_KEY}max_tokens_field (or max_completion_tokens), and the task's max_sample_tokens",
    "max_completion_tokens": f"{_KEY}max_tokens_field (or max_tokens), and the task's max_sample_tokens",
    "response_format": f"{_KEY}schema: set it to off",
    "logprobs": "data.plan.label_agreement: set it to off",
    "top_logprobs": "data.plan.label_agreement: set it to off",
    "prompt_logprobs": "data.plan.label_agreement: set it to off",
    "echo": "data.plan.label_agreement: set it to off",
    "continue_final_message": f"{_KEY}continue_answer: set it to false",
    "add_generation_prompt": f"{_KEY}continue_answer: set it to false",
    "enable_thinking": f"{_KEY}extra: {{chat_template_kwargs: {{enable_thinking: false}}}} turns thinking off, and "
    "continue_answer: false does without the beginning of an answer",
    "messages": f"{_KEY}form",
    "prompt": f"{_KEY}form",
}


def advice(error: ServerError, interface: Interface) -> str:
    """What to change after a permanent error.

    Args:
        error: The error.
        interface: Settings of the call.
    """
    kind = error.kind
    if kind == "credit":
        return "the account has no credit left, or its limit is reached: pay in, or raise the limit"
    if kind == "too_long":
        return "the prompt is too long: show fewer or shorter demos (--data.plan.seed_demos)"
    if kind == "key":
        if not interface.api_key_env:
            return f"name the environment variable that holds the key in {_KEY}api_key_env"
        said = f"look at the key in the environment variable {interface.api_key_env}, and at what it may do"
        if interface.api_key_header.lower() == "authorization" and ".azure." in interface.url:
            said += f"; a key of Azure goes with {_KEY}api_key_header: api-key"
        return said
    if kind == "proxy":
        return f"the proxy of the variable {interface.proxy or 'HTTP_PROXY'} asks for a name and a password"
    if kind == "redirect":
        return f"set {_KEY}base_url to where it points"
    if kind == "model":
        offered = f" (it offers {printable(', '.join(error.offered[:12]))})" if error.offered else ""
        return f"look at {_KEY}model{offered}, form and base_url (most end in /v1)"
    if kind == "url":
        return _url_advice(interface)
    if kind == "system" and interface.system == "message" and interface.form == "chat":
        return f"set {_KEY}system to user: the system text then stands in the user's message"
    unknown = f"{_KEY}model, and at the setting that sends what it names (schema, extra, form, ...)"
    said = f"look at {_named(error) or unknown}"
    if interface.scoring and "label_agreement" not in said:
        said += "; if it gives no likelihoods of labels, set data.plan.label_agreement to off"
    return said


def _named(error: ServerError) -> str:
    """The setting of the member that the server complains about; "" if it names none of ours."""
    if "max_completion_tokens" in error.said and "max_tokens" in error.said.replace("max_completion_tokens", ""):
        return _SETTINGS["max_tokens"]
    if error.parameter in _SETTINGS:
        return _SETTINGS[error.parameter]
    words = re.findall(r"[a-z]+(?:_[a-z]+)*", error.said)
    named = [w for w in words if w in _SETTINGS and ("_" in w or w in ("temperature", "seed", "echo", "logprobs"))]
    return _SETTINGS[named[0]] if named else ""


def _url_advice(interface: Interface) -> str:
    if ".azure." in interface.url:
        form = "https://NAME.openai.azure.com/openai/deployments/MODEL?api-version=.."
        return f"look at {_KEY}base_url: one of Azure is {form}, or ends in /openai/v1"
    end = "" if interface.url.endswith("/v1") else f": try {interface.url}/v1"
    return f"look at {_KEY}base_url (most end in /v1{end}), form and model"
