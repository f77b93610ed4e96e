"""Where a student's weights and tokenizer come from: the hub, a folder, or what the package brings itself."""

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
_LAYOUT = 3  # raised when what build_from_generator writes changes
_SENTINELS = 100


def student_folder(name: str) -> str:
    """Turns ``embedded`` and ``generator-embeddings`` into folders; any other name stays as it is.

    ``embedded`` is the small pre-trained T5 in the package. ``generator-embeddings`` is built on first use: one
    whose vocabulary and embeddings come from the embedded generator, all else random.

    Raises:
        ConfigError: It begins with ``~``, and there is no such home folder.
    """
    if name == "embedded":
        return str(Path(__file__).parent.parent / "assets" / "student")
    if name == "generator-embeddings":
        return str(_from_generator())
    return expand("model.student", name)


def load_tokenizer(name: str, key: str = "model.student") -> PreTrainedTokenizerBase:
    """The student's tokenizer.

    Args:
        name: Hub id, folder, ``embedded`` or ``generator-embeddings``.
        key: The setting that names it, for messages.

    Raises:
        GoldError: Neither a folder nor on the hub, or without a tokenizer that can be read.
    """
    from transformers import AutoTokenizer

    with _Found(name, key) as folder:
        if Path(folder).exists():
            check_tokenizer_files(Path(folder), key, name)
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    raise AssertionError  # pragma: no cover


def load_config(name: str, key: str = "model.student") -> PretrainedConfig:
    """The config of the student's T5. Its files are looked at, and no weights are loaded.

    Args:
        name: Hub id, folder, ``embedded`` or ``generator-embeddings``.
        key: The setting that names it, for messages.

    Raises:
        GoldError: Neither a folder nor on the hub, no T5, or not whole.
    """
    from transformers import AutoConfig

    refuse = refusal(key, name)
    with _Found(name, key) as folder:
        if Path(folder).exists():
            check_folder(Path(folder), key, name)
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        check_config(config.to_dict(), key, name)
        for wanted in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
            found = getattr(config, wanted, None)
            if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < config.vocab_size:
                hint = "T5 has pad_token_id 0, eos_token_id 1 and decoder_start_token_id 0"
                raise refuse(f"a T5 whose config.json has {wanted}", f"it is {found!r} there", hint)
        return config
    raise AssertionError  # pragma: no cover


def load_model(name: str, key: str = "model.student") -> PreTrainedModel:
    """The student's T5, in float32, ready to train. It writes by its own settings of decoding no more.

    Args:
        name: Hub id, folder, ``embedded`` or ``generator-embeddings``.
        key: The setting that names it, for messages.

    Raises:
        GoldError: Neither a folder nor on the hub; says what was looked for, where, and two ways out. Or its weights
            are not whole, or not those of a T5.
    """
    from transformers import AutoModelForSeq2SeqLM, GenerationConfig

    config, refuse = load_config(name, key), refusal(key, name)
    with _Found(name, key) as folder:
        model: PreTrainedModel
        model, about = AutoModelForSeq2SeqLM.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        if missing := sorted(about["missing_keys"]):  # transformers draws these at random
            many = f"{missing[0]} and {len(missing) - 1} more" if len(missing) > 1 else missing[0]
            raise refuse("the weights of a whole T5", f"{many} are missing", "save the model as a whole")
        if bad := [n for n, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]:
            raise refuse("weights that are finite", f"those of {bad[0]} are not", "take another copy")
        # A summariser's min_length or ban on repeats in its generation_config.json would decide what labels it writes.
        ids = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
        model.generation_config = GenerationConfig(**{key: getattr(config, key) for key in ids})
        return model
    raise AssertionError  # pragma: no cover


def copies_of(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of weights on the CPU; names that share a tensor share the copy."""
    copies: dict[int, torch.Tensor] = {}
    for weight in weights.values():
        if weight.data_ptr() not in copies:
            copies[weight.data_ptr()] = weight.detach().to("cpu", copy=True)
    return {name: copies[weight.data_ptr()] for name, weight in weights.items()}


def empty_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same shape whose weights take no memory yet.

    Args:
        model: The one to be like; its weights may be cut up among processes.
    """
    from transformers import AutoModelForSeq2SeqLM

    with torch.device("meta"):
        made: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(model.config, dtype=torch.float32)
    made.generation_config = model.generation_config
    return made


def target_text(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A target as the student is to write it: after a space, where the tokenizer tells a word after one from another.

    A byte-level BPE has the space before a word in the word's token, and nearly all words of its texts stand after one.
    So " Sports" is the token that pre-training knows, "Sports" two scraps that it never saw together. SentencePiece, as
    T5 has it, begins every text as if after a space. What the student writes is stripped either way.
    """
    return f" {text}" if _spaces_in_tokens(tokenizer) else text


@lru_cache(maxsize=8)
def _spaces_in_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    return "\u0120" in tokenizer.get_vocab()  # which is made anew at each call


class _Found:
    """Turns what transformers, tokenizers and safetensors raise, often over many lines, into one line."""

    def __init__(self, name: str, key: str) -> None:
        self.name, self.key = name, key

    def __enter__(self) -> str:
        folder = student_folder(self.name)
        if Path(folder).exists():
            return folder
        if folder.startswith(("/", ".")) or folder.count("/") > 1 or "\\" in folder:  # no id of the hub
            expected = "the folder of a T5 or its id on the hub"
            raise refusal(self.key, self.name)(expected, "there is no such folder here", self._ways)
        return folder

    @property
    def _ways(self) -> str:
        option = f"--{self.key.removeprefix('--')}"
        return f"two ways out: {option} FOLDER, or {option} embedded"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # tokenizers raises bare Exceptions; a damaged file may end in any other, too.
        if isinstance(error, GoldError) or not isinstance(error, Exception):
            return
        _log.debug("%s %s", self.key, self.name, exc_info=error)
        said = " ".join(str(error).split())[:160] or type(error).__name__
        if Path(student_folder(self.name)).exists():
            problem = f"its files cannot be read ({said})"
        else:
            problem = f"no such folder here, and the hub did not give it ({said})"
        raise GoldError(f"{self.key} {self.name!r}: {problem}; {self._ways}") from error


def _from_generator() -> Path:
    """A small T5 with the embedded generator's pruned vocabulary and embeddings, unpacked into the cache."""
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

    The embeddings of the kept tokens are centred and scaled to unit variance, as T5 expects its own to be
    (a language model's are far smaller, and share a large mean); the other weights are random.

    Args:
        source: Folder with ``tokenizer.json`` and ``model.safetensors``.
        out: Where the model and its tokenizer are written.
        vocab_size: Tokens to keep, special ones and sentinels included.
        layers: Encoder and decoder layers.
        d_ff: Width of the feed-forward layers.
    """
    from safetensors import safe_open
    from transformers import T5Config, T5ForConditionalGeneration

    kept = build_tokenizer(source, out, vocab_size)
    old: dict[str, int] = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    with safe_open(source / "model.safetensors", "pt") as file:
        table = file.get_tensor("model.embed_tokens.weight").float()
    # Bytes that no UTF-8 text contains may be missing there; they keep their random row.
    found = [i for i, token in enumerate(kept) if token in old]
    rows = table[[old[kept[i]] for i in found]]
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
            dropout_rate=0.0,  # the one trial that left the label marginal had none; which change did it is open
            pad_token_id=0,
            eos_token_id=1,
        )
        config.decoder_start_token_id = 0
        model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        model.shared.weight[[3 + i for i in found]] = rows
    model.save_pretrained(out)


def build_tokenizer(
    source: Path, out: Path, vocab_size: int, words: Sequence[str] = (), merges: int | None = None
) -> list[str]:
    """Writes a T5 tokenizer with the first merges of a byte-level BPE, and T5's special tokens and sentinels.

    Keeping the first merges of a BPE keeps a BPE: every text can still be written, in more tokens, and
    decoding gives it back as it was, ``</s>`` and ``<extra_id_0>`` in it included.

    Args:
        source: Folder with ``tokenizer.json``.
        out: Where the new tokenizer is written.
        vocab_size: Tokens to keep, special ones and sentinels included.
        words: Words of letters that are to be one token each after a space, whatever the merges; the first ones
            that there is room for.
        merges: How many merges are kept at most.

    Returns:
        The kept tokens in their new order; the first of them has the id 3.
    """
    from transformers import PreTrainedTokenizerFast

    spec, kept = _prune(json.loads((source / "tokenizer.json").read_text(encoding="utf-8")), vocab_size, words, merges)
    path = out / "tokenizer.json"
    path.write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        split_special_tokens=True,  # "</s>" in a user's text is text, not an end
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.save_pretrained(out)
    return kept


def _prune(
    spec: dict[str, Any], vocab_size: int, words: Sequence[str], most: int | None
) -> tuple[dict[str, Any], list[str]]:
    """A smaller tokenizer.json, and the kept tokens in their new order, which begins at id 3."""
    from tokenizers.pre_tokenizers import ByteLevel

    special = ["<pad>", "</s>", "<unk>"]
    sentinels = [f"<extra_id_{i}>" for i in range(_SENTINELS)]
    kept = sorted(ByteLevel.alphabet())
    merges: list[list[str]] = []
    have = set(kept)
    room = vocab_size - len(special) - len(sentinels)
    for merge in spec["model"]["merges"][:most]:
        if len(kept) >= room:
            break
        left, right = merge if isinstance(merge, list) else merge.split(" ")
        if left in have and right in have:
            merges.append([left, right])
            if left + right not in have:
                have.add(left + right)
                kept.append(left + right)
    after_space = (f"\u0120{word}" for word in dict.fromkeys(words))
    kept += islice((token for token in after_space if token not in have), room - len(kept))
    order = [*special, *kept, *sentinels]
    spec["model"] |= {"vocab": {t: i for i, t in enumerate(order)}, "merges": merges, "unk_token": None}
    spec["model"]["ignore_merges"] = bool(words)  # a word that is in the vocabulary is looked up, not merged
    spec["added_tokens"] = [
        {"id": order.index(t), "content": t, "single_word": False, "lstrip": False, "rstrip": False}
        # A sentinel is no special token: it is found in a text, and decoding keeps it.
        | {"normalized": False, "special": t in special}
        for t in special + sentinels
    ]
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    }
    return spec, kept
