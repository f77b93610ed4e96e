"""The vLLM engine: what it asks of vLLM, by a stand-in for it, and the real one where it is installed."""

from __future__ import annotations

import json
import os
import sys
import types
from dataclasses import replace

import pytest
import torch
from gold_lightning.errors import ConfigError, GoldError, MissingDependencyError
from gold_lightning.generators import Completion, Request, VLLMGenerator

LIMIT = 200
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"topic": {"type": "string", "enum": ["World"]}, "text": {"type": "string", "maxLength": 40}},
        "required": ["topic", "text"],
        "additionalProperties": False,
    }
)

# With a stand-in


class FakeTokenizer:
    """A token a byte, after a token that begins the text."""

    chat_template = None
    name_or_path = "m"

    def __call__(self, text, add_special_tokens=True):
        return types.SimpleNamespace(input_ids=[1] * add_special_tokens + [b + 2 for b in text.encode()])

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert (tokenize, add_generation_prompt) == (False, True)
        return "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>"

    def get_vocab(self):
        return {chr(b): b + 2 for b in range(256)}

    def decode(self, ids):
        return bytes(i - 2 for i in ids if i > 1).decode()


class Values:
    """Keeps what it is made with."""

    def __init__(self, *args, **kwargs):
        self.args, self.given = args, kwargs

    def __getattr__(self, name):
        return self.__dict__["given"][name]


def log_prob(prompt, token):
    """Any number that depends on all tokens before, as a model's does."""
    return -((sum(i * t for i, t in enumerate(prompt, 1)) + 31 * token) % 97) / 7


class FakeLLM:
    """What ``vllm.LLM`` and its engine are to the generator. Requests end last first, one a step."""

    made: list  # of those of a test

    def __init__(self, **given):
        self.given, self.calls, self.asked = given, [], []
        self.model_config = types.SimpleNamespace(max_model_len=LIMIT)
        self.llm_engine = self
        self.tokenizer = FakeTokenizer()
        self.reason = "stop"
        self.running = []
        self.made.append(self)

    def get_tokenizer(self):
        return self.tokenizer

    def enqueue(self, prompts, params, lora_request=None, use_tqdm=True):
        assert use_tqdm is False
        names = []
        for prompt, how in zip(prompts, params, strict=True):
            name = str(len(self.asked))
            self.asked.append((prompt["prompt_token_ids"], how.given, lora_request))
            self.running.append((name, prompt["prompt_token_ids"], how.given))
            names.append(f"{name}-a1b2c3d4")
        self.calls.append("enqueue")
        return names

    def has_unfinished_requests(self):
        return bool(self.running)

    def step(self):
        name, prompt, how = self.running.pop()
        ids = how.get("logprob_token_ids", ())
        out = types.SimpleNamespace(
            text=f" text {name}",
            token_ids=[5] * how["max_tokens"],
            finish_reason=self.reason,
            logprobs=[{t: types.SimpleNamespace(logprob=log_prob(prompt, t)) for t in ids}],
        )
        unfinished = [types.SimpleNamespace(request_id=n, finished=False) for n, _, _ in self.running]
        done = types.SimpleNamespace(request_id=name, finished=True, prompt_token_ids=prompt, outputs=[out])
        return [*unfinished, done]

    def abort_request(self, names, internal):
        assert internal  # the ids are those that enqueue gave
        self.calls.append(("abort", sorted(names)))
        self.running = [r for r in self.running if f"{r[0]}-a1b2c3d4" not in names]

    def sleep(self, level):
        self.calls.append(("sleep", level))

    def wake_up(self):
        self.calls.append("wake_up")


@pytest.fixture
def made(monkeypatch):
    """Stands in for vLLM; gives the engines that were made."""
    monkeypatch.setattr(FakeLLM, "made", [], raising=False)
    for name, content in {
        "vllm": {"LLM": FakeLLM, "SamplingParams": Values},
        "vllm.sampling_params": {"StructuredOutputsParams": Values},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": Values},
    }.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("VLLM_LOGGING_LEVEL", "VLLM_NO_USAGE_STATS"):
        monkeypatch.setenv(name, "")  # so that it is put back, whatever is set
        monkeypatch.delenv(name)
    return FakeLLM.made


def ask(own="Write one.", **how):
    return Request("You write.", "Demos. ", own, "text:", **how)


def asked(made):
    """Prompts as text, sampling parameters and adapters of all that vLLM was asked."""
    (llm,) = made
    return [(llm.tokenizer.decode(prompt), how, adapter) for prompt, how, adapter in llm.asked]


def test_completions_keep_the_order_of_their_requests(made):
    found = VLLMGenerator("m").generate([ask(f"Write {i}.", max_tokens=i + 1) for i in range(4)])
    size = 1 + len(ask("Write 0.").text)
    assert found == [Completion(f" text {i}", size, i + 1, "stop") for i in range(4)]


def test_a_stream_gives_completions_as_they_end(made):
    stream = VLLMGenerator("m").stream([ask(f"Write {i}.") for i in range(3)])
    assert next(stream)[0] == 2
    assert [name for name, _, _ in made[0].running] == ["0", "1"]
    assert [at for at, _ in stream] == [1, 0]


def test_closing_a_stream_gives_up_what_is_left(made):
    generator = VLLMGenerator("m")
    stream = generator.stream([ask() for _ in range(3)])
    next(stream)
    stream.close()
    assert made[0].calls[-1] == ("abort", ["0-a1b2c3d4", "1-a1b2c3d4"])
    assert [c.text for c in generator.generate([ask()])] == [" text 3"]


def test_outputs_of_an_open_stream_wait_for_it(made):
    generator = VLLMGenerator("m")
    stream = generator.stream([ask() for _ in range(2)])
    next(stream)
    rest = made[0].running[:]
    made[0].enqueue = lambda *a, **k: _after(made[0], rest, *a, **k)  # the stream's request ends first
    assert generator.generate([ask()])[0].text == " text 2"
    assert made[0].running == []
    assert [(at, c.text) for at, c in stream] == [(0, " text 0")]


def _after(llm, rest, *args, **how):
    names = FakeLLM.enqueue(llm, *args, **how)
    llm.running = [r for r in llm.running if r not in rest] + rest
    return names


def test_a_request_that_is_lost_does_not_hang(made):
    generator = VLLMGenerator("m")
    stream = generator.stream([ask(), ask()])
    next(stream)
    made[0].running.clear()
    with pytest.raises(RuntimeError, match="lost 1 request"):
        next(stream)


def test_a_request_that_vllm_gives_up_is_told(made):
    generator = VLLMGenerator("m")
    generator.load()
    made[0].reason = "error"
    with pytest.raises(GoldError, match="gave up"):
        generator.generate([ask()])


def test_an_engine_that_has_ended_does_not_hide_what_ended_it(made):
    def fails(*_, **__):
        raise RuntimeError("dead")

    def interrupted():
        raise KeyboardInterrupt

    generator = VLLMGenerator("m")
    generator.load()
    made[0].step, made[0].abort_request = interrupted, fails
    with pytest.raises(KeyboardInterrupt):
        generator.generate([ask()])


def test_how_a_text_ends_is_told(made):
    generator = VLLMGenerator("m")
    generator.load()
    for reason, finish in (("stop", "stop"), ("length", "length")):
        made[0].reason = reason
        assert generator.generate([ask()])[0].finish == finish


def test_what_the_model_wrote_goes_through_the_reader(made, monkeypatch):
    texts = iter(["<think>a</think> a river", " a river<|im_end|>\nmore", "<think>a", " \u201ca river"])
    plain = FakeLLM.step

    def writes(self):
        found = plain(self)
        found[-1].outputs[0].text = next(texts)
        return found

    monkeypatch.setattr(FakeLLM, "step", writes)
    found = VLLMGenerator("m").generate([ask(f"Write {i}.") for i in range(4)])[::-1]  # the last one ends first
    assert [c.text for c in found] == ["a river", " a river", "<think>a", " \u201ca river"]
    assert [c.reason for c in found] == ["", "", "only_thinking", ""]


def test_special_tokens_end_a_text_but_for_those_of_thinking(made, monkeypatch):
    token = lambda text, special: type("Token", (str,), {"special": special})(text)  # noqa: E731
    added = {5: token("<|im_end|>", True), 6: token("[THINK]", True), 7: token("<tag>", False)}
    monkeypatch.setattr(FakeTokenizer, "added_tokens_decoder", added, raising=False)
    monkeypatch.setattr(FakeTokenizer, "eos_token_id", 3, raising=False)
    VLLMGenerator("m").generate([ask(stop=("\n",))])
    ((_, how, _),) = asked(made)
    assert (how["stop"], how["stop_token_ids"], how["skip_special_tokens"]) == (["\n"], [3, 5], False)


def test_sampling_settings_reach_vllm(made):
    generator = VLLMGenerator("m", temperature=0.7, top_k=40, top_p=0.95)
    generator.generate([ask(seed=5, max_tokens=9, stop=("\n", "END")), ask(seed=6, greedy=True)])
    sampled, greedy = (how for _, how, _ in asked(made))
    assert sampled == {
        **{"temperature": 0.7, "top_k": 40, "top_p": 0.95},
        **{"seed": 5, "max_tokens": 9, "stop": ["\n", "END"]},
    }
    assert greedy == {"temperature": 0.0, "seed": 6, "max_tokens": 128, "stop": []}


def test_no_temperature_is_greedy(made):
    VLLMGenerator("m", temperature=0.0).generate([ask()])
    assert asked(made)[0][1] == {"temperature": 0.0, "seed": 0, "max_tokens": 128, "stop": []}


@pytest.mark.parametrize("template", [None, "a template"])
@pytest.mark.parametrize("form", ["auto", "chat", "completion"])
def test_the_form_of_a_prompt(made, monkeypatch, form, template):
    monkeypatch.setattr(FakeTokenizer, "chat_template", template)
    if form == "chat" and template is None:
        with pytest.raises(ConfigError) as e:
            VLLMGenerator("m", form=form).generate([ask()])
        assert (e.value.key, e.value.value) == ("data.generator.init_args.form", "chat")
        return
    VLLMGenerator("m", form=form).generate([ask()])
    chat = form != "completion" and template is not None
    wanted = "<system>You write.<user>Demos. Write one.<assistant>text:" if chat else ask().text
    assert asked(made)[0][0] == wanted
    assert made[0].asked[0][0].count(1) == (0 if chat else 1)  # a template begins the text itself


def test_a_schema_is_given_and_the_object_written_whole(made):
    generator = VLLMGenerator("m", schema="json")
    generator.generate([ask(schema=SCHEMA, stop=("\n",)), ask(stop=("\n",))])
    (prompt, how, _), (plain, plainly, _) = asked(made)
    assert prompt == replace(ask(), answer_prefix="").text
    assert how.pop("structured_outputs").given == {"json": SCHEMA}
    assert "stop" not in how
    assert (plain, plainly["stop"]) == (ask().text, ["\n"])
    assert "structured_outputs" not in plainly
    assert made[0].given["structured_outputs_config"] == {"backend": "xgrammar", "disable_any_whitespace": True}


def test_a_schema_is_left_alone_unless_set(made):
    VLLMGenerator("m").generate([ask(schema=SCHEMA)])
    ((prompt, how, _),) = asked(made)
    assert prompt == ask().text
    assert "structured_outputs" not in how
    assert "structured_outputs_config" not in made[0].given


def adapter(folder, **config):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, **config}))
    return str(folder)


@pytest.mark.parametrize(
    ("config", "rank"), [({}, 16), ({"r": 48}, 64), ({"rank_pattern": {"q_proj": 65}}, 128), ({"r": 900}, 900)], ids=str
)
def test_an_adapter_goes_with_each_request(made, tmp_path, config, rank):
    folder = adapter(tmp_path / "adapter", **config)
    VLLMGenerator("m", lora=folder).generate([ask(), ask(choices=("a", "b"))])
    assert [a.args for _, _, a in asked(made)] == [("adapter", 1, folder)] * 2
    assert made[0].given["enable_lora"] is True
    assert made[0].given["max_lora_rank"] == rank


def test_no_adapter_unless_set(made):
    VLLMGenerator("m").generate([ask()])
    assert asked(made)[0][2] is None
    assert not made[0].given.keys() & {"enable_lora", "max_lora_rank"}


def test_settings_reach_the_engine(made):
    further = {"quantization": "awq", "max_lora_rank": 256, "structured_outputs_config": {"backend": "guidance"}}
    generator = VLLMGenerator(
        "org/model",
        schema="json",
        tensor_parallel_size=4,
        gpu_memory_utilization=0.5,
        max_model_len=2048,
        sleep=True,
        dtype="bfloat16",
        trust_remote_code=True,
        engine_args=further,
    )
    assert made == []  # nothing slow before the first request
    generator.load()
    generator.load()
    assert len(made) == 1
    assert made[0].given == {
        "model": "org/model",
        "dtype": "bfloat16",
        "tensor_parallel_size": 4,
        "gpu_memory_utilization": 0.5,
        "max_model_len": 2048,
        "trust_remote_code": True,
        "enable_prefix_caching": True,
        "enable_sleep_mode": True,
        "use_tqdm_on_load": False,
        **further,
    }


def test_foreign_code_runs_only_where_set(made):
    VLLMGenerator("m").load()
    assert made[0].given["trust_remote_code"] is False
    assert made[0].given["enable_sleep_mode"] is False


def test_it_sleeps_while_the_student_trains_and_wakes_for_the_next_request(made):
    generator = VLLMGenerator("m", sleep=True)
    generator.release()
    assert made == []  # what was never loaded needs no rest
    generator.generate([ask()])
    generator.release()
    generator.release()
    assert generator.tokens_over_limit([ask()]) == [0]  # for counting tokens nobody is woken
    generator.generate([])
    assert made[0].calls == ["enqueue", ("sleep", 1)]
    generator.generate([ask()])
    generator.generate([ask()])
    generator.release()
    assert made[0].calls[2:] == ["wake_up", "enqueue", "enqueue", ("sleep", 1)]


def test_it_does_not_sleep_unless_set(made):
    generator = VLLMGenerator("m")
    generator.generate([ask()])
    generator.release()
    assert made[0].calls == ["enqueue"]


@pytest.mark.parametrize("student", [True, False], ids=["student-on-gpu", "no-gpu"])
def test_the_students_freed_memory_is_given_back_before_it_wakes(made, monkeypatch, student):
    generator = VLLMGenerator("m", sleep=True)
    generator.generate([ask()])
    generator.release()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: student)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: made[0].calls.append("empty_cache"))
    generator.generate([ask()])
    assert made[0].calls[2:] == ["empty_cache"] * student + ["wake_up", "enqueue"]


def test_choices_count_up_to_the_token_that_tells_them_apart(made):
    request = ask(choices=(" World", " Work", " Sports"))
    ((found,), prompt) = VLLMGenerator("m").generate([request]), made[0].tokenizer(request.text).input_ids
    wanted = []
    for choice in (" Worl", " Work", " S"):
        tokens = made[0].tokenizer(choice, add_special_tokens=False).input_ids
        wanted.append(sum(log_prob(prompt + tokens[:i], t) for i, t in enumerate(tokens)))
    assert found.choice_log_probs == pytest.approx(wanted)
    assert (found.text, found.prompt_tokens, found.completion_tokens) == ("", len(prompt), 0)
    for _, how, _ in made[0].asked:
        assert (how["max_tokens"], how["temperature"]) == (1, 0.0)
    assert [p for p, _, _ in asked(made)] == [request.text + begin for begin in ("", " ", " W", " Wo", " Wor")]


def test_one_question_for_each_beginning_and_no_more_than_vllm_takes(made):
    letters = [chr(n) for n in range(0x100, 0x100 + 150)]  # two bytes each, of three first ones
    found = VLLMGenerator("m").generate([ask(choices=tuple(letters))])[0]
    assert len(found.choice_log_probs) == 150
    assert sorted(len(how["logprob_token_ids"]) for _, how, _ in made[0].asked) == [3, 22, 64, 64]
    generator = VLLMGenerator("m")
    generator.load()
    generator._llm.tokenizer = type("Words", (FakeTokenizer,), {"__call__": words})()
    assert len(generator.generate([ask(choices=tuple(f"w{i}" for i in range(300)))])[0].choice_log_probs) == 300
    assert [len(how["logprob_token_ids"]) for _, how, _ in generator._llm.asked] == [128, 128, 44]


def words(self, text, add_special_tokens=True):
    return types.SimpleNamespace(input_ids=[int(text[1:])] if text[0] == "w" else [7])


def test_scoring_and_writing_in_one_call_keep_their_order(made):
    write, score = ask(), ask(choices=(" ab", " ac"), schema=SCHEMA)
    found = VLLMGenerator("m", schema="json").generate([score, write, score])
    assert [bool(c.choice_log_probs) for c in found] == [True, False, True]
    assert found[0] == found[2]


def test_a_too_long_prompt_is_told_in_one_line_and_nothing_is_asked(made):
    fits = LIMIT - 1 - len(ask("").text)
    generator = VLLMGenerator("org/model")
    assert len(generator.generate([ask("a" * (fits - 40), max_tokens=40)])) == 1
    with pytest.raises(GoldError) as e:
        generator.generate([ask(), ask("a" * (fits - 39), max_tokens=40)])
    assert len(str(e.value).splitlines()) == 1
    assert f"more than the {LIMIT} tokens of org/model" in str(e.value)
    assert "--data.plan" in str(e.value)
    assert len(made[0].asked) == 1


def test_how_much_a_request_is_too_long(made):
    fits = LIMIT - 1 - len(ask("").text)
    requests = [ask("a" * (fits - 40 + more), max_tokens=40) for more in (0, 1, 7)]
    requests += [ask("a" * (fits - 2), choices=(" b", " c")), ask("a" * (fits - 2), choices=(" b", " cd"))]
    assert VLLMGenerator("m").tokens_over_limit(requests) == [0, 1, 7, 0, 1]
    # What an object does without is not counted either.
    shorter = [replace(r, schema=SCHEMA) for r in requests[:3]]
    assert VLLMGenerator("m", schema="json").tokens_over_limit(shorter) == [0, 0, 7 - len("text:")]


def test_nothing_is_loaded_for_nothing(made):
    assert VLLMGenerator("m").generate([]) == []
    assert list(VLLMGenerator("m").stream([])) == []
    assert made == []


def test_vllm_is_told_to_be_quiet_and_to_send_nothing(made, monkeypatch):
    VLLMGenerator("m").load()
    assert (os.environ["VLLM_LOGGING_LEVEL"], os.environ["VLLM_NO_USAGE_STATS"]) == ("WARNING", "1")


def test_a_users_own_log_level_stays(made, monkeypatch):
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    VLLMGenerator("m").load()
    assert os.environ["VLLM_LOGGING_LEVEL"] == "DEBUG"


@pytest.mark.parametrize(
    ("tensor", "visible", "student", "wanted"),
    [
        (1, None, True, ["0", "1", "2", "3"]),
        (1, "4,5,6,7", True, ["4", "5", "6", "7"]),
        (1, "GPU-a,GPU-b,GPU-c,GPU-d", False, ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]),
        (2, None, True, ["0,1", "2,3"]),
        (4, None, True, [None]),  # one process: vLLM's own choice
    ],
)
def test_each_process_of_a_machine_has_gpus_of_its_own(made, monkeypatch, tensor, visible, student, wanted):
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    else:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen = []
    init = FakeLLM.__init__
    monkeypatch.setattr(
        FakeLLM, "__init__", lambda self, **g: seen.append(os.environ.get("CUDA_VISIBLE_DEVICES")) or init(self, **g)
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: student)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    for index in range(4 // tensor):
        monkeypatch.setattr(torch.cuda, "current_device", lambda index=index: index)
        generator = VLLMGenerator("org/model", tensor_parallel_size=tensor)
        generator.share_machine(index, 4 // tensor)
        generator.load()
    assert seen == wanted and os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_too_few_gpus_for_the_processes_of_a_machine_are_told_in_one_line(made, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(ConfigError) as e:
        VLLMGenerator("org/model", tensor_parallel_size=2).share_machine(0, 3)
    assert (e.value.key, e.value.value) == ("data.generator.init_args.tensor_parallel_size", 2)
    assert e.value.allowed == "3 x 2 GPUs or more for the 3 processes on this machine, which has 4"
    assert "--trainer.devices" in e.value.hint
    pipelined = VLLMGenerator("org/model", tensor_parallel_size=2, engine_args={"pipeline_parallel_size": 2})
    with pytest.raises(ConfigError) as e:
        pipelined.share_machine(0, 2)
    assert e.value.allowed.startswith("2 x 4 GPUs or more")
    VLLMGenerator("org/model", tensor_parallel_size=4).share_machine(0, 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)  # vLLM on processors
    VLLMGenerator("org/model", tensor_parallel_size=2).share_machine(0, 3)


def test_an_engine_within_its_process_cannot_choose_a_gpu(made, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    generator = VLLMGenerator("org/model")
    generator.share_machine(1, 2)
    with pytest.raises(GoldError, match="takes the first GPU: unset it"):
        generator.load()


def test_without_the_package_the_error_names_the_extra(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    generator = VLLMGenerator("m")  # that one may be made: it runs for --help too
    with pytest.raises(MissingDependencyError, match=r"gold-lightning\[vllm\]"):
        generator.generate([ask()])


def test_a_broken_package_is_told_in_one_line(made, monkeypatch):
    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise OSError("no library\nhere")

    monkeypatch.setitem(sys.modules, "vllm", Broken("vllm"))
    with pytest.raises(GoldError, match=r"cannot be imported \(no library here\)"):
        VLLMGenerator("m").load()


def test_an_engine_that_does_not_start_is_told_in_one_line(made, monkeypatch):
    def fails(self, **_):
        raise ValueError("first\n  second " + "long " * 100)

    monkeypatch.setattr(FakeLLM, "__init__", fails)
    with pytest.raises(GoldError) as e:
        VLLMGenerator("org/model").load()
    assert len(str(e.value).splitlines()) == 1
    assert len(str(e.value)) < 600
    assert "'org/model': vLLM did not start (first second long" in str(e.value)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"schema": "json_schema"}, "schema"),
        ({"lora": "/no/such/folder"}, "lora"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size"),
        ({"gpu_memory_utilization": 0.0}, "gpu_memory_utilization"),
        ({"gpu_memory_utilization": 1.1}, "gpu_memory_utilization"),
        ({"max_model_len": 0}, "max_model_len"),
        ({"engine_args": {"dtype": "float16"}}, "engine_args.dtype"),
        ({"engine_args": {"enable_lora": True}}, "engine_args.enable_lora"),
        ({"engine_args": {"enable_prefix_caching": False}}, "engine_args.enable_prefix_caching"),
        ({"engine_args": {"hf_token": "hf_secret"}}, "engine_args.hf_token"),
    ],
    ids=str,
)
def test_wrong_settings_name_their_key(change, key):
    with pytest.raises(ConfigError) as e:
        VLLMGenerator("m", **change)
    assert e.value.key == f"data.generator.init_args.{key}"
    assert "hf_secret" not in str(e.value)


def test_a_refused_argument_names_its_setting():
    with pytest.raises(ConfigError) as e:
        VLLMGenerator("m", engine_args={"enable_sleep_mode": True})
    assert e.value.hint == "set data.generator.init_args.sleep"


def test_the_fingerprint_tells_what_completions_depend_on(tmp_path):
    plain = VLLMGenerator("m").fingerprint()
    assert json.loads(json.dumps(plain)) == plain
    for change in (
        {"model": "other"},
        {"lora": adapter(tmp_path / "adapter")},
        {"form": "chat"},
        {"temperature": 0.5},
        {"top_k": 3},
        {"top_p": 0.5},
        {"schema": "json"},
        {"dtype": "float16"},
        {"engine_args": {"quantization": "awq"}},
    ):
        assert VLLMGenerator(**{"model": "m", **change}).fingerprint() != plain, change


def test_the_fingerprint_does_not_tell_where_it_runs():
    elsewhere = VLLMGenerator(
        "m",
        batch_size=7,
        tensor_parallel_size=8,
        gpu_memory_utilization=0.3,
        max_model_len=512,
        sleep=True,
        engine_args={"max_num_seqs": 4, "enforce_eager": True},
    )
    assert elsewhere.fingerprint() == VLLMGenerator("m").fingerprint()
