"""Asks a generator for the parts of a task, and keeps what became of each."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

from gold_lightning.drafting.document import BLANK, Part
from gold_lightning.drafting.lines import Line
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators import Completion, Generator, Request
from gold_lightning.likelihoods import LabelCalibrator
from gold_lightning.parsing.words import words
from gold_lightning.questions import agreement_request
from gold_lightning.task import Task

__all__ = ["Asker"]


class Asker:
    """Asks a generator for lines, a bounded number of times each.

    Args:
        generator: The engine.
        tries: How often a part is asked for before it stays blank.
        seed: Seed of all requests.
        say: Is called with a line of text for each part that is done.

    Attributes:
        parts: What became of each part so far.
        notes: What a reader is to look at, by key of the task.
        tokens: Tokens of all requests and completions so far.

    Raises:
        ConfigError: ``tries`` is below 1.
    """

    def __init__(
        self, generator: Generator, tries: int = 3, seed: int = 1, say: Callable[[str], None] = lambda _: None
    ) -> None:
        if tries < 1:
            raise ConfigError("--tries", tries, "1 or more")
        self.generator, self.tries, self.seed, self.say = generator, tries, seed, say
        self.parts: list[Part] = []
        self.notes: dict[str, str] = {}
        self.tokens = 0

    def ask(self, lines: Sequence[Line], *, distinct: bool = False, tries: int = 0) -> list[str | None]:
        """Asks for lines, again for those whose answer is rejected; ``None`` for a line without a good answer.

        Args:
            lines: The lines.
            distinct: Whether no two lines may have the same words.
            tries: How often a line is asked for; the drafter's own number by default.
        """
        good: dict[int, str] = {}
        limit = tries or self.tries
        while waiting := [i for i in range(len(lines)) if i not in good and len(lines[i].reasons) < limit]:
            completions = self.generate([lines[i].request(self.seed) for i in waiting])
            for i, completion in zip(waiting, completions, strict=True):
                text, reason = lines[i].judge(completion)
                if not reason and distinct and any(words(text) == words(other) for other in good.values()):
                    reason = "duplicate"
                if reason:
                    lines[i].reasons.append(reason)
                else:
                    good[i] = text
        for i, line in enumerate(lines):
            part = Part(line.key, len(line.reasons) + (i in good), tuple(line.reasons), i not in good)
            self.done(part, good.get(i, ""))
        return [good.get(i) for i in range(len(lines))]

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        completions: list[Completion] = []
        size = max(1, self.generator.batch_size)
        for start in range(0, len(requests), size):
            completions += self.generator.generate(requests[start : start + size])
        self.tokens += sum(c.prompt_tokens + c.completion_tokens for c in completions)
        return completions

    def number(self, key: str) -> int:
        return zlib.crc32(f"{self.seed}/demo/{key}".encode())

    def done(self, part: Part, text: str) -> None:
        self.parts.append(part)
        self.say(f"{part.key}: {text if not part.blank else f'{BLANK} ({part.reasons[-1]})'}")

    # Comments

    def likeliest(self, task: Task, rows: Sequence[Mapping[str, str]]) -> list[str]:
        """Label that the generator finds likeliest for each row, calibrated over all; "" if it gives no likelihoods."""
        scores = self.scores(task, rows)
        calibrator = LabelCalibrator(task.label_names, "batch", by_label=False)
        for log_probs in scores:
            calibrator.observe(log_probs)
        likelihoods = [calibrator.likelihoods(log_probs) for log_probs in scores]
        return [row.label if row and len(set(row.calibrated)) > 1 else "" for row in likelihoods] or [""] * len(rows)

    def scores(self, task: Task, rows: Sequence[Mapping[str, str]]) -> list[tuple[float, ...]]:
        try:
            completions = self.generate([agreement_request(task, row, ()) for row in rows])
        except GoldError:  # servers that give no likelihoods say so in many ways
            return []
        return [completion.choice_log_probs for completion in completions]
