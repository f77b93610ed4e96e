"""The pre-training recipe: its text, how it lines up words, and that a stopped run goes on as if it had not."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file

RECIPE = Path(__file__).parent.parent / "recipes" / "student"


def _module(name):
    spec = importlib.util.spec_from_file_location(name, RECIPE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


text = _module("text")
pretrain = _module("pretrain")

ROW = "the quick brown fox jumps over the lazy dog while nine other animals look on"


def test_paragraphs_that_share_thirteen_words_with_a_row_are_left_out(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text(json.dumps({"n": 1, "answers": [ROW]}) + "\n")
    plain = "Nothing in this paragraph stands in any row of the evaluation sets at all."
    copied = f"He said: The QUICK brown fox, jumps over the lazy dog while nine other animals sleep. {plain}"
    twelve = "the quick brown fox jumps over the lazy dog while nine other birds look on and on."
    (tmp_path / "book.txt").write_text(f"{plain}\n\n{copied}\n\n\n{twelve}\n")
    source = text.Source(tmp_path / "book.txt", "paragraphs")
    found, left_out = text.pieces([source], tmp_path / "rows", 48, 0)
    assert left_out == 1 and sorted(found) == sorted([plain, twelve])
    assert text.pieces([source], None, 48, 0)[1] == 0


def test_shares_take_and_repeat_pieces(tmp_path):
    rows = [{"text": f"This is the sentence of number {i}, long enough."} for i in range(10)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for share, count in ((0.3, 3), (1.0, 10), (2.5, 25)):
        found, _ = text.pieces([text.Source(tmp_path / "a.jsonl", "jsonl", share)], None, 48, 0)
        assert len(found) == count and len(set(found)) == min(count, 10)


def test_pieces_keep_all_words_of_a_paragraph_in_order(tmp_path):
    sentences = [f"Sentence {i} has its words, and no more." for i in range(30)]
    (tmp_path / "a.txt").write_text(" ".join(sentences))
    luck = random.Random(0)
    cut = list(text._cut(" ".join(sentences), 20, luck))
    assert " ".join(cut) == " ".join(sentences)
    assert all(len(piece.split()) <= 20 for piece in cut)


def test_tasks_from_text_can_be_solved_from_what_they_show():
    luck = random.Random(0)
    words = "Anna walked to the old harbour because her brother had left his green coat there on Monday".split()
    other = "Ships from seven countries wait outside the bay until the storm is over and the pilots return"
    kinds = set()
    for _ in range(400):
        piece = " ".join(luck.sample(words, len(words)))
        made = text.text_to_text(luck, piece, other)
        kind = made.source.split(":")[0] if ":" in made.source[:20] else "fill"
        kinds.add(kind.split(" ")[0])
        assert made.target
        if kind == "question":
            question, context = made.source.split(" context: ")
            assert "___" in question and made.target in context
        elif kind == "equation":
            assert all(n in made.source for n in made.target.split()[::2])
        elif kind == "fill":
            assert made.source.count("<extra_id_") == made.target.count("<extra_id_") > 0
    assert kinds >= {"fill", "continue", "question", "equation", "first", "same"}


def test_states_are_lined_up_by_word():
    string = "tag: two  words"
    # Tokens: "tag", ":", "two", "wo", "rds", end. Words count from the first that stands after the prefix.
    offsets, special = [(0, 3), (3, 4), (4, 8), (9, 12), (12, 15), (0, 0)], [0, 0, 0, 0, 0, 1]
    assert pretrain._words(string, offsets, special, skip=5) == [-1, -1, 0, 1, 1, -1]
    states = torch.arange(6.0).view(1, 6, 1)
    means, found = pretrain.word_means(states, torch.tensor([[-1, -1, 0, 1, 1, -1]]), 3)
    assert means[0, :2, 0].tolist() == [2.0, 3.5] and found.tolist() == [[True, True, False]]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A tiny BERT with random weights."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([ROW] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path_factory.mktemp("teacher")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(folder)
    return folder


class StopAfter(Callback):
    """Ends the run after so many steps; the schedule is that of the whole."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, *args):
        trainer.should_stop = trainer.global_step >= self.steps


def _run(teacher, work, *callbacks):
    luck = random.Random(0)
    sentences = [" ".join(luck.choices(ROW.split(), k=luck.randint(4, 12))) for _ in range(4500)]
    settings = pretrain.Settings(
        work=work,
        teacher=teacher,
        sources=[],
        shape=pretrain.Shape(vocab_size=3 + 256 + 20 + 100, encoder_layers=1, d_ff=32, heads=2),
        batch_tokens=256,
        heldout=64,
        save_every=1,
        warmup=2,
        trainer={"max_steps": 12, "accelerator": "cpu", "enable_model_summary": False, "log_every_n_steps": 1},
    )
    work.mkdir(parents=True, exist_ok=True)
    (work / "pieces.json").write_text(json.dumps(sentences))
    pretrain.run(settings, callbacks)
    return torch.load(work / "last.ckpt", weights_only=True)


def test_a_stopped_pretraining_goes_on_as_if_it_had_not(teacher, bpe_source, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "embedded_folder", lambda: bpe_source)
    whole = _run(teacher, tmp_path / "whole")
    assert _run(teacher, tmp_path / "halves", StopAfter(7))["global_step"] == 7
    both = _run(teacher, tmp_path / "halves")
    assert both["global_step"] == whole["global_step"] == 12
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, both["state_dict"][name]), name
    first = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)["state_dict"]
    begun = load_file(tmp_path / "whole" / "init" / "model.safetensors")
    assert not torch.equal(first["model.shared.weight"], begun["shared.weight"])
    exported = load_file(tmp_path / "halves" / "student" / "model.safetensors")
    assert exported["shared.weight"].dtype == torch.bfloat16
    assert torch.equal(exported["shared.weight"], first["model.shared.weight"].bfloat16())
