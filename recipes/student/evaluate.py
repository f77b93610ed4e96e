"""Does the pre-trained start help? Fine-tunes one shape from three starts on four tasks and prints the table.

    python recipes/student/evaluate.py --student gold_lightning/assets/student --news RUN --data data --out table.jsonl

Starts: ``random`` (the shape of the student, T5's own random weights), ``generator`` (the same, but each token's
embedding is the mean of the embedded generator's of the same text, projected to the width), ``pretrained``. Steps,
batches, seeds and learning rate are the same for all three. ``--leave embeddings`` trains all but the embeddings,
``--leave encoder`` the decoder alone. Data: the samples that a quickstart RUN made, tested on the
task's hand-written items; SVAMP's train and test; MRPC's test file for training and its validation file for testing;
ANLI's dev_r1 for training and test_r1 for testing. What is trained here is thrown away. A second call goes on where the
first one stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import operator
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gold_lightning
import torch
from gold_lightning.generators.embedded import embedded_folder
from gold_lightning.losses import CrossEntropy
from gold_lightning.t5.weights import load_model, load_tokenizer, target_text
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, T5ForConditionalGeneration

Pair = tuple[str, str]
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Weights that are left as they are.
_LEFT = {"nothing": (), "embeddings": ("shared",), "encoder": ("shared", "encoder")}


@dataclass(frozen=True)
class Trial:
    """Rows and limits of one task."""

    train: list[Pair]
    test: list[Pair]
    steps: int
    max_input: int
    max_target: int


def _jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def trials(news: Path, data: Path, real: Path | None = None) -> dict[str, Trial]:
    """The four tasks, and news tested on real items where there are any."""
    made = [row for part in sorted((news / "data").glob("round_*/train.jsonl")) for row in _jsonl(part)]
    hand = _jsonl(Path(gold_lightning.__file__).parent / "tasks" / "news_topics.test.jsonl")
    mrpc, nli = ("different", "equivalent"), ("entailment", "neutral", "contradiction")

    def svamp(row: dict) -> Pair:
        return f"equation: {row['Body']} {row['Question']}", row["Equation"]

    def pair(row: dict) -> Pair:
        return f"mrpc sentence1: {row['sentence1']} sentence2: {row['sentence2']}", mrpc[row["label"]]

    def anli(row: dict) -> Pair:
        return f"anli hypothesis: {row['hypothesis']} premise: {row['premise']}", nli[row["label"]]

    def files(name: str, train: str, test: str, made: Callable[[dict], Pair]) -> tuple[list[Pair], list[Pair]]:
        return [made(r) for r in _jsonl(data / name / train)], [made(r) for r in _jsonl(data / name / test)]

    news_rows = (
        [("news topic: " + r["fields"]["text"], r["target"]) for r in made],
        [("news topic: " + r["text"], r["topic"]) for r in hand],
    )
    items = [("news topic: " + r["text"], r["topic"]) for r in _jsonl(real)] if real else []
    return {
        "news": Trial(*news_rows, 150, 72, 8),
        **({"real_news": Trial(news_rows[0], items, 150, 72, 8)} if real else {}),
        "svamp": Trial(*files("svamp", "train.jsonl", "test.jsonl", svamp), 250, 96, 24),
        "mrpc": Trial(*files("mrpc", "test.jsonl", "validation.jsonl", pair), 150, 96, 6),
        "anli": Trial(*files("anli", "dev_r1.jsonl", "test_r1.jsonl", anli), 120, 128, 6),
    }


def begin(start: str, student: Path, seed: int) -> PreTrainedModel:
    """The model of one start; its random part drawn from the seed."""
    if start == "pretrained":
        return load_model(str(student))
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(AutoConfig.from_pretrained(student))
    if start == "generator":
        source, own = embedded_folder(), load_tokenizer(str(student))
        theirs = load_tokenizer(str(source))
        texts = {i: own.decode([i]) for token, i in own.get_vocab().items() if token not in own.all_special_tokens}
        found = {i: theirs(t, add_special_tokens=False).input_ids for i, t in texts.items() if "\ufffd" not in t}
        ids = {i: pieces for i, pieces in found.items() if pieces}
        with safe_open(source / "model.safetensors", "pt") as file:
            table = file.get_tensor("model.embed_tokens.weight").float()
        rows = torch.stack([table[pieces].mean(0) for pieces in ids.values()])
        rows = rows - rows.mean(0)
        _, _, axes = torch.linalg.svd(rows, full_matrices=False)
        rows = rows @ axes[: model.config.d_model].T
        with torch.no_grad():
            model.shared.weight[list(ids)] = rows / rows.std()
    return model


def fine_tune(model: PreTrainedModel, folder: Path, trial: Trial, lr: float, seed: int, left: str) -> list[str]:
    """Trains with cross-entropy, batches of 16, warm-up and linear decay; gives the greedy predictions."""
    tokenizer, luck, loss = load_tokenizer(str(folder)), random.Random(seed), CrossEntropy()
    for name, weight in model.to(_DEVICE).train().named_parameters():
        weight.requires_grad_(not name.startswith(_LEFT[left]))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.01, fused=True)
    order: list[int] = []
    for step in range(trial.steps):
        if len(order) < 16:
            order = luck.sample(range(len(trial.train)), len(trial.train))
        rows, order = [trial.train[i] for i in order[:16]], order[16:]
        read = _read(tokenizer, [r[0] for r in rows], trial.max_input)
        labels: Tensor = _read(tokenizer, [target_text(tokenizer, r[1]) for r in rows], trial.max_target)["input_ids"]
        labels = labels.masked_fill(labels == 0, -100)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / math.ceil(0.1 * trial.steps)) * (1 - step / trial.steps)
        with _half():
            logits = model(**read, labels=labels).logits
        loss(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    written: list[str] = []
    model.eval()
    for at in range(0, len(trial.test), 64):
        read = _read(tokenizer, [r[0] for r in trial.test[at : at + 64]], trial.max_input)
        with torch.inference_mode(), _half():
            out = model.generate(**read, max_new_tokens=trial.max_target, do_sample=False)
        written += [text.strip() for text in tokenizer.batch_decode(out, skip_special_tokens=True)]
    return written


def _half() -> torch.autocast:
    """bfloat16 where it is safe, which GPUs and some processors multiply several times faster."""
    fast = _DEVICE == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(_DEVICE, torch.bfloat16, enabled=fast)


def _read(tokenizer, texts: list[str], limit: int) -> dict[str, Tensor]:
    read = tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    return {"input_ids": read.input_ids.to(_DEVICE), "attention_mask": read.attention_mask.to(_DEVICE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--news", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--real", type=Path, help="real news, JSON Lines of text and topic, to test on")
    parser.add_argument("--tasks", nargs="+", default=["news", "real_news", "svamp", "mrpc", "anli"])
    parser.add_argument("--starts", nargs="+", default=["random", "generator", "pretrained"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument(
        "--leave", nargs="+", choices=list(_LEFT), default=["nothing"], help="what of the weights is not trained"
    )
    args = parser.parse_args()
    done = [{"left": "nothing", **row} for row in _jsonl(args.out)] if args.out.exists() else []
    every = trials(args.news, args.data, args.real)
    for seed in args.seeds:  # first, so that a run that is cut off has all tasks
        for name, trial in every.items():
            for start, left in itertools.product(args.starts, args.leave):
                key = {"task": name, "start": start, "seed": seed, "lr": args.lr, "left": left}
                if name not in args.tasks or any(all(row[k] == v for k, v in key.items()) for row in done):
                    continue
                began = time.perf_counter()
                written = fine_tune(begin(start, args.student, seed), args.student, trial, args.lr, seed, left)
                right = [float(p == t) for p, (_, t) in zip(written, trial.test, strict=True)]
                row = {**key, "steps": trial.steps, "right": right, "seconds": round(time.perf_counter() - began, 1)}
                done.append(row)
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(name, start, left, seed, f"{sum(right) / len(right):.3f}", f"{row['seconds']} s", flush=True)
    print(table(done))


def table(rows: list[dict]) -> str:
    """Mean over seeds, with a 95 % bootstrap interval over the test rows of all seeds."""
    lines = ["| task | n | start | left as it is | lr | seeds | exact match | 95 % interval |", f"|{'---|' * 8}"]
    of = operator.itemgetter("task", "start", "left", "lr")
    for name, start, left, lr in dict.fromkeys(of(r) for r in rows):
        runs = [r["right"] for r in rows if of(r) == (name, start, left, lr)]
        means = torch.tensor(runs).mean(0)  # rows are resampled, each with all its seeds
        low, high = _interval(means)
        told = f"| {name} | {len(means)} | {start} | {left} | {lr:g} | {len(runs)} "
        lines.append(f"{told}| {means.mean():.1%} | {low:.1%} to {high:.1%} |")
    return "\n".join(lines)


def _interval(values: Tensor, draws: int = 2000) -> tuple[float, float]:
    luck = torch.Generator().manual_seed(0)
    drawn = values[torch.randint(len(values), (draws, len(values)), generator=luck)].mean(1)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975]))
    return float(low), float(high)


if __name__ == "__main__":
    main()
