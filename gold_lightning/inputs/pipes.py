"""Configs and tasks that can be read only once: standard input, a named pipe, ``<(...)`` of a shell.

Each is read when it is first named, and kept in a temporary file that takes its place until the command ends: settings
are looked at more than once, and by several processes.
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

__all__ = ["is_copy", "kept", "local_copy", "replacement", "written"]

_LARGEST = 64 * 2**20
_STDIN = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


@dataclass(frozen=True)
class _Copy:
    key: str
    written: str
    path: str


_copies: dict[str, _Copy] = {}


@contextmanager
def kept() -> Iterator[None]:
    """Keeps copies until the block ends, and begins without any."""
    _copies.clear()
    try:
        yield
    finally:
        for copy in _copies.values():
            shutil.rmtree(Path(copy.path).parent, ignore_errors=True)
        _copies.clear()


def local_copy(key: str, path: str, change: Callable[[bytes], bytes] = bytes) -> str | None:
    """The file that holds what a pipe gave; ``None`` if the path is no pipe.

    Args:
        key: Where it was written; a pipe gives its content to one setting alone.
        path: What was written; ``-`` is standard input.
        change: Applied to the content.

    Raises:
        ConfigError: Another setting has read it, it cannot be read, or it never ends.
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
    """A file that takes the place of another one while the command runs.

    Args:
        path: The other one, as it was written.
        content: What it holds.
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
    # A redirection may make a file of it, whose name says nothing to anybody else.
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or path.startswith(("/dev/fd/", "/proc/self/fd/"))


def _read(key: str, path: str) -> bytes:
    try:
        if path in _STDIN:
            if sys.stdin is None:
                raise ConfigError(key, path, "an open standard input")
            content = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(_LARGEST + 1)
    except OSError as e:
        raise ConfigError(key, path, f"something that can be read ({e.strerror})") from None
    if len(content) > _LARGEST:
        raise ConfigError(key, path, f"a YAML file of at most {_LARGEST // 2**20} MiB")
    return content


def is_copy(path: str) -> bool:
    """Whether a path is that of a copy."""
    return any(copy.path == path for copy in _copies.values())


def written(path: str) -> str:
    """A path as the user wrote it: of a copy, the pipe's."""
    found = next((copy.written for copy in _copies.values() if copy.path == path), path)
    return "standard input" if found in _STDIN else found
