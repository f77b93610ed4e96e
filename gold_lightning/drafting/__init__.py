"""Drafts a task file: a generator writes its parts, each part is checked, and what fails stays a marked blank."""

from gold_lightning.drafting.document import Draft, Part
from gold_lightning.drafting.drafter import Drafter, draft_task

__all__ = ["Draft", "Drafter", "Part", "draft_task"]
