"""Metrics over decoded text, by name. One file, since each is a few lines over the same base class.

A row may have several correct texts; the one that scores best counts, as in SQuAD's evaluation script. torchmetrics
gathers the states, and duplicates that a distributed sampler adds are dropped by id, so that one process and several
give the same number.
"""

from __future__ import annotations

import re
import string
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.text import rouge_score

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.label_sets import LabelSets
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
    "MacroF1OfSets",
    "MicroF1OfSets",
    "ProgrammeEqual",
    "RougeL",
    "SetAccuracy",
    "SquadExactMatch",
    "SquadF1",
    "Targets",
    "TextMetric",
    "TokenMean",
    "make_metric",
    "metric",
]

Targets = str | Sequence[str]
"""The correct text of a row, or all of its correct texts."""
_T = TypeVar("_T")


class TextMetric(Metric):
    """Base class of metrics over predicted and correct texts.

    Subclasses implement :meth:`row`, the numbers of a row, and may override :meth:`reduce`, by default their mean.

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
            predictions: Predicted text of each row.
            targets: Correct text or texts of each row.
            ids: (batch,) int64, unique for each row of the data set; negative for rows that fill up a batch and do
                not count.
        """
        self.ids.append(ids.to(self.device))
        self.values.append(self.rows(predictions, targets).to(self.device))

    def compute(self) -> Tensor:
        """Returns the metric over all rows, each counted once; nan without rows."""
        if isinstance(self.ids, list) and not self.ids:
            return torch.tensor(float("nan"))
        ids, values = (torch.cat(x) if isinstance(x, list) else x for x in (self.ids, self.values))
        ids, values = ids[ids >= 0], values[ids >= 0]
        return self.reduce(values[_firsts(ids)]).float() if len(ids) else torch.tensor(float("nan"))

    def rows(self, predictions: Sequence[str], targets: Sequence[Targets]) -> Tensor:
        """Returns the numbers of each row.

        Args:
            predictions: Predicted text of each row.
            targets: Correct text or texts of each row.

        Returns:
            (rows, numbers) float64.
        """
        pairs = zip(predictions, targets, strict=True)
        return torch.tensor([self.row(p, (t,) if isinstance(t, str) else t) for p, t in pairs], dtype=torch.float64)

    @abstractmethod
    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        """Returns the numbers of one row, the same count for every row.

        Args:
            prediction: Predicted text.
            targets: Correct texts, one or more.
        """

    def reduce(self, values: Tensor) -> Tensor:
        """Reduces the numbers of all rows to the metric; by default to their mean.

        Args:
            values: (rows, numbers) float64, one row at least.

        Returns:
            A scalar.
        """
        return values.mean()


class TokenMean(Metric):
    """Mean of a value over all target tokens. Duplicate rows that a distributed sampler adds are dropped by id."""

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
            values: (batch, target_len), value of each token.
            mask: (batch, target_len), true for tokens that count.
            ids: (batch,) int64, unique for each row of a data set.
            data_set: Number of the rows' data set.
        """
        counted = mask.double()
        self.ids.append(torch.stack([torch.full_like(ids, data_set), ids], dim=1).to(self.device))
        self.values.append(torch.stack([(values.double() * counted).sum(-1), counted.sum(-1)], dim=1).to(self.device))

    def compute(self) -> Tensor:
        """Returns the mean over all tokens; nan without any."""
        if isinstance(self.ids, list) and not self.ids:
            return torch.tensor(float("nan"))
        ids, values = (torch.cat(x) if isinstance(x, list) else x for x in (self.ids, self.values))
        total = values[_firsts(ids)].sum(0)
        return (total[0] / total[1]).float()


def _firsts(ids: Tensor) -> Tensor:
    """Returns the positions of the first row of each id, by ascending id.

    Args:
        ids: (rows,), or (rows, numbers) for ids of several numbers.
    """
    _, of = torch.unique(ids, return_inverse=True, dim=0)
    order = torch.argsort(of, stable=True)
    return order[torch.cat([torch.ones(1, dtype=torch.bool, device=order.device), of[order].diff() > 0])]


class Accuracy(TextMetric):
    """Share of the rows whose prediction equals a target, apart from spaces at the ends."""

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        return [float(any(prediction.strip() == t.strip() for t in targets))]


class _LabelMetric(TextMetric):
    """A metric over pairs of predicted and true label, as positions. Other texts get the position after the last label.

    The true label of a row is the first of its targets.
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
    """Unweighted mean of the recall of all labels that occur as the true label of a row; 0 if there is none.

    Guessing scores 1 / labels for any guess and any distribution of the labels, whereas accuracy scores the share of
    the guessed label (Brodersen et al., ICPR 2010).
    """

    def reduce(self, values: Tensor) -> Tensor:
        predicted, true = values.long().T
        classes = len(self.labels) + 1
        rows = torch.bincount(true, minlength=classes).double()
        right = torch.bincount(true[predicted == true], minlength=classes).double()
        occurs = rows > 0
        occurs[-1] = False  # texts that are no label have no recall
        return (right[occurs] / rows[occurs]).mean() if occurs.any() else values.new_zeros(())


class MacroF1(_LabelMetric):
    """Unweighted mean of the F1 of all labels that occur as true or predicted label of a row; 0 if there is none.

    torchmetrics and scikit-learn average so too: a label that does not occur has no F1, and counting it as 0 would
    lower the metric of perfect predictions. A prediction that is no label lowers the recall of the true label and adds
    no class (scikit-learn would make a class of each such text).
    """

    def reduce(self, values: Tensor) -> Tensor:
        predicted, true = values.long().T
        classes = len(self.labels) + 1  # the last one is for texts that are no label
        right = torch.bincount(true[predicted == true], minlength=classes)
        counts = torch.bincount(true, minlength=classes) + torch.bincount(predicted, minlength=classes)
        occurs = counts > 0
        occurs[-1] = False
        return (2 * right[occurs] / counts[occurs].double()).mean() if occurs.any() else values.new_zeros(())


class SetMetric(TextMetric):
    """Base of metrics over sets of labels, whatever the order in which texts name them.

    A prediction that is no set of labels counts as the empty set, but never as a right one.

    Args:
        labels: Names of the task's labels.
        sets: How texts name sets of them.
    """

    def __init__(self, labels: Sequence[str], sets: LabelSets) -> None:
        super().__init__(labels)
        self.sets = sets

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        """Returns 1 or 0 for each label: whether it is predicted, then whether it is right; last, whether all are."""
        predicted, true = (self.sets.read(text, self.labels) for text in (prediction, targets[0]))
        bits = [float(name in (labels or ())) for labels in (predicted, true) for name in self.labels]
        return [*bits, float(predicted is not None and predicted == true)]

    def counts(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns twice the right predictions of each label, and its predictions and occurrences together.

        Args:
            values: (rows, 2 labels + 1), as :meth:`row` returns them.

        Returns:
            (labels,) float64 each; their quotient is the F1 of each label.
        """
        count = len(self.labels)
        predicted, true = values[:, :count], values[:, count : 2 * count]
        return 2 * (predicted * true).sum(0), (predicted + true).sum(0)


class SetAccuracy(SetMetric):
    """Share of the rows whose predicted labels are exactly the right ones (subset accuracy)."""

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        return super().row(prediction, targets)[-1:]


class MicroF1OfSets(SetMetric):
    """F1 over all pairs of a row and a label; 1 if no label is predicted and none is right."""

    def reduce(self, values: Tensor) -> Tensor:
        right, counts = (counts.sum() for counts in self.counts(values))
        return right / counts if counts else values.new_ones(())


class MacroF1OfSets(SetMetric):
    """Unweighted mean of the F1 of all labels that are predicted or right in some row; 1 if there is none.

    torchmetrics' multilabel F1 counts a label that does not occur as 0; :class:`MacroF1` says why this one does not.
    """

    def reduce(self, values: Tensor) -> Tensor:
        right, counts = self.counts(values)
        return (right[counts > 0] / counts[counts > 0]).mean() if counts.any() else values.new_ones(())


_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _squad_words(text: str) -> list[str]:
    """Splits a text into words after SQuAD's normalisation: lower case, no ASCII punctuation, no articles.

    Splitting at white space would leave a Chinese sentence whole, with its punctuation. A text with letters of a script
    without spaces is therefore split further, each such letter a word and all punctuation removed: the mixed
    segmentation of CMRC 2018 and MLQA.
    """
    normalised = re.sub(r"\b(?:a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split()
    return segments(" ".join(normalised)) if has_characters(text) else normalised


class SquadExactMatch(TextMetric):
    """Share of the rows whose prediction equals a target after normalisation: the exact match of SQuAD v1.1.

    Rajpurkar et al., EMNLP 2016, section 6.1, as in its evaluation script.
    """

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        predicted = _squad_words(prediction)
        return [float(any(predicted == _squad_words(t) for t in targets))]


class SquadF1(TextMetric):
    """Mean F1 of SQuAD v1.1 over bags of normalised words, with the target that scores best.

    As in the script of v1.1, texts without a common word score 0, also two that are both empty after normalisation
    (such as ``the`` and an empty text). torchmetrics follows v2, which scores those 1 for a correct "no answer".
    """

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        predicted = Counter(_squad_words(prediction))
        return [max(_overlap(predicted, Counter(_squad_words(t))) for t in targets)]


def _overlap(first: Counter[str], second: Counter[str]) -> float:
    """Returns the F1 of two bags: twice the common words over all words."""
    common = (first & second).total()
    return 2 * common / (first.total() + second.total()) if common else 0.0


class EquationValue(TextMetric):
    """Share of the rows whose equation has the value of a target: |p - t| <= 1e-4 |t|, in exact fractions.

    A prediction that does not parse or divides by zero is wrong, even if the target does so too.
    """

    tolerance = Fraction(1, 10_000)

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        predicted = _parse_or_none(parse_equation, prediction)
        if predicted is None:
            return [0.0]
        values = [t.value for t in (_parse_or_none(parse_equation, t) for t in targets) if t]
        return [float(any(abs(predicted.value - v) <= self.tolerance * abs(v) for v in values))]


class ProgrammeEqual(TextMetric):
    """Share of the rows whose linear programme is that of a target, up to form.

    The order of constraints and declarations and a positive factor of a constraint do not matter: see
    :func:`gold_lightning.parsing.formula.same_programme`. A prediction that does not parse is wrong.
    """

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        predicted = _parse_or_none(parse_programme, prediction)
        if predicted is None:
            return [0.0]
        programmes = (_parse_or_none(parse_programme, t) for t in targets)
        return [float(any(same_programme(predicted, t) for t in programmes if t))]


class JsonEqual(TextMetric):
    """Share of the rows whose JSON holds the same data as a target.

    See :func:`gold_lightning.parsing.json_text.same_json`. A prediction that does not parse is wrong.
    """

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        return [float(any(same_json(prediction, t) for t in targets))]


def _parse_or_none(parse: Callable[[str], _T], text: str) -> _T | None:
    try:
        return parse(text)
    except FormulaError:
        return None


class RougeL(TextMetric):
    """Mean ROUGE-L F-measure (Lin, 2004) over lower-case words without stemming, with the target that scores best.

    torchmetrics computes it. Google's ``rouge-score`` takes runs of a-z and 0-9 as words, by which other scripts have
    no words and "für" has two. Here words are those of :func:`gold_lightning.parsing.words.words`, which agree for
    English and are characters in scripts without spaces.
    """

    def row(self, prediction: str, targets: Sequence[str]) -> list[float]:
        # torchmetrics' own normalizer would drop all characters but a-z and 0-9.
        scores = rouge_score(
            prediction,
            list(targets),
            accumulate="best",
            rouge_keys="rougeL",
            normalizer=lambda text: text.replace("_", " "),
            tokenizer=words,
        )
        return [float(scores["rougeL_fmeasure"])]


class FunctionMetric(TextMetric):
    """Mean over the rows of a function of prediction and targets.

    Args:
        function: Function of a row's predicted text and correct texts to a number.
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
"""Metrics by their names in task files. ``exact_match`` compares the strings, apart from spaces at the ends."""
_BUILT_IN = frozenset(METRICS)


_F = TypeVar("_F", bound=Callable[..., Any])


def metric(kind: _F) -> _F:
    """Registers a metric under its own name for task files. ``--data.plugins my_package.metrics`` imports its module.

    Args:
        kind: A function of a row's predicted text and correct texts to a number, whose mean is the metric; or a
            subclass of :class:`TextMetric`. Higher values must be better.

    Returns:
        The function or class itself.

    Raises:
        GoldError: A metric of another module has the same name.

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
        raise GoldError(f"the metric {name} of {kind.__module__} has the same name as one of {_module(registered)}")
    is_class = isinstance(kind, type) and issubclass(kind, TextMetric)
    METRICS[name] = kind if is_class else partial(FunctionMetric, kind)
    return kind


def _module(registered: Callable[..., TextMetric]) -> str:
    return registered.args[0].__module__ if isinstance(registered, partial) else registered.__module__


SET_METRICS: dict[str, Callable[[Sequence[str], LabelSets], TextMetric]] = {
    "accuracy": SetAccuracy,
    "exact_match": SetAccuracy,
    "micro_f1": MicroF1OfSets,
    "macro_f1": MacroF1OfSets,
}
"""Metrics by name for tasks whose rows have several labels."""


def make_metric(name: str, labels: Sequence[str], sets: LabelSets | None = None) -> TextMetric:
    """Returns a metric by name.

    Args:
        name: Name of the metric in :data:`METRICS` or of a plugin; in :data:`SET_METRICS` if rows have several labels.
        labels: Names of the task's labels; empty for a sequence-to-sequence task.
        sets: How texts name several labels; ``None`` if rows have one.

    Raises:
        ConfigError: No metric has the name, or it does not fit the task.
    """
    if sets is not None and name in SET_METRICS:
        return SET_METRICS[name](labels, sets)
    make = find(METRICS, name)
    if make is None:
        if name in SET_METRICS:
            raise ConfigError("metrics", name, "another metric for a task without many: true")
        hint = "data.plugins names modules with metrics of your own"
        raise ConfigError("metrics", name, f"one of {', '.join(METRICS)}", hint)
    if sets is not None and name in _BUILT_IN:
        allowed = f"one of {', '.join(SET_METRICS)} for a task whose rows have several labels"
        raise ConfigError("metrics", name, allowed)
    return make(labels)
