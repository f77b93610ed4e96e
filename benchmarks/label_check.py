"""Whether what the arms of an experiment had written is what it was asked to be: labels, and variety.

    python benchmarks/label_check.py runs/experiments/feedback --task news_topics --rows real.csv

Labels are held against a logistic regression that never saw a sample: it is trained on labelled rows of one's own,
on the mean of the embedded student's states as it is shipped. It errs too; how often it does on the rows is told
(five folds). So a share says little by itself, and the differences between arms more.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import torch
from gold_lightning.evaluation.comparison import compare_arms, result_lines
from gold_lightning.labelled import load_rows
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import rounds_in
from gold_lightning.t5.weights import load_model, load_tokenizer
from gold_lightning.task import Task
from gold_lightning.watching.diversity import distinct_n
from torch import Tensor

MEASURES = {
    "all": "training samples whose label holds",
    "feedback": "of those from prompts with feedback",
    "plain": "of those from prompts of later rounds without it",
    "fed_back": "probe samples fed back whose label holds",
    "distinct": "distinct words over all words of the training samples",
}


class Reader:
    """Vectors of samples: the mean of the encoder's states over the tokens, (samples, d_model) float32."""

    def __init__(self, task):
        self.task, self.tokenizer = task, load_tokenizer("embedded")
        self.encoder = load_model("embedded").get_encoder().eval()

    @torch.inference_mode()
    def __call__(self, samples, batch_size=64):
        texts = [self.task.student_input(sample) for sample in samples]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = [torch.empty(0)] * len(texts)
        for at in range(0, len(order), batch_size):
            of = order[at : at + batch_size]
            batch = self.tokenizer([texts[i] for i in of], padding=True, truncation=True, max_length=256)
            ids, mask = (torch.tensor(batch[name]) for name in ("input_ids", "attention_mask"))
            states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
            for i, vector in zip(of, states.sum(1) / mask.sum(1, keepdim=True), strict=True):
                found[i] = vector
        return torch.stack(found).clone()


class Check:
    """Multinomial logistic regression on standardised vectors, L2 penalty ``1 / (2 c)`` beside the summed loss."""

    def __init__(self, vectors: Tensor, labels: Tensor, classes: int, c: float = 0.1) -> None:
        self.mean, self.scale = vectors.mean(0), vectors.std()
        self.weight = torch.zeros(classes, vectors.shape[1] + 1, requires_grad=True)
        optimizer = torch.optim.LBFGS([self.weight], max_iter=300, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(self._logits(vectors), labels, reduction="sum")
            loss = loss + (self.weight[:, :-1] ** 2).sum() / (2 * c)
            loss.backward()
            return loss

        optimizer.step(closure)

    def _logits(self, vectors: Tensor) -> Tensor:
        return (vectors - self.mean) / self.scale @ self.weight[:, :-1].T + self.weight[:, -1]

    @torch.no_grad()
    def __call__(self, vectors: Tensor) -> Tensor:
        return self._logits(vectors).argmax(-1)


def folds(vectors: Tensor, labels: Tensor, classes: int, count: int = 5) -> float:
    """Share of the rows that a check trained on the others gets right."""
    fold = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)) % count
    right = 0
    for i in range(count):
        check = Check(vectors[fold != i], labels[fold != i], classes)
        right += int((check(vectors[fold == i]) == labels[fold == i]).sum())
    return right / len(labels)


def measure(run: Path, check: Check, read: Reader, labels: list[str]) -> dict[str, float]:
    """What :data:`MEASURES` names, of a run; without what there is none of."""
    rounds = rounds_in(run)
    train = [(r, s) for r in rounds for s in RoundStore(run, r, read_only=True).accepted("train")]
    probe = [s for r in rounds for s in RoundStore(run, r, read_only=True).accepted("probe")]
    fed = {i for row in read_lines(run / "rounds.jsonl")[:-1] for i in row["fed_back"]}

    def holds(stored):
        wanted = torch.tensor([labels.index(s.sample.target) for s in stored])
        return (check(read([s.sample for s in stored])) == wanted).float().mean().item() if stored else None

    texts = [" ".join(s.sample.fields.values()) for _, s in train]
    found = {
        "all": holds([s for _, s in train]),
        "feedback": holds([s for _, s in train if s.feedback]),
        "plain": holds([s for r, s in train if r and not s.feedback]),
        "fed_back": holds([s for s in probe if s.id in fed]),
        "distinct": distinct_n(texts, 1),
    }
    return {name: value for name, value in found.items() if value is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path, help="folder of an experiment")
    parser.add_argument("--task", default="news_topics")
    parser.add_argument("--rows", type=Path, required=True, help="labelled rows to train the check on")
    parser.add_argument("--first", default="none", help="the arm that others are compared with")
    given = parser.parse_args()
    task = Task.load(given.task)
    labels, read = list(task.label_names), Reader(task)
    rows = load_rows(task, given.rows)
    vectors, wanted = read(rows), torch.tensor([labels.index(row.target) for row in rows])
    check = Check(vectors, wanted, len(labels))
    print(f"the check, trained on {len(rows)} rows, is right on {folds(vectors, wanted, len(labels)):.1%} of others")
    results = defaultdict(list)
    for path in sorted((given.experiment / task.name).glob("*/experiment.json")):
        held = json.loads(path.read_text())
        if not held["finished"]:
            continue
        found = measure(path.parent, check, read, labels)
        for name, value in found.items():
            at = {"arm": held["arm"], "seed": held["seed"], "samples": held["result"]["samples"]}
            results[name].append(at | {"metrics": {name: value}})
    for name, text in MEASURES.items():
        arms = sorted({row["arm"] for row in results[name]}, key=lambda arm: (arm != given.first, arm))
        if arms:
            print(
                *list(result_lines("", text, compare_arms(arms, results[name], name), len(results[name])))[
                    : len(arms) + 1
                ],
                sep="\n",
            )


if __name__ == "__main__":
    main()
