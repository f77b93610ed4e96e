"""Metrics against hand-computed values, and against the published definitions written out once more."""

import ast
import functools
import math
import operator
import random
import re
import warnings
from fractions import Fraction

import pytest
import torch
from gold_lightning.errors import ConfigError
from gold_lightning.evaluation import intervals
from gold_lightning.evaluation.intervals import bootstrap_interval, evaluate, prediction_row
from gold_lightning.label_sets import LabelSets
from gold_lightning.metrics import (
    METRICS,
    Accuracy,
    BalancedAccuracy,
    MacroF1,
    TextMetric,
    TokenMean,
    make_metric,
)
from gold_lightning.parsing.formula import FormulaError, parse_equation
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_recall
from torchmetrics.functional.text import rouge_score, squad


def value(metric, predictions, targets, ids=None):
    metric.update(predictions, targets, torch.arange(len(targets)) if ids is None else torch.tensor(ids))
    return float(metric.compute())


def test_accuracy_by_hand():
    assert value(Accuracy(), ["a", " b\n", "B", ""], ["a", "b", "b", "a"]) == 0.5


def test_macro_f1_by_hand():
    predictions = ["A", "A", "B", "B", "C", "other"]
    targets = ["A", "B", "B", "B", "A", "C"]
    # A: tp 1, fp 1, fn 1 -> 1/2. B: tp 2, fp 0, fn 1 -> 4/5. C: tp 0 -> 0.
    assert value(MacroF1(["A", "B", "C"]), predictions, targets) == pytest.approx((0.5 + 0.8 + 0) / 3)


def test_macro_f1_of_no_label_counts_against_recall_only():
    # A: tp 1, fp 0, fn 1 -> 2/3. B: tp 1 -> 1.
    assert value(MacroF1(["A", "B"]), ["A", "???", "B"], ["A", "A", "B"]) == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("predictions", "targets", "wanted"),
    [
        (["A", "B"] * 5, ["A", "B"] * 5, 1.0),  # C is nobody's
        (["A"], ["A"], 1.0),
        (["", "no label"], ["A", "A"], 0.0),  # what is no label adds no class: A alone counts
        (["A", ""], ["A", "A"], 2 / 3),
        (["A", "C"], ["A", "A"], (2 / 3 + 0) / 2),  # C is a prediction
        (["", ""], ["A", "B"], 0.0),
        (["A"], ["no label"], 0.0),
        (["???"], ["???"], 0.0),
    ],
)
def test_macro_f1_is_over_labels_that_occur(predictions, targets, wanted):
    assert value(MacroF1(["A", "B", "C"]), predictions, targets) == pytest.approx(wanted)


def some_rows(rng):
    """Labels, predictions and targets, some of the labels absent from both."""
    labels = [f"label {i}" for i in range(rng.choice([1, 2, 3, 8, 150]))]
    there = rng.sample(labels, rng.randint(1, len(labels)))
    targets = [rng.choice(there) for _ in range(rng.choice([1, 2, 10, 60]))]
    skill = rng.choice([0, 0.5, 0.9, 1])
    return labels, [t if rng.random() < skill else rng.choice(labels) for t in targets], targets


def test_metrics_over_labels_are_those_of_torchmetrics():
    rng = random.Random(0)
    absent = 0
    for _ in range(300):
        labels, predictions, targets = some_rows(rng)
        absent += len({*predictions, *targets}) < len(labels)
        found, true = (torch.tensor([labels.index(x) for x in texts]) for texts in (predictions, targets))
        # torchmetrics asks for two classes at least; one that does not occur changes nothing.
        classes = max(2, len(labels))
        f1 = multiclass_f1_score(found, true, num_classes=classes, average="macro")
        assert value(MacroF1(labels), predictions, targets) == pytest.approx(float(f1), abs=1e-6)
        recall = multiclass_recall(found, true, num_classes=classes, average="none")[true.unique()].mean()
        assert value(BalancedAccuracy(labels), predictions, targets) == pytest.approx(float(recall), abs=1e-6)
    assert absent > 100


def test_predictions_that_are_no_label_are_wrong_and_no_class():
    rng = random.Random(1)
    for _ in range(100):
        labels, predictions, targets = some_rows(rng)
        said = [p if rng.random() < 0.7 else rng.choice(["", "?", "label", "LABEL 0"]) for p in predictions]
        scores = []
        for label in {*targets, *said} & {*labels}:
            right = sum(p == t == label for p, t in zip(said, targets, strict=True))
            scores.append(2 * right / (said.count(label) + targets.count(label)))
        assert value(MacroF1(labels), said, targets) == pytest.approx(sum(scores) / len(scores), abs=1e-6)


def test_macro_f1_is_not_accuracy_under_imbalance():
    predictions, targets = ["A"] * 10, ["A"] * 9 + ["B"]
    assert value(Accuracy(), predictions, targets) == pytest.approx(0.9)
    assert value(MacroF1(["A", "B"]), predictions, targets) == pytest.approx((18 / 19 + 0) / 2)


def test_balanced_accuracy_by_hand():
    predictions = ["A", "A", "B", "???", "C", "B"]
    targets = ["A", "A", "A", "A", "B", "B"]
    # A: 2 of 4, B: 1 of 2, C: no row.
    assert value(BalancedAccuracy(["A", "B", "C"]), predictions, targets) == pytest.approx(1 / 2)


@pytest.mark.parametrize("share", [0, 3, 9, 10])
def test_balanced_accuracy_of_a_guess_is_chance_under_imbalance(share):
    guess = ["A"] * share + ["B"] * (10 - share)  # drawn without a look at the rows: as often for each label
    targets = ["A"] * 90 + ["B"] * 10
    assert value(BalancedAccuracy(["A", "B"]), guess * 10, targets) == pytest.approx(1 / 2)
    assert value(Accuracy(), guess * 10, targets) == pytest.approx((9 * share + (10 - share)) / 100)


def test_balanced_accuracy_counts_no_label_as_nobodys():
    assert value(BalancedAccuracy(["A", "B"]), ["???", "A"], ["???", "A"]) == 1.0


def test_rows_given_twice_count_once():
    metric = Accuracy()
    metric.update(["a", "b"], ["a", "a"], torch.tensor([0, 1]))
    metric.update(["b", "b", "a"], ["a", "a", "a"], torch.tensor([2, 1, 0]))  # 1 and 0 again: padded in
    assert float(metric.compute()) == pytest.approx(1 / 3)


def test_the_mean_over_tokens_counts_each_row_once():
    values = torch.tensor([[1.0, 2.0, 9.0], [4.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    metric = TokenMean()
    assert math.isnan(float(metric.compute()))
    metric.update(values, mask, torch.tensor([0, 1]))
    metric.update(values[:1], mask[:1], torch.tensor([0]))  # again: padded in
    assert float(metric.compute()) == pytest.approx((1 + 2 + 4) / 3)
    metric.reset()
    metric.update(values, mask, torch.tensor([0, 1]))
    metric.update(values[:1], mask[:1], torch.tensor([0]), data_set=1)  # another row of another set
    assert float(metric.compute()) == pytest.approx((1 + 2 + 4 + 1 + 2) / 5)


def test_macro_f1_with_repeated_ids():
    labels = ["A", "B"]
    once = value(MacroF1(labels), ["A", "A", "B"], ["A", "B", "B"])
    twice = value(MacroF1(labels), ["A", "A", "B", "A", "A"], ["A", "B", "B", "B", "A"], [0, 1, 2, 1, 0])
    assert twice == pytest.approx(once)


def test_order_of_batches_does_not_matter_and_reset_forgets():
    metric = MacroF1(["A", "B"])
    first = value(metric, ["A", "A", "B"], ["A", "B", "B"], [5, 3, 9])
    metric.reset()
    metric.update(["B"], ["B"], torch.tensor([9]))
    metric.update(["A", "A"], ["B", "A"], torch.tensor([3, 5]))
    assert float(metric.compute()) == pytest.approx(first)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("name", list(METRICS))
def test_no_rows_give_nan(name):
    metric = make_metric(name, ["A", "B"])
    assert math.isnan(float(metric.compute()))


def test_predictions_and_targets_must_be_as_many():
    with pytest.raises(ValueError, match="zip"):
        Accuracy().update(["a"], ["a", "b"], torch.tensor([0, 1]))


def test_unknown_metric_is_named():
    with pytest.raises(ConfigError, match=r"^metrics: got 'bleurt', expected one of accuracy"):
        make_metric("bleurt", [])


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1"])
def test_metrics_over_labels_need_labels(name):
    with pytest.raises(ConfigError, match=f"^metrics: got '{name}'"):
        make_metric(name, [])


def test_bootstrap_of_a_sure_thing():
    assert bootstrap_interval(Accuracy(), ["a"] * 20, ["a"] * 20) == (1.0, 1.0)
    assert bootstrap_interval(Accuracy(), ["a"] * 20, ["b"] * 20) == (0.0, 0.0)


def test_bootstrap_of_a_coin():
    # 50 of 100: the normal interval is 0.5 +- 1.96 * 0.05.
    low, high = bootstrap_interval(Accuracy(), ["a"] * 100, ["a", "b"] * 50, draws=4000)
    assert low == pytest.approx(0.402, abs=0.02)
    assert high == pytest.approx(0.598, abs=0.02)


def test_bootstrap_depends_on_its_seed_alone():
    metric = MacroF1(["A", "B"])
    rows = (["A", "B", "A", "B"] * 5, ["A", "B", "B", "B"] * 5)
    first = bootstrap_interval(metric, *rows, draws=100, seed=3)
    torch.manual_seed(99)
    assert bootstrap_interval(metric, *rows, draws=100, seed=3) == first
    assert bootstrap_interval(metric, *rows, draws=100, seed=4) != first
    assert metric.ids == []  # its state is not touched
    assert first[0] <= value(metric, *rows) <= first[1]


def test_resamples_of_a_mean_are_the_same_however_many_are_drawn_at_once(monkeypatch):
    class Several(TextMetric):
        def row(self, prediction, targets):
            return [float(prediction == t) for t in ("a", "b", targets[0])]

    predictions, targets = [*"abcab" * 5], [*"aabbc" * 5]
    metric = Several([])
    values, generator = metric.rows(predictions, targets), torch.Generator().manual_seed(5)
    means = [metric.reduce(values[torch.randint(25, (25,), generator=generator)]) for _ in range(40)]
    expected = torch.stack(means).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    for at_once in (1, 25, 7 * 25 + 3, 10**6):
        monkeypatch.setattr(intervals, "_ROWS_AT_ONCE", at_once)
        assert bootstrap_interval(metric, predictions, targets, draws=40, seed=5) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_an_interval_holds_its_own_value():
    rng = random.Random(2)
    cases = [(tuple(f"L{i}" for i in range(150)), [f"L{i}" for i in range(150)], [f"L{i}" for i in range(150)])]
    cases += [("AB", ["A"] * 20, ["A"] * 19 + ["B"]), ("AB", ["A"], ["B"]), ("AB", [""], ["A"])]
    cases += [some_rows(rng) for _ in range(8)]
    for labels, predictions, targets in cases:
        rows = [prediction_row(i, p, (t,)) for i, (p, t) in enumerate(zip(predictions, targets, strict=True))]
        numbers = evaluate([*METRICS], labels, rows)
        for name in METRICS:
            low, high = numbers[name]["interval"]
            assert 0 <= low <= numbers[name]["value"] <= high <= 1, (name, numbers[name])
            assert numbers[name]["value"] == pytest.approx(value(make_metric(name, labels), predictions, targets))


def test_the_bias_of_resamples_is_taken_off_macro_f1():
    rng = random.Random(3)
    labels = [f"L{i}" for i in range(150)]
    targets = labels * 2
    predictions = [t if rng.random() < 0.5 else rng.choice(labels) for t in targets]
    metric = MacroF1(labels)
    found = value(metric, predictions, targets)
    low, high = bootstrap_interval(metric, predictions, targets, draws=300)
    assert found - low == pytest.approx(high - found, rel=0.3)  # of the resamples themselves hardly one reaches it
    assert 0.03 < high - found < 0.1


def test_intervals_of_rows_that_are_all_alike_are_points():
    for name in METRICS:
        for right in (True, False):
            rows = [prediction_row(i, "A" if right else "B", ("A",)) for i in range(7)]
            found = evaluate([name], "AB", rows)[name]
            assert found["interval"] == [found["value"], found["value"]]
    third = [prediction_row(i, "red kite", ("red",)) for i in range(7)]  # 2/3 in every row
    found = evaluate(["squad_f1"], (), third)["squad_f1"]
    assert found == {"value": pytest.approx(2 / 3), "interval": [pytest.approx(2 / 3)] * 2}
    assert found["interval"][0] <= found["value"] <= found["interval"][1]


# Several texts that count as right


def test_the_best_target_counts():
    assert value(Accuracy(), ["b", "c"], [("a", "b"), ("a", "b")]) == 0.5
    assert value(make_metric("squad_f1", []), ["red kite"], [("a kite", "the red kites", "blue")]) == pytest.approx(
        2 / 3
    )
    assert value(make_metric("rouge_l", []), ["red kite"], [["blue", "red kite now"]]) == pytest.approx(0.8)
    assert value(make_metric("equation_value", []), ["6 / 2"], [("4", "1 + 2", "1 / 0")]) == 1.0
    assert value(MacroF1(["A", "B"]), ["A", "B"], [("A",), ("B",)]) == 1.0


ROWS = {  # prediction, targets, and whether the metric calls it right
    "squad_em": [("The Kite", ("kite",), 1), ("kite", ("sail", "a kite!"), 1), ("kites", ("kite",), 0)],
    "squad_f1": [("The Kite", ("kite",), 1), ("kite", ("sail", "a kite!"), 1), ("boat", ("kite", ""), 0)],
    "equation_value": [("1 + 2", ("3",), 1), ("2 / 4", ("7", "0.5"), 1), ("1 / 0", ("1 / 0",), 0)],
    "rouge_l": [("a b", ("A, b.",), 1), ("a b", ("c", "a b"), 1), ("a b", ("c",), 0)],
    "lp_equal": [
        (
            f"Variables: x: a Objective: max x Constraints: {p}",
            (f"Variables: x: a Objective: max x Constraints: {t}",),
            r,
        )
        for p, t, r in [("2x <= 6", "x <= 3", 1), ("x <= 3", "3 >= x", 1), ("x <= 3", "x >= 3", 0)]
    ],
    "json_equal": [
        ('{"a": 1, "b": "x"}', ('{"b": "x", "a": 1.0}',), 1),
        ("[1]", ("none", "[1]"), 1),
        ("none", ("none",), 0),
    ],
    "accuracy": [("a", ("a",), 1), ("a", ("b", "a"), 1), ("a", ("A",), 0)],
    "exact_match": [("a", ("a",), 1), ("a", ("b", "a"), 1), ("a", ("A",), 0)],
}


@pytest.mark.parametrize("name", ROWS)
def test_two_processes_give_what_one_gives(name):
    predictions, targets, right = zip(*(ROWS[name] * 3), strict=True)
    ids = torch.arange(9)
    other = make_metric(name, [])
    other.update(predictions[1::2] + predictions[:1], targets[1::2] + targets[:1], torch.cat([ids[1::2], ids[:1]]))
    states = {s: torch.cat(getattr(other, s)) for s in ("ids", "values")}
    mine = make_metric(name, [])
    mine.update(predictions[::2], targets[::2], ids[::2])
    # What torch.distributed would give: each state of every process, in the order in which they are asked for.
    asked = iter(("ids", "values"))
    mine.distributed_available_fn = lambda: True
    mine.dist_sync_fn = lambda x, group=None: [x, states[next(asked)]]
    assert float(mine.compute()) == pytest.approx(sum(right) / 9)
    assert float(mine.compute()) == pytest.approx(value(make_metric(name, []), predictions, targets))


@pytest.mark.parametrize("name", ROWS)
def test_bootstrap_of_several_targets(name):
    predictions, targets, right = zip(*(ROWS[name] * 20), strict=True)
    metric = make_metric(name, [])
    low, high = bootstrap_interval(metric, predictions, targets, draws=300)
    assert low < sum(right) / 60 < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(2 / 9 / 60), abs=0.06)


# SQuAD v1.1: lower-case, strip punctuation, articles and white space; Rajpurkar et al. (2016), section 6.1


def reference_words(text):
    kept = [c for c in text.lower() if c not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"]
    out, run = [], []
    for c in [*kept, " "]:
        if c.isalnum():
            run.append(c)
            continue
        out.append(" " if "".join(run) in ("a", "an", "the") else "".join(run))
        out.append(c)
        run = []
    return "".join(out).split()


def reference_em(prediction, targets):
    return max(float(" ".join(reference_words(prediction)) == " ".join(reference_words(t))) for t in targets)


def reference_f1(prediction, targets):
    best = 0.0
    for target in targets:
        left, same = reference_words(target), 0
        found = reference_words(prediction)
        wanted = len(left)
        for word in found:
            if word in left:
                left.remove(word)
                same += 1
        if same:
            precision, recall = same / len(found), same / wanted
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


TEXTS = [
    "", " ", "the", "The a an", "a", "A.", "An apple", "apple", "apples", "the Apple!", "U.S.", "us", "U S",
    "don't", "dont",
    "24\u201310", "24-10", "2410", "caf\u00e9", "cafe\u0301", "CAF\u00c9", "na\u00efve a\u0301 the",
    "a\u2013b", "the\u2014end",
    "\u201cthe\u201d", "\u0130stanbul", "stra\u00dfe", "\u5317\u4eac", "\u5317 \u4eac", "\ufb01sh", "\U0001f600",
    "the\u00a0end", "the\nend", "\tend ", "end", "theend", "an_other", "a_the", "other", "$1,000.50",
    "1000.50", "100050",
    "\u22125", "-5", "5", "\u0967", "x\u200by", "the the cat", "cat cat the cat", "cat", "cat dog",
    "dog cat", "\u2019s", "'s",
]  # fmt: skip


ENGLISH = [t for t in TEXTS if all(c.isascii() or not c.isalnum() for c in t)]
SPACED = [t for t in TEXTS if not re.search("[\u5317\u4eac]", t)]


def squad_rows(rng):
    for text in SPACED:
        for other in SPACED:
            yield text, (other,)
    for _ in range(2000):

        def some():
            return rng.choice([" ", "  ", "\n", "-", ""]).join(rng.choice(SPACED) for _ in range(rng.randrange(5)))

        targets = tuple(some() for _ in range(rng.randrange(1, 6)))
        yield (rng.choice(targets).title() if rng.random() < 0.3 else some()), targets


@pytest.mark.slow
def test_squad_is_what_is_published():
    em, f1 = make_metric("squad_em", []), make_metric("squad_f1", [])
    seen = {"rows": 0, "exact": 0, "partial": 0, "torchmetrics": 0}
    for i, (prediction, targets) in enumerate(squad_rows(random.Random(0))):
        wanted = reference_em(prediction, targets), reference_f1(prediction, targets)
        assert em.row(prediction, targets) == [wanted[0]], (prediction, targets)
        assert f1.row(prediction, targets) == pytest.approx([wanted[1]], abs=1e-12), (prediction, targets)
        seen["rows"] += 1
        seen["exact"] += wanted[0] == 1
        seen["partial"] += 0 < wanted[1] < 1
        # torchmetrics follows v2 where both come to nothing, and v1.1 elsewhere.
        if i % 5 == 0 and reference_words(prediction) and all(reference_words(t) for t in targets):
            theirs = squad(
                {"prediction_text": prediction, "id": "1"},
                {"answers": {"text": list(targets), "answer_start": [0] * len(targets)}, "id": "1"},
            )
            assert float(theirs["exact_match"]) == pytest.approx(100 * wanted[0])
            assert float(theirs["f1"]) == pytest.approx(100 * wanted[1], abs=1e-3)
            seen["torchmetrics"] += 1
    assert seen["rows"] > 4000
    assert min(seen["exact"], seen["partial"], seen["torchmetrics"]) > 200


def test_squad_by_hand():
    em, f1 = make_metric("squad_em", []), make_metric("squad_f1", [])
    for prediction, targets, exact, overlap in [
        ("", ("",), 1, 0),
        ("the", ("",), 1, 0),  # both come to nothing: equal, and without a word in common
        ("", ("cat",), 0, 0),
        ("Carolina Panthers", ("the carolina panthers.",), 1, 1),
        ("Panthers", ("Denver", "Carolina Panthers"), 0, 2 / 3),
        ("cat cat", ("cat",), 0, 2 / 3),
        ("24\u201310", ("2410",), 0, 0),  # a dash that is not ASCII stays
        ("24-10", ("2410",), 1, 1),
    ]:
        assert em.row(prediction, targets) == [exact]
        assert f1.row(prediction, targets) == pytest.approx([overlap])


# Values of equations: Python's own grammar reads them, fractions compute them


def reference_value(text):
    """The value of an expression, or None where it has none."""
    for sign, plain in zip("\u2212\u2013\u00d7\u00f7", "--*/", strict=True):
        text = text.replace(sign, plain)
    if "," in text or "\u202f" in text:  # only well set thousands come here
        text = text.replace(",", "").replace("\u202f", "")
    text = re.sub(r"(?<![0-9.])0+(?=[0-9])", "", text)  # Python takes no 007
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reference_node(ast.parse(text.strip(), mode="eval").body, text.strip())
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def reference_node(node, source):
    kinds = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(ast.get_source_segment(source, node))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -reference_node(node.operand, source)
    if isinstance(node, ast.BinOp) and type(node.op) in kinds:
        return kinds[type(node.op)](reference_node(node.left, source), reference_node(node.right, source))
    raise ValueError("not arithmetic")


SIGNS = ["+", "-", "*", "/", "\u2212", "\u2013", "\u00d7", "\u00f7", " - -", " - ", "(", ")", "((", "))", " ", ""]
NUMBERS = ["0", "1", "2", "3", "7", "10", "0.5", "1.25", ".5", "1,250", "12,345.5", "1\u202f000", "100000", "99999"]


def equation_text(rng):
    if rng.random() < 0.3:  # anything
        return "".join(rng.choice(SIGNS + NUMBERS[:5]) for _ in range(rng.randrange(8)))
    text = rng.choice(NUMBERS)
    for _ in range(rng.randrange(4)):
        sign, other = rng.choice(SIGNS[:10]), rng.choice(NUMBERS)
        if rng.random() < 0.4:
            other = f"({other}{rng.choice(SIGNS[:8])}{rng.choice(NUMBERS)})"
        text = f"({text}){sign}{other}" if rng.random() < 0.3 else f"{text} {sign} {other}"
    return f"-({text})" if rng.random() < 0.1 else text


def equation_rows(rng):
    for prediction in EQUATIONS:
        for target in EQUATIONS:
            yield prediction, (target,)
    for _ in range(1500):
        targets = tuple(equation_text(rng) for _ in range(rng.randrange(1, 4)))
        value = next((v for v in map(reference_value, targets) if v is not None), None)
        kind = rng.random()
        if kind < 0.3 or value is None:
            yield equation_text(rng), targets
        elif kind < 0.6:  # the value itself, written as a quotient
            yield f"{value.numerator} / {value.denominator}".replace("-", "\u2212"), targets
        else:  # just inside or outside of the tolerance
            near = value * (1 + Fraction(rng.choice([99, 100, 101, -99, -100, -101]), 1_000_000))
            yield f"{near.numerator} / {near.denominator}", targets


EQUATIONS = [
    "", " ", "0", "-0", "0.0", "0 / 5", "5 / 0", "0 / 0", "1 / (2 - 2)", "3 - -3", "3--3",
    "3 \u2212 \u22123", "6", "6.0", "x",
    "x - -3", "1,000", "1000", "1\u202f000", "10,00", "( 8.0 - 2.0 )", "(6", "6)", "2 * 3", "2 \u00d7 3",
    "12 \u00f7 2", "1 / 3",
    "0.3333", "0.33333", "0.33334", "6.0006", "6.0007", "-6", "\u22126", "6 = 6", "2 ** 3", "8", "12 // 2",
    "1e3", "six", "6 .",
]  # fmt: skip


@pytest.mark.slow
def test_equation_value_is_what_is_defined():
    metric = make_metric("equation_value", [])
    seen = {"rows": 0, "right": 0, "no value": 0}
    for prediction, targets in equation_rows(random.Random(0)):
        plain = [t for t in (prediction, *targets) if t not in ("10,00", "1e3")]  # the reference knows neither
        if len(plain) < 1 + len(targets):
            continue
        for text in plain:
            try:
                value = parse_equation(text).value
            except FormulaError:
                value = None
            assert value == reference_value(text), text
        found = reference_value(prediction)
        wanted = [v for v in map(reference_value, targets) if v is not None]
        right = found is not None and any(abs(found - v) <= Fraction("0.0001") * abs(v) for v in wanted)
        assert metric.row(prediction, targets) == [float(right)], (prediction, targets)
        seen["rows"] += 1
        seen["right"] += right
        seen["no value"] += found is None or not wanted
    assert seen["rows"] > 2500
    assert min(seen["right"], seen["no value"]) > 400


def test_equation_value_by_hand():
    metric = make_metric("equation_value", [])
    for prediction, target, right in [
        ("10,00", "1000", 0),
        ("1e3", "1000", 0),
        ("1,000", "1000", 1),
        ("0.33333", "1 / 3", 1),
        ("0.333", "1 / 3", 0),
        ("0.00001", "0", 0),  # a share of nothing is nothing
        ("0 / 7", "0.0", 1),
        ("5 / 0", "5 / 0", 0),
        ("", "", 0),
        ("x - -3", "x - -3", 0),
    ]:
        assert metric.row(prediction, (target,)) == [right], (prediction, target)


# ROUGE-L: F of the longest common subsequence of words, Lin (2004), section 3.1, with beta = 1


def reference_rouge_l(prediction, targets):
    def split(text):
        plain = "".join(c if "a" <= c <= "z" or "0" <= c <= "9" else " " for c in text.lower())
        return tuple(plain.split())

    def one(x, y):
        @functools.cache
        def longest(i, j):
            if i == len(x) or j == len(y):
                return 0
            if x[i] == y[j]:
                return 1 + longest(i + 1, j + 1)
            return max(longest(i + 1, j), longest(i, j + 1))

        common = longest(0, 0)
        if not common:
            return 0.0
        recall, precision = common / len(x), common / len(y)
        return 2 * recall * precision / (recall + precision)

    return max(one(split(t), split(prediction)) for t in targets)


def rouge_rows(rng):
    pieces = [*ENGLISH, "x", "y", "z", "1.00", "2.00", "*", "+", "\u2264", "\u2265", "Constraints:", "\n", "max", "MAX"]
    for text in ENGLISH:
        yield text, ("the cat \u2264 1.00", text)
        yield text, (rng.choice(ENGLISH),)
    for _ in range(1000):
        yield (
            " ".join(rng.choice(pieces) for _ in range(rng.randrange(25))),
            tuple(" ".join(rng.choice(pieces) for _ in range(rng.randrange(25))) for _ in range(rng.randrange(1, 4))),
        )


@pytest.mark.slow
def test_rouge_l_is_what_is_published():
    metric = make_metric("rouge_l", [])
    seen = {"rows": 0, "partial": 0, "none": 0}
    for prediction, targets in rouge_rows(random.Random(0)):
        wanted = reference_rouge_l(prediction, targets)
        assert metric.row(prediction, targets) == pytest.approx([wanted], abs=1e-6), (prediction, targets)
        seen["rows"] += 1
        seen["partial"] += 0 < wanted < 1
        seen["none"] += wanted == 0
    assert seen["rows"] > 1000
    assert seen["partial"] > 500
    assert seen["none"] > 20


def test_rouge_l_by_hand():
    metric = make_metric("rouge_l", [])
    # The longest common subsequence of a b c d and a c e is a c: precision 2/4, recall 2/3.
    assert metric.row("a b c d", ("a c e",)) == pytest.approx([2 * 0.5 * 2 / 3 / (0.5 + 2 / 3)])
    assert metric.row("", ("a",)) == metric.row("a", ("",)) == metric.row("", ("",)) == [0.0]
    assert metric.row("\u2264", ("\u2264",)) == [0.0]  # no letter, no digit: no words


def test_rouge_l_of_english_is_torchmetrics_own():
    rng, metric = random.Random(4), make_metric("rouge_l", [])
    for _ in range(300):
        found, target = (" ".join(rng.choice(ENGLISH) for _ in range(rng.randrange(12))) for _ in range(2))
        theirs = rouge_score(found, target, rouge_keys="rougeL")["rougeL_fmeasure"]
        assert metric.row(found, (target,)) == [float(theirs)], (found, target)


@pytest.mark.parametrize(
    ("prediction", "target", "wanted"),
    [
        ("für", "für", 1),
        ("fur", "für", 0),
        ("Der Zug fährt heute", "der Zug faehrt heute", 3 / 4),
        ("今天天气很好", "今天天气不好。", 5 / 6),  # 今天天气好 of six each
        ("今天天气很好", "我喜欢看书", 0),
        ("東京タワー", "東京ﾀﾜｰ", 1),  # full and half width
        ("आज मौसम अच्छा है", "आज मौसम खराब है", 3 / 4),
        ("कल", "कला", 0),  # two words, though the first is a beginning of the second
        ("cafe\u0301", "caf\u00e9", 1),
        ("Привет, мир", "привет мир", 1),
    ],
)  # fmt: skip
def test_rouge_l_of_other_scripts(prediction, target, wanted):
    assert make_metric("rouge_l", []).row(prediction, (target,)) == pytest.approx([wanted], abs=1e-6)


@pytest.mark.parametrize(
    ("prediction", "target", "exact", "overlap"),
    [
        ("北京。", "北京", 1, 1),
        ("北 京", "北京", 1, 1),
        ("在北京", "北京", 0, 2 * 2 / 5),
        ("上海", "北京", 0, 0),
        ("GPT-4 模型", "GPT4模型", 1, 1),
        ("กรุงเทพ", "กรุงเทพฯ", 0, 2 * 6 / 13),  # ก รุ ง เ ท พ, and ฯ
        ("the 北京", "北京", 1, 1),
    ],
)  # fmt: skip
def test_squad_in_scripts_without_spaces(prediction, target, exact, overlap):
    assert make_metric("squad_em", []).row(prediction, (target,)) == [exact]
    assert make_metric("squad_f1", []).row(prediction, (target,)) == pytest.approx([overlap])


# Linear programmes: built as numbers, written down in many ways, compared as numbers


def programme(rng):
    """Direction, objective by description, and rows (coefficients by description, bound), each a x <= b."""
    names = rng.sample(["oak chairs", "pine tables", "stools", "small desks"], rng.randrange(1, 4))
    rows = [
        ({n: rng.choice([0, 0, 1, -1, 2, 5, Fraction("0.33")]) for n in names}, rng.choice([0, 3, -40, 100]))
        for _ in range(rng.randrange(1, 5))
    ]
    return rng.choice(["maximize", "minimize"]), {n: rng.choice([1, 2, 45, Fraction("7.5")]) for n in names}, rows


def written(rng, made):
    """A programme as text: declarations and rows in any order, rows scaled and turned round."""
    direction, objective, rows = made
    names = rng.sample(list(objective), len(objective))
    letters = dict(zip(names, rng.sample("xyzw", len(names)), strict=True))

    def terms(form):
        return " + ".join(f"{number(c)} * {letters[n]}" for n, c in form.items() if c) or "0"

    def number(c):
        text = f"{c.numerator}" if Fraction(c).denominator == 1 else f"{float(c)}"
        return f"({text})" if c < 0 else text

    lines = []
    for form, bound in rng.sample(rows, len(rows)):
        by = rng.choice([1, 1, 2, 10, Fraction("0.5"), -1, -4])
        left, right = terms({n: c * by for n, c in form.items()}), number(Fraction(bound) * by)
        sign = rng.choice(["\u2264", "<=", "<"] if by > 0 else ["\u2265", ">=", ">"])
        if rng.random() < 0.3:
            left, right, sign = right, left, {"\u2264": "\u2265", "<=": ">=", "<": ">"}.get(sign, "<=")
        elif rng.random() < 0.3:
            left, right = f"{left} - {right}", "0"
        lines.append(f"{left} {sign} {right}")
    heads = ", ".join(f"{letters[n]}: {rng.choice([n, n.title(), n.removesuffix('s')])}" for n in names)
    text = f"Variables:\n {heads}\nObjective Function:\n{direction}\n{terms(objective)}\nConstraints:\n" + "\n".join(
        lines
    )
    return text if rng.random() < 0.5 else " ".join(text.split())


def changed(rng, made):
    """The programme with one thing in it another."""
    direction, objective, rows = made[0], dict(made[1]), [(dict(f), b) for f, b in made[2]]
    at, name = rng.randrange(len(rows)), rng.choice(list(objective))
    kind = rng.randrange(6)
    if kind == 0:
        direction = {"maximize": "minimize", "minimize": "maximize"}[direction]
    elif kind == 1:
        objective[name] += 1
    elif kind == 2:
        rows[at] = rows[at][0], rows[at][1] + Fraction("0.01")
    elif kind == 3:
        rows[at][0][name] += 3
    elif kind == 4:
        rows.append(rows[at])
    else:
        rows[at] = {n: -c for n, c in rows[at][0].items()}, -rows[at][1]
    return direction, objective, rows


def reference_programme(made):
    """Floats, each row divided by its norm, sorted: another way to one form."""
    direction, objective, rows = made
    names = sorted(objective)
    found = []
    for form, bound in rows:
        row = [float(form[n]) for n in names] + [float(bound)]
        norm = math.hypot(*row) or 1.0
        found.append([round(v / norm, 9) + 0.0 for v in row])
    return direction, [float(objective[n]) for n in names], sorted(found)


def test_lp_equal_is_equality_up_to_form():
    rng, metric = random.Random(0), make_metric("lp_equal", [])
    seen = {"same": 0, "other": 0}
    for _ in range(700):
        made = programme(rng)
        other = changed(rng, made) if rng.random() < 0.5 else made
        right = reference_programme(made) == reference_programme(other)
        prediction, target = written(rng, other), written(rng, made)
        assert metric.row(prediction, (target,)) == [float(right)], (prediction, target)
        seen["same" if right else "other"] += 1
    assert min(seen.values()) > 250
    assert metric.row("none", ("none",)) == [0.0]


# Sets of labels


SETS = LabelSets()


def random_sets(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        labels = [name for name in "ABCD" if rng.random() < 0.4]
        yield ", ".join(rng.sample(labels, len(labels))) or "none"


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_sets_are_those_of_torchmetrics(seed):
    from torchmetrics.functional.classification import multilabel_exact_match, multilabel_f1_score

    predictions, targets = list(random_sets(50, seed)), list(random_sets(50, seed + 100))
    bits = [torch.tensor([[name in text for name in "ABCD"] for text in x]).int() for x in (predictions, targets)]
    for name, expected in (
        ("accuracy", multilabel_exact_match(*bits, num_labels=4)),
        ("micro_f1", multilabel_f1_score(*bits, num_labels=4, average="micro")),
        ("macro_f1", multilabel_f1_score(*bits, num_labels=4, average="macro")),
    ):
        assert value(make_metric(name, "ABCD", SETS), predictions, targets) == pytest.approx(float(expected))


@pytest.mark.parametrize(("name", "expected"), [("accuracy", 0.5), ("micro_f1", 6 / 7), ("macro_f1", 2 / 3)])
def test_a_text_that_is_no_set_counts_as_the_empty_one_and_is_wrong(name, expected):
    predictions, targets = ["B, a", "B, E", "b", "none"], ["A, B", "none", "B, C", "NONE"]
    assert value(make_metric(name, "ABCD", SETS), predictions, targets) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["micro_f1", "macro_f1"])
def test_rows_without_labels_are_predicted_perfectly(name):
    assert value(make_metric(name, "AB", SETS), ["none", "none"], ["none", "none"]) == 1.0


@pytest.mark.parametrize(("name", "sets"), [("balanced_accuracy", SETS), ("squad_f1", SETS), ("micro_f1", None)])
def test_a_metric_for_other_tasks_is_refused(name, sets):
    with pytest.raises(ConfigError) as caught:
        make_metric(name, "AB", sets)
    assert caught.value.value == name


def test_rows_that_fill_up_a_batch_do_not_count():
    accuracy = make_metric("accuracy", ("A", "B"))
    accuracy.update(["A", "A", "B"], [("A",), ("B",), ("B",)], torch.tensor([0, 1, -1]))
    assert accuracy.compute() == 0.5
    only_padding = make_metric("accuracy", ("A", "B"))
    only_padding.update(["A"], [("A",)], torch.tensor([-1]))
    assert only_padding.compute().isnan()
