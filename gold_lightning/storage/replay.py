"""Replays the samples of a finished run, round by round, instead of using a generator."""

from __future__ import annotations

from pathlib import Path

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.paths import expand
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import RunFolder, copy_round
from gold_lightning.task import Task

__all__ = ["Replay"]


class Replay:
    """Samples of a finished run for another run to train on.

    Args:
        folder: The run folder to replay.
        run_dir: The run folder that the rounds are copied to.
        task: The task of the run.

    Raises:
        ConfigError: The folder contains no finished round, or is the run's own folder.

    Attributes:
        rounds: Number of finished rounds in the folder.
    """

    def __init__(self, folder: str, run_dir: Path, task: Task) -> None:
        self.folder, self._run_dir, self._task = Path(expand("data.replay_from", folder)), run_dir, task
        self.rounds = len(read_lines(RunFolder(self.folder).rounds))
        if not self.rounds:
            raise ConfigError("data.replay_from", folder, "the folder of a run with at least one whole round")
        if self.folder.resolve() == run_dir.resolve():
            raise ConfigError("data.replay_from", folder, "the folder of another run", "take another --run.name")

    def copy(self, round_: int) -> None:
        """Copies a round's samples into the run folder if they are not there yet, and checks them.

        Args:
            round_: Number of the round.

        Raises:
            GoldError: The fields or the label of a sample are not the task's.
        """
        copy_round(self.folder, self._run_dir, round_)
        store = RoundStore(self._run_dir, round_, read_only=True)
        names, labels = {f.name for f in self._task.fields}, self._task.label_names
        for stored in (*store.accepted("train"), *store.accepted("probe")):
            if stored.sample.fields.keys() != names or (labels and stored.sample.target not in labels):
                raise GoldError(f"data.replay_from: {self.folder}: {stored.id} is no sample of {self._task.name}")
