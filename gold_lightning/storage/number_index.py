"""An index of numbers by numbers for tens of millions of entries, at 16 bytes each.

A dictionary takes six times as much memory. Here the newest entries are in one; whenever they are many, they become a
sorted array, and arrays of about one size are merged into one (a log-structured merge tree, O'Neil et al., 1996). A
look-up searches the few arrays by bisection.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

__all__ = ["NumberIndex", "number_of"]

_Array: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]

_NEWEST = 2**16  # entries in the dictionary
_RATIO = 4  # an array is merged with the one before it unless that is as many times as long


def number_of(value: Hashable) -> int:
    """Returns a value's hash as a key. It differs from process to process, and two values may share one.

    Args:
        value: The value.
    """
    return hash(value) & 0xFFFFFFFFFFFFFFFF


class NumberIndex:
    """Values by key, several for a key if need be. Both are integers from 0 to 2**64 - 1.

    Example:
        >>> from gold_lightning.storage.number_index import NumberIndex
        >>> index = NumberIndex()
        >>> for key, value in [(7, 1), (8, 2), (7, 3)]:
        ...     index.add(key, value)
        >>> index.values(7), index.values(9)
        ([1, 3], [])
    """

    def __init__(self) -> None:
        self._newest: dict[int, int | list[int]] = {}
        self._entries = 0  # in the dictionary
        self._arrays: list[tuple[_Array, _Array]] = []  # keys in ascending order and their values; the oldest first

    def __len__(self) -> int:
        return self._entries + sum(len(keys) for keys, _ in self._arrays)

    def add(self, key: int, value: int) -> None:
        """Adds a value to those of a key."""
        values = self._newest.setdefault(key, value)
        if isinstance(values, list):
            values.append(value)
        elif values is not value:
            self._newest[key] = [values, value]
        self._entries += 1
        if self._entries >= _NEWEST:
            self._sort_newest()

    def extend(self, keys: Sequence[int], values: Sequence[int]) -> None:
        """Adds many entries to an index at once."""
        self._append(np.asarray(keys, np.uint64), np.asarray(values, np.uint64))

    def discard(self, key: int, value: int) -> bool:
        """Removes an entry if it is among the newest ones.

        Returns:
            Whether it is removed; older entries cannot be.
        """
        values = self._newest.get(key)
        rest = _list(values)
        if value not in rest:
            return False
        rest.remove(value)
        if rest:
            self._newest[key] = rest
        else:
            del self._newest[key]
        self._entries -= 1
        return True

    def values(self, key: int) -> list[int]:
        """Returns the values of a key, the oldest first."""
        (values,) = self.values_of([key])
        return values

    def values_of(self, keys: Iterable[int]) -> list[list[int]]:
        """Returns the values of each key, the oldest first."""
        keys = list(keys)
        values_by_key: list[list[int]] = [[] for _ in keys]
        if self._arrays:
            sought = np.array(keys, np.uint64)
            for sorted_keys, values in self._arrays:
                begins = np.searchsorted(sorted_keys, sought, "left")
                ends = np.searchsorted(sorted_keys, sought, "right")
                for i in np.flatnonzero(ends > begins).tolist():
                    values_by_key[i] += values[begins[i] : ends[i]].tolist()
        for of_key, key in zip(values_by_key, keys, strict=True):
            of_key += _list(self._newest.get(key))
        return values_by_key

    def _sort_newest(self) -> None:
        pairs = [(key, value) for key, values in self._newest.items() for value in _list(values)]
        self._newest, self._entries = {}, 0
        self._append(*np.array(pairs, np.uint64).T)

    def _append(self, keys: _Array, values: _Array) -> None:
        while True:
            order = np.argsort(keys, kind="stable")
            keys, values = keys[order], values[order]
            if not self._arrays or len(self._arrays[-1][0]) >= _RATIO * len(keys):
                break
            older_keys, older_values = self._arrays.pop()
            keys, values = np.concatenate([older_keys, keys]), np.concatenate([older_values, values])
        self._arrays.append((keys, values))


def _list(values: int | list[int] | None) -> list[int]:
    return [] if values is None else [*values] if isinstance(values, list) else [values]
