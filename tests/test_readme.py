"""What the README shows is what happens."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from gold_lightning.errors import GoldError
from gold_lightning.task import Task

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_task_of_the_readme_is_one(tmp_path):
    path = tmp_path / "tickets.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1])
    assert Task.load(str(path)).label_names == ("billing", "delivery")


def test_the_error_of_the_readme_is_the_one_that_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1]
    Path("tickets.yaml").write_text(good.replace("{name: billing", "{name: yes"))
    with pytest.raises(GoldError) as caught:
        Task.load("tickets.yaml")
    assert f"error: {caught.value}\n" in README


def test_the_student_of_the_readme_writes_labels_alone(capsys):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert "runs/news_topics/quickstart/student" in code
    exec(code.replace("runs/news_topics/quickstart/student", "embedded"), {})  # untrained: any label
    (line,) = capsys.readouterr().out.splitlines()
    (label,) = ast.literal_eval(line)
    assert label in Task.load("news_topics").label_names


def test_every_file_that_the_readme_links_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target
