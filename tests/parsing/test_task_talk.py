# ruff: noqa: RUF001
"""Talk about the task in place of a text, in several languages, and texts with the same words."""

import pytest
from gold_lightning.parsing.task_talk import speaks_of_task

NAMES, LABELS = ["queue", "message"], ["billing"]
TALK = [
    "The message should be short and about money.",
    "The message must mention a refund and stay under fifty words.",
    "For this billing message I chose a refund because it differs from the examples.",
    "We need a billing message, written like the samples above.",
    "Here's how I would approach the billing message: begin with the amount.",
    "Do you want the message to be formal or informal?",
    "Sure! What kind of message would you like me to write?",
    "Understood. Please share the previous messages so that I do not repeat them.",
    "This message takes the side of the customer, as requested.",
    "Die Nachricht soll von einer Rechnung handeln.",
    "Le message doit parler d'une facture.",
    "El mensaje debe tratar de una factura.",
    "Ich schreibe jetzt eine neue Nachricht, die sich von den Beispielen unterscheidet.",
    "Voici ce que je vais faire : écrire un message de client sur une facture.",
    "好的，我将写一条关于账单的客户消息。",
]
TEXTS = [
    "The message should have arrived yesterday. It did not.",
    "The message could not be delivered, says your app.",
    "This message was sent from my old address.",
    "The message must be signed by both of us.",
    "Should the message be printed?",
    "Please provide a sample of the form that I need to sign.",
    "I need a message from your billing team.",
    "Ich schreibe Ihnen eine neue Nachricht, weil die erste nicht ankam.",
    "Je vais écrire un message à votre direction si mon compte reste bloqué.",
    "Die Nachricht muss ankommen.",
]


@pytest.mark.parametrize("text", TALK)
def test_talk(text):
    assert speaks_of_task(text, NAMES, LABELS)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_with_the_same_words(text):
    assert not speaks_of_task(text, NAMES, LABELS)
