"""Plans which sets of labels a round asks for: sizes in their weights, labels and pairs of labels alike often."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, islice

__all__ = ["planned_sets"]


def planned_sets(count: int, labels: Sequence[str], sizes: Sequence[float], seed: str) -> list[tuple[str, ...]]:
    """Returns the sets of labels that a number of samples have.

    The sets of a larger number begin with those of a smaller one, so a quota can be raised.

    Args:
        count: Number of samples.
        labels: Names of the labels.
        sizes: Weights of sets of 0, 1, 2, ... labels.
        seed: Seed of the choice among labels that occur equally often.

    Returns:
        Sets of labels, each in the order of ``labels``.

    Example:
        >>> sets = planned_sets(8, ["a", "b", "c"], sizes=[0, 1, 1], seed="1")
        >>> sorted(sets)
        [('a',), ('a',), ('a', 'b'), ('a', 'c'), ('b',), ('b', 'c'), ('b', 'c'), ('c',)]
    """
    return list(islice(_sets(labels, sizes[: len(labels) + 1], random.Random(seed)), count))


def _sets(labels: Sequence[str], sizes: Sequence[float], rng: random.Random) -> Iterator[tuple[str, ...]]:
    total = sum(sizes)
    of_size, of_label, of_pair = Counter[int](), Counter[str](), Counter[frozenset[str]]()
    turn = 0
    while True:
        turn += 1
        # The size that is furthest behind its share; at first the most frequent one.
        size = max(range(len(sizes)), key=lambda k: (sizes[k] / total * turn - of_size[k] if sizes[k] else -1.0, -k))
        of_size[size] += 1
        chosen: list[str] = []
        lowest = min(of_label[name] for name in labels)
        while len(chosen) < size:
            left = [name for name in labels if name not in chosen]
            rng.shuffle(left)
            pairs = {name: sum(of_pair[frozenset((name, other))] for other in chosen) for name in left}
            # The rarest pair, as long as no label is more than one ahead of the others.
            chosen.append(min(left, key=lambda name: (of_label[name] > lowest + 1, pairs[name], of_label[name])))
        of_label.update(chosen)
        of_pair.update(map(frozenset, combinations(chosen, 2)))
        yield tuple(name for name in labels if name in chosen)
