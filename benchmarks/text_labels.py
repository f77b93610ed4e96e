"""How right the labels of a run's real texts are: the generator's, and those by generator and student together.

    python benchmarks/text_labels.py runs/news_topics/NAME labelled.jsonl --target topic

The run drew its probe sets from ``data.unlabelled``; ``labelled.jsonl`` holds the same texts with their true labels,
which no run has seen. Prints for each round, and for all, the share of right labels by the generator's calibrated
likelihoods, and jointly (:mod:`gold_lightning.text_labels`, ``feedback.label_by: both``), with 95 % intervals (Wilson),
and the share of right labels among the real texts that the round trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import rounds_in
from gold_lightning.task import Sample, Task
from gold_lightning.text_labels import with_joint_label
from scipy.stats import binomtest


def task_of(run: Path) -> Task:
    """Returns the task of a run."""
    return Task.load(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]["task"])


def key(fields: Mapping[str, str]) -> str:
    """Returns what two versions of a text have in common, whatever their spaces."""
    return " ".join(" ".join(fields.values()).split())


def true_labels(rows: Sequence[Mapping[str, str]], task: Task, target: str) -> dict[str, str]:
    """Returns the true labels by text; a row whose label is not one of the task's is left out."""
    fields = [field.name for field in task.fields]
    return {key({f: row[f] for f in fields}): row[target] for row in rows if row[target] in task.label_names}


def right_by_round(run: Path, truth: Mapping[str, str]) -> list[dict[str, list[bool]]]:
    """Returns for each round whether labels are right: ``generator``, ``both`` and ``trained``."""

    def right(samples: Sequence[Sample]) -> list[bool]:
        return [truth[key(s.fields)] == s.target for s in samples if key(s.fields) in truth]

    rounds = []
    for number in rounds_in(run):
        store = RoundStore(run, number, read_only=True)
        scored = {row["id"]: row.get("probabilities") for row in store.energies()}
        probes = [s for s in store.accepted("probe") if s.source == "unlabelled"]
        rounds.append(
            {
                "generator": right([s.sample for s in probes]),
                "both": right([with_joint_label(s, p).sample for s in probes if (p := scored.get(s.id))]),
                "trained": right([s.sample for s in store.accepted("train") if s.source == "unlabelled"]),
            }
        )
    return rounds


def cell(right: Sequence[bool]) -> str:
    """Returns a share with its interval."""
    if not right:
        return "-"
    interval = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
    return f"{sum(right) / len(right):.1%} ({interval.low:.1%} to {interval.high:.1%}) of {len(right):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("labelled", type=Path, help="JSON Lines of the texts with their labels")
    parser.add_argument("--target", help="column of the label; the task's target by default")
    given = parser.parse_args()
    task = task_of(given.run)
    truth = true_labels(read_lines(given.labelled), task, given.target or task.target.name)
    rounds = right_by_round(given.run, truth)
    every = {name: [value for of in rounds for value in of[name]] for name in ("generator", "both", "trained")}
    for name, of in [*((f"round {i}", of) for i, of in enumerate(rounds)), ("all", every)]:
        print(name, *(f"{kind}: {cell(right)}" for kind, right in of.items()), sep="; ")


if __name__ == "__main__":
    main()
