"""Label noise for experiments: a seeded share of the samples gets another label."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gold_lightning.errors import ConfigError
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.task import Sample

__all__ = ["LabelNoise", "count_flipped"]


class LabelNoise:
    """Replaces the labels of a share of the samples. Stored samples keep their labels.

    Args:
        share: Share of the samples, in [0, 1]. A larger share contains the samples of a smaller one.
        labels: Names of the task's labels; none for a task whose rows have several.
        seed: Seed of the run. Seed and sample id decide whether a label changes, and to which.

    Raises:
        ConfigError: The share is out of range, or the task has fewer than two labels.

    Example:
        >>> noise = LabelNoise(0.5, ["Sports", "World"], seed=1)
        >>> [noise.flips(f"r000-train-{i:05d}") for i in range(6)]
        [True, True, True, True, False, True]
    """

    def __init__(self, share: float, labels: Sequence[str], seed: int) -> None:
        if not 0 <= share <= 1:
            raise ConfigError("data.label_noise", share, "a number from 0 to 1")
        if share and len(labels) < 2:
            raise ConfigError("data.label_noise", share, "0 for a task without labels or with several a row")
        self.share, self.labels, self.seed = share, labels, seed

    def flips(self, id_: str) -> bool:
        """Tells whether the sample with this id gets another label."""
        # Without noise, skip the seeding: it costs more than everything else that happens to a sample.
        return self.share > 0 and random.Random(f"{self.seed}/label noise/{id_}").random() < self.share

    def apply(self, stored: StoredSample) -> StoredSample:
        """Returns the sample with the label that the run trains on."""
        if not self.flips(stored.id):
            return stored
        others = [name for name in self.labels if name != stored.sample.target]
        target = random.Random(f"{self.seed}/noisy label/{stored.id}").choice(others)
        label_agrees = stored.preferred_label == target if stored.preferred_label else None
        return replace(stored, sample=Sample(stored.sample.fields, target), label_agrees=label_agrees)


def count_flipped(scored: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Counts replaced labels among scored samples.

    Args:
        scored: Rows with ``kind``, ``fed_back`` and ``flipped``.

    Returns:
        For ``train``, ``probe`` and ``fed_back``: number of replaced labels and number of samples.

    Example:
        >>> rows = [{"kind": "train", "fed_back": False, "flipped": False},
        ...         {"kind": "probe", "fed_back": True, "flipped": True}]
        >>> count_flipped(rows)
        {'train': [0, 1], 'probe': [1, 1], 'fed_back': [1, 1]}
    """
    groups = {kind: [s for s in scored if s["kind"] == kind] for kind in ("train", "probe")}
    groups["fed_back"] = [s for s in scored if s["fed_back"]]
    return {name: [sum(s["flipped"] for s in rows), len(rows)] for name, rows in groups.items()}
