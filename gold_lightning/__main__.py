"""``python -m gold_lightning`` and the console script ``gold-lightning``."""

import atexit
import logging
import os
import sys
from contextlib import suppress

from gold_lightning.cli.commands import answered, is_command
from gold_lightning.cli.streams import readable_streams, with_output
from gold_lightning.errors import GoldError


def run() -> None:
    """Runs the command line and exits with its status."""
    status = 1  # of an error that Python reports

    def end() -> None:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status)

    # What is registered first is called last. Freeing all that torch and Lightning have made would take a second more.
    atexit.register(end)
    _find_classes_here()
    try:
        if is_command(sys.argv[1:]):
            from gold_lightning.cli.main import main  # takes seconds to import

            status = main()
        else:
            with readable_streams():
                status = with_output(_status)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
        raise
    sys.exit(status)


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
