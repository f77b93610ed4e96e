"""Sends every finished round to the run's loggers exactly once, reading it from the run folder."""

from __future__ import annotations

import csv
import importlib.util
import logging
import re
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from gold_lightning.errors import ConfigError
from gold_lightning.scoring import data_of
from gold_lightning.storage.json_lines import digest, read_lines, whole_rows, write_lines
from gold_lightning.storage.round_store import Kind, RoundStore
from gold_lightning.storage.run_folder import RunFolder
from gold_lightning.unlabelled import real_texts
from gold_lightning.watching.diversity import diversity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RoundLogger", "RoundRecord", "RunCSVLogger", "set_up_wandb", "wandb_id"]

_log = logging.getLogger("gold_lightning")
_BINS = 32
_TEXT_ROWS = 20  # TensorBoard shows a text as a whole


@dataclass(frozen=True)
class RoundRecord:
    """A round in the forms in which loggers take it.

    Args:
        row: Line of the round in ``rounds.jsonl``.
        store: Samples of the round.
        rejects: Kinds and reasons of the run's rejects so far; those without a reject in this round are logged as 0.
        labels: Names of the task's labels.
        labels_of: Function that returns the labels of a target.
        missed: Whether the logger missed the round, so that the scalars include Lightning's validation metrics.
    """

    row: Mapping[str, Any]
    store: RoundStore
    rejects: frozenset[tuple[Kind, str]] = frozenset()
    labels: Sequence[str] = ()
    labels_of: Callable[[str], Sequence[str] | None] = lambda target: (target,)
    missed: bool = False

    @property
    def step(self) -> int:
        """The round's last training step, counted from 0, at which Lightning logs the validation metrics."""
        return max(0, int(self.row.get("step", 0)) - 1)

    @cached_property
    def scalars(self) -> dict[str, float]:
        """Numbers by name, which every logger can show; values that were not finite are left out."""
        row = self.row
        flat: dict[str, float] = {
            "round/number": row["round"],
            "round/yield": row["train"]["accepted"] / max(1, row["train"]["requested"]),
            "round/probe_yield": row["probe"]["accepted"] / max(1, row["probe"]["requested"]),
            "round/trained_on": row["trained_on"],
            "round/feedback_prompts": row["feedback_prompts"],
            "round/fed_back": len(row["fed_back"]),
            "round/pool": row["pool"],
        }
        for prefix, key in (("round", "tokens"), ("run", "tokens_so_far")):
            for name, value in row[key].items():
                flat[f"{prefix}/tokens_{name}" if name in ("prompt", "completion") else f"{prefix}/{name}"] = value
        if "unlabelled" in row:
            flat["run/unlabelled_left"] = row["unlabelled"]["left"]
        flat |= {f"round/seconds_{k}": v for k, v in row["seconds"].items()}
        if (seconds := row["seconds"]["generation"]) > 0:
            flat["round/tokens_per_second"] = row["tokens"]["completion"] / seconds
            flat["round/samples_per_second"] = (row["train"]["accepted"] + row["probe"]["accepted"]) / seconds
        flat |= {f"{kind}/cut": row[kind]["cut"] for kind in get_args(Kind) if row[kind].get("cut")}
        for kind, reason in sorted(self.rejects):
            flat[f"{kind}/rejects_{reason}"] = row[kind]["rejects"].get(reason, 0)
        for kind in get_args(Kind):
            samples = [s.sample for s in self.store.accepted(kind)]
            if texts := real_texts(self.store.accepted(kind)):
                flat[f"{kind}/unlabelled"] = len(texts)
            labels = Counter(label for s in samples for label in self.labels_of(s.target) or ())
            flat |= {f"{kind}/label_{name}": labels[name] for name in self.labels}
            measures = diversity([s.text for s in samples])
            flat |= {f"{kind}/{name}": value for name, value in measures.items() if name != "texts"}
        if self.band:
            flat |= {"probe/band_low": self.band[0], "probe/band_high": self.band[1]}
        if self.missed:
            flat |= {k: v for k, v in row["metrics"].items() if k.startswith("val/")} | {"probe/auroc": row["auroc"]}
            flat |= {f"{k}/energy_{name}": v for k, summary in row["energy"].items() for name, v in summary.items()}
        return {name: value for name, value in flat.items() if value is not None}  # the file holds null for nan

    @cached_property
    def energies(self) -> dict[str, list[float]]:
        """Finite energies of the probe set (``probe``), training samples (``train``) and fed-back samples."""
        # A file holds null for nan, and the largest number for an infinite one.
        known = [r for r in self.store.energies() if r["energy"] is not None]
        rows = [r for r in known if abs(r["energy"]) < sys.float_info.max]
        energies = {kind: [r["energy"] for r in rows if r["kind"] == kind] for kind in get_args(Kind)}
        return energies | {"fed_back": [r["energy"] for r in rows if r["fed_back"]]}

    @property
    def band(self) -> tuple[float, float] | None:
        """Lower and upper energy of the band over all labels; ``None`` if feedback is not chosen by a band."""
        if self.row.get("strategy", "energy_band") != "energy_band" or not self.energies["probe"]:
            return None
        low, high = np.quantile(self.energies["probe"], self.row["band"]).tolist()
        return low, high

    @cached_property
    def histograms(self) -> dict[str, tuple[list[int], list[float]]]:
        """Counts and edges of the energies by kind. All kinds share the edges, so that their bars are comparable."""
        every = [e for energies in self.energies.values() for e in energies]
        if not every:
            return {}
        edges = np.histogram_bin_edges(every, bins=_BINS)
        return {k: (np.histogram(v, edges)[0].tolist(), edges.tolist()) for k, v in self.energies.items()}

    def figure(self) -> Figure:
        """Draws the energies of probe and training samples with the band shaded, readable without colour."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.2), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        looks: dict[str, dict[str, Any]] = {
            "train": {"label": "training samples", "color": "tab:gray", "alpha": 0.5},
            "probe": {"label": "probe set", "color": "tab:blue", "fill": False, "linewidth": 2},
            "fed_back": {"label": "fed back", "color": "tab:orange", "hatch": "///", "alpha": 0.6},
        }
        for kind, look in looks.items():
            if self.energies[kind]:
                counts, edges = self.histograms[kind]
                axes.stairs(counts, edges, **({"fill": True} | look))
        if self.band:
            alpha, beta = self.row["band"]
            axes.axvspan(*self.band, color="tab:orange", alpha=0.15, label=f"band {alpha:g} to {beta:g}")
        axes.set(title=f"round {self.row['round']}", xlabel="energy (higher = further out)", ylabel="samples")
        axes.legend(fontsize="small")
        return figure

    def fed_back(self) -> list[dict[str, Any]]:
        """Returns the fed-back samples by ascending energy.

        Returns:
            Rows of ``id``, ``source``, ``text``, ``target``, ``energy``, ``loss`` and ``prompt``.
        """
        samples = {s.id: s for s in self.store.accepted("probe")}
        chosen = [r for r in self.store.energies() if r["fed_back"] and r["id"] in samples]
        hashes = {samples[r["id"]].prompt_hash for r in chosen}
        rows = (row for _, row in whole_rows(self.store.folder / "prompts.jsonl"))  # of all samples of the round
        prompts = {row.get("hash"): row.get("prompt", "") for row in rows if row.get("hash") in hashes}
        return [
            {
                "id": r["id"],
                "source": samples[r["id"]].source,
                "text": samples[r["id"]].sample.text,
                "target": samples[r["id"]].sample.target,
                "energy": r["energy"],
                "loss": r.get("loss"),
                "prompt": prompts.get(samples[r["id"]].prompt_hash, ""),
            }
            for r in sorted(chosen, key=lambda r: (r["energy"], r["id"]))
        ]


class RoundLogger(Callback):
    """Sends each round to each logger of the run once, however often the run is stopped and resumed.

    It runs after :class:`gold_lightning.callbacks.OODFeedback`, which writes the round to the run folder, and reads
    the round from there. Every logger gets the scalars; TensorBoard and W&B also get histograms of the energies, a
    figure of them with the band, and the fed-back samples. When training starts, each logger gets the rounds that it
    lacks: it may be new to the run, or the run may have been killed before the logger was reached.

    A resumed run repeats the steps after its checkpoint, and logs them again. The CSV file drops the earlier rows
    first, and TensorBoard hides them. Other loggers can do neither, so ``logged.json`` records which rounds each of
    them has; a round is sent again only if it was generated again and its samples differ.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        data = data_of(trainer)
        marks = _read_marks(data.run_dir)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                _ = logger.experiment  # W&B assigns the run's id here, and the logger's name needs it
            if _forget_from(logger, trainer.global_step):
                logged = marks.get(_name(logger), {})
                marks[_name(logger)] = {r: mark for r, mark in logged.items() if int(r) < data.round}
        if any(marks.values()):
            write_lines(RunFolder(data.run_dir).logged, [marks])
        self._send_missing(trainer, marks, missed=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._send_missing(trainer, _read_marks(data_of(trainer).run_dir), missed=False)

    def _send_missing(self, trainer: Trainer, marks: dict[str, dict[str, str]], *, missed: bool) -> None:
        """Sends each logger the finished rounds that it lacks, and records them in ``marks`` and ``logged.json``."""
        data, rejects = data_of(trainer), set[tuple[Kind, str]]()
        labels = (data.task.label_names, data.task.labels_of)
        rows = [row for row in read_lines(RunFolder(data.run_dir).rounds) if row["round"] < data.round]
        for row in rows:
            rejects |= {(kind, reason) for kind in get_args(Kind) for reason in row[kind]["rejects"]}
            number, mark = str(row["round"]), digest([row.get("step"), row["train"], row["probe"]])
            lacking = [
                logger
                for logger in trainer.loggers
                if (
                    row["round"] not in logger.rounds()
                    if isinstance(logger, RunCSVLogger)  # its file shows which rounds it has
                    else marks.get(_name(logger), {}).get(number) != mark
                )
            ]
            if not lacking:
                continue
            record = RoundRecord(row, data.store(row["round"]), frozenset(rejects), *labels, missed)
            for logger in lacking:
                _send(logger, record)
                if isinstance(logger, RunCSVLogger):
                    continue
                logged = marks.setdefault(_name(logger), {})
                if number in logged:
                    _log.warning("round %s was generated again with other samples; %s has both", number, _name(logger))
                logged[number] = mark
                # Written after each logger, so that a kill in between repeats none.
                write_lines(RunFolder(data.run_dir).logged, [marks])


class _Utf8Files:
    """Wraps an fsspec file system so that its text files are UTF-8.

    Args:
        files: File system of fsspec.
    """

    def __init__(self, files: Any) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def open(self, path: str, mode: str, newline: str) -> Any:
        return self._files.open(path, mode, encoding="utf-8", newline=newline)


class RunCSVLogger(CSVLogger):
    """A CSV logger that appends to its file when a run is resumed. Lightning's own overwrites it.

    Args:
        run_dir: Run folder, in which ``metrics.csv`` is written.
    """

    def __init__(self, run_dir: str) -> None:
        super().__init__(run_dir, name="", version="")
        self._rounds: set[int] | None = None  # rounds in the file: read once, then updated as rows are logged

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        if self._rounds is not None:
            self._rounds |= _rounds_of([metrics])

    @property
    @rank_zero_only
    def experiment(self) -> Any:
        stored = self._rows() if self._experiment is None else []
        writer: Any = super().experiment
        if not isinstance(writer._fs, _Utf8Files):  # Lightning's writer uses the locale's encoding
            writer._fs = _Utf8Files(writer._fs)
        if stored:
            writer.metrics = stored
            writer.save()
        return writer

    def forget_from(self, step: int) -> None:
        """Removes the rows of a step and of all later ones.

        Args:
            step: Next training step of the run, counted from 0.
        """
        writer: Any = self.experiment
        writer.save()
        rows = self._rows()
        earlier = [row for row in rows if int(row.get("step") or 0) < step]
        self._rounds = _rounds_of(earlier)
        if len(earlier) < len(rows):
            (Path(self.root_dir) / "metrics.csv").unlink()
            writer.metrics, writer.metrics_keys = earlier, []
            writer.save()

    def rounds(self) -> set[int]:
        """Returns the numbers of the rounds in the file."""
        if self._rounds is None:
            self.save()
            self._rounds = _rounds_of(self._rows())
        return self._rounds

    def _rows(self) -> list[dict[str, Any]]:
        path = Path(self.root_dir) / "metrics.csv"
        if not path.exists():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return [{k: v for k, v in row.items() if v not in ("", None)} for row in csv.DictReader(file)]


def _rounds_of(rows: Iterable[Mapping[str, Any]]) -> set[int]:
    return {int(float(row["round/number"])) for row in rows if "round/number" in row}


def set_up_wandb(loggers: Any, run_dir: Path) -> None:
    """Sets defaults of W&B loggers so that a run and its continuations are one W&B run with the run's name and folder.

    Args:
        loggers: ``trainer.logger`` of a config, not instantiated: one logger or a list. Those of W&B are changed in
            place; values set in the config stay.
        run_dir: Run folder. Nothing is written to it if an error is raised.

    Raises:
        ConfigError: W&B is not installed, or it is online and finds no key.
    """
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if not getattr(logger, "class_path", "").endswith("WandbLogger"):
            continue
        if importlib.util.find_spec("wandb") is None:
            install = "pip install 'gold-lightning[wandb]'"
            raise ConfigError("trainer.logger", logger.class_path, "a logger whose package is installed", install)
        init = logger.init_args
        if not init.get("offline") and not _wandb_offline_or_with_key():
            raise ConfigError(
                "trainer.logger", logger.class_path, "a key in WANDB_API_KEY, or WANDB_MODE=offline", "or: wandb login"
            )
        if init.get("name") is None:
            init.name = f"{run_dir.parent.name}/{run_dir.name}"
        if init.get("save_dir") in (None, "."):  # Lightning's default
            init.save_dir = str(run_dir)
        if init.get("id") is None and init.get("version") is None:
            init.id = rank_zero_only(wandb_id)(run_dir)


def _wandb_offline_or_with_key() -> bool:
    """Whether W&B is offline or finds a key, without a network and without a question to the user."""
    import wandb

    logging.getLogger("wandb").setLevel(logging.ERROR)
    # W&B reads its settings from the environment and from the file of `wandb offline`. ``verify`` asks its server
    # whether the key is known, which needs a network; it does not concern certificates.
    return wandb.setup().settings.mode != "online" or bool(wandb.login(prompt=False, verify=False))


def wandb_id(run_dir: Path) -> str:
    """Returns the W&B id of a run folder, drawn once and stored in its file ``wandb_id``.

    Args:
        run_dir: Run folder; created if missing.
    """
    path = run_dir / "wandb_id"
    if path.exists() and re.fullmatch(r"[0-9a-z]{4,64}", stored := path.read_text(encoding="utf-8").strip()):
        return stored
    run_dir.mkdir(parents=True, exist_ok=True)
    new_id, part = secrets.token_hex(4), run_dir / "wandb_id.part"
    part.write_text(new_id + "\n", encoding="utf-8")
    part.replace(path)
    return new_id


def _name(logger: Logger) -> str:
    """Returns a name that identifies a logger's destination across continuations of a run."""
    return f"{type(logger).__name__}/{logger.version}"


def _read_marks(run_dir: Path) -> dict[str, dict[str, str]]:
    """Returns the digests of the rounds that each logger has, by the logger's name and the round's number."""
    rows = read_lines(RunFolder(run_dir).logged)
    return rows[0] if rows else {}


def _forget_from(logger: Logger, step: int) -> bool:
    """Removes or hides the records of a step and of all later ones; returns ``False`` if the logger cannot."""
    if isinstance(logger, RunCSVLogger):
        logger.forget_from(step)
        return True
    if isinstance(logger, TensorBoardLogger):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        # SummaryWriter's purge_step does the same, but the writer may be created before the step is known.
        logger.experiment.file_writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step)
        return True
    return False


def _send(logger: Logger, record: RoundRecord) -> None:
    if isinstance(logger, WandbLogger):
        import wandb

        media: dict[str, Any] = {
            f"{_key(kind)}": wandb.Histogram(np_histogram=(np.array(counts), np.array(edges)))
            for kind, (counts, edges) in record.histograms.items()
        }
        if record.histograms:
            media["probe/energy_band"] = wandb.Image(record.figure())
        rows = record.fed_back()
        columns = ["id", "text", "target", "energy", "loss", "prompt"]
        media["probe/fed_back_samples"] = wandb.Table([*columns], [[row[c] for c in columns] for row in rows])
        logger.log_metrics(record.scalars | media, step=record.step)  # one call: one step of W&B's history
        return
    logger.log_metrics(record.scalars, step=record.step)
    if isinstance(logger, TensorBoardLogger):
        board = logger.experiment
        for kind, energies in record.energies.items():
            if energies:
                board.add_histogram(_key(kind), np.array(energies), record.step)
        if record.histograms:
            board.add_figure("probe/energy_band", record.figure(), record.step)
        board.add_text("probe/fed_back_samples", _markdown(record.fed_back()), record.step)
        board.flush()
    logger.save()


def _key(kind: str) -> str:
    return "probe/energy_fed_back" if kind == "fed_back" else f"{kind}/energy"


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats a table for TensorBoard, with every character of generated text that could be markup escaped."""
    lines = ["| energy | target | text | prompt |", "|---|---|---|---|"]
    for row in rows[:_TEXT_ROWS]:
        cells = [f"{row['energy']:.4f}", *map(_plain, (row["target"], row["text"], row["prompt"]))]
        lines.append(f"| {' | '.join(cells)} |")
    if len(rows) > _TEXT_ROWS:
        lines.append(f"\n{_TEXT_ROWS} of {len(rows)}")
    return "\n".join(lines)


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in text.replace("\n", " "))
