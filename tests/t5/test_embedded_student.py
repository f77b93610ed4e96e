"""The pre-trained student in the package: a plain T5 folder, lossless, and one that has learnt something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gold_lightning.t5.weights import student_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

pytestmark = pytest.mark.integration

FOLDER = Path(student_folder("embedded"))
TOKENIZER = AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    return AutoModelForSeq2SeqLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def test_it_lies_in_the_package_with_its_card_and_is_small():
    assert FOLDER.parent.parent.name == "gold_lightning"
    sizes = {p.name: p.stat().st_size for p in FOLDER.iterdir()}
    assert sum(sizes.values()) <= 64e6
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(sizes)
    assert not [name for name in sizes if name.endswith((".py", ".bin", ".pt", ".pkl"))]


def test_it_is_a_plain_t5(model):
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["T5ForConditionalGeneration"] and "auto_map" not in config
    assert type(model).__name__ == "T5ForConditionalGeneration"
    assert model.config.vocab_size == len(TOKENIZER)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_decoding_gives_any_text_back(text):
    assert TOKENIZER.decode(TOKENIZER(text).input_ids, skip_special_tokens=True) == text


def test_digits_stand_alone_and_sentinels_are_one_token():
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER("In 1984 1,250 x1y").input_ids)
    assert all(len(t.replace("Ġ", "")) == 1 for t in tokens if any(c.isdigit() for c in t))
    ids = [TOKENIZER.convert_tokens_to_ids(f"<extra_id_{i}>") for i in range(100)]
    assert len(set(ids)) == 100 and ids == TOKENIZER("".join(f"<extra_id_{i}>" for i in range(100))).input_ids[:-1]


TRIPLES = [
    (
        "The striker scored two goals.",
        "A tennis champion won her match.",
        "The bank raised its interest rate.",
    ),
    ("Shares of the oil company fell.", "Profits at the retailer rose.", "The goalkeeper saved a penalty."),
    ("Engineers fixed a flaw in the software.", "The new phone has a faster chip.", "Soldiers crossed the border."),
    ("Doctors tested a drug for the disease.", "The hospital treats cancer patients.", "The ship sank in a storm."),
    ("The president signed a peace treaty.", "Voters elected a new parliament.", "The recipe needs butter and flour."),
    ("She planted roses in the garden.", "Trees and flowers grow in the park.", "The court sentenced the thief."),
]


def test_texts_of_like_meaning_begin_alike_in_the_decoder(model):
    margins = []
    for triple in TRIPLES:
        read = TOKENIZER(list(triple), padding=True, return_tensors="pt")
        with torch.inference_mode():
            out = model(
                input_ids=read.input_ids,
                attention_mask=read.attention_mask,
                decoder_input_ids=torch.zeros(3, 1, dtype=torch.long),
                output_hidden_states=True,
            )
        a, b, c = out.decoder_hidden_states[-1][:, 0]
        margins.append(float(torch.cosine_similarity(a, b, dim=0) - torch.cosine_similarity(a, c, dim=0)))
    # A small student may miss one: even its teacher tells the treaty and the election hardly from the recipe (0.07).
    assert sum(margin > 0 for margin in margins) >= 5 and sum(margins) / len(margins) > 0.2, margins
