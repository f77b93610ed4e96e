"""The README: its size, its numbers, the errors it promises."""

import re
from pathlib import Path

import pytest
from gold_lightning.errors import GoldError
from gold_lightning.task import Task

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TASK = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1]


def test_it_is_read_in_five_minutes():
    assert len(README.encode()) <= 9 * 1024


def test_its_task_is_one(tmp_path):
    path = tmp_path / "tickets.yaml"
    path.write_text(TASK, encoding="utf-8")
    assert Task.load(str(path)).label_names == ("payment", "delivery")


def test_a_label_that_yaml_reads_as_no_text_is_named(tmp_path):
    path = tmp_path / "tickets.yaml"
    path.write_text(TASK.replace("{name: payment", "{name: yes"), encoding="utf-8")
    with pytest.raises(GoldError, match=r"labels\[0\]\.name: got True"):
        Task.load(str(path))


def test_its_numbers_are_those_of_the_documentation():
    results = README[README.index("## Results") : README.index("## Is this for you")]
    numbers = re.findall(r"\d+\.\d % \(\d+\.\d to \d+\.\d\)", results)
    pages = "".join(
        (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("start.md", "results.md", "earlier-results.md")
    )
    assert len(numbers) >= 3
    assert [number for number in numbers if number not in pages] == []
