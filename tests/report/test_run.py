"""Run folders as a report reads them: copied, damaged, without a run."""

import json
import tracemalloc
from pathlib import Path

import pytest
from gold_lightning.budget import Usage
from gold_lightning.cli.main import main
from gold_lightning.errors import GoldError
from gold_lightning.report import render, write_report
from gold_lightning.report.run import read_run
from gold_lightning.storage.completions import CompletionLog, usage_in
from gold_lightning.storage.json_lines import read_lines, write_lines

from tests.runs import make_run

pytestmark = pytest.mark.integration


def test_without_its_completions_the_run_has_spent_what_its_rounds_say(tmp_path):
    run = make_run(tmp_path / "news_topics" / "copied")
    (run / "data" / "completions.jsonl").unlink()
    assert read_run(run).spent == Usage()  # these rounds do not say
    rows = read_lines(run / "rounds.jsonl")
    for i, row in enumerate(rows, start=1):
        row["tokens_so_far"] = {"calls": 10 * i, "prompt": 200 * i, "completion": 30 * i, "reused_calls": i}
    write_lines(run / "rounds.jsonl", rows)
    assert read_run(run).spent == Usage(30, 600, 90, 3)


def test_adding_up_completions_takes_no_memory_for_their_texts(tmp_path):
    path = tmp_path / "completions.jsonl"
    with path.open("w") as file:
        for i in range(20_000):
            row = {"key": f"{i:032x}", "round": 0, "text": "word " * 200, "finish": "stop"}
            row |= {"prompt_tokens": 3, "completion_tokens": 2, "choice_log_probs": []}
            file.write(json.dumps(row) + "\n")
        file.write(json.dumps(row | {"key": "again", "reused": True}) + "\n")
        file.write(json.dumps(row) + "\n")  # there already
        unanswered = {name: value for name, value in row.items() if name != "text"} | {"unanswered": "filtered"}
        file.write(2 * (json.dumps(unanswered | {"key": "none", "finish": "filtered"}) + "\n"))  # each is paid for
        file.write("no row\n")
        file.write(json.dumps(row | {"key": "together", "more": 1}) + "\n")
        file.write(json.dumps(row | {"key": "torn"})[:-1])  # the rest of what is stored together
    tracemalloc.start()
    spent = usage_in(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent == Usage(20_002, 60_006, 40_004, 1) == CompletionLog(path).usage()
    assert most < 5_000_000  # all rows at once were 30 MB


def test_damaged_files_leave_a_page(tmp_path):
    run = make_run(tmp_path / "news_topics" / "damaged", unfinished=True)
    (run / "config.yaml").write_text("data: {budget: {max_cost: -1}, {")
    for path in (*run.glob("data/*/rejects.jsonl"), *run.glob("data/*/energies.jsonl")):
        path.write_bytes(b'{"id": 1}\n\xff\xfe\n[]\n{"kind": "probe", "id": "x", "energy": "high"}\n{"torn')
    (run / "results.json").write_text("[]")
    (run / "versions.json").write_text("{")
    page = render(read_run(run))
    assert "The folder has no config.yaml." in page


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert main(["report", str(tmp_path / "gone")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"error: {tmp_path}: no run in it; give the folder of a run, runs/<task>/<name>",
        f"error: {tmp_path / 'gone'}: no such folder; give the folder of a run, runs/<task>/<name>",
    ]
    assert main(["report"]) == 2 and not list(tmp_path.iterdir())


def test_no_such_folder_is_an_error_of_ours(tmp_path):
    with pytest.raises(GoldError, match="no such folder"):
        write_report(Path(tmp_path / "x"))
