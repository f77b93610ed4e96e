"""Log-likelihoods of labels from the log-probabilities that different servers return."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gold_lightning.generators.base import distinguishing_prefixes
from gold_lightning.generators.openai.parse_response import at_path, is_number

__all__ = [
    "TOP_LOGPROBS",
    "NoScoresError",
    "ScoredToken",
    "choice_sums",
    "echo_scores",
    "first_token_scores",
    "last_tokens",
    "prompt_scores",
]

TOP_LOGPROBS = 20
"""Maximum number of most likely first tokens that the interface returns."""
_AROUND = " \t\n\r\"'`*“”▁ĠĊ"  # characters before a label, and tokenizers' signs for spaces
_ROUNDING = 0.01  # by which a log-likelihood may exceed 0
_MIN_MASS = 1e-4  # of all labels' first tokens; below it the model is about to write something else


class NoScoresError(Exception):
    """A reply without usable log-likelihoods; the message says why."""


class ScoredToken(NamedTuple):
    """A token of a prompt, its log-likelihood, and its width in characters."""

    token: str
    score: float
    width: int


def first_token_scores(top_logprobs: Any, names: Sequence[str]) -> tuple[float, ...]:
    """Log-likelihood of each label by the first token of an answer.

    A label that is not among the most likely tokens gets the smallest returned likelihood, which bounds its own from
    above.

    Args:
        top_logprobs: Tokens and log-probabilities as the server returned them, which may be anything.
        names: The labels.

    Returns:
        One log-likelihood per label; empty if no label is among the tokens, so that there is no preference.

    Raises:
        NoScoresError: There are no log-probabilities, they are invalid, or labels begin alike.
    """
    returned = top_logprobs if isinstance(top_logprobs, list) else []
    pairs = [(at_path(t, "token"), at_path(t, "logprob")) for t in returned]
    tokens = [(t.strip(_AROUND).casefold(), float(p)) for t, p in pairs if isinstance(t, str) and is_number(p)]
    if not tokens:
        raise NoScoresError("its answers hold no top_logprobs")
    if max(p for _, p in tokens) > _ROUNDING:
        raise NoScoresError("its top_logprobs are above 0, which no log-likelihood is")
    if len(tokens) < len(pairs):  # an invalid number may belong to a label
        return ()
    mass, ambiguous = [0.0] * len(names), 0.0
    for token, p in tokens:
        matches = [i for i, name in enumerate(names) if token and name.casefold().startswith(token)]
        if len(matches) == 1:
            mass[matches[0]] += math.exp(p)
        elif matches:
            ambiguous += math.exp(p)
    if ambiguous > sum(mass):
        raise NoScoresError(f"the first token of its answers does not tell {' from '.join(names)}")
    if sum(mass) < _MIN_MASS:  # the answer would not begin with a label but with thinking or a phrase
        return ()
    rest = 1 - sum(math.exp(p) for _, p in tokens)
    floor = min(p for _, p in tokens if p > -math.inf)
    floor = min(floor, math.log(rest)) if rest > 0 else floor
    # A label whose returned likelihood is zero has none.
    impossible = [any(t and name.casefold().startswith(t) for t, p in tokens if p == -math.inf) for name in names]
    return tuple(
        math.log(m) if m > 0 else -math.inf if none else floor for m, none in zip(mass, impossible, strict=True)
    )


def choice_sums(choices: Sequence[Sequence[ScoredToken]]) -> tuple[float, ...]:
    """Log-likelihood of each choice, up to the token that distinguishes it from all others."""
    prefixes = distinguishing_prefixes([[scored.token for scored in choice] for choice in choices])
    return tuple(
        sum(scored.score for scored in choice[: len(prefix)]) for prefix, choice in zip(prefixes, choices, strict=True)
    )


def echo_scores(choice: Mapping[str, Any]) -> list[ScoredToken]:
    """Tokens of an echoed prompt, from the first one after which all have a likelihood."""
    tokens, scores, offsets = (
        at_path(choice, "logprobs", name) for name in ("tokens", "token_logprobs", "text_offset")
    )
    if isinstance(tokens, list) and any(isinstance(t, str) and t.startswith("token_id:") for t in tokens):
        return []  # ids in place of tokens do not tell where a text begins
    if not isinstance(tokens, list) or not isinstance(scores, list) or len(tokens) != len(scores):
        return []
    prompt_tokens = at_path(choice, "usage", "prompt_tokens")
    counted = isinstance(prompt_tokens, int) and prompt_tokens > 0
    size = min(prompt_tokens, len(tokens)) if counted else len(tokens) - 1  # the last one was written
    # A token of part of a character is written with more characters than it has; offsets give its true width.
    placed = isinstance(offsets, list) and len(offsets) > size and all(isinstance(o, int) for o in offsets)
    scored: list[ScoredToken] = []
    for i in reversed(range(size)):
        if not isinstance(tokens[i], str) or not is_number(scores[i]):
            break
        width = offsets[i + 1] - offsets[i] if placed else len(tokens[i])
        scored.append(ScoredToken(tokens[i], float(scores[i]), width))
    return scored[::-1]


def prompt_scores(choice: Mapping[str, Any]) -> list[ScoredToken]:
    """Tokens of a prompt as vLLM returns them: for each position a mapping with one token."""
    positions = at_path(choice, "prompt_logprobs")
    scored: list[ScoredToken] = []
    for position in reversed(positions if isinstance(positions, list) else []):
        first = next(iter(position.values()), None) if isinstance(position, dict) else None
        token, score = at_path(first, "decoded_token"), at_path(first, "logprob")
        if not isinstance(token, str) or not is_number(score):
            break
        scored.append(ScoredToken(token, float(score), len(token)))
    return scored[::-1]


def last_tokens(scored: Sequence[ScoredToken], text: str) -> list[ScoredToken]:
    """The last tokens, which cover a text; none if they do not reach that far.

    They are counted from the end because a server may put tokens of its own before the prompt.
    """
    size = 0
    for i in reversed(range(len(scored))):
        size += scored[i].width
        if size >= len(text):
            return list(scored[i:])
    return []
