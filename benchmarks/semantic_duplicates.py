"""Near duplicates in meaning among a run's training samples, by threshold of ``data.plan.semantic_duplicate``.

``python -m benchmarks.semantic_duplicates RUN_FOLDER [--student STUDENT] [--examples 3]``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml
from gold_lightning.checks.semantic import SemanticIndex
from gold_lightning.run import Run
from gold_lightning.t5.sentence_vectors import SentenceVectors
from gold_lightning.task import Sample, Task

THRESHOLDS = (0.7, 0.75, 0.8, 0.85, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--student", default="embedded", help="whose encoder embeds the texts")
    parser.add_argument("--examples", type=int, default=3, help="closest pairs to show")
    arguments = parser.parse_args()
    task = Task.load(str(yaml.safe_load((arguments.run / "config.yaml").read_text(encoding="utf-8"))["data"]["task"]))
    names = [f.name for f in task.fields]
    rows = Run(arguments.run).samples("train")
    samples = [Sample({name: row[name] for name in names}, row[task.target.name]) for row in rows]
    vectors = SentenceVectors(arguments.student)
    print(f"{len(samples)} training samples of {arguments.run}\n\ncosine  rejected")
    for threshold in THRESHOLDS:
        index, rejected = SemanticIndex(vectors, threshold, labelled=bool(task.labels)), 0
        for sample in samples:
            if index.reason(sample):
                rejected += 1
            else:
                index.add(sample)
        print(f"{threshold:6.2f}  {rejected:8d}")
    embedded = vectors([sample.text for sample in samples])
    pairs = [
        (float(embedded[i] @ embedded[j]), samples[i].text, samples[j].text)
        for i in range(len(samples))
        for j in range(i)
        if not task.labels or samples[i].target == samples[j].target
    ]
    for cosine, *texts in sorted(pairs, reverse=True)[: arguments.examples]:
        print(f"\n{cosine:.2f}", *texts, sep="\n  ")


if __name__ == "__main__":
    main()
