"""Settings of the synthesis: samples per round, and the composition of prompts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gold_lightning.errors import ConfigError
from gold_lightning.storage.round_store import Kind

__all__ = ["SynthesisPlan"]


@dataclass(frozen=True)
class SynthesisPlan:
    """How much to synthesise, and how prompts are composed.

    Args:
        samples_per_round: Training samples per round.
        probe_per_round: Probe samples per round.
        group_size: Requests with the same prompt but for hint and seed. Larger groups are faster, since an engine
            computes the common part once; smaller ones give more varied samples.
        min_requests_per_batch: Smallest number of requests in a batch, even if fewer samples are missing. A local
            engine needs hardly longer for sixteen than for two, and a batch that is too small requires another.
            Samples beyond the quota are kept for the next round (``surplus``). Use 1 if each request costs money.
        seed_demos: Largest number of seed demos in a prompt, of the requested label alone unless the task is about
            contrast.
        feedback_demos: Feedback demos in a feedback prompt, beside the seed demos.
        probe_contrast_samples: Samples of the round in a probe prompt, from which the probe must differ.
        max_attempts: A round stops with its yield table after this many requests per wanted sample, or earlier if its
            yield, or that of one label, shows that they will not suffice.
        feedback_as: ``demo``: feedback prompts show the samples that were fed back; ``hint``: they show seed demos
            alone, and ask for the topic, perspective and style of the samples that were fed back.
        hints: Whether prompts ask for topics, perspectives and styles. Without them, prompts of a label differ in
            demos and seed alone.
        instruction: Whether the description of a sample precedes or follows the demos.
        label_agreement: ``off``; ``measure``: ask for the generator's own likelihood of each label given the text, and
            store whether the requested label is the most likely; ``require``: reject the sample if it is not.
        decontaminate: ``off``; ``measure``: count the samples that share text with the test set; ``drop``: reject them.

    Example:
        >>> from gold_lightning import SynthesisPlan
        >>> SynthesisPlan(samples_per_round=80, probe_per_round=20).quota("probe")
        20
    """

    samples_per_round: int = 256
    probe_per_round: int = 64
    group_size: int = 8
    min_requests_per_batch: int = 1
    seed_demos: int = 3
    feedback_demos: int = 2
    probe_contrast_samples: int = 3
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
            if getattr(self, key) is False:  # YAML reads a bare off as false
                object.__setattr__(self, key, "off")
            if getattr(self, key) not in allowed:
                raise ConfigError(f"data.plan.{key}", getattr(self, key), f"one of {', '.join(allowed)}")
        for key in ("samples_per_round", "probe_per_round", "group_size", "min_requests_per_batch", "seed_demos"):
            if getattr(self, key) < 1:
                raise ConfigError(f"data.plan.{key}", getattr(self, key), "1 or more")
        for key in ("feedback_demos", "probe_contrast_samples"):
            if getattr(self, key) < 0:
                raise ConfigError(f"data.plan.{key}", getattr(self, key), "0 or more")
        if not (math.isfinite(self.max_attempts) and self.max_attempts >= 1):
            raise ConfigError("data.plan.max_attempts", self.max_attempts, "a finite number, 1 or more")

    def quota(self, kind: Kind) -> int:
        """Returns the number of samples of a kind per round."""
        return self.samples_per_round if kind == "train" else self.probe_per_round

    def fingerprint(self) -> dict[str, Any]:
        """Returns the settings that change requests, under the names that run folders use.

        A run resumes only if they are unchanged. Sizes are left out: a larger quota sends more requests of the same
        kind, and none is paid for twice. The measurement of the overlap with the test set is left out too, since it
        changes no sample.
        """
        values = asdict(self)
        for name in ("samples_per_round", "probe_per_round", "min_requests_per_batch", "max_attempts", "decontaminate"):
            del values[name]
        values["depart_from"] = values.pop("probe_contrast_samples")
        return values


Plan = SynthesisPlan  # the name in earlier versions
