"""The real vLLM, with the embedded model on this machine's processor. ``make test-vllm`` runs these."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
from dataclasses import replace

import pytest
import torch
from gold_lightning.errors import GoldError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import Request, TransformersGenerator, VLLMGenerator
from gold_lightning.generators.embedded import embedded_folder
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Task

from tests.fakes import byte_level_tokenizer

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"topic": {"type": "string", "enum": ["World"]}, "text": {"type": "string", "maxLength": 40}},
        "required": ["topic", "text"],
        "additionalProperties": False,
    }
)


real = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.timeout(1800),  # it takes minutes to start
]
REAL_LIMIT = 2048


def mark(test):
    for one in real:
        test = one(test)
    return test


@contextlib.contextmanager
def started(model, **how):
    """The engine, for as long as it is needed. Without compilation it starts sooner."""
    how = {"form": "completion", "dtype": "float32", "gpu_memory_utilization": 0.3, **how}
    generator = VLLMGenerator(model, engine_args={"enforce_eager": True}, **how)
    generator.load()
    yield generator
    generator._llm = None
    gc.collect()  # ends its processes while there is a log to write to


@pytest.fixture(scope="module")
def running():
    with started(str(embedded_folder()), batch_size=16, schema="json", max_model_len=REAL_LIMIT) as generator:
        yield generator


@pytest.fixture(scope="module")
def same_model():
    return TransformersGenerator(str(embedded_folder()), form="completion", dtype="float32", device="cpu")


def sea(own="Write one more.", **how):
    return Request("You write.", "Some text about the sea.\n\n", own, "text:", **{"max_tokens": 24, **how})


def texts(generator, requests):
    return [c.text for c in generator.generate(requests)]


@mark
def test_real_order_and_token_counts(running, same_model):
    requests = [sea("Write more. " * (1 + i * 5 % 7), max_tokens=3 + i) for i in range(6)]
    found = running.generate(requests)
    tokenizer = same_model._load()[1]
    assert [c.prompt_tokens for c in found] == [len(tokenizer(r.text).input_ids) for r in requests]
    assert all(1 <= c.completion_tokens <= 3 + i for i, c in enumerate(found))
    assert any(c.finish == "length" for c in found)
    for i, c in enumerate(found):
        assert c.finish == "stop" or c.completion_tokens == 3 + i


@mark
def test_real_greedy_text_is_that_of_transformers(running, same_model):
    requests = [sea(own, greedy=True) for own in ("Write one more.", "Name a fish.", "Say hello.")]
    assert texts(running, requests) == texts(same_model, requests)


@mark
def test_real_same_seed_same_text_and_another_seed_another(running):
    requests = [sea(seed=i) for i in range(6)]
    first = texts(running, requests)
    assert texts(running, requests) == first
    assert len(set(first)) == 6


@mark
def test_real_stream_gives_short_ones_first_and_may_be_closed(running):
    requests = [sea(greedy=True, max_tokens=n) for n in (20, 2, 6)]
    wanted = running.generate(requests)
    stream = running.stream(requests)
    assert next(stream) == (1, wanted[1])
    assert running.generate(requests[1:2]) == wanted[1:2]  # while the stream is open
    assert next(stream) == (2, wanted[2])
    stream.close()
    assert not running._llm.llm_engine.has_unfinished_requests()
    assert running.generate(requests) == wanted


@mark
def test_real_stop_strings(running):
    text = texts(running, [sea(greedy=True)])[0]
    at = next(i for i in range(4, len(text)) if text.find(text[i : i + 3]) == i and len(text[i : i + 3].strip()) == 3)
    for stop in ((text[at : at + 3],), ("never there", text[at : at + 3], text[at:])):
        made = running.generate([sea(greedy=True, stop=stop)])[0]
        assert (made.text, made.finish) == (text[:at], "stop")


@mark
def test_real_most_tokens_cut_the_text(running):
    short, long = running.generate([sea(greedy=True, max_tokens=n) for n in (3, 6)])
    assert [(c.finish, c.completion_tokens) for c in (short, long)] == [("length", 3), ("length", 6)]
    assert long.text.startswith(short.text)


@mark
def test_real_prompts_in_any_script(running, same_model):
    requests = [
        sea(own, greedy=True, max_tokens=8)
        for own in ("naïve Öl", "北京的新闻", "🙂👩‍👩‍👧", "עברית \u202e", "tab\tand\x00nul")
    ]
    for ours, other in zip(running.generate(requests), same_model.generate(requests), strict=True):
        assert ours.prompt_tokens == other.prompt_tokens
        ours.text.encode()  # what could not be stored would raise here


@mark
def test_real_text_in_any_script(running, monkeypatch):
    wanted = "naïve 北京 🙂"
    schema = json.dumps({"type": "object", "properties": {"a": {"enum": [wanted]}}, "required": ["a"]})
    made = running.generate([sea(schema=schema, max_tokens=60)])[0]
    assert json.loads(made.text) == {"a": wanted}


@mark
def test_real_long_prompt(running):
    long = sea("sea " * REAL_LIMIT)
    (over,) = running.tokens_over_limit([long])
    assert over > 0
    with pytest.raises(GoldError, match=f"more than the {REAL_LIMIT} tokens"):
        running.generate([long])
    words = REAL_LIMIT - over  # " sea" is one token
    fits = sea("sea " * words, max_tokens=24)
    assert running.tokens_over_limit([fits, replace(fits, max_tokens=25)]) == [0, 1]
    made = running.generate([fits])[0]
    assert made.prompt_tokens + 24 == REAL_LIMIT


@mark
def test_real_schema(running):
    requests = [sea(seed=i, schema=SCHEMA, stop=("\n",), max_tokens=80) for i in range(4)]
    made = running.generate(requests)
    whole = [json.loads(c.text) for c in made if c.finish == "stop"]
    assert len(whole) == 4
    assert all(found.keys() == {"topic", "text"} and found["topic"] == "World" for found in whole)
    assert len({found["text"] for found in whole}) == 4


@mark
def test_real_choices_equal_those_of_transformers(running, same_model):
    requests = [
        sea("Which topic is it?", choices=(" World", " Sports", " Business", " Sci/Tech")),
        sea("Which?", choices=(" not entailed by it", " not", " not entailed at all", " entailed")),
        sea("Which?", choices=(" only one",)),
        sea("x " * 300, choices=("<|endoftext|>", "a", "b")),
    ]
    found, wanted = running.generate(requests), same_model.generate(requests)
    for ours, other in zip(found, wanted, strict=True):
        assert ours.choice_log_probs == pytest.approx(other.choice_log_probs, abs=2e-3)
        assert ours.prompt_tokens == other.prompt_tokens
    assert len(set(found[0].choice_log_probs)) == 4


@mark
@pytest.mark.parametrize("schema", ["off", "json"])
def test_real_round_of_synthesis(running, monkeypatch, tmp_path, schema):
    monkeypatch.setattr(running, "schema", schema)
    task = Task.load("news_topics")
    synthesizer = Synthesizer(task, running, tmp_path, SynthesisPlan(samples_per_round=8, group_size=4), seed=3)
    made = synthesizer.train(0, FeedbackPool(), 0.5)
    assert sorted(s.sample.target for s in made) == sorted(2 * list(task.label_names))
    assert len({s.sample.text for s in made}) == 8
    assert all(s.raw.startswith("{") == (schema == "json") for s in made)


@mark
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can sleep")
def test_real_sleep_without_a_gpu_is_refused_in_one_line():
    with pytest.raises(GoldError) as e:
        VLLMGenerator(str(embedded_folder()), sleep=True).load()
    assert len(str(e.value).splitlines()) == 1
    assert "Sleep mode is not supported" in str(e.value)


@mark
@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU can sleep")
def test_real_sleep_gives_the_memory_back():
    with started(str(embedded_folder()), sleep=True, max_model_len=REAL_LIMIT) as generator:
        before = texts(generator, [sea(greedy=True)])
        awake = torch.cuda.mem_get_info()[0]
        generator.release()
        generator.release()
        assert torch.cuda.mem_get_info()[0] > awake + 2**30
        assert texts(generator, [sea(greedy=True)]) == before


@mark
def test_real_adapter_is_the_model_with_its_weights_merged(tmp_path):
    base, lora, merged = small_llama_with_adapter(tmp_path)
    requests = [sea(own, choices=(" a", " b", " zz")) for own in ("One.", "Two and more.")]
    settings = {"form": "completion", "dtype": "float32"}
    with started(base, lora=lora, max_model_len=256) as adapted:
        found = adapted.generate(requests)
    plain = TransformersGenerator(base, device="cpu", **settings).generate(requests)
    wanted = TransformersGenerator(merged, device="cpu", **settings).generate(requests)
    for ours, other, without in zip(found, wanted, plain, strict=True):
        assert ours.choice_log_probs == pytest.approx(other.choice_log_probs, abs=2e-3)
        assert ours.choice_log_probs != pytest.approx(without.choice_log_probs, abs=2e-2)


def small_llama_with_adapter(folder):
    """A one-layer Llama of random weights, an adapter of it, and both in one."""
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_level_tokenizer(first=("<pad>", "</s>"))
    vocab = tokenizer.get_vocab()
    torch.manual_seed(0)
    size, rank, alpha = 128, 4, 8
    config = LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=size,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    names = ("q_proj", "v_proj")
    weights = {}
    (folder / "adapter").mkdir()
    for name, model_folder in (("base", folder / "base"), ("merged", folder / "merged")):
        if name == "merged":
            for part in names:
                a, b = torch.randn(rank, size) / size**0.5, torch.randn(size, rank)
                at = f"base_model.model.model.layers.0.self_attn.{part}"
                weights |= {f"{at}.lora_A.weight": a, f"{at}.lora_B.weight": b}
                with torch.no_grad():
                    getattr(model.model.layers[0].self_attn, part).weight += alpha / rank * b @ a
        model.save_pretrained(model_folder)
        tokenizer.save_pretrained(model_folder)
    save_file(weights, folder / "adapter" / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha, "bias": "none"}
    (folder / "adapter" / "adapter_config.json").write_text(
        json.dumps({**settings, "target_modules": list(names), "base_model_name_or_path": str(folder / "base")})
    )
    return str(folder / "base"), str(folder / "adapter"), str(folder / "merged")
