"""From requests to tokens and back, over tokenizers of two kinds."""

import random
import types

import pytest
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators import Request
from gold_lightning.generators.prompt_tokens import Decoded, decode, encode, end_tokens, is_tuned_for_chat

from tests.fakes import byte_level_tokenizer


def sentence_piece():
    """A tokenizer of words with a space before them, which writes other characters byte by byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", *(f"<0x{i:02X}>" for i in range(256)), *"\u2581abcdefg", "\u2581ab", "cd", "\u2581abcd", "efg"]
    vocab = {word: i for i, word in enumerate(words)}
    merges = [("c", "d"), ("\u2581ab", "cd")]
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


# Bytes that are no UTF-8 change what sentence pieces before them are decoded to; so its bytes are drawn by no luck.
@pytest.mark.parametrize(("make", "first"), [(byte_level_tokenizer, 1), (sentence_piece, 257)])
def test_tokens_one_by_one_are_the_text_of_all_together(make, first):
    tokenizer, rng = make(), random.Random(0)
    for _ in range(60):
        ids = [rng.randrange(first, len(tokenizer)) for _ in range(30)]
        if rng.random() < 0.5:
            ids = tokenizer(
                "na\u00efve \u5317\u4eac \U0001f642 abcd" * rng.randint(1, 3), add_special_tokens=False
            ).input_ids
        decoded = Decoded(tokenizer)
        for i, token in enumerate(ids):
            wanted = decode(tokenizer, ids[: i + 1])
            if not wanted.endswith("\ufffd"):  # it ends between two characters
                assert decoded.with_next(token) == wanted
            decoded.add(token)
        whole = decode(tokenizer, ids)
        assert decoded.text == whole or whole.endswith("\ufffd")


def test_all_ends_that_a_model_names_end_a_text():
    tokenizer = byte_level_tokenizer(special=["<|im_end|>"])
    config = types.SimpleNamespace(eos_token_id=[5, 7])
    assert end_tokens(tokenizer, config, types.SimpleNamespace(eos_token_id=9), None) == {
        0,
        5,
        7,
        9,
        len(tokenizer) - 1,
    }


NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
THINKS = "{% if enable_thinking is not defined or enable_thinking %}<think>{% else %}<think>\n\n</think>\n\n{% endif %}"
SYSTEM_LAST = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (SYSTEM_LAST, "[system] You write.\n[user] Demos. Write one.\n[assistant] text:"),
        (
            NO_SYSTEM + SYSTEM_LAST,
            "[user] You write.\n\nDemos. Write one.\n[assistant] text:",
        ),
        (
            "{% for m in messages if m.role != 'system' %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] ",
            "[user] You write.\n\nDemos. Write one.\n[assistant] text:",
        ),
        (
            SYSTEM_LAST + "<think>\n",
            "[system] You write.\n[user] Demos. Write one.\n[assistant] <think>\n\n</think>\n\ntext:",
        ),
        (
            SYSTEM_LAST + THINKS,
            "[system] You write.\n[user] Demos. Write one.\n[assistant] <think>\n\n</think>\n\ntext:",
        ),
        (
            "{{ messages[1].content }}<|start|>assistant",
            "You write.\n\nDemos. Write one.<|start|>assistant<|channel|>final<|message|>text:",
        ),
    ],
)
def test_a_chat_template_may_take_no_system_message_and_begin_with_thinking(template, wanted):
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = template.replace("messages[1]", "messages[-1]")
    request = Request("You write.", "Demos. ", "Write one.", "text:")
    assert tokenizer.decode(encode(request, tokenizer, "auto")) == wanted


TURNS = (("system", "You say."), ("user", "Demo."), ("assistant", "text: A"), ("user", "Row."))


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (SYSTEM_LAST, "[system] You say.\n[user] Demo.\n[assistant] text: A\n[user] Row.\n[assistant] text:"),
        (NO_SYSTEM + SYSTEM_LAST, "[user] You say.\n\nDemo.\n[assistant] text: A\n[user] Row.\n[assistant] text:"),
    ],
)
def test_a_conversation_is_shown_turn_by_turn_in_a_template_alone(template, wanted):
    tokenizer = byte_level_tokenizer()
    request = Request("You write.", "Demos. ", "Write one.", "text:", messages=TURNS)
    assert tokenizer.decode(encode(request, tokenizer, "auto")) == request.text
    tokenizer.chat_template = template
    assert tokenizer.decode(encode(request, tokenizer, "chat")) == wanted


@pytest.mark.parametrize(
    ("template", "eos", "tuned"),
    [
        (None, "</s>", False),
        ("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}", "</s>", True),  # it cannot be told
        ("{% for m in messages %}{{ m.content }}<|end|>\n{% endfor %}", "</s>", False),
        ("{% for m in messages %}{{ m.content }}<|end|>\n{% endfor %}", "<|end|>", True),
        ("{% for m in messages %}{{ m.content }}<|end|></s>{% endfor %}", "</s>", False),
        ("{{ raise_exception('no') }}", "</s>", True),
    ],
)
def test_a_model_is_tuned_for_a_template_whose_end_of_an_answer_ends_its_texts(template, eos, tuned):
    tokenizer = byte_level_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>", "</s>"]})
    tokenizer.chat_template = template
    config = types.SimpleNamespace(eos_token_id=[tokenizer.convert_tokens_to_ids(eos)])
    assert is_tuned_for_chat(tokenizer, config, types.SimpleNamespace()) is tuned


def test_no_chat_template_or_one_that_refuses_everything_is_one_line():
    tokenizer, request = byte_level_tokenizer(), Request("You write.", "Demos. ", "Write one.", "text:")
    with pytest.raises(ConfigError) as config_error:
        encode(request, tokenizer, "chat")
    assert (config_error.value.key, config_error.value.value) == ("data.generator.init_args.form", "chat")
    tokenizer.chat_template = "{{ raise_exception('no\nmessages') }}"
    with pytest.raises(GoldError, match=r"no messages.*init_args\.form to completion") as e:
        encode(request, tokenizer, "auto")
    assert len(str(e.value).splitlines()) == 1


def test_a_token_that_has_lost_its_mark_ends_a_text_all_the_same():
    tokenizer = byte_level_tokenizer(special=["<|im_start|>"])
    tokenizer.add_tokens(["<|endoftext|>", "<|im_end|>", "<think>", "<p>"])  # regular words of the vocabulary
    ids = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>", "<think>", "<p>"])
    ends = end_tokens(tokenizer)
    assert {*ids[:2], tokenizer.convert_tokens_to_ids("<|im_start|>")} <= ends
    assert not {*ids[2:]} & ends
