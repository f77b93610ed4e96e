"""Test rows: from a file or a data set of the hub, and what is said where there are none."""

import csv
import json
from dataclasses import replace

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from datasets.exceptions import DatasetNotFoundError
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.rows import check_rows_file, labels_as_read, load_rows, load_test_rows
from gold_lightning.task import Field, Sample, StudentFormat, Task, TestData, TestRow
from gold_lightning.task_file import load_task

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


# Files of all kinds

SUMS = Task(
    name="sums",
    description="A text and its number.",
    fields=(Field("text", "a text"), Field("unit", "a unit")),
    target=Field("number", "the number in it"),
    demos=(Sample({"text": "Three cats.", "unit": "cats"}, "3"),),
    student=StudentFormat("{text} {unit}", "{number}"),
)
ODD = [
    {"text": "Agent 007 said:\nno.", "unit": "agents", "number": "007"},
    {"text": 'He wrote "1,5", then NA.', "unit": "", "number": "1,5"},
    {"text": "One\u2028line \x85 only, 1e3.", "unit": "NA", "number": "1e3"},
]


def written(folder, ending, rows):
    path = folder / f"rows{ending}"
    if ending == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif ending == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet", ".CSV"])
def test_texts_come_out_as_they_stand(tmp_path, ending):
    # Text that looks like a number or like nothing, quoted line breaks and quotes, other line separators.
    path = written(tmp_path, ending.lower(), ODD).rename(tmp_path / f"rows{ending}")
    found = load_rows(SUMS, path)
    assert found == [TestRow({"text": r["text"], "unit": r["unit"]}, r["number"]) for r in ODD]


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path, ending):
    path = written(tmp_path, ending, ODD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_rows(SUMS, path)[0].target == "007"


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_lists_of_answers(tmp_path, ending):
    answers = {"text": ["3", "3 of them", "3"], "answer_start": [8, 8, 8]}
    (found,) = load_rows(ANSWERS, written(tmp_path, ending, [ROW | {"answers": answers}]))
    assert found.targets == ("3", "3 of them")


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_an_empty_cell_is_an_empty_text_but_no_target(tmp_path, ending):
    rows = [dict(ODD[0]), {"text": "x", "unit": None, "number": "2"}]
    assert load_rows(SUMS, written(tmp_path, ending, rows))[1].fields == {"text": "x", "unit": ""}
    rows[1]["number"] = None
    with pytest.raises(GoldError, match="row 1 has 0 different targets"):
        load_rows(SUMS, written(tmp_path, ending, rows))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "text,unit,number\na,b\n", "row 0 has 2 cells, the first line 3"),
        ("a.csv", "text,unit,text\na,b,c\n", "two columns have the name 'text'"),
        ("a.csv", 'text,unit,number\n"a,b,c\n', "not CSV (unexpected end of data)"),
        ("a.csv", "text,unit,number\n", "no rows"),
        ("a.csv", "", "no rows"),
        ("a.csv", b"PAR1\x00\xff\xfe", "not CSV"),
        ("a.csv", '{"text": "' + "x" * 500 + '"}\n{"text": "a"}\n', "row 0 has no column 'text'; it has ['"),
        ("a.jsonl", "text,unit,number\na,b,c\n", "not JSON Lines"),
        ("a.jsonl", '["a"]\n', "not JSON Lines (line 1 is no object of columns and values)"),
        ("a.jsonl", '{"text": ["a"], "unit": "b", "number": 1}\n', "row 0 has ['a'] in the column 'text'; expected"),
        ("a.parquet", "text,unit,number\na,b,c\n", "not Parquet"),
        ("a.tsv", "text\tunit\tnumber\n", "the ending '.tsv' is none of .jsonl, .json, .csv and .parquet"),
    ],
)
def test_a_file_that_is_not_what_its_ending_says(tmp_path, name, content, told):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(GoldError) as caught:
        load_rows(SUMS, path, "labelled data")
    message = str(caught.value)
    assert message.startswith(f"labelled data {path}: ") and told in message
    assert len(message.splitlines()) == 1 and len(message) < 500


def test_a_path_is_checked_before_anything_is_loaded_for_it(tmp_path):
    for name, hint in (("gone.csv", ""), (".", ""), ("a.tsv", "; the ending tells how it is read")):
        (tmp_path / "a.tsv").touch()
        with pytest.raises(ConfigError) as caught:
            check_rows_file("data.test_file", str(tmp_path / name))
        told = str(caught.value)
        assert told.startswith("data.test_file: got ")
        assert told.endswith("expected the path of a .jsonl, .json, .csv or .parquet file" + hint)
    check_rows_file("data.test_file", str(written(tmp_path, ".csv", ODD)))


# Labels by name


def with_names(names, rows):
    kinds = {"headline": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))}
    return datasets.Dataset.from_list(rows, features=datasets.Features(kinds))


RIGHT = ["world", "sports", "business", "sci tech"]  # the same names, written otherwise
TURNED = ["sports", "world", "business", "sci tech"]
ROWS = [{"headline": "Goal!", "label": 1}, {"headline": "Shares fell.", "label": 2}]


@pytest.fixture(params=["hub", "parquet"])
def named(request, monkeypatch, tmp_path):
    """Reads rows whose data set names its numbers: from the hub, or from a Parquet file made of such a data set."""

    def read(names, task):
        made = with_names(names, ROWS)
        if request.param == "hub":
            monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
            return load_test_rows(task)
        made.to_parquet(tmp_path / "x.parquet")
        return load_test_rows(task, str(tmp_path / "x.parquet"))

    return read


def test_a_data_sets_own_names_agree_with_the_tasks(named):
    assert [r.target for r in named(RIGHT, replace(NEWS, test=HUB))] == ["Sports", "Business"]


def test_numbers_in_another_order_are_refused_by_name(named):
    with pytest.raises(GoldError) as caught:
        named(TURNED, replace(NEWS, test=HUB))
    assert "the label 1, which the data set calls 'world' and the task's test.label_names 'Sports'" in str(caught.value)
    assert str(caught.value).endswith("make test.label_names.1 'World'")


def test_a_data_sets_own_names_do_without_label_names(named):
    bare = replace(NEWS, test=replace(HUB, label_names={}))
    assert [r.target for r in named(TURNED, bare)] == ["World", "Business"]
    other = replace(NEWS, test=replace(HUB, label_names={"foot": "Sports", "money": "Business"}))
    assert [r.target for r in named(["earth", "foot", "money", "lab"], other)] == ["Sports", "Business"]


def test_names_that_mean_nothing_to_the_task_leave_label_names_alone(named):
    assert [r.target for r in named(["a", "b", "c", "d"], replace(NEWS, test=HUB))] == ["Sports", "Business"]


def test_how_labels_were_read_is_told_unless_they_are_names():
    rows = [TestRow({}, "no", value="1"), TestRow({}, "yes", value="0"), TestRow({}, "no", value="1")]
    assert labels_as_read(rows) == "0 = yes (1 rows), 1 = no (2 rows)"
    assert labels_as_read([TestRow({}, "no", value="no")]) == ""
