"""Metrics over decoded text, by name.

States are gathered by torchmetrics, and rows that a distributed sampler padded in are dropped by id, so one
process and many give the same number.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_f1_score

from gold_lightning.errors import ConfigError

__all__ = ["METRICS", "Accuracy", "MacroF1", "TextMetric", "bootstrap_interval", "make_metric"]


class TextMetric(Metric):
    """A metric over (prediction, target) texts. Subclasses give numbers a row and reduce them.

    Args:
        labels: Names of the task's labels; empty for a sequence-to-sequence task.
    """

    full_state_update = False
    ids: list[Tensor]
    values: list[Tensor]

    def __init__(self, labels: Sequence[str] = ()) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.add_state("ids", default=[], dist_reduce_fx="cat")
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, predictions: Sequence[str], targets: Sequence[str], ids: Tensor) -> None:
        """Adds a batch.

        Args:
            predictions: What the student wrote.
            targets: What it should have written.
            ids: (batch,) int64, unique for each row of the data set.
        """
        rows = [self.row(p, t) for p, t in zip(predictions, targets, strict=True)]
        self.ids.append(ids.to(self.device))
        self.values.append(torch.tensor(rows, dtype=torch.float64, device=self.device))

    def compute(self) -> Tensor:
        """The metric over all rows, each counted once; nan without rows."""
        if isinstance(self.ids, list) and not self.ids:
            return torch.tensor(float("nan"))
        ids, values = (torch.cat(x) if isinstance(x, list) else x for x in (self.ids, self.values))
        if not len(ids):
            return torch.tensor(float("nan"))
        _, first = torch.unique(ids, return_inverse=True)
        order = torch.argsort(first, stable=True)
        kept = order[torch.cat([torch.ones(1, dtype=torch.bool, device=order.device), first[order].diff() > 0])]
        return self.reduce(values[kept]).float()

    @abstractmethod
    def row(self, prediction: str, target: str) -> list[float]:
        """The numbers of one row, as many for each."""

    def reduce(self, values: Tensor) -> Tensor:
        """(rows, numbers) float64 -> scalar; the mean by default."""
        return values.mean()


class Accuracy(TextMetric):
    """Share of the rows whose prediction is the target, spaces at the ends aside."""

    def row(self, prediction: str, target: str) -> list[float]:
        return [float(prediction.strip() == target.strip())]


class MacroF1(TextMetric):
    """Unweighted mean of the labels' F1. A prediction that is no label counts against the true label's recall."""

    def __init__(self, labels: Sequence[str] = ()) -> None:
        if not labels:
            raise ConfigError("metrics", "macro_f1", "another metric for a task without labels")
        super().__init__(labels)

    def row(self, prediction: str, target: str) -> list[float]:
        position = {name: i for i, name in enumerate(self.labels)}
        return [position.get(prediction.strip(), len(self.labels)), position.get(target.strip(), len(self.labels))]

    def reduce(self, values: Tensor) -> Tensor:
        predicted, true = values.long().T
        classes = len(self.labels) + 1  # the last one holds predictions that are no label
        scores = multiclass_f1_score(predicted, true, num_classes=classes, average="none")
        return scores[:-1].mean()


METRICS: dict[str, type[TextMetric]] = {"accuracy": Accuracy, "exact_match": Accuracy, "macro_f1": MacroF1}
"""Metrics by the name that task files use. ``exact_match`` compares the strings as they are."""


def make_metric(name: str, labels: Sequence[str]) -> TextMetric:
    """The metric of that name.

    Raises:
        ConfigError: There is none, or it does not fit the task.
    """
    if name not in METRICS:
        raise ConfigError("metrics", name, f"one of {', '.join(METRICS)}")
    return METRICS[name](labels)


def bootstrap_interval(
    metric: TextMetric, predictions: Sequence[str], targets: Sequence[str], draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of a metric over resampled rows (Efron and Tibshirani, 1993, ch. 13).

    Args:
        metric: The metric; its state is not touched.
        predictions: One text a row.
        targets: One text a row.
        draws: Number of resamples.
        seed: Of the resampling.
    """
    values = torch.tensor([metric.row(p, t) for p, t in zip(predictions, targets, strict=True)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    n = len(values)
    drawn = [float(metric.reduce(values[torch.randint(n, (n,), generator=generator)])) for _ in range(draws)]
    low, high = torch.tensor(drawn, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(low), float(high)
