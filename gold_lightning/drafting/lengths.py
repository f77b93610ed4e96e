"""Limits of a drafted task: of its texts in characters, and of samples and of the student's input in tokens."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from gold_lightning.drafting.real_texts import RealTexts
from gold_lightning.t5.weights import load_tokenizer

__all__ = ["lengths"]

_MOST = 512  # tokens of the student's input
_BROKEN_SHARE = 0.2  # of the texts, from which on line breaks belong to a field


def lengths(document: Mapping[str, Any], real: RealTexts | None, notes: MutableMapping[str, str]) -> dict[str, Any]:
    """Returns the parts of a task file with limits, and notes where they come from.

    Args:
        document: The draft so far. The limits of its fields are set in place.
        real: Real texts; without them the demos' lengths give the limits.
        notes: Comments by key, to which those of the limits are added.
    """
    longest = []
    for i, field in enumerate(document["fields"]):
        name = field["name"]
        written = [demo[name] for demo in document["demos"] if demo[name]]
        if real:
            field["min_chars"], field["max_chars"] = real.limits(name)
            sizes = [len(text) for text in written]
            field["min_chars"] = min([field["min_chars"], *sizes])
            field["max_chars"] = max([field["max_chars"], *sizes])
            notes[f"fields[{i}].min_chars"] = "from the lengths of your texts, in characters"
            broken = sum("\n" in row[name] for row in real.rows)
            if broken >= _BROKEN_SHARE * len(real.rows):
                field["multiline"] = True
                notes[f"fields[{i}].multiline"] = (
                    f"{broken:,} of your {len(real.rows):,} texts have line breaks; false if samples should be of one "
                    "line, and demos with line breaks if not"
                )
            longest.append(max((row[name] for row in real.rows), key=len)[: field["max_chars"]])
        elif written:
            sizes = sorted(map(len, written))
            field["min_chars"], field["max_chars"] = max(1, sizes[0] // 2), -(-sizes[-1] * 2 // 10) * 10
            notes[f"fields[{i}].min_chars"] = "half of the shortest demo and twice the longest, in characters"
            longest.append((max(written, key=len) + " ") * 2)
        else:
            longest.append("")
    tokenizer = load_tokenizer("embedded")
    target = document["target"]["name"]
    answers = [demo[target] or "" for demo in document["demos"]]
    inputs = " ".join(f"{field['name']}: {text}" for field, text in zip(document["fields"], longest, strict=True))
    of_input = len(tokenizer(inputs).input_ids)
    of_target = max((len(tokenizer(text).input_ids) for text in answers), default=8)
    notes["max_sample_tokens"] = "longer completions are rejected"
    template = " ".join(f"{field['name']}: {{{field['name']}}}" for field in document["fields"])
    form = {"input": template, "max_input_tokens": min(_MOST, max(64, _rounded(of_input * 1.1)))}
    form["max_target_tokens"] = max(16, _rounded(of_target * 1.5))
    return {"student": form, "max_sample_tokens": max(64, _rounded(of_input * 1.3 + of_target))}


def _rounded(tokens: float) -> int:
    return -(-int(tokens) // 16) * 16
