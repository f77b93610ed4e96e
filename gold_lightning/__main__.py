"""``python -m gold_lightning`` and the console script ``gold-lightning``."""

import sys

from gold_lightning.commands import answered, is_command
from gold_lightning.errors import GoldError
from gold_lightning.streams import readable_streams, with_output


def run() -> None:
    """Runs the command line and exits with its status."""
    if is_command(sys.argv[1:]):
        from gold_lightning.cli import main  # takes seconds to import

        sys.exit(main())
    with readable_streams():
        sys.exit(with_output(_status))


def _status() -> int:
    try:
        return answered(sys.argv[1:]) or 0
    except GoldError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    run()
