"""A whole run in a locale that is not UTF-8, with labels that it cannot write."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gold_lightning.generators import ScriptedGenerator

ROOT = Path(__file__).parent.parent.parent
TASK = {
    "name": "reviews",
    "description": "Each sample is a review of a café.",
    "fields": [{"name": "text", "description": "a sentence", "max_chars": 200}],
    "target": {"name": "mood", "description": "what the guest thinks"},
    "labels": [{"name": "好", "meaning": "likes it"}, {"name": "坏", "meaning": "does not"}],
    "demos": [
        {"text": "The café is warm — I stay.", "mood": "好"},
        {"text": "Cold soup and a long wait.", "mood": "坏"},
    ],
    "student": {"input": "{text}"},
    "test": {"file": "rows.jsonl"},
}
WORDS = [f"{a}{b}é" for a in "bcdfglmnprst" for b in ("alo", "erin", "ostu", "ivad")]
COMMANDS = """
import sys
from gold_lightning.cli.main import main

def run(*args):
    try:
        status = main(list(args))
    except SystemExit as e:
        status = e.code
    print("status", args[0], status, flush=True)

import locale
import pytest
from tests.shortcuts import keep_parsers, leave_plots_undrawn
leave_plots_undrawn(pytest.MonkeyPatch())
keep_parsers(pytest.MonkeyPatch())
assert locale.getencoding().lower() not in ("utf-8", "utf8"), locale.getencoding()
common = ["--data.task", "task.yaml", "--model.student", sys.argv[1], "--run.root", "runs", "--trainer.accelerator=cpu"]
common += ["--data.generator", "tests.integration.test_locale.Writer", "--data.plan.samples_per_round=8"]
common += ["--data.plan.probe_per_round=8", "--data.passes_per_round=1", "--trainer.enable_progress_bar=true"]
common += ["--trainer.max_epochs"]
run("preview", *common, "1")
run("fit", *common, "1")
run("fit", *common, "2")
run("test", *common, "2")
run("baselines", *common, "2", "--baselines.only=[majority,zero_shot]")
run("tasks", "check", "task.yaml")
run("report", "runs/reviews/default")
"""


class Writer(ScriptedGenerator):
    """Writes words with accents."""

    def __init__(self) -> None:
        super().__init__(lambda r: " " + " ".join(random.Random(r.seed).sample(WORDS, 12)) + ".", batch_size=8)


@pytest.mark.slow
def test_every_command_works_in_a_locale_that_is_not_utf_8(tmp_path, tiny_student):
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(TASK, allow_unicode=True), encoding="utf-8")
    rows = [{"text": f"Très {i}", "mood": mood} for i, mood in enumerate("好坏好")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX"}
    env |= {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", COMMANDS, tiny_student]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
    lines = [line for line in done.stdout.splitlines() if line.startswith("status")]
    every = ["preview", "fit", "fit", "test", "baselines", "tasks", "report"]
    assert lines == [f"status {name} 0" for name in every], done.stderr
    assert "Traceback" not in done.stderr and "Logging error" not in done.stderr
    assert "*" in done.stdout and r"\u2022" not in done.stdout  # the bar's dot
    assert r"\u597d" in done.stdout
    folder = tmp_path / "runs" / "reviews" / "default"
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["round/number"] for row in read if row.get("round/number")] == ["0", "1"]
    assert any("好" in name for name in read[0])
    assert "好" in (folder / "report.html").read_text(encoding="utf-8")
