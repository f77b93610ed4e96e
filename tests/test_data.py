"""The data module's rounds and test rows, apart from a run."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from gold_lightning.data import GoldDataModule
from gold_lightning.evaluation.supervised import LabelledRounds
from gold_lightning.feedback import FeedbackPool
from gold_lightning.losses import IGNORE_INDEX
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.progress import Progress
from gold_lightning.synthesis import Synthesizer
from gold_lightning.t5.batches import make_loader
from gold_lightning.task import Sample, Task

from tests.fakes import NewsWriter


def test_test_rows_are_drawn_by_seed_without_replacement(tiny_student):
    drawn = {}
    for seed in (1, 1, 2):
        data = GoldDataModule(student=tiny_student, seed=seed)
        assert data.test_set.ids == list(range(240))
        data.test_set.draw(30)
        ids = data.test_set.ids
        assert ids == sorted(set(ids)) and len(ids) == 30 and drawn.setdefault(seed, ids) == ids
        assert sorted(torch.cat([batch["id"] for batch in data.test_dataloader()]).tolist()) == ids
    assert drawn[1] != drawn[2]
    for count in (None, 240, 1000):
        data.test_set.draw(count)
        assert data.test_set.ids == list(range(240))


def test_labelled_rounds_take_as_many_steps_as_the_runs_own(tiny_student):
    rows = [Sample({"text": str(i)}, "World") for i in range(7)]
    plan = SynthesisPlan(samples_per_round=5)
    for replay, sizes in (("all", [10, 20, 30]), ("last", [10, 10, 10])):
        data = GoldDataModule(student=tiny_student, plan=plan, batch_size=4, passes_per_round=2, replay=replay)
        rounds = LabelledRounds(data, rows)
        assert [rounds.steps(r) for r in range(3)] == [-(-n // 4) for n in sizes]
        for round_ in range(3):
            rounds.trainer = SimpleNamespace(current_epoch=round_)
            loader = rounds.train_dataloader()
            assert len(loader) == rounds.steps(round_)
            ids = torch.cat([batch["id"] for batch in loader]).tolist()
            assert len(ids) == sizes[round_]
            for at in range(0, len(ids) - 6, 7):  # every row once before any comes again
                assert sorted(ids[at : at + 7]) == list(range(7))
            assert ids[:7] != list(range(7))


@pytest.mark.slow
def test_several_processes_train_on_what_one_trains_on(tiny_student):
    samples = [Sample({"text": "x" * (7 * i % 23)}, "World") for i in range(23)]
    data = GoldDataModule(student=tiny_student, group_by_length=True)

    def training(rows, size, _):
        return data.loaders.training(samples[:rows], size, 2 * rows, "1/0/order")

    def evaluation(rows, size, shard):
        return data.loaders.evaluation(samples, size, range(rows), shard=shard)

    cases = itertools.product((training, evaluation), (1, 2, 5, 12, 23), (2, 3, 4), (1, 3, 8))
    for make, rows, processes, size in cases:
        loaders = []
        for rank in range(processes):
            data.trainer = SimpleNamespace(world_size=processes, global_rank=rank, is_global_zero=not rank)
            loaders.append([*make(rows, size, True)])
        data.trainer = None
        one = [batch["id"].tolist() for batch in make(rows, size * processes, False)]
        assert [len(batches) for batches in loaders] == [len(one)] * processes
        for step, wanted in enumerate(one):
            parts = [batches[step] for batches in loaders]
            counted = [
                i
                for part in parts
                for i, labels in zip(part["id"].tolist(), part["labels"], strict=True)
                if (labels != IGNORE_INDEX).any()
            ]
            assert sorted(counted) == sorted(wanted)


def test_one_process_alone_mends_a_round(tiny_student, tmp_path):
    made = Synthesizer(
        Task.load("news_topics"), NewsWriter(), tmp_path, SynthesisPlan(samples_per_round=8, probe_per_round=4), 1
    )
    made.train(0, FeedbackPool(), 0.0)
    path = tmp_path / "data" / "round_000" / "train.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for first in (False, True):
        data = GoldDataModule(student=tiny_student, run_dir=str(tmp_path))
        data.trainer = SimpleNamespace(world_size=2, is_global_zero=first)
        data.round = 1
        assert data.store(0).accepted("train") == data.store(0).accepted("train")
        same = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
        assert same != first and any(tmp_path.rglob("damaged*")) == first


def test_no_label_is_drawn_where_there_is_no_noise(tiny_student, monkeypatch):
    data, noisy = GoldDataModule(student=tiny_student), GoldDataModule(student=tiny_student, label_noise=1.0)
    assert noisy.noise.flips("r000-train-00000")

    def draw(*_):
        raise AssertionError("a generator of random numbers was made")

    monkeypatch.setattr("gold_lightning.noise.random.Random", draw)
    assert not data.noise.flips("r000-train-00000")


def test_padding_comes_after_a_text_whatever_the_tokenizer_prefers(tiny_student):
    data = GoldDataModule(student=tiny_student)
    rows = [Sample({"text": "a" * (9 * i + 1)}, label) for i, label in enumerate(("World", "Sci/Tech"))]
    (right,) = make_loader(data.task, data.tokenizer, rows, 2)
    data.tokenizer.padding_side = "left"
    (left,) = make_loader(data.task, data.tokenizer, rows, 2)
    assert all(torch.equal(right[key], left[key]) for key in ("input_ids", "attention_mask", "labels"))
    assert right["labels"][0, -1] == -100


def test_the_thread_that_reports_a_long_batch_writes_no_file(tiny_student):
    data, seen, noted = GoldDataModule(student=tiny_student), [], []
    data.watch, data.clock.note = seen.append, lambda: noted.append(len(seen))
    data.trainer = SimpleNamespace(is_global_zero=True)
    latest = Progress(0, "train", 0, 80, 0, 0, 0, 0.0)
    data._progress(latest)
    data._progress(replace(latest, waiting=60.0))
    assert (len(seen), noted) == (2, [1])
