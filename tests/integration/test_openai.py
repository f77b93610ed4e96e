"""A whole preview over HTTP, configured as the documentation does it."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import yaml
from gold_lightning.cli.main import main
from gold_lightning.storage.json_lines import read_lines

from tests.servers import FakeServer, Fault, words

pytest.importorskip("httpx", reason="the extra openai is not installed")

PAGE = (Path(__file__).parents[2] / "docs" / "generators.md").read_text(encoding="utf-8")
KEY = "sk-test-0987654321"


def news(body):
    """A chat model's news item of the topic that it was told to begin with."""
    told = re.search(r"Begin your answer with:\n(.*)$", body["messages"][-1]["content"], re.DOTALL)
    if told is None:  # a request for likelihoods of labels
        return "World"
    return f"{told[1]} {words(random.Random(body['seed']), 12)}.\n\nShall I write another one?"


def test_a_preview_over_http(capsys, tmp_path, monkeypatch, tiny_student):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("GOLD_KEY", KEY)
    config = yaml.safe_load(next(b for b in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "base_url" in b))
    settings = config["data"]["generator"]["init_args"]
    with FakeServer(key=KEY, replies=news, limit=2000) as server:
        settings |= {"model": "toy", "base_url": [server.url], "api_key_env": "GOLD_KEY", "continue_answer": False}
        Path("server.yaml").write_text(yaml.safe_dump(config))
        args = ["--config", "quickstart.yaml", "--config", "server.yaml", "--model.student", tiny_student]
        args += ["--preview.count", "8", "--preview.rows", "0"]
        assert main(["preview", *args, "--data.plan.label_agreement", "off"]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"accepted 8 of 8", shown)
        assert sum("logprobs" not in call.body for call in server.calls) == 8
        assert main(["preview", *args, "--data.generator.init_args.model", "none"]) == 2
        told = capsys.readouterr()
    assert "HTTP 404: The model `none` does not exist." in told.err.splitlines()[-1]
    assert KEY not in shown + told.out + told.err


def test_a_whole_run_over_a_server_of_which_a_third_of_the_calls_fail(tmp_path, monkeypatch, tiny_student, capfd):
    def fault(call):
        # Not half an answer: its server has counted the tokens, and nobody else can know.
        kinds = [Fault(status=429), Fault(status=500), Fault(status=503), Fault("reset")]
        rng = random.Random(call.number)
        return rng.choice([*kinds, Fault("body", 200, body='{"choices": [')]) if rng.random() < 0.3 else None

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("GOLD_KEY", KEY)
    with FakeServer(key=KEY, replies=news, limit=2000, faults=fault) as server:
        settings = {"model": "toy", "base_url": server.url, "form": "chat", "api_key_env": "GOLD_KEY", "backoff": 0.01}
        config = {
            "run": {"root": str(tmp_path / "runs"), "name": "t"},
            "data": {
                "generator": {"class_path": "gold_lightning.generators.OpenAIGenerator", "init_args": settings},
                "plan": {"samples_per_round": 16, "probe_per_round": 8, "label_agreement": "off"},
                "budget": {"price_prompt": 1.0, "price_completion": 2.0},
                "passes_per_round": 1,
            },
            "model": {"student": tiny_student},
            "trainer": {"max_epochs": 2},
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        assert main(["fit", "--config", "quickstart.yaml", "--config", str(tmp_path / "run.yaml")]) == 0
        folder = tmp_path / "runs" / "news_topics" / "t"
        rows = read_lines(folder / "rounds.jsonl")
        assert [row["train"]["accepted"] for row in rows] == [16, 16]
        assert [row["probe"]["accepted"] for row in rows] == [8, 8]
        # The ledger is the server's own count: of calls that were answered, and of their tokens.
        answered = [call for call in server.calls if call.fault is None]
        spent = rows[-1]["tokens_so_far"]
        assert spent["calls"] == len(answered) == len(read_lines(folder / "data" / "completions.jsonl"))
        assert spent["prompt"] + spent["completion"] == server.tokens
        assert spent["cost"] == pytest.approx((spent["prompt"] + 2 * spent["completion"]) / 1e6, abs=1e-6)
        assert 0.15 < 1 - len(answered) / len(server.calls) < 0.45
        # No request that was answered was sent again.
        assert len({json.dumps(call.body, sort_keys=True) for call in answered}) == len(answered)
    told = capfd.readouterr()
    found = [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert found == [] and KEY not in told.out + told.err
    assert "GOLD_KEY" in (folder / "config.yaml").read_text()  # by name


@pytest.fixture
def fit(tmp_path, monkeypatch, tiny_student):
    """Runs ``fit`` over a server, and gives its exit status."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def run(server, name="t", **settings):
        settings = {"model": "toy", "base_url": server.url, "form": "chat", "backoff": 0.01, **settings}
        config = {
            "run": {"root": str(tmp_path / "runs"), "name": name},
            "data": {
                "generator": {"class_path": "gold_lightning.generators.OpenAIGenerator", "init_args": settings},
                "plan": {"samples_per_round": 8, "probe_per_round": 4, "label_agreement": "off"},
                "passes_per_round": 1,
            },
            "model": {"student": tiny_student},
            "trainer": {"max_epochs": 1},
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        return main(["fit", "--config", "quickstart.yaml", "--config", str(tmp_path / "run.yaml")])

    return run


FILTERED = Fault(status=400, body=json.dumps({"error": {"message": "flagged", "code": "content_filter"}}))
NO_TEXT = Fault(
    "body",
    body=json.dumps(
        {
            "choices": [{"message": {"content": None, "reasoning_content": "Let me think"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        }
    ),
)


def test_refused_prompts_are_rejects_and_the_run_goes_on(tmp_path, fit):
    with FakeServer(replies=news, limit=2000) as server:
        server.faults = lambda call: FILTERED if call.body["seed"] % 4 == 0 else None
        assert fit(server) == 0
        refused = sum(call.fault is not None for call in server.calls)
        (row,) = read_lines(tmp_path / "runs" / "news_topics" / "t" / "rounds.jsonl")
        assert row["train"]["rejects"].get("filtered", 0) + row["probe"]["rejects"].get("filtered", 0) == refused > 0
        assert (row["train"]["accepted"], row["probe"]["accepted"]) == (8, 4)
        assert row["tokens_so_far"]["calls"] == len(server.calls)


@pytest.mark.parametrize(
    ("fault", "reason", "said"),
    [(FILTERED, "filtered", "a content filter rejects"), (NO_TEXT, "only_thinking", "thinking")],
)
def test_a_round_without_answers_ends_and_the_same_command_goes_on_when_that_is_mended(
    tmp_path, fit, capsys, fault, reason, said
):
    with FakeServer(replies=news, limit=2000) as server:
        server.faults = lambda call: fault
        assert fit(server) == 2
        told = capsys.readouterr().err
        assert f"  {reason:<20}" in told and f"{reason}: " in told and said in told
        assert "the same command repeats them once the cause is fixed" in told
        before, server.faults = len(server.calls), lambda call: None
        assert fit(server) == 0  # the same command
        same = len(server.calls) - before
        assert same >= 12
        rows = read_lines(tmp_path / "runs" / "news_topics" / "t" / "data" / "completions.jsonl")
        assert sum("text" in row for row in rows) == same and len(rows) == len(server.calls)
        before = len(server.calls)
        assert fit(server, "another") == 0  # and another run, which is lent what was answered
        assert len(server.calls) > before


def test_a_round_that_gives_up_over_stored_answers_of_other_runs_says_so(fit, capsys):
    with FakeServer(replies=lambda body: "no", limit=2000) as server:
        assert fit(server) == 2
        asked = len(server.calls)
        capsys.readouterr()
        assert fit(server, "another") == 2
        assert len(server.calls) == asked
        told = capsys.readouterr().err
    assert "answers of the round are reused from other runs; --data.reuse_completions false requests new ones" in told


def test_a_run_goes_on_under_another_port_and_other_runs_ask_anew(tmp_path, fit, capsys):
    replies = [Fault(status=401) if n == 9 else None for n in range(10)]
    with FakeServer(replies=news, limit=2000) as first:
        first.faults = lambda call: replies[min(call.number, 9)]
        assert fit(first, batch_size=4, concurrency=1) == 2
        paid = sum(call.fault is None for call in first.calls)
        asked = {call.body["seed"] for call in first.calls if call.fault is None}
    with FakeServer(replies=news, limit=2000) as second:
        assert fit(second, batch_size=4, concurrency=1) == 0
        assert not asked & {call.body["seed"] for call in second.calls}
        (row,) = read_lines(tmp_path / "runs" / "news_topics" / "t" / "rounds.jsonl")
        assert row["tokens_so_far"]["calls"] == paid + len(second.calls)
        before = len(second.calls)
        assert fit(second, "beside", batch_size=4) == 0
        asked_anew = {call.body["seed"] for call in second.calls[before:]}
    assert asked <= asked_anew  # what the first server was paid for is its own
    assert "another generator" not in capsys.readouterr().err


def test_a_wrong_setting_is_told_with_its_key(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["--data.generator", "OpenAIGenerator", "--data.generator.init_args.model", "m"]
    args += ["--data.generator.init_args.base_url", "localhost:8000"]
    assert main(["preview", "--config", "quickstart.yaml", *args]) == 2
    assert "data.generator.init_args.base_url: got 'localhost:8000'" in capsys.readouterr().err.splitlines()[-1]
