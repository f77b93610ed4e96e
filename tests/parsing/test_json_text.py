"""JSON is read strictly and compared as data."""

import pytest
from gold_lightning.parsing.json_text import read_json, same_json


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ('{"a": 1, "b": "x"}', '{ "b":"x",\n"a":1 }', True),
        ('{"a": {"b": [1, 2], "c": null}}', '{"a": {"c": null, "b": [1, 2]}}', True),
        ("[1, 2]", "[2, 1]", False),
        ("1", "1.0", True),
        ("0.50", "5e-1", True),
        ("-0.0", "0", True),
        ("1e3", "1000", True),
        ("1", "true", False),
        ("0", "false", False),
        ("null", '""', False),
        ('"1"', "1", False),
        ('"A"', '"a"', False),
        ('"caf\\u00e9"', '"caf\u00e9"', True),
        ('{"a": 1}', '{"a": 1, "b": null}', False),
        ("nonsense", "nonsense", False),
        ('{"a": 1, "a": 1}', '{"a": 1}', False),
        ("NaN", "NaN", False),
        ("1e999", "1e999", False),
        ('{"a": 1} and more', '{"a": 1}', False),
        ("", "", False),
    ],
)
def test_same_data(first, second, same):
    assert same_json(first, second) == same_json(second, first) == same


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 5_000 + "1" + "}" * 5_000, "9" * 5_000]
)
def test_hostile_text_is_no_json(text):
    with pytest.raises(ValueError):
        read_json(text)
    assert not same_json(text, text)


def test_values():
    assert read_json(' {"a": [1.5, 2.0, true, null, "\\ud83d\\ude00"]} ') == {"a": [1.5, 2, True, None, "\U0001f600"]}
    assert type(read_json("2.0")) is int
    with pytest.raises(ValueError, match="a key stands twice"):
        read_json('[{"a": 1, "a": 2}]')
