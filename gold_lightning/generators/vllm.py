"""Models under vLLM, in an engine of this process (offline: no server).

vLLM caches computed prompts and shares them between requests with a common prefix, so shared prompts are computed
once here, too. Requests finish one by one, and each completion is yielded at once.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from gold_lightning.errors import ConfigError, GoldError, require
from gold_lightning.generators.base import Completion, Finish, Generator, Request, distinguishing_prefixes
from gold_lightning.generators.identity import model_name, revision
from gold_lightning.generators.prompt_tokens import (
    check_model,
    check_sampling,
    encode,
    end_tokens,
    has_thinking_tokens,
    require_within_limit,
    tokens_over_limit,
)
from gold_lightning.inputs.paths import expand

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["VLLMGenerator"]

_log = logging.getLogger(__name__)
_KEY = "data.generator.init_args."
# Less output, which would hide the lines of a run, and no usage reports.
_ENVIRONMENT = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
# Arguments of the engine that have a setting of their own, or are fixed.
_SETTINGS = {
    "model": "model",
    "dtype": "dtype",
    "tensor_parallel_size": "tensor_parallel_size",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "max_model_len": "max_model_len",
    "trust_remote_code": "trust_remote_code",
    "enable_lora": "lora",
    "enable_sleep_mode": "sleep",
}
_FIXED = {
    "enable_prefix_caching": "it is always on",
    "skip_tokenizer_init": "prompts are encoded with it",
    "logprobs_mode": "likelihoods are those of the model itself",
    "hf_token": "set the environment variable HF_TOKEN: settings are written into the run folder",
}
# Placement and memory, on which no completion depends.
_PLACE = {
    "block_size",
    "cpu_offload_gb",
    "data_parallel_size",
    "disable_custom_all_reduce",
    "disable_log_stats",
    "distributed_executor_backend",
    "download_dir",
    "enforce_eager",
    "kv_cache_memory_bytes",
    "max_lora_rank",
    "max_num_batched_tokens",
    "max_num_seqs",
    "max_parallel_loading_workers",
    "pipeline_parallel_size",
    "use_tqdm_on_load",
}
_RANKS = (16, 32, 64, 128, 256, 320, 512)  # LoRA ranks that vLLM supports
_MAX_TOKEN_IDS = 128  # number of tokens whose likelihoods one request to vLLM may return


@dataclass
class _Part:
    """A request to vLLM: a whole request of ours, or the likelihoods after one prefix of its choices."""

    position: int  # of our request
    prompt: list[int]
    params: Any  # vllm.SamplingParams
    prefix: tuple[int, ...] = ()
    tokens: Sequence[int] = ()  # whose likelihoods are read


class VLLMGenerator(Generator):
    """A model under vLLM, with shared prompts computed once.

    The same request with the same seed in the same batch gives the same text, as far as vLLM does. Another batch, GPU
    or version may round differently.

    Args:
        model: Hub id or folder.
        batch_size: Number of requests passed to vLLM at once; vLLM decides how many run together.
        form: ``chat`` uses the model's chat template, ``completion`` plain text; ``auto`` uses the template if the
            model has one.
        temperature: Divisor of the logits; 0 takes the most likely token.
        top_k: Number of most likely tokens to sample from; 0 for all.
        top_p: Probability of the smallest set of tokens to sample from.
        schema: ``json`` constrains the model to JSON objects of the task's schema.
        lora: Folder of a LoRA adapter of this model; "" for none.
        tensor_parallel_size: Number of GPUs that share the model.
        gpu_memory_utilization: Share of each GPU's memory that vLLM uses while awake, in (0, 1].
        max_model_len: Maximum number of tokens of a prompt and its answer; ``null`` for the model's own limit.
        sleep: Release the GPU's memory while the student trains; the weights wait in the machine's memory.
        dtype: Type of the weights; ``auto`` keeps the model's own.
        trust_remote_code: Run code from the model's repository. Off unless you trust it.
        engine_args: Further arguments of ``vllm.LLM``, such as ``{quantization: awq, max_num_seqs: 128}``.

    Example:
        >>> from gold_lightning import VLLMGenerator
        >>> VLLMGenerator("Qwen/Qwen2.5-7B-Instruct", form="chat").batch_size
        256
    """

    def __init__(
        self,
        model: str,
        batch_size: int = 256,
        form: Literal["auto", "chat", "completion"] = "auto",
        temperature: float = 0.9,
        top_k: int = 50,
        top_p: float = 1.0,
        schema: Literal["off", "json"] | bool = "off",
        lora: str = "",
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.8,
        max_model_len: int | None = None,
        sleep: bool = False,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        trust_remote_code: bool = False,
        engine_args: dict[str, Any] | None = None,
    ) -> None:
        check_sampling(batch_size, temperature, top_k, top_p)
        check_model(model)
        if isinstance(schema, bool):  # YAML reads on and off as booleans
            schema = "json" if schema else "off"
        if schema not in ("off", "json"):  # an ignored schema would go unnoticed
            raise ConfigError(_KEY + "schema", schema, "off or json")
        if lora and not (Path(expand(_KEY + "lora", lora)) / "adapter_config.json").is_file():
            raise ConfigError(_KEY + "lora", lora, "a folder with adapter_config.json")
        if tensor_parallel_size < 1:
            raise ConfigError(_KEY + "tensor_parallel_size", tensor_parallel_size, "1 or more")
        if not 0 < gpu_memory_utilization <= 1:
            raise ConfigError(_KEY + "gpu_memory_utilization", gpu_memory_utilization, "a number above 0, at most 1")
        if max_model_len is not None and max_model_len < 1:
            raise ConfigError(_KEY + "max_model_len", max_model_len, "1 or more, or null")
        for name, value in (engine_args or {}).items():
            if name in _SETTINGS:
                hint = f"set {_KEY}{_SETTINGS[name]}"
                raise ConfigError(f"{_KEY}engine_args.{name}", value, "no argument that has a setting of its own", hint)
            if name in _FIXED:
                printed = "..." if name == "hf_token" else value
                raise ConfigError(f"{_KEY}engine_args.{name}", printed, "no argument that is fixed", _FIXED[name])
        self.model, self.batch_size, self.form = model, batch_size, form
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.schema, self.lora, self.sleep = schema, lora, sleep
        self.tensor_parallel_size, self.gpu_memory_utilization = tensor_parallel_size, gpu_memory_utilization
        self.max_model_len, self.dtype, self.trust_remote_code = max_model_len, dtype, trust_remote_code
        self.engine_args = dict(engine_args or {})
        self._llm: Any = None  # vllm.LLM
        self._asleep = False
        self._gpus: range | None = None  # among those visible to this process; None for vLLM's own choice
        self._arrived: dict[str, Any] = {}  # outputs by request id, for streams that have not read them yet

    def fingerprint(self) -> dict[str, Any]:
        settings = {name: getattr(self, name) for name in ("form", "temperature", "top_k", "top_p", "schema", "dtype")}
        settings |= {"model": model_name(self.model), "lora": model_name(self.lora) if self.lora else ""}
        return super().fingerprint() | settings | {"engine_args": self._relevant_args()}

    def earlier_fingerprints(self) -> list[dict[str, Any]]:
        names = ("model", "lora", "form", "temperature", "top_k", "top_p", "schema", "dtype", "batch_size")
        settings = {name: getattr(self, name) for name in names}
        return [super().fingerprint() | settings | {"engine_args": self._relevant_args()}]

    def origin(self) -> str:
        """The commit of a hub model."""
        return str(self.engine_args.get("revision") or "") or revision(self.model)

    def _relevant_args(self) -> dict[str, Any]:
        return {name: value for name, value in self.engine_args.items() if name not in _PLACE}

    def load(self) -> None:
        self._load()

    def share_machine(self, index: int, count: int) -> None:
        gpus = torch.cuda.device_count()
        if count == 1 or not gpus:
            return
        sizes = (self.engine_args.get(f"{name}_parallel_size", 1) for name in ("pipeline", "data"))
        each = math.prod([self.tensor_parallel_size, *sizes])
        if count * each > gpus:
            raise ConfigError(
                f"{_KEY}tensor_parallel_size",
                self.tensor_parallel_size,
                f"{count} x {each} GPUs or more for the {count} processes on this machine, which has {gpus}",
                "set fewer --trainer.devices, or serve the model once for all of them (OpenAIGenerator)",
            )
        # The student's own GPU, if engine and student take one each.
        first = torch.cuda.current_device() if each == 1 and torch.cuda.is_initialized() else index * each
        self._gpus = range(first, first + each)

    def release(self) -> None:
        """Puts the engine to sleep if ``sleep`` is set: moves its weights to the machine's memory, drops its cache."""
        if self.sleep and self._llm is not None and not self._asleep:
            self._llm.sleep(level=1)
            self._asleep = True

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        completions = dict(self.stream(requests))
        return [completions[i] for i in range(len(requests))]

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        if not requests:
            return
        llm = self._awake()
        tokenizer = llm.get_tokenizer()
        prompts = [self._encode(r, tokenizer) for r in requests]
        require_within_limit(requests, prompts, tokenizer, llm.model_config.max_model_len, self.model)
        # vLLM drops special tokens from texts and continues after them, except for those given as stop tokens.
        ends: dict[str, Any] = {"stop_token_ids": ids} if (ids := sorted(end_tokens(tokenizer))) else {}
        if has_thinking_tokens(tokenizer):
            ends["skip_special_tokens"] = False
        parts: list[_Part] = []
        choices: dict[int, list[Sequence[int]]] = {}
        prefixes = {
            c: distinguishing_prefixes([tokenizer(choice, add_special_tokens=False).input_ids for choice in c])
            for c in {request.choices for request in requests if request.choices}
        }
        for position, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            if request.choices:
                choices[position] = prefixes[request.choices]
                parts += _score_parts(position, prompt, choices[position])
            else:
                parts.append(_Part(position, prompt, self._params(request, ends)))
        pending = Counter(part.position for part in parts)
        log_probs: dict[int, dict[tuple[int, ...], float]] = {position: {} for position in choices}
        for part, output in self._run(llm, parts):
            written = output.outputs[0]
            if written.finish_reason not in ("stop", "length"):
                raise GoldError(f"vLLM gave up a request ({written.finish_reason}); its own messages say why")
            if part.position not in choices:
                reply = requests[part.position].read(written.text)
                finish: Finish = "length" if written.finish_reason == "length" and not reply.ended else "stop"
                counts = len(output.prompt_token_ids), len(written.token_ids)
                yield (
                    part.position,
                    Completion(reply.text, *counts, finish, reason=reply.reason, thought=reply.thought),
                )
                continue
            scored = log_probs[part.position]
            scored |= {(*part.prefix, t): written.logprobs[0][t].logprob for t in part.tokens}
            pending[part.position] -= 1
            if not pending[part.position]:
                sums = tuple(sum(scored[tuple(c[: i + 1])] for i in range(len(c))) for c in choices[part.position])
                yield part.position, Completion("", len(prompts[part.position]), choice_log_probs=sums)

    def tokens_over_limit(self, requests: Sequence[Request]) -> list[int]:
        llm = self._load()
        tokenizer = llm.get_tokenizer()
        prompts = [self._encode(r, tokenizer) for r in requests]
        return tokens_over_limit(requests, prompts, tokenizer, llm.model_config.max_model_len)[0]

    def check_installed(self) -> None:
        require("vllm", "vllm")

    def _load(self) -> Any:
        if self._llm is None:
            self.check_installed()
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            try:
                from vllm import LLM
            except (ImportError, OSError) as e:
                reason = " ".join(str(e).split())[:240]
                raise GoldError(f"vLLM is installed but cannot be imported ({reason}); python -c 'import vllm'") from e
            if self._gpus is not None and os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0":
                raise GoldError(
                    "VLLM_ENABLE_V1_MULTIPROCESSING=0 keeps vLLM within each process, where it takes the first GPU: "
                    "unset it, or set --trainer.devices 1"
                )
            _empty_cuda_cache()
            try:
                with _visible(self._gpus):
                    self._llm = LLM(**self._arguments())
            except (OSError, ValueError, RuntimeError, TypeError) as e:
                raise GoldError(
                    f"generator {self.model!r}: vLLM did not start ({' '.join(str(e).split())[:240]}); what it printed "
                    "before may say more. Ways out: --data.generator.init_args.model FOLDER, other engine settings, or "
                    "--data.generator EmbeddedGenerator"
                ) from e
        return self._llm

    def _awake(self) -> Any:
        llm = self._load()
        if self._asleep:
            _empty_cuda_cache()
            llm.wake_up()
            self._asleep = False
        return llm

    def _arguments(self) -> dict[str, Any]:
        """Arguments of ``vllm.LLM``."""
        arguments: dict[str, Any] = {
            "model": expand(_KEY + "model", self.model),
            "dtype": self.dtype,
            "tensor_parallel_size": self.tensor_parallel_size,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "max_model_len": self.max_model_len,
            "trust_remote_code": self.trust_remote_code,
            "enable_prefix_caching": True,
            "enable_sleep_mode": self.sleep,
            "use_tqdm_on_load": False,
        }
        if self.lora:
            folder = Path(expand(_KEY + "lora", self.lora))
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            rank = max([config["r"], *config.get("rank_pattern", {}).values()])
            arguments |= {"enable_lora": True, "max_lora_rank": next((r for r in _RANKS if r >= rank), rank)}
        if self.schema == "json":
            # Small models write endless spaces between the parts of an object if they may.
            arguments["structured_outputs_config"] = {"backend": "xgrammar", "disable_any_whitespace": True}
        return arguments | self.engine_args

    def _follows(self, request: Request) -> bool:
        return self.schema == "json" and bool(request.schema) and not request.choices

    def request_values(self, request: Request) -> dict[str, Any]:
        values = super().request_values(request)
        return values | {"messages": request.messages} if request.messages and self.form != "completion" else values

    def _encode(self, request: Request, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        # A whole object takes the place of the rest of the answer.
        return encode(replace(request, answer_prefix="") if self._follows(request) else request, tokenizer, self.form)

    def _params(self, request: Request, ends: Mapping[str, Any]) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        params: dict[str, Any] = {"temperature": 0.0}
        if not request.greedy and self.temperature > 0:
            params = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        if self._follows(request):
            params["structured_outputs"] = StructuredOutputsParams(json=request.schema)
        else:
            params |= {"stop": list(request.stop), **ends}
        return SamplingParams(**params, seed=request.seed, max_tokens=request.max_tokens)

    def _run(self, llm: Any, parts: Sequence[_Part]) -> Iterator[tuple[_Part, Any]]:
        """Yields each part with its output as soon as it is available.

        Between two items other streams may use the engine: an output that is not theirs is kept for the stream that
        requested it.
        """
        adapter = None
        if self.lora:
            from vllm.lora.request import LoRARequest

            adapter = LoRARequest("adapter", 1, expand(_KEY + "lora", self.lora))
        names = llm.enqueue(
            [{"prompt_token_ids": part.prompt} for part in parts],
            [part.params for part in parts],
            lora_request=adapter,
            use_tqdm=False,
        )
        # vLLM makes ids unique by a suffix, which its outputs lack.
        waiting = {name.split("-")[0]: (name, part) for name, part in zip(names, parts, strict=True)}
        try:
            while waiting:
                arrived = [name for name in waiting if name in self._arrived]
                if not arrived:
                    if not llm.llm_engine.has_unfinished_requests():
                        raise RuntimeError(f"vLLM has lost {len(waiting)} requests")
                    self._arrived |= {o.request_id: o for o in llm.llm_engine.step() if o.finished}
                for name in arrived:
                    _, part = waiting.pop(name)
                    yield part, self._arrived.pop(name)
        finally:
            if waiting:
                self._abort(llm, waiting)

    def _abort(self, llm: Any, waiting: Mapping[str, tuple[str, _Part]]) -> None:
        for name in waiting:
            self._arrived.pop(name, None)
        try:
            llm.llm_engine.abort_request([name for name, _ in waiting.values()], internal=True)
        except Exception:  # a failing engine must not hide the original error
            _log.debug("vLLM did not take back %d requests", len(waiting), exc_info=True)


@contextmanager
def _visible(gpus: range | None) -> Iterator[None]:
    """Restricts the processes started meanwhile to these GPUs; ``None`` for all."""
    if gpus is None:
        yield
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(gpus.stop)]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[gpus.start : gpus.stop])
    try:
        yield
    finally:
        if visible is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible


def _empty_cuda_cache() -> None:
    """Returns the student's freed memory from torch to the GPU: for vLLM, another process, it is in use until then."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _score_parts(position: int, prompt: list[int], choices: Sequence[Sequence[int]]) -> Iterator[_Part]:
    """Requests for the likelihoods of all tokens that follow each prefix of the choices; each writes one token.

    ``prompt_logprobs`` would return the same, but makes vLLM compute the whole prompt again for each choice.
    """
    from vllm import SamplingParams

    following: dict[tuple[int, ...], dict[int, None]] = {}
    for choice in choices:
        for i, token in enumerate(choice):
            following.setdefault(tuple(choice[:i]), {})[token] = None
    for prefix, tokens in following.items():
        for start in range(0, len(tokens), _MAX_TOKEN_IDS):
            ids = list(tokens)[start : start + _MAX_TOKEN_IDS]
            params = SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=ids, detokenize=False)
            yield _Part(position, [*prompt, *prefix], params, prefix, ids)
