"""Figures of one GPU in under ten minutes, one JSON line for each as soon as it is measured.

    python -m benchmarks.gpu --out gpu.jsonl      # all parts; from the repository's root
    python -m benchmarks.gpu --parts step loss
    python -m benchmarks.gpu --tiny               # small shapes in seconds, on a CPU too: does the script work?

``step``: a training step of T5Student with its symmetric cross-entropy, a T5-base of random weights, at inputs of 128
and 512 tokens and targets of a quarter of that; no token is padding. ``loss``: logits and loss of a batch's target
tokens, forward and backward, by our losses, torch's and Liger's fused one (pip install liger-kernel). ``generator``:
the embedded generator in a round of the quickstart's settings. ``vllm``: the same model under vLLM (make test-vllm
says how to install it), and its sleep while the student trains on the same GPU. ``quickstart``: fit and test.

Each part has a process of its own, which is ended at the part's time limit; what it has printed stands. MFU is
:func:`training_flops` by seconds and by the device's dense peak in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import EmbeddedGenerator, VLLMGenerator
from gold_lightning.generators.embedded import embedded_folder
from gold_lightning.losses import CrossEntropy, SymmetricCrossEntropy
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.prompts import Hint, training_request
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.student import T5Student
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Task
from lightning.pytorch import Callback, Trainer
from torch.nn import functional as F
from transformers import T5Config, T5ForConditionalGeneration

ROOT = Path(__file__).parent.parent
LIMITS = {"step": 120, "loss": 60, "generator": 90, "vllm": 180, "quickstart": 120}  # seconds
PEAKS = {"H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L4": 121}
"""Dense TFLOP/s in bfloat16 by a part of the device's name, as its maker states them; the first that fits counts."""

T5_BASE = {"vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
T5_TINY = {"vocab_size": 32128, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
QUICKSTART_TINY = [
    "--data.generator=benchmarks.scale.Writer", "--data.plan.samples_per_round=8", "--data.plan.probe_per_round=4",
    "--data.plan.label_agreement=off", "--data.passes_per_round=1", "--trainer.max_epochs=1",
]  # fmt: skip


def device_of() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def now() -> float:
    """Seconds, once the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def used_memory() -> dict[str, int]:
    """Memory of the GPU that is in use by all processes; nothing on a CPU."""
    if not torch.cuda.is_available():
        return {}
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return {"mb": round((total - free) / 1e6)}


def peak_memory(base: int = 0) -> dict[str, int]:
    """Most memory of this process on the GPU since the peak was reset; nothing on a CPU."""
    return {"peak_mb": round((torch.cuda.max_memory_allocated() - base) / 1e6)} if torch.cuda.is_available() else {}


def peak_tflops(name: str) -> float | None:
    """The peak of a device by its name; ``None`` if it is not known, as that of a part of a GPU."""
    words = f" {name.replace('-', ' ')} "
    return None if " MIG " in words else next((float(p) for part, p in PEAKS.items() if f" {part} " in words), None)


def training_flops(config: T5Config, rows: int, source: int, target: int) -> int:
    """FLOPs of a training step of a T5: those of its matrix products, a multiplication and an addition being two.

    The backward pass takes twice those of the forward pass. Softmax, norms, biases and the optimizer do not count.

    Args:
        config: The model's sizes.
        rows: Rows of the batch.
        source: Tokens of each input.
        target: Tokens of each target.
    """
    width, inner = config.d_model, config.num_heads * config.d_kv
    feed_forward = (3 if config.is_gated_act else 2) * width * config.d_ff
    # Of a row, in pairs of a multiplication and an addition: query, key, value and output; scores, and their sums.
    encoder = source * (4 * width * inner + feed_forward) + 2 * source * source * inner
    self_attention = target * 4 * width * inner + 2 * target * target * inner
    crossed = target * 2 * width * inner + source * 2 * width * inner + 2 * target * source * inner
    decoder = self_attention + crossed + target * feed_forward
    head = target * width * config.vocab_size
    return 3 * 2 * rows * (config.num_layers * encoder + config.num_decoder_layers * decoder + head)


# Training step


class StepClock(Callback):
    """Times the steps after the first few.

    Args:
        warmup: Steps that do not count.
    """

    def __init__(self, warmup: int) -> None:
        self.warmup, self.started, self.seconds, self.memory = warmup, 0.0, 0.0, {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.warmup:
            self.started = now()
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()

    def on_train_end(self, trainer, pl_module):
        self.seconds, self.memory = now() - self.started, peak_memory()


def make_batch(rows: int, source: int, target: int, vocab: int) -> dict[str, object]:
    """A batch of random tokens without padding, as :mod:`gold_lightning.t5.batches` describes it."""
    return {
        "id": torch.arange(rows),
        "input_ids": torch.randint(3, vocab, (rows, source)),
        "attention_mask": torch.ones(rows, source, dtype=torch.long),
        "labels": torch.randint(3, vocab, (rows, target)),
        "targets": [("",)] * rows,
    }


def train(sizes: dict[str, int], rows: int, source: int, warmup: int, steps: int, precision: str) -> dict[str, object]:
    """Trains a T5 of random weights by Lightning's trainer, and returns what a step takes."""
    config, target = T5Config(**sizes, decoder_start_token_id=0), source // 4
    student = T5Student("news_topics", "embedded", SymmetricCrossEntropy())
    with device_of():
        student.model = T5ForConditionalGeneration(config).train()
    batches = [make_batch(rows, source, target, config.vocab_size) for _ in range(4)]
    batches = [batches[i % 4] for i in range(warmup + steps)]
    clock = StepClock(warmup)
    trainer = Trainer(
        max_epochs=1, accelerator="auto", devices=1, precision=precision, logger=False, callbacks=[clock],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(student, torch.utils.data.DataLoader(batches, batch_size=None))
    seconds = clock.seconds / steps
    return {
        "parameters": sum(p.numel() for p in student.model.parameters()),
        "precision": precision,
        "rows": rows,
        "source": source,
        "target": target,
        "steps": steps,
        "seconds": seconds,
        "samples_per_second": rows / seconds,
        "tokens_per_second": rows * (source + target) / seconds,
        "tflop": training_flops(config, rows, source, target) / 1e12,
        **clock.memory,
    }


def step(options) -> Iterator[dict[str, object]]:
    for length in (8, 16) if options.tiny else (128, 512):
        rows = (64 if options.tiny else options.tokens) // length
        warmup, steps = (1, 2) if options.tiny else (5, 20)
        values = train(T5_TINY if options.tiny else T5_BASE, rows, length, warmup, steps, options.precision)
        peak = options.peak_tflops or peak_tflops(device_name())
        mfu = None if peak is None else values["tflop"] / values["seconds"] / peak
        yield {"model": "T5 tiny" if options.tiny else "T5-base", **values, "peak_tflops": peak, "mfu": mfu}


# Loss


def losses() -> dict[str, object]:
    """Functions of the decoder's states, the weights of the head and targets; Liger's makes no logits."""
    ours, plain = SymmetricCrossEntropy(), CrossEntropy()
    functions = {
        "symmetric cross-entropy": lambda states, head, targets: ours(states @ head.T, targets),
        "cross-entropy, one pass": lambda states, head, targets: plain(states @ head.T, targets),
        "torch cross_entropy": lambda states, head, targets: F.cross_entropy((states @ head.T).float(), targets),
    }
    if torch.cuda.is_available() and find_spec("liger_kernel"):
        from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        functions["Liger fused linear cross-entropy"] = lambda states, head, targets: liger(head, states, targets)
    return functions


def loss(options) -> Iterator[dict[str, object]]:
    device, width, vocab = device_of(), (16 if options.tiny else 768), (512 if options.tiny else 32128)
    for rows in (32,) if options.tiny else (options.tokens // 4, options.tokens):
        torch.manual_seed(0)
        states = torch.randn(rows, width, device=device, dtype=torch.bfloat16, requires_grad=True)
        head = (torch.randn(vocab, width, device=device) / width**0.5).to(torch.bfloat16).requires_grad_()
        targets = torch.randint(vocab, (rows,), device=device)
        for name, function in losses().items():
            times, memory = [], {}
            for i in range(2 + (3 if options.tiny else 20)):
                states.grad = head.grad = None
                if torch.cuda.is_available():
                    torch.cuda.reset_peak_memory_stats()
                    base = torch.cuda.memory_allocated()
                    memory = peak_memory(base)
                started = now()
                value = function(states, head, targets)
                value.backward()
                if i > 1:  # the first ones compile and allocate
                    times.append(now() - started)
                    memory = peak_memory(base) if torch.cuda.is_available() else {}
            milliseconds = 1000 * statistics.median(times)
            yield {"loss": name, "rows": rows, "width": width, "vocab": vocab, "ms": milliseconds, **memory}
    if not torch.cuda.is_available() or not find_spec("liger_kernel"):
        yield {"loss": "Liger fused linear cross-entropy", "skipped": "needs a GPU and pip install liger-kernel"}


# Generators


def synthesise(generator, samples: int, *, checked: bool) -> dict[str, object]:
    """Has a round of training samples written, and returns what it took."""
    started = now()
    generator.load()
    loaded = now()
    plan = SynthesisPlan(
        samples_per_round=samples, group_size=16, min_requests_per_batch=16,
        label_agreement="require" if checked else "off",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        synthesizer = Synthesizer(Task.load("news_topics"), generator, Path(folder), plan, seed=1)
        accepted = len(synthesizer.train(0, FeedbackPool(), 0.0))
        batches = synthesizer.store(0).batches("train")
    seconds, completion_tokens = now() - loaded, sum(b.completion_tokens for b in batches)
    return {
        "engine": type(generator).__name__,
        "load_seconds": loaded - started,
        "seconds": seconds,
        "requested": sum(b.requested for b in batches),
        "accepted": accepted,
        "completion_tokens_per_second": completion_tokens / seconds,
        "accepted_per_second": accepted / seconds,
    }


def generator(options) -> Iterator[dict[str, object]]:
    if options.tiny:
        from benchmarks.scale import Writer

        yield synthesise(Writer(), 32, checked=False)
    else:
        yield synthesise(EmbeddedGenerator(batch_size=128), 256, checked=True)


def sleep_and_wake(generator, train_student) -> dict[str, object]:
    """Releases a generator that has written, trains a student, and has the generator write again.

    Args:
        generator: The generator.
        train_student: Trains a student on the same GPU, and returns what a step took.
    """
    task = Task.load("news_topics")
    request = training_request(task, task.label_names[0], list(task.demos[:2]), Hint(), 1)
    awake, started = used_memory(), now()
    generator.release()
    slept, asleep = now() - started, used_memory()
    trained = train_student()
    started = now()
    generator.generate([request])
    seconds = {"sleep_seconds": slept, "wake_and_write_seconds": now() - started}
    memory = {f"{name}_mb": mb for name, of in (("awake", awake), ("asleep", asleep)) for mb in of.values()}
    return {"engine": type(generator).__name__, **seconds, **memory, "step_seconds_meanwhile": trained["seconds"]}


def vllm(options) -> Iterator[dict[str, object]]:
    if options.tiny or not torch.cuda.is_available() or not find_spec("vllm"):
        yield {"engine": "VLLMGenerator", "skipped": "needs a GPU, vLLM, and no --tiny"}
        return
    engine = VLLMGenerator(str(embedded_folder()), form="completion", sleep=True, gpu_memory_utilization=0.3)
    yield synthesise(engine, 256, checked=True)
    yield sleep_and_wake(engine, lambda: train(T5_BASE, options.tokens // 512, 512, 2, 5, options.precision))


def quickstart(options) -> Iterator[dict[str, object]]:
    accelerator = ["--trainer.accelerator", "gpu" if torch.cuda.is_available() else "cpu"]
    with tempfile.TemporaryDirectory() as folder:
        common = ["--config", "quickstart.yaml", "--run.root", folder, *accelerator]
        common += ["--trainer.precision", options.precision, *(QUICKSTART_TINY if options.tiny else ())]
        for command in ("fit",) if options.tiny else ("fit", "test"):
            started = time.perf_counter()
            if options.tiny:
                from gold_lightning.cli.main import main as program

                status = program([command, *common])
            else:
                words = [sys.executable, "-m", "gold_lightning", command, *common]
                status = subprocess.run(words, cwd=ROOT, stdout=sys.stderr).returncode
            seconds = time.perf_counter() - started
            if status:
                raise RuntimeError(f"{command} ended with status {status}")
            rounds = read_lines(Path(folder) / "news_topics" / "quickstart" / "rounds.jsonl")
            yield {"command": command, "seconds": seconds, "rounds": len(rounds)} | (
                {name: sum(line["seconds"][name] for line in rounds) for name in ("generation", "training", "scoring")}
                if command == "fit"
                else {}
            )


# Parts

PARTS = {"step": step, "loss": loss, "generator": generator, "vllm": vllm, "quickstart": quickstart}


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def measure(part: str, options) -> Iterator[dict[str, object]]:
    """Yields the lines of a part; an error of it is a line, too."""
    head = {"part": part, "device": device_name(), "torch": torch.__version__}
    try:
        for line in PARTS[part](options):
            yield head | line
    except Exception as e:  # the other parts go on
        yield head | {"error": f"{type(e).__name__}: {' '.join(str(e).split())[:400]}"}


def run_apart(part: str, command: list[str], limit: float) -> Iterator[dict[str, object]]:
    """Yields the JSON lines that a process prints; it is ended with all that it has started at its limit.

    Args:
        part: Name of the part.
        command: The command.
        limit: Seconds.
    """
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    late = threading.Event()

    def end() -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    timer = threading.Timer(limit, lambda: (late.set(), end()))
    timer.start()
    try:
        for line in process.stdout:
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError):  # what else prints to standard output
                print(line, end="", file=sys.stderr)
        process.wait()
    finally:
        timer.cancel()
        end()
    if late.is_set():
        yield {"part": part, "error": f"ended at its limit of {limit:g} s"}
    elif process.returncode:
        yield {"part": part, "error": f"ended with status {process.returncode}"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--out", type=Path, help="file to which the lines are appended, too")
    parser.add_argument("--tokens", type=int, default=16_384, help="input tokens of a training step")
    parser.add_argument("--precision", default="bf16-mixed", help="the trainer's precision")
    parser.add_argument("--peak-tflops", type=float, help="the device's dense peak, if its name is not known")
    parser.add_argument("--tiny", action="store_true", help="small shapes and a scripted generator, in this process")
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)  # a part in this process
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    failed = False
    for part in [options.one] if options.one else options.parts:
        if options.one or options.tiny:
            lines = measure(part, options)
        else:
            command = [sys.executable, "-m", "benchmarks.gpu", *given, "--one", part]
            lines = run_apart(part, command, LIMITS[part])
        for line in lines:
            print(json.dumps(line), flush=True)
            failed = failed or "error" in line
            if options.out and not options.one:
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
