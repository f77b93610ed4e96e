"""Fixtures of the whole suite."""

from __future__ import annotations

import os

import pytest
import torch

from tests.fakes import make_tiny_student

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for a hub is wrong
os.environ.setdefault("WANDB_MODE", "offline")
# Small tensors: threads would only wait for each other. And sums depend on how many there are.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory):
    """A one-layer random T5 with a byte-level tokenizer, as a folder."""
    return make_tiny_student(tmp_path_factory.mktemp("tiny_student"))


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
