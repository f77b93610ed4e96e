"""Causal language models of transformers, with the shared part of the prompts computed once.

``model.generate`` computes every row of a batch from its first token, and continues to compute rows that have ended.
For short samples behind long prompts both cost more than the samples themselves. This engine therefore has its own
decoding loop: one pass for each shared prompt, whose keys and values all its rows read, and rows that leave the batch
as soon as they end. Each row samples from its own seed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators.base import Completion, Generator, Request
from gold_lightning.generators.choice_tree import ChoiceTree, score_tree
from gold_lightning.generators.gguf_file import check_gguf, is_gguf, load_gguf
from gold_lightning.generators.identity import model_name, revision
from gold_lightning.generators.prefix_attention import common_length, compute_prefix, supports_prefix
from gold_lightning.generators.prompt_tokens import (
    check_model,
    check_sampling,
    encode,
    end_tokens,
    is_tuned_for_chat,
    require_within_limit,
    tokens_over_limit,
)
from gold_lightning.generators.row_batch import RowBatch
from gold_lightning.generators.row_text import RowText
from gold_lightning.inputs.paths import expand

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["TransformersGenerator"]

_MODEL_KEY = "data.generator.init_args.model"
_log = logging.getLogger(__name__)
_PREFIX_CACHE_BYTES = 2**28  # largest prefix of a scored prompt that is cached from one call to the next
_MOST_ENCODED = 256  # prompts whose tokens are kept
_MAX_TOKENS = 4096  # cached for a batch in which nothing is shared


class TransformersGenerator(Generator):
    """A causal language model of transformers, from the hub, a folder or a GGUF file.

    Args:
        model: Hub id, folder, or the path of a file that ends in ``.gguf``, whose weights are dequantised while they
            are loaded.
        batch_size: Number of rows decoded together.
        form: ``chat`` uses the model's chat template, ``completion`` plain text; ``auto`` uses the template if the
            model has one and was tuned for it, which its end-of-text token shows.
        temperature: Divisor of the logits; 0 takes the most likely token.
        top_k: Number of most likely tokens to sample from; 0 for all.
        top_p: Probability of the smallest set of tokens to sample from.
        dtype: Type of the weights; ``auto`` is bfloat16 if the device computes it fast, and float32 otherwise.
        device: Device of torch; ``auto`` takes a GPU if there is one.
        trust_remote_code: Run code from the model's repository. Off unless you trust it.

    Example:
        >>> from gold_lightning import TransformersGenerator
        >>> TransformersGenerator("meta-llama/Llama-3.2-1B-Instruct", form="chat", dtype="bfloat16").model
        'meta-llama/Llama-3.2-1B-Instruct'
    """

    def __init__(
        self,
        model: str,
        batch_size: int = 64,
        form: Literal["auto", "chat", "completion"] = "auto",
        temperature: float = 0.9,
        top_k: int = 50,
        top_p: float = 1.0,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        check_sampling(batch_size, temperature, top_k, top_p)
        check_model(model)
        _check_device(device)
        self.model, self.batch_size, self.form = model, batch_size, form
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.dtype, self.device, self.trust_remote_code = dtype, device, trust_remote_code
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None
        self._last_prefix: tuple[list[int], list[tuple[Tensor, Tensor]]] | None = None
        self._encoded: dict[Request, list[int]] = {}
        self._auto: Literal["chat", "completion"] = "completion"  # known once the model is loaded

    def fingerprint(self) -> dict[str, Any]:
        sampling = {name: getattr(self, name) for name in ("form", "temperature", "top_k", "top_p")}
        dtype = str(self._dtype()).removeprefix("torch.")
        return super().fingerprint() | {"model": self._name(), "dtype": dtype} | sampling

    def earlier_fingerprints(self) -> list[dict[str, Any]]:
        sampling = {k: getattr(self, k) for k in ("form", "temperature", "top_k", "top_p", "dtype", "batch_size")}
        return [super().fingerprint() | {"model": self.model} | sampling]

    def request_values(self, request: Request) -> dict[str, Any]:
        values = super().request_values(request)
        return (
            values | {"messages": request.messages}
            if request.messages and self._form(request) != "completion"
            else values
        )

    def _form(self, request: Request) -> Literal["auto", "chat", "completion"]:
        """The form of one request; engines may ask for likelihoods in another form than for samples."""
        return self.form

    def origin(self) -> str:
        """The commit of a hub model."""
        return revision(self.source())

    def check_installed(self) -> None:
        if is_gguf(source := self.source()):
            check_gguf(_MODEL_KEY, Path(source))

    def load(self) -> None:
        self._load()

    def release(self) -> None:
        self._last_prefix = None
        self._encoded.clear()

    def source(self) -> str:
        """Folder or hub id to load from. Engines with their own weights override this."""
        return expand(_MODEL_KEY, self.model)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        if not requests:
            return []
        model, tokenizer = self._load()
        with torch.inference_mode():
            prompts = [self._encode(r, tokenizer) for r in requests]
            require_within_limit(requests, prompts, tokenizer, _limit(model), self.model)
            completions: dict[int, Completion] = {}
            for scoring in (False, True):
                positions = [i for i, r in enumerate(requests) if bool(r.choices) is scoring]
                answer = self._score if scoring else self._sample
                for start in range(0, len(positions), self.batch_size):
                    batch = positions[start : start + self.batch_size]
                    answers = answer([requests[i] for i in batch], [prompts[i] for i in batch], model, tokenizer)
                    completions |= zip(batch, answers, strict=True)
        return [completions[i] for i in range(len(requests))]

    def tokens_over_limit(self, requests: Sequence[Request]) -> list[int]:
        model, tokenizer = self._load()
        prompts = [self._encode(r, tokenizer) for r in requests]
        return tokens_over_limit(requests, prompts, tokenizer, _limit(model))[0]

    def _encode(self, request: Request, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        if request not in self._encoded:  # asked for twice: is it too long, and what is the answer
            if len(self._encoded) == _MOST_ENCODED:
                self._encoded.clear()
            form = self._form(request)
            self._encoded[request] = encode(request, tokenizer, self._auto if form == "auto" else form)
        return self._encoded[request]

    def _name(self) -> str:
        """Name of the model in the keys of stored completions."""
        return model_name(self.model)

    def _device(self) -> str:
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device

    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = _fast_dtype(self._device()) if self.dtype == "auto" else getattr(torch, self.dtype)
        return dtype

    def _load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if self._loaded is None:
            source, dtype = self.source(), self._dtype()
            if is_gguf(source):
                check_gguf(_MODEL_KEY, Path(source))
                model, tokenizer = load_gguf(Path(source), dtype)
            else:
                model, tokenizer = self._pretrained(source, dtype)
            self._auto = "chat" if is_tuned_for_chat(tokenizer, model.config, model.generation_config) else "completion"
            if self.form == "auto" and self._auto == "completion" and tokenizer.chat_template is not None:
                _log.info(
                    "%s: its texts end with another token than an answer in its chat template, so it is a base model "
                    "and gets plain text; data.generator.init_args.form: chat takes the template",
                    self.model,
                )
            model.to(self._device())  # type: ignore[arg-type]  # transformers hides the method behind a decorator
            self._loaded = model, tokenizer  # from_pretrained turns dropout off
        return self._loaded

    def _pretrained(self, source: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=self.trust_remote_code)
            model = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, trust_remote_code=self.trust_remote_code, use_safetensors=True
            )
        except OSError as e:
            raise GoldError(
                f"generator {source!r}: no such folder here, and the hub did not give it "
                f"({' '.join(str(e).split())[:160]}); two ways out: "
                "--data.generator.init_args.model FOLDER, or --data.generator EmbeddedGenerator"
            ) from None
        return model, tokenizer

    def _sample(
        self,
        requests: Sequence[Request],
        prompts: Sequence[list[int]],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> list[Completion]:
        batch = RowBatch.prefill(requests, prompts, model)
        longest = max(r.max_tokens for r in requests)
        # One number per row and step, drawn beforehand, so that no row's text depends on the rest of the batch.
        uniform = torch.stack([torch.rand(longest, generator=torch.Generator().manual_seed(r.seed)) for r in requests])
        greedy = torch.tensor([r.greedy or self.temperature == 0 for r in requests])
        ends = end_tokens(tokenizer, model.config, model.generation_config)
        texts = [RowText(request, tokenizer, ends) for request in requests]
        active = list(range(len(requests)))
        for step in range(longest):
            chosen = self._choose(batch.logits.float(), uniform[active, step], greedy[active]).tolist()
            for i, token in zip(active, chosen, strict=True):
                texts[i].add(token)
            rows = [row for row, i in enumerate(active) if not texts[i].ended]
            if not rows:
                break
            if len(rows) < len(active):
                batch.select(rows)
                active = [active[row] for row in rows]
            tokens = torch.tensor([[texts[i].tokens[-1]] for i in active], device=batch.mask.device)
            batch.logits = batch.step(tokens, torch.ones_like(tokens))[:, -1]
        return [text.completion(len(ids)) for text, ids in zip(texts, prompts, strict=True)]

    def _choose(self, logits: Tensor, uniform: Tensor, greedy: Tensor) -> Tensor:
        """The next token of each row: the most likely, or the inverse of its cumulative distribution at ``uniform``.

        Args:
            logits: (rows, vocab) float32.
            uniform: (rows,) in [0, 1).
            greedy: (rows,) bool.
        """
        likeliest = logits.argmax(-1)
        if bool(greedy.all()):
            return likeliest
        uniform, greedy = uniform.to(logits.device), greedy.to(logits.device)
        k = min(self.top_k, logits.shape[-1]) or logits.shape[-1]
        values, tokens = logits.topk(k)  # descending
        probs = torch.softmax(values / self.temperature, -1)
        cumulative = probs.cumsum(-1)
        # Tokens stay while the mass before them is below top_p; the first always does.
        probs = probs.masked_fill(cumulative - probs >= self.top_p, 0.0)
        cumulative = probs.cumsum(-1)
        index = torch.searchsorted(cumulative, (uniform[:, None] * cumulative[:, -1:]), right=True)
        return torch.where(greedy, likeliest, tokens.gather(-1, index.clamp(max=k - 1)).squeeze(-1))

    def _score(
        self,
        requests: Sequence[Request],
        prompts: Sequence[list[int]],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> list[Completion]:
        """Log-likelihood of each choice, up to the token that distinguishes it from all others."""
        trees = {r.choices: _tree(r.choices, tokenizer) for r in requests}
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, r in enumerate(requests):
            groups.setdefault((r.system, r.prefix, r.messages[:-1], r.choices), []).append(i)
        scores: dict[int, tuple[float, ...]] = {}
        shares = supports_prefix(model)
        for (*_, choices), rows in groups.items():
            tree, row_prompts = trees[choices], [prompts[i] for i in rows]
            if shares:
                # Another suffix ends the shared prompt before the texts even if these begin alike, so that the next
                # call finds it in the cache.
                first = requests[rows[0]]
                last = (("user", "?"),) if first.messages else ()
                changed = replace(first, suffix="?", messages=(*first.messages[:-1], *last))
                other = self._encode(changed, tokenizer)
                size = common_length([*row_prompts, other])
                prefix = self._cached_prefix(model, row_prompts[0][:size])
                group_scores = score_tree(model, prefix, size, [ids[size:] for ids in row_prompts], tree)
            else:
                group_scores = _score_rows([requests[i] for i in rows], row_prompts, model, tree)
            scores |= zip(rows, group_scores, strict=True)
        return [Completion("", len(ids), choice_log_probs=scores[i]) for i, ids in enumerate(prompts)]

    def _cached_prefix(self, model: PreTrainedModel, tokens: list[int]) -> list[tuple[Tensor, Tensor]]:
        if self._last_prefix is None or self._last_prefix[0] != tokens:
            self._last_prefix = None  # frees its memory first
            prefix = compute_prefix(model, tokens)
            if sum(part.nbytes for layer in prefix for part in layer) > _PREFIX_CACHE_BYTES:
                return prefix
            self._last_prefix = tokens, prefix
        return self._last_prefix[1]


def _score_rows(
    requests: Sequence[Request], prompts: Sequence[list[int]], model: PreTrainedModel, tree: ChoiceTree
) -> list[tuple[float, ...]]:
    """Does what :func:`score_tree` does for attention that takes no tree: each branch is a row after its text."""
    scores: list[tuple[float, ...]] = []
    # A row holds the keys and values of its whole prompt, and logits of the whole vocabulary.
    max_rows = max(1, _MAX_TOKENS // max(map(len, prompts)))
    for start in range(0, len(requests), max_rows):
        texts = RowBatch.prefill(requests[start : start + max_rows], prompts[start : start + max_rows], model)
        log_probs = [[0.0] * tree.edges for _ in range(len(texts.position))]
        pairs = [(row, branch) for row in range(len(log_probs)) for branch in tree.branches()]
        for first in range(0, len(pairs), max_rows):
            chosen = pairs[first : first + max_rows]
            width = max(len(branch.tokens) for _, branch in chosen)
            rows = texts.copies([row for row, _ in chosen])
            logits = rows.logits[:, None]
            if width:
                tokens = torch.zeros(len(chosen), width, dtype=torch.long)
                real = torch.zeros_like(tokens)
                for i, (_, branch) in enumerate(chosen):
                    tokens[i, : len(branch.tokens)] = torch.tensor(branch.tokens)
                    real[i, : len(branch.tokens)] = 1
                logits = torch.cat([logits, rows.step(tokens.to(model.device), real.to(model.device))], 1)
            for (row, branch), row_logits in zip(chosen, logits, strict=True):
                branch.read(row_logits[None], [log_probs[row]])
        scores += map(tree.totals, log_probs)
    return scores


def _tree(choices: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> ChoiceTree:
    return ChoiceTree([tokenizer(c, add_special_tokens=False).input_ids for c in choices])


def _limit(model: PreTrainedModel) -> int | None:
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    return limit  # None if the config does not say


def _check_device(device: str) -> None:
    key = "data.generator.init_args.device"
    try:
        kind = "cpu" if device == "auto" else torch.device(device).type
    except RuntimeError:
        raise ConfigError(key, device, "auto, cpu, cuda, or another name of a device of torch's") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(key, device, "a device of this machine, which has no GPU that torch can use", "take auto")


def _fast_dtype(device: str) -> torch.dtype:
    """bfloat16 on a GPU and on CPUs with instructions for it; other CPUs would emulate it."""
    if device.startswith("cuda"):
        return torch.bfloat16
    from torch.backends import mkldnn

    fast = mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
