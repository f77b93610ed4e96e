"""Loads a student's weights and tokenizer from the hub, from a folder, or from the package."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gold_lightning.errors import GoldError
from gold_lightning.generators.embedded import embedded_folder
from gold_lightning.inputs.paths import expand
from gold_lightning.t5.folder import check_config, check_folder, check_tokenizer_files, refusal

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["load_config", "load_model", "load_tokenizer", "student_folder", "target_text"]

_log = logging.getLogger(__name__)
_LAYOUT = 3  # increase when the output of build_from_generator changes
_SENTINELS = 100


def student_folder(name: str) -> str:
    """Resolves ``embedded`` and ``generator-embeddings`` to folders; returns any other name with ``~`` expanded.

    ``embedded`` is the small pre-trained T5 in the package. ``generator-embeddings`` is built on first use: a T5 with
    the embedded generator's vocabulary and embeddings, and random weights otherwise.

    Raises:
        ConfigError: The name starts with ``~`` and there is no such home folder.

    Example:
        >>> student_folder("google/flan-t5-small")
        'google/flan-t5-small'
    """
    if name == "embedded":
        return str(Path(__file__).parent.parent / "assets" / "student")
    if name == "generator-embeddings":
        return str(_from_generator())
    return expand("model.student", name)


def load_tokenizer(name: str, key: str = "model.student") -> PreTrainedTokenizerBase:
    """Loads the student's tokenizer.

    Args:
        name: Hub id, folder, ``embedded`` or ``generator-embeddings``.
        key: The setting that names it, for messages.

    Raises:
        GoldError: The name is neither a folder nor on the hub, or its tokenizer cannot be read.
    """
    from transformers import AutoTokenizer

    with _StudentFiles(name, key) as folder:
        if Path(folder).exists():
            check_tokenizer_files(Path(folder), key, name)
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    raise AssertionError  # pragma: no cover


def load_config(name: str, key: str = "model.student") -> PretrainedConfig:
    """Loads the config of the student's T5 and checks its files, without loading weights.

    Args:
        name: Hub id, folder, ``embedded`` or ``generator-embeddings``.
        key: The setting that names it, for messages.

    Raises:
        GoldError: The name is neither a folder nor on the hub, or the model is not a complete T5.
    """
    from transformers import AutoConfig

    refuse = refusal(key, name)
    with _StudentFiles(name, key) as folder:
        if Path(folder).exists():
            check_folder(Path(folder), key, name)
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        check_config(config.to_dict(), key, name)
        for name_ in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
            id_ = getattr(config, name_, None)
            if not isinstance(id_, int) or isinstance(id_, bool) or not 0 <= id_ < config.vocab_size:
                hint = "T5 has pad_token_id 0, eos_token_id 1 and decoder_start_token_id 0"
                raise refuse(f"a T5 whose config.json has {name_}", f"it is {id_!r} there", hint)
        return config
    raise AssertionError  # pragma: no cover


def load_model(name: str, key: str = "model.student") -> PreTrainedModel:
    """Loads the student's T5 in float32, with default settings of decoding.

    Args:
        name: Hub id, folder, ``embedded`` or ``generator-embeddings``.
        key: The setting that names it, for messages.

    Raises:
        GoldError: The name is neither a folder nor on the hub (the message has two ways out), or the weights are
            incomplete or not those of a T5.
    """
    from transformers import AutoModelForSeq2SeqLM, GenerationConfig

    config, refuse = load_config(name, key), refusal(key, name)
    with _StudentFiles(name, key) as folder:
        model: PreTrainedModel
        model, about = AutoModelForSeq2SeqLM.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        if missing := sorted(about["missing_keys"]):  # transformers would initialise them at random
            many = f"{missing[0]} and {len(missing) - 1} more" if len(missing) > 1 else missing[0]
            raise refuse("the weights of a whole T5", f"{many} are missing", "save the model as a whole")
        if bad := [n for n, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]:
            raise refuse("weights that are finite", f"those of {bad[0]} are not", "take another copy")
        # Drop generation_config.json: a summariser's min_length or ban on repeats would change the labels it writes.
        ids = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
        model.generation_config = GenerationConfig(**{key: getattr(config, key) for key in ids})
        return model
    raise AssertionError  # pragma: no cover


def copies_of(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies weights to the CPU; names that share a tensor share the copy."""
    copies: dict[int, torch.Tensor] = {}
    for weight in weights.values():
        if weight.data_ptr() not in copies:
            copies[weight.data_ptr()] = weight.detach().to("cpu", copy=True)
    return {name: copies[weight.data_ptr()] for name, weight in weights.items()}


def empty_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Returns a model of the same shape whose weights take no memory.

    Args:
        model: The model; it may be sharded.
    """
    from transformers import AutoModelForSeq2SeqLM

    with torch.device("meta"):
        empty: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(model.config, dtype=torch.float32)
    empty.generation_config = model.generation_config
    return empty


def target_text(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Returns a target as the student should write it, with a leading space if the tokenizer distinguishes one.

    A byte-level BPE includes the space before a word in the word's token, and nearly all words of a text follow one.
    So " Sports" is one token known from pre-training, and "Sports" two pieces that rarely occur together.
    SentencePiece, T5's own tokenizer, adds a space to each text. Predictions are stripped in both cases.
    """
    return f" {text}" if _spaces_in_tokens(tokenizer) else text


@lru_cache(maxsize=8)
def _spaces_in_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    return "\u0120" in tokenizer.get_vocab()  # cached: get_vocab builds a new dictionary at each call


class _StudentFiles:
    """Gives the student's folder; turns errors of transformers, tokenizers and safetensors into one line."""

    def __init__(self, name: str, key: str) -> None:
        self.name, self.key = name, key

    def __enter__(self) -> str:
        folder = student_folder(self.name)
        if Path(folder).exists():
            return folder
        if folder.startswith(("/", ".")) or folder.count("/") > 1 or "\\" in folder:  # not an id of the hub
            expected = "the folder of a T5 or its id on the hub"
            raise refusal(self.key, self.name)(expected, "there is no such folder here", self._ways)
        return folder

    @property
    def _ways(self) -> str:
        option = f"--{self.key.removeprefix('--')}"
        return f"two ways out: {option} FOLDER, or {option} embedded"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # tokenizers raises bare Exceptions, and a damaged file can raise any other.
        if isinstance(error, GoldError) or not isinstance(error, Exception):
            return
        _log.debug("%s %s", self.key, self.name, exc_info=error)
        message = " ".join(str(error).split())[:160] or type(error).__name__
        if Path(student_folder(self.name)).exists():
            problem = f"its files cannot be read ({message})"
        else:
            problem = f"no such folder here, and the hub did not give it ({message})"
        raise GoldError(f"{self.key} {self.name!r}: {problem}; {self._ways}") from error


def _from_generator() -> Path:
    """Builds a small T5 with the embedded generator's pruned vocabulary and embeddings in the cache, once."""
    source = embedded_folder()
    folder = source.parent / f"student-{source.name.removeprefix('smollm2-')}-{_LAYOUT}"
    if not (folder / "config.json").exists():
        part = Path(tempfile.mkdtemp(dir=source.parent))
        build_from_generator(source, part)
        try:
            part.rename(folder)
        except OSError:
            shutil.rmtree(part)
    return folder


def build_from_generator(
    source: Path, out: Path, vocab_size: int = 12288, layers: tuple[int, int] = (2, 1), d_ff: int = 512
) -> None:
    """Builds a T5 whose vocabulary and embeddings come from a byte-level BPE language model.

    The embeddings are centred and scaled to unit variance, as T5 expects (a language model's are far smaller and share
    a large mean). All other weights are random.

    Args:
        source: Folder with ``tokenizer.json`` and ``model.safetensors``.
        out: Output folder of the model and its tokenizer.
        vocab_size: Number of tokens, special ones and sentinels included.
        layers: Number of encoder and decoder layers.
        d_ff: Width of the feed-forward layers.
    """
    from safetensors import safe_open
    from transformers import T5Config, T5ForConditionalGeneration

    tokens = build_tokenizer(source, out, vocab_size)
    old: dict[str, int] = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    with safe_open(source / "model.safetensors", "pt") as file:
        table = file.get_tensor("model.embed_tokens.weight").float()
    # Bytes that no UTF-8 text contains may be missing; they keep their random rows.
    known = [i for i, token in enumerate(tokens) if token in old]
    rows = table[[old[tokens[i]] for i in known]]
    rows = rows - rows.mean(0)
    rows = rows / rows.std()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=vocab_size,
            d_model=rows.shape[1],
            d_kv=64,
            num_heads=4,
            d_ff=d_ff,
            num_layers=layers[0],
            num_decoder_layers=layers[1],
            dropout_rate=0.0,  # the only trial that learnt more than label frequencies; other settings differed too
            pad_token_id=0,
            eos_token_id=1,
        )
        config.decoder_start_token_id = 0
        model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        model.shared.weight[[3 + i for i in known]] = rows
    model.save_pretrained(out)


def build_tokenizer(
    source: Path, out: Path, vocab_size: int, words: Sequence[str] = (), merges: int | None = None
) -> list[str]:
    """Writes a T5 tokenizer with the first merges of a byte-level BPE, and T5's special tokens and sentinels.

    The first merges of a BPE are a BPE: the tokenizer encodes every text, in more tokens, and decoding restores it
    exactly, even ``</s>`` and ``<extra_id_0>`` in it.

    Args:
        source: Folder with ``tokenizer.json``.
        out: Output folder.
        vocab_size: Number of tokens, special ones and sentinels included.
        words: Words of letters that become one token each after a space, regardless of the merges, as far as the
            vocabulary has room.
        merges: Maximum number of merges; ``None`` for all.

    Returns:
        The ordinary tokens in their new order; the first one has the id 3.
    """
    from transformers import PreTrainedTokenizerFast

    spec, tokens = _prune(
        json.loads((source / "tokenizer.json").read_text(encoding="utf-8")), vocab_size, words, merges
    )
    path = out / "tokenizer.json"
    path.write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        split_special_tokens=True,  # "</s>" in a user's text is text, not the end
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.save_pretrained(out)
    return tokens


def _prune(
    spec: dict[str, Any], vocab_size: int, words: Sequence[str], most: int | None
) -> tuple[dict[str, Any], list[str]]:
    """Returns a smaller tokenizer.json and its ordinary tokens in their new order, from id 3 on."""
    from tokenizers.pre_tokenizers import ByteLevel

    special = ["<pad>", "</s>", "<unk>"]
    sentinels = [f"<extra_id_{i}>" for i in range(_SENTINELS)]
    tokens = sorted(ByteLevel.alphabet())
    merges: list[list[str]] = []
    known = set(tokens)
    room = vocab_size - len(special) - len(sentinels)
    for merge in spec["model"]["merges"][:most]:
        if len(tokens) >= room:
            break
        left, right = merge if isinstance(merge, list) else merge.split(" ")
        if left in known and right in known:
            merges.append([left, right])
            if left + right not in known:
                known.add(left + right)
                tokens.append(left + right)
    after_space = (f"\u0120{word}" for word in dict.fromkeys(words))
    tokens += islice((token for token in after_space if token not in known), room - len(tokens))
    order = [*special, *tokens, *sentinels]
    spec["model"] |= {"vocab": {t: i for i, t in enumerate(order)}, "merges": merges, "unk_token": None}
    spec["model"]["ignore_merges"] = bool(words)  # words in the vocabulary are looked up, not merged
    spec["added_tokens"] = [
        {"id": order.index(t), "content": t, "single_word": False, "lstrip": False, "rstrip": False}
        # Sentinels are not special: they are recognised in texts, and decoding keeps them.
        | {"normalized": False, "special": t in special}
        for t in special + sentinels
    ]
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    }
    return spec, tokens
