"""Settings of the synthesis: samples per round, and the composition of prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from gold_lightning.errors import ConfigError
from gold_lightning.likelihoods import Calibration
from gold_lightning.storage.round_store import Kind

__all__ = ["SynthesisPlan", "UnlabelledUse"]

UnlabelledUse = Literal["demos", "style", "data", "pseudo_labels"]
"""Uses of the real texts of a round's probe set."""


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
        unlabelled_as: Uses of real texts (``data.unlabelled``), one or several. Of those that are fed back, in place of
            ``feedback_as``: ``demos``: feedback prompts show them under their label (``feedback.label_by``); ``style``:
            feedback prompts show one without its label, and ask for a sample in its manner; ``data``: they are among
            the next round's training samples, with that label. ``pseudo_labels``: all texts of the probe set, whatever
            is fed back, are training samples from the next round on, under that label and beside
            ``samples_per_round``.
        unlabelled_share: Largest share of a round's training samples of each label that are real texts, in [0, 1].
        hints: Whether prompts ask for topics, perspectives and styles. Without them, prompts of a label differ in
            demos and seed alone.
        instruction: Whether the description of a sample precedes or follows the demos.
        label_agreement: ``off``; ``measure``: ask for the generator's own likelihood of each label given the text, and
            store whether the requested label is the most likely; ``require``: reject the sample if it is not.
        label_calibration: A model prefers some labels whatever it reads, so the likelihood of each label is divided by
            its mean probability. ``batch``: the mean over all samples checked so far; ``contextual``: over the demos
            alone; ``none``: likelihoods stay as they are. A run folder keeps the kind with which it was begun.
        semantic_duplicate: Cosine similarity from which a sample is rejected as a near duplicate in meaning of an
            accepted one with the same label, in (0, 1]; null compares words alone. Texts are embedded by the encoder
            of ``model.student`` as it is before training.
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
    unlabelled_as: UnlabelledUse | Sequence[UnlabelledUse] = ("demos", "data")
    unlabelled_share: float = 0.25
    hints: bool = True
    instruction: Literal["first", "last"] = "first"
    label_agreement: Literal["off", "measure", "require"] | bool = "off"
    label_calibration: Calibration = "batch"
    decontaminate: Literal["off", "measure", "drop"] | bool = "measure"
    semantic_duplicate: float | None = None

    def __post_init__(self) -> None:
        for key, allowed in (
            ("label_agreement", ("off", "measure", "require")),
            ("label_calibration", get_args(Calibration)),
            ("decontaminate", ("off", "measure", "drop")),
        ):
            if getattr(self, key) is False and "off" in allowed:  # YAML reads a bare off as false
                object.__setattr__(self, key, "off")
            if getattr(self, key) not in allowed:
                raise ConfigError(f"data.plan.{key}", getattr(self, key), f"one of {', '.join(allowed)}")
        for key in ("samples_per_round", "probe_per_round", "group_size", "min_requests_per_batch", "seed_demos"):
            if getattr(self, key) < 1:
                raise ConfigError(f"data.plan.{key}", getattr(self, key), "1 or more")
        for key in ("feedback_demos", "probe_contrast_samples"):
            if getattr(self, key) < 0:
                raise ConfigError(f"data.plan.{key}", getattr(self, key), "0 or more")
        if isinstance(self.unlabelled_as, str):
            object.__setattr__(self, "unlabelled_as", (self.unlabelled_as,))
        object.__setattr__(self, "unlabelled_as", tuple(self.unlabelled_as))
        uses = get_args(UnlabelledUse)
        if not self.unlabelled_as or set(self.unlabelled_as) - set(uses):
            raise ConfigError(
                "data.plan.unlabelled_as", list(self.unlabelled_as), f"one or several of {', '.join(uses)}"
            )
        if {"data", "pseudo_labels"} <= set(self.unlabelled_as):
            raise ConfigError(
                "data.plan.unlabelled_as", list(self.unlabelled_as), "data or pseudo_labels, which has all texts"
            )
        if not 0 <= self.unlabelled_share <= 1:
            raise ConfigError("data.plan.unlabelled_share", self.unlabelled_share, "a number from 0 to 1")
        if self.semantic_duplicate is not None and not 0 < self.semantic_duplicate <= 1:
            raise ConfigError("data.plan.semantic_duplicate", self.semantic_duplicate, "null, or above 0 and at most 1")
        if not (math.isfinite(self.max_attempts) and self.max_attempts >= 1):
            raise ConfigError("data.plan.max_attempts", self.max_attempts, "a finite number, 1 or more")

    @property
    def pseudo_labels(self) -> bool:
        """Whether all texts of a probe set become training samples beside the quota."""
        return "pseudo_labels" in self.unlabelled_as

    def quota(self, kind: Kind) -> int:
        """Returns the number of samples of a kind per round."""
        return self.samples_per_round if kind == "train" else self.probe_per_round

    def fingerprint(self) -> dict[str, Any]:
        """Returns the settings that change requests, under the names that run folders use.

        A run resumes only if they are unchanged. Sizes are left out: a larger quota sends more requests of the same
        kind, and none is paid for twice. The measurement of the overlap with the test set is left out too, since it
        changes no sample, and so are the uses of real texts, which change those of runs with ``data.unlabelled`` alone.
        """
        values = asdict(self)
        for name in ("samples_per_round", "probe_per_round", "min_requests_per_batch", "max_attempts", "decontaminate"):
            del values[name]
        del values["unlabelled_as"], values["unlabelled_share"]
        # Earlier versions had contextual calibration alone.
        if self.label_agreement == "off" or self.label_calibration == "contextual":
            del values["label_calibration"]
        if self.semantic_duplicate is None:  # earlier versions did not have it
            del values["semantic_duplicate"]
        values["depart_from"] = values.pop("probe_contrast_samples")
        return values


Plan = SynthesisPlan  # the name in earlier versions
