"""The order of training rows."""

import itertools

import numpy as np
import pytest
from gold_lightning.t5.batch_order import training_order


def lengths(rows, seed=0):
    """Lengths in tokens with the spread of news items: half of them within 30 % of the median."""
    return np.random.default_rng(seed).lognormal(4.0, 0.4, rows).clip(8, 128).astype(np.int64)


def padding(sizes, order, batch_rows):
    batches = [sizes[order[i : i + batch_rows]] for i in range(0, len(order), batch_rows)]
    filled = sum(int(batch.max()) * len(batch) for batch in batches)
    return 1 - sum(int(batch.sum()) for batch in batches) / filled


@pytest.mark.parametrize("window", [None, 1, 3])
def test_each_pass_has_each_row_once(window):
    for rows, batch_rows, passes in itertools.product((1, 2, 7, 16, 23, 61), (1, 4, 16), (1, 2, 3)):
        order = training_order(lengths(rows), batch_rows, rows * passes, "s", window)
        for one in order.reshape(passes, rows):
            assert sorted(one.tolist()) == list(range(rows))
    assert len(training_order(lengths(0), 4, 0, "s", window)) == 0


def test_a_last_pass_may_be_a_part():
    order = training_order(lengths(10), 4, 25, "s").tolist()
    assert (
        len(order) == 25 and sorted(order[:10]) == sorted(order[10:20]) == list(range(10)) and len(set(order[20:])) == 5
    )


def test_padding_is_a_few_percent_where_a_random_order_has_a_third():
    sizes = lengths(2_000)
    by_length, random_order = (training_order(sizes, 16, 3 * 2_000, "s", window) for window in (None, 1))
    assert padding(sizes, by_length, 16) < 0.05 < 0.3 < padding(sizes, random_order, 16)


def test_a_batch_over_the_end_of_a_pass_has_rows_of_one_size():
    sizes = np.arange(1_001)
    order = training_order(sizes, 16, 4_004, "s", 8)
    for end in (1_001, 2_002, 3_003):
        (spread,) = {int(np.ptp(sizes[order[end - end % 16 : end - end % 16 + 16]]))}
        assert spread < 20


def test_a_seed_decides_and_passes_differ():
    sizes = lengths(240)
    one, same, other = (training_order(sizes, 16, 480, seed, None).tolist() for seed in "aab")
    assert one == same != other
    batches = [{frozenset(half[i : i + 16]) for i in range(0, 240, 16)} for half in (one[:240], one[240:])]
    assert not batches[0] & batches[1]


def test_batches_of_a_window_come_in_a_random_order():
    sizes = lengths(2_048)
    means = sizes[training_order(sizes, 16, 2_048, "s")].reshape(-1, 16).mean(1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2
