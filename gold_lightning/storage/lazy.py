"""Sequences whose items are made when they are needed: a run of a million samples holds few of them at once."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, TypeVar, overload

__all__ = ["Chained", "Chosen", "LazySequence", "Mapped"]

_T = TypeVar("_T")


class LazySequence(Sequence[_T]):
    """A sequence whose items are made when they are needed; equal to any sequence with equal items."""

    @abstractmethod
    def _item(self, number: int) -> _T:
        """Returns the item of a number from 0 on."""

    def __iter__(self) -> Iterator[_T]:
        at = 0
        while at < len(self):  # which may grow meanwhile
            yield self._item(at)
            at += 1

    @overload
    def __getitem__(self, at: int) -> _T: ...
    @overload
    def __getitem__(self, at: slice) -> list[_T]: ...
    def __getitem__(self, at: int | slice) -> _T | list[_T]:
        numbers = range(len(self))[at]
        return self._item(numbers) if isinstance(numbers, int) else [self._item(number) for number in numbers]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it grows, as a list does


class Chosen(LazySequence[_T]):
    """Some items of a sequence.

    Args:
        items: The sequence.
        numbers: Numbers of the items in it.

    Example:
        >>> list(Chosen("abcdef", [0, 4]))
        ['a', 'e']
    """

    def __init__(self, items: Sequence[_T], numbers: Sequence[int]) -> None:
        self._items, self._numbers = items, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def _item(self, number: int) -> _T:
        return self._items[self._numbers[number]]


class Mapped(LazySequence[_T]):
    """The results of a function for the items of a sequence.

    Args:
        items: The sequence.
        function: The function.

    Example:
        >>> Mapped("abc", str.upper)[1]
        'B'
    """

    def __init__(self, items: Sequence[Any], function: Callable[[Any], _T]) -> None:
        self._items, self._function = items, function

    def __iter__(self) -> Iterator[_T]:
        return map(self._function, self._items)

    def __len__(self) -> int:
        return len(self._items)

    def _item(self, number: int) -> _T:
        return self._function(self._items[number])


class Chained(LazySequence[_T]):
    """The items of several sequences, one sequence after another. They must not grow.

    Args:
        parts: The sequences.

    Example:
        >>> chained = Chained(["ab", "", "cde"])
        >>> len(chained), chained[2], chained[-1]
        (5, 'c', 'e')
    """

    def __init__(self, parts: Sequence[Sequence[_T]]) -> None:
        self._parts, self._ends = parts, [*accumulate(map(len, parts))]

    def __iter__(self) -> Iterator[_T]:
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _item(self, number: int) -> _T:
        part = bisect_right(self._ends, number)
        return self._parts[part][number - (self._ends[part - 1] if part else 0)]
