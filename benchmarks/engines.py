"""Accepted samples a second of the engines that can run the embedded generator, model load counted.

    python benchmarks/engines.py                 # the engine of EmbeddedGenerator
    pip install xllamacpp && python benchmarks/engines.py --engine llama.cpp

Each engine gets the same requests of the quickstart task, planned by the same code, and its completions go
through the same checks. llama.cpp serves the wheel's GGUF file as it is, quantised, with 16 slots.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import Completion, EmbeddedGenerator, Generator, Request
from gold_lightning.generators.embedded_weights import weights
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Task


class LlamaCpp(Generator):
    """llama.cpp in process, continuous batching, each slot's prompt cached."""

    def __init__(self, batch_size: int = 64, slots: int = 16, threads: int = 2) -> None:
        self.batch_size, self.slots, self.threads = batch_size, slots, threads
        self._server = None

    def _load(self):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(weights())
        params.n_parallel, params.n_ctx = self.slots, self.slots * 1024
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.verbosity, params.warmup = -1, False
        return xllamacpp.Server(params)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self._server = self._server or self._load()
        with ThreadPoolExecutor(self.slots) as threads:
            return list(threads.map(self._one, requests))

    def _one(self, request: Request) -> Completion:
        asked = {
            "prompt": request.text,
            "max_tokens": request.max_tokens,
            "temperature": 0.9,
            "top_k": 50,
            "top_p": 1.0,
        }
        asked |= {"min_p": 0.0, "seed": request.seed, "stop": list(request.stop), "cache_prompt": True}
        got = self._server.handle_completions(asked)
        choice, usage = got["choices"][0], got["usage"]
        return Completion(choice["text"], usage["prompt_tokens"], usage["completion_tokens"], choice["finish_reason"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=["embedded", "llama.cpp"], default="embedded")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--group-size", type=int, default=8)
    args = parser.parse_args()
    made = EmbeddedGenerator if args.engine == "embedded" else LlamaCpp
    generator = made(batch_size=args.batch_size)
    plan = SynthesisPlan(samples_per_round=args.samples, group_size=args.group_size)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        synthesizer = Synthesizer(Task.load("news_topics"), generator, Path(folder), plan)
        synthesizer.train(0, FeedbackPool(), 0.0)
        batches = synthesizer.store(0).batches("train")
    seconds = time.perf_counter() - started
    asked, written = sum(b.requested for b in batches), sum(b.completion_tokens for b in batches)
    print(
        f"{args.engine}, batches of {args.batch_size} in groups of {args.group_size}: "
        f"{args.samples} accepted of {asked} "
        f"in {seconds:.1f} s, load included: {args.samples / seconds:.2f} accepted/s, {written / seconds:.0f} tokens/s"
    )


if __name__ == "__main__":
    main()
