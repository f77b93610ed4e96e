"""Compares means of label probabilities by which likelihoods are calibrated, on rows whose true label is known.

    python -m benchmarks.power_means runs/news_topics/NAME labelled.jsonl --target topic
    python -m benchmarks.power_means runs/news_topics/NAME/baselines/few_shot.jsonl

The first reads the likelihoods of a run's real texts (``data.unlabelled``), whose true labels ``labelled.jsonl`` has;
the second reads the answers of ``gold-lightning baselines``. The likelihood of each label is divided by the power mean
of its probabilities over all rows, with exponents from 0, the geometric mean, to 1; ``LabelCalibrator`` has 1/2. Prints
the share of right labels; and, with rows averaged by their true label first, as checks of samples average them by the
requested one, the same share as a mean over the labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.text_labels import key, task_of, true_labels
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import rounds_in

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_NO_MASS = -30.0  # stands for a label without mass


def log_power_mean(log_probs: np.ndarray, exponent: float) -> np.ndarray:
    """Returns the logarithm of the power mean of probabilities over rows.

    Args:
        log_probs: Natural logarithms, rows by labels.
        exponent: Exponent of the mean; 0 for the geometric mean.
    """
    if exponent == 0:
        return log_probs.mean(0)
    return np.log(np.exp(exponent * log_probs).mean(0)) / exponent


def shares(log_probs: np.ndarray, truth: np.ndarray, exponent: float | None) -> tuple[float, float]:
    """Returns the share of right labels, and its mean over labels with rows averaged by label first.

    Args:
        log_probs: Log-likelihoods, rows by labels.
        truth: Number of each row's true label.
        exponent: Exponent of the mean; ``None`` for likelihoods as they are.
    """
    normal = log_probs - np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
    labels = np.unique(truth)
    together = by_label = np.zeros(log_probs.shape[1])
    if exponent is not None:
        together = log_power_mean(normal, exponent)
        by_label = log_power_mean(np.stack([log_power_mean(normal[truth == g], exponent) for g in labels]), exponent)
    right = (normal - together).argmax(1) == truth
    right_by_label = (normal - by_label).argmax(1) == truth
    return float(right.mean()), float(np.mean([right_by_label[truth == g].mean() for g in labels]))


def of_run(run: Path, labelled: Path, target: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the likelihoods of a run's real texts, and the numbers of their true labels."""
    task = task_of(run)
    truth = true_labels(read_lines(labelled), task, target or task.target.name)
    stored = (s for number in rounds_in(run) for s in RoundStore(run, number, read_only=True).accepted("probe"))
    texts = ((s.label_log_probs, truth.get(key(s.sample.fields))) for s in stored if s.source == "unlabelled")
    return _arrays(texts, task.label_names)


def of_answers(rows: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the likelihoods in answers to test rows, and the numbers of the right labels."""
    answers = [(row.get("log_probs") or {}, row["target"]) for row in rows]
    return _arrays(answers, next(list(likelihoods) for likelihoods, _ in answers if likelihoods))


def _arrays(
    rows: Iterable[tuple[Mapping[str, float | None], str | None]], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    known = [(likelihoods, label) for likelihoods, label in rows if label in names and len(likelihoods) == len(names)]
    values = [[_NO_MASS if (p := likelihoods[n]) is None else p for n in names] for likelihoods, _ in known]
    return np.array(values), np.array([names.index(label) for _, label in known if label is not None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="run folder, or answers of the generator to test rows")
    parser.add_argument("labelled", type=Path, nargs="?", help="true labels of a run's real texts")
    parser.add_argument("--target", help="column of the label; the task's target by default")
    given = parser.parse_args()
    if given.source.is_dir():
        log_probs, truth = of_run(given.source, given.labelled, given.target)
    else:
        log_probs, truth = of_answers(read_lines(given.source))
    print(f"{len(truth)} rows; right by all rows / by label first, %")
    for exponent in (None, *EXPONENTS):
        name = "as they are" if exponent is None else f"exponent {exponent}"
        print(f"{name:14} {' / '.join(f'{100 * share:.1f}' for share in shares(log_probs, truth, exponent))}")


if __name__ == "__main__":
    main()
