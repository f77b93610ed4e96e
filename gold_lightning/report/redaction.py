"""What must not stand in a report, should it ever get into a config."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["hidden"]

_SECRET = re.compile(
    r"(?:^|[_\-.])(?:api[_-]?keys?|keys?|tokens?|secrets?|passwords?|passwd|credentials?|authorization|auth|cookies?)$",
    re.I,
)
_IN_TEXT = (
    (re.compile(r"(://)[^/@\s]+@"), r"\1(hidden)@"),
    (re.compile(r"([?&](?:api[_-]?key|key|token|secret|password|sig|signature)=)[^&\s]+", re.I), r"\1(hidden)"),
    (re.compile(r"\b(Bearer|Basic)\s+\S+", re.I), r"\1 (hidden)"),
    (re.compile(r"\b(?:sk|pk|hf|gsk|ghp|gho|xox[abp])[-_][A-Za-z0-9_\-]{12,}"), "(hidden)"),
)


def hidden(config: Any, secrets: Iterable[str] | None = None) -> Any:
    """A config with everything hidden that may be a secret.

    No setting of ours takes a key, so this is a second line: a value under a name like ``token``, what stands in
    a URL before the host, what looks like a key, and the values of the variables that ``api_key_env`` names.

    Args:
        config: Plain values, nested.
        secrets: Texts to hide wherever they stand; by default, the values of the variables that are named.

    Returns:
        A copy.
    """
    if secrets is None:
        secrets = [value for name in _variables(config) if len(value := os.environ.get(name, "").strip()) > 3]
    if isinstance(config, Mapping):
        return {
            k: "(hidden)"
            if isinstance(v, str) and v and isinstance(k, str) and _SECRET.search(k)
            else hidden(v, secrets)
            for k, v in config.items()
        }
    if isinstance(config, list | tuple):
        return [hidden(v, secrets) for v in config]
    if not isinstance(config, str):
        return config
    for secret in secrets:
        config = config.replace(secret, "(hidden)")
    for pattern, by in _IN_TEXT:
        config = pattern.sub(by, config)
    return config


def _variables(config: Any) -> list[str]:
    """Names of environment variables in a config: the values of settings that end with ``_env``."""
    if isinstance(config, Mapping):
        own = [v for k, v in config.items() if isinstance(k, str) and k.endswith("_env") and isinstance(v, str)]
        return own + [name for v in config.values() for name in _variables(v)]
    return [name for v in config for name in _variables(v)] if isinstance(config, list | tuple) else []
