"""Feedback: strategies that choose among scored probe samples, and the pool in which feedback demos wait for prompts.

All strategies of this file give the same number of samples of each label, so that they differ in the choice alone.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.scores import select_band
from gold_lightning.task import Sample

__all__ = [
    "STRATEGIES",
    "EnergyBand",
    "EnergyBottom",
    "EnergyTop",
    "FeedbackPool",
    "FeedbackStrategy",
    "LossTop",
    "NoFeedback",
    "PoolEntry",
    "RandomSamples",
    "ScoredProbe",
    "StrategyName",
    "choose",
    "make_strategy",
    "strategy_name",
    "strategy_settings",
]

StrategyName = Literal["energy_band", "none", "random", "energy_top", "energy_bottom", "loss_top"]
"""Strategies that have a name; any other is given by ``class_path``."""


@dataclass(frozen=True)
class ScoredProbe:
    """A round's probe set as the student sees it: all that a strategy may know.

    Args:
        round: Number of the round.
        seed: The run's seed.
        alpha: Lower quantile of the band.
        beta: Upper quantile of the band.
        samples: The samples.
        energies: Of each sample; higher = further out of distribution.
        losses: Mean cross-entropy of the student on the generator's target, for each sample.
        groups: Label of each sample; "" for all of a task without labels.
    """

    round: int
    seed: int
    alpha: float
    beta: float
    samples: tuple[Sample, ...]
    energies: tuple[float, ...]
    losses: tuple[float, ...]
    groups: tuple[str, ...]

    def take(self, keys: Sequence[float], at: Literal["band", "top", "bottom"] = "band") -> list[int]:
        """Positions of as many samples of each group as the band holds, by ascending key.

        Args:
            keys: One number a sample.
            at: Those in the band, or as many with the highest or the lowest keys.
        """
        return select_band(keys, self.alpha, self.beta, self.groups, at=at)


class FeedbackStrategy(ABC):
    """Chooses what is fed back. A strategy of one's own defines :meth:`choose` and is named by ``class_path``."""

    @abstractmethod
    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        """Positions of the samples to feed back, each once, in any order.

        It depends on ``probe`` and on settings alone: a resumed run chooses again, and each process of several
        for itself. Whatever is drawn at random is drawn from ``probe.seed`` and ``probe.round``.
        """


class EnergyBand(FeedbackStrategy):
    """The band [alpha, beta) of ascending energy (GOLD, section 3.2)."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        return probe.take(probe.energies)


class NoFeedback(FeedbackStrategy):
    """Nothing: plain generation, as in ZeroGen (Ye et al., EMNLP 2022)."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        return ()


class RandomSamples(FeedbackStrategy):
    """Any samples, drawn by seed and round."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        rng = random.Random(f"{probe.seed}/{probe.round}/feedback")
        return probe.take([rng.random() for _ in probe.samples], "bottom")


class EnergyTop(FeedbackStrategy):
    """The highest energies: what the band leaves out as noise."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        return probe.take(probe.energies, "top")


class EnergyBottom(FeedbackStrategy):
    """The lowest energies: what the student knows."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        return probe.take(probe.energies, "bottom")


class LossTop(FeedbackStrategy):
    """The highest losses: where the student contradicts the generator's label, whichever of them is wrong."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        return probe.take(probe.losses, "top")


STRATEGIES: dict[StrategyName, type[FeedbackStrategy]] = {
    "energy_band": EnergyBand,
    "none": NoFeedback,
    "random": RandomSamples,
    "energy_top": EnergyTop,
    "energy_bottom": EnergyBottom,
    "loss_top": LossTop,
}
"""The strategies of this file, by name."""


def make_strategy(given: StrategyName | FeedbackStrategy) -> FeedbackStrategy:
    """The strategy of that name, or the one that was given."""
    return given if isinstance(given, FeedbackStrategy) else STRATEGIES[given]()


def strategy_name(strategy: FeedbackStrategy) -> str:
    """The strategy's name, or its class."""
    names = [name for name, kind in STRATEGIES.items() if type(strategy) is kind]
    return names[0] if names else f"{type(strategy).__module__}.{type(strategy).__qualname__}"


def strategy_settings(strategy: FeedbackStrategy) -> dict[str, Any]:
    """Plain values that say which strategy it is."""
    return {"name": strategy_name(strategy)} | {
        k: v for k, v in vars(strategy).items() if isinstance(v, bool | int | float | str)
    }


def choose(strategy: FeedbackStrategy, probe: ScoredProbe) -> list[int]:
    """What a strategy chooses, checked and in ascending order.

    Raises:
        GoldError: It gave what is no position, or one twice.
    """
    chosen = list(strategy.choose(probe))
    every = range(len(probe.samples))
    if wrong := [i for i in chosen if isinstance(i, bool) or not isinstance(i, int) or i not in every]:
        raise GoldError(
            f"feedback.strategy: {type(strategy).__name__} chose {wrong[0]!r}, expected positions from 0 to "
            f"{len(every) - 1}"
        )
    if len(set(chosen)) < len(chosen):
        raise GoldError(f"feedback.strategy: {type(strategy).__name__} chose a position more than once")
    return sorted(chosen)


@dataclass(frozen=True)
class PoolEntry:
    """One feedback demo.

    Args:
        id: Id of the probe sample.
        sample: The sample.
        energy: Its energy when it was chosen.
        round: The round in whose probe set it stood.
        hint: What its own prompt asked for beyond the label.
    """

    id: str
    sample: Sample
    energy: float
    round: int
    hint: Mapping[str, str] = field(default_factory=dict)


class FeedbackPool:
    """Bounded, deterministic store of feedback demos.

    What it holds depends only on what was pushed, never on the order within a round: when it is full, the
    oldest rounds leave first, and within a round the lowest energies, each target's share apart so that
    no label starves.

    Args:
        capacity: Most demos held for one label (for a sequence-to-sequence task: in all).
    """

    def __init__(self, capacity: int = 64) -> None:
        if capacity < 1:
            raise ConfigError("feedback.capacity", capacity, "1 or more")
        self.capacity = capacity
        self._entries: dict[str, list[PoolEntry]] = {}

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    def push(self, entries: Iterable[PoolEntry], *, by_label: bool) -> None:
        """Adds demos; one whose id is already held replaces it.

        Args:
            entries: What the band chose.
            by_label: Keep the shares of the labels apart (classification).
        """
        touched = set()
        for entry in entries:
            key = entry.sample.target if by_label else ""
            held = self._entries.setdefault(key, [])
            held[:] = [e for e in held if e.id != entry.id] + [entry]
            touched.add(key)
        for key in touched:
            newest_first = sorted(self._entries[key], key=lambda e: (-e.round, -e.energy, e.id))
            self._entries[key] = newest_first[: self.capacity]

    def entries(self, label: str = "", *, hinted: bool = False) -> tuple[PoolEntry, ...]:
        """Demos of a label (``""`` for a sequence-to-sequence task), newest round first.

        Args:
            label: The label.
            hinted: Only those whose own prompt asked for something beyond the label.
        """
        return tuple(e for e in self._entries.get(label, ()) if e.hint or not hinted)

    def draw(self, count: int, rng: random.Random, label: str = "", *, hinted: bool = False) -> list[PoolEntry]:
        """Up to ``count`` different demos of a label, at random from ``rng``; see :meth:`entries`."""
        held = self.entries(label, hinted=hinted)
        return rng.sample(held, min(count, len(held)))

    def state_dict(self) -> dict[str, Any]:
        """Plain values, loadable with ``weights_only=True``."""
        return {"entries": {k: [_plain(e) for e in v] for k, v in sorted(self._entries.items())}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        self._entries = {key: [_entry(e) for e in entries] for key, entries in state["entries"].items()}


def _plain(entry: PoolEntry) -> dict[str, Any]:
    return asdict(entry) | {"hint": dict(entry.hint)}


def _entry(plain: Mapping[str, Any]) -> PoolEntry:
    sample = Sample(dict(plain["sample"]["fields"]), plain["sample"]["target"])
    return PoolEntry(plain["id"], sample, plain["energy"], plain["round"], dict(plain.get("hint", {})))
