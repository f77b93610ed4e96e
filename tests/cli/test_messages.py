"""Wrong inputs: one line each, with exit status 2, no traceback, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gold_lightning.cli.main import main
from gold_lightning.cli.messages import Given, of_parser
from gold_lightning.generators import OpenAIGenerator, VLLMGenerator
from gold_lightning.planning.plan import SynthesisPlan

from tests.cli.bad_inputs import BAD, lines_of

ROOT = Path(__file__).parent.parent.parent


def test_there_are_enough_and_none_stands_twice():
    assert len(BAD) >= 60
    assert len({case.what for case in BAD}) == len(BAD)
    assert {case.what for case in BAD} >= set(IN_A_PROCESS)


@pytest.mark.parametrize("case", BAD, ids=[case.what[:60] for case in BAD])
def test_a_wrong_input_is_one_line_and_leaves_nothing(case, tmp_path, monkeypatch, tiny_student):
    monkeypatch.chdir(tmp_path)
    status, lines = lines_of(case, tiny_student)
    assert status == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert [told for told in case.tells if told not in lines[0]] == [], lines[0]
    there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    given = {str(Path(name)) for name in case.files}
    assert there == given


IN_A_PROCESS = ["a section twice", "a command that there is not", "an unquoted yes as a label", "`--ckpt_path hpc`"]


@pytest.mark.parametrize("case", [c for c in BAD if c.what in IN_A_PROCESS], ids=lambda c: c.what)
def test_the_program_itself_exits_with_2(case, tmp_path, tiny_student):
    case.place(tmp_path)
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gold_lightning", *case.argv(tiny_student)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert [told for told in case.tells if told not in line] == []


def test_off_without_quotes_is_off(tmp_path, monkeypatch, capsys):
    # YAML reads off as false.
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("data: {plan: {label_agreement: off, decontaminate: off}}\n")
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", "c.yaml", "--print_config"])
    assert done.value.code == 0
    plan = SynthesisPlan(label_agreement=False, decontaminate=False)
    assert plan == SynthesisPlan(label_agreement="off", decontaminate="off")
    assert VLLMGenerator("m", schema=False).schema == "off" and VLLMGenerator("m", schema=True).schema == "json"
    for given, meant in ((False, "off"), (True, "json_schema")):
        assert OpenAIGenerator("m", "http://localhost:1/v1", schema=given).schema == meant


def test_a_message_that_is_not_understood_is_one_line_still():
    told = str(of_parser(ValueError('Parser key "data.plan":\n  something\n  new'), Given()))
    assert told == "data.plan: something new"
