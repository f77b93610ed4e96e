"""Silences the notices of other packages, so that a run prints one line a round."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from gold_lightning.notices import ignore_known_warnings

__all__ = ["quiet"]


class _OneHubLine(logging.Filter):
    """Replaces the hub client's lines about its retries by one line."""

    _reported = False

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "thrown while requesting" not in text and "[Retry " not in text:
            return True
        if not self._reported:
            record.msg, record.args = "the hub does not answer; trying for a while (HF_HUB_OFFLINE=1 does not try)", ()
            self._reported = True
            return True
        return False


def quiet() -> None:
    """Sets the logging and the warnings of other packages."""
    hub = logging.getLogger("huggingface_hub.utils._http")
    if not any(isinstance(f, _OneHubLine) for f in hub.filters):
        hub.addFilter(_OneHubLine())
    logging.getLogger("huggingface_hub").propagate = False  # its own handler prints each line already
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("gold_lightning").setLevel(logging.INFO)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    ignore_known_warnings()
    # Lightning warns of the args that GoldCLI gets when main() is called from Python or resolves shipped configs.
    warnings.filterwarnings("ignore", ".*args parameter is intended to run from within Python.*")
