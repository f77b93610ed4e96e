"""Populations with known accuracies, for tests and benchmarks of the promises."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from gold_lightning.calibration.fitting import CalibrationSettings, ScoredRows, fit_calibration
from gold_lightning.calibration.rule import judge
from scipy.special import log_softmax, softmax

LABELS = 4


@dataclass(frozen=True)
class Population:
    """Inputs of a student that is right less often the higher their energy, and too sure of itself.

    Args:
        easiest: Margin of a label's logit over the mean of the others, of inputs with the lowest energy.
        hardest: That of inputs with the highest one.
        too_sure: Temperature by which the student's probabilities are too sharp.
        rounding: Number of different energies; 0 for as many as inputs.
    """

    easiest: float = 8.0
    hardest: float = 0.0
    too_sure: float = 3.0
    rounding: int = 0

    def draw(self, count: int, rng: np.random.Generator) -> ScoredRows:
        """Returns rows that are drawn independently of each other."""
        hardness = rng.random(count)
        if self.rounding:
            hardness = np.ceil(hardness * self.rounding) / self.rounding
        logits = rng.normal(0, 1, (count, LABELS))
        logits[np.arange(count), rng.integers(LABELS, size=count)] += (
            self.easiest + (self.hardest - self.easiest) * hardness
        )
        targets = (softmax(logits, -1).cumsum(-1) < rng.random((count, 1))).sum(-1)
        log_probs = log_softmax(logits * self.too_sure, -1)
        best = log_probs.argmax(-1)
        return ScoredRows(log_probs, -15 + 5 * hardness, best, best == targets, targets)


@dataclass(frozen=True)
class Outcome:
    """What many calibrations of the same size came to.

    Args:
        kept: Share of draws in which a selective promise holds for the population, or was not made; for conformal
            sets, the share of the population's sets with the right label, over all draws.
        made_at: Share of draws by level of the promise that was made.
        made: Share of draws in which the promise was made.
        coverage: Mean share of known answers, 0 for draws without a promise.
        set_size: Mean size of conformal sets.
    """

    kept: float
    made: float
    coverage: float
    set_size: float
    made_at: dict[float, float]


def simulate(
    population: Population, rows: int, settings: CalibrationSettings, draws: int, seed: int = 0, inputs: int = 200_000
) -> Outcome:
    """Calibrates on many draws of rows, and looks at the population how the promises are kept."""
    rng = np.random.default_rng(seed)
    everything = population.draw(inputs, rng)
    kept, made, coverage, size, levels = [], 0, 0.0, 0.0, Counter()
    for _ in range(draws):
        calibration = fit_calibration(population.draw(rows, rng), settings, "rows", seed=int(rng.integers(2**31)))
        if calibration["threshold"] is None:
            kept.append(1.0)
            continue
        made += 1
        levels[calibration["level"]] += 1
        result = judge(calibration, everything.log_probs, everything.energies, everything.best)
        coverage += result.known.mean()
        if result.label_sets is not None:
            kept.append(result.label_sets[np.arange(inputs), everything.targets].mean())
            size += result.label_sets.sum(-1).mean()
        else:
            right = everything.right[result.known]
            kept.append(float(len(right) == 0 or right.mean() >= calibration["level"]))
    made_at = {level: count / draws for level, count in levels.items()}
    return Outcome(float(np.mean(kept)), made / draws, coverage / draws, size / max(1, made), made_at)
