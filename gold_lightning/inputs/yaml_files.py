"""Reads YAML strictly: a repeated key, or a key with an invisible space, is an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from gold_lightning.errors import GoldError

__all__ = ["StrictLoader", "load_yaml", "parse_own_yaml"]


def parse_own_yaml(text: str) -> Any:
    """Parses YAML that this program wrote: by libyaml, ten times as fast as :func:`load_yaml`, without its messages.

    Args:
        text: The YAML.

    Raises:
        yaml.YAMLError: It is not YAML.
    """
    return yaml.load(text, yaml.CSafeLoader) if yaml.__with_libyaml__ else yaml.safe_load(text)


def load_yaml(path: Path, name: str = "") -> Any:
    """Reads a YAML file.

    Args:
        path: The file.
        name: Its name in messages; ``path`` by default.

    Raises:
        GoldError: The file cannot be read, is not UTF-8 or not YAML, or a mapping has a key twice.
    """
    name = name or str(path)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), StrictLoader)
    except OSError as e:
        raise GoldError(f"{name}: {e.strerror or e}") from None
    except UnicodeDecodeError as e:
        raise GoldError(f"{name}: not valid YAML: byte {e.start} is not UTF-8 ({e.reason}); save it as UTF-8") from None
    except RecursionError:
        raise GoldError(f"{name}: not valid YAML: nested too deeply to be read") from None
    except (yaml.YAMLError, ValueError) as e:  # ValueError: a date that does not exist
        message = " ".join(str(e).split()).replace('in "<unicode string>", ', "in ")
        raise GoldError(f"{name}: not valid YAML: {message}") from None


_INVISIBLE = "\u00a0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d"
_INVISIBLE += "\u200e\u200f\u202f\u205f\u2060\u3000\ufeff"
_SURROGATE = re.compile("[\ud800-\udfff]")


class StrictLoader(yaml.SafeLoader):
    """A safe loader that rejects repeated keys, whereas PyYAML silently uses the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            # Keys are compared after parsing: 1 and 0x1 are the same. A merge key (<<) cannot be constructed.
            name = key.value if key.tag.endswith(":merge") else self.construct_object(key)
            line = key.start_mark.line + 1
            if key.style is None and key.value != key.value.strip(_INVISIBLE):
                hint = f"write {key.value.strip(_INVISIBLE)}"
                raise yaml.YAMLError(f"line {line}: the key {key.value!a} has an invisible space; {hint}")
            if first := lines.get(name):
                raise yaml.YAMLError(f"line {line}: the key {key.value!r} is in line {first} already; keep one")
            lines[name] = line
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if not isinstance(value, str) or not _SURROGATE.search(value):
            return value
        # JSON writes a character beyond 16 bits as two escapes, which PyYAML does not join.
        joined = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if _SURROGATE.search(joined):
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: half a surrogate pair, which is not text; write the whole character")
        return joined
