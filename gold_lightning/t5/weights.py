"""Loads a student's weights and tokenizer from the hub, from a folder, or from the package."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.paths import expand
from gold_lightning.t5.folder import check_config, check_folder, check_tokenizer_files, refusal

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["load_config", "load_model", "load_tokenizer", "student_folder", "target_text"]

_log = logging.getLogger(__name__)


def student_folder(name: str) -> str:
    """Resolves ``embedded``, the small pre-trained T5 in the package; returns any other name with ``~`` expanded.

    Raises:
        ConfigError: The name starts with ``~`` and there is no such home folder, or it is ``generator-embeddings``,
            a student of earlier versions.

    Example:
        >>> student_folder("google/flan-t5-small")
        'google/flan-t5-small'
    """
    if name == "embedded":
        return str(Path(__file__).parent.parent / "assets" / "student")
    if name == "generator-embeddings":
        allowed = "embedded, the folder of a T5 or its id on the hub"
        raise ConfigError("model.student", name, allowed, "this version builds no such student; embedded replaces it")
    return expand("model.student", name)


def load_tokenizer(name: str, key: str = "model.student") -> PreTrainedTokenizerBase:
    """Loads the student's tokenizer.

    Args:
        name: Hub id, folder, or ``embedded``.
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
        name: Hub id, folder, or ``embedded``.
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
        name: Hub id, folder, or ``embedded``.
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
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # its error names no weight
        )
        if missing := sorted(about["missing_keys"]):  # transformers would initialise them at random
            raise refuse("the weights of a whole T5", f"{_first_of(missing)} are missing", "save the model as a whole")
        expected, together = "a T5 whose weights are those of its config.json", "save model and config together"
        if shapes := sorted(about["mismatched_keys"]):
            (name_, stored, wanted), *_ = shapes
            of_config = f"{tuple(stored)}, and config.json asks for {tuple(wanted)}"
            raise refuse(expected, f"{name_} has the shape {of_config}", f"{together}: model.save_pretrained(FOLDER)")
        # transformers would leave them out: layers beyond those of the config, or an adapter that is not merged.
        if unused := sorted(n for n in about["unexpected_keys"] if n.startswith(("encoder.block", "decoder.block"))):
            hint = "merge the adapter first" if "lora" in unused[0].lower() else together
            raise refuse(expected, f"it has no place for {_first_of(unused)}", f"{hint}: model.save_pretrained(FOLDER)")
        if bad := [n for n, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]:
            raise refuse("weights that are finite", f"those of {bad[0]} are not", "take another copy")
        words: torch.Tensor = model.get_input_embeddings().weight.detach()  # type: ignore[operator]
        if bool((words == words[0, 0]).all()):
            problem = f"all values of its word embeddings are {float(words[0, 0]):g}"
            raise refuse("weights that differ", problem, "take another copy: this one holds no model")
        # Drop generation_config.json: a summariser's min_length or ban on repeats would change the labels it writes.
        ids = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
        model.generation_config = GenerationConfig(**{key: getattr(config, key) for key in ids})
        return model
    raise AssertionError  # pragma: no cover


def _first_of(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


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
