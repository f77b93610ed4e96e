"""Batches: tokens of samples, tokenized once."""

import gc
import random
import tracemalloc
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from gold_lightning.data import GoldDataModule
from gold_lightning.storage.lazy import Mapped
from gold_lightning.t5 import batches
from gold_lightning.t5.batches import IGNORE_INDEX, EncodedSamples, make_loader
from gold_lightning.t5.weights import load_tokenizer
from gold_lightning.task import Sample, Task


class CountingTokenizer:
    """A tokenizer that counts how often it is given each text."""

    def __init__(self, tokenizer):
        self.tokenizer, self.texts = tokenizer, Counter()
        self.pad_token_id = tokenizer.pad_token_id

    def __call__(self, texts, **settings):
        self.texts.update(texts)
        return self.tokenizer(texts, **settings)

    def __len__(self):
        return len(self.tokenizer)

    def get_vocab(self):
        return self.tokenizer.get_vocab()

    def inputs(self):
        return {text: count for text, count in self.texts.items() if text.startswith("news topic: ")}


def news(rows, seed=0):
    """Texts with the spread of real ones, from a word to three sentences."""
    rng = random.Random(seed)
    labels = ("World", "Sports", "Business", "Sci/Tech")
    lengths = [max(1, min(60, round(rng.lognormvariate(3.2, 0.5)))) for _ in range(rows)]
    return [
        Sample({"text": " ".join(rng.choices("abcdefgh", k=n)) + f" {seed} {i}"}, rng.choice(labels))
        for i, n in enumerate(lengths)
    ]


@pytest.fixture
def data(tiny_student):
    data = GoldDataModule(student=tiny_student)
    data.tokenizer = data.loaders.tokenizer = CountingTokenizer(data.tokenizer)
    return data


def test_each_sample_is_tokenized_once_in_all_passes_and_rounds(data):
    first, second = news(40), news(40, seed=1)
    for samples in (first, first + second):
        ids = [i for batch in data.loaders.training(samples, 16, 3 * len(samples), "s") for i in batch["id"].tolist()]
        assert Counter(ids) == {i: 3 for i in range(len(samples))}
    assert len(data.tokenizer.inputs()) == 80 and set(data.tokenizer.inputs().values()) == {1}


def test_samples_that_do_not_begin_with_the_earlier_ones_are_encoded_anew(data):
    samples = news(6)
    earlier = EncodedSamples(data.task, data.tokenizer, samples)
    for others in (
        samples[1:],
        samples[:3],
        [*reversed(samples)],
        [Sample(samples[0].fields, "Other"), *samples[1:]],
        [],
    ):
        again, alone = (EncodedSamples(data.task, data.tokenizer, others, e) for e in (earlier, None))
        for i in range(len(others)):
            assert [again.row(i)[k].tolist() for k in ("input_ids", "labels")] == [
                alone.row(i)[k].tolist() for k in ("input_ids", "labels")
            ]
            assert again.row(i)["targets"] == others[i].targets


def test_of_samples_that_are_read_when_needed_token_ids_alone_are_held(monkeypatch):
    monkeypatch.setattr(batches, "TOKENIZED_TOGETHER", 32)
    task, tokenizer = Task.load("news_topics"), load_tokenizer("embedded")
    samples = Mapped(range(6_000), lambda i: Sample({"text": f"{i} " + "long " * 600}, task.label_names[i % 4]))
    EncodedSamples(task, tokenizer, samples[:64])  # what is made once
    tracemalloc.start()
    encoded = EncodedSamples(task, tokenizer, samples)
    gc.collect()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A text has 3 KB; its tokens, two bytes each, have half a kilobyte or less, and are never held twice.
    assert len(encoded) == 6_000 and held / 6_000 < 2 * task.student.max_input_tokens + 100
    assert peak < 1.25 * held + 500_000


def test_token_ids_of_a_large_vocabulary_are_held_as_they_are():
    class Large:
        pad_token_id = 0

        def __init__(self, size):
            self.size = size

        def __len__(self):
            return self.size

        def __call__(self, texts, **_):
            return SimpleNamespace(input_ids=[[1, self.size - 1] for _ in texts])

    for size, width in ((1 << 16, 2), ((1 << 16) + 1, 4), (250_112, 4)):
        rows = batches._TokenRows.encode(Large(size), ["a", "b"], 8)
        assert rows.ids.itemsize == width and [rows[i].tolist() for i in (0, 1)] == [[1, size - 1]] * 2
    assert len(batches._TokenRows.encode(Large(9), [], 8).ids) == 0


def test_under_a_twentieth_of_the_tokens_of_batches_is_padding(data):
    def padding(loader):
        made = [*loader]
        return 1 - sum(int(b["attention_mask"].sum()) for b in made) / sum(b["input_ids"].numel() for b in made)

    samples = news(2_000)
    assert padding(data.loaders.training(samples, 16, 4_000, "s")) > 0.25  # at random
    data.loaders.group_by_length = True
    assert padding(data.loaders.training(samples, 16, 4_000, "s")) < 0.05
    assert padding(data.loaders.evaluation(samples, 16)) < 0.05
    assert padding(make_loader(data.task, data.tokenizer, samples, 16)) > 0.25  # as they come


def test_rows_are_those_that_the_tokenizer_pads_itself():
    task, tokenizer = Task.load("news_topics"), load_tokenizer("embedded")
    samples = [*news(20), Sample({"text": "<pad> </s> " + "long " * 200}, "Sci/Tech"), Sample({"text": ""}, "World")]
    for batch in make_loader(task, tokenizer, samples, 8):
        of_batch = [samples[i] for i in batch["id"].tolist()]
        settings = {"padding": True, "truncation": True, "return_tensors": "pt"}
        inputs = tokenizer(
            [task.student_input(s) for s in of_batch], max_length=task.student.max_input_tokens, **settings
        )
        targets = tokenizer([f" {s.target}" for s in of_batch], max_length=task.student.max_target_tokens, **settings)
        assert torch.equal(batch["input_ids"], inputs.input_ids)
        assert torch.equal(batch["attention_mask"], inputs.attention_mask)
        assert torch.equal(batch["labels"], targets.input_ids.masked_fill(targets.attention_mask == 0, IGNORE_INDEX))
        assert batch["targets"] == [s.targets for s in of_batch]


def test_evaluation_begins_with_the_longest_rows_under_their_own_ids(data):
    samples = news(30)
    batches = [*data.loaders.evaluation(samples, 8, range(10, 30))]
    lengths = torch.cat([batch["attention_mask"].sum(1) for batch in batches]).tolist()
    assert sorted(torch.cat([batch["id"] for batch in batches]).tolist()) == list(range(10, 30))
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > lengths[-1]
    assert all(batch["targets"] == [samples[i].targets for i in batch["id"].tolist()] for batch in batches)
