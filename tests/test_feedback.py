"""What is fed back: chosen by hand here, and as much of each label by every strategy."""

import pytest
from gold_lightning.errors import GoldError
from gold_lightning.feedback import (
    STRATEGIES,
    EnergyBand,
    FeedbackStrategy,
    LossTop,
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
