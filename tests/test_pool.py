"""The feedback pool: bounded, deterministic, plain."""

import random

import pytest
import torch
from gold_lightning.errors import ConfigError
from gold_lightning.feedback import FeedbackPool, PoolEntry
from gold_lightning.task import Sample


def entry(number, target="A", energy=None, round_=0):
    energy = float(number) if energy is None else energy
    return PoolEntry(f"r{round_:03d}-probe-{number:05d}", Sample({"text": f"text {number}"}, target), energy, round_)


def filled(capacity=64, rounds=3, each=10, shuffle=None):
    pool = FeedbackPool(capacity)
    for r in range(rounds):
        entries = [entry(i, "AB"[i % 2], energy=float(i * 7 % each), round_=r) for i in range(each)]
        if shuffle is not None:
            shuffle.shuffle(entries)
        pool.push(entries, by_label=True)
    return pool


@pytest.mark.parametrize("capacity", [1, 3, 5])
def test_bounded_for_each_label(capacity):
    pool = filled(capacity)
    assert len(pool.entries("A")) == len(pool.entries("B")) == capacity
    assert len(pool) == 2 * capacity


def test_oldest_rounds_leave_first_then_the_lowest_energies():
    pool = FeedbackPool(3)
    pool.push([entry(i, round_=0) for i in range(3)], by_label=True)
    pool.push([entry(9, round_=1, energy=-5.0)], by_label=True)
    assert [(e.round, e.energy) for e in pool.entries("A")] == [(1, -5.0), (0, 2.0), (0, 1.0)]
    pool.push([entry(i, round_=2) for i in range(5)], by_label=True)
    assert [(e.round, e.energy) for e in pool.entries("A")] == [(2, 4.0), (2, 3.0), (2, 2.0)]


def test_a_label_does_not_starve_another():
    pool = FeedbackPool(2)
    pool.push([entry(0, "B")], by_label=True)
    pool.push([entry(i, "A", round_=1) for i in range(20)], by_label=True)
    assert [e.sample.target for e in pool.entries("B")] == ["B"]


def test_without_labels_there_is_one_share():
    pool = FeedbackPool(3)
    pool.push([entry(i, target=f"free text {i}") for i in range(5)], by_label=False)
    assert [e.energy for e in pool.entries()] == [4.0, 3.0, 2.0]
    assert pool.entries("free text 4") == ()


@pytest.mark.parametrize("seed", range(5))
def test_order_of_pushing_within_a_round_does_not_matter(seed):
    assert filled(4, shuffle=random.Random(seed)).state_dict() == filled(4).state_dict()


def test_pushing_in_parts_is_pushing_at_once():
    entries = [entry(i, energy=float(i * 7 % 10)) for i in range(10)]
    whole, parts = FeedbackPool(4), FeedbackPool(4)
    whole.push(entries, by_label=True)
    for e in entries:
        parts.push([e], by_label=True)
    assert whole.state_dict() == parts.state_dict()


def test_pushing_twice_is_pushing_once():
    pool = FeedbackPool(8)
    for _ in range(2):
        pool.push([entry(i) for i in range(4)], by_label=True)
    assert len(pool) == 4
    pool.push([entry(1, energy=99.0)], by_label=True)
    assert pool.entries("A")[0].energy == 99.0
    assert len(pool) == 4


def test_draw_is_deterministic_and_without_repeats():
    pool = filled()
    drawn = pool.draw(4, random.Random(5), "A")
    assert drawn == pool.draw(4, random.Random(5), "A")
    assert len({e.id for e in drawn}) == 4
    assert {e.sample.target for e in drawn} == {"A"}
    assert len(pool.draw(99, random.Random(5), "A")) == 15
    assert pool.draw(3, random.Random(5), "nowhere") == []


def test_state_survives_torch_load_with_weights_only(tmp_path):
    pool = filled(7)
    pool.push([PoolEntry("r9", Sample({"text": 'quote " and \ud800 and \u2028'}, "A"), -1.5, 9)], by_label=True)
    torch.save({"pool": pool.state_dict()}, tmp_path / "x.ckpt")
    fresh = FeedbackPool(7)
    fresh.push([entry(77)], by_label=True)  # is replaced, not kept
    fresh.load_state_dict(torch.load(tmp_path / "x.ckpt", weights_only=True)["pool"])
    assert fresh.state_dict() == pool.state_dict()
    for label in "AB":
        assert fresh.entries(label) == pool.entries(label)
        assert fresh.draw(3, random.Random(1), label) == pool.draw(3, random.Random(1), label)


def test_hints_survive_and_a_state_without_them_loads():
    pool = FeedbackPool()
    pool.push([PoolEntry("a", Sample({"text": "t"}, "A"), 1.0, 0, {"topic": "ships"})], by_label=True)
    fresh = FeedbackPool()
    fresh.load_state_dict(pool.state_dict())
    assert fresh.entries("A") == pool.entries("A") and fresh.entries("A")[0].hint == {"topic": "ships"}
    state = pool.state_dict()
    del state["entries"]["A"][0]["hint"]  # of an earlier version
    fresh.load_state_dict(state)
    assert fresh.entries("A")[0].hint == {}


def test_state_is_a_copy():
    pool = filled()
    state, before = pool.state_dict(), len(pool)
    state["entries"]["A"].clear()
    assert len(pool) == before


def test_wrong_capacity():
    with pytest.raises(ConfigError, match=r"^feedback\.capacity: got 0"):
        FeedbackPool(0)
