"""The OpenAI-compatible engine against a real HTTP server that counts, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import email.utils
import itertools
import json
import logging
import math
import random
import re
import sys
import threading
import time
from dataclasses import replace

import pytest
from gold_lightning.errors import ConfigError, GoldError, MissingDependencyError
from gold_lightning.generators import OpenAIGenerator, Request
from gold_lightning.generators.openai.parse_response import printable, retry_after
from gold_lightning.parsing.blocks import without_beginning

from tests.servers import FakeServer, Fault, chosen, tokens_of

pytest.importorskip("httpx", reason="the extra openai is not installed")

KEY = "sk-test-1234567890abcdef"
ASKED = Request("You write.", "Demos.\n\n", "Write one.", "topic: World\ntext:", seed=1, max_tokens=60)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server():
    with FakeServer() as running:
        yield running


def engine(*servers, **how):
    return OpenAIGenerator("toy", [s.url for s in servers], **{"backoff": 0.01, "cooldown": 0.2, **how})


def many(count, **how):
    return [replace(ASKED, suffix=f"Write number {i}.", seed=i, **how) for i in range(count)]


def message_of(generator, request=ASKED):
    """What the engine says where it gives up: one line, and nothing that a terminal would act on."""
    with pytest.raises(GoldError) as e:
        generator.generate([request])
    text = str(e.value)
    assert text.isprintable()
    assert len(text) < 500
    return text


def first_attempt(fault):
    """The fault befalls the first call of each kind, and no other."""
    return lambda call: None if call.attempt else fault


# What is asked and given


def test_a_chat_is_asked_and_what_follows_the_beginning_is_given(server):
    server.replies = lambda body: "TOPIC:  world\n**Text:** a river\n\nand more"
    made = engine(server, temperature=0.7, top_p=0.9).generate([replace(ASKED, stop=("\n\n",))])[0]
    body = server.calls[0].body
    assert server.calls[0].path == "/v1/chat/completions"
    assert body["messages"] == [
        {"role": "system", "content": "You write."},
        {"role": "user", "content": "Demos.\n\nWrite one.\n\nBegin your answer with:\ntopic: World\ntext:"},
    ]
    sent = {k: v for k, v in body.items() if k != "messages"}
    assert sent == {
        "model": "toy",
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 1,
        "max_tokens": 60,
    }
    assert (made.text, made.finish) == (" a river", "stop")
    assert made.prompt_tokens == len(tokens_of(server._template(body["messages"])))
    assert "authorization" not in server.calls[0].headers


def test_a_completion_goes_on_from_the_prompt(server):
    made = engine(server, form="completion").generate([ASKED])[0]
    assert server.calls[0].path == "/v1/completions"
    assert server.calls[0].body["prompt"] == ASKED.text
    assert made.text == server._text(server.calls[0].body, ASKED.text)
    assert (made.prompt_tokens, made.finish) == (len(tokens_of(ASKED.text)), "stop")


def test_a_server_that_goes_on_gets_the_beginning_as_a_message(server):
    server.continues = True
    made = engine(server, continue_answer=True).generate([replace(ASKED, stop=("\n",))])[0]
    body = server.calls[0].body
    assert body["messages"][-1] == {"role": "assistant", "content": ASKED.answer_prefix}
    assert body["messages"][-2]["content"] == "Demos.\n\nWrite one."
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["stop"] == ["\n"]
    assert made.text == server._text(body, server._template(body["messages"]))


def test_stops_are_not_sent_to_a_server_that_begins_anew_but_cut_what_it_writes(server):
    server.replies = lambda body: "topic: World\ntext: one line\nanother line"
    made = engine(server).generate([replace(ASKED, stop=("\n", ";"))])[0]
    assert "stop" not in server.calls[0].body
    assert (made.text, made.finish) == (" one line", "stop")


def test_stops_are_cut_off_where_a_server_leaves_them_in_the_text(server):
    server.replies = lambda body: " one two; three. four"
    server.faults = lambda call: call.body.pop("stop") and None
    asked = replace(ASKED, stop=(".", ";"))
    made = engine(server, form="completion").generate([asked])[0]
    assert (made.text, made.finish) == (" one two", "stop")


def test_a_model_without_a_system_message_gets_the_text_in_the_users(server):
    engine(server, system="user").generate([ASKED])
    (message,) = server.calls[0].body["messages"]
    assert message["role"] == "user"
    assert message["content"].startswith("You write.\n\nDemos.\n\nWrite one.")
    refusing = Fault(status=400, body=json.dumps({"error": {"message": "System role not supported"}}))
    server.faults = lambda call: refusing if call.body["messages"][0]["role"] == "system" else None
    assert "set data.generator.init_args.system to user" in message_of(engine(server))
    assert engine(server, system="user").generate([ASKED])[0].text


def test_an_address_with_a_version_and_a_key_in_another_header(server, monkeypatch):
    monkeypatch.setenv("GOLD_KEY", KEY)
    asked = f"{server.url}?api-version=2024-10-21"
    generator = OpenAIGenerator("toy", asked, api_key_env="GOLD_KEY", api_key_header="api-key", retries=0)
    with pytest.raises(GoldError):  # the toy knows no query
        generator.generate([ASKED])
    assert server.calls[0].path == "/v1/chat/completions?api-version=2024-10-21"
    assert server.calls[0].headers["api-key"] == KEY
    assert "authorization" not in server.calls[0].headers


def test_greedy_is_temperature_zero(server):
    sampled = engine(server, top_p=0.5)
    made = [sampled.generate([replace(ASKED, greedy=True, seed=i)])[0] for i in range(2)]
    assert made[0] == made[1]
    assert [c.body["temperature"] for c in server.calls] == [0.0, 0.0]
    assert "top_p" not in server.calls[0].body


def test_a_schema_is_sent_and_the_object_is_left_as_it_is(server):
    shape = {"type": "object", "properties": {"topic": {"enum": ["World"]}, "text": {"type": "string"}}}
    asked = replace(ASKED, schema=json.dumps(shape), stop=("\n",), max_tokens=99)
    for form in ("chat", "completion"):
        made = engine(server, schema="json_schema", form=form).generate([asked])[0]
        body = server.calls[-1].body
        assert body["response_format"]["json_schema"]["schema"] == shape
        assert "stop" not in body
        assert "topic: World\ntext:" not in json.dumps(body, ensure_ascii=False)
        assert json.loads(made.text).keys() == {"topic", "text"}
    engine(server).generate([asked])
    assert "response_format" not in server.calls[-1].body


def test_a_schema_that_is_not_followed_is_said_once(server, caplog):
    server.replies = lambda body: "topic: World"
    generator = engine(server, schema="json_schema")
    made = generator.generate([replace(r, schema='{"properties": {}}') for r in many(3)])
    assert {c.text for c in made} == {"topic: World"}
    assert [r.message.split(":")[0] for r in caplog.records] == ["an answer of toy is no JSON object"]


def test_an_object_that_nobody_asked_for_is_left_as_it_is(server):
    whole = '{"topic": "World",\n\n"text": "a river"}'
    server.replies = lambda body: whole
    server.faults = lambda call: call.body.pop("stop", None) and None
    assert engine(server).generate([replace(ASKED, stop=("\n\n",))])[0].text == whole


def test_extra_members_are_sent_and_null_takes_one_out(server):
    engine(server, extra={"top_k": 5, "seed": None}).generate([ASKED])
    assert server.calls[0].body["top_k"] == 5
    assert "seed" not in server.calls[0].body


def test_the_most_tokens_have_the_name_that_the_server_knows(server):
    server.faults = lambda call: call.body.update(max_tokens=call.body.pop("max_completion_tokens"))
    made = engine(server, max_tokens_field="max_completion_tokens").generate([replace(ASKED, max_tokens=3)])[0]
    assert "max_tokens" in server.calls[0].body
    assert made.finish == "length"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("topic: World\ntext: a", " a"),
        ("  TOPIC : world TEXT:\ta", "\ta"),
        ("**topic:** World\n**text:** a", " a"),
        ("text: a", " a"),
        ("\n\na text: b", "a text: b"),
        ("topic: Sports\ntext: a", "topic: Sports\ntext: a"),
        ('{"text": "a"}', '{"text": "a"}'),
        ('{"text": torn', '{"text": torn'),
        ("", ""),
    ],
)
def test_what_follows_the_beginning(reply, text):
    assert without_beginning(reply, "topic: World\ntext:") == text


def test_what_cannot_be_encoded_is_replaced(server):
    server.replies = lambda body: "half a pair \ud83d."
    made = engine(server, form="completion").generate([replace(ASKED, suffix="asked \ud83d")])[0]
    assert made.text == "half a pair \ufffd."


def reply_of(text="a river.", finish="stop", **more):
    """A chat's answer as a body, whatever its end is called."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 4}} | more)


def made_of(server, body, **how):
    """What the engine makes of one answer that is always the same."""
    server.faults = lambda call: Fault("body", body=body)
    return engine(server, **how).generate([ASKED])[0]


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        *(
            (w, "stop")
            for w in ("stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE", "endoftext")
        ),
        *(
            (w, "stop")
            for w in ({"type": "eos_token"}, {"type": "stop", "matched": 2}, "FinishReason.STOP", "stop-sequence")
        ),
        *((w, "length") for w in ("length", "max_tokens", "MAX_TOKENS", "maxTokens", "model_length", "incomplete")),
        *((w, "length") for w in ({"type": "length", "length": 4}, "FINISH_REASON_MAX_TOKENS", "max_new_tokens")),
        *((w, "length") for w in ("a word of tomorrow", "OTHER", 1, 0, True, ["stop"], {"odd": 1}, 2.5)),
        *(
            (w, "filtered")
            for w in ("content_filter", "SAFETY", "Recitation", "PROHIBITED_CONTENT", "blocklist", "refusal")
        ),
        *((w, "filtered") for w in ("guardrail_intervened", "sensitive", {"type": "content_filter"})),
        *((w, "failed") for w in ("error", "abort", "cancelled", "FAILED", "network_error", {"type": "abort"})),
    ],
    ids=str,
)
def test_an_end_is_known_in_the_words_of_any_server(server, word, finish):
    made = made_of(server, reply_of(finish=word))
    assert made.finish == finish
    assert made.text == ("" if finish == "failed" else "a river.")
    assert len(server.calls) == (3 if finish == "failed" else 1)


def test_an_end_that_is_not_told_follows_from_the_count(server):
    assert made_of(server, reply_of(finish=None)).finish == "stop"
    assert made_of(server, reply_of(finish="")).finish == "stop"
    full = {"prompt_tokens": 9, "completion_tokens": ASKED.max_tokens}
    assert made_of(server, reply_of(finish=None, usage=full)).finish == "length"


def test_an_end_that_nobody_tells_counts_as_cut_unless_a_stop_is_there(server, caplog):
    server.faults = lambda call: Fault("body", body=reply_of("a river. And", None, usage=None))
    generator = engine(server)
    made = generator.generate([ASKED, replace(ASKED, stop=(".",)), ASKED])
    assert [c.finish for c in made] == ["length", "stop", "length"]
    assert len([r for r in caplog.records if "count as cut" in r.message]) == 1


@pytest.mark.parametrize("text", [None, "I shall call"])
def test_a_call_of_a_tool_is_no_text(server, text):
    made = made_of(server, reply_of(text, "tool_calls"))
    assert (made.text, made.prompt_tokens, made.completion_tokens) == ("", 9, 4)


NONE_ERROR = {"message": "The response was filtered due to the prompt triggering the content management policy."}
FILTERS = {
    "azure": (400, {"error": NONE_ERROR | {"code": "content_filter"}}),
    "azure inner": (400, {"error": {"message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
    "words alone": (400, {"error": NONE_ERROR}),
    "images": (400, {"error": {"message": "no", "code": "content_policy_violation"}}),
    "reasoning": (400, {"error": {"message": "Invalid prompt: flagged", "code": "invalid_prompt"}}),
    "router": (403, {"error": {"message": "x requires moderation. Your input was flagged", "code": 403}}),
    "dashscope": (400, {"error": {"message": "Input data may contain inappropriate content.", "type": None}}),
    "gateway": (500, {"error": {"message": "blocked", "type": "guardrail_intervened"}}),
    "a plain text": (400, {"error": "Your request was rejected by our safety system"}),
    "a list": (400, [{"error": {"status": "INVALID_ARGUMENT", "message": "prompt was blocked for safety reasons"}}]),
    "with a good status": (200, {"error": {"message": "no", "code": "content_filter"}}),
    "blocked": (200, {"prompt_feedback": {"block_reason": "SAFETY"}}),
    "blocked, no choices": (200, {"choices": [], "promptFeedback": {"blockReason": "OTHER"}}),
    "azure, no choices": (
        200,
        {"choices": [], "prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": True}}}]},
    ),
    "litellm": (400, {"error": {"message": "litellm.ContentPolicyViolationError: refused", "code": "400"}}),
    "deepseek": (400, {"error": {"message": "Content Exists Risk", "code": "invalid_request_error"}}),
    "anthropic": (400, {"error": {"message": "Output blocked by content filtering policy"}}),
    "legal": (451, {"error": {"message": "no"}}),
    "a body that says it": (
        200,
        {"choices": None, "base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}},
    ),
    "in a choice": (200, {"choices": [{"error": {"code": 403, "message": "input was flagged"}, "message": None}]}),
}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_an_answer_is_read_in_its_encoding(server, encoding):
    text = json.dumps(json.loads(reply_of("Das Päckchen ist müde.")), ensure_ascii=False)
    headers = (("Content-Type", f"application/json; charset={encoding}"),)
    server.faults = lambda call: Fault("body", body=text.encode(encoding), headers=headers)
    assert engine(server).generate([ASKED])[0].text == "Das Päckchen ist müde."


@pytest.mark.parametrize(
    "message",
    [
        {"content": "", "reasoning_details": [{"type": "reasoning.text", "text": "Okay"}]},
        {"content": None, "reasoning": {"content": "Okay"}},
        {"content": None, "thinking_blocks": [{"type": "thinking", "thinking": "Okay"}]},
    ],
    ids=str,
)
def test_thinking_is_told_apart_in_any_form(server, message):
    body = {"choices": [{"message": message, "finish_reason": "length"}]}
    assert made_of(server, json.dumps(body)).reason == "only_thinking"


def test_tokens_of_thinking_tell_that_a_model_only_thought(server):
    usage = {"prompt_tokens": 5, "completion_tokens": 60, "completion_tokens_details": {"reasoning_tokens": 60}}
    body = {"choices": [{"message": {"content": ""}, "finish_reason": "length"}], "usage": usage}
    assert made_of(server, json.dumps(body)).reason == "only_thinking"


def test_a_text_beside_a_call_of_a_tool_is_none(server):
    body = json.loads(reply_of("Let me look that up."))
    body["choices"][0]["message"]["tool_calls"] = [{"function": {"name": "f", "arguments": "{}"}}]
    assert made_of(server, json.dumps(body)).text == ""
    body["choices"][0]["message"]["tool_calls"] = []
    assert made_of(server, json.dumps(body)).text == "Let me look that up."


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": 7.0, "completion_tokens": 3.0}, {"input_tokens": 7, "output_tokens": 3}], ids=str
)
def test_tokens_are_counted_in_any_form(server, usage):
    made = made_of(server, json.dumps(json.loads(reply_of("a")) | {"usage": usage}))
    assert (made.prompt_tokens, made.completion_tokens) == (7, 3)


def test_a_part_that_stands_for_a_list_is_read(server):
    body = {"choices": [{"message": {"content": {"type": "text", "text": "a"}}, "finish_reason": "stop"}]}
    assert made_of(server, json.dumps(body)).text == "a"


def test_a_redirect_says_where_it_points(server):
    server.faults = lambda call: Fault(status=307, headers=(("Location", "/api/v1/chat/completions"),))
    assert "/api/v1/chat/completions; set data.generator.init_args.base_url to where" in message_of(engine(server))


@pytest.mark.parametrize("name", FILTERS)
def test_a_prompt_that_is_refused_is_one_request_without_an_answer(server, name, caplog):
    status, body = FILTERS[name]
    number = ASKED.suffix
    refused = Fault("status" if status >= 400 else "body", status, body=json.dumps(body))
    server.faults = lambda call: refused if "number 1." in str(call.body) else None
    generator = engine(server)
    made = generator.generate(many(3))
    assert [c.finish for c in made] == ["stop", "filtered", "stop"], number
    assert made[1].text == ""
    assert len(server.calls) == 3
    generator.generate(many(3))
    assert len([r for r in caplog.records if "stays without an answer" in r.message]) == 1


@pytest.mark.parametrize("choices", [[], None])
def test_no_choices_again_and_again_are_what_a_filter_leaves(server, choices):
    usage = {"prompt_tokens": 7, "completion_tokens": 0}
    made = made_of(server, json.dumps({"choices": choices, "usage": usage}))
    assert (made.finish, made.text) == ("filtered", "")
    assert len(server.calls) == 3
    assert (made.prompt_tokens, made.completion_tokens) == (21, 0)  # all tries were paid for


@pytest.mark.parametrize(
    "change",
    [
        {"native_finish_reason": "SAFETY"},
        {"content_filter_results": {"hate": {"filtered": True, "severity": "high"}}},
        {"content_filter_results": {"hate": {"filtered": True}}, "finish_reason": None},
    ],
    ids=str,
)
def test_what_a_filter_cut_is_not_whole_whatever_the_end_is_called(server, change):
    body = json.loads(reply_of("half a sen"))
    body["choices"][0] |= change
    assert made_of(server, json.dumps(body)).finish == "filtered"


def test_an_end_is_the_models_own_where_a_router_tells_another(server):
    body = json.loads(reply_of("half a sen"))
    body["choices"][0]["native_finish_reason"] = "MAX_TOKENS"
    assert made_of(server, json.dumps(body)).finish == "length"
    body["choices"][0]["native_finish_reason"] = "a word that nobody knows"
    assert made_of(server, json.dumps(body)).finish == "stop"


@pytest.mark.parametrize("end", [None, "stop"])
def test_an_error_beside_a_half_text_is_no_answer(server, end):
    body = json.loads(reply_of("half a", end)) | {"error": {"code": 502, "message": "Provider disconnected"}}
    made = made_of(server, json.dumps(body))
    assert (made.finish, made.text) == ("failed", "")
    body["error"] = {"message": "a warning"}
    assert made_of(server, json.dumps(body)).finish == ("stop" if end else "failed")


@pytest.mark.parametrize("at", ["choice", "reply"])
def test_an_error_in_an_answer_that_no_call_can_mend_ends_the_run(server, at):
    body = json.loads(reply_of("", "error"))
    held = body["choices"][0] if at == "choice" else body
    held["error"] = {"code": 402, "message": "Insufficient credits"}
    server.faults = lambda call: Fault("body", body=json.dumps(body))
    assert "no credit left" in message_of(engine(server))
    assert len(server.calls) == 1


REFUSALS = [
    Fault(status=400),
    Fault(status=422),
    Fault(status=403, body="<html><title>Request blocked</title></html>"),
    Fault(status=400, body=json.dumps({"error": "words that nobody knows"})),
]


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda f: f"{f.status} {f.body}")
def test_one_prompt_that_is_refused_in_unknown_words_does_not_end_the_run(server, fault):
    server.faults = lambda call: fault if "number 0." in str(call.body) else None
    server.delay = lambda call: 0.0 if "number 0." in str(call.body) else 0.1  # a refusal comes first
    made = engine(server, concurrency=2).generate(many(4))
    assert [c.finish for c in made] == ["filtered", "stop", "stop", "stop"]
    assert len(server.calls) == 4


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda f: f"{f.status} {f.body}")
def test_what_is_refused_to_all_ends_the_run_with_no_call_more(server, fault):
    server.faults = lambda call: fault
    with pytest.raises(GoldError, match=f"HTTP {fault.status}"):
        engine(server, concurrency=2).generate(many(8))
    assert len(server.calls) <= 4


def test_a_refusal_of_likelihoods_is_not_one_of_a_prompt(server):
    server.faults = lambda call: Fault(status=400) if "echo" in call.body else None
    generator = engine(server, form="completion")
    generator.generate(many(2))
    with pytest.raises(GoldError, match="label_agreement to off"):
        generator.generate([LABELS])


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault("reset"),
        Fault("half"),
        Fault("body", body='{"choices": [{"mess'),
        Fault("body", body="not compressed", headers=(("Content-Encoding", "gzip"),)),
    ],
    ids=str,
)
def test_one_call_that_a_server_breaks_over_each_time_has_failed(server, fault):
    server.faults = lambda call: fault if "number 0." in str(call.body) else None
    made = engine(server, retries=3, concurrency=2).generate(many(6))
    assert [c.finish for c in made] == ["failed"] + ["stop"] * 5
    with pytest.raises(GoldError, match="after 4 tries"):  # alone, it may be the server
        engine(server, retries=3).generate(many(1))


def test_a_server_that_is_busy_for_one_call_ends_the_run(server):
    server.faults = lambda call: Fault(status=429) if "number 0." in str(call.body) else None
    with pytest.raises(GoldError, match="requests_per_minute"):
        engine(server, retries=2).generate(many(4))


def test_an_answer_that_breaks_off_again_and_again_has_failed(server):
    body = json.loads(reply_of("half an", "error"))
    body["choices"][0]["error"] = {"code": 502, "message": "Upstream error"}
    made = made_of(server, json.dumps(body))
    assert (made.finish, made.text, made.completion_tokens) == ("failed", "", 12)


def test_an_end_by_a_filter_is_no_label_check(server):
    made = first_token_of(server, [{"token": "World", "logprob": -0.1}], finish_reason="content_filter")
    assert (made.finish, made.choice_log_probs) == ("filtered", ())


def first_token_of(server, top, **choice):
    """What a label check comes to by the likeliest first tokens of an answer."""
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "length", **choice}]}
    body["choices"][0]["logprobs"] = {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": top}]}
    server.faults = lambda call: Fault("body", body=json.dumps(body))
    return engine(server).generate([replace(LABELS, choices=(" World", " Sports"))])[0]


def tops(**likelihoods):
    return [{"token": token, "logprob": p} for token, p in likelihoods.items()]


@pytest.mark.parametrize(
    ("top", "first", "second"),
    [
        (tops(World=-0.1, Sports=float("-inf")), -0.1, float("-inf")),
        (tops(World=-0.1), -0.1, math.log(1 - math.exp(-0.1))),  # no more than what is left
        (tops(World=-1.0, The=-1.5), -1.0, -1.5),
        (tops(**{"▁World": -0.1, "ĠSports": -3.0}), -0.1, -3.0),
        (tops(**{'"World': -0.1, "**Sports": -3.0}), -0.1, -3.0),
    ],
    ids=str,
)
def test_a_label_that_is_not_told_gets_no_more_than_is_left(server, top, first, second):
    assert first_token_of(server, top).choice_log_probs == pytest.approx((first, second))


@pytest.mark.parametrize(
    ("top", "choice"),
    [
        (tops(World=float("nan"), Sports=-1.0), {}),
        (tops(The=-0.0001, World=-12.0, Sports=-14.0), {}),  # it is about to say something else
        (tops(Okay=-0.1, W=-4.0, S=-5.0), {"message": {"content": None, "reasoning_content": "Okay"}}),
    ],
    ids=str,
)
def test_likelihoods_of_something_else_are_no_preference(server, top, choice):
    made = first_token_of(server, top, **choice)
    assert made.choice_log_probs == ()
    assert not made.is_answer


@pytest.mark.parametrize("p", [3.0, 1e308, float("inf")])
def test_what_is_above_0_is_no_log_likelihood(server, p):
    with pytest.raises(GoldError, match="above 0"):
        first_token_of(server, tops(World=p, Sports=-1.0))


def test_one_label_check_without_likelihoods_does_not_end_the_run(server):
    labels = replace(LABELS, choices=(" World", " Sports"))
    bare = json.dumps({"choices": [{"message": {"content": ""}, "finish_reason": "stop", "logprobs": None}]})
    server.faults = lambda call: Fault("body", body=bare) if "odd one" in str(call.body) else None
    generator = engine(server)
    assert generator.generate([labels])[0].is_answer
    assert generator.generate([replace(labels, suffix="An odd one.")])[0].finish == "failed"
    with pytest.raises(GoldError, match="no likelihoods"):
        engine(server).generate([replace(labels, suffix="An odd one.")])


def test_numbers_in_place_of_tokens_tell_no_likelihoods(server):
    tokens = [f"token_id:{i}" for i in range(30)]
    told = {"tokens": tokens, "token_logprobs": [None, *([-1.0] * 29)]}
    body = {"choices": [{"text": "x", "finish_reason": "length", "logprobs": told}]}
    server.faults = lambda call: Fault("body", body=json.dumps(body))
    assert "no likelihoods of labels" in message_of(engine(server, form="completion"), LABELS)


def test_a_label_check_that_is_refused_has_no_answer(server):
    server.faults = lambda call: Fault(status=400, body=json.dumps({"error": {"code": "content_filter"}}))
    for how in ({"form": "completion"}, {}):
        made = engine(server, **how).generate([replace(LABELS, choices=(" World", " Sports"))])[0]
        assert (made.finish, made.choice_log_probs) == ("filtered", ())


def test_no_label_among_the_likeliest_tokens_is_no_answer(server):
    top = [{"token": t, "logprob": -1.0 - i} for i, t in enumerate(["<think>", "The", "\n"])]
    choice = {
        "message": {"content": "<think>"},
        "finish_reason": "length",
        "logprobs": {"content": [{"top_logprobs": top}]},
    }
    server.faults = lambda call: Fault("body", body=json.dumps({"choices": [choice]}))
    made = engine(server).generate([replace(LABELS, choices=(" World", " Sports"))])[0]
    assert made.choice_log_probs == ()


def test_missing_counts_are_estimated_and_that_is_said_once(server, caplog):
    server.usage = False
    generator = engine(server, form="completion")
    with caplog.at_level(logging.WARNING):
        made = [*generator.generate(many(3)), *generator.generate(many(2))]
    assert [c.prompt_tokens for c in made[:1]] == [-(-len(many(1)[0].text) // 4)]
    assert all(c.completion_tokens == -(-len(c.text.encode()) // 4) > 0 for c in made)
    assert len([r for r in caplog.records if "estimated" in r.message]) == 1


# Likelihoods of labels

LABELS = replace(ASKED, answer_prefix="topic:", choices=(" World news", " World cup", " Sports"))


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("usage", [False, True])
def test_choices_by_echo(server, bos, usage):
    server.bos, server.usage = bos, usage
    made = engine(server, form="completion").generate([LABELS])[0]
    wanted = [chosen(server, LABELS.text, c) for c in (" World news", " World cup", " Sports")]
    assert made.choice_log_probs == pytest.approx(wanted)
    assert made.text == ""
    if usage:
        assert made.prompt_tokens + made.completion_tokens == server.tokens


def test_choices_by_echo_count_up_to_what_tells_them_apart(server):
    made = engine(server, form="completion").generate([replace(LABELS, choices=(" one long name", " two"))])[0]
    assert made.choice_log_probs == pytest.approx([chosen(server, LABELS.text, c) for c in (" one", " two")])


def test_choices_by_prompt_logprobs(server):
    server.continues = True
    made = engine(server, continue_answer=True).generate([LABELS])[0]
    prompt = server._template([*server.calls[0].body["messages"][:-1], {"role": "assistant", "content": "topic:"}])
    assert made.choice_log_probs == pytest.approx([chosen(server, prompt, c) for c in LABELS.choices])


def test_choices_by_the_first_token_of_an_answer(server):
    asked = replace(LABELS, choices=(" World", " Sports", " Sci/Tech"))
    made = engine(server).generate([asked])[0]
    body = server.calls[0].body
    assert body["messages"][-1]["content"].endswith(
        "Answer with one of these and nothing else: World, Sports, Sci/Tech"
    )
    prompt = server._template(body["messages"])
    assert made.choice_log_probs == pytest.approx([server.log_prob(prompt, t) for t in ("World", "Sports", "Sci")])
    assert len(server.calls) == 1


def test_labels_that_begin_alike_are_not_told_apart_by_a_first_token(server):
    said = message_of(engine(server), LABELS)
    assert "does not tell World news from World cup" in said
    assert "data.plan.label_agreement to off" in said


@pytest.mark.parametrize("how", [{"form": "completion"}, {"continue_answer": True}, {}], ids=str)
def test_a_server_without_likelihoods_is_told_in_one_line(server, how):
    server.scores, server.continues = frozenset(), True
    said = message_of(engine(server, **how), replace(LABELS, choices=(" World", " Sports")))
    assert "no likelihoods of labels" in said
    assert "data.plan.label_agreement to off" in said


# In order, at once, in time


def test_completions_keep_their_order_whatever_takes_how_long(server):
    requests = many(40)
    server.delay = lambda call: 0.05 * random.Random(call.number).random()
    together = engine(server, concurrency=8).generate(requests)
    alone = [engine(server).generate([r])[0] for r in requests[::7]]
    assert together[::7] == alone
    assert len({c.text for c in together}) == 40


@pytest.mark.parametrize("concurrency", [1, 5])
def test_no_more_calls_at_once_than_told(server, concurrency):
    server.delay = 0.03
    engine(server, concurrency=concurrency).generate(many(25))
    assert server.most_busy == concurrency


def test_choices_count_as_calls_too(server):
    server.delay = 0.03
    engine(server, form="completion", concurrency=2).generate([replace(LABELS, seed=i) for i in range(5)])
    assert server.most_busy == 2
    assert len(server.calls) == 15


def test_completions_come_as_soon_as_they_are_there(server):
    server.faults = lambda call: Fault("hang") if "number 3." in str(call.body) else None
    stream = engine(server, timeout=60).stream(many(6))
    found = dict(next(stream) for _ in range(5))
    assert set(found) == {0, 1, 2, 4, 5}
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 10
    while not server.abandoned and time.monotonic() - began < 10:
        time.sleep(0.01)
    assert server.abandoned == 1
    assert not [t for t in threading.enumerate() if t.name == "openai"]


def test_closing_gives_up_calls_that_were_not_begun(server):
    server.delay = 0.05
    stream = engine(server, concurrency=1).stream(many(20))
    next(stream)
    stream.close()
    time.sleep(0.3)
    assert len(server.calls) <= 3


def test_within_a_running_loop_and_in_threads(server):
    async def inside():
        return engine(server).generate([ASKED])[0]

    generator = engine(server)
    found = [asyncio.run(inside())]
    threads = [threading.Thread(target=lambda: found.extend(generator.generate([ASKED]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [generator.generate([ASKED])[0]] * 4


def test_nothing_is_asked_for_nothing():
    assert OpenAIGenerator("toy", "http://127.0.0.1:9/v1", api_key_env="NOT_SET").generate([]) == []


def test_no_more_requests_a_minute_than_told(server):
    generator = engine(server, requests_per_minute=1200)  # 20 a second
    generator.generate(many(11))
    generator.generate(many(10))  # the share is the engine's, not the batch's
    times = sorted(c.began for c in server.calls)
    assert 0.9 < times[-1] - times[0] < 10
    assert all(late - early > 0.7 for early, late in zip(times, times[20:], strict=False))


def test_no_more_tokens_a_minute_than_told(server):
    asked = many(12, max_tokens=2000)
    server.limit = 5000
    generator = engine(server, form="completion", tokens_per_minute=60 * 200)
    began = time.monotonic()
    generator.generate(asked)
    took = time.monotonic() - began
    # Estimates are of 2,000 tokens each: two minutes. What was used, about 50 each, comes to 2 to 4 seconds.
    assert server.tokens / 200 * 0.6 < took < 30


# What goes wrong and heals


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429),
        Fault(status=500),
        Fault(status=503),
        Fault(status=408),
        Fault("reset"),
        Fault("half"),
        Fault("hang"),
        Fault("drip"),
        Fault("body", body="<html>busy</html>"),
        Fault("body", body="[1, 2]"),
        Fault("body", body='{"choices": []}'),
        Fault("body", body='{"choices": [{"message": "no"}]}'),
        Fault("body", body='{"error": {"message": "provider is down", "code": 502}}'),
        Fault("body", body="[" * 100_000),
    ],
    ids=lambda f: f"{f.kind} {f.status if f.kind == 'status' else f.body[:20]}",
)
def test_a_call_that_fails_once_is_answered_the_second_time(server, fault, caplog):
    wanted = engine(server).generate(many(3))
    server.faults, server._seen = first_attempt(fault), type(server._seen)()
    server.calls.clear()
    timeout = 3.0 if fault.kind in ("hang", "drip") else 60.0
    assert engine(server, timeout=timeout).generate(many(3)) == wanted
    assert len(server.calls) == 6
    assert len([r for r in caplog.records if "are tried up to" in r.message]) == 1


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_a_server_that_asks_to_wait_is_waited_for(server, kind):
    wait = {"seconds": lambda: "0.6", "date": lambda: email.utils.formatdate(time.time() + 2, usegmt=True)}[kind]
    server.faults = lambda call: None if call.number else Fault(status=429, headers=(("Retry-After", wait()),))
    engine(server, concurrency=1).generate(many(3))
    first, second = (c.began for c in server.calls[:2])
    assert 0.6 <= second - first < 10
    assert len(server.calls) == 4


def test_nobody_calls_a_server_that_asked_to_wait(server):
    server.faults = lambda call: None if call.number else Fault(status=503, headers=(("Retry-After", "0.5"),))
    server.delay = 0.02
    engine(server, concurrency=4).generate(many(12))
    begun = [c.began - server.calls[0].began for c in server.calls]
    assert sum(at < 0.4 for at in begun) <= 5  # those that were in flight, and one that began as the answer came
    assert len(server.calls) == 13


def test_a_wait_that_is_too_long_ends_at_once(server):
    server.faults = lambda call: Fault(status=429, headers=(("Retry-After", "3600"),))
    said = message_of(engine(server))
    assert "it asks to wait 3600 s" in said
    assert "max_wait (now 300)" in said
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("0", 0.0), ("-1", 0.0), ("nan", None), ("inf", None), ("soon", None), (None, None)],
)
def test_how_long_to_wait(value, seconds):
    assert retry_after(value) == seconds


def test_a_date_that_has_passed_is_no_wait():
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_waits_double_without_a_header(server):
    server.faults = lambda call: Fault(status=500) if call.attempt < 3 else None
    engine(server, backoff=0.1).generate([ASKED])
    times = [c.began for c in server.calls]
    waits = [late - early for early, late in itertools.pairwise(times)]
    for wait, most in zip(waits, (0.1, 0.2, 0.4), strict=True):
        assert 0.5 * most <= wait < most + 2  # the machine may be slow, never fast


def test_a_batch_of_which_nearly_a_third_fails_is_whole_and_in_order(server):
    requests = many(200)
    wanted = engine(server).generate(requests)
    server.calls.clear()
    server._seen.clear()
    kinds = [Fault(status=429), Fault(status=500), Fault(status=503), Fault("reset"), Fault("half")]
    kinds += [Fault("body", body="{"), Fault("body", body='{"choices": []}')]

    def faults(call):
        rng = random.Random(f"{call.body['seed']}/{call.attempt}")
        return rng.choice(kinds) if rng.random() < 0.3 else None

    server.faults = faults
    generator = engine(server)
    given = list(generator.stream(requests))
    assert sorted(at for at, _ in given) == list(range(200))
    assert [c for _, c in sorted(given, key=lambda pair: pair[0])] == wanted
    failed = sum(c.fault is not None for c in server.calls)
    assert len(server.calls) == 200 + failed  # what was answered is not asked again
    assert 0.25 < failed / len(server.calls) < 0.35


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(status=500), "HTTP 500: told to fail?[31m with a second line, after 3 tries; is the server well?"),
        (Fault(status=429), "requests_per_minute"),
        (Fault("reset"), "after 3 tries; is it up"),
        (Fault("hang"), "no whole answer within 0.3 s, after 3 tries"),
        (Fault("drip"), "no whole answer within 0.3 s, after 3 tries"),
        (Fault("body", body="{"), "no JSON object: {, after 3 tries"),
        (Fault("body", body='{"id": 1}'), "without choices, after 3 tries"),
    ],
    ids=lambda v: v if isinstance(v, str) else v.kind,
)
def test_tries_that_are_spent_are_told_in_one_line(server, fault, said):
    server.faults = lambda call: fault
    text = message_of(engine(server, retries=2, timeout=0.3 if fault.kind in ("hang", "drip") else 60))
    assert text.startswith(f"generator 'toy' at {server.url}: ")
    assert said in text
    assert len(server.calls) == 3


def test_nobody_listens():
    with FakeServer() as gone:
        pass
    said = message_of(engine(gone, retries=1))
    assert gone.url in said
    assert "after 2 tries; is it up, and is data.generator.init_args.base_url right?" in said


def test_a_host_that_is_not_known_is_not_tried_for_long(monkeypatch):
    def unknown(*_, **__):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    generator = OpenAIGenerator("toy", "http://no-such-host.invalid/v1", backoff=0.01)
    assert "Name or service not known, after 3 tries; is it up" in message_of(generator)


def test_what_was_given_before_an_error_stays_given(server):
    server.faults = lambda call: Fault(status=500) if call.body["seed"] >= 3 else None  # well until then
    found = []
    with pytest.raises(GoldError):
        for at, _ in engine(server, retries=1, concurrency=1).stream(many(6)):
            found.append(at)
    assert {0, 1, 2} <= set(found)
    assert 3 not in found


# What goes wrong for good


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "none"}, "HTTP 404: The model `none` does not exist.; look at data.generator.init_args.model"),
        ({"temperature": 3.0}, "HTTP 400: temperature must lie in [0, 2]; look at "),
        ({"continue_answer": True}, "HTTP 400: Unrecognized request argument: continue_final_message; look at "),
    ],
    ids=str,
)
def test_what_cannot_heal_stops_at_once(server, change, said):
    generator = OpenAIGenerator(**{"model": "toy", "base_url": server.url, **change})
    text = message_of(generator)
    assert said in text
    assert server.url in text
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (301, "base_url to where it points"),
        (403, "name the environment variable"),
        (405, "most end in /v1"),
        (413, "the prompt is too long"),
        (422, "the setting that sends what it names"),
        (501, "the setting that sends what it names"),
    ],
)
def test_other_statuses_that_cannot_heal(server, status, said):
    server.faults = lambda call: Fault(status=status)
    text = message_of(engine(server))
    assert f"HTTP {status}: told to fail" in text
    assert said in text
    assert len(server.calls) == 1


def test_a_server_that_refuses_likelihoods_is_told_in_one_line(server):
    server.faults = lambda call: Fault(status=400)
    assert "data.plan.label_agreement to off" in message_of(engine(server, form="completion"), LABELS)
    assert "label_agreement" not in message_of(engine(server, form="completion"))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("body", body='{"error": "Unexpected endpoint or method. (POST /chat/completions)"}'), "most end in /v1"),
        (Fault("body", body="<html><title>A chat</title></html>"), "most end in /v1"),
        (Fault("body", body='{"error": {"message": "odd"}}'), "HTTP 200 with an error: odd, after 2 tries"),
        (Fault("body", body='data: {"choices": []}\n\ndata: [DONE]'), "extra: {stream: false}"),
        (Fault("body", body=': PROCESSING\n\ndata: {"choices": []}\n\n'), "extra: {stream: false}"),
        (Fault("body", body="event: message\ndata: {}\n\n"), "extra: {stream: false}"),
        (Fault("body", body="A model is running"), "no JSON object: A model is running, after 2 tries"),
        (Fault("body", body='"error: no model is loaded"'), "error: no model is loaded"),
        (Fault("body", body='{"success": false, "message": "Not enough balance"}'), "HTTP 200 with an error: Not eno"),
        (Fault("body", body='{"code": 1113, "msg": "余额不足", "success": false}'), "no credit left"),
        (
            Fault("body", body='{"choices": null, "base_resp": {"status_code": 1004, "status_msg": "login fail"}}'),
            "key",
        ),
    ],
    ids=str,
)
def test_an_error_in_a_good_answer_is_tried_once_more_at_most(server, fault, said):
    server.faults = lambda call: fault
    assert said in message_of(engine(server))
    assert len(server.calls) == 2


def test_an_account_without_credit_is_not_asked_again(server):
    body = json.dumps({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
    server.faults = lambda call: Fault(status=429, body=body)
    assert "no credit left" in message_of(engine(server))
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 8 tokens. However, you requested 9.",
        "The decoder prompt (length 9) is longer than the maximum model length of 8.",
        "the request exceeds the available context size, try increasing it",
        "Input validation error: `inputs` must have less than 8 tokens. Given: 9",
        "Please reduce the length: prompt is too long: 9 tokens > 8 maximum",
    ],
)
def test_a_prompt_that_is_too_long_for_the_server_is_told(server, said):
    server.faults = lambda call: Fault(status=400, body=json.dumps({"error": {"message": said}}))
    text = message_of(engine(server))
    assert said in text
    assert "the prompt is too long: show fewer or shorter demos (--data.plan.seed_demos)" in text


def test_with_a_limit_of_ours_a_long_prompt_is_not_sent(server):
    generator = engine(server, max_context=100)
    fits = replace(ASKED, prefix="", suffix="x" * (4 * 40 - len(replace(ASKED, prefix="", suffix="").text)))
    asked = [fits, replace(fits, suffix=fits.suffix + "x" * 28), replace(LABELS, suffix="x" * 400)]
    assert generator.tokens_over_limit(asked)[:2] == [0, 7]
    assert generator.tokens_over_limit(asked)[2] > 0
    assert "about 107 tokens, more than the 100 tokens of toy" in message_of(generator, asked[1])
    assert not server.calls
    assert engine(server).tokens_over_limit(asked) == [0, 0, 0]


# Several servers


def test_load_is_spread_over_servers(server):
    with FakeServer(delay=0.01) as other:
        server.delay = 0.01
        engine(server, other, concurrency=6).generate(many(60))
        assert len(server.calls) + len(other.calls) == 60
        assert 20 <= len(server.calls) <= 40
        assert max(server.most_busy, other.most_busy) <= 4


def test_others_take_over_from_a_server_that_fails_and_it_rests(server):
    with FakeServer(faults=lambda call: Fault("reset")) as bad:
        generator = engine(bad, server, cooldown=30, concurrency=4, retries=1)
        wanted = engine(server).generate(many(30))
        assert generator.generate(many(30)) == wanted
        assert generator.generate(many(30)) == wanted  # it rests between batches too
        assert 1 <= len(bad.calls) <= 4


def test_a_server_that_is_well_again_is_taken_again(server):
    with FakeServer(faults=lambda call: None if call.number else Fault(status=500), delay=0.01) as other:
        server.delay = 0.01
        generator = engine(server, other, cooldown=0.1, concurrency=2)
        generator.generate(many(40))
        assert len(other.calls) > 5


def test_a_server_that_asks_to_wait_is_passed_over(server):
    fault = Fault(status=429, headers=(("Retry-After", "3600"),))
    with FakeServer(faults=lambda call: fault) as other:
        assert len(engine(server, other, concurrency=1).generate(many(8))) == 8
        assert len(other.calls) == 1


# The key


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("GOLD_KEY", KEY)


def test_the_key_is_sent_and_shown_nowhere(key, caplog):
    with FakeServer(key=KEY) as server, caplog.at_level(logging.DEBUG):
        generator = engine(server, api_key_env="GOLD_KEY", retries=0)
        server.faults = lambda call: None if call.number else Fault(status=500, body=json.dumps({"detail": KEY * 3}))
        said = message_of(generator)
        generator.generate([ASKED])
    assert server.calls[1].headers["authorization"] == f"Bearer {KEY}"
    shown = [repr(generator), str(vars(generator)), json.dumps(generator.fingerprint()), said, caplog.text]
    assert not [text for text in shown if KEY in text]
    assert "***" in said


def test_a_wrong_key_is_told_once_without_the_key(monkeypatch, caplog):
    monkeypatch.setenv("GOLD_KEY", KEY + "-wrong")
    with FakeServer(key=KEY) as server:
        said = message_of(engine(server, api_key_env="GOLD_KEY"))
        assert (
            "HTTP 401: Incorrect API key provided: Bearer ***; look at the key in the environment variable GOLD_KEY"
            in said
        )
        assert KEY not in said + caplog.text
        assert "name the environment variable that holds the key" in message_of(engine(server))
        assert len(server.calls) == 2


@pytest.mark.parametrize(("value", "said"), [(None, "is not set"), ("  ", "is not set"), ("kéy", "no key has")])
def test_a_key_that_is_none(server, monkeypatch, value, said):
    if value is not None:
        monkeypatch.setenv("GOLD_KEY", value)
    text = message_of(engine(server, api_key_env="GOLD_KEY"))
    assert "GOLD_KEY" in text
    assert said in text
    assert "kéy" not in text
    assert not server.calls


@pytest.mark.parametrize(
    "change",
    [
        {"api_key_env": KEY},
        {"api_key_env": "hf_abcdefgh"},
        {"base_url": f"http://user:{KEY}@localhost/v1"},
        {"base_url": f"http://localhost/v1?key={KEY}"},
    ],
    ids=str,
)
def test_a_key_in_the_config_is_refused_and_not_shown(change):
    with pytest.raises(ConfigError) as e:
        OpenAIGenerator(**{"model": "m", "base_url": "http://localhost/v1", **change})
    assert "environment" in str(e.value)
    assert KEY not in str(e.value)
    assert "hf_" not in str(e.value)


# Settings


def test_the_fingerprint_is_of_what_is_asked():
    def of(**how):
        return OpenAIGenerator(**{"model": "m", "base_url": "http://a/v1", **how}).fingerprint()

    same = [{"api_key_env": "KEY"}, {"concurrency": 2}, {"timeout": 3.0}, {"retries": 1}, {"batch_size": 7}]
    same += [{"base_url": u} for u in (["http://a/v1", "http://b/v1"], "HTTP://A:80/v1/", "https://a/v1")]
    same += [{"api_key_header": "api-key"}, {"max_tokens_field": "max_completion_tokens"}]
    other = [{"model": "n"}, {"temperature": 0.1}, {"top_p": 0.5}, {"form": "completion"}, {"schema": "json_schema"}]
    other += [{"continue_answer": True}, {"extra": {"top_k": 3}}, {"system": "user"}, {"server": "big"}]
    other += [{"base_url": u} for u in ("http://b/v1", "http://a:8000/v1", "http://a/deployments/x/v1")]
    assert all(of(**how) == of() for how in same)
    assert all(of(**how) != of() for how in other)
    assert of(server="big", base_url="http://b/v1") == of(server="big")
    json.dumps(of())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "127.0.0.2"])
def test_a_server_of_this_machine_is_the_same_under_another_port_in_its_run_alone(host):
    one, two = (OpenAIGenerator("m", f"http://{host}:{port}/v1") for port in (8000, 8001))
    assert one.fingerprint() == two.fingerprint()
    assert one.origin() != two.origin()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"system": "none"}, "system"),
        ({"api_key_header": "Content-Type"}, "api_key_header"),
        ({"api_key_header": "a key: x"}, "api_key_header"),
        ({"base_url": "http://localhost/v1/chat/completions"}, "base_url"),
        ({"model": ""}, "model"),
        ({"base_url": []}, "base_url"),
        ({"base_url": "localhost:8000/v1"}, "base_url"),
        ({"base_url": "ftp://localhost/v1"}, "base_url"),
        ({"base_url": "http://localhost:99999/v1"}, "base_url"),
        ({"base_url": "http://[::1/v1"}, "base_url"),
        ({"base_url": ["http://a/v1", "http:///v1"]}, "base_url"),
        ({"form": "auto"}, "form"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"schema": "json"}, "schema"),
        ({"continue_answer": True, "form": "completion"}, "continue_answer"),
        ({"batch_size": 0}, "batch_size"),
        ({"concurrency": 0}, "concurrency"),
        ({"connect_timeout": 0.0}, "connect_timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"backoff": -0.1}, "backoff"),
        ({"max_wait": -1.0}, "max_wait"),
        ({"cooldown": float("nan")}, "cooldown"),
        ({"requests_per_minute": -1.0}, "requests_per_minute"),
        ({"tokens_per_minute": float("inf")}, "tokens_per_minute"),
        ({"max_context": -1}, "max_context"),
        ({"max_tokens_field": "length"}, "max_tokens_field"),
    ],
    ids=str,
)
def test_wrong_settings_name_their_key(change, key):
    with pytest.raises(ConfigError) as e:
        OpenAIGenerator(**{"model": "m", "base_url": "http://localhost/v1", **change})
    assert str(e.value).startswith(f"data.generator.init_args.{key}: got ")


def test_without_httpx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingDependencyError, match=re.escape("gold-lightning[openai]")):
        OpenAIGenerator("m", "http://localhost/v1").generate([ASKED])


def test_what_a_server_says_is_cut_and_printable():
    assert printable("a\n\x1b[1mb\t c") == "a ?[1mb c"
    assert len(printable("x" * 1000)) == 200
