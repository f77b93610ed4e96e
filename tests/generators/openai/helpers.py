"""Requests and engines that the tests of this folder share."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from gold_lightning.errors import GoldError
from gold_lightning.generators import OpenAIGenerator, Request

from tests.servers import Fault

KEY = "sk-test-1234567890abcdef"


ASKED = Request("You write.", "Demos.\n\n", "Write one.", "topic: World\ntext:", seed=1, max_tokens=60)


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


def reply_of(text="a river.", finish="stop", **more):
    """A chat's answer as a body, whatever its end is called."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 4}} | more)


def made_of(server, body, **how):
    """What the engine makes of one answer that is always the same."""
    server.faults = lambda call: Fault("body", body=body)
    return engine(server, **how).generate([ASKED])[0]


REFUSALS = [
    Fault(status=400),
    Fault(status=422),
    Fault(status=403, body="<html><title>Request blocked</title></html>"),
    Fault(status=400, body=json.dumps({"error": "words that nobody knows"})),
]


LABELS = replace(ASKED, answer_prefix="topic:", choices=(" World news", " World cup", " Sports"))


def calls_but_greeting(server):
    """The calls that a server got, without the greeting that tells a refused prompt from a wrong setting."""
    calls = [call for call in server.calls if "Hello." not in str(call.body)]
    assert len(server.calls) - len(calls) <= 1
    return calls
