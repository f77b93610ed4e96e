"""A server that counts, and misbehaves on demand; no proxy of this machine is on the way to it."""

from __future__ import annotations

import pytest

from tests.servers import FakeServer


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server():
    with FakeServer() as running:
        yield running
