"""What a round asks for: how many samples of each kind, and how prompts are made up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gold_lightning.errors import ConfigError
from gold_lightning.storage.round_store import Kind

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """How much to synthesise, and how prompts are made up.

    Args:
        samples_per_round: Training samples wanted a round.
        probe_per_round: Probe samples wanted a round.
        group_size: Requests that share one prompt but for hint and seed. Larger is faster (an engine
            computes the shared part once), smaller is more varied.
        least_requests: Requests in a batch at least, where only a few samples are missing. A local engine takes hardly
            longer for sixteen than for two, and a batch that is too small calls for another; what is beyond the quota
            is kept for the next round (``surplus``). 1 where each request costs money.
        seed_demos: Most seed demos in a prompt, of the wanted label alone unless the task is about contrast.
        feedback_demos: Feedback demos in a feedback prompt, beside the seed demos.
        depart_from: Samples of the round shown in a probe prompt as what to depart from.
        max_attempts: A round stops with its yield table after this many requests for each wanted sample, or
            as soon as its yield, or that of one label, says that they would not do.
        feedback_as: ``demo``: a feedback prompt shows what was fed back; ``hint``: it shows seed demos alone, and
            asks for the topic, perspective and style that the fed-back samples were asked for with.
        hints: Ask for topics, perspectives and styles; without, prompts of a label differ in demos and seed alone.
        instruction: Whether the description of a sample stands before the demos or after them.
        label_agreement: ``off``; ``measure``: ask for the generator's own likelihood of each label given
            the text, and note whether the asked label is the highest; ``require``: keep only those.
        decontaminate: ``off``; ``measure``: count the samples that have text in common with the test set;
            ``drop``: keep none of them.
    """

    samples_per_round: int = 256
    probe_per_round: int = 64
    group_size: int = 8
    least_requests: int = 1
    seed_demos: int = 3
    feedback_demos: int = 2
    depart_from: int = 3
    max_attempts: float = 8.0
    feedback_as: Literal["demo", "hint"] = "demo"
    hints: bool = True
    instruction: Literal["first", "last"] = "first"
    label_agreement: Literal["off", "measure", "require"] | bool = "off"
    decontaminate: Literal["off", "measure", "drop"] | bool = "measure"

    def __post_init__(self) -> None:
        for key, allowed in (
            ("label_agreement", ("off", "measure", "require")),
            ("decontaminate", ("off", "measure", "drop")),
        ):
            if getattr(self, key) is False:  # what YAML makes of off
                object.__setattr__(self, key, "off")
            if getattr(self, key) not in allowed:
                raise ConfigError(f"data.plan.{key}", getattr(self, key), f"one of {', '.join(allowed)}")
        for key in ("samples_per_round", "probe_per_round", "group_size", "least_requests", "seed_demos"):
            if getattr(self, key) < 1:
                raise ConfigError(f"data.plan.{key}", getattr(self, key), "1 or more")
        for key in ("feedback_demos", "depart_from"):
            if getattr(self, key) < 0:
                raise ConfigError(f"data.plan.{key}", getattr(self, key), "0 or more")
        if not (math.isfinite(self.max_attempts) and self.max_attempts >= 1):
            raise ConfigError("data.plan.max_attempts", self.max_attempts, "a finite number, 1 or more")

    def quota(self, kind: Kind) -> int:
        """Samples of a kind wanted a round."""
        return self.samples_per_round if kind == "train" else self.probe_per_round
