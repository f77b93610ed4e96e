"""A whole preview over HTTP, configured as the README does it."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import yaml
from gold_lightning.cli import main

from tests.servers import FakeServer, words

pytest.importorskip("httpx", reason="the extra openai is not installed")

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
KEY = "sk-test-0987654321"


def news(body):
    """A chat model's news item of the topic that it was told to begin with."""
    told = re.search(r"Begin your answer with:\n(.*)$", body["messages"][-1]["content"], re.DOTALL)[1]
    return f"{told} {words(random.Random(body['seed']), 12)}.\n\nShall I write another one?"


def test_a_preview_over_http(capsys, tmp_path, monkeypatch, tiny_student):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("GOLD_KEY", KEY)
    config = yaml.safe_load(next(b for b in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "base_url" in b))
    settings = config["data"]["generator"]["init_args"]
    with FakeServer(key=KEY, replies=news, limit=2000) as server:
        settings |= {"model": "toy", "base_url": [server.url], "api_key_env": "GOLD_KEY", "continue_answer": False}
        Path("server.yaml").write_text(yaml.safe_dump(config))
        args = ["--config", "quickstart.yaml", "--config", "server.yaml", "--model.student", tiny_student]
        assert main(["preview", *args, "--data.plan.label_agreement", "off"]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"accepted 8 of 8", shown)
        assert len(server.calls) == 8
        assert main(["preview", *args, "--data.generator.init_args.model", "none"]) == 2
        told = capsys.readouterr()
    assert "HTTP 404: The model `none` does not exist." in told.err.splitlines()[-1]
    assert KEY not in shown + told.out + told.err


def test_a_wrong_setting_is_told_with_its_key(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["--data.generator", "OpenAIGenerator", "--data.generator.init_args.model", "m"]
    args += ["--data.generator.init_args.base_url", "localhost:8000"]
    assert main(["preview", "--config", "quickstart.yaml", *args]) == 2
    assert "data.generator.init_args.base_url: got 'localhost:8000'" in capsys.readouterr().err.splitlines()[-1]
