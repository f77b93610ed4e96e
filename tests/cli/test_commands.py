"""The program's name, its help, and what it answers at once."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import gold_lightning
import pytest
from gold_lightning.cli import commands
from gold_lightning.cli.commands import COMMANDS, answered
from gold_lightning.cli.main import _imports, main
from gold_lightning.errors import GoldError

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent.parent


def called(*args):
    """Runs the program in a process that may not import torch."""
    code = (
        f"import runpy, sys; sys.modules['torch'] = None; sys.argv = ['', *{list(args)!r}]; "
        "runpy.run_module('gold_lightning', run_name='__main__', alter_sys=True)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


ENDS = """
import atexit, runpy, sys, threading, time, types
def main():
    atexit.register(print, "what a library does at the end")
    threading.Thread(target=lambda: (time.sleep(0.1), print("a thread"))).start()
    {}
sys.modules["gold_lightning.cli.main"] = types.SimpleNamespace(main=main)
sys.argv = ["", "fit"]
runpy.run_module("gold_lightning", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("end", "status", "last"),
    [
        ("return 3", 3, None),
        ("raise SystemExit", 0, None),
        ("raise SystemExit(2)", 2, None),
        ("raise SystemExit('gone')", 1, "gone"),
        ("raise ValueError('a fault')", 1, "ValueError: a fault"),
    ],
)
def test_the_program_ends_as_any_other(end, status, last):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ENDS.format(end)], env=env, capture_output=True, text=True)
    assert done.returncode == status
    assert done.stdout == "a thread\nwhat a library does at the end\n"
    assert (done.stderr.splitlines() or [None])[-1] == last


def test_what_commands_leave_is_garbage_still_and_looked_for(monkeypatch):
    frozen = gc.get_freeze_count()
    with _imports():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() == frozen
    gc.disable()
    try:
        with _imports():
            monkeypatch.setitem(sys.modules, "imported_for_the_first_time", sys)
        assert not gc.isenabled() and gc.get_freeze_count() > frozen
    finally:
        gc.enable()


def test_version_needs_no_torch():
    done = called("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gold-lightning {gold_lightning.__version__}\n", "")


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["help"]])
def test_help_is_one_list_of_all_commands(args):
    done = called(*args)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m gold_lightning COMMAND ...\n")
    listed = re.findall(r"^  (\w+) +\S.*$", done.stdout, re.MULTILINE)
    assert listed == list(COMMANDS)
    assert "  --version " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_bare_call_is_the_help_and_an_error():
    done = called()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == called("--help").stdout


def test_the_help_names_the_program_as_it_was_called(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/gold-lightning"])
    assert answered(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: gold-lightning COMMAND ...\n")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("train", "did you mean fit?"),
        ("FIT", "did you mean fit?"),
        ("--fit", "did you mean fit?"),
        ("tests", "did you mean test?"),
        ("prewiev", "did you mean preview?"),
        ("baseline", "did you mean baselines?"),
        ("evaluate", "did you mean test?"),
        ("task", "did you mean tasks?"),
        ("validation", "did you mean validate?"),
        ("report.html", "did you mean report?"),
        ("quickstart.yaml", "fit --config quickstart.yaml?"),
    ],
)
def test_an_unknown_command_names_the_nearest_and_lists_all(word, meant):
    with pytest.raises(GoldError) as caught:
        answered([word])
    line = str(caught.value)
    assert line.startswith("command: got ") and meant in line
    assert all(name in line for name in COMMANDS)


def test_a_help_that_nobody_reads_is_no_traceback():
    command = f"{sys.executable} -m gold_lightning --help"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 141) and done.stderr == ""


def test_an_unknown_command_is_refused_without_torch():
    done = called("nothing-like-it", "--config", "quickstart.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: command: got 'nothing-like-it', expected one of fit, ")
    assert "did you mean" not in line


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help_of_its_own(name, capsys, monkeypatch):
    monkeypatch.setattr(commands.sys, "argv", ["gold-lightning"])
    args = ["help", name] if name in ("fit", "tasks") else [name, "--help"]
    with pytest.raises(SystemExit) as done:
        main(args)
    assert done.value.code == 0
    text = capsys.readouterr().out
    usage = " ".join(text.split("\n\n")[0].split())
    assert usage.startswith(f"usage: gold-lightning {name} ")
    assert len(usage) < 600
    if name == "fit":
        sections = re.findall(r"^([\w.]+): ", text, re.MULTILINE)
        assert {"data", "data.plan", "data.budget", "model", "feedback", "trainer", "checkpoint"} <= {*sections}


@pytest.mark.parametrize(
    "args", [["--config", "quickstart.yaml", "fit"], ["--config=quickstart.yaml"], ["--run.name", "x"]]
)
def test_settings_before_the_command_are_refused_since_they_would_be_ignored(args, capsys):
    assert main(args) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: command: got {args[0]!r}, expected one of fit, ")
    assert line.endswith("; it comes before its settings")
