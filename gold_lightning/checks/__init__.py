"""Checks completions: rules a task names, duplicates, overlap with test data and label agreement."""

from gold_lightning.checks import rules  # registers the built-in checks
from gold_lightning.checks.registry import check

__all__ = ["check", "rules"]
