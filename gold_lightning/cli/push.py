"""``push``: uploads a student with its card, or a run's samples as a data set, to a Hugging Face hub."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from gold_lightning.cli.commands import program
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.paths import expand

__all__ = ["push_command"]

_DESCRIPTION = """Uploads a student with its model card to a Hugging Face hub, or with --dataset the samples that its
generator wrote, with a dataset card. A new repository is private unless --public is given. The token is that of
HF_TOKEN or of `hf auth login`; HF_ENDPOINT names another hub."""


def push_command(args: Sequence[str]) -> int:
    """Runs ``push STUDENT REPO``.

    Args:
        args: Arguments after ``push``.

    Returns:
        The exit status.

    Raises:
        GoldError: A setting is wrong, or the hub refuses.
    """
    parser = ArgumentParser(prog=f"{program()} push", description=_DESCRIPTION, exit_on_error=False)
    parser.add_argument("student", type=str, help="Folder of the student, or of the run that trained it.")
    parser.add_argument("repo", type=str, help="Repository of the hub, user/name.")
    parser.add_argument("--dataset", action="store_true", help="Push the run's samples instead of its student.")
    parser.add_argument("--public", action="store_true", help="Let everybody read a repository that is created.")
    options = parser.parse_args(list(args))

    from gold_lightning.publishing.hub import STUDENT_FILES, check_repo, push_folder

    check_repo(options.repo)
    folder = Path(expand("STUDENT", options.student))
    if options.dataset:
        with tempfile.TemporaryDirectory() as made:
            files = _write_dataset(_run_of(folder, options.student), Path(made))
            message = "Samples written by gold-lightning"
            url = push_folder(
                Path(made), options.repo, kind="dataset", files=files, public=options.public, message=message
            )
    else:
        student = _student_of(folder, options.student)
        message = "Student trained by gold-lightning"
        url = push_folder(
            student, options.repo, kind="model", files=STUDENT_FILES, public=options.public, message=message
        )
    print(url)
    return 0


def _student_of(folder: Path, given: str) -> Path:
    from gold_lightning.publishing.cards import CARD, write_model_card
    from gold_lightning.t5.folder import TASK_FILE

    if (folder / "config.yaml").is_file():
        folder /= "student"
    if not (folder / TASK_FILE).is_file():
        raise ConfigError("STUDENT", given, f"the folder of a student, with {TASK_FILE}, or of the run that trained it")
    if (folder.parent / "config.yaml").is_file():  # by what the run has measured since
        write_model_card(folder, folder.parent)
    if not (folder / CARD).is_file():
        raise GoldError(
            f"{given}: expected a model card, {CARD}; an earlier version wrote none, so push its run folder"
        )
    return folder


def _run_of(folder: Path, given: str) -> Path:
    for candidate in (folder, folder.parent):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError("STUDENT", given, "a run folder, or the student in one, with --dataset")


def _write_dataset(run_dir: Path, folder: Path) -> list[str]:
    """Writes the samples as Parquet, a file for each split, and their card."""
    from gold_lightning.publishing.cards import CARD, dataset_card
    from gold_lightning.publishing.facts import RunFacts
    from gold_lightning.run import Run
    from gold_lightning.t5.folder import load_folder_task

    run = Run(run_dir)
    task, _ = load_folder_task(run.student)
    counts = {}
    for split, kind in (("train", "train"), ("validation", "probe")):
        samples = run.samples(kind)  # type: ignore[arg-type]
        written = samples.filter(lambda source: source == "generator", input_columns="source").remove_columns("source")
        if len(written):
            written.to_parquet(str(folder / f"{split}.parquet"))
            counts[split] = len(written)
    if not counts:
        raise GoldError(f"{run_dir}: no sample was written by a generator, so there is nothing to push")
    (folder / CARD).write_text(dataset_card(task, RunFacts.of(run_dir), counts), encoding="utf-8")
    return [CARD, *(f"{split}.parquet" for split in counts)]
