"""The view in the terminal."""

import io
import logging
import re
import sys
from types import SimpleNamespace

import pytest
from gold_lightning.interrupt import FINISHING, Stopping
from gold_lightning.planning.progress import Progress
from gold_lightning.storage.json_lines import write_lines
from gold_lightning.task import Sample
from gold_lightning.watching import live
from gold_lightning.watching.live import LiveProgress
from rich.cells import cell_len
from rich.console import Console

HOSTILE = "[bold]a[/bold] [/no] \x1b[31m :smile: \u202e [link=http://x.test]b[/link] " + "日本 " * 99
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def data(tmp_path):
    """As much of a data module as the view looks at: a run of which two rounds are over."""
    rows = [
        {
            "round": r,
            "energy": {"probe": {"mean": -12.5 - r}, "train": {"mean": -13.25}},
            "auroc": 0.66,
            "metrics": {"train/loss": 0.1, "val/loss": 0.5, "val/accuracy": value, "val/metric": value},
        }
        for r, value in ((0, 0.75), (1, 0.5), (2, 0.9))  # the last one is being made again
    ]
    run_dir = tmp_path / "runs" / "[red]run"
    write_lines(run_dir / "rounds.jsonl", rows)
    stored = SimpleNamespace(sample=Sample({"text": HOSTILE}, "Sci/Tech"))
    store = SimpleNamespace(accepted=lambda kind: [stored])
    return SimpleNamespace(
        task=SimpleNamespace(name="news", labels=("Sci/Tech",)),
        run_dir=run_dir,
        round=2,
        watch=None,
        stopping=Stopping(),
        synthesizer=SimpleNamespace(store=lambda round_: store),
    )


def view(data, width=100, **how):
    options = {"force_terminal": True, "markup": False, "emoji": False, "highlight": False, "_environ": {}}
    return LiveProgress(data, Console(file=Terminal(), width=width, height=30, **(options | how)))


def lines(shown):
    """What the view is, as lines without the terminal's codes."""
    with shown.console.capture() as captured:
        shown.console.print(shown.render())
    return CONTROL.sub("", captured.get()).splitlines()


def test_synthesis_shows_quota_yield_speed_energies_and_the_best_round(data, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    shown = view(data)
    shown.on_fit_start(SimpleNamespace(max_epochs=4), None)
    shown.update(Progress(2, "train", 0, 80, 0, 0, 0, 0.0))
    assert "phase    synthesising, 0:00:00" in [line.rstrip() for line in lines(shown)]
    for accepted in (20, 40):
        clock[0] += 10
        shown.update(Progress(2, "train", accepted, 80, 64, accepted, 75 * accepted, accepted / 2))
    shown.update(Progress(2, "train", 0, 80, 0, 0, 0, 0.0, waiting=60.0))  # the clock below is enough
    clock[0] += 5
    text = [line.rstrip() for line in lines(shown)]
    assert "run      news/[red]run, 0:00:25" in text
    assert "round    2 of 0 to 3" in text
    assert any(re.fullmatch(r"accepted ━+.*━+ 40/80 00:20", line) for line in text)
    assert "speed    yield 62%, writes 150 tokens/s" in text
    assert "energy   probe -13.50, train -13.25, AUROC 0.66 (round 1)" in text
    assert "best     val/accuracy 0.750 (round 0)" in text


@pytest.mark.parametrize("width", [100, 40, 30])
def test_no_line_is_wider_than_the_terminal_and_no_text_of_the_generator_acts_on_it(data, width):
    shown = view(data, width)
    shown.on_fit_start(SimpleNamespace(max_epochs=-1), None)
    shown.update(Progress(2, "probe", 4, 8, 8, 4, 300, 2.0))
    text = lines(shown)
    assert all(cell_len(line) <= width - 2 for line in text) and len(text) < 30  # ^C is echoed at the last one's end
    whole = " ".join("".join(line[9:] for line in text).split())
    assert "probing" in whole and "4/8" in whole
    (latest,) = (line for line in text if line.startswith("latest"))
    assert latest.startswith("latest   Sci/Tech: [bold]a[/bold] [/no] \\x1b[31m"[:width].rstrip("[")[: width - 4])
    assert "\u202e" not in "".join(text) and "\x1b" not in "".join(text)


def test_training_and_scoring_show_steps(data, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    shown = view(data)
    trainer = SimpleNamespace(num_training_batches=10, num_val_batches=[2])
    shown.on_train_epoch_start(trainer, None)
    for batch, clock[0] in ((1, 1.0), (3, 2.0)):
        shown.on_train_batch_end(trainer, None, None, None, batch)
    text = "\n".join(lines(shown))
    assert "training, 0:00:02" in text and "4/10 00:03" in text
    shown.on_validation_start(trainer, None)
    shown.on_validation_batch_end(trainer, None, None, None, 0)
    text = "\n".join(lines(shown))
    assert "scoring, 0:00:00" in text and "1/2" in text
    shown.begin_phase("exporting")
    text = "\n".join(lines(shown))
    assert "exporting" in text and "━" not in text  # there is nothing to count


class Boom(BaseException):
    pass


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit, Boom])
def test_whatever_ends_it_the_terminal_is_restored(data, monkeypatch, error):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # a file: it stays one
    handler = logging.StreamHandler(terminal)
    logger = logging.getLogger("tests.live")
    logger.addHandler(handler)
    piped = sys.stdout
    monkeypatch.setenv("TERM", "xterm")
    shown = LiveProgress(data)
    try:
        with shown.display():
            assert data.watch == shown.update and sys.stdout is piped
            logger.warning("[/no] a line of the log")
            print("[/no] a printed", end=" line\n", file=sys.stderr, flush=True)
            print("[/half]", end="", file=sys.stderr, flush=True)
            if error:
                raise error
    except BaseException as e:
        assert type(e) is error
    logger.removeHandler(handler)
    assert handler.stream is terminal is sys.stderr and data.watch is None
    written = terminal.getvalue()
    assert "[/no] a line of the log" in written and "[/no] a printed line" in written and "[/half]" in written
    assert written.count("\x1b[?25l") == 1 and written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert written.rstrip().endswith("\x1b[2K") or written.rstrip().endswith("\x1b[?25h")


def test_a_second_ctrl_c_while_it_stops_leaves_the_cursor_shown(data, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    shown = LiveProgress(data)

    def stop(self):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), shown.display():
        started = shown.console._live_stack[-1]
        monkeypatch.setattr(live.Live, "stop", stop)
    monkeypatch.undo()
    assert terminal.getvalue().rstrip().endswith("\x1b[?25h")
    started.stop()  # ends its thread


def test_no_color_has_no_colour(data):
    coloured, plain = view(data, _environ={"TERM": "xterm-256color"}), view(data, _environ={"NO_COLOR": "1"})
    for shown in (coloured, plain):
        shown.update(Progress(2, "train", 4, 8, 8, 4, 300, 2.0))
    found = []
    for shown in (coloured, plain):
        with shown.console.capture() as captured:
            shown.console.print(shown.render())
        found.append(re.findall(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])[\d;]*m", captured.get()))
    assert found[0] and not found[1]


@pytest.mark.parametrize(
    ("stream", "term", "possible"),
    [(Terminal, "xterm", True), (Terminal, "dumb", False), (Terminal, "unknown", False), (io.StringIO, "xterm", False)],
)
def test_it_is_shown_where_lines_can_be_redrawn(stream, term, possible, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setenv("TERM", term)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    assert LiveProgress.supported() is possible


def test_a_stop_that_is_wanted_stands_in_the_view_and_not_below_it(data, capfd):
    shown = view(data)
    with shown.display():
        data.stopping.wanted = True
        data.stopping.announce()
        assert any(line.rstrip().split(maxsplit=1) == ["stopping", FINISHING] for line in lines(shown))
    assert capfd.readouterr().err == ""
    data.stopping.announce()
    assert capfd.readouterr().err == f"\n{FINISHING}\n"
