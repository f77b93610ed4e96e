"""What soft targets and the removal of doubtful labels change: the stored samples of a run, trained on anew.

    python -m benchmarks.soft_labels runs/news_topics/quickstart test.jsonl --out soft_labels.jsonl --seeds 1 2 3 4 5

Each arm trains a student of the run's own settings on the training samples of all its rounds, once per seed, as the
last round of a run with ``model.restart`` does, and counts right answers on the test rows. The seed decides about the
order of the samples, dropout and folds. A line is written for each arm and seed; those in ``--out`` are not run again.

Arms:
    plain               the run's own loss
    soft:WEIGHT:T       SoftTargets of that weight and temperature around it
    drop                the run's own loss, without the samples that ``data.doubtful_labels: drop`` leaves out
    students            the same with two students, each trained on half of the samples, instead of logistic regressions
    drop+soft:WEIGHT:T  both

Probabilities are those that are stored. Runs of earlier versions have likelihoods alone, which are calibrated here over
all samples; if a run has none, or with ``--ask``, the embedded generator is asked, and ``OUT.probabilities.json`` keeps
its answers.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from benchmarks.retraining import Probabilities, Retraining, labelled_rows
from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.doubtful import DoubtfulLabels, is_doubtful
from gold_lightning.evaluation.comparison import mean_interval
from gold_lightning.generators import EmbeddedGenerator
from gold_lightning.likelihoods import LabelCalibrator, read_log_probs, stored_probabilities
from gold_lightning.losses import SoftTargets
from gold_lightning.notices import without_progress_bars
from gold_lightning.storage.completions import CompletionLog, Completions
from gold_lightning.storage.json_lines import append_line, read_lines
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.t5.sentence_vectors import SentenceVectors
from gold_lightning.task import Sample, Task

ARMS = ("plain", "soft:0.5:1", "soft:0.5:2", "drop")


class Benchmark(Retraining):
    """Trains and tests students on the samples of a run.

    Args:
        run: The run folder.
        test: Labelled rows.
        passes: Passes over the samples; the run's own by default.
        task: Its task.
        config: Its resolved config.
    """

    def __init__(
        self, run: Path, test: Sequence[Sample], passes: int | None, task: Task, config: Mapping[str, Any]
    ) -> None:
        super().__init__(run, task, config, passes)
        self.test, self.vectors = test, SentenceVectors(self.student, task.student.max_input_tokens)

    def doubtful_by_students(self, by_id: Probabilities, seed: int) -> set[str]:
        """Ids of samples about whose label a student that was trained on the other half is confident otherwise."""
        order = np.random.default_rng(seed).permutation(len(self.stored))
        order = sorted(order.tolist(), key=lambda i: self.stored[i].sample.target)
        halves = [[self.stored[i] for i in order[start::2]] for start in (0, 1)]
        names, probabilities, labels, ids = self.task.label_names, [], [], []
        for train, held_out in (halves, halves[::-1]):
            student = self.fit(train, seed, self.hard(), by_id)
            scores = student.scores([dict(s.sample.fields) for s in held_out])
            probabilities += [np.exp(row.log_probs) for row in scores]
            labels += [names.index(s.sample.target) for s in held_out]
            ids += [s.id for s in held_out]
        flags = is_doubtful(np.stack(probabilities), np.array(labels)).tolist()
        return {id_ for id_, flag in zip(ids, flags, strict=True) if flag}

    def measure(self, arm: str, seed: int, by_id: Probabilities) -> dict[str, Any]:
        """Trains and tests one arm with one seed."""
        started, loss, left_out = time.process_time(), self.hard(), set[str]()
        for part in arm.split("+"):
            if part.startswith("soft:"):
                weight, temperature = map(float, part.split(":")[1:])
                loss = SoftTargets(weight, temperature, self.hard())
            elif part == "drop":
                left_out = set(DoubtfulLabels(self.task, self.vectors, seed)(self.stored))
            elif part == "students":
                left_out = self.doubtful_by_students(by_id, seed)
        student = self.fit([s for s in self.stored if s.id not in left_out], seed, loss, by_id)
        predictions = student.predict([dict(row.fields) for row in self.test], batch_size=64)
        right = sum(p == row.target for p, row in zip(predictions, self.test, strict=True))
        return {
            **{"run": str(self.run), "arm": arm, "seed": seed, "passes": self.data.passes_per_round},
            **{"samples": len(self.stored), "left_out": len(left_out), "right": right, "rows": len(self.test)},
            **{"accuracy": right / len(self.test), "cpu_seconds": round(time.process_time() - started, 1)},
        }


def probabilities_of(
    task: Task, stored: Sequence[StoredSample], cache: Path, run: str, *, ask: bool
) -> tuple[str, Probabilities]:
    """Returns where the probabilities of labels are from, and those of each sample by its id."""
    if not ask and all(s.probabilities for s in stored):
        return "stored", {s.id: s.probabilities for s in stored}
    rows = {s.id: read_log_probs(task.label_names, s.label_log_probs) for s in stored}
    if not ask and all(rows.values()):
        calibrator = LabelCalibrator(task.label_names, "batch")
        for s in stored:
            calibrator.observe(rows[s.id], s.sample.target)
        return "likelihoods", {id_: stored_probabilities(calibrator.likelihoods(row)) for id_, row in rows.items()}
    cached: dict[str, Probabilities] = json.loads(cache.read_text(encoding="utf-8")) if cache.exists() else {}
    if run not in cached:
        generator = EmbeddedGenerator()
        completions = Completions(generator, CompletionLog())
        check = LabelCheck(task, 1, False, completions.answer_in_batches, generator.tokens_over_limit, "batch")
        scored, _ = check.check([s.sample for s in stored], 0)
        cached[run] = {s.id: stored_probabilities(row) for s, row in zip(stored, scored, strict=True)}
        cache.write_text(json.dumps(cached, ensure_ascii=False), encoding="utf-8")
    return "asked", cached[run]


def table(rows: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> list[str]:
    """A line for each arm: its mean accuracy, and its difference from ``plain`` with the same seeds."""
    lines: list[str] = []
    by_arm = {arm: {r["seed"]: r for r in rows if r["arm"] == arm} for arm in arms}
    for arm, of_arm in by_arm.items():
        values = [100 * r["accuracy"] for r in of_arm.values()]
        line = f"{arm:20} {np.mean(values):5.1f} %  ({len(values)} seeds)"
        pairs = [
            100 * (r["accuracy"] - by_arm["plain"][s]["accuracy"]) for s, r in of_arm.items() if s in by_arm["plain"]
        ]
        if arm != "plain" and len(pairs) > 1:
            line += "  {:+.1f} points ({:+.1f} to {:+.1f})".format(*mean_interval(pairs))
        lines.append(line + f"  left out {np.mean([r['left_out'] for r in of_arm.values()]):.0f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, which stays as it is")
    parser.add_argument("test", type=Path, help="JSON Lines of labelled rows")
    parser.add_argument("--out", type=Path, default=Path("soft_labels.jsonl"))
    parser.add_argument("--arms", nargs="+", default=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--passes", type=int, help="passes over the samples; the run's own by default")
    parser.add_argument("--task", help="task file or name; the run's own by default")
    parser.add_argument("--target", help="column of the label in the test rows; the task's target by default")
    parser.add_argument("--rows", type=int, help="number of test rows, the first ones; all by default")
    parser.add_argument("--ask", action="store_true", help="ask the embedded generator, whatever is stored")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums depend on how many there are
    with without_progress_bars():
        run(args)


def run(args: argparse.Namespace) -> None:
    """Runs the arms and prints the table."""
    config = yaml.safe_load((args.run / "config.yaml").read_text(encoding="utf-8"))
    task = Task.load(args.task or config["data"]["task"])
    rows = labelled_rows(args.test, task, args.target or task.target.name)[: args.rows]
    benchmark = Benchmark(args.run, rows, args.passes, task, config)
    cache = args.out.with_name(args.out.name + ".probabilities.json")
    origin, by_id = probabilities_of(task, benchmark.stored, cache, str(args.run), ask=args.ask)
    print(f"{len(benchmark.stored)} samples of {task.name}; probabilities {origin}", flush=True)
    done = [r for r in read_lines(args.out) if r["run"] == str(args.run) and r["rows"] == len(rows)]
    settings = {"passes": benchmark.data.passes_per_round, "probabilities": origin}
    done = [r for r in done if settings.items() <= r.items()]
    for seed in args.seeds:
        for arm in args.arms:
            if any((r["arm"], r["seed"]) == (arm, seed) for r in done):
                continue
            done.append({**benchmark.measure(arm, seed, by_id), "probabilities": origin})
            append_line(args.out, done[-1])
            print(json.dumps(done[-1]), flush=True)
    print("\n".join(table([r for r in done if r["arm"] in args.arms], args.arms)))


if __name__ == "__main__":
    main()
