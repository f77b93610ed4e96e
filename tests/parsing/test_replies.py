# ruff: noqa: E501, RUF001
"""What is taken off a model's reply, and what is left in peace."""

import pytest
from gold_lightning.parsing import clean_characters, is_refusal, read_reply
from gold_lightning.parsing.framing import bare_value
from gold_lightning.parsing.special import until_special
from gold_lightning.parsing.thinking import is_thinking_tag, without_thinking

TEXT = "I want my money back for the blue lamp."
ASKED = {"answer": "queue: billing\nmessage:", "names": ("queue", "message"), "stop": ("\n",)}


def read(content, **how):
    return read_reply(content, **{**ASKED, "fresh": True, **how})


# Thinking


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
def test_thinking_is_taken_off(reply):
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
    found = read(reply)
    assert found.reason == "only_thinking"
    assert found.text == (reply if isinstance(reply, str) else "".join(p["text"] for p in reply if p["type"] == "text"))


def test_no_text_beside_thinking_that_came_apart():
    assert read(None, thought=True).reason == "only_thinking"
    assert read("", thought=False).reason == read("<think>\n</think>", thought=False).reason == ""


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


# Content and special tokens


def test_content_in_parts():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]},
        {"type": "text", "text": "I want my money back "},
        {"type": "output_text", "text": {"value": "for the blue lamp.", "annotations": []}},
    ]
    assert read(parts).text == TEXT
    assert read([TEXT]).text == read([{"text": TEXT}]).text == TEXT
    assert read(None).text == read([]).text == read([{"type": "image_url", "image_url": "x"}, 7]).text == ""


def test_a_refusal_of_the_interface():
    found = read([{"type": "refusal", "refusal": "No."}])
    assert (found.text, found.reason) == ("No.", "refusal")


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


# Characters


def test_harmless_characters_go():
    for text in (
        "\ufeffabc",
        "abc\u200b",
        "\u200b\u2060abc",
        "\x1b[31mabc\x1b[0m",
        "\x1b]0;title\x07abc",
        "a\ufeffbc",
        "\x1b(Babc",
    ):
        assert clean_characters(text) == ("abc", False)
    for kept in ("a\tb", "a\nb", "\u0e01\u200b\u0e02", "\U0001f469\u200d\U0001f467", "a\u00adb", " a "):
        assert clean_characters(kept) == (kept, False)
    assert clean_characters("a\x0bb\x1fc\x85d") == ("a b c d", False)


@pytest.mark.parametrize(
    "lost", ["\ufffd", "\ud83d", "\x00", "\x07", "\x92", "\x7f", "\uffff", "<unk>", "[UNK]", "<0x0A>", "\x1b"]
)
def test_damage_is_told(lost):
    assert clean_characters(f"caf{lost} au lait")[1]


# Marks around a value


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("\u201cYes.\u201d", "Yes."), ("\u00abYes.\u00bb", "Yes."), ("\u300cYes.\u300d", "Yes."), ("\u201eYes.\u201c", "Yes."), ("\u2018I can\u2019t go.\u2019", "I can\u2019t go."),
        ("'I can't go.'", "I can't go."), ("**Yes.**", "Yes."), ("*Yes.*", "Yes."), ("`Yes.`", "Yes."), ("<message>Yes.</message>", "Yes."),
        ("```Yes.```", "Yes."), ("**\u201cYes.\u201d**", "Yes."), ("\u201cHe said \u201cno\u201d.\u201d", "He said \u201cno\u201d."),
        ("\u201cYes\u201d or \u201cno\u201d", None), ("\u201cYes, she said", None), ("'Yes' or 'no'", None), ("**Yes** or **no**", None), ("* 3 *", None),
        ("`a` and `b`", None), ("\u300a\u7ea2\u697c\u68a6\u300b", None), ("'90s music", None), ("(Yes.)", None), ("x * y", None), ("''", None),
    ],
)  # fmt: skip
def test_marks_around_the_whole_of_a_value(value, wanted):
    assert bare_value(value, "message") == (value if wanted is None else wanted)


def test_marks_that_demos_have_too_stay():
    assert bare_value("\u201cYes.\u201d", "message", ["\u201cNo.\u201d"]) == "\u201cYes.\u201d"


# What stands around a text


@pytest.mark.parametrize(
    "text",
    [
        "Here is the problem: I was charged twice for one lamp.",
        "Okay. So my parcel is late again and nobody tells me why.",
        "Sure, but who pays for the broken lamp that you sent?",
        "Hello: my card was charged twice, please pay one back.",
        "1 lamp is missing from the order 8831 of last week.",
        "2.5 metres of cable were ordered, and 2 came.",
        "- 20 euros is what my account says now.",
        "{AB12} is my code and it does not work.",
        "[URGENT] My parcel with medicine has not come yet.",
        "(sorry for the typos) my parcel has not come yet.",
        "Note: the parcel was open when it came to me.",
        "*sigh* my parcel is late again, and nobody cares.",
        "Message to your boss: I want my money back now.",
        "This is what I paid: 20 euros; this is what I got: nothing.",
        "Let me know if you need my order number for the refund.",
        "I hope this helps you to find my parcel soon.",
        'The box said: "Fragile", and yet you threw it.',
        "<3 the new lamp, but the bill is wrong by ten euros.",
        "My order <b>8831</b> is late, says your page.",
        "The code ```x = 1``` on my bill is wrong.",
    ],
)
def test_texts_that_look_like_framing_stay(text):
    for how in ({}, {"fresh": False}):
        assert read(text, **how).text == text
        assert read(" " + text, **how).text.strip() == text
        assert read(f"queue: billing\nmessage: {text}", **how).text.strip() == text


# Refusals

REFUSALS = [
    "I'm sorry, but I am not able to generate a message with that content.",
    "As a responsible AI, I can't write this.",
    "I cannot and will not write this message.",
    "I cannot help you write that.",
    "I do not have the ability to write such content.",
    "It is not appropriate to write such messages.",
    "I can\u2019t assist with your request.",
    "I\u2019m just a language model, so I can\u2019t do that.",
    "I'm sorry. I can't help with that.",
    "I'm sorry, but I can't assist with that request.",
    "I’m sorry, but I can’t assist with that.",
    "I cannot fulfil this request, as it goes against my guidelines.",
    "I cannot fulfill your request. I'm just an AI, it's not within my programming to do so.",
    "As an AI language model, I am unable to write such a text for you.",
    "I apologize, but I won't be able to help with creating this content.",
    "Sorry, I can't help with generating messages of that kind today.",
    "I'm sorry, I can't help with that.",
    "I can't help with that.",
    "I cannot assist with that.",
    "I'm sorry, but I cannot generate content that promotes hate speech.",
    "I can't create content that depicts violence.",
    "I'm not able to help with that request.",
    "I'm unable to assist with that.",
    "I am unable to generate explicit content.",
    "I'm unable to provide a sample that contains personal data.",
    "As a language model, I don't have personal opinions.",
    "As an AI, I cannot write that.",
    "As an artificial intelligence language model developed by OpenAI, I cannot write such messages.",
    "I'm just an AI, so I can't write angry letters.",
    "I must decline this request.",
    "I apologize, but I do not feel comfortable writing a message that insults people.",
    "I cannot write a message that is discriminatory.",
    "I can't engage in that kind of conversation.",
    "I won't write such a text.",
    "Unfortunately, I cannot comply with this request.",
    "I'm afraid I can't help with this type of request.",
    "\"I'm sorry, but I can't help with that.\"",
    "Sorry, but I can't assist with that.",
    "I'm really sorry, but I can't help with that.",
    "I understand you want a sample, but I cannot generate hateful text.",
    "I'm sorry, but as an AI language model, I cannot provide such content.",
    "I am an AI assistant and cannot write this.",
    "I'd be happy to help, but I cannot create harmful content.",
    "I cannot in good conscience write this.",
    "I can't provide that.",
    "Sorry, I can't do that.",
    "Je suis désolé, mais je ne peux pas répondre à cette demande.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "Es tut mir leid, aber ich kann bei dieser Anfrage nicht helfen.",
    "Lo siento, pero no puedo ayudar con esa solicitud.",
    "抱歉，我无法协助您完成这个请求。",
    "作为一个人工智能语言模型，我不能写这样的内容。",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "I can’t produce a fake review.",
    "I cannot create a news article that spreads misinformation.",
    "I'm sorry, I cannot fulfill that request.",
    "This request goes against my guidelines.",
    "I will not generate that text.",
    "I decline to write this message.",
]
TEXTS = [
    "As an assistant at a law firm I order a lot of paper.",
    "I can't write with the pen that you have sent to me.",
    "I can't help it, I love this lamp, but it's broken.",
    "I cannot create a new account with my old address.",
    "I will not be at home on Monday, please deliver on Tuesday.",
    "It is not right to charge my card twice.",
    "I'm not going to pay for shipping twice.",
    "I'm sorry my parcel is late, but that is your fault and not mine.",
    "I cannot open the door of the fridge that you delivered.",
    "I can't log in to my account.",
    "I'm sorry, but I can't find my order number.",
    "I'm unable to reset my password.",
    "I am unable to complete the checkout.",
    "I can't help but feel disappointed with your service.",
    "I'm sorry, but I won't be paying for this.",
    "I cannot provide the receipt because I lost it.",
    "I can't create an account on your site.",
    "I cannot write a review on your page, the button is grey.",
    "I can't complete my purchase.",
    "I cannot complete the request form on your website.",
    "Sorry to bother you, but my lamp is broken.",
    "I apologize for the late reply, I was on holiday.",
    "Unfortunately my card was charged twice.",
    "Unfortunately, I cannot attend the meeting on Friday.",
    "I'm sorry, I can't come to the party tonight.",
    "As an AI startup, we need invoices in English.",
    "As an AI researcher, I read papers all day.",
    "As a customer, I am unable to accept this.",
    "I am an AI engineer from Berlin and I like tea.",
    "I can't assist my father with the move because of my back.",
    "I cannot help my son with his homework any more.",
    "I can't do that on Tuesday, what about Wednesday?",
    "I won't order from you again.",
    "I'm not able to share my screen during calls.",
    "I cannot provide my ID number by email.",
    "I can't make the payment with my new card.",
    "I'm sorry to hear about the delay, when will it come?",
    "I cannot answer the phone at work, please write to me.",
    "I can't generate an invoice in your app.",
    "I'm unable to download the content of my order.",
    "I couldn't write to you earlier.",
    "I will not accept this parcel, it is wet.",
    "No, I cannot be at home at noon.",
    "I'm sorry, but I have to cancel.",
    "I must decline your offer of a voucher.",
    "I can't follow the instructions of the manual.",
    "Sorry, I can't help you move on Sunday.",
    "I refuse to pay for a broken lamp.",
    "I cannot produce enough milk for all my customers.",
    "I can't share the photos with my family.",
    "I cannot offer more than 50 euros.",
    "I am not allowed to return it, says your clerk.",
    "I'm designed out of this flat by my landlord, lol.",
    "I cannot process the payment.",
    "I'm afraid I can't find the button to cancel.",
    "Es tut mir leid, aber ich kann meine Bestellung nicht finden.",
    "Je suis désolé, mais je ne peux pas ouvrir mon compte.",
    "Lo siento, pero no puedo entrar en mi cuenta.",
    "很抱歉，我忘记了密码。",
    "I can't believe it, my message was lost.",
    "I will not write another message.",
    "I can't give you the tracking number because the email never came.",
    "I can't do this task because the page is blank.",
    "I cannot send the text that you asked for.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text):
    assert is_refusal(text)
    assert is_refusal(f'  "{text}" ')
    assert is_refusal(text.replace("'", "\u2019"))


@pytest.mark.parametrize("text", TEXTS)
def test_texts_that_only_begin_as_refusals_do(text):
    assert not is_refusal(text)
