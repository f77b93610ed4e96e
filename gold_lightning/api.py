"""The functions that a notebook or a program of one's own uses; ``import gold_lightning as gl`` offers them.

They make the same objects that the command line makes of a config, and call the same runner: a folder that
:func:`distill` began is one that ``python -m gold_lightning`` goes on with, tests and reports on.
"""

from __future__ import annotations

import html
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import EarlyStopping

from gold_lightning import runner
from gold_lightning.budget import Budget
from gold_lightning.calibration.fitting import CalibrationSettings
from gold_lightning.callbacks import OODFeedback
from gold_lightning.checkpoints.best import BestCheckpoint
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import GoldError
from gold_lightning.evaluation.calibrate import FIT_CALIBRATION
from gold_lightning.evaluation.intervals import evaluate as evaluate_rows
from gold_lightning.evaluation.intervals import prediction_row
from gold_lightning.evaluation.preview import PreviewSettings
from gold_lightning.evaluation.preview import preview as preview_lines
from gold_lightning.evaluation.verdict import GeneratorVerdict
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import EmbeddedGenerator, Generator
from gold_lightning.inputs.paths import expand
from gold_lightning.labelled import load_rows
from gold_lightning.losses import RobustLoss
from gold_lightning.notices import lines_shown, without_progress_bars
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.planning.plan_warnings import plan_warnings
from gold_lightning.run import Run, provenance, to_dataset
from gold_lightning.storage.round_store import Kind
from gold_lightning.storage.run_folder import RunFolder
from gold_lightning.student import T5Student, metric_names
from gold_lightning.synthesis import Synthesizer
from gold_lightning.t5.calibrating import check_promise
from gold_lightning.t5.folder import load_calibration, load_folder_task
from gold_lightning.task import Sample, Task, TaskSource
from gold_lightning.unlabelled import Texts, texts_file

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Preview", "Run", "distill", "evaluate", "load", "preview", "synthesize"]

_KINDS: tuple[Kind, ...] = ("train", "probe")


class Predictor(Protocol):
    """Anything that predicts: a student, or a model of one's own to compare it with."""

    def predict(self, texts: Any) -> Any:
        """Returns a prediction for each text of a list, in order."""


class Preview:
    """Prompts, a handful of samples and an estimate of what a run takes; it shows itself in a notebook.

    Args:
        text: The preview as the command line prints it.
        verdict: Whether the generator can teach the task; ``None`` if it gives no likelihoods of labels.

    Example:
        >>> from gold_lightning import Preview
        >>> print(Preview("a training prompt"))
        a training prompt
    """

    def __init__(self, text: str, verdict: GeneratorVerdict | None = None) -> None:
        self.text, self.verdict = text, verdict

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


def distill(
    task: TaskSource,
    *,
    generator: Generator | None = None,
    student: str = "embedded",
    rounds: int = 3,
    samples_per_round: int | None = None,
    probe_per_round: int | None = None,
    budget: Budget | None = None,
    plan: SynthesisPlan | None = None,
    loss: RobustLoss | None = None,
    feedback: OODFeedback | None = None,
    output: str | Path | None = None,
    seed: int = 1,
    unlabelled: Texts | None = None,
    data: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    calibration: CalibrationSettings | None = None,
    verbose: bool = True,
) -> Run:
    """Distils a generator into a student: synthesises samples, trains, feeds back, round after round.

    A folder that holds a part of the run already is gone on with; a finished one is returned as it is.

    Args:
        task: The task, the path of a task file, or the name of a shipped task.
        generator: The engine that writes samples; an :class:`~gold_lightning.generators.EmbeddedGenerator` by default.
        student: Hub id or folder of a T5, or ``embedded``.
        rounds: Number of rounds.
        samples_per_round: Training samples per round, in place of the plan's.
        probe_per_round: Probe samples per round, in place of the plan's.
        budget: Limits of requests, tokens, cost and time.
        plan: How prompts are made up, and how many samples a round has.
        loss: The student's loss; a :class:`~gold_lightning.losses.SymmetricCrossEntropy` by default.
        feedback: The feedback callback, for other strategies, scores and rates.
        output: The run folder; ``runs/TASK/default`` by default.
        seed: Seed of all that is drawn.
        unlabelled: Real texts without labels, from which probe sets are drawn: a file, as ``data.unlabelled`` names it,
            or the texts (or rows of the task's fields) themselves, which are copied into the run folder.
        data: Further settings of :class:`~gold_lightning.data.GoldDataModule`.
        model: Further settings of :class:`~gold_lightning.student.T5Student`.
        trainer: Settings of :class:`lightning.pytorch.Trainer`, such as ``{"devices": 2}``.
        calibration: The promise that the student is calibrated for at the end; by default that 95 % of its known
            answers are right, or the strictest promise from 95 % down to 70 % that the probe sets allow.
        verbose: Print one line for each round.

    Returns:
        The run.

    Raises:
        ConfigError: A setting is wrong.
        QuotaError: The generator's yield is too low.
        BusyError: Another process is at work in the folder.

    Example:
        >>> import gold_lightning as gl
        >>> run = gl.distill("news_topics", rounds=1, output="runs/news_topics/a")  # doctest: +SKIP
        >>> gl.load(run.student).predict("The striker scored twice.")  # doctest: +SKIP
        'Sports'
    """
    seed_everything(seed, workers=True, verbose=False)
    loaded = Task.load(task)
    folder = Path(expand("output", str(output))) if output else Path("runs") / loaded.name / "default"
    plan = plan or SynthesisPlan()
    plan = replace(
        plan,
        samples_per_round=plan.samples_per_round if samples_per_round is None else samples_per_round,
        probe_per_round=plan.probe_per_round if probe_per_round is None else probe_per_round,
    )
    feedback = feedback or OODFeedback()
    settings: dict[str, dict[str, Any]] = {
        "data": {
            "task": loaded,
            "generator": generator or EmbeddedGenerator(),
            "plan": plan,
            "budget": budget or Budget(),
            **({} if unlabelled is None else {"unlabelled": texts_file(loaded, unlabelled, folder)}),
            **(data or {}),
        },
        "model": {"student": student, **({"loss": loss} if loss else {}), **(model or {})},
        "trainer": {"max_epochs": rounds, **(trainer or {})},
    }
    promise = calibration or FIT_CALIBRATION
    check_promise(promise, loaded, "calibration.promise")
    settings["calibration"] = asdict(promise)
    with lines_shown(verbose):
        student_module = T5Student(task=loaded, **settings["model"])
        module = GoldDataModule(
            **settings["data"],
            run_dir=str(folder),
            student=student,
            feedback_rate=feedback.settings.rate,
            feedback_capacity=feedback.capacity,
            seed=seed,
        )
        checkpoints = RunFolder(folder).checkpoints
        callbacks = [
            feedback,
            EarlyStopping(**runner.EARLY_STOPPING),
            BestCheckpoint(dirpath=str(checkpoints), **runner.CHECKPOINT),
        ]
        flags = {
            "logger": runner.default_loggers(folder),
            "enable_progress_bar": False,
            "default_root_dir": str(folder),
        }
        gold_trainer = runner.GoldTrainer(**{**runner.TRAINER, **flags, **settings["trainer"]}, callbacks=callbacks)
        runner.add_run_callbacks(gold_trainer, checkpoints)
        module.generator.check_installed()
        if gold_trainer.is_global_zero:
            _write_settings(folder, loaded, settings, feedback, seed)
        runner.fit(gold_trainer, student_module, module, runner.resume_from(checkpoints), calibration=promise)
    return Run(folder)


def load(folder: str | Path, *, task: TaskSource | None = None) -> T5Student:
    """Loads a student from the folder that a run leaves, which carries its task.

    Args:
        folder: ``runs/TASK/NAME/student``, or a copy of it anywhere.
        task: The task, for a folder of an older version that carries none.

    Returns:
        The student, ready to :meth:`~gold_lightning.student.T5Student.predict`.

    Raises:
        GoldError: The folder carries no task or no student.

    Example:
        >>> import gold_lightning as gl
        >>> gl.load("runs/none/student")
        Traceback (most recent call last):
        ...
        gold_lightning.errors.GoldError: runs/none/student: expected the folder of a student, as fit leaves it in the \
run folder's student/
    """
    path = Path(expand("folder", str(folder)))
    loaded, decoding = load_folder_task(path) if task is None else (Task.load(task), {})
    calibration = load_calibration(path) if task is None else None  # of the folder's own labels
    with without_progress_bars():
        student = T5Student(loaded, str(path), **decoding).train(False)  # without dropout, as other models are loaded
    student.calibration = calibration
    return student


def evaluate(
    student: Predictor, rows: str | Path | Sequence[Sample], *, task: TaskSource | None = None, batch_size: int = 32
) -> dict[str, Any]:
    """Scores a student on labelled rows by the metrics of its task.

    Args:
        student: A student, or anything whose ``predict`` takes a list of texts and whose task is given.
        rows: A JSON, JSON Lines, CSV, TSV or Parquet file with the task's columns, or the rows themselves.
        task: The task; the student's own by default.
        batch_size: Rows in a batch.

    Returns:
        The first metric by name, its 95 % bootstrap ``interval`` and the number of rows ``n``; every further metric
        by name, with ``NAME_interval``.

    Raises:
        GoldError: The rows cannot be read, or the student has no task.

    Example:
        >>> import gold_lightning as gl
        >>> class Constant:
        ...     def predict(self, texts):
        ...         return ["Sports"] * len(texts)
        >>> rows = [gl.Sample({"text": "a match"}, "Sports"), gl.Sample({"text": "a vote"}, "World")]
        >>> gl.evaluate(Constant(), rows, task="news_topics")["accuracy"]
        0.5
    """
    known = getattr(student, "task", None) if task is None else Task.load(task)
    if not isinstance(known, Task):
        raise GoldError(f"evaluate: {type(student).__name__} carries no task; name it: task=...")
    samples = load_rows(known, rows, "rows") if isinstance(rows, str | Path) else list(rows)
    one_field = known.fields[0].name if len(known.fields) == 1 else ""
    if not samples:
        raise GoldError("evaluate: got no rows, expected one at least")
    texts = [s.fields[one_field] if one_field else dict(s.fields) for s in samples]
    sized = {"batch_size": batch_size} if isinstance(student, T5Student) else {}
    predictions = student.predict(texts, **sized)
    names = metric_names(known)
    scored = [
        prediction_row(i, text, sample.targets)
        for i, (sample, text) in enumerate(zip(samples, predictions, strict=True))
    ]
    values = evaluate_rows(names, known.label_names, scored, known.many)
    result: dict[str, Any] = {}
    for i, name in enumerate(names):
        result[name] = values[name]["value"]
        result["interval" if not i else f"{name}_interval"] = tuple(values[name]["interval"])
    return result | {"n": values["n"]}


def synthesize(
    task: TaskSource,
    n: int = 200,
    *,
    generator: Generator | None = None,
    plan: SynthesisPlan | None = None,
    budget: Budget | None = None,
    output: str | Path | None = None,
    seed: int = 1,
) -> Dataset:
    """Synthesises samples without training a student.

    Args:
        task: The task, the path of a task file, or the name of a shipped task.
        n: Number of samples; labels get equal shares.
        generator: The engine; an :class:`~gold_lightning.generators.EmbeddedGenerator` by default.
        plan: How prompts are made up.
        budget: Limits of requests, tokens, cost and time.
        output: A folder that keeps samples and completions, so that a second call asks for nothing twice; a
            temporary one by default.
        seed: Seed of all that is drawn.

    Returns:
        A data set with the columns that :meth:`Run.samples` documents.

    Raises:
        QuotaError: The generator's yield is too low.

    Example:
        >>> import gold_lightning as gl
        >>> texts = [f"text: The {w} club won its {i}th match in a row." for i, w in enumerate(("red", "blue", "old"))]
        >>> writer = gl.ScriptedGenerator(texts)
        >>> samples = gl.synthesize("news_topics", 1, generator=writer)
        >>> samples.column_names[:3]
        ['text', 'topic', 'id']
    """
    loaded = Task.load(task)
    plan = replace(plan or SynthesisPlan(), samples_per_round=n)
    with without_progress_bars(), tempfile.TemporaryDirectory() as temporary:
        folder = Path(expand("output", str(output))) if output else Path(temporary)
        synthesizer = Synthesizer(
            loaded,
            generator or EmbeddedGenerator(),
            folder,
            replace(plan, decontaminate="off"),
            seed,
            budget=budget or Budget(),
        )
        accepted = synthesizer.train(0, FeedbackPool(), 0.0)
        return to_dataset([provenance(sample, loaded.target.name, 0, {}) for sample in accepted])


def preview(
    task: TaskSource,
    *,
    generator: Generator | None = None,
    count: int = 32,
    rows: int = 100,
    rounds: int = 3,
    student: str = "embedded",
    plan: SynthesisPlan | None = None,
    feedback: OODFeedback | None = None,
    budget: Budget | None = None,
    seed: int = 1,
    unlabelled: Texts | None = None,
) -> Preview:
    """Shows prompts and a handful of samples, and estimates what a run takes. Nothing is stored.

    Args:
        task: The task, the path of a task file, or the name of a shipped task.
        generator: The engine; an :class:`~gold_lightning.generators.EmbeddedGenerator` by default.
        count: Number of requests sent to the generator.
        rows: Most labelled rows (validation or test rows of the task) that the generator answers for the verdict.
        rounds: Rounds of the run that is estimated.
        student: The run's student; its weights are not loaded.
        plan: The run's plan.
        feedback: The run's feedback callback.
        budget: The run's budget, whose prices the estimate uses.
        seed: The run's seed.
        unlabelled: The run's real texts without labels.

    Returns:
        The preview; ``print`` shows it as the command line does.

    Example:
        >>> import gold_lightning as gl
        >>> writer = gl.ScriptedGenerator(["The club has won its third match in a row."])
        >>> str(gl.preview("news_topics", generator=writer, count=2)).startswith("preview of news_topics")
        True
    """
    chosen = (feedback or OODFeedback()).settings
    with without_progress_bars(), tempfile.TemporaryDirectory() as folder:
        data = GoldDataModule(
            task=task,
            generator=generator,
            plan=plan or SynthesisPlan(),
            run_dir=folder,
            student=student,
            budget=budget or Budget(),
            seed=seed,
            unlabelled=None if unlabelled is None else texts_file(Task.load(task), unlabelled, Path(folder)),
        )
        notes = plan_warnings(data.task, data.synthesizer.plan, chosen, rounds, data.synthesizer.usable_texts)
        verdict: GeneratorVerdict | None = None

        def lines() -> Iterator[str]:
            nonlocal verdict
            verdict = yield from preview_lines(
                data,
                PreviewSettings(count, rows=rows),
                rounds=rounds,
                rate=chosen.rate if chosen.feeds else 0.0,
                warmup_rounds=chosen.warmup_rounds,
                warnings=notes,
            )

        text = "\n".join(lines())
        return Preview(text, verdict)


def _write_settings(
    folder: Path, task: Task, settings: Mapping[str, Mapping[str, Any]], feedback: OODFeedback, seed: int
) -> None:
    """Writes what the command line would write, so that it can go on with the folder."""
    config = {name: {key: _plain(value) for key, value in section.items()} for name, section in settings.items()}
    if not task.source:  # made in Python
        folder.mkdir(parents=True, exist_ok=True)
        document = yaml.safe_dump(task.to_document(), sort_keys=False, allow_unicode=True)
        (folder / "task.yaml").write_text(document, encoding="utf-8")
    config["data"]["task"] = task.source or str(folder / "task.yaml")
    config["feedback"] = _arguments(feedback.settings) | _arguments(feedback)
    run = {"root": str(folder.parent.parent), "name": folder.name} if folder.parent.name == task.name else {}
    everything = {"seed_everything": seed, **({"run": run} if run else {}), **config}
    runner.write_settings(folder, yaml.safe_dump(everything, sort_keys=False, allow_unicode=True))


def _plain(value: Any) -> Any:
    """Returns a setting in the form that a config has it in."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    kind = type(value)
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": _arguments(value)}


def _arguments(value: Any) -> dict[str, Any]:
    """Returns the arguments that an object was made with, as far as it keeps them under their names."""
    parameters = inspect.signature(type(value).__init__).parameters
    known = {name: getattr(value, name) for name in parameters if name != "self" and hasattr(value, name)}
    return {name: _plain(v) for name, v in known.items() if not isinstance(v, Callable)}  # type: ignore[arg-type]
