"""Identifies a model without loading it: a folder by its content, a hub model by its commit."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

__all__ = ["model_name", "revision"]

_SMALL_FILE = 1 << 20
_BLOCKS, _BLOCK = 256, 4096
_SUFFIXES = {".json", ".jinja", ".txt", ".model", ".safetensors", ".bin", ".gguf", ".py"}


def model_name(model: str) -> str:
    """A hub id unchanged; for a folder or a GGUF file a digest of its content, independent of its path and dates.

    Args:
        model: Hub id, folder or GGUF file.
    """
    folder = Path(model)
    if folder.suffix.lower() == ".gguf" and (file := folder.expanduser()).is_file():
        stat = file.stat()
        return f"gguf {_digest(((str(file), stat.st_size, stat.st_mtime_ns),))}"
    if not folder.is_dir():
        return model
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in _SUFFIXES)
    stamps = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return f"folder {_digest(stamps)}"


@lru_cache(maxsize=16)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    """Digest of names, sizes and contents. Large files are sampled: other weights differ in all parts of a file."""
    hash_ = hashlib.sha256()
    for path, size, _ in files:
        hash_.update(f"{Path(path).name} {size}\n".encode())
        with open(path, "rb") as file:
            if size <= _SMALL_FILE:
                hash_.update(file.read())
                continue
            for i in range(_BLOCKS):
                file.seek((size - _BLOCK) * i // (_BLOCKS - 1))
                hash_.update(file.read(_BLOCK))
    return hash_.hexdigest()[:16]


@lru_cache(maxsize=16)
def revision(model: str) -> str:
    """Commit of a hub model; "" for a folder or a GGUF file, and if neither the cache nor the hub knows it.

    Args:
        model: Hub id, folder or GGUF file.
    """
    if Path(model).is_dir() or model.lower().endswith(".gguf"):
        return ""
    from transformers.utils.hub import cached_file, extract_commit_hash

    try:
        path = cached_file(model, "config.json")
    except (OSError, ValueError):  # no such model or no connection, which loading reports
        return ""
    return extract_commit_hash(path, None) or ""
