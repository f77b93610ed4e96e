"""What every generator is: one method from requests to completions, in order."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from gold_lightning.parsing import Reply, read_reply
from gold_lightning.parsing.replies import Reason

__all__ = [
    "Completion",
    "Finish",
    "Generator",
    "Request",
    "ScriptedGenerator",
    "distinguishing_prefixes",
    "has_preference",
]

_T = TypeVar("_T")
Finish = Literal["stop", "length", "filtered", "failed"]
"""Why a text ended; :class:`Completion` says what each means."""


@dataclass(frozen=True)
class Request:
    """One request to a generator. The prompt is system + prefix + suffix + answer_prefix, in this order.

    Args:
        system: Role and task of the model.
        prefix: The part of the user's message that neighbouring requests share (instruction, demos). An engine may
            compute it once for all of them.
        suffix: The rest of the user's message.
        answer_prefix: Beginning of the answer; the completion continues it.
        seed: Seed of this request alone, so that its text does not depend on the rest of the batch.
        max_tokens: Maximum number of tokens to write.
        stop: Texts that end the completion and are not part of it.
        line_prefixes: Beginnings of the lines after the first. An engine that decodes token by token writes them
            itself when the model ends a line, and stops after the last line, so that no line is missing and nothing
            follows. Other engines rely on the instruction and the demos.
        open_end: Whether the last of ``line_prefixes`` may continue over further lines, so that only ``stop`` ends it.
        choices: Texts to score instead of sampling. The completion then holds the log-likelihood of each choice as a
            continuation of the prompt, up to the token that distinguishes it from all other choices: the rest would
            add no information and make long names less likely.
        greedy: Take the most likely token at each step, whatever the engine's sampling settings. For answers;
            samples must differ.
        schema: JSON schema of the answer, as JSON text; "" for none. An engine that follows schemas writes a whole
            object instead of continuing ``answer_prefix``.
    """

    system: str
    prefix: str
    suffix: str
    answer_prefix: str = ""
    seed: int = 0
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    line_prefixes: tuple[str, ...] = ()
    open_end: bool = False
    choices: tuple[str, ...] = ()
    greedy: bool = False
    schema: str = ""

    @property
    def text(self) -> str:
        """The whole prompt as plain text, for hashes, logs and models without a chat template."""
        return f"{self.system}\n\n{self.prefix}{self.suffix}\n\n{self.answer_prefix}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all lines of the sample that is asked for."""
        if self.schema:
            return tuple(json.loads(self.schema).get("properties", ()))
        lines = (line.partition(":") for line in self.answer_prefix.split("\n"))
        begun = tuple(name for name, colon, _ in lines if name and colon)
        return (*begun, *(line.rstrip(":") for line in self.line_prefixes)) if begun else ()

    def read(self, content: Any, *, fresh: bool = False, thought: bool = False) -> Reply:
        """Reads a reply to this request. Every engine passes what its model wrote through here.

        Args:
            content: Text, or a list of parts ``{type, text}``; ``None`` for no text.
            fresh: The model began anew, whether or not it repeats the answer's beginning; else it went on from there.
            thought: The model's thinking came apart from the text.
        """
        return read_reply(
            content,
            answer=self.answer_prefix,
            names=self.names,
            stop=self.stop,
            prompt=self.prefix,
            fresh=fresh,
            thought=thought,
        )


@dataclass(frozen=True)
class Completion:
    """What a generator gave for one request.

    Args:
        text: What it wrote, without the prompt and without the stop text.
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens written.
        finish: Why the text ended. ``stop``: it is whole (a stop text or the end of text). ``length``: it was cut
            at ``max_tokens``. ``filtered``: the server or the model withheld it. ``failed``: an error ended it, or
            no answer came.
        choice_log_probs: Natural-log likelihood of each of the request's choices, up to where it differs.
        reason: Why the text is no sample, if the reply itself says so; see :class:`~gold_lightning.parsing.Reply`.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish: Finish = "stop"
    choice_log_probs: tuple[float, ...] = ()
    reason: Reason = ""

    @property
    def is_answer(self) -> bool:
        """Whether it answers anything: more than thinking, neither withheld nor broken off, or a preference.

        What is no answer is not stored: it is asked for again wherever it is needed again.
        """
        if self.finish not in ("stop", "length") or self.reason == "only_thinking":
            return False
        return bool(self.text.strip()) or has_preference(self.choice_log_probs)


_NO_MASS = -9999.0  # how servers write a log-likelihood of nothing


def has_preference(log_probs: Sequence[float]) -> bool:
    """Whether likelihoods of choices say anything: all are numbers, and some have mass.

    Args:
        log_probs: Natural-log likelihood of each choice.
    """
    if any(math.isnan(p) or p == math.inf for p in log_probs):
        return False
    return max(log_probs, default=-math.inf) > _NO_MASS


class Generator(ABC):
    """The large language model that writes samples.

    A generator of one's own defines :meth:`generate` and is named by ``class_path`` in a config. Whatever
    is slow (weights, connections) belongs into the first call, not into ``__init__``, which runs for
    ``--help`` too.

    Attributes:
        batch_size: How many requests it likes to get at once.
    """

    batch_size: int = 64

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers all requests, one completion each, in their order."""

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Answers all requests as :meth:`generate` does, and gives each completion as soon as it is there.

        What has been given is stored at once: where a run stops in between, it is not asked for again. An engine
        whose requests end one by one overrides this; the others give all at the end. Closing the iterator gives
        up what is left.

        Yields:
            Position of the request, and its completion; each position once, in any order.
        """
        yield from enumerate(self.generate(requests))

    def release(self) -> None:  # noqa: B027 - most engines have nothing to do
        """Gives back what the student needs while it trains, as memory of a shared GPU; the next request wakes it."""

    def share_machine(self, index: int, count: int) -> None:  # noqa: B027 - most engines have nothing to choose
        """Told before the first request that several processes of a run on one machine have this engine.

        Args:
            index: Number of this process among those of the machine, from 0.
            count: How many there are.

        Raises:
            ConfigError: There is no room for so many.
        """

    def check_installed(self) -> None:  # noqa: B027 - most engines need nothing more
        """Looks, in no time, whether what it needs is installed: before a run leaves anything.

        Raises:
            MissingDependencyError: It is not.
        """

    def load(self) -> None:  # noqa: B027 - most engines have nothing to do
        """Makes ready whatever is slow, which the first :meth:`generate` does else: for a caller who measures."""

    def tokens_over_limit(self, requests: Sequence[Request]) -> list[int]:
        """By how many tokens each request, with what it may write, is longer than the model takes; 0 where it fits.

        An engine that does not know its model's limit says 0.
        """
        return [0] * len(requests)

    def earlier_fingerprints(self) -> list[dict[str, Any]]:
        """What :meth:`fingerprint` was for the same completions in earlier versions: a run that began then goes on."""
        return []

    def origin(self) -> str:
        """Where the completions come from, if another place may have another model under the same fingerprint.

        A run goes on with what it has from any origin; from other runs it takes what has its own.
        """
        return ""

    def fingerprint(self) -> dict[str, Any]:
        """Plain values on which the completions depend (model, sampling), without secrets."""
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}"}


class ScriptedGenerator(Generator):
    """Stands in for a model in tests: replies from a list or a function, and remembers what it was asked.

    Args:
        replies: A function from request to text, or texts given in turn, over and over.
        log_probs: A function from request to the log-likelihood of each of its choices. Left out: the
            first choice is the likeliest.
        batch_size: How many requests it likes to get at once.
        limit: Most words of a prompt and what it may write; 0 for no limit.
    """

    def __init__(
        self,
        replies: Callable[[Request], str] | Sequence[str] = ("",),
        log_probs: Callable[[Request], Sequence[float]] | None = None,
        batch_size: int = 8,
        limit: int = 0,
    ) -> None:
        self.replies, self.log_probs, self.batch_size, self.limit = replies, log_probs, batch_size, limit
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._answer(request) for request in requests]

    def tokens_over_limit(self, requests: Sequence[Request]) -> list[int]:
        if not self.limit:
            return super().tokens_over_limit(requests)
        written = [max((len(c.split()) for c in r.choices), default=r.max_tokens) for r in requests]
        return [max(0, len(r.text.split()) + w - self.limit) for r, w in zip(requests, written, strict=True)]

    def _answer(self, request: Request) -> Completion:
        at = len(self.requests)
        self.requests.append(request)
        prompt_tokens = len(request.text.split())
        if request.choices:
            given = self.log_probs(request) if self.log_probs else [-float(i) for i in range(len(request.choices))]
            return Completion("", prompt_tokens, choice_log_probs=tuple(given))
        text = self.replies(request) if callable(self.replies) else self.replies[at % len(self.replies)]
        reply = request.read(text)
        words = reply.text.split()
        if len(words) > request.max_tokens:
            return Completion(" ".join(words[: request.max_tokens]), prompt_tokens, request.max_tokens, "length")
        return Completion(reply.text, prompt_tokens, len(words), reason=reply.reason)

    def fingerprint(self) -> dict[str, Any]:
        return super().fingerprint() | {"batch_size": self.batch_size}


def distinguishing_prefixes(choices: Sequence[Sequence[_T]]) -> list[Sequence[_T]]:
    """Each choice, as tokens, cut after the first token that tells it from all others."""
    begun = Counter(tuple(c[:size]) for c in choices for size in range(1, len(c)))
    begun.update(tuple(c) for c in choices)
    if len(choices) < 2:  # nothing to tell it from
        return list(choices)
    return [c[: next((n for n in range(1, len(c)) if begun[tuple(c[:n])] == 1), len(c))] for c in choices]


# Names of the fields in earlier versions: other names would change the keys of all stored completions.
_STORED_NAMES = {"prefix": "shared", "suffix": "own", "answer_prefix": "answer", "line_prefixes": "lines"}


def request_dict(request: Request) -> dict[str, Any]:
    """Plain values of a request, from which the keys of stored completions are computed."""
    values = asdict(request)
    return {_STORED_NAMES.get(name, name): value for name, value in values.items()}
