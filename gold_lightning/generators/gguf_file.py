"""Loads a language model from one GGUF file, as llama.cpp, Ollama and LM Studio keep them."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gold_lightning.errors import ConfigError, GoldError, require

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["check_gguf", "is_gguf", "load_gguf"]

_SERVE = "serve the file with llama.cpp, and take OpenAIGenerator"
_log = logging.getLogger(__name__)


def is_gguf(model: str) -> bool:
    """Whether the name of a model is the path of a GGUF file.

    >>> is_gguf("models/qwen2.5-1.5b-instruct-q4_k_m.gguf"), is_gguf("Qwen/Qwen2.5-1.5B-Instruct")
    (True, False)
    """
    return model.lower().endswith(".gguf")


def check_gguf(key: str, path: Path) -> None:
    """Checks, before anything is loaded, that a GGUF file can be read.

    Args:
        key: The setting, for messages.
        path: The file.

    Raises:
        ConfigError: There is no such file, or it is one part of several.
        MissingDependencyError: A package that reads it is not installed.
    """
    if not path.is_file():
        raise ConfigError(key, str(path), "the path of a GGUF file on this machine")
    if re.search(r"-\d{5}-of-\d{5}\.gguf$", path.name, re.IGNORECASE):
        raise ConfigError(key, str(path), "a model in one file", "llama.cpp joins the parts: llama-gguf-split --merge")
    for package in ("accelerate", "gguf"):
        require(package, "embedded")


def load_gguf(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Reads model and tokenizer; quantised weights become weights of ``dtype``.

    Args:
        path: The file.
        dtype: Type of the weights.

    Raises:
        GoldError: transformers cannot read the file.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    _log.info("%s: dequantising the weights to %s", path.name, str(dtype).removeprefix("torch."))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # hides three progress bars
            tokenizer = AutoTokenizer.from_pretrained(**where)
            config = GgufConfig(dequantize=True)
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=dtype, quantization_config=config)
    except Exception as e:  # of a torn file or an unknown architecture: errors of many kinds
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise GoldError(f"generator {path}: transformers cannot read this GGUF file ({reason}); {_SERVE}") from None
    return model, tokenizer
