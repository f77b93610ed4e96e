"""Any causal language model of transformers, with the shared part of the prompts computed once.

``model.generate`` computes every row of a batch from its first token, and goes on computing rows that have
ended. With short samples behind long prompts both cost more than the samples themselves. So the decoding
loop stands here: one pass for each shared prompt, whose keys and values all its rows read, and rows leave
the batch as soon as they end. What is sampled depends on the row's own seed.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators.base import Completion, Generator, Request
from gold_lightning.generators.choice_tree import ChoiceTree, score_tree
from gold_lightning.generators.identity import model_name, revision
from gold_lightning.generators.prefix_attention import NAME, PrefixGroup, Witness, register
from gold_lightning.generators.prompt_tokens import (
    Decoded,
    check_model,
    check_sampling,
    decode,
    encode,
    end_tokens,
    require_within_limit,
    tokens_over_limit,
)
from gold_lightning.inputs.paths import expand

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["TransformersGenerator"]

_log = logging.getLogger(__name__)
_HEAD_TOKENS = 1024  # of a shared prompt computed together: attention over it grows with their square
_KEPT_BYTES = 2**28  # of a prompt that choices are scored after, from one call to the next
_MOST_TOKENS = 4096  # cached for a batch in which nothing is shared
_TAKES_PREFIX: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # by model


@dataclass
class _Rows:
    """A batch in flight: the cache holds what follows the shared prompts, all but each row's next token."""

    model: PreTrainedModel
    cache: DynamicCache
    groups: list[PrefixGroup]
    mask: Tensor  # (rows, cached tokens), 1 where a token is real
    position: Tensor  # (rows,), of the last real token
    logits: Tensor  # (rows, vocab), of the next token

    def copies(self, rows: Sequence[int]) -> _Rows:
        """Rows of their own, for a batch in which nothing is shared; one that is named twice is there twice."""
        from transformers import DynamicCache

        index = torch.tensor(rows, device=self.mask.device)
        layers = [(x.keys[index], x.values[index]) for x in self.cache.layers]  # type: ignore[union-attr, index]
        own = (self.mask[index], self.position[index], self.logits[index])
        return _Rows(self.model, DynamicCache(layers), [], *own)

    def select(self, keep: Sequence[int]) -> None:
        """Keeps some rows, in ascending order; one that is named twice is there twice."""
        index = torch.tensor(keep, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask, self.position, self.logits = self.mask[index], self.position[index], self.logits[index]
        ends = list(itertools.accumulate(g.rows for g in self.groups))
        for group, end in zip(self.groups, ends, strict=True):
            start = end - group.rows
            group.rows = sum(start <= i < end for i in keep)

    def step(self, tokens: Tensor, real: Tensor, keep: int = 0) -> Tensor:
        """Logits of tokens that follow.

        Args:
            tokens: (rows, steps).
            real: (rows, steps), 1 where a token is one.
            keep: Of how many last steps the logits are wanted; 0 for all.

        Returns:
            (rows, kept steps, vocab).
        """
        before = self.mask.shape[1]
        self.mask = torch.cat([self.mask, real], 1)
        positions = self.position[:, None] + real.cumsum(1)
        self.position = positions[:, -1]
        mask: Tensor = self.mask
        extra: dict[str, Any] = {}
        if self.groups:
            lowest = torch.finfo(self.logits.dtype).min
            steps = tokens.shape[1]
            hidden = (self.mask == 0)[:, None, :].expand(-1, steps, -1).clone()
            hidden[:, :, before:] |= torch.ones(steps, steps, dtype=torch.bool, device=hidden.device).triu(1)
            mask = torch.zeros(hidden.shape, dtype=self.logits.dtype, device=hidden.device)
            mask = mask.masked_fill_(hidden, lowest)[:, None]
            extra["shared_prefix"] = self.groups
        out = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions.clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=keep,
            **extra,
        )
        logits: Tensor = out.logits
        return logits


class _Text:
    """What one row writes: the model's tokens and, where a line of the request ends, the beginning of the next."""

    def __init__(self, request: Request, tokenizer: PreTrainedTokenizerBase, ends: set[int]) -> None:
        self.tokens: list[int] = []
        self.ended = False
        self._request, self._tokenizer, self._ends = request, tokenizer, ends
        self._decoded = Decoded(tokenizer)
        self._stopped: int | None = None  # where in the text it was ended
        self._searched = 0  # up to where the text holds no stop
        self._overlap = max(map(len, request.stop), default=1) - 1
        self._finish: Literal["stop", "length"] = "length"
        self._lines = list(request.line_prefixes)  # beginnings that are still to come
        self._due: list[int] = []  # tokens that come next, whatever the model likes
        self._value_at = 0  # where in the text the model goes on after the last beginning

    def add(self, token: int) -> None:
        """Takes the token that the model likes next; what was written is the last of :attr:`tokens`."""
        if self._due:
            self._write(self._due.pop(0))
            if not self._due:
                self._value_at = len(self._decoded.text)
            return
        over = token in self._ends
        written = self._decoded.text
        text = written if over else self._decoded.with_next(token)
        one_line = bool(self._lines) if self._request.open_end else bool(self._request.line_prefixes)
        line_end = text.find("\n", self._value_at) if one_line else -1
        if self._lines and (over or line_end >= 0):
            # One token may hold a line's last letters as well as its end.
            rest = "" if over else text[:line_end].removeprefix(written)
            begin = f"{rest}\n{self._lines.pop(0)}"
            self._due = list(self._tokenizer(begin, add_special_tokens=False).input_ids)
            self._write(self._due.pop(0))
        elif over:
            self._end()
        else:
            self._write(token)
            stops = [text.find(stop, self._searched) for stop in self._request.stop]
            self._searched = max(0, len(text) - self._overlap)
            if ends := [at for at in (line_end, *stops) if at >= 0]:
                self._stopped = min(ends)
                self._end()

    def completion(self, prompt_tokens: int) -> Completion:
        """What has come of it."""
        whole = decode(self._tokenizer, self.tokens) if self._stopped is None else self._decoded.text
        text = whole[: self._stopped]
        reply = self._request.read(text)
        finish = "stop" if reply.ended else self._finish
        return Completion(reply.text, prompt_tokens, len(self.tokens), finish, reason=reply.reason)

    def _write(self, token: int) -> None:
        self.tokens.append(token)
        self._decoded.add(token)
        self.ended = len(self.tokens) >= self._request.max_tokens

    def _end(self) -> None:
        self.ended, self._finish = True, "stop"


class TransformersGenerator(Generator):
    """A causal language model of transformers, from the hub or a folder.

    Args:
        model: Hub id or folder.
        batch_size: Rows decoded together.
        form: ``chat`` uses the model's chat template, ``completion`` plain text; ``auto`` takes the
            template where the model has one.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_k: Samples from the k likeliest tokens; 0 for all.
        top_p: Samples from the smallest set of tokens with at least this probability.
        dtype: Of the weights; ``auto`` is bfloat16 where the device computes it fast, else float32.
        device: ``auto`` takes a GPU where there is one.
        trust_remote_code: Run code that the model's repository carries. Off unless you trust it.
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
        self._last_head: tuple[list[int], list[tuple[Tensor, Tensor]]] | None = None

    def fingerprint(self) -> dict[str, Any]:
        sampling = {name: getattr(self, name) for name in ("form", "temperature", "top_k", "top_p")}
        dtype = str(self._dtype()).removeprefix("torch.")
        return super().fingerprint() | {"model": self._name(), "dtype": dtype} | sampling

    def earlier_fingerprints(self) -> list[dict[str, Any]]:
        sampling = {k: getattr(self, k) for k in ("form", "temperature", "top_k", "top_p", "dtype", "batch_size")}
        return [super().fingerprint() | {"model": self.model} | sampling]

    def origin(self) -> str:
        """The revision of a hub model."""
        return revision(self.source())

    def load(self) -> None:
        self._load()

    def release(self) -> None:
        self._last_head = None

    def source(self) -> str:
        """Folder or hub id to load from. Engines that bring their own weights override this."""
        return expand("data.generator.init_args.model", self.model)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        if not requests:
            return []
        model, tokenizer = self._load()
        with torch.inference_mode():
            prompts = [encode(r, tokenizer, self.form) for r in requests]
            require_within_limit(requests, prompts, tokenizer, _limit(model), self.model)
            done: list[Completion | None] = [None] * len(requests)
            for scoring in (False, True):
                which = [i for i, r in enumerate(requests) if bool(r.choices) is scoring]
                for at in range(0, len(which), self.batch_size):
                    part = which[at : at + self.batch_size]
                    work = self._score if scoring else self._sample
                    made = work([requests[i] for i in part], [prompts[i] for i in part], model, tokenizer)
                    for i, completion in zip(part, made, strict=True):
                        done[i] = completion
        return [c for c in done if c is not None]

    def tokens_over_limit(self, requests: Sequence[Request]) -> list[int]:
        model, tokenizer = self._load()
        prompts = [encode(r, tokenizer, self.form) for r in requests]
        return tokens_over_limit(requests, prompts, tokenizer, _limit(model))[0]

    def _name(self) -> str:
        """The model in keys of completions."""
        return model_name(self.model)

    def _device(self) -> str:
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device

    def _dtype(self) -> torch.dtype:
        made: torch.dtype = _fast_dtype(self._device()) if self.dtype == "auto" else getattr(torch, self.dtype)
        return made

    def _load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if self._loaded is None:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            device, dtype, source = self._device(), self._dtype(), self.source()
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
            model.to(device)  # type: ignore[arg-type]  # transformers hides the method behind a decorator
            self._loaded = model, tokenizer  # from_pretrained has turned dropout off
        return self._loaded

    def _prefill(self, requests: Sequence[Request], prompts: Sequence[list[int]], model: PreTrainedModel) -> _Rows:
        """Computes each group's common prompt once, then the rest of all rows together, up to the last token.

        Requests with the same ``shared`` part must stand next to each other to be one group.
        """
        from transformers import DynamicCache

        device = model.device
        groups: list[PrefixGroup] = []
        sizes: list[int] = []
        if _shares(model):
            at = 0
            for _, members in itertools.groupby(requests, key=lambda r: (r.system, r.prefix)):
                rows = range(at, at + len(list(members)))
                at = rows.stop
                size = _common(prompts, rows)
                groups.append(PrefixGroup(len(rows) if size else 0, _head(model, prompts[rows[0]][:size])))
                sizes += [size] * len(rows)
            if 0 in sizes:  # a group of nothing in common: rare, and then nobody shares
                groups, sizes = [], []
        if not groups:
            _attend_plainly(model)
            sizes = [0] * len(requests)
        rest = [ids[size:] for ids, size in zip(prompts, sizes, strict=True)]
        width = max(map(len, rest))
        tokens = torch.zeros(len(rest), width, dtype=torch.long, device=device)
        real = torch.zeros_like(tokens)
        for i, tail in enumerate(rest):
            tokens[i, width - len(tail) :] = torch.tensor(tail, device=device)
            real[i, width - len(tail) :] = 1
        last = torch.tensor(sizes, device=device) - 1
        empty = torch.zeros(len(rest), 0, dtype=torch.long, device=device)
        flight = _Rows(model, DynamicCache(), groups, empty, last, torch.zeros(0, dtype=model.dtype, device=device))
        flight.logits = flight.step(tokens, real, keep=1)[:, -1]
        return flight

    def _sample(
        self,
        requests: Sequence[Request],
        prompts: Sequence[list[int]],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> list[Completion]:
        rows = self._prefill(requests, prompts, model)
        longest = max(r.max_tokens for r in requests)
        # One number a row and step, drawn before anything runs: no batch-mate can change a row's luck.
        luck = torch.stack([torch.rand(longest, generator=torch.Generator().manual_seed(r.seed)) for r in requests])
        greedy = torch.tensor([r.greedy or self.temperature == 0 for r in requests])
        ends = end_tokens(tokenizer, model.config, model.generation_config)
        texts = [_Text(request, tokenizer, ends) for request in requests]
        alive = list(range(len(requests)))
        for step in range(longest):
            chosen = self._choose(rows.logits.float(), luck[alive, step], greedy[alive]).tolist()
            for i, token in zip(alive, chosen, strict=True):
                texts[i].add(token)
            keep = [at for at, i in enumerate(alive) if not texts[i].ended]
            if not keep:
                break
            if len(keep) < len(alive):
                rows.select(keep)
                alive = [alive[at] for at in keep]
            tokens = torch.tensor([[texts[i].tokens[-1]] for i in alive], device=rows.mask.device)
            rows.logits = rows.step(tokens, torch.ones_like(tokens))[:, -1]
        return [text.completion(len(ids)) for text, ids in zip(texts, prompts, strict=True)]

    def _choose(self, logits: Tensor, luck: Tensor, greedy: Tensor) -> Tensor:
        """The next token of each row: the likeliest, or by inverting its cumulative distribution at ``luck``.

        Args:
            logits: (rows, vocab) float32.
            luck: (rows,) in [0, 1).
            greedy: (rows,) bool.
        """
        likeliest = logits.argmax(-1)
        if bool(greedy.all()):
            return likeliest
        luck, greedy = luck.to(logits.device), greedy.to(logits.device)
        k = min(self.top_k, logits.shape[-1]) or logits.shape[-1]
        values, tokens = logits.topk(k)  # descending
        probs = torch.softmax(values / self.temperature, -1)
        cumulative = probs.cumsum(-1)
        # Tokens stay while the mass before them is below top_p; the first always does.
        probs = probs.masked_fill(cumulative - probs >= self.top_p, 0.0)
        cumulative = probs.cumsum(-1)
        at = torch.searchsorted(cumulative, (luck[:, None] * cumulative[:, -1:]), right=True)
        return torch.where(greedy, likeliest, tokens.gather(-1, at.clamp(max=k - 1)).squeeze(-1))

    def _score(
        self,
        requests: Sequence[Request],
        prompts: Sequence[list[int]],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> list[Completion]:
        """Log-likelihood of each choice, up to where it differs from all others.

        What follows there says nothing about which choice it is, and would make long names less likely.
        """
        trees = {r.choices: _tree(r.choices, tokenizer) for r in requests}
        apart: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
        for i, r in enumerate(requests):
            apart.setdefault((r.system, r.prefix, r.choices), []).append(i)
        scores: dict[int, tuple[float, ...]] = {}
        shares = _shares(model)
        for (*_, choices), rows in apart.items():
            if shares:
                # Where the texts begin, not where these texts part: the next ones have the same before them.
                other = encode(replace(requests[rows[0]], suffix="?"), tokenizer, self.form)
                size = _common([*(prompts[i] for i in rows), other], range(len(rows) + 1))
                head = self._scored_head(model, prompts[rows[0]][:size])
                found = score_tree(model, head, size, [prompts[i][size:] for i in rows], trees[choices])
            else:
                found = self._score_apart(
                    [requests[i] for i in rows], [prompts[i] for i in rows], model, trees[choices]
                )
            scores |= zip(rows, found, strict=True)
        return [Completion("", len(ids), choice_log_probs=scores[i]) for i, ids in enumerate(prompts)]

    def _scored_head(self, model: PreTrainedModel, tokens: list[int]) -> list[tuple[Tensor, Tensor]]:
        """The keys and values of the prompt that choices were scored after last, if it is this one."""
        if self._last_head is None or self._last_head[0] != tokens:
            self._last_head = None  # makes room
            made = _head(model, tokens)
            if sum(part.nbytes for layer in made for part in layer) > _KEPT_BYTES:
                return made
            self._last_head = tokens, made
        return self._last_head[1]

    def _score_apart(
        self, requests: Sequence[Request], prompts: Sequence[list[int]], model: PreTrainedModel, tree: ChoiceTree
    ) -> list[tuple[float, ...]]:
        """As :func:`score_tree`, for attention that takes no tree: each whole beginning is a row after its text."""
        found: list[tuple[float, ...]] = []
        # A row holds the keys and values of its whole prompt, and its logits are of the whole vocabulary.
        most = max(1, _MOST_TOKENS // max(map(len, prompts)))
        for at in range(0, len(requests), most):
            texts = self._prefill(requests[at : at + most], prompts[at : at + most], model)
            log_probs = [[0.0] * tree.edges for _ in range(len(texts.position))]
            pairs = [(row, branch) for row in range(len(log_probs)) for branch in tree.branches()]
            for start in range(0, len(pairs), most):
                chosen = pairs[start : start + most]
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
                for (row, branch), of_row in zip(chosen, logits, strict=True):
                    branch.read(of_row[None], [log_probs[row]])
            found += map(tree.totals, log_probs)
        return found


def _tree(choices: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> ChoiceTree:
    return ChoiceTree([tokenizer(c, add_special_tokens=False).input_ids for c in choices])


def _head(model: PreTrainedModel, tokens: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of a prompt that rows share, (kv_heads, tokens, head_dim) each, by layer; none of no tokens."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for at in range(0, len(tokens), _HEAD_TOKENS):
        end = min(at + _HEAD_TOKENS, len(tokens))
        hidden = torch.full((end - at, end), torch.finfo(model.dtype).min, dtype=model.dtype, device=model.device)
        model(
            input_ids=torch.tensor([tokens[at:end]], device=model.device),
            attention_mask=hidden.triu_(1 + at)[None, None],
            position_ids=torch.arange(at, end, device=model.device)[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return [(x.keys[0], x.values[0]) for x in cache.layers]  # type: ignore[union-attr, index]


def _limit(model: PreTrainedModel) -> int | None:
    """How many tokens the model takes; ``None`` where its config does not say."""
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    return limit


def _shares(model: PreTrainedModel) -> bool:
    """Whether this model's attention can take the shared prompt apart: full attention in each layer."""
    config = model.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    sliding = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    if set(kinds) != {"full_attention"} or (sliding and not hasattr(config, "layer_types")):
        return False
    if not getattr(model, "_supports_attention_backend", False):
        return False
    if model not in _TAKES_PREFIX:
        register()
        model.set_attn_implementation(NAME)
        witness = Witness()
        one = torch.ones(1, 1, dtype=torch.long, device=model.device)
        try:
            model(input_ids=one, use_cache=False, shared_prefix=witness)
        except TypeError:  # of an argument that it does not know
            _TAKES_PREFIX[model] = False
        else:
            # Some models say that they take any attention, and compute their own all the same.
            _TAKES_PREFIX[model] = len(witness.layers) == config.get_text_config().num_hidden_layers
    if _TAKES_PREFIX[model]:
        model.set_attn_implementation(NAME)
    return _TAKES_PREFIX[model]


def _attend_plainly(model: PreTrainedModel) -> None:
    try:
        model.set_attn_implementation("sdpa")
    except ValueError:  # attention of a form that torch has no kernel for
        model.set_attn_implementation("eager")


def _common(prompts: Sequence[list[int]], rows: Sequence[int]) -> int:
    """Length of the prompts' common start; at least one token of each row stays out of it."""
    first, last = min(prompts[i] for i in rows), max(prompts[i] for i in rows)
    limit = min(len(prompts[i]) for i in rows) - 1
    size = 0
    while size < limit and first[size] == last[size]:
        size += 1
    return size


def _check_device(device: str) -> None:
    key = "data.generator.init_args.device"
    try:
        kind = "cpu" if device == "auto" else torch.device(device).type
    except RuntimeError:
        raise ConfigError(key, device, "auto, cpu, cuda, or another name of a device of torch's") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(key, device, "a device of this machine, which has no GPU that torch can use", "take auto")


def _fast_dtype(device: str) -> torch.dtype:
    """bfloat16 on a GPU and on CPUs that compute in it; elsewhere it would be emulated."""
    if device.startswith("cuda"):
        return torch.bfloat16
    from torch.backends import mkldnn

    fast = mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
