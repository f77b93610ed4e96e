"""Accepted samples a second of engines that can run a GGUF file on a CPU: the embedded generator's, or another one.

    python benchmarks/engines.py                                          # the engine of EmbeddedGenerator
    pip install xllamacpp && python benchmarks/engines.py --engine llama.cpp
    pip install openvino-genai && python benchmarks/engines.py --engine openvino
    pip install ctranslate2 && python benchmarks/engines.py --engine ctranslate2
    python benchmarks/engines.py --model qwen2.5-coder-1.5b-instruct-q4_k_m.gguf --samples 16 --batch-size 16

One engine a process, since its peak of memory is that of the process. Each engine gets the same requests of the
quickstart task in plain text, planned by the same code, and its completions go through the same checks. llama.cpp and
OpenVINO read the file as it is; transformers and CTranslate2 get its weights in full, and CTranslate2 rounds them to
8 bits, once, in a folder that the next call finds. The last column tells whether the first batch, asked for a second
time, is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import (
    Completion,
    EmbeddedGenerator,
    Generator,
    OpenVINOGenerator,
    Request,
    TransformersGenerator,
)
from gold_lightning.generators.embedded import embedded_folder
from gold_lightning.generators.embedded_weights import cache_folder, weights
from gold_lightning.generators.prefix_attention import common_length
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Task

TEMPERATURE, TOP_K = 0.9, 50  # of EmbeddedGenerator


class Engine(Generator):
    """An engine that loads a file in its first call.

    Args:
        model: GGUF file.
        batch_size: Number of requests a call.
        threads: Number of threads.
    """

    def __init__(self, model: Path, batch_size: int, threads: int) -> None:
        self.model, self.batch_size, self.threads = model, batch_size, threads

    def fingerprint(self) -> dict[str, Any]:
        return {"class": type(self).__name__}


class LlamaCpp(Engine):
    """llama.cpp in process: 16 slots with continuous batching, each with a cache of its prompt."""

    slots = 16

    @cached_property
    def _server(self) -> Any:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(self.model)
        params.n_parallel, params.n_ctx = self.slots, self.slots * 1024
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.verbosity, params.warmup = -1, False
        return xllamacpp.Server(params)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self._server  # noqa: B018 - loaded once, not by the first of the threads
        with ThreadPoolExecutor(self.slots) as threads:
            return list(threads.map(self._one, requests))

    def _one(self, request: Request) -> Completion:
        settings = {"temperature": TEMPERATURE, "top_k": TOP_K, "top_p": 1.0, "min_p": 0.0, "seed": request.seed}
        settings |= {"max_tokens": request.max_tokens, "stop": list(request.stop), "cache_prompt": True}
        answer = self._server.handle_completions({"prompt": request.text, **settings})
        choice, usage = answer["choices"][0], answer["usage"]
        return Completion(choice["text"], usage["prompt_tokens"], usage["completion_tokens"], choice["finish_reason"])


class CTranslate2(Engine):
    """CTranslate2 in 8 bits: requests of one prompt are a batch, whose common beginning is computed once."""

    @cached_property
    def _source(self) -> Path:
        """A folder with the weights in full, as transformers saves them."""
        if self.model == weights():
            return embedded_folder()
        import torch
        from gold_lightning.generators.gguf_file import load_gguf

        folder = cache_folder() / "engines" / self.model.stem
        if not (folder / "tokenizer_config.json").is_file():
            model, tokenizer = load_gguf(self.model, torch.bfloat16)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return folder

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import ctranslate2
        from ctranslate2.converters import TransformersConverter
        from transformers import AutoTokenizer

        folder = cache_folder() / "engines" / f"{self.model.stem}-ctranslate2-int8"
        if not (folder / "model.bin").is_file():
            TransformersConverter(str(self._source)).convert(str(folder), quantization="int8", force=True)
        generator = ctranslate2.Generator(str(folder), intra_threads=self.threads, compute_type="int8")
        return generator, AutoTokenizer.from_pretrained(self._source)

    @cached_property
    def _ends(self) -> dict[str, list[int]]:
        """The tokens with which a text ends, by the characters that end it."""
        _, tokenizer = self._loaded
        texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
        ends: dict[str, list[int]] = defaultdict(lambda: [tokenizer.eos_token_id])
        for stop in ("\n", "\n\n"):
            ends[stop] = [i for i, text in enumerate(texts) if stop in text] + [tokenizer.eos_token_id]
        return ends

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        import ctranslate2

        generator, tokenizer = self._loaded
        ids = [tokenizer(request.text)["input_ids"] for request in requests]
        groups: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            groups[request.system + request.prefix, request.stop].append(i)
        completions: dict[int, Completion] = {}
        for (_, stop), members in groups.items():
            shared = common_length([ids[i] for i in members])
            tokens = [tokenizer.convert_ids_to_tokens(ids[i]) for i in members]
            ctranslate2.set_random_seed(requests[members[0]].seed % 2**31)  # one for a batch: there is none for a row
            answers = generator.generate_batch(
                [row[shared:] for row in tokens],
                static_prompt=tokens[0][:shared],
                include_prompt_in_result=False,
                sampling_topk=TOP_K,
                sampling_temperature=TEMPERATURE,
                max_length=max(requests[i].max_tokens for i in members),
                end_token=self._ends[stop[0]],
                return_end_token=True,
            )
            for i, answer in zip(members, answers, strict=True):
                written = answer.sequences_ids[0]
                text = _until(tokenizer.decode(written, skip_special_tokens=True), stop)
                finish = "length" if len(written) >= requests[i].max_tokens else "stop"
                completions[i] = Completion(text, len(ids[i]), len(written), finish)
        return [completions[i] for i in range(len(requests))]


def _until(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop, 1)[0]
    return text


ENGINES = {"llama.cpp": LlamaCpp, "ctranslate2": CTranslate2}


def _generator(engine: str, model: Path | None, batch_size: int, threads: int) -> Generator:
    sampling = {"batch_size": batch_size, "temperature": TEMPERATURE, "top_k": TOP_K, "top_p": 1.0}
    if engine in ENGINES:
        return ENGINES[engine](model or weights(), batch_size, threads)
    if engine == "openvino":
        generator = OpenVINOGenerator(str(model or weights()), form="completion", **sampling)
        generator.share_machine(0, max(1, (os.cpu_count() or 1) // threads))
        return generator
    import torch

    torch.set_num_threads(threads)
    if model is None:
        return EmbeddedGenerator(batch_size=batch_size)
    return TransformersGenerator(str(model), form="completion", **sampling)


def measure(
    engine: str, model: Path | None, samples: int, batch_size: int, group_size: int, threads: int
) -> dict[str, Any]:
    """Times a round of samples, and the load of the model before it.

    Returns:
        Seconds of the load and of the round, requests, tokens written, peak of memory in MB, and whether the first
        batch is the same the second time.
    """
    generator = _generator(engine, model, batch_size, threads)
    plan = SynthesisPlan(samples_per_round=samples, group_size=group_size, label_agreement="off")
    task, first = Task.load("news_topics"), []
    started = time.perf_counter()
    generator.generate([Request("", "", "The", "", max_tokens=1, stop=("\n",))])
    loaded = time.perf_counter()
    original = generator.generate

    def generate(requests: Sequence[Request]) -> list[Completion]:
        answers = original(requests)
        if not first:
            first.append((requests, [answer.text for answer in answers]))
        return answers

    generator.generate = generate  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        synthesizer = Synthesizer(task, generator, Path(folder), plan)
        synthesizer.train(0, FeedbackPool(), 0.0)
        batches = synthesizer.store(0).batches("train")
    seconds = time.perf_counter() - loaded
    again = [answer.text for answer in original(first[0][0])]
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "engine": engine,
        "model": (model or weights()).name,
        "load": loaded - started,
        "seconds": seconds,
        "samples": samples,
        "requests": sum(b.requested for b in batches),
        "tokens": sum(b.completion_tokens for b in batches),
        "peak": int(peak.split()[1]) / 1000,
        "again": again == first[0][1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["transformers", "openvino", *ENGINES], default="transformers")
    parser.add_argument("--model", type=Path, help="GGUF file; that of the embedded generator by default")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print all values as JSON")
    args = parser.parse_args()
    values = measure(args.engine, args.model, args.samples, args.batch_size, args.group_size, args.threads)
    if args.json:
        print(json.dumps(values))
        return
    print("| engine | accepted | load, s | round, s | accepted a second, with load | tokens a second | MB | again |")
    print("|---|---|---:|---:|---:|---:|---:|---|")
    whole = values["load"] + values["seconds"]
    print(
        f"| {args.engine} | {args.samples} of {values['requests']} | {values['load']:.1f} | {values['seconds']:.1f} | "
        f"{args.samples / whole:.2f} | {values['tokens'] / values['seconds']:.0f} | {values['peak']:,.0f} | "
        f"{'yes' if values['again'] else 'no'} |"
    )


if __name__ == "__main__":
    main()
