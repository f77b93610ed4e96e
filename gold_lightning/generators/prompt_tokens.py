"""From requests to tokens, the same for all engines that have the model's tokenizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators.base import Request
from gold_lightning.inputs.paths import expand
from gold_lightning.parsing.thinking import is_thinking_tag, without_open_thinking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Decoded",
    "check_model",
    "check_sampling",
    "decode",
    "encode",
    "end_tokens",
    "has_thinking_tokens",
    "require_within_limit",
    "tokens_over_limit",
]


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

    Raises:
        ConfigError: The form is ``chat``, and there is no template.
        GoldError: The template refuses the prompt.
    """
    if form == "completion" or (form == "auto" and tokenizer.chat_template is None):
        return list(tokenizer(request.text).input_ids)
    text = without_open_thinking(_chat(request, tokenizer))
    return list(tokenizer(text + request.answer_prefix, add_special_tokens=False).input_ids)


def _chat(request: Request, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt by the chat template; the system's text goes before the user's if the template takes none."""
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        allowed = f"auto or completion: the tokenizer of {tokenizer.name_or_path} has no chat template"
        raise ConfigError("data.generator.init_args.form", "chat", allowed)
    user = (request.prefix + request.suffix).strip()
    whole = [{"role": "user", "content": f"{request.system}\n\n{user}".strip()}]
    apart = [{"role": "system", "content": request.system}, {"role": "user", "content": user}]
    # Models whose template has this switch would think before they answer.
    switch: dict[str, Any] = {"enable_thinking": False} if "enable_thinking" in str(tokenizer.chat_template) else {}
    said = ""
    for messages in [apart, whole] if request.system else [whole]:
        try:
            made = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **switch)
        except (TemplateError, ValueError, TypeError) as e:
            said = " ".join(str(e).split())[:160]
            continue
        text = str(made)
        if messages is whole or " ".join(request.system.split()) in " ".join(text.split()):  # some leave it out
            return text
    raise GoldError(
        f"the chat template of {tokenizer.name_or_path} refuses the prompt ({said}); set "
        "data.generator.init_args.form to completion"
    )


def end_tokens(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> set[int]:
    """Tokens that end a text: the ends that the model names, and all special tokens, none of which is text.

    Those of thinking are left out: the reader takes thinking off by them.

    Args:
        tokenizer: The model's.
        configs: What else may name an end as ``eos_token_id``, one or a list: the model's own configs.
    """
    found: set[int] = set()
    for value in (getattr(config, "eos_token_id", None) for config in (tokenizer, *configs)):
        found.update(value if isinstance(value, list | tuple) else [value] if value is not None else [])
    return found | {i for i, text in _special(tokenizer).items() if not is_thinking_tag(text)}


def has_thinking_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether special tokens begin or end thinking, so that leaving them out would make text of it."""
    return any(is_thinking_tag(text) for text in _special(tokenizer).values())


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Special tokens by their ids."""
    added = {i: str(token) for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
    ids, texts = getattr(tokenizer, "all_special_ids", []), getattr(tokenizer, "all_special_tokens", [])
    return added | {i: str(text) for i, text in zip(ids, texts, strict=False)}


class Decoded:
    """The text of tokens that come one by one. Each is decoded with the few before it and not with all.

    Args:
        tokenizer: The model's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        # Tokens whose text is known, for what they do to the next one (a space, a joined letter), then those that end
        # within a character.
        self._known: list[int] = []
        self._open: list[int] = []

    def with_next(self, token: int) -> str:
        """The text if this token were the next one."""
        return self.text + self._gain(token)

    def add(self, token: int) -> None:
        """Takes a token."""
        gain = self._gain(token)
        self._open.append(token)
        if gain:
            self.text += gain
            self._known, self._open = self._open, []

    def _gain(self, token: int) -> str:
        before = decode(self._tokenizer, self._known)
        after = decode(self._tokenizer, [*self._known, *self._open, token])
        return "" if after.endswith("\ufffd") else after[len(before) :]


def decode(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """The text of tokens as it is, special ones included."""
    return str(tokenizer.decode([*tokens], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def tokens_over_limit(
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


def require_within_limit(
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
    for ids, over, more in zip(prompts, *tokens_over_limit(requests, prompts, tokenizer, limit), strict=True):
        if over:
            raise GoldError(
                f"a prompt of {len(ids)} tokens and {more} to write are more than the {limit} "
                f"tokens of {model}: show fewer or shorter demos (--data.plan.seed_demos)"
            )
