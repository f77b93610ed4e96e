"""What is committed of a batch besides its samples: how many answers were thought about first."""

from __future__ import annotations

import json

from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.synthesis import Synthesizer

from tests.generators.openai.helpers import made_of, reply_of
from tests.servers import FakeServer
from tests.test_synthesis import TASK

PLAN = SynthesisPlan(samples_per_round=8, probe_per_round=4, label_agreement="off")


def thoughtful(request):
    """A new text, after thinking for every second request."""
    thought = "<think>The user wants one.</think>" if request.seed % 2 else ""
    return f"{thought} Number {request.seed} is in the news, and so are {request.seed % 997} others."


def test_answers_after_thinking_are_counted(tmp_path):
    for _ in range(2):  # the second time from what is stored
        generator = ScriptedGenerator(thoughtful)
        samples = Synthesizer(TASK, generator, tmp_path, PLAN, seed=3).train(0, FeedbackPool(), 0.0)
        assert len(samples) == 8 and not any("think" in s.sample.text for s in samples)
        batches = RoundStore(tmp_path, 0).batches("train")
        asked = read_lines(tmp_path / "data" / "completions.jsonl")
        assert sum(b.thought for b in batches) == sum(row.get("thought", False) for row in asked) > 0
        assert any("thought" not in row for row in asked)


def test_the_server_counts_tokens_of_thinking():
    usage = {"prompt_tokens": 9, "completion_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 31}}
    with FakeServer() as server:
        made = made_of(server, reply_of(usage=usage))
        assert (made.thought, made.thinking_tokens, made.completion_tokens) == (True, 31, 40)
        assert made_of(server, reply_of("<think>hm</think>a river.")).thinking_tokens == 0
        assert not made_of(server, json.dumps(json.loads(reply_of()))).thought
