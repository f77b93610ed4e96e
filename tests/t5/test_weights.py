"""Students that are not there."""

import doctest

import pytest
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.t5 import weights
from gold_lightning.t5.weights import load_model, load_tokenizer


@pytest.mark.parametrize("load", [load_tokenizer, load_model])
def test_a_student_of_earlier_versions_names_its_replacement(load):
    with pytest.raises(ConfigError) as caught:
        load("generator-embeddings")
    assert (caught.value.key, caught.value.value) == ("model.student", "generator-embeddings")
    assert "embedded replaces it" in str(caught.value)


@pytest.mark.parametrize("load", [load_tokenizer, load_model])
def test_a_missing_student_is_told_in_one_line_with_two_ways_out(load):
    with pytest.raises(GoldError) as caught:
        load("no-such-org/no-such-t5")
    message = str(caught.value)
    assert "\n" not in message and "no-such-org/no-such-t5" in message
    assert "--model.student FOLDER" in message and "--model.student embedded" in message


def test_the_examples_run():
    results = doctest.testmod(weights)
    assert results.attempted and not results.failed
