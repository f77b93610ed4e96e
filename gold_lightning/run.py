"""A run folder as an object: rounds, samples with their provenance, student and report."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gold_lightning.errors import GoldError
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.yaml_files import parse_own_yaml
from gold_lightning.report import write_report
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import Kind, RoundStore, StoredSample
from gold_lightning.storage.run_folder import RunFolder, rounds_in
from gold_lightning.task import Task

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Report", "Run", "provenance", "to_dataset"]


class Run:
    """A run folder: its rounds, samples, student and report.

    Args:
        folder: The run folder, ``runs/TASK/NAME``, of :func:`distill` or of ``python -m gold_lightning fit``.

    Raises:
        GoldError: It is no run folder.

    Example:
        >>> import gold_lightning as gl
        >>> gl.Run("runs/none")
        Traceback (most recent call last):
        ...
        gold_lightning.errors.GoldError: runs/none: expected a run folder, runs/TASK/NAME, with the file config.yaml
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(expand("folder", str(folder)))
        if not RunFolder(self.folder).config.is_file():
            raise GoldError(f"{folder}: expected a run folder, runs/TASK/NAME, with the file config.yaml")

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """One mapping for each finished round, the lines of ``rounds.jsonl``."""
        return read_lines(RunFolder(self.folder).rounds)

    @property
    def results(self) -> dict[str, Any]:
        """The last test's results, ``results.json``; empty before a test."""
        lines = read_lines(RunFolder(self.folder).results)
        return lines[-1] if lines else {}

    def samples(self, kind: Kind = "train") -> Dataset:
        """Returns the accepted samples of all rounds with their provenance.

        Args:
            kind: ``train`` for training samples, ``probe`` for the probe sets.

        Returns:
            A data set with a column for each field and for the target, and ``id``, ``round``, ``hint`` (what the
            prompt asked for beyond the label), ``source`` (``generator``, or ``unlabelled`` for a real text),
            ``feedback`` (whether its prompt showed feedback demos),
            ``preferred_label`` (the label that the generator's likelihoods prefer; "" if not asked),
            ``label_log_probs`` (those likelihoods, uncalibrated; ``None`` if not asked), ``probabilities`` (of the
            labels, by those likelihoods after calibration; ``None`` if not asked), ``prompt_hash``, ``energy``
            (``None`` if not scored) and ``fed_back``.
        """
        rows: list[dict[str, Any]] = []
        target = ""
        for number in rounds_in(self.folder):
            store = RoundStore(self.folder, number, read_only=True)
            scored = {row["id"]: row for row in store.energies()}
            target = target or _target_name(self.folder)
            rows += [provenance(s, target, number, scored.get(s.id, {})) for s in store.accepted(kind)]
        return to_dataset(rows)

    @property
    def student(self) -> Path:
        """Folder of the best student, which :func:`load` loads.

        Raises:
            GoldError: No round is finished yet.
        """
        if not RunFolder(self.folder).student.is_dir():
            raise GoldError(f"{self.folder}: no round is finished yet, so there is no student")
        return RunFolder(self.folder).student

    def report(self) -> Report:
        """Writes ``report.html`` anew and returns it; a notebook shows it inline."""
        return Report(write_report(self.folder))

    def __repr__(self) -> str:
        count = len(self.rounds)
        return f"Run({str(self.folder)!r}, {count} round{'s' if count != 1 else ''})"


class Report:
    """A run's report.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="800" style="border:0" sandbox></iframe>'

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r})"


def _target_name(folder: Path) -> str:
    config = parse_own_yaml(RunFolder(folder).config.read_text(encoding="utf-8"))
    return Task.load(str(config["data"]["task"])).target.name


def provenance(stored: StoredSample, target: str, round_: int, scored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a stored sample as a row: fields, target, and the provenance that :meth:`Run.samples` documents."""
    return {
        **stored.sample.fields,
        target: stored.sample.target,
        "id": stored.id,
        "round": round_,
        "hint": json.dumps(dict(stored.hint), ensure_ascii=False),
        "source": stored.source,
        "feedback": stored.feedback,
        "preferred_label": stored.preferred_label,
        "label_log_probs": dict(stored.label_log_probs) or None,
        "probabilities": dict(stored.probabilities) or None,
        "prompt_hash": stored.prompt_hash,
        "energy": scored.get("energy"),
        "fed_back": bool(scored.get("fed_back", False)),
    }


def to_dataset(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """Makes a data set of rows with equal keys."""
    from datasets import Dataset

    return cast("Dataset", Dataset.from_list([dict(row) for row in rows]))
