"""Run folders without a run: what a report is made of, in any size and with any text."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from gold_lightning.storage.json_lines import append_line, digest, write_lines
from gold_lightning.storage.round_store import BatchRecord, RoundStore, StoredSample
from gold_lightning.task import Sample

CONFIG = """\
# lightning.pytorch==2.6.6
seed_everything: 7
run: {{root: runs, name: {name}}}
data:
  task: {task}
  generator: {{class_path: tests.fakes.NewsWriter, init_args: {{junk: 0.2}}}}
  plan: {{samples_per_round: {train}, probe_per_round: {probe}, label_agreement: measure, decontaminate: measure}}
  budget: {{max_tokens: null, max_cost: null, max_seconds: null, price_prompt: 0.15, price_completion: 0.6}}
model: {{student: embedded, lr: 0.0005, loss: {{class_path: gold_lightning.losses.SymmetricCrossEntropy}}}}
feedback: {{rate: 0.5, alpha: 0.5, beta: 0.8}}
early_stopping: {{monitor: val/metric, mode: max, patience: 3, min_delta: 0.0}}
trainer: {{max_epochs: {rounds}}}
"""
_REASONS = (
    "too_short",
    "wrong_label",
    "near_duplicate",
    "duplicate",
    "truncated",
    "unparsable",
    "empty",
    "copies_demo",
)
_WORDS = [f"{a}{b}" for a in "bcdfglmnprstvw" for b in ("alo", "erin", "ostu", "ivad", "umek", "ary", "onde", "is")]


def plain_text(rng: random.Random) -> str:
    """A sentence that means nothing."""
    return " ".join(rng.choices(_WORDS, k=rng.randint(8, 34))).capitalize() + "."


def make_run(
    folder: Path,
    *,
    rounds: int = 3,
    train: int = 20,
    probe: int = 12,
    labels: Sequence[str] = ("World", "Sports", "Business"),
    fields: Sequence[str] = ("text",),
    text: Callable[[random.Random], str] = plain_text,
    energies: bool = True,
    tested: bool = True,
    unfinished: bool = False,
) -> Path:
    """Writes a run folder as a run does, by the store's own code.

    Args:
        folder: ``<task>/<name>``.
        rounds: Whole rounds.
        train: Training samples of a round.
        probe: Probe samples of a round.
        labels: Of the task; none for text to text.
        fields: Of a sample.
        text: Makes every text: fields, targets without labels, raw texts.
        energies: Whether the energies of samples are stored.
        tested: Whether there are results of ``test`` and ``baselines``.
        unfinished: Whether one more round was begun.
    """
    rng = random.Random(3)
    folder.mkdir(parents=True)
    sizes = {"rounds": rounds, "train": train, "probe": probe}
    (folder / "config.yaml").write_text(CONFIG.format(task=folder.parent.name, name=folder.name, **sizes))
    write_lines(folder / "versions.json", [{"gold_lightning": "0.1.0", "python": "3.11.9", "torch": "2.13.0"}])
    lines = []
    for number in range(rounds + unfinished):
        store = RoundStore(folder, number)
        whole = number < rounds
        counts = {"train": train if whole else train // 2, "probe": probe if whole else 0}
        for kind, count in counts.items():
            if count:
                _commit(store, kind, count, labels, fields, text, rng)
        append_line(folder / "data" / "completions.jsonl", *_completions(number, train + probe))
        if whole:
            lines.append(_round(store, number, energies, rng))
    if lines:
        write_lines(folder / "rounds.jsonl", lines)
    if tested:
        _results(folder, labels)
    return folder


def _commit(store, kind, count, labels, fields, text, rng):
    accepted, rejects = [], []
    for i in range(count):
        target = labels[i % len(labels)] if labels else text(rng)
        sample = Sample({name: text(rng) for name in fields}, target)
        marks = {"feedback": store.round > 0 and i % 2 == 0, "label_agrees": i % 5 != 0 if labels else None}
        id_ = f"r{store.round:03d}-{kind}-{i:05d}"
        accepted.append(StoredSample(id_, sample, 0, digest("prompt"), ("demo-0",), raw="x", seed=i, **marks))
    for i in range(count // 2):
        label = labels[i % len(labels)] if labels else None
        of = {"label": label, "prompt_hash": digest("prompt"), "raw": text(rng)}
        rejects.append({"id": f"r{store.round:03d}-{kind}-{count + i:05d}", "reason": rng.choice(_REASONS), **of})
    record = BatchRecord(
        kind,
        0,
        requested=count + count // 2,
        accepted=count,
        rejects={r: n for r in _REASONS if (n := sum(row["reason"] == r for row in rejects))},
        prompt_tokens=300 * count,
        completion_tokens=40 * count,
        seconds=0.02 * count,
        groups=[{"label": name, "feedback": False, "size": 1} for name in labels or (None,)],
    )
    store.commit(record, accepted, rejects, {digest("prompt"): "Write."}, {"generator": {"class": "NewsWriter"}})


def _completions(number, count):
    for i in range(count):
        how = {"prompt_tokens": 300, "completion_tokens": 40, "finish": "stop", "choice_log_probs": []}
        yield {"key": f"{number}-{i}", "round": number, "text": "x", **how}


def _round(store, number, energies, rng):
    centre = {"train": -13 - 0.15 * number, "probe": -12.6 - 0.2 * number}
    found = {kind: {s.id: rng.gauss(centre[kind], 0.5) for s in store.accepted(kind)} for kind in centre}
    ranked = sorted(found["probe"], key=found["probe"].get)
    fed = ranked[len(ranked) // 2 : len(ranked) * 4 // 5]
    if energies:
        rows = [
            {"id": i, "kind": kind, "energy": e, "fed_back": i in fed}
            for kind, of in found.items()
            for i, e in of.items()
        ]
        write_lines(store.folder / "energies.jsonl", rows)
    quantiles = {}
    for kind, of in found.items():
        at = sorted(of.values())
        quantiles[kind] = {f"q{q:02d}": at[(len(at) - 1) * q // 100] for q in (5, 25, 50, 75, 95)} | {
            "mean": centre[kind]
        }
    metric = 0.9 - 0.4 / (number + 1) + rng.uniform(-0.03, 0.03)
    overlap = {"samples": len(found["train"]), "words": 1, "full_field": 0, "full_row": 0, "any": 1, "test_rows": 1}
    return {
        "round": number,
        "trained_on": (number + 1) * len(found["train"]),
        "overlap": {"train": overlap, "probe": overlap},
        "feedback_prompts": sum(s.feedback for s in store.accepted("train")),
        "tokens": {"calls": 32, "prompt": 9600, "completion": 1280, "reused_calls": 0, "cost": 0.002208},
        "seconds": {"generation": 40.0 + number, "training": 20.0 + 6 * number, "scoring": 3.0},
        "energy": quantiles,
        "auroc": 0.75 - 0.02 * number,
        "band": [0.5, 0.8],
        "fed_back": fed,
        "pool": len(fed),
        "metrics": {"val/loss": 0.4, "val/accuracy": metric, "val/macro_f1": metric - 0.02, "val/metric": metric},
    }


def _results(folder, labels):
    def line(value):
        return {
            name: {"value": value, "interval": [max(0, value - 0.05), value + 0.05]}
            for name in ("accuracy", "macro_f1")
        }

    common = labels[0] if labels else "four"
    own = {"student": line(0.796), "untrained": line(0.0), "majority": line(0.25)}
    counts = {"words": 1, "full_field": 0, "full_row": 0, "test_rows": 1, "any": 1}
    overlap = {"train": {"samples": 60, **counts}, "demos": {"samples": 12, **counts, "any": 0, "words": 0}}
    summary = {"task": folder.parent.name, "metrics": ["accuracy", "macro_f1"], "rows": 240, "of": 240, "of_rows": "a"}
    more = {"most_frequent": common, "labels_as_read": "", "overlap": overlap}
    write_lines(folder / "results.json", [{**summary, "results": own, **more}])
    write_lines(folder / "overlap.json", [{**overlap, "found": []}])
    baselines = {
        "zero_shot": line(0.61),
        "few_shot_calibrated": line(0.71),
        "few_shot": {**line(0.66), "notes": ["2 rows were cut"], "seconds": 3.0},
    }
    held = {"task": folder.parent.name, "rows": 240, "of_rows": "a", "results": baselines}
    write_lines(folder / "baselines" / "results.json", [held])
