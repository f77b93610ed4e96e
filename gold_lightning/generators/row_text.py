"""The text of one row while it is decoded: when it ends, and which lines it must begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gold_lightning.generators.base import Completion, Request
from gold_lightning.generators.prompt_tokens import Decoded, decode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["RowText"]


class RowText:
    """The text of one row: the model's tokens and, after the end of a line, the beginning of the request's next line.

    Args:
        request: The request.
        tokenizer: The model's tokenizer.
        ends: Tokens that end a text.
    """

    def __init__(self, request: Request, tokenizer: PreTrainedTokenizerBase, ends: set[int]) -> None:
        self.tokens: list[int] = []
        self.ended = False
        self._request, self._tokenizer, self._ends = request, tokenizer, ends
        self._decoded = Decoded(tokenizer)
        self._stopped: int | None = None  # position in the text at which a stop or a line's end cut it
        self._searched = 0  # position in the text before which there is no stop
        self._overlap = max(map(len, request.stop), default=1) - 1
        self._finish: Literal["stop", "length"] = "length"
        self._line_prefixes = list(request.line_prefixes)  # those not written yet
        self._forced: list[int] = []  # tokens that come next, whatever the model predicts
        self._value_start = 0  # position in the text after the last line prefix

    def add(self, token: int) -> None:
        """Takes the model's next token; the token actually written, which may differ, is the last of :attr:`tokens`."""
        if self._forced:
            self._write(self._forced.pop(0))
            if not self._forced:
                self._value_start = len(self._decoded.text)
            return
        is_end = token in self._ends
        written = self._decoded.text
        text = written if is_end else self._decoded.with_next(token)
        one_line = bool(self._line_prefixes if self._request.open_end else self._request.line_prefixes)
        line_end = text.find("\n", self._value_start) if one_line else -1
        if self._line_prefixes and (is_end or line_end >= 0):
            # One token may hold the last letters of a line together with its end.
            rest = "" if is_end else text[:line_end].removeprefix(written)
            forced = f"{rest}\n{self._line_prefixes.pop(0)}"
            self._forced = list(self._tokenizer(forced, add_special_tokens=False).input_ids)
            self._write(self._forced.pop(0))
        elif is_end:
            self._end()
        else:
            self._write(token)
            stops = [text.find(stop, self._searched) for stop in self._request.stop]
            self._searched = max(0, len(text) - self._overlap)
            if ends := [end for end in (line_end, *stops) if end >= 0]:
                self._stopped = min(ends)
                self._end()

    def completion(self, prompt_tokens: int) -> Completion:
        """The completion as it stands.

        Args:
            prompt_tokens: Tokens of the prompt.
        """
        whole = decode(self._tokenizer, self.tokens) if self._stopped is None else self._decoded.text
        text = whole[: self._stopped]
        reply = self._request.read(text)
        finish = "stop" if reply.ended else self._finish
        return Completion(
            reply.text, prompt_tokens, len(self.tokens), finish, reason=reply.reason, thought=reply.thought
        )

    def _write(self, token: int) -> None:
        self.tokens.append(token)
        self._decoded.add(token)
        self.ended = len(self.tokens) >= self._request.max_tokens

    def _end(self) -> None:
        self.ended, self._finish = True, "stop"
