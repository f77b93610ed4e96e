"""Decoding with shared prefixes against plain transformers."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators import EmbeddedGenerator, Request, TransformersGenerator
from gold_lightning.generators import transformers as transformers_engine
from gold_lightning.generators.prompt_tokens import end_tokens
from gold_lightning.generators.row_batch import RowBatch
from gold_lightning.generators.row_text import RowText

from tests.fakes import LLAMA_TOKENS, byte_level_tokenizer

pytestmark = pytest.mark.integration

LIMIT = LLAMA_TOKENS


@pytest.fixture(scope="module")
def folder(tiny_llama):
    return tiny_llama


def generator(folder, **how):
    how = {"temperature": 0.0, "dtype": "float32", "device": "cpu", **how}
    return TransformersGenerator(str(folder), **how)


@pytest.fixture(scope="module")
def reference(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(
        folder
    )


def plain_greedy(reference, request, text=None):
    """Tokens of the prompt, and what ``model.generate`` writes, one row at a time."""
    model, tokenizer = reference
    ids = tokenizer(request.text if text is None else text, return_tensors="pt").input_ids
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=request.max_tokens, do_sample=False)
    return ids.shape[1], [t for t in out[0, ids.shape[1] :].tolist() if t != 1]


def mixed_requests(**how):
    """Groups with long, short and no shared parts, in no order, with rests of very different lengths."""
    groups = ["An instruction and demos. " * 4, "Other demos.", "", "One only. "]
    return [
        Request(
            "You write." if g % 2 else "You write samples.",
            groups[g],
            f"{'another ' * rest}number {i}",
            "text:",
            seed=i,
            **how,
        )
        for i, (g, rest) in enumerate([(0, 1), (1, 9), (0, 7), (2, 0), (1, 0), (0, 0), (3, 3), (2, 5), (1, 2)])
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
def test_shared_prefix_decoding_equals_plain_generate(folder, reference, batch_size):
    requests = mixed_requests(max_tokens=24)
    found = generator(folder, batch_size=batch_size).generate(requests)
    for request, completion in zip(requests, found, strict=True):
        prompt_tokens, tokens = plain_greedy(reference, request)
        assert completion.text == reference[1].decode(tokens)
        assert completion.completion_tokens == len(tokens) == 24
        assert completion.prompt_tokens == prompt_tokens
        assert completion.finish == "length"
    assert len({c.text for c in found}) > 5  # the model does not write the same whatever it reads


def test_a_prompt_that_begins_another_one(folder, reference):
    requests = [Request("s", "shared", "", "a", max_tokens=8), Request("s", "shared", "", "ab", max_tokens=8)]
    requests += [requests[0]]
    for request, completion in zip(requests, generator(folder).generate(requests), strict=True):
        assert completion.text == reference[1].decode(plain_greedy(reference, request)[1])


@pytest.mark.parametrize("system", ["You write.", "{} writes."], ids=["a common beginning", "nothing in common"])
def test_many_small_groups_take_two_passes_before_the_first_token(folder, reference, system):
    requests = [
        Request(system.format(name), f"Samples of {name}. ", f"{'another ' * i}number {i}", "text:", max_tokens=9)
        for name in "ABCDEFGH"
        for i in range(3)
    ]
    engine, passes = generator(folder), []
    engine.load()
    RowBatch.prefill(requests[:1], [[5, 6, 7]], engine._load()[0])  # asks the model once what it supports
    hook = engine._load()[0].register_forward_hook(lambda *_: passes.append(1))
    found = engine.generate(requests)
    hook.remove()
    assert len(passes) == (system == "You write.") + 2 + 8
    for request, completion in zip(requests, found, strict=True):
        assert completion.text == reference[1].decode(plain_greedy(reference, request)[1])


def test_rows_end_at_their_own_time(folder, reference, tmp_path):
    requests = mixed_requests(max_tokens=40)
    _, tokenizer = reference
    texts = [c.text for c in generator(folder).generate(requests)]
    common = max("".join(texts), key=lambda c: sum(c in text for text in texts))
    end = tokenizer(common).input_ids[0]
    shutil.copytree(folder, tmp_path / "ends")
    settings = json.loads((folder / "generation_config.json").read_text())
    (tmp_path / "ends" / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [1, end]}))
    found = generator(tmp_path / "ends").generate(requests)
    for request, completion in zip(requests, found, strict=True):
        tokens = plain_greedy(reference, request)[1]
        wanted = tokens[: tokens.index(end)] if end in tokens else tokens
        assert completion.text == tokenizer.decode(wanted)
        assert completion.finish == ("stop" if end in tokens else "length")
        assert completion.completion_tokens == len(wanted)
    assert len({c.completion_tokens for c in found}) > 1


def test_same_seed_same_text_in_any_batch(folder):
    requests = mixed_requests(max_tokens=24)
    sampling = {"temperature": 1.3, "top_k": 0, "top_p": 0.95}
    together = [c.text for c in generator(folder, **sampling).generate(requests)]
    assert together == [c.text for c in generator(folder, **sampling).generate(requests)]
    alone = [generator(folder, **sampling).generate([r])[0].text for r in requests]
    assert alone == together
    backwards = generator(folder, **sampling, batch_size=4).generate(requests[::-1])
    assert [c.text for c in backwards][::-1] == together


def test_a_mates_length_does_not_change_what_is_drawn(folder):
    short, long = Request("s", "x", "y", seed=3, max_tokens=5), Request("s", "x", "z", seed=4, max_tokens=90)
    sampling = {"temperature": 1.3, "top_k": 0}
    assert (
        generator(folder, **sampling).generate([short])[0] == generator(folder, **sampling).generate([long, short])[1]
    )


def test_another_seed_another_text(folder):
    requests = [Request("s", "x", "y", seed=i, max_tokens=16) for i in range(8)]
    texts = {c.text for c in generator(folder, temperature=1.0, top_k=0).generate(requests)}
    assert len(texts) == 8


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6, "top_k": 0}], ids=str)
def test_the_narrowest_sampling_is_greedy(folder, narrow):
    requests = mixed_requests(max_tokens=12)
    greedy = [c.text for c in generator(folder).generate(requests)]
    assert [c.text for c in generator(folder, temperature=2.0, **narrow).generate(requests)] == greedy


def test_greedy_requests_are_greedy_beside_sampled_ones(folder):
    plain, likeliest = mixed_requests(max_tokens=12), mixed_requests(max_tokens=12, greedy=True)
    mixed = [likeliest[i] if i % 2 else plain[i] for i in range(len(plain))]
    sampling = {"temperature": 2.0, "top_k": 0}
    greedy = [c.text for c in generator(folder).generate(plain)]
    drawn = [c.text for c in generator(folder, **sampling).generate(plain)]
    assert not set(greedy) & set(drawn)
    assert [c.text for c in generator(folder, **sampling).generate(likeliest)] == greedy
    found = [c.text for c in generator(folder, **sampling).generate(mixed)]
    assert found == [greedy[i] if i % 2 else drawn[i] for i in range(len(plain))]


def test_sampling_follows_the_distribution(folder, reference):
    model, tokenizer = reference
    ids = tokenizer(Request("s", "x", "y").text, return_tensors="pt").input_ids
    with torch.no_grad():
        probs = torch.softmax(model(ids).logits[0, -1] / 2.0, -1)
    top = int(probs.argmax())
    requests = [Request("s", "x", "y", seed=i, max_tokens=1) for i in range(600)]
    made = generator(folder, temperature=2.0, top_k=0, batch_size=300).generate(requests)
    share = sum(c.text == tokenizer.decode([top]) for c in made) / 600
    assert share == pytest.approx(float(probs[top]), abs=0.08)  # four standard deviations


def test_stop_strings_end_a_completion_and_are_not_part_of_it(folder):
    request = Request("s", "x", "y", max_tokens=30)
    text = generator(folder).generate([request])[0].text
    at = next(i for i in range(3, 28) if text.find(text[i : i + 2]) == i)
    for stop in ((text[at : at + 2],), ("never there", text[at : at + 2], text[at:])):
        stopping = Request("s", "x", "y", max_tokens=30, stop=stop)
        made, other = generator(folder).generate([stopping, request])
        assert made.text == text[:at]
        assert made.finish == "stop"
        assert made.completion_tokens == at + 2  # what was written is paid for
        assert (other.text, other.finish) == (text, "length")


def test_a_stop_string_at_the_last_token_is_a_stop(folder):
    text = generator(folder).generate([Request("s", "x", "y", max_tokens=30)])[0].text
    at = next(i for i in range(3, 28) if text.find(text[i]) == i)
    made = generator(folder).generate([Request("s", "x", "y", max_tokens=at + 1, stop=(text[at],))])[0]
    assert (made.text, made.finish) == (text[:at], "stop")


def test_the_engine_begins_further_lines(folder, reference, monkeypatch):
    tokenizer = reference[1]
    line_end, end = tokenizer("\n").input_ids[0], tokenizer.eos_token_id
    choose = TransformersGenerator._choose

    def ends_often(self, logits, luck, greedy):
        tokens = choose(self, logits, luck, greedy)
        tokens[luck < 0.1] = line_end
        tokens[luck > 0.95] = end
        return tokens

    monkeypatch.setattr(TransformersGenerator, "_choose", ends_often)
    request = Request("s", "x", "y", answer_prefix="a:", max_tokens=40, stop=("\n\n",), line_prefixes=("bc:", "d:"))
    made = generator(folder).generate([replace(request, seed=i) for i in range(40)])
    whole = [c for c in made if c.finish == "stop"]
    assert 10 < len(whole) < 40
    assert all(re.fullmatch(r"[^\n]*\nbc:[^\n]*\nd:[^\n]*", c.text) for c in whole)
    assert {c.completion_tokens for c in made if c.finish == "length"} == {40}
    plain = generator(folder).generate([replace(request, seed=i, line_prefixes=()) for i in range(40)])
    for ours, other in zip(made, plain, strict=True):  # nothing is different up to the end of the first line
        assert ours.text.split("\n")[0] == other.text.split("\n")[0]


def test_what_follows_a_line_that_was_begun_is_what_the_model_would_write_there(folder, reference):
    tokenizer = reference[1]
    end = tokenizer.eos_token_id
    text = RowText(Request("s", "x", "y", answer_prefix="a:", line_prefixes=("b:",), max_tokens=40), tokenizer, {end})
    for token in tokenizer("one").input_ids:
        text.add(token)
    for _ in "\nb:":  # the model would end the text, and is not asked while the line is begun
        text.add(end)
    assert tokenizer.decode(text.tokens) == "one\nb:"
    assert not text.ended
    for token in tokenizer(" two\nb: three").input_ids:
        if not text.ended:
            text.add(token)
    assert (text.completion(3).text, text.completion(3).finish) == ("one\nb: two", "stop")


def test_an_open_last_line_goes_on_to_what_stops_it(folder, reference):
    tokenizer = reference[1]
    request = Request(
        "s", "x", "y", answer_prefix="a:", stop=("\n\n",), line_prefixes=("b:",), open_end=True, max_tokens=60
    )
    text = RowText(request, tokenizer, {tokenizer.eos_token_id})
    for token in tokenizer("one\n").input_ids:
        text.add(token)
    for _ in "b:":
        text.add(0)
    for token in tokenizer(" two\n three\n\nfour").input_ids:
        if not text.ended:
            text.add(token)
    assert (text.completion(3).text, text.completion(3).finish) == ("one\nb: two\n three", "stop")


def test_the_next_sample_ends_a_multiline_text(reference):
    tokenizer = reference[1]
    request = Request("s", "x", "y", answer_prefix="a: b\nc:", stop=("\n\na:",), max_tokens=60)
    text = RowText(request, tokenizer, {tokenizer.eos_token_id})
    for token in tokenizer(" one,\n\ntwo\n\na: next").input_ids:
        if not text.ended:
            text.add(token)
    assert (text.completion(3).text, text.completion(3).finish) == (" one,\n\ntwo", "stop")


def test_letters_before_a_line_end_in_the_same_token_are_kept():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    (line_end,) = (pre for pre, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("\n"))
    vocab = {t: i for i, t in enumerate([*alphabet, f".{line_end}"])}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[(".", line_end)]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    text = RowText(
        Request("s", "x", "y", line_prefixes=("b:",), max_tokens=9),
        PreTrainedTokenizerFast(tokenizer_object=made),
        set(),
    )
    for letter in ["A", f".{line_end}", *"AAAAAAA"]:
        text.add(vocab[letter])
    assert text.completion(0).text == "A.\nb:AAAA"


def test_a_text_is_decoded_in_time_that_grows_with_its_length():
    tokenizer = byte_level_tokenizer()
    decoded_tokens = []

    class Counting:
        def decode(self, ids, **how):
            decoded_tokens.append(len(ids))
            return tokenizer.decode(ids, **how)

    text = RowText(Request("s", "x", "y", stop=("never",), max_tokens=2000), Counting(), {0})
    for token in tokenizer("A text that goes on and on. " * 40, add_special_tokens=False).input_ids:
        text.add(token)
    assert sum(decoded_tokens) < 10 * len(text.tokens)


@pytest.mark.parametrize(
    ("written", "text", "reason"),
    [
        (["one", "<|im_start|>", "two"], "one", ""),
        (["one", "<|im_end|>"], "one", ""),
        (["one", "<tag>", "two"], "one<tag>two", ""),
        (["[THINK]", "hm", "[/THINK]", " one", "</s>"], "one", ""),
        (["[THINK]", "hm", "</s>"], "[THINK]hm", "only_thinking"),
    ],
)
def test_special_tokens_end_a_text_but_for_those_of_thinking(written, text, reason):
    tokenizer = byte_level_tokenizer(["<tag>"], ["<|im_start|>", "<|im_end|>", "[THINK]", "[/THINK]"])
    row = RowText(Request("s", "x", "y", answer_prefix="a:", max_tokens=60), tokenizer, end_tokens(tokenizer))
    for part in written:
        for token in tokenizer(part, add_special_tokens=False).input_ids:
            if not row.ended:
                row.add(token)
    made = row.completion(0)
    assert (made.text, made.reason) == (text, reason)
    assert made.finish == ("length" if "<tag>" in written else "stop")


def test_max_tokens_give_the_finish_length(folder):
    made = generator(folder).generate([Request("s", "x", "y", max_tokens=n) for n in (1, 7, 3)])
    assert [c.completion_tokens for c in made] == [1, 7, 3]
    assert {c.finish for c in made} == {"length"}
    assert made[1].text.startswith(made[2].text)


def full_pass(reference, request, choice):
    """Log-likelihood of a choice from one pass over prompt and choice."""
    model, tokenizer = reference
    prompt, rest = tokenizer(request.text).input_ids, tokenizer(choice).input_ids
    with torch.no_grad():
        log_p = torch.log_softmax(model(torch.tensor([prompt + rest])).logits[0].double(), -1)
    return sum(float(log_p[len(prompt) - 1 + i, token]) for i, token in enumerate(rest))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_choice_log_probs_equal_a_full_pass(folder, reference, batch_size):
    sets = [(" yes", " yet"), ("a", "b", "c"), (" one x", " one y", " onf"), (" x y", " x z", " x yz")]
    requests = [
        Request(r.system, r.prefix, r.suffix, r.answer_prefix, max_tokens=32, choices=sets[i % 4])
        for i, r in enumerate(mixed_requests())
    ]
    for request, completion in zip(requests, generator(folder, batch_size=batch_size).generate(requests), strict=True):
        wanted = [full_pass(reference, request, c) for c in request.choices]
        assert completion.choice_log_probs == pytest.approx(wanted, abs=1e-4)
        assert completion.text == ""


def test_choices_count_up_to_the_token_that_tells_them_apart(folder, reference):
    # Byte by byte: " a" against " b", then nothing more to tell; " no" is the start of " not".
    sets = {(" a long one", " b"): (" a", " b"), (" no", " not so"): (" no", " not"), (" one",): (" one",)}
    requests = [Request("s", "x", "y", choices=choices) for choices in sets]
    for request, completion in zip(requests, generator(folder).generate(requests), strict=True):
        wanted = [full_pass(reference, request, c) for c in sets[request.choices]]
        assert completion.choice_log_probs == pytest.approx(wanted, abs=1e-4)


def test_scoring_needs_no_room_to_write(folder, reference):
    # A request with choices writes nothing, so its max_tokens take no place.
    request = Request("", "", "a" * (LIMIT - 60), max_tokens=128, choices=(" b", " c"))
    made = generator(folder).generate([request])[0]
    assert made.choice_log_probs == pytest.approx([full_pass(reference, request, c) for c in request.choices], abs=1e-4)


def test_scoring_and_writing_in_one_call_keep_their_order(folder):
    write, score = Request("s", "x", "y", max_tokens=4), Request("s", "x", "y", choices=("a", "b"))
    made = generator(folder).generate([score, write, score, write])
    assert [bool(c.choice_log_probs) for c in made] == [True, False, True, False]
    assert made[0] == made[2]
    assert made[1] == made[3]
    assert len(made[1].text) == 4


def test_a_too_long_prompt_is_told_in_one_line(folder):
    fits = Request("", "", "a" * (LIMIT - 44), max_tokens=40)
    room = LIMIT - 40 - generator(folder).generate([fits])[0].prompt_tokens
    with pytest.raises(GoldError) as e:
        generator(folder).generate([Request("", "", "a" * (LIMIT - 44 + room + 1), max_tokens=40)])
    message = str(e.value)
    assert len(message.splitlines()) == 1
    assert f"more than the {LIMIT} tokens" in message
    assert str(LIMIT - 40 + 1) in message
    assert "--data.plan" in message


def test_a_prompt_is_tokenised_once_to_be_measured_and_answered(folder, monkeypatch):
    encoded = []
    monkeypatch.setattr(transformers_engine, "encode", lambda request, *_: encoded.append(request) or [5, 6, 7])
    monkeypatch.setattr(transformers_engine, "_MOST_ENCODED", 3)
    engine = generator(folder)
    requests = [Request("s", "x", str(i), max_tokens=2) for i in range(3)]
    engine.tokens_over_limit(requests)
    engine.generate(requests)
    assert encoded == requests
    other = Request("s", "x", "y", max_tokens=2)
    engine.generate([other])
    engine.release()
    engine.generate([other])
    assert encoded == [*requests, other, other]


def test_how_much_a_request_is_too_long(folder):
    fits = Request("", "", "a" * (LIMIT - 44), max_tokens=40)
    room = LIMIT - 40 - generator(folder).generate([fits])[0].prompt_tokens
    asked = [Request("", "", "a" * (LIMIT - 44 + room + more), max_tokens=40) for more in (0, 1, 7)]
    asked.append(Request("", "", asked[-1].suffix, choices=(" b", " cd")))
    assert generator(folder).tokens_over_limit(asked) == [0, 1, 7, 0]


def test_chat_form_uses_the_template(folder, reference, tmp_path):
    from transformers import AutoTokenizer

    shutil.copytree(folder, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    tokenizer.chat_template = messages + "{% if add_generation_prompt %}[assistant] {% endif %}"
    tokenizer.save_pretrained(tmp_path / "chat")
    request = Request("You write.", "Demos. ", "Write one.", "text:", max_tokens=10)
    text = "[system] You write.\n[user] Demos. Write one.\n[assistant] text:"
    wanted = {"chat": plain_greedy(reference, request, text), "completion": plain_greedy(reference, request)}
    for form, key in (("auto", "chat"), ("chat", "chat"), ("completion", "completion")):
        made = generator(tmp_path / "chat", form=form).generate([request])[0]
        assert (made.prompt_tokens, made.text) == (wanted[key][0], reference[1].decode(wanted[key][1]))


def test_a_base_model_with_a_template_gets_plain_text_unless_told_otherwise(folder, reference, tmp_path, caplog):
    from transformers import AutoTokenizer

    shutil.copytree(folder, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}[assistant] "
    tokenizer.save_pretrained(tmp_path / "base")
    request = Request("You write.", "Demos. ", "Write one.", "text:", max_tokens=1)
    caplog.set_level("INFO")
    engine = generator(tmp_path / "base", form="auto")
    assert engine.tokens_over_limit([request]) == [0]
    assert tokenizer.decode(engine._encode(request, tokenizer)) == request.text
    assert len([r for r in caplog.records if "init_args.form: chat" in r.message]) == 1


def test_messages_are_part_of_a_completion_s_key_if_the_engine_shows_them(folder):
    plain = Request("You say.", "Demos. ", "Which?", "label:", choices=(" a", " b"))
    request = replace(plain, messages=(("system", "You say."), ("user", "Which?")))
    for form, shown in (("auto", True), ("chat", True), ("completion", False)):
        engine = generator(folder, form=form)
        assert (engine.request_values(request) != engine.request_values(plain)) is shown
    embedded = EmbeddedGenerator()
    assert embedded.request_values(request)["messages"] == request.messages
    writing = replace(request, choices=())
    assert embedded.request_values(writing) == embedded.request_values(replace(plain, choices=()))


def test_nothing_is_loaded_for_nothing():
    assert TransformersGenerator("/no/such/model").generate([]) == []


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
    ],
    ids=str,
)
def test_wrong_settings_name_their_key(change, key):
    with pytest.raises(ConfigError) as e:
        TransformersGenerator("m", **change)
    assert e.value.key == f"data.generator.init_args.{key}"
