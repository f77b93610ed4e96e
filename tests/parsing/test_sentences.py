# ruff: noqa: RUF001
"""Ends of sentences in many scripts, and where a text may be cut."""

import time

import pytest
from gold_lightning.parsing.sentences import count_sentences, cut_to_sentences, sentence_ends

# "|" stands behind each sentence.
SENTENCES = """Oil prices rose.| Traders were calm.|
Dr. Ng met Mr. Ford at 5 p.m. on Monday.| They signed.|
It costs 3.50 euros.| That is cheap.|
J. R. R. Tolkien wrote it.| He was a don.|
Visit example.org/a.b today.| It is free!|
"I am done," she said.| "Go home."|
"Are you sure?" he asked.| Nobody answered.|
Wait... what is that?| A fox!|
He said (see fig. 3) that it works.| We agree.|
The U.S. economy grew by 2.1 percent.| Analysts cheered.|
She lives at No. 5 St. James Ave. in London.| It rains.|
He said no.| That was fine with me.| Then he left|
Great film!!!| Would watch again...|
Das Treffen ist am 3. Mai um 10 Uhr.| Bitte kommen Sie z. B. mit dem Zug.| Danke!|
„Ich komme nicht.“| Das sagte er gestern.|
M. Dupont est parti.| « Où va-t-il ? »| Personne ne sait.|
¿Dónde está mi paquete?| ¡No llega!| El Sr. López espera.|
Los EE. UU. no responden.| Nada más.|
Il dott. Rossi è arrivato.| Tutto bene?| Sì.|
Dhr. Jansen belt om 9 uur.| Alles goed.|
Он живёт на ул. Ленина.| Это далеко.| В 2020 г. он уехал.|
我的包裹没有到。|你们在做什么？|请回复！|
価格は3.5ドルです。|高いですか？|はい！|
택배가 오지 않았어요.| 언제 오나요?|
لم يصل الطرد.| أين هو؟| شكرا!|
मेरा पार्सल नहीं आया।| कब आएगा?|
Πού είναι το πακέτο μου;| Δεν ήρθε.|
Ես այստեղ եմ։| Դու որտեղ ես։|
ကျွန်တော် လာပါပြီ။| ဘယ်မှာလဲ။|
The match ended 2-1.| Reuters reported it at 18.30.| Fans left.|
Apple Inc. and Google LLC sued.| The case goes on.|
I gave it 8/10.| Not bad at all, e.g. the music.|
Yahoo! is back.| Nobody noticed.|
She asked: "Why me?"| Then she left.|
No way!| (It was late.)| We slept.|
No mark at all|""".splitlines()


@pytest.mark.parametrize("marked", SENTENCES)
def test_ends_of_sentences(marked):
    text, places = marked.replace("|", ""), []
    for sentence in marked.removesuffix("|").split("|"):
        places.append((places or [0])[-1] + len(sentence))
    closed = places if not text[-1].isalnum() else places[:-1]
    assert sentence_ends(text) == closed
    assert count_sentences(text) == marked.count("|")


CUTS = [
    ("It rained all day. We stayed in and", "It rained all day."),
    ("It rained. We stayed in. We read and", "It rained. We stayed in."),
    ("It rained and we stayed in", ""),
    ("We paid 3.", ""),  # perhaps 3.50
    ("We paid. Then came Mr.", "We paid."),
    ("We met J.", ""),
    ("雨が降った。外に出", "雨が降った。"),
    ('He said: "It rains. We stay in.', ""),  # the quote never closes
    ('He left. He said: "It rains. We stay', "He left."),
    ("He left (at noon. It rained", ""),
    ("What a day! It", "What a day!"),
]


@pytest.mark.parametrize(("text", "cut"), CUTS)
def test_a_text_that_was_broken_off_ends_with_its_last_whole_sentence(text, cut):
    assert cut_to_sentences(text, 100, whole=False) == cut


def test_limits_hold_and_the_own_end_of_a_whole_text_counts():
    text = "We paid 3. It was cheap. Nobody asked No. 5"
    assert cut_to_sentences(text, 30) == "We paid 3. It was cheap."
    assert cut_to_sentences(text, 23) == ""
    assert cut_to_sentences("One here. Two here. Three here.", 100, 2) == "One here. Two here."
    assert cut_to_sentences("We met J.", 100) == "We met J."


@pytest.mark.parametrize("unit", ["? ", ".", "a. ", "。", "(.) ", ". . ", "a.a", '".'])
def test_long_texts_take_no_time(unit):
    began = time.process_time()
    sentence_ends(unit * 20_000)
    cut_to_sentences(unit * 20_000, 500, whole=False)
    assert time.process_time() - began < 3
