"""The pre-training recipe: its text, how it lines up words, and that a stopped run goes on as if it had not."""

from __future__ import annotations

import csv
import importlib.util
import json
import lzma
import random
import sys
from pathlib import Path

import pytest
import torch
from gold_lightning.t5.weights import load_tokenizer
from lightning.pytorch import Callback
from safetensors.torch import load_file

pytestmark = pytest.mark.integration

RECIPE = Path(__file__).parent.parent / "recipes" / "student"


def _module(name):
    spec = importlib.util.spec_from_file_location(name, RECIPE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


text = _module("text")
vocabulary = _module("vocabulary")
sentences = _module("sentences")
start = _module("start")
tokenizer = _module("tokenizer")
batching = _module("batching")
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
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress((tmp_path / "a.jsonl").read_bytes()))
    packed, _ = text.pieces([text.Source(tmp_path / "a.jsonl.xz", "jsonl")], None, 48, 0)
    assert sorted(packed) == sorted(r["text"] for r in rows)


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


def test_exchanged_words_leave_spaces_and_punctuation_where_they_are():
    piece = "The  U.S. firm's 24 workers (in Paris) said: it's 3rd, naïve."
    words = ["yankees", "oil"]
    assert text.exchange_words(random.Random(0), piece, words, 0.0) == piece
    made = text.exchange_words(random.Random(0), piece, words, 1.0)
    # Words of three letters or more alone: not parts of words, numbers or words of other letters.
    assert made.lower().replace("yankees", "oil") == "oil  u.s. oil's 24 oil (in oil) oil: it's 3rd, naïve."
    assert made[0].isupper() and made[made.index("(in ") + 4].isupper()
    exchanged = [text.exchange_words(random.Random(i), "one two six ten", words, 1 / 3) for i in range(900)]
    count = sum(w.lower() in words for e in exchanged for w in e.split())
    assert 1100 < count < 1300
    capitals = sum(w.istitle() for e in exchanged for w in e.split())
    assert 0.3 < capitals / count < 0.5


def test_another_case_leaves_what_an_uncased_teacher_reads():
    piece = "Shares of the oil firm rose in Paris."
    made = {text.recase(random.Random(i), piece) for i in range(60)}
    assert {m.lower() for m in made} == {piece.lower()}
    assert piece.lower() in made and "SHARES of the oil firm rose in Paris." in made
    assert any(m.startswith("Shares") and "Oil Firm Rose" in m for m in made)


def test_words_are_taken_as_they_are_written_and_the_frequent_first():
    order = {w: 9 - i for i, w in enumerate(["##ing", "reuters", "bank", "paris", "nato", "the", "1990", "é"])}
    seen = ["he saw the Bank, the bank, the bank and the bank in Paris, as NATO did, and NATO again in Paris."]
    forms = vocabulary.word_forms(order, seen)
    assert set(forms) == {
        *("the", "The", "nato", "Nato", "NATO", "paris", "Paris", "bank", "Bank", "reuters", "Reuters")
    }
    at = forms.index
    assert at("NATO") < at("Nato") and at("Paris") < at("paris") and at("bank") < at("Bank")
    assert at("Reuters") < at("reuters")  # a word that the texts do not have is taken for a name
    assert vocabulary.word_forms(order, ["of Bank and of Bank and of Bank"]).index("Bank") < at("Bank")


WORDS = {"noun": ["dog", "apple"], "verb": ["eat"], "adj": ["old"], "person": ["Ann Lee"], "place": ["Oslo"]}


@pytest.mark.parametrize(
    "template, allowed",
    [
        ("(Who|Which (man|woman)) can {verb}?", {"Who can eat?", "Which man can eat?", "Which woman can eat?"}),
        ("a {adj?} {noun}.", {"a dog.", "an apple.", "an old dog.", "an old apple."}),
        ("{nouns} of {person}", {"dogs of Ann Lee", "apples of Ann Lee"}),
    ],
)
def test_gaps_of_templates_are_filled(template, allowed):
    filled = {sentences.fill(random.Random(seed), template, WORDS) for seed in range(300)}
    assert {text[0].lower() + text[1:].replace(" ?", "?").replace(" .", ".") for text in filled} == {
        text[0].lower() + text[1:] for text in allowed
    }


def test_sentences_are_of_all_templates_and_the_same_each_time():
    drawn = sentences.sentences(RECIPE / "templates.yaml", WORDS, 2000, seed=1)
    assert drawn == sentences.sentences(RECIPE / "templates.yaml", WORDS, 2000, seed=1)
    assert not [text for text in drawn if any(mark in text for mark in "{}()|") or "  " in text]
    assert len(set(drawn)) > 1000
    quarters = [drawn[kind::4] for kind in range(4)]  # questions, requests, opinions, statements in turn
    questions = [sum(text.endswith("?") for text in quarter) / 500 for quarter in quarters]
    assert questions[0] > 0.9 > questions[1] > 0.3 and max(questions[2:]) == 0


def test_texts_that_the_teacher_tells_apart_are_told_apart():
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    assert abs(float(pretrain._text_divergence(3 * vectors, vectors))) < 1e-6  # length does not count
    swapped = vectors[[1, 0, 2, 3, 4, 5, 6, 7]]
    assert float(pretrain._text_divergence(swapped, vectors)) > 1


def test_states_are_lined_up_by_word():
    string = "tag: two  words"
    # Tokens: "tag", ":", "two", "wo", "rds", end. Words count from the first that stands after the prefix.
    offsets, special = [(0, 3), (3, 4), (4, 8), (9, 12), (12, 15), (0, 0)], [0, 0, 0, 0, 0, 1]
    assert batching._words(string, offsets, special, skip=5).tolist() == [-1, -1, 0, 1, 1, -1]
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


def _sentences():
    luck = random.Random(0)
    return [" ".join(luck.choices(ROW.split(), k=luck.randint(4, 12))) for _ in range(4500)]


def _run(teacher, work, *callbacks, **changed):
    settings = pretrain.Settings(
        work=work,
        teacher=teacher,
        sources=[text.Source(work / "a.txt", "paragraphs")],
        shape=pretrain.Shape(vocab_size=3 + 256 + 20 + 4 + 100, merges=20, layers=(0,)),
        batch_tokens=256,
        heldout=64,
        save_every=1,
        warmup=2,
        **{"steps": 12, **changed},
        trainer={"accelerator": "cpu", "enable_model_summary": False, "log_every_n_steps": 1},
    )
    (work / "pieces").mkdir(parents=True, exist_ok=True)
    (work / "pieces" / "a.txt.json").write_text(json.dumps(_sentences()))
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
    tokenizer = pretrain.AutoTokenizer.from_pretrained(tmp_path / "halves" / "student")
    forms = vocabulary.word_forms(pretrain.AutoTokenizer.from_pretrained(teacher).get_vocab(), _sentences())
    whole = [w for w in forms if len(tokenizer(f" {w}").input_ids) == 2]  # and the end
    assert len(tokenizer) == 3 + 256 + 20 + 4 + 100 and forms[:4] == whole[:4]
    exported = load_file(tmp_path / "halves" / "student" / "model.safetensors")
    assert exported["shared.weight"].dtype == torch.bfloat16
    assert torch.equal(exported["shared.weight"], first["model.shared.weight"].bfloat16())


def test_a_run_may_begin_with_a_student(teacher, bpe_source, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "embedded_folder", lambda: bpe_source)
    _run(teacher, tmp_path / "first", steps=3)
    student = tmp_path / "first" / "student"
    _run(teacher, tmp_path / "second", steps=1, begin=student)
    begun, given = (load_file(f / "model.safetensors") for f in (tmp_path / "second" / "init", student))
    assert all(torch.equal(begun[name], given[name].float()) for name in given)
    # The matrix reads the teacher's vectors from the decoder's first state, better than none of it would.
    settings = pretrain.Settings(work=tmp_path / "second", teacher=teacher, sources=[])
    module = pretrain.Pretraining(settings, []).eval()
    batch = batching.Batches([], settings, module.tokenizers).dense(_sentences()[:64], [""] * 64)
    with torch.no_grad():
        fitted = module.dense(batch)[1]
        module.project.weight.copy_(module.project.weight.roll(1, 0))
        assert fitted < 0.9 * module.dense(batch)[1]


def test_batches_do_not_depend_on_who_makes_them(teacher, bpe_source, tmp_path):
    pretrain.build_tokenizer(bpe_source, tmp_path, 3 + 256 + 20 + 100)
    tokenizers = tuple(pretrain.AutoTokenizer.from_pretrained(folder) for folder in (tmp_path, teacher))
    settings = pretrain.Settings(work=tmp_path, teacher=teacher, sources=[], batch_tokens=256)
    whole = batching.Batches(_sentences(), settings, tokenizers)
    loader = pretrain.DataLoader(whole, batch_size=None, num_workers=2)
    for number, made in zip(range(7), loader, strict=False):
        _same(made, whole.batch(number))
    shares = [
        iter(batching.Batches(_sentences(), settings, tokenizers, lambda rank=rank: (rank, 2))) for rank in (0, 1)
    ]
    for number in range(6):
        _same(next(shares[number % 2]), whole.batch(number))


def _same(given, wanted):
    assert given.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(torch.as_tensor(given[name]), torch.as_tensor(value)), name


def test_words_of_batches_are_the_same_for_student_and_teacher(teacher, bpe_source, tmp_path):
    pretrain.build_tokenizer(bpe_source, tmp_path, 3 + 256 + 20 + 100)
    tokenizers = tuple(pretrain.AutoTokenizer.from_pretrained(folder) for folder in (tmp_path, teacher))
    settings = pretrain.Settings(work=tmp_path, teacher=teacher, sources=[])
    texts = ["the quick  brown fox", "dog"]
    made = batching.Batches(texts, settings, tokenizers).dense(texts, ["", "topic: "])
    assert made["count"] == 4
    for row, count in ((0, 4), (1, 1)):
        for name in ("words", "teacher_words"):
            assert set(made[name][row].tolist()) == {-1, *range(count)}
    own = made["ids"][1][made["words"][1] == 0].tolist()
    assert tokenizers[0].decode(own).strip() == "dog"
    assert made["ids"].shape[1] % 4 == 0 and int(made["mask"][1].sum()) == len(tokenizers[0]("topic: dog").input_ids)


def test_texts_of_a_window_are_in_batches_of_about_one_length_and_cost():
    luck = random.Random(0)
    lengths = [luck.choice((4, 9, 20, 45, 70)) + luck.randint(0, 5) for _ in range(2000)]
    batches = batching._of_equal_cost(lengths, 30, 250)
    assert len(batches) == 30 and sorted(i for batch in batches for i in batch) == list(range(2000))
    assert max(len(batch) for batch in batches) <= 250
    padded = [max(lengths[i] for i in batch) * len(batch) for batch in batches]
    assert sum(padded) < 1.1 * sum(lengths) and max(padded) < 1.25 * sum(padded) / 30
    # A batch takes no more than it may, and none is empty, also where the number of batches leaves no choice.
    assert [len(batch) for batch in batching._of_equal_cost([5] * 12, 3, 4)] == [4, 4, 4]
    assert [len(batch) for batch in batching._of_equal_cost([1, 1, 1, 90], 4, 9)] == [1, 1, 1, 1]


def test_all_texts_of_an_epoch_are_read_once(teacher, bpe_source, tmp_path, monkeypatch):
    monkeypatch.setattr(batching, "_WINDOW", 50)
    pretrain.build_tokenizer(bpe_source, tmp_path, 3 + 256 + 20 + 100)
    tokenizers = tuple(pretrain.AutoTokenizer.from_pretrained(folder) for folder in (tmp_path, teacher))
    settings = pretrain.Settings(work=tmp_path, teacher=teacher, sources=[], batch_tokens=256)
    texts = [f"{i} {sentence}" for i, sentence in enumerate(_sentences()[:100])]
    batches = batching.Batches(texts, settings, tokenizers)
    batches.batch(0)
    first, second = (
        [row.text for number in windows for batch in batches._window(number) for row in batch]
        for windows in ((0, 1), (2, 3))
    )
    assert sorted(first) == sorted(second) == sorted(texts) and first != second
    assert all(len(batches._window(number)) == batches._per_window for number in range(4))


def test_of_a_piece_that_is_longer_than_the_teacher_reads_the_beginning_is_read(teacher, bpe_source, tmp_path):
    pretrain.build_tokenizer(bpe_source, tmp_path, 3 + 256 + 20 + 100)
    tokenizers = tuple(pretrain.AutoTokenizer.from_pretrained(folder) for folder in (tmp_path, teacher))
    settings = pretrain.Settings(work=tmp_path, teacher=teacher, sources=[])
    dots = "the fox " + "." * 900  # three words, and more tokens than the teacher has positions
    made = batching.Batches([dots], settings, tokenizers).dense([dots], ["topic: "])
    for name in ("", "teacher_"):
        ids, words = made[f"{name}ids"], made[f"{name}words"]
        assert ids.shape == (1, batching._LONGEST) and set(words[0].tolist()) == {-1, 0, 1, 2}
    assert pretrain.Teacher(teacher).read(made["teacher_ids"], made["teacher_mask"])[0].isfinite().all()


def test_student_and_teacher_read_the_same_exchanged_words(teacher, bpe_source, tmp_path):
    pretrain.build_tokenizer(bpe_source, tmp_path, 3 + 256 + 20 + 100)
    tokenizers = tuple(pretrain.AutoTokenizer.from_pretrained(folder) for folder in (tmp_path, teacher))
    plain, always = (
        batching.Batches(
            _sentences(),
            pretrain.Settings(work=tmp_path, teacher=teacher, sources=[], batch_tokens=256, exchange=share),
            tokenizers,
        )
        for share in (0.0, 1.0)
    )
    old, new = plain.batch(0), always.batch(0)
    _same(always.batch(0), new)
    assert not torch.equal(old["teacher_ids"], new["teacher_ids"])
    for row in range(len(new["ids"])):
        student, said = (
            " ".join(tokenizers[i].decode(new[name + "ids"][row][new[name + "words"][row] >= 0]).lower().split())
            for i, name in enumerate(("", "teacher_"))
        )
        assert student == said
    assert "labels" in always.batch(4)  # text-to-text tasks are made of the text as it is


def test_a_run_by_the_clock_counts_its_steps_out_and_goes_on_with_them(teacher, bpe_source, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "embedded_folder", lambda: bpe_source)
    monkeypatch.setattr(pretrain.Pretraining, "seconds", lambda self: self.trainer.global_step / 10)
    # Four fifths of five seconds are over at step 40, which the next look at step 50 sees: 50 of 63 steps.
    first = _run(teacher, tmp_path / "a", StopAfter(55), minutes=5 / 60)
    assert first["schedule"]["steps"] == 63
    assert _run(teacher, tmp_path / "a", minutes=5 / 60)["global_step"] == 63
    rows = csv.DictReader((tmp_path / "a" / "metrics.csv").open(newline=""))
    rates = [float(row["train/lr"]) for row in rows if row["train/lr"]]
    assert rates[10] == rates[49] == max(rates) == pytest.approx(5e-4)
    assert 0 < rates[62] < rates[55] < rates[51] < rates[49]


@pytest.fixture
def bert():
    """Three layers with biases, gains and positions that matter, and states with a large mean, as trained ones have."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=90,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.15,
    )
    model = BertModel(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("LayerNorm.weight"):
            weight.copy_(0.5 + torch.rand(48))
        elif name.endswith("LayerNorm.bias"):
            weight.copy_(torch.randn(48))
        elif name.endswith("bias"):
            weight.copy_(0.3 * torch.randn(len(weight)))
        elif "position_embeddings" in name:
            weight.zero_()
    return model


def _tokenizers(count):
    """The same words for both: a BERT's tokenizer, and one with T5's special tokens around them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [a + b for a in "bcdfgklm" for b in ("an", "et", "ip", "os", "ul", "ay", "ee", "oo")][:count]

    def made(special, template, end):
        vocab = {w: i for i, w in enumerate([*special, *words, *end])}
        inner = Tokenizer(models.WordLevel(vocab, unk_token=special[1]))
        inner.pre_tokenizer = pre_tokenizers.Whitespace()
        inner.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(t, vocab[t]) for t in template.split() if t != "$A"]
        )
        return inner

    theirs = PreTrainedTokenizerFast(
        tokenizer_object=made(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]", []),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    sentinels = [f"<extra_id_{i}>" for i in range(100)]
    ours = PreTrainedTokenizerFast(
        tokenizer_object=made(["<pad>", "<unk>", "</s>"], "$A", sentinels), pad_token="<pad>", unk_token="<unk>"
    )
    return words, theirs, ours


def test_a_teachers_layers_become_the_students(bert):
    words, theirs, ours = _tokenizers(60)
    luck = random.Random(0)
    texts = [" ".join(luck.choices(words, k=luck.randint(4, 16))) for _ in range(300)]
    known, new = texts[:200], texts[200:]

    def agreement(layers, change=lambda model: None):
        torch.manual_seed(0)
        model = start.T5ForConditionalGeneration(start.student_config(bert.config, 3 + 60 + 100, len(layers), 1)).eval()
        both, ones = [], []
        with torch.no_grad():
            one = start.copy_encoder(model, bert, theirs, ours, known, layers)
            change(model)
            for piece in new:
                wanted = bert(**theirs([piece], return_tensors="pt")).last_hidden_state[0, 1:-1]
                given = model.encoder(input_ids=ours([piece], return_tensors="pt").input_ids).last_hidden_state[0]
                both.append((given, wanted))
                ones.append(given @ one)
        given, wanted = (torch.cat(x) for x in zip(*both, strict=True))
        mean = wanted.mean(0)  # without it, two random states would agree already
        return float(torch.cosine_similarity(given - mean, wanted - mean).mean()), torch.cat(ones)

    whole, ones = agreement([0, 1, 2])
    assert whole > 0.75
    assert abs(float(ones.mean()) - 1) < 0.05 and float(ones.std()) < 0.15

    def without_queries(model):
        for block in model.encoder.block:
            block.layer[0].SelfAttention.q.weight.zero_()

    def without_attention(model):
        for block in model.encoder.block:
            block.layer[0].SelfAttention.o.weight.zero_()

    assert agreement([0, 1, 2], without_queries)[0] < whole - 0.05
    assert agreement([0, 1, 2], without_attention)[0] < whole - 0.1
    assert agreement([0, 2])[0] < whole - 0.1  # each layer counts


def test_a_student_grows_by_layers_of_the_teacher(bert):
    words, theirs, ours = _tokenizers(60)
    rng = random.Random(0)
    texts = [" ".join(rng.choices(words, k=rng.randint(4, 16))) for _ in range(200)]

    def made(layers):
        torch.manual_seed(0)
        model = start.T5ForConditionalGeneration(start.student_config(bert.config, 3 + 60 + 100, len(layers), 1)).eval()
        start.copy_encoder(model, bert, theirs, ours, texts, layers)
        return model

    smaller = made([0, 2])
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in smaller.parameters():  # as training would change them
            weight += 0.02 * torch.randn_like(weight)
    ids = ours(texts[:1], return_tensors="pt").input_ids
    read = {"input_ids": ids, "decoder_input_ids": torch.tensor([[0]])}
    with torch.no_grad():
        wanted = smaller(**read).logits
        grown = {}
        for share in (0.0, 0.5):
            grown[share] = made([0, 1, 2])
            start.grow(grown[share], smaller, [0, 1, 2], [0, 2], share)
        torch.testing.assert_close(grown[0.0](**read).logits, wanted)
        assert not torch.allclose(grown[0.5](**read).logits, wanted, atol=1e-3)
    # The new layer is the teacher's, its heads in the order of the student's table of positions.
    new, theirs_q = grown[0.5].encoder.block[1].layer[0].SelfAttention.q.weight, made([0, 1, 2]).encoder.block[1]
    rows = {tuple(row.tolist()) for row in new}
    assert rows == {tuple(row.tolist()) for row in theirs_q.layer[0].SelfAttention.q.weight}


def test_heads_are_put_in_the_order_in_which_their_positions_agree():
    torch.manual_seed(0)
    first = torch.randn(4, 32)
    order = torch.tensor([2, 0, 3, 1])
    table, orders = start._shared_positions(torch.stack([first, first[order]]))
    assert torch.equal(first[orders[0]], first[order][orders[1]])
    assert torch.allclose(table.T, first[orders[0]])


def test_logits_of_a_distance_are_those_of_heads_that_look_there(bert):
    """A head whose query and key know positions alone: the largest bucket is that of the token before."""
    _, theirs, _ = _tokenizers(60)
    config = start.student_config(bert.config, 163, 3, 1)
    attention = bert.encoder.layer[0].attention.self
    places = bert.embeddings.position_embeddings.weight
    turn = torch.arange(len(places))[:, None] * torch.tensor([0.9, 0.4, 0.15])
    places[:, :6] = 30 * torch.cat([turn.cos(), turn.sin()], 1)
    for part in (attention.query, attention.key):
        part.weight.zero_()
        part.bias.zero_()
    bert.embeddings.LayerNorm.weight.fill_(1)
    bert.embeddings.LayerNorm.bias.zero_()
    attention.key.weight[:6, :6] = 0.3 * torch.eye(6)
    step = torch.tensor([0.9, 0.4, 0.15])
    attention.query.weight[:3, :3], attention.query.weight[3:6, 3:6] = torch.diag(step.cos()), torch.diag(step.cos())
    attention.query.weight[:3, 3:6], attention.query.weight[3:6, :3] = torch.diag(step.sin()), -torch.diag(step.sin())
    # Rows that all look alike but for their places.
    logits = start._positions(bert, theirs, ["ban " * 12] * 2, config)
    assert int(logits[0, 0].argmax()) == 1  # bucket 1: the key stands one before the query


def test_prompts_for_text_are_the_same_each_time_and_vary():
    writing = _module("write_text")
    prompts = [writing.prompt(n) for n in range(300)]
    assert prompts == [writing.prompt(n) for n in range(300)] and len(set(prompts)) > 290
    assert {form for form in writing.FORMS if any(form in p for p in prompts)} == set(writing.FORMS)
    assert all(len(examples) == 2 for examples in writing.FORMS.values())


@pytest.mark.parametrize(
    "text, ended, wanted",
    [
        (" One. Two.\nsubject: x", True, "One. Two."),
        ("One. Two and", False, "One."),
        ("It ends nowhere and", False, "It ends nowhere and"),
        ('"He came." Then', False, '"He came."'),
    ],
)
def test_a_text_that_was_cut_off_loses_its_torn_sentence(text, ended, wanted):
    assert _module("write_text")._tidy(text, ended) == wanted


@pytest.fixture(scope="module")
def with_words(bpe_source, tmp_path_factory):
    out = tmp_path_factory.mktemp("words")
    pretrain.build_tokenizer(
        bpe_source, out, 3 + 256 + 20 + 4 + 100, ["harbour", "naïve", "harbour", "Oslo", "NATO", "x"], 20
    )
    return out


def test_words_that_no_merge_makes_are_one_token_after_a_space(with_words):
    tokenizer = load_tokenizer(str(with_words))
    assert len(tokenizer) == 3 + 256 + 20 + 4 + 100
    for word in ("harbour", "Oslo", "NATO"):
        (token, _) = tokenizer(f" {word}").input_ids
        assert tokenizer.decode([token]) == f" {word}"
        assert len(tokenizer(word).input_ids) > 2 < len(tokenizer(f" {word}s").input_ids)  # in pieces, as before
    assert tokenizer("Oslo and Oslo").input_ids.count(tokenizer(" Oslo").input_ids[0]) == 1


def test_tokenizer_gives_any_text_back(with_words):
    tokenizer = load_tokenizer(str(with_words))
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
