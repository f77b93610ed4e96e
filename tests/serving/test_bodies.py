"""Bodies of requests: what is read, and the status and key of what is refused."""

import json

import pytest
from gold_lightning.serving.bodies import RequestError, read_body
from gold_lightning.serving.settings import ServeSettings
from gold_lightning.task import Task

ONE, TWO = Task.load("news_topics"), Task.load("rte")
LIMITS = ServeSettings(max_rows=3, max_chars=10)


@pytest.mark.parametrize(
    ("task", "content", "rows", "many"),
    [
        (ONE, "a b", [{"text": "a b"}], False),
        (ONE, {"text": "a", "id": 7}, [{"text": "a"}], False),
        (ONE, ["a", {"text": "\u65e5"}], [{"text": "a"}, {"text": "\u65e5"}], True),
        (ONE, [], [], True),
        (TWO, {"sentence1": "a", "sentence2": ""}, [{"sentence1": "a", "sentence2": ""}], False),
    ],
)
def test_texts_are_read_as_predict_takes_them(task, content, rows, many):
    assert {field.name for field in TWO.fields} == {"sentence1", "sentence2"}
    assert read_body(task, json.dumps(content).encode(), LIMITS) == (rows, many)


@pytest.mark.parametrize(
    ("task", "body", "status", "key"),
    [
        (ONE, b"", 400, "body"),
        (ONE, b"text=a", 400, "body"),
        (ONE, b'"\xff"', 400, "body"),
        (ONE, b"NaN", 400, "body"),
        (ONE, b'["a", NaN]', 400, "body"),
        (ONE, b'"\\ud800"', 400, "body"),
        (ONE, b"[" * 100_000, 400, "body"),
        (ONE, b"9" * 10_000, 400, "body"),
        (ONE, b"3", 422, "body"),
        (ONE, b"null", 422, "body"),
        (ONE, b"1e999", 422, "body"),
        (ONE, b'" \\n"', 422, "body"),
        (ONE, b'{"TEXT": "a"}', 422, "body"),
        (ONE, b'{"text": null}', 422, "text"),
        (ONE, b'["a", {"text": ["b"]}]', 422, "[1].text"),
        (ONE, b'["a", ["b"]]', 422, "[1]"),
        (TWO, b'"a"', 422, "body"),
        (TWO, b'[{"sentence1": "a"}]', 422, "[0]"),
        (ONE, b'["a", "b", "c", "d"]', 413, "body"),
        (ONE, b'["a", "12345678901"]', 413, "[1].text"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_key(task, body, status, key):
    with pytest.raises(RequestError) as refused:
        read_body(task, body, LIMITS)
    assert (refused.value.status, str(refused.value).split(": ")[0]) == (status, key)
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)
