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
    """Exchanges the labels of a share of the samples. The store keeps what was written.

    Args:
        share: Share of the samples, in [0, 1]; a larger share exchanges the same labels and more.
        labels: Names of the task's labels.
        seed: The run's seed; together with a sample's id it decides whether and how the label changes.

    Raises:
        ConfigError: The share is out of range, or the task has fewer than two labels.
    """

    def __init__(self, share: float, labels: Sequence[str], seed: int) -> None:
        if not 0 <= share <= 1:
            raise ConfigError("data.label_noise", share, "a number from 0 to 1")
        if share and len(labels) < 2:
            raise ConfigError("data.label_noise", share, "0 for a task without labels")
        self.share, self.labels, self.seed = share, labels, seed

    def flips(self, id_: str) -> bool:
        """Whether the label of the sample with this id is exchanged."""
        # Seeding costs more than all else that is done with a sample.
        return self.share > 0 and random.Random(f"{self.seed}/label noise/{id_}").random() < self.share

    def apply(self, stored: StoredSample) -> StoredSample:
        """Returns a sample as the run uses it."""
        if not self.flips(stored.id):
            return stored
        others = [name for name in self.labels if name != stored.sample.target]
        target = random.Random(f"{self.seed}/noisy label/{stored.id}").choice(others)
        label_agrees = stored.preferred_label == target if stored.preferred_label else None
        return replace(stored, sample=Sample(stored.sample.fields, target), label_agrees=label_agrees)


def count_flipped(scored: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Counts exchanged labels among scored samples.

    Args:
        scored: Rows with ``kind``, ``fed_back`` and ``flipped``.

    Returns:
        For ``train``, ``probe`` and ``fed_back``: how many are exchanged, and how many there are.
    """
    groups = {kind: [s for s in scored if s["kind"] == kind] for kind in ("train", "probe")}
    groups["fed_back"] = [s for s in scored if s["fed_back"]]
    return {name: [sum(s["flipped"] for s in rows), len(rows)] for name, rows in groups.items()}
