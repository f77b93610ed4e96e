"""Which model it is: by its content in a folder, by its revision on the hub. Both are found without loading it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

__all__ = ["model_name", "revision"]

_READ_WHOLE = 1 << 20
_BLOCKS, _BLOCK = 256, 4096
_SUFFIXES = {".json", ".jinja", ".txt", ".model", ".safetensors", ".bin", ".gguf", ".py"}


def model_name(model: str) -> str:
    """A hub id as it is; for a folder a digest of what is in it, wherever it lies and whatever its files' dates are.

    Args:
        model: Hub id or folder.
    """
    folder = Path(model)
    if not folder.is_dir():
        return model
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in _SUFFIXES)
    stamps = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return f"folder {_digest(stamps)}"


@lru_cache(maxsize=16)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    """Digest of names, sizes and contents; of a large file blocks from all over it: other weights differ everywhere."""
    found = hashlib.sha256()
    for path, size, _ in files:
        found.update(f"{Path(path).name} {size}\n".encode())
        with open(path, "rb") as file:
            if size <= _READ_WHOLE:
                found.update(file.read())
                continue
            for i in range(_BLOCKS):
                file.seek((size - _BLOCK) * i // (_BLOCKS - 1))
                found.update(file.read(_BLOCK))
    return found.hexdigest()[:16]


@lru_cache(maxsize=16)
def revision(model: str) -> str:
    """Commit of a hub model that is loaded by this id; "" for a folder, and if neither cache nor hub tells.

    Args:
        model: Hub id or folder.
    """
    if Path(model).is_dir():
        return ""
    from transformers.utils.hub import cached_file, extract_commit_hash

    try:
        found = cached_file(model, "config.json")
    except (OSError, ValueError):  # no such model, or the hub is out of reach: loading says so
        return ""
    return extract_commit_hash(found, None) or ""
