"""Makes the student's tokenizer of the embedded generator's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

_SENTINELS = 100


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
