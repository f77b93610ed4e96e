"""The index of numbers against a dictionary of lists."""

import random
from collections import defaultdict

import pytest
from gold_lightning.storage import number_index
from gold_lightning.storage.number_index import NumberIndex

LARGEST = 2**64 - 1


@pytest.mark.parametrize("newest", [1, 2, 7, 10_000])
@pytest.mark.parametrize("keys", [3, 200, LARGEST])
def test_it_answers_as_a_dictionary_does(monkeypatch, newest, keys):
    monkeypatch.setattr(number_index, "_NEWEST", newest)
    rng, index, plain = random.Random(1), NumberIndex(), defaultdict(list)
    drawn = [0, LARGEST]
    for step in range(600):
        drawn.append(rng.randint(0, keys))
        value = rng.choice([step, LARGEST - step])
        index.add(drawn[-1], value)
        plain[drawn[-1]].append(value)
        if step % 50 == 0:
            more = [(rng.randint(0, keys), rng.randint(0, 9)) for _ in range(rng.choice([1, 30]))]
            index.extend(*zip(*more, strict=True))
            for key, other in more:
                plain[key].append(other)
        asked = [*rng.choices(drawn, k=3), rng.randint(0, keys)]
        assert [sorted(values) for values in index.values_of(asked)] == [sorted(plain[key]) for key in asked]
    assert len(index) == sum(map(len, plain.values())) > 600
    assert all(sorted(index.values(key)) == sorted(values) for key, values in plain.items())


def test_the_oldest_value_comes_first(monkeypatch):
    monkeypatch.setattr(number_index, "_NEWEST", 4)
    index = NumberIndex()
    for value in range(50):
        index.add(7, value)
        index.add(100 + value, value)
    assert index.values(7) == list(range(50))


def test_only_the_newest_entries_can_be_removed(monkeypatch):
    monkeypatch.setattr(number_index, "_NEWEST", 3)
    index = NumberIndex()
    for key, value in [(1, 10), (2, 20), (1, 11)]:
        index.add(key, value)
    index.add(1, 12)
    index.add(1, 13)
    assert not index.discard(1, 10) and not index.discard(1, 99) and not index.discard(3, 1)
    assert index.discard(1, 12) and not index.discard(1, 12)
    assert index.values(1) == [10, 11, 13] and len(index) == 4
    assert index.discard(1, 13) and index.values(1) == [10, 11]


def test_a_million_entries_take_sixteen_bytes_each():
    index = NumberIndex()
    for key in range(1_000_000):
        index.add(hash((key,)) & LARGEST, key)
    size = sum(keys.nbytes + values.nbytes for keys, values in index._arrays)
    assert size <= 16_000_000 and len(index) == 1_000_000 and len(index._newest) < 2**16 and len(index._arrays) < 8
