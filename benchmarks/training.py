"""A round of training by this package and by transformers.Seq2SeqTrainer: the same samples, student and settings.

    python benchmarks/training.py                       # 1,024 samples, one pass, batches of 16, in float32
    python benchmarks/training.py --samples 256 --ways gold hf

Ways: ``gold``: T5Student and GoldDataModule's batches of about one length; ``gold-random``: a random order;
``hf``: Seq2SeqTrainer with its defaults, on samples tokenized beforehand; ``hf-grouped``: its own batches by length.
Each has a process of its own. Samples are made-up news of 5 to 60 words, a third of them at or under 18 words; seconds
are those of the processor, tokenizing and the trainer's own work included, loading and importing not. Accuracy is over
200 other samples. Needs the extra ``embedded``, which brings what Seq2SeqTrainer asks for.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from gold_lightning.data import GoldDataModule
from gold_lightning.losses import SymmetricCrossEntropy
from gold_lightning.notices import without_progress_bars
from gold_lightning.student import T5Student
from gold_lightning.t5.batch_order import training_order
from gold_lightning.t5.batches import EncodedSamples, make_loader
from gold_lightning.task import Sample

WAYS = ("gold", "gold-random", "hf", "hf-grouped")
_LR, _BATCH, _DECAY, _WARMUP = 5e-4, 16, 0.01, 0.1
_WORDS = {
    "World": "election embassy troops minister treaty border refugees parliament ceasefire summit",
    "Sports": "goal coach league striker tournament innings medal championship referee playoff",
    "Business": "shares profit merger bank stocks retailer earnings investors oil factory",
    "Sci/Tech": "software telescope chip browser satellite genome robot laboratory virus orbit",
}
_FILL = "the a of in on at said will has new after over for with from old long last first more people day week".split()


def news(count: int, seed: int) -> list[Sample]:
    """Items whose length has the spread of real ones, with two words of their label, and one of another."""
    rng = random.Random(seed)
    samples = []
    for i in range(count):
        label, other = rng.sample([*_WORDS], 2)
        length = max(5, min(60, round(rng.lognormvariate(3.1, 0.5))))
        words = (
            rng.choices(_FILL, k=length - 3)
            + rng.sample(_WORDS[label].split(), 2)
            + [rng.choice(_WORDS[other].split())]
        )
        rng.shuffle(words)
        samples.append(Sample({"text": " ".join(words).capitalize() + f" {i}."}, label))
    return samples


class Padding:
    """Counts tokens and padding of the batches that a model gets."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.tokens = self.places = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if model.training:
            self.tokens += int(kwargs["attention_mask"].sum())
            self.places += kwargs["attention_mask"].numel()


def with_lightning(student: T5Student, samples: list[Sample], window: int | None) -> None:
    from lightning.pytorch import Trainer

    encoded = EncodedSamples(student.task, student.tokenizer, samples)
    order = training_order(encoded.sizes, _BATCH, len(samples), "benchmark", window)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(student, make_loader(student.task, student.tokenizer, encoded, _BATCH, order))


def with_transformers(student: T5Student, samples: list[Sample], grouped: bool) -> None:
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

    encoded = EncodedSamples(student.task, student.tokenizer, samples)
    rows = [
        {k: v.tolist() for k, v in encoded.row(i).items() if k in ("input_ids", "labels")} for i in range(len(encoded))
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder, per_device_train_batch_size=_BATCH, num_train_epochs=1, learning_rate=_LR,
            weight_decay=_DECAY, warmup_steps=math.ceil(_WARMUP * len(rows) / _BATCH), lr_scheduler_type="linear",
            max_grad_norm=0.0, save_strategy="no", report_to=[], logging_strategy="no", disable_tqdm=True, use_cpu=True,
            seed=1, **({"train_sampling_strategy": "group_by_length"} if grouped else {}),
        )  # fmt: skip
        collator = DataCollatorForSeq2Seq(student.tokenizer, model=student.model, padding=True)
        Seq2SeqTrainer(model=student.model, args=arguments, train_dataset=rows, data_collator=collator).train()


def measure(way: str, count: int) -> dict[str, float]:
    torch.manual_seed(1)
    loss = SymmetricCrossEntropy(1.0, 0.0)  # that of Seq2SeqTrainer
    student = T5Student(
        GoldDataModule().task, "embedded", loss, lr=_LR, embedding_lr=0, weight_decay=_DECAY, warmup=_WARMUP
    )
    padding, samples = Padding(student.model), news(count, 0)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    if way.startswith("gold"):
        with_lightning(student, samples, 1 if way == "gold-random" else None)
    else:
        with_transformers(student, samples, way == "hf-grouped")
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    others = news(200, 1)
    predicted = student.predict([sample.text for sample in others])
    return {
        "rate": count / seconds,
        "padding": 1 - padding.tokens / padding.places,
        "memory": (peak - before) / 1000,
        "accuracy": sum(p == sample.target for p, sample in zip(predicted, others, strict=True)) / len(others),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)  # in this process, as JSON
    args = parser.parse_args()
    if args.one:
        with without_progress_bars():
            print(json.dumps(measure(args.one, args.samples)))
        return
    print("| way | samples a second | padding | memory above the loaded student, MB | accuracy |")
    print("|---|---:|---:|---:|---:|")
    for way in args.ways:
        command = [sys.executable, __file__, "--one", way, "--samples", str(args.samples)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        row = json.loads(output.splitlines()[-1])
        shown = f"{row['rate']:.1f} | {row['padding']:.1%} | {row['memory']:.0f} | {row['accuracy']:.3f}"
        print(f"| {way} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
