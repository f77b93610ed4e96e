"""Sentence vectors of a student's own encoder, before any training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from gold_lightning.t5.weights import load_model, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["SentenceVectors"]


class SentenceVectors:
    """Embeds texts with the encoder of a student as it is before training, which is loaded when first needed.

    A text's vector is the mean of the encoder's last hidden states over its tokens, scaled to length 1, so that the
    inner product of two vectors is their cosine similarity.

    Args:
        student: Hub id or folder of a T5, or ``embedded``.
        max_tokens: Tokens of a text that are read.
        batch_size: Texts in one pass.

    Example:
        >>> vectors = SentenceVectors("embedded")
        >>> match = "The home team scored three goals in the final match."
        >>> a, b, c = vectors([match, "In the last game the hosts got three goals.", "Shares fell after the report."])
        >>> bool(a @ b > a @ c)
        True
    """

    def __init__(self, student: str, max_tokens: int = 128, batch_size: int = 32) -> None:
        self.student, self.max_tokens, self.batch_size = student, max_tokens, batch_size

    @cached_property
    def _encoder(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        encoder = load_model(self.student).get_encoder()
        encoder.train(False)  # dropout would give a text another vector each time
        return encoder, load_tokenizer(self.student)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts.

        Args:
            texts: The texts.

        Returns:
            float32 array of shape (number of texts, width of the encoder).
        """
        encoder, tokenizer = self._encoder
        parts = [np.empty((0, encoder.config.d_model), np.float32)]
        for start in range(0, len(texts), self.batch_size):
            batch = list(texts[start : start + self.batch_size])
            tokens = tokenizer(
                batch, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
            )  # fmt: skip
            mask = tokens["attention_mask"]
            states = encoder(input_ids=tokens["input_ids"], attention_mask=mask).last_hidden_state
            sums = (states * mask.unsqueeze(-1)).sum(1)
            parts.append(torch.nn.functional.normalize(sums, dim=-1).float().numpy())
        return np.concatenate(parts)

    def fingerprint(self) -> str:
        """Returns a hash of the encoder's weights."""
        hashed = hashlib.sha256()
        for name, weight in sorted(self._encoder[0].state_dict().items()):
            hashed.update(name.encode())
            hashed.update(weight.contiguous().numpy().tobytes())
        return hashed.hexdigest()[:16]
