"""The script of the GPU's figures, on a CPU at small shapes."""

import json
import math
import sys

import pytest
import torch
from benchmarks.scale import Writer
from torch.utils.flop_counter import FlopCounterMode
from transformers import T5Config, T5ForConditionalGeneration

from benchmarks import gpu

pytestmark = pytest.mark.integration

STEP = "seconds samples_per_second tokens_per_second tflop peak_tflops mfu parameters rows source target steps".split()
GENERATOR = "load_seconds seconds requested accepted completion_tokens_per_second accepted_per_second".split()
NUMBERS = {
    "step": STEP,
    "loss": ["ms", "rows", "width", "vocab"],
    "generator": GENERATOR,
    "quickstart": ["seconds", "rounds", "generation", "training", "scoring"],
}
SMALL = {"vocab_size": 40, "d_model": 6, "d_kv": 4, "d_ff": 10, "num_heads": 2, "decoder_start_token_id": 0}


def test_each_part_prints_its_figures(tmp_path, capsys, monkeypatch, tiny_student, undrawn_plots):
    monkeypatch.setattr(gpu, "QUICKSTART_TINY", [*gpu.QUICKSTART_TINY, "--model.student", tiny_student])
    assert gpu.main(["--tiny", "--peak-tflops", "0.1", "--out", str(tmp_path / "gpu.jsonl")]) == 0
    text = (tmp_path / "gpu.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert text in capsys.readouterr().out
    measured = [line for line in lines if "skipped" not in line]
    assert [line["part"] for line in measured] == ["step"] * 2 + ["loss"] * 3 + ["generator", "quickstart"]
    for line in measured:
        figures = [line[name] for name in NUMBERS[line["part"]]]
        assert all(math.isfinite(figure) and figure > 0 for figure in figures), line
        assert line["device"] == gpu.device_name() and line["torch"] == torch.__version__
    assert {line.get("loss", line.get("engine")) for line in lines if "skipped" in line} == {
        "Liger fused linear cross-entropy", "VLLMGenerator"
    }  # fmt: skip
    for line in lines[:2]:
        assert line["mfu"] == pytest.approx(line["tflop"] / line["seconds"] / 0.1)
        assert line["samples_per_second"] * line["seconds"] == pytest.approx(line["rows"])


@pytest.mark.parametrize("form", ["relu", "gated-gelu"])
def test_flops_are_those_that_torch_counts(form):
    config = T5Config(**SMALL, num_layers=3, num_decoder_layers=2, feed_forward_proj=form)
    model = T5ForConditionalGeneration(config)
    batch = gpu.make_batch(rows=5, source=11, target=7, vocab=40)
    with FlopCounterMode(display=False) as counter:
        model(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss.backward()
    assert gpu.training_flops(config, 5, 11, 7) == counter.get_total_flops()


def test_flops_are_those_of_a_count_by_hand():
    config = T5Config(**SMALL, num_layers=1, num_decoder_layers=1)
    # One row, an input of 3 tokens, a target of 1. Encoder: four products of 3 x 6 by 6 x 8, scores and sums of two
    # heads 3 x 4 by 4 x 3, feed-forward 3 x 6 by 6 x 10 and back. Decoder: the same for 1 token, its crossed keys and
    # values from 3 tokens, and the head.
    encoder = 4 * 3 * 6 * 8 + 2 * (2 * 3 * 4 * 3) + 2 * 3 * 6 * 10
    decoder = 4 * 6 * 8 + 2 * (2 * 4) + (2 * 6 * 8 + 2 * 3 * 6 * 8) + 2 * (2 * 4 * 3) + 2 * 6 * 10
    assert gpu.training_flops(config, 1, 3, 1) == 3 * 2 * (encoder + decoder + 6 * 40)


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312),
     ("NVIDIA L4", 121), ("NVIDIA L40S", 362), ("NVIDIA H200 MIG 1g.18gb", None), ("cpu", None)],
)  # fmt: skip
def test_peaks_by_the_name_of_the_device(name, peak):
    assert gpu.peak_tflops(name) == peak


def test_a_generator_sleeps_while_a_student_trains_and_writes_again():
    calls = []

    class Sleeper(Writer):
        def release(self):
            calls.append("release")

        def generate(self, requests):
            calls.append("generate")
            return super().generate(requests)

    line = gpu.sleep_and_wake(Sleeper(), lambda: calls.append("train") or {"seconds": 0.5})
    assert calls == ["release", "train", "generate"]
    assert line["engine"] == "Sleeper" and line["step_seconds_meanwhile"] == 0.5
    assert all(line[name] >= 0 for name in ("sleep_seconds", "wake_and_write_seconds"))


def test_an_error_is_a_line_and_the_other_parts_go_on(monkeypatch, capsys):
    def fails(options):
        yield {"seconds": 1.0}
        raise torch.OutOfMemoryError("no\nmemory")

    monkeypatch.setitem(gpu.PARTS, "step", fails)
    monkeypatch.setitem(gpu.PARTS, "loss", lambda options: iter([{"ms": 2.0}]))
    assert gpu.main(["--tiny", "--parts", "step", "loss"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("error", line.get("ms")) for line in lines] == [None, "OutOfMemoryError: no memory", 2.0]


def test_what_a_part_printed_before_its_limit_stands(capfd):
    script = "echo '{\"ms\": 1}'; echo '{not ours'; sleep 60 & wait"
    lines = [*gpu.run_apart("loss", ["sh", "-c", script], 0.5)]
    assert lines == [{"ms": 1}, {"part": "loss", "error": "ended at its limit of 0.5 s"}]
    assert "{not ours" in capfd.readouterr().err
    assert [*gpu.run_apart("loss", ["sh", "-c", "exit 3"], 5)] == [{"part": "loss", "error": "ended with status 3"}]


def test_parts_have_processes_of_their_own_and_take_under_ten_minutes(monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(gpu, "run_apart", lambda part, command, limit: commands.append((command, limit)) or ())
    assert gpu.main(["--tokens", "8192"]) == 0
    head = [sys.executable, "-m", "benchmarks.gpu", "--tokens", "8192", "--one"]
    assert [command for command, _ in commands] == [[*head, part] for part in gpu.PARTS]
    assert sum(limit for _, limit in commands) < 600 and capsys.readouterr().out == ""
