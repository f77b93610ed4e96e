"""Metrics over decoded text, by name.

A row may have several texts that count as right; the best one counts, as in SQuAD's own evaluation.
States are gathered by torchmetrics, and rows that a distributed sampler padded in are dropped by id, so one
process and many give the same number.
"""

from __future__ import annotations

import re
import string
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.text import rouge_score

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.parsing.formula import FormulaError, parse_equation, parse_programme, same_programme
from gold_lightning.parsing.json_text import same_json
from gold_lightning.parsing.words import has_characters, segments, words
from gold_lightning.plugins import find

__all__ = [
    "METRICS",
    "Accuracy",
    "BalancedAccuracy",
    "EquationValue",
    "FunctionMetric",
    "JsonEqual",
    "MacroF1",
    "ProgrammeEqual",
    "RougeL",
    "SquadExactMatch",
    "SquadF1",
    "Targets",
    "TextMetric",
    "TokenMean",
    "bootstrap_interval",
    "evaluate",
    "make_metric",
    "metric",
    "prediction_row",
]

Targets = str | Sequence[str]
"""What counts as right in a row: one text, or several."""
_T = TypeVar("_T")


class TextMetric(Metric):
    """A metric over (prediction, targets) texts. Subclasses give numbers a row and reduce them.

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

    def update(self, predictions: Sequence[str], targets: Sequence[Targets], ids: Tensor) -> None:
        """Adds a batch.

        Args:
            predictions: What the student wrote.
            targets: What it should have written; one text a row, or all that count as right.
            ids: (batch,) int64, unique for each row of the data set.
        """
        self.ids.append(ids.to(self.device))
        self.values.append(self.rows(predictions, targets).to(self.device))

    def compute(self) -> Tensor:
        """The metric over all rows, each counted once; nan without rows."""
        if isinstance(self.ids, list) and not self.ids:
            return torch.tensor(float("nan"))
        ids, values = (torch.cat(x) if isinstance(x, list) else x for x in (self.ids, self.values))
        return self.reduce(values[_firsts(ids)]).float() if len(ids) else torch.tensor(float("nan"))

    def rows(self, predictions: Sequence[str], targets: Sequence[Targets]) -> Tensor:
        """(rows, numbers) float64: the numbers of each row."""
        pairs = zip(predictions, targets, strict=True)
        return torch.tensor([self.row(p, (t,) if isinstance(t, str) else t) for p, t in pairs], dtype=torch.float64)

    @abstractmethod
    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        """The numbers of one row, as many for each. ``targets`` are one or more."""

    def reduce(self, values: Tensor) -> Tensor:
        """(rows, numbers) float64 -> scalar; the mean by default."""
        return values.mean()


class TokenMean(Metric):
    """Mean of a value over all target tokens, each row counted once: what a sampler padded in is dropped by id."""

    full_state_update = False
    ids: list[Tensor]
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("ids", default=[], dist_reduce_fx="cat")
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, values: Tensor, mask: Tensor, ids: Tensor, data_set: int = 0) -> None:
        """Adds a batch.

        Args:
            values: (batch, target_len).
            mask: (batch, target_len), true where a token counts.
            ids: (batch,) int64, unique for each row of a data set.
            data_set: Number of the data set that the rows are of.
        """
        counted = mask.double()
        self.ids.append(torch.stack([torch.full_like(ids, data_set), ids], dim=1).to(self.device))
        self.values.append(torch.stack([(values.double() * counted).sum(-1), counted.sum(-1)], dim=1).to(self.device))

    def compute(self) -> Tensor:
        """The mean over all tokens; nan without any."""
        if isinstance(self.ids, list) and not self.ids:
            return torch.tensor(float("nan"))
        ids, values = (torch.cat(x) if isinstance(x, list) else x for x in (self.ids, self.values))
        total = values[_firsts(ids)].sum(0)
        return (total[0] / total[1]).float()


def _firsts(ids: Tensor) -> Tensor:
    """Positions of the first row of each id, by ascending id.

    Args:
        ids: (rows,), or (rows, numbers) for ids of several numbers.
    """
    _, of = torch.unique(ids, return_inverse=True, dim=0)
    order = torch.argsort(of, stable=True)
    return order[torch.cat([torch.ones(1, dtype=torch.bool, device=order.device), of[order].diff() > 0])]


class Accuracy(TextMetric):
    """Share of the rows whose prediction is a target, spaces at the ends aside."""

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        return [float(any(prediction.strip() == t.strip() for t in targets))]


class _LabelMetric(TextMetric):
    """A metric over pairs of predicted and true label, each its position; what is no label comes after the last.

    A row has one true label: the first of its targets.
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        if not labels:
            name = next((name for name, kind in METRICS.items() if kind is type(self)), type(self).__name__)
            raise ConfigError("metrics", name, "another metric for a task without labels")
        super().__init__(labels)

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        position = {name: i for i, name in enumerate(self.labels)}
        return [position.get(text.strip(), len(self.labels)) for text in (prediction, targets[0])]


class BalancedAccuracy(_LabelMetric):
    """Unweighted mean of the labels' recall, over the labels that are some row's true one; 0 if there is none.

    Guessing has 1 / labels, whatever it guesses and however the rows are spread over the labels, where accuracy
    has the share of the label that is guessed (Brodersen et al., ICPR 2010).
    """

    def reduce(self, values: Tensor) -> Tensor:
        predicted, true = values.long().T
        classes = len(self.labels) + 1
        rows = torch.bincount(true, minlength=classes).double()
        right = torch.bincount(true[predicted == true], minlength=classes).double()
        there = rows > 0
        there[-1] = False  # what is no label is nobody's true one
        return (right[there] / rows[there]).mean() if there.any() else values.new_zeros(())


class MacroF1(_LabelMetric):
    """Unweighted mean of the labels' F1, over the labels that are some row's true or predicted one; 0 if there is none.

    So do torchmetrics and scikit-learn: a label that does not occur has no F1, and taking it for 0 would lower the
    metric of perfect predictions. A prediction that is no label counts against the true label's recall and adds no
    class (for scikit-learn each such text would be a class of its own).
    """

    def reduce(self, values: Tensor) -> Tensor:
        predicted, true = values.long().T
        classes = len(self.labels) + 1  # the last one holds what is no label
        right = torch.bincount(true[predicted == true], minlength=classes)
        occurs = torch.bincount(true, minlength=classes) + torch.bincount(predicted, minlength=classes)
        there = occurs > 0
        there[-1] = False
        return (2 * right[there] / occurs[there].double()).mean() if there.any() else values.new_zeros(())


_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _squad_words(text: str) -> list[str]:
    """SQuAD's normalisation: lower case, no ASCII punctuation, no articles; then split at white space.

    That leaves a Chinese sentence whole, with its punctuation. So a text with letters of a script without spaces is cut
    further, each such letter a word and all punctuation away: the mixed segmentation of CMRC 2018 and MLQA.
    """
    found = re.sub(r"\b(?:a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split()
    return segments(" ".join(found)) if has_characters(text) else found


class SquadExactMatch(TextMetric):
    """SQuAD v1.1's exact match: the prediction is one of the targets once both are normalised.

    Rajpurkar et al., EMNLP 2016, section 6.1, as in its evaluation script.
    """

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        found = _squad_words(prediction)
        return [float(any(found == _squad_words(t) for t in targets))]


class SquadF1(TextMetric):
    """SQuAD v1.1's F1 over the bags of normalised words, for the target with which it is highest.

    Texts without a word in common have 0, two that come to nothing (``the`` and an empty text) too: so does the
    script of v1.1. torchmetrics has v2's rule, which gives those 1 for "no answer" foretold; hence our own.
    """

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        found = Counter(_squad_words(prediction))
        return [max(_overlap(found, Counter(_squad_words(t))) for t in targets)]


def _overlap(first: Counter[str], second: Counter[str]) -> float:
    """F1 of two bags: twice the common words over all words."""
    common = (first & second).total()
    return 2 * common / (first.total() + second.total()) if common else 0.0


class EquationValue(TextMetric):
    """Share of the rows whose equation comes to a target's value: |p - t| <= 1e-4 |t|, in exact fractions.

    What does not parse or divides by zero is wrong, also where the target does not parse.
    """

    tolerance = Fraction(1, 10_000)

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        found = _read(parse_equation, prediction)
        if found is None:
            return [0.0]
        wanted = [t.value for t in (_read(parse_equation, t) for t in targets) if t]
        return [float(any(abs(found.value - v) <= self.tolerance * abs(v) for v in wanted))]


class ProgrammeEqual(TextMetric):
    """Share of the rows whose linear programme is a target's, up to form.

    Order of constraints and of declarations, and a positive factor of a constraint, do not matter: see
    :func:`gold_lightning.parsing.formula.same_programme`. What does not parse is wrong.
    """

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        found = _read(parse_programme, prediction)
        if found is None:
            return [0.0]
        wanted = (_read(parse_programme, t) for t in targets)
        return [float(any(same_programme(found, t) for t in wanted if t))]


class JsonEqual(TextMetric):
    """Share of the rows whose JSON is a target's as data: see :func:`gold_lightning.parsing.json_text.same_json`.

    What does not parse is wrong.
    """

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        return [float(any(same_json(prediction, t) for t in targets))]


def _read(parse: Callable[[str], _T], text: str) -> _T | None:
    try:
        return parse(text)
    except FormulaError:
        return None


class RougeL(TextMetric):
    """Mean ROUGE-L F-measure (Lin, 2004) over lower-case words, no stemming, best target.

    torchmetrics computes it; ``rougeL`` of it needs no nltk. English words are those of Google's ``rouge-score``, runs
    of a-z and 0-9. By that rule other scripts have no words at all, and "für" has two; here words are those of
    :func:`gold_lightning.parsing.words.words`, which are characters in scripts without spaces.
    """

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        # The score cuts each text by the tokenizer, once it is normalised: both by ours.
        found = rouge_score(
            prediction,
            list(targets),
            accumulate="best",
            rouge_keys="rougeL",
            normalizer=lambda text: text.replace("_", " "),
            tokenizer=words,
        )
        return [float(found["rougeL_fmeasure"])]


class FunctionMetric(TextMetric):
    """Mean over the rows of a function of prediction and targets.

    Args:
        function: Returns the number of a row.
        labels: Names of the task's labels.
    """

    def __init__(self, function: Callable[[str, Sequence[str]], float], labels: Sequence[str] = ()) -> None:
        super().__init__(labels)
        self.function = function

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        return [float(self.function(prediction, targets))]


METRICS: dict[str, Callable[[Sequence[str]], TextMetric]] = {
    "accuracy": Accuracy,
    "exact_match": Accuracy,
    "balanced_accuracy": BalancedAccuracy,
    "macro_f1": MacroF1,
    "squad_em": SquadExactMatch,
    "squad_f1": SquadF1,
    "equation_value": EquationValue,
    "lp_equal": ProgrammeEqual,
    "json_equal": JsonEqual,
    "rouge_l": RougeL,
}
"""Metrics by the name that task files use. ``exact_match`` compares the strings as they are."""


_F = TypeVar("_F", bound=Callable[..., Any])


def metric(kind: _F) -> _F:
    """Registers a metric that a task file can name; ``--data.plugins my_package.metrics`` imports its module.

    Args:
        kind: A function from the prediction and the correct texts of a row to a number, of which the metric is the
            mean; or a subclass of :class:`TextMetric`. Its name is the name in the task file. Higher must be better.

    Returns:
        The function or class itself.

    Raises:
        GoldError: A metric of another module has that name.

    Example:
        >>> from gold_lightning.metrics import metric
        >>> @metric
        ... def as_long(prediction, targets):
        ...     return len(prediction) == len(targets[0])
        >>> make_metric("as_long", ()).rows(["four"], ["5555"]).mean().item()
        1.0
    """
    name = kind.__name__
    registered = METRICS.get(name)
    if registered is not None and _module(registered) != kind.__module__:  # a notebook runs a cell twice
        raise GoldError(f"the metric {name} of {kind.__module__} has the name of one of {_module(registered)}")
    is_class = isinstance(kind, type) and issubclass(kind, TextMetric)
    METRICS[name] = kind if is_class else partial(FunctionMetric, kind)
    return kind


def _module(registered: Callable[..., TextMetric]) -> str:
    return registered.args[0].__module__ if isinstance(registered, partial) else registered.__module__


def make_metric(name: str, labels: Sequence[str]) -> TextMetric:
    """Returns a metric by name.

    Raises:
        ConfigError: No metric has the name, or it does not fit the task.
    """
    make = find(METRICS, name)
    if make is None:
        hint = "data.plugins names modules with metrics of your own"
        raise ConfigError("metrics", name, f"one of {', '.join(METRICS)}", hint)
    return make(labels)


def bootstrap_interval(
    metric: TextMetric, predictions: Sequence[str], targets: Sequence[Targets], draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of a metric over resampled rows (Efron and Tibshirani, 1993, ch. 13).

    Resamples of few rows a label have a lower macro-F1 than the rows themselves: with 300 rows of 150 labels, nearly
    all of them. So a metric that is no plain mean of its rows has the bias of its resamples taken off (ibid., ch. 10).
    Every interval holds the metric's own value.

    Args:
        metric: The metric; its state is not touched.
        predictions: One text a row, of one row at least.
        targets: One text a row, or all that count as right.
        draws: Number of resamples.
        seed: Of the resampling.
    """
    _, low, high = _value_and_interval(metric, metric.rows(predictions, targets), draws, seed)
    return low, high


def _value_and_interval(
    metric: TextMetric, values: Tensor, draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """The metric of rows with these numbers, and the ends of its interval."""
    value = float(metric.reduce(values))
    generator = torch.Generator().manual_seed(seed)
    n = len(values)
    resampled = (values[torch.randint(n, (n,), generator=generator)] for _ in range(draws))
    drawn = torch.tensor([float(metric.reduce(rows)) for rows in resampled], dtype=torch.float64)
    if type(metric).reduce is not TextMetric.reduce:
        drawn = (drawn - (drawn.mean() - value)).clamp(0, 1)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return value, min(low, value), max(high, value)


def prediction_row(row: int, prediction: str, targets: Sequence[str], **more: Any) -> dict[str, Any]:
    """A line of a predictions file.

    Args:
        row: Position of the row in its data set.
        prediction: What was predicted.
        targets: All texts that count as right, one or more.
        more: What else stands in the line.
    """
    several = {"targets": list(targets)} if len(targets) > 1 else {}
    return {"row": row, "prediction": prediction, "target": targets[0], **several, **more}


def evaluate(metrics: Sequence[str], labels: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each metric by name, with its 95 % bootstrap interval, and the number of rows as ``n``.

    Args:
        metrics: Their names.
        labels: Names of the task's labels; empty for a sequence-to-sequence task.
        rows: Lines as :func:`prediction_row` makes them. The interval's draws follow their order.
    """
    predictions = [row["prediction"] for row in rows]
    targets = [row.get("targets", (row["target"],)) for row in rows]
    found: dict[str, Any] = {"n": len(rows)}
    for name in metrics:
        metric = make_metric(name, labels)
        # Not by compute(), which would ask the other processes for more: these are all rows.
        value, low, high = _value_and_interval(metric, metric.rows(predictions, targets))
        found[name] = {"value": value, "interval": [low, high]}
    return found
