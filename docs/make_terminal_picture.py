"""Draws the live display of a run as ``docs/terminal.svg``: ``python docs/make_terminal_picture.py [SETTINGS OF FIT]``.

It makes a real run in a temporary folder and takes the picture in the middle of a round, the log lines so far above it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from gold_lightning.cli import lightning_cli as cli
from gold_lightning.cli.main import main
from gold_lightning.planning.progress import Progress
from gold_lightning.watching.live import LiveProgress
from rich.console import Console
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler

PICTURE = Path(__file__).parent / "terminal.svg"
ROUND = 1  # the first that shows energies and a metric
DEFAULTS = ["--config", "quickstart.yaml"]
COMMAND = "$ gold-lightning fit --config quickstart.yaml"


class PicturedProgress(LiveProgress):
    """The live display, drawn where nobody looks but for one picture."""

    def __init__(self, data: Any) -> None:
        super().__init__(data, Console(file=open("/dev/null", "w"), force_terminal=True, markup=False))
        self.recorder = Console(file=open("/dev/null", "w"), record=True, force_terminal=True, width=96, markup=False)
        self.recorder.print(COMMAND, style="bold", highlight=False)
        plain: dict[str, Any] = {"show_time": False, "show_level": False, "show_path": False, "keywords": []}
        handler = RichHandler(console=self.recorder, highlighter=NullHighlighter(), **plain)
        logging.getLogger("gold_lightning").addHandler(handler)

    @staticmethod
    def supported() -> bool:
        """Also without a terminal."""
        return True

    def update(self, progress: Progress) -> None:
        """Takes the picture once half of the round's training samples are there."""
        super().update(progress)
        if progress.round == ROUND and progress.kind == "train" and 2 * progress.accepted >= progress.quota:
            self.console.width = self.recorder.width
            self.recorder.print(self.render())
            svg = self.recorder.export_svg(title="gold-lightning")
            PICTURE.write_text(
                re.sub(r" *@font-face {.*?}\n", "", svg, flags=re.DOTALL), encoding="utf-8"
            )  # remote fonts
            raise KeyboardInterrupt


def draw(settings: list[str]) -> None:
    """Runs ``fit`` until the picture is taken.

    Raises:
        SystemExit: The run ended without it.
    """
    PICTURE.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(cli, "LiveProgress", PicturedProgress):
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            main(["fit", *settings, "--run.root", folder, "--run.name", "a"])
    if not PICTURE.exists():
        raise SystemExit("the run ended before the middle of its second round: no picture")
    print(PICTURE)


if __name__ == "__main__":
    draw(sys.argv[1:] or DEFAULTS)
