"""A run in a terminal: a pseudo-terminal, read to its end."""

from __future__ import annotations

import os
import pty
import re
import sys
import threading
from contextlib import suppress

import pytest

from tests.integration.test_loop import rounds, run

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """Standard error as a terminal of 60 columns, from here on; :meth:`text` ends it and gives what was written."""

    def __init__(self, monkeypatch):
        # Not in a fixture: pytest sets its own standard error between that and the test.
        self._ours, theirs = pty.openpty()
        self._found = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._stream = open(theirs, "w", buffering=1)
        monkeypatch.setattr(sys, "stderr", self._stream)
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "30"}.items():
            monkeypatch.setenv(name, value)

    def _read(self):
        with suppress(OSError):  # closed
            while part := os.read(self._ours, 65536):
                self._found.extend(part)

    def text(self):
        print("the end", file=self._stream)
        self._stream.close()
        self._reader.join(10)
        os.close(self._ours)
        written = self._found.decode().replace("\r\n", "\n")
        assert written.endswith("the end\n")
        return written


def test_a_run_shows_its_phases_and_leaves_the_terminal_as_it_was(tmp_path, tiny_student, monkeypatch, caplog):
    terminal = Terminal(monkeypatch)
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "2") == 0
    written = terminal.text()
    text = CONTROL.sub("", written)
    for phase in ("synthesising", "training", "probing", "scoring", "exporting"):
        assert f"phase    {phase}, " in text, phase
    assert "round    2" not in text  # there are two
    assert "round    1 of 0 to 1" in text and "16/16" in text and "tokens/s" in text and "best     val/accuracy" in text
    assert all(len(line) <= 60 for line in re.split(r"[\r\n]+", text))
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    # The view stands in for the lines of progress, not for the line of a round.
    assert not [r for r in caplog.records if "tokens/s" in r.message]
    assert len([r for r in caplog.records if r.message.startswith("round ")]) == 2
    assert len(rounds(tmp_path)) == 2


def test_a_run_that_is_stopped_leaves_the_terminal_as_it_was(tmp_path, tiny_student, monkeypatch):
    terminal = Terminal(monkeypatch)
    before = sys.stderr
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run("fit", tmp_path, tiny_student, "--data.generator.init_args.fail_after", "30")
    assert sys.stderr is before
    written = terminal.text()
    assert "synthesising" in written and "stopped; the same command goes on from here" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    after = written[written.rindex("\x1b[?25h") :]
    assert "phase" not in after and "stopped; the same" in after


def test_a_terminal_that_cannot_redraw_gets_plain_lines(tmp_path, tiny_student, monkeypatch, caplog):
    terminal = Terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    assert run("fit", tmp_path, tiny_student, "--trainer.max_epochs", "1") == 0
    assert "\x1b" not in terminal.text()
    lines = [r.message for r in caplog.records if "tokens/s" in r.message]
    assert lines[-1].startswith("round 0 probe set: 12/12, yield ")
    assert any(line.startswith("round 0 training samples: 16/16, yield ") for line in lines)


def test_a_run_without_the_view_and_without_loggers_is_a_run(tmp_path, tiny_student, monkeypatch, caplog):
    terminal = Terminal(monkeypatch)
    more = ["--trainer.max_epochs", "1", "--run.live", "false", "--trainer.logger", "false"]
    assert run("fit", tmp_path, tiny_student, *more) == 0
    assert "\x1b" not in terminal.text() and "round 0 probe set: 12/12, yield " in caplog.text
    folder = tmp_path / "news_topics" / "t"
    assert len(rounds(tmp_path)) == 1
    assert not {"metrics.csv", "logged.json", "wandb_id", "tensorboard"} & {p.name for p in folder.iterdir()}
