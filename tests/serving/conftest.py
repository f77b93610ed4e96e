"""A server in a thread, with a student that answers by a rule: as fast as a test wants it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
from gold_lightning.serving.app import make_app
from gold_lightning.serving.server import address_of, listen, make_server
from gold_lightning.serving.service import Service
from gold_lightning.serving.settings import ServeSettings
from gold_lightning.t5.prediction import Prediction
from gold_lightning.task import Task

# Without the extra serve, or httpx of the extra openai, no server is asked.
INSTALLED = all(map(find_spec, ("httpx", "uvicorn", "starlette", "prometheus_client")))
collect_ignore = [] if INSTALLED else ["test_app.py", "test_browser.py", "test_exported.py", "test_fallback.py"]


class RuleStudent:
    """Gives a text that begins with a label's name that label; it knows no other text, and fails on "fail"."""

    def __init__(self, task="news_topics", seconds=0.0):
        self.task, self.seconds = Task.load(task), seconds
        self.calibration = {"threshold": 0.0}
        self.batches, self.free = [], threading.Event()  # a test may hold the student up
        self.free.set()

    def predict(self, texts, batch_size=32):
        self.batches.append([dict(text) for text in texts])
        time.sleep(self.seconds)
        assert self.free.wait(20)
        return [self._predict(text) for text in texts]

    def _predict(self, fields):
        text, names = " ".join(fields.values()), self.task.label_names
        if text == "fail":
            raise RuntimeError("out of memory")
        at = next((i for i, name in enumerate(names) if text.startswith(name)), None)
        shares = [0.97 if i == (at or 0) else 0.01 for i in range(len(names))]
        known = at is not None
        return Prediction(names[at or 0], names, shares, probability=0.97, energy=-9.0 if known else 1.0, known=known)


@contextmanager
def serving(service):
    """Yields the URL of a server that runs the service in a thread."""
    settings = service.settings
    listener = listen(settings)
    server = make_server(make_app(service), settings)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive()


@pytest.fixture
def serve():
    """Starts servers: ``with serve(student, batch_size=4) as url``."""

    def start(student, **settings):
        return serving(Service(student, ServeSettings(port=0, **settings)))

    return start


@pytest.fixture(scope="module")
def url():
    """A server with small limits, for tests that leave nothing behind."""
    settings = ServeSettings(port=0, max_rows=50, max_chars=2000, max_bytes=20_000, read_seconds=0.5)
    with serving(Service(RuleStudent(), settings)) as address:
        yield address


@pytest.fixture
def client(url):
    import httpx

    with httpx.Client(base_url=url, timeout=10) as client:
        yield client
