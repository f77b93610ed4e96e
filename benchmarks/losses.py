"""Symmetric cross-entropy in one pass, against a float64 reference and against the textbook form.

python benchmarks/losses.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from gold_lightning.losses import SymmetricCrossEntropy
from torch import Tensor
from torch.nn import functional as F


def textbook(logits: Tensor, targets: Tensor, sigma: float = 0.1, lambda_: float = 1.0, clip: float = 1e-4) -> Tensor:
    """The definition, word for word: softmax, one-hot label clipped at 1e-4, both cross-entropies."""
    p = torch.softmax(logits, -1)
    q = F.one_hot(targets, logits.shape[-1]).to(logits.dtype)
    ce = -(q * torch.log_softmax(logits, -1)).sum(-1)
    rce = -(p * torch.log(q.clamp(min=clip))).sum(-1)
    return (sigma * ce + lambda_ * rce).mean()


FORMS = {
    "symmetric cross-entropy, one pass": SymmetricCrossEntropy(),
    "symmetric cross-entropy, textbook": textbook,
    "torch cross_entropy": lambda z, y: F.cross_entropy(z, y),
}


def data(rows: int, vocab: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return 3 * torch.randn(rows, vocab), torch.randint(vocab, (rows,))


def resident(kind: str) -> int:
    """Memory of this process in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(kind)))


def measure(name: str, rows: int, vocab: int) -> None:
    """In a process of its own, so that the peak is this form's alone."""
    logits, targets = data(rows, vocab)
    logits.requires_grad_()
    FORMS[name](logits[:2], targets[:2]).backward()  # loads whatever is loaded late
    logits.grad = None
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
    base = resident("VmHWM")
    FORMS[name](logits, targets).backward()
    peak = resident("VmHWM") - base
    times = []
    for _ in range(30):
        logits.grad = None
        started = time.perf_counter()
        FORMS[name](logits, targets).backward()
        times.append(time.perf_counter() - started)
    print(f"{name:<36} {1e3 * sorted(times)[len(times) // 2]:8.1f} ms {peak / 1024:8.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--vocab", type=int, default=32128)
    parser.add_argument("--one", help="measure one form in this process")
    args = parser.parse_args()
    if args.one:
        measure(args.one, args.rows, args.vocab)
        return
    logits, targets = data(args.rows, args.vocab)
    exact = logits.double().requires_grad_()
    reference = textbook(exact, targets)
    reference.backward()
    ours = logits.clone().requires_grad_()
    value = SymmetricCrossEntropy()(ours, targets)
    value.backward()
    error = (ours.grad.double() - exact.grad).abs().max()
    scale = exact.grad.abs().max()
    print(
        f"logits {args.rows} x {args.vocab}, float32 against float64: value off by {abs(value - reference):.1e} "
        f"of {reference:.4f}, gradient by at most {error:.1e} (largest {scale:.1e})"
    )
    print(f"{'forward and backward':<36} {'median':>11} {'peak over the logits':>12}")
    for name in FORMS:
        subprocess.run(
            [sys.executable, __file__, "--one", name, "--rows", str(args.rows), "--vocab", str(args.vocab)], check=True
        )


if __name__ == "__main__":
    main()
