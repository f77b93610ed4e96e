"""The benchmark of a fleet: its servers answer as any other would, until they are killed."""

import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import fleet
from tests.generators.openai.helpers import ASKED, many

pytest.importorskip("httpx", reason="the extra openai is not installed")


def test_servers_answer_alike_and_one_that_is_killed_costs_nothing():
    from gold_lightning.generators import OpenAIGenerator

    servers = [
        subprocess.Popen([sys.executable, fleet.__file__, "--serve", "0.02"], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        urls = [f"http://127.0.0.1:{int(server.stdout.readline())}/v1" for server in servers]
        one, both = (OpenAIGenerator("toy", u, form="completion", backoff=0.01) for u in (urls[:1], urls))
        wanted = one.generate(many(24))
        assert both.generate(many(24)) == wanted and len({c.text for c in wanted}) == 24
        assert one.generate([replace(ASKED, seed=7)]) != one.generate([replace(ASKED, seed=8)])
        servers[1].kill()
        servers[1].wait()
        assert both.generate(many(24)) == wanted
    finally:
        for server in servers:
            server.kill()
            server.wait()
