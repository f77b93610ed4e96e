"""What the label check of the embedded generator takes, by number of labels.

    python -m benchmarks.many_labels                     # 64 texts, 4 to 150 labels
    python -m benchmarks.many_labels --labels 77 --round # a round of the quickstart's settings, two samples a label

Each number of labels has a process of its own, so that memory is its peak and not that of the one before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

from gold_lightning.errors import GoldError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import EmbeddedGenerator
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.questions import agreement_request
from gold_lightning.synthesis import Synthesizer
from tests.fakes import bank_task, subjects_task

TASKS = {"bank": bank_task, "subjects": subjects_task}


def check(labels: int, texts: int) -> str:
    """Times the likelihoods of all labels for texts that differ in length."""
    task, generator = bank_task(labels), EmbeddedGenerator(batch_size=128)
    fields = [{"message": f"{i}. " + task.demos[i % labels].fields["message"][: 40 + i % 60]} for i in range(texts)]
    requests = [agreement_request(task, f, task.demos) for f in fields]
    generator.load()
    wall, cpu = time.perf_counter(), time.process_time()
    made = generator.generate(requests)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    prompt = max(c.prompt_tokens for c in made)
    return f"{texts} texts, prompts of up to {prompt:,} tokens: {wall:.1f} s, {cpu:.1f} s of CPU"


def whole_round(labels: int, samples: int, task: str = "subjects") -> str:
    """Times a round of the quickstart's settings."""
    plan = SynthesisPlan(samples * labels, labels, group_size=16, min_requests_per_batch=16, label_agreement="require")
    with tempfile.TemporaryDirectory() as folder:
        made = Synthesizer(TASKS[task](labels), EmbeddedGenerator(batch_size=128), Path(folder), plan, seed=1)
        made.generator.load()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            made.train(0, FeedbackPool(), 0.0)
            made.probe(0)
            ended = "whole"
        except GoldError as e:
            ended = str(e)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        store = made.store(0)
        rejects = sum((store.rejects(kind) for kind in ("train", "probe")), Counter())
        counts = ", ".join(
            f"{len(store.accepted(kind))} {kind} of {sum(b.requested for b in store.batches(kind))}"
            for kind in ("train", "probe")
        )
    return f"{counts}; {wall:.0f} s, {cpu:.0f} s of CPU; rejects {dict(rejects.most_common())}; {ended}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, nargs="+", default=[4, 20, 77, 150])
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--round", action="store_true", help="a whole round in place of one batch of checks")
    parser.add_argument("--samples", type=int, default=2, help="training samples of a label in the round")
    parser.add_argument("--task", choices=TASKS, default="subjects", help="of the round")
    given = parser.parse_args()
    for labels in given.labels:
        work = (whole_round, labels, given.samples, given.task) if given.round else (check, labels, given.texts)
        # Spawned: a process keeps its peak of memory, and a fork begins with its parent's.
        process = multiprocessing.get_context("spawn").Process(target=_tell, args=work)
        process.start()
        process.join()


def _tell(work, *sizes):
    told = work(*sizes)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{sizes[0]} labels: {told}; {memory:.1f} GB", flush=True)


if __name__ == "__main__":
    main()
