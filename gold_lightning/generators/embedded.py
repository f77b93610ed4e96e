"""The generator that needs neither a key nor a GPU: SmolLM2-135M-Instruct."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import Literal

from gold_lightning.errors import require
from gold_lightning.generators.base import Request
from gold_lightning.generators.embedded_weights import SHA256, cache_folder, locked_cache, weights
from gold_lightning.generators.gguf_file import load_gguf
from gold_lightning.generators.transformers import TransformersGenerator

__all__ = ["EmbeddedGenerator", "embedded_folder"]

_log = logging.getLogger(__name__)
_LAYOUT = 1  # to be raised when the content of the folder changes


def embedded_folder() -> Path:
    """Folder with the embedded model in the format of transformers, unpacked into the cache on first use.

    The weights are a quantised GGUF file, downloaded if necessary; see
    :mod:`gold_lightning.generators.embedded_weights`. It is dequantised once (half a minute) to bfloat16 safetensors
    (269 MB) under ``$GOLD_LIGHTNING_CACHE`` or ``~/.cache/gold_lightning``; after that it loads in a second.

    Raises:
        MissingDependencyError: A package that reads the file is not installed.
        GoldError: The file can be neither found nor downloaded, or the cache is not writable.
    """
    folder = _unpacked()
    if _is_unpacked():
        return folder
    gguf = _packed()
    with locked_cache() as cache:
        if not _is_unpacked():  # another process may have done so meanwhile
            _log.info("unpacking the embedded generator into %s (once, about half a minute)", folder)
            with tempfile.TemporaryDirectory(prefix=".part-", dir=cache) as part:
                _unpack(gguf, Path(part) / folder.name)
                (Path(part) / folder.name).rename(folder)  # complete or absent
    return folder


def _unpack(gguf: Path, folder: Path) -> None:
    import torch

    model, tokenizer = load_gguf(gguf, torch.bfloat16)
    with contextlib.redirect_stderr(io.StringIO()):  # hides a progress bar
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _unpacked() -> Path:
    return cache_folder() / f"smollm2-135m-instruct-{SHA256[:12]}-{_LAYOUT}"


def _is_unpacked() -> bool:
    return (_unpacked() / "config.json").exists()


def _packed() -> Path:
    for package in ("accelerate", "gguf"):
        require(package, "embedded")
    return weights()


class EmbeddedGenerator(TransformersGenerator):
    """SmolLM2-135M-Instruct in process, on the CPU or a GPU, without hub or key.

    Args:
        batch_size: Number of rows decoded together.
        form: ``chat`` or ``completion``: the form of requests for samples. A model this small follows demos better in
            plain text. Likelihoods of labels are always asked for in its chat template, with demos as turns.
        temperature: Divisor of the logits; 0 takes the most likely token.
        top_k: Number of most likely tokens to sample from; 0 for all.
        top_p: Probability of the smallest set of tokens to sample from.
        device: Device of torch; ``auto`` takes a GPU if there is one.

    Example:
        >>> from gold_lightning import EmbeddedGenerator
        >>> EmbeddedGenerator(batch_size=32, temperature=0.9).batch_size
        32
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

    def _form(self, request: Request) -> Literal["auto", "chat", "completion"]:
        return "chat" if request.choices else self.form

    def check_installed(self) -> None:
        if not _is_unpacked():
            _packed()  # downloads it before the run writes anything

    def source(self) -> str:
        return str(embedded_folder())

    def origin(self) -> str:
        return ""  # the weights have a pinned checksum

    def _name(self) -> str:
        return f"{self.model} {SHA256[:12]}"
