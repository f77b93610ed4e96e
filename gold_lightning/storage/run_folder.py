"""Layout of a run folder: the path of each file, its rounds, and the lock that admits one writer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gold_lightning.errors import BusyError, GoldError

__all__ = ["ENERGIES", "RunFolder", "completions_beside", "copy_round", "only_writer", "rounds_in"]

ENERGIES = "energies.jsonl"
"""File of a round's folder that depends on the student and not on the samples alone."""


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder. No property creates or reads anything.

    Args:
        path: The run folder.

    Example:
        >>> folder = RunFolder(Path("runs/news_topics/a"))
        >>> folder.round(3).as_posix()
        'runs/news_topics/a/data/round_003'
        >>> folder.best_checkpoint.as_posix()
        'runs/news_topics/a/checkpoints/best.ckpt'
    """

    path: Path

    @property
    def config(self) -> Path:
        """The settings of the run, complete."""
        return self.path / "config.yaml"

    @property
    def versions(self) -> Path:
        """Versions of the packages that wrote the run."""
        return self.path / "versions.json"

    @property
    def rounds(self) -> Path:
        """A line for each finished round."""
        return self.path / "rounds.jsonl"

    @property
    def logged(self) -> Path:
        """How far the run's loggers have got."""
        return self.path / "logged.json"

    @property
    def data(self) -> Path:
        """Folder of everything that synthesis writes."""
        return self.path / "data"

    @property
    def completions(self) -> Path:
        """Every completion of the run, by the hash of its request."""
        return self.data / "completions.jsonl"

    @property
    def seconds(self) -> Path:
        """How long the run has taken so far."""
        return self.data / "seconds.json"

    @property
    def unlabelled(self) -> Path:
        """Path, hash and counts of the real texts that probe sets are drawn from (``data.unlabelled``)."""
        return self.data / "unlabelled.json"

    def round(self, number: int) -> Path:
        """Folder of a round's samples."""
        return self.data / f"round_{number:03d}"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def best_checkpoint(self) -> Path:
        """Checkpoint of the best round."""
        return self.checkpoints / "best.ckpt"

    @property
    def student(self) -> Path:
        """Folder of the exported student."""
        return self.path / "student"

    @property
    def predictions(self) -> Path:
        """A line for each test row with the student's prediction."""
        return self.path / "predictions.jsonl"

    @property
    def results(self) -> Path:
        """Metrics on the test rows."""
        return self.path / "results.json"

    @property
    def overlap(self) -> Path:
        """Test rows that training samples repeat."""
        return self.path / "overlap.json"

    @property
    def report(self) -> Path:
        """The report, one page."""
        return self.path / "report.html"

    @property
    def lock(self) -> Path:
        """The lock file; see :func:`only_writer`."""
        return self.path / ".lock"


def completions_beside(run_dir: Path) -> list[Path]:
    """Returns the files with the completions of the runs in the folders beside a run folder."""
    files = run_dir.parent.glob(RunFolder(Path("*")).completions.as_posix())
    return sorted(file for file in files if file.parent.parent.name != run_dir.name)


def rounds_in(run_dir: Path) -> list[int]:
    """Returns the numbers of the rounds that have a folder in a run folder, ascending."""
    suffixes = (p.name.removeprefix("round_") for p in RunFolder(Path(run_dir)).data.glob("round_[0-9]*"))
    return sorted(int(suffix) for suffix in suffixes if suffix.isdigit())


def copy_round(source: Path, target: Path, round_: int) -> None:
    """Copies a round from one run folder to another, whole or not at all.

    Does nothing if the target has the round. Energies are not copied: they depend on the student.

    Args:
        source: The run folder to copy from.
        target: The run folder to copy to.
        round_: Number of the round.
    """
    folder = RunFolder(Path(target)).round(round_)
    if folder.exists():
        return
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(RunFolder(Path(source)).round(round_), part, ignore=shutil.ignore_patterns(ENERGIES))
    part.rename(folder)


@contextmanager
def only_writer(run_dir: Path) -> Iterator[None]:
    """Locks a run folder for this process until the block ends. The lock ends with the process, too.

    Raises:
        BusyError: Another process holds the lock.
        GoldError: The folder cannot be created.
    """
    from filelock import FileLock, Timeout

    folder = RunFolder(Path(run_dir))
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as e:  # in /proc, or a file has that name
        raise GoldError(f"{run_dir}: no run folder can be made there ({e.strerror}); take another run.root") from None
    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"{run_dir}: another process is at work on this run; wait for it, or take another --run.name"
        ) from None
    try:
        yield
    finally:
        lock.release()
