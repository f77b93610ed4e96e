"""Baselines for a student on the same test rows: a constant answer, the generator itself, training on labelled rows.

The generator gets each row in an ordinary prompt: an instruction with the meanings of the labels, demos for few-shot,
the row's fields, and the beginning of the answer. In a task with labels its answer is the label whose name is the
likeliest continuation. A model prefers some names whatever it reads, so the same answers are also shown *calibrated*:
each label's likelihood is divided by its mean probability over the tested rows (:mod:`gold_lightning.likelihoods`).
Other tasks are decoded greedily.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from rich.console import Console
from rich.progress import track

from gold_lightning.errors import ConfigError, GoldError, NoLikelihoodsError
from gold_lightning.evaluation.intervals import evaluate, prediction_row
from gold_lightning.evaluation.supervised import LabelledRounds
from gold_lightning.generators.base import Generator, Request
from gold_lightning.labelled import check_rows_file, load_rows
from gold_lightning.likelihoods import LabelCalibrator, read_log_probs, stored_log_probs
from gold_lightning.questions import answer_request, read_answer
from gold_lightning.storage.json_lines import append_line, digest, read_lines, write_lines
from gold_lightning.t5.checks import count_cut
from gold_lightning.task import Sample, Task, TestRow

if TYPE_CHECKING:
    from gold_lightning.data import GoldDataModule
    from gold_lightning.student import T5Student

__all__ = [
    "GENERATOR_BASELINES",
    "Baseline",
    "BaselineName",
    "BaselineSettings",
    "GeneratorAnswers",
    "calibrated",
    "compare",
    "digest_of_rows",
    "majority",
    "most_frequent",
    "run_baselines",
    "seed_demos",
]

_log = logging.getLogger(__name__)

BaselineName = Literal["majority", "untrained", "zero_shot", "one_shot", "few_shot", "supervised", "student"]
"""Names of the baselines; ``student`` is the trained student itself."""

GENERATOR_BASELINES: Final[tuple[BaselineName, ...]] = ("few_shot", "one_shot", "zero_shot")
"""The baselines that ask the generator."""


@dataclass(frozen=True)
class BaselineSettings:
    """Which baselines to run, and on which rows.

    Args:
        only: Baselines to run: majority (the most frequent answer of the tested rows), untrained (the
            student before training), zero_shot, one_shot and few_shot (the generator without demos, with one of each
            label as in checks of labels, and with all of the task's; in a task with labels also calibrated, from the
            same answers),
            supervised (the student trained on ``train_file``), student (the trained one). All possible ones by default.
        rows: Test on a seeded sample of this many rows, the same for each baseline; all by default.
        train_file: JSON, JSON Lines, CSV, TSV or Parquet file with labelled rows, for the supervised baseline. It takes
            as many training steps as all rounds of the run would, with the same settings.
    """

    only: list[BaselineName] | None = None
    rows: int | None = None
    train_file: str | None = None

    def __post_init__(self) -> None:
        if self.only is not None and not self.only:
            raise ConfigError("baselines.only", [], f"one of {', '.join(get_args(BaselineName))}, or more")
        if self.rows is not None and self.rows < 1:
            raise ConfigError("baselines.rows", self.rows, "1 or more")
        if self.train_file is not None:
            check_rows_file("baselines.train_file", self.train_file)
        elif "supervised" in (self.only or ()):
            raise ConfigError("baselines.train_file", None, "a file of labelled rows, which supervised trains on")

    def names(self, trained: bool, task: Task) -> list[BaselineName]:
        """Names of the baselines to run, the cheap ones first.

        Args:
            trained: Whether there is a trained student.
            task: The task; ``one_shot`` is for those with labels, and with more than one demo of some label.

        Raises:
            ConfigError: A task without labels has no ``one_shot``.
        """
        if "one_shot" in (self.only or ()) and not task.one_label:
            kind = "with several labels a row" if task.many else "without labels"
            raise ConfigError("baselines.only", self.only, f"no one_shot for a task {kind}")
        every: list[BaselineName] = list(get_args(BaselineName))
        if self.only is not None:
            return [name for name in every if name in self.only]
        many_demos = task.one_label and len(task.demos) > len(task.labels)
        cannot = {"supervised": self.train_file is None, "student": not trained, "one_shot": not many_demos}
        return [name for name in every if not cannot.get(name)]


@dataclass(frozen=True)
class Baseline:
    """One baseline.

    Args:
        depends: Plain values on which the predictions depend, beside the rows.
        predict: Returns the predictions in the order of the rows, as ``prediction_row``
            makes them. It may store partial results in the file whose path it gets.
    """

    depends: Mapping[str, Any]
    predict: Callable[[Path], list[dict[str, Any]]]


def run_baselines(
    student: T5Student,
    data: GoldDataModule,
    settings: BaselineSettings,
    *,
    fit: Callable[[LabelledRounds], None],
    test: Callable[[str | None], list[dict[str, Any]]],
    rounds: int | None,
    precision: str,
    checkpoint: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Runs the baselines of a run on its test rows; results are kept in ``baselines/`` of the run folder.

    Args:
        student: The student, untrained.
        data: The data module of the run.
        settings: Which baselines to run, and on which rows.
        fit: Trains the student on labelled rounds.
        test: Returns the predictions of the student, or of a checkpoint of it, for the test rows.
        rounds: Number of rounds of training on labelled rows.
        precision: Precision that ``fit`` and ``test`` compute in.
        checkpoint: Checkpoint of the trained student, if there is one.

    Returns:
        The result of :func:`compare`.

    Raises:
        ConfigError: The trained student is wanted and there is none, or supervised training would have no end.
    """
    names = settings.names(checkpoint is not None, student.task)
    if "student" in names and checkpoint is None:
        raise ConfigError("baselines.only", settings.only, "no student where none is trained", "run fit first")
    data.test_set.draw(settings.rows)
    rows = {i: data.test_set.rows[i] for i in data.test_set.ids}
    decoding = {"num_beams": student.num_beams, "constrained_decoding": student.constrained_decoding}
    tested = {"form": asdict(student.task.student), "precision": precision, **decoding}

    def supervised() -> Baseline:
        if rounds is None or rounds < 0:
            raise ConfigError("trainer.max_epochs", rounds, "0 or more for the supervised baseline")
        samples = load_rows(student.task, str(settings.train_file), "training data")
        labelled = LabelledRounds(data, samples)
        for warning in count_cut(data.task, data.tokenizer, samples).sentences(student.task, "labelled rows"):
            _log.warning(warning)
        training = {
            "rows": digest([(dict(sample.fields), sample.target) for sample in samples]),
            "steps": [labelled.steps(round_) for round_ in range(rounds)],
            "batch_size": data.batch_size,
            "seed": data.seed,
            "weights": _weights_digest(student),
            "training": student.training_settings(),
        }

        def predict(_: Path) -> list[dict[str, Any]]:
            fit(labelled)
            return test(None)

        return Baseline({**tested, **training}, predict)

    def make(name: BaselineName) -> Baseline:
        if name == "majority":
            return Baseline({}, lambda _: majority(rows))
        if name in GENERATOR_BASELINES:
            demos = seed_demos(student.task)
            count = {"zero_shot": 0, "one_shot": len(student.task.labels)}.get(name, len(demos))
            answers = GeneratorAnswers(student.task, data.generator, rows, demos[:count], name)
            return Baseline(answers.depends(), answers.predict)
        if name == "student":
            return Baseline({**tested, "checkpoint": _file_digest(str(checkpoint))}, lambda _: test(checkpoint))
        if name == "untrained":
            return Baseline({**tested, "weights": _weights_digest(student)}, lambda _: test(None))
        return supervised()

    # All are made before the first one runs: training changes the weights.
    baselines = {name: make(name) for name in names}
    return compare(student.task, student.metric_names, rows, data.run_dir / "baselines", baselines)


def _weights_digest(student: T5Student) -> str:
    digest_ = hashlib.sha256()
    for name, tensor in student.model.state_dict().items():
        digest_.update(name.encode())
        digest_.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest_.hexdigest()[:16]


def _file_digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def compare(
    task: Task,
    metrics: Sequence[str],
    rows: Mapping[int, TestRow],
    folder: Path,
    baselines: Mapping[BaselineName, Baseline],
) -> dict[str, dict[str, Any]]:
    """Runs baselines, or reads their predictions if the same rows and settings were predicted before.

    ``<name>.jsonl`` in the folder holds the predictions of each baseline, ``results.json`` the numbers of all
    baselines on these rows. The generator's likelihoods of labels are evaluated twice: as they are, and calibrated as
    ``<name>_calibrated``.

    Args:
        task: The task.
        metrics: Names of its metrics.
        rows: Test rows by their position in the test set.
        folder: Folder of predictions and numbers.
        baselines: Baselines by name, in the order in which they run.

    Returns:
        The result of ``evaluate`` by name, with ``seconds``, ``fingerprint`` and ``notes``.
    """
    ids = sorted(rows)
    of_rows = digest_of_rows(task, rows)
    path = folder / "results.json"
    stored, *_ = [*read_lines(path), {}]
    results: dict[str, Any] = stored["results"] if stored.get("of_rows") == of_rows else {}
    names: list[str] = []
    for name, baseline in baselines.items():
        fingerprint = digest([of_rows, baseline.depends])
        file, part = folder / f"{name}.jsonl", folder / f"{name}.{fingerprint}.part"
        earlier = results.get(name, {})
        predictions = read_lines(file) if earlier.get("fingerprint") == fingerprint else []
        seconds = earlier.get("seconds")
        if [row["row"] for row in predictions] != ids or any("unanswered" in row for row in predictions):
            if predictions:  # rows with an answer are not sent again
                write_lines(part, [row for row in predictions if "unanswered" not in row])
            seconds_before = seconds if predictions else 0.0
            started = time.perf_counter()
            predictions = baseline.predict(part)
            seconds = round(seconds_before + time.perf_counter() - started, 1)
            write_lines(file, predictions)
        numbers = evaluate(metrics, task.label_names, predictions, task.many)
        results[name] = {**numbers, "seconds": seconds, "fingerprint": fingerprint, "notes": _notes(predictions)}
        names.append(name)
        if task.one_label and name in GENERATOR_BASELINES:
            names.append(f"{name}_calibrated")
            predictions = calibrated(task, predictions)
            write_lines(folder / f"{names[-1]}.jsonl", predictions)
            results[names[-1]] = {
                **evaluate(metrics, task.label_names, predictions, task.many),
                "fingerprint": fingerprint,
            }
        # After each baseline, so that an interruption of the next one loses nothing.
        write_lines(path, [{"task": task.name, "rows": len(ids), "of_rows": of_rows, "results": results}])
        for stale in folder.glob(f"{name}.*.part"):
            stale.unlink()
        _log.info("%s: %d rows, %.1f s", name, len(ids), seconds)
    return {name: results[name] for name in names}


def digest_of_rows(task: Task, rows: Mapping[int, TestRow]) -> str:
    """Returns a hash of test rows; results with equal hashes are comparable.

    Args:
        task: The task.
        rows: Test rows by their position in the test set.
    """
    return digest([task.label_names, [(i, dict(rows[i].fields), rows[i].targets) for i in sorted(rows)]])


def _notes(predictions: Sequence[Mapping[str, Any]]) -> list[str]:
    cut = sum("cut" in row for row in predictions)
    unfinished = sum(row.get("finish") == "length" for row in predictions)
    unanswered = sum("unanswered" in row for row in predictions)
    notes = [f"{cut} rows were too long for the model; the end of their longest field was cut off"] if cut else []
    if unanswered:
        notes.append(
            f"{unanswered} rows have no answer, and count as an empty one; the same command asks for them again"
        )
    return notes + ([f"{unfinished} answers were cut off at the most tokens of a target"] if unfinished else [])


def most_frequent(rows: Mapping[int, TestRow]) -> str:
    """Returns the most frequent target; the first of equally frequent ones."""
    return Counter(rows[i].target for i in sorted(rows)).most_common(1)[0][0]


def majority(rows: Mapping[int, TestRow]) -> list[dict[str, Any]]:
    """Predicts the most frequent target of the test rows for each row: the best constant answer."""
    common = most_frequent(rows)
    return [prediction_row(i, common, rows[i].targets) for i in sorted(rows)]


def calibrated(task: Task, predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Calibrates the generator's likelihoods over the predicted rows, whose correct labels it does not use.

    Args:
        task: The task.
        predictions: Predictions with ``log_probs``, as :class:`GeneratorAnswers` makes them.

    Returns:
        Predictions of the same rows, with ``probabilities``. Rows without an answer stay without one.
    """
    calibrator = LabelCalibrator(task.label_names, "batch", by_label=False)
    log_probs = [read_log_probs(task.label_names, row.get("log_probs", {})) for row in predictions]
    for values in log_probs:
        calibrator.observe(values)
    rows: list[dict[str, Any]] = []
    for row, values in zip(predictions, log_probs, strict=True):
        plain = {key: value for key, value in row.items() if key != "log_probs"}
        if likelihoods := calibrator.likelihoods(values):
            probabilities = {name: round(p, 4) for name, p in likelihoods.probabilities.items()}
            plain |= {"prediction": likelihoods.label, "probabilities": probabilities}
        rows.append(plain)
    return rows


def seed_demos(task: Task) -> list[Sample]:
    """Returns all demos of the task, labels in turn: a model prefers a label that ends the prompt several times."""
    if not task.one_label:
        return list(task.demos)
    by_label = [[d for d in task.demos if d.target == name] for name in task.label_names]
    return [d for turn in itertools.zip_longest(*by_label) for d in turn if d is not None]


class GeneratorAnswers:
    """Answers of the generator to test rows.

    Args:
        task: The task.
        generator: The generator.
        rows: Test rows by their position in the test set.
        demos: Demos in the prompt; none for zero-shot.
        name: Title of the progress bar.
    """

    def __init__(
        self, task: Task, generator: Generator, rows: Mapping[int, TestRow], demos: Sequence[Sample], name: str
    ) -> None:
        self.task, self.generator, self.rows, self.demos, self.name = task, generator, rows, demos, name

    def depends(self) -> dict[str, Any]:
        """Plain values on which the answers depend."""
        requests = (answer_request(self.task, self.rows[i].fields, self.demos) for i in sorted(self.rows))
        values = [self.generator.request_values(request) for request in requests]
        return {"generator": self.generator.fingerprint(), "requests": digest(values)}

    def predict(self, part: Path) -> list[dict[str, Any]]:
        """Returns the predictions in the order of the rows; answers that ``part`` holds are not paid for again.

        Raises:
            GoldError: The prompt does not fit into the model, however much of the row is cut off.
        """
        # Rows of similar length together: a batch is as wide as its longest row.
        order = sorted(self.rows, key=lambda i: (len(self.rows[i].text), i))
        size = self.generator.batch_size
        predictions = {row["row"]: row for row in read_lines(part) if "unanswered" not in row}
        console = Console(stderr=True)
        starts = range(0, len(order), size)
        for at in track(starts, self.name, console=console, transient=True, disable=not console.is_terminal):
            if missing := [i for i in order[at : at + size] if i not in predictions]:
                batch = self._predict_batch(missing)
                append_line(part, *batch)
                predictions |= {row["row"]: row for row in batch}
        return [predictions[i] for i in sorted(predictions)]

    def _predict_batch(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        requests = [answer_request(self.task, self.rows[i].fields, self.demos) for i in ids]
        extras: list[dict[str, Any]] = [{} for _ in ids]
        for at, over in enumerate(self.generator.tokens_over_limit(requests)):
            if over:
                requests[at], extras[at]["cut"] = self._cut(self.rows[ids[at]], over)
        predictions = []
        try:
            completions = self.generator.generate(requests)
        except NoLikelihoodsError as e:
            remedy = "take a generator that gives them, or name other ones in --baselines.only (majority, untrained)"
            raise e.needed_for("the generator's baselines of a task with labels", remedy) from None
        for i, completion, extra in zip(ids, completions, extras, strict=True):
            if not completion.is_answer:
                text, extra["unanswered"] = "", completion.finish
            elif self.task.one_label:
                log_probs = dict(zip(self.task.label_names, completion.choice_log_probs, strict=True))
                text = max(log_probs, key=lambda name: log_probs[name])  # ties: the task's order
                extra["log_probs"] = stored_log_probs(self.task.label_names, completion.choice_log_probs)
            else:
                text = read_answer("" if completion.reason else completion.text, self.task)
                extra["finish"] = completion.finish
            predictions.append(prediction_row(i, text, self.rows[i].targets, **extra))
        return predictions

    def _cut(self, row: TestRow, over: int) -> tuple[Request, dict[str, int]]:
        """Cuts the end of the longest field until the request fits; also returns the characters cut off by field."""
        fields = dict(row.fields)
        while over:
            longest = max(fields, key=lambda name: len(fields[name]))
            if not fields[longest]:
                raise GoldError(
                    f"{self.name}: the instruction and {len(self.demos)} demos are {over} tokens longer than the model "
                    "takes, without any row; use fewer or shorter demos, or a model that takes more"
                )
            # A token has one character or more, so this never cuts off much more than is needed.
            fields[longest] = fields[longest][:-over]
            request = answer_request(self.task, fields, self.demos)
            over = self.generator.tokens_over_limit([request])[0]
        return request, {n: len(t) - len(fields[n]) for n, t in row.fields.items() if t != fields[n]}
