"""Completions by what was asked: stored at once, and never asked for again."""

import json
from dataclasses import replace

import pytest
from gold_lightning.completions import CompletionLog, Completions
from gold_lightning.errors import BudgetSpentError
from gold_lightning.generators import Completion, Generator, Request, ScriptedGenerator
from gold_lightning.ledger import Budget, Spent
from gold_lightning.store import read_lines


def ask(*names):
    return [Request("system", "shared ", name, seed=i) for i, name in enumerate(names)]


def log(tmp_path, run="one", others=()):
    return CompletionLog(tmp_path / run / "data" / "completions.jsonl", others)


class Streaming(Generator):
    """Gives completions from the last request to the first, and may fail before one."""

    def __init__(self, fail_at=None):
        self.fail_at, self.asked = fail_at, []

    def generate(self, requests):
        found = dict(self.stream(requests))
        return [found[i] for i in sorted(found)]

    def stream(self, requests):
        for at in reversed(range(len(requests))):
            if requests[at].own == self.fail_at:
                raise ConnectionError("gone")
            self.asked.append(requests[at].own)
            yield at, Completion(requests[at].own.upper(), 3, 1)


def test_what_was_answered_is_not_asked_again_in_this_run_or_the_next(tmp_path):
    requests = ask("a", "b", "c")
    first = ScriptedGenerator(lambda r: r.own * 2)
    found = Completions(first, log(tmp_path)).answer(requests[:2], 0)
    assert [c.text for c in found] == ["aa", "bb"]
    again = ScriptedGenerator(lambda r: "other")
    completions = Completions(again, log(tmp_path))
    assert completions.answer(requests[:2], 0) == found and again.requests == []
    assert [c.text for c in completions.answer(requests, 1)] == ["aa", "bb", "other"]
    assert again.requests == requests[2:]
    assert completions.answer(list(reversed(requests)), 1)[0].text == "other"
    assert completions.answer([], 1) == []


@pytest.mark.parametrize(
    "change", [{"system": "x"}, {"shared": "x"}, {"own": "x"}, {"answer": "x"}, {"seed": 9}, {"max_tokens": 9}]
)
def test_another_request_is_asked(tmp_path, change):
    (request,) = ask("a")
    generator = ScriptedGenerator(lambda r: "text")
    Completions(generator, log(tmp_path)).answer([request], 0)
    Completions(generator, log(tmp_path)).answer([replace(request, **change)], 0)
    assert len(generator.requests) == 2


def test_another_generator_is_asked(tmp_path):
    Completions(ScriptedGenerator(["x"], batch_size=3), log(tmp_path)).answer(ask("a"), 0)
    other = ScriptedGenerator(["y"], batch_size=4)
    assert Completions(other, log(tmp_path)).answer(ask("a"), 0)[0].text == "y"


def test_the_same_request_twice_is_asked_once(tmp_path):
    generator = ScriptedGenerator(lambda r: r.own)
    (request,) = ask("a")
    assert len(Completions(generator, log(tmp_path)).answer([request, request], 0)) == 2
    assert len(generator.requests) == 1


def test_scores_are_kept_as_they_are(tmp_path):
    request = replace(ask("a")[0], choices=(" x", " y"))
    generator = ScriptedGenerator(log_probs=lambda r: [-0.1234567890123, -2.0])
    first = Completions(generator, log(tmp_path)).answer([request], 0)
    assert Completions(generator, log(tmp_path)).answer([request], 0) == first
    assert first[0].choice_log_probs == (-0.1234567890123, -2.0)


def test_what_came_before_an_error_is_stored(tmp_path):
    failing = Streaming(fail_at="b")
    with pytest.raises(ConnectionError):
        Completions(failing, log(tmp_path)).answer(ask("a", "b", "c", "d"), 0)
    assert failing.asked == ["d", "c"]
    good = Streaming()
    found = Completions(good, log(tmp_path)).answer(ask("a", "b", "c", "d"), 0)
    assert [c.text for c in found] == ["A", "B", "C", "D"] and good.asked == ["b", "a"]


def test_a_completion_is_on_disk_soon_after_it_came(tmp_path, monkeypatch):
    monkeypatch.setattr("gold_lightning.completions._FLUSH_SECONDS", 0.0)
    stored = []

    class Watching(Streaming):
        def stream(self, requests):
            for found in super().stream(requests):
                yield found
                stored.append(len(read_lines(tmp_path / "one" / "data" / "completions.jsonl")))

    Completions(Watching(), log(tmp_path)).answer(ask("a", "b", "c"), 0)
    assert stored == [1, 2, 3]


@pytest.mark.parametrize("torn", [b'{"key": "x", "rou', b"\xff\xfe", b"[1]\n", b"nonsense\n", b'{"key": 1}\n', b"\n"])
def test_a_damaged_row_is_asked_again_and_no_other(tmp_path, torn):
    path = log(tmp_path).path
    Completions(Streaming(), log(tmp_path)).answer(ask("a", "b"), 0)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + torn)  # b came first
    again = Streaming()
    assert [c.text for c in Completions(again, log(tmp_path)).answer(ask("a", "b"), 0)] == ["A", "B"]
    assert again.asked == ["a"]
    last = Streaming()
    Completions(last, log(tmp_path)).answer(ask("a", "b"), 0)
    assert last.asked == []


def test_what_was_made_together_is_kept_together_or_asked_again_together(tmp_path):
    # A model's last digits, and so its texts, may depend on what else is in the batch.
    def engine():
        return ScriptedGenerator(lambda r: r.own * 3)

    requests = ask("a", "b", "c", "d")
    Completions(engine(), log(tmp_path)).answer(requests[:1], 0)
    path = log(tmp_path).path
    alone = path.stat().st_size
    Completions(engine(), log(tmp_path)).answer(requests[1:], 0)
    whole = path.read_bytes()
    for size in range(alone, len(whole) + 1):
        path.write_bytes(whole[:size])
        again = engine()
        found = Completions(again, log(tmp_path)).answer(requests, 0)
        assert [c.text for c in found] == ["aaa", "bbb", "ccc", "ddd"]
        assert again.requests == ([] if size == len(whole) else requests[1:])
        assert path.read_bytes() == whole


def test_slowly_made_together_is_stored_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("gold_lightning.completions._FLUSH_SECONDS", 0.0)
    written = []
    completions = Completions(ScriptedGenerator(lambda r: r.own), log(tmp_path))
    real = completions.log.add
    monkeypatch.setattr(completions.log, "add", lambda rows, **how: (written.append(len(rows)), real(rows, **how)))
    completions.answer(ask("a", "b", "c"), 0)
    assert written == [3]


def test_other_runs_lend_theirs_for_nothing(tmp_path):
    Completions(Streaming(), log(tmp_path, "one")).answer(ask("a", "b"), 0)
    theirs = log(tmp_path, "one").path
    before = theirs.read_bytes()
    generator = Streaming()
    completions = Completions(generator, log(tmp_path, "two", [theirs, tmp_path / "gone.jsonl"]))
    assert [c.text for c in completions.answer(ask("a", "b", "c"), 3)] == ["A", "B", "C"]
    assert generator.asked == ["c"]
    assert completions.log.spent() == completions.log.spent(3, 3) == Spent(1, 3, 1, reused=2)
    assert theirs.read_bytes() == before
    theirs.unlink()  # what was lent is kept
    alone = Streaming()
    assert [c.text for c in Completions(alone, log(tmp_path, "two")).answer(ask("a", "b"), 3)] == ["A", "B"]
    assert alone.asked == [] and log(tmp_path, "two").spent() == Spent(1, 3, 1, reused=2)


def test_the_ledger_counts_each_call_once(tmp_path):
    for _ in range(2):
        completions = Completions(Streaming(), log(tmp_path))
        completions.answer(ask("a", "b"), 0)
        completions.answer(ask("a", "b", "c"), 1)
        assert completions.log.spent(0, 0) == Spent(2, 6, 2)
        assert completions.log.spent(1) == Spent(1, 3, 1)
        assert completions.log.spent() == Spent(3, 9, 3)


def test_the_budget_stops_what_costs_and_nothing_else(tmp_path):
    generator = Streaming()
    completions = Completions(generator, log(tmp_path), Budget(max_tokens=8))
    completions.answer(ask("a", "b"), 0)  # 8 tokens: it may go beyond, but not on
    completions.answer(ask("a", "b"), 0)
    with pytest.raises(BudgetSpentError, match="8 tokens"):
        completions.answer(ask("a", "b", "c"), 0)
    assert generator.asked == ["b", "a"]
    late = Completions(Streaming(), log(tmp_path, "late"), Budget(max_seconds=5), seconds=lambda: 5.0)
    with pytest.raises(BudgetSpentError):
        late.answer(ask("a"), 0)


def test_a_stop_waits_for_what_is_in_flight(tmp_path):
    wanted = []

    class Interrupted(Streaming):
        def stream(self, requests):
            wanted.append(True)
            yield from super().stream(requests)

    generator = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        Completions(generator, log(tmp_path), stopping=lambda: bool(wanted)).answer(ask("a", "b"), 0)
    assert len(read_lines(log(tmp_path).path)) == 2


def test_in_memory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    completions = Completions(Streaming(), CompletionLog())
    assert completions.answer(ask("a"), 0) == completions.answer(ask("a"), 0)
    assert list(tmp_path.iterdir()) == []


def test_lone_surrogates_survive(tmp_path):
    generator = ScriptedGenerator(["\ud800 x \u2028"])
    first = Completions(generator, log(tmp_path)).answer(ask("a"), 0)
    assert Completions(generator, log(tmp_path)).answer(ask("a"), 0) == first
    assert all(json.loads(line) for line in log(tmp_path).path.read_bytes().split(b"\n") if line)
