"""Conversion between requests and tokens, for all engines with access to the model's tokenizer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators.base import Request
from gold_lightning.inputs.paths import expand
from gold_lightning.parsing.special import looks_special
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
    "is_tuned_for_chat",
    "require_within_limit",
    "tokens_over_limit",
]


def check_sampling(batch_size: int, temperature: float, top_k: int, top_p: float) -> None:
    """Validates the sampling settings that these engines share.

    Raises:
        ConfigError: A value is out of range.
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
    """Validates the name of a model.

    Raises:
        ConfigError: The name is empty, or in a home folder that does not exist.
    """
    if not model.strip():
        raise ConfigError("data.generator.init_args.model", model, "a hub id or a folder")
    expand("data.generator.init_args.model", model)


def encode(
    request: Request, tokenizer: PreTrainedTokenizerBase, form: Literal["auto", "chat", "completion"]
) -> list[int]:
    """Tokens of a request's prompt, answer prefix included.

    Args:
        request: The request.
        tokenizer: The model's tokenizer.
        form: ``chat`` uses the tokenizer's chat template, ``completion`` plain text; ``auto`` uses the template if
            there is one.

    Raises:
        ConfigError: The form is ``chat``, and there is no template.
        GoldError: The template rejects the prompt.
    """
    if form == "completion" or (form == "auto" and tokenizer.chat_template is None):
        return list(tokenizer(request.text).input_ids)
    text = without_open_thinking(_chat(request, tokenizer))
    return list(tokenizer(text + request.answer_prefix, add_special_tokens=False).input_ids)


def _chat(request: Request, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt in the chat template; the system text precedes the user's if the template takes no system message."""
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        allowed = f"auto or completion: the tokenizer of {tokenizer.name_or_path} has no chat template"
        raise ConfigError("data.generator.init_args.form", "chat", allowed)
    user = (request.prefix + request.suffix).strip()
    pairs = request.messages or (("system", request.system), ("user", user))
    separate = [{"role": role, "content": text} for role, text in pairs]
    system, first, *rest = [*separate] if pairs[0][0] == "system" else [{"content": ""}, *separate]
    joined = [first | {"content": f"{system['content']}\n\n{first['content']}".strip()}, *rest]
    # Models whose template has this switch would otherwise think before they answer.
    switch: dict[str, Any] = {"enable_thinking": False} if "enable_thinking" in str(tokenizer.chat_template) else {}
    reason = ""
    for messages in [separate, joined] if system["content"] else [joined]:
        try:
            prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **switch)
        except (TemplateError, ValueError, TypeError) as e:
            reason = " ".join(str(e).split())[:160]
            continue
        text = str(prompt)
        if messages is joined or " ".join(system["content"].split()) in " ".join(
            text.split()
        ):  # some templates drop it
            return text
    raise GoldError(
        f"the chat template of {tokenizer.name_or_path} refuses the prompt ({reason}); set "
        "data.generator.init_args.form to completion"
    )


def is_tuned_for_chat(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> bool:
    """Whether a model has a chat template and was tuned for it.

    Base models are often published with the template of their tuned sister. They end a text with another token than
    the template ends an answer with, and write no good answers in it.

    Args:
        tokenizer: The model's tokenizer.
        configs: Further objects with ``eos_token_id``, one id or a list: the model's own configs.
    """
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        return False
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except (TemplateError, ValueError, TypeError):
        return True  # the template says nothing about its end
    after = tokenizer(text.rpartition("answer")[2], add_special_tokens=False).input_ids
    special = [token for token in after if token in _special(tokenizer)]
    return not special or special[0] in _eos_tokens(tokenizer, *configs)


_UNTRAINED = re.compile("unused|reserved|extra_id", re.IGNORECASE)  # thousands of tokens that no model writes


def end_tokens(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> set[int]:
    """Tokens that end a text: those that the model's configs name, and all special tokens, which are no text.

    A token written as special ones are counts as one even if the tokenizer does not say so: converted models often lose
    that mark. Tokens around thinking are excluded, as they are needed to remove the thinking from the text.

    Args:
        tokenizer: The model's tokenizer.
        configs: Further objects with ``eos_token_id``, one id or a list: the model's own configs.
    """
    vocabulary = tokenizer.get_vocab().items()
    unmarked = {i: text for text, i in vocabulary if looks_special(text) and not _UNTRAINED.search(text)}
    special = unmarked | _special(tokenizer)
    return _eos_tokens(tokenizer, *configs) | {i for i, text in special.items() if not is_thinking_tag(text)}


def _eos_tokens(*configs: Any) -> set[int]:
    ends: set[int] = set()
    for value in (getattr(config, "eos_token_id", None) for config in configs):
        ends.update(value if isinstance(value, list | tuple) else [value] if value is not None else [])
    return ends


def has_thinking_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether special tokens delimit thinking, which would become text if they were left out."""
    return any(is_thinking_tag(text) for text in _special(tokenizer).values())


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    added = {i: str(token) for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
    ids, texts = getattr(tokenizer, "all_special_ids", []), getattr(tokenizer, "all_special_tokens", [])
    return added | {i: str(text) for i, text in zip(ids, texts, strict=False)}


class Decoded:
    """The text of tokens that arrive one by one, each decoded with the few before it rather than with all.

    Args:
        tokenizer: The model's tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        # Last tokens with known text, which may change the text of the next one (a space, a joined letter).
        self._known: list[int] = []
        # Tokens after them, the last of which ends within a character.
        self._open: list[int] = []

    def with_next(self, token: int) -> str:
        """The text with one more token, which is not added."""
        return self.text + self._gain(token)

    def add(self, token: int) -> None:
        """Adds a token."""
        gain = self._gain(token)
        self._open.append(token)
        if gain:
            self.text += gain
            self._known, self._open = self._open, []

    def _gain(self, token: int) -> str:
        known = decode(self._tokenizer, self._known)
        text = decode(self._tokenizer, [*self._known, *self._open, token])
        return "" if text.endswith("\ufffd") else text[len(known) :]


def decode(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """The text of tokens, special ones included."""
    return str(tokenizer.decode([*tokens], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def tokens_over_limit(
    requests: Sequence[Request],
    prompts: Sequence[list[int]],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
) -> tuple[list[int], list[int]]:
    """Number of tokens by which each request exceeds the limit, and number of tokens that may follow its prompt.

    Args:
        requests: The requests.
        prompts: Their tokens.
        tokenizer: The model's tokenizer.
        limit: Size of the model's context in tokens; ``None`` if unknown.
    """
    # A request with choices writes nothing; its choices follow the prompt instead.
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
    """Raises if a request is too long; no prompt is ever cut silently.

    Args:
        requests: The requests.
        prompts: Their tokens.
        tokenizer: The model's tokenizer.
        limit: Size of the model's context in tokens; ``None`` if unknown.
        model: Name of the model.

    Raises:
        GoldError: A prompt and the tokens that may follow exceed the limit.
    """
    for ids, over, more in zip(prompts, *tokens_over_limit(requests, prompts, tokenizer, limit), strict=True):
        if over:
            raise GoldError(
                f"a prompt of {len(ids)} tokens and {more} to write are more than the {limit} "
                f"tokens of {model}: show fewer or shorter demos (--data.plan.seed_demos)"
            )
