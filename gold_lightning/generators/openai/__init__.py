"""Servers that speak OpenAI's protocol."""

from gold_lightning.generators.openai.generator import OpenAIGenerator

# The public path: configs and run folders know the class by it.
OpenAIGenerator.__module__ = __name__

__all__ = ["OpenAIGenerator"]
