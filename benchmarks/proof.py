"""Measures what docs/results.md reports, task by task and seed by seed; one line a measurement in docs/results.jsonl.

    python -m benchmarks.proof --rows rows --encoder all-MiniLM-L6-v2
    python -m benchmarks.results_page                     # makes the page of all lines

``rows`` holds two JSON Lines files for each task: ``NAME.test.jsonl``, labelled rows, and ``NAME.texts.jsonl``, real
texts with their true labels, which no run sees: they tell how right labels are. Neither is part of the project. NAME is
``news``, ``film`` or ``questions``. What has been measured is not measured again, runs go on where they were, and
generators are asked for nothing twice (``--root``).

A task and a seed have one run: three rounds without feedback, 240 samples by the embedded generator, whose probe sets
are the real texts. Without ``--rows`` news is measured alone, on the task's own test rows and without real texts. With
``--large``, the GGUF file of a larger generator or a config that names one, such as a server, tasks whose names end in
``-large`` are run by that generator. Each arm trains a student anew on samples of that run, as its last round does:

    plain              all samples, four passes in batches of about one length (``data.group_by_length``)
    random order       in batches in random order; and ``7 passes``, and ``7 passes, random order``
    80                 the first 80 samples; and other numbers
    random, band, top  three quarters of the samples, and a quarter real texts that the strategy chose from the probe
                       sets of the first two rounds, under the labels that the run gives them (``feedback.label_by``),
                       in batches in random order, as in every run with real texts
    pseudo             all samples, and all real texts of the first two rounds under such labels (``unlabelled_as:
                       pseudo_labels``)
    all texts          those of the last round too, on which one more round would train
    random, true       the same texts under their true labels; likewise ``band, true`` and ``top, true``
    soft, drop         all samples with soft targets (weight 0.5), and without those whose label is doubtful
    random as demos    as many samples, of another run: real texts that the strategy chose are shown to the generator,
                       under their labels; and ``band as demos``; and, shown without a label, ``random as style`` and
                       ``band as style``
    loop               as many samples, of another run: with feedback of the energy band, and with probe sets that the
                       generator writes, as in the paper

``regression/ARM`` and ``own/ARM`` are logistic regressions on the same samples: on sentence vectors of ``--encoder``,
and on those of the student as it is embedded. ``energy`` and ``labels`` only read the run. ``few_shot`` and
``zero_shot`` are the generator's own answers to the test rows, as ``gold-lightning baselines`` has them; in ``cascade``
it answers the rows of which the student is least sure, with all demos and calibrated. Texts without a true label are
left out, except by ``pseudo``.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from benchmarks.linear_probe import mean_states
from benchmarks.retraining import Retraining, labelled_rows
from benchmarks.text_labels import key, true_labels
from gold_lightning.doubtful import DoubtfulLabels, logistic_regression
from gold_lightning.feedback import ScoredProbe, choose, make_strategy
from gold_lightning.labelled import load_test_rows
from gold_lightning.losses import SoftTargets
from gold_lightning.notices import without_progress_bars
from gold_lightning.scores import auroc
from gold_lightning.storage.json_lines import append_line, read_lines, write_lines
from gold_lightning.storage.round_store import RoundStore, StoredSample
from gold_lightning.storage.run_folder import rounds_in
from gold_lightning.t5.sentence_vectors import SentenceVectors
from gold_lightning.task import Sample, Task
from gold_lightning.text_labels import joint_probabilities, with_joint_label

HERE = Path(__file__).parent
TASKS = {
    "news": "news_topics",
    "film": str(HERE / "tasks" / "film_reviews.yaml"),
    "questions": str(HERE / "tasks" / "questions.yaml"),
    "qnli": "qnli",
    "intents-20": str(HERE / "tasks" / "bank_messages.yaml"),  # those of INTENTS alone
    "intents-77": str(HERE / "tasks" / "bank_messages.yaml"),
}
ROWS = {"intents-20": "intents", "intents-77": "intents"}  # names of files, where they are not the task's
INTENTS = (
    *("activate my card", "age limit", "cancel transfer", "card arrival", "cash withdrawal charge", "change pin"),
    *("contactless not working", "country support", "declined card payment", "edit personal details", "exchange rate"),
    *("lost or stolen card", "passcode forgotten", "pending transfer", "request refund", "terminate account"),
    *("top up failed", "transaction charged twice", "transfer fee charged", "verify my identity"),
)
LARGE = "-large"  # ends the name of a task that a larger generator writes
# The tasks of which the embedded generator writes samples with right labels.
EMBEDDED = tuple(name for name in TASKS if name != "qnli")
STRATEGIES = {"random": "random", "band": "energy_band", "top": "energy_top"}
ROUNDS, SAMPLES, PASSES = 3, 240, 4
PROBES = 60  # samples of a probe set that the generator writes
MORE_SAMPLES = {"intents-77": 462}  # six of each label
COVERAGES = (1.0, 0.8, 0.6)
CALLS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
CHOSEN = tuple(name + true for true in ("", ", true") for name in STRATEGIES)
PSEUDO = ("pseudo", "all texts")
SHOWN = tuple(f"{strategy} as {use}" for use in ("demos", "style") for strategy in ("random", "band"))
ARMS = (
    *("energy", "labels", "plain", "few_shot", "zero_shot", "cascade"),
    *(f"{encoder}/{arm}" for encoder in ("regression", "own") for arm in ("plain", *PSEUDO, *CHOSEN)),
    *(*PSEUDO, *CHOSEN, "random order", "7 passes", "7 passes, random order"),
    *("40", "80", "160", "soft", "drop", "loop", *SHOWN),
)
_STRENGTH = 1.0  # of the penalty of a logistic regression, scikit-learn's default


def alternating(samples: Sequence[StoredSample], count: int) -> list[StoredSample]:
    """Returns the first samples, as many of each label as of any other."""
    by_label: dict[str, list[StoredSample]] = {}
    for sample in samples:
        by_label.setdefault(sample.sample.target, []).append(sample)
    queues = [iter(of_label) for _, of_label in sorted(by_label.items())]
    taken: list[StoredSample] = []
    while queues and len(taken) < count:
        for queue in list(queues):
            if (sample := next(queue, None)) is None:
                queues.remove(queue)
            elif len(taken) < count:
                taken.append(sample)
    return taken


def errors_found(right: Sequence[bool], doubt: Sequence[float]) -> float:
    """Returns the probability that a wrong answer has more doubt than a right one; nan without either."""
    by_right = {kind: [d for d, r in zip(doubt, right, strict=True) if r == kind] for kind in (True, False)}
    return round(auroc(by_right[True], by_right[False]), 4) if all(by_right.values()) else float("nan")


def needs_texts(arm: str) -> bool:
    """Returns whether an arm needs real texts."""
    return arm in SHOWN or trains_on_texts(arm)


def trains_on_texts(arm: str) -> bool:
    """Returns whether an arm reads real texts itself, and not what a generator wrote after reading them."""
    return arm.rpartition("/")[2].partition(", ")[0] in ("energy", "labels", *PSEUDO, *STRATEGIES)


def share(right: Sequence[bool]) -> float:
    """Returns the share of right answers."""
    return round(float(np.mean(right)), 4)


def by_coverage(right: Sequence[bool], doubt: Sequence[float]) -> list[float]:
    """Returns the share of right answers among the surest rows, for each of ``COVERAGES``."""
    order = np.argsort(doubt, kind="stable")
    return [round(float(np.asarray(right)[order[: round(c * len(order))]].mean()), 4) for c in COVERAGES]


class Proof:
    """The measurements of one task and seed.

    Args:
        name: The task's name in ``TASKS``; ``-large`` after it stands for the run of the larger generator.
        seed: Seed of the run and of the students.
        rows: Folder of labelled rows and real texts; ``None`` for the test rows of the task alone.
        root: Folder of runs.
        encoder: Folder of a sentence encoder; ``None`` for no regression on its vectors.
        large: GGUF file of the larger generator, or a config that names it.
    """

    def __init__(
        self, name: str, seed: int, rows: Path | None, root: Path, encoder: Path | None, large: Path | None = None
    ) -> None:
        self.name, self.large = name.removesuffix(LARGE), large if name.endswith(LARGE) else None
        self.seed, self.rows, self.root, self.encoder = seed, rows, root / "large" if self.large else root, encoder
        self.task = Task.load(self._task_file())
        self.count = MORE_SAMPLES.get(self.name, SAMPLES)
        self.run = self.root / self.task.name / f"seed-{seed}"
        self.target = self.task.target.name
        texts: list[Sample] = []
        if rows is not None:
            self.test = self._of_labels(self._rows("test"))
            if (file := self._rows("texts")).exists():
                texts = self._of_labels(file)
        else:
            self.test = list(load_test_rows(self.task))
        self.truth = true_labels([{**t.fields, self.target: t.target} for t in texts], self.task, self.target)
        self._texts = texts
        self._cache: dict[str, Any] = {}

    def _rows(self, kind: str) -> Path:
        """Returns the file of labelled rows: for tests, or real texts."""
        assert self.rows is not None
        return self.rows / f"{ROWS.get(self.name, self.name)}.{kind}.jsonl"

    def _of_labels(self, file: Path) -> list[Sample]:
        return [r for r in labelled_rows(file, self.task, self.target) if r.target in self.task.label_names]

    def _write(self, kind: str, rows: Iterable[Mapping[str, str]]) -> Path:
        """Writes what a run reads, and returns the file."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_lines(file := self.root / f"{self.name}.{kind}.jsonl", [dict(row) for row in rows])
        return file

    def _task_file(self) -> str:
        """Returns the task's name or file; a task of fewer labels is written first."""
        if self.name != "intents-20":
            return TASKS[self.name]
        task = yaml.safe_load(Path(TASKS[self.name]).read_text(encoding="utf-8"))
        task["name"] += f"_{len(INTENTS)}"
        task["labels"] = [label for label in task["labels"] if label["name"] in INTENTS]
        task["demos"] = [demo for demo in task["demos"] if demo["intent"] in INTENTS]
        self.root.mkdir(parents=True, exist_ok=True)
        (file := self.root / f"{self.name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
        return str(file)

    def base(self) -> None:
        """Runs the three rounds, or what is left of them."""
        self._fit(self.run, {"feedback.strategy": "none"} | (self._real_probe_sets() if self._texts else {}))

    def _real_probe_sets(self) -> dict[str, Any]:
        texts = self._write("texts", [text.fields for text in self._texts])  # without the labels
        return {"data.unlabelled": texts, "data.plan.probe_per_round": len(self._texts) // ROUNDS}

    def _fit(self, run: Path, settings: Mapping[str, Any]) -> None:
        if (run / "student").is_dir() and len(rounds_in(run)) == ROUNDS:
            return
        settings = {"run.root": self.root, "run.name": run.name, "seed_everything": self.seed, **settings}
        settings |= {"data.task": self._task_file(), "data.plan.samples_per_round": self.count // ROUNDS}
        if self.rows is not None:
            settings["data.test_file"] = self._write("test", [{**r.fields, self.target: r.target} for r in self.test])
        given = [word for setting, value in settings.items() for word in (f"--{setting}", str(value))]
        command = [sys.executable, "-m", "gold_lightning", "fit", "--config", "quickstart.yaml"]
        command += [*self._generator(), *given]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def _generator(self) -> list[str]:
        """Returns the arguments that name the larger generator, if it is the one that writes."""
        if self.large is None:
            return []
        if self.large.suffix in (".yaml", ".yml"):
            return ["--config", str(self.large.resolve())]
        name = "--data.generator"
        return [name, "TransformersGenerator", f"{name}.init_args.model", str(self.large.resolve())]

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._cache:
            self._cache[name] = make()
        return self._cache[name]

    @property
    def config(self) -> Mapping[str, Any]:
        return self._once("config", lambda: yaml.safe_load((self.run / "config.yaml").read_text(encoding="utf-8")))

    @property
    def retraining(self) -> Retraining:
        return self._once("retraining", lambda: Retraining(self.run, self.task, self.config))

    def probes(self, known: bool = True) -> Iterator[tuple[int, list[StoredSample], list[Mapping[str, Any]]]]:
        """Yields for each round its number, the real texts under their joint labels, and their scores.

        Args:
            known: Leave out texts without a true label.
        """
        for number in rounds_in(self.run):
            store = RoundStore(self.run, number, read_only=True)
            scores = {row["id"]: row for row in store.energies()}
            stored = [s for s in store.accepted("probe") if s.id in scores]
            stored = [s for s in stored if not known or key(s.sample.fields) in self.truth]
            rows = [scores[s.id] for s in stored]
            joint = self._joint([s.probabilities for s in stored], [row["probabilities"] for row in rows])
            yield number, [with_joint_label(s, p) for s, p in zip(stored, joint, strict=True)], rows

    def _joint(
        self, generator: Sequence[Mapping[str, float]], stored: Sequence[Mapping[str, float]]
    ) -> list[dict[str, float]]:
        """Returns joint probabilities as today's runs have them, also of runs that weighed the student otherwise.

        The logarithm of a stored joint probability is the generator's plus the student's times a weight.
        """
        names = self.task.label_names
        logs = [np.log(np.maximum([[row[n] for n in names] for row in rows], 1e-9)) for rows in (stored, generator)]
        return joint_probabilities(generator, (logs[0] - logs[1]).tolist(), names) if generator else []

    def earlier(self, known: bool = True) -> list[tuple[int, list[StoredSample], list[Mapping[str, Any]]]]:
        """Returns what :meth:`probes` yields but for the last round, whose texts come too late to be trained on."""
        return list(self.probes(known))[:-1]

    def chosen(self, strategy: str) -> list[StoredSample]:
        """Returns the real texts that a strategy chose, half of them in each of the first two rounds."""
        texts: list[StoredSample] = []
        for number, stored, scores in self.earlier():
            probe = ScoredProbe(
                *(number, self.seed, 0.5, 0.8, tuple(s.sample for s in stored)),
                *(tuple(row["energy"] for row in scores), tuple(row["loss"] for row in scores)),
                tuple(s.sample.target for s in stored),
            )
            positions = choose(make_strategy(STRATEGIES[strategy]), probe)
            random.Random(f"{self.seed}/{number}").shuffle(positions)
            texts += alternating([stored[i] for i in positions], self.count // 4 // (ROUNDS - 1))
        return texts

    def measure(self, arm: str) -> dict[str, Any]:
        """Returns the numbers of an arm."""
        encoder, _, of_encoder = arm.partition("/")
        if of_encoder:
            return self._regression(encoder, of_encoder)
        if arm in ("few_shot", "zero_shot"):
            return self._baseline(arm)
        if arm == "loop" or arm in SHOWN:
            return self._with_feedback(arm)
        readings = {"energy": self._energy, "labels": self._labels, "cascade": self._cascade}
        return readings[arm]() if arm in readings else self._student(arm)

    def samples(self, arm: str) -> tuple[list[StoredSample], dict[str, Any]]:
        """Returns what an arm trains on, and what there is to say about it."""
        stored, (strategy, _, truth) = self.retraining.stored, arm.partition(", ")
        if arm.isdigit():
            return alternating(stored, int(arm)), {}
        if arm == "drop":
            vectors = SentenceVectors(self.retraining.student, self.task.student.max_input_tokens)
            doubtful = set(DoubtfulLabels(self.task, vectors, self.seed)(stored))
            return [s for s in stored if s.id not in doubtful], {"left_out": len(doubtful)}
        if not trains_on_texts(arm):
            return list(stored), {}
        if strategy in STRATEGIES:
            texts = self.chosen(strategy)
        else:
            rounds = self.probes(False) if arm == "all texts" else self.earlier(False)
            texts = [text for _, of_round, _ in rounds for text in of_round]
        known = {s.id: label for s in texts if (label := self.truth.get(key(s.sample.fields)))}
        right = [s.sample.target == known[s.id] for s in texts if s.id in known]
        if truth:
            texts = [replace(s, sample=Sample(s.sample.fields, known[s.id])) for s in texts]
        about = {"real_texts": len(texts), "labels_right": share(right)}
        kept = stored if arm in PSEUDO else alternating(stored, self.count - len(texts))
        return [*kept, *texts], about

    def _with_feedback(self, arm: str) -> dict[str, Any]:
        """The student of a run with feedback: of real texts, or of probe sets that the generator writes."""
        run = self.run.with_name(f"{arm.replace(' ', '-')}-{self.run.name}")
        if arm == "loop":
            settings: dict[str, Any] = {"feedback.strategy": "energy_band", "data.plan.probe_per_round": PROBES}
            if self.large is not None:
                settings["data.plan.feedback_as"] = "demo"  # as the paper has it; see configs/quickstart.yaml
        else:
            strategy, _, use = arm.partition(" as ")
            settings = {"feedback.strategy": STRATEGIES[strategy], "data.plan.unlabelled_as": use}
            settings |= self._real_probe_sets()
        self._fit(run, settings)
        samples = Retraining(run, self.task, self.config).stored
        aurocs = [row["auroc"] for row in read_lines(run / "rounds.jsonl")]
        return self._trained(arm, samples, {"auroc_probes": round(float(np.mean(aurocs)), 4)})

    def _student(self, arm: str) -> dict[str, Any]:
        samples, about = self.samples(arm)
        return self._trained(arm, samples, about)

    def _trained(self, arm: str, samples: Sequence[StoredSample], about: Mapping[str, Any]) -> dict[str, Any]:
        started = time.process_time()
        loss = SoftTargets(0.5, 1.0, self.retraining.hard()) if arm == "soft" else None
        by_id = {s.id: s.probabilities for s in samples} if loss else None
        self.retraining.data.passes_per_round = 7 if arm.startswith("7 passes") else PASSES
        in_random_order = trains_on_texts(arm) or arm.endswith("random order")  # with real texts, as a run's are
        self.retraining.data.loaders.group_by_length = not in_random_order
        student = self.retraining.fit(samples, self.seed, loss, by_id)
        trained = time.process_time() - started
        scores = list(student.scores([dict(row.fields) for row in self.test]))
        log_probs = np.stack([row.log_probs for row in scores])
        energies, doubt = np.array([row.energy for row in scores]), -log_probs.max(1)
        right = self._right(log_probs)
        if arm == "plain":
            np.savez(self.run / "proof.npz", log_probs=log_probs)
        return {
            **{"samples": len(samples), "rows": len(right), "accuracy": share(right), **about},
            **{"by_energy": by_coverage(right, energies), "by_probability": by_coverage(right, doubt)},
            **{"auroc_energy": errors_found(right, energies), "auroc_probability": errors_found(right, doubt)},
            "training_cpu_seconds": round(trained, 1),
        }

    def _right(self, scores: np.ndarray) -> list[bool]:
        """Returns whether the label with the highest score is right, for each test row."""
        names = self.task.label_names
        return [names[i] == row.target for i, row in zip(scores.argmax(1), self.test, strict=True)]

    def _energy(self) -> dict[str, Any]:
        """Whether the energy of real texts, when they were probe sets, tells which of their labels are wrong."""
        energies, right = [], []
        for _, stored, scores in self.probes():
            energies += [row["energy"] for row in scores]
            right += [self.truth[key(s.sample.fields)] == s.sample.target for s in stored]
        fifths = np.array_split(np.argsort(energies, kind="stable"), 5)
        shares = [round(float(np.asarray(right)[part].mean()), 4) for part in fifths]
        return {"rows": len(right), "labels_right_by_fifth": shares, "auroc": errors_found(right, energies)}

    def _labels(self) -> dict[str, Any]:
        """How right the labels of real texts are: the generator's, and the joint ones."""
        right: dict[str, list[bool]] = {"generator": [], "joint": []}
        for number, stored, _ in self.probes():
            by_id = {s.id: s for s in RoundStore(self.run, number, read_only=True).accepted("probe")}
            for s in stored:
                true = self.truth[key(s.sample.fields)]
                right["joint"].append(s.sample.target == true)
                right["generator"].append(by_id[s.id].sample.target == true)
        return {"rows": len(right["joint"]), **{whose: share(of) for whose, of in right.items()}}

    def _regression(self, encoder: str, arm: str) -> dict[str, Any]:
        samples, about = self.samples(arm)
        names = self.task.label_names
        labels = np.array([names.index(s.sample.target) for s in samples])
        vectors = self._vectors([s.sample for s in samples], encoder)
        file = self.root / f"{self.name}.{encoder}.npy"
        if not file.exists():  # the test rows are the same for all seeds
            np.save(file, self._vectors(self.test, encoder))
        right = self._right(logistic_regression(vectors, labels, len(names), _STRENGTH)(np.load(file)))
        return {"samples": len(samples), "rows": len(right), "accuracy": share(right), **about}

    def _vectors(self, samples: Sequence[Sample], encoder: str) -> np.ndarray:
        if encoder == "own":
            own = self._once(
                "own", lambda: SentenceVectors(self.retraining.student, self.task.student.max_input_tokens)
            )
            return own([self.task.student_input(s) for s in samples])
        assert self.encoder is not None
        return mean_states([s.text for s in samples], self.encoder)

    def _predictions(self, kind: str, suffix: str = "_calibrated") -> list[Mapping[str, Any]]:
        """Returns the generator's answers to the test rows, which are the same for all seeds."""
        folder = self.root / self.task.name / "baselines"
        file = folder / "baselines" / f"{kind}{suffix}.jsonl"
        if not file.exists():
            given = [
                *("--run.root", str(self.root), "--run.name", folder.name, "--data.task", self._task_file()),
                *self._generator(),
                *("--baselines.only", f"[{kind}]"),
                *(("--data.test_file", str(self.root / f"{self.name}.test.jsonl")) if self.rows else ()),
            ]
            command = [sys.executable, "-m", "gold_lightning", "baselines", "--config", "quickstart.yaml", *given]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return read_lines(file)

    def _baseline(self, kind: str) -> dict[str, Any]:
        answers = {name: self._predictions(kind, suffix) for name, suffix in (("raw", ""), ("accuracy", "_calibrated"))}
        shares = {n: share([r["prediction"] == r["target"] for r in rows]) for n, rows in answers.items()}
        return {"rows": len(self.test), **shares}

    def _cascade(self) -> dict[str, Any]:
        """Accuracy if the generator answers the rows of which the student is least sure, by share of such rows."""
        file = self.run / "proof.npz"
        if not file.exists():
            self.measure("plain")
        arrays, names = np.load(file), self.task.label_names
        student = [names[i] == row.target for i, row in zip(arrays["log_probs"].argmax(1), self.test, strict=True)]
        generator = [row["prediction"] == row["target"] for row in self._predictions("few_shot")]
        order = np.argsort(arrays["log_probs"].max(1), kind="stable")
        accuracies = []
        for calls in CALLS:
            asked = set(order[: round(calls * len(order))].tolist())
            right = [generator[i] if i in asked else r for i, r in enumerate(student)]
            accuracies.append(share(right))
        return {"rows": len(student), "by_calls": accuracies}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="folder of labelled rows and real texts; without it, news alone")
    parser.add_argument("--root", type=Path, default=Path("runs/proof"), help="folder of runs")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "results.jsonl")
    parser.add_argument("--encoder", type=Path, help="folder of a sentence encoder, such as all-MiniLM-L6-v2")
    parser.add_argument(
        "--large", type=Path, help="GGUF file or config of a larger generator, for tasks that end in -large"
    )
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS, *(f"{name}{LARGE}" for name in TASKS)])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--arms", nargs="+", default=ARMS)
    given = parser.parse_args()
    larger = [f"{name}{LARGE}" for name in TASKS] if given.large else []
    tasks, arms = given.tasks or [*EMBEDDED, *larger], given.arms
    if given.rows is None:
        tasks = [name for name in tasks if name.removesuffix(LARGE) == "news"]
    if given.large is None and (wrong := [name for name in tasks if name.endswith(LARGE)]):
        parser.error(f"--tasks {wrong[0]} needs --large FILE")
    if given.encoder is None:
        arms = [arm for arm in arms if not arm.startswith("regression/")]
    if wrong := [arm for arm in given.arms if arm not in ARMS and not arm.isdigit()]:
        parser.error(f"--arms: {wrong[0]!r} is none of {', '.join(ARMS)}")
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums depend on how many there are
    with without_progress_bars():
        for seed in given.seeds:
            for name in tasks:
                proof = Proof(name, seed, given.rows, given.root, given.encoder, given.large)
                done = {(r["task"], r["seed"], r["arm"]) for r in (read_lines(given.out) if given.out.exists() else [])}
                possible = [arm for arm in arms if proof.truth or not needs_texts(arm)]
                missing = [arm for arm in possible if (name, seed, arm) not in done]
                if missing:
                    proof.base()
                for arm in missing:
                    line = {"task": name, "seed": seed, "arm": arm, **proof.measure(arm)}
                    append_line(given.out, line)
                    print(time.strftime("%H:%M:%S"), json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
