"""Limits of a run's cost."""

import doctest

import pytest
from gold_lightning import budget as budget_module
from gold_lightning.budget import Budget, Usage
from gold_lightning.errors import BudgetSpentError, ConfigError


def test_money_is_prompt_and_written_tokens_by_their_own_prices():
    budget = Budget(price_prompt=0.5, price_completion=2.0)
    assert budget.cost(Usage(3, 1_000_000, 250_000)) == pytest.approx(1.0)
    assert Budget().cost(Usage(3, 1_000_000, 250_000)) == 0
    assert budget.as_row(Usage(3, 1000, 500, 2)) == {
        "calls": 3,
        "prompt": 1000,
        "completion": 500,
        "reused_calls": 2,
        "cost": 0.0015,
    }
    assert "cost" not in Budget().as_row(Usage())


def test_spent_adds_up():
    assert Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40) == Usage(11, 22, 33, 44)
    assert Usage(1, 2, 3, 4).tokens == 5


@pytest.mark.parametrize(
    ("limit", "left", "spent", "told"),
    [
        ({"max_tokens": 1000}, (Usage(1, 900, 99), 0), (Usage(1, 900, 100), 0), "max_tokens (1,000) is spent: 1,000"),
        (
            {"max_cost": 0.002, "price_completion": 2.0},
            (Usage(1, 10**9, 999), 0),
            (Usage(1, 0, 1000), 0),
            "max_cost (0.002) is spent: $0.0020",
        ),
        ({"max_seconds": 60}, (Usage(1, 10**9, 9), 59.9), (Usage(), 60.0), "max_seconds (60) is spent: 60 s"),
    ],
)
def test_a_limit_is_reached_and_not_before(limit, left, spent, told):
    Budget(**limit).check(*left)
    with pytest.raises(BudgetSpentError) as e:
        Budget(**limit).check(*spent)
    assert told in str(e.value)


def test_without_limits_nothing_is_ever_spent():
    Budget().check(Usage(10**9, 10**12, 10**12), 1e12)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_cost": -1.0, "price_prompt": 1.0}, "max_cost"),
        ({"max_cost": 5.0}, "max_cost"),
        ({"max_seconds": float("inf")}, "max_seconds"),
        ({"max_seconds": float("nan")}, "max_seconds"),
        ({"price_prompt": -0.1}, "price_prompt"),
        ({"price_completion": float("nan")}, "price_completion"),
    ],
)
def test_wrong_budgets_name_their_key(wrong, key):
    with pytest.raises(ConfigError) as e:
        Budget(**wrong)
    assert e.value.key == f"data.budget.{key}" and str(e.value.value) == str(wrong[key])


def test_requests_that_fit_are_counted_at_their_longest():
    budget = Budget(max_tokens=100, max_cost=1.0, price_completion=1.0)
    assert budget.affordable(Usage(prompt_tokens=40), [Usage(1, 20, 10)] * 5) == 2
    assert budget.affordable(Usage(prompt_tokens=99), [Usage(1, 20, 10)]) == 0
    assert Budget().affordable(Usage(prompt_tokens=10**12), [Usage(1, 20, 10)] * 5) == 5


def test_the_examples_run():
    results = doctest.testmod(budget_module)
    assert results.attempted and not results.failed
