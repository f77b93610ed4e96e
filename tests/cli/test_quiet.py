"""Notices of other packages."""

from __future__ import annotations

import logging

from gold_lightning.cli.quiet import _OneHubLine, quiet


def test_a_hub_that_does_not_answer_is_reported_once(monkeypatch):
    from huggingface_hub.utils import _http

    lines = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    quiet()
    monkeypatch.setattr(_http.logger, "filters", [_OneHubLine()])
    _http.logger.addHandler(handler)
    try:
        for i in range(3):
            _http.logger.warning(f"'{i}%' thrown while requesting HEAD http://hub/{i}")
            _http.logger.warning("Retrying in 1s [Retry %d/5].", i)
        _http.logger.warning("something else")
    finally:
        _http.logger.removeHandler(handler)
    assert [line.split(";")[0] for line in lines] == ["the hub does not answer", "something else"]
