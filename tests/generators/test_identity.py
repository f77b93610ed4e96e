"""Keys of the engines that load a model themselves: what changes an answer, and nothing else."""

import json
import os
import shutil

import pytest
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import EmbeddedGenerator, Request, TransformersGenerator
from gold_lightning.generators.identity import model_name, revision
from gold_lightning.generators.vllm import VLLMGenerator
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.completions import CompletionLog, Completions
from gold_lightning.storage.json_lines import digest
from gold_lightning.synthesis import Synthesizer

from tests.fakes import NewsWriter
from tests.synthesizers import TASK


@pytest.fixture
def folder(tiny_llama, tmp_path):
    return shutil.copytree(tiny_llama, tmp_path / "model")


@pytest.fixture(params=[TransformersGenerator, VLLMGenerator])
def engine(request):
    return request.param


def test_a_folder_is_known_by_what_is_in_it(engine, folder, tmp_path):
    plain = engine(str(folder)).fingerprint()
    assert json.loads(json.dumps(plain)) == plain and str(tmp_path) not in json.dumps(plain)
    elsewhere = shutil.copytree(folder, tmp_path / "moved")
    for path in elsewhere.iterdir():
        os.utime(path, (1, 1))
    (elsewhere / ".DS_Store").write_text("x")
    (elsewhere / "checkpoint.lock").write_text("x")
    assert engine(str(elsewhere)).fingerprint() == plain


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
def test_another_content_is_another_model(engine, folder, name):
    plain = engine(str(folder)).fingerprint()
    path = folder / name
    held = bytearray(path.read_bytes())
    held[-3] ^= 1  # as long as before
    path.write_bytes(held)
    assert engine(str(folder)).fingerprint() != plain
    path.unlink()
    assert engine(str(folder)).fingerprint() != plain


def test_large_weights_are_told_by_blocks_from_all_over(tmp_path):
    weights = tmp_path / "model.safetensors"
    size, found = 8 << 20, set()
    for changed in (None, 0, size // 3, size - 1):
        whole = bytearray(size)
        if changed is not None:  # a hundredth of the weights
            whole[max(0, changed - size // 200) : changed + size // 200] = b"\x01" * (size // 100)
        weights.write_bytes(whole[:size])
        found.add(model_name(str(tmp_path)))
    assert len(found) == 4


def test_how_many_run_together_and_where_is_no_part_of_a_key(engine, folder):
    assert engine(str(folder), batch_size=3).fingerprint() == engine(str(folder), batch_size=64).fingerprint()
    for change in ({"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.5}, {"form": "chat"}, {"dtype": "float16"}):
        assert engine(str(folder), **change).fingerprint() != engine(str(folder)).fingerprint(), change
    for change in ({"batch_size": 3}, {"device": "cpu"}):
        assert EmbeddedGenerator(**change).fingerprint() == EmbeddedGenerator().fingerprint()


def test_auto_is_what_it_comes_to(folder):
    auto = TransformersGenerator(str(folder), dtype="auto", device="cpu").fingerprint()
    assert auto["dtype"] in ("bfloat16", "float32")
    assert TransformersGenerator(str(folder), dtype=auto["dtype"], device="cpu").fingerprint() == auto


def test_a_hub_model_is_known_by_its_id_and_lent_by_its_revision(engine, tmp_path, monkeypatch):
    from huggingface_hub import constants
    from transformers.utils import hub

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--someone--small" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    revision.cache_clear()
    monkeypatch.setattr(hub, "cached_file", lambda name, file: str(snapshot / file))
    assert engine("someone/small").fingerprint()["model"] == "someone/small"
    assert engine("someone/small").origin() == commit
    assert EmbeddedGenerator().origin() == ""


def test_a_hub_that_cannot_be_reached_fails_no_key(engine):
    made = engine("nobody/nothing-of-that-name")
    assert made.fingerprint()["model"] == "nobody/nothing-of-that-name" and made.origin() == ""


def test_what_a_run_was_given_by_an_earlier_version_is_not_asked_for_again(folder, tmp_path):
    class Counting(TransformersGenerator):
        calls = 0

        def generate(self, requests):
            Counting.calls += len(requests)
            return super().generate(requests)

    requests = [Request("s", "x", str(i), seed=i, max_tokens=3) for i in range(4)]
    generator = Counting(str(folder), dtype="auto", device="cpu", batch_size=4)
    (old,) = generator.earlier_fingerprints()
    assert old["model"] == str(folder) and old["batch_size"] == 4 and old["dtype"] == "auto"
    path = tmp_path / "completions.jsonl"
    now = generator.fingerprint
    generator.fingerprint = lambda: old
    given = Completions(generator, CompletionLog(path)).answer(requests, 0)
    generator.fingerprint = now
    again = Completions(generator, CompletionLog(path)).answer(requests, 0)
    assert [c.text for c in again] == [c.text for c in given] and Counting.calls == 4


def test_a_run_of_an_earlier_version_goes_on_with_its_samples(tmp_path, caplog):
    class Renamed(NewsWriter):
        def fingerprint(self):
            return {"new": 1}

        def earlier_fingerprints(self):
            return [NewsWriter().fingerprint() | {"class": "tests.fakes.NewsWriter"}]

    plan = SynthesisPlan(8, 8)
    made = list(Synthesizer(TASK, NewsWriter(), tmp_path, plan).train(0, FeedbackPool(), 0.0))
    writer = Renamed()
    assert digest(writer.earlier_fingerprints()[0]) == digest(NewsWriter().fingerprint())
    assert list(Synthesizer(TASK, writer, tmp_path, plan).train(0, FeedbackPool(), 0.0)) == made
    assert writer.requests == [] and not caplog.records
