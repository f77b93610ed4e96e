"""The student built around a language model's embeddings, and the errors of what is not there."""

import doctest
import json
import random

import pytest
import torch
from gold_lightning.errors import GoldError
from gold_lightning.t5 import weights
from gold_lightning.t5.weights import build_from_generator, build_tokenizer, load_model, load_tokenizer


@pytest.fixture(scope="module")
def built(bpe_source, tmp_path_factory):
    out = tmp_path_factory.mktemp("student")
    build_from_generator(bpe_source, out, vocab_size=3 + 256 + 20 + 100, layers=(1, 1), d_ff=64)
    return out


@pytest.fixture(scope="module")
def with_words(bpe_source, tmp_path_factory):
    out = tmp_path_factory.mktemp("words")
    build_tokenizer(bpe_source, out, 3 + 256 + 20 + 4 + 100, ["harbour", "naïve", "harbour", "Oslo", "NATO", "x"], 20)
    return out


def test_words_that_no_merge_makes_are_one_token_after_a_space(with_words):
    tokenizer = load_tokenizer(str(with_words))
    assert len(tokenizer) == 3 + 256 + 20 + 4 + 100
    for word in ("harbour", "Oslo", "NATO"):
        (token, _) = tokenizer(f" {word}").input_ids
        assert tokenizer.decode([token]) == f" {word}"
        assert len(tokenizer(word).input_ids) > 2 < len(tokenizer(f" {word}s").input_ids)  # in pieces, as before
    assert tokenizer("Oslo and Oslo").input_ids.count(tokenizer(" Oslo").input_ids[0]) == 1


@pytest.mark.parametrize("folder", ["built", "with_words"])
def test_tokenizer_gives_any_text_back(folder, request):
    tokenizer = load_tokenizer(str(request.getfixturevalue(folder)))
    rng = random.Random(0)
    texts = [
        "",
        "a </s> <pad> b <unk>",
        "<extra_id_0> x<extra_id_99>",
        " two  spaces ",
        "harbour harbour  Oslo, \u0120Oslo NATO's",
        "line\nbreak\t",
        "x = -3.50 * (y + 12)",
        "naïve 中文 🙂 \u200d",
        "\x00\x07",
    ]
    ranges = [(32, 126), (0xA0, 0x24F), (0x4E00, 0x4FFF), (0x1F300, 0x1F600)]
    for _ in range(200):
        texts.append("".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 30))))
    for text in texts:
        ids = tokenizer(text).input_ids
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_kept_tokens_have_their_old_embeddings_centred_at_unit_variance(bpe_source, built):
    from safetensors import safe_open

    old = json.loads((bpe_source / "tokenizer.json").read_text())["model"]["vocab"]
    new = json.loads((built / "tokenizer.json").read_text())["model"]["vocab"]
    model = load_model(str(built))
    kept = [t for t in new if t in old]
    assert len(kept) > 256 and "À" in new and "À" not in old
    rows = model.shared.weight[[new[t] for t in kept]].detach()
    assert rows.mean(0).abs().max() < 1e-4 and rows.std() == pytest.approx(1.0, abs=1e-3)
    with safe_open(bpe_source / "model.safetensors", "pt") as file:
        table = file.get_tensor("model.embed_tokens.weight")
    a, b = (table[old[t]] - table[[old[k] for k in kept]].mean(0) for t in ("a", "b"))
    ours = model.shared.weight[new["a"]] @ model.shared.weight[new["b"]]
    cosine = torch.cosine_similarity(a, b, dim=0)
    assert float(ours / (model.shared.weight[new["a"]].norm() * model.shared.weight[new["b"]].norm())) == pytest.approx(
        float(cosine), abs=1e-4
    )


def test_building_draws_nothing_from_the_global_generator(bpe_source, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build_from_generator(bpe_source, tmp_path, vocab_size=400, layers=(1, 1), d_ff=32)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("load", [load_tokenizer, load_model])
def test_a_missing_student_is_told_in_one_line_with_two_ways_out(load):
    with pytest.raises(GoldError) as caught:
        load("no-such-org/no-such-t5")
    message = str(caught.value)
    assert "\n" not in message and "no-such-org/no-such-t5" in message
    assert "--model.student FOLDER" in message and "--model.student embedded" in message


def test_the_examples_run():
    results = doctest.testmod(weights)
    assert results.attempted and not results.failed
