"""Reading what a model wrote: pure functions from text to text, which know no task, no engine and no file."""

from gold_lightning.parsing.characters import clean_characters
from gold_lightning.parsing.declining import is_refusal
from gold_lightning.parsing.replies import Reply, read_reply

__all__ = ["Reply", "clean_characters", "is_refusal", "read_reply"]
