"""What a run may spend, and what it has spent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from gold_lightning.errors import BudgetSpentError, ConfigError

__all__ = ["Budget", "Spent", "Tokens"]

_MILLION = 1_000_000


class Tokens(Protocol):
    """Something that took tokens."""

    @property
    def prompt_tokens(self) -> float:
        """Tokens of prompts."""

    @property
    def completion_tokens(self) -> float:
        """Tokens written."""


@dataclass(frozen=True)
class Spent:
    """What completions took.

    Args:
        calls: Requests that the generator answered.
        prompt_tokens: Tokens of their prompts.
        completion_tokens: Tokens written.
        reused: Requests that a stored completion of another run answered. They cost nothing, and are not in the rest.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused: int = 0

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Budget:
    """What a run may spend, over all its sittings. It ends in order when any of it is spent.

    It is looked at before each call of the generator, which near its end gets no more requests than what is left pays
    for, each at its longest: so a run may spend about one request more. A round that is cut off is not trained on, but
    goes on where it was under a higher budget. Seconds are only looked at: a call that was begun is finished.

    Args:
        max_tokens: Most tokens read and written by the generator.
        max_cost: Most dollars, by the two prices.
        max_seconds: Most seconds, training included.
        price_prompt: Dollars for a million prompt tokens; 0 on an own machine.
        price_completion: Dollars for a million tokens written; 0 on an own machine.
    """

    max_tokens: int | None = None
    max_cost: float | None = None
    max_seconds: float | None = None
    price_prompt: float = 0.0
    price_completion: float = 0.0

    def __post_init__(self) -> None:
        for key in ("max_tokens", "max_cost", "max_seconds"):
            value = getattr(self, key)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"data.budget.{key}", value, "a finite number above 0, or null for no limit")
        for key in ("price_prompt", "price_completion"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"data.budget.{key}", value, "a finite number of dollars, 0 or more")
        if self.max_cost is not None and not self.priced:
            raise ConfigError(
                "data.budget.max_cost",
                self.max_cost,
                "null where nothing costs anything",
                "set data.budget.price_prompt or price_completion",
            )

    @property
    def priced(self) -> bool:
        """Whether tokens cost anything."""
        return bool(self.price_prompt or self.price_completion)

    def cost(self, spent: Tokens) -> float:
        """Dollars that tokens cost."""
        return (spent.prompt_tokens * self.price_prompt + spent.completion_tokens * self.price_completion) / _MILLION

    def pays_for(self, spent: Spent, costs: Iterable[Spent]) -> int:
        """How many requests, of some in order, what is left pays for.

        Args:
            spent: By the run so far.
            costs: What each request takes at most.
        """
        count = 0
        for cost in costs:
            spent += cost
            tokens = self.max_tokens is not None and spent.tokens > self.max_tokens
            if tokens or (self.max_cost is not None and self.cost(spent) > self.max_cost):
                break
            count += 1
        return count

    def check(self, spent: Spent, seconds: float) -> None:
        """Looks whether something is left.

        Args:
            spent: By the run so far.
            seconds: Of the run so far.

        Raises:
            BudgetSpentError: It is not.
        """
        limits: dict[str, tuple[float | None, float, str]] = {
            "max_tokens": (self.max_tokens, spent.tokens, f"{spent.tokens:,} tokens"),
            "max_cost": (self.max_cost, self.cost(spent), f"${self.cost(spent):,.4f}"),
            "max_seconds": (self.max_seconds, seconds, f"{seconds:,.0f} s"),
        }
        for key, (limit, value, told) in limits.items():
            if limit is not None and value >= limit:
                raise BudgetSpentError(f"data.budget.{key} ({limit:,}) is spent: {told}")

    def as_row(self, spent: Spent) -> dict[str, Any]:
        """Plain values of what was spent, dollars included where tokens cost something."""
        row: dict[str, Any] = {
            "calls": spent.calls,
            "prompt": spent.prompt_tokens,
            "completion": spent.completion_tokens,
            "reused_calls": spent.reused,
        }
        return row | ({"cost": round(self.cost(spent), 6)} if self.priced else {})
