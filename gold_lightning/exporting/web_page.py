"""A static folder in which a student runs in the visitor's browser, and the npm packages that it needs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import string
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.task import Task

__all__ = ["write_page"]


@dataclass(frozen=True)
class _Package:
    name: str
    version: str
    integrity: str  # sha512 of its archive, as npm's lock files have it
    files: dict[str, str]  # file of the folder by file of the package


_PACKAGES = (
    _Package(
        "onnxruntime-web",
        "1.30.0",
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        {
            "dist/ort.wasm.min.mjs": "ort.wasm.min.mjs",
            "dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.mjs",
            "dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
        },
    ),
    _Package(
        "@huggingface/tokenizers",
        "0.2.0",
        "LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
        {"dist/tokenizers.min.mjs": "tokenizers.min.mjs", "LICENSE": "tokenizers.LICENSE"},
    ),
)


def write_page(folder: Path, task: Task, calibration: Any, runtime: str | None) -> None:
    """Writes the page, its scripts and the runtime beside an ONNX graph and a tokenizer.

    Args:
        folder: The folder.
        task: The student's task, of which the page holds fields, labels and template alone.
        calibration: The student's calibration.
        runtime: A ``node_modules`` folder with the npm packages; ``None`` for npm's own registry, by ``npm pack``.

    Raises:
        GoldError: A package cannot be had, or is not the one that is expected.
    """
    vendor = folder / "vendor"
    vendor.mkdir()
    for package in _PACKAGES:
        for name, content in _contents(package, runtime):
            (vendor / package.files[name]).write_bytes(content)
    for path in files("gold_lightning").joinpath("assets/web").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    settings = {
        "name": task.name,
        "fields": [{"name": f.name, "description": f.description} for f in task.fields],
        "labels": list(task.label_names),
        "template": [
            part
            for text, field, *_ in string.Formatter().parse(task.student.input)
            for part in ([{"text": text}] if text else []) + ([{"field": field}] if field is not None else [])
        ],
        "max_input_tokens": task.student.max_input_tokens,
        "calibration": calibration,
    }
    (folder / "student.json").write_text(json.dumps(settings, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _contents(package: _Package, runtime: str | None) -> Iterator[tuple[str, bytes]]:
    """Yields the name and the content of each file that is taken from a package."""
    if runtime is not None:
        root = Path(runtime) / package.name
        for name in package.files:
            if not (root / name).is_file():
                expected = f"a node_modules folder with {package.name} {package.version}"
                raise ConfigError("--runtime", runtime, expected, f"npm install {package.name}@{package.version}")
            yield name, (root / name).read_bytes()
        return
    with tarfile.open(_archive(package)) as archive:
        for name in package.files:
            member = archive.extractfile(f"package/{name}")
            if member is None:
                raise GoldError(f"{package.name} {package.version}: has no {name}")
            yield name, member.read()


def _archive(package: _Package) -> Path:
    """Returns the archive of a package in the cache, where ``npm pack`` puts it at first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gold_lightning" / "npm"
    path = cache / f"{package.name.replace('/', '-').removeprefix('@')}-{package.version}.tgz"
    if not path.is_file():
        npm = shutil.which("npm")
        if npm is None:
            raise GoldError("--to web: needs npm once, which is not installed; or --runtime NODE_MODULES")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            command = [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", temporary, "--silent"]
            process = subprocess.run(command, capture_output=True, text=True, check=False)
            archives = list(Path(temporary).glob("*.tgz"))
            if process.returncode or not archives:
                problem = (process.stderr.strip().splitlines() or ["no archive"])[-1][:160]
                raise GoldError(f"--to web: npm pack {package.name}@{package.version}: {problem}")
            _check(archives[0], package)
            archives[0].replace(path)
    _check(path, package)
    return path


def _check(path: Path, package: _Package) -> None:
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if digest != package.integrity:
        raise GoldError(f"--to web: {path}: got the checksum {digest[:12]}..., expected {package.integrity[:12]}...")
