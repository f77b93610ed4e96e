"""From requests to tokens, the same for all engines that have the model's tokenizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators.base import Request
from gold_lightning.paths import expand

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_model", "check_sampling", "encode", "excess", "refuse_excess"]


def check_sampling(batch_size: int, temperature: float, top_k: int, top_p: float) -> None:
    """Refuses wrong values of the settings that all such engines have.

    Raises:
        ConfigError: A value is out of its range.
    """
    key = "data.generator.init_args."
    if batch_size < 1:
        raise ConfigError(key + "batch_size", batch_size, "1 or more")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ConfigError(key + "temperature", temperature, "a finite number, 0 or more")
    if top_k < 0:
        raise ConfigError(key + "top_k", top_k, "0 (all) or more")
    if not 0 < top_p <= 1:
        raise ConfigError(key + "top_p", top_p, "a number above 0, at most 1")


def check_model(model: str) -> None:
    """Refuses a name that no model can have.

    Raises:
        ConfigError: It is empty, or in a home folder that there is not.
    """
    if not model.strip():
        raise ConfigError("data.generator.init_args.model", model, "a hub id or a folder")
    expand("data.generator.init_args.model", model)


def encode(
    request: Request, tokenizer: PreTrainedTokenizerBase, form: Literal["auto", "chat", "completion"]
) -> list[int]:
    """Tokens of a request's prompt, up to the end of its answer's beginning.

    Args:
        request: The request.
        tokenizer: The model's.
        form: ``chat`` uses the tokenizer's chat template, ``completion`` plain text; ``auto`` takes the
            template where there is one.
    """
    if form == "completion" or (form == "auto" and tokenizer.chat_template is None):
        return list(tokenizer(request.text).input_ids)
    messages = [
        {"role": "system", "content": request.system},
        {"role": "user", "content": (request.shared + request.own).strip()},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(str(text) + request.answer, add_special_tokens=False).input_ids)


def excess(
    requests: Sequence[Request],
    prompts: Sequence[list[int]],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
) -> tuple[list[int], list[int]]:
    """Of each request, by how many tokens it is too long, and how many tokens may follow the prompt.

    Args:
        requests: The requests.
        prompts: Their tokens.
        tokenizer: The model's.
        limit: Tokens that the model takes; ``None`` where nobody knows.
    """
    # A request with choices writes nothing; what is scored are the choices themselves.
    longest = {
        choices: max(len(tokenizer(c, add_special_tokens=False).input_ids) for c in choices)
        for choices in {request.choices for request in requests if request.choices}
    }
    more = [longest[r.choices] if r.choices else r.max_tokens for r in requests]
    over = [max(0, len(ids) + m - limit) if limit else 0 for ids, m in zip(prompts, more, strict=True)]
    return over, more


def refuse_excess(
    requests: Sequence[Request],
    prompts: Sequence[list[int]],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    model: str,
) -> None:
    """Says in one line which request is too long; nothing is ever cut in silence.

    Args:
        requests: The requests.
        prompts: Their tokens.
        tokenizer: The model's.
        limit: Tokens that the model takes; ``None`` where nobody knows.
        model: Its name.

    Raises:
        GoldError: A prompt with what may follow it is longer than the limit.
    """
    for ids, over, more in zip(prompts, *excess(requests, prompts, tokenizer, limit), strict=True):
        if over:
            raise GoldError(
                f"a prompt of {len(ids)} tokens and {more} to write are more than the {limit} "
                f"tokens of {model}: show fewer or shorter demos (--data.plan.seed_demos)"
            )
