"""The validate command: it scores a student as its round did, asks for nothing and writes nothing."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml
from gold_lightning.cli.main import main
from gold_lightning.inputs.task_files import find_task_file
from gold_lightning.storage.json_lines import append_line, read_lines
from gold_lightning.storage.run_folder import only_writer

SMALL = ["--data.plan.samples_per_round=16", "--data.plan.probe_per_round=12", "--data.plan.group_size=2"]
SMALL += ["--data.plan.label_agreement=off", "--data.passes_per_round", "1"]
UNASKED = ["--data.generator.init_args.fail_after", "0"]


def run(command, root, student, *more):
    args = [command, "--config", "quickstart.yaml", "--run.root", str(root), "--run.name", "t", *SMALL]
    return main([*args, "--model.student", student, "--data.generator", "tests.fakes.NewsWriter", *more])


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_student):
    root = tmp_path_factory.mktemp("whole")
    assert run("fit", root, tiny_student) == 0
    return root


def files(folder):
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def shown(capsys):
    """What a table says: the round, the rows, and the metrics by name."""
    out = capsys.readouterr().out
    head = re.search(r"news_topics, the student of round (\d+) on (.*)", out)
    return int(head[1]), head[2], {k: float(v) for k, v in re.findall(r"^  (val/\S+) +(\S+)$", out, re.MULTILINE)}, out


@pytest.mark.parametrize("which", ["last", "best", "its path"])
def test_a_student_is_scored_as_its_round_did(whole, tiny_student, capsys, which):
    folder = whole / "news_topics" / "t"
    rows, before = read_lines(folder / "rounds.jsonl"), files(whole)
    named = str(folder / "checkpoints" / "last.ckpt") if which == "its path" else which
    capsys.readouterr()
    assert run("validate", whole, tiny_student, "--ckpt_path", named, *UNASKED) == 0
    round_, on, metrics, out = shown(capsys)
    assert round_ == (rows[-1]["selection"]["best"] if which == "best" else 2)
    assert on == ["12 probes", "24 probes of 2 rounds", "36 probes of 3 rounds"][round_]
    wanted = {k: v for k, v in rows[round_]["metrics"].items() if k.startswith("val/") and k != "val/metric"}
    assert metrics.keys() == wanted.keys() and all(abs(metrics[k] - v) <= 6e-4 for k, v in wanted.items())
    assert "The labels of probes are the generator's" in out
    assert files(whole) == before


def test_the_best_student_is_the_default(whole, tiny_student, capsys):
    capsys.readouterr()
    assert run("validate", whole, tiny_student) == 0
    assert shown(capsys)[0] == read_lines(whole / "news_topics" / "t" / "rounds.jsonl")[-1]["selection"]["best"]


@pytest.mark.parametrize(
    "more",
    [
        ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "elsewhere"],
        ["--trainer.logger", "true"],
        ["--trainer.enable_progress_bar", "true"],
        ["--feedback.strategy", "random", "--feedback.rate", "1"],
        ["--data.label_noise", "0.3"],
        ["--data.eval_batch_size", "5"],
        ["--data.budget.max_seconds", "1"],
    ],
)
def test_whatever_is_set_it_writes_nothing(whole, tiny_student, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    before = files(whole)
    assert run("validate", whole, tiny_student, *UNASKED, *more) == 0
    assert files(whole) == before and list(tmp_path.iterdir()) == []


def test_a_run_at_work_is_not_disturbed(whole, tmp_path, tiny_student, capsys):
    shutil.copytree(whole, tmp_path / "runs")
    folder = tmp_path / "runs" / "news_topics" / "t"
    # It writes round 3, and stands in the middle of a line.
    append_line(folder / "data" / "round_003" / "train.jsonl", {"id": "r003-train-00000", "kind": "train", "batch": 0})
    for name in ("completions.jsonl", "round_003/train.jsonl", "round_002/probe.jsonl"):
        with (folder / "data" / name).open("a") as file:
            file.write('{"torn": ')
    before = files(tmp_path)
    with only_writer(folder):
        before |= files(tmp_path)
        capsys.readouterr()
        assert run("validate", tmp_path / "runs", tiny_student, "--ckpt_path", "last") == 0
        assert shown(capsys)[:2] == (2, "36 probes of 3 rounds")
    assert files(tmp_path) == before


def only_error(capsys):
    out, err = capsys.readouterr()
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert "Traceback" not in err and "val/" not in out
    return line


def test_what_is_not_there_is_one_line(whole, tmp_path, tiny_student, capsys):
    assert run("validate", tmp_path, tiny_student, *UNASKED) == 2
    assert "best.ckpt: no such checkpoint; run fit first" in only_error(capsys)
    assert list(tmp_path.iterdir()) == []
    shutil.copytree(whole, tmp_path / "runs")
    folder = tmp_path / "runs" / "news_topics" / "t"
    shutil.rmtree(folder / "data" / "round_002")
    assert run("validate", tmp_path / "runs", tiny_student, "--ckpt_path", "last", *UNASKED) == 2
    assert "no probe set of round 2" in only_error(capsys)
    assert not (folder / "data" / "round_002").exists()


def test_labelled_rows_are_scored_where_a_task_names_some(whole, tmp_path, tiny_student, capsys):
    task = yaml.safe_load(find_task_file("news_topics").read_text(encoding="utf-8"))
    rows = [{"text": f"Report number {i}.", "topic": task["labels"][i % 4]["name"]} for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task | {"validation": {"file": "rows.jsonl"}}))
    capsys.readouterr()
    assert run("validate", whole, tiny_student, "--data.task", str(tmp_path / "task.yaml"), *UNASKED) == 0
    _, on, metrics, out = shown(capsys)
    assert (
        on == "30 labelled rows"
        and (30 * metrics["val/accuracy"]) == pytest.approx(round(30 * metrics["val/accuracy"]), abs=0.02)
        and "generator's" not in out
    )
