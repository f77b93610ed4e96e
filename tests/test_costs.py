"""Costs as counts, which tell on any machine when they grow.

Others are counted beside what they belong to: padding of batches and tokens of training samples in
``tests/t5/test_batches.py``, the order of batches in ``tests/t5/test_batch_order.py``, passes of the encoder and the
decoder over labels in ``tests/t5/test_label_scoring.py``, memory while predicting in ``tests/t5/test_inference.py``,
requests that are answered by stored completions in ``tests/storage/test_completions.py``.
"""

from __future__ import annotations

import functools
import gc
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from benchmarks.scale import Writer
from gold_lightning.callbacks import OODFeedback
from gold_lightning.checks import duplicates
from gold_lightning.data import GoldDataModule
from gold_lightning.feedback import FeedbackPool
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.scores import EnergyScore
from gold_lightning.storage import number_index, sample_rows
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.student import T5Student
from gold_lightning.t5 import label_scoring
from gold_lightning.task import Sample
from lightning.pytorch import Callback, Trainer

from tests.fakes import NewsWriter
from tests.synthesizers import FREE, TASK, make
from tests.t5.test_batches import CountingTokenizer
from tests.test_label_sets import task as label_sets_task

pytestmark = pytest.mark.integration

SETS = label_sets_task(many=True)
KINDS = ("train", "probe")
ROUNDS, TRAIN, PROBE, REFERENCE = 3, 16, 12, 8
PLAN = SynthesisPlan(samples_per_round=TRAIN, probe_per_round=PROBE, group_size=4, decontaminate="off")


class Passes:
    """Counts rows of the encoder and passes of the decoder of a student, by a phase that tests name."""

    def __init__(self, student):
        self.phase, self.encoded, self.decoded = "", Counter(), Counter()
        student.model.encoder.register_forward_pre_hook(self._encode, with_kwargs=True)
        student.model.decoder.register_forward_pre_hook(self._decode, with_kwargs=True)

    def _encode(self, module, args, kwargs):
        self.encoded[self.phase] += len(kwargs["input_ids"])

    def _decode(self, module, args, kwargs):
        self.decoded[self.phase] += len(kwargs["input_ids"])


class Phases(Callback):
    """Names the phases of a round; stands before the callback that scores."""

    def __init__(self, passes):
        self.passes = passes

    def on_train_batch_start(self, trainer, pl_module, *_):
        self.passes.phase = "train"

    def on_validation_start(self, trainer, pl_module):
        self.passes.phase = f"validate {trainer.datamodule.round}"

    def on_validation_epoch_end(self, trainer, pl_module):
        self.passes.phase = f"score {trainer.datamodule.round}"

    def on_validation_end(self, trainer, pl_module):
        self.passes.phase = ""


@pytest.fixture(scope="module", autouse=True)
def labels_at_once():
    """Trees of labels of bytes are computed in one pass, as those of word pieces are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_scoring, "_SMALL", 1_000)
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_student, labels_at_once):
    """A run of three rounds without junk, with what it asked, tokenized and computed."""
    folder, writer = tmp_path_factory.mktemp("run"), NewsWriter(junk=0.0, batch_size=8)
    data = GoldDataModule("news_topics", writer, PLAN, str(folder), tiny_student, passes_per_round=2)
    data.tokenizer = data.loaders.tokenizer = CountingTokenizer(data.tokenizer)
    student = T5Student("news_topics", tiny_student)
    passes = Passes(student)
    trainer = Trainer(
        max_epochs=ROUNDS, callbacks=[Phases(passes), OODFeedback(rate=0.5, reference_samples=REFERENCE)],
        default_root_dir=folder, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(student, datamodule=data)
    stores = [data.store(round_) for round_ in range(ROUNDS)]
    return SimpleNamespace(data=data, passes=passes, requests=len(writer.requests), stores=stores, folder=folder)


def test_each_row_is_encoded_once_by_validation_and_once_by_scoring(fitted):
    encoded, decoded = fitted.passes.encoded, fitted.passes.decoded
    for round_ in range(ROUNDS):
        watched = PROBE * (round_ + 1)  # probe sets of all rounds so far
        assert (encoded[f"validate {round_}"], encoded[f"score {round_}"]) == (watched, PROBE + REFERENCE)
        # All labels in one pass, and the target for its loss in another.
        assert (decoded[f"validate {round_}"], decoded[f"score {round_}"]) == (2 * watched, 2 * PROBE + REFERENCE)
    assert encoded["train"] == decoded["train"] == sum(2 * TRAIN * (round_ + 1) for round_ in range(ROUNDS))


@pytest.mark.parametrize("score", [None, EnergyScore()], ids=["alone", "with energies"])
@pytest.mark.parametrize("task", [TASK, SETS, FREE], ids=["labels", "sets", "text"])
def test_a_row_is_encoded_once_whatever_is_done_with_it(task, score, tiny_student):
    student = T5Student(task, tiny_student).eval()
    student.test_score, target = score, task.demos[0].target
    samples = [Sample({task.fields[0].name: f"A text about {i} things."}, target) for i in range(4)]
    (batch,) = GoldDataModule(task, student=tiny_student).loaders.evaluation(samples, 4)
    passes = Passes(student)
    steps = {
        "validate": lambda: student.validation_step(batch, 0),
        "evaluate": lambda: student.evaluate([batch]),
        "test": lambda: student.test_step(batch, 0),
        "predict": lambda: student.predict_step(batch, 0),
    }
    for passes.phase, step in steps.items():
        step()
    assert passes.encoded == dict.fromkeys(steps, 4)
    if task.many:  # a search, as far as it must
        return
    if task.labels:  # labels in one pass, and the target for the loss
        assert passes.decoded == {"validate": 8, "evaluate": 8, "test": 4, "predict": 4}
        return
    tokens = 4 * task.student.max_target_tokens  # a pass for each token at most, and one for a loss or an energy
    most = {"validate": tokens + 4, "evaluate": tokens + 4, "test": tokens + 4 * (score is not None)}
    assert all(0 < passes.decoded[phase] <= rows for phase, rows in (most | {"predict": tokens + 4}).items())


def test_texts_are_tokenized_once_for_each_use(fitted):
    counts = fitted.data.tokenizer.inputs()
    assert len(counts) == ROUNDS * (TRAIN + PROBE)
    for round_, store in enumerate(fitted.stores):
        train, probe = (
            Counter(counts[TASK.student_input(stored.sample)] for stored in store.accepted(kind))
            for kind in ("train", "probe")
        )
        # Once for all training, and once to count those that the student cuts; some are scored for comparison.
        assert train == {2: TRAIN - REFERENCE, 3: REFERENCE}
        # Scored once, counted once, and validated on in this round and all later ones.
        assert probe == {2 + ROUNDS - round_: PROBE}


def test_hardly_more_is_asked_than_accepted(fitted):
    accepted = sum(len(store.accepted(kind)) for store in fitted.stores for kind in KINDS)
    reasons = sum((store.rejects(kind) for store in fitted.stores for kind in KINDS), Counter())
    assert set(reasons) <= {"surplus"} and accepted == ROUNDS * (TRAIN + PROBE)
    assert accepted <= fitted.requests <= 1.1 * accepted


def test_a_prompt_is_written_once_and_by_its_hash_elsewhere(fitted):
    text = TASK.description.encode()
    assert b'"' not in text  # JSON writes it as it is
    for store in fitted.stores:
        prompts = [row["prompt"] for row in read_lines(store.folder / "prompts.jsonl")]
        assert len(set(prompts)) == len(prompts) > 0
        assert (store.folder / "prompts.jsonl").read_bytes().count(text) == len(prompts)
    others = [path for path in fitted.folder.rglob("*") if path.is_file() and path.name != "prompts.jsonl"]
    assert len(others) > 3 * ROUNDS and [path.name for path in others if text in path.read_bytes()] == []


def held() -> int:
    """Bytes in use, without the caches of this package, whose size is bounded."""
    modules = [vars(module) for name, module in sys.modules.items() if name.startswith("gold_lightning")]
    for cache in [value for names in modules for value in names.values()]:
        if isinstance(cache, functools._lru_cache_wrapper):
            cache.cache_clear()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_memory_grows_by_two_kilobytes_a_sample(tmp_path, monkeypatch):
    """What is bounded is made small, so that it is full before the first reading."""
    monkeypatch.setattr(number_index, "_NEWEST", 256)
    monkeypatch.setattr(duplicates, "_BLOCK", 64)
    monkeypatch.setattr(duplicates, "_BLOCKS", 1)
    monkeypatch.setattr(sample_rows, "_BLOCKS", 2)
    readings = {}

    def read(progress):
        if progress.accepted >= 300 * (len(readings) + 1) or progress.accepted == progress.quota:
            readings[progress.accepted] = held()

    # A prompt of 6 kB, so that a copy of it for each sample would double what a sample takes.
    task = replace(TASK, description=TASK.description + " More is said about it." * 250)
    plan = SynthesisPlan(900, 1, label_agreement="off", decontaminate="off", group_size=8)
    # First a small one, whose imports are not counted.
    make(tmp_path / "warm", Writer(), replace(plan, samples_per_round=60), task).train(0, FeedbackPool(), 0.0)
    tracemalloc.start()
    try:
        make(tmp_path, Writer(), plan, task, report=read).train(0, FeedbackPool(), 0.0)
    finally:
        tracemalloc.stop()
    (first, before), *_, (last, after) = sorted(readings.items())
    assert last - first >= 500 and (after - before) / (last - first) < 2_000
