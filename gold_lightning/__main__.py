"""``python -m gold_lightning`` and the console script ``gold-lightning``."""

import sys

from gold_lightning.cli import main


def run() -> None:
    """Runs the command line and exits with its status."""
    sys.exit(main())


if __name__ == "__main__":
    run()
