"""Home folders in paths, and folders that cannot be written to."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from gold_lightning.checkpoints.best import check_checkpoint
from gold_lightning.cli.configs import CONFIGS, find_config
from gold_lightning.cli.lightning_cli import _expand_folders
from gold_lightning.cli.main import main
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.evaluation.baselines import BaselineSettings
from gold_lightning.evaluation.experiment_file import load_experiment
from gold_lightning.generators import TransformersGenerator, VLLMGenerator
from gold_lightning.generators.embedded import _unpacked
from gold_lightning.inputs import paths
from gold_lightning.inputs.paths import check_folder, expand, folder_for
from gold_lightning.inputs.task_files import find_task_file
from gold_lightning.labelled import check_rows_file, load_rows, load_test_rows
from gold_lightning.storage.replay import Replay
from gold_lightning.t5.inference import SavedStudent
from gold_lightning.t5.weights import load_tokenizer, student_folder
from gold_lightning.task import Task, TestData

pytestmark = pytest.mark.integration

NEWS = Task.load("news_topics")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, beside a working folder that is empty."""
    folder, work = tmp_path / "home", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(work)
    return folder


def test_a_leading_tilde_is_the_home_folder_and_nothing_else_is(home):
    assert expand("k", "~") == str(home)
    assert expand("k", "~/a b") == f"{home}/a b"
    assert expand("k", "~root/x") == os.path.expanduser("~root/x") != "~root/x"
    for path in ("a~b", "a/~/b", "./~", "$HOME/x", "/~", "", "back~"):
        assert expand("k", path) == path
    with pytest.raises(
        ConfigError, match=r"^k: got '~no-such-user/x', expected a home folder for ~no-such-user; .*\./~"
    ):
        expand("k", "~no-such-user/x")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("s3://bucket/runs", "not a URL"),
        ("gs://b", "not a URL"),
        ("hdfs:///runs", "not a URL"),
        ("http://host/x", "not a URL"),
        ("S3://b", "not a URL"),
        ("abfss+x://b", "not a URL"),
        ("file:///data/runs", "not a URL; write /data/runs"),
        ("file:/data/runs", "not a URL; write /data/runs"),
        ("", "'.' is the current one"),
        (" ", "'.' is the current one"),
        ("a\0b", "NUL"),
        ("$HOME/runs", "variables are not expanded"),
        ("${SCRATCH}", "variables are not expanded"),
        ("~no-such-user", "a home folder for ~no-such-user"),
    ],
)
def test_a_folder_that_cannot_be_one(path, told):
    with pytest.raises(ConfigError) as caught:
        folder_for("run.root", path)
    assert str(caught.value).startswith("run.root: got ") and told in str(caught.value)


@pytest.mark.parametrize("path", ["runs", "/data/runs", "a:b", "c:/x", "a$b", "./$HOME", "x y", "Läufe", "a~b"])
def test_a_folder_that_can(path):
    assert folder_for("run.root", path) == Path(path)


def test_places_where_no_folder_can_be_made(tmp_path, monkeypatch):
    def refusal(path, write=True):
        with pytest.raises(ConfigError) as caught:
            check_folder("run.root", path, write=write)
        return str(caught.value)

    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert f"a folder, but {tmp_path / 'file'} is a file" in refusal(tmp_path / "file" / "task" / "run")
    assert refusal(tmp_path / "gone" / "x").endswith("gone is a broken link")
    assert refusal(tmp_path / "loop" / "x").endswith("loop is a broken link")
    assert "(File name too long)" in refusal(tmp_path / ("a" * 256))
    assert "(File name too long)" in refusal(tmp_path.joinpath(*["a" * 250] * 16))
    assert "a file" in refusal(Path("/dev/null/x"))
    check_folder("run.root", tmp_path / "new" / "run", write=True)
    check_folder("run.root", Path("relative"), write=True)
    monkeypatch.setattr(paths.os, "access", lambda path, mode: Path(path) != tmp_path)
    assert refusal(tmp_path / "new").endswith(f"a writable folder, but {tmp_path} is not writable")
    check_folder("run.root", tmp_path / "new", write=False)


def test_every_reader_of_a_path_knows_the_home_folder(home, tiny_student, monkeypatch):
    shipped = Path(NEWS.source)
    shutil.copy(shipped, home / "t.yaml")
    rows = shipped.with_name("news_topics.test.jsonl")
    shutil.copy(rows, home / "rows.jsonl")
    (home / "c.yaml").write_text("run: {name: x}\n", encoding="utf-8")
    (home / "model").symlink_to(tiny_student)
    assert find_task_file("~/t.yaml") == home / "t.yaml"
    assert find_config("~/c.yaml") == str(home / "c.yaml")
    check_rows_file("data.test_file", "~/rows.jsonl")
    assert load_rows(NEWS, "~/rows.jsonl") == load_test_rows(NEWS)
    assert load_test_rows(NEWS, "~/rows.jsonl") == load_test_rows(NEWS)
    assert load_test_rows(replace(NEWS, test=TestData(file="~/rows.jsonl"))) == load_test_rows(NEWS)
    assert student_folder("~/model") == str(home / "model")
    assert load_tokenizer("~/model").get_vocab() == load_tokenizer(tiny_student).get_vocab()
    with pytest.raises(GoldError, match="a student of an older version, without its task"):  # so it was found
        SavedStudent("~/model")
    assert TransformersGenerator("~/model").source() == str(home / "model")
    monkeypatch.setenv("GOLD_LIGHTNING_CACHE", "~/cache")
    assert _unpacked().parent == home / "cache"
    monkeypatch.delenv("GOLD_LIGHTNING_CACHE")
    assert _unpacked().parent == home / ".cache" / "gold_lightning"
    (home / "lora").mkdir()
    (home / "lora" / "adapter_config.json").write_text('{"r": 16}', encoding="utf-8")
    made = VLLMGenerator("~/model", lora="~/lora")._arguments()
    assert made["model"] == str(home / "model") and made["max_lora_rank"] == 16
    (home / "x.ckpt").write_text("no checkpoint", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"got '~/x\.ckpt', expected a checkpoint of a run, and this file is none"):
        check_checkpoint("ckpt_path", "~/x.ckpt")
    (home / "e.yaml").write_text("{name: e, base: ~/c.yaml, arms: {a: {}, b: {}}, root: ~/ex}", encoding="utf-8")
    assert load_experiment(home / "e.yaml").folder == home / "ex" / "e"
    # Lightning expands the folders of some of its own classes alone.
    settings = {"profiler": {"init_args": {"dirpath": "~/p"}}, "logger": [{"init_args": {"save_dir": "~/l"}}]}
    _expand_folders(settings, "trainer")
    assert settings["profiler"]["init_args"] == {"dirpath": str(home / "p")}
    assert settings["logger"][0]["init_args"] == {"save_dir": str(home / "l")}
    assert not list(Path.cwd().iterdir())


def test_what_is_wrong_is_told_of_the_path_as_it_was_written(home):
    (home / "t.yaml").write_text("name: 1\n", encoding="utf-8")
    with pytest.raises(GoldError, match=r"^~/t\.yaml: name: "):
        Task.load("~/t.yaml")
    (home / "t.yaml").write_text("name: [\n", encoding="utf-8")
    with pytest.raises(GoldError, match=r"^~/t\.yaml: not valid YAML"):
        Task.load("~/t.yaml")
    (home / "r.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(GoldError, match=r"^test data ~/r\.jsonl: not JSON"):
        load_test_rows(NEWS, "~/r.jsonl")


@pytest.mark.usefixtures("undrawn_plots", "kept_parsers")
def test_a_run_in_the_home_folder_is_whole(home, tiny_student, capsys):
    source = CONFIGS.parent / "gold_lightning" / "tasks" / "news_topics.yaml"
    text = source.read_text(encoding="utf-8").replace("file: news_topics.test.jsonl", "file: ~/rows.jsonl")
    (home / "t.yaml").write_text(text, encoding="utf-8")
    shutil.copy(source.with_name("news_topics.test.jsonl"), home / "rows.jsonl")
    (home / "model").symlink_to(tiny_student)
    (home / "c.yaml").write_text(
        "run: {root: ~/runs}\ndata: {task: ~/t.yaml, test_file: ~/rows.jsonl}\nmodel: {student: ~/model}\n"
        "trainer: {accelerator: cpu, max_epochs: 1, logger: {class_path: CSVLogger, init_args: {save_dir: ~/logs}}}\n",
        encoding="utf-8",
    )
    common = ["--config", "~/c.yaml", "--data.generator=tests.fakes.NewsWriter", "--data.plan.samples_per_round=8"]
    common += ["--data.plan.probe_per_round=8", "--data.passes_per_round=1", "--trainer.enable_progress_bar=false"]
    run = home / "runs" / "news_topics" / "default"
    assert main(["fit", *common]) == 0
    assert {"checkpoints", "config.yaml", "data", "report.html", "rounds.jsonl", "student"} <= {
        p.name for p in run.iterdir()
    }
    assert (home / "logs").is_dir()
    assert main(["test", *common]) == 0
    assert main(["test", *common, "--ckpt_path=~/runs/news_topics/default/checkpoints/last.ckpt"]) == 0
    replayed = Replay("~/runs/news_topics/default", home / "other", Task.load("news_topics"))
    assert (replayed.folder, replayed.rounds) == (run, 1)
    BaselineSettings(only=["supervised"], train_file="~/rows.jsonl")  # looks whether it is there
    assert main(["report", "~/runs/news_topics/default"]) == 0
    assert main(["tasks", "check", "~/t.yaml"]) == 0
    assert not list(Path.cwd().iterdir())
