"""Accepts the earlier names of settings in configs, run folders and command lines."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["RENAMED", "rename_argument", "rename_settings"]

RENAMED = {
    "data.plan.depart_from": "data.plan.probe_contrast_samples",
    "data.plan.least_requests": "data.plan.min_requests_per_batch",
}
"""Earlier name of a setting to its current one, in the same section."""

_log = logging.getLogger("gold_lightning")


def rename_argument(argument: str) -> str:
    """Returns an argument with the current name of its setting; a warning names both."""
    flag, equals, value = argument.partition("=")
    key = flag.removeprefix("--")
    if flag == key or key not in RENAMED:
        return argument
    _warn(key)
    return f"--{RENAMED[key]}{equals}{value}"


def rename_settings(config: dict[Any, Any]) -> bool:
    """Renames settings in the values of a config, in place; a warning names both.

    Args:
        config: The values.

    Returns:
        Whether the config had an earlier name.
    """
    renamed = False
    for key, new_key in RENAMED.items():
        *sections, name = key.split(".")
        section: Any = config
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or name not in section:
            continue
        _warn(key)
        new_name = new_key.rsplit(".", 1)[1]
        values = {new_name if k == name else k: v for k, v in section.items()}
        section.clear()
        section.update(values)
        renamed = True
    return renamed


def _warn(key: str) -> None:
    _log.warning("%s is called %s now; the earlier name still works", key, RENAMED[key])
