"""A fleet of servers behind four processes: throughput, and whether samples are lost when servers fail.

    python benchmarks/fleet.py                     # 1,920 samples in each of five runs; four minutes
    python benchmarks/fleet.py --samples 480

Four processes (gloo) synthesise a round with ``OpenAIGenerator``. Each server is a process of its own that answers 16
calls at once and takes half a second for each; it draws a made-up text from prompt and seed, as any other server would.
In the runs with three servers none fails, one takes five times as long, one is killed in the middle, or both happen.
Samples must be the same in all runs. Servers compute nothing, so the figures say nothing about the speed of a model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROCESSES, SLOTS, SECONDS = 4, 16, 0.5
KILL_AFTER = 0.2  # of the seconds that one server would need
RUNS = {  # seconds of a call on each server, and the server that is killed
    "one server": ([SECONDS], None),
    "three servers": ([SECONDS] * 3, None),
    "three, one of them slow": ([SECONDS, SECONDS, 5 * SECONDS], None),
    "three, one of them killed": ([SECONDS] * 3, 1),
    "three, one slow, one killed": ([SECONDS, SECONDS, 5 * SECONDS], 1),
}
_SYLLABLES = [a + b for a in "bcdfglmnprst" for b in ("a", "e", "i", "o", "u", "an", "er", "ol")]
_WORDS = ["".join(random.Random(i).choices(_SYLLABLES, k=1 + i % 3)) for i in range(5_000)]


def serve(seconds: float) -> None:
    """Serves until it is killed. Prints its port, and a line at its first call."""
    slots, first = threading.Semaphore(SLOTS), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the base class wants this name
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if first.acquire(blocking=False):  # never released
                print("first call", flush=True)
            with slots:
                time.sleep(seconds)
            rng = random.Random(f"{body.get('seed')}|{body['prompt']}")
            text = " " + " ".join(rng.choices(_WORDS, k=rng.randint(10, 60))).capitalize() + "."
            answer: dict[str, Any] = {"object": "text_completion", "model": "toy"}
            answer["choices"] = [{"index": 0, "finish_reason": "stop", "text": text}]
            answer["usage"] = {"prompt_tokens": 200, "completion_tokens": 60}
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size, daemon_threads = 512, True

        def handle_error(self, *_: Any) -> None:
            """Says nothing: a caller is gone."""

    with Server(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


def synthesise(folder: Path, urls: list[str], samples: int) -> None:
    """Synthesises a round as one of several processes; the first one prints the seconds that it took."""
    import torch.distributed as dist
    from gold_lightning.feedback import FeedbackPool
    from gold_lightning.generators import OpenAIGenerator
    from gold_lightning.generators.distributed import distribute
    from gold_lightning.notices import without_progress_bars
    from gold_lightning.planning.plan import SynthesisPlan
    from gold_lightning.synthesis import Synthesizer
    from gold_lightning.task import Task

    dist.init_process_group("gloo")
    engine = OpenAIGenerator("toy", urls, form="completion", batch_size=64, concurrency=64, backoff=0.1)
    generator = distribute(engine)
    plan = SynthesisPlan(samples, 1, label_agreement="off", decontaminate="off", max_attempts=20)
    with without_progress_bars():
        synthesizer = Synthesizer(Task.load("news_topics"), generator, folder, plan, seed=1)
        started = time.perf_counter()
        generator.run(lambda: synthesizer.train(0, FeedbackPool(), 0.0))
    if not generator.rank:
        print(f"seconds {time.perf_counter() - started}", flush=True)
    dist.destroy_process_group()


def run(speeds: list[float], killed: int | None, samples: int, kill_after: float) -> tuple[float, list[Any]]:
    """Runs a fleet.

    Args:
        speeds: Seconds of a call on each server.
        killed: Number of the server that is killed; ``None`` for none.
        samples: Number of training samples.
        kill_after: Seconds from the first call until a server is killed.

    Returns:
        Seconds of the synthesis, and id, text and label of each sample.
    """
    begin = [sys.executable, str(Path(__file__).resolve())]
    servers = [
        subprocess.Popen([*begin, "--serve", str(seconds)], stdout=subprocess.PIPE, text=True) for seconds in speeds
    ]
    try:
        lines = [server.stdout for server in servers]
        urls = [f"http://127.0.0.1:{int(line.readline())}/v1" for line in lines if line is not None]

        def kill() -> None:
            if killed is not None and (line := lines[killed]) is not None and line.readline():
                time.sleep(kill_after)
                servers[killed].send_signal(signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
        with tempfile.TemporaryDirectory() as folder:
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
            command = [*launch, begin[1], "--samples", str(samples), "--folder", folder, "--urls", *urls]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            seconds = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("seconds ")]
            if done.returncode or not seconds:
                raise SystemExit(done.stderr)
            if killed is not None and servers[killed].poll() is None:
                raise SystemExit("the run ended before the server was killed; take more --samples")
            rows = (Path(folder) / "data" / "round_000" / "train.jsonl").read_text(encoding="utf-8").splitlines()
        return float(seconds[0]), [(row["id"], row["fields"], row["target"]) for row in map(json.loads, rows)]
    finally:
        for server in servers:
            server.kill()
            server.wait()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_920)
    parser.add_argument("--runs", nargs="+", choices=[*RUNS], default=[*RUNS], metavar="RUN", help=", ".join(RUNS))
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--urls", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.serve is not None:
        serve(args.serve)
        return
    if args.folder:
        synthesise(args.folder, args.urls, args.samples)
        return
    alone = args.samples * SECONDS / SLOTS  # seconds that one server needs at least
    first: tuple[float, list[Any]] | None = None
    print(f"{args.samples:,} samples, {PROCESSES} processes, {SLOTS} calls at once of {SECONDS} s on a server\n")
    print("| servers | seconds | accepted samples a second | against the first | samples | the same as in the first |")
    print("|---|---:|---:|---:|---:|---|")
    for name in args.runs:
        speeds, killed = RUNS[name]
        seconds, samples = run(speeds, killed, args.samples, KILL_AFTER * alone)
        first = first or (seconds, samples)
        same = "yes" if samples == first[1] else "NO"
        print(
            f"| {name} | {seconds:.1f} | {len(samples) / seconds:.1f} | {first[0] / seconds:.2f} | {len(samples):,} "
            f"| {same} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
