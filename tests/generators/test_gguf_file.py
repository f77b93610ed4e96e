"""A model in one GGUF file: found, refused in one line, and the same model as the embedded one if it is that file."""

from __future__ import annotations

import importlib.util
import shutil

import pytest
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators import EmbeddedGenerator, Request, TransformersGenerator
from gold_lightning.generators.embedded_weights import find_weights

KEY = "data.generator.init_args.model"


@pytest.mark.parametrize("name", ["gone.gguf", "~/gone.gguf", "GONE.GGUF"])
def test_a_file_that_does_not_exist_is_refused_before_anything_is_loaded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = TransformersGenerator(name)
    for call in (generator.check_installed, generator.load):
        with pytest.raises(ConfigError) as refused:
            call()
        assert refused.value.key == KEY and "GGUF" in refused.value.allowed


def test_one_part_of_several_is_refused_with_the_way_to_join_them(tmp_path):
    (tmp_path / "big-00001-of-00003.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError) as refused:
        TransformersGenerator(str(tmp_path / "big-00001-of-00003.gguf")).check_installed()
    assert refused.value.key == KEY and "--merge" in refused.value.hint


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the extra is not installed")
@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04 a zip file", bytes(5000)])
def test_a_damaged_file_is_one_line(content, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(GoldError) as refused:
        TransformersGenerator(str(path)).load()
    assert str(path) in str(refused.value) and "OpenAIGenerator" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_is_known_by_its_content(tmp_path):
    paths = [tmp_path / folder / "model.gguf" for folder in "abc"]
    for path, content in zip(paths, (b"one", b"one", b"two"), strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
    first, same, other = (TransformersGenerator(str(path)).fingerprint()["model"] for path in paths)
    assert first == same != other and str(tmp_path) not in first
    assert TransformersGenerator(str(paths[0])).origin() == ""


@pytest.mark.embedded
@pytest.mark.slow
@pytest.mark.skipif(find_weights() is None, reason="the embedded generator's file is not on this machine")
def test_the_embedded_file_writes_what_the_embedded_generator_writes(tmp_path):
    path = shutil.copy(find_weights(), tmp_path / "model.gguf")
    settings = {"form": "completion", "temperature": 0.9}
    requests = [
        Request("You write news.", "text: Rain stops play.\n\n", "Write another.", "text:", i, 24) for i in range(3)
    ]
    expected = EmbeddedGenerator().generate(requests)
    assert TransformersGenerator(str(path), **settings).generate(requests) == expected
    assert all(completion.text.strip() for completion in expected)
