"""What every engine promises, asked of each of them.

An engine of one's own joins by an entry in ENGINES: a function that yields an :class:`Engine`. What an engine cannot do
is skipped with the reason, and counts as neither kept nor broken.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from gold_lightning.checks.checker import Checker
from gold_lightning.errors import GoldError
from gold_lightning.generators import (
    EmbeddedGenerator,
    Generator,
    OpenAIGenerator,
    OpenVINOGenerator,
    Request,
    ScriptedGenerator,
    TransformersGenerator,
)
from gold_lightning.generators.embedded import embedded_folder

from tests.fakes import LLAMA_TOKENS, tickets_task
from tests.servers import FakeServer, words

pytestmark = pytest.mark.integration

ASKED = Request("You write.", "Some text about the sea.\n\n", "Write one more.", "text:", seed=1, max_tokens=5)
CHOICES = (" red", " green", " blue")
SHAPE = {
    "type": "object",
    "properties": {"topic": {"type": "string", "enum": ["World"]}, "text": {"type": "string"}},
    "required": ["topic", "text"],
    "additionalProperties": False,
}


@dataclass
class Engine:
    """An engine, and what the suite must know about it.

    Args:
        generator: The engine, set to sample.
        say: Has it write a text to one request, whatever it likes itself; ``None`` where nobody can.
        long: A prompt that is too long for it.
        schema: The same engine, set to follow schemas; ``None`` where it has no such setting.
        lacks: Why a test of this name is skipped.
        real: Whether it asks a server that may not do all that the interface knows.
        reply: Has it write a text as it is, if ``say`` puts the answer's beginning before it.
        goes_on: Whether it goes on from the answer and ends at the stop by itself.
    """

    generator: Generator
    say: Callable[[pytest.MonkeyPatch, str], None] | None = None
    long: str = ""
    schema: Generator | None = None
    lacks: dict[str, str] = field(default_factory=dict)
    real: bool = False
    reply: Callable[[pytest.MonkeyPatch, str], None] | None = None
    goes_on: bool = False


@contextlib.contextmanager
def scripted(request) -> Iterator[Engine]:
    def write(asked):
        return " " + words(random.Random(asked.suffix if asked.greedy else f"{asked.seed}|{asked.suffix}"), 10)

    def say(monkeypatch, text):
        monkeypatch.setattr(generator, "replies", [text])

    generator = ScriptedGenerator(write, log_probs=lambda asked: [-len(c) / 2 for c in asked.choices], batch_size=4)
    yield Engine(generator, say, lacks={"a_long_prompt": "a script takes whatever it is asked"})


def say_by_tokens(generator):
    """Has the decoding loop take the tokens of a text, then the end."""

    def say(monkeypatch, text):
        _, tokenizer = generator._load()
        left = iter([*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id])

        def choose(self, logits, luck, greedy):
            tokens = logits.argmax(-1)
            tokens[:] = next(left)
            return tokens

        monkeypatch.setattr(TransformersGenerator, "_choose", choose)

    return say


@contextlib.contextmanager
def transformers(request) -> Iterator[Engine]:
    folder = request.getfixturevalue("tiny_llama")
    generator = TransformersGenerator(str(folder), batch_size=4, top_k=0, dtype="float32", device="cpu")
    yield Engine(generator, say_by_tokens(generator), "x" * LLAMA_TOKENS, goes_on=True)


@contextlib.contextmanager
def embedded(request) -> Iterator[Engine]:
    generator = EmbeddedGenerator(batch_size=4, device="cpu")
    lacks = {"whatever_stands_around_a_sample_is_none_of_it": "its decoding loop is that of TransformersGenerator"}
    yield Engine(generator, say_by_tokens(generator), "sea " * 9000, lacks=lacks, goes_on=True)


def openai(**how):
    """The engine against the tests' own server."""

    @contextlib.contextmanager
    def made(request) -> Iterator[Engine]:
        pytest.importorskip("httpx")
        with pytest.MonkeyPatch.context() as patch, FakeServer(continues=True) as server:
            patch.setenv("NO_PROXY", "127.0.0.1")

            def say(monkeypatch, text):
                begin = "Text:" if how == {"form": "chat"} else ""  # as it was told to, or nearly
                monkeypatch.setattr(server, "replies", lambda body: begin + text)

            def reply(monkeypatch, text):
                monkeypatch.setattr(server, "replies", lambda body: text)

            settings = {"model": "toy", "base_url": server.url, "batch_size": 4, **how}
            engine = Engine(OpenAIGenerator(**settings), say, "sea " * 500, reply=reply)
            engine.goes_on = how != {"form": "chat"}
            engine.schema = OpenAIGenerator(**settings, schema="json_schema")
            if how == {"form": "chat"}:
                engine.lacks["choices_keep_their_order"] = "the choices stand in the prompt, in their order"
            yield engine

    return made


def server(form):
    """The engine against a real server, where there is one; GOLD_TEST_SETTINGS holds settings as JSON."""

    @contextlib.contextmanager
    def made(request) -> Iterator[Engine]:
        url, model = os.environ.get("GOLD_TEST_SERVER"), os.environ.get("GOLD_TEST_MODEL")
        if not (url and model):
            pytest.skip("GOLD_TEST_SERVER and GOLD_TEST_MODEL do not name a server")
        pytest.importorskip("httpx")
        # One call after the other: a server may keep its seeds only so.
        settings = {"model": model, "base_url": url, "form": form, "batch_size": 4, "concurrency": 1, "retries": 1}
        settings |= json.loads(os.environ.get("GOLD_TEST_SETTINGS", "{}"))
        engine = Engine(OpenAIGenerator(**settings), None, "sea " * 9000, real=True)
        engine.schema = OpenAIGenerator(**settings | {"schema": "json_schema"})
        if form == "chat" and not settings.get("continue_answer"):
            engine.lacks["choices_keep_their_order"] = "the choices stand in the prompt, in their order"
        yield engine

    return made


@contextlib.contextmanager
def vllm(request) -> Iterator[Engine]:
    pytest.importorskip("vllm")
    from gold_lightning.generators.vllm import VLLMGenerator

    yield Engine(VLLMGenerator(model=str(embedded_folder())), None, "sea " * 9000)


@contextlib.contextmanager
def openvino(request) -> Iterator[Engine]:
    pytest.importorskip("openvino_genai")
    from gold_lightning.generators.embedded_weights import weights

    generator = OpenVINOGenerator(str(weights()), batch_size=4, form="completion", cache_size=1)
    yield Engine(generator, None, "sea " * 9000)


ENGINES = {
    "scripted": (scripted, ()),
    "transformers": (transformers, ()),
    "embedded": (embedded, pytest.mark.embedded),
    "openai-chat": (openai(form="chat"), ()),
    "openai-continue": (openai(continue_answer=True), ()),
    "openai-completion": (openai(form="completion"), ()),
    "server-chat": (server("chat"), pytest.mark.server),
    "server-completion": (server("completion"), pytest.mark.server),
    "vllm": (vllm, pytest.mark.vllm),
    "openvino": (openvino, pytest.mark.openvino),
}


@pytest.fixture(scope="module", params=[pytest.param(f, marks=m, id=name) for name, (f, m) in ENGINES.items()])
def running(request):
    with request.param(request) as engine:
        yield engine


@pytest.fixture
def engine(running, request):
    name = request.function.__name__.removeprefix("test_")
    if name in running.lacks:
        pytest.skip(running.lacks[name])
    return running


@pytest.fixture
def say(engine, monkeypatch):
    """Has the engine write a text."""
    if engine.say is None:
        pytest.skip("this engine's model writes what it likes")
    return lambda text: engine.say(monkeypatch, text)


def many(count=6, **how):
    """Requests whose prompts get longer and shorter: their tokens tell where each one stands."""
    return [replace(ASKED, suffix="Write more. " * (1 + i * 5 % 7), seed=i, **how) for i in range(count)]


def texts(engine, requests):
    return [c.text for c in engine.generator.generate(requests)]


def test_nothing_is_given_for_nothing(engine):
    assert engine.generator.generate([]) == []
    assert list(engine.generator.stream([])) == []


def test_completions_stand_in_the_order_of_their_requests(engine):
    requests = many(max_tokens=2)
    sizes = [c.prompt_tokens for c in engine.generator.generate(requests)]
    by_size = sorted(range(6), key=lambda i: len(requests[i].suffix))
    assert sorted(range(6), key=lambda i: sizes[i]) == by_size
    assert len(set(sizes)) == 6


def test_a_stream_gives_each_completion_once(engine):
    requests = many(4, greedy=True)
    given = list(engine.generator.stream(requests))
    assert sorted(at for at, _ in given) == list(range(4))
    assert [c for _, c in sorted(given, key=lambda pair: pair[0])] == engine.generator.generate(requests)


def test_a_stream_may_be_closed_early(engine):
    requests = many(4, max_tokens=4)
    stream = engine.generator.stream(requests)
    at, first = next(stream)
    stream.close()
    assert first.prompt_tokens == engine.generator.generate([requests[at]])[0].prompt_tokens


def test_the_same_seed_gives_the_same_text(engine):
    first, second = texts(engine, many(4)), texts(engine, many(4))
    if engine.real and first != second:
        pytest.skip("the server does not keep seeds")
    assert first == second


def test_another_seed_gives_another_text(engine):
    found = set(texts(engine, [replace(ASKED, seed=i) for i in range(6)]))
    if engine.real and len(found) == 1:
        pytest.skip("the server does not sample")
    assert len(found) > 3


def test_greedy_gives_one_text_whatever_the_seed(engine):
    found = texts(engine, [replace(ASKED, seed=i, greedy=True) for i in range(3)])
    assert len(set(found)) == 1
    assert found[0]


def test_a_rest_changes_nothing(engine):
    requests = many(3, greedy=True)
    before = texts(engine, requests)
    engine.generator.release()
    engine.generator.release()
    assert texts(engine, requests) == before


def test_a_stop_ends_the_text_and_is_not_part_of_it(engine):
    asked = replace(ASKED, greedy=True, max_tokens=24)
    text = texts(engine, [asked, asked])[0]  # as many as below: in bfloat16 a batch's size may change a text
    at = next(i for i in range(4, len(text)) if text.find(text[i : i + 3]) == i and len(text[i : i + 3].strip()) == 3)
    stops = [(text[at : at + 3],), ("never there", text[at : at + 3], text[at:])]
    for made in engine.generator.generate([replace(asked, stop=stop) for stop in stops]):
        assert (made.text, made.finish) == (text[:at], "stop")


def test_the_first_of_several_stops_counts(engine, say):
    say(" one two three four five")
    made = engine.generator.generate([replace(ASKED, stop=("four", "thr"), max_tokens=60)])[0]
    assert (made.text, made.finish) == (" one two ", "stop")


def test_a_text_that_ends_by_itself(engine, say):
    say(" one two three")
    made = engine.generator.generate([replace(ASKED, max_tokens=60)])[0]
    assert (made.text, made.finish) == (" one two three", "stop")


TASK = tickets_task(10, 120)
TICKET = Request(
    "You write.", "Demos.\n", "Write one.", "queue: billing\nmessage:", seed=1, max_tokens=200, stop=("\n",)
)
TEXT = "I want my money back for the blue lamp."
REPLIES = {  # what a model writes, and what becomes of it; {} is the text
    "{}": TEXT,
    " {}": TEXT,
    "queue: billing\nmessage: {}": TEXT,
    "**Queue:** Billing\n\n**Message:** {}": TEXT,
    "queue\uff1abilling\nmessage\uff1a{}": TEXT,
    "<message>{}</message>": TEXT,
    "<queue>billing</queue>\n<message>\n{}\n</message>": TEXT,
    "### Message\n\n{}": TEXT,
    "Okay, the user wants one.\nLet me think.\n</think>\n\n{}": TEXT,
    "<think> Okay, the user wants one. </think> {}": TEXT,
    "<think>\n\n</think>\n\n{}": TEXT,
    "[THINK]The customer is angry.[/THINK]{}": TEXT,
    "<|channel|>analysis<|message|>Easy.<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>": TEXT,
    "<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>": TEXT,
    "{}<|im_end|>": TEXT,
    "{}</s> and more": TEXT,
    "Sure! Here is a new sample with the requested label:\n\n{}": TEXT,
    "Sure! Here is one:\n\nqueue: billing\nmessage: {}\n\nLet me know if you need more!": TEXT,
    "Sure, here's one: {}": TEXT,
    "Voici un exemple :\n\n{}": TEXT,
    "1. {}\n2. My lamp is broken.\n3. My card was charged.": TEXT,
    "1. {}": TEXT,
    "**Customer message:**\n{}": TEXT,
    "> {}": TEXT,
    "Billing: {}": TEXT,
    "queue: billing\n{}": TEXT,
    "message: {}\nqueue: billing": TEXT,
    "{}\n\nQueue: billing": TEXT,
    "- {}": TEXT,
    "```\n{}\n```": TEXT,
    '```json\n{"queue": "billing", "message": "{}"}\n```': TEXT,
    '```json {"queue": "billing", "message": "{}"} ```': TEXT,
    '[{"Queue": "billing", "Message": "{}"}]': TEXT,
    "\u201c{}\u201d": TEXT,
    "\u00ab{}\u00bb": TEXT,
    "\u300c{}\u300d": TEXT,
    "**{}**": TEXT,
    "\ufeff\x1b[1m{}\x1b[0m": TEXT,
    "{} (Note: this sample fits the label billing.)": TEXT,
    "I think that my money is gone: why?": "I think that my money is gone: why?",
    '"Paid" is what it says.': '"Paid" is what it says.',
    "I'm sorry, but I can't find my order.": "I'm sorry, but I can't find my order.",
    "I paid 1. 20 euros, 2. a fee.": "I paid 1. 20 euros, 2. a fee.",
    "<think>The user wants one new sample": "only_thinking",
    "I\u2019m sorry, but I can\u2019t assist with that request.": "refusal",
    "As an AI language model, I cannot write that.": "refusal",
    "queue: delivery\nmessage: {}": "wrong_label",
    '{"queue": "billing", "message": "I want my': "unparsable",
    "Sure! Here is one:": "unparsable",
    "I want my m\ufffdney back for the lamp.": "not_unicode",
    "I want my m\x00ney back for the lamp.": "not_unicode",
    "\n": "empty",
}


def what_becomes_of(engine, monkeypatch, reply):
    """The text of the sample in a reply, or the reason why there is none."""
    (engine.reply or engine.say)(monkeypatch, reply.replace("{}", TEXT))
    made = engine.generator.generate([TICKET])[0]
    checked = Checker(TASK).judge(made, "billing", TICKET.answer_prefix, "", TASK.demos)
    return checked.sample.fields["message"] if checked.sample else checked.reason


@pytest.mark.parametrize("reply", REPLIES)
def test_whatever_stands_around_a_sample_is_none_of_it(engine, monkeypatch, reply):
    if engine.say is None:
        pytest.skip("this engine's model writes what it likes")
    if engine.goes_on and "\n" in reply.strip("\n"):
        pytest.skip("it goes on from the answer, and its first line ends there")
    if engine.goes_on and reply.strip("\n") != reply:
        pytest.skip("an empty line ends it at once")
    assert what_becomes_of(engine, monkeypatch, reply) == REPLIES[reply]


def test_the_most_tokens_cut_the_text(engine):
    made = engine.generator.generate([replace(ASKED, greedy=True, max_tokens=n) for n in (3, 6)])
    assert [c.finish for c in made] == ["length", "length"]
    assert [c.completion_tokens for c in made] == [3, 6]
    assert made[1].text.startswith(made[0].text)


def test_an_empty_text(engine, say):
    say("")
    made = engine.generator.generate([ASKED])[0]
    assert (made.text, made.finish) == ("", "stop")
    assert made.prompt_tokens > 0


def test_a_prompt_in_any_script(engine):
    asked = [
        replace(ASKED, suffix=own) for own in ("naïve Öl", "北京的新闻", "🙂👩‍👩‍👧", "עברית \u202e", "tab\tand\x00nul")
    ]
    made = engine.generator.generate(asked)
    assert all(c.prompt_tokens > 0 for c in made)
    for completion in made:
        completion.text.encode()  # what could not be stored would raise here


def test_a_text_in_any_script(engine, say):
    for text in (" naïve Öl", " 北京的新闻", " 🙂👩‍👩‍👧", " עברית"):
        say(text)
        assert texts(engine, [replace(ASKED, max_tokens=80)]) == [text]


def test_a_long_prompt(engine):
    """Engines that count tokens refuse it; for a server that answers others it is one request without an answer."""
    try:
        short, long = engine.generator.generate([ASKED, replace(ASKED, suffix=engine.long)])
    except GoldError as e:
        assert len(str(e).splitlines()) == 1
        assert "--data.plan.seed_demos" in str(e)
    else:
        if engine.real and long.finish != "failed":
            pytest.skip(f"the server took a prompt of {long.prompt_tokens} tokens")
        assert short.text and (long.text, long.finish) == ("", "failed")


def test_nothing_is_too_long_of_what_fits(engine):
    assert engine.generator.tokens_over_limit([ASKED, replace(ASKED, choices=CHOICES)]) == [0, 0]


def test_tokens_are_counted(engine):
    short, long = replace(ASKED, suffix="Write."), replace(ASKED, suffix="Write. " * 12)
    first, second, again = engine.generator.generate([short, long, short])
    assert 0 < first.prompt_tokens < second.prompt_tokens
    assert first.prompt_tokens == again.prompt_tokens
    for made in (first, second):
        assert (0 if made.text == "" else 1) <= made.completion_tokens <= ASKED.max_tokens


def scored_or_skip(engine, requests):
    try:
        return engine.generator.generate(requests)
    except GoldError as e:
        if engine.real and "no likelihoods of labels" in str(e):
            pytest.skip(str(e))
        raise


def likelihoods(engine, requests):
    return [c.choice_log_probs for c in scored_or_skip(engine, requests)]


def test_choices_have_likelihoods(engine):
    requests = [replace(r, choices=CHOICES) for r in many(3)]
    found = likelihoods(engine, requests)
    assert [len(scores) for scores in found] == [3, 3, 3]
    assert all(math.isfinite(p) and p <= 0 for scores in found for p in scores)
    for scores, again in zip(found, likelihoods(engine, requests), strict=True):
        assert scores == pytest.approx(again, abs=1e-3)
    assert len(set(found[0])) == 3 or isinstance(engine.generator, ScriptedGenerator)


def test_choices_keep_their_order(engine):
    (found,) = likelihoods(engine, [replace(ASKED, choices=CHOICES)])
    (turned,) = likelihoods(engine, [replace(ASKED, choices=CHOICES[::-1])])
    assert turned[::-1] == pytest.approx(found, abs=0.05)
    assert max(found) - min(found) > 0.1


def test_choices_beside_texts(engine):
    scored = replace(ASKED, choices=CHOICES)
    made = scored_or_skip(engine, [scored, ASKED, scored, ASKED])
    assert [bool(c.choice_log_probs) for c in made] == [True, False, True, False]
    assert [bool(c.text) for c in made] == [False, True, False, True]


def test_a_schema_is_followed(engine):
    if engine.schema is None:
        pytest.skip("this engine has no setting for schemas")
    asked = replace(ASKED, schema=json.dumps(SHAPE), stop=("\n\n",), max_tokens=60)
    try:
        text = engine.schema.generate([asked])[0].text
        found = json.loads(text)
    except (GoldError, ValueError) as e:
        if engine.real and (not isinstance(e, GoldError) or "response_format" in str(e)):
            pytest.skip(f"the server does not follow schemas: {e}")
        raise
    assert found.keys() == {"topic", "text"}
    assert found["topic"] == "World"


def test_a_fingerprint_is_plain(engine):
    assert json.loads(json.dumps(engine.generator.fingerprint())) == engine.generator.fingerprint()
