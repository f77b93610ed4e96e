# ruff: noqa: RUF001
"""Prefixes that name a text in several languages, forms above one, and texts that look alike."""

import pytest
from gold_lightning.prompts import Hint, training_request
from gold_lightning.task import Field, Label, Sample, StudentFormat, Task
from gold_lightning.wire import SampleReader

MESSAGE = "I was charged twice for one lamp."


def read(reply, *, fresh=True, field="message", demos=("My parcel is late.", "Wrong invoice.")):
    """Reads a reply as an engine and the checks do; returns the text, or the reason why there is none."""
    labels = ("delivery", "billing")
    task = Task(
        name="texts",
        description="Texts of customers.",
        fields=(Field(field, f"one new {field}"),),
        target=Field("queue", "who answers it"),
        demos=tuple(Sample({field: text}, label) for text, label in zip(demos, labels, strict=True)),
        student=StudentFormat(f"{{{field}}}"),
        labels=tuple(Label(label, "") for label in labels),
    )
    request = training_request(task, "billing", task.demos, Hint(), 1)
    reply = request.read(reply if fresh else f" {reply}", fresh=fresh)
    values, reason = SampleReader(task).read(reply.text, request.answer_prefix)
    return reply.reason or reason or values.get(field, "")


NAMED = [
    ("message", "**Message.** "),
    ("message", "Texte du ticket : "),
    ("message", "Contenu du message : "),
    ("message", "Kundenanfrage: "),
    ("message", "Consulta del usuario: "),
    ("message", "Richiesta del cliente: "),
    ("message", "Solicitação do cliente: "),
    ("message", "Обращение клиента: "),
    ("message", "고객 문의: "),
    ("message", "お問い合わせ内容："),
    ("bewertung", "Bewertungstext: "),
    ("bewertung", "Meine Bewertung lautet: "),
    ("note", "Note nouvelle : "),
    ("message", "Queue: billing. Message: "),
    ("message", "Date: 12 June\nCustomer name: Ola\n\n"),
    ("message", "Title: Lamp\nStore: Ghent\n\n"),
    ("message", "queue: billing\nCustomer: Ola\nmessage: "),
]
KEPT = [
    ("message", "Fazit: Die Lampe ist kaputt."),
    ("message", "Note: the doorbell is broken."),
    ("message", "Subject to change: is that an estimate?"),
    ("message", "From: Berlin, to: Paris, so the label says."),
    ("message", "Quick question: Do you ship to Norway?"),
    ("message", "Nom du client : Dupont"),
    ("message", "Inhalt der Sendung: zwei Bücher, aber eines fehlt."),
    ("message", "Message du client précédent reçu par erreur."),
    ("bewertung", "Die Bewertung der anderen stimmt: sehr ruhig."),
    ("recipe", "Note. Soak the beans overnight."),
]


@pytest.mark.parametrize(("field", "prefix"), NAMED)
def test_a_prefix_that_only_names_the_text_is_taken_off(field, prefix):
    assert read(prefix + MESSAGE, field=field) == MESSAGE


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(("field", "text"), KEPT)
def test_a_prefix_that_says_something_stays(field, text, fresh):
    assert read(text, field=field, fresh=fresh) == text


def test_a_prefix_that_a_demo_has_is_part_of_the_texts():
    demos = ("Kundenanfrage: Wo ist mein Paket?", "Kundenanfrage: Warum zweimal?")
    assert read("Kundenanfrage: Wann kommt es?", demos=demos) == "Kundenanfrage: Wann kommt es?"
