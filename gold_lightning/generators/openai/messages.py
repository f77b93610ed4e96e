"""The messages of a chat, how long they may be, and what servers make of an answer that is begun for them."""

from __future__ import annotations

import math
from typing import Any

from gold_lightning.generators.base import Request

__all__ = ["BYTES_PER_TOKEN", "after_beginning", "chat_prompt", "size_in_tokens"]

BYTES_PER_TOKEN = 4  # of English under a large vocabulary; for estimates only


def chat_prompt(request: Request, system: str, continue_answer: bool) -> dict[str, Any]:
    """Returns the members of a call that hold the prompt.

    Args:
        request: The request.
        system: ``message`` makes the system text a message of its own; ``user`` puts it before the user's text.
        continue_answer: Begin the answer in a final assistant message. Without it, the prompt of a text asks for that
            beginning.
    """
    user = (request.prefix + request.suffix).strip()
    messages = [{"role": "system", "content": request.system}] if request.system else []
    if messages and system == "user":
        user, messages = f"{request.system}\n\n{user}", []
    if not continue_answer or not request.answer_prefix:
        if request.answer_prefix and not request.choices:
            user += f"\n\nBegin your answer with:\n{request.answer_prefix}"
        return {"messages": [*messages, {"role": "user", "content": user}]}
    messages += [{"role": "user", "content": user}, {"role": "assistant", "content": request.answer_prefix}]
    return {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}


def after_beginning(content: Any, beginning: str) -> Any:
    r"""Returns what follows the beginning of an answer: llama.cpp repeats that before what it writes, vLLM does not.

    Args:
        content: An answer as the server returned it, which may be anything.
        beginning: What the final assistant message held.

    Example:
        >>> after_beginning("topic: World\ntext: A river.", "topic: World\ntext:")
        ' A river.'
    """
    beginning = beginning.strip()
    if not beginning or not isinstance(content, str) or not content.lstrip().startswith(beginning):
        return content
    return content.lstrip().removeprefix(beginning)


def size_in_tokens(text: str) -> int:
    """Returns how many tokens a text has, roughly: servers count them exactly, but only afterwards."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)
