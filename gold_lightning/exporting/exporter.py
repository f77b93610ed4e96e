"""Exports a student to a folder that predicts with onnxruntime or CTranslate2, tokenizers and numpy alone."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from gold_lightning import __version__
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.exporting.parity import Parity, compare
from gold_lightning.exporting.web_page import write_page
from gold_lightning.inputs.columns import column_value, load_table
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.tables import ending_of
from gold_lightning.inputs.task_files import shipped_tasks
from gold_lightning.labelled import load_rows, load_test_rows
from gold_lightning.t5.folder import TASK_FILE
from gold_lightning.task import Sample, Task, TaskSource
from gold_lightning.unlabelled import load_texts

if TYPE_CHECKING:
    from gold_lightning.t5.inference import SavedStudent

__all__ = ["Export", "Target", "export"]

Target = Literal["onnx", "ctranslate2", "web"]
"""Runtimes of exports."""

_ONNX_FAMILY = ("t5", "mt5", "umt5")
_MAX_SCORES = 2**25  # attention weights or logits of one pass, as in gold_lightning.t5.label_scoring
_PROTOBUF_LIMIT = 2**31 - 2**20  # bytes of one file; larger graphs keep their weights beside


@dataclass(frozen=True)
class Export:
    """A folder that was written, and how it compares with its student.

    Args:
        folder: The folder.
        parity: The comparison.

    Example:
        >>> from gold_lightning.exporting.parity import Side
        >>> parity = Parity(
        ...     240, "test rows", 239, 0.05, 0.02, Side(77.9, 13.0, 150), Side(20.5, 5.0, 410), "accuracy", 2
        ... )
        >>> print(Export(Path("tickets-int8"), parity))
        240 rows (test rows), 2 threads
        equal answers 239 (99.58%)
        largest difference of log-probability 0.05, of energy 0.02
                             student  export
        MB                      77.9    20.5
        ms a text, batch 1      13.0     5.0
        ms a text, batch 32      6.7     2.4
        rows a second            150     410
        export: tickets-int8
    """

    folder: Path
    parity: Parity

    def __str__(self) -> str:
        return f"{self.parity}\nexport: {self.folder}"


def export(
    student: str | Path,
    to: Target,
    out: str | Path,
    *,
    quantize: Literal["int8"] | None = None,
    rows: str | Path | None = None,
    task: TaskSource | None = None,
    runtime: str | Path | None = None,
    tolerance: float = 0.01,
    threads: int | None = None,
) -> Export:
    """Writes a folder that predicts without torch, and compares it with the student.

    The folder holds the model, the tokenizer, the task with the calibration, and ``predict.py``, which needs
    ``tokenizers``, ``numpy``, and ``onnxruntime`` or ``ctranslate2``.

    Args:
        student: Folder of the student.
        to: ``onnx`` for tasks with labels, ``ctranslate2`` for tasks whose student generates text; ``web`` for a static
            folder in which the ONNX graph runs in the visitor's browser, always in 8 bits.
        out: The folder to write, which must not exist.
        quantize: ``int8`` for matrices in 8 bits: a quarter of the size, and faster.
        rows: A file of rows to compare on, labelled or not; by default the test rows of a shipped task of the same
            name and labels, otherwise the task's demos.
        task: The task, for a folder that carries none.
        runtime: For ``web``, a ``node_modules`` folder with onnxruntime-web and @huggingface/tokenizers; by default
            ``npm pack`` fetches them once into the cache, and their checksums are compared.
        tolerance: Largest share of rows whose answers may differ from the student's.
        threads: Threads of the comparison; one on each core by default.

    Returns:
        The folder and the comparison.

    Raises:
        ConfigError: A setting is wrong.
        ParityError: Answers differ in more rows than ``tolerance`` allows; nothing is left in ``out``.
        GoldError: The student cannot be loaded or exported, or a package is missing.

    Example:
        >>> import gold_lightning as gl
        >>> export = gl.export("runs/tickets/a/student", "onnx", "tickets-int8", quantize="int8")  # doctest: +SKIP
        >>> export.parity.equal, export.parity.rows  # doctest: +SKIP
        (240, 240)
    """
    from gold_lightning.t5.inference import SavedStudent

    if to not in get_args(Target):
        raise ConfigError("--to", to, f"one of {', '.join(get_args(Target))}")
    if quantize not in (None, "int8"):
        raise ConfigError("--quantize", quantize, "int8", "leave it out for float32")
    if not 0 <= tolerance <= 1:
        raise ConfigError("--tolerance", tolerance, "a share of rows, from 0 to 1")
    _check_installed(to)
    source, target = Path(expand("STUDENT", str(student))), Path(expand("--out", str(out)))
    loaded = SavedStudent(source, task)
    _check_kind(loaded, to, source)
    samples, description, labelled = _rows(loaded.task, rows)
    with _complete_folder(target) as folder:
        _write_common(loaded, source, folder)
        if to == "web":
            write_page(folder, loaded.task, loaded.calibration, None if runtime is None else str(runtime))
        write = _write_ctranslate2 if to == "ctranslate2" else _write_onnx
        write(loaded, source, folder, quantize == "int8" or to == "web")
        if to == "web" and _splits_special_tokens(loaded):
            _forget_special_tokens(folder / "tokenizer.json")
        parity = compare(
            loaded.task,
            source,
            folder,
            samples,
            source=description,
            labelled=labelled,
            threads=threads or _cores(),
            title=f"{to} {'int8' if to == 'web' else quantize or 'float32'}",
        )
        parity.check(tolerance)
        if to == "web":  # predict.py was for the comparison, and the task file holds demos, which visitors need not see
            for name in ("predict.py", "calibration_rule.py", TASK_FILE):
                (folder / name).unlink()
        facts = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        _write_json(folder / "export.json", facts | {"parity": asdict(parity)})
    return Export(target, parity)


def _cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_installed(to: Target) -> None:
    for name in ("ctranslate2",) if to == "ctranslate2" else ("onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise GoldError(f"--to {to}: needs the package {name}; pip install 'gold-lightning[export]'")


def _check_kind(student: SavedStudent, to: Target, source: Path) -> None:
    if student.task.many is not None:
        raise GoldError(f"STUDENT {source}: its rows have several labels, which no export supports yet")
    if student.task.labels and not student.scores_labels:
        raise GoldError(f"STUDENT {source}: model.constrained_decoding is false, and exports choose among the labels")
    if student.scores_labels and to == "ctranslate2":
        raise ConfigError("--to", to, "onnx or web for a student that chooses among labels")
    if not student.scores_labels and to != "ctranslate2":
        raise ConfigError("--to", to, "ctranslate2 for a student that generates text")
    if not student.scores_labels and student.num_beams > 1:
        raise GoldError(
            f"STUDENT {source}: decoding.num_beams of {TASK_FILE} is {student.num_beams}, expected 1: CTranslate2 "
            "gives no logits of beams, which probability and energy need"
        )
    if (kind := student.model.config.model_type) not in _ONNX_FAMILY:
        raise GoldError(f"STUDENT {source}: expected a T5 (model_type {', '.join(_ONNX_FAMILY)}), got {kind}")
    if getattr(student.tokenizer, "backend_tokenizer", None) is None:
        name = type(student.tokenizer).__name__
        raise GoldError(f"STUDENT {source}: expected a tokenizer with a tokenizer.json, got {name}, which is Python")


def _rows(task: Task, rows: str | Path | None) -> tuple[Sequence[Sample], str, bool]:
    """Returns the rows to compare on, a description, and whether their targets are the right ones."""
    if rows is not None:
        path = expand("--rows", str(rows))
        if not Path(path).is_file():
            raise ConfigError("--rows", str(rows), "a file of rows")
        if _is_labelled(task, path):
            return load_rows(task, path, "--rows"), Path(path).name, True
        try:
            return [Sample(fields, "") for fields in load_texts(task, path)], Path(path).name, False
        except ConfigError as e:
            raise ConfigError("--rows", e.value, e.allowed, e.hint) from None
    shipped = shipped_tasks().get(task.name)
    if shipped is not None:
        same = Task.load(str(shipped))
        if same.test.file and (same.label_names, same.fields) == (task.label_names, task.fields):
            return load_test_rows(same), f"test rows of {task.name}", True
    return task.demos, "demos of the task; --rows FILE names more", True


def _is_labelled(task: Task, path: str) -> bool:
    if ending_of(Path(path)) in (".txt", ".txt.gz"):
        return False
    column = task.test.columns.get(task.target.name, task.target.name)
    try:
        return bool([column_value(row, column) for row in load_table("--rows", path).rows])
    except KeyError:
        return False


@contextmanager
def _complete_folder(target: Path) -> Iterator[Path]:
    """Gives a folder that takes its place once the block has ended well, and is removed otherwise.

    Raises:
        ConfigError: The folder is there already, or cannot be made.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError("--out", str(target), "a folder that does not exist, or an empty one")
    if not target.parent.is_dir():
        raise ConfigError("--out", str(target), "a folder in one that exists")
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield part
        part.chmod(0o755)  # as other folders are; temporary ones are private
        if target.is_dir():
            target.rmdir()
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_common(student: SavedStudent, source: Path, folder: Path) -> None:
    """Writes what every export has: the task, the tokenizer, predict.py and the rule of the calibration."""
    from tokenizers import Tokenizer

    from gold_lightning.t5.folder import write_task

    if (source / TASK_FILE).is_file():
        shutil.copyfile(source / TASK_FILE, folder / TASK_FILE)
    else:
        write_task(folder, student.task, {"num_beams": student.num_beams, "constrained_decoding": True})
    tokenizer = Tokenizer.from_str(student.tokenizer.backend_tokenizer.to_str())
    side = student.tokenizer.truncation_side
    tokenizer.enable_truncation(student.task.student.max_input_tokens, direction=side)
    tokenizer.no_padding()
    tokenizer.save(str(folder / "tokenizer.json"))
    package = files("gold_lightning")
    for path, name in (("assets/export/predict.py", "predict.py"), ("calibration/rule.py", "calibration_rule.py")):
        (folder / name).write_bytes(package.joinpath(path).read_bytes())


def _write_onnx(student: SavedStudent, source: Path, folder: Path, int8: bool) -> None:
    import onnx

    from gold_lightning.exporting.label_graph import label_graph

    model = label_graph(student.model, student.label_tree, int8=int8)
    path, large = folder / "model.onnx", model.ByteSize() > _PROTOBUF_LIMIT
    onnx.save(model, path, save_as_external_data=large, location="model.onnx.data" if large else None)
    config: Any = student.model.config
    nodes, length = student.label_tree.nodes, student.task.student.max_input_tokens
    scores = max(nodes * len(student.label_tree.tokens), config.num_heads * nodes * max(nodes, length))
    facts = {
        "max_rows": max(1, _MAX_SCORES // scores),
        "padding": student.tokenizer.pad_token_id,
        "split_special_tokens": _splits_special_tokens(student),
    }
    _write_facts(folder, "onnx", int8, facts)


def _write_ctranslate2(student: SavedStudent, source: Path, folder: Path, int8: bool) -> None:
    from gold_lightning.exporting.text_model import write_text_model

    write_text_model(source, student.model, student.tokenizer, folder / "model", int8=int8)
    _write_facts(folder, "ctranslate2", int8, {"split_special_tokens": _splits_special_tokens(student)})


def _splits_special_tokens(student: SavedStudent) -> bool:
    """Returns whether ``</s>`` in a text is text. tokenizer.json does not say so."""
    return bool(student.tokenizer.split_special_tokens)


def _forget_special_tokens(path: Path) -> None:
    """Has ``</s>`` in a text read as text by a tokenizer without a switch for it; the end of a text is still added."""
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if not token["special"]]
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def _write_facts(folder: Path, to: Target, int8: bool, facts: dict[str, Any]) -> None:
    precision = {"to": to, "precision": "int8" if int8 else "float32"}
    _write_json(folder / "export.json", {"gold_lightning": __version__, **precision, **facts})


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
