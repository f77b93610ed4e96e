"""The OpenAI-compatible engine against a real HTTP server that counts, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import sys
import threading
import time
from dataclasses import replace

import pytest
from gold_lightning.errors import ConfigError, GoldError, MissingDependencyError
from gold_lightning.generators import OpenAIGenerator

from tests.generators.openai.helpers import (
    ASKED,
    KEY,
    LABELS,
    engine,
    made_of,
    many,
    message_of,
    reply_of,
)
from tests.servers import FakeServer, Fault, tokens_of

pytest.importorskip("httpx", reason="the extra openai is not installed")

pytestmark = pytest.mark.integration


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


@pytest.mark.parametrize("form", ["chat", "completion"])
def test_a_multiline_text_of_a_server_is_whole(server, form):
    letter = "Dear all,\n\nwhere is it?\n\nTom"
    server.replies = lambda body: f"{letter}\n\ntopic: Sports\ntext: more"
    made = engine(server, form=form).generate([replace(ASKED, stop=("\n\ntopic:",))])[0]
    assert server.calls[0].body.get("stop") == (None if form == "chat" else ["\n\ntopic:"])
    assert (made.text.strip(), made.finish, made.reason) == (letter, "stop", "")


def test_lines_that_may_be_several_texts_are_told(server):
    prefix = "Examples:\n\ntopic: World\ntext: The river has flooded two towns.\n\n"
    server.replies = lambda body: "The dam broke.\nThe sea rose.\nThe rain fell."
    schema = json.dumps({"properties": {"topic": {}, "text": {}}})
    asked = replace(ASKED, prefix=prefix, stop=("\n",), schema=schema)
    assert engine(server).generate([asked])[0].reason == "several_lines"
    assert engine(server).generate([replace(asked, schema="")])[0].text == "The dam broke."  # not a sample


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


def test_what_cannot_be_encoded_is_replaced(server):
    server.replies = lambda body: "half a pair \ud83d."
    made = engine(server, form="completion").generate([replace(ASKED, suffix="asked \ud83d")])[0]
    assert made.text == "half a pair \ufffd."


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


def test_missing_counts_are_estimated_and_that_is_said_once(server, caplog):
    server.usage = False
    generator = engine(server, form="completion")
    with caplog.at_level(logging.WARNING):
        made = [*generator.generate(many(3)), *generator.generate(many(2))]
    assert [c.prompt_tokens for c in made[:1]] == [-(-len(many(1)[0].text) // 4)]
    assert all(c.completion_tokens == -(-len(c.text.encode()) // 4) > 0 for c in made)
    assert len([r for r in caplog.records if "estimated" in r.message]) == 1


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


def test_with_a_limit_of_ours_a_long_prompt_is_not_sent(server):
    generator = engine(server, max_context=100)
    fits = replace(ASKED, prefix="", suffix="x" * (4 * 40 - len(replace(ASKED, prefix="", suffix="").text)))
    asked = [fits, replace(fits, suffix=fits.suffix + "x" * 28), replace(LABELS, suffix="x" * 400)]
    assert generator.tokens_over_limit(asked)[:2] == [0, 7]
    assert generator.tokens_over_limit(asked)[2] > 0
    assert "about 107 tokens, more than the 100 tokens of toy" in message_of(generator, asked[1])
    assert not server.calls
    assert engine(server).tokens_over_limit(asked) == [0, 0, 0]


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("GOLD_KEY", KEY)


def test_the_key_is_sent_and_shown_nowhere(key, caplog):
    with FakeServer(key=KEY) as server, caplog.at_level(logging.DEBUG):
        generator = engine(server, api_key_env="GOLD_KEY", retries=0)
        server.faults = lambda call: (
            None if call.number > 1 else Fault(status=500, body=json.dumps({"detail": KEY * 3}))
        )
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
    assert e.value.key == f"data.generator.init_args.{key}"


def test_without_httpx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingDependencyError, match=re.escape("gold-lightning[openai]")):
        OpenAIGenerator("m", "http://localhost/v1").generate([ASKED])
