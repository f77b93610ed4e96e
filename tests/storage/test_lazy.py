"""Sequences whose items are made when they are needed behave as lists of the same items."""

import random

import pytest
from gold_lightning.storage.lazy import Chained, Chosen, Mapped


def sequences():
    parts = [[1, 2, 3], [], [4], [], [5, 6]]
    whole = [1, 2, 3, 4, 5, 6]
    yield Chained(parts), whole
    yield Chained([[], *parts, []]), whole
    yield Chained([]), []
    yield Mapped(Chained(parts), lambda n: -n), [-n for n in whole]
    yield Chosen(Chained(parts), [5, 0, 3]), [6, 1, 4]
    yield Chained([Chosen(whole, [1]), Mapped(whole, lambda n: 10 * n)]), [2, *(10 * n for n in whole)]


@pytest.mark.parametrize(("lazy", "wanted"), [*sequences()])
def test_items_slices_and_equality_are_those_of_a_list(lazy, wanted):
    assert len(lazy) == len(wanted) and list(lazy) == wanted and lazy == wanted and wanted == lazy
    assert [lazy[i] for i in range(-len(wanted), len(wanted))] == [*wanted, *wanted]
    rng = random.Random(1)
    for _ in range(30):
        at = slice(*(rng.choice([None, *range(-8, 9)]) for _ in range(2)), rng.choice([None, 1, 2, -1, -3]))
        assert lazy[at] == wanted[at]
    for outside in (len(wanted), -len(wanted) - 1):
        with pytest.raises(IndexError):
            lazy[outside]
    assert lazy != [*wanted, 0]


def test_nothing_is_made_before_it_is_needed():
    made = []
    lazy = Chained([Mapped(range(1000), made.append), Mapped(range(1000), lambda n: made.append(n) or n)])
    assert len(lazy) == 2000 and made == []
    assert lazy[1500] == 500 and made == [500]
    assert lazy[1990:1992] == [990, 991] and made == [500, 990, 991]
