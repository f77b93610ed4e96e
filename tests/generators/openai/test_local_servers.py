"""Servers of local models, configured as the documentation does it, against stand-ins that behave as they do."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from gold_lightning.errors import GoldError
from gold_lightning.generators import OpenAIGenerator
from gold_lightning.prompts import Hint, training_request
from gold_lightning.task import Task

from tests.generators.openai.helpers import ASKED, LABELS, message_of
from tests.local_servers import SWITCH, THOUGHT, VLLM, LlamaCpp, LMStudio, LocalServer, Ollama
from tests.servers import tokens_of

pytest.importorskip("httpx", reason="the extra openai is not installed")

PAGE = (Path(__file__).parents[3] / "docs" / "local-servers.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
SERVERS = {"Ollama": Ollama, "LM Studio": LMStudio, "llama.cpp": LlamaCpp, "vLLM": VLLM}
each = pytest.mark.parametrize("name", SERVERS)
CHOICES = replace(LABELS, choices=(" World", " Sports"))


def documented(name, server, **changed):
    """The generator of a section's first YAML block, at the stand-in's address."""
    config = yaml.safe_load(re.search(r"```yaml\n(.*?)```", SECTIONS[name], re.DOTALL)[1])
    engine = config["data"]["generator"]
    assert engine["class_path"] == "gold_lightning.generators.OpenAIGenerator"
    settings = engine["init_args"] | {"model": "toy", "base_url": server.url, "backoff": 0.01} | changed
    return OpenAIGenerator(**settings)


def river(body):
    return (
        "topic: World\ntext: a river by the town.\n"
        if body["messages"][-1]["role"] == "user"
        else " a river by the town."
    )


@each
def test_the_settings_of_the_page_give_samples(name):
    with SERVERS[name](replies=river) as server:
        (made,) = documented(name, server).generate([ASKED])
        assert (made.text.strip(), made.finish, made.reason) == ("a river by the town.", "stop", "")
        assert made.prompt_tokens and made.completion_tokens
        assert "stream" not in server.calls[0].body


@each
def test_thinking_is_taken_off_wherever_the_server_puts_it(name):
    with SERVERS[name](replies=river, thinks=True) as server:
        (made,) = documented(name, server, extra=None).generate([replace(ASKED, max_tokens=200)])
        assert made.text.strip() == "a river by the town." and made.reason == "" and made.thought
        assert made.completion_tokens > len(tokens_of(THOUGHT))
    if name == "LM Studio":
        with LMStudio(replies=river, thinks=True, apart=True) as server:
            assert documented(name, server).generate([ASKED])[0].text.strip() == "a river by the town."


@each
def test_a_model_that_spends_its_tokens_on_thinking_is_told_apart(name):
    with SERVERS[name](replies=river, thinks=True) as server:
        (made,) = documented(name, server, extra=None, retries=0).generate([replace(ASKED, max_tokens=8)])
        assert made.reason == "only_thinking" and not made.is_answer


@pytest.mark.parametrize("name", ["Ollama", "llama.cpp", "vLLM"])
def test_the_switch_of_the_page_stops_thinking(name):
    extra = yaml.safe_load(re.search(r"`extra: (\{.*?\})`", SECTIONS[name])[1])
    with SERVERS[name](replies=river, thinks=True) as server:
        (made,) = documented(name, server, extra=extra).generate([ASKED])
        assert made.text.strip() == "a river by the town." and made.finish == "stop" and not made.thought
        assert made.completion_tokens < len(tokens_of(THOUGHT))
        assert extra.items() <= server.calls[0].body.items() and (SWITCH in extra) == (name != "Ollama")


@pytest.mark.parametrize("name", ["Ollama", "llama.cpp", "vLLM"])
def test_likelihoods_of_labels_where_the_server_gives_them(name):
    with SERVERS[name]() as server:
        (made,) = documented(name, server).generate([CHOICES])
        assert len(made.choice_log_probs) == 2 and max(made.choice_log_probs) < 0


@pytest.mark.parametrize("server", [LMStudio(), Ollama(old=True)], ids=["LM Studio", "Ollama 0.12.10"])
def test_a_server_without_likelihoods_is_named_with_the_setting_to_change(server):
    name = "LM Studio" if isinstance(server, LMStudio) else "Ollama"
    with server:
        assert "set data.plan.label_agreement to off" in message_of(documented(name, server), CHOICES)
    assert 'label_agreement: "off"' in SECTIONS["LM Studio"] and "0.12.11" in SECTIONS["Ollama"]


def test_llama_cpp_tells_labels_by_the_first_token_after_the_beginning_of_an_answer():
    with LlamaCpp() as server:
        generator = documented("llama.cpp", server)
        made, again = (generator.generate([CHOICES])[0] for _ in range(2))
        assert made.choice_log_probs == again.choice_log_probs and len(made.choice_log_probs) == 2
        *whole, first, second = (call.body for call in server.calls)
        assert [body["messages"][-1]["content"] for body in whole] == ["topic: World", "topic: Sports"], (
            "asked for once"
        )
        assert first["messages"][-1] == {"role": "assistant", "content": "topic:"} == second["messages"][-1]
        assert first["top_logprobs"] == 20 and first["max_tokens"] == 1
        assert made.prompt_tokens > again.prompt_tokens, "the calls in vain are counted"


def test_calls_at_once_find_out_alike_that_llama_cpp_has_no_likelihoods_of_prompts():
    with LlamaCpp(delay=lambda call: 0.05 * (call.number % 5)) as server:
        requests = [replace(CHOICES, suffix=f"Which topic is number {i}?") for i in range(12)]
        made = documented("llama.cpp", server, concurrency=8).generate(requests)
        assert all(len(completion.choice_log_probs) == 2 for completion in made)


def test_what_llama_cpp_repeats_is_no_part_of_the_text():
    with LlamaCpp(replies=river) as server:
        (made,) = documented("llama.cpp", server).generate([ASKED])
        assert server.calls[0].body["messages"][-1]["content"] == ASKED.answer_prefix
        assert made.text.strip() == "a river by the town."


def test_a_model_that_thinks_and_does_not_go_on_names_the_settings_to_change():
    with LlamaCpp(replies=river, thinks=True, old=True) as server:
        for request in (ASKED, CHOICES):
            message = message_of(documented("llama.cpp", server), request)
            assert "extra: {chat_template_kwargs: {enable_thinking: false}}" in message
            assert "continue_answer: false" in message
        (made,) = documented("llama.cpp", server, extra={SWITCH: {"enable_thinking": False}}).generate([ASKED])
        assert made.text.strip() == "a river by the town."


@pytest.mark.parametrize("old", [False, True])
def test_llama_cpp_does_not_echo(old):
    with LlamaCpp(old=old) as server:
        message = message_of(OpenAIGenerator("toy", server.url, form="completion", backoff=0.01), CHOICES)
        assert ("Only no echo is supported" if old else "its answers hold none for the prompt") in message
        assert "data.plan.label_agreement" in message and "to off" in message


@each
def test_objects_by_schema(name):
    task = Task.load("news_topics")
    request = training_request(task, "Sports", task.demos[3:5], Hint(), 1)
    with SERVERS[name](limit=2000) as server:
        (made,) = documented(name, server, schema="json_schema").generate([request])
        values = json.loads(made.text)
        assert values["topic"] == "Sports" and server.calls[0].body["response_format"]["type"] == "json_schema"


@each
def test_a_model_that_is_not_there(name):
    with SERVERS[name](replies=river) as server:
        generator = documented(name, server, model="other", retries=1)
        if name == "llama.cpp":  # has one model, whatever it is called
            assert generator.generate([ASKED])[0].text.strip() == "a river by the town."
        else:
            message = message_of(generator)
            assert "init_args.model" in message and ("other" in message)


def test_a_base_url_without_v1_is_told_although_lm_studio_says_200():
    with LMStudio(replies=river) as server:
        generator = documented("LM Studio", server, base_url=server.url.removesuffix("/v1"), retries=1)
        message = message_of(generator)
        assert "Unexpected endpoint" in message and "base_url" in message


def test_lm_studio_takes_no_other_shape_than_a_schema():
    with LMStudio(replies=river) as server:
        generator = documented("LM Studio", server, extra={"response_format": {"type": "json_object"}}, retries=1)
        assert "must be 'json_schema' or 'text'" in message_of(generator)


def test_llama_cpp_is_waited_for_while_it_loads_its_model():
    with LlamaCpp(replies=river, loading=3) as server:
        (made,) = documented("llama.cpp", server).generate([ASKED])
        assert made.text.strip() == "a river by the town." and len(server.calls) == 4


def test_a_prompt_that_is_too_long_for_llama_cpp_is_told():
    with LlamaCpp(replies=river, limit=5) as server:
        message = message_of(documented("llama.cpp", server, retries=1))
        assert "exceeds the available context size (5 tokens)" in message


def test_every_stand_in_has_a_section():
    assert {*SERVERS} <= {*SECTIONS} and all(issubclass(server, LocalServer) for server in SERVERS.values())
    with pytest.raises(GoldError):
        OpenAIGenerator("toy", "http://127.0.0.1:1/v1", retries=0, connect_timeout=1).generate([ASKED])
