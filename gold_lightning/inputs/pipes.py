"""Configs and tasks that can be read only once: standard input, a named pipe, ``<(...)`` of a shell.

Each is read on first use and copied to a temporary file, which replaces it until the command ends, since settings are
read more than once and by several processes.
"""

from __future__ import annotations

import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gold_lightning.errors import ConfigError

__all__ = ["as_written", "deleting_copies", "is_copy", "local_copy", "replacement"]

_MAX_BYTES = 64 * 2**20
_STDIN = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


@dataclass(frozen=True)
class _Copy:
    key: str
    written: str
    path: str


_copies: dict[str, _Copy] = {}


@contextmanager
def deleting_copies() -> Iterator[None]:
    """Deletes all copies made inside the block when it ends; copies made before are forgotten."""
    _copies.clear()
    try:
        yield
    finally:
        for copy in _copies.values():
            shutil.rmtree(Path(copy.path).parent, ignore_errors=True)
        _copies.clear()


def local_copy(key: str, path: str, change: Callable[[bytes], bytes] = bytes) -> str | None:
    """Copies the content of a pipe to a temporary file, once.

    Args:
        key: The setting that names the pipe. Only one setting can read it.
        path: The path, as the user wrote it; ``-`` is standard input.
        change: Function applied to the content.

    Returns:
        The path of the copy; ``None`` if the path is not a pipe.

    Raises:
        ConfigError: Another setting has read the pipe, it cannot be read, or its content is too long.
    """
    if path not in _STDIN and not _is_pipe(path):
        return None
    name = "-" if path in _STDIN else path
    if (copy := _copies.get(name)) is None:
        content = change(_read(key, path))
        file = Path(tempfile.mkdtemp(prefix="gold-lightning-")) / "input.yaml"
        file.write_bytes(content)
        copy = _copies[name] = _Copy(key, path, str(file))
    elif copy.key != key:
        raise ConfigError(key, path, f"a file, since {copy.key} reads {copy.written} already")
    return copy.path


def replacement(path: str, content: bytes) -> str:
    """Writes a temporary file that replaces another file until the command ends.

    Args:
        path: The other file, as the user wrote it.
        content: Content of the temporary file.

    Returns:
        The path of the temporary file.
    """
    copy = Path(tempfile.mkdtemp(prefix="gold-lightning-")) / "input.yaml"
    copy.write_bytes(content)
    _copies[f"replaced {len(_copies)}"] = _Copy("--config", path, str(copy))
    return str(copy)


def _is_pipe(path: str) -> bool:
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    # A redirection may turn a descriptor into a file, but other processes cannot open it by this name.
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or path.startswith(("/dev/fd/", "/proc/self/fd/"))


def _read(key: str, path: str) -> bytes:
    try:
        if path in _STDIN:
            if sys.stdin is None:
                raise ConfigError(key, path, "an open standard input")
            content = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
    except OSError as e:
        raise ConfigError(key, path, f"a readable file ({e.strerror})") from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(key, path, f"a YAML file of at most {_MAX_BYTES // 2**20} MiB")
    return content


def is_copy(path: str) -> bool:
    """Returns whether a path is that of a copy."""
    return any(copy.path == path for copy in _copies.values())


def as_written(path: str) -> str:
    """Returns a path as the user wrote it; for a copy, the path of its pipe."""
    original = next((copy.written for copy in _copies.values() if copy.path == path), path)
    return "standard input" if original in _STDIN else original
