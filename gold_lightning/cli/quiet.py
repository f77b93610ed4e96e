"""Silences what other packages print: one line a round, not a screen of notices."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from gold_lightning.runner import ignore_known_warnings

__all__ = ["quiet"]


class _HubSaidOnce(logging.Filter):
    """Lets one line of ours through for all that the hub's client says of each of its tries."""

    _told = False

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "thrown while requesting" not in text and "[Retry " not in text:
            return True
        if not self._told:
            record.msg, record.args = "the hub does not answer; trying for a while (HF_HUB_OFFLINE=1 does not try)", ()
            self._told = True
            return True
        return False


def quiet() -> None:
    """One line a round, not a screen of notices."""
    hub = logging.getLogger("huggingface_hub.utils._http")
    if not any(isinstance(f, _HubSaidOnce) for f in hub.filters):
        hub.addFilter(_HubSaidOnce())
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own: each line would come twice
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
    # The arguments are passed if the program is called from Python and to resolve shipped configs.
    warnings.filterwarnings("ignore", ".*args parameter is intended to run from within Python.*")
