"""Fixtures of the whole suite."""

from __future__ import annotations

import os

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for a hub is wrong
os.environ.setdefault("WANDB_MODE", "offline")
# Small tensors: threads would only wait for each other. And sums depend on how many there are.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory):
    """A one-layer random T5 with a byte-level tokenizer, as a folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    special = ["<pad>", "</s>", "<unk>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*special, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder = tmp_path_factory.mktemp("tiny_student")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(special) + len(alphabet),
        d_model=32,
        d_kv=16,
        num_heads=2,
        d_ff=64,
        num_layers=1,
        num_decoder_layers=1,
        pad_token_id=0,
        eos_token_id=1,
    )
    config.decoder_start_token_id = 0
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def bpe_source(tmp_path_factory):
    """A byte-level BPE of 60 merges with random embeddings, small and off centre as a language model's are."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = [c for c in pre_tokenizers.ByteLevel.alphabet() if c != "À"]  # a byte that UTF-8 never has
    text = ["the cat sat on the mat and the other cat sat on that"] * 20
    tokenizer.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=len(alphabet) + 60, initial_alphabet=alphabet, show_progress=False)
    )
    folder = tmp_path_factory.mktemp("lm")
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    save_file({"model.embed_tokens.weight": 0.02 * torch.randn(size, 64) + 0.3}, folder / "model.safetensors")
    return folder
