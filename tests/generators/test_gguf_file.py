"""A model in one GGUF file: found, refused in one line, and the same model as its folder."""

from __future__ import annotations

import importlib.util

import pytest
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators import Request, TransformersGenerator

from tests.fakes import make_tiny_llama

KEY = "data.generator.init_args.model"


@pytest.mark.parametrize("name", ["gone.gguf", "~/gone.gguf", "GONE.GGUF"])
def test_a_file_that_does_not_exist_is_refused_before_anything_is_loaded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = TransformersGenerator(name)
    for call in (generator.check_installed, generator.load):
        with pytest.raises(ConfigError) as refused:
            call()
        assert refused.value.key == KEY and "GGUF" in refused.value.allowed


def test_one_part_of_several_is_refused_with_the_way_to_join_them(tmp_path):
    (tmp_path / "big-00001-of-00003.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError) as refused:
        TransformersGenerator(str(tmp_path / "big-00001-of-00003.gguf")).check_installed()
    assert refused.value.key == KEY and "--merge" in refused.value.hint


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the extra is not installed")
@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04 a zip file", bytes(5000)])
def test_a_damaged_file_is_one_line(content, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(GoldError) as refused:
        TransformersGenerator(str(path)).load()
    assert str(path) in str(refused.value) and "OpenAIGenerator" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_is_known_by_its_content(tmp_path):
    paths = [tmp_path / folder / "model.gguf" for folder in "abc"]
    for path, content in zip(paths, (b"one", b"one", b"two"), strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
    first, same, other = (TransformersGenerator(str(path)).fingerprint()["model"] for path in paths)
    assert first == same != other and str(tmp_path) not in first
    assert TransformersGenerator(str(paths[0])).origin() == ""


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the extra is not installed")
def test_a_file_writes_what_the_same_model_writes_from_its_folder(tmp_path):
    folder = make_tiny_llama(tmp_path / "folder", tokens=("th",))
    write_gguf(folder, tmp_path / "model.gguf")
    settings = {"form": "completion", "temperature": 0.9}
    requests = [
        Request("You write news.", "text: Rain stops the match.\n\n", "Write another.", "text:", i, 24)
        for i in range(3)
    ]
    expected = TransformersGenerator(str(folder), **settings).generate(requests)
    assert TransformersGenerator(str(tmp_path / "model.gguf"), **settings).generate(requests) == expected
    assert all(completion.text.strip() for completion in expected)


def write_gguf(folder, path):
    """Writes a Llama with a byte-level tokenizer and its one merge, t and h, as llama.cpp's converter does."""
    import numpy as np
    from gguf import GGUFWriter
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config, writer = model.config, GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])

    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in ("<pad>", "</s>") else 1 for token in tokens])  # 3: control, 1: normal
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)

    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        array = weight.float().numpy()
        for letter, count in heads.items():
            if name.endswith(f"{letter}_proj.weight") and "self_attn" in name:  # pairs of rotary halves stand together
                array = array.reshape(count, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        for theirs, ours in _GGUF_NAMES.items():
            name = name.replace(theirs, ours)
        writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_GGUF_NAMES = {
    "model.layers": "blk",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
