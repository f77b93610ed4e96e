"""Sets of labels as tokens of the student, without a list of all sets, of which n labels have 2^n.

The text of a set is that of its labels, one after the other. So which tokens may follow depends only on the label that
was written last: each label has a small tree of the labels after it, and decoding goes from tree to tree.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from gold_lightning.task import Task

__all__ = ["Position", "SetTokens"]

_CHECKED_SETS = 64


@dataclass
class _Node:
    """A node of a tree: the tokens that may follow, and what is written here.

    Args:
        children: Nodes by the token that leads to them.
        begun: A label that is written here, if others must follow; -1 if none.
        whole: The labels that end the text here, if any do.
    """

    children: dict[int, _Node] = field(default_factory=dict)
    begun: int = -1
    whole: tuple[int, ...] | None = None

    def add(self, tokens: Sequence[int]) -> _Node:
        node = self
        for token in tokens:
            node = node.children.setdefault(token, _Node())
        return node


@dataclass(frozen=True)
class Position:
    """A beginning of the text of a set of labels.

    Args:
        places: Labels that are written, and the node of the tree after the last of them; nearly always one pair.
        labels: Labels of the set, if its text ends here; ``None`` in its middle.
    """

    places: tuple[tuple[tuple[int, ...], _Node], ...]
    labels: tuple[int, ...] | None = None

    @property
    def written(self) -> frozenset[int]:
        """Labels that are written for certain."""
        return frozenset.intersection(*(frozenset(labels) for labels, _ in self.places))


class SetTokens:
    """The tokens of all sets of a task's labels, in the task's order.

    Args:
        task: The task, whose rows have several labels.
        encode: Returns the tokens of a text, its end token last.
    """

    def __init__(self, task: Task, encode: Callable[[str], list[int]]) -> None:
        assert task.many is not None
        self.task, self._encode = task, encode
        self.count = len(task.labels)
        names, between = task.label_names, task.many.separator
        before, after = task.student_target("\0").split("\0")
        mark = between.rstrip()  # the space belongs to the tokens of the next label

        def tokens(text: str) -> list[int]:
            return encode(before + text)[:-1]

        def following(i: int, end: str) -> list[int]:
            first = names[i - 1]  # any other label
            return tokens(first + between + names[i] + end)[len(tokens(first + mark)) :]

        self.end = encode(before)[-1]
        self.none = [*tokens(task.many.none + after), self.end]
        self._first = [tokens(name + mark) for name in names]
        self._only = [[*tokens(name + after), self.end] for name in names]
        self._middle = [following(i, mark) for i in range(self.count)]
        self._last = [[*following(i, after), self.end] for i in range(self.count)]
        self._trees: dict[int, _Node] = {}
        self.all = sorted({token for part in self._parts() for token in part})
        """All tokens that occur in a set, ascending."""
        self.columns = {token: column for column, token in enumerate(self.all)}

    def _parts(self) -> Iterator[list[int]]:
        yield self.none
        yield from itertools.chain(self._first, self._only, self._middle, self._last)

    def of(self, labels: Sequence[int]) -> list[list[int]]:
        """Returns the tokens of a set, those of each label apart, the end token with the last.

        Args:
            labels: Positions of the labels, ascending.
        """
        if not labels:
            return [self.none]
        if len(labels) == 1:
            return [self._only[labels[0]]]
        first, *middle, last = labels
        return [self._first[first], *(self._middle[i] for i in middle), self._last[last]]

    def text(self, labels: Sequence[int]) -> str:
        """Returns the text of a set, as the task has it."""
        assert self.task.many is not None
        names = self.task.label_names
        return self.task.many.text([names[i] for i in labels], names)

    def mismatch(self) -> str:
        """Returns the text of a set whose tokens are not those of its labels one after the other; "" if there is none.

        Pairs of neighbours, the set of all labels and random sets are looked at.
        """
        rng, every = random.Random(0), range(self.count)
        sets: list[tuple[int, ...]] = [(i, i + 1) for i in every[:-1]]
        sets += [tuple(sorted(rng.sample(every, rng.randint(2, self.count)))) for _ in range(_CHECKED_SETS)]
        for labels in [tuple(every), *sets]:
            text = self.text(labels)
            if list(itertools.chain.from_iterable(self.of(labels))) != self._encode(self.task.student_target(text)):
                return text
        return ""

    def start(self) -> Position:
        """Returns the position before the first token."""
        return Position((((), self._tree(-1)),))

    def following(self, position: Position) -> dict[int, Position]:
        """Returns the positions that a token may lead to, by the token."""
        places: dict[int, list[tuple[tuple[int, ...], _Node]]] = {}
        for labels, node in position.places:
            for token, child in node.children.items():
                place = (labels, child) if child.begun < 0 else ((*labels, child.begun), self._tree(child.begun))
                places.setdefault(token, []).append(place)
                if child.begun >= 0 and child.children:  # another label begins with the tokens of this one
                    places[token].append((labels, child))
        result = {}
        for token, reached in places.items():
            whole = next(((*labels, *node.whole) for labels, node in reached if node.whole is not None), None)
            result[token] = Position(tuple(reached), whole)
        return result

    def _tree(self, last: int) -> _Node:
        """Returns the tree of what may follow a label; -1 for the beginning of the text."""
        if last not in self._trees:
            tree = self._trees[last] = _Node()
            if last < 0:
                tree.add(self.none).whole = ()
            for i in range(last + 1, self.count):
                tree.add(self._only[i] if last < 0 else self._last[i]).whole = (i,)
                if i + 1 < self.count:
                    tree.add(self._first[i] if last < 0 else self._middle[i]).begun = i
        return self._trees[last]
