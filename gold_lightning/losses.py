"""Losses that survive wrong labels, from one pass over the vocabulary.

Every loss here depends on the logits only through log p_y, the log-probability of the target token, and
(label smoothing) the mean logit. :func:`target_log_probs` gives log p_y and the log-sum-exp together: one
reduction forward, one softmax backward, no one-hot and no second tensor of the size of the logits but the
gradient itself. The energy of :mod:`gold_lightning.scores` is the same log-sum-exp.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchmetrics import Metric

from gold_lightning.errors import ConfigError

__all__ = [
    "IGNORE_INDEX",
    "CrossEntropy",
    "GeneralizedCrossEntropy",
    "LabelSmoothing",
    "RobustLoss",
    "RoundLoss",
    "SymmetricCrossEntropy",
    "target_log_probs",
]

IGNORE_INDEX = -100
"""Marks padding in targets, as everywhere in PyTorch and transformers."""
_NEVER = 2**62  # no step has this number


class _TargetLogProbs(torch.autograd.Function):
    """log p_y and logsumexp; d log p_y / dz = onehot(y) - p, d logsumexp / dz = p."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        lse = torch.logsumexp(wide, dim=-1)
        log_p = wide.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - lse
        ctx.save_for_backward(logits, targets, lse)
        return log_p, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_log_p: Tensor, grad_lse: Tensor) -> tuple[Tensor, None]:
        logits, targets, lse = ctx.saved_tensors
        wide = logits if logits.dtype == torch.float64 else logits.float()
        grad = wide.sub(lse.unsqueeze(-1)).exp_().mul_((grad_lse - grad_log_p).unsqueeze(-1))
        grad.scatter_add_(-1, targets.unsqueeze(-1), grad_log_p.unsqueeze(-1))
        return grad.to(logits.dtype), None


def target_log_probs(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target, and the log-sum-exp that it needed anyway.

    Args:
        logits: (..., vocab), any floating dtype; lower precision than float32 is widened inside.
        targets: (...), int64 in [0, vocab); positions to ignore may hold :data:`IGNORE_INDEX`.

    Returns:
        ``log_p`` (...) in nats, 0 where ignored, and ``lse`` (...), both float32 (float64 for float64).
    """
    ignored = targets == IGNORE_INDEX
    log_p, lse = _TargetLogProbs.apply(logits, targets.masked_fill(ignored, 0))  # type: ignore[no-untyped-call]
    return log_p.masked_fill(ignored, 0.0), lse


class RobustLoss(nn.Module, ABC):
    """Mean of :meth:`per_token` over the target tokens; padding never counts.

    A loss of one's own subclasses this and defines :meth:`per_token`.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            logits: (batch, target_len, vocab).
            targets: (batch, target_len), :data:`IGNORE_INDEX` on padding.

        Returns:
            Scalar; 0 when every position is padding.
        """
        counted = (targets != IGNORE_INDEX).to(torch.float32)
        loss = self.per_token(logits, targets)
        return (loss * counted).sum() / counted.sum().clamp(min=1.0)

    @abstractmethod
    def per_token(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each position, (batch, target_len); what it gives on padding is not used."""


class CrossEntropy(RobustLoss):
    """Plain cross-entropy, -log p_y."""

    def per_token(self, logits: Tensor, targets: Tensor) -> Tensor:
        return -target_log_probs(logits, targets)[0]


class SymmetricCrossEntropy(RobustLoss):
    r"""Symmetric cross-entropy, sigma * CE + lambda * RCE (Wang et al., ICCV 2019; GOLD, eq. 4).

    The reverse term swaps prediction and label: RCE = -sum_k p_k log q_k with the one-hot label q clipped
    at ``clip`` so that its logarithm is finite. Since log q_y = 0 and log q_k = log(clip) for every other
    token, it is ``-log(clip) * (1 - p_y)``: no one-hot is needed. The published code clips p at 1e-7 as
    well, which adds a near-constant of up to 0.03 at 32k tokens; that is left out here.

    Args:
        sigma: Weight of the cross-entropy, 0 or more.
        lambda_: Weight of the reverse cross-entropy, 0 or more.
        clip: Floor of the one-hot label, in (0, 1).
    """

    def __init__(self, sigma: float = 0.1, lambda_: float = 1.0, clip: float = 1e-4) -> None:
        super().__init__()
        for key, value in (("sigma", sigma), ("lambda_", lambda_)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"model.loss.{key}", value, "a finite number, 0 or more")
        if sigma == lambda_ == 0:
            raise ConfigError("model.loss.sigma", sigma, "more than 0 where lambda_ is 0")
        if not 0 < clip < 1:
            raise ConfigError("model.loss.clip", clip, "a number between 0 and 1")
        self.sigma, self.lambda_, self.log_clip = sigma, lambda_, math.log(clip)

    def per_token(self, logits: Tensor, targets: Tensor) -> Tensor:
        log_p, _ = target_log_probs(logits, targets)
        # -expm1(log p) is 1 - p without cancellation when p is close to 1.
        return -self.sigma * log_p + self.lambda_ * -self.log_clip * -torch.expm1(log_p)


class GeneralizedCrossEntropy(RobustLoss):
    """Generalised cross-entropy, (1 - p_y^q) / q (Zhang and Sabuncu, NeurIPS 2018, eq. 6).

    Args:
        q: In (0, 1]: towards 0 it is cross-entropy, at 1 the mean absolute error.
    """

    def __init__(self, q: float = 0.7) -> None:
        super().__init__()
        if not 0 < q <= 1:
            raise ConfigError("model.loss.q", q, "a number above 0, at most 1")
        self.q = q

    def per_token(self, logits: Tensor, targets: Tensor) -> Tensor:
        return -torch.expm1(self.q * target_log_probs(logits, targets)[0]) / self.q


class LabelSmoothing(RobustLoss):
    """Cross-entropy against (1 - epsilon) * one-hot + epsilon / vocab (Szegedy et al., CVPR 2016).

    Args:
        epsilon: Share of the mass that is spread, in [0, 1).
    """

    def __init__(self, epsilon: float = 0.1) -> None:
        super().__init__()
        if not 0 <= epsilon < 1:
            raise ConfigError("model.loss.epsilon", epsilon, "a number from 0 to below 1")
        self.epsilon = epsilon

    def per_token(self, logits: Tensor, targets: Tensor) -> Tensor:
        log_p, lse = target_log_probs(logits, targets)
        uniform = lse - logits.mean(-1, dtype=lse.dtype)
        return -(1 - self.epsilon) * log_p + self.epsilon * uniform


class RoundLoss(Metric):
    """Mean loss over all target tokens of a round's training steps, those whose loss is not finite left out.

    Nothing here waits for the device. torchmetrics' ``MeanMetric`` either does, or leaves out the weights.
    """

    full_state_update = False
    total: Tensor
    tokens: Tensor
    bad: Tensor
    first_bad: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("tokens", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("bad", default=torch.tensor(0), dist_reduce_fx="max")
        self.add_state("first_bad", default=torch.tensor(_NEVER), dist_reduce_fx="min")

    def update(self, loss: Tensor, tokens: Tensor, step: int) -> None:
        """Adds a step.

        Args:
            loss: Scalar, the mean over the step's target tokens.
            tokens: Scalar, how many there were.
            step: Number of the step within the round.
        """
        good = torch.isfinite(loss)
        self.total += torch.where(good, loss.float(), 0.0) * tokens
        self.tokens += torch.where(good, tokens, 0)
        self.bad += (~good).long()
        self.first_bad = torch.where(good, self.first_bad, self.first_bad.clamp(max=step))

    def compute(self) -> Tensor:
        """Scalar; nan without any step whose loss is finite."""
        return self.total / self.tokens

    def bad_steps(self, processes: int = 1) -> tuple[int, int]:
        """How many steps had a loss that is not finite, and the number of the first of them; waits for the device.

        Args:
            processes: With more than one, the most of any process; all of them have to ask.
        """
        found = torch.stack([self.bad, -self.first_bad])
        if processes > 1:
            torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
        bad, first = found.tolist()
        return bad, -first
