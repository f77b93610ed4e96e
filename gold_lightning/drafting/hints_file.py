"""Writes hints into a task file without touching any other character of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from gold_lightning.errors import GoldError
from gold_lightning.inputs.yaml_files import StrictLoader

__all__ = ["fill_hints"]

Edit = tuple[int, int, str]
"""Begin and end of a replaced stretch of the file, and its new text."""


def fill_hints(text: str, hints: Mapping[str, Sequence[str]], name: str = "the task file") -> str:
    r"""Returns the text of a task file with hints of labels, or topics of the task.

    Args:
        text: The file's text.
        hints: Subjects by label; "" for the topics of a task without labels.
        name: Name of the file, for messages.

    Raises:
        GoldError: The file is written in a way in which hints cannot be added; the message holds them.

    Example:
        >>> print(fill_hints("labels:\n- {name: spam, meaning: junk} # ours\n", {"spam": ["a prize", "a bill"]}))
        labels:
        - {name: spam, meaning: junk, hints: [a prize, a bill]} # ours
        <BLANKLINE>
    """
    root = yaml.compose(text, StrictLoader)
    assert isinstance(root, yaml.MappingNode)
    expected = copy.deepcopy(yaml.load(text, StrictLoader))
    edits: list[Edit] = []
    for label, subjects in hints.items():
        if label:
            at = next(i for i, x in enumerate(expected["labels"]) if x["name"] == label)
            node = _value(root, "labels").value[at]
            expected["labels"][at] = {**expected["labels"][at], "hints": list(subjects)}
            edits.append(_edit(text, node, "hints", subjects))
        elif (node := _value(root, "hints")) is not None and isinstance(node, yaml.MappingNode):
            expected["hints"] = {**(expected["hints"] or {}), "topics": list(subjects)}
            edits.append(_edit(text, node, "topics", subjects))
        else:
            expected["hints"] = {"topics": list(subjects)}
            edits.append(_edit(text, root, "hints", subjects, inside="topics"))
    changed = text
    for start, end, new in sorted(edits, reverse=True):
        changed = changed[:start] + new + changed[end:]
    try:
        right = yaml.load(changed, StrictLoader) == expected
    except yaml.YAMLError:
        right = False
    if not right:  # anchors, aliases, and whatever else nobody thought of
        lines = "; ".join(f"{label or 'topics'}: {_flow(subjects)}" for label, subjects in hints.items())
        raise GoldError(
            f"{name}: its YAML is written in a way that hints cannot be added to; add them yourself: {lines}"
        )
    return changed


def _value(node: yaml.MappingNode, key: str) -> Any:
    return next((value for name, value in node.value if name.value == key), None)


def _edit(text: str, node: yaml.MappingNode, key: str, subjects: Sequence[str], inside: str = "") -> Edit:
    """The stretch that gives a mapping the key: in place of an empty value, or behind its last key."""
    flow = f"{{{inside}: {_flow(subjects)}}}" if inside else _flow(subjects)
    if (value := _value(node, key)) is not None:
        start, end = value.start_mark.index, value.end_mark.index
        space = "" if start and text[start - 1].isspace() else " "
        return start, max(start, end), space + flow if start == end else flow
    if node.flow_style:
        end = node.end_mark.index - 1
        inner = text[node.start_mark.index + 1 : end].rstrip()
        at = node.start_mark.index + 1 + len(inner)
        comma = "" if not inner or inner.endswith(",") else ","
        return at, at, f"{comma} {key}: {flow}" if inner else f"{key}: {flow}"
    # A new line behind the line on which the last value ends.
    last = node.value[-1][1]
    indent = " " * node.value[0][0].start_mark.column
    newline = "\r\n" if "\r\n" in text else "\n"
    end = _last_index(last)
    line_end = text.find("\n", end)
    if line_end < 0:
        return len(text), len(text), f"{newline}{indent}{key}: {flow}{newline}"
    return line_end + 1, line_end + 1, f"{indent}{key}: {flow}{newline}"


def _last_index(node: yaml.Node) -> int:
    """Index of a node's last character; the end mark of a block is that of the next token."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_index(last[1] if isinstance(last, tuple) else last)
    return max(node.start_mark.index, node.end_mark.index - 1)


def _flow(subjects: Sequence[str]) -> str:
    return str(yaml.safe_dump(list(subjects), default_flow_style=True, allow_unicode=True, width=10**9)).strip()
