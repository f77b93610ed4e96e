"""Test rows: from a file or a data set of the hub, and what is said where there are none."""

import csv
import gzip
import json
import random
from dataclasses import replace

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from datasets.exceptions import DatasetNotFoundError
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.labelled import (
    TestSet,
    check_rows_file,
    labels_as_read,
    load_rows,
    load_test_rows,
    load_validation_rows,
)
from gold_lightning.task import Field, Label, Sample, StudentFormat, Task, TestData, TestRow

NEWS = Task.load("news_topics")
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
        ([{"headline": "Goal!", "label": {"id": 1}}], "row 0 has the keys ['id'] in place of a target; name one"),
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
        ({"answers": {"text": None}}, "row 0 has 0 different targets; expected one or more"),
        ({"answers": {"text": ""}}, "row 0 has 0 different targets; expected one or more"),
        ({"answers": {"text": []}}, "no row has an answer; a task whose target has min_chars: 0 keeps such rows"),
        ({"answers": {"text": [["3"]]}}, "row 0 has ['3'] among its targets; expected text"),
        ({"answers": [{"text": "3"}, {"no": 4}]}, "row 0 has no column 'answers.text'"),
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
    with pytest.raises(
        GoldError, match=r"the keys \['answer_start', 'text'\] in place of a target; name one .* COLUMN\.answer_start"
    ):
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
    elif ending in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if ending == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".CSV"])
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
        ("a.csv", 'text,unit,number\n"a,b,c\n', "not CSV (line 2: unexpected end of data)"),
        ("a.csv", "text,unit,number\n", "no rows"),
        ("a.csv", "", "no rows"),
        ("a.csv", b"PAR1\x00\xff\xfe", "not CSV"),
        ("a.csv", '{"text": "' + "x" * 500 + '"}\n{"text": "a"}\n', "row 0 has no column 'text'; it has ['"),
        ("a.jsonl", "text,unit,number\na,b,c\n", "not JSON Lines"),
        ("a.jsonl", '["a"]\n', "not JSON Lines (row 0 is not an object of columns and values)"),
        ("a.jsonl", '{"text": ["a"], "unit": "b", "number": 1}\n', "row 0 has ['a'] in the column 'text'; expected"),
        ("a.parquet", "text,unit,number\na,b,c\n", "not Parquet"),
        (
            "a.txt",
            "text\tunit\tnumber\n",
            "the ending '.txt' is none of .jsonl, .ndjson, .json, .csv, .tsv and .parquet",
        ),
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
    ending = "; the ending names the format, and .gz may follow"
    others = [(name, ending) for name in ("a.txt", "a.csv.zip", "a.gz", "a.parquet.gz", "a")]
    for name, hint in (("gone.csv", ""), (".", ""), *others):
        if name[0] == "a":
            (tmp_path / name).touch()
        with pytest.raises(ConfigError) as caught:
            check_rows_file("data.test_file", str(tmp_path / name))
        told = str(caught.value)
        assert told.startswith("data.test_file: got ")
        assert told.endswith("expected the path of a .jsonl, .ndjson, .json, .csv, .tsv or .parquet file" + hint)
    check_rows_file("data.test_file", str(written(tmp_path, ".csv", ODD)))


# What a file may be in other ways

WANTED = [TestRow({"text": "One, two.", "unit": "é"}, "1"), TestRow({"text": "Three.", "unit": ""}, "3")]
LINES = [{"text": "One, two.", "unit": "é", "number": "1"}, {"text": "Three.", "unit": "", "number": 3}]
COLUMNS = {k: {str(i): row[k] for i, row in enumerate(LINES)} for k in LINES[0]}
SHORT = '{"text":"One, two.","unit":"é","number":"1"}'


def read(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_rows(SUMS, path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(LINES)),
        ("a.json", "\n" + json.dumps(LINES, indent=2, ensure_ascii=False) + "\n"),
        ("a.jsonl", json.dumps(LINES)),
        ("a.json", "\n".join(json.dumps(row) for row in LINES)),
        ("a.json", "\n".join(json.dumps(row, indent=1) for row in LINES)),  # as jq writes
        ("a.jsonl", "".join(json.dumps(row) for row in LINES)),
        ("a.ndjson", "\r\n".join(json.dumps(row) for row in LINES)),
        ("a.jsonl", "\r".join(json.dumps(row) for row in LINES)),
        ("a.json", b"\xef\xbb\xbf" + json.dumps(LINES).encode()),
        ("a.jsonl.gz", gzip.compress("\n".join(map(json.dumps, LINES)).encode(), mtime=0)),
        ("a.csv", 'text,unit,number\n"One, two.",é,1\nThree.,,3\n'),
        ("a.csv", 'text,unit,number\r"One, two.",é,1\rThree.,,3\r'),
        ("a.csv", 'text, unit ,number\r\n\r\n"One, two.",é,1\r\nThree.,,3'),
        ("a.csv", "text;unit;number\nOne, two.;é;1\nThree.;;3\n"),
        ("a.csv", "\ufefftext;unit;number\r\nOne, two.;é;1\r\nThree.;;3\r\n"),
        ("a.csv", "sep=|\r\ntext|unit|number\r\nOne, two.|é|1\r\nThree.||3\r\n"),
        ("a.csv", "text\tunit\tnumber\nOne, two.\té\t1\nThree.\t\t3\n"),
        ("a.csv", ',text,unit,number,\n0,"One, two.",é,1,\n1,Three.,,3,\n'),  # pandas' index, and an empty column
        ("a.csv.GZ", gzip.compress('text,unit,number\n"One, two.",é,1\nThree.,,3\n'.encode(), mtime=0)),
        ("a.tsv", "text\tunit\tnumber\nOne, two.\té\t1\nThree.\t\t3\n"),
        ("a.tsv", 'text,unit,number\n"One, two.",é,1\nThree.,,3\n'),
        ("a.b.csv", 'text,unit,number\n"One, two.",é,1\nThree.,,3\n'),
    ],
)
def test_other_ways_to_write_rows(tmp_path, name, content):
    assert read(tmp_path, name, content) == WANTED


def test_tabs_between_texts_that_hold_quotes_of_their_own(tmp_path):
    first, second = read(tmp_path, "a.tsv", 'text\tunit\tnumber\n"Oh" he said\t"\t1\n"No\tx\t2\n')
    assert (first.fields, second.fields) == ({"text": '"Oh" he said', "unit": '"'}, {"text": '"No', "unit": "x"})


def test_a_long_field_and_the_limit_of_others_stays(tmp_path):
    before = csv.field_size_limit()
    (found,) = read(tmp_path, "a.csv", f'text,unit,number\n"{"word " * 50_000}",x,1\n')
    assert len(found.fields["text"]) == 250_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "a.json",
            json.dumps({name: [*values.values()] for name, values in COLUMNS.items()}),
            "one object with all rows",
        ),
        (
            "a.json",
            json.dumps(COLUMNS),
            "one object with all rows; write rows: in pandas to_json(..., orient='rec",
        ),
        ("a.json", json.dumps(dict(enumerate(LINES))), "orient='records', lines=True)"),
        ("a.json", json.dumps({"columns": ["text"], "index": [0], "data": [["a"]]}), "orient='records', lines=True)"),
        ("a.json", json.dumps([["a", "b", 1]]), "row 0 is a list, not an object"),
        ("a.json", json.dumps({"data": LINES, "version": "2"}), "one object with the rows under 'data' or deeper"),
        ("a.json", json.dumps({"schema": {}, "data": LINES}, indent=1), "one object with the rows under 'data'"),
        ("a.json", json.dumps([LINES[0], 5]), "row 1 is not an object of columns and values"),
        ("a.json", "", "no rows"),
        ("a.json", "[]", "no rows"),
        ("a.json", "{}", "row 0 has no column 'text'; it has []"),
        ("a.json", "null", "line 1 is not an object"),
        ("a.json", json.dumps(LINES)[:-3], "not JSON (Expecting"),
        ("a.jsonl", SHORT + "\n{'text': 1}\n", "not JSON Lines (line 2: Expecting property name"),
        ("a.jsonl", SHORT + "\n\n" + SHORT[:-2], "line 3: Unterminated string"),
        ("a.jsonl", '{"text": "a", "text": "b"}', "the key 'text' appears twice in an object"),
        ("a.jsonl", "[" * 100_000, "nested too deeply"),
        ("a.csv", "text,unit,number\na,b,1\na,b,1,2\n", "row 1 has 4 cells, the first line 3"),
        ("a.csv", 'text,unit,number\n"a" b,c,1\n', "line 2: ',' expected after '\"'"),
        ("a.csv", "text,unit,number\na,b\0,1\n", "line 2 contains a NUL byte; if the file is UTF-16"),
        (
            "a.csv",
            "text,unit,number\nä,b,1\n".encode("latin-1"),
            "byte 0xe4 in line 2 is not UTF-8; if the file is Latin",
        ),
        ("a.csv", "text,unit,number\na,b,“1”\n".encode("cp1252"), "byte 0x93 in line 2 is not UTF-8"),
        ("a.csv", "text,unit,number\na,b,1\n".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        ("a.tsv", "text\tunit\tnumber\na\tb\t1\n".encode("utf-16-be"), "contains a NUL byte; if the file is UTF-16"),
        ("a.jsonl", SHORT.encode("utf-32"), "it is UTF-32"),
        ("a.jsonl", SHORT.encode("gbk"), "is not UTF-8"),
        ("a.jsonl", gzip.compress(SHORT.encode(), mtime=0), "compressed with gzip; add .gz to its name"),
        ("a.jsonl.gz", SHORT, "not JSON Lines (gzip: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(SHORT.encode(), mtime=0)[:-9], "not JSON Lines (gzip: "),
        ("a.csv", b"PK\x03\x04...", "a zip file or a spreadsheet"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run git lfs pull"),
        ("a.tsv", "text\tunit\tnumber\na\tb\n", "row 0 has 2 cells"),
        ("a.parquet", b"", "not Parquet"),
        ("a.csv", ";;;\n", "no rows"),
    ],
)
def test_what_is_wrong_with_a_file_and_how_to_mend_it(tmp_path, name, content, told):
    with pytest.raises(GoldError) as caught:
        read(tmp_path, name, content)
    message = str(caught.value)
    assert message.startswith(f"test data {tmp_path / name}: ") and told in message
    assert len(message.splitlines()) == 1 and len(message) < 500


def test_one_row_alone_is_a_row_whatever_it_holds(tmp_path):
    answers = [{"text": "3", "start": 1}, {"text": "three", "start": 2}, {"text": "3", "start": 9}]
    (found,) = rows_of(tmp_path, [ROW | {"answers": answers}])
    assert found.targets == ("3", "three")
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROW | {"answers": answers}, indent=2), encoding="utf-8")
    assert load_rows(ANSWERS, path)[0].targets == ("3", "three")


# Values


def parquet(folder, columns, task=SUMS):
    path = folder / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return load_rows(task, path)


def test_parquet_of_all_kinds_of_columns(tmp_path):
    made = {
        "text": pyarrow.array([b"One \xc3\xa9", b"two", None], pyarrow.binary()),
        "unit": pyarrow.array(["a", "b", "a"]).dictionary_encode(),
        "number": pyarrow.array([1.5, 2.0, 3.0]),
    }
    found = parquet(tmp_path, made)
    assert [r.fields["text"] for r in found] == ["One é", "two", ""]
    assert [(r.fields["unit"], r.target) for r in found] == [("a", "1.5"), ("b", "2.0"), ("a", "3.0")]
    made["text"] = pyarrow.array([float("nan"), 1.5, None])
    made["unit"] = pyarrow.array(["a", None, "b"], pyarrow.large_string())
    assert [list(r.fields.values()) for r in parquet(tmp_path, made)] == [["", "a"], ["1.5", ""], ["", "b"]]
    made["number"] = pyarrow.array([1.0, float("nan"), 2.0])
    with pytest.raises(GoldError, match="row 1 has 0 different targets"):
        parquet(tmp_path, made)
    made["text"] = pyarrow.array([b"a", b"\xff\xfe", b"c"])
    with pytest.raises(GoldError, match=r"row 1 has bytes that are not UTF-8: b'\\xff\\xfe'"):
        parquet(tmp_path, made)
    made["text"] = pyarrow.array([[b"a"], [], []])
    with pytest.raises(GoldError, match=r"row 0 has \['a'\] in the column 'text'; expected text"):
        parquet(tmp_path, made)


def test_a_parquet_file_with_a_column_twice(tmp_path):
    path = tmp_path / "a.parquet"
    text = pyarrow.array(["a"])
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([text, text], ["text", "text"]), path)
    with pytest.raises(GoldError, match=r"not Parquet \(two columns have the name 'text'\)"):
        load_rows(SUMS, path)


@pytest.mark.parametrize("values", [[1, 0], [1.0, 0.0], ["1", "0"], ["1.0", "0.0"], [True, False], ["yes", "no"]])
def test_numbers_and_words_as_labels(tmp_path, values):
    names = {"1": "yes", "0": "no", "True": "yes", "False": "no"}
    task = replace(VERDICTS, test=TestData(label_names=names))
    rows = [{"text": "a", "verdict": value} for value in values]
    assert [r.target for r in rows_of(tmp_path, rows, task)] == ["yes", "no"]
    if not isinstance(values[0], bool):
        path = written(tmp_path, ".csv", rows)
        assert [r.target for r in load_rows(task, path)] == ["yes", "no"]


VERDICTS = replace(
    SUMS,
    fields=(Field("text", "a text"),),
    target=Field("verdict", "yes or no"),
    labels=(Label("yes", "it is"), Label("no", "it is not")),
    demos=(Sample({"text": "a"}, "yes"), Sample({"text": "b"}, "no")),
    student=StudentFormat("{text}", "{verdict}"),
)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            "Yes",
            "the label 'Yes', none of ['yes', 'no']; did you mean 'yes'? write that, or name it in the task's test.",
        ),
        (" no ", "the label ' no ', none of ['yes', 'no']; did you mean 'no'?"),
        ("yess", "did you mean 'yes'?"),
        ("maybe", "none of ['yes', 'no']; name it in the task's test.label_names"),
        ("None", "the label 'None'"),
        ("nan", "the label 'nan'"),
        (None, "0 different targets"),
        (float("nan"), "0 different targets"),
        ("", "0 different targets"),
        ([], "0 different targets"),
        (["yes", "no"], "2 different targets"),
        ([["yes"]], "row 0 has ['yes'] among its targets"),
        ("\ud83d", "the label '\\ud83d'"),
    ],
)
def test_labels_that_are_none_of_the_tasks(tmp_path, value, told):
    with pytest.raises(GoldError) as caught:
        rows_of(tmp_path, [{"text": "a", "verdict": value}], VERDICTS)
    assert told in str(caught.value)


def test_a_label_is_the_same_in_both_forms_of_unicode(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    task = replace(
        VERDICTS,
        labels=(Label(composed, "a place"), Label("no", "none")),
        demos=(Sample({"text": "a"}, composed), Sample({"text": "b"}, "no")),
        test=TestData(columns={"verdict": "r\u00e9ponse"}, label_names={"th\u00e9": "no"}),
    )
    rows = [{"text": decomposed, "re\u0301ponse": label} for label in (decomposed, composed, "the\u0301")]
    found = rows_of(tmp_path, rows, task)
    assert [r.target for r in found] == [composed, composed, "no"]
    assert found[0].fields["text"] == decomposed  # texts stay as they are
    assert labels_as_read(found[:2]) == ""


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"text": "a \ud83d b", "unit": "x", "number": "1"}, "text"),
        ({"text": "a", "unit": "\udc00", "number": "1"}, "unit"),
        ({"text": "a", "unit": "x", "number": "\ude00\ud83d"}, "number"),
        ({"text": "a", "unit": "x", "number": ["1", "\ud83d"]}, "number"),
    ],
)
def test_half_a_surrogate_pair_is_told_with_its_row_and_column(tmp_path, row, column):
    good = {"text": "whole \U0001f600", "unit": "x", "number": "1"}
    with pytest.raises(GoldError) as caught:
        rows_of(tmp_path, [good, row], SUMS)
    assert "row 1 has half a surrogate pair (\\ud" in str(caught.value)
    assert f"in the column '{column}'" in str(caught.value) and str(caught.value).isprintable()


def test_questions_without_an_answer_are_left_out_and_counted(tmp_path, caplog):
    rows = [ROW | {"answers": {"text": texts}} for texts in (["3"], [], ["3", "three"], [], [""])]
    found = rows_of(tmp_path, rows)
    assert [r.targets for r in found] == [("3",), ("3", "three")]
    (line,) = caplog.messages
    assert line.endswith(
        "3 of 5 rows have no answer and are left out; a task whose target has min_chars: 0 keeps such "
        "rows, with an empty target"
    )
    caplog.clear()
    keeps = replace(ANSWERS, target=Field("answer", "words of the text", min_chars=0))
    assert [r.targets for r in rows_of(tmp_path, rows, keeps)] == [("3",), ("",), ("3", "three"), ("",), ("",)]
    assert not caplog.messages
    nested = [ROW | {"answers": []}, ROW | {"answers": [{"text": "3"}]}]
    assert [r.targets for r in rows_of(tmp_path, nested)] == [("3",)]


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
    assert str(caught.value).endswith("set test.label_names.1 to 'World'")


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


def test_validation_rows_are_read_as_test_rows_are_by_their_own_names(tmp_path, monkeypatch):
    (tmp_path / "held.jsonl").write_text('{"headline": "A match.", "label": 1}\n{"headline": "A vote.", "label": 0}\n')
    spec = replace(HUB, file="held.jsonl", hub="")
    task = replace(NEWS, validation=spec, source=str(tmp_path / "task.yaml"))
    assert [(row.fields["text"], row.target) for row in load_validation_rows(task)] == [
        ("A match.", "Sports"),
        ("A vote.", "World"),
    ]
    for changed, told in (
        (replace(spec, columns={"text": "headline"}), "validation data"),
        (replace(spec, label_names={}), "name it in the task's validation.label_names"),
        (replace(spec, file="gone.jsonl"), "gone.jsonl: No such file"),
    ):
        with pytest.raises(GoldError) as caught:
            load_validation_rows(replace(task, validation=changed))
        assert told in str(caught.value) and "test" not in str(caught.value).replace(str(tmp_path), "")

    def load_dataset(*args, **kwargs):
        raise ValueError("Unknown split")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        GoldError, match=r"validation data .* a validation\.file, or a validation\.config and validation\."
    ):
        load_validation_rows(replace(task, validation=HUB))


# The test set of a run


def test_a_sample_of_test_rows_is_drawn_by_seed():
    rows = TestSet(NEWS, seed=3)
    assert rows.ids == list(range(240)) and len(rows) == 240
    rows.draw(10)
    drawn = rows.ids
    assert len(set(drawn)) == 10 and drawn == sorted(drawn)
    again, other = TestSet(NEWS, seed=3), TestSet(NEWS, seed=4)
    again.draw(10)
    other.draw(10)
    assert again.ids == drawn != other.ids
    for count in (None, 240, 999):
        rows.draw(count)
        assert rows.ids == list(range(240))


def test_a_run_draws_the_rows_that_earlier_versions_drew():
    rows = TestSet(NEWS, seed=1)
    rows.draw(5)
    assert rows.ids == sorted(random.Random("1/test rows").sample(range(240), 5))


def test_overlap_with_the_test_set_is_counted_by_kind():
    rows = TestSet(NEWS)
    copied, new = rows.rows[7], Sample({"text": "Nothing like it. It was never printed."}, "World")
    counts, found = rows.overlaps({"train": {"a": copied, "b": new}, "demos": {"demo-0": new}})
    assert (counts["train"]["any"], counts["train"]["samples"]) == (1, 2) and counts["demos"]["any"] == 0
    assert [row["id"] for row in found] == ["a"] and found[0]["full_row"] == [7]


def test_unavailable_rows_are_told_once_and_overlap_is_not_measured(caplog):
    task = replace(NEWS, test=TestData())
    rows = TestSet(task)
    assert rows.overlap([("a", NEWS.demos[0])]) is None
    assert rows.overlaps({"train": {"a": NEWS.demos[0]}}) == ({}, [])
    assert [m for m in caplog.messages if "overlap with the test set is not measured" in m] == caplog.messages
    assert len(caplog.messages) == 1
    assert TestSet(NEWS, decontaminate="off").overlap([("a", NEWS.demos[0])]) is None


def test_dropping_needs_the_rows():
    rows = TestSet(replace(NEWS, test=TestData()), decontaminate="drop")
    with pytest.raises(GoldError, match=r"^data\.plan\.decontaminate: drop needs the test set; "):
        rows.overlap([("a", NEWS.demos[0])])


def test_a_file_takes_the_place_of_the_tasks_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "A long text of news.", "topic": "World"}) + "\n", encoding="utf-8")
    assert TestSet(NEWS, str(path)).rows == [TestRow({"text": "A long text of news."}, "World")]
