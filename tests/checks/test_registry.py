"""A check of a user's own: registered by a decorator, named by a task, refused if it cannot be one."""

from dataclasses import replace

import pytest
from gold_lightning.checks import check
from gold_lightning.checks.checker import Checker
from gold_lightning.checks.registry import CHECKS
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators import Completion
from gold_lightning.task import Check, Task

NEWS = Task.load("news_topics")
COMPLETION = Completion(" Rail strike ends after nine days. Drivers went back to work on Monday after a vote.")


@pytest.fixture
def registered(monkeypatch):
    """Checks that the test registers are gone after it."""
    for name in list(CHECKS):
        monkeypatch.setitem(CHECKS, name, CHECKS[name])
    before = set(CHECKS)
    yield CHECKS
    for name in set(CHECKS) - before:
        del CHECKS[name]


def judge(*checks):
    checker = Checker(replace(NEWS, checks=checks))
    checked = checker.judge(COMPLETION, "Business", "topic: Business\ntext:", "Write one.", [])
    return checked.sample, checked.reason


def test_a_check_of_ones_own_rejects_with_its_reason(registered):
    @check
    def without_word(sample, task, *, word):
        return "has_the_word" if word in sample.text else ""

    assert judge(Check("without_word", {"word": "Drivers"})) == (None, "has_the_word")
    sample, reason = judge(Check("without_word", {"word": "Pilots"}))
    assert reason == "" and sample.target == "Business"
    with pytest.raises(ConfigError) as e:
        judge(Check("without_word", {"words": "Drivers"}))
    assert e.value.key.endswith("checks[0].without_word")
    assert (e.value.value, e.value.allowed) == ({"words": "Drivers"}, "its parameters: word")


def test_an_unknown_check_lists_the_known_ones(registered):
    with pytest.raises(ConfigError) as e:
        judge(Check("without_wrd"))
    assert e.value.key.endswith("checks[0]") and e.value.value == "without_wrd"
    assert e.value.allowed == f"one of {', '.join(sorted(CHECKS))}"


def test_a_name_that_is_taken_is_refused_except_by_the_same_module(registered):
    @check
    def first_try(sample, task):
        return "first"

    @check
    def first_try(sample, task):  # noqa: F811 - a notebook's cell, run again
        return "second"

    assert judge(Check("first_try")) == (None, "second")
    with pytest.raises(GoldError, match="min_words"):

        @check
        def min_words(sample, task):
            return ""

    assert CHECKS["min_words"].__module__ == "gold_lightning.checks.rules"


@pytest.mark.parametrize(
    "function",
    [lambda sample: "", lambda sample, task, field: "", lambda *samples: "", lambda sample, task, **params: ""],
    ids=["no task", "parameter before the star", "any number", "any parameters"],
)
def test_a_function_with_other_parameters_is_refused(registered, function):
    with pytest.raises(GoldError, match=r"must take \(sample, task, \*"):
        check(function)
    assert "<lambda>" not in CHECKS
