"""A run under three loggers, which is stopped and goes on: each has each round, once."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.watching.loggers import RoundLogger

from tests.fakes import log_records
from tests.integration.test_loop import run

wandb = pytest.importorskip("wandb")
pytest.importorskip("tensorboard")

LOGGERS = """
trainer:
  logger:
    - class_path: lightning.pytorch.loggers.TensorBoardLogger
      init_args: {save_dir: %s, name: "", version: tensorboard}
    - class_path: lightning.pytorch.loggers.WandbLogger
      init_args: {project: gold_lightning, offline: true}
"""


def history(folder):
    """The steps of W&B's history in a run folder, all sittings one after the other; and the ids of their W&B runs."""
    from wandb.proto import wandb_internal_pb2

    steps, ids = [], []
    for path in sorted(folder.rglob("*.wandb")):
        records, deadline = [], time.monotonic() + 60
        while not (records and records[-1].HasField("exit")):  # the service writes it after finish() is back
            assert time.monotonic() < deadline
            records = [wandb_internal_pb2.Record.FromString(data) for data in log_records(path.read_bytes())]
            time.sleep(0.05)
        ids += [record.run.run_id for record in records if record.HasField("run")][:1]
        steps += [
            {"/".join([i.key, *i.nested_key]).strip("/"): json.loads(i.value_json) for i in record.history.item}
            for record in records
            if record.HasField("history")
        ]
    return steps, ids


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_student):
    """A run of three rounds in three sittings.

    W&B is new to the second one, which ends in round 1, when the loggers have it and no checkpoint does.
    """
    root = tmp_path_factory.mktemp("tracked")
    folder = root / "news_topics" / "t"
    config = root / "loggers.yaml"
    config.write_text(LOGGERS % folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        assert run("fit", root, tiny_student, "--trainer.max_epochs", "1") == 0

        def cut_off(self, trainer, module):
            shown(self, trainer, module)
            raise KeyboardInterrupt

        more = ["--config", str(config), "--trainer.log_every_n_steps", "1"]
        shown = RoundLogger.on_train_epoch_end
        with patch.context() as once:
            once.setattr(RoundLogger, "on_train_epoch_end", cut_off)
            with pytest.raises(SystemExit):
                run("fit", root, tiny_student, *more)
        wandb.finish()
        assert len(read_lines(folder / "rounds.jsonl")) == 2
        assert run("fit", root, tiny_student, *more) == 0
        wandb.finish()
    return folder


@pytest.fixture(scope="module")
def steps(folder):
    return history(folder)[0]


def test_wandb_has_one_run_of_all_sittings(folder):
    _, ids = history(folder)
    assert len(ids) == 2 and set(ids) == {(folder / "wandb_id").read_text().strip()}


def test_wandb_has_each_rounds_histograms_once_with_the_right_counts(folder, steps):
    rows = read_lines(folder / "rounds.jsonl")
    shown = [step for step in steps if "round/number" in step]
    assert [step["round/number"] for step in shown] == [0, 1, 2]
    for step, row in zip(shown, rows, strict=True):
        assert step["trainer/global_step"] == row["step"] - 1
        assert sum(step["probe/energy/values"]) == 12 and sum(step["train/energy/values"]) == 16
        assert sum(step["probe/energy_fed_back/values"]) == len(row["fed_back"]) == 4
        assert step["probe/energy/bins"] == step["train/energy/bins"] == step["probe/energy_fed_back/bins"]
        scored = read_lines(folder / "data" / f"round_{row['round']:03d}" / "energies.jsonl")
        energies = [s["energy"] for s in scored if s["kind"] == "probe"]
        edges = step["probe/energy/bins"]
        assert (
            edges[0] <= min(energies) <= step["probe/band_low"] < step["probe/band_high"] <= max(energies) <= edges[-1]
        )


def test_wandb_has_each_rounds_fed_back_samples_with_their_prompts(folder, steps):
    for step, row in zip((s for s in steps if "round/number" in s), read_lines(folder / "rounds.jsonl"), strict=True):
        (path,) = folder.rglob(f"files/{step['probe/fed_back_samples/path']}")
        table = json.loads(path.read_text())
        assert table["columns"] == ["id", "text", "target", "energy", "loss", "prompt"]
        assert sorted(cells[0] for cells in table["data"]) == sorted(row["fed_back"])
        for _, text, target, energy, loss, prompt in table["data"]:
            assert f"topic: {target}" in prompt and len(text) > 20 and energy < 0 < loss
        (image,) = folder.rglob(f"files/{step['probe/energy_band/path']}")
        assert image.read_bytes().startswith(b"\x89PNG")


def test_wandb_has_what_validation_gave_for_every_round(folder, steps):
    for row in read_lines(folder / "rounds.jsonl"):
        own = [s for s in steps if s.get("trainer/global_step") == row["step"] - 1]
        found = [s["val/accuracy"] for s in own if "val/accuracy" in s]
        # Round 0 was before its time. Round 1 was validated twice, and Lightning told W&B each time.
        assert found == pytest.approx([row["metrics"]["val/accuracy"]] * (2 if row["round"] == 1 else 1))


def test_the_workspace_shows_nothing_that_no_run_logs(folder, steps, monkeypatch, capsys):
    pytest.importorskip("wandb_workspaces")
    path = Path(__file__).parents[2] / "examples" / "wandb_workspace.py"
    spec = importlib.util.spec_from_file_location("wandb_workspace", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from wandb_workspaces.workspaces import internal

    sent = []

    def upsert(view):
        sent.append(view)
        return {"upsertView": {"view": {"name": "nw-x-v", "id": "1"}}}

    monkeypatch.setattr(internal, "upsert_view2", upsert)
    monkeypatch.setattr(module.ws.Workspace, "url", "https://wandb.test/w")
    module.main(["--entity", "me", "--project", "p"])
    assert capsys.readouterr().out == "https://wandb.test/w\n"
    module.main(["--entity", "me", "--show"])
    spec = json.loads(capsys.readouterr().out)["section"]["panelBankConfig"]
    assert (sent[0].entity, sent[0].project) == ("me", "p")
    assert [s["name"] for s in spec["sections"]] == ["Result", "Loop", "Data", "Costs"]
    logged = {key for step in steps for key in step} | {"run/cost"}  # the generator of this run has no price
    shown = []
    for panel in (panel for section in spec["sections"] for panel in section["panels"]):
        config = panel["config"]
        shown += config.get("metrics", []) + [key + "/path" for key in config.get("mediaKeys", [])]
        if "metricRegex" in config:
            matching = [key for key in logged if re.fullmatch(config["metricRegex"], key)]
            assert matching, config
    assert len(shown) > 20 and set(shown) <= logged
    assert "probe/fed_back_samples" in json.dumps(spec)


def test_tensorboard_has_each_round_once(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"histograms": 0, "scalars": 0, "tensors": 0})
    found.Reload()
    rows = read_lines(folder / "rounds.jsonl")
    for tag, count in (("probe/energy", 12), ("train/energy", 16), ("probe/energy_fed_back", 4)):
        shown = found.Histograms(tag)
        assert [h.step for h in shown] == [row["step"] - 1 for row in rows]
        assert [h.histogram_value.num for h in shown] == [count] * 3
    for tag in ("round/number", "val/accuracy", "probe/auroc"):
        assert [s.step for s in found.Scalars(tag)] == [row["step"] - 1 for row in rows], tag
    assert [i.step for i in found.Images("probe/energy_band")] == [row["step"] - 1 for row in rows]
    texts = found.Tensors("probe/fed_back_samples/text_summary")
    # This reader does not leave out texts, so round 1, which was made twice, has two.
    assert {t.step for t in texts} == {row["step"] - 1 for row in rows}
    assert all(t.tensor_proto.string_val[0].count(b"\n") == 5 for t in texts)


def test_the_csv_file_has_each_round_once_and_no_step_twice(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("round/number", "val/accuracy", "train/distinct_2", "train/label_World", "round/tokens_per_second"):
        steps = [int(row["step"]) for row in rows if row[name]]
        assert steps == [row["step"] - 1 for row in read_lines(folder / "rounds.jsonl")], name
    losses = Counter(row["step"] for row in rows if row.get("train/loss"))
    assert len(losses) == len(read_lines(folder / "rounds.jsonl")) and max(losses.values()) == 1


def test_wandb_in_a_config_whose_package_is_missing_is_one_line(tmp_path, tiny_student, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert run("fit", tmp_path, tiny_student, "--config", "overlays/wandb.yaml") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: trainer.logger: got ") and "gold-lightning[wandb]" in error


@pytest.mark.slow
def test_wandb_without_a_key_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, forks):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    arguments = ["fit", "--config", "quickstart.yaml", "--config", "overlays/wandb.yaml"]
    done = forks.run([*arguments, "--run.root", str(tmp_path / "runs")], timeout=120)
    assert done.statuses == [2] and not (tmp_path / "runs").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: trainer.logger: got ") and "WANDB_API_KEY" in line and "WANDB_MODE=offline" in line
