"""``push``: a student with its card and a run's samples arrive at the hub, and nothing else; a refusal is one line."""

import json
import re
import shutil
from pathlib import Path

import gold_lightning as gl
import pytest
from gold_lightning.calibration.describe import describe
from gold_lightning.cli.main import main
from huggingface_hub import DatasetCard, ModelCard, constants
from huggingface_hub.repocard_data import model_index_to_eval_results

from tests.hub_server import local_hub
from tests.integration.test_loop import run

pytestmark = pytest.mark.integration

SECRET = "hf_secretSECRETsecret"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_student):
    """A run of two rounds, tested, with the folder that a user would have."""
    root = tmp_path_factory.mktemp("machine_of_ann")
    assert run("fit", root, tiny_student, "--trainer.max_epochs=2") == 0
    assert run("test", root, tiny_student, "--trainer.max_epochs=2") == 0
    return root / "news_topics" / "t"


@pytest.fixture
def hub(monkeypatch):
    with local_hub(**{SECRET: "ann"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", SECRET)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server


def refusal(capsys, *args):
    assert main(["push", *args]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def assert_tells_nothing(text, folder):
    """Neither the secret, nor a path or name of this machine."""
    assert SECRET not in text and "machine_of_ann" not in text and str(folder.parents[1]) not in text
    assert not re.search(r"/(?:home|tmp|root|Users)/", text)


def test_a_student_arrives_with_its_card_and_loads_again(finished, hub, capsys, tmp_path):
    (finished / "student" / "notes.txt").write_text("my own")
    assert main(["push", str(finished), "ann/topics"]) == 0
    assert capsys.readouterr().out == f"{hub.url}/ann/topics/commit/{'1' * 40}\n"
    pushed = hub.repos["model", "ann/topics"]
    assert pushed["private"] is True
    local = {p.name: p.read_bytes() for p in (finished / "student").iterdir() if p.name != "notes.txt"}
    assert pushed["files"] == local and {"README.md", "gold_task.json", "model.safetensors"} <= local.keys()
    for content in (pushed["files"]["README.md"], pushed["files"]["gold_task.json"]):
        assert_tells_nothing(content.decode(), finished)
    for name, content in pushed["files"].items():  # on another machine, after a move
        (tmp_path / name).write_bytes(content)
    assert main(["predict", str(tmp_path), "Team wins."]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "Team wins."


def test_the_model_card_passes_the_hubs_own_reader(finished):
    card = ModelCard((finished / "student" / "README.md").read_text())
    data = card.data
    assert data.library_name == "transformers" and data.pipeline_tag == "text-classification"
    assert data.tags == ["gold-lightning", "knowledge-distillation", "synthetic-data", "t5"]
    results = json.loads((finished / "results.json").read_text())["results"]["student"]
    name, read = model_index_to_eval_results(data.to_dict()["model-index"])
    assert name == "news_topics"
    assert {r.metric_type: r.metric_value for r in read} == {
        m: round(results[m]["value"], 4) for m in ("accuracy", "macro_f1")
    }
    assert "NewsWriter" in card.text and "Training samples: 32." in card.text
    low, high = results["accuracy"]["interval"]
    assert f"{100 * results['accuracy']['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})" in card.text
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    names = {}
    exec(code.replace("FOLDER", str(finished / "student")), names)
    assert names["prediction"] in ("World", "Sports", "Business", "Sci/Tech")


def test_calibrating_a_moved_student_changes_that_section_of_its_card_alone(finished, tmp_path):
    moved = shutil.copytree(finished / "student", tmp_path / "moved")
    before = (moved / "README.md").read_text()
    assert "\n## Known or not\n\n- " in before
    rows = [gl.Sample({"text": f"Team {i} won."}, "Sports") for i in range(40)]
    calibration = gl.calibrate(moved, rows)
    after = (moved / "README.md").read_text()
    start, end = before.index("- ", before.index("\n## Known or not\n")), before.index("\n\n## Limits")
    assert after.startswith(before[:start]) and after.endswith(before[end:])
    told = after[start : len(after) - len(before) + end]
    assert told.splitlines() == [f"- {line}" for line in describe(calibration)] and "40 " in told
    gl.calibrate(moved, rows)
    assert (moved / "README.md").read_text() == after


def test_the_samples_arrive_as_a_data_set(finished, hub, tmp_path, capsys):
    from datasets import load_dataset

    assert main(["push", str(finished / "student"), "ann/topics-data", "--dataset", "--public"]) == 0
    pushed = hub.repos["dataset", "ann/topics-data"]
    assert pushed["private"] is False and pushed["files"].keys() == {"README.md", "train.parquet", "validation.parquet"}
    card = DatasetCard(pushed["files"]["README.md"].decode())
    assert card.data.size_categories == "n<1K" and "| `train` | 32 |" in card.text
    for name, content in pushed["files"].items():
        (tmp_path / name).write_bytes(content)
        assert SECRET.encode() not in content and b"machine_of_ann" not in content
    loaded = load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))  # by the configs of the card
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 32, "validation": 24}
    assert {"text", "topic", "id", "energy"} <= set(loaded["train"].column_names)


def test_a_second_push_goes_to_the_same_repository(finished, hub):
    assert main(["push", str(finished), "ann/topics"]) == 0
    assert main(["push", str(finished), "ann/topics", "--public"]) == 0
    assert hub.repos["model", "ann/topics"]["private"] is True  # as its owner has set it


@pytest.mark.parametrize("repo", ["topics", "a/b/c", "ann/to pics", "ann/--x", "", "https://huggingface.co/ann/x"])
def test_a_wrong_name_is_refused_before_anything_is_sent(repo, finished, hub, capsys):
    assert refusal(capsys, str(finished), repo).startswith("error: REPO: got ")
    assert hub.requests == []


def test_refusals_of_the_hub_are_one_line(finished, hub, capsys, monkeypatch):
    assert "403" in refusal(capsys, str(finished), "bob/topics")
    hub.refused = 500
    line = refusal(capsys, str(finished), "ann/topics")
    assert "500" in line and "the hub refuses" in line
    hub.refused = 0
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    line = refusal(capsys, str(finished), "ann/topics")
    assert "HF_TOKEN" in line and "hf_wrong" not in line
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in refusal(capsys, str(finished), "ann/topics")
    assert hub.repos == {}


def test_what_is_no_student_is_refused(tmp_path, finished, hub, capsys):
    assert refusal(capsys, str(tmp_path), "ann/topics").startswith("error: STUDENT: got ")
    assert refusal(capsys, str(tmp_path), "ann/topics", "--dataset").startswith("error: STUDENT: got ")
    copy = tmp_path / "moved"
    copy.mkdir()
    (copy / "gold_task.json").write_bytes((Path(finished) / "student" / "gold_task.json").read_bytes())
    assert "model card" in refusal(capsys, str(copy), "ann/topics")
    assert hub.requests == []
