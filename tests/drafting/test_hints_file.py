"""Hints are written into a task file, and no other character of it changes."""

from __future__ import annotations

import difflib

import pytest
import yaml
from gold_lightning.drafting.hints_file import fill_hints
from gold_lightning.errors import GoldError
from gold_lightning.inputs.task_files import shipped_tasks

HINTS = {"spam": ["a prize", "a bank: yours", "'#1'"], "ham": ["lunch", "新闻"]}
BLOCK = """\
# mine
labels:   # two
  - name: spam   # junk
    meaning: >-
      unwanted
      advertising

  - meaning: all else
    name: ham
# the end
target: x
"""
FLOW = "labels: [{name: spam, meaning: junk}, {meaning: 'a } b', name: ham,}]  # both\ntarget: x"
EMPTY = 'labels:\n- name: spam\n  hints: []  # none yet\n  meaning: "junk" # c\n- {name: ham, hints: , meaning: m}\n'
LAST = "target: x\nlabels:\n- name: spam\n  meaning: junk\n- name: ham\n  meaning: good"


@pytest.mark.parametrize("text", [BLOCK, FLOW, EMPTY, LAST, BLOCK.replace("\n", "\r\n"), "\ufeff" + LAST])
def test_labels(text):
    changed = fill_hints(text, HINTS)
    values = yaml.safe_load(changed)
    assert {label["name"]: label.pop("hints") for label in values["labels"]} == HINTS
    before = yaml.safe_load(text)
    for label in before["labels"]:
        label.pop("hints", None)
    assert values == before
    removed = [part[2:] for part in difflib.ndiff(text, changed) if part.startswith("- ")]
    assert "".join(removed).strip("[]") == ""  # but for the empty list
    assert ("\r\n" in changed) == ("\r\n" in text) and changed.count("\r\n") in (0, changed.count("\n"))


@pytest.mark.parametrize(
    "text",
    ["name: t\n", "name: t", "hints: {}\nname: t\n", "hints:\n  styles: [a]\nname: t\n", "hints: {topics: []}\n"],
)
def test_topics(text):
    values = yaml.safe_load(fill_hints(text, {"": ["a bridge", "a river"]}))
    assert values.pop("hints")["topics"] == ["a bridge", "a river"]
    assert values == {key: value for key, value in yaml.safe_load(text).items() if key != "hints"}


@pytest.mark.parametrize("name", [name for name in shipped_tasks() if name != "news_topics"])
def test_shipped_tasks_take_hints(name):
    text = shipped_tasks()[name].read_text(encoding="utf-8")
    labels = [label["name"] for label in yaml.safe_load(text).get("labels", ())]
    if not labels:
        return
    changed = fill_hints(text, {label: ["one", "two"] for label in labels})
    assert [line for line in changed.splitlines() if line not in text.splitlines()] == ["    hints: [one, two]"] * len(
        labels
    )


def test_a_file_that_cannot_be_edited_gives_the_hints_in_the_message():
    text = "x: &x {name: spam, meaning: m}\nlabels: [*x, {name: ham, meaning: n}]\n"
    with pytest.raises(GoldError, match=r"spam: \[a prize") as refused:
        fill_hints(text, HINTS, "mine.yaml")
    assert str(refused.value).startswith("mine.yaml: ")
