"""Completions by what was asked: stored at once, and never asked for again."""

import json
import math
import os
from dataclasses import replace

import pytest
from gold_lightning.budget import Budget, Usage
from gold_lightning.errors import BudgetSpentError
from gold_lightning.generators import Completion, Generator, Request, ScriptedGenerator
from gold_lightning.generators.base import request_dict
from gold_lightning.storage.completions import CompletionLog, Completions
from gold_lightning.storage.json_lines import digest, read_lines


def ask(*names):
    return [Request("system", "shared ", name, seed=i) for i, name in enumerate(names)]


def log(tmp_path, run="one", others=()):
    return CompletionLog(tmp_path / run / "data" / "completions.jsonl", others)


class Streaming(Generator):
    """Gives completions from the last request to the first, and may fail before one."""

    def __init__(self, fail_at=None, where="", made=None):
        self.fail_at, self.asked, self.where, self.made = fail_at, [], where, made or {}

    def origin(self):
        return self.where

    def generate(self, requests):
        found = dict(self.stream(requests))
        return [found[i] for i in sorted(found)]

    def stream(self, requests):
        for at in reversed(range(len(requests))):
            if requests[at].suffix == self.fail_at:
                raise ConnectionError("gone")
            self.asked.append(requests[at].suffix)
            yield at, self.made.get(requests[at].suffix) or Completion(requests[at].suffix.upper(), 3, 1)


def test_what_was_answered_is_not_asked_again_in_this_run_or_the_next(tmp_path):
    requests = ask("a", "b", "c")
    first = ScriptedGenerator(lambda r: r.suffix * 2)
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
    "change",
    [{"system": "x"}, {"prefix": "x"}, {"suffix": "x"}, {"answer_prefix": "x"}, {"seed": 9}, {"max_tokens": 9}],
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
    generator = ScriptedGenerator(lambda r: r.suffix)
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
    monkeypatch.setattr("gold_lightning.storage.completions._FLUSH_SECONDS", 0.0)
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
        return ScriptedGenerator(lambda r: r.suffix * 3)

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
    monkeypatch.setattr("gold_lightning.storage.completions._FLUSH_SECONDS", 0.0)
    written = []
    completions = Completions(ScriptedGenerator(lambda r: r.suffix), log(tmp_path))
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
    assert completions.log.usage() == completions.log.usage(3, 3) == Usage(1, 3, 1, reused=2)
    assert theirs.read_bytes() == before
    theirs.unlink()  # what was lent is kept
    alone = Streaming()
    assert [c.text for c in Completions(alone, log(tmp_path, "two")).answer(ask("a", "b"), 3)] == ["A", "B"]
    assert alone.asked == [] and log(tmp_path, "two").usage() == Usage(1, 3, 1, reused=2)


def test_the_ledger_counts_each_call_once(tmp_path):
    for _ in range(2):
        completions = Completions(Streaming(), log(tmp_path))
        completions.answer(ask("a", "b"), 0)
        completions.answer(ask("a", "b", "c"), 1)
        assert completions.log.usage(0, 0) == Usage(2, 6, 2)
        assert completions.log.usage(1) == Usage(1, 3, 1)
        assert completions.log.usage() == Usage(3, 9, 3)


def test_the_budget_stops_what_costs_and_nothing_else(tmp_path):
    generator = Streaming()
    completions = Completions(generator, log(tmp_path), Budget(max_tokens=8))
    completions.answer(ask("a", "b"), 0)  # 8 tokens: it may go beyond, but not on
    completions.answer(ask("a", "b"), 0)
    with pytest.raises(BudgetSpentError, match="8 tokens"):
        completions.answer(ask("a", "b", "c"), 0)
    assert sorted(generator.asked) == ["a", "b"]
    late = Completions(Streaming(), log(tmp_path, "late"), Budget(max_seconds=5), seconds=lambda: 5.0)
    with pytest.raises(BudgetSpentError):
        late.answer(ask("a"), 0)


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("limit", [{"max_tokens": 1000}, {"max_cost": 0.001, "price_prompt": 1, "price_completion": 1}])
@pytest.mark.parametrize("written", [5, 60])  # far less than a request may write, and all of it
def test_near_its_end_the_budget_pays_for_one_request_more_at_most(tmp_path, streams, limit, written):
    calls = []

    class Writer(ScriptedGenerator):
        def generate(self, requests):
            calls.append(len(requests))
            return [Completion("x", 20, written) for _ in requests]

    class Streams(Writer):
        def stream(self, requests):
            yield from enumerate(self.generate(requests))

    requests = [Request("s", "x" * 50, str(i), seed=i, max_tokens=60) for i in range(100)]
    engine = (Streams if streams else Writer)()
    completions = Completions(engine, log(tmp_path), Budget(**limit))
    with pytest.raises(BudgetSpentError):
        completions.answer(requests, 0)
    assert 1000 <= completions.log.usage().tokens < 1000 + 20 + written
    assert len(calls) < 12 and calls[0] > 10
    more = Completions(engine, log(tmp_path))  # a higher budget goes on with what is there
    asked = sum(calls)
    assert len(more.answer(requests, 0)) == 100 and sum(calls) == 100 and asked < 50


def test_a_budget_that_pays_for_all_asks_for_all_at_once(tmp_path):
    generator = Streaming()
    Completions(generator, log(tmp_path), Budget(max_tokens=100_000)).answer(ask("a", "b", "c"), 0)
    assert generator.asked == ["c", "b", "a"]


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


# What is no answer

UNANSWERED = {
    "no text": Completion("", 5, 2),
    "spaces": Completion(" \n", 5, 2),
    "thinking took all": Completion("", 5, 2, "length"),
    "filtered": Completion("", 5, 2, "filtered"),
    "filtered half way": Completion("a riv", 5, 2, "filtered"),
    "broken off": Completion("a riv", 5, 2, "failed"),
    "no likelihoods": Completion("", 5, 2, choice_log_probs=()),
    "no mass": Completion("", 5, 2, choice_log_probs=(-math.inf, -math.inf)),
    "no numbers": Completion("", 5, 2, choice_log_probs=(math.nan, -1.0)),
}


@pytest.mark.parametrize("name", UNANSWERED)
def test_what_is_no_answer_is_asked_again_and_paid_for_each_time(tmp_path, name):
    bad = UNANSWERED[name]
    first = Completions(Streaming(made={"a": bad}), log(tmp_path)).answer(ask("a", "b"), 0)
    assert first[0] == bad or name == "no numbers"
    assert all("text" not in row for row in read_lines(log(tmp_path).path) if row.get("unanswered"))
    assert "Infinity" not in log(tmp_path).path.read_text() and "NaN" not in log(tmp_path).path.read_text()
    again = Streaming()
    completions = Completions(again, log(tmp_path))
    assert [c.text for c in completions.answer(ask("a", "b"), 0)] == ["A", "B"]
    assert again.asked == ["a"]
    assert completions.log.usage() == log(tmp_path).usage() == Usage(3, 5 + 3 + 3, 2 + 1 + 1)
    other = Streaming()
    Completions(other, log(tmp_path, "two", [log(tmp_path).path])).answer(ask("a", "b"), 0)
    assert other.asked == []


@pytest.mark.parametrize("name", ["no text", "spaces", "thinking took all", "no mass"])
def test_what_an_earlier_version_stored_without_an_answer_is_asked_again(tmp_path, name):
    Completions(Streaming(), log(tmp_path)).answer(ask("a", "b"), 0)
    path = log(tmp_path).path
    rows = read_lines(path)
    bad = UNANSWERED[name]
    old = {"text": bad.text, "finish": bad.finish, "choice_log_probs": list(bad.choice_log_probs)}
    path.write_text("".join(json.dumps(row | (old if row["text"] == "A" else {})) + "\n" for row in rows))
    for folder, others in (("two", [path]), ("one", ())):
        again = Streaming()
        found = Completions(again, log(tmp_path, folder, others)).answer(ask("a", "b"), 0)
        assert [c.text for c in found] == ["A", "B"] and again.asked == ["a"]


def test_a_row_without_an_answer_does_not_hide_one_that_has_it(tmp_path):
    Completions(Streaming(made={"a": Completion("")}), log(tmp_path, "1")).answer(ask("a"), 0)
    Completions(Streaming(), log(tmp_path, "2")).answer(ask("a"), 0)
    last = Streaming()
    others = [log(tmp_path, "1").path, log(tmp_path, "2").path]
    assert Completions(last, log(tmp_path, "3", others)).answer(ask("a"), 0)[0].text == "A"
    assert last.asked == []


def test_a_batch_that_was_computed_at_once_and_answered_in_part_stays_as_it_was_in_its_run(tmp_path):
    def engine(text):
        return ScriptedGenerator(lambda r: text if r.suffix == "b" else r.suffix)

    requests = ask("a", "b", "c")
    wanted = Completions(engine(" "), log(tmp_path)).answer(requests, 0)
    again = engine("other")
    assert Completions(again, log(tmp_path)).answer(requests, 0) == wanted and again.requests == []
    other = engine("other")
    found = Completions(other, log(tmp_path, "two", [log(tmp_path).path])).answer(requests, 0)
    assert [c.text for c in found] == ["a", "other", "c"] and other.requests == requests[1:2]


def test_a_batch_without_any_answer_is_asked_again_in_its_run_too(tmp_path):
    Completions(ScriptedGenerator([""]), log(tmp_path)).answer(ask("a", "b"), 0)
    again = ScriptedGenerator(["text"])
    assert {c.text for c in Completions(again, log(tmp_path)).answer(ask("a", "b"), 0)} == {"text"}


def test_a_choice_without_mass_beside_others_is_an_answer(tmp_path):
    scored = Completion("", 5, 0, choice_log_probs=(-1.5, -math.inf))
    found = Completions(Streaming(made={"a": scored}), log(tmp_path)).answer(ask("a"), 0)
    again = Streaming()
    assert Completions(again, log(tmp_path)).answer(ask("a"), 0) == found == [scored] and again.asked == []
    assert "Infinity" not in log(tmp_path).path.read_text()


# Who is lent what, and how


def test_completions_of_another_place_are_not_taken_from_other_runs(tmp_path):
    Completions(Streaming(where="here:1"), log(tmp_path)).answer(ask("a"), 0)
    theirs = [log(tmp_path).path]
    for where, asked in (("here:1", []), ("here:2", ["a"]), ("", ["a"])):
        generator = Streaming(where=where)
        Completions(generator, log(tmp_path, f"at {where}", theirs)).answer(ask("a"), 0)
        assert generator.asked == asked
    moved = Streaming(where="here:2")
    Completions(moved, log(tmp_path)).answer(ask("a"), 0)
    assert moved.asked == []  # the run itself goes on


def test_what_a_run_was_given_under_an_earlier_fingerprint_stays_its_own(tmp_path):
    class Renamed(Streaming):
        def fingerprint(self):
            return {"new": 1}

        def earlier_fingerprints(self):
            return [{"older": 1}, Streaming().fingerprint()]

    scored = {"s": Completion("", choice_log_probs=(-1.0, -2.0)), "none": Completion("", choice_log_probs=(-2.0, -2.0))}
    Completions(Streaming(made=scored), log(tmp_path)).answer(ask("a", "s", "none"), 0)
    own, other = Renamed(), Renamed()
    found = Completions(own, log(tmp_path)).answer([*ask("a", "s", "none"), *ask("x", "b")[1:]], 0)
    assert found[0].text == "A" and found[1] == scored["s"]
    assert own.asked == ["b", "none"]  # no label was told: all had the same likelihood then
    Completions(other, log(tmp_path, "two", [log(tmp_path).path])).answer(ask("a", "b"), 0)
    assert other.asked == ["a"]


def test_what_is_lent_together_is_written_once(tmp_path, monkeypatch):
    names = [f"n{i}" for i in range(50)]
    Completions(ScriptedGenerator(lambda r: r.suffix), log(tmp_path)).answer(ask(*names), 0)  # rows of one batch
    two = log(tmp_path, "two", [log(tmp_path).path])
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), real(file)))
    completions = Completions(ScriptedGenerator(["other"]), two)
    assert [c.text for c in completions.answer(ask(*names[:20]), 0)] == names[:20]
    assert len(synced) == 1
    assert len(read_lines(two.path)) == 20
    assert log(tmp_path, "two").usage() == Usage(reused=20)  # none of them waits for the rest of its batch


def test_files_of_other_runs_are_not_parsed_to_look_for_a_key(tmp_path, monkeypatch):
    path = tmp_path / "one" / "data" / "completions.jsonl"
    Completions(Streaming(), log(tmp_path)).answer(ask("a"), 0)
    (row,) = read_lines(path)
    lines = [json.dumps(row | {"key": f"{i:032x}", "text": '"key": ' * 5}) for i in range(500)]
    path.write_text("\n".join([*lines, json.dumps(row), '{"key": "torn']))
    parsed, real = [], json.loads
    monkeypatch.setattr(json, "loads", lambda text: (parsed.append(text), real(text))[1])
    generator = Streaming()
    Completions(generator, log(tmp_path, "two", [path])).answer(ask("a", "b"), 0)
    assert generator.asked == ["b"] and len(parsed) == 1


def test_keys_that_begin_alike_and_rows_in_another_form_are_told_apart(tmp_path):
    path = tmp_path / "one" / "data" / "completions.jsonl"
    Completions(Streaming(), log(tmp_path)).answer(ask("a", "b"), 0)
    b, a = read_lines(path)
    twin = a | {"key": a["key"][:16] + "0" * 16, "text": "twin"}
    turned = dict(reversed(b.items()))
    path.write_text("".join(json.dumps(row) + "\n" for row in (twin, turned, a)))
    generator = Streaming()
    found = Completions(generator, log(tmp_path, "two", [path])).answer(ask("a", "b"), 0)
    assert [c.text for c in found] == ["A", "B"] and generator.asked == []


def test_keys_of_stored_completions_are_those_of_earlier_versions():
    request = Request(
        "system", "prefix", "suffix", "topic: X\ntext:", 3, 60, ("\n\n",), ("b:",), True, ("x",), False, "{}"
    )
    assert digest([{"class": "x"}, request_dict(request)], 32) == "955d135d1e33e48b1a762309cb0ad719"
