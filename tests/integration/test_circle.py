"""The whole circle: fit, serve, a file of inputs that the student does not know, and a student that has seen them."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest
import torch
from gold_lightning.cli.main import main
from gold_lightning.serving.fallback import Fallback
from gold_lightning.serving.service import Service
from gold_lightning.serving.settings import ServeSettings
from gold_lightning.serving.unknown_file import UnknownFile
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.t5.folder import write_calibration
from gold_lightning.t5.inference import SavedStudent

from tests.fakes import _FILL, _WORDS, NewsReader
from tests.serving.conftest import serving

httpx = pytest.importorskip("httpx", reason="the extra openai is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")
# The words of another kind of news about the same topics, which the generator reads but never writes.
OTHER = {
    "World": "coup envoy siege sanctions famine monarchy".split(),
    "Sports": "regatta judo velodrome relay paddle javelin".split(),
    "Business": "audit payroll tariff invoice leasing pension".split(),
    "Sci/Tech": "compiler quantum enzyme lidar firmware kernel".split(),
}


class ReaderOfBoth(NewsReader):
    """Writes news of one kind; reads both."""

    def _likelihoods(self, request):
        words = set(re.findall(r"\w+", request.suffix.lower()))
        names = [choice.strip() for choice in request.choices]
        return [3.0 * len(words & {*_WORDS[name], *OTHER[name]}) - 9 for name in names]


def news(words, count, seed):
    """Items with four words of a topic among eight that mean nothing, each with its topic."""
    rng, rows = random.Random(seed), []
    for i in range(count):
        topic = [*words][i % len(words)]
        text = rng.sample(words[topic], 4) + rng.sample(_FILL, 8)
        rng.shuffle(text)
        rows.append((" ".join(text), topic))
    return rows


@pytest.fixture(scope="module")
def word_student(tmp_path_factory):
    """A one-layer random T5 with a token a word, which learns a topic from a few dozen items."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("words")
    words = {word for kind in (_WORDS, OTHER) for of_topic in kind.values() for word in of_topic}
    pieces = [(f"\u2581{word}", -1.0) for word in sorted({*words, *_FILL, *_WORDS})]
    pieces += [(character, -9.0) for character in ("\u2581", *map(chr, range(33, 127)))]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokens = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"d_model": 32, "d_kv": 16, "num_heads": 2, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 1}
    config = T5Config(vocab_size=len(vocabulary), pad_token_id=0, eos_token_id=1, **size)
    config.decoder_start_token_id = 0
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def fit(root, name, student, *more):
    arguments = ["fit", "--config", "quickstart.yaml", "--run.root", str(root), "--run.name", name]
    arguments += ["--model.student", student, "--data.generator", "tests.integration.test_circle.ReaderOfBoth"]
    arguments += ["--model.lr=0.003", "--model.embedding_lr=1.0", "--data.passes_per_round=30"]
    arguments += ["--data.plan.label_agreement=off", "--data.plan.samples_per_round=64"]
    arguments += ["--data.group_by_length=false"]  # so small a student learns other texts less surely with it
    arguments += ["--data.plan.probe_per_round=64", "--data.plan.group_size=4", "--trainer.max_epochs=2"]
    assert main([*arguments, *more]) == 0
    return root / "news_topics" / name / "student"


def accuracy(student, rows):
    return float(
        np.mean([p == topic for p, (_, topic) in zip(student.predict([t for t, _ in rows]), rows, strict=True)])
    )


@pytest.mark.slow
def test_what_a_student_did_not_know_is_what_the_next_one_learns(tmp_path, word_student, record_property):
    ordinary, strange = news(_WORDS, 120, "ordinary"), news(OTHER, 120, "strange")
    folder = fit(tmp_path, "first", word_student)
    first = SavedStudent(folder)
    shares = [p.probability for p in first.predict([text for text, _ in news(_WORDS, 200, "calibration")])]
    calibration = {"temperature": 1.0, "score": "probability", "threshold": float(np.quantile(shares, 0.1))}
    calibration |= {"promise": "selective", "level": 0.9, "confidence": 0.9, "source": "rows", "rows": 200}
    write_calibration(folder, calibration)
    student, file = SavedStudent(folder), tmp_path / "unknown.jsonl"

    service = Service(
        student, ServeSettings(port=0), UnknownFile(file, 2**20), Fallback(student.task, ReaderOfBoth(), 1000)
    )
    met = news(_WORDS, 80, "met") + news(OTHER, 240, "met too")
    with serving(service) as url:
        answers = httpx.post(f"{url}/predict", json=[text for text, _ in met], timeout=60).json()

    unknown = [not answer["known"] for answer in answers]
    assert np.mean(unknown[:80]) < 0.2 < 0.5 < np.mean(unknown[80:])
    assert [answer["source"] == "generator" for answer in answers] == unknown
    topics, rows = dict(met), read_lines(file)
    assert {row["text"] for row in rows} == {text for (text, _), new in zip(met, unknown, strict=True) if new}
    assert all(row["generator"]["label"] == topics[row["text"]] for row in rows)

    second = SavedStudent(fit(tmp_path, "second", word_student, "--data.unlabelled", str(file)))
    before, after = accuracy(first, strange), accuracy(second, strange)
    numbers = {"before": before, "after": after, "ordinary": (accuracy(first, ordinary), accuracy(second, ordinary))}
    record_property("accuracy", json.dumps(numbers))
    print(numbers)
    assert after >= before + 0.2, numbers
    assert numbers["ordinary"][1] >= 0.8, numbers
