"""The OpenVINO engine: what it asks of OpenVINO, by a stand-in that caches as it does, and the real one."""

from __future__ import annotations

import importlib.util
import math
import sys
import types

import numpy as np
import pytest
from gold_lightning.errors import ConfigError, GoldError, MissingDependencyError
from gold_lightning.generators import OpenVINOGenerator, Request, TransformersGenerator
from gold_lightning.generators import openvino as module

BLOCK = 32
LABELS = (" black", " seven", " black cat", " deep blue sea")


def ask(suffix="Write one.", **how):
    return Request("You write.", "Some text about the sea.\n\n", suffix, "text:", **{"max_tokens": 12, **how})


def log_prob(before, token):
    """Any number that depends on all tokens before, as a model's does."""
    return -((sum(i * t for i, t in enumerate(before, 1)) + 31 * token) % 97) / 7


class Tokenizer:
    """A token a byte."""

    chat_template = None
    name_or_path = "m"

    def __call__(self, text, add_special_tokens=True):
        return types.SimpleNamespace(input_ids=[b + 2 for b in text.encode()])

    def get_vocab(self):
        return {"</s>": 1} | {chr(b): b + 2 for b in range(256)}

    def decode(self, ids, **_):
        return bytes(i - 2 for i in ids if i > 1).decode()


class Config:
    def __init__(self, **given):
        self.given = given


class Pipeline:
    """Continuous batching: what is asked together is computed together, and its blocks are kept afterwards."""

    made: list

    def __init__(self, path, scheduler, device, properties):
        if device == "NPU":
            raise RuntimeError("Check failed at src/core.cpp:93: Device with NPU name is not registered")
        self.path, self.scheduler, self.device, self.properties = path, scheduler, device, properties
        self.asked, self.waiting, self.blocks, self.steps = [], [], set(), 0
        self.partial = set()  # tokens whose last block is not full, and nothing follows them
        self.reply = " a text\nand more"
        self.made.append(self)

    def add_request(self, number, tensor, config):
        tokens = tensor.data[0].tolist()
        self.asked.append((tokens, config.given))
        handle = types.SimpleNamespace(read_all=lambda: handle.outputs, outputs=None, tokens=tokens, how=config.given)
        self.waiting.append(handle)
        return handle

    def has_non_finished_requests(self):
        return bool(self.waiting)

    def step(self):
        self.steps += 1
        shared = [max((p for p in self.partial if tuple(h.tokens[: len(p)]) == p), default=None) for h in self.waiting]
        taken = [partial for partial in shared if partial]
        assert len(set(taken)) == len(taken), "rows that are computed together share a block that is not full"
        for handle in self.waiting:
            handle.outputs = self._outputs(handle.tokens, handle.how)
            written = sum(len(output.generated_ids) for output in handle.outputs)
            written -= len(handle.tokens) * bool(handle.how.get("echo"))
            if written < 2 and len(handle.tokens) % BLOCK:
                self.partial.add(tuple(handle.tokens))
        for handle in self.waiting:
            ends = range(BLOCK, len(handle.tokens) + 1, BLOCK)
            self.blocks |= {tuple(handle.tokens[:end]) for end in ends}
        self.waiting = []

    def _outputs(self, tokens, how):
        if how.get("echo"):
            ends = range((len(tokens) - 1) // BLOCK * BLOCK, 0, -BLOCK)  # the last token is computed in any case
            kept = next((end for end in ends if tuple(tokens[:end]) in self.blocks), 0)
            # The first token that is computed has no log-probability, but for that of the whole prompt.
            computed = [log_prob(tokens[:i], tokens[i]) for i in range(kept + bool(kept), len(tokens))]
            return [self._output([*tokens, 5], [*computed, -0.5])]
        if how["max_new_tokens"] == 1:
            return [self._output([5], [0.0])]
        written = [b + 2 for b in self.reply.encode()][: how["max_new_tokens"]]
        reason = "LENGTH" if len(written) == how["max_new_tokens"] else "STOP"
        return [self._output(written, [0.0], reason)] if written else []

    def _output(self, ids, log_probs, reason="LENGTH"):
        finish = types.SimpleNamespace(name=reason)
        return types.SimpleNamespace(generated_ids=ids, generated_log_probs=log_probs, finish_reason=finish)


@pytest.fixture
def made(monkeypatch):
    """Puts the stand-in in place of OpenVINO; gives the pipelines that were made."""
    genai = types.ModuleType("openvino_genai")
    genai.SchedulerConfig, genai.GenerationConfig = types.SimpleNamespace, Config
    genai.ContinuousBatchingPipeline = Pipeline
    core = types.ModuleType("openvino")
    core.Tensor = lambda array: types.SimpleNamespace(data=np.array(array))
    monkeypatch.setitem(sys.modules, "openvino_genai", genai)
    monkeypatch.setitem(sys.modules, "openvino", core)
    monkeypatch.setattr(Pipeline, "made", [], raising=False)
    monkeypatch.setattr(module, "check_gguf", lambda key, path: None)
    config = types.SimpleNamespace(max_position_embeddings=400, eos_token_id=1)
    monkeypatch.setattr(module, "_read_tokenizer", lambda path: (Tokenizer(), config))
    return Pipeline.made


def expected(prompt, choices):
    """Log-likelihoods of choices up to the token that tells them apart, by the stand-in's model."""
    tokens = [[b + 2 for b in choice.encode()] for choice in choices]
    prefixes = module.distinguishing_prefixes(tokens)
    return tuple(sum(log_prob([*prompt, *p[:i]], p[i]) for i in range(len(p))) for p in prefixes)


@pytest.mark.parametrize("length", range(60, 100))  # of prompts, so that labels begin anywhere in a block
def test_likelihoods_are_those_of_the_model_wherever_blocks_end(made, length):
    generator = OpenVINOGenerator("m.gguf")
    suffixes = ["a" * (length - len(ask("").text)) + letter for letter in ("x", "y", "longer")]
    requests = [ask(suffix, choices=LABELS) for suffix in suffixes]
    completions = generator.generate(requests)
    for request, completion in zip(requests, completions, strict=True):
        prompt = [b + 2 for b in request.text.encode()]
        assert completion.choice_log_probs == pytest.approx(expected(prompt, LABELS))
        assert (completion.prompt_tokens, completion.completion_tokens) == (len(prompt), 0)
    assert generator.generate(requests) == completions  # all in blocks, so nothing of it is computed again
    assert len(made) == 1


def test_what_is_known_without_likelihoods_is_computed_by_a_fresh_pipeline(made):
    generator = OpenVINOGenerator("m.gguf")
    request = ask("a" * (2 * BLOCK - len(ask("").text)), choices=LABELS)
    (first,) = generator.generate([request])
    generator._log_probs.clear()
    (second,) = generator.generate([request])
    assert second == first and len(made) == 2


def test_without_likelihoods_of_prompts_it_says_so(made, monkeypatch):
    monkeypatch.setattr(Pipeline, "_outputs", lambda self, tokens, how: [self._output([*tokens, 5], [-0.5])])
    with pytest.raises(GoldError, match="no likelihoods"):
        OpenVINOGenerator("m.gguf").generate([ask(choices=LABELS)])


def test_a_common_beginning_is_computed_once_and_before_its_rows(made):
    generator = OpenVINOGenerator("m.gguf")
    requests = [ask(f"Write one, and do not forget the sea {i}.") for i in range(3)]
    generator.generate(requests)
    (pipeline,) = made
    beginning, *rows = [tokens for tokens, _ in pipeline.asked]
    assert len(rows) == 3 and all(row[: len(beginning)] == beginning for row in rows)
    assert len(beginning) == 2 * BLOCK and pipeline.steps == 2  # a block that is not full must not be shared
    generator.generate(requests)
    assert len(pipeline.asked) == 7 and pipeline.steps == 3  # it is known to be in blocks


def test_rows_with_one_prompt_never_share_a_block_that_is_not_full(made):
    generator = OpenVINOGenerator("m.gguf")
    same = [ask(seed=i) for i in range(3)]
    assert len(generator.generate(same)) == 3  # together: nothing of the prompt is in blocks
    made[0].reply = "x"  # one token, after which the prompt is
    generator.generate(same[:1])
    made[0].reply = " a text\nand more"
    steps = made[0].steps
    other = ask("Write another.")
    completions = generator.generate([*same, other])
    assert [c.text for c in completions] == [" a text\nand "] * 4 and made[0].steps == steps + 3


def test_texts_end_at_stops_at_ends_and_at_the_limit(made):
    generator = OpenVINOGenerator("m.gguf")
    (found,) = generator.generate([ask(stop=("\n",), max_tokens=40)])
    assert (found.text, found.finish) == (" a text", "stop")
    (cut,) = generator.generate([ask(max_tokens=4)])
    assert (cut.text, cut.finish, cut.completion_tokens) == (" a t", "length", 4)
    made[0].reply = ""
    (empty,) = generator.generate([ask()])
    assert (empty.text, empty.finish, empty.completion_tokens) == ("", "stop", 0)


def test_settings_reach_openvino(made):
    generator = OpenVINOGenerator("m.gguf", batch_size=7, temperature=0.5, top_k=0, top_p=0.9, cache_size=2)
    generator.share_machine(1, 1)
    generator.generate([ask(seed=2**40 + 3, stop=("\n",)), ask(greedy=True)])
    how = [given for _, given in made[0].asked][-2:]
    assert how[0]["do_sample"] and (how[0]["temperature"], how[0]["top_p"]) == (0.5, 0.9) and "top_k" not in how[0]
    assert how[0]["rng_seed"] == 2**40 + 3 and how[0]["stop_strings"] == {"\n"} and 1 in how[0]["stop_token_ids"]
    assert how[1]["do_sample"] is False
    assert made[0].scheduler.max_num_seqs == 7 and made[0].scheduler.cache_size == 2
    assert made[0].properties == {"KV_CACHE_PRECISION": "f32"}
    OpenVINOGenerator("m.gguf", temperature=0.0).generate([ask()])
    assert made[1].asked[0][1]["do_sample"] is False


def test_processes_of_a_machine_share_its_processors(made, monkeypatch):
    monkeypatch.setattr(module.os, "cpu_count", lambda: 8)
    generator = OpenVINOGenerator("m.gguf")
    generator.share_machine(0, 3)
    generator.load()
    assert made[0].properties["INFERENCE_NUM_THREADS"] == 2


def test_prompts_that_are_too_long_are_told_before_they_are_asked(made):
    generator = OpenVINOGenerator("m.gguf")
    assert (
        generator.tokens_over_limit([ask(), ask("x" * 400)])[0] == 0 < generator.tokens_over_limit([ask("x" * 400)])[0]
    )
    with pytest.raises(GoldError, match="more than the 400 tokens"):
        generator.generate([ask("x" * 400)])
    assert made[0].asked == [] and generator.generate([]) == []


def test_wrong_models_and_devices_are_one_line(made, tmp_path, monkeypatch):
    for model, key in [(str(tmp_path), "model"), ("Qwen/Qwen2.5-1.5B-Instruct", "model")]:
        with pytest.raises(ConfigError) as caught:
            OpenVINOGenerator(model).check_installed()
        assert caught.value.key.endswith(key) and "optimum-cli" in str(caught.value)
    with pytest.raises(GoldError, match="NPU name is not registered"):
        OpenVINOGenerator("m.gguf", device="NPU").load()
    with pytest.raises(ConfigError) as caught:
        OpenVINOGenerator("m.gguf", cache_size=0)
    assert caught.value.value == 0
    (tmp_path / "openvino_model.xml").touch()
    OpenVINOGenerator(str(tmp_path)).check_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError):
        OpenVINOGenerator("m.gguf").check_installed()


def test_completions_are_kept_by_what_they_depend_on():
    plain = OpenVINOGenerator("m").fingerprint()
    for change in ({"form": "chat"}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.5}, {"model": "n"}):
        assert OpenVINOGenerator(**{"model": "m", **change}).fingerprint() != plain, change
    assert OpenVINOGenerator("m", batch_size=3, cache_size=1).fingerprint() == plain
    talk = ask(messages=(("user", "Hello"),))
    assert "messages" in OpenVINOGenerator("m").request_values(talk)
    assert "messages" not in OpenVINOGenerator("m", form="completion").request_values(talk)


# The real one: make test-openvino


@pytest.fixture(scope="module")
def real():
    pytest.importorskip("openvino_genai", reason="the extra openvino is not installed")
    from gold_lightning.generators.embedded_weights import find_weights

    if find_weights() is None:
        pytest.skip("the embedded generator's file is not there")
    return OpenVINOGenerator(str(find_weights()), batch_size=4, form="completion", cache_size=1)


@pytest.mark.openvino
def test_the_real_one_writes_scores_and_does_so_again(real):
    texts = [ask(f"Write one line about {word}.", stop=("\n",), seed=i) for i, word in enumerate(("ships", "sand"))]
    written = real.generate([*texts, *texts])
    assert all(c.completion_tokens <= 12 and "\n" not in c.text for c in written)
    assert [c.prompt_tokens for c in written[:2]] == [len(real._encode(t, real._load())) for t in texts]
    shared = "The colour of things, as anybody sees them.\n\ngrass: green\nsnow: white\nblood: red\n"
    rows = [
        Request("You name colours.", shared, name, f"{name}:", choices=(*LABELS, " white"))
        for name in ("coal", "milk", "a piece of coal in the dark cellar of an old house by the sea")
    ]
    scored = [c.choice_log_probs for c in real.generate(rows)]
    assert scored == [c.choice_log_probs for c in real.generate(rows)]
    assert all(math.isfinite(p) and p < 0 for row in scored for p in row)
    assert scored[0][0] > scored[0][1] and scored[1][4] > scored[1][1]
    assert real.tokens_over_limit([ask("sea " * 9000)])[0] > 0


@pytest.mark.openvino
def test_texts_that_are_written_together_are_those_written_alone(real):
    names = "ships fish storms sand salt rain hills towns roads birds".split()
    rows = [
        Request("You write.", "A text about sea and land.\n\n" * 9, f"Write about {name}.", "text:", i, max_tokens=16)
        for i, name in enumerate(names)
    ]
    together = [c.text for c in real.generate(rows)]
    assert len(set(together)) > 5
    assert [real.generate([row])[0].text for row in rows] == together
    assert [c.text for c in real.generate(rows[::-1])] == together[::-1]


@pytest.mark.openvino
def test_the_real_ones_likelihoods_are_near_those_of_the_dequantised_weights(real):
    rows = [
        ask(f"Name what {name} is.", choices=(" red", " green", " Paris")) for name in ("blood", "grass", "the capital")
    ]
    other = TransformersGenerator(real.model, form="completion", dtype="float32", device="cpu")
    pairs = zip(real.generate(rows), other.generate(rows), strict=True)
    differences = [abs(a - b) for x, y in pairs for a, b in zip(x.choice_log_probs, y.choice_log_probs, strict=True)]
    assert max(differences) < 4.0  # OpenVINO rounds the zero of each group of 4-bit weights
