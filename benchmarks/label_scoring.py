"""Rows a second of a student of labels: token by token with a callback, as before, and by the tree of labels.

    python benchmarks/label_scoring.py                         # 4, 77 and 500 labels, before and after training
    python benchmarks/label_scoring.py --labels 4 --rows 64

Measured in seconds of the processor, in one run, and each way answers all rows with the label and its energy. The
embedded student is trained on the rows for a few steps, since a student that is sure needs fewer nodes of the tree;
the lines "untrained" are the worst case.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from gold_lightning.losses import SymmetricCrossEntropy
from gold_lightning.notices import without_progress_bars
from gold_lightning.scores import EnergyScore, mean_over_tokens
from gold_lightning.t5.label_scoring import LabelTree, score_labels
from gold_lightning.t5.weights import load_model, load_tokenizer, target_text
from torch import Tensor

THINGS = "card,transfer,refund,cheque,statement,account,loan,exchange,deposit,withdrawal,payment,mortgage,pension"
TROUBLES = (
    "late,declined,expensive,pending,wrong,cancelled,limited,unknown,changed,new,twice,abroad,lost,stolen,slow,blocked,"
    "expired,missing,small,large,early,open,closed,shared,private,foreign,monthly,weekly,yearly,urgent,old,damaged,"
    "copied,signed,refused,reduced,doubled,frozen,joint"
)


def by_token(model, labels: Sequence[Sequence[int]], batch: dict[str, Tensor]) -> tuple[list[tuple[int, ...]], Tensor]:
    """Greedy decoding held to labels, and a second pass for the energies."""
    following: dict[tuple[int, ...], list[int]] = {}
    for label in labels:
        for i, token in enumerate(label):
            following.setdefault(tuple(label[:i]), []).append(token)
    out = model.generate(
        **batch,
        max_new_tokens=max(map(len, labels)),
        do_sample=False,
        prefix_allowed_tokens_fn=lambda _, written: following.get(tuple(written[1:].tolist()), [0]),
    )[:, 1:]
    ended = (out == 1).long()
    written = ended.cumsum(-1) - ended == 0
    tokens = out.masked_fill(~written, -100)
    logits = model(**batch, decoder_input_ids=model._shift_right(tokens)).logits
    energies = mean_over_tokens(EnergyScore().per_token(logits.float()), written)
    return [tuple(t for t in row if t != -100) for row in tokens.tolist()], energies


def by_tree(model, tree: LabelTree, labels, best_only: bool, batch) -> tuple[list[tuple[int, ...]], Tensor]:
    scores = score_labels(model, tree, batch, EnergyScore(), best_only=best_only)
    return [tuple(labels[i]) for i in scores.best.tolist()], scores.energies


def train(model, inputs: dict[str, Tensor], targets: Tensor, steps: int) -> None:
    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=1e-3), SymmetricCrossEntropy()
    rows = itertools.cycle(torch.randperm(len(targets), generator=torch.Generator().manual_seed(0)).split(16))
    model.train()
    for picked in itertools.islice(rows, steps):
        labels = targets[picked]
        batch = {name: tensor[picked] for name, tensor in inputs.items()}
        loss(model(**batch, decoder_input_ids=model._shift_right(labels)).logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@torch.no_grad()
def rate(answer: Callable, inputs: dict[str, Tensor], size: int = 32) -> tuple[float, list[tuple[int, ...]], Tensor]:
    answers, energies, started = [], [], time.process_time()
    for start in range(0, len(inputs["input_ids"]), size):
        texts, values = answer({name: tensor[start : start + size] for name, tensor in inputs.items()})
        answers += texts
        energies.append(values)
    return len(answers) / (time.process_time() - started), answers, torch.cat(energies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, nargs="+", default=[4, 77, 500])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60, help="of training")
    options = parser.parse_args()
    pairs = list(itertools.product(THINGS.split(","), TROUBLES.split(",")))
    for count in options.labels:
        with without_progress_bars():
            model, tokenizer = load_model("embedded").eval(), load_tokenizer("embedded")
        picked = pairs[:: max(1, len(pairs) // count)][:count]
        texts = [
            f"{i}. My {thing} is {trouble}."
            for i, (thing, trouble) in zip(range(options.rows), itertools.cycle(picked))
        ]
        names = [target_text(tokenizer, f"{thing}_{trouble}") for thing, trouble in picked]
        labels = [tokenizer(name).input_ids for name in names]
        tree = LabelTree(labels, 0)
        inputs = dict(tokenizer(texts, padding=True, return_tensors="pt"))
        target = tokenizer([names[i % count] for i in range(len(texts))], padding=True, return_tensors="pt")
        targets = target.input_ids.masked_fill(target.attention_mask == 0, -100)
        for state, steps in (("untrained", 0), ("trained", options.steps)):
            train(model, inputs, targets, steps)
            before, greedy, old = rate(partial(by_token, model, labels), inputs)
            after, best, new = rate(partial(by_tree, model, tree, labels, True), inputs)
            every, exact, _ = rate(partial(by_tree, model, tree, labels, False), inputs)
            assert best == exact
            same = torch.tensor([a == b for a, b in zip(greedy, best, strict=True)])
            apart = f"{float((old - new)[same].abs().max()):.1e}" if bool(same.any()) else "-"
            print(
                f"{count} labels ({tree.nodes} nodes), {state}: {before:.1f} rows a second of the processor before; "
                f"{after:.1f} best label ({after / before:.2f} times); {every:.1f} all probabilities "
                f"({every / before:.2f} times); other labels in {int((~same).sum())} of {len(same)} rows; "
                f"energies at most {apart} apart",
                flush=True,
            )


if __name__ == "__main__":
    main()
