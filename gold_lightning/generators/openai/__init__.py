"""Servers with OpenAI's HTTP interface."""

from gold_lightning.generators.openai.generator import OpenAIGenerator

# The public path, which configs and run folders contain.
OpenAIGenerator.__module__ = __name__

__all__ = ["OpenAIGenerator"]
