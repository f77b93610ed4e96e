"""Losses that tolerate wrong labels.

Every loss here depends on the logits only through log p_y, the log-probability of the target token, and for label
smoothing the mean logit. :func:`target_log_probs` computes log p_y and the log-sum-exp together. Its backward pass
allocates one tensor of the size of the logits, the gradient itself, instead of the two or three of
``torch.nn.functional.cross_entropy``. The energy of :mod:`gold_lightning.scores` is the same log-sum-exp.

:class:`SoftTargets` alone depends on more: on the student's probability of each of the task's labels.

A loss of your own is a subclass of :class:`RobustLoss` with one method; name it in a config by ``class_path``.
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
    "SoftTargets",
    "SymmetricCrossEntropy",
    "loss_settings",
    "target_log_probs",
]

IGNORE_INDEX = -100
"""Marks padding in targets, as in PyTorch and transformers."""
_NEVER = 2**62  # larger than any step's number


class _TargetLogProbs(torch.autograd.Function):
    """log p_y and logsumexp, with d log p_y / dz = onehot(y) - p and d logsumexp / dz = p."""

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
    """Returns the log-probability of each target and the log-sum-exp of the logits.

    Args:
        logits: (..., vocab), any floating dtype; computed in float32 or wider.
        targets: (...), int64 in [0, vocab), or :data:`IGNORE_INDEX` on padding.

    Returns:
        ``log_p`` (...) in nats, 0 on padding, and ``lse`` (...); both float32, or float64 for float64 logits.

    Example:
        >>> log_p, lse = target_log_probs(torch.zeros(1, 3, 4), torch.tensor([[2, 0, IGNORE_INDEX]]))
        >>> log_p
        tensor([[-1.3863, -1.3863,  0.0000]])
        >>> lse
        tensor([[1.3863, 1.3863, 1.3863]])
    """
    ignored = targets == IGNORE_INDEX
    log_p, lse = _TargetLogProbs.apply(logits, targets.masked_fill(ignored, 0))  # type: ignore[no-untyped-call]
    return log_p.masked_fill(ignored, 0.0), lse


class RobustLoss(nn.Module, ABC):
    """Base of losses: the mean of :meth:`per_token` over all target tokens, without padding.

    Example:
        A loss of your own defines :meth:`per_token`. Saved as ``my_losses.py``, it is named in a config by
        ``model.loss.class_path: my_losses.AbsoluteError``.

        >>> class AbsoluteError(RobustLoss):
        ...     def per_token(self, logits, targets):
        ...         log_p, _ = target_log_probs(logits, targets)
        ...         return 1 - log_p.exp()
        >>> logits, targets = torch.zeros(1, 3, 4), torch.tensor([[2, 0, IGNORE_INDEX]])
        >>> AbsoluteError()(logits, targets)
        tensor(0.7500)
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of a batch.

        Args:
            logits: (batch, target_len, vocab).
            targets: (batch, target_len), :data:`IGNORE_INDEX` on padding.

        Returns:
            Scalar float32; 0 if every position is padding.
        """
        mask = (targets != IGNORE_INDEX).to(torch.float32)
        loss = self.per_token(logits, targets)
        return (loss * mask).sum() / mask.sum().clamp(min=1.0)

    @abstractmethod
    def per_token(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of each position.

        Args:
            logits: (batch, target_len, vocab).
            targets: (batch, target_len), :data:`IGNORE_INDEX` on padding.

        Returns:
            (batch, target_len); finite on padding, where it is not used.
        """


class CrossEntropy(RobustLoss):
    """Plain cross-entropy, -log p_y.

    Example:
        >>> CrossEntropy()(torch.zeros(1, 1, 4), torch.tensor([[2]]))
        tensor(1.3863)
    """

    def per_token(self, logits: Tensor, targets: Tensor) -> Tensor:
        return -target_log_probs(logits, targets)[0]


class SymmetricCrossEntropy(RobustLoss):
    r"""Symmetric cross-entropy, sigma * CE + lambda * RCE (Wang et al., ICCV 2019; GOLD, eq. 4).

    The reverse term swaps prediction and label: RCE = -sum_k p_k log q_k, with the one-hot label q clipped at ``clip``
    to keep its logarithm finite. As log q_y = 0 and log q_k = log(clip) for every other token, RCE equals
    ``-log(clip) * (1 - p_y)`` and needs no one-hot. Unlike the published code, this does not clip p at 1e-7, which adds
    a near-constant of up to 0.03 at 32k tokens.

    Args:
        sigma: Weight of the cross-entropy, 0 or more.
        lambda_: Weight of the reverse cross-entropy, 0 or more.
        clip: Floor of the one-hot label, in (0, 1).

    Raises:
        ConfigError: A weight is negative or not finite, both are 0, or ``clip`` is out of range.

    Example:
        At p_y = 1/4 the cross-entropy is 1.386 and the reverse one 6.908, three quarters of -log(1e-4).

        >>> SymmetricCrossEntropy(sigma=0.1, lambda_=1.0)(torch.zeros(1, 1, 4), torch.tensor([[2]]))
        tensor(7.0464)
    """

    def __init__(self, sigma: float = 0.1, lambda_: float = 1.0, clip: float = 1e-4) -> None:
        super().__init__()
        for key, value in (("sigma", sigma), ("lambda_", lambda_)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"model.loss.{key}", value, "a finite number, 0 or more")
        if sigma == lambda_ == 0:
            raise ConfigError("model.loss.sigma", sigma, "more than 0 if lambda_ is 0")
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
        q: Exponent in (0, 1]. The limit at 0 is the cross-entropy; 1 gives the absolute error.

    Raises:
        ConfigError: ``q`` is out of range.

    Example:
        >>> GeneralizedCrossEntropy(q=1.0)(torch.zeros(1, 1, 4), torch.tensor([[2]]))
        tensor(0.7500)
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
        epsilon: Share of the probability that is spread over the vocabulary, in [0, 1).

    Raises:
        ConfigError: ``epsilon`` is out of range.

    Example:
        >>> LabelSmoothing(epsilon=0.1)(torch.tensor([[[2.0, 0.0, 0.0, 0.0]]]), torch.tensor([[0]]))
        tensor(0.4908)
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


class SoftTargets(RobustLoss):
    r"""Divergence from the generator's probabilities of labels, mixed with a loss of the sample's own label.

    The loss of a batch is ``weight * KL(p || q) + (1 - weight) * hard``: the mean of the divergence over its rows, and
    that of ``hard`` over its target tokens. q is the student's exact probability of each label among all labels. p is
    what the generator's calibrated likelihoods say, as it is stored with each sample whose label was checked
    (``data.plan.label_agreement: measure`` or ``require``); p^(1 / temperature), scaled to sum 1. Unlike in Hinton et
    al. (2015), the temperature changes p alone: the student's own probabilities shall approach p.

    A row without stored probabilities has probability 1 for its label; KL(p || q) is then the cross-entropy over the
    labels. Losses of validation compare with labels, so they are those of ``hard``.

    Args:
        weight: Share of the divergence, in [0, 1].
        temperature: Temperature of the stored probabilities, above 0. Above 1 they become more even; toward 0 the
            likeliest label alone remains.
        hard: Loss of the sample's own label; a :class:`SymmetricCrossEntropy` by default.

    Raises:
        ConfigError: ``weight`` or ``temperature`` is out of range, or ``hard`` is itself such a mixture.

    Example:
        >>> loss = SoftTargets(weight=0.5, temperature=2.0)
        >>> loss.targets(torch.tensor([[0.9, 0.1]]))
        tensor([[0.7500, 0.2500]])
        >>> loss.divergence(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]))
        tensor([0.1308])
    """

    def __init__(self, weight: float = 0.5, temperature: float = 1.0, hard: RobustLoss | None = None) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ConfigError("model.loss.weight", weight, "a number from 0 to 1")
        if not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError("model.loss.temperature", temperature, "a finite number above 0")
        if isinstance(hard, SoftTargets):
            raise ConfigError("model.loss.hard", "SoftTargets", "a loss of the sample's label alone")
        self.weight, self.temperature, self.hard = weight, temperature, hard or SymmetricCrossEntropy()

    def per_token(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.hard.per_token(logits, targets)

    def targets(self, probabilities: Tensor) -> Tensor:
        """Returns the probabilities at the loss's temperature.

        Args:
            probabilities: (batch, labels), stored probabilities; each row sums to 1.
        """
        return torch.softmax(probabilities.log() / self.temperature, -1)

    def divergence(self, log_probs: Tensor, probabilities: Tensor) -> Tensor:
        """Returns KL(p || q) of each row, (batch,), in nats.

        Args:
            log_probs: (batch, labels), natural logarithm of the student's probability of each label, finite.
            probabilities: (batch, labels), stored probabilities; each row sums to 1.
        """
        targets = self.targets(probabilities)
        return (torch.xlogy(targets, targets) - targets * log_probs).sum(-1)


def loss_settings(loss: nn.Module) -> dict[str, Any]:
    """Returns the class of a loss and its plain values, and those of the losses that it is made of.

    Args:
        loss: The loss.

    Example:
        >>> loss_settings(SoftTargets(hard=CrossEntropy()))["hard"]
        {'class': 'gold_lightning.losses.CrossEntropy', 'training': True}
    """
    values = {k: v for k, v in vars(loss).items() if isinstance(v, bool | int | float | str)}
    parts = {name: loss_settings(part) for name, part in loss.named_children()}
    return {"class": f"{type(loss).__module__}.{type(loss).__qualname__}", **values, **parts}


class RoundLoss(Metric):
    """Mean loss over all target tokens of a round's training steps, without steps whose loss is not finite.

    Updates do not synchronise with the device. torchmetrics' ``MeanMetric`` does, or loses the weights of such steps.

    Example:
        >>> mean = RoundLoss()
        >>> for step, (loss, tokens) in enumerate([(2.0, 30), (float("nan"), 500), (1.0, 10)]):
        ...     mean.update(torch.tensor(loss), torch.tensor(tokens), step)
        >>> mean.compute()
        tensor(1.7500)
        >>> mean.bad_steps()
        (1, 1)
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
            tokens: Scalar, number of target tokens.
            step: Number of the step within the round.
        """
        finite = torch.isfinite(loss)
        self.total += torch.where(finite, loss.float(), 0.0) * tokens
        self.tokens += torch.where(finite, tokens, 0)
        self.bad += (~finite).long()
        self.first_bad = torch.where(finite, self.first_bad, self.first_bad.clamp(max=step))

    def compute(self) -> Tensor:
        """Returns the mean as a scalar; nan if no step had a finite loss."""
        return self.total / self.tokens

    def bad_steps(self, processes: int = 1) -> tuple[int, int]:
        """Counts the steps whose loss is not finite. Synchronises with the device.

        Args:
            processes: Number of processes. With more than one this is a collective call, which all must make.

        Returns:
            The number of such steps (the maximum over processes) and the number of the first one.
        """
        count_and_first = torch.stack([self.bad, -self.first_bad])
        if processes > 1:
            torch.distributed.all_reduce(count_and_first, op=torch.distributed.ReduceOp.MAX)
        count, negative_first = count_and_first.tolist()
        return count, -negative_first
