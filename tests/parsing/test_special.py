# ruff: noqa: E501
"""Special tokens end a text, unless they belong to the task."""

import pytest
from gold_lightning.parsing.special import until_special

from tests.parsing.replies import TEXT, read


@pytest.mark.parametrize(
    "reply",
    [
        "{}<|im_end|>", "{}<|eot_id|>\nfoo", "{}<|endoftext|>Human: hi", "{}</s>", "<s> {} </s>", "{}<end_of_turn>\n", "{}<|end|>",
        "{}<|eom_id|>", "{} [/INST] ok", "{}<|im_start|>user\nhi", "{}<|start_header_id|>user<|end_header_id|>", "{}<|user|>hi",
        "<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>", "<|im_start|>assistant\n{}", "<|assistant|>{}",
        "{}<\uff5cend\u2581of\u2581sentence\uff5c>", "{}<eos>", "{}<end_of_utterance>", "{}[EOS]", "<pad>{}", "{}<|return|>", "<s>{}", "{}<extra_id_0>",
        "{}assistant\n\nAnother.",
    ],
)  # fmt: skip
def test_special_tokens_end_a_text(reply):
    assert read(reply.replace("{}", TEXT)).text.strip() == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "It was <s>20</s> 10 euros.",
        "a <| b |> c",
        "x < y > z",
        "[/s] is what she wrote",
        "if a<b>c",
        "<p>Hello</p>",
        "My assistant\nis ill.",
    ],
)
def test_what_only_looks_like_a_special_token_stays(text):
    assert until_special(text) == (text, False)


def test_a_text_that_begins_as_a_role_stays():
    assert until_special("<s>AI is everywhere.") == ("AI is everywhere.", False)
    assert until_special("<s> Model trains are late.") == (" Model trains are late.", False)


def test_a_special_token_of_the_tasks_own_stays():
    assert until_special("The token </s> ends it.", prompt="text: what is </s>?") == ("The token </s> ends it.", False)
