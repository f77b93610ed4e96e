"""The Python API: the same folders as the command line's, and what a notebook does with them."""

from __future__ import annotations

import json
import subprocess
import sys

import gold_lightning as gl
import pytest
import torch
import yaml
from gold_lightning.cli.main import main
from gold_lightning.storage.json_lines import read_lines
from safetensors.torch import load_file

from tests.fakes import NewsWriter

SIZES = {"samples_per_round": 8, "probe_per_round": 8}
CPU = {"accelerator": "cpu", "enable_model_summary": False}


def distilled(folder, student, **how):
    settings = {"generator": NewsWriter(), "rounds": 2, "data": {"passes_per_round": 1}, "trainer": CPU, **SIZES, **how}
    return gl.distill("news_topics", student=student, output=folder, seed=3, verbose=False, **settings)


def without_times(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def contents(folder):
    """All that a run leaves but times, settings and what loggers write."""
    found = {"rounds": without_times(read_lines(folder / "rounds.jsonl"))}
    for path in sorted((folder / "data").rglob("*.jsonl")):
        found[str(path.relative_to(folder))] = without_times(read_lines(path))
    return found


def test_api_and_command_line_make_the_same_folder(tmp_path, tiny_student, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--run.root=cli", "--seed_everything=3", f"--model.student={tiny_student}"]
    arguments += ["--data.generator=tests.fakes.NewsWriter", "--data.passes_per_round=1", "--trainer.accelerator=cpu"]
    arguments += [f"--data.plan.{key}={size}" for key, size in SIZES.items()]
    assert main(["fit", *arguments, "--trainer.max_epochs=2", "--run.live=false"]) == 0
    other = tmp_path / "cli" / "news_topics" / "default"
    run = distilled("api/news_topics/default", tiny_student)
    assert len(run.rounds) == 2 and contents(run.folder) == contents(other)
    weights, others = (load_file(f / "student" / "model.safetensors") for f in (run.folder, other))
    assert weights.keys() == others.keys() and all(torch.equal(weights[k], others[k]) for k in weights)
    files = {
        str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts
    }
    assert files == {
        str(p.relative_to(other)) for p in other.rglob("*") if p.is_file() and "tensorboard" not in p.parts
    }
    # The command line goes on with it: tests it, and adds a round.
    config = str(run.folder / "config.yaml")
    assert main(["test", "--config", config]) == 0
    assert run.results["task"] == "news_topics" and "student" in run.results["results"]
    assert main(["fit", "--config", config, "--trainer.max_epochs=3", "--run.live=false"]) == 0
    assert [row["round"] for row in run.rounds] == [0, 1, 2]


def test_a_finished_run_is_returned_and_one_that_was_cut_off_goes_on(tmp_path, tiny_student):
    writer = NewsWriter()
    run = distilled(tmp_path / "a", tiny_student, generator=writer)
    asked = len(writer.requests)
    assert asked and len(distilled(tmp_path / "a", tiny_student, generator=writer).rounds) == 2
    assert len(writer.requests) == asked
    assert len(distilled(tmp_path / "a", tiny_student, generator=writer, rounds=3).rounds) == 3
    assert len(writer.requests) > asked and repr(run) == f"Run({str(tmp_path / 'a')!r}, 3 rounds)"


def test_samples_come_with_their_provenance(tmp_path, tiny_student):
    run = distilled(tmp_path / "a", tiny_student)
    train, probe = run.samples(), run.samples("probe")
    assert len(train) == len(probe) == 16 and set(train["topic"]) == {"World", "Sports", "Business", "Sci/Tech"}
    assert train.column_names == [
        *("text", "topic", "id", "round", "hint", "source", "feedback"),
        *("preferred_label", "label_log_probs", "probabilities", "prompt_hash", "energy", "fed_back"),
    ]
    fed_back = [row["id"] for row in probe if row["fed_back"]]
    assert fed_back == [id_ for row in run.rounds for id_ in row["fed_back"]] and fed_back
    assert all(isinstance(value, float) for value in probe["energy"])


def test_a_student_is_loaded_from_its_folder_alone(tmp_path, tiny_student):
    run = distilled(tmp_path / "a", tiny_student)
    moved = tmp_path / "elsewhere"
    run.student.rename(moved)
    student = gl.load(moved)
    rows = [gl.Sample({"text": s["text"]}, s["topic"]) for s in run.samples("probe")]
    predictions = student.predict([row.fields["text"] for row in rows])
    right = sum(p == row.target for p, row in zip(predictions, rows, strict=True))
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"text": r.fields["text"], "topic": r.target}) + "\n" for r in rows)
    )
    for labelled in (rows, tmp_path / "rows.jsonl"):
        result = gl.evaluate(student, labelled)
        low, high = result["interval"]
        assert result["accuracy"] == pytest.approx(right / len(rows)) and result["n"] == len(rows)
        assert 0 <= low <= result["accuracy"] <= high <= 1 and low < high
    with pytest.raises(gl.GoldError, match="no round is finished yet"):
        _ = run.student


def test_a_task_that_was_made_in_python(tmp_path, tiny_student):
    shipped = gl.Task.load("news_topics")
    task = gl.Task(
        **{k: getattr(shipped, k) for k in ("description", "fields", "target", "demos", "student", "labels")},
        name="mine",
    )
    run = gl.distill(
        task, generator=NewsWriter(), student=tiny_student, rounds=1, output=tmp_path / "runs" / "mine" / "a",
        data={"passes_per_round": 1}, trainer=CPU, verbose=False, **SIZES,
    )  # fmt: skip
    config = yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
    assert gl.Task.load(config["data"]["task"]).to_dict() == task.to_dict()
    assert gl.load(run.student).task.to_dict() == task.to_dict()
    assert len(run.samples()) == 8


def test_preview_and_synthesis_store_nothing(tmp_path, tiny_student, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = gl.preview("news_topics", generator=NewsWriter(), student=tiny_student, count=4)
    assert "the whole run, estimated" in str(shown) and shown._repr_html_().startswith("<pre>preview of news_topics")
    samples = gl.synthesize("news_topics", 8, generator=NewsWriter())
    assert len(samples) == 8 and len(set(samples["text"])) == 8 and not list(tmp_path.iterdir())


def test_a_run_prints_its_rounds_and_no_notices(tmp_path, tiny_student):
    code = (
        "import gold_lightning as gl\nfrom tests.fakes import NewsWriter\n"
        f"gl.distill('news_topics', generator=NewsWriter(), student={tiny_student!r}, rounds=1, samples_per_round=8,\n"
        f"    probe_per_round=8, output={str(tmp_path / 'a')!r}, trainer={{'accelerator': 'cpu'}})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Eight probes are too few for a calibration, which the last line but one says.
    assert [line.split(" ")[0] for line in done.stdout.splitlines()[-4:]] == ["round", "best", "not", "report:"]
    for notice in ("GPU available", "Tip", "litlogger", "Warning", "deprecated"):
        assert notice not in done.stdout + done.stderr, notice


def test_a_report_shows_itself(tmp_path, tiny_student):
    report = distilled(tmp_path / "a", tiny_student, rounds=1).report()
    assert report.path == tmp_path / "a" / "report.html" and "<iframe srcdoc=" in report._repr_html_()


def test_a_promise_that_does_not_suit_the_task_is_refused_before_anything_is_made(tmp_path, tiny_student):
    promise = gl.CalibrationSettings("conformal")
    with pytest.raises(gl.ConfigError) as refused:
        gl.distill("svamp", generator=NewsWriter(), student=tiny_student, output=tmp_path / "a", calibration=promise)
    assert refused.value.key == "calibration.promise" and not (tmp_path / "a").exists()


def test_evaluate_needs_a_task():
    with pytest.raises(gl.GoldError, match="object carries no task"):
        gl.evaluate(object(), [])
    with pytest.raises(gl.GoldError, match="got no rows, expected one at least"):
        gl.evaluate(object(), [], task="news_topics")
