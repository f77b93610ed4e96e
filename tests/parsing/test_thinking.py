"""Thinking is removed from replies; texts about thinking stay."""

import pytest
from gold_lightning.parsing.thinking import is_thinking_tag, without_thinking

from tests.parsing.replies import TEXT, read


@pytest.mark.parametrize(
    "reply",
    [
        "Okay, the user wants a message.\nLet me think.\n</think>\n\n{}",
        "<think>One line.</think>{}",
        "<think>\n\n</think>\n\n{}",
        '<THINK mode="long">\nLines.\n\nMore.\n</THINK >\n{}',
        "<think> a <think> b </think> c </think> {}",
        "<think/>{}",
        "<thinking>\na\n</thinking>\n{}",
        "<thinking>a</thinking><answer>{}</answer>",
        "<reasoning>a</reasoning>\n<output>\n{}\n</output>",
        "<thought>a</thought> {}",
        "<seed:think>a</seed:think>{}",
        "<think_never_used_51bce0c7>a</think_never_used_51bce0c7>{}",
        "<scratchpad>a</scratchpad>\n\n{}",
        "<|begin_of_thought|>a<|end_of_thought|>\n\n<|begin_of_solution|>{}<|end_of_solution|>",
        "[THINK]a[/THINK]{}",
        "\u25c1think\u25b7a\u25c1/think\u25b7{}",
        "<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>{}<|END_RESPONSE|>",
        "<|think|>a<|/think|>{}",
        "<|inner_prefix|>a<|inner_suffix|>{}",
        "<|channel>thought\na<channel|>{}<turn|>",
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
        "<|channel|>analysis<|message|>a<|end|><|channel|>final <|constrain|>text<|message|>{}",
        "analysisThe user wants a message. Simple.assistantfinal{}",
        "&lt;think&gt;a&lt;/think&gt;{}",
        "Thinking...\nWell.\n...done thinking.\n\n{}",
        "Here is my thought process: a. Here is my response: {}",
        "queue: billing\nmessage: <think>hm</think> {}",
        "<think>a</think>queue: billing\nmessage: {}",
        "{} <think>Is it good?</think>",
        "{}\n<think>Is it good",
    ],
)
def test_thinking_is_removed(reply):
    reply = read(reply.replace("{}", TEXT))
    assert (reply.text.strip(), reply.reason) == (TEXT, "")


@pytest.mark.parametrize(
    "reply",
    [
        "<think>The user wants",
        "\n<think>\nThe user wants\n\na message",
        "message: <think>The user wants",
        "[THINK]The user",
        "<think>All of it.</think>",
        "<|channel|>analysis<|message|>The user wants",
        "analysisWe need to write",
        [{"type": "thinking", "thinking": "a"}],
        [{"type": "reasoning", "text": "a"}, {"type": "text", "text": " "}],
    ],
    ids=str,
)
def test_thinking_alone_is_a_reason_of_its_own(reply):
    parsed = read(reply)
    assert parsed.reason == "only_thinking"
    assert parsed.text == (
        reply if isinstance(reply, str) else "".join(p["text"] for p in reply if p["type"] == "text")
    )


@pytest.mark.parametrize(
    "text",
    [
        "I think you should pay me back.",
        "The <b>think</b> tank has moved.",
        "[thinking] Well, where is my parcel?",
        "Thinking, fast and slow, came without its cover.",
        "My reasoning: you charged me twice.",
        "analysis of my bill shows two charges",
        "a < think > is no tag of mine > b",
    ],
)
def test_text_about_thinking_stays(text):
    assert without_thinking(text).text == text or "< think >" in text


def test_tags_that_are_the_tasks_own_stay():
    field = "<thinking>He weighs his odds.</thinking>"
    assert without_thinking(field, ["thinking", "label"]).text == field
    assert (
        without_thinking("<think>x</think> is a tag", prompt="text: what does <think> do, and </think>").text[:7]
        == "<think>"
    )
    assert read("<thinking>He weighs his odds.</thinking>", answer="thinking:", names=("thinking",)).text.strip() == (
        "He weighs his odds."
    )


def test_what_is_a_tag():
    assert all(
        map(is_thinking_tag, ["<think>", "</think>", "[THINK]", "[/THINK]", "<|end_of_thought|>", "<|START_THINKING|>"])
    )
    assert not any(map(is_thinking_tag, ["<|im_end|>", "</s>", "think", "<b>"]))
