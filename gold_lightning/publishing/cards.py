"""The model card of a student and the dataset card of a run's samples, as Markdown with front matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gold_lightning.calibration.describe import describe
from gold_lightning.publishing.facts import RunFacts
from gold_lightning.t5.folder import load_calibration, load_folder_task
from gold_lightning.task import Task

__all__ = ["CARD", "dataset_card", "model_card", "update_calibration", "write_model_card"]

CARD = "README.md"
"""File of a card, in the folder of the student or of the data set."""

_KNOWN = "## Known or not"
_TAGS = ("gold-lightning", "knowledge-distillation", "synthetic-data")
_METHOD = (
    "[GOLD](https://arxiv.org/abs/2403.19754): a language model writes samples, the student trains on them, and the "
    "samples that the student knows least, by their energy, steer what is written next"
)


def write_model_card(folder: Path, run_dir: Path) -> None:
    """Writes the card of a run's student into the student's folder, by what the run has measured so far.

    Args:
        folder: The student's folder, with its task.
        run_dir: The run folder.

    Raises:
        GoldError: The student's folder has no task.
    """
    task, _ = load_folder_task(folder)
    text = model_card(task, RunFacts.of(run_dir), load_calibration(folder))
    (folder / CARD).write_text(text, encoding="utf-8")


def update_calibration(folder: Path) -> None:
    """Writes a student's calibration into its card, if it has one with a section for it.

    Args:
        folder: The student's folder; a run folder around it is not needed.

    Raises:
        GoldError: The student's folder has no task, or a damaged one.
    """
    path = folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, heading, rest = text.partition(f"{_KNOWN}\n")
    if heading:
        _, end, after = rest.partition("\n## ")
        section = "\n".join(_calibration(load_calibration(folder)))
        path.write_text(f"{before}{heading}\n{section}\n{end}{after}", encoding="utf-8")


def model_card(task: Task, facts: RunFacts, calibration: Mapping[str, Any] | None = None) -> str:
    """Returns the model card of a student.

    Args:
        task: The student's task.
        facts: Facts of the run that trained it.
        calibration: The student's calibration, if it has one.

    Example:
        >>> from gold_lightning.task import Task
        >>> card = model_card(Task.load("news_topics"), RunFacts("a generator (its licence)", rounds=1, samples=80))
        >>> card.splitlines()[0], "## How to use it" in card
        ('---', True)
    """
    lines = [_front_matter(task, facts), f"# {task.name}", "", _purpose(task), ""]
    lines += ["## How to use it", "", *_usage(task), ""]
    lines += ["## Data", "", *_data(facts), ""]
    lines += ["## Results", "", *_results(facts), ""]
    lines += [_KNOWN, "", *_calibration(calibration), ""]
    lines += ["## Limits", "", *_limits(task, facts)]
    return "\n".join(lines) + "\n"


def dataset_card(task: Task, facts: RunFacts, counts: Mapping[str, int]) -> str:
    """Returns the dataset card of a run's samples.

    Args:
        task: The task.
        facts: Facts of the run.
        counts: Number of samples of each split.
    """
    from huggingface_hub import DatasetCardData

    total = sum(counts.values())
    data = DatasetCardData(
        pretty_name=f"{task.name}, written by a language model",
        task_categories=[_category(task)],
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        size_categories=_size(total),
        tags=[*_TAGS, "lightning"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}.parquet"} for split in counts],
            }
        ],
    )
    names = [f.name for f in task.fields]
    lines = ["---", data.to_yaml(), "---", f"# {task.name}, written by a language model", "", _purpose(task), ""]
    lines += ["| split | samples |", "|---|---|", *(f"| `{split}` | {count:,} |" for split, count in counts.items())]
    lines += ["", "## Columns", ""]
    lines += [f"- `{f.name}`: {_plain(f.description)}" for f in (*task.fields, task.target)]
    lines += [
        "- `id`, `round`, `hint`, `feedback`, `preferred_label`, `prompt_hash`, `energy`, `fed_back`: where a sample "
        "comes from and what the student made of it",
    ]
    lines += ["", "## How it was made", "", f"{_METHOD}.", "", *_made_by(facts), ""]
    lines += [
        "Every text was written by the generator; real texts that a run may have labelled are not included. No person "
        f"has read them all. Wrong or odd values of `{task.target.name}` are to be expected, and so are statements "
        f"about real people and events that are not true. {', '.join(f'`{n}`' for n in names)} may resemble texts that "
        "the generator was trained on.",
    ]
    return "\n".join(lines) + "\n"


def _front_matter(task: Task, facts: RunFacts) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=facts.base or None,
        library_name="transformers",
        pipeline_tag=_category(task),
        tags=[*_TAGS, "t5"],
        metrics=list(task.metrics),
        model_name=task.name if facts.results else None,
        eval_results=_eval_results(task, facts) or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _eval_results(task: Task, facts: RunFacts) -> list[Any]:
    from huggingface_hub import EvalResult

    student = (facts.results.get("results") or {}).get("student") or {}
    return [
        EvalResult(
            task_type=_category(task),
            dataset_type=task.name,
            dataset_name=_test_set(facts),
            dataset_split="test",
            metric_type=metric,
            metric_name=metric,
            metric_value=round(student[metric]["value"], 4),
        )
        for metric in facts.results.get("metrics", ())
        if metric in student
    ]


def _category(task: Task) -> str:
    # transformers 5 has no pipeline for text to text any more, so the hub's remaining name for it is used.
    return "text-classification" if task.labels else "text-generation"


def _purpose(task: Task) -> str:
    inputs = " and ".join(f"`{f.name}` ({_plain(f.description)})" for f in task.fields)
    out = f"`{task.target.name}` ({_plain(task.target.description)})"
    if not task.labels:
        return f"Reads {inputs} and writes {out}."
    names = ", ".join(f"`{label.name}`" for label in task.labels[:20])
    more = f" and {len(task.labels) - 20} more" if len(task.labels) > 20 else ""
    of = "any number" if task.many else "one"
    return f"Reads {inputs} and tells {out}, {of} of {names}{more}."


def _usage(task: Task) -> list[str]:
    row = ", ".join(f'"{f.name}": "..."' for f in task.fields)
    argument = '"..."' if len(task.fields) == 1 else f"{{{row}}}"
    return [
        "```python",
        "import gold_lightning as gl  # pip install gold-lightning",
        "",
        'student = gl.load("FOLDER")  # this repository, downloaded',
        f"prediction = student.predict([{argument}])[0]",
        "print(prediction, prediction.probability, prediction.energy, prediction.known)",
        "```",
    ]


def _made_by(facts: RunFacts) -> list[str]:
    lines = [f"Generator: {facts.generator}.", f"Rounds: {facts.rounds}. Training samples: {facts.samples:,}."]
    if facts.real_samples:
        lines.append(f"Real texts among them, labelled by the generator: {facts.real_samples:,}.")
    return lines


def _data(facts: RunFacts) -> list[str]:
    base = "the small T5 that gold-lightning ships" if facts.embedded else facts.base or "a T5 of the user's own"
    lines = [f"No person labelled the training data. {_METHOD}.", "", *_made_by(facts)]
    lines.append(f"Student before training: {base}. Loss: {facts.loss or 'unknown'}. Seed: {facts.seed}.")
    return lines


def _results(facts: RunFacts) -> list[str]:
    results = facts.results.get("results") or {}
    names = {"student": "student", "untrained": "before training", "majority": "most frequent answer"}
    metrics = [m for m in facts.results.get("metrics", ()) if any(m in numbers for numbers in results.values())]
    if not metrics:
        return ["Not tested on labelled rows."]
    lines = [f"On {facts.results.get('rows', 0):,} labelled rows ({_test_set(facts)}), with 95 % bootstrap intervals:"]
    lines += ["", f"| | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    for name, shown in names.items():
        if name in results:
            lines.append(f"| {shown} | {' | '.join(_number(results[name].get(m)) for m in metrics)} |")
    return lines


def _number(numbers: Mapping[str, Any] | None) -> str:
    if not numbers:
        return ""
    low, high = numbers["interval"]
    return f"{100 * numbers['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _test_set(facts: RunFacts) -> str:
    return facts.test_file or "the task's test set"


def _calibration(calibration: Mapping[str, Any] | None) -> Sequence[str]:
    if calibration is None:
        return ["Not calibrated: probabilities are those of the student as trained, and no answer is known or unknown."]
    return [f"- {line}" for line in describe(calibration)]


def _limits(task: Task, facts: RunFacts) -> list[str]:
    lines = [
        f"- Inputs longer than {task.student.max_input_tokens} tokens are cut.",
        "- The student has seen texts as the generator writes them; real texts differ, and its errors follow the "
        "generator's. Test it on rows of your own before you rely on it.",
    ]
    if task.one_label:
        lines.append("- Every input gets one of the labels, also one that fits none of them.")
    if not (facts.results.get("results") or {}):
        lines.append("- It has not been tested.")
    return lines


def _size(count: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if count < limit:
            return name
    return "1M<n<10M"


def _plain(text: str) -> str:
    """Returns text in one line without characters that Markdown reads as markup."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in " ".join(text.split()))
