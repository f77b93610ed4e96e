"""Real texts without labels: every format, what is dropped and why, and draws by seed."""

import gzip
import json
from pathlib import Path

import pytest
from gold_lightning.checks.contamination import Decontaminator
from gold_lightning.errors import ConfigError
from gold_lightning.task import Field, Sample, StudentFormat, Task
from gold_lightning.unlabelled import UnlabelledTexts, load_texts, sample_id, text_number, texts_file

TEXTS = ["Rain stops play at Lord's.", "Bank raises rates, again.", 'A "quoted" text; with marks'.strip()]
NEWS = Task.load("news_topics")
PAIRS = Task(
    name="pairs",
    description="Pairs of sentences.",
    fields=(Field("premise", "a sentence"), Field("hypothesis", "a sentence")),
    target=Field("answer", "an answer"),
    demos=(Sample({"premise": "It rains.", "hypothesis": "It is wet."}, "yes"),),
    student=StudentFormat("{premise} {hypothesis}", "{answer}"),
)


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_same_texts_are_read_from_every_format(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"text": text, "url": f"https://example.org/{i}"} for i, text in enumerate(TEXTS)]
    paths = [write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))]
    paths += [write(tmp_path / "a.json", json.dumps(rows))]
    quoted = [f'"{r["text"].replace(chr(34), chr(34) * 2)}",{r["url"]}' for r in rows]
    paths += [write(tmp_path / "a.csv", "text,url\n" + "\n".join(quoted))]
    paths += [write(tmp_path / "one.csv", "text\n" + "\n".join(line.rpartition(",")[0] for line in quoted))]
    paths += [write(tmp_path / "a.tsv", "url\ttext\n" + "\n".join(f"{r['url']}\t{r['text']}" for r in rows))]
    paths += [write(tmp_path / "a.txt", "\r\n".join(TEXTS) + "\r\n\r\n")]
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\n".join(TEXTS).encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    paths += [str(tmp_path / "a.txt.gz"), str(tmp_path / "a.parquet")]
    read = [load_texts(NEWS, path) for path in paths]
    assert read == [[{"text": text} for text in TEXTS]] * len(paths)
    assert len({UnlabelledTexts(rows, "a", 1).digest for rows in read}) == 1


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.txt", "one\ntwo\n")
    assert load_texts(NEWS, "~/a.txt") == [{"text": "one"}, {"text": "two"}]


def test_a_row_that_lacks_a_field_is_refused_with_its_number(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\n{"headline": "two"}\n')
    with pytest.raises(ConfigError) as refused:
        load_texts(NEWS, path)
    error = refused.value
    assert (error.key, error.value, error.allowed) == ("data.unlabelled", path, "rows with 'text'")
    assert error.hint == "row 1 lacks 'text'; it has ['headline']" and "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "content", "allowed"),
    [
        ("none.jsonl", None, "the path of a"),
        ("a.docx", "text", "the path of a"),
        ("a.jsonl", '{"text": ["one"]}', "text in every row"),
        ("a.jsonl", '{"text": "half \\ud800"}', "text in every row"),
        ("a.jsonl", "{", "a file of rows"),
        ("a.csv", "text,url\nonly one cell", "a file of rows"),
        ("a.txt", '{"text": "one"}\n{"text": "two"}\n', "a text on each line"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_its_key(tmp_path, name, content, allowed):
    path = str(tmp_path / name) if content is None else write(tmp_path / name, content)
    with pytest.raises(ConfigError) as refused:
        load_texts(NEWS, path)
    assert (refused.value.key, refused.value.value) == ("data.unlabelled", path)
    assert refused.value.allowed.startswith(allowed) and "\n" not in str(refused.value)


def test_plain_text_is_for_tasks_with_one_field(tmp_path):
    with pytest.raises(ConfigError) as refused:
        load_texts(PAIRS, write(tmp_path / "a.txt", "It rains.\n"))
    assert refused.value.allowed == "a file of rows with 'premise', 'hypothesis'"
    rows = '{"premise": "It rains.", "hypothesis": null}\n'
    assert load_texts(PAIRS, write(tmp_path / "a.jsonl", rows)) == [{"premise": "It rains.", "hypothesis": ""}]


def test_repeats_empty_texts_and_test_rows_are_dropped_and_counted():
    test_row = "Quake leaves thousands homeless in the east of the country, and tents are flown in by the army."
    rows = [{"text": t} for t in ("one text", " one  text", "", "two texts", f"Again: {test_row}", "three texts")]
    index = Decontaminator([Sample({"text": test_row}, "World")])
    texts = UnlabelledTexts(rows, "news.txt", 1, {"in_test_set": index})
    assert texts.counts == {"texts": 6, "usable": 3, "duplicate": 1, "empty": 1, "in_test_set": 1}
    assert sorted(texts.draw(10)) == [0, 3, 5] and len(texts) == 3
    assert texts.sentence() == "news.txt: 6 texts, 3 of them usable (1 duplicate, 1 empty, 1 in test set)"


def test_texts_with_lost_characters_are_dropped_and_invisible_ones_removed():
    given = ("\x1b[31mred\x1b[0m text", "\ufeffsmall", "a broken \ufffd text", "a bell \x07", "Cafe\u0301", "Caf\u00e9")
    texts = UnlabelledTexts([{"text": text} for text in given], "news.txt", 1)
    assert texts.counts == {"texts": 6, "usable": 3, "duplicate": 1, "not_unicode": 2}
    assert sorted(texts.fields(i)["text"] for i in texts.draw(6)) == ["Cafe\u0301", "red text", "small"]


def test_lists_hold_texts_or_rows_that_a_file_can_hold(tmp_path):
    for wrong, hint in ((["a", None], "it is number 1"), ([{"text": "half \ud83d"}], "number 0 has half")):
        with pytest.raises(ConfigError) as refused:
            texts_file(NEWS, wrong, tmp_path)
        assert refused.value.key == "unlabelled" and refused.value.hint.startswith(hint)
    assert not list(tmp_path.iterdir())
    assert load_texts(NEWS, texts_file(NEWS, ["a", {"text": "b"}], tmp_path)) == [{"text": "a"}, {"text": "b"}]


def test_a_file_without_any_usable_text_is_refused():
    for rows in ([], [{"text": " "}]):
        with pytest.raises(ConfigError) as refused:
            UnlabelledTexts(rows, "news.txt", 1)
        assert refused.value.value == "news.txt"


def test_texts_are_drawn_by_seed_and_never_twice():
    rows = [{"text": f"text {i}"} for i in range(50)]
    texts, other = UnlabelledTexts(rows, "a", 1), UnlabelledTexts(rows, "a", 2)
    used: list[int] = []
    while drawn := texts.draw(8, used):
        assert texts.left(used) == 50 - len(used)
        used += drawn
    assert sorted(used) == list(range(50)) and used != sorted(used)
    assert used == texts.draw(50) != other.draw(50)


def test_a_larger_test_set_does_not_change_the_order_of_the_others():
    rows = [{"text": f"text {i}"} for i in range(50)]
    every = UnlabelledTexts(rows, "a", 1).draw(50)
    index = Decontaminator([Sample(rows[i], "") for i in (3, 30)])
    assert UnlabelledTexts(rows, "a", 1, {"in_test_set": index}).draw(50) == [i for i in every if i not in (3, 30)]


def test_texts_that_the_tasks_limits_do_not_admit_are_told():
    lengths = [100] * 95 + [39] * 2 + [421] * 3
    rows = [{"text": f"{i:03d} ".ljust(n, "x")} for i, n in enumerate(lengths)]
    (line,) = UnlabelledTexts(rows, "a", 1).outside_limits(NEWS)
    assert line.startswith("5 of 100 texts") and "min_chars (40)" in line and "max_chars (420)" in line
    assert UnlabelledTexts(rows[1:98], "a", 1).outside_limits(NEWS) == []


def test_ids_hold_the_number_of_the_row():
    assert text_number(sample_id(3, "train", 123456)) == 123456
    assert text_number("r003-train-00012") is None
