"""Test rows: from a file or a data set of the hub, and what is said where there are none."""

from dataclasses import replace

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError
from gold_lightning.data import load_test_rows
from gold_lightning.errors import GoldError
from gold_lightning.task import Sample, TestData, load_task

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
    assert found == [Sample({"text": "Goal!"}, "Sports"), Sample({"text": "Shares fell."}, "Business")]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no rows"),
        ([{"headline": "Goal!"}], "row 0 has no column 'label'; it has ['headline']"),
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
