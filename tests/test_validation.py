"""The samples on which rounds are compared."""

import doctest

from gold_lightning import validation
from gold_lightning.task import Sample
from gold_lightning.validation import WatchedRows

SAMPLES = [Sample({"text": "one"}, "a"), Sample({"text": "two"}, "b")]


def test_the_fingerprint_is_about_samples_and_their_order():
    rows = WatchedRows(SAMPLES, 1).fingerprint
    assert rows == WatchedRows(list(SAMPLES), 2).fingerprint
    assert rows != WatchedRows(SAMPLES[::-1], 1).fingerprint
    assert rows != WatchedRows([SAMPLES[0], Sample({"text": "two"}, "a")], 1).fingerprint


def test_the_examples_run():
    results = doctest.testmod(validation)
    assert results.attempted and not results.failed
