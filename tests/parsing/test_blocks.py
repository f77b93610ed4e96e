# ruff: noqa: E501, RUF001
"""Samples are located in replies of many forms, which continue the answer's beginning or start a new answer."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from gold_lightning.checks.checker import Checker
from gold_lightning.generators.base import Completion
from gold_lightning.prompts import Hint, training_request
from gold_lightning.task import Field, Label, Sample, StudentFormat

from tests.fakes import tickets_task

TASK = tickets_task(1, 10_000_000)
TEXT = "I want my money back for the blue lamp."


def read(reply, task=TASK, label="billing", fresh=True):
    """The texts of the sample in a reply, or the reason why there is none."""
    request = training_request(task, label, task.demos[:1], Hint(), 1)
    reading = request.read(reply if fresh else f" {reply.lstrip(' ')}", fresh=fresh)
    completion = Completion(reading.text, 1, 1, "stop", reason=reading.reason)
    checked = Checker(task).judge(completion, label, request.answer_prefix, "", ())
    sample, reason = checked.sample, checked.reason
    if sample is None:
        return reason
    values = [*sample.fields.values(), *([] if task.labels else [sample.target])]
    return values[0] if len(values) == 1 else tuple(values)


TAKEN = [
    "Let me think ..\n\nmessage: {}",
    "Let me think about this step by step.\n\nmessage: {}",
    "**Reasoning:** The customer is angry.\n\n**Message:** {}",
    "**Reasoning:** angry customer, short.\n**Message:** {}",
    "Okay, the user wants a new sample about billing.\n\nmessage: {}",
    "The user wants me to write a message. I'll keep it short.\n\nqueue: billing\nmessage: {}",
    "First, I need to come up with a scenario.\nThe lamp is blue.\n\nMessage: {}",
    "I'll write a message about a refund.\n\n**message**: {}",
    "Reasoning: refund wanted.\nMessage: {}",
    "Thought: refund wanted.\nAction: write\nMessage: {}",
    "Analysis: The label is billing.\n\nFinal message: {}",
    "Step 1: choose a topic.\nStep 2: write.\n\n### Message\n{}",
    "We need a message on billing. Let's write one.\n\nmessage: {}",
    "Scenario: a lamp is sent back.\n\nmessage: {}",
    "Topic: refund\nTone: angry\nmessage: {}",
    "Let me think.\nmessage = {}",
    "Let me think.\n\n**Message** = {}",
    "# Thinking\nThe label is billing.\n# Message\n{}",
    "Hmm, billing.\n\n```\nqueue: billing\nmessage: {}\n```",
    'Let me think.\n\n{"message": "{}"}',
    "Certainly. I considered several options before I chose.\n\nmessage: {}",
    "To fit the label, the message should be about money.\n\nMessage: {}",
    "Thinking Process:\n\n1. Analyze the request.\n2. Draft.\n\nMessage: {}",
    "<answer>\nmessage: {}\n</answer>",
    "message = {}",
    'message = "{}"',
    "message - {}",
    "message – {}",
    "message -> {}",
    "Message = {}",
    "**message** - {}",
    "**Message** {}",
    "queue = billing\nmessage = {}",
    "queue - billing\nmessage - {}",
    "message => {}",
    "`message` = `{}`",
    'message="{}"',
    "(message) {}",
    "[message] {}",
    "message; {}",
    "message | {}",
    "Assistant: {}",
    "User: {}",
    "Customer: {}",
    "AI: {}",
    "Human: {}",
    "Bot: {}",
    "Model: {}",
    "assistant: {}",
    "**Customer:** {}",
    "**User**: {}",
    "ASSISTANT: {}",
    "### Assistant:\n{}",
    "### Response:\n{}",
    "Client: {}",
    "Assistant:\n{}",
    "Speaker: {}",
    "Assistant: message: {}",
    "USER: {}",
    "[Customer]: {}",
    "[USER] {}",
    "Gemini: {}",
    "ChatGPT: {}",
    "Q: {}",
    "A: {}",
    "Kunde: {}",
    "Sender: {}",
    "{}\nAssistant: We are sorry.",
    "{}\n\nUser: And one more please.",
    "\\boxed{{}}",
    "$\\boxed{{}}$",
    "\\boxed{\\text{{}}}",
    "The final answer is \\boxed{{}}.",
    "\\[\n\\boxed{{}}\n\\]",
    "message: \\boxed{{}}",
    "$$\\boxed{\\text{{}}}$$",
    "Therefore:\n\n\\boxed{{}}",
    "Final Answer: \\boxed{{}}",
    "#### {}",
    "Final answer: {}",
    "**Final Answer:** {}",
    "**Answer:** {}",
    "The answer is: {}",
    "message: |\n  {}",
    " |\n  {}",
    "message: >-\n  {}\n",
    "```yaml\nqueue: billing\nmessage: |\n  {}\n```",
    "message: |-\n    {}",
    "- queue: billing\n  message: {}",
    "---\nqueue: billing\nmessage: {}\n---",
    "message: '{}'",
    "| queue | message |\n|---|---|\n| billing | {} |",
    "| Queue | Message |\n| :--- | :--- |\n| billing | {} |",
    "Here is one:\n\n| queue | message |\n|-------|---------|\n| billing | {} |",
    "queue | message\n--- | ---\nbilling | {}",
    "| Field | Value |\n|---|---|\n| queue | billing |\n| message | {} |",
    "| message |\n|---|\n| {} |",
    'queue,message\nbilling,"{}"',
    "queue,message\nbilling,{}",
    '```csv\nqueue,message\nbilling,"{}"\n```',
    'message\n"{}"',
    "queue\tmessage\nbilling\t{}",
    "billing | {}",
    'billing,"{}"',
    '"queue","message"\n"billing","{}"',
    "Output:\n{}",
    "Result: {}",
    "Result:\n{}",
    "Output:\n\n{}",
    "Output: {}",
    "**Output:**\n{}",
    "Response:\n{}",
    "Generated message: {}",
    "Here's the output:\n{}",
    "Text: {}",
    "Generated text: {}",
    "New sample:\n{}",
    "Reply: {}",
    "Result - {}",
    "Sample:\nmessage: {}",
    "Output:\nqueue: billing\nmessage: {}",
    "Answer:\n{}",
    "Final output: {}",
    "Completion: {}",
    "Sure!\n\nOutput:\n{}",
    "{} <|end|>",
    "*{}*",
    "_{}_",
    "Message 1: {}",
    "Sample 1: {}",
    "Message #1: {}",
    "Example 1:\nmessage: {}",
    "message 1: {}\nmessage 2: My card was charged twice.",
    "message (billing): {}",
    "**Message (billing):** {}",
    "Billing message: {}",
    "Message text: {}",
    "<sample><queue>billing</queue><message>{}</message></sample>",
    "<message>\n{}\n</message>",
    "<xml><message>{}</message></xml>",
    '{"sample": {"message": "{}"}}',
    "message: {} [/message]",
    "[message]{}[/message]",
    "{}\n\nExplanation: fits billing.",
    "{}\n\nIs there anything else you need?",
    "{}\n\n(Word count: 9)",
    "message := {}",
    "The message is: {}",
    "My message: {}",
    "User's message: {}",
    "Buyer: {}",
    "Nachricht: {}",
    "billing - {}",
    "<p>{}</p>",
    '["{}"]',
    '("billing", "{}")',
    "\\text{{}}",
    "\\fbox{{}}",
    "{message: {}}",
    "{'queue': 'billing', 'message': '{}'}",
]
NONE = [
    "### Human: {}\n### Assistant: I will look into it.",
    "Customer: {}\nAgent: I will look into it.",
    "[Insert message here]",
    "<your message>",
    "{message}",
    "...",
    "…",
    "[Your message here]",
    "<message>",
    "[message]",
    "{{message}}",
    "<insert text here>",
    "[Insert customer complaint here]",
    "(your message here)",
    '"..."',
    "[...]",
    "Your message here",
    "[Message goes here]",
    "<text>",
    "___________",
    "[Write your message here]",
    "message: [Insert message here]",
    "message: ...",
    "[MESSAGE TEXT]",
    "<one sentence>",
    "[placeholder]",
    "TODO",
    "N/A",
    "[redacted]",
    "$message",
    "%message%",
    "{your_message}",
    "<message text>",
    "one sentence",
    "None",
    "null",
    "[Your text]",
    "<a message to a shop>",
    "........",
    "Insert message here.",
    "[blank]",
    "(no message)",
    "[A message about billing]",
    "Let me think ..",
    "Let me think about this step by step.",
    "**Reasoning:** The customer is angry and wants a refund.",
    "Okay, the user wants a new sample with the label billing.",
    "We need to write a new message with the queue billing.",
    "I need to generate a new message for the billing queue.",
    "Okay, so I need to come up with a realistic message for billing.",
    "The user wants me to write one new sample.",
    "Thinking Process:",
    "Sure, I'll write a new sample for the billing queue.",
    "Alright, let me come up with a new sample.",
    "To generate a new sample, I need to consider the label.",
    "First, I'll analyze the examples given.",
    "The task is to write one new message with the queue billing.",
    "I'd be happy to help you create a new sample!",
    "Please provide more details about the message you want.",
    "What would you like the message to be about?",
    "Could you please provide the examples?",
    "Understood. I will write realistic samples.",
    "Here are some examples of messages:",
    "Sure! Please give me the topic.",
    "Got it! Here's a new message:",
    "I have written a new sample for you.",
    "Let's think step by step.",
    "Looking at the examples, they are all short messages.",
    "Based on the examples, a new sample could be about refunds.",
    "As requested, here is one new sample.",
    "This is a sample message for the billing queue.",
    "Write one new sample with the queue billing.",
    "The user is asking for a sample.",
    "So the requirement is one new sample.",
    "The examples show short messages about money.",
    "I'm thinking of a customer who was charged twice.",
    "Here you go!",
    "I hope this helps!",
    "Let me know if you need more samples.",
    "Create a message that fits billing.",
    "[same as above]",
    "Lorem ipsum dolor sit amet.",
    "Scenario: a lamp is sent back.",
    "Hmm, billing.",
]
REFUSALS = [
    "This goes beyond what I can do.",
    "I have to refuse this request.",
    "Not able to help with that, sorry.",
    "This request cannot be completed because of its content.",
    "Diese Anfrage kann ich nicht bearbeiten.",
    "Sorry, but that's not something I can do.",
    "My guidelines do not allow this.",
    "My guidelines do not allow me to write that.",
    "This content may violate our usage policies.",
    "This content may violate our usage policies. Did we get it wrong?",
    "Ich kann dabei leider nicht helfen.",
    "That's not something I can help with.",
    "I'm not able to do that.",
    "I can't do that.",
    "I’m not comfortable with that.",
    "I'd rather not write that.",
    "I won't help with that.",
    "That request is not something I can assist with.",
    "Let's talk about something else.",
    "I'm sorry, I can't continue this conversation.",
    "I prefer not to continue this conversation.",
    "It would not be appropriate for me to write this.",
    "Your request was flagged as potentially violating our usage policy. Please try again with a different prompt.",
    "This prompt may violate our content policy.",
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    "I'm unable to respond to that.",
    "I cannot respond to this request.",
    "Content blocked.",
    "Request denied due to safety guidelines.",
    "I'm programmed to be a safe and harmless AI assistant.",
    "I do not create content that is harmful.",
    "I don't write that kind of thing.",
    "I am not supposed to generate such content.",
    "Creating such content goes against my guidelines.",
    "That goes against my guidelines.",
    "Sorry, I can't talk about that.",
    "I'm sorry, I can't discuss that topic.",
    "I can't engage with this request.",
    "No, I can't write that.",
    "I'm sorry, but this request is not something I can fulfill.",
    "This violates OpenAI's usage policies.",
    "I'm sorry, but I must decline.",
    "I can’t help you with that.",
    "I'm really not able to help with this one.",
    "Sorry, I am unable to comply.",
    "Das kann ich leider nicht tun.",
    "Dabei kann ich leider nicht helfen.",
    "Leider kann ich dabei nicht helfen.",
    "Ich kann diese Anfrage nicht erfüllen.",
    "Entschuldigung, aber dabei kann ich nicht behilflich sein.",
    "Ich kann solche Inhalte nicht erstellen.",
    "Meine Richtlinien erlauben das nicht.",
    "Als KI-Sprachmodell kann ich das nicht schreiben.",
    "Je ne peux pas vous aider avec ça.",
    "Désolé, je ne peux pas vous aider avec cette demande.",
    "Je ne peux pas répondre à cette demande.",
    "Je ne suis pas en mesure de générer ce contenu.",
    "Cette demande va à l'encontre de mes directives.",
    "Je ne peux pas créer ce type de contenu.",
    "Désolé, mais je ne peux pas faire cela.",
    "No puedo ayudarte con eso.",
    "Lo siento, no puedo hacer eso.",
    "Lo siento, pero no puedo cumplir con esa solicitud.",
    "No puedo generar ese tipo de contenido.",
    "Mis directrices no permiten esto.",
    "Lamento no poder ayudar con eso.",
    "Non posso aiutarti con questo.",
    "Mi dispiace, ma non posso soddisfare questa richiesta.",
    "Mi dispiace, non posso farlo.",
    "Non posso generare questo tipo di contenuto.",
    "Não posso ajudar com isso.",
    "Desculpe, mas não posso ajudar com isso.",
    "Sinto muito, não posso atender a esse pedido.",
    "Não posso criar esse tipo de conteúdo.",
    "抱歉，我不能这样做。",
    "对不起，我无法满足您的要求。",
    "我无法帮助你完成这个请求。",
    "很抱歉，这个内容我不能写。",
    "您的请求违反了使用政策。",
    "抱歉，我无法回答这个问题。",
    "作为AI，我不能生成此类内容。",
    "申し訳ありませんが、それはできません。",
    "申し訳ございませんが、そのリクエストにはお応えできません。",
    "すみませんが、お手伝いできません。",
    "そのような内容は作成できません。",
    "ご要望にお応えすることはできません。",
    "ごめんなさい、それについてはお答えできません。",
]
GOOD = [
    "My message from Monday is still unanswered.",
    "The message said: Delivered, yet nothing is here.",
    "I could write a book about your delays.",
    "I have to refuse the parcel, the box is crushed.",
    "The request I sent last week was never answered.",
    "Maybe something went wrong with my card?",
    "I'm sorry, but I can't log in to my account.",
    "I can't help but notice that you charged me twice.",
    "Je ne peux pas me connecter.",
    "Sorry, but that's not something I ordered.",
    "That's not something I can afford.",
    "My guidelines booklet did not arrive.",
    "Your guidelines do not allow returns after 14 days, why?",
    "Your usage policy says 14 days.",
    "This content is not what I paid for.",
    "My parcel was flagged by customs.",
    "Ich kann mich leider nicht anmelden.",
    "Ich kann meine Rechnung nicht finden.",
    "Leider kann ich die App nicht öffnen.",
    "Das kann ich leider nicht bezahlen.",
    "Dabei kann ich nicht mal einloggen.",
    "Entschuldigung, wo ist mein Paket?",
    "Je ne peux pas ouvrir ma facture.",
    "Désolé, je ne peux pas venir demain.",
    "Je ne peux pas vous envoyer la photo.",
    "Je ne suis pas en mesure de payer.",
    "No puedo acceder a mi cuenta.",
    "Lo siento, pero no puedo pagar hoy.",
    "No puedo ayudar a mi madre con su teléfono.",
    "No puedo hacer la transferencia.",
    "Non posso accedere al mio conto.",
    "Mi dispiace, ma non posso pagare.",
    "Não posso entrar na minha conta.",
    "Desculpe, mas não posso pagar hoje.",
    "抱歉，我无法登录我的账户。",
    "对不起，我不能参加会议。",
    "我无法打开应用。",
    "我无法完成付款。",
    "申し訳ありませんが、ログインできません。",
    "すみません、注文をキャンセルできますか。",
    "支払いができません。",
    "商品を受け取ることができません。",
    "I can't do that with my old phone.",
    "I'm not comfortable with sharing my card number.",
    "I'd rather not write my address here.",
    "I won't help with your survey.",
    "Let's talk about something else than the delay: the bill.",
    "I'm unable to respond to the email that you sent.",
    "My request was denied due to a missing form.",
    "The page says content blocked when I pay.",
    "I must decline the delivery on Friday.",
    "I don't write reviews often, but this lamp is great.",
    "I'm sorry, I can't discuss my salary on the phone.",
    "No, I can't write the code down, it is gone.",
    "I cannot respond to the offer before Monday.",
    "This violates our contract.",
    "I am not supposed to pay for shipping.",
    "Your request form goes against my idea of a service.",
    "Sorry, I can't talk now, please write.",
    "I'm unable to comply with your terms.",
    "I can't help you with the delivery if you call at noon.",
    "That goes against your own rules for returns.",
    "As an assistant, I book trips for my boss.",
    "Let me think about the offer until Friday.",
    "I need to write a new message to my landlord.",
    "The user wants to log in with her old phone.",
    "Okay, so I need to return the lamp, but how?",
    "First, I'll try the other card, then I'll call you.",
    "Please provide more details about my bill.",
    "Could you please provide the invoice?",
    "What would you like me to do with the parcel?",
    "Understood. I will send it back on Monday.",
    "User: admin cannot log in any more.",
    "Note - the lamp is broken.",
    "Customer: 8831, order: 77, please call me.",
    "The message: do not wait, came too late.",
    "Result: the lamp is broken and I want my money back.",
    "I saw the message: do not wait.",
    "A: yes or B: no?",
    "Assistant manager here, where is my order?",
    "[URGENT] Where is my parcel?",
    "Message me when it is there.",
    "Message received, but the lamp is broken.",
    "... and then the lamp broke.",
    "Null is what the page shows.",
    "None of the lamps work.",
    "Step 1: I plug it in. Step 2: it breaks.",
    "Reasoning with your staff is hopeless.",
    "Looking at the bill, I see two charges.",
    "Based on the bill, I paid twice.",
    "Subject: refund for the blue lamp, please.",
    "This is a message for the billing desk: pay me back.",
    "Let me know when it comes.",
    "We need to talk about my bill.",
    "I have written to you twice.",
    "Write to me when the lamp is there.",
    "To create a new account, do I need a card?",
    "As requested, here is the photo of the lamp.",
    "Here are some photos of the broken lamp.",
    "The task is not in my list any more.",
    "Looking at the examples on your page, I expected a bigger lamp.",
]


@pytest.mark.parametrize("fresh", [True, False], ids=["anew", "on"])
@pytest.mark.parametrize("reply", TAKEN)
def test_the_text_alone_is_taken(reply, fresh):
    assert read(reply.replace("{}", TEXT), fresh=fresh) == TEXT


@pytest.mark.parametrize("fresh", [True, False], ids=["anew", "on"])
@pytest.mark.parametrize("reply", NONE)
def test_what_is_no_text_is_rejected(reply, fresh):
    assert read(reply.replace("{}", TEXT), fresh=fresh) in ("only_thinking", "talk", "unparsable", "missing_field")


@pytest.mark.parametrize("fresh", [True, False], ids=["anew", "on"])
@pytest.mark.parametrize("reply", REFUSALS)
def test_short_refusals(reply, fresh):
    assert read(reply, fresh=fresh) == "refusal"


@pytest.mark.parametrize("fresh", [True, False], ids=["anew", "on"])
@pytest.mark.parametrize("text", GOOD)
def test_everyday_texts_stay(text, fresh):
    assert read(text, fresh=fresh) == text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Let me think ..", "only_thinking"),
        ("**Reasoning:** The customer is angry.", "only_thinking"),
        ("Okay, the user wants a new sample about billing.", "only_thinking"),
        ("Output:", "unparsable"),
        ("### Assistant:", "unparsable"),
        ("| queue | message |", "missing_field"),
        ("|", "missing_field"),
    ],
)
def test_a_first_line_that_an_engine_stopped_behind(line, reason):
    assert read(line, fresh=False) == reason


@pytest.mark.parametrize(
    "text",
    ["User: Where is it? Agent: On its way.", "Q: Is it late? A: Yes.", "Customer: My lamp broke. Agent: I am sorry."],
)
def test_a_dialogue_on_one_line_stays(text):
    assert read(text) == read(text, fresh=False) == text


def test_roles_marks_and_plans_that_demos_have_too_stay():
    demos = tuple(Sample({"message": text}, "billing") for text in ("User: Where is it?", "..."))
    task = replace(TASK, demos=(*demos, TASK.demos[1]))
    for text in ("User: My lamp broke.", "..."):
        assert read(text, task) == read(text, task, fresh=False) == text
    plan = Sample({"message": "Let me think about this step by step."}, "billing")
    assert read("Let me think.", replace(TASK, demos=(plan, TASK.demos[1]))) == "Let me think."
    boxed = Sample({"message": "So it is \\boxed{7}."}, "billing")
    assert read("It is \\boxed{8}.", replace(TASK, demos=(boxed, TASK.demos[1])), fresh=False) == "It is \\boxed{8}."


PAIRS = replace(
    TASK,
    fields=(Field("premise", "a sentence", 1, 200), Field("hypothesis", "another", 1, 200)),
    target=Field("relation", "how they relate"),
    demos=(
        Sample({"premise": "It rains.", "hypothesis": "It is wet."}, "follows"),
        Sample({"premise": "It snows.", "hypothesis": "It is hot."}, "contradicts"),
    ),
    student=StudentFormat("{premise} {hypothesis}", "{relation}"),
    labels=(Label("follows", "it follows"), Label("contradicts", "it does not")),
)
PAIR = ("The cat sat on the mat.", "An animal rests.")


@pytest.mark.parametrize("fresh", [True, False], ids=["anew", "on"])
@pytest.mark.parametrize(
    "reply",
    [
        "Let me think.\n\npremise: {0}\nhypothesis: {1}",
        "Cats, maybe.\n\n**Premise:** {0}\n**Hypothesis:** {1}",
        "premise = {0}\nhypothesis = {1}",
        "| premise | hypothesis |\n|---|---|\n| {0} | {1} |",
        "relation,premise,hypothesis\nfollows,{0},{1}",
        "relation: follows\npremise: |\n  {0}\nhypothesis: |\n  {1}",
    ],
)
def test_several_fields_come_again_in_order(reply, fresh):
    assert read(reply.format(*PAIR), PAIRS, "follows", fresh) == PAIR


def test_a_field_that_does_not_come_again_begins_nothing():
    text = "The cat sat on the mat.\nhypothesis: An animal rests."
    assert read(text, PAIRS, "follows", fresh=False) == PAIR
    assert read("Let me think.\nhypothesis: An animal rests.", PAIRS, "follows", fresh=False) == "only_thinking"
    next_one = f"{text}\n\nrelation: contradicts\npremise: It snows a lot.\nhypothesis: It is dry."
    assert read(next_one, PAIRS, "follows", fresh=False) == PAIR


def test_the_next_sample_of_another_label_is_left_when_the_model_began_anew():
    assert read(f"{TEXT}\n\nqueue: delivery\nmessage: My parcel is late.") == TEXT


def test_the_next_sample_of_another_label_is_left():
    for behind in ("queue: delivery\nmessage: My parcel is late.", "---\nqueue: delivery\nmessage: My parcel is late."):
        assert read(f"{TEXT}\n\n{behind}", fresh=False) == TEXT


@pytest.mark.parametrize(
    "piece",
    ["\n", "message\n", "message\t", "message = ", "| ", "|-", "\\boxed{", "User: ", "\nUser: ", "> ", "# ", " ", "\t", "- ",
     "message: |\n", "message: |\n  x\n", "[message] x", "message,", "| message |\n|---|\n", "Let me think "],
)  # fmt: skip
def test_long_replies_take_time_that_grows_with_them(piece):
    def seconds(size):
        begun = time.process_time()
        read((piece * size)[:size], fresh=False)
        return time.process_time() - begun

    seconds(1000)
    # A quadratic reader takes minutes for these; a linear one less than a second.
    assert seconds(200_000) < 10
