"""Failing calls that are repeated or end the run, the pace of calls, and the choice among servers."""

from __future__ import annotations

import email.utils
import itertools
import json
import random
import time

import pytest
from gold_lightning.errors import GoldError
from gold_lightning.generators import OpenAIGenerator

from tests.generators.openai.helpers import (
    ASKED,
    REFUSALS,
    calls_but_greeting,
    engine,
    first_attempt,
    made_of,
    many,
    message_of,
    reply_of,
)
from tests.servers import FakeServer, Fault

pytest.importorskip("httpx", reason="the extra openai is not installed")

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda f: f"{f.status} {f.body}")
def test_one_prompt_that_is_refused_in_unknown_words_does_not_end_the_run(server, fault):
    server.faults = lambda call: fault if "number 0." in str(call.body) else None
    server.delay = lambda call: 0.0 if "number 0." in str(call.body) else 0.1  # a refusal comes first
    made = engine(server, concurrency=2).generate(many(4))
    assert [c.finish for c in made] == ["filtered", "stop", "stop", "stop"]
    assert len(server.calls) == 4


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda f: f"{f.status} {f.body}")
def test_the_first_prompt_refused_in_unknown_words_does_not_end_the_run_even_alone(server, fault):
    server.faults = lambda call: fault if "number 0." in str(call.body) else None
    (alone,) = engine(server).generate(many(1))
    assert alone.finish == "filtered"
    assert len(server.calls) == 2  # the other is a greeting
    made = engine(server, concurrency=1).generate(many(3))
    assert [c.finish for c in made] == ["filtered", "stop", "stop"]


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda f: f"{f.status} {f.body}")
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_refused_greeting_does_not_end_a_run_whose_next_prompt_is_answered(server, fault, concurrency):
    refused = ("number 0.", "number 1.", "Hello.")
    server.faults = lambda call: fault if any(words in str(call.body) for words in refused) else None
    made = engine(server, concurrency=concurrency).generate(many(4))
    assert [c.finish for c in made] == ["filtered", "filtered", "stop", "stop"]
    assert len(server.calls) == 5  # the greeting is asked once


def test_a_prompt_that_is_too_long_is_one_reject_if_others_are_answered(server):
    fault = Fault(status=400, body=json.dumps({"error": {"message": "no", "code": "context_length_exceeded"}}))
    server.faults = lambda call: fault if "number 2." in str(call.body) else None
    made = engine(server, concurrency=1).generate(many(4))
    assert [c.finish for c in made] == ["stop", "stop", "failed", "stop"]
    server.faults = lambda call: fault
    with pytest.raises(GoldError, match="HTTP 400: no"):
        engine(server, concurrency=1).generate(many(4))
    assert len(server.calls) == 5  # no greeting


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (Fault(status=401), "api_key_env"),
        (Fault(status=404, body=json.dumps({"error": "model 'toy' not found"})), "model"),
        (Fault(status=404, body="<html>Not found</html>"), "base_url"),
    ],
    ids=["key", "model", "url"],
)
def test_a_wrong_key_model_or_url_ends_the_run_at_its_first_call(server, fault, advice):
    server.faults = lambda call: fault
    with pytest.raises(GoldError, match=advice):
        engine(server, concurrency=1).generate(many(8))
    assert len(server.calls) == 1


def test_a_greeting_has_the_settings_of_the_call_but_not_its_prompt(server):
    server.faults = lambda call: Fault(status=400, body="no") if "number 0." in str(call.body) else None
    engine(server).generate(many(1))
    refused, greeting = (call.body for call in server.calls)
    assert {k: v for k, v in greeting.items() if k != "messages"} == {
        k: v for k, v in refused.items() if k != "messages"
    }
    assert [m["role"] for m in greeting["messages"]] == [m["role"] for m in refused["messages"]]
    assert "number 0." not in str(greeting)


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda f: f"{f.status} {f.body}")
def test_what_is_refused_to_all_ends_the_run_after_one_greeting(server, fault):
    server.faults = lambda call: fault
    with pytest.raises(GoldError, match=f"HTTP {fault.status}"):
        engine(server, concurrency=2).generate(many(8))
    assert len(server.calls) <= 5


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
    (alone,) = engine(server, retries=3).generate(many(1))
    assert alone.finish == "failed"  # a greeting was answered
    server.faults = lambda call: fault
    with pytest.raises(GoldError, match="after 4 tries"):
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
        (Fault("hang"), "no complete answer within 0.3 s, after 3 tries"),
        (Fault("drip"), "no complete answer within 0.3 s, after 3 tries"),
        (Fault("body", body="{"), "not a JSON object: {, after 3 tries"),
        (Fault("body", body='{"id": 1}'), "without choices, after 3 tries"),
    ],
    ids=lambda v: v if isinstance(v, str) else v.kind,
)
def test_tries_that_are_spent_are_told_in_one_line(server, fault, said):
    server.faults = lambda call: fault
    text = message_of(engine(server, retries=2, timeout=0.3 if fault.kind in ("hang", "drip") else 60))
    assert text.startswith(f"generator 'toy' at {server.url}: ")
    assert said in text
    assert len(calls_but_greeting(server)) == 3


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
    assert len(calls_but_greeting(server)) == 1


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
    assert len(calls_but_greeting(server)) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("body", body='{"error": "Unexpected endpoint or method. (POST /chat/completions)"}'), "most end in /v1"),
        (Fault("body", body="<html><title>A chat</title></html>"), "most end in /v1"),
        (Fault("body", body='{"error": {"message": "odd"}}'), "HTTP 200 with an error: odd, after 2 tries"),
        (Fault("body", body='data: {"choices": []}\n\ndata: [DONE]'), "extra: {stream: false}"),
        (Fault("body", body=': PROCESSING\n\ndata: {"choices": []}\n\n'), "extra: {stream: false}"),
        (Fault("body", body="event: message\ndata: {}\n\n"), "extra: {stream: false}"),
        (Fault("body", body="A model is running"), "not a JSON object: A model is running, after 2 tries"),
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
    assert len(calls_but_greeting(server)) == 2


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


def test_load_is_spread_over_servers(server):
    with FakeServer(delay=0.01) as other:
        server.delay = 0.01
        engine(server, other, concurrency=6).generate(many(60))
        assert len(server.calls) + len(other.calls) == 60
        assert 20 <= len(server.calls) <= 40
        assert max(server.most_busy, other.most_busy) <= 4


def test_a_slow_server_gets_fewer_calls_than_a_fast_one(server):
    with FakeServer(delay=0.1) as slow:
        server.delay = 0.01
        generator = engine(server, slow, concurrency=8)
        wanted = engine(server, concurrency=8).generate(many(80))
        server.calls.clear()
        assert generator.generate(many(80)) == wanted
        assert 1 <= len(slow.calls) < 20 and len(server.calls) + len(slow.calls) == 80
        before = len(slow.calls)
        generator.generate(many(8))  # all at once, and what is known counts
        assert len(slow.calls) - before <= 2


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
