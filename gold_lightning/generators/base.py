"""The interface of all generators: one method from requests to completions, in order."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
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
"""Why a text ended; :class:`Completion` documents the values."""


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
        schema: JSON schema of the sample that is asked for, as JSON text; "" for other answers. An engine that follows
            schemas writes a whole object instead of continuing ``answer_prefix``.
        messages: The same prompt as a conversation, with demos as earlier turns: role and text of each message, the
            user's last, before ``answer_prefix``. Empty if the prompt is one message. An engine that shows them adds
            them to :meth:`Generator.request_values`.

    Example:
        >>> from gold_lightning import Request
        >>> request = Request("You write news.", "Write one item.", " Topic: Sports.", answer_prefix="text:", seed=7)
        >>> request.text.splitlines()
        ['You write news.', '', 'Write one item. Topic: Sports.', '', 'text:']
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
    messages: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The whole prompt as plain text, for hashes, logs and models without a chat template."""
        return f"{self.system}\n\n{self.prefix}{self.suffix}\n\n{self.answer_prefix}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all lines of the requested sample."""
        if self.schema:
            return tuple(json.loads(self.schema).get("properties", ()))
        lines = (line.partition(":") for line in self.answer_prefix.split("\n"))
        begun = tuple(name for name, colon, _ in lines if name and colon)
        return (*begun, *(line.rstrip(":") for line in self.line_prefixes)) if begun else ()

    def read(self, content: Any, *, fresh: bool = False, thought: bool = False) -> Reply:
        """Extracts the completion from a model's raw reply. Every engine passes its model's output through this.

        Args:
            content: Text, or a list of parts ``{type, text}``; ``None`` for no text.
            fresh: Whether the model started a new answer, which may or may not repeat ``answer_prefix``, rather than
                continuing it.
            thought: Whether the model's thinking was returned separately from the text.

        Returns:
            The text up to the first stop, without thinking and special tokens, and the reason if it is no sample.
        """
        return read_reply(
            content,
            answer=self.answer_prefix,
            names=self.names,
            stop=self.stop,
            prompt=self.prefix,
            fresh=fresh,
            thought=thought,
            sample=bool(self.schema),
        )


@dataclass(frozen=True)
class Completion:
    """A generator's answer to one request.

    Args:
        text: The completion, without the prompt and without the stop text.
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens written.
        finish: Why the text ended. ``stop``: complete (a stop text or the end of text). ``length``: cut at
            ``max_tokens``. ``filtered``: withheld by the server or the model. ``failed``: broken off by an error, or
            never received.
        choice_log_probs: Natural-log likelihood of each of the request's choices, up to the token that distinguishes
            it.
        reason: Why the text is no sample, if the reply itself says so; see :class:`~gold_lightning.parsing.Reply`.
        thought: Whether the model thought before it wrote; its thinking is no part of ``text``.
        thinking_tokens: Tokens of the thinking among ``completion_tokens``; 0 if there is none, or nobody counts it.

    Example:
        >>> from gold_lightning import Completion
        >>> Completion("The match ended two to one.", prompt_tokens=210, completion_tokens=9).finish
        'stop'
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish: Finish = "stop"
    choice_log_probs: tuple[float, ...] = ()
    reason: Reason = ""
    thought: bool = False
    thinking_tokens: int = 0

    @property
    def is_answer(self) -> bool:
        """Whether the completion is usable: text other than thinking, not withheld or broken off, or a preference.

        Other completions are not stored, so the next request for them is sent again.
        """
        if self.finish not in ("stop", "length") or self.reason == "only_thinking":
            return False
        return bool(self.text.strip()) or has_preference(self.choice_log_probs)


_NO_MASS = -9999.0  # the log-likelihood by which servers mean a probability of zero


def has_preference(log_probs: Sequence[float]) -> bool:
    """Whether likelihoods of choices express a preference: all are numbers, and at least one has mass.

    Args:
        log_probs: Natural-log likelihood of each choice.
    """
    if any(math.isnan(p) or p == math.inf for p in log_probs):
        return False
    return max(log_probs, default=-math.inf) > _NO_MASS


class Generator(ABC):
    r"""A large language model that writes samples: the extension point for engines of your own.

    A subclass implements :meth:`generate`; everything else has a default. Load weights and open connections in the
    first call rather than in ``__init__``, which also runs for ``--help``. A config names the subclass by its import
    path: ``data.generator: {class_path: my_package.TemplateGenerator, init_args: {nouns: [parcel, invoice]}}``.

    Attributes:
        batch_size: Preferred number of requests per call.

    Example:
        An engine that fills a template instead of running a model. :meth:`Request.read` cuts the raw reply at the
        stop texts, and the request's own seed makes its text independent of the batch:

        >>> import random
        >>> from gold_lightning.generators import Completion, Generator, Request
        >>> class TemplateGenerator(Generator):
        ...     def __init__(self, nouns: list[str]) -> None:
        ...         self.nouns = nouns
        ...
        ...     def generate(self, requests):
        ...         return [self._complete(request) for request in requests]
        ...
        ...     def _complete(self, request):
        ...         noun = random.Random(request.seed).choice(self.nouns)
        ...         reply = request.read(f" Where is my {noun}?\n")
        ...         return Completion(
        ...             reply.text,
        ...             prompt_tokens=len(request.text.split()),
        ...             completion_tokens=len(reply.text.split()),
        ...             reason=reply.reason,
        ...         )
        ...
        ...     def fingerprint(self):
        ...         return super().fingerprint() | {"nouns": self.nouns}
        >>> request = Request(
        ...     system="You write messages to a shop.",
        ...     prefix="text: a message\n\n",
        ...     suffix="Write one new sample.",
        ...     answer_prefix="topic: delivery\ntext:",
        ...     seed=1,
        ...     stop=("\n",),
        ... )
        >>> (completion,) = TemplateGenerator(["parcel", "invoice"]).generate([request])
        >>> completion.text, completion.prompt_tokens, completion.finish
        (' Where is my parcel?', 16, 'stop')
    """

    batch_size: int = 64

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Returns one completion per request, in the order of the requests."""

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Yields the completions of :meth:`generate`, each as soon as it is available.

        Yielded completions are stored at once and not requested again if the run stops. Override this in an engine
        whose requests finish one by one; by default all completions come at the end. Closing the iterator abandons
        the remaining requests.

        Yields:
            Position of the request, and its completion; each position once, in any order.
        """
        yield from enumerate(self.generate(requests))

    def release(self) -> None:  # noqa: B027 - optional hook
        """Releases resources that the student needs while training, for example GPU memory.

        The next request acquires them again.
        """

    def share_machine(self, index: int, count: int) -> None:  # noqa: B027 - optional hook
        """Prepares for several processes of a run on one machine; called before the first request.

        Args:
            index: Number of this process among those of the machine, from 0.
            count: Number of these processes.

        Raises:
            ConfigError: The machine has no room for so many engines.
        """

    def check_installed(self) -> None:  # noqa: B027 - optional hook
        """Checks, without importing them, that optional packages are installed; called before a run writes anything.

        Raises:
            MissingDependencyError: A package is missing.
        """

    def load(self) -> None:  # noqa: B027 - optional hook
        """Loads weights or opens connections now rather than in the first :meth:`generate`, e.g. before timing."""

    def tokens_over_limit(self, requests: Sequence[Request]) -> list[int]:
        """Number of tokens by which each request exceeds the model's context, including its answer; 0 if it fits.

        Returns 0 for every request if the engine does not know its model's limit.
        """
        return [0] * len(requests)

    def earlier_fingerprints(self) -> list[dict[str, Any]]:
        """Values of :meth:`fingerprint` in earlier versions, so that a run started with one of them can continue."""
        return []

    def request_values(self, request: Request) -> dict[str, Any]:
        """Plain values of a request that determine its completion; the keys of stored completions are computed of them.

        An engine that shows ``request.messages`` adds them, since its prompt is another one.
        """
        return request_dict(request)

    def origin(self) -> str:
        """Source of the completions, if different sources may serve different models under one fingerprint.

        A run reuses its own completions from any origin, and those of other runs only from the same origin.
        """
        return ""

    def fingerprint(self) -> dict[str, Any]:
        """Plain values that determine the completions (model, sampling), without secrets."""
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}"}


class ScriptedGenerator(Generator):
    """Replies from a list or a function, and records the requests: stands in for a model in tests.

    Args:
        replies: A function from request to text, or texts used in turn, repeatedly.
        log_probs: A function from request to the log-likelihood of each of its choices. By default the first choice
            is the most likely.
        batch_size: Preferred number of requests per call.
        limit: Maximum number of words of a prompt and its answer; 0 for no limit.

    Example:
        >>> from gold_lightning.generators import Request, ScriptedGenerator
        >>> generator = ScriptedGenerator([" Where is my parcel?", " My invoice is wrong."])
        >>> requests = [Request("You write.", "", f"Write sample {i}.", "text:") for i in range(3)]
        >>> [completion.text for completion in generator.generate(requests)]
        [' Where is my parcel?', ' My invoice is wrong.', ' Where is my parcel?']
        >>> generator.requests[0].suffix
        'Write sample 0.'
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
        turn = len(self.requests)
        self.requests.append(request)
        prompt_tokens = len(request.text.split())
        if request.choices:
            log_probs = self.log_probs(request) if self.log_probs else [-float(i) for i in range(len(request.choices))]
            return Completion("", prompt_tokens, choice_log_probs=tuple(log_probs))
        text = self.replies(request) if callable(self.replies) else self.replies[turn % len(self.replies)]
        reply = request.read(text)
        words = reply.text.split()
        if len(words) > request.max_tokens:
            return Completion(" ".join(words[: request.max_tokens]), prompt_tokens, request.max_tokens, "length")
        return Completion(reply.text, prompt_tokens, len(words), reason=reply.reason, thought=reply.thought)

    def fingerprint(self) -> dict[str, Any]:
        return super().fingerprint() | {"batch_size": self.batch_size}


def distinguishing_prefixes(choices: Sequence[Sequence[_T]]) -> list[Sequence[_T]]:
    """The shortest prefix of each choice that distinguishes it from all others.

    Args:
        choices: Token sequences, or texts. One that equals another, or begins it, stays whole.

    Example:
        >>> distinguishing_prefixes([" sports", " science", " world"])
        [' sp', ' sc', ' w']
    """
    if len(choices) < 2:
        return list(choices)
    counts = Counter(tuple(choice[:size]) for choice in choices for size in range(1, len(choice)))
    counts.update(tuple(choice) for choice in choices)
    sizes = (
        next((size for size in range(1, len(choice)) if counts[tuple(choice[:size])] == 1), len(choice))
        for choice in choices
    )
    return [choice[:size] for choice, size in zip(choices, sizes, strict=True)]


# Names of the fields in earlier versions: other names would change the keys of all stored completions.
_STORED_NAMES = {"prefix": "shared", "suffix": "own", "answer_prefix": "answer", "line_prefixes": "lines"}


def request_dict(request: Request) -> dict[str, Any]:
    """Plain values of a request as text, without ``messages``."""
    names = (field.name for field in fields(request) if field.name != "messages")
    return {_STORED_NAMES.get(name, name): getattr(request, name) for name in names}
