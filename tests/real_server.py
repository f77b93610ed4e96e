"""Starts ``transformers serve`` with the embedded model, runs the tests marked ``server`` against it, and stops it.

    python tests/real_server.py .venv-server/bin/transformers [options of pytest]

``make test-server`` makes the environment that it needs and calls it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from gold_lightning.generators.embedded import embedded_folder

# This server samples only where it is told so, and reads on past the end of its model's positions.
SETTINGS = {"extra": {"generation_config": json.dumps({"do_sample": True})}, "max_context": 8192}
PATIENCE = 180  # seconds until the server must answer


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(url, server, log):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(PATIENCE):
        if server.poll() is not None:
            log.seek(0)
            sys.exit(f"the server ended with status {server.returncode}:\n{log.read()}")
        try:
            opener.open(f"{url}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    sys.exit(f"the server did not answer within {PATIENCE} s")


def main(transformers, *options):
    model, port = str(embedded_folder()), free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **os.environ}
    how = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen([transformers, "serve", model, *how], env=environment, stdout=log, stderr=log)
        try:
            wait(url, server, log)
            return ask(url, model, options)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def ask(url, model, options):
    """Runs the tests; their exit status."""
    named = {"GOLD_TEST_SERVER": f"{url}/v1", "GOLD_TEST_MODEL": model, "GOLD_TEST_SETTINGS": json.dumps(SETTINGS)}
    tests = [sys.executable, "-m", "pytest", "-m", "server", "-vv", "-rs", *options]
    return subprocess.run(tests, env={**os.environ, **named, "NO_PROXY": "127.0.0.1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
