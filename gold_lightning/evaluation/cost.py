"""Estimates what a whole run costs, from the measured cost of a few requests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gold_lightning.budget import Budget
from gold_lightning.console import duration, prose, table
from gold_lightning.planning.plan import SynthesisPlan

__all__ = ["Cost", "Measured", "cost", "estimate_lines", "wilson_interval"]


@dataclass(frozen=True)
class Measured:
    """The measured yield and cost of the requests that a preview sent.

    Args:
        requests: Number of requests.
        passed: Number of completions that passed all checks.
        prompt_tokens: Tokens of the prompts.
        completion_tokens: Tokens written by the generator.
        label_tokens: Prompt tokens of the label checks.
        calibration_tokens: Prompt tokens of the calibration, which a run does once before its label checks.
        seconds: Wall time in seconds, without loading and calibration.
        feedback_length: Length of a feedback prompt as a multiple of a training prompt's.
        probe_length: Length of a probe prompt as a multiple of a training prompt's.
    """

    requests: int
    passed: int
    prompt_tokens: int
    completion_tokens: int
    label_tokens: int = 0
    calibration_tokens: int = 0
    seconds: float = 0.0
    feedback_length: float = 1.0
    probe_length: float = 1.0


@dataclass(frozen=True)
class Cost:
    """The cost of generation for a whole run, or for the part until it stops.

    Args:
        requests: Number of requests for samples.
        prompt_tokens: Tokens of all prompts, label checks included.
        completion_tokens: Tokens written by the generator.
        seconds: Generation time in seconds.
    """

    requests: float
    prompt_tokens: float
    completion_tokens: float
    seconds: float


def wilson_interval(hits: int, of: int) -> tuple[float, float]:
    """Returns the 95 % score interval of a share (Wilson, 1927).

    Args:
        hits: Number of successes, 0 to ``of``.
        of: Number of trials, 1 or more.

    >>> low, high = wilson_interval(0, 8)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.324)
    """
    from scipy.stats import binomtest

    low, high = binomtest(hits, of).proportion_ci(method="wilson")
    return float(low), float(high)


def cost(train: float, feedback: float, probe: float, measured: Measured, texts: float = 0.0) -> Cost:
    """Estimates the cost of some requests from the measured cost of a few.

    Prompt tokens of feedback and probe requests are scaled by the length of their prompts; seconds are proportional to
    the number of requests.

    Args:
        train: Number of training requests without feedback.
        feedback: Number of training requests with feedback.
        probe: Number of probe requests.
        measured: Measured cost.
        texts: Number of real texts to label, instead of probe requests; nothing is written for them.
    """
    n = measured.requests
    requests = train + feedback + probe
    prompts = train + feedback * measured.feedback_length + (probe + texts) * measured.probe_length
    return Cost(
        requests=requests + texts,
        prompt_tokens=(measured.prompt_tokens * prompts + measured.label_tokens * requests) / n
        + measured.calibration_tokens,
        completion_tokens=measured.completion_tokens * requests / n,
        seconds=measured.seconds * (requests + texts) / n,
    )


def estimate_lines(
    measured: Measured,
    plan: SynthesisPlan,
    budget: Budget,
    rounds: int,
    rate: float,
    warmup_rounds: int,
    texts: int | None = None,
) -> Iterator[str]:
    """Yields the table of estimated costs and the assumptions behind it.

    Args:
        measured: Measured yield and cost.
        plan: Plan of the run.
        budget: Budget of the run, with prices.
        rounds: Largest number of rounds; below 0 for no limit.
        rate: Share of the prompts with feedback, in [0, 1].
        warmup_rounds: Number of rounds without feedback.
        texts: Number of real texts that probe sets are drawn from; ``None`` for generated probe sets.
    """
    if rounds == 0:
        yield from prose("For 0 rounds (trainer.max_epochs): a run asks for nothing and trains nothing.")
        return
    low, high = wilson_interval(measured.passed, measured.requests)
    least = 1 / plan.max_attempts
    if not measured.passed:
        stop = math.ceil(plan.max_attempts * plan.samples_per_round)
        yield from prose(
            f"None of {measured.requests} accepted. With nothing accepted the run would stop in round 0 after about "
            f"{stop:,} requests (data.plan.max_attempts {plan.max_attempts:g} for each of {plan.samples_per_round:,} "
            "samples), with no student. It would have cost by then:"
        )
        yield from _costs(budget, measured, [cost(stop, 0, 0, measured)], ["until it stops"])
        yield from prose(
            f"{measured.requests} requests do not rule out a yield of up to {high:.0%}; a larger --preview.count says "
            "more. Change the demos, limits or checks of the task, or data.generator, and look again."
        )
        return

    def run(share: float) -> Cost:
        counted = max(1, rounds)
        train = plan.samples_per_round * counted / share
        fed = plan.samples_per_round * max(0, counted - 1 - warmup_rounds) * rate / share
        probes = plan.probe_per_round * counted
        if texts is not None:
            return cost(train - fed, fed, 0, measured, min(texts, probes))
        return cost(train - fed, fed, probes / share, measured)

    share = measured.passed / measured.requests
    each = f"{plan.samples_per_round:,} training and {plan.probe_per_round:,} probe samples"
    if texts is not None:
        each = f"{plan.samples_per_round:,} training samples and {plan.probe_per_round:,} real texts"
    many = f"at most {rounds} rounds" if rounds > 0 else "each round (trainer.max_epochs sets no end)"
    yield from prose(
        f"For {many} of {each}, at a yield of {share:.0%} ({low:.0%} to {high:.0%}: Wilson's 95% interval, from "
        f"{measured.requests} samples of round 0)."
    )
    # A yield below the least one ends the run, so a whole run costs at most as much as at the least yield.
    shares = [max(share, least), max(high, least), max(low, least)]
    yield from _costs(budget, measured, [run(s) for s in shares], ["expected", "from", "to"])
    if low < least:
        often = "is" if share < least else "may be"
        yield from prose(
            f"The yield {often} below {least:.0%}: such a round stops (data.plan.max_attempts {plan.max_attempts:g})."
        )


def _costs(budget: Budget, measured: Measured, costs: Sequence[Cost], head: Sequence[str]) -> Iterator[str]:
    rows = [["", *head], ["requests", *(_count(c.requests) for c in costs)]]
    if measured.prompt_tokens:
        rows += [["prompt tokens", *(_count(c.prompt_tokens) for c in costs)]]
        rows += [["tokens written", *(_count(c.completion_tokens) for c in costs)]]
    else:
        rows += [["tokens", *("not counted" for _ in costs)]]
    rows += [["generator's time, at most", *(duration(c.seconds) for c in costs)]]
    if budget.priced and measured.prompt_tokens:
        rows += [["money", *(f"${budget.cost(c):,.2f}" for c in costs)]]
    yield from (f"  {line}" for line in table(rows, right=range(1, len(head) + 1)))
    if not budget.priced:
        yield "  free, on an own machine; for a paid one set data.budget.price_prompt and price_completion"
    elif not measured.prompt_tokens:
        yield "  money is not known: this generator counts no tokens"


def _count(number: float) -> str:
    """Formats a number with three significant digits, more than an estimate is worth."""
    places = 0 if number < 1000 else 2 - math.floor(math.log10(number))
    return f"{round(number, places):,.0f}"
