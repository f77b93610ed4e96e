"""The CTranslate2 model of a student that generates text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["CTRANSLATE2_FAMILY", "write_text_model"]

CTRANSLATE2_FAMILY = ("t5", "mt5", "umt5")
"""Architectures that CTranslate2 converts, by ``model_type``."""


def write_text_model(
    student: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, int8: bool = False
) -> None:
    """Writes the model into a folder.

    Args:
        student: The student's folder.
        model: Its T5, on the CPU.
        tokenizer: Its tokenizer.
        folder: The folder, which must not exist.
        int8: Store matrices in 8 bits. CTranslate2's float16 overflows with T5.
    """
    from ctranslate2.converters import TransformersConverter

    class Loaded(TransformersConverter):  # type: ignore[misc, unused-ignore]
        """Takes a model that is loaded already, whose files were checked."""

        def load_model(self, *_: Any, **__: Any) -> PreTrainedModel:
            return model

        def load_tokenizer(self, *_: Any, **__: Any) -> PreTrainedTokenizerBase:
            return tokenizer

    Loaded(str(student)).convert(str(folder), quantization="int8" if int8 else "float32")
