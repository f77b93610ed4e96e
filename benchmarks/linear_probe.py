"""A logistic regression on sentence vectors, fitted to the very samples that a run's student was trained on.

    python benchmarks/linear_probe.py runs/news_topics/quickstart test.jsonl --encoder FOLDER

It is the least that a student has to reach: whoever has the samples can have this classifier in a second. ``FOLDER``
holds a sentence encoder whose vectors are means of its last states, such as all-MiniLM-L6-v2. Prints the share of right
answers for three strengths of the penalty on weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from gold_lightning.doubtful import logistic_regression
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import rounds_in
from gold_lightning.task import Task

STRENGTHS = (0.3, 1.0, 3.0)


def mean_states(texts: Sequence[str], folder: Path, batch: int = 64) -> np.ndarray:
    """Returns the mean of the encoder's last states of each text, of length 1, (texts, width) float64."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = []
    with torch.inference_mode():
        for at in range(0, len(texts), batch):
            rows = list(texts[at : at + batch])
            tokens = tokenizer(rows, padding=True, truncation=True, max_length=128, return_tensors="pt")
            mask = tokens.attention_mask[..., None]
            mean = (model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
            vectors.append(torch.nn.functional.normalize(mean, dim=-1))
    return torch.cat(vectors).double().numpy()


def scores(samples: np.ndarray, labels: Sequence[str], rows: np.ndarray, targets: Sequence[str]) -> dict[float, float]:
    """Returns the share of right answers by strength.

    Args:
        samples: Vectors of the samples, (samples, width).
        labels: Their labels.
        rows: Vectors of the test rows, (rows, width).
        targets: Their labels.
    """
    names = sorted(set(labels))
    numbers = np.array([names.index(label) for label in labels])
    right = {}
    for strength in STRENGTHS:
        predicted = logistic_regression(samples, numbers, len(names), strength)(rows).argmax(1)
        right[strength] = float(np.mean([names[i] == target for i, target in zip(predicted, targets, strict=True)]))
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("test", type=Path, help="JSON Lines of labelled rows, with the columns of the task")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of a sentence encoder")
    parser.add_argument("--task", help="task file or name; the run's own by default")
    parser.add_argument("--target", help="column of the label in the test rows; the task's target by default")
    given = parser.parse_args()
    settings = yaml.safe_load((given.run / "config.yaml").read_text(encoding="utf-8"))
    task = Task.load(given.task or settings["data"]["task"])
    stores = [RoundStore(given.run, number, read_only=True) for number in rounds_in(given.run)]
    samples = [stored.sample for store in stores for stored in store.accepted("train")]
    rows = read_lines(given.test)
    column = given.target or task.target.name
    texts = [" ".join(sample.fields.values()) for sample in samples]
    texts += [" ".join(row[field.name] for field in task.fields) for row in rows]
    vectors = mean_states(texts, given.encoder)
    by_strength = scores(
        *(vectors[: len(samples)], [sample.target for sample in samples]),
        *(vectors[len(samples) :], [row[column] for row in rows]),
    )
    for strength, share in by_strength.items():
        print(f"C {strength}: {share:.1%} of {len(rows):,} rows, from {len(samples):,} samples")


if __name__ == "__main__":
    main()
