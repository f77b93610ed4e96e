"""Feedback: strategies that choose among scored probe samples, and the pool that supplies feedback demos to prompts.

All strategies here choose the same number of samples of each label, so that comparisons differ in the choice alone.
A strategy of your own is a subclass of :class:`FeedbackStrategy` with one method.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.scores import band_ranks, select_band
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.task import Sample

__all__ = [
    "STRATEGIES",
    "EnergyBand",
    "EnergyBottom",
    "EnergyTop",
    "FeedbackPool",
    "FeedbackSettings",
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
"""Names of the strategies in this module; a config names any other by ``class_path``."""


@dataclass(frozen=True)
class ScoredProbe:
    """A round's probe set with the student's scores: the input of a strategy.

    Args:
        round: Number of the round.
        seed: The run's seed.
        alpha: Lower quantile of the band.
        beta: Upper quantile of the band.
        samples: The samples.
        energies: Energy of each sample; higher = further out of distribution.
        losses: The student's mean cross-entropy per target token on the generator's target, in nats, for each sample.
        groups: Label of each sample; "" if the task has no labels.
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
        """Returns positions of samples by ascending key: of each label as many as the band contains.

        Args:
            keys: One number per sample.
            at: Samples in the ``band``, or the same number with the highest (``top``) or lowest (``bottom``) keys.
        """
        return select_band(keys, self.alpha, self.beta, self.groups, at=at)


class FeedbackStrategy(ABC):
    """Base of strategies, which choose the probe samples that become feedback demos.

    Example:
        A strategy of your own defines :meth:`choose`. Saved as ``my_strategies.py``, it is named in a config by
        ``feedback.strategy.class_path: my_strategies.Shortest``.

        >>> class Shortest(FeedbackStrategy):
        ...     def choose(self, probe):
        ...         lengths = [len(sample.text) for sample in probe.samples]
        ...         return probe.take(lengths, "bottom")
        >>> samples = tuple(Sample({"text": "x" * n}, "") for n in (9, 4, 7, 2))
        >>> probe = ScoredProbe(0, 1, alpha=0.5, beta=1.0, samples=samples, energies=(1.0, 3.0, 2.0, 0.0),
        ...                     losses=(0.1, 0.4, 0.2, 0.3), groups=("",) * 4)
        >>> choose(Shortest(), probe), choose(EnergyBand(), probe)
        ([1, 3], [1, 2])
    """

    @abstractmethod
    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        """Returns positions of the samples to feed back, each once, in any order.

        The choice must depend on ``probe`` and on settings alone, because a resumed run repeats it and each process
        makes it by itself. Seed random choices with ``probe.seed`` and ``probe.round``.
        """


class EnergyBand(FeedbackStrategy):
    """The band [alpha, beta) of ascending energy (GOLD, section 3.2)."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        return probe.take(probe.energies)


class NoFeedback(FeedbackStrategy):
    """No samples: plain generation, as in ZeroGen (Ye et al., EMNLP 2022)."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        return ()


class RandomSamples(FeedbackStrategy):
    """Random samples, seeded by run and round."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        rng = random.Random(f"{probe.seed}/{probe.round}/feedback")
        return probe.take([rng.random() for _ in probe.samples], "bottom")


class EnergyTop(FeedbackStrategy):
    """The highest energies, which the band excludes as noise."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        return probe.take(probe.energies, "top")


class EnergyBottom(FeedbackStrategy):
    """The lowest energies: samples that are familiar to the student."""

    def choose(self, probe: ScoredProbe) -> Sequence[int]:
        return probe.take(probe.energies, "bottom")


class LossTop(FeedbackStrategy):
    """The highest losses: samples on which student and generator disagree, whichever of them is wrong."""

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
"""The strategies of this module, by name."""


def make_strategy(strategy: StrategyName | FeedbackStrategy) -> FeedbackStrategy:
    """Makes a strategy by name; returns a strategy as it is."""
    return strategy if isinstance(strategy, FeedbackStrategy) else STRATEGIES[strategy]()


def strategy_name(strategy: FeedbackStrategy) -> str:
    """Returns the strategy's name, or the full name of its class.

    Example:
        >>> strategy_name(EnergyBand())
        'energy_band'
    """
    names = [name for name, kind in STRATEGIES.items() if type(strategy) is kind]
    return names[0] if names else f"{type(strategy).__module__}.{type(strategy).__qualname__}"


def strategy_settings(strategy: FeedbackStrategy) -> dict[str, Any]:
    """Returns the strategy's name and settings as plain values."""
    return {"name": strategy_name(strategy)} | {
        k: v for k, v in vars(strategy).items() if isinstance(v, bool | int | float | str)
    }


def choose(strategy: FeedbackStrategy, probe: ScoredProbe) -> list[int]:
    """Returns the positions that a strategy chooses, checked and in ascending order.

    Raises:
        GoldError: The strategy returned a value that is not a position, or a position twice.
    """
    chosen = list(strategy.choose(probe))
    positions = range(len(probe.samples))
    if wrong := [i for i in chosen if isinstance(i, bool) or not isinstance(i, int) or i not in positions]:
        raise GoldError(
            f"feedback.strategy: {type(strategy).__name__} chose {wrong[0]!r}, expected positions from 0 to "
            f"{len(positions) - 1}"
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
        round: Number of the round of its probe set.
        hint: Request of its own prompt beyond the label, such as a topic.
    """

    id: str
    sample: Sample
    energy: float
    round: int
    hint: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FeedbackSettings:
    """The choice of what is fed back; :class:`gold_lightning.callbacks.OODFeedback` describes each setting.

    Raises:
        ConfigError: A value is out of its range.

    Example:
        >>> FeedbackSettings(rate=0.0).feeds, FeedbackSettings(alpha=0.2).state_dict()["band"]
        (False, [0.2, 0.8])
    """

    rate: float = 0.5
    alpha: float = 0.5
    beta: float = 0.8
    strategy: FeedbackStrategy = field(default_factory=EnergyBand)
    label_check: Literal["off", "require", "relabel"] = "off"
    warmup_rounds: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ConfigError("feedback.rate", self.rate, "a number from 0 to 1")
        if not 0 <= self.alpha < self.beta <= 1:
            raise ConfigError("feedback.alpha", [self.alpha, self.beta], "0 <= alpha < beta <= 1")
        if self.warmup_rounds < 0:
            raise ConfigError("feedback.warmup_rounds", self.warmup_rounds, "0 or more")

    @property
    def feeds(self) -> bool:
        """Whether any prompt will show feedback demos."""
        return self.rate > 0 and not isinstance(self.strategy, NoFeedback)

    def check(self, label_agreement: str | bool) -> None:
        """Checks the settings against ``data.plan.label_agreement``.

        Raises:
            ConfigError: ``label_check`` needs likelihoods of labels that the plan does not measure.
        """
        if self.label_check != "off" and label_agreement == "off":
            hint = "set that to measure (for a task with labels)"
            allowed = "off if data.plan.label_agreement is off"
            raise ConfigError("feedback.label_check", self.label_check, allowed, hint)

    def notes(self) -> dict[str, Any]:
        """Returns strategy and band for a round's line in ``rounds.jsonl``."""
        return {"strategy": strategy_name(self.strategy), "band": [self.alpha, self.beta]}

    def state_dict(self) -> dict[str, Any]:
        """Returns the settings as plain values."""
        named = {"strategy": strategy_settings(self.strategy), "band": [self.alpha, self.beta], "rate": self.rate}
        return named | {"label_check": self.label_check, "warmup_rounds": self.warmup_rounds}

    def choose(
        self, stored: Sequence[StoredSample], probe: ScoredProbe, labels: Sequence[str]
    ) -> tuple[list[PoolEntry], dict[str, Any]]:
        """Makes feedback demos of the samples that the strategy chooses.

        Args:
            stored: The probe set as it is stored, in the order of ``probe``.
            probe: The probe set with its scores.
            labels: The task's labels; empty for a task without labels.

        Returns:
            The demos, and the reasons why samples are not fed back, as
            :func:`gold_lightning.planning.plan_warnings.reasons_not_fed_back` takes them.
        """
        left_out: dict[str, Any] = {}
        if probe.round < self.warmup_rounds:
            return [], {"warmup_rounds": self.warmup_rounds}
        if type(self.strategy) in STRATEGIES.values():
            sizes = Counter(probe.groups)
            left_out["empty_bands"] = [x for x in labels or ("",) if not band_ranks(sizes[x], self.alpha, self.beta)]
        entries: list[PoolEntry] = []
        positions = choose(self.strategy, probe)
        for i in positions:
            sample = stored[i].sample
            if self.label_check != "off" and not stored[i].label_agrees:
                if self.label_check == "require" or not stored[i].preferred_label:
                    continue
                sample = Sample(sample.fields, stored[i].preferred_label)
            entries.append(PoolEntry(stored[i].id, sample, probe.energies[i], probe.round, dict(stored[i].hint)))
        left_out["label_check"] = len(positions) - len(entries)
        if not positions and not left_out.get("empty_bands"):
            left_out["strategy"] = strategy_name(self.strategy)
        return entries, left_out


class FeedbackPool:
    """Bounded, deterministic store of feedback demos.

    Its content depends on the pushed demos and not on their order within a round. A full pool drops the oldest rounds
    first, and within a round the lowest energies. Each label has its own capacity, so that none is crowded out.

    Args:
        capacity: Maximum number of demos per label; in all, if the task has no labels.

    Raises:
        ConfigError: The capacity is below 1.

    Example:
        >>> pool = FeedbackPool(capacity=2)
        >>> pool.push([PoolEntry(f"p{i}", Sample({"text": f"text {i}"}, "World"), float(i), round=0) for i in range(3)],
        ...           by_label=True)
        >>> [entry.id for entry in pool.entries("World")]
        ['p2', 'p1']
        >>> len(pool.draw(5, random.Random(0), "World"))
        2
    """

    def __init__(self, capacity: int = 64) -> None:
        if capacity < 1:
            raise ConfigError("feedback.capacity", capacity, "1 or more")
        self.capacity = capacity
        self._entries: dict[str, list[PoolEntry]] = {}

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    def push(self, entries: Iterable[PoolEntry], *, by_label: bool) -> None:
        """Adds demos. A demo replaces an earlier one with the same id.

        Args:
            entries: The demos.
            by_label: Whether each label has its own capacity (classification).
        """
        changed = set()
        for entry in entries:
            key = entry.sample.target if by_label else ""
            label_entries = self._entries.setdefault(key, [])
            label_entries[:] = [e for e in label_entries if e.id != entry.id] + [entry]
            changed.add(key)
        for key in changed:
            newest_first = sorted(self._entries[key], key=lambda e: (-e.round, -e.energy, e.id))
            self._entries[key] = newest_first[: self.capacity]

    def entries(self, label: str = "", *, hinted: bool = False) -> tuple[PoolEntry, ...]:
        """Returns the demos of a label, newest round first.

        Args:
            label: The label; "" if the task has no labels.
            hinted: Only demos with a hint.
        """
        return tuple(e for e in self._entries.get(label, ()) if e.hint or not hinted)

    def draw(self, count: int, rng: random.Random, label: str = "", *, hinted: bool = False) -> list[PoolEntry]:
        """Draws up to ``count`` different demos of a label at random; see :meth:`entries`."""
        entries = self.entries(label, hinted=hinted)
        return rng.sample(entries, min(count, len(entries)))

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values, which ``torch.load(..., weights_only=True)`` can read."""
        return {"entries": {k: [_plain(e) for e in v] for k, v in sorted(self._entries.items())}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replaces the content by that of :meth:`state_dict`."""
        self._entries = {key: [_entry(e) for e in entries] for key, entries in state["entries"].items()}


def _plain(entry: PoolEntry) -> dict[str, Any]:
    return asdict(entry) | {"hint": dict(entry.hint)}


def _entry(plain: Mapping[str, Any]) -> PoolEntry:
    sample = Sample(dict(plain["sample"]["fields"]), plain["sample"]["target"])
    return PoolEntry(plain["id"], sample, plain["energy"], plain["round"], dict(plain.get("hint", {})))
