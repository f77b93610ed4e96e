"""Label noise: seeded, growing with its share, and only ever to another label."""

import doctest

import pytest
from gold_lightning import noise
from gold_lightning.errors import ConfigError
from gold_lightning.noise import LabelNoise
from gold_lightning.storage.round_store import StoredSample
from gold_lightning.task import Sample

LABELS = ("a", "b", "c")
IDS = [f"r000-train-{i:05d}" for i in range(400)]


def stored(id_, target="a", preferred=""):
    agrees = preferred == target if preferred else None
    return StoredSample(id_, Sample({"text": id_}, target), 0, "", label_agrees=agrees, preferred_label=preferred)


def test_a_share_of_the_labels_changes_to_any_other():
    changed = [LabelNoise(0.25, LABELS, seed=1).apply(stored(i)).sample.target for i in IDS]
    # 100 of 400 expected, with a standard deviation of 8.7; half of them to each other label.
    assert 65 <= sum(target != "a" for target in changed) <= 135
    assert min(changed.count("b"), changed.count("c")) > 20
    assert [LabelNoise(0.25, LABELS, seed=1).apply(stored(i)).sample.target for i in IDS] == changed
    assert [LabelNoise(0.25, LABELS, seed=2).apply(stored(i)).sample.target for i in IDS] != changed


def test_a_larger_share_contains_a_smaller_one():
    small, large = ({i for i in IDS if LabelNoise(share, LABELS, seed=1).flips(i)} for share in (0.1, 0.4))
    assert small and small < large and not any(LabelNoise(0.0, LABELS, seed=1).flips(i) for i in IDS)


def test_whether_the_generator_agrees_follows_the_new_label():
    flip = LabelNoise(1.0, ("a", "b"), seed=1)
    assert flip.apply(stored("x", "a", preferred="a")).label_agrees is False
    assert flip.apply(stored("x", "a", preferred="b")).label_agrees is True
    assert flip.apply(stored("x", "a")).label_agrees is None


@pytest.mark.parametrize(("share", "labels"), [(-0.1, LABELS), (1.5, LABELS), (float("nan"), LABELS), (0.2, ("a",))])
def test_a_wrong_share_names_its_key(share, labels):
    with pytest.raises(ConfigError) as e:
        LabelNoise(share, labels, seed=1)
    assert e.value.key == "data.label_noise" and str(e.value.value) == str(share)


def test_the_examples_run():
    results = doctest.testmod(noise)
    assert results.attempted and not results.failed
