"""Strategies, which all choose as much of each label, and the pool: bounded, deterministic, plain."""

import doctest
import random

import pytest
import torch
from gold_lightning import feedback
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.feedback import (
    STRATEGIES,
    EnergyBand,
    FeedbackPool,
    FeedbackStrategy,
    LossTop,
    PoolEntry,
    ScoredProbe,
    choose,
    make_strategy,
    strategy_name,
    strategy_settings,
)
from gold_lightning.task import Sample
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import Shortest


def probe(energies, losses=None, groups=None, **how):
    n = len(energies)
    samples = tuple(Sample({"text": "x" * (n - i)}, "") for i in range(n))
    settings = {"round": 0, "seed": 1, "alpha": 0.5, "beta": 0.8} | how
    return ScoredProbe(
        samples=samples,
        energies=tuple(energies),
        losses=tuple(losses or [0.0] * n),
        groups=tuple(groups or [""] * n),
        **settings,
    )


ENERGIES = [5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 7.0, 6.0, 8.0, 0.0]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("energy_band", [0, 6, 7]),  # the ranks 5, 6 and 7 of ten: 5.0, 6.0, 7.0
        ("energy_top", [5, 6, 8]),
        ("energy_bottom", [1, 3, 9]),
        ("loss_top", [0, 1, 2]),
        ("none", []),
    ],
)
def test_by_hand(name, wanted):
    assert choose(make_strategy(name), probe(ENERGIES, losses=[-float(i) for i in range(10)])) == wanted


def test_within_labels():
    energies, groups = [1, 2, 3, 4, 101, 102, 103, 104], ["a"] * 4 + ["b"] * 4
    found = {
        name: choose(make_strategy(name), probe(energies, energies, groups, alpha=0.25, beta=0.75))
        for name in STRATEGIES
    }
    assert found["energy_band"] == [1, 2, 5, 6]
    assert found["energy_top"] == found["loss_top"] == [2, 3, 6, 7]
    assert found["energy_bottom"] == [0, 1, 4, 5]
    assert len(found["random"]) == 4


@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(0, 9), st.sampled_from("abc")), max_size=40),
    st.floats(0, 0.9),
    st.floats(0.01, 1),
)
def test_all_but_none_give_as_much_of_each_label(rows, alpha, width):
    energies, losses, groups = zip(*rows, strict=True) if rows else ((), (), ())
    scored = probe(energies, losses, groups, alpha=alpha, beta=min(1.0, alpha + width))
    counts = {}
    for name in STRATEGIES:
        chosen = choose(make_strategy(name), scored)
        assert len(set(chosen)) == len(chosen)
        counts[name] = sorted(groups[i] for i in chosen)
    assert counts.pop("none") == []
    assert all(found == counts["energy_band"] for found in counts.values())


def test_random_is_drawn_by_seed_and_round():
    def drawn(**how):
        return choose(make_strategy("random"), probe(range(40), **how))

    assert drawn() == drawn() and len(drawn()) == 12
    assert drawn(seed=2) != drawn() != drawn(round=1)
    # Each is drawn about as often: 0.3 of 200 draws is 60, with a standard deviation of 6.5.
    often = [sum(i in drawn(seed=s) for s in range(200)) for i in range(40)]
    assert 35 < min(often) and max(often) < 85


@pytest.mark.parametrize(("gives", "told"), [([0, 12], "12"), ([-1], "-1"), ([1, 1], "more than once"), ([0.5], "0.5")])
def test_a_strategy_that_gives_no_positions_is_named(gives, told):
    class Wrong(FeedbackStrategy):
        def choose(self, probe):
            return gives

    with pytest.raises(GoldError, match=rf"^feedback\.strategy: Wrong chose .*{told}"):
        choose(Wrong(), probe(range(12)))


def test_names_and_settings():
    own = Shortest(count=2)
    assert make_strategy(own) is own and choose(own, probe(range(5))) == [3, 4]
    assert strategy_name(own) == "tests.fakes.Shortest" and strategy_name(LossTop()) == "loss_top"
    assert strategy_settings(own) == {"name": "tests.fakes.Shortest", "count": 2}
    assert strategy_settings(EnergyBand()) == {"name": "energy_band"}


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
    with pytest.raises(ConfigError) as e:
        FeedbackPool(0)
    assert (e.value.key, e.value.value, e.value.allowed) == ("feedback.capacity", 0, "1 or more")


def test_the_examples_run():
    results = doctest.testmod(feedback)
    assert results.attempted and not results.failed
