"""Models under OpenVINO GenAI in this process: quantised weights as they are, for processors and Intel's GPUs.

OpenVINO keeps computed prompts in blocks and shares them between requests with a common beginning, once one of these
requests has been computed. So the common beginning of a group goes first here, and its requests follow.

Whole blocks alone may be shared: of a block that is not full, requests that are computed together overwrite each
other's rest (seen with 2026.4: a text about fish became one about birds). Such a block is found again by requests that
begin with all tokens of an earlier one. So what goes first ends with a block, and equal requests of which an earlier
one wrote nothing go one by one.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gold_lightning.errors import ConfigError, GoldError, require
from gold_lightning.generators.base import Completion, Generator, Request, distinguishing_prefixes
from gold_lightning.generators.gguf_file import check_gguf, is_gguf
from gold_lightning.generators.identity import model_name
from gold_lightning.generators.prefix_attention import common_length
from gold_lightning.generators.prompt_tokens import (
    check_model,
    check_sampling,
    decode,
    encode,
    end_tokens,
    is_tuned_for_chat,
    require_within_limit,
    tokens_over_limit,
)
from gold_lightning.inputs.paths import expand

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["OpenVINOGenerator"]

_KEY = "data.generator.init_args."
_CONVERTED = "openvino_model.xml"
_TOKENS_AT_ONCE = 4096  # of prompts and texts together in one step
_MOST_REMEMBERED = 1 << 17  # log-probabilities of tokens of labels
_BEGINNINGS = 64  # prompts that are known to be in blocks
_BLOCK = 32  # tokens in a block on processors; 16 on GPUs


@dataclass
class _Model:
    """What a model file holds.

    Args:
        pipeline: ``openvino_genai.ContinuousBatchingPipeline``.
        tokenizer: The model's tokenizer, of transformers.
        limit: Size of the model's context in tokens; ``None`` if unknown.
        ends: Tokens that end a text.
        form: Form of prompts if it is left to the model.
    """

    pipeline: Any
    tokenizer: PreTrainedTokenizerBase
    limit: int | None
    ends: set[int]
    form: Literal["chat", "completion"]


class OpenVINOGenerator(Generator):
    """A model under OpenVINO, with its weights as they are quantised.

    The same request with the same seed gives the same text on the same machine, whatever else is in the batch, as far
    as OpenVINO keeps that promise.

    Args:
        model: A GGUF file of a Llama, Qwen2 or Qwen3 model, or a folder that ``optimum-cli export openvino`` wrote.
        batch_size: Number of requests that are computed together.
        form: ``chat`` uses the model's chat template, ``completion`` plain text; ``auto`` uses the template if the
            model was tuned for it.
        temperature: Divisor of the logits; 0 takes the most likely token.
        top_k: Number of most likely tokens to sample from; 0 for all.
        top_p: Probability of the smallest set of tokens to sample from.
        device: Device of OpenVINO: ``CPU``, or ``GPU`` for one of Intel's.
        cache_size: Memory for computed prompts and texts in GB. A batch that needs more waits for itself.

    Example:
        >>> from gold_lightning import OpenVINOGenerator
        >>> OpenVINOGenerator("qwen2.5-1.5b-instruct-q4_k_m.gguf", batch_size=64).batch_size
        64
    """

    def __init__(
        self,
        model: str,
        batch_size: int = 32,
        form: Literal["auto", "chat", "completion"] = "auto",
        temperature: float = 0.9,
        top_k: int = 50,
        top_p: float = 1.0,
        device: str = "CPU",
        cache_size: int = 4,
    ) -> None:
        check_sampling(batch_size, temperature, top_k, top_p)
        check_model(model)
        if cache_size < 1:
            raise ConfigError(_KEY + "cache_size", cache_size, "1 or more")
        self.model, self.batch_size, self.form = model, batch_size, form
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.device, self.cache_size = device, cache_size
        self._loaded: _Model | None = None
        self._threads = 0  # as many as OpenVINO takes
        self._asked = 0  # number of requests to the pipeline
        self._begun: OrderedDict[tuple[int, ...], None] = OrderedDict()  # beginnings of prompts that are in blocks
        self._whole: OrderedDict[int, None] = OrderedDict()  # hashes of prompts of which OpenVINO may have all tokens
        # Tokens in blocks are not computed again, and come without log-probabilities: by hash of all tokens up to them.
        self._log_probs: OrderedDict[int, float] = OrderedDict()

    def fingerprint(self) -> dict[str, Any]:
        settings = {name: getattr(self, name) for name in ("form", "temperature", "top_k", "top_p", "device")}
        return super().fingerprint() | {"model": model_name(self.model)} | settings

    def request_values(self, request: Request) -> dict[str, Any]:
        values = super().request_values(request)
        return values | {"messages": request.messages} if request.messages and self.form != "completion" else values

    def share_machine(self, index: int, count: int) -> None:
        if count > 1:
            self._threads = max(1, (os.cpu_count() or 1) // count)

    def check_installed(self) -> None:
        require("openvino_genai", "openvino")
        path = Path(expand(_KEY + "model", self.model))
        if is_gguf(self.model):
            check_gguf(_KEY + "model", path)
        elif not (path / _CONVERTED).is_file():
            allowed = f"a GGUF file on this machine, or a folder with {_CONVERTED}"
            hint = f"optimum-cli export openvino --model {self.model} --weight-format int8 FOLDER writes one"
            raise ConfigError(_KEY + "model", self.model, allowed, hint)

    def load(self) -> None:
        self._load()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        if not requests:
            return []
        model = self._load()
        prompts = [self._encode(request, model) for request in requests]
        require_within_limit(requests, prompts, model.tokenizer, model.limit, self.model)
        completions: dict[int, Completion] = {}
        for start in range(0, len(requests), self.batch_size):
            rows = range(start, min(start + self.batch_size, len(requests)))
            self._begin([(requests[i], prompts[i]) for i in rows], model)
            for texts in self._waves([i for i in rows if not requests[i].choices], prompts):
                outputs = self._run([(prompts[i], self._sampling(requests[i], model)) for i in texts], model)
                for i, output in zip(texts, outputs, strict=True):
                    completions[i] = _completion(requests[i], len(prompts[i]), output, model)
                    if completions[i].completion_tokens < 2:  # so nothing follows the prompt in its last block
                        self._whole[hash(tuple(prompts[i]))] = None
            scored = [i for i in rows if requests[i].choices]
            scores = self._score([(requests[i].choices, prompts[i]) for i in scored], model)
            for i, log_probs in zip(scored, scores, strict=True):
                completions[i] = Completion("", len(prompts[i]), choice_log_probs=log_probs)
        return [completions[i] for i in range(len(requests))]

    def tokens_over_limit(self, requests: Sequence[Request]) -> list[int]:
        model = self._load()
        prompts = [self._encode(request, model) for request in requests]
        return tokens_over_limit(requests, prompts, model.tokenizer, model.limit)[0]

    def _encode(self, request: Request, model: _Model) -> list[int]:
        return encode(request, model.tokenizer, model.form if self.form == "auto" else self.form)

    def _load(self) -> _Model:
        if self._loaded is None:
            self.check_installed()
            path = Path(expand(_KEY + "model", self.model))
            tokenizer, config = _read_tokenizer(path)
            limit: int | None = getattr(config, "max_position_embeddings", None)
            form: Literal["chat", "completion"] = "chat" if is_tuned_for_chat(tokenizer, config) else "completion"
            self._loaded = _Model(self._pipeline(path), tokenizer, limit, end_tokens(tokenizer, config), form)
        return self._loaded

    def _pipeline(self, path: Path) -> Any:
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching, scheduler.cache_size = True, self.cache_size
        scheduler.max_num_batched_tokens, scheduler.max_num_seqs = _TOKENS_AT_ONCE, self.batch_size
        # What is kept rounded depends on the rows computed with it, and so would a text.
        properties: dict[str, Any] = {"KV_CACHE_PRECISION": "f32"} if self.device == "CPU" else {}
        if self._threads and self.device == "CPU":
            properties["INFERENCE_NUM_THREADS"] = self._threads
        try:
            return openvino_genai.ContinuousBatchingPipeline(str(path), scheduler, self.device, properties)
        except Exception as e:  # of an unknown architecture, a torn file or a device that is not there: RuntimeErrors
            reason = " ".join(str(e).split())[-200:] or type(e).__name__
            raise GoldError(
                f"generator {self.model!r}: OpenVINO cannot load it ({reason}); take TransformersGenerator, which "
                "reads more kinds of GGUF files, or serve it and take OpenAIGenerator"
            ) from None

    def _sampling(self, request: Request, model: _Model) -> Any:
        """Returns ``openvino_genai.GenerationConfig`` of a text."""
        import openvino_genai

        settings: dict[str, Any] = {"do_sample": False}
        if not request.greedy and self.temperature > 0:
            settings = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
            settings |= {"top_k": self.top_k} if self.top_k else {}
        return openvino_genai.GenerationConfig(
            **settings,
            rng_seed=request.seed,
            max_new_tokens=request.max_tokens,
            stop_strings=set(request.stop),
            include_stop_str_in_output=True,  # its token may hold the last letters of the text, too
            stop_token_ids=model.ends,
            apply_chat_template=False,
        )

    def _begin(self, rows: Sequence[tuple[Request, list[int]]], model: _Model) -> None:
        """Computes the common beginning of each group of prompts, so that all rows of a group find it in blocks."""
        import openvino_genai

        groups: dict[tuple[Any, ...], list[list[int]]] = {}
        for request, prompt in rows:
            groups.setdefault((request.system, request.prefix, request.messages[:-1]), []).append(prompt)
        several = (prompts for prompts in groups.values() if len(prompts) > 1)
        common = [tuple(prompts[0][: common_length(prompts) // _BLOCK * _BLOCK]) for prompts in several]
        fresh = [beginning for beginning in common if beginning and beginning not in self._begun]
        one_token = openvino_genai.GenerationConfig(max_new_tokens=1, apply_chat_template=False)
        self._run([(list(beginning), one_token) for beginning in fresh], model)
        self._begun.update(dict.fromkeys(fresh))
        while len(self._begun) > _BEGINNINGS:
            self._begun.popitem(last=False)

    def _waves(self, rows: Sequence[int], prompts: Sequence[list[int]]) -> list[list[int]]:
        """Returns the rows that may be computed together: equal prompts one by one if they are in blocks whole."""
        waves: list[list[int]] = [[]]
        earlier = Counter[int]()
        for i in rows:
            key = hash(tuple(prompts[i]))
            wave = earlier[key] if key in self._whole else 0
            earlier[key] += 1
            waves += [[] for _ in range(wave + 1 - len(waves))]
            waves[wave].append(i)
        return waves

    def _run(self, asked: Sequence[tuple[list[int], Any]], model: _Model) -> list[Any]:
        """Returns ``openvino_genai.GenerationOutput`` of each prompt; ``None`` where the model wrote nothing."""
        import numpy as np
        from openvino import Tensor

        handles = []
        for prompt, settings in asked:
            self._asked += 1
            handles.append(model.pipeline.add_request(self._asked, Tensor(np.array([prompt], np.int64)), settings))
        while model.pipeline.has_non_finished_requests():
            model.pipeline.step()
        return [next(iter(handle.read_all()), None) for handle in handles]

    def _score(self, rows: Sequence[tuple[tuple[str, ...], list[int]]], model: _Model) -> list[tuple[float, ...]]:
        """Returns the log-likelihood of each choice of each row, up to the token that distinguishes it from all others.

        Args:
            rows: Choices and prompt tokens of each row.
            model: The model.
        """
        tokens = {
            choices: distinguishing_prefixes(
                [model.tokenizer(choice, add_special_tokens=False).input_ids for choice in choices]
            )
            for choices, _ in rows
        }
        branches = [(prompt, [tuple(choice) for choice in tokens[choices]]) for choices, prompt in rows]
        for _ in range(2):
            self._read_log_probs(branches, model)
            missing = any(self._total(prompt, choice) is None for prompt, choices in branches for choice in choices)
            if not missing:
                break
            # Computed for another purpose, so without log-probabilities: a fresh pipeline computes them again.
            model.pipeline = self._pipeline(Path(expand(_KEY + "model", self.model)))
            self._begun.clear()
            self._whole.clear()
        totals = [tuple(self._total(prompt, choice) for choice in choices) for prompt, choices in branches]
        while len(self._log_probs) > _MOST_REMEMBERED:
            self._log_probs.popitem(last=False)
        if any(total is None for row in totals for total in row):
            raise GoldError(f"generator {self.model!r}: OpenVINO gives no likelihoods of tokens of prompts")
        return [tuple(total for total in row if total is not None) for row in totals]

    def _total(self, prompt: Sequence[int], choice: Sequence[int]) -> float | None:
        parts = [self._log_probs.get(hash((*prompt, *choice[: i + 1]))) for i in range(len(choice))]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def _read_log_probs(self, branches: Sequence[tuple[list[int], list[tuple[int, ...]]]], model: _Model) -> None:
        """Asks for the log-probabilities of the choices' tokens after each prompt that are not known yet.

        All choices go together: the block with the end of a prompt must not be shared.
        """
        import openvino_genai

        echo = openvino_genai.GenerationConfig(max_new_tokens=1, echo=True, logprobs=1, apply_chat_template=False)
        parts = [
            (len(prompt), (*prompt, *choice))
            for prompt, choices in branches
            for choice in dict.fromkeys(choices)
            if self._total(prompt, choice) is None
        ]
        outputs = self._run([(list(tokens), echo) for _, tokens in parts], model)
        for (begin, tokens), output in zip(parts, outputs, strict=True):
            # Log-probabilities of the last tokens: of the prompt's that were computed, and of the one written.
            log_probs = output.generated_log_probs[:-1]
            for place in range(max(begin, len(tokens) - len(log_probs)), len(tokens)):
                self._log_probs[hash(tokens[: place + 1])] = log_probs[place - len(tokens)]


def _completion(request: Request, prompt_tokens: int, output: Any, model: _Model) -> Completion:
    """Returns the completion in an ``openvino_genai.GenerationOutput``, or an empty one."""
    if output is None:
        return Completion("", prompt_tokens)
    written = list(output.generated_ids)
    end = next((i for i, token in enumerate(written) if token in model.ends), len(written))
    reply = request.read(decode(model.tokenizer, written[:end]))
    length = output.finish_reason.name == "LENGTH" and not reply.ended and end == len(written)
    return Completion(
        reply.text,
        prompt_tokens,
        len(written),
        "length" if length else "stop",
        reason=reply.reason,
        thought=reply.thought,
    )


def _read_tokenizer(path: Path) -> tuple[PreTrainedTokenizerBase, Any]:
    """Returns tokenizer and config of a GGUF file or a folder, without weights."""
    from transformers import AutoConfig, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path)}
    if is_gguf(str(path)):
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # hides progress bars
            return AutoTokenizer.from_pretrained(**where), AutoConfig.from_pretrained(**where)
    except Exception as e:  # errors of many kinds
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise GoldError(f"generator {path}: transformers cannot read its tokenizer ({reason})") from None
