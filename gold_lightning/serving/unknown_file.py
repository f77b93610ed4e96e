"""Keeps the inputs that a student does not know, in a file that ``fit --data.unlabelled`` takes."""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from gold_lightning.errors import ConfigError
from gold_lightning.storage.json_lines import digest, read_lines

__all__ = ["Outcome", "UnknownFile", "earlier_file"]

Outcome = Literal["stored", "repeated"]
_REMEMBERED = 100_000  # inputs whose repeats are left out
_MODE = 0o600  # users' texts


def earlier_file(path: Path) -> Path:
    """Returns the file that holds what was written before ``path`` was full.

    >>> earlier_file(Path("logs/unknown.jsonl")).as_posix()
    'logs/unknown.1.jsonl'
    """
    return path.with_suffix(f".1{path.suffix}")


class UnknownFile:
    """A JSON Lines file of inputs, readable by its owner alone, on disk when :meth:`append` returns.

    A row has the task's fields, ``time``, and further values by name, such as the student's prediction. A full file
    replaces the earlier one (:func:`earlier_file`), so that both together are at most twice as large as one.

    Args:
        path: The file, which ends in ``.jsonl``. One server at a time writes to it.
        max_bytes: Size of a full file.

    Raises:
        ConfigError: The file has another ending, cannot be written, or another server writes to it.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes
        if path.suffix != ".jsonl" or path.is_dir():
            raise ConfigError("--unknown", str(path), "a .jsonl file")
        if not path.parent.is_dir():
            raise ConfigError("--unknown", str(path), "a file in a folder that exists")
        self._lock = FileLock(f"{path}.lock", timeout=0, mode=_MODE)
        try:
            self._lock.acquire()
            self._file = self._open()
        except Timeout:
            raise ConfigError("--unknown", str(path), "a file to which no other server writes") from None
        except OSError as e:
            raise ConfigError("--unknown", str(path), "a file that can be written", e.strerror or str(e)) from None
        self._size = _cut_torn_line(self._file)
        self._seen: OrderedDict[str, None] = OrderedDict()
        for row in [*read_lines(earlier_file(path)), *read_lines(path)]:
            if isinstance(key := row.get("id"), str):
                self._remember(key)

    def append(self, rows: Sequence[tuple[Mapping[str, str], Mapping[str, Any]]]) -> list[Outcome]:
        """Appends inputs, but not those that are there already.

        Args:
            rows: The fields of each input, and further values by name. A field keeps its name if both have one.

        Returns:
            What became of each.

        Raises:
            OSError: The file cannot be written.
        """
        outcomes: list[Outcome] = []
        lines: list[bytes] = []
        keys: list[str] = []
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for fields, values in rows:
            key = digest(dict(fields))
            if key in self._seen or key in keys:
                outcomes.append("repeated")
                continue
            row = {**values, "id": key, "time": moment, **fields}
            lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            keys.append(key)
            outcomes.append("stored")
        for line in lines:
            if self._size and self._size + len(line) > self.max_bytes:
                self._rotate()
            self._write(line)
        if lines:
            os.fsync(self._file)
        for key in keys:
            self._remember(key)
        return outcomes

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._file)
        self._lock.release()

    def _open(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _MODE)
        os.fchmod(file, _MODE)  # of a file that was there before
        return file

    def _write(self, line: bytes) -> None:
        written = os.write(self._file, line)
        if written < len(line):  # a full disk: no torn line in the middle of the file
            os.ftruncate(self._file, self._size)
            raise OSError(f"{self.path}: the disk is full")
        self._size += len(line)

    def _rotate(self) -> None:
        os.fsync(self._file)
        os.replace(self.path, earlier_file(self.path))
        os.close(self._file)
        self._file, self._size = self._open(), 0

    def _remember(self, key: str) -> None:
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


def _cut_torn_line(file: int) -> int:
    """Removes what a kill has left of a last line; returns the size of the file."""
    size = os.fstat(file).st_size
    end = size
    while end:
        start = max(0, end - 65_536)
        block = os.pread(file, end - start, start)
        if (at := block.rfind(b"\n")) >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end
