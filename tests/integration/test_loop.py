"""The loop, driven as a user drives it: main([...])."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from gold_lightning.cli import main
from gold_lightning.store import RoundStore, read_lines
from gold_lightning.student import T5Student
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from tests.fakes import other_file_system

SMALL = ["--data.plan.samples_per_round=16", "--data.plan.probe_per_round=12", "--data.plan.group_size=2"]
SMALL += ["--data.plan.label_agreement=off"]


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


def log_records(data, block=32768):
    """Records of a W&B file, which is a LevelDB log behind a header of seven bytes."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:  # too little left in the block for a header
            at += block - at % block
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + 7 + size > len(data):  # not written to its end yet
            return
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # the whole of a record, or its last part
            yield record
            record = b""


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_student):
    root = tmp_path_factory.mktemp("whole")
    assert run("fit", root, tiny_student) == 0
    return root


def test_run_folder_holds_what_the_design_promises(whole):
    folder = whole / "news_topics" / "t"
    for name in ("config.yaml", "rounds.jsonl", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (folder / name).is_file(), name
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
        assert 0 <= r["auroc"] <= 1 and r["energy"]["probe"]["q05"] <= r["energy"]["probe"]["q95"]
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


def test_probe_samples_are_never_trained_on(whole):
    folder = whole / "news_topics" / "t"
    train = {s.sample.text for r in range(3) for s in RoundStore(folder, r, read_only=True).accepted("train")}
    probe = {s.sample.text for r in range(3) for s in RoundStore(folder, r, read_only=True).accepted("probe")}
    assert train and probe and not train & probe


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


def test_sigterm_stops_a_generator_that_writes_and_the_same_command_goes_on(whole, tmp_path, tiny_student):
    hang = ["--data.generator.init_args.hang_after", "24"]  # its first batch
    command = [sys.executable, "-m", "gold_lightning", *arguments("fit", tmp_path, tiny_student, *hang)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        batches = tmp_path / "news_topics" / "t" / "data" / "round_000" / "batches.jsonl"
        while not read_lines(batches):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)  # it is in the second batch by now
        since = time.monotonic()
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=30)[1]
        assert time.monotonic() - since < 10  # a second, on an idle machine
    finally:
        process.kill()
    assert process.returncode == 1
    assert told.splitlines()[-1] == "stopped; the same command goes on from here" and "Traceback" not in told
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
    before = rounds(whole)
    assert run("fit", whole, tiny_student) == 0
    assert rounds(whole) == before


def test_another_task_setting_in_the_same_folder_is_refused(tmp_path, tiny_student, capsys):
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1") == 0
    capsys.readouterr()
    (tmp_path / "news_topics" / "t" / "checkpoints" / "last.ckpt").unlink()
    status = run("fit", tmp_path, tiny_student, "--data.plan.seed_demos", "1")
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and "plan" in error and "--run.name" in error


def test_test_prints_the_table_and_writes_predictions(whole, tiny_student, capsys):
    assert run("test", whole, tiny_student) == 0
    out = capsys.readouterr().out
    assert "student before training" in out and "always" in out and "240 test rows" in out
    rows = read_lines(whole / "news_topics" / "t" / "predictions.jsonl")
    assert len(rows) == 240 and {"prediction", "target", "energy"} <= rows[0].keys()


def test_feedback_can_be_turned_off(tmp_path, tiny_student):
    assert run("fit", tmp_path, tiny_student, "--feedback.rate", "0", "--trainer.max_epochs", "2") == 0
    assert all(not r["fed_back"] and not r["feedback_prompts"] for r in rounds(tmp_path))


def test_early_stopping_ends_a_plateau(tmp_path, tiny_student):
    still = ["--model.lr", "1e-12", "--early_stopping.patience", "1", "--trainer.max_epochs", "6"]
    assert run("fit", tmp_path, tiny_student, *still) == 0
    assert len(rounds(tmp_path)) == 2
    assert (tmp_path / "news_topics" / "t" / "student" / "config.json").is_file()


def test_two_processes_make_the_same_data_pool_and_metrics_as_one(whole, tmp_path, tiny_student):
    args = ["fit", "--config", "quickstart.yaml", "--run.root", str(tmp_path), "--run.name", "t"]
    args += ["--model.student", tiny_student, "--data.generator", "tests.fakes.NewsWriter", *SMALL]
    args += ["--data.passes_per_round", "1", "--data.batch_size", "8", "--trainer.devices", "2"]
    args += ["--trainer.strategy", "ddp", "--trainer.max_epochs", "2"]
    done = subprocess.run([sys.executable, "-m", "gold_lightning", *args], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = rounds(whole)[:2], rounds(tmp_path)
    assert [r["train"] for r in one] == [r["train"] for r in two]
    # Later rounds: sums in another order, so neighbours in energy may change places at the band's edge.
    assert one[0]["fed_back"] == two[0]["fed_back"]
    for a, b in zip(one, two, strict=True):
        assert a["metrics"]["val/accuracy"] == pytest.approx(b["metrics"]["val/accuracy"], abs=1e-4)
        assert a["energy"]["probe"]["mean"] == pytest.approx(b["energy"]["probe"]["mean"], abs=1e-2)


def test_wandb_offline_history_has_a_histogram_for_every_round(tmp_path, tiny_student, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    overlay = ["--config", "overlays/wandb.yaml", "--trainer.max_epochs", "2"]
    save = ["--trainer.logger.init_args.save_dir", str(tmp_path), "--trainer.logger.init_args.offline", "true"]
    assert run("fit", tmp_path, tiny_student, *overlay, *save) == 0
    wandb.finish()
    files = list(tmp_path.rglob("*.wandb"))
    assert len(files) == 1
    records, found, ended, deadline = [], [], False, time.monotonic() + 30
    while not ended and time.monotonic() < deadline:  # the service writes the file's end after finish() is back
        time.sleep(0.1)
        records = []
        for data in log_records(files[0].read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            records.append(record)
        ended = bool(records) and records[-1].HasField("exit")
    for record in records:
        items = {"/".join([i.key, *i.nested_key]).strip("/"): i.value_json for i in record.history.item}
        found += [items] if "probe/energy/values" in items else []
    assert len(found) == 2
    for items in found:
        assert sum(json.loads(items["probe/energy/values"])) == 12
        assert sum(json.loads(items["train/energy/values"])) == 16
