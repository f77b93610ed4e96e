"""Any model that vLLM runs, in this process's own engine (offline: no server).

vLLM keeps the computed prompts and shares them between requests that begin alike, so what prompts have in
common is computed once here too. Requests end one by one and are given as they end.
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
# What vLLM prints of itself hides the line of a round; what it would send home is nobody's business.
_ENVIRONMENT = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
# Arguments of the engine that have a setting of their own, or must be what they are.
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
# Where and in how much memory it runs: nothing that is written depends on these.
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
_RANKS = (16, 32, 64, 128, 256, 320, 512)  # that vLLM makes room for; 16 where it is not told
_MOST_TOKEN_IDS = 128  # whose likelihoods one request of vLLM may ask for


@dataclass
class _Part:
    """What vLLM is asked on behalf of a request: all of it, or for likelihoods after one beginning of its choices."""

    at: int
    prompt: list[int]
    params: Any  # vllm.SamplingParams
    begin: tuple[int, ...] = ()
    tokens: Sequence[int] = ()  # whose likelihoods are wanted


class VLLMGenerator(Generator):
    """A model under vLLM, with shared prompts computed once.

    With the same seed a request gives the same text in the same batch, where vLLM does. Another batch, GPU or
    version may round otherwise.

    Args:
        model: Hub id or folder.
        batch_size: Requests given to vLLM at once; how many run together it decides itself.
        form: ``chat`` uses the model's chat template, ``completion`` plain text; ``auto`` takes the
            template where the model has one.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_k: Samples from the k likeliest tokens; 0 for all.
        top_p: Samples from the smallest set of tokens with at least this probability.
        schema: ``json`` has the model write JSON objects of the task's schema, and nothing else can be written.
        lora: Folder of a LoRA adapter of this model; "" for none.
        tensor_parallel_size: GPUs that share the model.
        gpu_memory_utilization: Share of each GPU's memory that vLLM takes while it is awake, in (0, 1].
        max_model_len: Most tokens of a prompt and what follows; ``null`` for as many as the model takes.
        sleep: Give the GPU's memory back while the student trains; the weights wait in the machine's memory.
        dtype: Of the weights; ``auto`` as the model has them.
        trust_remote_code: Run code that the model's repository carries. Off unless you trust it.
        engine_args: Further arguments of ``vllm.LLM``, such as ``{quantization: awq, max_num_seqs: 128}``.
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
        if isinstance(schema, bool):  # what YAML makes of on and off
            schema = "json" if schema else "off"
        if schema not in ("off", "json"):  # a schema that nobody follows would go unnoticed
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
                shown = "..." if name == "hf_token" else value
                raise ConfigError(f"{_KEY}engine_args.{name}", shown, "no argument that is fixed", _FIXED[name])
        self.model, self.batch_size, self.form = model, batch_size, form
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.schema, self.lora, self.sleep = schema, lora, sleep
        self.tensor_parallel_size, self.gpu_memory_utilization = tensor_parallel_size, gpu_memory_utilization
        self.max_model_len, self.dtype, self.trust_remote_code = max_model_len, dtype, trust_remote_code
        self.engine_args = dict(engine_args or {})
        self._llm: Any = None  # vllm.LLM
        self._asleep = False
        self._gpus: range | None = None  # of those that this process sees; None for vLLM's own choice
        self._arrived: dict[str, Any] = {}  # outputs by request id, of streams that have not asked for them yet

    def fingerprint(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("form", "temperature", "top_k", "top_p", "schema", "dtype")}
        own |= {"model": model_name(self.model), "lora": model_name(self.lora) if self.lora else ""}
        return super().fingerprint() | own | {"engine_args": self._further()}

    def earlier_fingerprints(self) -> list[dict[str, Any]]:
        names = ("model", "lora", "form", "temperature", "top_k", "top_p", "schema", "dtype", "batch_size")
        own = {name: getattr(self, name) for name in names}
        return [super().fingerprint() | own | {"engine_args": self._further()}]

    def origin(self) -> str:
        """The revision of a hub model."""
        return str(self.engine_args.get("revision") or "") or revision(self.model)

    def _further(self) -> dict[str, Any]:
        return {name: value for name, value in self.engine_args.items() if name not in _PLACE}

    def load(self) -> None:
        self._load()

    def share_machine(self, index: int, count: int) -> None:
        gpus = torch.cuda.device_count()
        if count == 1 or not gpus:
            return
        further = (self.engine_args.get(f"{name}_parallel_size", 1) for name in ("pipeline", "data"))
        each = math.prod([self.tensor_parallel_size, *further])
        if count * each > gpus:
            raise ConfigError(
                f"{_KEY}tensor_parallel_size",
                self.tensor_parallel_size,
                f"{count} x {each} GPUs or more for the {count} processes on this machine, which has {gpus}",
                "set fewer --trainer.devices, or serve the model once for all of them (OpenAIGenerator)",
            )
        # Beside the student, if both take one.
        first = torch.cuda.current_device() if each == 1 and torch.cuda.is_initialized() else index * each
        self._gpus = range(first, first + each)

    def release(self) -> None:
        """Puts the engine to sleep where so set: its weights go to the machine's memory, its cache is given up."""
        if self.sleep and self._llm is not None and not self._asleep:
            self._llm.sleep(level=1)
            self._asleep = True

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        done = dict(self.stream(requests))
        return [done[i] for i in range(len(requests))]

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        if not requests:
            return
        llm = self._awake()
        tokenizer = llm.get_tokenizer()
        prompts = [self._encode(r, tokenizer) for r in requests]
        require_within_limit(requests, prompts, tokenizer, llm.model_config.max_model_len, self.model)
        # vLLM leaves special tokens out of texts and goes on behind them, but for those that it is told.
        ends: dict[str, Any] = {"stop_token_ids": ids} if (ids := sorted(end_tokens(tokenizer))) else {}
        if has_thinking_tokens(tokenizer):
            ends["skip_special_tokens"] = False
        parts: list[_Part] = []
        choices: dict[int, list[Sequence[int]]] = {}
        cut = {
            c: distinguishing_prefixes([tokenizer(choice, add_special_tokens=False).input_ids for choice in c])
            for c in {request.choices for request in requests if request.choices}
        }
        for at, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            if request.choices:
                choices[at] = cut[request.choices]
                parts += _questions(at, prompt, choices[at])
            else:
                parts.append(_Part(at, prompt, self._params(request, ends)))
        left = Counter(part.at for part in parts)
        found: dict[int, dict[tuple[int, ...], float]] = {at: {} for at in choices}
        for part, output in self._run(llm, parts):
            written = output.outputs[0]
            if written.finish_reason not in ("stop", "length"):
                raise GoldError(f"vLLM gave up a request ({written.finish_reason}); its own messages say why")
            if part.at not in choices:
                reply = requests[part.at].read(written.text)
                finish: Finish = "length" if written.finish_reason == "length" and not reply.ended else "stop"
                counts = len(output.prompt_token_ids), len(written.token_ids)
                yield part.at, Completion(reply.text, *counts, finish, reason=reply.reason)
                continue
            found[part.at] |= {(*part.begin, t): written.logprobs[0][t].logprob for t in part.tokens}
            left[part.at] -= 1
            if not left[part.at]:
                scores = tuple(_log_prob(c, found[part.at]) for c in choices[part.at])
                yield part.at, Completion("", len(prompts[part.at]), choice_log_probs=scores)

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
                said = " ".join(str(e).split())[:240]
                raise GoldError(f"vLLM is installed but cannot be imported ({said}); python -c 'import vllm'") from e
            if self._gpus is not None and os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0":
                raise GoldError(
                    "VLLM_ENABLE_V1_MULTIPROCESSING=0 keeps vLLM within each process, where it takes the first GPU: "
                    "unset it, or set --trainer.devices 1"
                )
            _make_room()
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
            _make_room()
            llm.wake_up()
            self._asleep = False
        return llm

    def _arguments(self) -> dict[str, Any]:
        """What ``vllm.LLM`` is made with."""
        made: dict[str, Any] = {
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
            made |= {"enable_lora": True, "max_lora_rank": next((r for r in _RANKS if r >= rank), rank)}
        if self.schema == "json":
            # A small model that may write spaces between the parts of an object writes them for ever.
            made["structured_outputs_config"] = {"backend": "xgrammar", "disable_any_whitespace": True}
        return made | self.engine_args

    def _follows(self, request: Request) -> bool:
        return self.schema == "json" and bool(request.schema) and not request.choices

    def _encode(self, request: Request, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        # An object is written whole, in place of what the answer begins.
        return encode(replace(request, answer_prefix="") if self._follows(request) else request, tokenizer, self.form)

    def _params(self, request: Request, ends: Mapping[str, Any]) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        how: dict[str, Any] = {"temperature": 0.0}
        if not request.greedy and self.temperature > 0:
            how = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        if self._follows(request):
            how["structured_outputs"] = StructuredOutputsParams(json=request.schema)
        else:
            how |= {"stop": list(request.stop), **ends}
        return SamplingParams(**how, seed=request.seed, max_tokens=request.max_tokens)

    def _run(self, llm: Any, parts: Sequence[_Part]) -> Iterator[tuple[_Part, Any]]:
        """Has the engine answer all parts, and gives each with its output as soon as it is there.

        While this waits to be asked for the next one, other calls may use the engine: an output that is not
        theirs stays for whom it is for.
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
        # vLLM makes ids unique by a suffix, which its outputs do not show.
        waiting = {name.split("-")[0]: (name, part) for name, part in zip(names, parts, strict=True)}
        try:
            while waiting:
                here = [name for name in waiting if name in self._arrived]
                if not here:
                    if not llm.llm_engine.has_unfinished_requests():
                        raise RuntimeError(f"vLLM has lost {len(waiting)} requests")
                    self._arrived |= {o.request_id: o for o in llm.llm_engine.step() if o.finished}
                for name in here:
                    _, part = waiting.pop(name)
                    yield part, self._arrived.pop(name)
        finally:
            if waiting:
                self._give_up(llm, waiting)

    def _give_up(self, llm: Any, waiting: Mapping[str, tuple[str, _Part]]) -> None:
        for name in waiting:
            self._arrived.pop(name, None)
        try:
            llm.llm_engine.abort_request([name for name, _ in waiting.values()], internal=True)
        except Exception:  # the engine's own end must not hide what ended it
            _log.debug("vLLM did not take back %d requests", len(waiting), exc_info=True)


@contextmanager
def _visible(gpus: range | None) -> Iterator[None]:
    """Has processes that are started meanwhile see these of the GPUs alone; all of them for ``None``."""
    if gpus is None:
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = before.split(",") if before else [str(i) for i in range(gpus.stop)]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[gpus.start : gpus.stop])
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _make_room() -> None:
    """Gives the GPU what torch keeps of the student's freed memory: to vLLM, another process, it counts as taken."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _questions(at: int, prompt: list[int], choices: Sequence[Sequence[int]]) -> Iterator[_Part]:
    """Asks for the likelihoods of all tokens that follow each beginning of the choices; one token is written for it.

    ``prompt_logprobs`` would give the same, but vLLM then computes the whole prompt anew for each choice.
    """
    from vllm import SamplingParams

    nexts: dict[tuple[int, ...], dict[int, None]] = {}
    for choice in choices:
        for i, token in enumerate(choice):
            nexts.setdefault(tuple(choice[:i]), {})[token] = None
    for begin, tokens in nexts.items():
        for start in range(0, len(tokens), _MOST_TOKEN_IDS):
            ids = list(tokens)[start : start + _MOST_TOKEN_IDS]
            params = SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=ids, detokenize=False)
            yield _Part(at, [*prompt, *begin], params, begin, ids)


def _log_prob(choice: Sequence[int], found: Mapping[tuple[int, ...], float]) -> float:
    return sum(found[tuple(choice[: i + 1])] for i in range(len(choice)))
