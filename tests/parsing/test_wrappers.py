# ruff: noqa: RUF001
"""Names, announcements and next turns around a text, in several languages, and talk in place of one."""

import pytest
from gold_lightning.parsing import is_refusal

from tests.parsing.test_blocks import read

TEXT = "My parcel has been lost for two weeks."
BEFORE = [
    "message. ",
    "Message du client : ",
    "Mensaje del cliente: ",
    "Messaggio del cliente: ",
    "Bericht van de klant: ",
    "Сообщение клиента: ",
    "Kundens meddelande: ",
    "Μήνυμα πελάτη: ",
    "お客様のメッセージ：",
    "Okay, a new one: ",
    "Bien sûr ! Voici un message : ",
    "¡Claro! Aquí va: ",
    "Certo! Ecco: ",
    "Конечно! Вот сообщение: ",
    "好的，以下是一条新消息：",
    "Let me write one.\n\n",
]
BEHIND = [
    "Human: message:",
    "\nUser: more",
    "Assistant: message: More.",
    "<|endoftext|>Human: more",
    "<0x0A>Human: more",
]


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("before", BEFORE)
def test_what_names_or_announces_a_text_is_taken_off(before, fresh):
    assert read(before + TEXT, fresh=fresh) == TEXT


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("behind", BEHIND)
def test_the_next_turn_ends_a_text(behind, fresh):
    assert read(TEXT + behind, fresh=fresh) == TEXT


def test_a_turn_within_a_text_and_talk_are_a_reason_of_their_own():
    assert read(TEXT + " User: more") == "talk"
    assert read("Please provide the sample.") == "talk"


KEPT = [
    "Message received, but my parcel is not here.",
    "Problème : la facture est fausse.",
    "Client depuis dix ans : pourquoi cette facture ?",
    "Voici mon numéro : 4411. Où est mon colis ?",
    'It says: "System: error 5". What now?',
    "My user: anna. My order: 4411.",
]


@pytest.mark.parametrize("text", KEPT)
def test_texts_that_look_alike_stay_as_they_are(text):
    assert read(text) == text == read(text, fresh=False)


REFUSALS = [
    "Het spijt me, maar daar kan ik niet mee helpen.",
    "Przykro mi, ale nie mogę w tym pomóc.",
    "Извините, но я не могу с этим помочь.",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "عذراً، لا أستطيع المساعدة في هذا الطلب.",
    "मुझे खेद है, लेकिन मैं इसमें मदद नहीं कर सकता।",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "Olen pahoillani, mutta en voi auttaa tässä.",
]
INABILITIES = [
    "Извините, но я не могу войти в аккаунт.",
    "Het spijt me, maar ik kan niet inloggen.",
    "죄송하지만 로그인할 수 없습니다.",
    "Üzgünüm, hesabıma giremiyorum.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_in_more_languages(text):
    assert is_refusal(text)


@pytest.mark.parametrize("text", INABILITIES)
def test_inabilities_of_a_customer_are_no_refusals(text):
    assert not is_refusal(text)
