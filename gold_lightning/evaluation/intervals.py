"""Scores predictions: a task's metrics over labelled rows, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gold_lightning.label_sets import LabelSets
from gold_lightning.metrics import Targets, TextMetric, make_metric

__all__ = ["bootstrap_interval", "evaluate", "prediction_row"]

_ROWS_AT_ONCE = 1_000_000  # of resamples in memory


def bootstrap_interval(
    metric: TextMetric, predictions: Sequence[str], targets: Sequence[Targets], draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95 % percentile interval of a metric over resampled rows (Efron and Tibshirani, 1993, ch. 13).

    Resamples with few rows for each label have a lower macro-F1 than the rows themselves: nearly all resamples of 300
    rows with 150 labels do. The bias of the resamples is therefore subtracted for metrics that are not a mean over the
    rows (ibid., ch. 10). The interval always contains the metric's value.

    Args:
        metric: Metric; its state does not change.
        predictions: Predicted text of each row, one row at least.
        targets: Correct text or texts of each row.
        draws: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Lower and upper end.
    """
    _, low, high = _value_and_interval(metric, metric.rows(predictions, targets), draws, seed)
    return low, high


def _value_and_interval(
    metric: TextMetric, values: Tensor, draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Returns the metric of rows with these numbers, and the lower and upper end of its interval."""
    value = float(metric.reduce(values))
    drawn = _resampled(metric, values, draws, torch.Generator().manual_seed(seed))
    if type(metric).reduce is not TextMetric.reduce:
        drawn = (drawn - (drawn.mean() - value)).clamp(0, 1)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return value, min(low, value), max(high, value)


def _resampled(metric: TextMetric, values: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Returns the metric of each resample, (draws,) float64; a mean over the rows is taken of many at once."""
    n, means, drawn = len(values), values.mean(dim=1), []
    at_once = max(1, _ROWS_AT_ONCE // n)
    for start in range(0, draws, at_once):
        resamples = torch.randint(n, (min(at_once, draws - start), n), generator=generator)
        if type(metric).reduce is TextMetric.reduce:
            drawn.append(means[resamples].mean(dim=1))
        else:
            drawn.append(torch.stack([metric.reduce(values[rows]).double() for rows in resamples]))
    return torch.cat(drawn)


def prediction_row(row: int, prediction: str, targets: Sequence[str], **more: Any) -> dict[str, Any]:
    """Returns a line of a predictions file.

    Args:
        row: Position of the row in its data set.
        prediction: Predicted text.
        targets: Correct texts, one or more.
        more: Further values of the line by key.
    """
    several = {"targets": list(targets)} if len(targets) > 1 else {}
    return {"row": row, "prediction": prediction, "target": targets[0], **several, **more}


def evaluate(
    metrics: Sequence[str],
    labels: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    sets: LabelSets | None = None,
) -> dict[str, Any]:
    """Computes metrics over predictions, with 95 % bootstrap intervals.

    Args:
        metrics: Names of the metrics.
        labels: Names of the task's labels; empty for a sequence-to-sequence task.
        rows: Lines as :func:`prediction_row` returns them. The draws of the interval depend on their order.
        sets: The task's ``many``, if rows have several labels.

    Returns:
        ``value`` and ``interval`` of each metric by its name, and the number of rows as ``n``.
    """
    predictions = [row["prediction"] for row in rows]
    targets = [row.get("targets", (row["target"],)) for row in rows]
    results: dict[str, Any] = {"n": len(rows)}
    for name in metrics:
        metric = make_metric(name, labels, sets)
        # compute() would gather rows from the other processes, but these are all rows already.
        value, low, high = _value_and_interval(metric, metric.rows(predictions, targets))
        results[name] = {"value": value, "interval": [low, high]}
    return results
