"""Limits of a run's cost: tokens, dollars, seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from gold_lightning.errors import BudgetSpentError, ConfigError

__all__ = ["Budget", "Tokens", "Usage"]

_MILLION = 1_000_000


class Tokens(Protocol):
    """Anything with prompt and completion token counts."""

    @property
    def prompt_tokens(self) -> float:
        """Tokens of prompts."""

    @property
    def completion_tokens(self) -> float:
        """Tokens written."""


@dataclass(frozen=True)
class Usage:
    """Requests and tokens that a generator has used.

    Args:
        calls: Number of requests that the generator answered.
        prompt_tokens: Tokens of their prompts.
        completion_tokens: Tokens written.
        reused: Number of requests answered by a stored completion of another run. They cost nothing and do not count
            in the other fields.

    Example:
        >>> Usage(calls=1, prompt_tokens=200, completion_tokens=30) + Usage(calls=2, prompt_tokens=400)
        Usage(calls=3, prompt_tokens=600, completion_tokens=30, reused=0)
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused: int = 0

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Budget:
    """Limits of a run, over all its sessions. A run that reaches one of them stops in order and can be resumed.

    The budget is checked before each call of the generator. Near a limit the generator gets only as many requests as
    fit, each counted at its longest, so a run may exceed a limit by about one request. The round at the limit is not
    trained on; a later session with a higher budget completes it. Seconds are checked between calls: a call in progress
    is completed.

    Args:
        max_tokens: Limit of tokens read and written by the generator.
        max_cost: Limit in dollars, by the two prices.
        max_seconds: Limit in seconds, training included.
        price_prompt: Dollars per million prompt tokens; 0 for a generator on your own machine.
        price_completion: Dollars per million tokens written; 0 for a generator on your own machine.

    Raises:
        ConfigError: A limit is not a positive finite number, a price is negative or not finite, or ``max_cost`` is set
            without a price.

    Example:
        >>> budget = Budget(max_cost=5, price_prompt=0.15, price_completion=0.6)
        >>> budget.cost(Usage(calls=1_000, prompt_tokens=400_000, completion_tokens=50_000))
        0.09
        >>> budget.check(Usage(completion_tokens=9_000_000), seconds=60)
        Traceback (most recent call last):
            ...
        gold_lightning.errors.BudgetSpentError: data.budget.max_cost (5) is spent: $5.4000
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
                "null if tokens have no price",
                "set data.budget.price_prompt or price_completion",
            )

    @property
    def priced(self) -> bool:
        """Whether tokens have a price."""
        return bool(self.price_prompt or self.price_completion)

    def cost(self, usage: Tokens) -> float:
        """Returns the price of tokens, in dollars."""
        return (usage.prompt_tokens * self.price_prompt + usage.completion_tokens * self.price_completion) / _MILLION

    def affordable(self, usage: Usage, requests: Iterable[Usage]) -> int:
        """Counts how many requests, from the first on, fit into the rest of the budget.

        Args:
            usage: Usage of the run so far.
            requests: Upper bound of each request's usage.
        """
        count = 0
        for request in requests:
            usage += request
            over_tokens = self.max_tokens is not None and usage.tokens > self.max_tokens
            if over_tokens or (self.max_cost is not None and self.cost(usage) > self.max_cost):
                break
            count += 1
        return count

    def check(self, usage: Usage, seconds: float) -> None:
        """Raises if any limit is reached.

        Args:
            usage: Usage of the run so far.
            seconds: Seconds of the run so far.

        Raises:
            BudgetSpentError: A limit is reached; the message names it.
        """
        limits: dict[str, tuple[float | None, float, str]] = {
            "max_tokens": (self.max_tokens, usage.tokens, f"{usage.tokens:,} tokens"),
            "max_cost": (self.max_cost, self.cost(usage), f"${self.cost(usage):,.4f}"),
            "max_seconds": (self.max_seconds, seconds, f"{seconds:,.0f} s"),
        }
        for key, (limit, value, text) in limits.items():
            if limit is not None and value >= limit:
                raise BudgetSpentError(f"data.budget.{key} ({limit:,}) is spent: {text}")

    def as_row(self, usage: Usage) -> dict[str, Any]:
        """Returns usage as plain values, with its cost if tokens have a price."""
        row: dict[str, Any] = {
            "calls": usage.calls,
            "prompt": usage.prompt_tokens,
            "completion": usage.completion_tokens,
            "reused_calls": usage.reused,
        }
        return row | ({"cost": round(self.cost(usage), 6)} if self.priced else {})
