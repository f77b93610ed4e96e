"""Test rows: from a file or a data set of the hub, and what is said where there are none."""

import json
from dataclasses import replace

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError
from gold_lightning.data import load_test_rows
from gold_lightning.errors import GoldError
from gold_lightning.task import Field, Sample, StudentFormat, Task, TestData, TestRow, load_task

NEWS = load_task("news_topics")
HUB = TestData(
    hub="someone/news",
    config="plain",
    split="test",
    columns={"text": "headline", "topic": "label"},
    label_names={"0": "World", "1": "Sports", "2": "Business", "3": "Sci/Tech"},
)


def refusal(task, test_file=None):
    with pytest.raises(GoldError) as caught:
        load_test_rows(task, test_file)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (ConnectionError("Couldn't reach 'someone/news' on the Hub\n(ProxyError)"), "a machine that reaches the hub"),
        (FileNotFoundError("Couldn't find any data file at someone/news."), "a machine that reaches the hub"),
        (DatasetNotFoundError("Dataset 'someone/news' doesn't exist on the Hub"), "a machine that reaches the hub"),
        (ValueError("Unknown split \"test\". Should be one of ['train']."), "a test.config and test.split that it has"),
        (ValueError("BuilderConfig 'plain' not found."), "a test.config and test.split that it has"),
        (RuntimeError("x" * 5000), "a machine that reaches the hub"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_hub_data_set_out_of_reach_is_one_line_with_two_ways_out(monkeypatch, error, way_out):
    def load_dataset(*args, **kwargs):
        assert args == ("someone/news", "plain") and kwargs == {"split": "test"}
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    message = refusal(replace(NEWS, test=HUB))
    assert message.startswith("test data someone/news (plain, test): not in the local cache, and the hub did not give")
    assert " ".join(str(error).split())[:120] in message
    assert message.endswith(f"two ways out: --data.test_file FILE, or {way_out}")
    assert len(message) < 400


def test_a_data_set_that_is_not_cached_is_not_found_without_a_hub():
    # For real: the suite runs with HF_HUB_OFFLINE=1.
    message = refusal(replace(NEWS, test=TestData(hub="no-such-person/no-such-set", split="dev")))
    assert message.startswith("test data no-such-person/no-such-set (dev): not in the local cache")
    assert message.endswith("two ways out: --data.test_file FILE, or a machine that reaches the hub")


def test_rows_of_the_hub_are_read_by_column_and_label_name(monkeypatch):
    rows = [{"headline": "Goal!", "label": 1}, {"headline": "Shares fell.", "label": 2}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
    found = load_test_rows(replace(NEWS, test=HUB))
    assert found == [TestRow({"text": "Goal!"}, "Sports"), TestRow({"text": "Shares fell."}, "Business")]
    assert found[0].targets == ("Sports",)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no rows"),
        ([{"headline": "Goal!"}], "row 0 has no column 'label'; it has ['headline']"),
        ([{"headline": "Goal!", "label": [1, 2]}], "row 0 has 2 different targets; expected one"),
        ([{"headline": "Goal!", "label": []}], "row 0 has 0 different targets; expected one"),
        ([{"headline": "Goal!", "label": {"id": 1}}], "row 0 has in place of a target the keys ['id']; name one"),
        ([{"headline": "Goal!", "label": 4}], "row 0 has the label '4', none of ['World', "),
    ],
)
def test_rows_that_do_not_fit_the_task(monkeypatch, rows, told):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    assert told in refusal(replace(NEWS, test=HUB))


def test_a_file_that_is_not_there_or_no_json_lines(tmp_path):
    gone = tmp_path / "gone.jsonl"
    assert refusal(NEWS, str(gone)) == f"test data {gone}: No such file or directory"
    gone.write_text("{")
    assert refusal(NEWS, str(gone)).startswith(f"test data {gone}: not JSON Lines")


def test_a_task_that_names_no_test_data():
    assert refusal(replace(NEWS, test=TestData())).endswith("names no test data; give --data.test_file FILE")


ANSWERS = Task(
    name="answers",
    description="Questions about a text.",
    fields=(Field("text", "a text"), Field("question", "a question")),
    target=Field("answer", "words of the text"),
    demos=(Sample({"text": "Mara lives in Oslo.", "question": "Where?"}, "Oslo"),),
    student=StudentFormat("{text} {question}", "{answer}"),
    test=TestData(columns={"text": "context", "answer": "answers.text"}),
)
ROW = {"context": "Ann has 3 of them.", "question": "How many?"}


def rows_of(tmp_path, rows, task=ANSWERS):
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_test_rows(task, str(path))


def test_several_answers_of_a_row(tmp_path):
    rows = [
        ROW | {"answers": {"text": ["3", "3 of them", "3"], "answer_start": [8, 8, 8]}},
        ROW | {"answers.text": 3},  # a column of that very name
    ]
    first, second = rows_of(tmp_path, rows)
    assert first == TestRow({"text": "Ann has 3 of them.", "question": "How many?"}, "3", ("3 of them",))
    assert first.targets == ("3", "3 of them")
    assert second.targets == ("3",)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"answers": {"text": []}}, "row 0 has 0 different targets; expected one or more"),
        (
            {"answers": {"texts": ["3"]}},
            "row 0 has no column 'answers.text'; it has ['answers', 'context', 'question']",
        ),
        ({"answers": "3"}, "row 0 has no column 'answers.text'"),
        ({"answers": None}, "row 0 has no column 'answers.text'"),
        ({"answers": "a text"}, "row 0 has no column 'answers.text'"),
        ({"answers": ["3"]}, "row 0 has no column 'answers.text'"),
    ],
)
def test_answers_that_are_not_there(tmp_path, row, told):
    with pytest.raises(GoldError) as caught:
        rows_of(tmp_path, [ROW | row])
    assert told in str(caught.value)


def test_the_keys_of_a_target_are_told(tmp_path):
    task = replace(ANSWERS, test=TestData(columns={"text": "context", "answer": "answers"}))
    with pytest.raises(GoldError, match=r"the keys \['answer_start', 'text'\]; name one .* COLUMN\.answer_start"):
        rows_of(tmp_path, [ROW | {"answers": {"text": ["3"], "answer_start": [8]}}], task)
