"""A generator answers what the student does not know; without it, or if it fails, the student does."""

import threading

import httpx
import pytest
from gold_lightning.errors import GoldError
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.serving.fallback import Fallback
from gold_lightning.serving.service import Service
from gold_lightning.serving.settings import ServeSettings
from gold_lightning.serving.unknown_file import UnknownFile
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.task import Task

from tests.serving.conftest import RuleStudent, serving

NEWS, SUMS = Task.load("news_topics"), Task.load("svamp")


class Reader(ScriptedGenerator):
    """Prefers the label that a text ends with, beside a taste for the first label; fails on "broken"."""

    def __init__(self, working=True, **settings):
        super().__init__([" 7\n"], **settings)
        self.log_probs, self.working, self.free = self._likelihoods, working, threading.Event()
        self.free.set()

    def generate(self, requests):
        assert self.free.wait(20)
        if not self.working or any("broken" in request.suffix for request in requests):
            raise GoldError("no route to the server")
        return super().generate(requests)

    def _likelihoods(self, request):
        return [
            3.0 * (i == 0) + 2.0 * request.suffix.strip().endswith(choice.strip()) - 9
            for i, choice in enumerate(request.choices)
        ]


def test_labels_are_those_whose_likelihood_gains_over_the_demos():
    fallback = Fallback(NEWS, Reader(), 10)
    (answer,) = fallback.answer([{"text": "so they say: Sports"}])
    assert answer["label"] == "Sports" and answer["probability"] == answer["probabilities"]["Sports"] > 0.5
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    asked = len(fallback.generator.requests)
    fallback.answer([{"text": "and again: Business"}])
    assert len(fallback.generator.requests) == asked + 1  # the demos are asked about once
    assert fallback.known_answer({"text": "so they say: Sports"}) == answer


def test_texts_are_written():
    fallback = Fallback(SUMS, Reader(), 10)
    row = dict(SUMS.demos[0].fields)
    assert fallback.answer([row]) == [{"text": "7", "probability": None}]
    assert fallback.generator.requests[-1].greedy


def test_sets_of_labels_are_read():
    task = Task.from_document(NEWS.to_document() | {"many": {"sizes": [0, 1, 1]}}, "")
    sets = Reader()
    sets.replies = [f" {task.many.separator.join(('Sports', 'World'))}\n", " Gossip\n"]
    answers = Fallback(task, sets, 10).answer([{"text": "a"}, {"text": "b"}])
    assert answers == [{"labels": ["World", "Sports"], "probability": None}, None]


def test_what_is_too_long_has_no_answer():
    fallback = Fallback(NEWS, Reader(limit=2000), 10)
    answers = fallback.answer([{"text": "word " * 3000}, {"text": "short: Sports"}])
    assert answers[0] is None and answers[1]["label"] == "Sports"


def test_a_generator_that_was_away_is_asked_again():
    generator = Reader(working=False)
    fallback = Fallback(NEWS, generator, 10)
    with pytest.raises(GoldError):
        fallback.prepare()
    generator.working = True
    assert fallback.answer([{"text": "so: Sports"}])[0]["label"] == "Sports"


@pytest.fixture
def served(tmp_path):
    """Starts a server with a file and a generator; yields what it answers to texts, and the file's rows."""
    service, file = None, tmp_path / "unknown.jsonl"

    def make(generator, per_hour=100, timeout=20.0):
        nonlocal service
        fallback = Fallback(NEWS, generator, per_hour)
        service = Service(RuleStudent(), ServeSettings(port=0), UnknownFile(file, 2**20), fallback, timeout)
        return serving(service)

    def ask(url, *texts):
        return httpx.post(f"{url}/predict", json=list(texts), timeout=30, verify=False).json()

    return make, ask, lambda: read_lines(file)


def test_the_generator_answers_what_the_student_does_not_know(served):
    serve, ask, rows = served
    with serve(Reader()) as url:
        known, unknown = ask(url, "Business as usual", "unheard of: Sports")
    assert (known["label"], known["source"], known["known"]) == ("Business", "student", True)
    assert (unknown["label"], unknown["source"], unknown["known"]) == ("Sports", "generator", False)
    (row,) = rows()
    assert row["text"] == "unheard of: Sports" and row["student"]["label"] == "World"
    assert row["generator"] == {"label": "Sports", "probability": unknown["probability"]}


def test_a_generator_that_fails_leaves_the_students_answer(served, caplog):
    serve, ask, rows = served
    with serve(Reader()) as url:
        answers = ask(url, "broken a", "broken b")
        metrics = httpx.get(f"{url}/metrics").text
        after = ask(url, "unheard of: Sports")
    assert [(a["label"], a["source"], a["known"]) for a in answers] == [("World", "student", False)] * 2
    assert 'gold_lightning_fallback_total{outcome="failed"} 2.0' in metrics
    assert caplog.text.count("no route to the server") == 1  # not once a request
    assert after[0]["source"] == "generator"
    assert len(rows()) == 3 and "generator" not in rows()[0]


def test_a_slow_generator_holds_up_nobody(served):
    serve, ask, _ = served
    generator = Reader()
    with serve(generator, timeout=0.5) as url:
        generator.free.clear()
        late = ask(url, "unheard of: Sports")
        known = ask(url, "Business as usual")
        generator.free.set()
    assert late[0]["source"] == "student" and known[0]["label"] == "Business"


def test_no_more_is_asked_than_allowed_and_nothing_twice(served):
    serve, ask, _ = served
    with serve(Reader(), per_hour=2) as url:
        sources = [ask(url, f"{i % 3}: Sports")[0]["source"] for i in range(6)]
    assert sources == ["generator", "generator", "student"] * 2


def test_a_file_that_cannot_be_written_fails_no_request(served, monkeypatch, caplog):
    serve, ask, rows = served
    monkeypatch.setattr(UnknownFile, "_write", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
    with serve(Reader()) as url:
        answer = ask(url, "unheard of: Sports")[0]
        assert 'gold_lightning_unknown_total{what="lost"} 1.0' in httpx.get(f"{url}/metrics").text
    assert answer["source"] == "generator" and rows() == [] and "the disk is full" in caplog.text
