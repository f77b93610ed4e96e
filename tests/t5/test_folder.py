"""Folders that are no student, or a damaged one: each is one line that says what to do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from gold_lightning.errors import GoldError
from gold_lightning.student import T5Student
from gold_lightning.t5.folder import load_folder_task, write_task
from gold_lightning.t5.weights import load_config, load_model, load_tokenizer
from gold_lightning.task import Task
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.integration

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"


def without(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def with_file(name, content=""):
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def config(drop=(), **more):
    def change(folder):
        path = folder / "config.json"
        held = {k: v for k, v in json.loads(path.read_text()).items() if k not in drop}
        path.write_text(json.dumps(held | more))

    return change


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def weights(change):
    def edit(folder):
        held = load_file(folder / "model.safetensors")
        save_file(change(held), folder / "model.safetensors", {"format": "pt"})

    return edit


def truncated(folder):
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


def sharded(missing):
    def change(folder):
        model = load_model(str(folder))
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="20KB")
        parts = sorted(folder.glob("model-*.safetensors"))
        assert len(parts) > 2
        if missing:
            parts[1].unlink()

    return change


def emptied(folder):
    for path in folder.iterdir():
        path.unlink()


def adapter(folder):
    emptied(folder)
    with_file("adapter_config.json", "{}")(folder)
    with_file("adapter_model.safetensors")(folder)


def below(*parts):
    """The student moved into a folder of the folder, which is given in its place."""

    def change(folder):
        files = list(folder.iterdir())
        inner = folder.joinpath(*parts)
        inner.mkdir(parents=True)
        for path in files:
            path.rename(inner / path.name)

    return change


def nan(held):
    held["shared.weight"][3, 3] = float("nan")
    return held


def second_layer(held):
    return {k.replace("block.0.", "block.1."): v.clone() for k, v in held.items() if k.startswith("encoder.block.0.")}


def lora(held):
    names = [k for k in held if k.endswith("SelfAttention.q.weight")]
    return {k.replace("q.weight", "q.lora_A.default.weight"): torch.zeros(2, 2) for k in names}


BROKEN = {
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "tokenizer.save_pretrained(FOLDER)"),
    "an empty tokenizer": (with_file("tokenizer.json"), "tokenizer.json is empty"),
    "a tokenizer that is a pointer": (with_file("tokenizer.json", LFS), "git lfs pull"),
    "a tokenizer of something else": (with_file("tokenizer.json", "{}"), "its files cannot be read"),
    "pickled weights alone": (pickled, "has no model.safetensors, but pytorch_model.bin"),
    "no weights": (without("model.safetensors"), "has no model.safetensors;"),
    "truncated weights": (truncated, "model.safetensors is damaged"),
    "weights that begin otherwise": (with_file("model.safetensors", b"\xff" * 400), "model.safetensors is damaged"),
    "weights that are a pointer": (with_file("model.safetensors", LFS), "model.safetensors is a Git LFS pointer"),
    "empty weights": (with_file("model.safetensors"), "model.safetensors is empty"),
    "weights with nan": (weights(nan), "weights that are finite"),
    "zeros in place of weights": (
        weights(lambda h: {k: torch.zeros_like(v) for k, v in h.items()}),
        "all values of its word embeddings are 0",
    ),
    "a missing part": (sharded(missing=True), "model-00002-of-0000"),
    "an encoder alone": (weights(lambda h: {k: v for k, v in h.items() if "decoder" not in k}), "weights have none"),
    "a layer less": (weights(lambda h: {k: v for k, v in h.items() if "encoder.block.0.layer.1" not in k}), "missing"),
    "weights of another shape": (config(d_ff=77), "has the shape ("),
    "more layers than the config": (weights(lambda h: h | second_layer(h)), "it has no place for encoder.block.1."),
    "an adapter that is not merged": (weights(lambda h: h | lora(h)), "merge the adapter first"),
    "rounded weights": (weights(lambda h: {k: v.to(torch.int8) for k, v in h.items()}), "weights of type I8"),
    "more embeddings": (config(vocab_size=300), "259 embeddings, and vocab_size is 300"),
    "an encoder's config": (config(architectures=["T5EncoderModel"]), "an encoder alone"),
    "a decoder": (config(model_type="llama", architectures=["LlamaForCausalLM"]), "this is none (LlamaForCausalLM)"),
    "another": (config(model_type="bart", architectures=["BartForConditionalGeneration"]), "(BartForConditional"),
    "one that nobody knows": (config(model_type="x", architectures=None), "this is none (x)"),
    "no type": (config(["model_type", "architectures"]), "this is none (None)"),
    "a quantised one": (config(quantization_config={"quant_method": "bitsandbytes"}), "quantised"),
    "no start": (config(["decoder_start_token_id"]), "decoder_start_token_id"),
    "no padding": (config(pad_token_id=None), "pad_token_id"),
    "no end": (config(eos_token_id=None), "eos_token_id"),
    "several ends": (config(eos_token_id=[1, 2]), "eos_token_id"),
    "a config that is no JSON": (with_file("config.json", "{nope"), "cannot be read as JSON"),
    "a config that is a list": (with_file("config.json", "[1]"), "cannot be read as JSON"),
    "an empty config": (with_file("config.json"), "this one is empty"),
    "nothing": (emptied, "this folder has none"),
    "an adapter": (adapter, "merge_and_unload"),
    "a run folder": (below("student"), "/student?"),
    "a trainer's folder": (below("checkpoint-500"), "/checkpoint-500?"),
    "a GGUF file": (lambda f: (emptied(f), with_file("model.gguf", b"GGUF")(f)), "holds model.gguf"),
    "checkpoints": (lambda f: (emptied(f), with_file("last.ckpt")(f)), "this holds checkpoints alone"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_student_is_one_line(name, tiny_student, tmp_path):
    change, part = BROKEN[name]
    folder = tmp_path / "student"
    shutil.copytree(tiny_student, folder)
    change(folder)
    with pytest.raises(GoldError) as e:
        T5Student("news_topics", str(folder))
    told = str(e.value)
    assert "\n" not in told and told.startswith(f"model.student {str(folder)!r}: ") and part in told, told


def test_what_lies_beside_is_named(tiny_student, tmp_path):
    shutil.copytree(tiny_student, tmp_path / "run" / "student")
    (tmp_path / "run" / "checkpoints").mkdir()
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    checkpoint.write_bytes(b"")
    for given in (checkpoint, checkpoint.parent, checkpoint.parent.parent):
        for load in (load_tokenizer, load_model, load_config):
            with pytest.raises(GoldError, match=r"did you mean .*/run/student\?$"):
                load(str(given))
    with pytest.raises(GoldError, match=r"this is a file; did you mean .*/student\?$"):
        load_model(str(tmp_path / "run" / "student" / "model.safetensors"))


def test_a_path_is_not_asked_of_the_hub(tmp_path):
    for name in (str(tmp_path / "none"), "./none", "~/none/here", "a/b/c"):
        with pytest.raises(GoldError, match=r"there is no such folder here; two ways out: --model\.student FOLDER"):
            load_config(name)


def test_parts_that_are_all_there_are_one_student(tiny_student, tmp_path):
    folder = tmp_path / "student"
    shutil.copytree(tiny_student, folder)
    sharded(missing=False)(folder)
    whole, parts = load_model(tiny_student).state_dict(), load_model(str(folder)).state_dict()
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("kind", ["T5", "MT5", "UMT5", "LongT5", "SwitchTransformers"])
def test_the_family_of_t5_loads(kind, tiny_student, tmp_path):
    import transformers

    sizes = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1, "num_decoder_layers": 1}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    made = getattr(transformers, f"{kind}Config")(vocab_size=264, **sizes, **ids)
    getattr(transformers, f"{kind}ForConditionalGeneration")(made).save_pretrained(tmp_path)
    load_tokenizer(tiny_student).save_pretrained(tmp_path)
    student = T5Student("news_topics", str(tmp_path))
    tokens = student.tokenizer(["news topic: a text"], return_tensors="pt")
    (written,) = student.read(student.write({**tokens}))
    assert written in student.task.label_names


def test_a_students_own_settings_of_decoding_do_not_count(tiny_student, tmp_path):
    shutil.copytree(tiny_student, tmp_path / "student")
    path = Path(tmp_path / "student" / "generation_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"min_length": 30, "num_beams": 4, "temperature": 0.5}))
    found = load_model(str(tmp_path / "student")).generation_config
    assert (found.min_length or 0, found.num_beams or 1, found.eos_token_id) == (0, 1, 1)


@pytest.mark.parametrize("name", ["svamp", "rte", "squad", "news_topics"])
def test_a_folder_keeps_the_names_of_columns_and_labels_of_labelled_rows_alone(tmp_path, name):
    task = Task.load(name)
    write_task(tmp_path, task, {})
    again, _ = load_folder_task(tmp_path)
    assert (again.test.columns, again.test.label_names) == (task.test.columns, task.test.label_names)
    assert not again.test and not again.validation
    assert {"file", "hub", "split"}.isdisjoint(
        json.loads((tmp_path / "gold_task.json").read_text())["task"].get("test", {})
    )
