"""Expands and validates paths in configs, arguments and tasks; ``~`` and ``~user`` are home folders."""

from __future__ import annotations

import os
import re
from pathlib import Path

from gold_lightning.errors import ConfigError

__all__ = ["check_folder", "expand", "folder_for"]

_INSIDE = "data/round_000/fingerprint_train.json.part"  # about the longest path in a run folder


def expand(key: str, path: str) -> str:
    """Replaces a leading ``~`` or ``~user`` by the home folder; variables such as ``$HOME`` stay.

    A shell does so only at the beginning of a word, thus neither in ``--run.root=~/runs`` nor in files.

    Args:
        key: The setting, for messages.
        path: The path, as the user wrote it.

    Raises:
        ConfigError: The user does not exist.
    """
    if not path.startswith("~"):
        return path
    expanded = os.path.expanduser(path)
    if expanded == path:
        name = path.split("/")[0]
        raise ConfigError(key, path, f"a home folder for {name}", f"for a folder of that name: ./{path}")
    return expanded


def folder_for(key: str, path: str) -> Path:
    """Returns the expanded path of a folder for output.

    Args:
        key: The setting, for messages.
        path: The path, as the user wrote it.

    Raises:
        ConfigError: The path is a URL, or cannot be that of a folder.
    """
    if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)|(?i:(file)):/(.*)", path):
        if (match[1] or match[3]).lower() == "file":
            local = (match[2] or match[4]).lstrip("/")
            raise ConfigError(key, path, "the path of a folder, not a URL", f"write /{local}")
        hint = "write to a local folder, and copy the run folder there after fit"
        raise ConfigError(key, path, "a folder of this machine, not a URL", hint)
    if not path.strip():
        raise ConfigError(key, path, "the path of a folder", "'.' is the current one")
    if "\0" in path:
        raise ConfigError(key, path, "a path without NUL characters")
    if re.match(r"\$\{?\w+\}?(/|$)", path):
        hint = f"write the path itself, or ~ for your home folder; for a folder of that name: ./{path}"
        raise ConfigError(key, path, "a path; variables are not expanded in settings", hint)
    return Path(expand(key, path))


def check_folder(key: str, path: Path, *, write: bool) -> None:
    """Checks that a folder can be used, or created; creates nothing.

    Args:
        key: The setting, for messages.
        path: The folder, which need not exist.
        write: Whether files will be written into it.

    Raises:
        ConfigError: A file or a broken link is in the way, the path is too long, or writing is not permitted.
    """
    value = str(path)
    try:
        (path / _INSIDE).exists()
        place = next(p for p in (path, *path.parents) if p.is_symlink() or p.exists())
    except OSError as e:
        raise ConfigError(key, value, f"a folder that can be reached ({e.strerror})") from None
    if not place.exists():
        raise ConfigError(key, value, f"a folder, but {place} is a broken link")
    if not place.is_dir():
        raise ConfigError(key, value, f"a folder, but {place} is a file")
    if write and not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(key, value, f"a writable folder, but {place.absolute()} is not writable")
