"""The base class of generators, and the scripted one."""

import doctest
import json

from gold_lightning.generators import Completion, Request, ScriptedGenerator, TransformersGenerator, base


def ask(suffix, **how):
    return Request("system", "shared ", suffix, **how)


def test_scripted_replies_in_turn_and_remembers():
    generator = ScriptedGenerator(["one", "two words"])
    requests = [ask(str(i)) for i in range(3)]
    assert [c.text for c in generator.generate(requests)] == ["one", "two words", "one"]
    assert generator.requests == requests
    assert generator.generate([ask("x")])[0].completion_tokens == 2


def test_scripted_replies_by_function():
    generator = ScriptedGenerator(lambda r: r.suffix.upper())
    assert [c.text for c in generator.generate([ask("a"), ask("b")])] == ["A", "B"]


def test_scripted_stops_and_cuts_like_an_engine():
    generator = ScriptedGenerator(["one two\nthree; four"])
    stopped, cut, whole = generator.generate([ask("x", stop=(";", "\n")), ask("x", max_tokens=3), ask("x")])
    assert stopped == Completion("one two", len(ask("x").text.split()), 2, "stop")
    assert (cut.text, cut.completion_tokens, cut.finish) == ("one two three;", 3, "length")
    assert (whole.text, whole.finish) == ("one two\nthree; four", "stop")


def test_scripted_scores_choices():
    plain, given = ScriptedGenerator(["x"]), ScriptedGenerator(["x"], log_probs=lambda r: [-3.0, -1.0])
    request = ask("x", choices=(" a", " b"))
    assert plain.generate([request])[0].choice_log_probs == (0.0, -1.0)
    assert given.generate([request])[0] == Completion("", len(request.text.split()), choice_log_probs=(-3.0, -1.0))


def test_scripted_tells_how_much_is_too_much():
    words = len(ask("x").text.split())
    asked = [ask("x", max_tokens=3, greedy=True), ask("x", choices=("a", "b c")), ask("x y", max_tokens=3)]
    assert ScriptedGenerator(limit=words + 2).tokens_over_limit(asked) == [1, 0, 2]
    assert ScriptedGenerator().tokens_over_limit(asked) == [0, 0, 0]


def test_an_engine_that_cannot_stream_gives_all_at_the_end():
    generator = ScriptedGenerator(["one", "two", "three"])
    found = dict(generator.stream([ask(str(i)) for i in range(3)]))
    assert {at: c.text for at, c in found.items()} == {0: "one", 1: "two", 2: "three"}
    generator.release()  # gives back nothing


def test_fingerprint_tells_what_completions_depend_on():
    assert ScriptedGenerator(batch_size=3).fingerprint() != ScriptedGenerator(batch_size=4).fingerprint()
    one, two = TransformersGenerator("m", temperature=0.5), TransformersGenerator("m", temperature=0.6)
    assert one.fingerprint() != two.fingerprint()
    assert one.fingerprint()["model"] == "m"
    json.dumps(one.fingerprint())


def test_the_examples_run():
    results = doctest.testmod(base)
    assert results.failed == 0 and results.attempted >= 12
