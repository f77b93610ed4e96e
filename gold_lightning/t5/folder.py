"""A student's folder: checks of its config, tokenizer and weights before loading, and the file of its task."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gold_lightning import __version__
from gold_lightning.calibration.rule import check_calibration
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.task import Task

__all__ = [
    "FAMILY",
    "TASK_FILE",
    "check_config",
    "check_folder",
    "check_tokenizer_files",
    "load_calibration",
    "load_folder_task",
    "refusal",
    "write_calibration",
    "write_task",
]

TASK_FILE = "gold_task.json"
"""File of a student's folder with its task, its settings of decoding and its calibration."""

FAMILY = ("t5", "mt5", "umt5", "longt5", "switch_transformers")
"""Supported architectures by ``model_type``: T5 and models with the same interface."""

_Refuse = Callable[..., GoldError]
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_OTHER_WEIGHTS = ("pytorch_model*.bin", "tf_model.h5", "flax_model.msgpack", "adapter_model.*", "*.gguf", "*.onnx")
_FLOATS = {"F64", "F32", "F16", "BF16"}
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "*.model", "vocab.json", "vocab.txt", "added_tokens.json")


def refusal(key: str, name: str) -> _Refuse:
    """Returns a function that makes errors about a student.

    Args:
        key: The setting that names the student.
        name: The value of that setting.

    Returns:
        A function of the expectation, the problem and a remedy; the default remedy is the embedded student.
    """

    def refuse(expected: str, problem: str, hint: str = "") -> GoldError:
        default_hint = f"or take --{key.removeprefix('--')} embedded"
        return GoldError(f"{key} {name!r}: expected {expected}, and {problem}; {hint or default_hint}")

    return refuse


def check_folder(folder: Path, key: str, name: str) -> None:
    """Refuses a folder without a T5 or with incomplete weights.

    Args:
        folder: The folder.
        key: The setting that names it.
        name: The value of that setting.

    Raises:
        GoldError: A file is missing, damaged or of another kind.
    """
    refuse = refusal(key, name)
    config = _config_of(folder, refuse)
    check_config(config, key, name)
    _check_weights(folder, config, refuse)


def check_config(config: dict[str, Any], key: str, name: str) -> None:
    """Refuses architectures other than T5's.

    Args:
        config: Content of ``config.json``.
        key: The setting that names the student.
        name: The value of that setting.

    Raises:
        GoldError: The model has another architecture, no decoder, or is quantised.
    """
    refuse = refusal(key, name)
    kind, classes = config.get("model_type"), config.get("architectures")
    architecture = ", ".join(map(str, classes)) if isinstance(classes, list) and classes else str(kind)
    if kind not in FAMILY:
        raise refuse(f"a T5 (model_type {', '.join(FAMILY)})", f"this is none ({architecture})")
    if "EncoderModel" in architecture:
        raise refuse("a T5 with a decoder", f"this is an encoder alone ({architecture})")
    if config.get("quantization_config"):
        raise refuse("a T5 that can be trained", "this one is quantised", "take the one that it was made from")


def check_tokenizer_files(folder: Path, key: str, name: str) -> None:
    """Refuses a folder without a tokenizer, for which transformers would silently create a blank one.

    Args:
        folder: The folder; any kind of tokenizer is allowed.
        key: The setting that names it.
        name: The value of that setting.

    Raises:
        GoldError: The tokenizer is missing, or its files are not valid JSON.
    """
    refuse = refusal(key, name)
    if folder.is_file() or (folder / "config.json").is_file():
        _config_of(folder, refuse)
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
        if not (folder / "config.json").is_file():
            _refuse_without_config(folder, refuse)
        raise refuse(
            "a folder with its tokenizer (tokenizer.json or spiece.model)",
            "this one has none",
            "save it there as well: tokenizer.save_pretrained(FOLDER)",
        )
    for path in (folder / "tokenizer.json", folder / "tokenizer_config.json"):
        if path.is_file() and not isinstance(_read_json(path), dict):
            raise refuse(
                "a folder with its tokenizer", f"{path.name} {_damage(path, 'cannot be read as JSON')}", _AGAIN
            )


_EXPORT = "a run leaves its best student in the run folder's student/"
_AGAIN = "copy or download it again"
_LFS = b"version https://git-lfs"


def _config_of(folder: Path, refuse: _Refuse) -> dict[str, Any]:
    if folder.is_file():
        kind = {".gguf": "a GGUF file", ".ckpt": "a checkpoint"}.get(folder.suffix, "a file")
        near = _nearby(folder.parent) or _nearby(folder.parent.parent)
        raise refuse("the folder of a T5 or its id on the hub", f"this is {kind}", near or _EXPORT)
    path = folder / "config.json"
    if not path.is_file():
        _refuse_without_config(folder, refuse)
    config = _read_json(path)
    if not isinstance(config, dict):
        raise refuse("a folder with a T5's config.json", f"this one {_damage(path, 'cannot be read as JSON')}", _AGAIN)
    return config


def _damage(path: Path, otherwise: str) -> str:
    """Describes a damaged file: empty, a Git LFS pointer, or ``otherwise``."""
    with path.open("rb") as file:
        start = file.read(40)
    if not start:
        return "is empty"
    return "is a Git LFS pointer (git lfs pull fetches the file)" if start.startswith(_LFS) else otherwise


def _nearby(folder: Path) -> str:
    """Suggests a student near a folder: a run's student, or the last checkpoint of transformers' trainer."""
    students: list[Path] = []
    with suppress(OSError):
        students = [path for path in (folder, folder / "student") if (path / "config.json").is_file()]
        students += sorted((p.parent for p in folder.glob("checkpoint-*/config.json")), key=lambda p: p.stat().st_mtime)
    return f"did you mean {students[-1]}?" if students else ""


def _refuse_without_config(folder: Path, refuse: _Refuse) -> None:
    expected = "the folder of a T5, with its config.json"
    if (folder / "adapter_config.json").is_file():
        raise refuse(
            expected,
            "this holds an adapter alone",
            "merge it into its model and save that: model.merge_and_unload().save_pretrained(FOLDER)",
        )
    if near := _nearby(folder):
        raise refuse(expected, "this folder has none", near)
    if any(folder.glob("*.ckpt")) or (folder / "checkpoints").is_dir():
        near = _nearby(folder.parent) if folder.name == "checkpoints" else ""
        raise refuse(expected, "this holds checkpoints alone", near or f"{_EXPORT} when fit ends")
    weights = next((path.name for pattern in _OTHER_WEIGHTS for path in folder.glob(pattern)), "")
    raise refuse(expected, f"this folder holds {weights} without one" if weights else "this folder has none")


def _check_weights(folder: Path, config: dict[str, Any], refuse: _Refuse) -> None:
    """Checks the headers of the weights: names, shapes, types, and the lengths of the files."""
    shapes: dict[str, tuple[int, ...]] = {}
    types: set[str] = set()
    for path in _weight_files(folder, refuse):
        try:
            of_file = _shapes_and_types(path)
            shapes |= {name: shape for name, (shape, _) in of_file.items()}
            types |= {type_ for name, (_, type_) in of_file.items() if name.endswith(".weight")}
        except Exception as e:  # safetensors raises an exception of its own, which is not an OSError
            problem = _damage(path, f"is damaged ({' '.join(str(e).split())[:80]})")
            raise refuse("a folder with whole weights", f"{path.name} {problem}", _AGAIN) from None
    if not types <= _FLOATS:  # they would be read as they are, without the scales by which they were divided
        whole = "take the one that it was made from"
        raise refuse("weights of 16 bits or more", f"it has weights of type {min(types - _FLOATS)}", whole)
    if not any("decoder.block.0." in name for name in shapes):
        raise refuse("a T5 with a decoder", "its weights have none")
    rows = next(
        (shape[0] for name, shape in shapes.items() if name.endswith(("shared.weight", "embed_tokens.weight"))), 0
    )
    if rows != config.get("vocab_size", rows):
        raise refuse(
            "a T5 whose weights are those of its config.json",
            f"they have {rows} embeddings, and vocab_size is {config['vocab_size']}",
            "save model and config together: model.save_pretrained(FOLDER)",
        )


def _weight_files(folder: Path, refuse: _Refuse) -> Iterator[Path]:
    if (folder / _WHOLE).is_file():
        yield folder / _WHOLE
        return
    if (folder / _INDEX).is_file():
        index = _read_json(folder / _INDEX)
        parts = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(parts, dict) or not parts:
            raise refuse("a folder with whole weights", f"{_INDEX} cannot be read", _AGAIN)
        for part in sorted(set(map(str, parts.values()))):
            if not (folder / part).is_file():
                raise refuse("a folder with whole weights", f"{part} is missing, which {_INDEX} names", _AGAIN)
            yield folder / part
        return
    weights = next((path.name for pattern in _OTHER_WEIGHTS for path in sorted(folder.glob(pattern))), "")
    hint = "AutoModelForSeq2SeqLM.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(FOLDER) writes one"
    raise refuse(
        f"a folder with {_WHOLE}",
        f"this one has no {_WHOLE}" + (f", but {weights}" if weights else ""),
        hint if weights.endswith(".bin") and "adapter" not in weights else _EXPORT,
    )


def _shapes_and_types(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        return {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_task(folder: Path, task: Task, decoding: Mapping[str, Any]) -> None:
    """Writes a student's task beside its weights; of its labelled rows the names of columns and labels, and no paths.

    Args:
        folder: The student's folder.
        task: The task.
        decoding: Settings of :class:`~gold_lightning.student.T5Student` that affect predictions.
    """
    document = {key: value for key, value in task.to_document().items() if key not in ("test", "validation")}
    if names := {key: dict(value) for key in ("columns", "label_names") if (value := getattr(task.test, key))}:
        document["test"] = names
    content = {"gold_lightning": __version__, "task": document, "decoding": dict(decoding)}
    _write(Path(folder) / TASK_FILE, content)


def write_calibration(folder: Path, calibration: Mapping[str, Any] | None) -> None:
    """Writes a calibration into the file of :func:`write_task`, in place of an earlier one.

    Args:
        folder: The student's folder.
        calibration: The calibration as :mod:`gold_lightning.calibration.rule` describes it; ``None`` for none.

    Raises:
        GoldError: The folder has no such file, or a damaged one.
    """
    path = Path(folder) / TASK_FILE
    load_folder_task(folder)
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("calibration", None)
    _write(path, content if calibration is None else content | {"calibration": dict(calibration)})


def load_calibration(folder: Path) -> dict[str, Any] | None:
    """Reads a student's calibration.

    Returns:
        The calibration; ``None`` if the student has none.

    Raises:
        GoldError: The file is damaged.
    """
    path = Path(folder) / TASK_FILE
    try:
        calibration = json.loads(path.read_text(encoding="utf-8")).get("calibration")
        return None if calibration is None else check_calibration(calibration)
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError) as e:
        raise GoldError(f"{path}: damaged ({type(e).__name__}: {e})") from None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def load_folder_task(folder: Path) -> tuple[Task, dict[str, Any]]:
    """Reads the file of :func:`write_task`.

    Returns:
        The task and the settings of decoding.

    Raises:
        GoldError: The folder has no such file, or a damaged one.
    """
    path = Path(folder) / TASK_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Task.from_document(content["task"], ""), dict(content["decoding"])
    except FileNotFoundError:
        if not (Path(folder) / "config.json").is_file():
            raise GoldError(
                f"{folder}: expected the folder of a student, as fit leaves it in the run folder's student/"
            ) from None
        raise GoldError(
            f"{folder}: a student of an older version, without its task ({TASK_FILE}); name the task: "
            "--task FILE, or task= in Python"
        ) from None
    except ConfigError as e:
        raise GoldError(f"{path}: {e}") from None
    except (ValueError, KeyError, TypeError) as e:
        raise GoldError(f"{path}: damaged ({type(e).__name__}: {e})") from None
