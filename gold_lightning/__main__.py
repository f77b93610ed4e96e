"""``python -m gold_lightning`` and the console script ``gold-lightning``."""

import os
import sys
from contextlib import suppress

from gold_lightning.cli.commands import answered, is_command
from gold_lightning.cli.streams import readable_streams, with_output
from gold_lightning.errors import GoldError


def run() -> None:
    """Runs the command line and exits with its status."""
    _find_classes_here()
    if is_command(sys.argv[1:]):
        from gold_lightning.cli.main import main  # takes seconds to import

        sys.exit(main())
    with readable_streams():
        sys.exit(with_output(_status))


def _find_classes_here() -> None:
    """Has classes of the working folder be found by the console script too, as ``python -m`` finds them.

    Not if Python is told to import nothing from there (``-P``, ``PYTHONSAFEPATH``, ``-I``).
    """
    with suppress(OSError):  # the working folder is gone
        if not sys.flags.safe_path and not {"", os.getcwd()} & set(sys.path):
            sys.path.insert(0, os.getcwd())


def _status() -> int:
    try:
        return answered(sys.argv[1:]) or 0
    except GoldError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    run()
