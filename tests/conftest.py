"""Fixtures of the whole suite."""

from __future__ import annotations

import gc
import os

import pytest

from tests.forks import ForkServer
from tests.shortcuts import keep_parsers, leave_plots_undrawn

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for a hub is wrong
os.environ.setdefault("WANDB_MODE", "offline")
# torch and transformers are imported where they are used: the process that hands out the tests needs neither.
gc.disable()  # until all tests are collected: imports make little garbage


def pytest_collection_modifyitems(items):
    """Sorts the tests into slow, integration and unit: the short ones end, so that no worker ends alone."""
    import torch

    # Small tensors: threads would only wait for each other. And sums depend on how many there are.
    torch.set_num_threads(1)
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker("integration")
        if item.get_closest_marker("embedded"):
            item.add_marker("slow")
    items.sort(key=lambda item: [item.get_closest_marker(tier) is None for tier in ("slow", "integration")])


def pytest_collection_finish():
    """Exempts what is imported and collected from garbage collection, each round of which would take half a second."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory):
    """A one-layer random T5 with a byte-level tokenizer, as a folder."""
    from tests.fakes import make_tiny_student

    return make_tiny_student(tmp_path_factory.mktemp("tiny_student"))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory):
    """A one-layer Llama of random weights that likes ASCII, with one token a byte, as a folder."""
    from tests.fakes import make_tiny_llama

    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def bpe_source(tmp_path_factory):
    """A byte-level BPE of 60 merges with random embeddings, small and off centre as a language model's are."""
    import torch
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


@pytest.fixture(scope="session")
def forks():
    """Runs command lines in processes that need not import the program."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def undrawn_plots():
    """Has reports and loggers draw nothing."""
    with pytest.MonkeyPatch.context() as patch:
        leave_plots_undrawn(patch)
        yield


@pytest.fixture(scope="module")
def kept_parsers():
    """Has each command build its parser once."""
    with pytest.MonkeyPatch.context() as patch:
        keep_parsers(patch)
        yield


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A task file, and a folder with a T5 of width 16 and a tokenizer of bytes."""
    import torch
    import yaml
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    root = tmp_path_factory.mktemp("student")
    vocab = {t: i for i, t in enumerate(["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(root / "t5")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(vocab), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, initializer_factor=3.0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(root / "t5")
    labels = ["A", "B b", "a longer label"]
    task = {
        "name": "toy",
        "description": "Toy rows.",
        "fields": [{"name": "text", "description": "a text"}],
        "target": {"name": "label", "description": "its label"},
        "labels": [{"name": x, "meaning": x} for x in labels],
        "demos": [{"text": "x", "label": x} for x in labels],
        "student": {"input": "toy: {text}", "max_input_tokens": 64, "max_target_tokens": 18},
        "metrics": ["accuracy"],
    }
    (root / "toy.yaml").write_text(yaml.safe_dump(task))
    return str(root / "toy.yaml"), str(root / "t5")


@pytest.fixture(scope="module")
def saved_student(places, tmp_path_factory):
    """Folder of a student of ``places``, as a run leaves it."""
    from gold_lightning.student import T5Student

    student = T5Student(task=places[0], student=places[1])
    folder = tmp_path_factory.mktemp("run") / "student"
    student.export(folder, {f"model.{name}": weight for name, weight in student.model.state_dict().items()})
    return folder
