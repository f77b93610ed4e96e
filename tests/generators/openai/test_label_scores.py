"""Log-likelihoods of labels, in the formats of several servers."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from gold_lightning.errors import GoldError

from tests.generators.openai.helpers import (
    LABELS,
    engine,
    many,
    message_of,
)
from tests.servers import Fault, chosen

pytest.importorskip("httpx", reason="the extra openai is not installed")


def test_a_refusal_of_likelihoods_is_not_one_of_a_prompt(server):
    server.faults = lambda call: Fault(status=400) if "echo" in call.body else None
    generator = engine(server, form="completion")
    generator.generate(many(2))
    with pytest.raises(GoldError, match="label_agreement to off"):
        generator.generate([LABELS])


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


def test_a_server_that_refuses_likelihoods_is_told_in_one_line(server):
    server.faults = lambda call: Fault(status=400)
    assert "data.plan.label_agreement to off" in message_of(engine(server, form="completion"), LABELS)
    assert "label_agreement" not in message_of(engine(server, form="completion"))
