"""Whether the probe set lies further out than samples of ordinary prompts that the student has not seen either.

    python benchmarks/probe_check.py runs/experiments/prompts --task news_topics

For each run of one round, its student scores the samples that it learnt from (seen), its probe set, and the training
samples of the arm's other seeds (unseen): the same prompts, written anew. Each AUROC says how often energy ranks a
sample of the first kind above one of the second; 0.5 is not at all. The ``auroc`` of ``rounds.jsonl`` compares
probe with seen, so it is above 0.5 too where a student has learnt its training samples and the probe set is like them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path

import torch
from gold_lightning.data import GoldDataModule
from gold_lightning.evaluation.comparison import mean_interval
from gold_lightning.scores import EnergyScore, auroc
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import rounds_in
from gold_lightning.student import T5Student

PAIRS = (("probe", "seen"), ("unseen", "seen"), ("probe", "unseen"))


@torch.inference_mode()
def energies(student: T5Student, data: GoldDataModule, samples) -> list[float]:
    """Energy of each sample, of what the student itself writes."""
    batches = data.loaders.evaluation([s.sample for s in samples], data.eval_batch_size)
    return [energy for batch in batches for energy in student.score(batch, EnergyScore()).tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path, help="folder of an experiment whose runs have one round")
    parser.add_argument("--task", default="news_topics")
    given = parser.parse_args()
    arms: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in sorted((given.experiment / given.task).glob("*/experiment.json")):
        held = json.loads(path.read_text())
        if held["finished"] and rounds_in(path.parent) == [0]:
            arms[held["arm"]][held["seed"]] = path.parent
    arms = {arm: runs for arm, runs in arms.items() if len(runs) > 1}
    if not arms:
        parser.error(f"{given.experiment}: no arm has finished runs of one round with two seeds or more")
    for arm, runs in arms.items():
        stores = {seed: RoundStore(run, 0, read_only=True) for seed, run in runs.items()}
        found = defaultdict(list)
        for seed, run in runs.items():
            student = T5Student(given.task, str(run / "student")).eval()
            with tempfile.TemporaryDirectory() as folder:
                data = GoldDataModule(given.task, student=str(run / "student"), run_dir=folder)
                others = [s for other, store in stores.items() if other != seed for s in store.accepted("train")]
                scored = {
                    "seen": energies(student, data, stores[seed].accepted("train")),
                    "unseen": energies(student, data, others),
                    "probe": energies(student, data, stores[seed].accepted("probe")),
                }
            for pair in PAIRS:
                found[pair].append(auroc(low=scored[pair[1]], high=scored[pair[0]]))
        for first, second in PAIRS:
            mean, low, high = mean_interval(found[first, second])
            by_seed = ", ".join(f"{x:.2f}" for x in found[first, second])
            print(f"{arm}: AUROC of {first} against {second} {mean:.2f} ({low:.2f} to {high:.2f}; seeds {by_seed})")


if __name__ == "__main__":
    main()
