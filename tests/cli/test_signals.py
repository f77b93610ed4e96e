"""SIGTERM and Ctrl-C before the trainer runs, and handlers of an enclosing program."""

from __future__ import annotations

import os
import signal

import pytest
from gold_lightning.cli.main import main


@pytest.mark.parametrize("stop", ["Ctrl-C", "SIGTERM"])
def test_stopped_before_the_trainer_runs_is_one_line_too(stop, monkeypatch, capsys):
    def begin(_):
        if stop == "SIGTERM":
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # else it would end the suite
            os.kill(os.getpid(), signal.SIGTERM)
        raise KeyboardInterrupt

    monkeypatch.setattr("gold_lightning.cli.lightning_cli.GoldCLI", begin)
    assert main(["fit"]) == 1
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"


def test_a_handler_of_a_program_around_is_left_alone(monkeypatch):
    received = []
    original = signal.signal(signal.SIGTERM, lambda *_: received.append("TERM"))
    monkeypatch.setattr("gold_lightning.cli.lightning_cli.GoldCLI", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    try:
        assert main(["fit"]) == 0
    finally:
        signal.signal(signal.SIGTERM, original)
    assert received == ["TERM"]
