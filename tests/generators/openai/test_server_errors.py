"""What a server's error means: servers' own words, in the forms in which they give them."""

from __future__ import annotations

import json

import pytest
from gold_lightning.generators.openai.server_errors import Interface, advice, read_error

HOW = Interface("http://h:8000/v1", "chat", "message", "", "Authorization", scoring=False)


def read(status, body):
    text = body if isinstance(body, str) else json.dumps(body)
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    return read_error(status, data, text)


def said(message, **more):
    return {"error": {"message": message, **more}}


ERRORS = [
    # no credit
    ("credit", 402, said("Insufficient Balance", code="invalid_request_error")),
    ("credit", 402, {"error": "You have exceeded your monthly included credits"}),
    ("credit", 429, said("You exceeded your current quota, please check your plan", code="insufficient_quota")),
    ("credit", 429, said("account suspended", type="exceeded_current_quota_error")),
    (
        "credit",
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}},
    ),
    ("credit", 403, said("Your team has either used all available credits or reached its monthly spending limit")),
    ("credit", 403, {"code": "1113", "msg": "余额不足或无可用资源包"}),
    ("credit", 400, {"code": "Arrearage", "message": "Access denied"}),
    ("credit", 200, said("Insufficient credits", code=402)),
    # too long
    ("too_long", 400, [said("The input token count (40000) exceeds the maximum number of tokens allowed (32768).")]),
    ("too_long", 400, said("Please reduce the length of the messages or completion.", code="context_length_exceeded")),
    ("too_long", 400, said("no", code="context_length_exceeded")),
    (
        "too_long",
        422,
        {"error": "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3000", "error_type": "validation"},
    ),
    ("too_long", 422, {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 1500"}),
    ("too_long", 400, {"object": "error", "message": "This model's maximum context length is 8 tokens", "code": 400}),
    ("too_long", 400, {"object": "error", "message": "Input length 9 exceeds the model's maximum context length 8"}),
    ("too_long", 400, said("the request exceeds the available context size", type="exceed_context_size_error")),
    ("too_long", 500, said("the request exceeds the available context size, try increasing it")),
    ("too_long", 400, {"message": "Input is too long for requested model."}),
    ("too_long", 429, said("Request too large for gpt on tokens per min (TPM)", code="rate_limit_exceeded")),
    ("too_long", 413, ""),
    # a wrong parameter, which is no long prompt
    ("setting", 400, said("top_p must be <= 1 and > 0 for this model")),
    ("setting", 400, said("temperature must be <= 2")),
    ("setting", 422, {"detail": [{"type": "x", "loc": ["body", "top_p"], "msg": "Input should be less than 1"}]}),
    ("setting", 400, said("max_tokens must be <= 4096")),
    ("setting", 400, said("Unknown parameter: safety_settings", param="safety_settings", type="invalid_request_error")),
    ("setting", 400, said("Unsupported parameter: 'stop' is not supported with this model.", param="stop")),
    # a wrong key
    ("key", 401, {"detail": "no"}),
    ("key", 403, "Forbidden"),
    ("key", 400, [said("Please pass a valid API key.", status="INVALID_ARGUMENT")]),
    ("key", 400, [said("API key not valid.", details=[{"reason": "API_KEY_INVALID"}])]),
    ("key", 400, [said("no", details=[{"@type": "x", "reason": "API_KEY_INVALID"}])]),
    ("key", 401, {"message": "invalid api token"}),
    ("key", 400, {"error": "Incorrect API key provided"}),
    # a model that is not there
    ("model", 404, said("The model `x` does not exist.", code="model_not_found")),
    (
        "model",
        404,
        {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
    ),
    ("model", 404, {"error": "model 'x' not found, try pulling it first"}),
    ("model", 400, said("x is not a valid model ID", code=400)),
    ("model", 400, said("Model Not Exist", type="invalid_request_error")),
    ("model", 404, said("The API deployment for this resource does not exist.", code="DeploymentNotFound")),
    ("model", 400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model"}),
    # a wrong address
    ("url", 200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
    ("url", 404, {"detail": "Not Found"}),
    ("url", 404, "404 page not found"),
    ("url", 404, said("Invalid URL (POST /chat/completions)")),
    ("url", 405, {"detail": "Method Not Allowed"}),
    ("url", 404, "<html><head><title>404 Not Found</title></head></html>"),
    ("url", 200, "<!doctype html><html><title>Open WebUI</title></html>"),
    # no system message
    ("system", 400, said("System role not supported")),
    ("system", 500, {"object": "error", "message": "jinja2: Conversation roles must alternate user/assistant/user"}),
    ("system", 400, [said("Developer instruction is not enabled for models/gemma-3-27b-it")]),
    ("system", 400, said("Only user and assistant roles are supported!")),
    ("system", 400, said("This model does not support system messages")),
    # what may heal
    ("busy", 429, said("Rate limit reached for requests", code="rate_limit_exceeded")),
    ("busy", 429, [said("You exceeded your current quota", status="RESOURCE_EXHAUSTED")]),
    ("busy", 503, said("Loading model", type="unavailable_error")),
    ("busy", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ("busy", 502, "<html><title>502 Bad Gateway</title></html>"),
    ("busy", 200, said("provider is down", code=502)),
    ("busy", 200, said("busy", code="rate_limit_exceeded")),
    ("busy", 200, {"error": {"message": "try later", "type": "server_error"}}),
    ("redirect", 301, ""),
    ("proxy", 407, "<html>Proxy Authentication Required</html>"),
]


@pytest.mark.parametrize(("kind", "status", "body"), ERRORS, ids=lambda v: str(v)[:60])
def test_what_is_wrong(kind, status, body):
    assert read(status, body).kind == kind


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": "a"}}]},
        {"choices": [], "error": None},
        {"choices": [{"text": "a"}], "error": {"message": "a warning"}},
        {"error": {}, "choices": None},
        [1, 2],
        "no JSON",
        "",
        "3",
    ],
    ids=str,
)
def test_what_is_no_error(body):
    assert read(200, body) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (said("a"), "a"),
        ({"error": "a"}, "a"),
        ({"message": "a", "error": "Bad Request"}, "a"),
        ({"object": "error", "message": {"detail": [{"loc": ["body", "x"], "msg": "a"}]}}, "body.x: a"),
        ({"detail": [{"loc": ["body", 0], "msg": "a"}, {"loc": ["b"], "msg": "c"}]}, "body.0: a; b: c"),
        ({"errors": [{"code": 7, "message": "a"}], "success": False}, "a"),
        ({"fault": {"faultstring": "a"}}, "a"),
        ({"error": True, "message": "a"}, "a"),
        (said("Provider returned error", metadata={"raw": "the reason"}), "Provider returned error: the reason"),
        ("<html><head><title>Just\n a page</title></head>", "a page of HTML: Just a page"),
        ("plain", "plain"),
        ({"odd": 1}, '{"odd": 1}'),
        ([said("a"), said("b")], "a; b"),
        ({"error": {"error": {"error": {"error": {"error": {"error": {"error": {"error": "deep"}}}}}}}}, "{"),
    ],
    ids=str,
)
def test_the_words_are_found_wherever_they_stand(body, message):
    assert read(400, body).said.startswith(message)


@pytest.mark.parametrize(
    ("status", "body", "how", "words"),
    [
        (404, {"detail": "Not Found"}, {"url": "http://h"}, "most end in /v1: try http://h/v1"),
        (404, said("no such model", available_models=["a", "b"]), {}, "(it offers a, b)"),
        (404, said("model not found", models=[{"id": "a"}]), {}, "(it offers a)"),
        (401, said("no"), {"api_key_env": "K"}, "the key in the environment variable K"),
        (401, said("no"), {"api_key_env": "K", "url": "https://x.openai.azure.com/openai"}, "api_key_header: api-key"),
        (400, said("System role not supported"), {}, "system to user"),
        (400, said("System role not supported"), {"system": "user"}, "look at data.generator.init_args.model"),
        (400, said("Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead."), {}, "max_tokens_field"),
        (400, said("'temperature' does not support 0.9", param="temperature"), {}, "extra: {temperature: null}"),
        (400, said("Invalid value at 'seed' (TYPE_INT32)"), {}, "extra: {seed: null}"),
        (400, said("top_logprobs must be <= 5"), {"scoring": True}, "label_agreement: set it to off"),
        (400, said("no"), {"scoring": True}, "data.plan.label_agreement to off"),
        (404, said("Resource not found", code="404"), {"url": "https://x.openai.azure.com"}, "?api-version="),
        (400, "<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>", {}, "look at data.g"),
        (407, "", {"proxy": "HTTP_PROXY"}, "the variable HTTP_PROXY asks for a name"),
    ],
    ids=str,
)
def test_the_advice_names_what_was_wrong(status, body, how, words):
    assert words in advice(read(status, body), Interface(**vars(HOW) | how))


def test_a_wait_that_stands_in_the_error_is_read():
    error = read(429, [said("slow down", details=[{"retryDelay": "34.5s"}])])
    assert (error.kind, error.wait) == ("busy", 34.5)
