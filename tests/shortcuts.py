"""Leaves out what takes a large part of a small run and is tested elsewhere."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest


def leave_plots_undrawn(patch: pytest.MonkeyPatch) -> None:
    """Gives reports and loggers empty plots: drawing takes a third of a small run. ``tests/report`` draws them."""
    import numpy as np
    from gold_lightning.report import known, labels, page, panels
    from gold_lightning.watching.loggers import RoundRecord
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import writer

    patch.setattr(page, "drawing", nullcontext)
    plots = {page: "forest", known: "coverage", labels: "bars", panels: "histogram lines ridge stacked"}
    for module, names in plots.items():
        for name in names.split():
            patch.setattr(module, name, lambda *args, **how: '<svg class="plot" aria-hidden="true"></svg>')
    patch.setattr(RoundRecord, "figure", lambda record: Figure(figsize=(1, 1)))
    patch.setattr(writer, "figure_to_image", lambda figure, close: np.zeros((3, 1, 1), np.uint8))


def keep_parsers(patch: pytest.MonkeyPatch) -> None:
    """Builds the parser of each command once for all command lines of this process, which takes half of parsing.

    One that failed before it could print its config would print that of the next command line, and is built anew.
    """
    from gold_lightning.cli.lightning_cli import GoldCLI

    built: dict[str, dict[str, Any]] = {}
    build, parse = GoldCLI.setup_parser, GoldCLI.parse_arguments
    made = ("parser", "command_parser", "_subcommand_parsers", "_subcommand_method_arguments")

    def setup_parser(cli: GoldCLI, *args: Any, **how: Any) -> None:
        if cli._command not in built:
            build(cli, *args, **how)
            built[cli._command] = {name: getattr(cli, name) for name in made}
        vars(cli).update(built[cli._command])

    def parse_arguments(cli: GoldCLI, *args: Any) -> None:
        try:
            parse(cli, *args)
        except BaseException:
            if any(argument.startswith("--print_config") for argument in cli._args):
                del built[cli._command]
            raise

    patch.setattr(GoldCLI, "setup_parser", setup_parser)
    patch.setattr(GoldCLI, "parse_arguments", parse_arguments)
