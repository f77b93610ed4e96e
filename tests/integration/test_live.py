"""A run in a terminal: a pseudo-terminal, read to its end."""

from __future__ import annotations

import os
import pty
import re
import sys
import threading

import pytest

from tests.integration.test_loop import rounds, run

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def terminal(monkeypatch):
    """Makes standard error a terminal; calling it gives what was written there so far."""
    ours, theirs = pty.openpty()
    found = bytearray()

    def read():
        try:
            while part := os.read(ours, 65536):
                found.extend(part)
        except OSError:  # closed
            pass

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    stream = open(theirs, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "30")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)

    def written():
        stream.close()
        thread.join(10)
        os.close(ours)
        return found.decode()

    yield written


def test_a_run_shows_its_phases_and_leaves_the_terminal_as_it_was(terminal, tmp_path, tiny_student, caplog):
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "2") == 0
    written = terminal()
    text = CONTROL.sub("", written)
    for phase in ("synthesising", "training", "probing", "scoring", "exporting"):
        assert f"phase    {phase}, " in text, phase
    assert "round    1 of 0 to 1" in text and "16/16" in text and "tokens/s" in text and "best     val/accuracy" in text
    assert all(len(line) <= 60 for line in re.split(r"[\r\n]+", text))
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    # The view stands in for the lines of progress, not for the line of a round.
    assert not [r for r in caplog.records if "tokens/s" in r.message]
    assert len([r for r in caplog.records if r.message.startswith("round ")]) == 2
    assert len(rounds(tmp_path)) == 2


def test_a_run_that_is_stopped_leaves_the_terminal_as_it_was(terminal, tmp_path, tiny_student):
    before = sys.stderr
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run("fit", tmp_path, tiny_student, "--data.generator.init_args.fail_after", "30")
    assert sys.stderr is before
    written = terminal()
    assert "synthesising" in written and "stopped; the same command goes on from here" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    after = written[written.rindex("\x1b[?25h") :]
    assert "phase" not in after and "stopped; the same" in after


@pytest.mark.parametrize("how", ["term", "setting"])
def test_where_it_is_not_wanted_there_are_plain_lines(how, terminal, tmp_path, tiny_student, monkeypatch, caplog):
    more = ["--trainer.max_epochs", "1"]
    if how == "term":
        monkeypatch.setenv("TERM", "dumb")
    else:
        more += ["--run.live", "false"]
    assert run("fit", tmp_path, tiny_student, *more) == 0
    assert "\x1b" not in terminal()
    lines = [r.message for r in caplog.records if "tokens/s" in r.message]
    assert lines[-1].startswith("round 0 probe set: 12/12, yield ")
    assert any(line.startswith("round 0 training samples: 16/16, yield ") for line in lines)
