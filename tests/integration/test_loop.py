"""The loop, driven as a user drives it: main([...])."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gold_lightning
import pytest
import torch
from gold_lightning import report
from gold_lightning.cli.main import main
from gold_lightning.scores import auroc
from gold_lightning.storage import round_store as store
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import only_writer, rounds_in
from gold_lightning.student import T5Student
from gold_lightning.t5.folder import load_calibration, write_calibration
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from safetensors.torch import load_file

from tests.fakes import NewsWriter, other_file_system

SMALL = ["--data.plan.samples_per_round=16", "--data.plan.probe_per_round=12", "--data.plan.group_size=2"]
SMALL += ["--data.plan.label_agreement=off", "--data.plan.feedback_as=demo"]
KINDS = ("train", "probe")


def arguments(command, root, student, *more, name="t"):
    base = ["--config", "quickstart.yaml", "--run.root", str(root), "--run.name", name, "--model.student", student]
    writer = ["--data.generator", "tests.fakes.NewsWriter"]
    return [command, *base, *writer, *SMALL, "--data.passes_per_round", "1", *more]


def run(command, root, student, *more, name="t"):
    return main(arguments(command, root, student, *more, name=name))


def rounds(root, name="t"):
    return read_lines(Path(root) / "news_topics" / name / "rounds.jsonl")


def weights(root, name="t"):
    path = Path(root) / "news_topics" / name / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True, map_location="cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_student):
    root = tmp_path_factory.mktemp("whole")
    assert run("fit", root, tiny_student) == 0
    return root


def test_run_folder_holds_what_the_design_promises(whole):
    folder = whole / "news_topics" / "t"
    for name in ("config.yaml", "rounds.jsonl", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (folder / name).is_file(), name
    assert "All 3 rounds are done." in (folder / "report.html").read_text()
    assert {"gold_lightning", "python", "torch", "lightning"} <= read_lines(folder / "versions.json")[0].keys()
    for r in range(3):
        for name in ("train", "probe", "rejects", "prompts", "batches"):
            assert (folder / "data" / f"round_{r:03d}" / f"{name}.jsonl").is_file()
    row = read_lines(folder / "data" / "round_001" / "train.jsonl")[0]
    assert {"id", "fields", "target", "prompt_hash", "demo_ids", "generator", "raw"} <= row.keys()


def test_each_round_trains_on_all_samples_so_far_and_probes_apart(whole):
    found = rounds(whole)
    assert [r["round"] for r in found] == [0, 1, 2]
    assert [r["trained_on"] for r in found] == [16, 32, 48]
    for r in found:
        assert r["train"]["accepted"] == 16 and r["probe"]["accepted"] == 12
        for kind in ("train", "probe"):
            assert r[kind]["requested"] == r[kind]["accepted"] + sum(r[kind]["rejects"].values())
        energies = RoundStore(whole / "news_topics" / "t", r["round"], read_only=True).energies()
        by_kind = {kind: [e["energy"] for e in energies if e["kind"] == kind] for kind in ("train", "probe")}
        assert r["auroc"] == pytest.approx(auroc(by_kind["train"], by_kind["probe"]), abs=1e-4)
        assert r["energy"]["probe"]["q05"] < r["energy"]["probe"]["q95"]
        assert "val/accuracy" in r["metrics"]


def test_the_band_of_each_round_stands_in_the_next_rounds_prompts(whole):
    folder = whole / "news_topics" / "t"
    found = rounds(whole)
    for before, after in ((0, 1), (1, 2)):
        probe = {s.id: s.sample for s in RoundStore(folder, before, read_only=True).accepted("probe")}
        fed = found[before]["fed_back"]
        # 12 probes, 3 a label, band [0.5, 0.8): the ranks from floor(1.5) to below floor(2.4), one a label.
        assert len(fed) == 4 and set(fed) <= probe.keys()
        assert sorted(probe[i].target for i in fed) == ["Business", "Sci/Tech", "Sports", "World"]
        store = RoundStore(folder, after, read_only=True)
        prompts = {p["hash"]: p["prompt"] for p in read_lines(store.folder / "prompts.jsonl")}
        shown = [(s, i) for s in store.accepted("train") for i in s.demo_ids if i in fed]
        assert shown, "no feedback demo in any prompt"
        for sample, i in shown:
            assert probe[i].fields["text"] in prompts[sample.prompt_hash]
            assert probe[i].target == sample.sample.target
    assert found[0]["feedback_prompts"] == 0


def test_each_scored_sample_has_a_line_with_its_energy(whole):
    folder = whole / "news_topics" / "t"
    for r, row in enumerate(rounds(whole)):
        store = RoundStore(folder, r, read_only=True)
        scored = {kind: [e for e in store.energies() if e["kind"] == kind] for kind in ("probe", "train")}
        assert sorted(map(len, scored.values())) == [12, 16] and len(store.energies()) == 28
        for kind, found in scored.items():
            assert {e["id"] for e in found} == {s.id for s in store.accepted(kind)}
            mean = sum(e["energy"] for e in found) / len(found)
            assert mean == pytest.approx(row["energy"][kind]["mean"])
        assert sorted(e["id"] for e in store.energies() if e["fed_back"]) == sorted(row["fed_back"])
        assert all(e["loss"] > 0 for e in scored["probe"]) and not any("loss" in e for e in scored["train"])


def test_probe_samples_are_never_trained_on(whole):
    folder = whole / "news_topics" / "t"
    train = {s.sample.text for r in range(3) for s in RoundStore(folder, r, read_only=True).accepted("train")}
    probe = {s.sample.text for r in range(3) for s in RoundStore(folder, r, read_only=True).accepted("probe")}
    assert train and probe and not train & probe


def test_the_student_is_calibrated_on_the_probe_sets_unless_a_user_has_done_it(whole, tmp_path, tiny_student):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    student = tmp_path / "news_topics" / "t" / "student"
    calibration = load_calibration(student)
    assert calibration["source"] == "probe" and calibration["rows"] == 12 * len(rounds(tmp_path))
    assert (calibration["level_asked"], calibration["lowest_level"]) == (0.95, 0.7)
    assert "Labels are the generator's" in (student / "README.md").read_text()
    overlay = tmp_path / "promise.yaml"
    overlay.write_text("calibration: {level: 0.9, lowest_level: 0.05, score: probability}\n")
    assert run("fit", tmp_path, tiny_student, "--config", str(overlay), "--calibration.confidence", "0.8") == 0
    lower = load_calibration(student)
    assert (lower["level_asked"], lower["lowest_level"], lower["confidence"]) == (0.9, 0.05, 0.8)
    assert lower["score"] == "probability" and lower["threshold"] is not None
    said = f"at least {100 * lower['level']:.0f} % are right by the generator's labels, with 80 % confidence"
    for page in (student / "README.md", student.parent / "report.html"):
        assert said in page.read_text().replace("&#39;", "'")
    assert gold_lightning.load(student).predict("A match.").known in (True, False)
    assert run("fit", tmp_path, tiny_student) == 0
    assert load_calibration(student) == calibration  # with the settings of before
    write_calibration(student, calibration | {"source": "rows", "rows": 500})
    assert run("fit", tmp_path, tiny_student) == 0
    assert load_calibration(student) == calibration | {"source": "rows", "rows": 500}  # of the same weights


def test_best_student_loads_as_an_ordinary_model(whole):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = whole / "news_topics" / "t" / "student"
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    best = torch.load(folder.parent / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(model.shared.weight, best["model.shared.weight"])
    assert tokenizer.decode(tokenizer("news topic: é 12").input_ids, skip_special_tokens=True) == "news topic: é 12"


@pytest.mark.parametrize("after", [30, 60, 85])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(whole, tmp_path, tiny_student, after):
    # 30: within round 0; 60 and 85: within the training samples or the probe set of later rounds.
    stop = ["--data.generator.init_args.fail_after", str(after)]
    with pytest.raises((KeyboardInterrupt, SystemExit)):  # Lightning shuts down in order, then leaves
        run("fit", tmp_path, tiny_student, *stop)
    done = len(rounds(tmp_path))
    assert done < 3
    assert run("fit", tmp_path, tiny_student) == 0
    for r in range(3):
        for kind in ("train", "probe"):
            one, two = (RoundStore(root / "news_topics" / "t", r, read_only=True) for root in (whole, tmp_path))
            assert list(one.accepted(kind)) == list(two.accepted(kind))
        assert one.energies() == two.energies() != []
    timeless = [{k: v for k, v in r.items() if k != "seconds"} for r in rounds(whole)]
    assert timeless == [{k: v for k, v in r.items() if k != "seconds"} for r in rounds(tmp_path)]
    a, b = weights(whole), weights(tmp_path)
    assert a["GoldDataModule"] == b["GoldDataModule"] and a["GoldDataModule"]["round"] == 3
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])


def test_a_checkpoint_that_was_not_saved_to_its_end_is_made_again(whole, tmp_path, tiny_student, monkeypatch):
    with monkeypatch.context() as patch:
        other_file_system(patch)  # else Lightning's own way of saving would do
        assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1") == 0
    folder = tmp_path / "news_topics" / "t" / "checkpoints"
    names = sorted(p.name for p in folder.iterdir())

    def torn(value, file):
        file.write(b"PK")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", torn)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run("fit", tmp_path, tiny_student)
    assert sorted(p.name for p in folder.iterdir()) == names == ["best.ckpt", "last.ckpt"]
    assert weights(tmp_path)["GoldDataModule"]["round"] == 1
    assert run("fit", tmp_path, tiny_student) == 0
    a, b = weights(whole), weights(tmp_path)
    assert a["GoldDataModule"] == b["GoldDataModule"]
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])


def test_sigterm_stops_a_generator_that_writes_and_the_same_command_goes_on(whole, tmp_path, tiny_student, forks):
    hang = ["--data.generator.init_args.hang_after", "24"]  # its first batch
    process = forks.start(arguments("fit", tmp_path, tiny_student, *hang))
    try:
        batches = tmp_path / "news_topics" / "t" / "data" / "round_000" / "batches.jsonl"
        while not read_lines(batches):
            assert process.is_running()
            time.sleep(0.05)
        time.sleep(0.3)  # it is in the second batch by now
        since = time.monotonic()
        process.send_signal(signal.SIGTERM)
        stopped = process.wait(30)
        assert time.monotonic() - since < 10  # a second, on an idle machine
    finally:
        process.kill()
    assert stopped.statuses == [1]
    assert stopped.stderr.splitlines()[-1] == "stopped; the same command goes on from here"
    assert "Traceback" not in stopped.stderr
    assert not (tmp_path / "news_topics" / "t" / "report.html").exists()  # at once is at once
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1") == 0
    one, two = (RoundStore(root / "news_topics" / "t", 0, read_only=True) for root in (whole, tmp_path))
    assert list(one.accepted("train")) == list(two.accepted("train"))


def test_sigterm_while_the_student_trains_ends_as_ctrl_c_does(tmp_path, tiny_student, monkeypatch, capsys):
    def step(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # a supervisor that has no patience
        raise AssertionError("trains on")

    def lightnings(*_):
        raise AssertionError("waits for other processes")

    monkeypatch.setattr(T5Student, "training_step", step)
    monkeypatch.setattr(_SignalConnector, "_sigterm_notifier_fn", lightnings)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        run("fit", tmp_path, tiny_student)
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; the same command goes on from here"
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_same_command_again_adds_nothing(whole, tiny_student):
    def files():
        found = (whole / "news_topics" / "t").rglob("*")
        return {p: p.read_bytes() for p in found if p.is_file() and p.parent.name != "student"}

    before = files()
    assert run("fit", whole, tiny_student) == 0
    assert files() == before


def test_another_plan_for_the_same_round_sets_its_samples_aside_and_says_so(tmp_path, tiny_student, caplog):
    one = ["--trainer.max_epochs", "1"]
    assert run("fit", tmp_path, tiny_student, *one) == 0
    folder = tmp_path / "news_topics" / "t"
    (folder / "checkpoints" / "last.ckpt").unlink()
    caplog.clear()
    assert run("fit", tmp_path, tiny_student, *one, "--data.plan.seed_demos", "1") == 0
    assert "round 0: its training samples were asked for with another plan;" in caplog.text
    assert sorted(p.name for p in (folder / "data").iterdir() if p.is_dir()) == [
        "replaced_round_000_1",
        "replaced_round_000_2",
        "round_000",
    ]


def test_a_task_that_changed_is_refused(whole, tmp_path, tiny_student, capsys):
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1") == 0
    text = (Path(gold_lightning.__file__).parent / "tasks" / "news_topics.yaml").read_text()
    changed = tmp_path / "news_topics.yaml"
    changed.write_text(text.replace("description: ", "description: Now ", 1))
    capsys.readouterr()
    assert run("fit", tmp_path, tiny_student, "--data.task", str(changed)) == 2
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "another task" in error and "--run.name" in error


@pytest.mark.parametrize("name", ["../out", "a/b", "..", ".", "", "/tmp/x", "a\nb", "a\\b", "x" * 200])
def test_a_run_cannot_leave_its_folder(name, tmp_path, tiny_student, capsys):
    assert run("fit", tmp_path / "runs", tiny_student, name=name) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert error.startswith("error: run.name: got ") and list(tmp_path.iterdir()) == []


def test_keys_of_the_environment_are_in_no_file_and_no_line(tmp_path, tiny_student, monkeypatch, capfd):
    key = "sk-planted-31415926535"
    for name in ("OPENAI_API_KEY", "WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, key)
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1") == 0
    assert run("test", tmp_path, tiny_student, "--trainer.max_epochs", "1") == 0
    told = capfd.readouterr()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 15 and "240 test rows" in told.out
    assert [path for path in files if key.encode() in path.read_bytes()] == []
    assert key not in told.out + told.err


def test_a_run_that_is_at_work_is_left_alone(tmp_path, tiny_student, capsys):
    with only_writer(tmp_path / "news_topics" / "t"):
        assert run("fit", tmp_path, tiny_student) == 2
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "another process is at work" in error
    assert [p.name for p in (tmp_path / "news_topics" / "t").iterdir()] == [".lock"]


def test_another_run_with_another_learning_rate_asks_for_nothing_it_finds(whole, tmp_path, tiny_student):
    shutil.copytree(whole, tmp_path / "runs")
    # An empty text is no answer, and is asked for again.
    stored = read_lines(whole / "news_topics" / "t" / "data" / "completions.jsonl")
    silent = sum("text" not in row for row in stored if row["round"] == 0)
    more = ["--trainer.max_epochs", "1", "--model.lr", "2e-3", "--data.generator.init_args.fail_after", str(silent)]
    assert run("fit", tmp_path / "runs", tiny_student, *more, name="other") == 0
    (row,) = rounds(tmp_path / "runs", "other")
    first = rounds(whole)[0]
    assert row["train"] == first["train"] and row["probe"] == first["probe"]
    assert row["tokens"]["calls"] == silent < first["tokens"]["calls"]
    assert row["tokens"]["reused_calls"] == first["tokens"]["calls"] - silent
    with pytest.raises((KeyboardInterrupt, SystemExit)):  # its generator would have been asked
        run("fit", tmp_path / "runs", tiny_student, *more, "--data.reuse_completions", "false", name="alone")


def test_a_stored_run_is_replayed_without_a_generator(whole, tmp_path, tiny_student, capsys):
    source = str(whole / "news_topics" / "t")
    more = ["--data.replay_from", source, "--data.generator.init_args.fail_after", "0", "--model.lr", "2e-3"]
    assert run("fit", tmp_path, tiny_student, *more, "--trainer.max_epochs", "9") == 0
    assert [r["train"] for r in rounds(tmp_path)] == [r["train"] for r in rounds(whole)]
    for r in range(3):
        one, two = (RoundStore(root / "news_topics" / "t", r, read_only=True) for root in (whole, tmp_path))
        assert list(one.accepted("train")) == list(two.accepted("train"))
        assert list(one.accepted("probe")) == list(two.accepted("probe"))
    one, two = (weights(root)["state_dict"] for root in (whole, tmp_path))
    assert any(not torch.equal(one[name], two[name]) for name in one)
    capsys.readouterr()
    assert run("fit", tmp_path, tiny_student, "--data.replay_from", str(tmp_path), name="u") == 2
    assert "data.replay_from" in capsys.readouterr().err


def test_a_budget_ends_the_run_in_order_and_a_higher_one_goes_on(whole, tmp_path, tiny_student, caplog):
    spent = [r["tokens_so_far"] for r in rounds(whole)]
    limit = spent[0]["prompt"] + spent[0]["completion"] + 1
    assert run("fit", tmp_path, tiny_student, "--data.budget.max_tokens", str(limit)) == 0
    folder = tmp_path / "news_topics" / "t"
    assert [r["train"] for r in rounds(tmp_path)] == [rounds(whole)[0]["train"]]
    told = caplog.text
    assert f"data.budget.max_tokens ({limit:,}) is spent" in told and "round 1 has" in told and "best student" in told
    assert (folder / "student" / "config.json").is_file() and weights(tmp_path)["GoldDataModule"]["round"] == 1
    assert f"Its budget of {limit:,} tokens is spent." in (folder / "report.html").read_text()
    # What it paid for beyond the round is there, and it was one request at most.
    sizes = [r["prompt_tokens"] + r["completion_tokens"] for r in read_lines(folder / "data" / "completions.jsonl")]
    assert limit <= sum(sizes) < limit + max(sizes)
    assert run("fit", tmp_path, tiny_student) == 0
    timeless = [{k: v for k, v in r.items() if k != "seconds"} for r in rounds(whole)]
    assert timeless == [{k: v for k, v in r.items() if k != "seconds"} for r in rounds(tmp_path)]
    a, b = weights(whole), weights(tmp_path)
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])


def test_a_budget_for_less_than_a_round_says_so(tmp_path, tiny_student, caplog):
    price = ["--data.budget.price_completion", "100", "--data.budget.max_cost", "0.0001"]
    assert run("fit", tmp_path, tiny_student, *price) == 0
    assert "data.budget.max_cost (0.0001) is spent: $" in caplog.text
    assert "no round is whole yet, so there is no student" in caplog.text
    assert rounds(tmp_path) == []


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal: a shell has what it starts in the background ignore it, tests too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_once_finishes_what_is_in_flight_and_twice_does_not(tmp_path, tiny_student, monkeypatch, capfd):
    told = []

    def interrupted(times):
        def write(self, request):
            if len(self.requests) == 25 and not told:  # the first of the second batch
                told.append(times)
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.01)
            return real(self, request)

        return write

    real = NewsWriter._write
    batches = tmp_path / "news_topics" / "t" / "data" / "round_000" / "batches.jsonl"
    completions = tmp_path / "news_topics" / "t" / "data" / "completions.jsonl"
    for times, stored in ((2, 24), (1, 24 + 16)):  # the second batch is the config's least
        told.clear()
        shutil.rmtree(tmp_path / "news_topics", ignore_errors=True)
        monkeypatch.setattr(NewsWriter, "_write", interrupted(times))
        with pytest.raises(SystemExit) as ended:
            run("fit", tmp_path, tiny_student, "--data.generator.init_args.batch_size", "24")
        assert ended.value.code == 1
        lines = capfd.readouterr().err.splitlines()
        assert "finishing what is in flight; Ctrl-C again stops at once" in lines
        assert lines[-1] == "stopped; the same command goes on from here"
        assert len(read_lines(completions)) == stored and len(read_lines(batches)) == 1
        assert (tmp_path / "news_topics" / "t" / "report.html").exists() == (times == 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_damaged_checkpoint_costs_time_and_nothing_else(whole, tmp_path, tiny_student, caplog):
    shutil.copytree(whole, tmp_path / "runs")
    path = tmp_path / "runs" / "news_topics" / "t" / "checkpoints" / "last.ckpt"
    held = bytearray(path.read_bytes())
    held[len(held) // 2 : len(held) // 2 + 64] = bytes(64)
    path.write_bytes(held)
    assert run("fit", tmp_path / "runs", tiny_student, "--data.generator.init_args.fail_after", "0") == 0
    assert f"{path} is damaged and kept as {path}.damaged" in caplog.text
    timeless = [{k: v for k, v in r.items() if k != "seconds"} for r in rounds(whole)]
    assert timeless == [{k: v for k, v in r.items() if k != "seconds"} for r in rounds(tmp_path / "runs")]
    a, b = weights(whole), weights(tmp_path / "runs")
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(whole, tmp_path, tiny_student, monkeypatch, capsys):
    def full(path, *rows):
        if len(appended) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        appended.append(path)
        real(path, *rows)

    real, appended = store.append_line, []
    with monkeypatch.context() as patch:
        patch.setattr(store, "append_line", full)
        assert run("fit", tmp_path, tiny_student) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "No space left on device" in error and "goes on" in error
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1") == 0
    assert rounds(tmp_path)[0]["train"] == rounds(whole)[0]["train"]


def test_test_prints_the_table_and_writes_predictions(whole, tiny_student, capsys):
    assert run("test", whole, tiny_student) == 0
    out = capsys.readouterr().out
    assert "student before training" in out and "always" in out and "240 test rows" in out
    (held,) = read_lines(whole / "news_topics" / "t" / "results.json")
    assert set(held["results"]) == {"student", "untrained", "majority"} and held["rows"] == held["of"] == 240
    assert f"{100 * held['results']['student']['accuracy']['value']:.1f} % (" in out
    assert "accuracy of the best student on 240 test rows" in (whole / "news_topics" / "t" / "report.html").read_text()
    rows = read_lines(whole / "news_topics" / "t" / "predictions.jsonl")
    assert len(rows) == 240 and {"prediction", "target", "energy"} <= rows[0].keys()


def test_a_report_that_fails_loses_no_run(tmp_path, tiny_student, monkeypatch, caplog):
    def broken(run):
        raise MemoryError("no room for a page")

    monkeypatch.setattr(report, "render", broken)
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1") == 0
    folder = tmp_path / "news_topics" / "t"
    assert (folder / "student" / "config.json").is_file() and not (folder / "report.html").exists()
    assert "the report could not be written (MemoryError: no room for a page)" in caplog.text


@pytest.mark.parametrize("how", [["--feedback.rate", "0"], ["--feedback.strategy", "none"]], ids=["rate", "strategy"])
def test_feedback_can_be_turned_off(whole, tmp_path, tiny_student, how):
    assert run("fit", tmp_path, tiny_student, *how, "--trainer.max_epochs", "2") == 0
    found = rounds(tmp_path)
    assert all(not r["fed_back"] and not r["feedback_prompts"] and r["pool"] == 0 for r in found)
    assert [r["trained_on"] for r in found] == [r["trained_on"] for r in rounds(whole)[:2]]  # equal budgets
    assert found[0]["train"] == rounds(whole)[0]["train"]


def test_a_strategy_of_ones_own_by_class_path(tmp_path, tiny_student):
    own = ["--feedback.strategy", "tests.fakes.Shortest", "--feedback.strategy.init_args.count", "2"]
    assert run("fit", tmp_path, tiny_student, *own, "--trainer.max_epochs", "1") == 0
    (row,) = rounds(tmp_path)
    store = RoundStore(tmp_path / "news_topics" / "t", 0, read_only=True)
    shortest = sorted(store.accepted("probe"), key=lambda s: len(s.sample.text))[:2]
    assert sorted(row["fed_back"]) == sorted(s.id for s in shortest)
    assert row["strategy"] == "tests.fakes.Shortest"


def test_a_strategy_that_changes_on_resume_is_told_and_the_pool_stays(whole, tmp_path, tiny_student, caplog):
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1") == 0
    top = ["--feedback.strategy", "energy_top", "--trainer.max_epochs", "2"]
    caplog.clear()
    assert run("fit", tmp_path, tiny_student, *top) == 0
    assert caplog.text.count("from now on samples are fed back with another strategy") == 1
    found, before = rounds(tmp_path), rounds(whole)
    assert found[0]["fed_back"] == before[0]["fed_back"] and found[1]["train"] == before[1]["train"]
    assert [r["strategy"] for r in found] == ["energy_band", "energy_top"]
    energies = RoundStore(tmp_path / "news_topics" / "t", 1, read_only=True).energies()
    targets = {s.id: s.sample.target for s in RoundStore(whole / "news_topics" / "t", 1).accepted("probe")}
    highest = {}
    for row in sorted((e for e in energies if e["kind"] == "probe"), key=lambda e: e["energy"]):
        highest[targets[row["id"]]] = row["id"]
    assert sorted(found[1]["fed_back"]) == sorted(highest.values())


@pytest.mark.parametrize("check", ["require", "relabel"])
def test_labels_are_checked_before_samples_are_fed_back(tmp_path, tiny_student, check):
    # The scripted likelihoods favour the first label whatever they are asked.
    more = ["--data.plan.label_agreement", "measure", "--feedback.label_check", check, "--trainer.max_epochs", "1"]
    assert run("fit", tmp_path, tiny_student, *more) == 0
    (row,) = rounds(tmp_path)
    pool = weights(tmp_path)["GoldDataModule"]["pool"]["entries"]
    assert list(pool) == ["World"] and len(pool["World"]) == len(row["fed_back"]) == (1 if check == "require" else 4)
    folder = tmp_path / "news_topics" / "t"
    assert {s.preferred_label for s in RoundStore(folder, 0, read_only=True).accepted("probe")} == {"World"}


def test_exchanged_labels_are_trained_on_and_counted_and_the_store_keeps_what_was_written(
    whole, tmp_path, tiny_student, monkeypatch
):
    seen = []
    step = T5Student.training_step
    monkeypatch.setattr(T5Student, "training_step", lambda *a: seen.extend(a[1]["targets"]) or step(*a))
    noise = ["--data.label_noise", "0.5", "--trainer.max_epochs", "1"]
    assert run("fit", tmp_path, tiny_student, *noise) == 0
    folder = tmp_path / "news_topics" / "t"
    store = RoundStore(folder, 0, read_only=True)
    assert list(store.accepted("train")) == list(RoundStore(whole / "news_topics" / "t", 0).accepted("train"))
    assert len(seen) == 16 and sorted(seen) != sorted((s.sample.target,) for s in store.accepted("train"))
    (row,) = rounds(tmp_path)
    flipped = {e["id"] for e in store.energies() if e["flipped"]}
    counts = {kind: [sum(s.id in flipped for s in store.accepted(kind)), len(store.accepted(kind))] for kind in KINDS}
    assert row["flipped"] == counts | {"fed_back": [len(flipped & {*row["fed_back"]}), len(row["fed_back"])]}
    assert 0 < counts["train"][0] < 16 and 0 < counts["probe"][0] < 12
    written = {s.id: s.sample.target for s in store.accepted("probe")}
    pool = weights(tmp_path)["GoldDataModule"]["pool"]["entries"]
    for label, entries in pool.items():
        for e in entries:
            assert e["sample"]["target"] == label and (label != written[e["id"]]) == (e["id"] in flipped)


def test_early_stopping_ends_a_plateau(tmp_path, tiny_student):
    still = ["--model.lr", "1e-12", "--early_stopping.patience", "1", "--trainer.max_epochs", "6"]
    assert run("fit", tmp_path, tiny_student, *still) == 0
    assert len(rounds(tmp_path)) == 2
    assert (tmp_path / "news_topics" / "t" / "student" / "config.json").is_file()
    assert run("fit", tmp_path, tiny_student, *still) == 0
    assert len(rounds(tmp_path)) == 2 and rounds_in(tmp_path / "news_topics" / "t") == [0, 1]


# Two processes take twice as many samples and requests at once. No number of samples can be divided by two.
ODD = ["--data.plan.samples_per_round", "19", "--data.plan.probe_per_round", "11"]
ODD += ["--data.generator", "tests.fakes.SteadyWriter"]
ONE = [*ODD, "--data.batch_size", "16", "--data.generator.init_args.batch_size", "32"]
TWO = [*ODD, "--data.batch_size", "8", "--data.generator.init_args.batch_size", "16", "--trainer.devices", "2"]


def run_in_two(forks, *args):
    """Runs a command line in two processes as ``torchrun`` starts them; returns what both wrote to standard error."""
    finished = forks.run(args, processes=2)
    assert finished.statuses == [0, 0], finished.stderr[-2000:]
    return finished.stderr


def run_in_one_or_two(forks, command, root, *more):
    """Runs a command line in this process, or in two if it asks for two."""
    if "--trainer.devices" in more:
        run_in_two(forks, *arguments(command, root, *more))
    else:
        assert run(command, root, *more) == 0


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_student):
    """Two rounds of one process, and the student: without dropout, whose masks are each process's own."""
    root = tmp_path_factory.mktemp("alone")
    student = shutil.copytree(tiny_student, root / "student")
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps(config | {"dropout_rate": 0.0}))
    # An optimizer that goes on, and weights that it does not have.
    student = [str(student), "--model.restart", "false", "--model.embedding_lr", "0"]
    assert run("fit", root, *student, *ONE, "--trainer.max_epochs", "2") == 0
    return root, student


def assert_same_run(one, two):
    """Data, pool, metrics, energies and weights."""
    rows = rounds(one), rounds(two)
    for a, b in zip(*rows, strict=True):
        assert a["train"] == b["train"] and a["fed_back"] == b["fed_back"] and a["tokens"] == b["tokens"]
        assert a["metrics"] == pytest.approx(b["metrics"], abs=1e-4) and len(a["metrics"]) > 3
        assert a["energy"]["probe"]["mean"] == pytest.approx(b["energy"]["probe"]["mean"], abs=1e-4)
        assert a["auroc"] == pytest.approx(b["auroc"], abs=1e-2)  # one pair of neighbours is 1 of 192
    for r in range(len(rows[0])):
        stores = [RoundStore(root / "news_topics" / "t", r, read_only=True) for root in (one, two)]
        for kind in KINDS:
            assert list(stores[0].accepted(kind)) == list(stores[1].accepted(kind))
    held = [weights(root) for root in (one, two)]
    pools = [h["GoldDataModule"]["pool"]["entries"] for h in held]
    assert [[e["id"] for e in of] for of in pools[0].values()] == [[e["id"] for e in of] for of in pools[1].values()]
    states = [h["optimizer_states"][0] for h in held]
    assert states[0]["state"].keys() == states[1]["state"].keys()
    torch.testing.assert_close(held[0]["state_dict"], held[1]["state_dict"], atol=1e-5, rtol=0)
    moments = [[of[key] for of in s["state"].values() for key in ("exp_avg", "exp_avg_sq")] for s in states]
    torch.testing.assert_close(*moments, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_make_the_same_data_pool_metrics_and_weights_as_one(tmp_path, alone, strategy, forks):
    root, student = alone
    args = arguments("fit", tmp_path, *student, "--trainer.max_epochs", "2", *TWO, "--trainer.strategy", strategy)
    if strategy == "ddp":  # Lightning starts the second process
        command = [sys.executable, "-m", "gold_lightning", *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-2000:]
        told = done.stderr
    else:
        told = run_in_two(forks, *args)
    assert_same_run(root, tmp_path)
    # Each process wrote a share of each batch.
    log = told.split("asked of process ")
    assert len(log) > 1 and {part[0] for part in log[1:]} == {"0", "1"}
    assert "view tensor" not in told
    left = [load_file(r / "news_topics" / "t" / "student" / "model.safetensors") for r in (root, tmp_path)]
    torch.testing.assert_close(*left, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_run_goes_on_where_weights_are_cut_up_and_where_they_no_longer_are(tmp_path, alone, forks):
    root, student = alone
    cut_up = [*TWO, "--trainer.strategy", "fsdp2"]
    for name, ways in (("together", (ONE, cut_up)), ("apart", (cut_up, ONE))):
        for end, way in enumerate(ways, 1):
            run_in_one_or_two(forks, "fit", tmp_path / name, *student, "--trainer.max_epochs", str(end), *way)
        assert_same_run(root, tmp_path / name)
    # The same predictions, each row once, although two processes had seven rows.
    test = tmp_path / "rows.jsonl"
    test.write_text("".join(json.dumps({"text": f"Team {i} won.", "topic": "Sports"}) + "\n" for i in range(7)))
    found = []
    for way in (ONE, cut_up):
        run_in_one_or_two(forks, "test", tmp_path / "together", *student, "--data.test_file", str(test), *way)
        found.append(read_lines(tmp_path / "together" / "news_topics" / "t" / "predictions.jsonl"))
    assert len(found[0]) == 7
    for a, b in zip(*found, strict=True):
        assert a["prediction"] == b["prediction"] and a["energy"] == pytest.approx(b["energy"], abs=1e-3)


@pytest.mark.slow
def test_a_failure_in_one_process_ends_all_with_its_own_words(tmp_path, tiny_student, forks):
    args = arguments("fit", tmp_path, tiny_student, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    args += ["--data.generator.init_args.broken_process", "1"]
    finished = forks.run(args, processes=2, end_together=False, timeout=120)
    assert finished.statuses == [2, 2]
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert errors == ["error: process 1: no model in this process"]


@pytest.mark.slow
def test_no_process_outlives_one_that_was_killed(tmp_path, tiny_student, forks):
    args = arguments("fit", tmp_path, tiny_student, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    args += ["--trainer.max_epochs", "500", "--early_stopping.patience", "500"]
    started = forks.start(args, processes=2, end_together=False)
    try:
        while not rounds(tmp_path):
            assert started.is_running()
            time.sleep(0.1)
        started.send_signal(signal.SIGKILL, process=1)
        ended = started.wait(60)
    finally:
        started.kill()
    assert ended.statuses == [1, -signal.SIGKILL]
    gone = "error: another process of this run is gone; the same command goes on from here"
    assert ended.stderr.splitlines().count(gone) == 1
