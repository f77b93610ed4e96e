"""``predict``: every kind of input and output, bad rows, and going on after a kill."""

import csv
import io
import json
import subprocess
import sys
import time

import pytest
from gold_lightning.cli import predict
from gold_lightning.cli.main import main
from gold_lightning.t5.inference import SavedStudent
from gold_lightning.task import Task

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(saved_student):
    return saved_student


@pytest.fixture(scope="module")
def student(folder):
    return SavedStudent(folder)


@pytest.fixture(autouse=True)
def loaded(student, monkeypatch):
    """Loads the student once for all tests of this module, but where a test says otherwise."""
    monkeypatch.setattr(predict, "load_student", lambda *_: student)


def call(capsys, *args):
    status = main(["predict", *map(str, args)])
    out, err = capsys.readouterr()
    return status, out, err


def test_texts_as_arguments(student, folder, capsys):
    status, out, err = call(capsys, folder, "a text", "another, much longer one")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (status, err) == (0, "")
    for row, text in zip(rows, ["a text", "another, much longer one"], strict=True):
        prediction = student.predict(text)
        assert row["text"] == text and row["prediction"] == prediction
        assert row["probability"] == pytest.approx(prediction.probability, abs=1e-5)
        assert row["energy"] == pytest.approx(prediction.energy, abs=1e-3)
    _, out, _ = call(capsys, folder, "a text", "--probabilities")
    probabilities = json.loads(out)["probabilities"]
    assert list(probabilities) == list(student.task.label_names)
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)


BAD = '{"text": "a", "id": 7, "prediction": "old"}\n{"no": 1}\nnothing\n{"text": ["b"]}\n{"text": " "}\n{"text": 12}\n'


def test_bad_rows_keep_their_place_and_are_counted(folder, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text(BAD)
    status, out, err = call(capsys, folder, tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == predict.BAD_ROWS == 3
    assert [bool(row["prediction"]) for row in rows] == [True, False, False, False, False, True]
    assert [bool(row.get("error")) for row in rows] == [False, True, True, True, True, False]
    assert rows[0]["id"] == 7 and rows[0]["input_prediction"] == "old" and rows[1]["no"] == 1
    lines = err.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["row 2", "row 3", "row 4", "row 5"]
    assert lines[-1].startswith("6 rows in ") and lines[-1].endswith("; 4 could not be read")


def test_many_bad_rows_are_reported_briefly(folder, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text("{}\n" * 1000)
    _, out, err = call(capsys, folder, tmp_path / "rows.jsonl")
    assert len(out.splitlines()) == 1000 and len(err.splitlines()) == 11


@pytest.mark.parametrize("content", ["a\nb\n", '{"text": "a"}\n{"text": "b"}\n'])
def test_standard_input(content, folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    status, out, _ = call(capsys, folder, "-")
    assert status == 0 and [json.loads(line)["text"] for line in out.splitlines()] == ["a", "b"]


def test_csv_and_tsv_in_their_own_format(student, folder, tmp_path, capsys):
    for name, delimiter in (("rows.csv", ","), ("rows.tsv", "\t"), ("rows.csv", ";")):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([["no", "text", "error"], ["007", 'a "b"\nc', "x"], ["8"]])
        out = tmp_path / f"out{delimiter == ';'}{name}"
        assert call(capsys, folder, tmp_path / name, "--out", out)[0] == 3
        with out.open(newline="") as file:
            head, first, second = csv.reader(file, delimiter=delimiter)
        assert head == ["no", "text", "input_error", "prediction", "probability", "energy", "known", "error"]
        assert first[:4] == ["007", 'a "b"\nc', "x", student.predict('a "b"\nc')] and first[-1] == ""
        assert second[0] == "8" and second[3] == "" and second[-1]


def test_known_is_written_and_counted(student, folder, tmp_path, capsys, monkeypatch):
    texts = ["a", "some more words", "c"]
    (tmp_path / "rows.csv").write_text("".join(f"{line}\n" for line in ["text", *texts]))
    energies = [p.energy for p in student.predict(texts)]
    calibration = {
        "temperature": 2.0, "score": "energy", "threshold": sorted(energies)[0], "promise": "selective", "level": 0.9,
        "confidence": 0.9, "source": "rows", "rows": 100,
    }  # fmt: skip
    monkeypatch.setattr(student, "calibration", calibration)
    status, out, err = call(capsys, folder, tmp_path / "rows.csv")
    assert status == 0 and err.endswith("; 2 are not known\n")
    assert [json.loads(line)["known"] for line in out.splitlines()] == [e == min(energies) for e in energies]
    assert call(capsys, folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv")[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["known"] for row in csv.DictReader(file)] == [str(e == min(energies)).lower() for e in energies]
    monkeypatch.setattr(
        student, "calibration", calibration | {"promise": "conformal", "score": "probability", "threshold": 1e-9}
    )
    row = json.loads(call(capsys, folder, "a")[1])
    assert row["label_set"] == list(student.task.label_names) and row["known"] is False
    monkeypatch.setattr(student, "calibration", None)
    status, out, err = call(capsys, folder, tmp_path / "rows.csv")
    assert "known" not in out and "known" not in err


def test_a_file_with_the_columns_of_an_earlier_version_is_not_gone_on_with(folder, tmp_path, capsys):
    (tmp_path / "rows.csv").write_text("text\na\nb\n")
    (tmp_path / "out.csv").write_text("text,prediction,probability,energy,error\na,A,0.5,-1.0,\n")
    status, _, err = call(capsys, folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv", "--resume")
    assert status == 2 and err.startswith("error: --out: got ")


def test_parquet_keeps_its_types(student, folder, tmp_path, capsys):
    import pyarrow
    import pyarrow.parquet

    when = pyarrow.array([0, 1, None], pyarrow.timestamp("s"))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None, "c"], "when": when}), tmp_path / "rows.parquet")
    assert call(capsys, folder, tmp_path / "rows.parquet", "--out", tmp_path / "out.parquet")[0] == 3
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.column("when") == pyarrow.parquet.read_table(tmp_path / "rows.parquet").column("when")
    assert table.column("prediction").to_pylist() == [student.predict("a"), None, student.predict("c")]
    assert [bool(error) for error in table.column("error").to_pylist()] == [False, True, False]
    assert not (tmp_path / "out.parquet.part").exists()
    status, out, _ = call(capsys, folder, tmp_path / "rows.parquet")
    assert status == 3 and [json.loads(line)["text"] for line in out.splitlines()] == ["a", None, "c"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_killed_call_goes_on_with_the_row_after_the_last_whole_one(name, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predict, "_WINDOW", 1)
    rows, out = tmp_path / name, tmp_path / f"out_{name}"
    texts = [f'a "text"\nof two lines, {i}' for i in range(9)]
    if name.endswith(".csv"):
        with rows.open("w", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in texts)])
    else:
        rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    arguments = (folder, rows, "--out", out, "--batch_size", "4")
    assert call(capsys, *arguments)[0] == 0
    whole = out.read_bytes()
    assert call(capsys, *arguments)[0] == 2  # it is there already
    for size in range(0, len(whole), 37):
        out.write_bytes(whole[:size])
        assert call(capsys, *arguments, "--resume")[0] == 0
        assert values(out) == values_of(whole, name)
    assert call(capsys, *arguments, "--resume")[0] == 0 and out.read_bytes().count(b"\n") == whole.count(b"\n")
    rows.write_text(rows.read_text().replace("of two", "of 2"))
    status, _, err = call(capsys, *arguments, "--resume")
    assert status == 2 and "rows of the same input" in err


def values(path):
    return values_of(path.read_bytes(), path.name)


def values_of(content, name):
    """The values without the energies, whose last digits depend on the batch."""
    text = content.decode()
    if name.endswith(".csv"):
        return [[row["text"], row["prediction"]] for row in csv.DictReader(io.StringIO(text, newline=""))]
    return [[row["text"], row["prediction"]] for row in map(json.loads, text.splitlines())]


def test_ctrl_c_says_how_to_go_on(student, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predict, "_WINDOW", 1)
    (tmp_path / "rows.txt").write_text("a\nb\nc\n")
    calls = []

    def stopped(texts, _):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return SavedStudent.predict(student, texts)

    monkeypatch.setattr(student, "predict", stopped, raising=False)
    arguments = (folder, tmp_path / "rows.txt", "--out", tmp_path / "out.jsonl", "--batch_size", "1")
    status, _, err = call(capsys, *arguments)
    assert (status, err) == (1, "stopped after 1 rows; with --resume the same command goes on from here\n")
    monkeypatch.undo()
    monkeypatch.setattr(predict, "load_student", lambda *_: student)
    assert call(capsys, *arguments, "--resume")[0] == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["x.csv"], "INPUT"),
        (["a text", "--resume"], "--resume"),
        (["a text", "--batch_size", "0"], "--batch_size"),
        (["a text", "--out", "x.csv"], "--out"),
        (["a text", "--out", "none/x.jsonl"], "--out"),
    ],
    ids=str,
)
def test_wrong_settings_are_one_line(arguments, key, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, folder, *arguments)
    assert (status, out) == (2, "") and err.startswith(f"error: {key}: got ") and len(err.splitlines()) == 1


def test_the_program_itself_starts_without_lightning(folder, tmp_path):
    code = (
        "import sys; sys.modules['lightning'] = None; sys.modules['torchmetrics'] = None\n"
        "from gold_lightning.cli.main import main\n"
        "status = main(['predict', sys.argv[1], 'a text'])\n"
        "print('then', file=sys.stderr)\n"
        "sys.exit(10 * status + main(['predict', sys.argv[2], 'a']))\n"
    )
    command = [sys.executable, "-c", code, str(folder.parent), str(tmp_path)]  # the run folder will do
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and json.loads(done.stdout)["text"] == "a text"
    assert len(done.stderr.splitlines()) == 2 and done.stderr.startswith("then\nerror: ")


@pytest.mark.slow
def test_a_process_that_is_killed_loses_no_whole_row(folder, tmp_path, forks):
    rows, out = tmp_path / "rows.txt", tmp_path / "out.jsonl"
    rows.write_text("".join(f"text {i}\n" for i in range(20_000)))
    arguments = ["predict", str(folder), str(rows), "--out", str(out)]
    process = forks.start(arguments)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (out.exists() and out.stat().st_size > 20_000):
        time.sleep(0.05)
    process.kill()
    before = out.read_bytes()
    assert 0 < before.count(b"\n") < 20_000
    rows.write_text("".join(f"text {i}\n" for i in range(before.count(b"\n") + 500)))  # not all, to be fast
    assert main([*arguments, "--resume"]) == 0
    after = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert after == [f"text {i}" for i in range(before.count(b"\n") + 500)]
    assert out.read_bytes().startswith(before[: before.rindex(b"\n") + 1])


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"Body": "Six tents.", "Question": "How many?", "Answer": 6}, {"body": "Six tents.", "question": "How many?"}),
        ({"body": "Six tents.", "Question": "How many?", "Body": "x"}, {"body": "Six tents.", "question": "How many?"}),
        ({"Body": "Six tents."}, {}),
    ],
)
def test_columns_may_have_the_names_of_the_tasks_labelled_rows(row, fields):
    read, problem = predict._fields(Task.load("svamp"), row)
    assert (read, problem) == (fields, "" if fields else "has no 'question'")
